//! What the admin address answers: health, metrics, what the daemon tells about itself, and the few things it does on demand.

pub mod guard;
mod page;
pub mod reload;
pub mod replay;
mod server;
pub mod tap;
pub mod view;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use url::form_urlencoded;

use crate::live::Live;
use guard::Sight;
use reload::Reloaded;
use replay::{Ask, Hearing};
pub use server::serve;
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

    /// Begins a replay; whoever stops hearing ends it, and the next one goes on.
    fn replay(&self, ask: Ask) -> Hearing;

    /// Bytes that were read since the start, and bytes that are known to be there, where all sources are files that have an
    /// end.
    fn read_of(&self) -> Option<(u64, u64)> {
        None
    }
}

type House = State<Arc<dyn Admin>>;

/// The routes: `/` the page; `/healthz` answers 200 `ok`, or 503 with the reasons; `/metrics` OpenMetrics text; `/api/status` a
/// [`View`], with `?only=NAME` (once or more, may be empty) thinned for all others; `POST /api/reload` a [`Reloaded`], 200 or 422,
/// or at once 202 with `?wait=false`; `/api/tap` records on their way. Served by [`serve`], which asks [`guard`] first.
pub fn routes(admin: Arc<dyn Admin>) -> Router {
    page::routes()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/api/reload", post(reload))
        .route("/api/replay", post(replay::replay))
        .route("/api/tap", get(tap::tap))
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

async fn status(State(admin): House, RawQuery(query): RawQuery, sight: Option<Extension<Sight>>) -> Response {
    let mut view = admin.view();
    let query = query.unwrap_or_default();
    let only: HashSet<_> =
        form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "only").map(|(_, name)| name).collect();
    if !only.is_empty() {
        view.thin(|name| only.contains(name));
    }
    if sight.is_none_or(|Extension(sight)| sight != Sight::All) {
        view.withhold();
    }
    json(StatusCode::OK, &view)
}

async fn reload(State(admin): House, RawQuery(query): RawQuery) -> Response {
    if query.as_deref() == Some("wait=false") {
        tokio::spawn(async move { admin.reload().await });
        return StatusCode::ACCEPTED.into_response();
    }
    let reloaded = admin.reload().await;
    let code = if reloaded.is_good() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    json(code, &reloaded)
}

fn json(code: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "no-store"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (code, headers, body).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
