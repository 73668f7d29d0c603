//! The records of datasets: found, made, brought up to date, listed.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use chrono::DateTime;

use super::failure::{is_refused, is_unclear};
use super::item::{Attributes, Item, aliases, instant, key, number, text, whole};
use super::{DynamoVersionStore, MAX_PAGE};
use crate::error::{Error, Result, shorten};
use crate::names::{DatasetName, MAX_NAME_BYTES, TenantId};
use crate::versions::{DatasetPage, DatasetRecord, Head};

/// What `pk` of a tenant's records begins with.
const DATASETS: &str = "dataset#";

/// The partition of a tenant's records.
pub(super) fn partition(tenant: &TenantId) -> String {
    format!("{DATASETS}{}", tenant.as_str())
}

/// The record of a dataset before its first commit.
pub(super) fn new_record(tenant: &TenantId, name: &DatasetName, table_id: &str) -> Attributes {
    let zeros = ["version", "live_versions", "rows", "bytes"].map(|total| (total.to_string(), number(0)));
    let mut record = whole(&partition(tenant), name.as_str(), [("table_id", text(table_id))]);
    record.extend(zeros);
    record
}

impl DynamoVersionStore {
    pub(super) async fn find_record(&self, tenant: &TenantId, name: &DatasetName) -> Result<Option<DatasetRecord>> {
        let item = self.item(&partition(tenant), name.as_str()).await?;
        item.map(|item| read(&item)).transpose()
    }

    pub(super) async fn create_record(
        &self,
        tenant: &TenantId,
        name: &DatasetName,
        table_id: &str,
    ) -> Result<DatasetRecord> {
        let condition = "attribute_not_exists(#pk)";
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(new_record(tenant, name, table_id)))
            .condition_expression(condition)
            .set_expression_attribute_names(Some(aliases(&[condition])))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let ours = || DatasetRecord {
            tenant: tenant.clone(),
            name: name.clone(),
            table_id: table_id.into(),
            head: Head::default(),
        };
        let error = match put.send().await {
            Ok(_) => return Ok(ours()),
            Err(error) => error,
        };
        // What is there is another's, or our own from a try whose answer was lost.
        if let Some(PutItemError::ConditionalCheckFailedException(refused)) = error.as_service_error()
            && let Some(item) = refused.item()
        {
            return read(item);
        }
        let was_refused = is_refused(&error);
        let error = self.failed("PutItem", error);
        let found = match was_refused {
            true => self.find_record(tenant, name).await?,
            false if is_unclear(&error) => self.read_back(tenant, name).await,
            false => None,
        };
        found.ok_or(error)
    }

    pub(super) async fn advance_record(&self, record: &DatasetRecord) -> Result<()> {
        let head = record.head;
        let Some(log_version) = head.log_version else { return Ok(()) };
        let condition = "#table_id = :table_id AND (attribute_not_exists(#log_version) OR #log_version < :log_version)";
        let mut update = "SET #log_version = :log_version, #version = :version, #live_versions = :live_versions, \
                          #rows = :rows, #bytes = :bytes"
            .to_string();
        let mut request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(&partition(&record.tenant), record.name.as_str())))
            .condition_expression(condition)
            .expression_attribute_values(":table_id", text(&record.table_id))
            .expression_attribute_values(":log_version", number(log_version))
            .expression_attribute_values(":version", number(head.version))
            .expression_attribute_values(":live_versions", number(head.live_versions))
            .expression_attribute_values(":rows", number(head.rows))
            .expression_attribute_values(":bytes", number(head.bytes));
        if let Some(at) = head.updated_at {
            update.push_str(", #updated_at_micros = :updated_at_micros");
            request = request.expression_attribute_values(":updated_at_micros", instant(at));
        }
        let request = request.set_expression_attribute_names(Some(aliases(&[condition, &update])));
        match request.update_expression(update).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_refused(&error) => Ok(()),
            Err(error) => Err(self.failed("UpdateItem", error)),
        }
    }

    pub(super) async fn list_records(
        &self,
        tenant: &TenantId,
        prefix: &str,
        after: Option<&DatasetName>,
    ) -> Result<Vec<DatasetRecord>> {
        let after = after.map(DatasetName::as_str).filter(|after| *after >= prefix);
        // A key to begin after must lie within what is asked for.
        if prefix.len() > MAX_NAME_BYTES || after.is_some_and(|after| !after.starts_with(prefix)) {
            return Ok(Vec::new());
        }
        let pk = partition(tenant);
        let mut condition = "#pk = :pk".to_string();
        let mut values = HashMap::from([(":pk".to_string(), text(&pk))]);
        if !prefix.is_empty() {
            condition.push_str(" AND begins_with(#sk, :prefix)");
            values.insert(":prefix".into(), text(prefix));
        }
        let start = after.map(|after| key(&pk, after));
        let items = self.query(&condition, None, values, start, MAX_PAGE).await?;
        items.iter().map(read).collect()
    }

    /// At most `most` items of one partition, in order, from after the key `start`.
    pub(super) async fn query(
        &self,
        condition: &str,
        filter: Option<&str>,
        values: HashMap<String, AttributeValue>,
        mut start: Option<Attributes>,
        most: usize,
    ) -> Result<Vec<Attributes>> {
        let mut found: Vec<Attributes> = Vec::new();
        loop {
            // With a filter a request may give less than it looked at.
            let wanted = if filter.is_some() { self.page_items } else { self.page_items.min(most - found.len()) };
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression(condition)
                .set_filter_expression(filter.map(Into::into))
                .set_expression_attribute_names(Some(aliases(&[condition, filter.unwrap_or_default()])))
                .set_expression_attribute_values(Some(values.clone()))
                .set_exclusive_start_key(start)
                .limit(wanted as i32)
                .send()
                .await
                .map_err(|error| self.failed("Query", error))?;
            found.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key;
            if start.is_none() || found.len() >= most {
                found.truncate(most);
                return Ok(found);
            }
        }
    }

    pub(super) async fn scan_records(&self, from: Option<&str>) -> Result<DatasetPage> {
        let mut start = from.map(cursor_key).transpose()?;
        let filter = "begins_with(#pk, :datasets)";
        loop {
            let page = self
                .client
                .scan()
                .table_name(&self.table)
                .consistent_read(true)
                .filter_expression(filter)
                .set_expression_attribute_names(Some(aliases(&[filter])))
                .expression_attribute_values(":datasets", text(DATASETS))
                .set_exclusive_start_key(start)
                .limit(self.page_items as i32)
                .send()
                .await
                .map_err(|error| self.failed("Scan", error))?;
            let records: Vec<DatasetRecord> = page.items().iter().map(read).collect::<Result<_>>()?;
            start = page.last_evaluated_key;
            if start.is_none() || !records.is_empty() {
                let next = start.as_ref().map(cursor).transpose()?;
                return Ok(DatasetPage { records, next });
            }
        }
    }
}

/// A key as one text.
fn cursor(key: &Attributes) -> Result<String> {
    let part = |name: &str| key.get(name).and_then(|value| value.as_s().ok());
    let parts = part("pk").zip(part("sk"));
    parts
        .and_then(|parts| serde_json::to_string(&parts).ok())
        .ok_or_else(|| Error::unavailable("the version store gave a page that cannot be gone on from; retry later"))
}

fn cursor_key(cursor: &str) -> Result<Attributes> {
    let parts: (String, String) = serde_json::from_str(cursor).map_err(|error| {
        Error::invalid(format!("'{}' is not where a page ends; begin anew", shorten(cursor))).because(error)
    })?;
    Ok(key(&parts.0, &parts.1))
}

fn read(attributes: &Attributes) -> Result<DatasetRecord> {
    let item = Item::new(attributes)?;
    let tenant = item.text("pk")?.strip_prefix(DATASETS).unwrap_or_default();
    let name = DatasetName::parse(item.text("sk")?)
        .map_err(|error| Error::corrupt("the version store holds a name that no dataset can have").because(error))?;
    let head = Head {
        log_version: item.optional_number("log_version")?,
        version: item.number("version")?,
        live_versions: item.number("live_versions")?,
        rows: item.number("rows")?,
        bytes: item.number("bytes")?,
        updated_at: item.optional_number("updated_at_micros")?.and_then(DateTime::from_timestamp_micros),
    };
    Ok(DatasetRecord { tenant: TenantId::stored(tenant), name, table_id: item.text("table_id")?.into(), head })
}
