//! Records made anew from the logs, which are the truth: after the version store was lost, or set back to a backup.
//!
//! Servers may run meanwhile. A dataset's name is given before its first commit, and taken only when its log says that
//! it ended or another table has the name. So a table with a log that goes on, no name, and no record of having lost it
//! has lost its record. It gets the name back only where nothing else has it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use object_store::path::Path;

use super::catalog::Catalog;
use super::delta::{Log, owner};
use super::snapshot::Snapshot;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::names::{DatasetName, TenantId};
use crate::versions::{DatasetRecord, Head};

/// How it is repaired.
#[derive(Debug, Clone, Default)]
pub struct RepairSettings {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Of several tables of one name give it to the newest, and let the others be deleted like ended datasets.
    pub newest_wins: bool,
    /// Tenants that have buckets of their own and may have no record left.
    pub tenants: Vec<TenantId>,
}

/// Something that was not as the logs say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is and what was done, in a line for the operator.
    pub line: String,
    /// Whether it is as it should be now (or would be, had it not been a dry run).
    pub is_settled: bool,
}

/// Brings the records to what the logs say; tells of each finding as it comes.
///
/// # Errors
/// Those of the storage and of the version store. What was repaired before stays repaired.
pub async fn repair(datasets: &Catalog, settings: &RepairSettings, mut tell: impl FnMut(Finding)) -> Result<()> {
    let repair = Repair { datasets, settings };
    let mut tenants: BTreeSet<TenantId> = settings.tenants.iter().cloned().collect();
    repair.records(&mut tenants, &mut tell).await?;
    let tenants: Vec<TenantId> = tenants.into_iter().collect();
    for root in datasets.storage().tenant_roots(&tenants).await? {
        repair.tables(&root, &mut tell).await?;
    }
    Ok(())
}

struct Repair<'a> {
    datasets: &'a Catalog,
    settings: &'a RepairSettings,
}

/// A table that does not have the name that its log says.
struct Nameless {
    record: DatasetRecord,
    snapshot: Arc<Snapshot>,
}

fn settled(line: String) -> Finding {
    Finding { line, is_settled: true }
}

fn open(line: String) -> Finding {
    Finding { line, is_settled: false }
}

fn called(record: &DatasetRecord) -> String {
    format!("'{}' of tenant '{}' (table {})", record.name, record.tenant.as_str(), record.table_id)
}

impl Repair<'_> {
    /// Looks at what the records say of their tables.
    async fn records(&self, tenants: &mut BTreeSet<TenantId>, tell: &mut impl FnMut(Finding)) -> Result<()> {
        let mut from: Option<String> = None;
        loop {
            let page = self.datasets.versions().list_all(from.as_deref()).await?;
            for record in &page.records {
                tenants.insert(record.tenant.clone());
                self.record(record).await?.into_iter().for_each(&mut *tell);
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    async fn record(&self, record: &DatasetRecord) -> Result<Option<Finding>> {
        let dataset = self.datasets.open_quietly(record)?;
        let snapshot = match dataset.refresh().await {
            Ok(snapshot) => snapshot,
            Err(error) => return unreadable(record, error).map(Some),
        };
        if snapshot.dropped {
            self.write(self.datasets.forget(record)).await?;
            return Ok(Some(settled(format!("{} has ended: its name is free", called(record)))));
        }
        let head = if snapshot.exists() { snapshot.head() } else { Head::default() };
        if head.log_version < record.head.log_version {
            return Ok(Some(open(format!(
                "{}: the record knows a commit that the log has not; restore the storage from a newer backup, or load \
                 the dataset anew",
                called(record)
            ))));
        }
        if head == record.head {
            return Ok(None);
        }
        self.write(dataset.advance_head(&snapshot)).await?;
        Ok(Some(settled(format!("{}: the totals are those of the log", called(record)))))
    }

    /// Looks for tables of a tenant that no record names.
    async fn tables(&self, root: &Path, tell: &mut impl FnMut(Finding)) -> Result<()> {
        let mut found: BTreeMap<DatasetName, Vec<Nameless>> = BTreeMap::new();
        for table in self.datasets.storage().table_roots(root).await? {
            match self.look_at(&table).await? {
                Some(Ok(nameless)) => found.entry(nameless.record.name.clone()).or_default().push(nameless),
                Some(Err(finding)) => tell(finding),
                None => {}
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        // Read after the logs: a table that has lost its name meanwhile, or has none yet, stands there.
        let forgotten = self.forgotten().await?;
        for mut tables in found.into_values() {
            tables.retain(|nameless| !forgotten.contains(&nameless.record.table_id));
            let (mut living, ended): (Vec<_>, Vec<_>) = tables.into_iter().partition(|table| table.snapshot.exists());
            for table in ended {
                tell(self.ended(&table.record).await?);
            }
            // Ids sort by the time of their making.
            living.sort_by(|one, two| two.record.table_id.cmp(&one.record.table_id));
            self.give_name(living).await?.into_iter().for_each(&mut *tell);
        }
        Ok(())
    }

    /// What lies at the root of a table, if no record names it.
    async fn look_at(&self, root: &Path) -> Result<Option<Result<Nameless, Finding>>> {
        let storage = self.datasets.storage();
        let first = Log::new(storage.store(), root, &storage.location(root)?).read(0).await;
        let first = match first {
            Ok(Some(actions)) => actions,
            // A load that goes on or broke off; or no table.
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == Kind::Corrupt => {
                return Ok(Some(Err(open(format!("{root}: {}", error.message())))));
            }
            Err(error) => return Err(error),
        };
        let table_id = root.filename().unwrap_or_default().to_string();
        let Some((tenant, name)) = owner(&first) else {
            return Ok(Some(Err(open(format!("{root}: its log does not say whose dataset it is; it was left alone")))));
        };
        let record = DatasetRecord { tenant, name, table_id, head: Head::default() };
        if storage.table_root(&record.tenant, &record.table_id) != *root {
            let line =
                format!("{root}: its log says that it is {}, which lies elsewhere; it was left alone", called(&record));
            return Ok(Some(Err(open(line))));
        }
        let named = self.datasets.versions().find(&record.tenant, &record.name).await?;
        if named.is_some_and(|named| named.table_id == record.table_id) {
            return Ok(None);
        }
        match self.datasets.open_quietly(&record)?.refresh().await {
            Ok(snapshot) => Ok(Some(Ok(Nameless { record, snapshot }))),
            Err(error) => unreadable(&record, error).map(|finding| Some(Err(finding))),
        }
    }

    /// Remembers a table whose log has ended, so that its files are deleted in time.
    async fn ended(&self, record: &DatasetRecord) -> Result<Finding> {
        self.write(self.datasets.versions().stage(&record.tenant, &record.table_id, clock::now())).await?;
        Ok(settled(format!("{} has ended: its files will be deleted in time", called(record))))
    }

    /// Gives a name to the newest of the tables that it might mean, newest first.
    async fn give_name(&self, tables: Vec<Nameless>) -> Result<Vec<Finding>> {
        let mut tables = tables.into_iter();
        let Some(newest) = tables.next() else { return Ok(Vec::new()) };
        let versions = self.datasets.versions();
        let Nameless { record, snapshot } = &newest;
        let named = match versions.find(&record.tenant, &record.name).await? {
            None if self.settings.dry_run => record.clone(),
            None => versions.create(&record.tenant, &record.name, &record.table_id).await?,
            Some(named) => named,
        };
        let mut findings = Vec::new();
        let is_given = named.table_id == record.table_id;
        if is_given || (self.settings.newest_wins && named.table_id < record.table_id) {
            if !is_given {
                self.write(self.take_name(record)).await?;
            }
            let totals = DatasetRecord { head: snapshot.head(), ..record.clone() };
            self.write(versions.advance(&totals)).await?;
            findings.push(settled(format!("{} has its name again", called(record))));
            if !is_given {
                findings.push(settled(format!("{} has lost its name to it", called(&named))));
            }
        } else {
            findings.push(self.older(record, &named.table_id).await?);
        }
        let keeper = if is_given || findings.len() > 1 { &record.table_id } else { &named.table_id };
        for older in tables {
            findings.push(self.older(&older.record, keeper).await?);
        }
        Ok(findings)
    }

    /// Takes the name from the table that has it.
    async fn take_name(&self, record: &DatasetRecord) -> Result<()> {
        let (versions, now) = (self.datasets.versions(), clock::now());
        versions.stage(&record.tenant, &record.table_id, DateTime::<Utc>::MAX_UTC).await?;
        versions.replace(&record.tenant, &record.name, &record.table_id, now).await.map(drop)
    }

    /// What becomes of a table whose name another one keeps.
    async fn older(&self, record: &DatasetRecord, keeper: &str) -> Result<Finding> {
        if !self.settings.newest_wins {
            return Ok(open(format!(
                "{} has data, but its name means table {keeper}; with --newest-wins the newer of the two gets the \
                 name, and the other is deleted after --vacuum-after",
                called(record)
            )));
        }
        self.write(self.datasets.versions().stage(&record.tenant, &record.table_id, clock::now())).await?;
        Ok(settled(format!("{}: a newer table has its name; its files will be deleted in time", called(record))))
    }

    async fn forgotten(&self) -> Result<HashSet<String>> {
        let (mut all, mut last): (HashSet<String>, Option<String>) = (HashSet::new(), None);
        loop {
            let page = self.datasets.versions().forgotten(DateTime::<Utc>::MAX_UTC, last.as_deref()).await?;
            match page.last() {
                Some(table) => last = Some(table.table_id.clone()),
                None => return Ok(all),
            }
            all.extend(page.into_iter().map(|table| table.table_id));
        }
    }

    /// Does what changes something, unless nothing may be changed.
    async fn write(&self, change: impl Future<Output = Result<()>>) -> Result<()> {
        if self.settings.dry_run { Ok(()) } else { change.await }
    }
}

/// A dataset that cannot be read keeps none of the others from being repaired.
fn unreadable(record: &DatasetRecord, error: Error) -> Result<Finding> {
    match error.kind() {
        Kind::Corrupt | Kind::Unimplemented => Ok(open(format!("{}: {}", called(record), error.message()))),
        _ => Err(error),
    }
}
