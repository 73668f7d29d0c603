//! Uploads in parts, whose errors say no more than those of other requests.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::FutureExt;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, PutMultipartOptions, PutPayload, PutResult, Result, UploadPart};

use super::bucket::Bucket;

/// Bytes of a part; at most 10,000 parts make the largest object 78 GiB.
const PART_BYTES: usize = 8 << 20;
/// Parts that go up at the same time.
const PARTS_IN_FLIGHT: usize = 4;

/// An upload to a bucket.
#[derive(Debug)]
pub(super) struct Upload {
    bucket: Arc<Bucket>,
    inner: Box<dyn MultipartUpload>,
}

impl Upload {
    /// Begins one.
    ///
    /// # Errors
    /// As for other requests to the bucket; see [`Bucket::told`].
    pub(super) async fn begin(bucket: Arc<Bucket>, path: &Path, options: PutMultipartOptions) -> Result<Self> {
        let begun = bucket.store().put_multipart_opts(path, options).await;
        let inner = begun.map_err(|error| bucket.told(error))?;
        Ok(Self { bucket, inner })
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (bucket, sent) = (Arc::clone(&self.bucket), self.inner.put_part(data));
        sent.map(move |sent| sent.map_err(|error| bucket.told(error))).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await.map_err(|error| self.bucket.told(error))
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await.map_err(|error| self.bucket.told(error))
    }
}

/// Sends a whole object in parts and completes the upload.
pub(super) async fn send(upload: &mut dyn MultipartUpload, object: Bytes) -> Result<PutResult> {
    let starts = (0..object.len()).step_by(PART_BYTES);
    let parts: Vec<_> = starts
        .map(|start| object.slice(start..(start + PART_BYTES).min(object.len())))
        .map(|part| upload.put_part(part.into()))
        .collect();
    stream::iter(parts).buffer_unordered(PARTS_IN_FLIGHT).try_collect::<Vec<()>>().await?;
    upload.complete().await
}
