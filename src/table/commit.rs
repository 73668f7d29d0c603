//! The commit: where changes of a dataset become visible. The only place that writes to a Delta log.
//!
//! Changes of one dataset wait in a queue. Loads that wait at the same time go into one Delta commit (group commit), in
//! which they get their version numbers; every other change has a commit of its own. The commit itself is one
//! put-if-absent of the next log entry, and is the only point at which anything becomes visible. After any answer but a
//! plain success the log is read and searched for the commit's own id: a lost reply, or a retry that met its own first
//! try, must neither lose nor double a version.
//!
//! Order: chunks durable → log entry → version store → answer. A crash after the log entry leaves the version store
//! behind; opening the dataset repairs it.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use deltalake::kernel::Action;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::dataset::Dataset;
use super::delta::{Attempt, commit_bytes};
use super::draft::{Draft, Round};
use super::encode::WrittenChunk;
use super::keys::ColumnsKeys;
use super::record::{COMMIT_KEY, Retention, VersionRecord};
use super::rewrite::Rewritten;
use super::schema::ColumnNames;
use super::snapshot::Snapshot;
use crate::clock;
use crate::error::{Error, Kind, Result};

/// How often a commit is tried before the caller is told to retry.
const MAX_ATTEMPTS: u32 = 50;
/// The longest pause between two tries; the first is a thousandth of it.
const MAX_PAUSE: Duration = Duration::from_millis(1_000);
/// Loads that go into one commit at most, so that its size stays bounded.
const MAX_GROUP: usize = 64;

/// What may happen to a dataset.
pub(super) enum Change {
    /// A new version.
    Load(Box<PendingLoad>),
    /// The end of the version of this number.
    DeleteVersion(i64),
    /// Another retention.
    SetRetention(Retention),
    /// The end of versions that have become too old for the retention.
    Expire,
    /// The same rows in other chunks.
    Merge(PendingMerge),
    /// Other rows in place of some.
    Rows(Box<PendingRows>),
    /// What was removed up to this commit may be deleted.
    Vacuum(i64),
    /// The end of the dataset.
    Drop,
}

/// A load whose chunks are in storage.
pub(super) struct PendingLoad {
    /// Its record, but for what the commit decides.
    pub record: VersionRecord,
    /// Its logical schema.
    pub schema: SchemaRef,
    /// The form its chunks are stored in.
    pub stored: SchemaRef,
    /// What its columns are called in its chunks.
    pub names: Vec<ColumnNames>,
    /// The keys its chunks were split by.
    pub effective_keys: ColumnsKeys,
    /// Its chunks, in order.
    pub chunks: Vec<WrittenChunk>,
    /// Whether it must be the first of its dataset.
    pub must_create: bool,
}

/// What a statement made of rows; its chunks are in storage.
pub(super) struct PendingRows {
    /// The commit whose state it was computed on.
    pub base: i64,
    /// The paths of the chunks of which it changed rows.
    pub removes: Vec<String>,
    /// The form in which what is left of them is stored.
    pub stored: SchemaRef,
    /// What is left of them, each with its place among the chunks of its load, or 0.
    pub adds: Vec<(WrittenChunk, i64)>,
    /// The version that the statement makes, with the rows it adds.
    pub load: PendingLoad,
}

/// Chunks that are in storage and hold the rows of others.
pub(super) struct PendingMerge {
    /// The paths of those others.
    pub removes: Vec<String>,
    /// The form the new ones are stored in.
    pub stored: SchemaRef,
    /// The new ones.
    pub adds: Vec<WrittenChunk>,
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

/// A change that was made.
#[derive(Debug, Clone)]
pub(super) struct Done {
    /// The state right after it.
    pub snapshot: Arc<Snapshot>,
    /// The versions that the retention ended in it.
    pub expired: Vec<i64>,
    /// For a load that an earlier one had made already, the record of that one.
    pub repeated: Option<Arc<VersionRecord>>,
}

/// A change in the queue, and who waits for it.
pub(super) struct Waiting {
    pub change: Change,
    answer: oneshot::Sender<Result<Done>>,
}

impl Waiting {
    /// A change, and where its answer comes out.
    pub(super) fn new(change: Change) -> (Self, oneshot::Receiver<Result<Done>>) {
        let (answer, answered) = oneshot::channel();
        (Self { change, answer }, answered)
    }

    /// Answers. A caller that went away finds its version by its idempotency key.
    pub(super) fn answer(self, outcome: Result<Done>) {
        let _ = self.answer.send(outcome);
    }
}

impl Dataset {
    /// Commits a load, together with others that wait.
    pub(super) async fn commit_load(self: Arc<Self>, load: PendingLoad) -> Result<LoadOutcome> {
        let load_id = load.record.load_id;
        outcome(load_id, self.commit(Change::Load(Box::new(load))).await?)
    }

    /// Commits what a statement made of rows; in the turn that the caller has, if it has one.
    pub(super) async fn commit_rows(
        self: Arc<Self>,
        rows: PendingRows,
        turn: Option<CommitTurn>,
    ) -> Result<LoadOutcome> {
        let load_id = rows.load.record.load_id;
        let change = Change::Rows(Box::new(rows));
        let Some(turn) = turn else { return outcome(load_id, self.commit(change).await?) };
        let (waiting, answered) = Waiting::new(change);
        tokio::spawn(async move {
            let _turn = turn;
            self.commit_group(vec![waiting]).await;
        });
        outcome(load_id, answered.await.map_err(|error| broke_off().because(error))??)
    }

    /// Waits until this task alone of its process may commit. Meanwhile others compute, and wait.
    pub async fn wait_for_turn(&self) -> CommitTurn {
        CommitTurn { _turn: self.commit_turn().await }
    }

    /// Commits a change. Survives the caller's end: once begun, it is carried through.
    pub(super) async fn commit(self: Arc<Self>, change: Change) -> Result<Done> {
        let (waiting, outcome) = Waiting::new(change);
        self.queue().push(waiting);
        let dataset = Arc::clone(&self);
        tokio::spawn(async move {
            // Whoever gets the lock commits for all that wait; the others then find their answers given.
            let _turn = dataset.commit_turn().await;
            let group = dataset.queue().take(MAX_GROUP);
            if !group.is_empty() {
                dataset.commit_group(group).await;
            }
        });
        outcome.await.map_err(|error| broke_off().because(error))?
    }

    async fn commit_group(&self, mut waiting: Vec<Waiting>) {
        let (mut rewritten, mut attempt) = (Rewritten::default(), 0);
        while !waiting.is_empty() {
            let snapshot = match self.refresh().await {
                Ok(snapshot) => snapshot,
                Err(error) => return answer_all(waiting, &error),
            };
            let Round { draft, mut taken, later } = Draft::build(&snapshot, waiting);
            if taken.is_empty() {
                waiting = later;
                continue;
            }
            match self.try_commit(&snapshot, draft, &mut rewritten).await {
                Ok(Some(done)) => {
                    self.answer_committed(taken, done).await;
                    (waiting, attempt) = (later, 0);
                }
                Ok(None) if attempt < MAX_ATTEMPTS => {
                    tokio::time::sleep(pause(attempt)).await;
                    attempt += 1;
                    taken.extend(later);
                    waiting = taken;
                }
                Ok(None) => {
                    let lost = Error::conflict("too many other writers were first; nothing was stored, retry");
                    (waiting, attempt) = (later, 0);
                    answer_all(taken, &lost);
                }
                Err(error) => {
                    (waiting, attempt) = (later, 0);
                    answer_all(taken, &error);
                }
            }
        }
        rewritten.discard_unused(self).await;
    }

    /// Tries to write the next log entry; `None` when another commit was first, or surely none was written.
    async fn try_commit(&self, snapshot: &Snapshot, draft: Draft, rewritten: &mut Rewritten) -> Result<Option<Done>> {
        let affected = draft.affected(snapshot)?;
        let replacements = rewritten.replace(self, &draft.columns, affected).await?;
        let operation = draft.operation();
        let (record, actions) = draft.finish(&self.record(snapshot.head()), snapshot, &replacements)?;
        let bytes = commit_bytes(actions, operation, &record)?;
        let next = snapshot.log_version + 1;
        let unclear = match self.log().write(next, bytes).await? {
            Attempt::Committed => None,
            Attempt::Unclear(error) => Some(error),
        };
        // Reading back what was written is also how the new state comes about.
        let found = match self.log().read(next).await {
            Ok(found) => found,
            Err(error) => {
                // What it may name must stay.
                rewritten.keep_all();
                return Err(unknown_outcome(unclear.unwrap_or(error)));
            }
        };
        match (found, unclear) {
            (Some(actions), _) if is_commit(&actions, &record.commit_id) => {
                let applied = Arc::new(snapshot.apply(next, &actions)?);
                self.install(Arc::clone(&applied));
                rewritten.mark_used(&replacements);
                let expired = record.ended.iter().map(|ended| ended.version).collect();
                Ok(Some(Done { snapshot: applied, expired, repeated: None }))
            }
            (Some(_), _) => Ok(None),
            (None, Some(error)) if error.kind() == Kind::Unavailable => {
                rewritten.keep_all();
                Err(unknown_outcome(error))
            }
            (None, Some(error)) if error.kind() == Kind::Exhausted => Err(error),
            (None, _) => Ok(None),
        }
    }

    async fn answer_committed(&self, group: Vec<Waiting>, done: Done) {
        // The log is the truth: a version store that is away now is repaired when the dataset is next opened.
        if let Err(error) = self.advance_head(&done.snapshot).await {
            tracing::warn!(error = %error.in_full(), "the version store is behind the log");
        }
        if group.iter().any(|waiting| matches!(waiting.change, Change::Load(_) | Change::Rows(_))) {
            self.note_commit();
        }
        for waiting in group {
            waiting.answer(Ok(done.clone()));
        }
    }
}

/// The turn to commit to a dataset, among the tasks of this process.
pub struct CommitTurn {
    _turn: OwnedMutexGuard<()>,
}

fn outcome(load_id: i64, done: Done) -> Result<LoadOutcome> {
    let columns_keys = done.snapshot.keys.clone().unwrap_or_default();
    let (snapshot, duplicate) = (done.snapshot, done.repeated.is_some());
    let made = || snapshot.versions().rev().find(|version| version.record.load_id == load_id);
    let record = done.repeated.or_else(|| made().map(|version| Arc::clone(&version.record)));
    let record = record.ok_or_else(|| Error::internal("a committed load is not in the log"))?;
    Ok(LoadOutcome { record, columns_keys, snapshot, duplicate })
}

fn broke_off() -> Error {
    Error::internal("a commit broke off; look at the dataset's versions, or repeat a load with its idempotency key")
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
        "the storage did not say whether the change was committed; repeat it (a load with the same idempotency key), \
         or look at the dataset's versions",
    )
    .because(cause)
}

fn pause(attempt: u32) -> Duration {
    clock::jitter((MAX_PAUSE / 1_000 * 2u32.saturating_pow(attempt)).min(MAX_PAUSE))
}

fn answer_all(group: Vec<Waiting>, error: &Error) {
    tracing::warn!(error = %error.in_full(), "a commit failed");
    for waiting in group {
        waiting.answer(Err(error.duplicate()));
    }
}
