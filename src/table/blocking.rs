//! Work that takes too long for an async thread: decoding, encoding, reading files.

use crate::error::{Error, Result};

/// Runs `work` on a thread of its own.
///
/// # Errors
/// Those of `work`, and [`Kind::Internal`](crate::error::Kind::Internal) when it panics.
pub(super) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("work on rows broke off").because(error))?
}
