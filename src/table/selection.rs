//! Which rows of a dataset a caller asks for: versions, and the chunks that hold their rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};

use super::chunk::Chunk;
use super::dataset::Dataset;
use super::snapshot::{Snapshot, Version};
use crate::clock::format_instant;
use crate::error::{Error, Result, shorten};
use crate::names::ExternalKey;

/// Which versions and columns to read.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only this external key.
    pub external_key: Option<ExternalKey>,
    /// Only the newest.
    pub use_last: bool,
    /// Only this version, live or not.
    pub version: Option<i64>,
    /// The union as it stood then.
    pub as_of: Option<DateTime<Utc>>,
    /// Only these columns, in this order; empty for all.
    pub columns: Vec<String>,
}

/// The versions that a selection means, and their rows.
#[derive(Debug, Clone)]
pub struct SelectedRows {
    /// The versions, in order.
    pub versions: Vec<Version>,
    /// The logical schema of their union; where there are none, the last schema that there was.
    pub schema: SchemaRef,
    /// The versions of statements that changed their rows, and may have brought categories for them.
    pub(super) amendments: Vec<Version>,
    /// The chunks that hold their rows.
    pub chunks: Vec<SelectedChunk>,
    /// The oldest state that they are read from: what counted after this commit must not be deleted meanwhile.
    pub oldest_commit: i64,
}

/// A chunk, and what of it is selected.
#[derive(Debug, Clone)]
pub struct SelectedChunk {
    /// The chunk.
    pub chunk: Arc<Chunk>,
    /// The loads whose rows are meant, where not all are.
    pub loads: Option<Vec<i64>>,
}

impl SelectedChunk {
    /// How many of its rows are selected.
    pub fn rows(&self) -> u64 {
        self.selected().map(|rows| rows.rows).sum()
    }

    /// What it holds of each selected load.
    pub(super) fn selected(&self) -> impl Iterator<Item = &super::chunk::LoadRows> {
        let is_selected = |load: i64| self.loads.as_ref().is_none_or(|loads| loads.contains(&load));
        self.chunk.loads.iter().filter(move |rows| is_selected(rows.load_id))
    }
}

impl Selection {
    /// Finds the versions and chunks in `snapshot`.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) for an unknown key or version,
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a selection that contradicts itself, or for an instant whose
    /// state was vacuumed.
    pub fn find(&self, dataset: &Dataset, snapshot: &Snapshot) -> Result<SelectedRows> {
        let versions = self.versions(dataset, snapshot)?;
        let fallback = self.known(snapshot).next_back().or(snapshot.last_version());
        let schema = match fallback.filter(|_| versions.is_empty()) {
            Some(version) => Arc::clone(&version.schema),
            None => snapshot.union_of(versions.iter())?,
        };
        let at = self.as_of.map(|instant| snapshot.commit_at(instant));
        let chunks = self.chunks(snapshot, &versions, at);
        let commits = versions.iter().map(|version| snapshot.commit_of(version, at));
        let oldest_commit = commits.min().unwrap_or(snapshot.log_version);
        let amendments = amendments(snapshot, &versions, at);
        Ok(SelectedRows { versions, schema, amendments, chunks, oldest_commit })
    }

    /// The versions that were ever made under the external key, vacuumed ones excepted.
    fn known<'a>(&self, snapshot: &'a Snapshot) -> impl DoubleEndedIterator<Item = &'a Version> {
        let key = self.external_key.clone();
        let of_key = move |v: &&Version| key.as_ref().is_none_or(|key| v.record.external_key == key.as_str());
        snapshot.versions().filter(of_key)
    }

    fn versions(&self, dataset: &Dataset, snapshot: &Snapshot) -> Result<Vec<Version>> {
        let name = dataset.name();
        if let Some(number) = self.version {
            if self.external_key.is_some() || self.use_last || self.as_of.is_some() {
                return Err(Error::invalid(
                    "version cannot be combined with external_key, use_last or as_of; give it alone",
                ));
            }
            let version = snapshot.version(number).cloned().ok_or_else(|| {
                Error::not_found(format!("'{name}' has no version {number}; the newest is {}", snapshot.newest()))
            })?;
            return Ok(vec![version]);
        }
        if let (Some(instant), Some(horizon)) = (self.as_of, snapshot.horizon.filter(|h| self.as_of < Some(*h))) {
            return Err(Error::invalid(format!(
                "as_of: the state at {} was vacuumed; the earliest that can be read is {}",
                format_instant(instant),
                format_instant(horizon)
            )));
        }
        if let Some(key) = self.external_key.as_ref().filter(|_| self.known(snapshot).next().is_none()) {
            return Err(Error::not_found(format!(
                "'{name}' has no version with the external_key '{}'",
                shorten(key.as_str())
            )));
        }
        let live = |version: &&Version| self.as_of.map_or_else(|| version.is_live(), |at| version.was_live(at));
        if self.use_last {
            let newest = self.known(snapshot).rev().filter(|version| version.record.brings_rows()).find(live);
            return Ok(newest.cloned().into_iter().collect());
        }
        Ok(self.known(snapshot).filter(live).cloned().collect())
    }

    fn chunks(&self, snapshot: &Snapshot, versions: &[Version], at: Option<i64>) -> Vec<SelectedChunk> {
        let is_all = self.version.is_none() && self.external_key.is_none() && !self.use_last && self.as_of.is_none();
        if is_all {
            let whole = |chunk: &Arc<Chunk>| SelectedChunk { chunk: Arc::clone(chunk), loads: None };
            return snapshot.live_chunks().map(whole).collect();
        }
        let mut found: BTreeMap<(i64, &str), SelectedChunk> = BTreeMap::new();
        for version in versions {
            let (load, commit) = (version.record.load_id, snapshot.commit_of(version, at));
            for chunk in snapshot.chunks_of_load(load, commit) {
                let none_yet = || SelectedChunk { chunk: Arc::clone(chunk), loads: None };
                let selected = found.entry((chunk.added, &chunk.path)).or_insert_with(none_yet);
                selected.loads.get_or_insert_default().push(load);
            }
        }
        let all_as_none = |mut selected: SelectedChunk| {
            selected.loads = selected.loads.filter(|loads| loads.len() < selected.chunk.loads.len());
            selected
        };
        found.into_values().map(all_as_none).collect()
    }
}

/// The versions of statements that changed rows of `versions` by the commit `at`, and are not among them.
fn amendments(snapshot: &Snapshot, versions: &[Version], at: Option<i64>) -> Vec<Version> {
    let mut found: BTreeMap<i64, Version> = BTreeMap::new();
    if snapshot.amendments.is_empty() {
        return Vec::new();
    }
    for version in versions {
        for amendment in snapshot.amendments_of(version, snapshot.commit_of(version, at)) {
            found.entry(amendment.record.version).or_insert_with(|| amendment.clone());
        }
    }
    versions.iter().for_each(|version| drop(found.remove(&version.record.version)));
    found.into_values().collect()
}

/// Where the rows of each load begin when the versions of a selection follow one another.
///
/// A row's place in the whole is this plus its place in its load.
pub(super) fn first_places(versions: &[Version]) -> HashMap<i64, i64> {
    let mut next = 0;
    let begin = |version: &Version| {
        let first = next;
        next += version.record.rows;
        (version.record.load_id, first)
    };
    versions.iter().map(begin).collect()
}
