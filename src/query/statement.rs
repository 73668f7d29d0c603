//! A statement with all that decides its result: its text, the values of its parameters, the session's options, and the
//! moments at which it reads its datasets.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::options::SessionOptions;
use super::parameters::Parameters;

/// See the module's comment.
#[derive(Debug, Clone, Default)]
pub struct Statement {
    /// Its text, in which parameters are `$1`, `$2` and so on.
    pub sql: String,
    /// The values of its parameters.
    pub parameters: Option<Parameters>,
    /// The options of its session.
    pub options: SessionOptions,
    /// The states that it reads; datasets not named here are read as they are now.
    pub moments: Moments,
    /// The part of the result that is wanted, where it was planned to come in several.
    pub part: Option<Part>,
}

impl Statement {
    /// A statement without parameters.
    pub fn new(sql: impl Into<String>, options: SessionOptions) -> Self {
        Self { sql: sql.into(), options, ..Self::default() }
    }
}

/// One of several parts of a result: what comes of its share of the chunks that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which, from 0.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl Part {
    /// Its share of things that are cut into parts, in their order.
    pub(super) fn share<T>(self, mut all: Vec<T>) -> Vec<T> {
        let count = all.len();
        let of = self.of.max(1);
        let (first, end) = (count * self.number / of, count * (self.number + 1) / of);
        all.truncate(end);
        all.split_off(first.min(all.len()))
    }
}

/// The states of datasets that a statement was planned with, by the datasets' names.
pub type Moments = BTreeMap<String, Moment>;

/// The state of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The table that the dataset was: under the same name there may be another since.
    pub table: String,
    /// The newest commit that counts.
    pub at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole_in_order() {
        for (count, of) in [(10, 3), (2, 2), (7, 7), (5, 1), (3, 5)] {
            let all: Vec<usize> = (0..count).collect();
            let parts = (0..of).flat_map(|number| Part { number, of }.share(all.clone()));
            assert_eq!(parts.collect::<Vec<_>>(), all, "{count} in {of}");
        }
        assert!(Part { number: 9, of: 3 }.share(vec![1]).is_empty());
    }
}
