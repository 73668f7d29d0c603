//! A local folder as an object store whose writes survive the loss of power.
//!
//! `object_store`'s own `LocalFileSystem` never syncs, so its `put` may be lost, or be visible and empty, after a power
//! cut. Here a `put` writes a file beside the target, syncs it, gives it its name in one step (a hard link where the
//! target must not exist, which fails for all but one of several writers) and syncs every folder it changed. Files of a
//! [`WriteBatch`] are new and looked at by nobody yet: they are written where they belong, and synced at its end. All
//! other operations are `LocalFileSystem`'s.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use super::batch::WriteBatch;

const NAME: &str = "DurableLocalStore";

/// See the module's comment.
#[derive(Debug)]
pub(super) struct DurableLocalStore {
    inner: LocalFileSystem,
    root: PathBuf,
}

impl DurableLocalStore {
    /// A store rooted at an existing folder.
    pub(super) fn new(root: &FsPath) -> Result<Self> {
        Ok(Self { inner: LocalFileSystem::new_with_prefix(root)?, root: root.to_path_buf() })
    }

    fn file_path(&self, location: &Path) -> PathBuf {
        location.parts().fold(self.root.clone(), |path, part| path.join(part.as_ref()))
    }
}

impl fmt::Display for DurableLocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)
    }
}

fn generic(source: std::io::Error) -> Error {
    Error::Generic { store: NAME, source: Box::new(source) }
}

/// Makes `folder` and what is missing above it. Notes the folders in which it made one, which are to be synced.
fn create_folders(folder: &FsPath, changed: &mut Vec<PathBuf>) -> std::io::Result<()> {
    match std::fs::create_dir(folder) {
        Ok(()) => changed.extend(folder.parent().map(FsPath::to_path_buf)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let Some(parent) = folder.parent() else { return Err(error) };
            create_folders(parent, changed)?;
            create_folders(folder, changed)?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn sync_folder(folder: &FsPath) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn write_new(path: &FsPath, payload: &PutPayload) -> std::io::Result<File> {
    let mut file = File::create_new(path)?;
    for part in payload.iter() {
        file.write_all(part)?;
    }
    Ok(file)
}

fn put(target: &FsPath, payload: &PutPayload, create: bool) -> Result<PutResult> {
    let folder = target.parent().unwrap_or(target);
    let mut changed = Vec::new();
    create_folders(folder, &mut changed).map_err(generic)?;
    changed.iter().try_for_each(|folder| sync_folder(folder)).map_err(generic)?;
    let staged = folder.join(format!(".{}.tmp", crate::clock::new_ulid()));
    let named = write_new(&staged, payload)
        .and_then(|file| file.sync_all())
        .and_then(|()| if create { std::fs::hard_link(&staged, target) } else { std::fs::rename(&staged, target) });
    // After a rename there is nothing left to remove; after anything else the staged file has served.
    let _ = std::fs::remove_file(&staged);
    match named {
        Ok(()) => sync_folder(folder).map_err(generic)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::AlreadyExists { path: target.display().to_string(), source: Box::new(error) });
        }
        Err(error) => return Err(generic(error)),
    }
    Ok(PutResult { e_tag: None, version: None })
}

/// Writes a new file that is durable when its batch is. A batch that is never settled leaves an orphan.
fn put_unsynced(root: &FsPath, target: &FsPath, payload: &PutPayload, batch: &WriteBatch) -> std::io::Result<()> {
    batch.begin(root)?;
    let folder = target.parent().unwrap_or(target);
    let mut changed = vec![folder.to_path_buf(), target.to_path_buf()];
    create_folders(folder, &mut changed)?;
    match write_new(target, payload) {
        Ok(_) => {
            batch.note(changed);
            batch.flush_early(root);
            Ok(())
        }
        Err(error) => {
            if error.kind() != ErrorKind::AlreadyExists {
                let _ = std::fs::remove_file(target);
            }
            Err(error)
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for DurableLocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let target = self.file_path(location);
        if let Some(batch) = opts.extensions.get::<WriteBatch>().cloned() {
            let root = self.root.clone();
            let done = tokio::task::spawn_blocking(move || put_unsynced(&root, &target, &payload, &batch)).await;
            done.map_err(std::io::Error::other).flatten().map_err(generic)?;
            return Ok(PutResult { e_tag: None, version: None });
        }
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented { operation: "update".into(), implementer: NAME.into() });
            }
        };
        let done = tokio::task::spawn_blocking(move || put(&target, &payload, create)).await;
        done.map_err(|error| generic(std::io::Error::other(error)))?
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        // Nothing here writes in parts; LocalFileSystem's would not be durable.
        Err(Error::NotImplemented { operation: "multipart upload".into(), implementer: NAME.into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn of_many_creators_one_wins_and_nothing_is_left_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocalStore::new(folder.path()).unwrap();
        let path = Path::parse("a%20b/c/log.json").unwrap();
        let create = || store.put_opts(&path, "x".into(), PutMode::Create.into());
        let outcomes = futures::future::join_all((0..16).map(|_| create())).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert!(outcomes.iter().flat_map(|o| o.as_ref().err()).all(|e| matches!(e, Error::AlreadyExists { .. })));
        let left: Vec<_> = std::fs::read_dir(folder.path().join("a%20b/c")).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "x");
    }

    #[tokio::test]
    async fn what_is_put_in_a_batch_is_there_once_it_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocalStore::new(folder.path()).unwrap();
        // Few are synced one by one, many by one flush, and of very many some before the end.
        for files in [1, 40, 200] {
            let batch = WriteBatch::default();
            for number in 0..files {
                let path = Path::parse(format!("{files}/{number}/chunk")).unwrap();
                store.put_opts(&path, number.to_string().into(), batch.options()).await.unwrap();
            }
            batch.settle().await.unwrap();
            batch.settle().await.unwrap();
            let last = Path::parse(format!("{files}/{}/chunk", files - 1)).unwrap();
            assert_eq!(store.get(&last).await.unwrap().bytes().await.unwrap(), (files - 1).to_string());
        }
    }

    #[tokio::test]
    async fn a_batch_overwrites_nothing_and_tells_of_files_that_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocalStore::new(folder.path()).unwrap();
        let (path, batch) = (Path::parse("a/chunk").unwrap(), WriteBatch::default());
        store.put_opts(&path, "x".into(), batch.options()).await.unwrap();
        assert!(store.put_opts(&path, "y".into(), batch.options()).await.is_err());
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "x");
        std::fs::remove_file(folder.path().join("a/chunk")).unwrap();
        assert!(batch.settle().await.is_err());
    }
}
