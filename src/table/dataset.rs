//! An opened dataset: its log, and its newest known state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use futures::stream::{self, StreamExt};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::Notify;
use url::Url;

use super::commit::Waiting;
use super::delta::Log;
use super::lease::{Lease, Leases};
use super::presence::Presence;
use super::snapshot::Snapshot;
use crate::error::{Error, Result};
use crate::names::{DatasetName, TenantId};
use crate::storage::Storage;
use crate::versions::{DatasetRecord, Head, VersionStore};

/// Commits after which chunks are looked at for merging.
const COMMITS_BEFORE_MERGE: u64 = 8;

/// Commits that are read at the same time when a dataset is opened.
const MAX_READS_AHEAD: usize = 32;

/// See the module's comment.
#[derive(Debug)]
pub struct Dataset {
    tenant: TenantId,
    name: DatasetName,
    table_id: String,
    root: Path,
    location: Url,
    storage: Storage,
    versions: Arc<dyn VersionStore>,
    presence: Arc<Presence>,
    log: Log,
    /// Replaced as a whole by each newer state; readers hold the one they began with.
    snapshot: RwLock<Arc<Snapshot>>,
    /// Only one task at a time reads new commits; the others find the state it installed.
    refreshing: tokio::sync::Mutex<()>,
    /// Only one task of this process at a time commits, in the order they came.
    committing: Arc<tokio::sync::Mutex<()>>,
    queue: Mutex<Vec<Waiting>>,
    /// Only one task of this process at a time merges chunks.
    compacting: tokio::sync::Mutex<()>,
    leases: Arc<Leases>,
    /// Commits since chunks were last looked at for merging.
    pub(super) unmerged: AtomicU64,
    /// Told when there is something for the background to do.
    background: Arc<Notify>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

/// The loads that wait to be committed.
pub(super) struct Queue<'a>(MutexGuard<'a, Vec<Waiting>>);

impl Queue<'_> {
    /// Adds a load at the end.
    pub(super) fn push(mut self, waiting: Waiting) {
        self.0.push(waiting);
    }

    /// Takes at most `most` loads from the front.
    pub(super) fn take(mut self, most: usize) -> Vec<Waiting> {
        let count = most.min(self.0.len());
        self.0.drain(..count).collect()
    }
}

impl Dataset {
    /// Opens the dataset of a record, without reading anything yet.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when its location is no URL.
    pub(super) fn open(
        storage: &Storage,
        versions: Arc<dyn VersionStore>,
        record: &DatasetRecord,
        presence: Arc<Presence>,
        background: Arc<Notify>,
    ) -> Result<Self> {
        let root = storage.table_root(&record.tenant, &record.table_id);
        let location = storage.location(&root)?;
        Ok(Self {
            tenant: record.tenant.clone(),
            name: record.name.clone(),
            table_id: record.table_id.clone(),
            log: Log::new(storage.store(), &root, &location),
            root,
            location,
            storage: storage.clone(),
            versions,
            presence,
            snapshot: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
            committing: Arc::default(),
            queue: Mutex::default(),
            compacting: tokio::sync::Mutex::default(),
            leases: Arc::default(),
            unmerged: AtomicU64::new(0),
            background,
        })
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Its name.
    pub fn name(&self) -> &DatasetName {
        &self.name
    }

    /// The opaque id that names its root.
    pub fn table_id(&self) -> &str {
        &self.table_id
    }

    /// Its root in the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its root as other programs open it.
    pub fn location(&self) -> &Url {
        &self.location
    }

    /// The store its chunks are in.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        self.storage.store()
    }

    /// The place its files are in.
    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn queue(&self) -> Queue<'_> {
        Queue(self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn commit_turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.committing).lock_owned().await
    }

    pub(super) async fn compaction_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.compacting.lock().await
    }

    /// Keeps what counted after the commit `log_version`, and all that came later, from being vacuumed by this process;
    /// other nodes are told that a read began.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::error::Kind::Conflict) when it was vacuumed since the caller's state was read.
    pub fn lease(&self, log_version: i64) -> Result<Lease> {
        self.leases.take(log_version, Some(self.presence.begin_read()))
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }

    pub(super) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Whether only the catalog holds it, and no read has a lease.
    pub(super) fn is_idle(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1 && Arc::strong_count(&self.leases) == 1
    }

    /// Notes a commit; after enough of them the background looks for chunks to merge.
    pub(super) fn note_commit(&self) {
        if self.unmerged.fetch_add(1, Ordering::Relaxed) + 1 == COMMITS_BEFORE_MERGE {
            self.background.notify_one();
        }
    }

    /// Whether there were enough commits since chunks were last looked at for merging.
    pub(super) fn wants_merge(&self) -> bool {
        self.unmerged.load(Ordering::Relaxed) >= COMMITS_BEFORE_MERGE
    }

    /// The newest state this process knows.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a state the newest, unless a newer one is there.
    pub(super) fn install(&self, snapshot: Arc<Snapshot>) {
        let mut current = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        if snapshot.log_version > current.log_version {
            *current = snapshot;
        }
    }

    /// Reads the commits made since, by any process, and gives the newest state.
    ///
    /// # Errors
    /// Those of reading the log.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>> {
        let _turn = self.refreshing.lock().await;
        let mut snapshot = self.snapshot();
        // One at first, which mostly tells that there is nothing new; the more there are the more at a time.
        let mut ahead = 1;
        loop {
            let first = snapshot.log_version + 1;
            let reads = (first..).take(ahead).map(|version| self.log.read(version));
            let mut commits = stream::iter(reads).buffered(ahead);
            while let Some(commit) = commits.next().await {
                let Some(actions) = commit? else {
                    self.install(Arc::clone(&snapshot));
                    return Ok(snapshot);
                };
                snapshot = Arc::new(snapshot.apply(snapshot.log_version + 1, &actions)?);
            }
            ahead = (ahead * 2).min(MAX_READS_AHEAD);
        }
    }

    /// The newest state of a dataset that must exist.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) when no load was ever committed, and those of reading the log.
    pub async fn current(&self) -> Result<Arc<Snapshot>> {
        let snapshot = self.refresh().await?;
        if snapshot.exists() { Ok(snapshot) } else { Err(unknown_dataset(&self.name)) }
    }

    /// Its record, as of a state of it.
    pub(super) fn record(&self, head: Head) -> DatasetRecord {
        let (tenant, name, table_id) = (self.tenant.clone(), self.name.clone(), self.table_id.clone());
        DatasetRecord { tenant, name, table_id, head }
    }

    /// Tells the version store how the dataset stands.
    pub(super) async fn advance_head(&self, snapshot: &Snapshot) -> Result<()> {
        self.versions.advance(&self.record(snapshot.head())).await
    }
}

/// The one answer for a dataset that is not there, so that a hidden one cannot be told from it.
pub fn unknown_dataset(name: &DatasetName) -> Error {
    Error::not_found(format!(
        "there is no dataset '{name}'; ListFlights, `pandas-db ls` or SHOW TABLES list what there is"
    ))
}
