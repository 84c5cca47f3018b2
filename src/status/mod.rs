//! What the admin address answers: health, metrics, what the daemon tells about itself, and the few things it does on demand.

pub mod reload;
pub mod replay;
pub mod view;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::live::Live;
use reload::Reloaded;
use view::View;

/// The daemon, as the admin address knows it.
#[async_trait]
pub trait Admin: Send + Sync + 'static {
    /// OpenMetrics text of now.
    fn metrics(&self) -> String;

    /// What is not as it should be, one sentence each; empty: healthy.
    fn ills(&self) -> Vec<String>;

    /// All that a person sees.
    fn view(&self) -> View;

    /// What is seen of a running pipeline.
    fn live(&self, pipeline: &str) -> Option<Live>;

    /// Looks at the files now and takes what has changed; answers when that is done. Cancelled, it is done all the same.
    async fn reload(&self) -> Reloaded;
}

type House = State<Arc<dyn Admin>>;

/// The routes: `/healthz` answers 200 `ok`, or 503 with the reasons; `/metrics` OpenMetrics text; `/api/status` a
/// [`View`]; `POST /api/reload` a [`Reloaded`], 200 or 422.
pub fn routes(admin: Arc<dyn Admin>) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/api/reload", post(reload))
        .with_state(admin)
}

async fn health(State(admin): House) -> (StatusCode, String) {
    match admin.ills() {
        ills if ills.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        ills => (StatusCode::SERVICE_UNAVAILABLE, ills.join("\n") + "\n"),
    }
}

async fn metrics(State(admin): House) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], admin.metrics()).into_response()
}

async fn status(State(admin): House) -> Response {
    json(StatusCode::OK, &admin.view())
}

async fn reload(State(admin): House) -> Response {
    let reloaded = admin.reload().await;
    let code = if reloaded.is_good() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    json(code, &reloaded)
}

fn json(code: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (code, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
