//! The rows of a read, from its chunks: fetched ahead, decoded, put in the order they were sent, and given the types of
//! the frame.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::{GetResultPayload, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::assembly::{Assembly, OUTPUT_ROWS, Order};
use super::blocking::{Limits, on_thread, on_threads};
use super::categories::Categories;
use super::convert::{physical_field, to_logical};
use super::order::{PlacedChunk, Run, Windows, runs, window_rows};
use super::read::FrameRead;
use super::rewrite::rows_of_loads;
use super::schema::{LOAD_COLUMN, REMAINDER_PREFIX, ROW_COLUMN};
use super::selection::{SelectedChunk, first_places};
use super::types::{has_remainder, physical_type};
use super::writer::chunk_location;
use crate::error::{Error, Result};
use crate::storage::store_error;

/// Portions that one read fetches and decodes ahead of its consumer.
const PORTIONS_AHEAD: usize = 3;
/// Arrow bytes of them; of larger ones fewer are decoded ahead.
const BYTES_AHEAD: u64 = 32 << 20;
/// Threads that decode what is put in order in memory, where there are as many processors,
const ASSEMBLING_THREADS: usize = 8;
/// and fetched portions that wait for them; of large ones fewer.
const PORTIONS_WAITING: usize = 8;
/// Small chunks are fetched together and decoded one after the other, since handing work to a thread takes as long as
/// some thousand rows: so many rows (fewer where they are long),
const PORTION_ROWS: u64 = 32_768;
/// so many bytes of their files,
const PORTION_BYTES: u64 = 4 << 20;
/// and so many chunks, of which each is an open file.
const PORTION_CHUNKS: usize = 4;
/// Batches that are put in order ahead of the consumer.
const BATCHES_AHEAD: usize = 3;

/// Places that there may be for each row, for rows that are put in order by a table of places.
const MAX_SPREAD_PER_ROW: i64 = 8;

/// A read that has begun.
pub(super) struct Scan {
    read: FrameRead,
    /// The stored columns that are needed, but for the places of rows, each in the type that all chunks can give.
    stored: BTreeMap<String, DataType>,
    /// Where the rows of each load begin in the whole.
    first_places: HashMap<i64, i64>,
    bytes_per_row: u64,
}

impl Scan {
    /// Begins a read.
    ///
    /// # Errors
    /// Never, as long as the columns of the read can be stored.
    pub(super) fn new(read: FrameRead) -> Result<Self> {
        let mut stored = BTreeMap::new();
        let of_filter: BTreeSet<&String> = read.filter.iter().flat_map(|filter| filter.columns()).collect();
        let of_frame = read.schema.fields().iter().map(|field| field.name());
        for name in of_frame.chain(of_filter) {
            let Some(column) = read.snapshot.columns.find(name) else { continue };
            // An earlier state may have stored a column in a narrower type than now.
            let logical = read.rows.schema.column_with_name(name).map(|(_, field)| field.data_type().clone());
            let logical = logical.as_ref().unwrap_or(&column.logical);
            let Some(physical) = physical_type(name, logical)? else { continue };
            stored.insert(column.names.physical.clone(), physical);
            if has_remainder(logical) || has_remainder(&column.logical) {
                stored.insert(column.remainder_name(), DataType::Int32);
            }
        }
        let versions = &read.rows.versions;
        let rows: i64 = versions.iter().map(|version| version.record.rows).sum();
        let bytes: i64 = versions.iter().map(|version| version.record.bytes).sum();
        let bytes_per_row = bytes.max(0) as u64 / rows.max(1) as u64;
        Ok(Self { first_places: first_places(versions), read, stored, bytes_per_row })
    }

    /// The rows, in order.
    pub(super) fn stream(self: Arc<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let chunks = match self.chunks() {
            Ok(chunks) => chunks,
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        stream::iter(runs(chunks))
            .map(move |run| match run {
                Run::Apart(chunks) => Arc::clone(&self).stream_apart(chunks),
                Run::Mixed(chunks) => Arc::clone(&self).stream_mixed(chunks),
            })
            .flatten()
            .boxed()
    }

    /// The chunks that may hold rows of the frame, with the places of their rows in the whole.
    fn chunks(&self) -> Result<Vec<PlacedChunk>> {
        let chunks = &self.read.rows.chunks;
        let keep = match &self.read.filter {
            None => vec![true; chunks.len()],
            Some(filter) => filter.keep_chunks(&self.read.snapshot, chunks)?,
        };
        let kept: Vec<&SelectedChunk> =
            chunks.iter().zip(keep).filter(|(_, keep)| *keep).map(|(chunk, _)| chunk).collect();
        let metrics = &self.read.metrics;
        metrics.chunks_considered.inc_by(chunks.len() as u64);
        metrics.chunks_pruned.inc_by((chunks.len() - kept.len()) as u64);
        kept.into_iter().map(|chunk| self.placed(chunk)).collect()
    }

    fn placed(&self, selected: &SelectedChunk) -> Result<PlacedChunk> {
        let unknown = || Error::corrupt("a chunk holds rows of a version that is not known");
        let mut bounds: Option<(i64, i64)> = None;
        for rows in selected.selected() {
            let start = self.first_places.get(&rows.load_id).ok_or_else(unknown)?;
            let (first, last) = (start.saturating_add(rows.first), start.saturating_add(rows.last));
            bounds = Some(bounds.map_or((first, last), |(min, max)| (min.min(first), max.max(last))));
        }
        Ok(PlacedChunk { selected: selected.clone(), places: bounds.ok_or_else(unknown)?, rows: selected.rows() })
    }

    /// Chunks one after the other, some decoded ahead.
    fn stream_apart(self: Arc<Self>, chunks: Vec<PlacedChunk>) -> BoxStream<'static, Result<RecordBatch>> {
        let ahead = self.portions_ahead(&chunks);
        stream::iter(portions(chunks, self.portion_rows()))
            .map(move |portion| {
                let scan = Arc::clone(&self);
                Arc::clone(&self).decode_portion(portion, false, move |batch| scan.finish(batch))
            })
            .buffered(ahead)
            .map_ok(|batches: Vec<RecordBatch>| stream::iter(batches.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    fn portions_ahead(&self, chunks: &[PlacedChunk]) -> usize {
        self.portions_in_bytes_ahead(chunks).min(PORTIONS_AHEAD)
    }

    /// How many portions of these chunks may be in memory until they are decoded.
    fn portions_in_bytes_ahead(&self, chunks: &[PlacedChunk]) -> usize {
        let most_rows = chunks.iter().map(|chunk| chunk.selected.chunk.rows).max().unwrap_or_default();
        let largest = most_rows.max(self.portion_rows()).saturating_mul(self.bytes_per_row).max(1);
        ((BYTES_AHEAD / largest) as usize).max(1)
    }

    /// How many threads decode these chunks, and how many portions wait for them: together as many as may be in memory.
    fn assembling_limits(&self, chunks: &[PlacedChunk]) -> Limits {
        let most = self.portions_in_bytes_ahead(chunks);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = processors.min(ASSEMBLING_THREADS).min(most);
        Limits { threads, waiting: (most - threads).min(PORTIONS_WAITING) }
    }

    fn portion_rows(&self) -> u64 {
        PORTION_ROWS.min(BYTES_AHEAD / PORTIONS_AHEAD as u64 / self.bytes_per_row.max(1))
    }

    /// Fetches the chunks of a portion and gives what `work` makes of each of their batches.
    async fn decode_portion<T: Send + 'static>(
        self: Arc<Self>,
        portion: Vec<PlacedChunk>,
        with_places: bool,
        work: impl Fn(&RecordBatch) -> Result<T> + Send + 'static,
    ) -> Result<Vec<T>> {
        let fetched = self.fetch_portion(portion).await?;
        on_thread(move || {
            let mut done = Vec::new();
            self.decode_fetched(fetched, with_places, |batch| {
                done.push(work(batch)?);
                Ok(())
            })?;
            Ok(done)
        })
        .await
    }

    /// Opens or downloads the chunks of a portion, all at once.
    async fn fetch_portion(&self, portion: Vec<PlacedChunk>) -> Result<Vec<(Fetched, PlacedChunk)>> {
        let files = try_join_all(portion.iter().map(|chunk| self.fetch_chunk(&chunk.selected))).await?;
        Ok(files.into_iter().zip(portion).collect())
    }

    /// Has `work` look at each batch of fetched chunks; one is freed once it was looked at.
    fn decode_fetched(
        &self,
        portion: Vec<(Fetched, PlacedChunk)>,
        with_places: bool,
        mut work: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        for (file, chunk) in portion {
            let batches = self.decode(file.contents()?, &chunk.selected, with_places)?;
            batches.into_iter().try_for_each(|batch| work(&batch))?;
        }
        Ok(())
    }

    /// Chunks whose rows are to be put in order.
    fn stream_mixed(self: Arc<Self>, chunks: Vec<PlacedChunk>) -> BoxStream<'static, Result<RecordBatch>> {
        let window = window_rows(&chunks, self.bytes_per_row, self.read.settings.order_bytes);
        let ahead = self.portions_ahead(&chunks);
        match window {
            None => self.stream_assembled(chunks, ahead),
            Some(rows) => self.stream_windows(chunks, ahead, rows),
        }
    }

    /// Chunks whose rows fit in memory together: each is put in order as it is decoded.
    fn stream_assembled(
        self: Arc<Self>,
        chunks: Vec<PlacedChunk>,
        ahead: usize,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let scan = Arc::clone(&self);
        let order = async move {
            let ends = chunks.iter().map(|chunk| chunk.places);
            let bounds = ends.reduce(|(first, last), (other, end)| (first.min(other), last.max(end)));
            let (first, last) = bounds.unwrap_or_default();
            let rows = chunks.iter().map(|chunk| chunk.rows as usize).sum();
            if last.saturating_sub(first) / MAX_SPREAD_PER_ROW > rows as i64 {
                return scan.find_sparse(chunks, ahead).await;
            }
            let assembly = Arc::new(Assembly::new(rows, first, last)?);
            let limits = scan.assembling_limits(&chunks);
            let fetched = stream::iter(portions(chunks, scan.portion_rows()))
                .map(|portion| scan.fetch_portion(portion))
                .buffer_unordered(ahead);
            let add = {
                let (scan, assembly) = (Arc::clone(&scan), Arc::clone(&assembly));
                move |portion| scan.decode_fetched(portion, true, |batch| assembly.add(batch))
            };
            on_threads(fetched, limits, add).await?;
            let assembly = Arc::into_inner(assembly).ok_or_else(|| Error::internal("rows are still being added"))?;
            on_thread(move || assembly.finish()).await
        };
        stream::once(order).map_ok(move |order| Arc::clone(&self).stream_order(order)).try_flatten().boxed()
    }

    /// The order of few rows whose places lie far apart, as a filter leaves them.
    async fn find_sparse(self: &Arc<Self>, chunks: Vec<PlacedChunk>, ahead: usize) -> Result<Order> {
        let decoded = stream::iter(portions(chunks, self.portion_rows()))
            .map(|portion| Arc::clone(self).decode_portion(portion, true, |batch| Ok(batch.clone())));
        let batches: Vec<Vec<RecordBatch>> = decoded.buffer_unordered(ahead).try_collect().await?;
        on_thread(move || Order::find_sparse(&batches.concat())).await
    }

    /// Chunks whose rows do not fit in memory together: they are set aside by windows of `rows` places.
    fn stream_windows(
        self: Arc<Self>,
        chunks: Vec<PlacedChunk>,
        ahead: usize,
        rows: i64,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let scan = Arc::clone(&self);
        let decoded = stream::iter(portions(chunks, self.portion_rows()))
            .map(move |portion| Arc::clone(&scan).decode_portion(portion, true, |batch| Ok(batch.clone())))
            .buffer_unordered(ahead);
        let settings = &self.read.settings;
        let windows = Windows::new(rows, settings.order_bytes, settings.spill_folder.clone());
        let set_aside = decoded.try_fold(windows, |mut windows, batches| {
            on_thread(move || {
                batches.into_iter().try_for_each(|batch| windows.add(batch))?;
                Ok(windows)
            })
        });
        stream::once(set_aside)
            .map_ok(move |windows| {
                let scan = Arc::clone(&self);
                orders(windows).map_ok(move |order| Arc::clone(&scan).stream_order(order)).try_flatten()
            })
            .try_flatten()
            .boxed()
    }

    fn stream_order(self: Arc<Self>, order: Order) -> BoxStream<'static, Result<RecordBatch>> {
        let order = Arc::new(order);
        stream::iter(0..order.outputs())
            .map(move |number| {
                let (scan, order) = (Arc::clone(&self), Arc::clone(&order));
                on_thread(move || scan.finish(&order.output(number)?))
            })
            .buffered(BATCHES_AHEAD)
            .boxed()
    }

    async fn fetch_chunk(&self, selected: &SelectedChunk) -> Result<Fetched> {
        let location = chunk_location(self.read.dataset.root(), &selected.chunk.path)?;
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

    /// The selected rows of a chunk; with their places in the whole where asked for, and then all in one form.
    fn decode(&self, file: Bytes, selected: &SelectedChunk, with_places: bool) -> Result<Vec<RecordBatch>> {
        let damaged = |error: parquet::errors::ParquetError| Error::corrupt("a chunk is damaged").because(error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
        let with_loads = selected.loads.is_some() || (with_places && selected.chunk.loads.len() > 1);
        let wanted = |name: &str| match name {
            ROW_COLUMN => with_places,
            LOAD_COLUMN => with_loads,
            _ => self.stored.contains_key(name),
        };
        let roots = builder.schema().fields().iter().enumerate().filter(|(_, field)| wanted(field.name()));
        let roots: Vec<usize> = roots.map(|(place, _)| place).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let reader = builder.with_projection(mask).with_batch_size(OUTPUT_ROWS).build().map_err(damaged)?;
        let mut batches = Vec::new();
        for batch in reader {
            let mut batch = batch.map_err(|error| Error::corrupt("a chunk is damaged").because(error))?;
            if let Some(loads) = &selected.loads {
                batch = rows_of_loads(&batch, loads)?;
            }
            batches.push(if with_places { self.in_one_form(&batch, selected)? } else { batch });
        }
        Ok(batches)
    }

    /// The same columns for every chunk: one leaves out what its versions lack, and remainders that are all zero.
    fn in_one_form(&self, batch: &RecordBatch, selected: &SelectedChunk) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
        for (name, data_type) in &self.stored {
            columns.push(match batch.column_by_name(name) {
                Some(column) if column.data_type() == data_type => Arc::clone(column),
                Some(column) => cast(column, data_type)
                    .map_err(|error| Error::corrupt("a stored column does not fit its type").because(error))?,
                None if name.starts_with(REMAINDER_PREFIX) => Arc::new(Int32Array::from_value(0, rows)),
                None => new_null_array(data_type, rows),
            });
            fields.push(physical_field(name, data_type.clone()));
        }
        columns.push(Arc::new(self.places(batch, selected)?));
        fields.push(physical_field(ROW_COLUMN, DataType::Int64));
        assemble(&Arc::new(Schema::new(fields)), columns, rows)
    }

    /// The places of the rows in the whole.
    fn places(&self, batch: &RecordBatch, selected: &SelectedChunk) -> Result<Int64Array> {
        let missing = || Error::corrupt("a chunk lacks its hidden columns");
        let numbers = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            column.ok_or_else(missing)
        };
        let start = |load: i64| self.first_places.get(&load).copied().ok_or_else(missing);
        let rows = numbers(ROW_COLUMN)?;
        if let [only] = selected.chunk.loads.as_ref() {
            let start = start(only.load_id)?;
            return Ok(if start == 0 { rows.clone() } else { rows.unary(|row| row.saturating_add(start)) });
        }
        let loads = numbers(LOAD_COLUMN)?;
        let mut places = Vec::with_capacity(rows.len());
        let mut last: Option<(i64, i64)> = None;
        for (load, row) in loads.values().iter().zip(rows.values()) {
            let (_, start) = match last.filter(|(known, _)| known == load) {
                Some(known) => known,
                None => *last.insert((*load, start(*load)?)),
            };
            places.push(row.saturating_add(start));
        }
        Ok(places.into())
    }

    /// From the stored form to that of the frame, with the filter applied.
    fn finish(&self, stored: &RecordBatch) -> Result<RecordBatch> {
        let columns = self
            .read
            .schema
            .fields()
            .iter()
            .map(|field| self.column(stored, field, self.read.dictionaries.of(field.name())));
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

/// Cuts chunks into portions, in their order: a chunk each, or several of at most `most_rows` together.
fn portions(chunks: Vec<PlacedChunk>, most_rows: u64) -> Vec<Vec<PlacedChunk>> {
    let mut portions: Vec<Vec<PlacedChunk>> = Vec::new();
    let (mut rows, mut bytes) = (0u64, 0u64);
    for placed in chunks {
        let chunk = &placed.selected.chunk;
        (rows, bytes) = (rows.saturating_add(chunk.rows), bytes.saturating_add(chunk.bytes));
        let fits = rows <= most_rows && bytes <= PORTION_BYTES;
        match portions.last_mut().filter(|portion| fits && portion.len() < PORTION_CHUNKS) {
            Some(portion) => portion.push(placed),
            None => {
                (rows, bytes) = (chunk.rows, chunk.bytes);
                portions.push(vec![placed]);
            }
        }
    }
    portions
}

/// A chunk as the store gave it.
enum Fetched {
    /// An open local file and its size, to be read on the thread that decodes it.
    File(std::fs::File, u64),
    /// Its bytes.
    Bytes(Bytes),
}

impl Fetched {
    /// The bytes, read here when they are in a local file.
    fn contents(self) -> Result<Bytes> {
        match self {
            Fetched::Bytes(bytes) => Ok(bytes),
            Fetched::File(mut file, size) => {
                let mut bytes = Vec::with_capacity(size as usize);
                let read = std::io::Read::read_to_end(&mut file, &mut bytes);
                read.map_err(|error| Error::unavailable("reading a chunk: the disk did not answer").because(error))?;
                Ok(bytes.into())
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::super::chunk::{Chunk, LoadRows};
    use super::*;

    fn chunk(rows: u64, bytes: u64) -> PlacedChunk {
        let loads = Box::new([LoadRows { load_id: 1, rows, first: 0, last: rows as i64 - 1 }]);
        let chunk = Chunk {
            path: String::new(),
            bytes,
            rows,
            loads,
            number: 1,
            stats: Box::default(),
            added: 0,
            removed: None,
        };
        let places = (0, rows as i64 - 1);
        PlacedChunk { selected: SelectedChunk { chunk: Arc::new(chunk), loads: None }, places, rows }
    }

    #[test]
    fn portions_are_bounded_in_rows_bytes_and_chunks() {
        let small = vec![(10, 10); PORTION_CHUNKS + 1];
        let wide = vec![(10, PORTION_BYTES / 2), (10, PORTION_BYTES / 2), (10, 10)];
        let long = vec![(60, 10), (60, 10), (1_000, 10), (1, 10)];
        for (chunks, wanted) in [(small, vec![PORTION_CHUNKS, 1]), (wide, vec![2, 1]), (long, vec![1, 1, 1, 1])] {
            let chunks = chunks.into_iter().map(|(rows, bytes)| chunk(rows, bytes)).collect();
            let lengths: Vec<usize> = portions(chunks, 100).iter().map(Vec::len).collect();
            assert_eq!(lengths, wanted);
        }
        assert!(portions(Vec::new(), 100).is_empty());
    }
}
