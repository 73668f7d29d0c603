//! The next commit, as it is put together from the changes that wait.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use chrono::{DateTime, TimeDelta, Utc};
use deltalake::kernel::Action;
use deltalake::protocol::{DeltaOperation, SaveMode};

use super::chunk::Chunk;
use super::commit::{Change, Done, PendingLoad, PendingMerge, PendingRows, Waiting};
use super::delta::{RowsChange, add_action, remove_action, table_actions};
use super::encode::WrittenChunk;
use super::keys::{ColumnsKeys, effective_keys};
use super::record::{CommitRecord, EndState, EndedVersion, Retention, VersionRecord, WriteKind};
use super::rewrite::Affected;
use super::schema::{Columns, REMAINDER_PREFIX};
use super::snapshot::{Snapshot, Version};
use crate::clock;
use crate::error::{Error, Result};
use crate::versions::DatasetRecord;

/// A commit that takes some of the changes that wait.
pub(super) struct Round {
    /// The commit.
    pub draft: Draft,
    /// Those that are in it.
    pub taken: Vec<Waiting>,
    /// Those that must have a commit of their own, after it.
    pub later: Vec<Waiting>,
}

/// The commit being built.
pub(super) struct Draft {
    /// The columns after it.
    pub columns: Columns,
    record: CommitRecord,
    keys: Option<ColumnsKeys>,
    newest: i64,
    adds: Vec<Action>,
    merge: Option<PendingMerge>,
    /// What a statement makes of rows that there are.
    rows: Option<Replaced>,
    /// Versions that were live and no longer are, by the loads that made them.
    ending: HashMap<i64, i64>,
    /// Whether the table's schema or properties change.
    table_changes: bool,
    /// Whether it is a commit of one change that is no load, beside which there can be no other.
    is_alone: bool,
    /// Whether a column is stored in another type from now on.
    types_change: bool,
}

/// Chunks of which a statement changed rows: the paths of the old ones, and the actions that add the new.
struct Replaced {
    removes: Vec<String>,
    adds: Vec<Action>,
}

/// What becomes of a change that waits.
enum Fit {
    Taken,
    /// It must come after the changes that were taken.
    Later,
    /// It is already done, or cannot be.
    Answered(Result<Done>),
}

impl Draft {
    /// Builds the commit on top of `snapshot`. Changes that it cannot take, or that are repeats, are answered here.
    /// The first that is not is always taken.
    pub(super) fn build(snapshot: &Arc<Snapshot>, waiting: Vec<Waiting>) -> Round {
        let mut draft = Self {
            columns: snapshot.columns.clone(),
            record: CommitRecord::new(next_instant(snapshot.newest_instant())),
            keys: snapshot.keys.clone(),
            newest: snapshot.newest(),
            adds: Vec::new(),
            merge: None,
            rows: None,
            ending: HashMap::new(),
            table_changes: snapshot.newest() == 0,
            types_change: false,
            is_alone: false,
        };
        let (mut taken, mut later): (Vec<Waiting>, Vec<Waiting>) = (Vec::new(), Vec::new());
        for waiting in waiting {
            if !later.is_empty() {
                later.push(waiting);
                continue;
            }
            match draft.fit(snapshot, &waiting.change, taken.is_empty()) {
                Fit::Taken => taken.push(waiting),
                Fit::Later => later.push(waiting),
                Fit::Answered(outcome) => waiting.answer(outcome),
            }
        }
        let retention = draft.record.retention.unwrap_or(snapshot.retention);
        if draft.may_expire() && !taken.is_empty() {
            draft.expire(snapshot, retention);
        }
        Round { draft, taken, later }
    }

    fn fit(&mut self, snapshot: &Arc<Snapshot>, change: &Change, is_first: bool) -> Fit {
        if snapshot.dropped {
            return Fit::Answered(Err(match change {
                Change::Load(_) => Error::conflict("the dataset was deleted meanwhile; nothing was stored, retry"),
                _ => Error::not_found("the dataset was deleted meanwhile"),
            }));
        }
        // A load beside a merge might end versions whose rows the merged chunks still hold.
        if self.is_alone {
            return Fit::Later;
        }
        if let Change::Load(load) = change {
            return self.fit_load(snapshot, load, is_first);
        }
        if !is_first {
            return Fit::Later;
        }
        match self.fit_other(snapshot, change) {
            Ok(true) => {
                self.is_alone = true;
                Fit::Taken
            }
            Ok(false) => {
                Fit::Answered(Ok(Done { snapshot: Arc::clone(snapshot), expired: Vec::new(), repeated: None }))
            }
            Err(error) => Fit::Answered(Err(error)),
        }
    }

    /// Takes a change that is no load; `false` when there is nothing to do.
    fn fit_other(&mut self, snapshot: &Snapshot, change: &Change) -> Result<bool> {
        match change {
            Change::Load(_) => return Err(Error::internal("a load was taken for another change")),
            Change::DeleteVersion(number) => {
                let version = snapshot.version(*number).filter(|version| version.is_live()).ok_or_else(|| {
                    Error::not_found(format!("there is no live version {number}; list_versions lists what there is"))
                })?;
                self.end(version, EndState::Deleted);
            }
            Change::SetRetention(retention) => self.record.retention = Some(*retention),
            Change::Expire => return Ok(self.would_expire(snapshot)),
            Change::Merge(merge) => self.fit_merge(snapshot, merge)?,
            Change::Rows(rows) => self.fit_rows(snapshot, rows)?,
            Change::Vacuum(horizon) => self.record.horizon = Some(*horizon),
            Change::Drop => {
                self.record.dropped = true;
                snapshot.live_versions().for_each(|version| self.end(version, EndState::Deleted));
            }
        }
        Ok(true)
    }

    fn end(&mut self, version: &Version, state: EndState) {
        let number = version.record.version;
        if self.ending.insert(version.record.load_id, number).is_none() {
            self.record.ended.push(EndedVersion { version: number, state });
        }
    }

    fn fit_merge(&mut self, snapshot: &Snapshot, merge: &PendingMerge) -> Result<()> {
        let gone = |path: &String| snapshot.live_chunk(path).is_none();
        if merge.removes.iter().any(gone) || !is_stored_so(&merge.stored, &snapshot.columns) {
            return Err(Error::conflict("a chunk that was to be merged was replaced meanwhile"));
        }
        self.merge = Some(PendingMerge {
            removes: merge.removes.clone(),
            stored: Arc::clone(&merge.stored),
            adds: merge.adds.clone(),
        });
        Ok(())
    }

    /// Takes what a statement made of rows, unless others have changed rows since the state it was computed on.
    fn fit_rows(&mut self, snapshot: &Snapshot, rows: &PendingRows) -> Result<()> {
        let gone = |path: &String| snapshot.live_chunk(path).is_none();
        if snapshot.changed > rows.base || rows.removes.iter().any(gone) {
            return Err(Error::conflict("others changed the dataset meanwhile; nothing was stored, retry"));
        }
        if !self.add_load(snapshot, &rows.load, &remainder_columns(&rows.load, &rows.adds), true)? {
            return Err(Error::internal("the change of a statement is not the first of its commit"));
        }
        if !is_stored_so(&rows.stored, &self.columns) {
            return Err(Error::conflict("another load changed the type of a column meanwhile; retry"));
        }
        let now_ms = self.record.at.timestamp_millis();
        let add = |(chunk, number): &(WrittenChunk, i64)| {
            let number = usize::try_from(*number).ok().filter(|number| *number > 0);
            add_action(chunk, number, now_ms, RowsChange::Yes)
        };
        let adds = rows.adds.iter().map(add).collect::<Result<_>>()?;
        self.rows = Some(Replaced { removes: rows.removes.clone(), adds });
        Ok(())
    }

    fn fit_load(&mut self, snapshot: &Arc<Snapshot>, load: &PendingLoad, is_first: bool) -> Fit {
        let record = &load.record;
        if load.must_create && (snapshot.newest() > 0 || !self.record.versions.is_empty()) {
            let lost = "another call made a dataset of this name meanwhile; nothing was stored";
            return Fit::Answered(Err(Error::already_exists(lost)));
        }
        if let Some(key) = &record.idempotency_key {
            if let Some(known) = snapshot.record_of_key(key) {
                return Fit::Answered(repeat_outcome(known, load, snapshot));
            }
            if self.record.versions.iter().any(|version| version.idempotency_key.as_ref() == Some(key)) {
                return Fit::Later;
            }
        }
        // Versions that come and go within one commit would leave instants at which nothing can be read.
        let may_replace = record.keep_last || !snapshot.retention.is_empty();
        let same_key = |version: &VersionRecord| version.external_key == record.external_key;
        if may_replace && self.record.versions.iter().any(same_key) {
            return Fit::Later;
        }
        match self.add_load(snapshot, load, &remainder_columns(load, &[]), is_first) {
            Ok(true) => Fit::Taken,
            Ok(false) => Fit::Later,
            Err(error) => Fit::Answered(Err(error)),
        }
    }

    /// Adds a load; `false` when it must be the first of a commit.
    fn add_load(
        &mut self,
        snapshot: &Snapshot,
        load: &PendingLoad,
        remainders: &HashSet<String>,
        is_first: bool,
    ) -> Result<bool> {
        if load.record.rows > 0 && load.chunks.is_empty() {
            return Err(Error::conflict("the version this load repeats is gone meanwhile; retry"));
        }
        let effective = effective_keys(self.keys.as_ref(), &load.record.columns_keys)?;
        if effective != load.effective_keys {
            return Err(Error::conflict("another load fixed the dataset's keys meanwhile; retry"));
        }
        let columns = self.columns.joined(&load.schema, &snapshot.names, remainders)?;
        for names in &load.names {
            if columns.find(&names.name).is_none_or(|column| column.names.physical != names.physical) {
                return Err(Error::conflict("another load added a column of a similar name meanwhile; retry"));
            }
        }
        if !is_stored_so(&load.stored, &columns) {
            return Err(Error::conflict("another load changed the type of a column meanwhile; retry"));
        }
        // What changes how columns are stored has a commit of its own, so that no other version is of two minds.
        let types_change = !is_stored_so(&self.columns.physical_schema(), &columns);
        if self.types_change || (types_change && !is_first) {
            return Ok(false);
        }
        self.types_change |= types_change;
        let keys = (self.keys.is_some() || !effective.is_empty()).then_some(effective);
        self.table_changes |= columns.physical_schema() != self.columns.physical_schema()
            || columns.names() != self.columns.names()
            || keys != self.keys;
        self.columns = columns;
        self.keys = keys;
        self.newest += 1;
        let mut record = load.record.clone();
        record.version = self.newest;
        if let Some(earlier) = self.record.versions.last() {
            self.record.at = next_instant(Some(earlier.created_at));
        }
        record.created_at = self.record.at;
        if record.keep_last {
            self.replace_earlier(snapshot, &mut record);
        }
        let now_ms = record.created_at.timestamp_millis();
        for (number, chunk) in load.chunks.iter().enumerate() {
            self.adds.push(add_action(chunk, Some(number + 1), now_ms, RowsChange::Yes)?);
        }
        self.record.versions.push(record);
        Ok(true)
    }

    /// Makes `record` the only live version of its key.
    fn replace_earlier(&mut self, snapshot: &Snapshot, record: &mut VersionRecord) {
        for version in snapshot.live_versions().filter(|v| v.record.external_key == record.external_key) {
            record.replaces.push(version.record.version);
            self.ending.insert(version.record.load_id, version.record.version);
        }
    }

    /// Whether versions may be ended beside what it does: not where the same chunks are merged or changed.
    fn may_expire(&self) -> bool {
        self.merge.is_none() && self.rows.is_none() && self.record.horizon.is_none() && !self.record.dropped
    }

    /// Ends what the retention does not keep.
    fn expire(&mut self, snapshot: &Snapshot, retention: Retention) {
        for version in expired(snapshot, retention, self.record.at, &self.record.versions) {
            if !self.ending.contains_key(&version.record.load_id) {
                self.end(&version, EndState::Expired);
            }
        }
    }

    fn would_expire(&self, snapshot: &Snapshot) -> bool {
        !expired(snapshot, snapshot.retention, self.record.at, &[]).is_empty()
    }

    /// What other programs call it.
    pub(super) fn operation(&self) -> DeltaOperation {
        if self.merge.is_some() {
            return DeltaOperation::Optimize { predicate: None, target_size: 0 };
        }
        if self.rows.is_some() {
            return operation_of(self.record.versions.first().and_then(|version| version.statement));
        }
        if self.record.versions.is_empty() && !self.record.ended.is_empty() {
            return DeltaOperation::Delete { predicate: None };
        }
        DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None }
    }

    /// The live chunks that hold rows which are no longer live, or that are stored in another form from now on.
    ///
    /// # Errors
    /// Never, as long as the snapshot is whole.
    pub(super) fn affected(&self, snapshot: &Snapshot) -> Result<Vec<Affected>> {
        let mut affected: BTreeMap<String, Affected> = BTreeMap::new();
        let mut add = |chunk: &Arc<Chunk>| {
            let kept = chunk.loads.iter().map(|rows| rows.load_id).filter(|load| !self.ending.contains_key(load));
            let kept = kept.collect();
            affected.entry(chunk.path.clone()).or_insert(Affected { chunk: Arc::clone(chunk), kept });
        };
        if self.types_change {
            snapshot.live_chunks().for_each(&mut add);
        }
        for load in self.ending.keys() {
            snapshot.chunks_of_load(*load, snapshot.log_version).for_each(&mut add);
        }
        Ok(affected.into_values().collect())
    }

    /// The commit's record and actions, in which `replacements` stand for the affected chunks.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when something in it cannot be written.
    pub(super) fn finish(
        self,
        of: &DatasetRecord,
        snapshot: &Snapshot,
        replacements: &[(Arc<Chunk>, Option<WrittenChunk>)],
    ) -> Result<(CommitRecord, Vec<Action>)> {
        let now_ms = self.record.at.timestamp_millis();
        let mut actions = Vec::new();
        if self.table_changes {
            let created_ms = snapshot.created_ms.unwrap_or(now_ms);
            actions.extend(table_actions(of, &self.columns, self.keys.as_ref(), created_ms)?);
        }
        for (chunk, replacement) in replacements {
            // Stored in wider types they are the same rows.
            let is_same = replacement.as_ref().is_some_and(|written| written.loads.as_slice() == chunk.loads.as_ref());
            let change = if is_same { RowsChange::No } else { RowsChange::Yes };
            actions.push(remove_action(chunk, now_ms, change));
            if let Some(written) = replacement {
                let number = usize::try_from(chunk.number).ok().filter(|number| *number > 0);
                actions.push(add_action(written, number, now_ms, change)?);
            }
        }
        if let Some(merge) = &self.merge {
            for path in &merge.removes {
                let chunk = snapshot.live_chunk(path).ok_or_else(|| Error::internal("a merged chunk is gone"))?;
                actions.push(remove_action(chunk, now_ms, RowsChange::No));
            }
            for chunk in &merge.adds {
                actions.push(add_action(chunk, None, now_ms, RowsChange::No)?);
            }
        }
        if let Some(rows) = self.rows {
            for path in &rows.removes {
                let chunk = snapshot.live_chunk(path).ok_or_else(|| Error::internal("a changed chunk is gone"))?;
                actions.push(remove_action(chunk, now_ms, RowsChange::Yes));
            }
            actions.extend(rows.adds);
        }
        actions.extend(self.adds);
        Ok((self.record, actions))
    }
}

/// What other programs call a statement.
fn operation_of(statement: Option<WriteKind>) -> DeltaOperation {
    match statement {
        Some(WriteKind::Delete) => DeltaOperation::Delete { predicate: None },
        Some(WriteKind::Merge) => DeltaOperation::Merge {
            predicate: None,
            merge_predicate: None,
            matched_predicates: Vec::new(),
            not_matched_predicates: Vec::new(),
            not_matched_by_source_predicates: Vec::new(),
        },
        _ => DeltaOperation::Update { predicate: None },
    }
}

/// Whether chunks of the form `stored` fit the columns: a column that they have is of the type it is to have.
fn is_stored_so(stored: &Schema, columns: &Columns) -> bool {
    let wanted: SchemaRef = columns.physical_schema();
    let fits = |field: &arrow::datatypes::FieldRef| {
        wanted.field_with_name(field.name()).map_or(true, |wanted| wanted.data_type() == field.data_type())
    };
    stored.fields().iter().all(fits)
}

/// The live versions that a retention does not keep at `now`, when `new` ones are added.
fn expired(snapshot: &Snapshot, retention: Retention, now: DateTime<Utc>, new: &[VersionRecord]) -> Vec<Version> {
    if retention.is_empty() {
        return Vec::new();
    }
    let mut newer: HashMap<&str, i64> = HashMap::new();
    for record in new.iter().filter(|record| record.brings_rows()) {
        *newer.entry(&record.external_key).or_default() += 1;
    }
    let replaced: HashSet<i64> = new.iter().flat_map(|record| record.replaces.iter().copied()).collect();
    let oldest = retention.keep_seconds.and_then(TimeDelta::try_seconds).and_then(|age| now.checked_sub_signed(age));
    let mut gone = Vec::new();
    for version in snapshot.live_versions().rev().filter(|version| !replaced.contains(&version.record.version)) {
        let newer = newer.entry(&version.record.external_key).or_default();
        // A version without rows takes the place of none that has some.
        *newer += i64::from(version.record.brings_rows());
        let spare = i64::from(!version.record.brings_rows());
        let by_count = retention.keep_versions.is_some_and(|most| *newer + spare <= most);
        let by_age = retention.keep_seconds.is_some() && oldest.is_none_or(|oldest| version.record.created_at > oldest);
        if !by_count && !by_age {
            gone.push(version.clone());
        }
    }
    gone
}

/// The clock, or just after the instant before: instants of a dataset's commits strictly increase.
fn next_instant(last: Option<DateTime<Utc>>) -> DateTime<Utc> {
    let now = clock::now();
    last.map_or(now, |last| now.max(last + TimeDelta::microseconds(1)))
}

fn remainder_columns(load: &PendingLoad, changed: &[(WrittenChunk, i64)]) -> HashSet<String> {
    let chunks = load.chunks.iter().chain(changed.iter().map(|(chunk, _)| chunk));
    let physical: HashSet<&str> =
        chunks.flat_map(|chunk| &chunk.remainders).filter_map(|name| name.strip_prefix(REMAINDER_PREFIX)).collect();
    let names = load.names.iter().filter(|names| physical.contains(names.physical.as_str()));
    names.map(|names| names.name.clone()).collect()
}

/// The first load's answer to a repeat of it.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when the repeat differs in options or content.
fn repeat_outcome(known: &Arc<VersionRecord>, load: &PendingLoad, snapshot: &Arc<Snapshot>) -> Result<Done> {
    let (new, key) = (&load.record, known.idempotency_key.as_deref().unwrap_or_default());
    let differs = if known.digest != new.digest {
        "its rows or schema"
    } else if known.external_key != new.external_key {
        "external_key"
    } else if known.keep_last != new.keep_last {
        "keep_last"
    } else if known.columns_keys != new.columns_keys {
        "columns_keys"
    } else {
        let (snapshot, repeated) = (Arc::clone(snapshot), Some(Arc::clone(known)));
        return Ok(Done { snapshot, expired: Vec::new(), repeated });
    };
    Err(Error::invalid(format!(
        "the idempotency_key '{key}' was used for version {} and this load differs from it in {differs}; use a new key \
         for a new load",
        known.version
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(number: i64) -> Change {
        let record = serde_json::from_value(json!({
            "version": 0, "load_id": number, "external_key": "k", "created_at": clock::now(), "created_by": "ann",
            "rows": 0, "bytes": 0, "chunks": 0, "keep_last": false, "digest": "", "schema": "",
        }));
        let (schema, stored) = (Arc::new(Schema::empty()), Arc::new(Schema::empty()));
        let (names, effective_keys, chunks) = (Vec::new(), ColumnsKeys::new(), Vec::new());
        let (record, must_create) = (record.unwrap(), false);
        Change::Load(Box::new(PendingLoad { record, schema, stored, names, effective_keys, chunks, must_create }))
    }

    fn taken(changes: Vec<Change>) -> (usize, usize) {
        let (waiting, _answers): (Vec<_>, Vec<_>) = changes.into_iter().map(Waiting::new).unzip();
        let round = Draft::build(&Arc::new(Snapshot::default()), waiting);
        (round.taken.len(), round.later.len())
    }

    #[test]
    fn loads_share_a_commit_and_every_other_change_has_its_own() {
        let merge =
            || Change::Merge(PendingMerge { removes: Vec::new(), stored: Arc::new(Schema::empty()), adds: Vec::new() });
        assert_eq!(taken(vec![load(1), load(2)]), (2, 0));
        assert_eq!(taken(vec![merge(), load(1)]), (1, 1), "a load may end versions that the merged chunks hold");
        assert_eq!(taken(vec![load(1), merge(), load(2)]), (1, 2));
        assert_eq!(taken(vec![Change::SetRetention(Retention::default()), load(1)]), (1, 1));
    }
}
