//! A dataset begun anew under its old name, in one visible step.
//!
//! The new rows are loaded into a table that has no name yet, which the version store remembers like one that lost its
//! name, so that what a crash leaves of it is deleted. When its first version is committed, the store gives it the name
//! and takes the name from the old table in one transaction; then the old table is ended, as if it had been deleted.

use std::sync::Arc;

use chrono::TimeDelta;

use super::catalog::Catalog;
use super::dataset::Dataset;
use super::snapshot::Snapshot;
use crate::clock;
use crate::error::{Kind, Result};
use crate::names::{DatasetName, TenantId};
use crate::versions::DatasetRecord;

/// How long a table may be without a name before it can be taken for one that a crash left.
const STAGING_GRACE: TimeDelta = TimeDelta::days(1);

/// What gives a table the name of a dataset.
pub(super) struct Replacement {
    catalog: Arc<Catalog>,
    tenant: TenantId,
}

impl Replacement {
    /// Makes a table without a name, and what will give it one.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the version store is away.
    pub(super) async fn begin(
        catalog: &Arc<Catalog>,
        tenant: &TenantId,
        name: &DatasetName,
    ) -> Result<(Self, Arc<Dataset>)> {
        let table_id = clock::new_ulid();
        catalog.versions().stage(tenant, &table_id, clock::now() + STAGING_GRACE).await?;
        let (tenant, name, head) = (tenant.clone(), name.clone(), Default::default());
        let record = DatasetRecord { tenant: tenant.clone(), name, table_id, head };
        let dataset = catalog.open_record(&record)?;
        Ok((Self { catalog: Arc::clone(catalog), tenant }, dataset))
    }

    /// Gives `dataset`, whose first version is committed, the name; what had it ends.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the version store is away, and whether the name was given is not known.
    pub(super) async fn finish(self, dataset: &Dataset, snapshot: &Snapshot) -> Result<()> {
        let (name, table_id) = (dataset.name(), dataset.table_id());
        let old = self.catalog.versions().replace(&self.tenant, name, table_id, clock::now()).await?;
        if let Err(error) = dataset.advance_head(snapshot).await {
            tracing::warn!(error = %error.in_full(), "the version store is behind the log");
        }
        let Some(old) = old else { return Ok(()) };
        let record = DatasetRecord {
            tenant: self.tenant.clone(),
            name: name.clone(),
            table_id: old.clone(),
            head: Default::default(),
        };
        // It has no name any more, so nothing reads it; its end only tells the loads that are on their way to it.
        match self.catalog.open_record(&record)?.end().await {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => tracing::warn!(
                error = %error.in_full(),
                "a replaced table could not be ended; loads on their way are lost"
            ),
        }
        self.catalog.let_go(&old);
        Ok(())
    }
}
