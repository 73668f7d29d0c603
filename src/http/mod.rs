//! HTTP: whether the server lives, whether it can work, and what it has counted.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::call::Drain;
use crate::metrics::Metrics;
use crate::table::Catalog;

/// The media type of the Prometheus text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the routes answer from.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// The datasets.
    pub datasets: Arc<Catalog>,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether calls are taken.
    pub drain: Drain,
}

/// The routes.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
}

/// Ready means: calls are taken and the version store answers.
async fn ready(State(state): State<HttpState>) -> impl IntoResponse {
    if state.drain.has_started() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
    }
    match state.datasets.versions().ping().await {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the version store is away\n")
        }
    }
}

async fn metrics(State(state): State<HttpState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], state.metrics.render())
}
