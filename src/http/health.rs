//! Whether the server lives, whether it can work, and what it has counted.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::HttpState;

/// The media type of the Prometheus text format.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Lives.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Ready means: calls are taken and the version store answers.
pub(super) async fn ready(State(state): State<HttpState>) -> impl IntoResponse {
    if state.drain.has_started() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
    }
    match state.datasets.versions().ping().await {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(error) => {
            tracing::warn!(error = %error.in_full(), "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, "the version store is away\n")
        }
    }
}

/// What was counted.
pub(super) async fn metrics(State(state): State<HttpState>) -> impl IntoResponse {
    let usage = state.engine.usage();
    state.metrics.query_memory.set(i64::try_from(usage.memory_bytes).unwrap_or(i64::MAX));
    state.metrics.spilled.set(i64::try_from(usage.spilled_bytes).unwrap_or(i64::MAX));
    ([(header::CONTENT_TYPE, METRICS_TYPE)], state.metrics.render())
}
