//! One load: from the first message to a durable version.
//!
//! Batches are brought into their stored form, split by partition and written as chunks while they arrive, so that the
//! whole frame is never in memory. Nothing is visible before [`Load::finish`]'s commit, and nothing stays of a load
//! that
//! ends otherwise.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use tokio::task::JoinHandle;

use super::blocking::on_thread;
use super::categories::{CategoryBuilder, count_in_schema};
use super::commit::{LoadOutcome, PendingLoad};
use super::convert::{physical_field, to_physical};
use super::dataset::Dataset;
use super::digest::Digest;
use super::encode::LoadColumn;
use super::keys::{ColumnsKeys, KeyColumn, effective_keys, find_keys};
use super::record::{StoredCategories, VersionRecord, WriteKind, encode_batch, encode_schema, to_base64};
use super::replacement::Replacement;
use super::schema::{ColumnNames, Columns, ROW_COLUMN, check_load_schema, without_code};
use super::split::{KeyArrays, ReadyChunk, SplitSettings, Splitter};
use super::types::has_remainder;
use super::writer::{ChunkWriter, remove_file};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::names::ExternalKey;
use crate::storage::store_error;

/// Dictionaries larger than this are kept in a file of their own, since commits should stay small.
const INLINE_CATEGORY_BYTES: usize = 16 << 10;

/// What a caller asks of a load.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The keys that it gives.
    pub columns_keys: ColumnsKeys,
    /// The caller's own name for the version.
    pub external_key: ExternalKey,
    /// Replace the earlier versions of the key.
    pub keep_last: bool,
    /// The caller's token for doing this once.
    pub idempotency_key: Option<String>,
    /// The rows that must arrive.
    pub total_rows: Option<i64>,
    /// Who loads.
    pub user: String,
    /// The kind of SQL statement whose rows these are; `None` for an upload.
    pub statement: Option<WriteKind>,
}

/// Whether a load makes its dataset, or needs it to be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Creation {
    /// It makes it where there is none.
    #[default]
    CreateOrAppend,
    /// The dataset must be there.
    MustExist,
    /// There must be none of the name. Of several that make it at the same time one succeeds.
    MustCreate,
    /// It ends what has the name, and begins anew: readers see the old rows or the new ones.
    Replace,
}

/// A load in progress.
pub struct Load {
    dataset: Arc<Dataset>,
    request: LoadRequest,
    settings: SplitSettings,
    load_id: i64,
    body: Option<Body>,
    /// The batch before is worked on while the next one is received.
    pushing: Option<JoinHandle<Result<Pushed>>>,
    writer: Option<ChunkWriter>,
    category_file: Option<String>,
    /// Whether it must be the first of its dataset.
    must_create: bool,
    /// What gives its table the dataset's name once it is committed.
    replacement: Option<Replacement>,
    rows: i64,
    bytes: i64,
}

/// A load whose rows are stored, and that is not committed.
pub(super) struct Prepared {
    /// The dataset.
    pub dataset: Arc<Dataset>,
    /// What is to be committed.
    pub pending: PendingLoad,
    /// The file of its categories.
    pub category_file: Option<String>,
}

/// A batch that went through: the body for the next one, and chunks that are full.
type Pushed = (Body, Vec<ReadyChunk>);

/// What the rows go through, on a thread of its own.
struct Body {
    schema: SchemaRef,
    encoded_schema: Vec<u8>,
    layout: Layout,
    categories: CategoryBuilder,
    digest: Digest,
    /// Absent when the idempotency key was used before: then only the digest matters.
    splitter: Option<Splitter>,
    keys: Arc<[KeyColumn]>,
    effective_keys: ColumnsKeys,
    next_row: i64,
}

/// Where each column of the load goes.
struct Layout {
    columns: Vec<LayoutColumn>,
    names: Vec<ColumnNames>,
    stored: SchemaRef,
}

struct LayoutColumn {
    name: String,
    physical: Option<DataType>,
    remainder: bool,
}

impl Load {
    /// Begins a load.
    ///
    /// # Errors
    /// Those of reading the dataset's log.
    pub async fn begin(dataset: Arc<Dataset>, request: LoadRequest, settings: SplitSettings) -> Result<Self> {
        dataset.refresh().await?;
        let load_id = clock::random_id();
        let (body, pushing, writer, category_file, replacement) = (None, None, None, None, None);
        let (must_create, rows, bytes) = (false, 0, 0);
        Ok(Self {
            dataset,
            request,
            settings,
            load_id,
            body,
            pushing,
            writer,
            category_file,
            must_create,
            replacement,
            rows,
            bytes,
        })
    }

    /// The load, which must be the first of its dataset.
    pub(super) fn that_must_create(self) -> Self {
        Self { must_create: true, ..self }
    }

    /// The load, whose table gets the dataset's name once it is committed.
    pub(super) fn that_replaces(self, replacement: Replacement) -> Self {
        Self { replacement: Some(replacement), ..self }
    }

    /// Adds categories to those of the rows: as many dictionaries, in the order of the schema.
    ///
    /// # Errors
    /// As [`Load::push`].
    pub(super) async fn add_categories(&mut self, categories: CategoryBuilder) -> Result<()> {
        self.settle().await?;
        self.body.as_mut().map_or(Err(no_schema()), |body| body.categories.absorb(categories))
    }

    /// Rows received so far.
    pub fn rows(&self) -> i64 {
        self.rows
    }

    /// Arrow bytes received so far.
    pub fn bytes(&self) -> i64 {
        self.bytes
    }

    /// Takes the schema, which comes before any rows.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a schema that cannot be stored, that contradicts the
    /// dataset's, or that
    /// lacks a key column.
    pub fn begin_rows(&mut self, schema: SchemaRef) -> Result<()> {
        let schema = without_code(schema);
        check_load_schema(&schema)?;
        let snapshot = self.dataset.snapshot();
        let effective = effective_keys(snapshot.keys.as_ref(), &self.request.columns_keys)?;
        let columns = snapshot.columns.joined(&schema, &snapshot.names, &HashSet::new())?;
        let layout = Layout::new(&schema, &columns)?;
        let mut keys = find_keys(&effective, &self.request.columns_keys, &schema)?;
        for key in &mut keys {
            key.stored = key.index.and_then(|index| layout.stored_position(index));
        }
        let repeated = self.request.idempotency_key.as_deref().and_then(|key| snapshot.record_of_key(key)).is_some();
        let stored = Arc::clone(&layout.stored);
        let splitter = if repeated {
            None
        } else {
            Some(Splitter::new(keys.clone(), Arc::clone(&stored), self.settings.clone())?)
        };
        let keys: Arc<[KeyColumn]> = keys.into();
        let (store, root) = (Arc::clone(self.dataset.store()), self.dataset.root().clone());
        self.writer = Some(ChunkWriter::new(store, root, stored, Arc::clone(&keys), LoadColumn::One(self.load_id)));
        let encoded_schema = encode_schema(&schema)?;
        self.body = Some(Body {
            digest: Digest::new(&encoded_schema),
            encoded_schema,
            schema,
            layout,
            categories: CategoryBuilder::default(),
            splitter,
            keys,
            effective_keys: effective,
            next_row: 0,
        });
        Ok(())
    }

    /// Takes rows. What is wrong with them may be told by the next call, or by [`Load::finish`].
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a value that cannot be stored or is no key,
    /// [`Kind::Exhausted`] over a limit, and what storing a chunk failed with.
    pub async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as i64;
        if let Some(total) = self.request.total_rows.filter(|total| self.rows > *total) {
            return Err(wrong_total(total, self.rows));
        }
        self.bytes += super::buffers::slice_bytes(&batch) as i64;
        self.settle().await?;
        let Some(mut body) = self.body.take() else { return Err(no_schema()) };
        self.pushing = Some(tokio::spawn(on_thread(move || {
            let ready = body.push(batch)?;
            Ok((body, ready))
        })));
        Ok(())
    }

    /// Waits until the batch before went through, and hands over the chunks that it filled.
    async fn settle(&mut self) -> Result<()> {
        let Some(pushing) = self.pushing.take() else { return Ok(()) };
        let pushed = pushing.await.map_err(|error| Error::internal("work on rows broke off").because(error))?;
        let (body, ready) = pushed?;
        self.body = Some(body);
        for chunk in ready {
            self.submit(chunk).await?;
        }
        Ok(())
    }

    async fn submit(&mut self, chunk: ReadyChunk) -> Result<()> {
        match &mut self.writer {
            Some(writer) => writer.submit(chunk).await,
            None => Err(no_schema()),
        }
    }

    /// Stores what is left and commits. The version is durable and visible when this returns.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when there was no schema or the rows are not as many as said,
    /// and those of
    /// storing and committing. After an error nothing of the load is visible, or (an unknown outcome, which the
    /// message names) a repeat with the same idempotency key tells.
    pub async fn finish(self) -> Result<LoadOutcome> {
        let (prepared, replacement) = self.prepare().await?;
        let Prepared { dataset, pending, category_file } = prepared;
        let chunks: Vec<String> = pending.chunks.iter().map(|chunk| chunk.path.clone()).collect();
        let outcome = Arc::clone(&dataset).commit_load(pending).await;
        let is_unused = match &outcome {
            // A repeat has stored nothing that its version names.
            Ok(outcome) => outcome.duplicate,
            // After any other error the outcome may be unknown.
            Err(error) => error.kind() == Kind::AlreadyExists,
        };
        if is_unused {
            for path in chunks.iter().chain(&category_file) {
                remove_file(dataset.store(), dataset.root(), path).await;
            }
        }
        let outcome = outcome?;
        if let Some(replacement) = replacement {
            replacement.finish(&dataset, &outcome.snapshot).await?;
        }
        Ok(outcome)
    }

    /// Stores what is left, for a commit that others make.
    ///
    /// # Errors
    /// As [`Load::finish`], but for those of committing; nothing is left then.
    pub(super) async fn prepare(mut self) -> Result<(Prepared, Option<Replacement>)> {
        match self.finish_rows().await {
            Ok(pending) => {
                let Self { dataset, category_file, replacement, .. } = self;
                Ok((Prepared { dataset, pending, category_file }, replacement))
            }
            Err(error) => {
                self.abandon().await;
                Err(error)
            }
        }
    }

    /// Ends a load that is not to be committed.
    pub async fn abandon(self) {
        if let Some(writer) = self.writer {
            writer.abandon().await;
        }
        if let Some(path) = &self.category_file {
            remove_file(self.dataset.store(), self.dataset.root(), path).await;
        }
    }

    async fn finish_rows(&mut self) -> Result<PendingLoad> {
        self.settle().await?;
        let Some(mut body) = self.body.take() else { return Err(no_schema()) };
        if let Some(total) = self.request.total_rows.filter(|total| *total != self.rows) {
            return Err(wrong_total(total, self.rows));
        }
        if let Some(splitter) = body.splitter.take() {
            self.drain(splitter).await?;
        }
        let chunks = match &mut self.writer {
            Some(writer) => writer.finish().await?,
            None => return Err(no_schema()),
        };
        let packed = std::mem::take(&mut body.categories).finish()?;
        let categories = match packed {
            Some(packed) if count_in_schema(&body.schema) > 0 => Some(self.store_categories(&packed).await?),
            _ => None,
        };
        let record = VersionRecord {
            version: 0,
            load_id: self.load_id,
            external_key: self.request.external_key.as_str().into(),
            created_at: clock::now(),
            created_by: self.request.user.clone(),
            rows: self.rows,
            bytes: self.bytes,
            chunks: chunks.len() as i64,
            keep_last: self.request.keep_last,
            columns_keys: self.request.columns_keys.clone(),
            idempotency_key: self.request.idempotency_key.clone(),
            digest: body.digest.finish(),
            schema: to_base64(&body.encoded_schema).into(),
            categories,
            replaces: Vec::new(),
            statement: self.request.statement,
            changes: Vec::new(),
        };
        let must_create = self.must_create;
        let (schema, Layout { stored, names, .. }, effective_keys) = (body.schema, body.layout, body.effective_keys);
        Ok(PendingLoad { record, schema, stored, names, effective_keys, chunks, must_create })
    }

    /// Moves the rows that waited for the end to the writer, without holding more than a chunk between the two.
    async fn drain(&mut self, splitter: Splitter) -> Result<()> {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let splitting = tokio::task::spawn_blocking(move || {
            splitter.finish(|chunk| {
                sender.blocking_send(chunk).map_err(|_| Error::cancelled("the load ended while its rows were split"))
            })
        });
        let mut failed = None;
        while let Some(chunk) = receiver.recv().await {
            if let Err(error) = self.submit(chunk).await {
                failed = Some(error);
                break;
            }
        }
        drop(receiver);
        let split = splitting.await.map_err(|error| Error::internal("splitting a load broke off").because(error))?;
        failed.map_or(split, Err)
    }

    async fn store_categories(&mut self, packed: &RecordBatch) -> Result<StoredCategories> {
        let bytes = encode_batch(packed)?;
        if bytes.len() <= INLINE_CATEGORY_BYTES {
            return Ok(StoredCategories::Inline(to_base64(&bytes)));
        }
        let path = format!("_pandas_db/{}.categories.arrow", clock::new_ulid());
        let location = super::writer::chunk_location(self.dataset.root(), &path)?;
        let stored = object_store::ObjectStoreExt::put(self.dataset.store(), &location, bytes.into()).await;
        stored.map_err(|error| store_error("storing categories", error))?;
        self.category_file = Some(path.clone());
        Ok(StoredCategories::File(path))
    }
}

fn no_schema() -> Error {
    Error::invalid("the stream brought no schema; send one even for a frame without rows")
}

fn wrong_total(total: i64, rows: i64) -> Error {
    Error::invalid(format!(
        "total_rows is {total}, but {rows} rows arrived; the upload was cut or miscounted: repeat it"
    ))
}

impl Layout {
    /// For a load of `schema` into a dataset that then has `columns`.
    fn new(schema: &Schema, dataset: &Columns) -> Result<Self> {
        let (mut columns, mut names, mut stored, mut remainders) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for field in schema.fields() {
            let column = dataset.find(field.name());
            let column = column.ok_or_else(|| Error::internal("a column of a load has no name"))?;
            // What is wider in the dataset is stored wider, so that all chunks agree; nulls alone are not stored.
            let physical = column.physical.clone().filter(|_| *field.data_type() != DataType::Null);
            if let Some(physical) = &physical {
                stored.push(physical_field(&column.names.physical, physical.clone()));
            }
            let remainder = has_remainder(field.data_type());
            if remainder {
                remainders.push(physical_field(&column.remainder_name(), DataType::Int32));
            }
            names.push(column.names.clone());
            columns.push(LayoutColumn { name: field.name().clone(), physical, remainder });
        }
        stored.push(physical_field(ROW_COLUMN, DataType::Int64));
        stored.append(&mut remainders);
        Ok(Self { columns, names, stored: Arc::new(Schema::new(stored)) })
    }

    /// Where the column at `index` of the load stands in the stored form.
    fn stored_position(&self, index: usize) -> Option<usize> {
        self.columns.get(index)?.physical.as_ref()?;
        Some(self.columns.iter().take(index).filter(|column| column.physical.is_some()).count())
    }
}

impl Body {
    fn push(&mut self, batch: RecordBatch) -> Result<Vec<ReadyChunk>> {
        self.categories.begin_batch();
        let (mut columns, mut remainders) = (Vec::<ArrayRef>::new(), Vec::<ArrayRef>::new());
        for (column, array) in self.layout.columns.iter().zip(batch.columns()) {
            let Some(physical) = &column.physical else { continue };
            let stored = to_physical(&column.name, array, physical, &mut self.categories)?;
            columns.push(stored.values);
            if column.remainder {
                remainders.extend(stored.remainder);
            }
        }
        let rows = batch.num_rows() as i64;
        columns.push(Arc::new(Int64Array::from_iter_values(self.next_row..self.next_row + rows)));
        columns.append(&mut remainders);
        let stored = RecordBatch::try_new(Arc::clone(&self.layout.stored), columns)
            .map_err(|error| Error::internal("a batch does not fit its stored form").because(error))?;
        self.digest.update(&stored);
        let first_row = self.next_row;
        self.next_row += rows;
        let Some(splitter) = &mut self.splitter else { return Ok(Vec::new()) };
        let key_array = |key: &KeyColumn| key.stored.map(|position| Arc::clone(stored.column(position)));
        let key_arrays: KeyArrays = self.keys.iter().map(key_array).collect();
        splitter.push(stored, &key_arrays, first_row)
    }
}
