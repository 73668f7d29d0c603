//! Opens what the server keeps things in: the storage and the version store.

use std::sync::Arc;

use tracing::warn;

use crate::auth::SigningSecret;
use crate::config::{Config, VersionsPlace};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::Storage;
use crate::versions::{EmbeddedVersionStore, VersionStore};

/// The storage of `--storage`, which answers.
///
/// # Errors
/// When it cannot be opened, or refuses.
pub(super) async fn storage(config: &Config, metrics: &Metrics) -> Result<Storage> {
    let storage = Storage::open(&config.storage, config.create_buckets, metrics).await?;
    storage.check().await?;
    Ok(storage)
}

/// The version store of `--versions`, and the secret that signs tickets.
///
/// # Errors
/// When it cannot be opened, or refuses.
pub(super) async fn versions(config: &Config) -> Result<(Arc<dyn VersionStore>, SigningSecret)> {
    if let Some(warning) = config.versions.warning(&config.storage) {
        warn!("{warning}");
    }
    let versions: Arc<dyn VersionStore> = match &config.versions {
        VersionsPlace::Embedded(file) => Arc::new(EmbeddedVersionStore::open(file)?),
        VersionsPlace::DynamoDb { table } => {
            return Err(Error::invalid(format!("--versions dynamodb://{table}: not available in this version")));
        }
    };
    let secret = match &config.handle_key {
        Some(key) => SigningSecret::open(key)?,
        None => SigningSecret::kept(SigningSecret::made())?,
    };
    Ok((versions, secret))
}
