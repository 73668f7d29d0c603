//! The life of one call: its id, its log line, its latency, and whether the server still takes calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Span, info, info_span, warn};

use crate::audit::{AuditLog, Trail};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::metrics::{CallTimer, Metrics};

/// Knows the running calls, and refuses new ones once the server is told to stop.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    draining: Arc<AtomicBool>,
    calls: TaskTracker,
}

impl Drain {
    /// From now on new calls are refused.
    pub fn start(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.calls.close();
    }

    /// Whether new calls are refused.
    pub fn has_started(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Waits until the running calls have ended, after [`Drain::start`].
    pub async fn finished(&self) {
        self.calls.wait().await;
    }
}

/// One running call. Whatever carries its work holds it; when that is dropped without an outcome, the caller went away.
#[derive(Debug)]
pub struct Call {
    timer: Option<CallTimer>,
    span: Span,
    audit: AuditLog,
    trail: Trail,
    _running: TaskTrackerToken,
}

impl Call {
    /// Begins a call.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the server is stopping.
    pub fn begin(drain: &Drain, metrics: &Metrics, audit: &AuditLog, name: &'static str) -> Result<Self> {
        let running = drain.calls.token();
        if drain.has_started() {
            return Err(Error::unavailable("the server is shutting down; retry on another or later"));
        }
        let id = clock::new_ulid();
        let (span, trail) = (info_span!("call", call = name, %id), audit.trail(name, &id));
        Ok(Self { timer: Some(metrics.call(name)), span, audit: audit.clone(), trail, _running: running })
    }

    /// The span that the call's log lines belong to.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// What the call does, for the audit log.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Ends the call with its outcome.
    pub fn finish(mut self, outcome: Result<(), &Error>) {
        let Some(timer) = self.timer.take() else { return };
        let (seconds, _entered) = (timer.elapsed_seconds(), self.span.enter());
        self.audit.write(&self.trail, outcome.map_or_else(|error| error.kind().code(), |()| "ok"), seconds);
        match outcome {
            Ok(()) => {
                info!(seconds, "done");
                timer.finish("ok");
            }
            Err(error) => {
                log_error(error, seconds);
                timer.finish(error.kind().code());
            }
        }
    }
}

/// The cause stands in the log alone; callers see the message.
fn log_error(error: &Error, seconds: f64) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    match error.kind() {
        Kind::Internal | Kind::Corrupt | Kind::Unavailable => warn!(%error, cause, seconds, "failed"),
        _ => info!(%error, cause, seconds, "refused"),
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            let _entered = self.span.enter();
            let seconds = timer.elapsed_seconds();
            self.audit.write(&self.trail, Kind::Cancelled.code(), seconds);
            info!(seconds, "the caller went away");
        }
    }
}
