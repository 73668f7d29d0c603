//! Results that are being fetched, by the ids of their tickets, so that their callers can cancel them.
//!
//! This is of one process: a cancellation must reach the server that sends the result. Nothing else depends on it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// Cancelled tickets that are remembered, so that they cannot be fetched later.
const MAX_REMEMBERED: usize = 10_000;

/// See the module's comment.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Running(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    running: HashMap<String, (usize, CancellationToken)>,
    cancelled: VecDeque<String>,
}

/// A result that is being fetched, as long as it is held.
#[derive(Debug)]
pub(in super::super) struct Fetch {
    running: Running,
    id: String,
    token: CancellationToken,
}

impl Running {
    /// Begins to fetch the result of the ticket `id`.
    ///
    /// # Errors
    /// [`Kind::Cancelled`](crate::error::Kind::Cancelled) when it was cancelled before.
    pub(in super::super) fn begin(&self, id: &str) -> Result<Fetch> {
        let mut state = self.state();
        if state.cancelled.iter().any(|cancelled| cancelled == id) {
            return Err(Error::cancelled("the query was cancelled; run it again"));
        }
        let (count, token) = state.running.entry(id.into()).or_default();
        *count += 1;
        Ok(Fetch { token: token.clone(), running: self.clone(), id: id.into() })
    }

    /// Cancels the result of the ticket `id`, whether it is being fetched or not yet.
    pub(super) fn cancel(&self, id: &str) {
        let mut state = self.state();
        if let Some((_, token)) = state.running.get(id) {
            token.cancel();
        }
        if state.cancelled.len() >= MAX_REMEMBERED {
            state.cancelled.pop_front();
        }
        state.cancelled.push_back(id.into());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetch {
    /// Waits until somebody cancels it.
    pub(in super::super) async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let mut state = self.running.state();
        if let Some((count, _)) = state.running.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancelled_ticket_ends_its_fetch_and_begins_no_other() {
        let running = Running::default();
        let (one, other) = (running.begin("a").unwrap(), running.begin("b").unwrap());
        running.cancel("a");
        one.cancelled().await;
        assert!(running.begin("a").is_err());
        assert!(!other.token.is_cancelled());
        drop((one, other));
        assert!(running.state().running.is_empty());
    }
}
