//! Failed log-ins: whoever guesses must wait, longer each time.
//!
//! Failures count for a user at an address, so that nobody can keep a user out from elsewhere. Those of a user at all
//! addresses count too, with more patience, against guesses from many.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

/// Failures in a row at one address that cost nothing: people mistype.
const FREE_AT_ADDRESS: u32 = 5;
/// Failures at all addresses together that cost nothing.
const FREE_ANYWHERE: u32 = 50;
/// The wait after the next one; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Without a failure for so long those before are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);
/// What failures are known of; beyond that the oldest are forgotten.
const MAX_KNOWN: usize = 10_000;

/// Of what failures are counted: of a user at an address, or at all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Counted {
    user: String,
    at: Option<IpAddr>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn until(&self, free: u32) -> Instant {
        let Some(doublings) = self.count.checked_sub(free) else { return self.last };
        self.last + FIRST_WAIT.saturating_mul(1 << doublings.min(16)).min(LONGEST_WAIT)
    }
}

/// The failures of users, also of those that there are not: who waits tells nothing.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<HashMap<Counted, Failures>>);

impl Backoff {
    /// Whether the user may try, from an address.
    ///
    /// # Errors
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) with the time to wait.
    pub(super) fn check(&self, user: &str, address: Option<IpAddr>, now: Instant) -> Result<()> {
        let known = self.known();
        let until = |(counted, free)| known.get(&counted).map(|failures: &Failures| failures.until(free));
        let until = counted(user, address).into_iter().filter_map(until).max();
        let Some(until) = until.filter(|until| *until > now) else { return Ok(()) };
        let seconds = until.duration_since(now).as_secs() + 1;
        Err(Error::exhausted(format!("too many failed log-ins of this user; retry in {seconds} s")))
    }

    /// Notes how a try ended.
    pub(super) fn note(&self, user: &str, address: Option<IpAddr>, is_good: bool, now: Instant) {
        let mut known = self.known();
        if is_good {
            // At this address alone: elsewhere somebody may be guessing.
            known.remove(&Counted { user: user.into(), at: Some(place(address)) });
            return;
        }
        for (counted, _) in counted(user, address) {
            if known.len() >= MAX_KNOWN && !known.contains_key(&counted) {
                let oldest = known.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| key.clone());
                oldest.map(|key| known.remove(&key));
            }
            let failures = known.entry(counted).or_insert(Failures { count: 0, last: now });
            if now.saturating_duration_since(failures.last) > FORGOTTEN_AFTER {
                failures.count = 0;
            }
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Counted, Failures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a failure counts for, and how many of them are free.
fn counted(user: &str, address: Option<IpAddr>) -> [(Counted, u32); 2] {
    let at = |at| Counted { user: user.into(), at };
    [(at(Some(place(address))), FREE_AT_ADDRESS), (at(None), FREE_ANYWHERE)]
}

/// What stands for an address. Of IPv6 it is the network: whoever has one address has all of a /64 (RFC 6177).
fn place(address: Option<IpAddr>) -> IpAddr {
    const HOST_BITS: u32 = 64;
    match address.map(|address| address.to_canonical()) {
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Some(IpAddr::V6(address)) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> HOST_BITS << HOST_BITS)),
        Some(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn waits_grow_and_end_with_a_good_try() {
        let (backoff, start, here) = (Backoff::default(), Instant::now(), address("192.0.2.1"));
        for _ in 0..FREE_AT_ADDRESS - 1 {
            backoff.note("ann", here, false, start);
        }
        assert!(backoff.check("ann", here, start).is_ok());
        backoff.note("ann", here, false, start);
        assert!(backoff.check("ann", here, start).is_err() && backoff.check("bob", here, start).is_ok());
        assert!(backoff.check("ann", here, start + FIRST_WAIT).is_ok());
        backoff.note("ann", here, false, start + FIRST_WAIT);
        assert!(backoff.check("ann", here, start + FIRST_WAIT * 2).is_err());
        for _ in 0..30 {
            backoff.note("ann", here, false, start);
        }
        assert!(backoff.check("ann", here, start + LONGEST_WAIT).is_ok());
        backoff.note("ann", here, true, start);
        assert!(backoff.check("ann", here, start).is_ok());
    }

    #[test]
    fn guesses_at_one_address_do_not_keep_the_user_out_at_another() {
        let (backoff, now) = (Backoff::default(), Instant::now());
        for _ in 0..FREE_AT_ADDRESS {
            backoff.note("ann", address("2001:db8::1"), false, now);
        }
        assert!(backoff.check("ann", address("2001:db8::2:3"), now).is_err());
        assert!(backoff.check("ann", address("2001:db8:0:1::1"), now).is_ok());
        assert!(backoff.check("ann", None, now).is_ok());
        for _ in 0..FREE_AT_ADDRESS {
            backoff.note("ann", address("::ffff:192.0.2.1"), false, now);
        }
        assert!(backoff.check("ann", address("192.0.2.1"), now).is_err());
    }

    #[test]
    fn guesses_from_many_addresses_wait_too() {
        let (backoff, now) = (Backoff::default(), Instant::now());
        for host in 0..FREE_ANYWHERE {
            assert!(backoff.check("ann", address("198.51.100.1"), now).is_ok(), "{host}");
            backoff.note("ann", address(&format!("192.0.2.{host}")), false, now);
        }
        assert!(backoff.check("ann", address("198.51.100.1"), now).is_err());
        assert!(backoff.check("bob", address("198.51.100.1"), now).is_ok());
        let later = now + FORGOTTEN_AFTER + FIRST_WAIT;
        backoff.note("ann", address("192.0.2.1"), false, later);
        assert!(backoff.check("ann", address("198.51.100.1"), later).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (backoff, now) = (Backoff::default(), Instant::now());
        for user in 0..MAX_KNOWN + 10 {
            backoff.note(&user.to_string(), None, false, now);
        }
        assert_eq!(backoff.0.lock().unwrap().len(), MAX_KNOWN);
    }
}
