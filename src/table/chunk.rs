//! A stored file: which rows of which loads it holds, their bounds, and from when to when it counts.

use arrow::datatypes::Schema;
use deltalake::kernel::Add;
use serde::{Deserialize, Serialize};

use super::delta::{LOADS_TAG, NUMBER_TAG};
use super::stats::{ColumnStats, parse_stats};
use crate::error::{Error, Result};

/// A stored file. It is written once and never changes; what changes is whether it counts.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Its path below the dataset's root.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// The loads its rows came with, in the order of their versions. One, until chunks are merged.
    pub loads: Box<[LoadRows]>,
    /// Its place among the chunks of its load, from 1; 0 for a chunk that was made of others.
    pub number: i64,
    /// Bounds of the stored columns, in the order that [`Snapshot::stats_position`](super::Snapshot::stats_position)
    /// tells.
    pub stats: Box<[ColumnStats]>,
    /// The commit that added it.
    pub added: i64,
    /// The commit that removed it.
    pub removed: Option<i64>,
}

/// The rows of one load in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, u64, i64, i64)", into = "(i64, u64, i64, i64)")]
pub struct LoadRows {
    /// The load, as the hidden column `__pdb_load` names it.
    pub load_id: i64,
    /// How many rows.
    pub rows: u64,
    /// The smallest place in the load of one of them.
    pub first: i64,
    /// The greatest.
    pub last: i64,
}

impl LoadRows {
    /// One row more, of the load's place `place`.
    pub(super) fn add(&mut self, place: i64) {
        self.rows += 1;
        self.first = self.first.min(place);
        self.last = self.last.max(place);
    }
}

impl From<(i64, u64, i64, i64)> for LoadRows {
    fn from((load_id, rows, first, last): (i64, u64, i64, i64)) -> Self {
        Self { load_id, rows, first, last }
    }
}

impl From<LoadRows> for (i64, u64, i64, i64) {
    fn from(of: LoadRows) -> Self {
        (of.load_id, of.rows, of.first, of.last)
    }
}

impl Chunk {
    /// Reads the action that adds a chunk in the commit `added`. Its bounds are those of the columns of `schema`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the action is damaged.
    pub(super) fn read(add: &Add, schema: &Schema, added: i64) -> Result<Self> {
        let damaged = || Error::corrupt("an added chunk of a commit is damaged");
        check_path(&add.path)?;
        let (rows, stats) = parse_stats(add.stats.as_deref().ok_or_else(damaged)?, schema)?;
        let tag = |name: &str| add.tags.as_ref()?.get(name)?.as_deref();
        let loads = tag(LOADS_TAG).ok_or_else(damaged)?;
        let loads: Vec<LoadRows> = serde_json::from_str(loads).map_err(|error| damaged().because(error))?;
        Ok(Self {
            path: add.path.clone(),
            bytes: u64::try_from(add.size).map_err(|error| damaged().because(error))?,
            rows,
            loads: loads.into(),
            number: tag(NUMBER_TAG).and_then(|number| number.parse().ok()).unwrap_or_default(),
            stats,
            added,
            removed: None,
        })
    }

    /// The part of the path that names the partition; empty without keys.
    pub fn partition(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether it counted right after the commit `log_version`.
    pub fn is_live_at(&self, log_version: i64) -> bool {
        self.added <= log_version && self.removed.is_none_or(|removed| removed > log_version)
    }

    /// What it holds of a load.
    pub fn rows_of(&self, load_id: i64) -> Option<&LoadRows> {
        self.loads.iter().find(|rows| rows.load_id == load_id)
    }
}

/// A chunk's path stays below the dataset's root, whatever a damaged or forged log says.
fn check_path(path: &str) -> Result<()> {
    let inside = !path.is_empty() && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if inside && !path.contains(':') {
        Ok(())
    } else {
        Err(Error::corrupt("a commit names a file outside its dataset"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_log_cannot_leave_the_dataset() {
        assert!(check_path("d/2024-01-01/01J.parquet").is_ok());
        for path in ["", "../x", "/etc/passwd", "a//b", "a/../../b", "s3://bucket/x", "file:///x"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_chunk_counts_from_its_adding_commit_to_its_removing_one() {
        let chunk = Chunk {
            path: "x".into(),
            bytes: 1,
            rows: 1,
            loads: Box::new([LoadRows { load_id: 7, rows: 1, first: 0, last: 0 }]),
            number: 1,
            stats: Box::default(),
            added: 2,
            removed: Some(4),
        };
        assert_eq!([1, 2, 3, 4].map(|at| chunk.is_live_at(at)), [false, true, true, false]);
        assert_eq!(serde_json::to_string(&chunk.loads).unwrap(), "[[7,1,0,0]]");
    }
}
