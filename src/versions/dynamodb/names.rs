//! Names that tables lose and get, and the tables without one.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::failure::is_unclear;
use super::item::{Attributes, Item, instant, key, text, whole};
use super::records::{new_record, partition};
use super::transaction::{Outcome, delete, put};
use super::{DynamoVersionStore, MAX_PAGE};
use crate::clock;
use crate::error::{Error, Result};
use crate::names::{DatasetName, TenantId};
use crate::versions::{DatasetRecord, ForgottenTable};

/// The partition of the tables without a name.
pub(super) const FORGOTTEN: &str = "forgotten";
/// Tries of a replacement while others keep giving the name to other tables.
const MAX_TRIES: u32 = 32;
/// The longest pause between two of them.
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// How long reading back may take what a lost answer leaves open.
pub(super) const READ_BACK_LIMIT: Duration = Duration::from_millis(900);

/// That a record is of the table `:table_id`.
const IS_OF_TABLE: &str = "#table_id = :table_id";
const IS_ABSENT: &str = "attribute_not_exists(#pk)";
const IS_THERE: &str = "attribute_exists(#pk)";

fn nameless(tenant: &TenantId, table_id: &str, at: DateTime<Utc>) -> Attributes {
    whole(FORGOTTEN, table_id, [("tenant", text(tenant.as_str())), ("at_micros", instant(at))])
}

impl DynamoVersionStore {
    pub(super) async fn forget_name(&self, record: &DatasetRecord, at: DateTime<Utc>) -> Result<()> {
        let DatasetRecord { tenant, name, table_id, .. } = record;
        let condition = (IS_OF_TABLE, vec![(":table_id", text(table_id))]);
        let writes = vec![
            delete(&self.table, (&partition(tenant), name.as_str()), condition)?,
            put(&self.table, nameless(tenant, table_id, at), None)?,
        ];
        match self.transact(writes).await {
            // Refused: the name is gone, or another table's. An earlier try may have done it.
            Ok(Outcome::Written | Outcome::Refused(_)) => Ok(()),
            Err(error) if is_unclear(&error) && self.has_lost_name(record).await => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a table surely has no name any more.
    async fn has_lost_name(&self, record: &DatasetRecord) -> bool {
        let found = tokio::time::timeout(READ_BACK_LIMIT, self.find_record(&record.tenant, &record.name)).await;
        matches!(found, Ok(Ok(found)) if found.as_ref().is_none_or(|found| found.table_id != record.table_id))
    }

    /// What a name means after a write whose outcome is not known; `None` when that cannot be said either.
    pub(super) async fn read_back(&self, tenant: &TenantId, name: &DatasetName) -> Option<DatasetRecord> {
        let found = tokio::time::timeout(READ_BACK_LIMIT, self.find_record(tenant, name)).await;
        found.ok()?.ok()?
    }

    pub(super) async fn stage_table(&self, tenant: &TenantId, table_id: &str, until: DateTime<Utc>) -> Result<()> {
        self.transact(vec![put(&self.table, nameless(tenant, table_id, until), None)?]).await.map(drop)
    }

    pub(super) async fn replace_name(
        &self,
        tenant: &TenantId,
        name: &DatasetName,
        table_id: &str,
        at: DateTime<Utc>,
    ) -> Result<Option<String>> {
        for _ in 0..MAX_TRIES {
            let old = self.find_record(tenant, name).await?.map(|record| record.table_id);
            if old.as_deref() == Some(table_id) {
                return Err(not_staged());
            }
            let mut writes = vec![delete(&self.table, (FORGOTTEN, table_id), (IS_THERE, Vec::new()))?];
            let condition = match &old {
                Some(old) => (IS_OF_TABLE, vec![(":table_id", text(old))]),
                None => (IS_ABSENT, Vec::new()),
            };
            writes.push(put(&self.table, new_record(tenant, name, table_id), Some(condition))?);
            if let Some(old) = &old {
                writes.push(put(&self.table, nameless(tenant, old, at), None)?);
            }
            match self.transact(writes).await {
                Ok(Outcome::Written) => return Ok(old),
                Ok(Outcome::Refused(failed)) if failed.first() == Some(&true) => return Err(not_staged()),
                // Another was given the name meanwhile.
                Ok(Outcome::Refused(_)) => tokio::time::sleep(clock::jitter(MAX_PAUSE)).await,
                Err(error) => {
                    let is_done = |record: DatasetRecord| record.table_id == table_id;
                    if is_unclear(&error) && self.read_back(tenant, name).await.is_some_and(is_done) {
                        return Ok(old);
                    }
                    return Err(error);
                }
            }
        }
        Err(Error::conflict("too many others replaced the dataset at the same time; repeat the load"))
    }

    pub(super) async fn forgotten_tables(
        &self,
        before: DateTime<Utc>,
        after: Option<&str>,
    ) -> Result<Vec<ForgottenTable>> {
        let start = after.map(|after| key(FORGOTTEN, after));
        let values = HashMap::from([(":pk".to_string(), text(FORGOTTEN)), (":before".to_string(), instant(before))]);
        let items = self.query("#pk = :pk", Some("#at_micros < :before"), values, start, MAX_PAGE).await?;
        let table = |item: &Attributes| {
            let item = Item::new(item)?;
            Ok(ForgottenTable { tenant: TenantId::stored(item.text("tenant")?), table_id: item.text("sk")?.into() })
        };
        items.iter().map(table).collect()
    }
}

fn not_staged() -> Error {
    Error::conflict("the load took so long that its table was given up; repeat it")
}
