//! `"pandas_db$audit"`: the audit log of the server as a table, for those who administer their tenant.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::{self, Stream, TryStreamExt};

use super::failure::through_engine;
use crate::audit::{AuditLine, AuditReader, not_kept};
use crate::auth::Principal;
use crate::error::{Error, Result};

/// The name of the table, in the schema of names without one. No dataset can have it.
pub(super) const AUDIT_TABLE: &str = "pandas_db$audit";
/// The zone of the instants.
const UTC: &str = "UTC";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
    Arc::new(Schema::new(vec![
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())), false),
        Field::new("id", DataType::Utf8, false),
        Field::new("call", DataType::Utf8, false),
        Field::new("action", DataType::Utf8, true),
        Field::new("user", DataType::Utf8, true),
        Field::new("tenant", DataType::Utf8, false),
        Field::new("datasets", DataType::List(item), false),
        Field::new("datasets_total", DataType::Int64, false),
        Field::new("version", DataType::Int64, true),
        Field::new("rows", DataType::Int64, false),
        Field::new("bytes", DataType::Int64, false),
        Field::new("outcome", DataType::Utf8, false),
        Field::new("seconds", DataType::Float64, false),
    ]))
});

/// The table as `caller` sees it: the lines of the caller's tenant. `None` for who may not read it, as for a table
/// that is not there.
///
/// # Errors
/// [`Kind::NotFound`](crate::error::Kind::NotFound) when the log goes into no file.
pub(super) fn audit_table(
    caller: &Principal,
    file: Option<&PathBuf>,
) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
    // Who looked, or wanted to, is in the log as well.
    caller.trail.dataset(AUDIT_TABLE);
    if !caller.administers_tenant() {
        return Ok(None);
    }
    let path = file.ok_or_else(not_kept).map_err(through_engine)?.clone();
    let lines = TenantLines { path, tenant: caller.tenant.as_str().into() };
    Ok(Some(Arc::new(StreamingTable::try_new(Arc::clone(&SCHEMA), vec![Arc::new(lines)])?)))
}

/// The lines of one tenant.
#[derive(Debug)]
struct TenantLines {
    path: PathBuf,
    tenant: String,
}

impl PartitionStream for TenantLines {
    fn schema(&self) -> &SchemaRef {
        &SCHEMA
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (path, tenant) = (self.path.clone(), self.tenant.clone());
        let batches = batches(path, tenant, context.session_config().batch_size()).map_err(through_engine);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&SCHEMA), batches))
    }
}

/// The lines in batches of at most `most`. The next is read when it is asked for, so that no thread waits for a slow
/// caller.
fn batches(path: PathBuf, tenant: String, most: usize) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let opened = stream::once(on_blocking_thread(move || AuditReader::open(&path, &tenant)));
    let lines = opened.map_ok(move |reader| stream::try_unfold(reader, move |reader| next_batch(reader, most)));
    lines.try_flatten()
}

async fn next_batch(mut reader: AuditReader, most: usize) -> Result<Option<(RecordBatch, AuditReader)>> {
    let read = move || Ok((reader.next_lines(most)?.map(|lines| batch(&lines)).transpose()?, reader));
    let (batch, reader) = on_blocking_thread(read).await?;
    Ok(batch.map(|batch| (batch, reader)))
}

async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("reading the audit log broke off").because(error))?
}

fn batch(lines: &[AuditLine]) -> Result<RecordBatch> {
    let texts = |value: fn(&AuditLine) -> Option<&str>| -> ArrayRef {
        Arc::new(lines.iter().map(value).collect::<StringArray>())
    };
    let numbers = |value: fn(&AuditLine) -> Option<i64>| -> ArrayRef {
        Arc::new(lines.iter().map(value).collect::<Int64Array>())
    };
    let times = lines.iter().map(|line| line.time.timestamp_micros());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone(UTC)),
        texts(|line| Some(&line.id)),
        texts(|line| Some(&line.call)),
        texts(|line| line.action.as_deref()),
        texts(|line| line.user.as_deref()),
        texts(|line| Some(&line.tenant)),
        datasets(lines),
        numbers(|line| Some(line.datasets_total)),
        numbers(|line| line.version),
        numbers(|line| Some(line.rows)),
        numbers(|line| Some(line.bytes)),
        texts(|line| Some(&line.outcome)),
        Arc::new(Float64Array::from_iter_values(lines.iter().map(|line| line.seconds))),
    ];
    RecordBatch::try_new(Arc::clone(&SCHEMA), columns)
        .map_err(|error| Error::internal("lines of the audit log cannot be put together").because(error))
}

fn datasets(lines: &[AuditLine]) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for line in lines {
        lists.append_value(line.datasets.iter().map(Some));
    }
    Arc::new(lists.finish())
}
