//! Encodes and stores the chunks of one load, several at a time.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::buffers::slice_bytes;
use super::compression::CompressionTrials;
use super::encode::{LoadColumn, WrittenChunk, encode_chunk};
use super::keys::{KeyColumn, partition_folder};
use super::split::ReadyChunk;
use crate::clock;
use crate::error::{Error, Result};
use crate::storage::{WriteBatch, store_error};

/// Chunks of one load that are encoded or stored at the same time. More than the cores, so that they encode on while
/// others wait for the disk.
const CHUNKS_IN_FLIGHT: usize = 6;
/// Arrow bytes of them, in units that a permit stands for: few large chunks at a time, many small ones.
const PERMITS: usize = 36;
const PERMIT_BYTES: usize = 1 << 20;

/// Chunks on their way to storage: those of a load, or those that are made of others.
pub(super) struct ChunkWriter {
    store: Arc<dyn ObjectStore>,
    root: Path,
    schema: SchemaRef,
    keys: Arc<[KeyColumn]>,
    load: LoadColumn,
    trials: Arc<CompressionTrials>,
    permits: Arc<Semaphore>,
    batch: WriteBatch,
    tasks: JoinSet<Result<(usize, WrittenChunk)>>,
    written: Vec<(usize, WrittenChunk)>,
    submitted: usize,
}

impl ChunkWriter {
    /// A writer for chunks of the stored form `schema`, below the dataset's `root`.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        root: Path,
        schema: SchemaRef,
        keys: Arc<[KeyColumn]>,
        load: LoadColumn,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(PERMITS));
        let (tasks, written) = (JoinSet::new(), Vec::new());
        let (batch, trials) = (WriteBatch::default(), Arc::default());
        Self { store, root, schema, keys, load, trials, permits, batch, tasks, written, submitted: 0 }
    }

    /// Begins to write a chunk, as soon as there is room for it.
    ///
    /// # Errors
    /// What an earlier chunk failed with.
    pub(super) async fn submit(&mut self, chunk: ReadyChunk) -> Result<()> {
        while let Some(done) = self.tasks.try_join_next() {
            self.take(done)?;
        }
        let bytes: usize = chunk.batches.iter().map(slice_bytes).sum();
        let weight = (bytes / PERMIT_BYTES).clamp(PERMITS / CHUNKS_IN_FLIGHT, PERMITS) as u32;
        let permit = Arc::clone(&self.permits).acquire_many_owned(weight).await;
        let permit = permit.map_err(|error| Error::internal("the chunk writer was closed").because(error))?;
        let (store, root, schema) = (Arc::clone(&self.store), self.root.clone(), Arc::clone(&self.schema));
        let (keys, load, number) = (Arc::clone(&self.keys), self.load, self.submitted);
        let (trials, options) = (Arc::clone(&self.trials), self.batch.options());
        self.submitted += 1;
        self.tasks.spawn(async move {
            let folder = partition_folder(&keys, &chunk.ranges);
            let path = format!("{folder}{}.parquet", clock::new_ulid());
            let encoded =
                tokio::task::spawn_blocking(move || encode_chunk(&schema, &chunk.batches, load, &trials)).await;
            let encoded = encoded.map_err(|error| Error::internal("encoding a chunk broke off").because(error))??;
            let location = chunk_location(&root, &path)?;
            let bytes = encoded.file.len() as u64;
            let stored = store.put_opts(&location, encoded.file.into(), options).await;
            stored.map_err(|error| store_error("storing a chunk", error))?;
            drop(permit);
            let (loads, stats, remainders) = (encoded.loads, encoded.stats, encoded.remainders);
            Ok((number, WrittenChunk { path, bytes, loads, stats, remainders }))
        });
        Ok(())
    }

    fn take(&mut self, done: Result<Result<(usize, WrittenChunk)>, tokio::task::JoinError>) -> Result<()> {
        let chunk = done.map_err(|error| Error::internal("writing a chunk broke off").because(error))??;
        self.written.push(chunk);
        Ok(())
    }

    /// Waits until all chunks are durable; they come in the order submitted.
    ///
    /// # Errors
    /// What any chunk failed with.
    pub(super) async fn finish(&mut self) -> Result<Vec<WrittenChunk>> {
        while let Some(done) = self.tasks.join_next().await {
            self.take(done)?;
        }
        self.batch.settle().await?;
        self.written.sort_by_key(|(number, _)| *number);
        Ok(self.written.iter().map(|(_, chunk)| chunk.clone()).collect())
    }

    /// Removes what was written, after a load that surely was not committed. What cannot be removed now is an orphan
    /// that vacuum finds.
    pub(super) async fn abandon(mut self) {
        while let Some(done) = self.tasks.join_next().await {
            if let Err(error) = self.take(done) {
                tracing::debug!(%error, "a chunk of an abandoned load had failed");
            }
        }
        for (_, chunk) in &self.written {
            remove_file(&self.store, &self.root, &chunk.path).await;
        }
    }
}

/// Removes a file that no version names; a failure leaves an orphan.
pub(super) async fn remove_file(store: &Arc<dyn ObjectStore>, root: &Path, path: &str) {
    let Ok(location) = chunk_location(root, path) else { return };
    if let Err(error) = store.delete(&location).await {
        tracing::warn!(%error, "a file of an abandoned load stays until it is vacuumed");
    }
}

/// The place of a chunk in the store. The path is taken as it is: its percent signs are part of the names.
///
/// # Errors
/// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the path cannot be one.
pub(super) fn chunk_location(root: &Path, path: &str) -> Result<Path> {
    Path::parse(format!("{root}/{path}")).map_err(|error| Error::corrupt("a chunk has an unusable path").because(error))
}
