//! Where the files of the first pandas-db are, and getting them.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{GetResult, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt};
use tempfile::NamedTempFile;

use crate::cli::blocking;
use crate::config::{StoragePlace, TENANT_PLACE};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::Storage;

/// A `last_key.txt` holds a date and a time, or a UUID.
const MAX_SMALL_BYTES: u64 = 1 << 10;

/// A folder or a bucket.
#[derive(Debug)]
pub(super) struct Place {
    store: Arc<dyn ObjectStore>,
    named: String,
}

/// A file that lies on a local disk.
#[derive(Debug)]
pub(super) struct LocalFile {
    /// Where it was found.
    pub(super) named: String,
    path: PathBuf,
    /// A copy is removed when nobody needs it any more.
    _copy: Option<NamedTempFile>,
}

impl LocalFile {
    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Place {
    /// Opens the folder or bucket that was named.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) for a folder that is not there,
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a URL of something else,
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) for a bucket that cannot be read.
    pub(super) async fn open(source: &str) -> Result<Self> {
        let store = match source.split_once("://") {
            None => open_folder(Path::new(source))?,
            Some(("file", _)) => {
                let url = url::Url::parse(source).ok().and_then(|url| url.to_file_path().ok());
                open_folder(&url.ok_or_else(|| Error::invalid(format!("'{source}' is no URL of a folder")))?)?
            }
            Some(("s3", place)) if !place.contains(TENANT_PLACE) => open_bucket(source).await?,
            Some((scheme, _)) => {
                return Err(Error::invalid(format!(
                    "'{source}': {scheme}:// is not known; name a folder or s3://bucket"
                )));
            }
        };
        Ok(Self { store, named: source.into() })
    }

    /// All files.
    ///
    /// # Errors
    /// When the place does not answer.
    pub(super) async fn list(&self) -> Result<Vec<ObjectMeta>> {
        let listed = self.store.list(None).try_collect().await;
        listed.map_err(|error| self.failed("listing the files", &error))
    }

    /// The text of a file that is small.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) when it is not, or no text.
    pub(super) async fn read_small(&self, file: &ObjectMeta) -> Result<String> {
        if file.size > MAX_SMALL_BYTES {
            return Err(Error::invalid(format!("{}: it is too large to name a version", file.location)));
        }
        let read = self.store.get(&file.location).await;
        let bytes = match read {
            Ok(read) => read.bytes().await,
            Err(error) => Err(error),
        };
        let bytes = bytes.map_err(|error| self.failed(file.location.as_ref(), &error))?;
        String::from_utf8(bytes.into()).map_err(|_| Error::invalid(format!("{}: it is no text", file.location)))
    }

    /// The files on a local disk: as they lie there, or as copies.
    ///
    /// # Errors
    /// When the place does not answer, or the disk is full.
    pub(super) async fn fetch(&self, files: &[ObjectMeta]) -> Result<Vec<LocalFile>> {
        let mut fetched = Vec::with_capacity(files.len());
        for file in files {
            let got = self.store.get(&file.location).await;
            let got = got.map_err(|error| self.failed(file.location.as_ref(), &error))?;
            fetched.push(self.local(file, got).await?);
        }
        Ok(fetched)
    }

    async fn local(&self, file: &ObjectMeta, got: GetResult) -> Result<LocalFile> {
        let named = file.location.to_string();
        let mut pieces = match got.payload {
            GetResultPayload::File(_, path) => return Ok(LocalFile { named, path, _copy: None }),
            GetResultPayload::Stream(pieces) => pieces,
        };
        let full = |error: std::io::Error| Error::unavailable(format!("a temporary file cannot be written: {error}"));
        let mut copy = blocking("making a temporary file", move || NamedTempFile::new().map_err(full)).await?;
        while let Some(piece) = pieces.try_next().await.map_err(|error| self.failed(&named, &error))? {
            copy = blocking("writing a temporary file", move || copy.write_all(&piece).map(|()| copy).map_err(full))
                .await?;
        }
        copy.rewind().map_err(full)?;
        Ok(LocalFile { named, path: copy.path().to_owned(), _copy: Some(copy) })
    }

    fn failed(&self, what: &str, error: &object_store::Error) -> Error {
        Error::unavailable(format!("{}: {what}: {error}", self.named))
    }
}

fn open_folder(folder: &Path) -> Result<Arc<dyn ObjectStore>> {
    let is_folder = folder.is_dir();
    let store = LocalFileSystem::new_with_prefix(folder).ok().filter(|_| is_folder);
    let store = store.ok_or_else(|| Error::not_found(format!("there is no folder {}", folder.display())))?;
    Ok(Arc::new(store))
}

/// The objects of a bucket below the prefix of its URL.
async fn open_bucket(source: &str) -> Result<Arc<dyn ObjectStore>> {
    let place = StoragePlace::parse(source).map_err(|error| {
        Error::invalid(format!("'{source}' is no URL of a bucket; write s3://bucket or s3://bucket/prefix"))
            .because(error)
    })?;
    let StoragePlace::S3 { bucket, prefix } = &place else {
        return Err(Error::internal("a URL of a bucket was read as that of a folder"));
    };
    let storage = Storage::open(&place, false, &Metrics::default()).await?;
    storage.check().await.map_err(|error| {
        let why = error.message().trim_start_matches("--storage: ").to_string();
        Error::unavailable(format!("'{source}': {why}")).because(error)
    })?;
    let root = object_store::path::Path::parse(format!("{bucket}/{prefix}").trim_end_matches('/'))
        .map_err(|error| Error::invalid(format!("'{source}' is no URL of a bucket: {error}")))?;
    Ok(Arc::new(PrefixStore::new(Arc::clone(storage.store()), root)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test]
    async fn places_that_cannot_be_opened_are_named() {
        for source in ["gs://bucket/x", "s3://df-{tenant}", "s3://B", "file://host:x"] {
            let error = Place::open(source).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.message().contains(source), "{error}");
        }
        assert_eq!(Place::open("/nowhere/at/all").await.unwrap_err().kind(), Kind::NotFound);
        let folder = tempfile::tempdir().unwrap();
        assert!(Place::open(&format!("file://{}", folder.path().display())).await.is_ok());
        assert!(Place::open(folder.path().to_str().unwrap()).await.is_ok());
    }
}
