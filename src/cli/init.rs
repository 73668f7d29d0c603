//! `init`: makes what the server keeps things in, and tries whether it can be used. It asks no server.

use std::io::Write;

use crate::aws;
use crate::config::{Config, VersionsPlace};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::Storage;
use crate::versions::{EmbeddedVersionStore, set_up};

/// Makes the table of version records where it is not there, and tries on table and storage everything that the server
/// will do; says on stdout what was done. Run again it changes nothing.
///
/// # Errors
/// In words for the operator, when something cannot be made or a right is missing.
pub async fn init(config: &Config) -> Result<()> {
    let metrics = Metrics::default();
    let storage = Storage::open(&config.storage, config.create_buckets, &metrics).await?;
    match storage.probe().await?.as_slice() {
        [] => say("storage: each tenant has a bucket of its own; nothing to try before there are tenants")?,
        tried => say(&format!("storage: {} work", tried.join(", ")))?,
    }
    match &config.versions {
        VersionsPlace::Embedded(file) => {
            EmbeddedVersionStore::open(file)?;
            say(&format!("version records: the file {} can be used", file.display()))
        }
        VersionsPlace::DynamoDb { table } => init_table(table, &metrics).await,
    }
}

async fn init_table(table: &str, metrics: &Metrics) -> Result<()> {
    let setup = set_up(&aws::load().await, table, metrics).await?;
    for warning in &setup.warnings {
        eprintln!("warning: {warning}");
    }
    for change in &setup.changes {
        say(&format!("version records: {change}"))?;
    }
    say(&format!("version records: the DynamoDB table '{table}' can be used"))
}

fn say(line: &str) -> Result<()> {
    let written = writeln!(std::io::stdout(), "{line}");
    written.map_err(|error| Error::unavailable("stdout cannot be written to").because(error))
}
