//! From one snapshot to the next: what the actions of a commit change.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use chrono::{DateTime, TimeDelta, Utc};
use deltalake::kernel::{Action, CommitInfo, Metadata};
use serde_json::Value;

use super::chunk::Chunk;
use super::delta::{COLUMNS_PROPERTY, KEYS_PROPERTY};
use super::record::{COMMIT_KEY, CommitRecord, EndState, FORMAT_VERSION, VersionRecord};
use super::schema::REMAINDER_PREFIX;
use super::snapshot::{End, Snapshot, Version};
use crate::error::{Error, Result};

/// How long an idempotency key is kept when its version is not.
const IDEMPOTENCY_KEY_LIFE: TimeDelta = TimeDelta::days(1);

/// The record of a commit; `None` when another program wrote it.
///
/// # Errors
/// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when it is damaged,
/// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) when it is of a newer form.
pub(super) fn commit_record(actions: &[Action]) -> Result<Option<CommitRecord>> {
    let info = actions.iter().find_map(|action| if let Action::CommitInfo(info) = action { Some(info) } else { None });
    info.map_or(Ok(None), read_record)
}

fn read_record(info: &CommitInfo) -> Result<Option<CommitRecord>> {
    let damaged = || Error::corrupt("the record of a commit is damaged");
    let Some(record) = info.info.get(COMMIT_KEY) else { return Ok(None) };
    let format = record.get("format_version").and_then(Value::as_u64).ok_or_else(damaged)?;
    if format > u64::from(FORMAT_VERSION) {
        return Err(Error::unimplemented(format!(
            "a commit has the format {format}, and this program reads up to {FORMAT_VERSION}; use a newer pandas-db"
        )));
    }
    serde_json::from_value(record.clone()).map(Some).map_err(|error| damaged().because(error))
}

/// Whether a commit changes which rows there are, or the columns.
fn changes_rows(record: &CommitRecord) -> bool {
    !record.versions.is_empty() || !record.ended.is_empty() || record.dropped
}

/// The rows that the chunks of a commit hold more of each load than before.
#[derive(Default)]
struct MovedRows(HashMap<i64, i64>);

impl MovedRows {
    fn count(&mut self, chunk: &Chunk, sign: i64) {
        for of in &chunk.loads {
            *self.0.entry(of.load_id).or_default() += sign * of.rows as i64;
        }
    }
}

impl Snapshot {
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
        let record = commit_record(actions)?;
        if let Some(record) = &record {
            next.instants.insert(log_version, record.at);
            next.apply_versions(record)?;
        }
        if record.as_ref().is_none_or(changes_rows) {
            next.changed = log_version;
        }
        let mut moved = MovedRows::default();
        for action in actions {
            if let Action::Remove(remove) = action {
                let removed = next.remove_chunk(&remove.path);
                removed.iter().for_each(|chunk| moved.count(chunk, -1));
            }
        }
        let schema = Schema::new(next.stats_columns.as_ref().clone());
        for action in actions {
            if let Action::Add(add) = action {
                let chunk = Chunk::read(add, &schema, log_version)?;
                moved.count(&chunk, 1);
                next.add_chunk(chunk);
            }
        }
        for version in record.iter().flat_map(|record| &record.versions) {
            version.changes.iter().for_each(|changed| next.count_rows(*changed, &moved));
        }
        if let Some(horizon) = record.and_then(|record| record.horizon) {
            next.forget(horizon);
        }
        Ok(next)
    }

    fn apply_metadata(&mut self, metadata: &Metadata) -> Result<()> {
        let damaged = || Error::corrupt("the metadata of the dataset's table is damaged");
        let json = serde_json::to_value(metadata).map_err(|error| damaged().because(error))?;
        let property = |name: &str| json.get("configuration").and_then(|c| c.get(name)).and_then(Value::as_str);
        self.created_ms = self.created_ms.or_else(|| json.get("createdTime").and_then(Value::as_i64));
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

    fn apply_versions(&mut self, record: &CommitRecord) -> Result<()> {
        for version in &record.versions {
            for replaced in &version.replaces {
                self.end_version(*replaced, version.created_at, EndState::Replaced);
            }
            self.add_version(version)?;
        }
        for ended in &record.ended {
            self.end_version(ended.version, record.at, ended.state);
        }
        if let Some(retention) = record.retention {
            self.retention = retention;
        }
        self.dropped |= record.dropped;
        Ok(())
    }

    fn add_version(&mut self, record: &VersionRecord) -> Result<()> {
        let mut record = record.clone();
        let schema = match &self.last {
            // Most versions have the schema of the one before: then both share one.
            Some(last) if last.record.schema == record.schema => {
                record.schema = Arc::clone(&last.record.schema);
                Arc::clone(&last.schema)
            }
            _ => record.decode_schema()?,
        };
        if self.last.as_ref().is_none_or(|last| !Arc::ptr_eq(&last.schema, &schema)) || self.needs_stats_columns() {
            self.columns = self.columns.joined(&schema, &self.names, &self.remainders)?;
            self.extend_stats_columns();
        }
        let record = Arc::new(record);
        if let Some(key) = &record.idempotency_key {
            self.by_idempotency_key.insert(key.as_str().into(), Arc::clone(&record));
        }
        self.newest = record.version;
        self.totals.versions += 1;
        self.totals.rows += record.rows;
        self.totals.bytes += record.bytes;
        let rows = record.rows;
        let version = Version { record, schema, committed: self.log_version, end: None, rows };
        if version.record.categories.is_some() && !version.record.changes.is_empty() {
            self.amendments.insert(self.newest, version.clone());
        }
        self.last = Some(version.clone());
        self.versions.insert(self.newest, version);
        Ok(())
    }

    /// Whether a load has brought a hidden column that the bounds do not know yet.
    fn needs_stats_columns(&self) -> bool {
        self.columns.iter().any(|column| !column.remainder && self.remainders.contains(&column.names.name))
    }

    fn extend_stats_columns(&mut self) {
        let columns = Arc::make_mut(&mut self.stats_columns);
        for field in self.columns.physical_schema().fields() {
            match columns.iter_mut().find(|known| known.name() == field.name()) {
                Some(known) => known.clone_from(field),
                None => columns.push(Arc::clone(field)),
            }
        }
    }

    fn end_version(&mut self, number: i64, at: DateTime<Utc>, state: EndState) {
        let committed = self.log_version;
        let Some(version) = self.versions.get_mut(&number).filter(|version| version.is_live()) else { return };
        version.end = Some(End { at, committed, state });
        self.totals.versions -= 1;
        self.totals.rows -= version.rows;
        self.totals.bytes -= version.bytes();
    }

    /// Counts what a statement moved in and out of a version.
    fn count_rows(&mut self, number: i64, moved: &MovedRows) {
        let Some(version) = self.versions.get_mut(&number).filter(|version| version.is_live()) else { return };
        let (rows, bytes) = (version.rows, version.bytes());
        version.rows += moved.0.get(&version.record.load_id).copied().unwrap_or_default();
        self.totals.rows += version.rows - rows;
        self.totals.bytes += version.bytes() - bytes;
    }

    fn add_chunk(&mut self, chunk: Chunk) {
        let id = self.next_chunk;
        self.next_chunk += 1;
        for rows in &chunk.loads {
            self.by_load.insert((rows.load_id, id));
        }
        self.live_by_path.insert(chunk.path.as_str().into(), id);
        self.live.insert(id, Arc::new(chunk));
    }

    fn remove_chunk(&mut self, path: &str) -> Option<Arc<Chunk>> {
        let id = self.live_by_path.remove(path)?;
        let mut chunk = self.live.remove(&id)?;
        Arc::make_mut(&mut chunk).removed = Some(self.log_version);
        self.removed.insert(id, Arc::clone(&chunk));
        Some(chunk)
    }

    /// Forgets what a vacuum deletes: chunks that were removed by the commit `horizon` or before, and the versions that
    /// were ended by then.
    fn forget(&mut self, horizon: i64) {
        let gone = |committed: i64| committed <= horizon;
        let chunks: Vec<_> = self.removed.iter().filter(|(_, chunk)| chunk.removed.is_some_and(gone)).collect();
        let chunks: Vec<_> = chunks.into_iter().map(|(id, chunk)| (*id, Arc::clone(chunk))).collect();
        for (id, chunk) in chunks {
            self.removed.remove(&id);
            for rows in &chunk.loads {
                self.by_load.remove(&(rows.load_id, id));
            }
        }
        let ended = self.versions.values().filter(|version| version.end.is_some_and(|end| gone(end.committed)));
        let ended: Vec<i64> = ended.map(|version| version.record.version).collect();
        for number in ended {
            self.versions.remove(&number);
        }
        let is_needed = |version: &Version| version.record.changes.iter().any(|n| self.versions.contains_key(n));
        let needed = self.amendments.iter().filter(|(_, version)| is_needed(version));
        self.amendments = needed.map(|(number, version)| (*number, version.clone())).collect();
        if let Some(now) = self.newest_instant() {
            let keys = self.by_idempotency_key.iter().filter(|(_, record)| {
                !self.versions.contains_key(&record.version) && now - record.created_at > IDEMPOTENCY_KEY_LIFE
            });
            let keys: Vec<Arc<str>> = keys.map(|(key, _)| Arc::clone(key)).collect();
            for key in keys {
                self.by_idempotency_key.remove(&key);
            }
        }
        self.horizon = self.instants.get(&horizon).copied().max(self.horizon);
        self.instants = self.instants.split(&horizon).1;
        if let Some(at) = self.horizon {
            self.instants.insert(horizon, at);
        }
    }
}
