//! The commit: where loads become versions. The only place that writes to a Delta log.
//!
//! Loads of one dataset that wait at the same time go into one Delta commit (group commit), in which they get their
//! version numbers. The commit itself is one put-if-absent of the next log entry, and is the only point at which
//! anything becomes visible. After any answer but a plain success the log is read and searched for the commit's own id:
//! a lost reply, or a retry that met its own first try, must neither lose nor double a version.
//!
//! Order: chunks durable → log entry → version store → answer. A crash after the log entry leaves the version store
//! behind; opening the dataset repairs it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, TimeDelta, Utc};
use deltalake::kernel::Action;
use tokio::sync::oneshot;

use super::dataset::Dataset;
use super::delta::{Attempt, add_action, commit_bytes, remove_action, table_actions};
use super::encode::WrittenChunk;
use super::keys::{ColumnsKeys, effective_keys};
use super::record::{COMMIT_KEY, CommitRecord, FORMAT_VERSION, VersionRecord};
use super::schema::{ColumnNames, Columns, REMAINDER_PREFIX};
use super::snapshot::Snapshot;
use crate::clock;
use crate::error::{Error, Kind, Result};

/// How often a commit is tried before the caller is told to retry.
const MAX_ATTEMPTS: u32 = 50;
/// The longest pause between two tries; the first is a thousandth of it.
const MAX_PAUSE: Duration = Duration::from_millis(1_000);
/// Loads that go into one commit at most, so that its size stays bounded.
const MAX_GROUP: usize = 64;

/// A load whose chunks are in storage.
pub(super) struct PendingLoad {
    /// Its record, but for what the commit decides.
    pub record: VersionRecord,
    /// Its logical schema.
    pub schema: SchemaRef,
    /// What its columns are called in its chunks.
    pub names: Vec<ColumnNames>,
    /// The keys its chunks were split by.
    pub effective_keys: ColumnsKeys,
    /// Its chunks, in order.
    pub chunks: Vec<WrittenChunk>,
}

/// A committed load.
#[derive(Debug, Clone)]
pub struct LoadOutcome {
    /// Its record.
    pub record: Arc<VersionRecord>,
    /// The keys of the dataset.
    pub columns_keys: ColumnsKeys,
    /// The state right after the commit.
    pub snapshot: Arc<Snapshot>,
    /// Whether an earlier load with the same idempotency key had made this version.
    pub duplicate: bool,
}

/// A load in the queue, and who waits for it.
pub(super) struct Waiting {
    load: PendingLoad,
    answer: oneshot::Sender<Result<LoadOutcome>>,
}

/// The commit being built for a group of loads.
struct Draft {
    actions: Vec<Action>,
    versions: Vec<VersionRecord>,
    columns: Columns,
    keys: Option<ColumnsKeys>,
    newest: i64,
    last_created: Option<DateTime<Utc>>,
    schema_changed: bool,
}

impl Dataset {
    /// Commits a load, together with others that wait. Survives the caller's end: once begun, it is carried through.
    pub(super) async fn commit(self: Arc<Self>, load: PendingLoad) -> Result<LoadOutcome> {
        let (answer, outcome) = oneshot::channel();
        self.queue().push(Waiting { load, answer });
        let dataset = Arc::clone(&self);
        tokio::spawn(async move {
            // Whoever gets the lock commits for all that wait; the others then find their answers given.
            let _turn = dataset.commit_turn().await;
            let group = dataset.queue().take(MAX_GROUP);
            if !group.is_empty() {
                dataset.commit_group(group).await;
            }
        });
        outcome.await.map_err(|error| {
            Error::internal("a commit broke off; repeat it with the same idempotency key").because(error)
        })?
    }

    async fn commit_group(&self, mut group: Vec<Waiting>) {
        while !group.is_empty() {
            // Repeats of a load that is in the group itself wait for its outcome.
            let repeats = take_repeats(&mut group);
            self.commit_distinct(group).await;
            group = repeats;
        }
    }

    async fn commit_distinct(&self, mut group: Vec<Waiting>) {
        for attempt in 0..MAX_ATTEMPTS {
            let snapshot = match self.refresh().await {
                Ok(snapshot) => snapshot,
                Err(error) => return answer_all(group, &error),
            };
            let (draft, rest) = Draft::build(&snapshot, group);
            group = rest;
            if group.is_empty() {
                return;
            }
            match self.try_commit(&snapshot, draft).await {
                Ok(Some(committed)) => return self.answer_committed(group, committed).await,
                Ok(None) => tokio::time::sleep(pause(attempt)).await,
                Err(error) => return answer_all(group, &error),
            }
        }
        answer_all(group, &Error::conflict("too many other writers were first; nothing was stored, retry"));
    }

    /// Tries to write the next log entry; `None` when another commit was first, or surely none was written.
    async fn try_commit(&self, snapshot: &Snapshot, draft: Draft) -> Result<Option<Arc<Snapshot>>> {
        let record =
            CommitRecord { format_version: FORMAT_VERSION, commit_id: clock::new_ulid(), versions: draft.versions };
        let mut actions = Vec::with_capacity(draft.actions.len() + 2);
        if draft.schema_changed {
            let created = snapshot.versions.first().map(|version| version.record.created_at);
            let created_ms = created.unwrap_or_else(clock::now).timestamp_millis();
            actions.extend(table_actions(self.table_id(), &draft.columns, draft.keys.as_ref(), created_ms)?);
        }
        actions.extend(draft.actions);
        let bytes = commit_bytes(actions, &record)?;
        let next = snapshot.log_version + 1;
        let unclear = match self.log().write(next, bytes).await? {
            Attempt::Committed => None,
            Attempt::Unclear(error) => Some(error),
        };
        // Reading back what was written is also how the new state comes about.
        let found = match self.log().read(next).await {
            Ok(found) => found,
            Err(error) => return Err(unknown_outcome(unclear.unwrap_or(error))),
        };
        match (found, unclear) {
            (Some(actions), _) if is_commit(&actions, &record.commit_id) => {
                let applied = Arc::new(snapshot.apply(next, &actions)?);
                self.install(Arc::clone(&applied));
                Ok(Some(applied))
            }
            (Some(_), _) => Ok(None),
            (None, Some(error)) if error.kind() == Kind::Unavailable => Err(unknown_outcome(error)),
            (None, Some(error)) if error.kind() == Kind::Exhausted => Err(error),
            (None, _) => Ok(None),
        }
    }

    async fn answer_committed(&self, group: Vec<Waiting>, snapshot: Arc<Snapshot>) {
        // The log is the truth: a version store that is away now is repaired when the dataset is next opened.
        if let Err(error) = self.advance_head(&snapshot).await {
            tracing::warn!(%error, "the version store is behind the log");
        }
        for waiting in group {
            let load_id = waiting.load.record.load_id;
            let version = snapshot.versions.iter().rev().find(|version| version.record.load_id == load_id);
            let outcome = version
                .map(|version| LoadOutcome {
                    record: Arc::clone(&version.record),
                    columns_keys: snapshot.keys.clone().unwrap_or_default(),
                    snapshot: Arc::clone(&snapshot),
                    duplicate: false,
                })
                .ok_or_else(|| Error::internal("a committed load is not in the log"));
            // A caller that went away finds its version by its idempotency key.
            let _ = waiting.answer.send(outcome);
        }
    }
}

fn is_commit(actions: &[Action], commit_id: &str) -> bool {
    actions.iter().any(|action| match action {
        Action::CommitInfo(info) => {
            info.info.get(COMMIT_KEY).and_then(|record| record.get("commit_id")?.as_str()) == Some(commit_id)
        }
        _ => false,
    })
}

fn unknown_outcome(cause: Error) -> Error {
    Error::unavailable(
        "the storage did not say whether the load was committed; repeat it with the same idempotency key, or look at \
         the dataset's versions",
    )
    .because(cause)
}

/// Takes out of a group the loads whose idempotency key an earlier one of it has.
fn take_repeats(group: &mut Vec<Waiting>) -> Vec<Waiting> {
    let mut seen = HashSet::new();
    let is_repeat =
        |waiting: &mut Waiting| waiting.load.record.idempotency_key.clone().is_some_and(|key| !seen.insert(key));
    group.extract_if(.., is_repeat).collect()
}

fn pause(attempt: u32) -> Duration {
    clock::jitter((MAX_PAUSE / 1_000 * 2u32.saturating_pow(attempt)).min(MAX_PAUSE))
}

fn answer_all(group: Vec<Waiting>, error: &Error) {
    tracing::warn!(%error, cause = ?std::error::Error::source(error), "a commit failed");
    for waiting in group {
        let _ = waiting.answer.send(Err(error.duplicate()));
    }
}

impl Draft {
    /// Builds the commit on top of `snapshot`. Loads that it cannot take, or that are repeats, are answered here.
    fn build(snapshot: &Arc<Snapshot>, group: Vec<Waiting>) -> (Self, Vec<Waiting>) {
        let mut draft = Self {
            actions: Vec::new(),
            versions: Vec::new(),
            columns: snapshot.columns.clone(),
            keys: snapshot.keys.clone(),
            newest: snapshot.newest(),
            last_created: snapshot.versions.last().map(|version| version.record.created_at),
            schema_changed: !snapshot.exists(),
        };
        let mut taken: Vec<Waiting> = Vec::new();
        for waiting in group {
            let key = waiting.load.record.idempotency_key.as_deref();
            if let Some(known) = key.and_then(|key| snapshot.version_of_key(key)) {
                let _ = waiting.answer.send(repeat_outcome(&known.record, &waiting.load, snapshot));
            } else {
                match draft.add(snapshot, &waiting.load) {
                    Ok(()) => taken.push(waiting),
                    Err(error) => drop(waiting.answer.send(Err(error))),
                }
            }
        }
        (draft, taken)
    }

    fn add(&mut self, snapshot: &Snapshot, load: &PendingLoad) -> Result<()> {
        if load.record.rows > 0 && load.chunks.is_empty() {
            return Err(Error::conflict("the version this load repeats is gone meanwhile; retry"));
        }
        let effective = effective_keys(self.keys.as_ref(), &load.record.columns_keys)?;
        if effective != load.effective_keys {
            return Err(Error::conflict("another load fixed the dataset's keys meanwhile; retry"));
        }
        let remainders = remainder_columns(load);
        let columns = self.columns.joined(&load.schema, &snapshot.names, &remainders)?;
        for names in &load.names {
            if columns.find(&names.name).is_none_or(|column| column.names.physical != names.physical) {
                return Err(Error::conflict("another load added a column of a similar name meanwhile; retry"));
            }
        }
        let keys = (self.keys.is_some() || !effective.is_empty()).then_some(effective);
        self.schema_changed |= columns.physical_schema() != self.columns.physical_schema()
            || columns.names() != self.columns.names()
            || keys != self.keys;
        self.columns = columns;
        self.keys = keys;
        self.newest += 1;
        let mut record = load.record.clone();
        record.version = self.newest;
        record.created_at = next_instant(self.last_created);
        self.last_created = Some(record.created_at);
        let now_ms = record.created_at.timestamp_millis();
        if record.keep_last {
            self.replace_earlier(snapshot, &mut record, now_ms);
        }
        for (number, chunk) in load.chunks.iter().enumerate() {
            self.actions.push(add_action(chunk, record.load_id, number + 1, now_ms));
        }
        self.versions.push(record);
        Ok(())
    }

    /// Makes `record` the only live version of its key, among those in the log and those of this commit.
    fn replace_earlier(&mut self, snapshot: &Snapshot, record: &mut VersionRecord, now_ms: i64) {
        let of_key: Vec<_> =
            snapshot.live_versions().filter(|v| v.record.external_key == record.external_key).collect();
        let loads: HashSet<i64> = of_key.iter().map(|version| version.record.load_id).collect();
        for chunk in snapshot.live_chunks().filter(|chunk| loads.contains(&chunk.load_id)) {
            let already = |action: &Action| matches!(action, Action::Remove(remove) if remove.path == chunk.path);
            if !self.actions.iter().any(already) {
                self.actions.push(remove_action(chunk, now_ms));
            }
        }
        record.replaces = of_key.iter().map(|version| version.record.version).collect();
        let earlier: Vec<(i64, i64)> = self
            .versions
            .iter()
            .filter(|version| version.external_key == record.external_key)
            .map(|version| (version.version, version.load_id))
            .collect();
        record.replaces.extend(earlier.iter().map(|(version, _)| *version));
        // Chunks added and replaced within one commit never become part of the table.
        let tag = |load: i64| Some(Some(load.to_string()));
        self.actions.retain(|action| match action {
            Action::Add(add) => {
                let load = add.tags.as_ref().and_then(|tags| tags.get(super::delta::LOAD_TAG).cloned());
                !earlier.iter().any(|(_, id)| load == tag(*id))
            }
            _ => true,
        });
    }
}

/// The clock, or just after the version before: instants of a dataset's versions strictly increase.
fn next_instant(last: Option<DateTime<Utc>>) -> DateTime<Utc> {
    let now = clock::now();
    last.map_or(now, |last| now.max(last + TimeDelta::microseconds(1)))
}

fn remainder_columns(load: &PendingLoad) -> HashSet<String> {
    let physical: HashSet<&str> = load
        .chunks
        .iter()
        .flat_map(|chunk| &chunk.remainders)
        .filter_map(|name| name.strip_prefix(REMAINDER_PREFIX))
        .collect();
    let names = load.names.iter().filter(|names| physical.contains(names.physical.as_str()));
    names.map(|names| names.name.clone()).collect()
}

/// The first load's answer to a repeat of it.
///
/// # Errors
/// [`Kind::Invalid`] when the repeat differs in options or content.
fn repeat_outcome(known: &Arc<VersionRecord>, load: &PendingLoad, snapshot: &Arc<Snapshot>) -> Result<LoadOutcome> {
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
        return Ok(LoadOutcome {
            record: Arc::clone(known),
            columns_keys: snapshot.keys.clone().unwrap_or_default(),
            snapshot: Arc::clone(snapshot),
            duplicate: true,
        });
    };
    Err(Error::invalid(format!(
        "the idempotency_key '{key}' was used for version {} and this load differs from it in {differs}; use a new key \
         for a new load",
        known.version
    )))
}
