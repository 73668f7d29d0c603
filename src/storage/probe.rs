//! Whether a storage place can be used, before anybody relies on it.

use chrono::DateTime;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode};

use super::{Storage, StorageKind, answer};
use crate::clock;
use crate::config::TENANT_PLACE;
use crate::error::{Error, Result};

/// What probes are named, beside the tables.
const PROBE: &str = "pandas-db-probe";

impl Storage {
    /// Asks whether the place can be read, in one request. Buckets of tenants are known only by their tenants.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) with what an operator can do about it.
    pub async fn check(&self) -> Result<()> {
        let Some(place) = self.probe_place() else { return Ok(()) };
        match self.store.get(&place).await {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            // The first put makes it, where that is wanted.
            Err(error) if answer::is_no_bucket(&error) && self.makes_buckets() => Ok(()),
            Err(error) => Err(unusable("reading", error)),
        }
    }

    /// Tries everything that the server does with objects, on one that it makes and deletes; gives what was tried.
    ///
    /// # Errors
    /// As [`Storage::check`], naming what failed.
    pub async fn probe(&self) -> Result<Vec<&'static str>> {
        let Some(place) = self.probe_place() else { return Ok(Vec::new()) };
        let place = Path::from(format!("{place}-{}", clock::new_ulid()));
        let put = |mode: PutMode| self.store.put_opts(&place, "probe".into(), mode.into());
        put(PutMode::Overwrite).await.map_err(|error| unusable("putting an object", error))?;
        match put(PutMode::Create).await {
            Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(unusable("a conditional put", error)),
            Ok(_) => {
                return Err(Error::unavailable(
                    "the storage ignores If-None-Match on a put, so that commits of two servers could overwrite each \
                     other; use another server or version of it",
                ));
            }
        }
        self.store.get(&place).await.map_err(|error| unusable("reading an object", error))?;
        let folder = Path::from_iter(place.parts().take(place.parts().count().saturating_sub(1)));
        self.store.list_with_delimiter(Some(&folder)).await.map_err(|error| unusable("listing objects", error))?;
        self.store.delete(&place).await.map_err(|error| unusable("deleting an object", error))?;
        let mut tried = vec!["put", "conditional put", "get", "list", "delete"];
        if let StorageKind::S3(buckets) = &self.kind {
            let begun = self.store.put_multipart(&place).await;
            let mut upload = begun.map_err(|error| unusable("beginning an upload in parts", error))?;
            // It lists them; none is as old as that.
            let (bucket, prefix) = buckets.resolve(&place).map_err(|error| unusable("listing uploads", error))?;
            let listed = bucket.end_uploads(&prefix, DateTime::UNIX_EPOCH).await;
            upload.abort().await.map_err(|error| unusable("ending an upload in parts", error))?;
            listed.map_err(|error| unusable("listing uploads in parts", error))?;
            tried.push("upload in parts");
        }
        Ok(tried)
    }

    /// Where a probe lies; nowhere when tenants have buckets of their own.
    fn probe_place(&self) -> Option<Path> {
        let before = self.tables.split(TENANT_PLACE).next().unwrap_or_default();
        let before = before.rsplit_once('/').map_or("", |(folder, _)| folder);
        let is_known = !before.is_empty() || matches!(self.kind, StorageKind::Folder(_));
        is_known.then(|| Path::parse(format!("{before}/{PROBE}").trim_start_matches('/')).ok()).flatten()
    }

    fn makes_buckets(&self) -> bool {
        matches!(&self.kind, StorageKind::S3(buckets) if buckets.make_missing())
    }
}

fn unusable(doing: &str, error: StoreError) -> Error {
    Error::unavailable(format!("--storage: {doing} failed: {}", answer::explained(&error))).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_can_be_used_passes_and_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open_local(folder.path(), "").unwrap();
        storage.check().await.unwrap();
        assert_eq!(storage.probe().await.unwrap().len(), 5);
        let files = std::fs::read_dir(folder.path().join("tenants"));
        assert_eq!(files.map_or(0, Iterator::count), 0);
    }
}
