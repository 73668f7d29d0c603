//! Whole frames: the selected versions, in order, as they were sent.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::{GetResultPayload, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::assembly::{Assembly, OUTPUT_ROWS, Order};
use super::blocking::on_thread;
use super::categories::{Categories, count_dictionaries, empty_values, union};
use super::convert::to_logical;
use super::dataset::Dataset;
use super::order::{Run, Windows, runs, window_rows};
use super::record::{StoredCategories, VersionRecord, decode_batch, decode_inline_batch, empty_batch};
use super::schema::{REMAINDER_PREFIX, ROW_COLUMN, union_schema};
use super::snapshot::{Chunk, Snapshot, Version};
use super::writer::chunk_location;
use crate::error::{Error, Result, shorten};
use crate::metrics::Metrics;
use crate::names::ExternalKey;
use crate::storage::store_error;

/// Chunks that one read fetches and decodes ahead of its consumer.
const CHUNKS_AHEAD: usize = 3;
/// Arrow bytes of them; of larger chunks fewer are decoded ahead.
const BYTES_AHEAD: u64 = 32 << 20;

/// Which versions and columns to read.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only this external key.
    pub external_key: Option<ExternalKey>,
    /// Only the newest.
    pub use_last: bool,
    /// Only this version, replaced or not.
    pub version: Option<i64>,
    /// The union as it stood then.
    pub as_of: Option<DateTime<Utc>>,
    /// Only these columns, in this order; empty for all.
    pub columns: Vec<String>,
}

/// A condition on rows, as the query layer understands it.
pub trait RowFilter: Send + Sync {
    /// The columns it looks at.
    fn columns(&self) -> &[String];

    /// Which of `chunks` may hold rows for which it is true.
    ///
    /// # Errors
    /// When the condition cannot be evaluated.
    fn keep_chunks(&self, snapshot: &Snapshot, chunks: &[Arc<Chunk>]) -> Result<Vec<bool>>;

    /// Which rows of `batch` it is true for; `batch` has its columns in their SQL types.
    ///
    /// # Errors
    /// When a value makes the condition fail.
    fn rows(&self, batch: &RecordBatch) -> Result<BooleanArray>;
}

/// A planned read of whole frames. Nothing is read before [`FrameRead::stream`].
pub struct FrameRead {
    dataset: Arc<Dataset>,
    snapshot: Arc<Snapshot>,
    versions: Vec<Version>,
    union: SchemaRef,
    schema: SchemaRef,
    filter: Option<Arc<dyn RowFilter>>,
    settings: ReadSettings,
    metrics: Metrics,
}

/// How frames are read.
#[derive(Debug, Clone)]
pub struct ReadSettings {
    /// Arrow bytes of rows that one read puts in order in memory; more are set aside on disk.
    pub order_bytes: usize,
    /// Where they are set aside.
    pub spill_folder: PathBuf,
}

impl FrameRead {
    /// Plans the read of a selection as of `snapshot`.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) for an unknown key or version,
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for an unknown column or a selection that contradicts itself.
    pub fn plan(
        dataset: Arc<Dataset>,
        snapshot: Arc<Snapshot>,
        selection: &Selection,
        filter: Option<Arc<dyn RowFilter>>,
        settings: ReadSettings,
        metrics: Metrics,
    ) -> Result<Self> {
        let (versions, fallback) = select(&dataset, &snapshot, selection)?;
        let mut schemas: Vec<SchemaRef> = versions.iter().map(|version| Arc::clone(&version.schema)).collect();
        if schemas.is_empty() {
            schemas.push(fallback);
        }
        let union = union_schema(&schemas, &snapshot.columns)?;
        let schema = project(&union, &selection.columns)?;
        Ok(Self { dataset, snapshot, versions, union, schema, filter, settings, metrics })
    }

    /// The schema of the frame.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows it has; `None` with a filter, which only reading tells.
    pub fn total_rows(&self) -> Option<i64> {
        self.filter.is_none().then(|| self.versions.iter().map(|version| version.record.rows).sum())
    }

    /// The Arrow bytes it has, about.
    pub fn total_bytes(&self) -> Option<i64> {
        self.filter.is_none().then(|| self.versions.iter().map(|version| version.record.bytes).sum())
    }

    /// When the newest version of the dataset was committed, as this read sees it.
    pub fn newest_instant(&self) -> Option<DateTime<Utc>> {
        self.snapshot.versions.last().map(|version| version.record.created_at)
    }

    /// Reads the frame, batch by batch. A frame without rows gives one empty batch.
    pub fn stream(self) -> BoxStream<'static, Result<RecordBatch>> {
        let read = Arc::new(self);
        let prepared = {
            let read = Arc::clone(&read);
            async move { read.dictionaries().await }
        };
        let empty = empty_batch(&read.schema);
        let rows = stream::once(prepared).map_ok(move |dictionaries| {
            let (read, dictionaries) = (Arc::clone(&read), Arc::new(dictionaries));
            let versions = read.versions.clone();
            let parts = versions
                .into_iter()
                .map(move |version| Part::new(Arc::clone(&read), version, Arc::clone(&dictionaries)).map(Part::stream));
            stream::iter(parts).try_flatten()
        });
        let rows = rows.try_flatten().try_filter(|batch| std::future::ready(batch.num_rows() > 0));
        with_default(rows.boxed(), empty)
    }

    /// The dictionaries of each column of the frame, joined over the versions in their order.
    async fn dictionaries(&self) -> Result<Vec<Categories>> {
        let mut joined: Vec<Vec<ArrayRef>> = self.union.fields().iter().map(|_| Vec::new()).collect();
        for version in &self.versions {
            let values = self.load_dictionaries(&version.record).await?;
            let mut values = values.into_iter();
            for field in version.schema.fields() {
                let own: Vec<ArrayRef> = values.by_ref().take(count_dictionaries(field.data_type())).collect();
                let Some((place, target)) = self.union.column_with_name(field.name()) else { continue };
                if let Some(known) = joined.get_mut(place).filter(|_| count_dictionaries(target.data_type()) > 0) {
                    join(known, own)?;
                }
            }
        }
        joined.into_iter().map(Categories::new).collect()
    }

    async fn load_dictionaries(&self, record: &VersionRecord) -> Result<Vec<ArrayRef>> {
        let batch = match &record.categories {
            None => return Ok(Vec::new()),
            Some(StoredCategories::Inline(text)) => decode_inline_batch(text)?,
            Some(StoredCategories::File(path)) => {
                let location = chunk_location(self.dataset.root(), path)?;
                let bytes = fetch(&self.dataset, &location).await?;
                decode_batch(bytes.to_vec())?
            }
        };
        Categories::unpack(Some(&batch))
    }
}

fn join(known: &mut Vec<ArrayRef>, own: Vec<ArrayRef>) -> Result<()> {
    if known.is_empty() {
        *known = own;
        return Ok(());
    }
    for (known, own) in known.iter_mut().zip(own) {
        let own = if own.data_type() == known.data_type() { own } else { empty_values(known.data_type()) };
        *known = union(known, &own)?;
    }
    Ok(())
}

fn with_default(
    rows: BoxStream<'static, Result<RecordBatch>>,
    empty: RecordBatch,
) -> BoxStream<'static, Result<RecordBatch>> {
    let state = (rows, Some(empty));
    let next = |(mut rows, empty): (BoxStream<'static, Result<RecordBatch>>, Option<RecordBatch>)| async move {
        match (rows.next().await, empty) {
            (Some(batch), _) => Some((batch, (rows, None))),
            (None, Some(empty)) => Some((Ok(empty), (rows, None))),
            (None, None) => None,
        }
    };
    stream::unfold(state, next).boxed()
}

/// The selected versions in order, and the schema of the frame when there are none.
fn select(dataset: &Dataset, snapshot: &Snapshot, selection: &Selection) -> Result<(Vec<Version>, SchemaRef)> {
    let name = dataset.name();
    if let Some(number) = selection.version {
        if selection.external_key.is_some() || selection.use_last || selection.as_of.is_some() {
            return Err(Error::invalid(
                "version cannot be combined with external_key, use_last or as_of; give it alone",
            ));
        }
        let version = snapshot.version(number).ok_or_else(|| {
            Error::not_found(format!("'{name}' has no version {number}; the newest is {}", snapshot.newest()))
        })?;
        return Ok((vec![version.clone()], Arc::clone(&version.schema)));
    }
    let of_key = |version: &&Version| {
        selection.external_key.as_ref().is_none_or(|key| version.record.external_key == key.as_str())
    };
    let known: Vec<&Version> = snapshot.versions.iter().filter(of_key).collect();
    let Some(newest) = known.last() else {
        let key = selection.external_key.as_ref().map_or("", ExternalKey::as_str);
        return Err(Error::not_found(format!("'{name}' has no version with the external_key '{}'", shorten(key))));
    };
    let schema = Arc::clone(&newest.schema);
    let live = |version: &&&Version| selection.as_of.map_or_else(|| version.is_live(), |at| version.was_live(at));
    let mut versions: Vec<Version> = known.iter().filter(live).map(|version| (*version).clone()).collect();
    if selection.use_last && versions.len() > 1 {
        versions.drain(..versions.len() - 1);
    }
    Ok((versions, schema))
}

fn project(union: &SchemaRef, columns: &[String]) -> Result<SchemaRef> {
    if columns.is_empty() {
        return Ok(Arc::clone(union));
    }
    let field = |name: &String| {
        let found = union.column_with_name(name).and_then(|(place, _)| union.fields().get(place).cloned());
        found.ok_or_else(|| {
            let names: Vec<&str> = union.fields().iter().take(20).map(|field| field.name().as_str()).collect();
            Error::invalid(format!(
                "columns: there is no column '{}'; the columns are: {}",
                shorten(name),
                shorten(&names.join(", "))
            ))
        })
    };
    let fields = columns.iter().map(field).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new_with_metadata(fields, union.metadata().clone())))
}

/// The rows of one version.
struct Part {
    read: Arc<FrameRead>,
    version: Version,
    dictionaries: Arc<Vec<Categories>>,
    /// The columns of chunks that are needed, but for the places of rows.
    physical: BTreeSet<String>,
}

impl Part {
    fn new(read: Arc<FrameRead>, version: Version, dictionaries: Arc<Vec<Categories>>) -> Result<Arc<Self>> {
        let mut physical = BTreeSet::new();
        let of_filter = read.filter.iter().flat_map(|filter| filter.columns());
        for name in read.schema.fields().iter().map(|field| field.name()).chain(of_filter) {
            if let Some(column) = read.snapshot.columns.find(name) {
                physical.insert(column.names.physical.clone());
                physical.insert(column.remainder_name());
            }
        }
        Ok(Arc::new(Self { read, version, dictionaries, physical }))
    }

    fn chunks(&self) -> Result<Vec<Arc<Chunk>>> {
        let snapshot = &self.read.snapshot;
        let chunks: Vec<Arc<Chunk>> =
            snapshot.chunks_of_load(self.version.record.load_id).into_iter().cloned().collect();
        let kept = match &self.read.filter {
            None => chunks.clone(),
            Some(filter) => {
                let keep = filter.keep_chunks(snapshot, &chunks)?;
                chunks.iter().zip(keep).filter(|(_, keep)| *keep).map(|(chunk, _)| Arc::clone(chunk)).collect()
            }
        };
        let metrics = &self.read.metrics;
        metrics.chunks_considered.inc_by(chunks.len() as u64);
        metrics.chunks_pruned.inc_by((chunks.len() - kept.len()) as u64);
        Ok(kept)
    }

    fn stream(self: Arc<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let chunks = match self.chunks() {
            Ok(chunks) => chunks,
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        let part = self;
        stream::iter(runs(chunks))
            .map(move |run| match run {
                Run::Apart(chunks) => Arc::clone(&part).stream_apart(chunks),
                Run::Mixed(chunks) => Arc::clone(&part).stream_mixed(chunks),
            })
            .flatten()
            .boxed()
    }

    /// Chunks one after the other, some decoded ahead.
    fn stream_apart(self: Arc<Self>, chunks: Vec<Arc<Chunk>>) -> BoxStream<'static, Result<RecordBatch>> {
        let ahead = self.chunks_ahead(&chunks);
        stream::iter(chunks)
            .map(move |chunk| {
                let part = Arc::clone(&self);
                async move {
                    let file = part.fetch_chunk(&chunk).await?;
                    on_thread(move || {
                        let file = part.contents(file)?;
                        part.decode(file, false)?.iter().map(|batch| part.finish(batch)).collect()
                    })
                    .await
                }
            })
            .buffered(ahead)
            .map_ok(|batches: Vec<RecordBatch>| stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    fn bytes_per_row(&self) -> u64 {
        let record = &self.version.record;
        record.bytes.max(0) as u64 / record.rows.max(1) as u64
    }

    fn chunks_ahead(&self, chunks: &[Arc<Chunk>]) -> usize {
        let most_rows = chunks.iter().map(|chunk| chunk.rows).max().unwrap_or_default();
        let largest = most_rows.saturating_mul(self.bytes_per_row()).max(1);
        ((BYTES_AHEAD / largest) as usize).clamp(1, CHUNKS_AHEAD)
    }

    /// Chunks whose rows are to be put in order.
    fn stream_mixed(self: Arc<Self>, chunks: Vec<Arc<Chunk>>) -> BoxStream<'static, Result<RecordBatch>> {
        let window = window_rows(&chunks, self.bytes_per_row(), self.read.settings.order_bytes);
        let ahead = self.chunks_ahead(&chunks);
        let Some(rows) = window else { return self.stream_assembled(chunks, ahead) };
        let part = Arc::clone(&self);
        let decoded = stream::iter(chunks)
            .map(move |chunk| {
                let part = Arc::clone(&part);
                async move {
                    let file = part.fetch_chunk(&chunk).await?;
                    on_thread(move || part.decode(part.contents(file)?, true)).await
                }
            })
            .buffer_unordered(ahead);
        let windows = Windows::new(rows, self.read.settings.order_bytes, self.read.settings.spill_folder.clone());
        let set_aside = decoded.try_fold(windows, |mut windows, batches| {
            on_thread(move || {
                batches.into_iter().try_for_each(|batch| windows.add(batch))?;
                Ok(windows)
            })
        });
        stream::once(set_aside)
            .map_ok(move |windows| {
                let part = Arc::clone(&self);
                orders(windows).map_ok(move |order| Arc::clone(&part).stream_order(order)).try_flatten()
            })
            .try_flatten()
            .boxed()
    }

    /// Chunks whose rows fit in memory together: each is put in order as it is decoded.
    fn stream_assembled(
        self: Arc<Self>,
        chunks: Vec<Arc<Chunk>>,
        ahead: usize,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let part = Arc::clone(&self);
        let order = async move {
            let ends = chunks.iter().map(|chunk| chunk.row_range);
            let bounds = ends.reduce(|(first, last), (other, end)| (first.min(other), last.max(end)));
            let (first, last) = bounds.unwrap_or_default();
            let rows = chunks.iter().map(|chunk| chunk.rows as usize).sum();
            let assembly = Arc::new(Assembly::new(rows, first, last)?);
            let adding = stream::iter(chunks.into_iter().map(Ok)).try_for_each_concurrent(ahead, |chunk| {
                let (part, assembly) = (Arc::clone(&part), Arc::clone(&assembly));
                async move {
                    let file = part.fetch_chunk(&chunk).await?;
                    on_thread(move || {
                        part.decode(part.contents(file)?, true)?.iter().try_for_each(|batch| assembly.add(batch))
                    })
                    .await
                }
            });
            adding.await?;
            let assembly = Arc::into_inner(assembly).ok_or_else(|| Error::internal("rows are still being added"))?;
            on_thread(move || Ok(assembly.finish())).await
        };
        stream::once(order).map_ok(move |order| Arc::clone(&self).stream_order(order)).try_flatten().boxed()
    }

    fn stream_order(self: Arc<Self>, order: Order) -> BoxStream<'static, Result<RecordBatch>> {
        let order = Arc::new(order);
        stream::iter(0..order.outputs())
            .map(move |number| {
                let (part, order) = (Arc::clone(&self), Arc::clone(&order));
                on_thread(move || part.finish(&order.output(number)?))
            })
            .buffered(CHUNKS_AHEAD)
            .boxed()
    }

    async fn fetch_chunk(&self, chunk: &Chunk) -> Result<Fetched> {
        let location = chunk_location(self.read.dataset.root(), &chunk.path)?;
        let got = self.read.dataset.store().get(&location).await;
        let got = got.map_err(|error| store_error("reading a chunk", error))?;
        self.read.metrics.chunks_read.inc();
        self.read.metrics.bytes_read.inc_by(got.meta.size);
        Ok(match got.payload {
            GetResultPayload::File(file, _) => Fetched::File(file, got.meta.size),
            GetResultPayload::Stream(parts) => {
                let parts: Vec<Bytes> =
                    parts.try_collect().await.map_err(|error| store_error("reading a chunk", error))?;
                Fetched::Bytes(parts.concat().into())
            }
        })
    }

    /// The bytes of a fetched chunk, read here when they are in a local file.
    fn contents(&self, fetched: Fetched) -> Result<Bytes> {
        match fetched {
            Fetched::Bytes(bytes) => Ok(bytes),
            Fetched::File(mut file, size) => {
                let mut bytes = Vec::with_capacity(size as usize);
                let read = std::io::Read::read_to_end(&mut file, &mut bytes);
                read.map_err(|error| Error::unavailable("reading a chunk: the disk did not answer").because(error))?;
                Ok(bytes.into())
            }
        }
    }

    fn decode(&self, file: Bytes, with_places: bool) -> Result<Vec<RecordBatch>> {
        let damaged = |error: parquet::errors::ParquetError| Error::corrupt("a chunk is damaged").because(error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let wanted = |name: &str| self.physical.contains(name) || (with_places && name == ROW_COLUMN);
        let roots = builder.schema().fields().iter().enumerate().filter(|(_, field)| wanted(field.name()));
        let roots: Vec<usize> = roots.map(|(place, _)| place).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let reader = builder.with_projection(mask).with_batch_size(OUTPUT_ROWS).build().map_err(damaged)?;
        let batches: Result<Vec<RecordBatch>, _> = reader.collect();
        let batches = batches.map_err(|error| Error::corrupt("a chunk is damaged").because(error))?;
        if with_places { batches.iter().map(|batch| self.aligned(batch)).collect() } else { Ok(batches) }
    }

    /// The same columns for every chunk of a load: a chunk leaves out remainders that are all zero.
    fn aligned(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
        for name in self.physical.iter().map(String::as_str).chain([ROW_COLUMN]) {
            if let Some((place, field)) = batch.schema().column_with_name(name) {
                fields.push(field.clone());
                columns.push(Arc::clone(batch.column(place)));
            } else if name.starts_with(REMAINDER_PREFIX) {
                fields.push(Field::new(name, DataType::Int32, true));
                columns.push(Arc::new(Int32Array::from_value(0, batch.num_rows())));
            }
        }
        assemble(&Arc::new(Schema::new(fields)), columns, batch.num_rows())
    }

    /// From the stored form to that of the frame, with the filter applied.
    fn finish(&self, stored: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.read.schema.fields().iter().map(|field| {
            let place = self.read.union.column_with_name(field.name()).map(|(place, _)| place);
            let categories = place.and_then(|place| self.dictionaries.get(place)).cloned().unwrap_or_default();
            self.column(stored, field, categories)
        });
        let batch = assemble(&self.read.schema, columns.collect::<Result<_>>()?, stored.num_rows())?;
        let Some(filter) = &self.read.filter else { return Ok(batch) };
        let fields = filter.columns().iter().filter_map(|name| self.read.snapshot.columns.find(name));
        let fields: Vec<Field> = fields.map(|column| column.sql_field()).collect();
        let columns = fields.iter().map(|field| self.column(stored, field, Categories::none()));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let mask = filter.rows(&assemble(&Arc::new(Schema::new(fields)), columns, stored.num_rows())?)?;
        filter_record_batch(&batch, &mask).map_err(|error| Error::internal("rows could not be filtered").because(error))
    }

    fn column(&self, stored: &RecordBatch, field: &Field, mut categories: Categories) -> Result<ArrayRef> {
        let column = self.read.snapshot.columns.find(field.name());
        let values = column.and_then(|column| Some((column, stored.column_by_name(&column.names.physical)?)));
        let Some((column, values)) = values else { return Ok(new_null_array(field.data_type(), stored.num_rows())) };
        let remainder = stored.column_by_name(&column.remainder_name());
        to_logical(values, remainder, field.data_type(), &mut categories)
    }
}

/// A chunk as the store gave it.
enum Fetched {
    /// An open local file and its size, to be read on the thread that decodes it.
    File(std::fs::File, u64),
    /// Its bytes.
    Bytes(Bytes),
}

/// Windows one after the other, each read on a thread of its own.
fn orders(windows: Windows) -> BoxStream<'static, Result<Order>> {
    type Remaining = Box<dyn Iterator<Item = Result<Order>> + Send>;
    stream::once(on_thread(move || Ok(Box::new(windows.finish()?) as Remaining)))
        .map_ok(|windows| {
            stream::try_unfold(windows, |mut windows| {
                on_thread(move || Ok(windows.next().transpose()?.map(|order| (order, windows))))
            })
        })
        .try_flatten()
        .boxed()
}

fn assemble(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::corrupt("stored rows do not fit the schema they were loaded with").because(error))
}

async fn fetch(dataset: &Dataset, location: &object_store::path::Path) -> Result<Bytes> {
    let result = dataset.store().get(location).await.map_err(|error| store_error("reading a chunk", error))?;
    result.bytes().await.map_err(|error| store_error("reading a chunk", error))
}
