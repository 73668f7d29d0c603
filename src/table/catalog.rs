//! The datasets of a server: found by name, opened once, made by their first load.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::dataset::{Dataset, unknown_dataset};
use super::snapshot::Snapshot;
use crate::clock;
use crate::error::Result;
use crate::names::{DatasetName, TenantId};
use crate::storage::Storage;
use crate::versions::{DatasetRecord, Head, VersionStore};

/// Datasets that are kept open; beyond it those unused longest are let go.
const MAX_OPEN_DATASETS: usize = 1_024;

/// See the module's comment.
#[derive(Debug)]
pub struct Catalog {
    storage: Storage,
    versions: Arc<dyn VersionStore>,
    open: Mutex<OpenDatasets>,
}

#[derive(Debug, Default)]
struct OpenDatasets {
    by_table_id: HashMap<String, (u64, Arc<Dataset>)>,
    uses: u64,
}

impl Catalog {
    /// The catalog over a storage place and a version store.
    pub fn new(storage: Storage, versions: Arc<dyn VersionStore>) -> Self {
        Self { storage, versions, open: Mutex::default() }
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
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) when there is none of this name, and those of reading it.
    pub async fn open(&self, tenant: &TenantId, name: &DatasetName) -> Result<(Arc<Dataset>, Arc<Snapshot>)> {
        let record = self.versions.find(tenant, name).await?.ok_or_else(|| unknown_dataset(name))?;
        let dataset = self.open_record(&record)?;
        let snapshot = dataset.current().await?;
        Ok((dataset, snapshot))
    }

    /// Opens a dataset for a load, and gives it a table when it has none. It exists for readers only from the first
    /// commit on.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the version store is away.
    pub async fn open_or_create(&self, tenant: &TenantId, name: &DatasetName) -> Result<Arc<Dataset>> {
        let record = match self.versions.find(tenant, name).await? {
            Some(record) => record,
            None => self.versions.create(tenant, name, &clock::new_ulid()).await?,
        };
        self.open_record(&record)
    }

    /// A page of the datasets whose names begin with `prefix` and come after `after`, and the name to go on from.
    ///
    /// # Errors
    /// As [`Catalog::open_or_create`].
    pub async fn list(
        &self,
        tenant: &TenantId,
        prefix: &str,
        after: Option<&DatasetName>,
    ) -> Result<(Vec<DatasetRecord>, Option<DatasetName>)> {
        let mut page = self.versions.list(tenant, prefix, after).await?;
        let last = page.last().map(|record| record.name.clone());
        for record in page.iter_mut().filter(|record| record.head.log_version.is_none()) {
            // Either a load is under way or a crash came between the log and the version store: the log tells.
            let dataset = self.open_record(record)?;
            let snapshot = dataset.refresh().await?;
            record.head = snapshot.head();
            if snapshot.exists() {
                dataset.advance_head(&snapshot).await?;
            }
        }
        page.retain(|record| record.head != Head::default());
        Ok((page, last))
    }

    fn open_record(&self, record: &DatasetRecord) -> Result<Arc<Dataset>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.uses += 1;
        let now = open.uses;
        if let Some((used, dataset)) = open.by_table_id.get_mut(&record.table_id) {
            *used = now;
            return Ok(Arc::clone(dataset));
        }
        let dataset = Arc::new(Dataset::open(&self.storage, Arc::clone(&self.versions), record)?);
        if open.by_table_id.len() >= MAX_OPEN_DATASETS {
            let oldest = open.by_table_id.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| id.clone());
            oldest.map(|id| open.by_table_id.remove(&id));
        }
        open.by_table_id.insert(record.table_id.clone(), (now, Arc::clone(&dataset)));
        Ok(dataset)
    }
}
