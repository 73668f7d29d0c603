//! Whether a caller may go on with a call that lasts.
//!
//! A call is checked when it begins. What is good then may end while its stream runs: the token expires, the user is
//! removed, the rules change. A stream asks again from time to time, before it hands on what comes next.

use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use super::authenticator::{Authenticator, Identity};
use super::principal::Principal;
use crate::error::{Error, Result};

/// A caller in the middle of a call.
#[derive(Clone)]
pub struct Standing {
    authenticator: Authenticator,
    identity: Arc<Identity>,
    checked: Instant,
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing").field("user", &self.identity.principal.user).finish_non_exhaustive()
    }
}

impl Standing {
    /// Of a caller who was identified just now.
    pub fn new(authenticator: &Authenticator, identity: Identity) -> Self {
        Self { authenticator: authenticator.clone(), identity: Arc::new(identity), checked: Instant::now() }
    }

    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.identity.principal
    }

    /// Lets pass who may go on. It looks again when `--recheck-interval` has passed since it did.
    ///
    /// # Errors
    /// Those of [`Authenticator::check_again`].
    pub async fn check(&mut self) -> Result<()> {
        if self.checked.elapsed() < self.authenticator.recheck_interval() {
            return Ok(());
        }
        self.authenticator.check_again(&self.identity).await?;
        self.checked = Instant::now();
        Ok(())
    }

    /// The items of a stream for as long as the caller may have them, then the error.
    pub fn guard<T: Send + 'static>(
        self,
        items: impl Stream<Item = Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let state = Some((items.boxed(), self));
        let guarded = stream::unfold(state, |state| async move {
            let (mut items, mut standing) = state?;
            let item = items.next().await;
            // Also at the end, after which a load is committed.
            match standing.check().await {
                Ok(()) => Some((item?, Some((items, standing)))),
                // Dropping the items ends the work behind them.
                Err(error) => Some((Err::<T, Error>(error), None)),
            }
        });
        guarded.boxed()
    }
}
