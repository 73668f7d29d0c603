//! A dataset as it stands at one commit: its versions, columns, keys and chunks.
//!
//! A snapshot is built by applying commits in order ([`Snapshot::apply`]) and never changes; a newer one shares what
//! stayed the same. Chunks that were removed stay in it until they are vacuumed, with the commit that removed them, so
//! that
//! reading an earlier state is a mask over the same list.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use deltalake::kernel::{Action, Add, CommitInfo, Metadata};
use serde_json::Value;

use super::delta::{COLUMNS_PROPERTY, KEYS_PROPERTY, LOAD_TAG, NUMBER_TAG};
use super::keys::ColumnsKeys;
use super::record::{COMMIT_KEY, CommitRecord, FORMAT_VERSION, VersionRecord};
use super::schema::{ColumnNames, Columns, LOAD_COLUMN, REMAINDER_PREFIX, ROW_COLUMN, union_schema};
use super::stats::{Bound, ColumnStats, parse_stats};
use crate::error::{Error, Result};
use crate::versions::Head;

/// A version with what follows from its record and the commits since.
#[derive(Debug, Clone)]
pub struct Version {
    /// What its commit said of it.
    pub record: Arc<VersionRecord>,
    /// The schema it was loaded with.
    pub schema: SchemaRef,
    /// When a later version replaced it.
    pub replaced_at: Option<DateTime<Utc>>,
}

impl Version {
    /// Whether it counts in the union now.
    pub fn is_live(&self) -> bool {
        self.replaced_at.is_none()
    }

    /// Whether it counted in the union at `instant`, inclusive.
    pub fn was_live(&self, instant: DateTime<Utc>) -> bool {
        self.record.created_at <= instant && self.replaced_at.is_none_or(|replaced| replaced > instant)
    }
}

/// A stored file.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Its path below the dataset's root.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// The load its rows came with.
    pub load_id: i64,
    /// Its place among the chunks of its load, from 1.
    pub number: i64,
    /// Bounds of the stored columns, in the order that [`Snapshot::stats_position`] tells.
    pub stats: Box<[ColumnStats]>,
    /// The smallest and greatest place in the load of its rows.
    pub row_range: (i64, i64),
    /// The commit that removed it.
    pub removed: Option<i64>,
}

impl Chunk {
    /// The part of the path that names the partition; empty without keys.
    pub fn partition(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

/// See the module's comment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The commit, by its number in the Delta log.
    pub log_version: i64,
    /// All versions not yet vacuumed, in order.
    pub versions: Vec<Version>,
    /// All chunks not yet vacuumed, in the order they were added.
    pub chunks: Vec<Arc<Chunk>>,
    /// The columns over all versions.
    pub columns: Columns,
    /// The keys, once a load has given some.
    pub keys: Option<ColumnsKeys>,
    /// The columns' names as the table's metadata keeps them.
    pub names: Vec<ColumnNames>,
    /// The stored columns, in the order that [`Chunk::stats`] follow; only ever grows at the end.
    stats_columns: Vec<arrow::datatypes::FieldRef>,
    remainders: HashSet<String>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            log_version: -1,
            versions: Vec::new(),
            chunks: Vec::new(),
            columns: Columns::default(),
            keys: None,
            names: Vec::new(),
            stats_columns: Vec::new(),
            remainders: HashSet::new(),
        }
    }
}

impl Snapshot {
    /// Whether a first load has been committed.
    pub fn exists(&self) -> bool {
        !self.versions.is_empty()
    }

    /// The live versions, in order.
    pub fn live_versions(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(|version| version.is_live())
    }

    /// The version of this number.
    pub fn version(&self, number: i64) -> Option<&Version> {
        self.versions.iter().find(|version| version.record.version == number)
    }

    /// The version that a load with this idempotency key made.
    pub fn version_of_key(&self, idempotency_key: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.record.idempotency_key.as_deref() == Some(idempotency_key))
    }

    /// The number of the newest version, 0 before the first.
    pub fn newest(&self) -> i64 {
        self.versions.last().map_or(0, |version| version.record.version)
    }

    /// The chunks of a load, in the order of their numbers, removed ones too.
    pub fn chunks_of_load(&self, load_id: i64) -> Vec<&Arc<Chunk>> {
        let mut chunks: Vec<_> = self.chunks.iter().filter(|chunk| chunk.load_id == load_id).collect();
        chunks.sort_by_key(|chunk| chunk.number);
        chunks
    }

    /// Chunks whose rows are all live.
    pub fn live_chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.chunks.iter().filter(|chunk| chunk.removed.is_none())
    }

    /// The logical schema of the union of live versions, or of the newest version where none is live.
    ///
    /// # Errors
    /// When the schemas of the versions cannot be joined, which is a defect.
    pub fn union_of_live(&self) -> Result<SchemaRef> {
        let live: Vec<SchemaRef> = self.live_versions().map(|version| Arc::clone(&version.schema)).collect();
        let newest = || self.versions.last().map(|version| Arc::clone(&version.schema));
        union_schema(&if live.is_empty() { newest().into_iter().collect() } else { live }, &self.columns)
    }

    /// The stored columns whose bounds the index has, by their place in [`Chunk::stats`].
    pub fn stats_position(&self, physical_name: &str) -> Option<usize> {
        self.stats_columns.iter().position(|field| field.name() == physical_name)
    }

    /// The totals for the version store.
    pub fn head(&self) -> Head {
        let live: Vec<&Version> = self.live_versions().collect();
        Head {
            log_version: (self.log_version >= 0).then_some(self.log_version),
            version: self.newest(),
            live_versions: live.len() as i64,
            rows: live.iter().map(|version| version.record.rows).sum(),
            bytes: self.live_chunks().map(|chunk| chunk.bytes as i64).sum(),
            updated_at: self.versions.last().map(|version| version.record.created_at),
        }
    }

    /// The state after the commit `log_version`, whose actions are given.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the commit cannot be understood.
    pub fn apply(&self, log_version: i64, actions: &[Action]) -> Result<Self> {
        let mut next = self.clone();
        next.log_version = log_version;
        // The schema first: the bounds of added chunks are read by it.
        for action in actions {
            if let Action::Metadata(metadata) = action {
                next.apply_metadata(metadata)?;
            }
        }
        for action in actions {
            if let Action::CommitInfo(info) = action {
                next.apply_record(info)?;
            }
        }
        let removed: HashSet<&str> = actions
            .iter()
            .filter_map(|action| if let Action::Remove(remove) = action { Some(remove.path.as_str()) } else { None })
            .collect();
        if !removed.is_empty() {
            for chunk in next.chunks.iter_mut().filter(|chunk| chunk.removed.is_none()) {
                if removed.contains(chunk.path.as_str()) {
                    Arc::make_mut(chunk).removed = Some(log_version);
                }
            }
        }
        for action in actions {
            if let Action::Add(add) = action {
                let chunk = next.read_chunk(add)?;
                next.chunks.push(Arc::new(chunk));
            }
        }
        Ok(next)
    }

    fn apply_metadata(&mut self, metadata: &Metadata) -> Result<()> {
        let damaged = || Error::corrupt("the metadata of the dataset's table is damaged");
        let json = serde_json::to_value(metadata).map_err(|error| damaged().because(error))?;
        let property = |name: &str| json.get("configuration").and_then(|c| c.get(name)).and_then(Value::as_str);
        let names = property(COLUMNS_PROPERTY).ok_or_else(damaged)?;
        self.names = serde_json::from_str(names).map_err(|error| damaged().because(error))?;
        if let Some(keys) = property(KEYS_PROPERTY) {
            self.keys = Some(serde_json::from_str(keys).map_err(|error| damaged().because(error))?);
        }
        let fields = json.get("schemaString").and_then(Value::as_str).ok_or_else(damaged)?;
        let fields: Value = serde_json::from_str(fields).map_err(|error| damaged().because(error))?;
        let fields = fields.get("fields").and_then(Value::as_array).ok_or_else(damaged)?;
        for name in fields.iter().filter_map(|field| field.get("name")?.as_str()) {
            if let Some(column) = name.strip_prefix(REMAINDER_PREFIX) {
                let column = self.names.iter().find(|names| names.physical == column).ok_or_else(damaged)?;
                self.remainders.insert(column.name.clone());
            }
        }
        Ok(())
    }

    fn apply_record(&mut self, info: &CommitInfo) -> Result<()> {
        let damaged = || Error::corrupt("the record of a commit is damaged");
        let Some(record) = info.info.get(COMMIT_KEY) else { return Ok(()) };
        let record: CommitRecord = serde_json::from_value(record.clone()).map_err(|error| damaged().because(error))?;
        if record.format_version > FORMAT_VERSION {
            return Err(Error::corrupt(format!(
                "a commit has the format {}, and this program reads up to {FORMAT_VERSION}; use a newer pandas-db",
                record.format_version
            )));
        }
        for version in record.versions {
            for replaced in self.versions.iter_mut().filter(|old| version.replaces.contains(&old.record.version)) {
                replaced.replaced_at.get_or_insert(version.created_at);
            }
            let schema = version.decode_schema()?;
            self.columns = self.columns.joined(&schema, &self.names, &self.remainders)?;
            self.versions.push(Version { record: Arc::new(version), schema, replaced_at: None });
        }
        for field in self.columns.physical_schema().fields() {
            match self.stats_columns.iter_mut().find(|known| known.name() == field.name()) {
                Some(known) => known.clone_from(field),
                None => self.stats_columns.push(Arc::clone(field)),
            }
        }
        Ok(())
    }

    fn read_chunk(&self, add: &Add) -> Result<Chunk> {
        let damaged = || Error::corrupt("an added chunk of a commit is damaged");
        check_path(&add.path)?;
        let schema = arrow::datatypes::Schema::new(self.stats_columns.clone());
        let (rows, stats) = parse_stats(add.stats.as_deref().ok_or_else(damaged)?, &schema)?;
        let tag = |name: &str| add.tags.as_ref()?.get(name)?.as_deref()?.parse::<i64>().ok();
        let bounds = |name: &str| {
            let stats = self.stats_position(name).and_then(|at| stats.get(at));
            match stats.map(|stats| (&stats.min, &stats.max)) {
                Some((Some(Bound::Int(min)), Some(Bound::Int(max)))) => Some((*min, *max)),
                _ => None,
            }
        };
        let load_id = tag(LOAD_TAG).or_else(|| bounds(LOAD_COLUMN).map(|(load, _)| load)).ok_or_else(damaged)?;
        Ok(Chunk {
            path: add.path.clone(),
            bytes: u64::try_from(add.size).map_err(|error| damaged().because(error))?,
            rows,
            load_id,
            number: tag(NUMBER_TAG).unwrap_or_default(),
            row_range: bounds(ROW_COLUMN).unwrap_or((0, rows.saturating_sub(1) as i64)),
            stats,
            removed: None,
        })
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
}
