//! HTTP: the REST API, health and metrics.
//!
//! A call does what the Flight call of the same purpose does, by the same layers below, for the same principal.
//!
//! | file | what is there |
//! |---|---|
//! | `frames` | `GET` and `DELETE /dataframes/{name}` |
//! | `listing` | `GET /dataframes` |
//! | `upload` | `POST /dataframes/upload` |
//! | `body` | bodies of requests, with limits |
//! | `envelope` | the body of an upload, taken apart as it arrives |
//! | `inference`, `seen` | the schema of records |
//! | `records`, `times` | records as Arrow batches |
//! | `sql` | `POST /sql` |
//! | `answer` | rows as the body of an answer |
//! | `parameters` | names and options in a URL |
//! | `identify` | who calls |
//! | `status` | our errors as HTTP answers; the only such place |
//! | `cors` | pages of other origins |
//! | `health` | `/healthz`, `/readyz`, `/metrics` |
//! | `openapi.json` | what `/openapi.json` says |

mod answer;
mod body;
mod cors;
mod envelope;
mod frames;
mod health;
mod identify;
mod inference;
mod listing;
mod parameters;
mod records;
mod seen;
mod sql;
mod status;
mod times;
mod upload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tracing::Instrument;

pub use self::identify::Peer;
use self::identify::{Sender, identify};
use self::status::Failure;
use crate::audit::AuditLog;
use crate::auth::{Authenticator, Standing};
use crate::call::{Call, Drain};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::query::Engine;
use crate::table::{Catalog, SplitSettings};

/// The document that describes the API.
const OPENAPI: &str = include_str!("openapi.json");

/// What the routes answer from.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// The datasets.
    pub datasets: Arc<Catalog>,
    /// What runs reads and statements.
    pub engine: Arc<Engine>,
    /// What knows who calls.
    pub authenticator: Authenticator,
    /// How uploads are cut.
    pub split: SplitSettings,
    /// What a request may take.
    pub limits: HttpLimits,
    /// Where is written who did what.
    pub audit: AuditLog,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether calls are taken.
    pub drain: Drain,
}

/// What one request may take.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Time to receive its body, and again to send its answer.
    pub time: Duration,
    /// Where the body of an upload waits until it is whole.
    pub spill_folder: PathBuf,
}

impl HttpState {
    /// Begins a call.
    async fn begin(&self, name: &'static str, sender: &Sender) -> Result<(Call, Standing), Failure> {
        let call = Call::begin(&self.drain, &self.metrics, &self.audit, name)?;
        match identify(sender, &self.authenticator, call.trail()).instrument(call.span().clone()).await {
            Ok(identity) => Ok((call, Standing::new(&self.authenticator, identity))),
            Err(error) => {
                call.finish(Err(&error));
                Err(error.into())
            }
        }
    }
}

/// Runs a call whose answer is made at once.
async fn answered<T>(call: Call, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let outcome = work.instrument(call.span().clone()).await;
    call.finish(outcome.as_ref().map(drop).map_err(Failure::error));
    outcome
}

/// The routes.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/dataframes", get(listing::list))
        // A dataset may have this name too.
        .route("/dataframes/upload", post(upload::upload).get(frames::get).delete(frames::delete))
        .route("/dataframes/{*name}", get(frames::get).delete(frames::delete))
        .route("/sql", post(sql::run))
        .route("/openapi.json", get(openapi))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(async |uri: Uri| Failure::no_such_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method| Failure::method_not_allowed(method.as_str()))
        .layer(axum::middleware::from_fn(cors::open))
        .with_state(state)
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

/// What is told when work on a thread of its own panics.
fn broke_off(error: tokio::task::JoinError) -> Error {
    Error::internal("work on rows broke off").because(error)
}
