//! Values bound to prepared statements, for clients that go on with the handle they were first given.
//!
//! Binding answers with a new handle that carries the values, and then nothing is kept anywhere. Older clients pass the
//! answer over, so the values are also kept here for a while; such a client must stay with one server.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Statements whose values are kept at the same time; those bound longest ago go first.
const MAX_STATEMENTS: usize = 1_000;
/// Bytes of their values.
const MAX_BYTES: usize = 64 << 20;

/// See the module's comment. Values are kept by the ids of handles, which are unique and never shown to another caller.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Bound(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    values: HashMap<String, String>,
    order: VecDeque<String>,
    bytes: usize,
}

impl Bound {
    /// Keeps values for the statement `id`, or forgets those it has.
    pub(super) fn bind(&self, id: &str, values: Option<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget(id);
        let Some(values) = values else { return };
        state.bytes += values.len();
        state.order.push_back(id.into());
        state.values.insert(id.into(), values);
        while state.values.len() > MAX_STATEMENTS || state.bytes > MAX_BYTES {
            let Some(oldest) = state.order.front().cloned() else { return };
            state.forget(&oldest);
        }
    }

    /// The values of the statement `id`.
    pub(super) fn values(&self, id: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values.get(id).cloned()
    }
}

impl State {
    fn forget(&mut self, id: &str) {
        if let Some(values) = self.values.remove(id) {
            self.bytes -= values.len();
            self.order.retain(|known| known != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_within_limits_and_forgotten_on_demand() {
        let bound = Bound::default();
        for number in 0..=MAX_STATEMENTS {
            bound.bind(&number.to_string(), Some("x".into()));
        }
        assert_eq!((bound.values("0"), bound.values("1")), (None, Some("x".into())));
        bound.bind("1", None);
        assert_eq!(bound.values("1"), None);
        bound.bind("big", Some("y".repeat(MAX_BYTES)));
        bound.bind("more", Some("z".into()));
        assert_eq!((bound.values("big"), bound.values("more")), (None, Some("z".into())));
    }
}
