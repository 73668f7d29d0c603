//! The version store in one table of DynamoDB, for any number of nodes.
//!
//! # The table
//!
//! Its key is `pk` and `sk`, two strings. Every item has `format_version`, and a reader refuses a newer one. Instants
//! are microseconds since 1970, as numbers.
//!
//! | item | `pk` | `sk` | other attributes |
//! |---|---|---|---|
//! | what a name means, and the head | `dataset#TENANT` | the name | `table_id` and the totals |
//! | a table without a name: staged, or forgotten | `forgotten` | the table id | `tenant`, `at_micros` |
//! | a lease | `lease` | its name | `holder`, `until_micros`, `expires_at` |
//! | what a node says of itself | `node` | its id | `address`, `at_micros`, `oldest_read_micros`, `expires_at` |
//! | that the table is one of ours | `table` | `format` | |
//! | the secret that signs tickets, without `--handle-key` | `table` | `secret` | `secret` |
//!
//! The totals are `version`, `live_versions`, `rows` and `bytes`, and from the first commit on `log_version` and
//! `updated_at_micros`.
//!
//! `expires_at`, in seconds, is the attribute of the table's time to live: what nodes that died leave behind goes away
//! by itself. Nothing counts on it.
//!
//! There is no index. A name is found by its key. The names of a tenant are one partition, in the order of their bytes,
//! which is the order of [`VersionStore::list`]. [`VersionStore::list_all`] is a scan: only the background's pass and
//! `repair` ask for it, and for each dataset they get both read its log from the storage, which costs ten times as much
//! as the scan's share of it (a record is about 300 bytes, so a scan of 10,000 reads 3 MB). An index by table id would
//! have to be written with every creation and could only be read as it stood some time ago.
//!
//! # Requests
//!
//! | operation | requests | of which kind |
//! |---|---|---|
//! | `find` | 1 | consistent `GetItem` |
//! | `create` | 1 | conditional `PutItem`, which gives the winner's record where it fails |
//! | `advance` | 1 | conditional `UpdateItem` |
//! | `list`, `list_all`, `forgotten` | 1 for each MB or 1,000 records | consistent `Query` or `Scan` |
//! | `forget`, `stage` | 1 | `TransactWriteItems` |
//! | `replace` | 2 | `GetItem` and `TransactWriteItems` |
//! | `purge`, `try_lease`, `release`, `beat`, `leave`, `heartbeats`, `ping` | 1 | |
//!
//! # Races and lost answers
//!
//! Every write that decides something is conditional. A write whose answer was lost is sent again by the SDK: a
//! transaction under the same token, which DynamoDB applies once within ten minutes, and any other write is such that
//! it does nothing the second time. Staging is a transaction for that reason alone: a plain write of it that arrives
//! late would mark a table for deletion that has a name by then. When the SDK gives up, what matters is read back.

mod client;
mod failure;
mod item;
mod leases;
mod names;
mod nodes;
mod records;
mod secret;
mod setup;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod tests;
mod transaction;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use chrono::{DateTime, Utc};

use self::item::{Attributes, FORMAT_VERSION, Item, key, text};
use super::{DatasetPage, DatasetRecord, ForgottenTable, Heartbeat, MAX_PAGE, VersionStore};
use crate::aws;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names::{DatasetName, TenantId};

pub use self::setup::{Setup, set_up};

/// The key of the item that marks the table as one of ours.
const MARK: (&str, &str) = ("table", "format");

/// See the module's comment.
#[derive(Debug, Clone)]
pub struct DynamoVersionStore {
    client: Client,
    table: String,
    /// The region that requests are signed for, where the table is looked for.
    region: String,
    /// Items that one request asks for at most.
    page_items: usize,
}

impl DynamoVersionStore {
    /// Opens a table that [`set_up`] has made.
    ///
    /// # Errors
    /// In words for the operator: [`Kind::Invalid`](crate::error::Kind::Invalid) when the table is not there or is not
    /// one of ours, [`Kind::Corrupt`](crate::error::Kind::Corrupt) when a newer pandas-db made it,
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when DynamoDB is away or lets us not in.
    pub async fn open(shared: &SdkConfig, table: &str, metrics: &Metrics) -> Result<Self> {
        let store = Self::unchecked(shared, table, metrics);
        match store.item(MARK.0, MARK.1).await.map_err(failure::for_operator)? {
            Some(mark) => Item::new(&mark).map(|_| store),
            None => Err(Error::invalid(format!(
                "the DynamoDB table '{table}' was not made by this program; run `pandas-db init` with the same settings"
            ))),
        }
    }

    fn unchecked(shared: &SdkConfig, table: &str, metrics: &Metrics) -> Self {
        let (client, region) = (client::new(shared, metrics), aws::region(shared));
        Self { client, table: table.into(), region, page_items: MAX_PAGE }
    }

    /// The item of a key, as it stands now.
    async fn item(&self, pk: &str, sk: &str) -> Result<Option<Attributes>> {
        let get = self.client.get_item().table_name(&self.table).set_key(Some(key(pk, sk))).consistent_read(true);
        Ok(get.send().await.map_err(|error| self.failed("GetItem", error))?.item)
    }

    /// Marks the table as one of ours, unless it is marked.
    async fn mark(&self) -> Result<()> {
        let mut mark = key(MARK.0, MARK.1);
        mark.insert(FORMAT_VERSION.into(), item::format_version());
        let condition = "attribute_not_exists(#pk)";
        let put = self.client.put_item().table_name(&self.table).set_item(Some(mark));
        let put = put.condition_expression(condition).set_expression_attribute_names(Some(item::aliases(&[condition])));
        match put.send().await {
            Ok(_) => Ok(()),
            Err(error) if failure::is_refused(&error) => Ok(()),
            Err(error) => Err(self.failed("PutItem", error)),
        }
    }

    /// Deletes an item, if it is there and, where a holder is given, is that holder's.
    async fn delete(&self, pk: &str, sk: &str, holder: Option<&str>) -> Result<()> {
        let mut delete = self.client.delete_item().table_name(&self.table).set_key(Some(key(pk, sk)));
        if let Some(holder) = holder {
            let condition = "#holder = :holder";
            delete = delete.condition_expression(condition).expression_attribute_values(":holder", text(holder));
            delete = delete.set_expression_attribute_names(Some(item::aliases(&[condition])));
        }
        match delete.send().await {
            Ok(_) => Ok(()),
            Err(error) if failure::is_refused(&error) => Ok(()),
            Err(error) => Err(self.failed("DeleteItem", error)),
        }
    }
}

#[async_trait]
impl VersionStore for DynamoVersionStore {
    async fn find(&self, tenant: &TenantId, name: &DatasetName) -> Result<Option<DatasetRecord>> {
        self.find_record(tenant, name).await
    }

    async fn create(&self, tenant: &TenantId, name: &DatasetName, table_id: &str) -> Result<DatasetRecord> {
        self.create_record(tenant, name, table_id).await
    }

    async fn advance(&self, record: &DatasetRecord) -> Result<()> {
        self.advance_record(record).await
    }

    async fn list(&self, tenant: &TenantId, prefix: &str, after: Option<&DatasetName>) -> Result<Vec<DatasetRecord>> {
        self.list_records(tenant, prefix, after).await
    }

    async fn list_all(&self, from: Option<&str>) -> Result<DatasetPage> {
        self.scan_records(from).await
    }

    async fn forget(&self, record: &DatasetRecord, at: DateTime<Utc>) -> Result<()> {
        self.forget_name(record, at).await
    }

    async fn stage(&self, tenant: &TenantId, table_id: &str, until: DateTime<Utc>) -> Result<()> {
        self.stage_table(tenant, table_id, until).await
    }

    async fn replace(
        &self,
        tenant: &TenantId,
        name: &DatasetName,
        table_id: &str,
        at: DateTime<Utc>,
    ) -> Result<Option<String>> {
        self.replace_name(tenant, name, table_id, at).await
    }

    async fn forgotten(&self, before: DateTime<Utc>, after: Option<&str>) -> Result<Vec<ForgottenTable>> {
        self.forgotten_tables(before, after).await
    }

    async fn purge(&self, table_id: &str) -> Result<()> {
        self.delete(names::FORGOTTEN, table_id, None).await
    }

    async fn try_lease(&self, name: &str, holder: &str, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<bool> {
        self.take_lease(name, holder, now, until).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<()> {
        self.delete(leases::LEASE, name, Some(holder)).await
    }

    async fn beat(&self, heartbeat: &Heartbeat) -> Result<()> {
        self.put_heartbeat(heartbeat).await
    }

    async fn heartbeats(&self) -> Result<Vec<Heartbeat>> {
        self.list_heartbeats().await
    }

    async fn leave(&self, node: &str) -> Result<()> {
        self.delete(nodes::NODE, node, None).await
    }

    async fn ping(&self) -> Result<()> {
        self.item(MARK.0, MARK.1).await.map(drop)
    }
}
