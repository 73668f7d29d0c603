//! When a statement's time is up.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};

/// The end of the time that a statement was given, from its beginning to its last batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// The deadline of what begins now.
    pub(super) fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    /// When it is.
    pub(super) fn at(self) -> Instant {
        self.at
    }

    /// Waits for `work`, as long as there is time.
    ///
    /// # Errors
    /// Those of `work`, and [`Deadline::error`].
    pub(super) async fn in_time<T>(self, work: impl Future<Output = Result<T>>) -> Result<T> {
        timeout_at(self.at, work).await.unwrap_or_else(|_| Err(self.error()))
    }

    /// What is said when the time is up.
    pub(super) fn error(self) -> Error {
        Error::timeout(format!(
            "it took longer than the time limit of {} s (--query-timeout, or the session's); ask for less",
            self.limit.as_secs_f64()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test]
    async fn what_takes_longer_is_given_up() {
        let later = Deadline::after(Duration::from_secs(3_600));
        assert_eq!(later.in_time(async { Ok(1) }).await.unwrap(), 1);
        let late = Deadline::after(Duration::ZERO).in_time(std::future::pending::<Result<()>>()).await;
        assert_eq!(late.unwrap_err().kind(), Kind::Timeout);
    }
}
