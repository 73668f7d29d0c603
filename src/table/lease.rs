//! What running reads of this process still need.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::presence::RunningRead;
use crate::error::{Error, Result};

/// The states of one dataset that reads run on.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// How many reads need what counted after a commit.
    by_commit: BTreeMap<i64, usize>,
    /// What was removed up to this commit is being deleted.
    vacuumed: Option<i64>,
}

/// Keeps a state of a dataset readable in this process until it is dropped.
#[derive(Debug)]
pub struct Lease {
    leases: Arc<Leases>,
    commit: i64,
    /// What other nodes are told of it.
    _read: Option<RunningRead>,
}

impl Leases {
    /// Takes a lease on what counted after `commit`.
    pub(super) fn take(self: &Arc<Self>, commit: i64, read: Option<RunningRead>) -> Result<Lease> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.vacuumed.is_some_and(|vacuumed| vacuumed > commit) {
            return Err(Error::conflict("the dataset was vacuumed as the read began; repeat it"));
        }
        *held.by_commit.entry(commit).or_default() += 1;
        Ok(Lease { leases: Arc::clone(self), commit, _read: read })
    }

    /// How far a vacuum may go that wants to go up to `commit`; from then on no older state is leased.
    pub(super) fn vacuum(&self, commit: i64) -> i64 {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let horizon = held.by_commit.keys().next().map_or(commit, |oldest| commit.min(*oldest));
        held.vacuumed = held.vacuumed.max(Some(horizon));
        horizon
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.by_commit.get_mut(&self.commit) {
            *count -= 1;
            if *count == 0 {
                held.by_commit.remove(&self.commit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vacuum_goes_no_further_than_the_oldest_read() {
        let leases = Arc::new(Leases::default());
        let (old, new) = (leases.take(3, None).unwrap(), leases.take(7, None).unwrap());
        assert_eq!(leases.vacuum(9), 3);
        assert!(leases.take(2, None).is_err());
        drop(old);
        assert_eq!(leases.vacuum(9), 7);
        drop(new);
        assert_eq!(leases.vacuum(9), 9);
        assert!(leases.take(8, None).is_err() && leases.take(9, None).is_ok());
    }
}
