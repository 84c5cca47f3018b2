//! What the admin address answers: health and metrics. The page comes with a later version.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::budget::Budget;
use crate::metrics::Metrics;

/// What the admin address knows.
#[derive(Clone)]
pub struct Status {
    pub metrics: Metrics,
    pub budget: Budget,
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
        status.metrics.set_memory(status.budget.passing_bytes(), status.budget.held_bytes());
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, content_type)], status.metrics.render()).into_response()
    };
    Router::new().route("/healthz", get(health)).route("/metrics", get(metrics))
}
