//! One dataset as a table of the query engine.
//!
//! From the filters of a query the chunks that matter are chosen in memory; what is handed to the engine is a plain
//! Parquet
//! scan of those files. Filters are `Inexact`: they only choose chunks, row groups and pages, and the engine applies
//! them to the rows again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column as PhysicalColumn, IsNullExpr, Literal, in_list,
};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::metrics::MetricBuilder;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use object_store::ObjectMeta;

use super::failure::through_engine;
use super::intervals::{is_put_together, put_together};
use super::pruning::keep_chunks;
use super::session::store_url;
use super::statement::{Moment, Moments, Part};
use crate::error::Result;
use crate::table::{
    Chunk, Column as TableColumn, ColumnNames, Dataset, LOAD_COLUMN, Lease, ROW_COLUMN, SelectedChunk, SelectedRows,
    Snapshot,
};

/// Bytes at the end of a chunk that are read first: nearly always all of its footer, and of a small chunk all of it.
const FOOTER_BYTES: usize = 32 << 10;

/// Chunks that a scan could have needed: a metric of its plan node.
const CHUNKS_CONSIDERED: &str = "chunks_considered";
/// Chunks that the index ruled out: likewise.
const CHUNKS_PRUNED: &str = "chunks_pruned";

/// Rows of a dataset, as of one snapshot.
#[derive(Debug, Clone)]
pub(super) struct DatasetTable {
    dataset: Arc<Dataset>,
    snapshot: Arc<Snapshot>,
    chunks: Vec<SelectedChunk>,
    columns: Vec<TableColumn>,
    schema: SchemaRef,
    tally: Arc<ScanTally>,
}

/// What all scans of one statement chose. Kept beside the plan, because a scan that needs no chunk leaves no node.
#[derive(Debug, Default)]
pub(super) struct ScanTally {
    /// Chunks that the scans could have needed.
    pub considered: AtomicU64,
    /// Chunks that the index ruled out.
    pub pruned: AtomicU64,
    /// What keeps the states that they read from being vacuumed.
    leases: Mutex<Vec<Lease>>,
    /// The states of the datasets that the statement names.
    moments: Mutex<Moments>,
    /// The part of the result that is wanted, where it comes in several.
    part: Option<Part>,
}

impl ScanTally {
    /// For a statement of whose result a part is wanted.
    pub(super) fn of_part(part: Option<Part>) -> Self {
        Self { part, ..Self::default() }
    }

    fn keep(&self, lease: Lease) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).push(lease);
    }

    /// Notes the state of a dataset that the statement was planned with.
    pub(super) fn note(&self, dataset: &Dataset, snapshot: &Snapshot) {
        let Some(at) = snapshot.newest_instant() else { return };
        let moment = Moment { table: dataset.table_id().into(), at };
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        moments.insert(dataset.name().as_str().into(), moment);
    }

    /// The states of the datasets that the statement names.
    pub(super) fn moments(&self) -> Moments {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The schema of a dataset's live rows as SQL sees it.
///
/// # Errors
/// Those of joining the schemas of its versions.
pub fn sql_schema(snapshot: &Snapshot) -> Result<SchemaRef> {
    let union = snapshot.union_of_live()?;
    Ok(schema_of(&sql_columns(snapshot, union.as_ref())))
}

/// The columns of a logical schema, each with its type there.
fn sql_columns(snapshot: &Snapshot, schema: &Schema) -> Vec<TableColumn> {
    let column = |field: &arrow::datatypes::FieldRef| {
        let column = snapshot.columns.find(field.name())?;
        Some(TableColumn { logical: field.data_type().clone(), ..column.clone() })
    };
    schema.fields().iter().filter_map(column).collect()
}

fn schema_of(columns: &[TableColumn]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(TableColumn::sql_field).collect::<Vec<_>>()))
}

impl DatasetTable {
    /// The table of selected rows, which stay fixed however long the query runs.
    pub(super) fn new(
        dataset: Arc<Dataset>,
        snapshot: Arc<Snapshot>,
        rows: SelectedRows,
        tally: Arc<ScanTally>,
    ) -> Result<Self> {
        tally.keep(dataset.lease(rows.oldest_commit)?);
        let columns = sql_columns(&snapshot, &rows.schema);
        let schema = schema_of(&columns);
        Ok(Self { dataset, snapshot, chunks: rows.chunks, columns, schema, tally })
    }

    /// The table with the hidden columns, too, under the names given for the load of a row and its place in it.
    pub(super) fn with_hidden(mut self, load: &str, row: &str) -> Self {
        for (name, physical) in [(load, LOAD_COLUMN), (row, ROW_COLUMN)] {
            let names = ColumnNames { name: name.into(), physical: physical.into() };
            let (logical, physical) = (DataType::Int64, Some(DataType::Int64));
            self.columns.push(TableColumn { names, logical, physical, remainder: false });
        }
        self.schema = Arc::new(Schema::new(self.columns.iter().map(TableColumn::sql_field).collect::<Vec<_>>()));
        self
    }

    /// The table of some of its chunks.
    pub(super) fn with_chunks(&self, chunks: Vec<SelectedChunk>) -> Self {
        Self { chunks, ..self.clone() }
    }

    /// The chunks that may hold rows for which all of `filters` are true.
    ///
    /// # Errors
    /// As [`keep_chunks`].
    pub(super) fn chunks_for(&self, filters: &[Expr]) -> Result<Vec<SelectedChunk>> {
        let keep = keep_chunks(&self.snapshot, &self.chunks, filters)?;
        Ok(self.chunks.iter().zip(keep).filter(|(_, keep)| *keep).map(|(chunk, _)| chunk.clone()).collect())
    }

    /// A scan that gives no rows.
    pub(super) fn empty_scan(&self, projection: Option<&Vec<usize>>) -> Arc<dyn ExecutionPlan> {
        let fields = self.projected(projection).iter().map(|column| column.sql_field()).collect::<Vec<_>>();
        Arc::new(EmptyExec::new(Arc::new(Schema::new(fields))))
    }

    fn projected(&self, projection: Option<&Vec<usize>>) -> Vec<&TableColumn> {
        match projection {
            None => self.columns.iter().collect(),
            Some(places) => places.iter().filter_map(|place| self.columns.get(*place)).collect(),
        }
    }

    fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.names.name == name)
    }

    fn file(&self, chunk: &Chunk) -> Result<PartitionedFile, DataFusionError> {
        let path = format!("{}/{}", self.dataset.root(), chunk.path);
        let location = object_store::path::Path::parse(path)?;
        // Footers are cached by path, size and time. A path is never used twice, so the time need not be known.
        let last_modified = chrono::DateTime::UNIX_EPOCH;
        Ok(PartitionedFile::from(ObjectMeta { location, last_modified, size: chunk.bytes, e_tag: None, version: None }))
    }

    /// A scan of chunks; of those whose rows are not all selected, only those of `loads`.
    fn scan_chunks(
        &self,
        state: &dyn Session,
        request: &Request<'_>,
        chunks: &[&SelectedChunk],
        loads: Option<HashSet<i64>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let Request { columns, filters, limit, considered } = request;
        let file_schema = self.file_schema(columns, filters, loads.is_some());
        let footers = state.runtime_env().cache_manager.get_file_metadata_cache();
        let reader = CachedParquetFileReaderFactory::new(Arc::clone(self.dataset.store()), footers);
        let mut source = ParquetSource::new(Arc::clone(&file_schema))
            .with_enable_page_index(true)
            .with_metadata_size_hint(FOOTER_BYTES)
            .with_parquet_file_reader_factory(Arc::new(reader));
        if let Some(predicate) = self.file_predicate(&file_schema, filters)? {
            source = source.with_predicate(predicate);
        }
        MetricBuilder::new(source.metrics()).global_counter(CHUNKS_CONSIDERED).add(*considered);
        MetricBuilder::new(source.metrics()).global_counter(CHUNKS_PRUNED).add(considered - chunks.len());
        let files = chunks.iter().map(|selected| self.file(&selected.chunk)).collect::<Result<Vec<_>, _>>()?;
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let rows = chunks.iter().map(|selected| selected.chunk.rows as usize).sum();
        let statistics = Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: file_schema.fields().iter().map(|_| ColumnStatistics::new_unknown()).collect(),
        };
        let config = FileScanConfigBuilder::new(store_url().map_err(through_engine)?, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_limit(limit.filter(|_| filters.is_empty() && loads.is_none()))
            .with_projection_indices(Some(needed_fields(columns, &file_schema)))?
            .build();
        let mut scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
        let as_stored = columns.iter().all(|column| column.names.name == column.names.physical && is_whole(column));
        if as_stored && loads.is_none() {
            return Ok(scan);
        }
        let schema = scan.schema();
        if let Some(loads) = loads {
            scan = Arc::new(FilterExec::try_new(of_loads(loads, &schema)?, scan)?);
        }
        let outputs = columns.iter().map(|column| Ok((output_expr(column, &schema)?, column.names.name.clone())));
        let outputs = outputs.collect::<Result<Vec<_>, DataFusionError>>()?;
        Ok(Arc::new(ProjectionExec::try_new(outputs, scan)?))
    }

    /// The stored columns that a scan may read, in the types that SQL sees: those of the result, then those that only
    /// filters need.
    fn file_schema(&self, columns: &[&TableColumn], filters: &[Expr], with_loads: bool) -> SchemaRef {
        let mut fields: Vec<Field> = Vec::new();
        let filtered: HashSet<&str> =
            filters.iter().flat_map(|filter| filter.column_refs()).map(|column| column.name.as_str()).collect();
        let extra = self.columns.iter().filter(|column| filtered.contains(column.names.name.as_str()));
        for column in columns.iter().copied().chain(extra) {
            if fields.iter().any(|field| *field.name() == column.names.physical) {
                continue;
            }
            let field = column.sql_field().with_name(&column.names.physical);
            // What is put together only after it was read is read as it is stored; by itself it may be out of range.
            let physical = column.physical.clone().filter(|_| !is_whole(column));
            fields.push(match physical {
                Some(physical) => field.with_data_type(physical),
                None => field,
            });
            if column.remainder {
                fields.push(Field::new(column.remainder_name(), DataType::Int32, true));
            }
        }
        if with_loads && fields.iter().all(|field| field.name() != LOAD_COLUMN) {
            fields.push(Field::new(LOAD_COLUMN, DataType::Int64, true));
        }
        Arc::new(Schema::new(fields))
    }

    /// The filters in terms of stored columns, for row groups and pages. A column with nanoseconds beyond the
    /// microsecond is stored without them, so filters on it are left out.
    fn file_predicate(
        &self,
        file_schema: &SchemaRef,
        filters: &[Expr],
    ) -> Result<Option<Arc<dyn PhysicalExpr>>, DataFusionError> {
        let is_known = |c: &&Column| self.column(&c.name).is_some_and(is_whole);
        let usable = |filter: &&Expr| filter.column_refs().iter().all(is_known);
        let renamed = filters.iter().filter(usable).cloned().map(|filter| {
            let rename = |expr| match expr {
                Expr::Column(named) => {
                    let physical = self.column(&named.name).map_or(&named.name, |column| &column.names.physical);
                    Ok(Transformed::yes(Expr::Column(Column::new_unqualified(physical))))
                }
                other => Ok(Transformed::no(other)),
            };
            Ok(filter.transform_up(rename)?.data)
        });
        let Some(condition) = conjunction(renamed.collect::<Result<Vec<_>, DataFusionError>>()?) else {
            return Ok(None);
        };
        let schema = DFSchema::try_from(file_schema.as_ref().clone())?;
        create_physical_expr(&condition, &schema, &Default::default(), &Default::default()).map(Some)
    }
}

/// Whether a column can be read as SQL sees it, and needs not be put together.
fn is_whole(column: &TableColumn) -> bool {
    !column.remainder && !is_put_together(&column.logical)
}

/// What a scan is asked for.
struct Request<'a> {
    columns: &'a [&'a TableColumn],
    filters: &'a [Expr],
    limit: Option<usize>,
    /// Chunks that it could have needed.
    considered: usize,
}

/// The condition that a row came with one of `loads`.
fn of_loads(loads: HashSet<i64>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let column: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new_with_schema(LOAD_COLUMN, schema)?);
    let literal = |load| Arc::new(Literal::new(ScalarValue::Int64(Some(load)))) as Arc<dyn PhysicalExpr>;
    in_list(column, loads.into_iter().map(literal).collect(), &false, schema)
}

fn needed_fields(columns: &[&TableColumn], file_schema: &Schema) -> Vec<usize> {
    let names = columns.iter().flat_map(|column| {
        let remainder = column.remainder.then(|| column.remainder_name());
        std::iter::once(column.names.physical.clone()).chain(remainder)
    });
    let mut needed: Vec<usize> =
        names.chain([LOAD_COLUMN.to_string()]).filter_map(|name| file_schema.index_of(&name).ok()).collect();
    let mut seen = HashSet::new();
    needed.retain(|place| seen.insert(*place));
    needed
}

/// What gives a column of the table from the columns of the scan.
fn output_expr(column: &TableColumn, scan: &Schema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let stored: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new_with_schema(&column.names.physical, scan)?);
    if is_put_together(&column.logical) {
        return Ok(put_together(stored, &column.logical));
    }
    if !column.remainder {
        return Ok(stored);
    }
    let DataType::Timestamp(TimeUnit::Nanosecond, _) = column.logical else {
        return Ok(Arc::new(CastExpr::new(stored, column.sql_field().data_type().clone(), None)));
    };
    // microseconds × 1000 + coalesce(remainder, 0), as a timestamp again. The arithmetic wraps: the first microsecond
    // of the range begins before its first nanosecond.
    let rest: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new_with_schema(&column.remainder_name(), scan)?);
    let rest: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(rest, DataType::Int64, None));
    let zero: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::Int64(Some(0))));
    let is_null: Arc<dyn PhysicalExpr> = Arc::new(IsNullExpr::new(Arc::clone(&rest)));
    let rest: Arc<dyn PhysicalExpr> = Arc::new(CaseExpr::try_new(None, vec![(is_null, zero)], Some(rest))?);
    let micros: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(stored, DataType::Int64, None));
    let thousand: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::Int64(Some(1_000))));
    let whole: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(micros, Operator::Multiply, thousand));
    let nanos: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(whole, Operator::Plus, rest));
    Ok(Arc::new(CastExpr::new(nanos, column.logical.clone(), None)))
}

#[async_trait]
impl TableProvider for DatasetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let columns = self.projected(projection);
        let keep = keep_chunks(&self.snapshot, &self.chunks, filters).map_err(through_engine)?;
        let mut kept: Vec<_> = self.chunks.iter().zip(keep).filter(|(_, keep)| *keep).map(|(chunk, _)| chunk).collect();
        if let Some(part) = self.tally.part {
            kept = part.share(kept);
        }
        let (whole, partial): (Vec<_>, Vec<_>) = kept.into_iter().partition(|selected| selected.loads.is_none());
        let considered = self.chunks.len();
        self.tally.considered.fetch_add(considered as u64, Ordering::Relaxed);
        self.tally.pruned.fetch_add((considered - whole.len() - partial.len()) as u64, Ordering::Relaxed);
        let request = Request { columns: &columns, filters, limit, considered };
        let mut scans = Vec::new();
        if !whole.is_empty() {
            scans.push(self.scan_chunks(state, &request, &whole, None)?);
        }
        if !partial.is_empty() {
            let loads = partial.iter().flat_map(|selected| selected.loads.iter().flatten().copied()).collect();
            scans.push(self.scan_chunks(state, &request, &partial, Some(loads))?);
        }
        match scans.len() {
            0 => Ok(self.empty_scan(projection)),
            1 => scans.pop().ok_or_else(|| DataFusionError::Internal("a scan is gone".into())),
            _ => UnionExec::try_new(scans),
        }
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
