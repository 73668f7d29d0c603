//! The only file that reads the clock or asks for randomness.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

/// The present moment in UTC, to the microsecond that records keep.
#[allow(clippy::disallowed_methods)]
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// An instant as records and results write it: ISO 8601 in UTC with microseconds.
pub fn format_instant(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// A new unguessable identifier that sorts by the time of its making.
pub fn new_ulid() -> String {
    ulid::Ulid::new().to_string()
}

/// A random positive number of 53 bits, which JSON readers that know only floats keep as it is.
pub fn random_id() -> i64 {
    (rand::random::<u64>() >> 11) as i64
}

/// A random duration of at most `max`, to keep retries of many callers apart.
pub fn jitter(max: Duration) -> Duration {
    max.mul_f64(rand::random::<f64>())
}

/// `N` random bytes from the operating system's generator, fit for a key.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    rand::random()
}
