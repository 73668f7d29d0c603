//! All buckets of S3 as one store: the first segment of a path names the bucket.
//!
//! So a tenant's bucket is found by a path like everything else, and whoever reads or writes knows nothing of buckets.
//! Each bucket has one client, made when it is first needed.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use super::bucket::{Bucket, S3Client};
use super::parts::Upload;

const NAME: &str = "S3Buckets";
/// Buckets whose clients are kept; beyond it all are let go and made anew when they are needed.
const MAX_CLIENTS: usize = 4_096;
/// Objects that one request deletes at most; a limit of S3.
const MAX_DELETES: usize = 1_000;

/// See the module's comment.
#[derive(Debug, Clone)]
pub(super) struct Buckets(Arc<Clients>);

#[derive(Debug)]
struct Clients {
    client: S3Client,
    open: Mutex<HashMap<String, Arc<Bucket>>>,
}

impl Buckets {
    /// The buckets that a client reaches.
    pub(super) fn new(client: S3Client) -> Self {
        Self(Arc::new(Clients { client, open: Mutex::default() }))
    }

    /// Whether buckets that are not there are made.
    pub(super) fn make_missing(&self) -> bool {
        self.0.client.create_buckets
    }

    /// The client of a bucket.
    ///
    /// # Errors
    /// When its name cannot be that of a bucket.
    pub(super) fn bucket(&self, name: &str) -> Result<Arc<Bucket>> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = open.get(name) {
            return Ok(Arc::clone(bucket));
        }
        if open.len() >= MAX_CLIENTS {
            open.clear();
        }
        let bucket = Arc::new(Bucket::open(&self.0.client, name)?);
        open.insert(name.into(), Arc::clone(&bucket));
        Ok(bucket)
    }

    /// The bucket of a path, and the rest of the path.
    pub(super) fn resolve(&self, path: &Path) -> Result<(Arc<Bucket>, Path)> {
        let (name, rest) = split(path)?;
        Ok((self.bucket(&name)?, rest))
    }

    fn listing(&self, prefix: Option<&Path>) -> Result<(Arc<Bucket>, Path)> {
        self.resolve(prefix.ok_or_else(no_bucket)?)
    }
}

fn no_bucket() -> Error {
    Error::Generic { store: NAME, source: "the path names no bucket".into() }
}

fn split(path: &Path) -> Result<(String, Path)> {
    let mut parts = path.parts();
    let name = parts.next().ok_or_else(no_bucket)?.as_ref().to_string();
    // As it stands: its percent signs are part of the names.
    let rest = path.as_ref().get(name.len() + 1..).unwrap_or_default();
    Ok((name, Path::parse(rest)?))
}

/// A path within a bucket as one of this store.
fn joined(bucket: &str, path: &Path) -> Result<Path> {
    Ok(Path::parse(format!("{bucket}/{path}"))?)
}

fn placed(bucket: &str, meta: ObjectMeta) -> Result<ObjectMeta> {
    Ok(ObjectMeta { location: joined(bucket, &meta.location)?, ..meta })
}

fn failed<T: Send + 'static>(error: Error) -> BoxStream<'static, Result<T>> {
    stream::once(async { Err(error) }).boxed()
}

impl fmt::Display for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Buckets {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (bucket, path) = self.resolve(location)?;
        bucket.put(&path, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let (bucket, path) = self.resolve(location)?;
        Ok(Box::new(Upload::begin(bucket, &path, opts).await?))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (bucket, path) = self.resolve(location)?;
        let got = bucket.store().get_opts(&path, options).await.map_err(|error| bucket.told(error))?;
        Ok(GetResult { meta: placed(bucket.name(), got.meta)?, ..got })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (bucket, path) = self.resolve(location)?;
        bucket.store().get_ranges(&path, ranges).await.map_err(|error| bucket.told(error))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let buckets = self.clone();
        let groups = locations.try_chunks(MAX_DELETES).map(move |group| match group {
            Ok(group) => delete_group(buckets.clone(), group),
            Err(error) => failed(error.1),
        });
        groups.flatten().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.listing(prefix) {
            Ok((bucket, path)) => listed(&bucket, bucket.store().list(Some(&path))),
            Err(error) => failed(error),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.listing(prefix).and_then(|found| Ok((found, split(offset)?.1))) {
            Ok(((bucket, path), after)) => listed(&bucket, bucket.store().list_with_offset(Some(&path), &after)),
            Err(error) => failed(error),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (bucket, path) = self.listing(prefix)?;
        let found = bucket.store().list_with_delimiter(Some(&path)).await.map_err(|error| bucket.told(error));
        let found = match found {
            Err(Error::NotFound { .. }) => ListResult { common_prefixes: Vec::new(), objects: Vec::new() },
            other => other?,
        };
        let folders = found.common_prefixes.iter().map(|folder| joined(bucket.name(), folder));
        let objects = found.objects.into_iter().map(|meta| placed(bucket.name(), meta));
        Ok(ListResult { common_prefixes: folders.collect::<Result<_>>()?, objects: objects.collect::<Result<_>>()? })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let ((bucket, from), (target, to)) = (self.resolve(from)?, self.resolve(to)?);
        if bucket.name() != target.name() {
            return Err(Error::NotImplemented { operation: "copy between buckets".into(), implementer: NAME.into() });
        }
        bucket.store().copy_opts(&from, &to, options).await.map_err(|error| bucket.told(error))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let ((bucket, from), (target, to)) = (self.resolve(from)?, self.resolve(to)?);
        if bucket.name() != target.name() {
            return Err(Error::NotImplemented { operation: "rename between buckets".into(), implementer: NAME.into() });
        }
        bucket.store().rename_opts(&from, &to, options).await.map_err(|error| bucket.told(error))
    }
}

fn listed(
    bucket: &Arc<Bucket>,
    objects: BoxStream<'static, Result<ObjectMeta>>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let bucket = Arc::clone(bucket);
    let place = move |object: Result<ObjectMeta>| {
        let object = match object.map_err(|error| bucket.told(error)) {
            // Of the bucket: there is nothing in it yet.
            Err(Error::NotFound { .. }) => None,
            Err(error) => Some(Err(error)),
            Ok(meta) => Some(placed(bucket.name(), meta)),
        };
        std::future::ready(object)
    };
    objects.filter_map(place).boxed()
}

/// Deletes objects, which may lie in several buckets.
fn delete_group(buckets: Buckets, group: Vec<Path>) -> BoxStream<'static, Result<Path>> {
    let mut by_bucket: HashMap<String, Vec<Path>> = HashMap::new();
    for path in group {
        match split(&path) {
            Ok((bucket, rest)) => by_bucket.entry(bucket).or_default().push(rest),
            Err(error) => return failed(error),
        }
    }
    let deletes = by_bucket.into_iter().map(move |(name, paths)| match buckets.bucket(&name) {
        Ok(bucket) => {
            let deleted = bucket.store().delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
            deleted.map(move |path| path.map_err(|error| bucket.told(error)).and_then(|p| joined(&name, &p))).boxed()
        }
        Err(error) => failed(error),
    });
    stream::iter(deletes).flatten().boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_bucket_and_the_rest_as_it_stands() {
        let (bucket, rest) = split(&Path::parse("df-a/x/a%20b/c.parquet").unwrap()).unwrap();
        assert_eq!((bucket.as_str(), rest.as_ref()), ("df-a", "x/a%20b/c.parquet"));
        assert_eq!(joined(&bucket, &rest).unwrap().as_ref(), "df-a/x/a%20b/c.parquet");
        assert_eq!(split(&Path::parse("df-a").unwrap()).unwrap().1, Path::default());
        assert!(split(&Path::default()).is_err());
    }
}
