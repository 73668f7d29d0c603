//! The secret that signs tickets, where the servers are told none: kept in the table, so that all sign with the same.
//!
//! Who may read the table could sign as the servers do, and could read every record anyway.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::failure::{for_operator, is_refused};
use super::item::{Attributes, Item, aliases, whole};
use super::{DynamoVersionStore, MARK};
use crate::error::{Error, Result};

/// The key of the item that holds it, beside the mark.
const SECRET: &str = "secret";

impl DynamoVersionStore {
    /// The secret in the table, which is `made` when there was none.
    ///
    /// # Errors
    /// In words for the operator: [`Kind::Corrupt`](crate::error::Kind::Corrupt) when it is damaged, and those of
    /// [`DynamoVersionStore::open`].
    pub async fn keep_secret(&self, made: Vec<u8>) -> Result<Vec<u8>> {
        if let Some(kept) = self.item(MARK.0, SECRET).await.map_err(for_operator)? {
            return read(&kept);
        }
        let item = whole(MARK.0, SECRET, [(SECRET, AttributeValue::B(Blob::new(made)))]);
        let condition = "attribute_not_exists(#pk)";
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).condition_expression(condition);
        match put.set_expression_attribute_names(Some(aliases(&[condition]))).send().await {
            Ok(_) => {}
            // Another node was first.
            Err(error) if is_refused(&error) => {}
            Err(error) => return Err(for_operator(self.failed("PutItem", error))),
        }
        let kept = self.item(MARK.0, SECRET).await.map_err(for_operator)?;
        kept.as_ref().map_or_else(|| Err(damaged()), read)
    }
}

fn read(item: &Attributes) -> Result<Vec<u8>> {
    Item::new(item)?;
    let secret = item.get(SECRET).and_then(|value| value.as_b().ok());
    secret.map(|secret| secret.as_ref().to_vec()).ok_or_else(damaged)
}

fn damaged() -> Error {
    Error::corrupt("the secret among the version records is damaged; give --handle-key")
}
