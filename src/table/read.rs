//! Whole frames: the selected versions, in order, as they were sent.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::dataset::Dataset;
use super::dictionaries::Dictionaries;
use super::lease::Lease;
use super::scan::Scan;
use super::selection::{SelectedChunk, SelectedRows, Selection};
use super::snapshot::{Snapshot, Version};
use crate::error::{Error, Result, shorten};
use crate::metrics::Metrics;

/// A condition on rows, as the query layer understands it.
pub trait RowFilter: Send + Sync {
    /// The columns it looks at.
    fn columns(&self) -> &[String];

    /// Which of `chunks` may hold rows for which it is true.
    ///
    /// # Errors
    /// When the condition cannot be evaluated.
    fn keep_chunks(&self, snapshot: &Snapshot, chunks: &[SelectedChunk]) -> Result<Vec<bool>>;

    /// Which rows of `batch` it is true for; `batch` has its columns in their SQL types.
    ///
    /// # Errors
    /// When a value makes the condition fail.
    fn rows(&self, batch: &RecordBatch) -> Result<BooleanArray>;
}

/// A planned read of whole frames. No row is read before [`FrameRead::stream`].
pub struct FrameRead {
    pub(super) dataset: Arc<Dataset>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) rows: SelectedRows,
    pub(super) schema: SchemaRef,
    pub(super) dictionaries: Dictionaries,
    pub(super) filter: Option<Arc<dyn RowFilter>>,
    pub(super) settings: ReadSettings,
    pub(super) metrics: Metrics,
    _lease: Lease,
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
    /// Those of [`Selection::find`], [`Kind::Invalid`](crate::error::Kind::Invalid) for an unknown column, and those of
    /// reading the dictionaries of the versions.
    pub async fn plan(
        dataset: Arc<Dataset>,
        snapshot: Arc<Snapshot>,
        selection: &Selection,
        filter: Option<Arc<dyn RowFilter>>,
        settings: ReadSettings,
        metrics: Metrics,
    ) -> Result<Self> {
        let rows = selection.find(&dataset, &snapshot)?;
        let _lease = dataset.lease(rows.oldest_commit)?;
        let mut schema = project(&rows.schema, &selection.columns)?;
        let dictionaries = Dictionaries::load(&dataset, &rows, &schema).await?;
        schema = dictionaries.with_wide_keys(&schema)?;
        Ok(Self { dataset, snapshot, rows, schema, dictionaries, filter, settings, metrics, _lease })
    }

    /// The schema of the frame.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The opaque id of the dataset's table.
    pub fn table_id(&self) -> &str {
        self.dataset.table_id()
    }

    /// The rows it has; `None` with a filter, which only reading tells.
    pub fn total_rows(&self) -> Option<i64> {
        self.filter.is_none().then(|| self.rows.chunks.iter().map(|selected| selected.rows() as i64).sum())
    }

    /// The Arrow bytes it has, about.
    pub fn total_bytes(&self) -> Option<i64> {
        self.filter.is_none().then(|| self.rows.versions.iter().map(Version::bytes).sum())
    }

    /// When the newest commit that this read sees was made.
    pub fn newest_instant(&self) -> Option<DateTime<Utc>> {
        self.snapshot.newest_instant()
    }

    /// Reads the frame, batch by batch. A frame without rows gives one empty batch.
    pub fn stream(self) -> BoxStream<'static, Result<RecordBatch>> {
        let empty = RecordBatch::new_empty(Arc::clone(&self.schema));
        let rows = match Scan::new(self) {
            Ok(scan) => Arc::new(scan).stream(),
            Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
        };
        with_default(rows.try_filter(|batch| std::future::ready(batch.num_rows() > 0)).boxed(), empty)
    }
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
