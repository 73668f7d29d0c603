//! Failed log-ins: whoever guesses must wait, longer each time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

/// Failures in a row that cost nothing: people mistype.
const FREE_FAILURES: u32 = 5;
/// The wait after the next one; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Users whose failures are known; beyond them the oldest are forgotten.
const MAX_USERS: usize = 10_000;

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn until(&self) -> Instant {
        let Some(doublings) = self.count.checked_sub(FREE_FAILURES) else { return self.last };
        self.last + FIRST_WAIT.saturating_mul(1 << doublings.min(16)).min(LONGEST_WAIT)
    }
}

/// The failures of users, also of those that there are not: who waits tells nothing.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<HashMap<String, Failures>>);

impl Backoff {
    /// Whether the user may try.
    ///
    /// # Errors
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) with the time to wait.
    pub(super) fn check(&self, user: &str, now: Instant) -> Result<()> {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = users.get(user).map(Failures::until).filter(|until| *until > now) else { return Ok(()) };
        let seconds = until.duration_since(now).as_secs() + 1;
        Err(Error::exhausted(format!("too many failed log-ins of this user; retry in {seconds} s")))
    }

    /// Notes how a try ended.
    pub(super) fn note(&self, user: &str, is_good: bool, now: Instant) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_good {
            users.remove(user);
            return;
        }
        if users.len() >= MAX_USERS && !users.contains_key(user) {
            let oldest = users.iter().min_by_key(|(_, failures)| failures.last).map(|(user, _)| user.clone());
            oldest.map(|user| users.remove(&user));
        }
        let failures = users.entry(user.into()).or_insert(Failures { count: 0, last: now });
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end_with_a_good_try() {
        let (backoff, start) = (Backoff::default(), Instant::now());
        for _ in 0..FREE_FAILURES - 1 {
            backoff.note("ann", false, start);
        }
        assert!(backoff.check("ann", start).is_ok());
        backoff.note("ann", false, start);
        assert!(backoff.check("ann", start).is_err() && backoff.check("bob", start).is_ok());
        assert!(backoff.check("ann", start + FIRST_WAIT).is_ok());
        backoff.note("ann", false, start + FIRST_WAIT);
        assert!(backoff.check("ann", start + FIRST_WAIT * 2).is_err());
        for _ in 0..100 {
            backoff.note("ann", false, start);
        }
        assert!(backoff.check("ann", start + LONGEST_WAIT).is_ok());
        backoff.note("ann", true, start);
        assert!(backoff.check("ann", start).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (backoff, now) = (Backoff::default(), Instant::now());
        for user in 0..MAX_USERS + 10 {
            backoff.note(&user.to_string(), false, now);
        }
        assert_eq!(backoff.0.lock().unwrap().len(), MAX_USERS);
    }
}
