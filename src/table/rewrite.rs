//! Chunks made anew because some of their rows are no longer live, or because a column is stored in another type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::assembly::OUTPUT_ROWS;
use super::blocking::on_thread;
use super::chunk::Chunk;
use super::compression::CompressionTrials;
use super::convert::recast;
use super::dataset::Dataset;
use super::encode::{EncodedChunk, LoadColumn, WrittenChunk, encode_chunk};
use super::schema::{Columns, LOAD_COLUMN};
use super::writer::{chunk_location, remove_file};
use crate::clock;
use crate::error::{Error, Result};
use crate::storage::store_error;

/// Chunks that one commit makes anew at the same time.
const REWRITES_IN_FLIGHT: usize = 2;

/// A live chunk that a commit takes out of the table.
pub(super) struct Affected {
    /// The chunk.
    pub chunk: Arc<Chunk>,
    /// The loads whose rows stay.
    pub kept: Vec<i64>,
}

/// The chunks that were made anew for a commit, over all its attempts: one that lost a race mostly needs the same.
#[derive(Default)]
pub(super) struct Rewritten(Vec<Rewrite>);

struct Rewrite {
    path: String,
    kept: Vec<i64>,
    schema: SchemaRef,
    written: WrittenChunk,
    /// Whether a commit names it, or may name it.
    used: bool,
}

impl Rewritten {
    /// For each affected chunk what stands for it in the table whose columns are `columns`: nothing, or a chunk of the
    /// rows that stay.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the column when a stored value is not exact in its new
    /// type, and those of reading and storing chunks.
    pub(super) async fn replace(
        &mut self,
        dataset: &Dataset,
        columns: &Columns,
        affected: Vec<Affected>,
    ) -> Result<Vec<(Arc<Chunk>, Option<WrittenChunk>)>> {
        let schema = columns.physical_schema();
        let known = &self.0;
        let work = affected.into_iter().map(|affected| {
            let schema = Arc::clone(&schema);
            let known = known.iter().find(|known| known.fits(&affected, &schema)).map(|known| known.written.clone());
            async move {
                let Affected { chunk, kept, .. } = affected;
                let written = match known {
                    Some(written) => Some(written),
                    None if kept.is_empty() => None,
                    None => Some(rewrite(dataset, columns, &chunk, &kept).await?),
                };
                Ok::<_, Error>((chunk, kept, written))
            }
        });
        let work: Vec<_> = work.collect();
        let done: Vec<_> = stream::iter(work).buffered(REWRITES_IN_FLIGHT).collect().await;
        let (mut replacements, mut failed) = (Vec::with_capacity(done.len()), None);
        for outcome in done {
            match outcome {
                Ok((chunk, kept, written)) => {
                    self.remember(&chunk, kept, &schema, written.as_ref());
                    replacements.push((chunk, written));
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(replacements), Err)
    }

    fn remember(&mut self, chunk: &Chunk, kept: Vec<i64>, schema: &SchemaRef, written: Option<&WrittenChunk>) {
        if let Some(written) = written.filter(|written| self.0.iter().all(|known| known.written.path != written.path)) {
            let (path, schema, written) = (chunk.path.clone(), Arc::clone(schema), written.clone());
            self.0.push(Rewrite { path, kept, schema, written, used: false });
        }
    }

    /// The commit that names these is in the log.
    pub(super) fn mark_used(&mut self, replacements: &[(Arc<Chunk>, Option<WrittenChunk>)]) {
        let used =
            |path: &str| replacements.iter().any(|(_, written)| written.as_ref().is_some_and(|w| w.path == path));
        self.0.iter_mut().filter(|known| used(&known.written.path)).for_each(|known| known.used = true);
    }

    /// Whether a commit names them is unknown.
    pub(super) fn keep_all(&mut self) {
        self.0.iter_mut().for_each(|known| known.used = true);
    }

    /// Removes those that surely no commit names.
    pub(super) async fn discard_unused(self, dataset: &Dataset) {
        for rewrite in self.0.iter().filter(|rewrite| !rewrite.used) {
            remove_file(dataset.store(), dataset.root(), &rewrite.written.path).await;
        }
    }
}

impl Rewrite {
    fn fits(&self, affected: &Affected, schema: &SchemaRef) -> bool {
        self.path == affected.chunk.path && self.kept == affected.kept && self.schema == *schema && !self.used
    }
}

/// The file of a chunk.
///
/// # Errors
/// Those of the storage.
pub(super) async fn fetch(dataset: &Dataset, chunk: &Chunk) -> Result<Bytes> {
    let location = chunk_location(dataset.root(), &chunk.path)?;
    let stored = dataset.store().get(&location).await.map_err(|error| store_error("reading a chunk", error))?;
    stored.bytes().await.map_err(|error| store_error("reading a chunk", error))
}

async fn rewrite(dataset: &Dataset, columns: &Columns, chunk: &Chunk, kept: &[i64]) -> Result<WrittenChunk> {
    let file = fetch(dataset, chunk).await?;
    let kept = if kept.len() == chunk.loads.len() { None } else { Some(kept.to_vec()) };
    let columns = columns.clone();
    let encoded = on_thread(move || {
        let mut batches = Vec::new();
        for batch in decode_chunk(file)? {
            let batch = match &kept {
                None => batch,
                Some(kept) => rows_of_loads(&batch, kept)?,
            };
            batches.push(in_stored_types(&batch, &columns)?);
        }
        let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        encode_chunk(&schema, &batches, LoadColumn::InBatches, &CompressionTrials::default())
    })
    .await?;
    store_beside(dataset, chunk, encoded).await
}

/// Stores a chunk in the folder of another, whose partition it is of.
///
/// # Errors
/// Those of the storage.
pub(super) async fn store_beside(dataset: &Dataset, chunk: &Chunk, encoded: EncodedChunk) -> Result<WrittenChunk> {
    let folder = chunk.path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let path = format!("{folder}{}.parquet", clock::new_ulid());
    let bytes = encoded.file.len() as u64;
    let put = dataset.store().put(&chunk_location(dataset.root(), &path)?, encoded.file.into()).await;
    put.map_err(|error| store_error("storing a chunk", error))?;
    let (loads, stats, remainders) = (encoded.loads, encoded.stats, encoded.remainders);
    Ok(WrittenChunk { path, bytes, loads, stats, remainders })
}

/// All rows and columns of a chunk.
///
/// # Errors
/// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when it is damaged.
pub(super) fn decode_chunk(file: Bytes) -> Result<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.with_batch_size(OUTPUT_ROWS).build());
    let reader = reader.map_err(|error| Error::corrupt("a chunk is damaged").because(error))?;
    let batches: Result<Vec<RecordBatch>, _> = reader.collect();
    batches.map_err(|error| Error::corrupt("a chunk is damaged").because(error))
}

/// The rows that came with one of `loads`.
///
/// # Errors
/// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the batch lacks its hidden columns.
pub(super) fn rows_of_loads(batch: &RecordBatch, loads: &[i64]) -> Result<RecordBatch> {
    let ids = batch.column_by_name(LOAD_COLUMN).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let ids = ids.ok_or_else(|| Error::corrupt("a chunk lacks the loads of its rows"))?;
    let mut last = None;
    let wanted: BooleanArray = ids
        .values()
        .iter()
        .map(|id| {
            // Neighbours mostly came with the same load.
            let (_, wanted) = *last.filter(|(known, _)| known == id).get_or_insert_with(|| (*id, loads.contains(id)));
            last = Some((*id, wanted));
            Some(wanted)
        })
        .collect();
    filter_record_batch(batch, &wanted).map_err(|error| Error::internal("rows could not be filtered").because(error))
}

/// A batch of a chunk with its columns in the types in which `columns` are stored.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the column when a value is not exact in its new type.
pub(super) fn in_stored_types(batch: &RecordBatch, columns: &Columns) -> Result<RecordBatch> {
    let wanted = columns.physical_schema();
    let (mut fields, mut arrays) = (Vec::new(), Vec::<ArrayRef>::new());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let target = wanted.field_with_name(field.name()).map_or(field.data_type(), |wanted| wanted.data_type());
        let array = if is_other_number(array.data_type(), target) {
            let name = columns.iter().find(|column| column.names.physical == *field.name());
            recast(name.map_or(field.name(), |column| &column.names.name), array, target)?
        } else {
            Arc::clone(array)
        };
        fields.push(Field::new(field.name(), array.data_type().clone(), true));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(|error| Error::internal("the columns of a chunk do not fit").because(error))
}

/// Only the type of numbers is ever stored otherwise; that of nested columns may differ in names that mean nothing.
fn is_other_number(stored: &DataType, wanted: &DataType) -> bool {
    stored != wanted && stored.is_numeric() && wanted.is_numeric()
}
