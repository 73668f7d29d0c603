//! Bytes: where chunks and logs live.
//!
//! [`Storage`] opens the place that `--storage` names as an [`ObjectStore`] whose `put` is durable when it returns.
//! It knows nothing of datasets; `table/` decides what lies where below a dataset's root.

mod durable;

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use self::durable::DurableLocalStore;
use crate::error::{Error, Result};
use crate::names::TenantId;

/// The URL under which a query plan finds the store; it never leaves the process.
pub const PLAN_URL: &str = "pandas-db://storage/";

/// An opened storage place.
#[derive(Debug, Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    folder: PathBuf,
}

impl Storage {
    /// Opens a local folder, making it when it is not there.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the folder cannot be made or read.
    pub fn open_local(folder: &FsPath) -> Result<Self> {
        let open = || {
            std::fs::create_dir_all(folder)?;
            folder.canonicalize()
        };
        let folder = open().map_err(|error| {
            Error::unavailable(format!("the storage folder {} cannot be opened: {error}", folder.display()))
        })?;
        let store = DurableLocalStore::new(&folder).map_err(|error| {
            Error::unavailable(format!("the storage folder {} cannot be opened", folder.display())).because(error)
        })?;
        Ok(Self { store: Arc::new(store), folder })
    }

    /// The store, rooted at the storage place.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The local folder of the storage.
    pub fn folder(&self) -> &FsPath {
        &self.folder
    }

    /// The root of the dataset with the opaque id `table_id`.
    pub fn table_root(&self, tenant: &TenantId, table_id: &str) -> Path {
        Path::from_iter(["tenants", tenant.folder().as_str(), table_id])
    }

    /// The same root as other programs open it.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the folder cannot be a URL.
    pub fn location(&self, root: &Path) -> Result<Url> {
        let folder = root.parts().fold(self.folder.clone(), |folder, part| folder.join(part.as_ref()));
        Url::from_directory_path(folder).map_err(|()| Error::internal("the storage folder cannot be written as a URL"))
    }
}

/// What a failure of the store means for a caller. The store's own words hold paths of the server and go to the log.
pub fn store_error(doing: &str, error: object_store::Error) -> Error {
    let full = |error: &(dyn std::error::Error + 'static)| {
        let mut source = Some(error);
        while let Some(error) = source {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
            }
            source = error.source();
        }
        false
    };
    let kind = match &error {
        object_store::Error::NotFound { .. } => Error::corrupt(format!("{doing}: a stored file is missing")),
        other if full(other) => Error::exhausted(format!("{doing}: the storage is full; free space and retry")),
        _ => Error::unavailable(format!("{doing}: the storage did not answer as it should; retry later")),
    };
    kind.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_an_absent_one() {
        let store = |kind| object_store::Error::Generic {
            store: "x",
            source: Box::new(std::io::Error::new(kind, "secret path")),
        };
        let full = store_error("writing a chunk", store(std::io::ErrorKind::StorageFull));
        assert_eq!(full.kind(), crate::error::Kind::Exhausted);
        let away = store_error("writing a chunk", store(std::io::ErrorKind::TimedOut));
        assert_eq!(away.kind(), crate::error::Kind::Unavailable);
        assert!(!away.to_string().contains("secret"));
    }
}
