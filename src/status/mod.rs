//! What the admin address answers: health and metrics. The page comes with a later version.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// What the admin address knows.
#[derive(Clone)]
pub struct Status {
    /// OpenMetrics text of now.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Why the daemon is not healthy, if it is not.
    pub unhealthy: Arc<dyn Fn() -> Option<String> + Send + Sync>,
}

/// The routes: `/healthz` answers 200 `ok`, or 503 with the reason; `/metrics` answers OpenMetrics text.
pub fn routes(status: Status) -> Router {
    let health = {
        let status = status.clone();
        move || async move {
            match (status.unhealthy)() {
                None => (StatusCode::OK, "ok\n".to_owned()),
                Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
            }
        }
    };
    let metrics = move || async move {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, content_type)], (status.metrics)()).into_response()
    };
    Router::new().route("/healthz", get(health)).route("/metrics", get(metrics))
}
