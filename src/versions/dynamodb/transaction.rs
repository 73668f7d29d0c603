//! Several writes that happen together or not at all.

use std::time::Duration;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};

use super::DynamoVersionStore;
use super::failure::CONDITION_FAILED;
use super::item::{Attributes, aliases, key};
use crate::clock;
use crate::error::{Error, Kind, Result};

/// Tries of a transaction that other changes of the same items keep from going through.
const MAX_TRIES: u32 = 12;
/// The longest pause between two of them; the first is an eighth of it.
const MAX_PAUSE: Duration = Duration::from_millis(80);

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All was written.
    Written,
    /// Nothing was: for each write, whether its condition failed.
    Refused(Vec<bool>),
}

/// A condition, and the values it names.
pub(super) type Condition<'a> = (&'a str, Vec<(&'a str, AttributeValue)>);

/// Writes an item, where a condition is given only if it holds.
pub(super) fn put(table: &str, item: Attributes, condition: Option<Condition<'_>>) -> Result<TransactWriteItem> {
    let mut put = Put::builder().table_name(table).set_item(Some(item));
    if let Some((expression, values)) = condition {
        put = put.condition_expression(expression).set_expression_attribute_names(Some(aliases(&[expression])));
        for (name, value) in values {
            put = put.expression_attribute_values(name, value);
        }
    }
    Ok(TransactWriteItem::builder().put(put.build().map_err(unbuilt)?).build())
}

/// Deletes an item if a condition holds.
pub(super) fn delete(
    table: &str,
    (pk, sk): (&str, &str),
    (expression, values): Condition<'_>,
) -> Result<TransactWriteItem> {
    let mut delete = Delete::builder().table_name(table).set_key(Some(key(pk, sk))).condition_expression(expression);
    delete = delete.set_expression_attribute_names(Some(aliases(&[expression])));
    for (name, value) in values {
        delete = delete.expression_attribute_values(name, value);
    }
    Ok(TransactWriteItem::builder().delete(delete.build().map_err(unbuilt)?).build())
}

fn unbuilt(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("a request to the version store is incomplete").because(error)
}

impl DynamoVersionStore {
    /// Writes all or nothing. The SDK sends one token with all tries of a request, so that one whose answer was lost is
    /// not carried out twice.
    pub(super) async fn transact(&self, writes: Vec<TransactWriteItem>) -> Result<Outcome> {
        let mut attempt = 0;
        loop {
            let request = self.client.transact_write_items().set_transact_items(Some(writes.clone()));
            let error = match request.send().await {
                Ok(_) => return Ok(Outcome::Written),
                Err(error) => error,
            };
            if let Some(refused) = error.as_service_error().and_then(refused) {
                return Ok(Outcome::Refused(refused));
            }
            let error = self.failed("TransactWriteItems", error);
            attempt += 1;
            if error.kind() != Kind::Conflict || attempt == MAX_TRIES {
                return Err(error);
            }
            tokio::time::sleep(clock::jitter((MAX_PAUSE / 8 * attempt).min(MAX_PAUSE))).await;
        }
    }
}

/// Which conditions failed, when nothing else was in the way.
fn refused(error: &TransactWriteItemsError) -> Option<Vec<bool>> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else { return None };
    let codes = || cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or("None"));
    let failed: Vec<bool> = codes().map(|code| code == CONDITION_FAILED).collect();
    (failed.contains(&true) && codes().all(|code| matches!(code, "None" | CONDITION_FAILED))).then_some(failed)
}
