//! Datasets as tables, for one caller and one statement.
//!
//! A dataset is looked up when a statement names it. Listings exist only for statements that ask for them
//! (`information_schema`, `SHOW TABLES`), because they need all names at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;

use super::audit::{AUDIT_TABLE, audit_table};
use super::failure::through_engine;
use super::history::{chunks_table, versions_table};
use super::provider::{DatasetTable, ScanTally};
use super::statement::{Moments, Statement};
use super::table_name::{TableName, TablePart};
use crate::auth::{Access, Principal};
use crate::error::{Error, Kind, Result};
use crate::names::{DatasetName, PUBLIC_SCHEMA};
use crate::table::{Catalog, Dataset, Selection, Snapshot};
use crate::versions::DatasetRecord;

/// Datasets that a listing in SQL shows at most.
const MAX_LISTED: usize = 10_000;

/// Names of tables by schema.
type Listing = BTreeMap<String, BTreeSet<String>>;

/// The datasets that a caller may read.
#[derive(Debug)]
pub(super) struct TenantCatalog {
    datasets: Arc<Catalog>,
    audit_file: Option<PathBuf>,
    caller: Principal,
    listing: Arc<Listing>,
    moments: Arc<Moments>,
    tally: Arc<ScanTally>,
}

impl TenantCatalog {
    /// The catalog that `statement` is planned with.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when the version store is away.
    pub(super) async fn for_statement(
        datasets: Arc<Catalog>,
        audit_file: Option<PathBuf>,
        caller: Principal,
        statement: &Statement,
    ) -> Result<Self> {
        let text = statement.sql.to_ascii_lowercase();
        let lists = ["information_schema", "show"].iter().any(|word| text.contains(word));
        let listing = if lists { list(&datasets, &caller).await? } else { Listing::new() };
        let moments = Arc::new(statement.moments.clone());
        let tally = Arc::new(ScanTally::of_part(statement.part));
        Ok(Self { datasets, audit_file, caller, listing: Arc::new(listing), moments, tally })
    }
}

impl TenantCatalog {
    /// What the scans of the statement chose, once it is planned.
    pub(super) fn tally(&self) -> &Arc<ScanTally> {
        &self.tally
    }
}

/// The error for a missing table with the nearest name that there is, where one is near.
pub(super) async fn with_nearest_name(datasets: &Catalog, caller: &Principal, error: Error) -> Error {
    /// Where names differ more than this they are taken for different things.
    const MIN_LIKENESS: f64 = 0.7;
    let missing = error.message().strip_prefix("table '").and_then(|rest| rest.split_once("' not found"));
    let Some((missing, rest)) = missing.filter(|_| error.kind() == Kind::NotFound) else { return error };
    let missing = missing.trim_start_matches("pandas_db.");
    let Ok((page, _)) = datasets.list(caller, "", None).await else { return error };
    let likeness = |record: &DatasetRecord| {
        let (schema, table) = record.name.to_sql();
        let name = format!("{schema}.{table}");
        (strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &missing.to_lowercase()), record.name.clone())
    };
    let nearest = page.iter().map(likeness).max_by(|(one, _), (other, _)| one.total_cmp(other));
    match nearest.filter(|(likeness, _)| *likeness >= MIN_LIKENESS) {
        Some((_, name)) => {
            let rest = rest.trim_start_matches("; ");
            let text = format!("table '{missing}' not found; did you mean {}? {rest}", quoted(&name));
            Error::not_found(text).because(error)
        }
        None => error,
    }
}

/// A dataset as SQL names it.
fn quoted(name: &DatasetName) -> String {
    let is_bare = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|first| first.is_ascii_lowercase() || first == '_')
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let quote = |part: &str| if is_bare(part) { part.to_string() } else { format!("\"{part}\"") };
    let (schema, table) = name.to_sql();
    format!("{}.{}", quote(schema), quote(table))
}

async fn list(datasets: &Catalog, caller: &Principal) -> Result<Listing> {
    let mut listing = Listing::new();
    let (mut after, mut count) = (None, 0);
    while count < MAX_LISTED {
        let (page, last) = datasets.list(caller, "", after.as_ref()).await?;
        for record in &page {
            // The engine asks for every table that is listed, and one that cannot be read would end the statement.
            match datasets.open(caller, &record.name, Access::Read).await {
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
            audit_file: self.audit_file.clone(),
            caller: self.caller.clone(),
            schema: name.to_string(),
            tables: self.listing.get(name).cloned().unwrap_or_default(),
            moments: Arc::clone(&self.moments),
            tally: Arc::clone(&self.tally),
        }))
    }
}

#[derive(Debug)]
struct TenantSchema {
    datasets: Arc<Catalog>,
    audit_file: Option<PathBuf>,
    caller: Principal,
    schema: String,
    tables: BTreeSet<String>,
    moments: Arc<Moments>,
    tally: Arc<ScanTally>,
}

impl TenantSchema {
    /// Opens a dataset; one whose state was told with the statement, and is known here, without asking what is newer.
    async fn open(&self, name: &DatasetName) -> Result<(Arc<Dataset>, Arc<Snapshot>)> {
        if let Some(moment) = self.moments.get(name.as_str()) {
            let known = self.datasets.open_known(&self.caller, name, &moment.table, moment.at)?;
            if let Some(known) = known {
                return Ok(known);
            }
        }
        self.datasets.open(&self.caller, name, Access::Read).await
    }

    /// The selection as of the state that the statement is to read the dataset in.
    fn at_moment(&self, dataset: &Dataset, snapshot: &Snapshot, selection: Selection) -> Result<Selection> {
        let Some(moment) = self.moments.get(dataset.name().as_str()) else { return Ok(selection) };
        if moment.table != dataset.table_id() {
            return Err(Error::not_found(format!(
                "the dataset '{}' was deleted since the statement was planned, and another has its name; plan it again",
                dataset.name()
            )));
        }
        let is_newest = snapshot.newest_instant() == Some(moment.at);
        if is_newest || selection.version.is_some() || selection.as_of.is_some() {
            return Ok(selection);
        }
        Ok(Selection { as_of: Some(moment.at), ..selection })
    }
}

#[async_trait]
impl SchemaProvider for TenantSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.iter().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if self.schema == PUBLIC_SCHEMA && name == AUDIT_TABLE {
            return audit_table(&self.caller, self.audit_file.as_ref());
        }
        let Some(named) = TableName::parse(name).map_err(through_engine)? else { return Ok(None) };
        // What cannot be a dataset's name is no dataset.
        let Ok(dataset) = DatasetName::from_sql(&self.schema, named.dataset) else { return Ok(None) };
        let (dataset, snapshot) = match self.open(&dataset).await {
            Ok(opened) => opened,
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            Err(error) => return Err(through_engine(error)),
        };
        self.tally.note(&dataset, &snapshot);
        Ok(Some(match named.part {
            TablePart::Rows(selection) => {
                let selection = self.at_moment(&dataset, &snapshot, selection).map_err(through_engine)?;
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
