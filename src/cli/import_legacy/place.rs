//! Where the files of the first pandas-db are, and getting them.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::{GetResult, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt};
use tempfile::NamedTempFile;

use crate::cli::blocking;
use crate::error::{Error, Result};

/// A `last_key.txt` holds a date and a time, or a UUID.
const MAX_SMALL_BYTES: u64 = 1 << 10;

/// A folder, or in time a bucket.
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
    /// Opens what `--source` names.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) for a folder that is not there,
    /// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) for a URL that this version does not open.
    pub(super) fn open(source: &str) -> Result<Self> {
        let folder = match source.split_once("://") {
            None => PathBuf::from(source),
            Some(("file", _)) => url::Url::parse(source)
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| Error::invalid(format!("'{source}' is no URL of a folder")))?,
            Some((scheme, _)) => {
                return Err(Error::unimplemented(format!(
                    "'{source}': {scheme}:// is not available in this version; copy the bucket to a folder and name \
                     that"
                )));
            }
        };
        let is_folder = folder.is_dir();
        let store = LocalFileSystem::new_with_prefix(&folder).ok().filter(|_| is_folder);
        let store = store.ok_or_else(|| Error::not_found(format!("there is no folder {}", folder.display())))?;
        Ok(Self { store: Arc::new(store), named: source.into() })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn places_that_cannot_be_opened_are_named() {
        let bucket = Place::open("s3://bucket/x").unwrap_err();
        assert_eq!(bucket.kind(), Kind::Unimplemented);
        assert!(bucket.message().contains("copy the bucket"), "{bucket}");
        assert_eq!(Place::open("/nowhere/at/all").unwrap_err().kind(), Kind::NotFound);
        assert!(Place::open("file://host:x").is_err());
        let folder = tempfile::tempdir().unwrap();
        assert!(Place::open(&format!("file://{}", folder.path().display())).is_ok());
        assert!(Place::open(folder.path().to_str().unwrap()).is_ok());
    }
}
