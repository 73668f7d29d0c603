//! What nodes say of themselves.

use std::collections::HashMap;

use super::DynamoVersionStore;
use super::item::{Attributes, EXPIRES_AT, Item, instant, number, text, whole};
use crate::error::Result;
use crate::versions::{HEARTBEAT_LIFE, Heartbeat};

/// The partition of the nodes.
pub(super) const NODE: &str = "node";
/// Nodes that are looked at; more than anybody runs, and few enough to hold.
const MAX_NODES: usize = 10_000;

impl DynamoVersionStore {
    pub(super) async fn put_heartbeat(&self, heartbeat: &Heartbeat) -> Result<()> {
        let said = [
            ("address", text(&heartbeat.address)),
            ("at_micros", instant(heartbeat.at)),
            ("oldest_read_micros", instant(heartbeat.oldest_read)),
            (EXPIRES_AT, number(heartbeat.at.timestamp() + HEARTBEAT_LIFE.num_seconds())),
        ];
        let put = self.client.put_item().table_name(&self.table).set_item(Some(whole(NODE, &heartbeat.node, said)));
        put.send().await.map(drop).map_err(|error| self.failed("PutItem", error))
    }

    pub(super) async fn list_heartbeats(&self) -> Result<Vec<Heartbeat>> {
        let values = HashMap::from([(":pk".to_string(), text(NODE))]);
        let items = self.query("#pk = :pk", None, values, None, MAX_NODES).await?;
        let heartbeat = |item: &Attributes| {
            let item = Item::new(item)?;
            Ok(Heartbeat {
                node: item.text("sk")?.into(),
                address: item.text("address")?.into(),
                at: item.instant("at_micros")?,
                oldest_read: item.instant("oldest_read_micros")?,
            })
        };
        items.iter().map(heartbeat).collect()
    }
}
