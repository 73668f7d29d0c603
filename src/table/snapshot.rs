//! A dataset as it stands at one commit: its versions, columns, keys and chunks.
//!
//! A snapshot is built by applying commits in order (`replay.rs`) and never changes; a newer one shares what stayed the
//! same, so that a commit costs what it changes and not what the dataset holds. Chunks that were removed and versions
//! that were ended stay in it until they are vacuumed, with the commit that did it, so that reading an earlier state is
//! a mask over the same index.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use chrono::{DateTime, Utc};
use imbl::{HashMap, OrdMap, OrdSet};

use super::chunk::Chunk;
use super::keys::ColumnsKeys;
use super::record::{EndState, Retention, VersionRecord};
use super::schema::{ColumnNames, Columns, union_schema};
use crate::error::Result;
use crate::versions::Head;

/// A version with what follows from its record and the commits since.
#[derive(Debug, Clone)]
pub struct Version {
    /// What its commit said of it.
    pub record: Arc<VersionRecord>,
    /// The schema it was loaded with.
    pub schema: SchemaRef,
    /// The commit that made it, by its number in the log.
    pub committed: i64,
    /// What made it no longer live.
    pub end: Option<End>,
    /// The rows it has now, or had when it ended: those that were loaded, without those that statements deleted.
    pub rows: i64,
}

/// The end of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// From when on it no longer counts.
    pub at: DateTime<Utc>,
    /// The commit that ended it.
    pub committed: i64,
    /// Why.
    pub state: EndState,
}

impl Version {
    /// Whether it counts in the union now.
    pub fn is_live(&self) -> bool {
        self.end.is_none()
    }

    /// Whether it counted in the union at `instant`, inclusive.
    pub fn was_live(&self, instant: DateTime<Utc>) -> bool {
        self.record.created_at <= instant && self.end.is_none_or(|end| end.at > instant)
    }

    /// The Arrow bytes of its rows, about: of those that were loaded, the part that is left.
    pub fn bytes(&self) -> i64 {
        let part = i128::from(self.record.bytes) * i128::from(self.rows) / i128::from(self.record.rows.max(1));
        if self.rows == self.record.rows { self.record.bytes } else { i64::try_from(part).unwrap_or(self.record.bytes) }
    }

    /// The word for its state.
    pub fn state(&self) -> &'static str {
        self.end.map_or("live", |end| end.state.as_str())
    }
}

/// The place of a chunk in the order in which chunks were added.
pub(super) type ChunkId = u64;

/// See the module's comment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The commit, by its number in the Delta log.
    pub log_version: i64,
    /// The columns over all versions.
    pub columns: Columns,
    /// The keys, once a load has given some.
    pub keys: Option<ColumnsKeys>,
    /// The columns' names as the table's metadata keeps them.
    pub names: Vec<ColumnNames>,
    /// Which versions stay live.
    pub retention: Retention,
    /// Whether the dataset was deleted.
    pub dropped: bool,
    /// The instant before which states can no longer be read.
    pub horizon: Option<DateTime<Utc>>,
    /// All versions not yet vacuumed, by number.
    pub(super) versions: OrdMap<i64, Version>,
    /// The newest number ever given, 0 before the first.
    pub(super) newest: i64,
    /// The last commit that changed which rows there are, or the columns; others only store them otherwise.
    pub(super) changed: i64,
    /// Versions of statements that changed rows of earlier ones and may have brought categories for them. One stays as
    /// long as any of those does.
    pub(super) amendments: OrdMap<i64, Version>,
    /// The newest version, which stays even when it is vacuumed: an empty dataset has its schema.
    pub(super) last: Option<Version>,
    pub(super) live: OrdMap<ChunkId, Arc<Chunk>>,
    pub(super) removed: OrdMap<ChunkId, Arc<Chunk>>,
    pub(super) next_chunk: ChunkId,
    pub(super) live_by_path: HashMap<Arc<str>, ChunkId>,
    /// Every load with each chunk, live or not, that holds rows of it.
    pub(super) by_load: OrdSet<(i64, ChunkId)>,
    /// Kept for a day at least, even when the version is vacuumed before.
    pub(super) by_idempotency_key: HashMap<Arc<str>, Arc<VersionRecord>>,
    /// The instant of each commit that is not before the horizon.
    pub(super) instants: OrdMap<i64, DateTime<Utc>>,
    pub(super) totals: Totals,
    /// The stored columns, in the order that [`Chunk::stats`] follow; only ever grows at the end.
    pub(super) stats_columns: Arc<Vec<FieldRef>>,
    pub(super) remainders: HashSet<String>,
    /// When the table was made, in milliseconds since 1970, as its metadata says.
    pub(super) created_ms: Option<i64>,
}

/// What the live versions come to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub versions: i64,
    pub rows: i64,
    pub bytes: i64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            log_version: -1,
            columns: Columns::default(),
            keys: None,
            names: Vec::new(),
            retention: Retention::default(),
            dropped: false,
            horizon: None,
            versions: OrdMap::new(),
            newest: 0,
            changed: -1,
            amendments: OrdMap::new(),
            last: None,
            live: OrdMap::new(),
            removed: OrdMap::new(),
            next_chunk: 0,
            live_by_path: HashMap::new(),
            by_load: OrdSet::new(),
            by_idempotency_key: HashMap::new(),
            instants: OrdMap::new(),
            totals: Totals::default(),
            stats_columns: Arc::default(),
            remainders: HashSet::new(),
            created_ms: None,
        }
    }
}

impl Snapshot {
    /// Whether a first load has been committed, and the dataset was not deleted since.
    pub fn exists(&self) -> bool {
        self.newest > 0 && !self.dropped
    }

    /// All versions not yet vacuumed, by number; from either end.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.versions.values()
    }

    /// The live versions, by number; from either end.
    pub fn live_versions(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.versions.values().filter(|version| version.is_live())
    }

    /// The version of this number, as long as it is not vacuumed.
    pub fn version(&self, number: i64) -> Option<&Version> {
        self.versions.get(&number)
    }

    /// The newest version ever made, vacuumed or not.
    pub fn last_version(&self) -> Option<&Version> {
        self.last.as_ref()
    }

    /// The record of the version that a load with this idempotency key made.
    pub fn record_of_key(&self, idempotency_key: &str) -> Option<&Arc<VersionRecord>> {
        self.by_idempotency_key.get(idempotency_key)
    }

    /// The number of the newest version, 0 before the first.
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// The instant of the newest commit.
    pub fn newest_instant(&self) -> Option<DateTime<Utc>> {
        self.instants.get_max().map(|(_, at)| *at)
    }

    /// The newest commit whose changes counted at `instant`.
    pub fn commit_at(&self, instant: DateTime<Utc>) -> i64 {
        self.instants.iter().rev().find(|(_, at)| **at <= instant).map_or(-1, |(commit, _)| *commit)
    }

    /// The commit after which a version has the content that it had after the commit `at`, or has now without one. For
    /// an ended version that is at the latest the commit before its end.
    pub fn commit_of(&self, version: &Version, at: Option<i64>) -> i64 {
        let last = version.end.map_or(self.log_version, |end| end.committed - 1);
        at.map_or(last, |at| at.clamp(version.committed, last.max(version.committed)))
    }

    /// The versions of statements that changed rows of `version` up to the commit `log_version` and may have brought
    /// categories for them.
    pub(super) fn amendments_of(&self, version: &Version, log_version: i64) -> impl Iterator<Item = &Version> {
        let number = version.record.version;
        self.amendments
            .range(number..)
            .map(|(_, amendment)| amendment)
            .filter(move |amendment| amendment.committed <= log_version && amendment.record.changes.contains(&number))
    }

    /// The chunks with rows of a load that counted right after the commit `log_version`, in the order they were added.
    pub fn chunks_of_load(&self, load_id: i64, log_version: i64) -> impl Iterator<Item = &Arc<Chunk>> {
        let all = self.by_load.range((load_id, ChunkId::MIN)..=(load_id, ChunkId::MAX));
        all.filter_map(|(_, id)| self.chunk(*id)).filter(move |chunk| chunk.is_live_at(log_version))
    }

    fn chunk(&self, id: ChunkId) -> Option<&Arc<Chunk>> {
        self.live.get(&id).or_else(|| self.removed.get(&id))
    }

    /// Chunks whose rows are all live, in the order they were added.
    pub fn live_chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.live.values()
    }

    /// Chunks that no longer count and are not yet vacuumed.
    pub fn removed_chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.removed.values()
    }

    /// The live chunk at this path.
    pub(super) fn live_chunk(&self, path: &str) -> Option<&Arc<Chunk>> {
        self.live.get(self.live_by_path.get(path)?)
    }

    /// The logical schema of the union of live versions, or of the newest version where none is live.
    ///
    /// # Errors
    /// When the schemas of the versions cannot be joined, which is a defect.
    pub fn union_of_live(&self) -> Result<SchemaRef> {
        self.union_of(self.live_versions())
    }

    /// The logical schema of the union of some versions, or of the newest of all where there are none.
    ///
    /// # Errors
    /// As [`Snapshot::union_of_live`].
    pub fn union_of<'a>(&'a self, versions: impl Iterator<Item = &'a Version>) -> Result<SchemaRef> {
        let mut schemas: Vec<SchemaRef> = Vec::new();
        for version in versions {
            // Neighbours mostly share theirs; a union is not changed by what it was just joined with.
            if schemas.last().is_none_or(|last| !Arc::ptr_eq(last, &version.schema)) {
                schemas.push(Arc::clone(&version.schema));
            }
        }
        if schemas.is_empty() {
            schemas.extend(self.last.as_ref().map(|version| Arc::clone(&version.schema)));
        }
        union_schema(&schemas, &self.columns)
    }

    /// The stored columns whose bounds the index has, by their place in [`Chunk::stats`].
    pub fn stats_position(&self, physical_name: &str) -> Option<usize> {
        self.stats_columns.iter().position(|field| field.name() == physical_name)
    }

    /// The totals for the version store.
    pub fn head(&self) -> Head {
        Head {
            log_version: (self.log_version >= 0).then_some(self.log_version),
            version: self.newest,
            live_versions: self.totals.versions,
            rows: self.totals.rows,
            bytes: self.totals.bytes,
            updated_at: self.last.as_ref().map(|version| version.record.created_at),
        }
    }
}
