//! Leases: who does a piece of work that one node should do.

use chrono::{DateTime, Utc};

use super::DynamoVersionStore;
use super::failure::is_refused;
use super::item::{EXPIRES_AT, aliases, instant, number, text, whole};
use crate::error::Result;

/// The partition of the leases.
pub(super) const LEASE: &str = "lease";
/// Seconds after its end at which DynamoDB may delete a lease.
const KEPT_SECONDS: i64 = 3_600;

impl DynamoVersionStore {
    pub(super) async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<bool> {
        let condition = "attribute_not_exists(#pk) OR #holder = :holder OR #until_micros <= :now";
        let lease = [
            ("holder", text(holder)),
            ("until_micros", instant(until)),
            (EXPIRES_AT, number(until.timestamp() + KEPT_SECONDS)),
        ];
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(whole(LEASE, name, lease)))
            .condition_expression(condition)
            .set_expression_attribute_names(Some(aliases(&[condition])))
            .expression_attribute_values(":holder", text(holder))
            .expression_attribute_values(":now", instant(now));
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error) if is_refused(&error) => Ok(false),
            Err(error) => Err(self.failed("PutItem", error)),
        }
    }
}
