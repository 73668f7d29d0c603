//! The datasets of a server: found by name, opened once, made by their first load.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::dataset::{Dataset, unknown_dataset};
use super::load::{Creation, Load, LoadRequest};
use super::presence::Presence;
use super::replacement::Replacement;
use super::snapshot::Snapshot;
use super::split::SplitSettings;
use super::vacuum::{before, delete_table};
use crate::auth::{Access, Principal};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::names::DatasetName;
use crate::storage::Storage;
use crate::versions::{DatasetRecord, Head, VersionStore};

/// Datasets that are kept open; beyond it those unused longest are let go, unless they are in use.
const MAX_OPEN_DATASETS: usize = 1_024;

/// See the module's comment.
#[derive(Debug)]
pub struct Catalog {
    storage: Storage,
    versions: Arc<dyn VersionStore>,
    open: Mutex<OpenDatasets>,
    presence: Arc<Presence>,
    background: Arc<Notify>,
}

#[derive(Debug, Default)]
struct OpenDatasets {
    /// Those that lost their names, until their files are deleted.
    forgotten: HashMap<String, Arc<Dataset>>,
    by_table_id: HashMap<String, (u64, Arc<Dataset>)>,
    uses: u64,
}

impl Catalog {
    /// The catalog over a storage place and a version store; reads run at most `read_limit`.
    pub fn new(storage: Storage, versions: Arc<dyn VersionStore>, read_limit: Duration) -> Self {
        let presence = Arc::new(Presence::new(Arc::clone(&versions), read_limit));
        Self { storage, versions, open: Mutex::default(), presence, background: Arc::default() }
    }

    /// This node among the others.
    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// Where the bytes are.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Where the records are.
    pub fn versions(&self) -> &Arc<dyn VersionStore> {
        &self.versions
    }

    /// Opens a dataset that exists and reads its newest state.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none of this name that the caller may read, [`Kind::Forbidden`] when the caller
    /// may do no more than that, and those of reading it.
    pub async fn open(
        &self,
        caller: &Principal,
        name: &DatasetName,
        access: Access,
    ) -> Result<(Arc<Dataset>, Arc<Snapshot>)> {
        check_known(caller, name, access)?;
        let mut known = None;
        loop {
            let record = self.versions.find(&caller.tenant, name).await?.ok_or_else(|| unknown_dataset(name))?;
            let dataset = self.open_record(&record)?;
            let snapshot = dataset.refresh().await?;
            if snapshot.exists() {
                return Ok((dataset, snapshot));
            }
            // It may have ended because another took its name since that was looked up.
            if known.as_ref() == Some(&record.table_id) {
                return Err(unknown_dataset(name));
            }
            known = Some(record.table_id);
        }
    }

    /// A dataset of this process that knows the state of the instant `at` of the table `table_id`; nothing is asked of
    /// the stores. `None` when this process cannot tell, or the dataset has ended.
    ///
    /// # Errors
    /// Those of [`Catalog::open`] for what the caller may not read.
    pub fn open_known(
        &self,
        caller: &Principal,
        name: &DatasetName,
        table_id: &str,
        at: DateTime<Utc>,
    ) -> Result<Option<(Arc<Dataset>, Arc<Snapshot>)>> {
        check_known(caller, name, Access::Read)?;
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, dataset)) = open.by_table_id.get(table_id) else { return Ok(None) };
        let snapshot = dataset.snapshot();
        let knows = snapshot.exists() && dataset.name() == name && snapshot.newest_instant() >= Some(at);
        Ok(knows.then(|| (Arc::clone(dataset), snapshot)))
    }

    /// Opens a dataset for a load, and gives it a table when it has none. It exists for readers only from the first
    /// commit on.
    ///
    /// # Errors
    /// [`Kind::Forbidden`] when the caller may not write it, [`Kind::Unavailable`] when the version store is away.
    pub async fn open_or_create(&self, caller: &Principal, name: &DatasetName) -> Result<Arc<Dataset>> {
        check(caller, name, Access::Write)?;
        loop {
            let record = match self.versions.find(&caller.tenant, name).await? {
                Some(record) => record,
                None => self.versions.create(&caller.tenant, name, &clock::new_ulid()).await?,
            };
            let dataset = self.open_record(&record)?;
            if !dataset.refresh().await?.dropped {
                return Ok(dataset);
            }
            // A crash came between the end of the dataset and that of its name.
            self.forget(&record).await?;
        }
    }

    /// Ends a dataset: its name is free, and nothing of it shows under it again.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none of this name, and those of committing.
    pub async fn delete(&self, caller: &Principal, name: &DatasetName) -> Result<()> {
        let (dataset, _) = self.open(caller, name, Access::Admin).await?;
        Arc::clone(&dataset).end().await?;
        self.forget(&dataset.record(Head::default())).await
    }

    /// Begins a load of a dataset, which it makes, or ends and makes anew, as `creation` says. It exists for readers
    /// only from the first commit on.
    ///
    /// # Errors
    /// [`Kind::NotFound`] or [`Kind::AlreadyExists`] where `creation` wants it otherwise, and those of [`Load::begin`].
    pub async fn begin_load(
        self: &Arc<Self>,
        caller: &Principal,
        name: &DatasetName,
        creation: Creation,
        request: LoadRequest,
        settings: SplitSettings,
    ) -> Result<Load> {
        match creation {
            Creation::CreateOrAppend => Load::begin(self.open_or_create(caller, name).await?, request, settings).await,
            Creation::MustExist => {
                Load::begin(self.open(caller, name, Access::Write).await?.0, request, settings).await
            }
            Creation::MustCreate => {
                let dataset = self.open_or_create(caller, name).await?;
                if dataset.snapshot().exists() {
                    return Err(exists(name));
                }
                Ok(Load::begin(dataset, request, settings).await?.that_must_create())
            }
            Creation::Replace => {
                // What has the name ends.
                check(caller, name, Access::Admin)?;
                let (replacement, dataset) = Replacement::begin(self, &caller.tenant, name).await?;
                Ok(Load::begin(dataset, request, settings).await?.that_must_create().that_replaces(replacement))
            }
        }
    }

    pub(super) async fn forget(&self, record: &DatasetRecord) -> Result<()> {
        self.versions.forget(record, clock::now()).await?;
        self.let_go(&record.table_id);
        Ok(())
    }

    /// Keeps an opened table that lost its name only as long as reads need it.
    pub(super) fn let_go(&self, table_id: &str) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, dataset)) = open.by_table_id.remove(table_id) {
            open.forgotten.insert(table_id.into(), dataset);
        }
    }

    /// Deletes the files of datasets that were ended longer than `after` ago.
    ///
    /// # Errors
    /// Those of the version store and of the storage.
    pub(super) async fn purge(&self, after: Duration) -> Result<()> {
        let limit = before(self.presence.present().await?, after);
        let mut last: Option<String> = None;
        loop {
            let page = self.versions.forgotten(limit, last.as_deref()).await?;
            for table in page.iter().filter(|table| !self.is_read(&table.table_id)) {
                delete_table(self.storage.store(), &self.storage.table_root(&table.tenant, &table.table_id)).await?;
                self.versions.purge(&table.table_id).await?;
            }
            match page.last() {
                Some(table) => last = Some(table.table_id.clone()),
                None => return Ok(()),
            }
        }
    }

    /// Whether a read of this process still needs a table that lost its name.
    fn is_read(&self, table_id: &str) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.forgotten.get(table_id).is_some_and(Dataset::is_idle) {
            open.forgotten.remove(table_id);
        }
        open.forgotten.contains_key(table_id)
    }

    /// What the background waits for.
    pub(super) fn background(&self) -> &Arc<Notify> {
        &self.background
    }

    /// The datasets that are open in this process.
    pub(super) fn open_datasets(&self) -> Vec<Arc<Dataset>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.by_table_id.values().map(|(_, dataset)| Arc::clone(dataset)).collect()
    }

    /// Opens a dataset for the background: of those that are open it is the first to be let go.
    ///
    /// # Errors
    /// Never, as long as its location is a URL.
    pub(super) fn open_quietly(&self, record: &DatasetRecord) -> Result<Arc<Dataset>> {
        let is_open = |open: &OpenDatasets| open.by_table_id.contains_key(&record.table_id);
        let was_open = is_open(&self.open.lock().unwrap_or_else(PoisonError::into_inner));
        let dataset = self.open_record(record)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((used, _)) = open.by_table_id.get_mut(&record.table_id).filter(|_| !was_open) {
            *used = 0;
        }
        Ok(dataset)
    }

    /// A page of the datasets that the caller may read, of those whose names begin with `prefix` and come after
    /// `after`, and the name to go on from.
    ///
    /// # Errors
    /// As [`Catalog::open_or_create`].
    pub async fn list(
        &self,
        caller: &Principal,
        prefix: &str,
        after: Option<&DatasetName>,
    ) -> Result<(Vec<DatasetRecord>, Option<DatasetName>)> {
        let mut page = self.versions.list(&caller.tenant, prefix, after).await?;
        let last = page.last().map(|record| record.name.clone());
        page.retain(|record| caller.may(Access::Read, &record.name));
        for record in page.iter_mut().filter(|record| record.head.log_version.is_none()) {
            // Either a load is under way or a crash came between the log and the version store: the log tells.
            let dataset = self.open_record(record)?;
            let snapshot = match dataset.refresh().await {
                Ok(snapshot) => snapshot,
                // One dataset that cannot be read must not hide all others.
                Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Unimplemented) => {
                    tracing::warn!(
                        error = %error.in_full(), dataset = %record.name,
                        "a dataset is left out of a listing"
                    );
                    continue;
                }
                Err(error) => return Err(error),
            };
            record.head = if snapshot.exists() { snapshot.head() } else { Head::default() };
            if snapshot.exists() {
                dataset.advance_head(&snapshot).await?;
            }
        }
        page.retain(|record| record.head != Head::default());
        Ok((page, last))
    }

    /// The opened table of a record.
    ///
    /// # Errors
    /// Never, as long as its location is a URL.
    pub(super) fn open_record(&self, record: &DatasetRecord) -> Result<Arc<Dataset>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.uses += 1;
        let now = open.uses;
        if let Some((used, dataset)) = open.by_table_id.get_mut(&record.table_id) {
            *used = now;
            return Ok(Arc::clone(dataset));
        }
        let (presence, background) = (Arc::clone(&self.presence), Arc::clone(&self.background));
        let dataset = Arc::new(Dataset::open(&self.storage, Arc::clone(&self.versions), record, presence, background)?);
        if open.by_table_id.len() >= MAX_OPEN_DATASETS {
            // One in use stays: its queue and its reads are known to this object alone.
            let idle = open.by_table_id.iter().filter(|(_, (_, dataset))| dataset.is_idle());
            let oldest = idle.min_by_key(|(_, (used, _))| *used).map(|(id, _)| id.clone());
            oldest.map(|id| open.by_table_id.remove(&id));
        }
        open.by_table_id.insert(record.table_id.clone(), (now, Arc::clone(&dataset)));
        Ok(dataset)
    }
}

/// Checks what is done to a dataset that should be there: what the caller may not read is not.
fn check_known(caller: &Principal, name: &DatasetName, access: Access) -> Result<()> {
    if caller.may(Access::Read, name) {
        return check(caller, name, access);
    }
    caller.trail.dataset(name.as_str());
    Err(unknown_dataset(name))
}

/// Checks what is done to a dataset, whether it is there or not. The one place that asks who may.
fn check(caller: &Principal, name: &DatasetName, access: Access) -> Result<()> {
    caller.trail.dataset(name.as_str());
    if caller.may(access, name) {
        return Ok(());
    }
    let doing = match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Admin => "administer",
    };
    Err(Error::forbidden(format!("you may not {doing} the dataset '{name}'; ask an administrator for the right")))
}

fn exists(name: &DatasetName) -> Error {
    Error::already_exists(format!("there is a dataset '{name}' already; nothing was stored"))
}
