//! Opens what the server keeps things in: the storage and the version store.

use std::sync::Arc;

use tracing::warn;

use crate::auth::SigningSecret;
use crate::aws;
use crate::config::{Config, VersionsPlace};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::Storage;
use crate::versions::{DynamoVersionStore, EmbeddedVersionStore, VersionStore};

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
pub(super) async fn versions(config: &Config, metrics: &Metrics) -> Result<(Arc<dyn VersionStore>, SigningSecret)> {
    if let Some(warning) = config.versions.warning(&config.storage) {
        warn!("{warning}");
    }
    let given = config.handle_key.as_ref().map(SigningSecret::open).transpose()?;
    match (&config.versions, given) {
        (VersionsPlace::Embedded(file), given) => {
            let unnamed = || Error::internal("there is no place for the secret that signs tickets");
            Ok((Arc::new(EmbeddedVersionStore::open(file)?), given.ok_or_else(unnamed)?))
        }
        (VersionsPlace::DynamoDb { table }, given) => {
            let versions = DynamoVersionStore::open(&aws::load().await, table, metrics).await?;
            let secret = match given {
                Some(secret) => secret,
                None => SigningSecret::kept(versions.keep_secret(SigningSecret::made()).await?)?,
            };
            Ok((Arc::new(versions), secret))
        }
    }
}
