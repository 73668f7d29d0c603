//! Datasets as tables, for one tenant and one statement.
//!
//! A dataset is looked up when a statement names it. Listings exist only for statements that ask for them
//! (`information_schema`, `SHOW TABLES`), because they need all names at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;

use super::failure::through_engine;
use super::history::{chunks_table, versions_table};
use super::provider::{DatasetTable, ScanTally};
use super::table_name::{TableName, TablePart};
use crate::error::{Kind, Result};
use crate::names::{DatasetName, TenantId};
use crate::table::Catalog;

/// Datasets that a listing in SQL shows at most.
const MAX_LISTED: usize = 10_000;

/// Names of tables by schema.
type Listing = BTreeMap<String, BTreeSet<String>>;

/// The catalog of one tenant.
#[derive(Debug)]
pub(super) struct TenantCatalog {
    datasets: Arc<Catalog>,
    tenant: TenantId,
    listing: Arc<Listing>,
    tally: Arc<ScanTally>,
}

impl TenantCatalog {
    /// The catalog that `sql` is planned with.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the version store is away.
    pub(super) async fn for_statement(datasets: Arc<Catalog>, tenant: TenantId, sql: &str) -> Result<Self> {
        let text = sql.to_ascii_lowercase();
        let lists = ["information_schema", "show"].iter().any(|word| text.contains(word));
        let listing = if lists { list(&datasets, &tenant).await? } else { Listing::new() };
        Ok(Self { datasets, tenant, listing: Arc::new(listing), tally: Arc::default() })
    }
}

impl TenantCatalog {
    /// What the scans of the statement chose, once it is planned.
    pub(super) fn tally(&self) -> &Arc<ScanTally> {
        &self.tally
    }
}

async fn list(datasets: &Catalog, tenant: &TenantId) -> Result<Listing> {
    let mut listing = Listing::new();
    let (mut after, mut count) = (None, 0);
    while count < MAX_LISTED {
        let (page, last) = datasets.list(tenant, "", after.as_ref()).await?;
        for record in &page {
            // The engine asks for every table that is listed, and one that cannot be read would end the statement.
            match datasets.open(tenant, &record.name).await {
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt | Kind::Unimplemented) => continue,
                opened => drop(opened?),
            }
            let (schema, table) = record.name.to_sql();
            listing.entry(schema.to_string()).or_default().insert(table.to_string());
        }
        count += page.len();
        if last.is_none() {
            break;
        }
        after = last;
    }
    Ok(listing)
}

impl CatalogProvider for TenantCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.listing.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::new(TenantSchema {
            datasets: Arc::clone(&self.datasets),
            tenant: self.tenant.clone(),
            schema: name.to_string(),
            tables: self.listing.get(name).cloned().unwrap_or_default(),
            tally: Arc::clone(&self.tally),
        }))
    }
}

#[derive(Debug)]
struct TenantSchema {
    datasets: Arc<Catalog>,
    tenant: TenantId,
    schema: String,
    tables: BTreeSet<String>,
    tally: Arc<ScanTally>,
}

#[async_trait]
impl SchemaProvider for TenantSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.iter().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(named) = TableName::parse(name).map_err(through_engine)? else { return Ok(None) };
        // What cannot be a dataset's name is no dataset.
        let Ok(dataset) = DatasetName::from_sql(&self.schema, named.dataset) else { return Ok(None) };
        let (dataset, snapshot) = match self.datasets.open(&self.tenant, &dataset).await {
            Ok(opened) => opened,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(through_engine(error)),
        };
        Ok(Some(match named.part {
            TablePart::Rows(selection) => {
                let rows = selection.find(&dataset, &snapshot).map_err(through_engine)?;
                let table = DatasetTable::new(dataset, snapshot, rows, Arc::clone(&self.tally));
                Arc::new(table.map_err(through_engine)?)
            }
            TablePart::Versions => versions_table(&snapshot)?,
            TablePart::Chunks => chunks_table(&snapshot)?,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains(name)
    }
}
