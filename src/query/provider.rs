//! One dataset as a table of the query engine.
//!
//! From the filters of a query the chunks that matter are chosen in memory; what is handed to the engine is a plain
//! Parquet
//! scan of those files. Filters are `Inexact`: they only choose chunks, row groups and pages, and the engine applies
//! them to the rows again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, ColumnStatistics, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column as PhysicalColumn, IsNullExpr, Literal,
};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::MetricBuilder;
use datafusion::physical_plan::projection::ProjectionExec;
use object_store::ObjectMeta;

use super::failure::through_engine;
use super::pruning::keep_chunks;
use super::session::store_url;
use crate::table::{Chunk, Column as TableColumn, Dataset, Snapshot};

/// Chunks that a scan could have needed: a metric of its plan node.
const CHUNKS_CONSIDERED: &str = "chunks_considered";
/// Chunks that the index ruled out: likewise.
const CHUNKS_PRUNED: &str = "chunks_pruned";

/// The union of a dataset's live versions, as of one snapshot.
#[derive(Debug)]
pub(super) struct DatasetTable {
    dataset: Arc<Dataset>,
    snapshot: Arc<Snapshot>,
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
}

impl DatasetTable {
    /// The table over a snapshot, which stays fixed however long the query runs.
    pub(super) fn new(dataset: Arc<Dataset>, snapshot: Arc<Snapshot>, tally: Arc<ScanTally>) -> Self {
        let schema = snapshot.columns.sql_schema();
        Self { dataset, snapshot, schema, tally }
    }

    fn projected(&self, projection: Option<&Vec<usize>>) -> Vec<&TableColumn> {
        let columns: Vec<&TableColumn> = self.snapshot.columns.iter().collect();
        match projection {
            None => columns,
            Some(places) => places.iter().filter_map(|place| columns.get(*place).copied()).collect(),
        }
    }

    fn file(&self, chunk: &Chunk) -> Result<PartitionedFile, DataFusionError> {
        let path = format!("{}/{}", self.dataset.root(), chunk.path);
        let location = object_store::path::Path::parse(path)?;
        // Footers are cached by path, size and time. A path is never used twice, so the time need not be known.
        let last_modified = chrono::DateTime::UNIX_EPOCH;
        Ok(PartitionedFile::from(ObjectMeta { location, last_modified, size: chunk.bytes, e_tag: None, version: None }))
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        columns: &[&TableColumn],
        chunks: &[&Arc<Chunk>],
        considered: usize,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let file_schema = file_schema(columns, &self.snapshot, filters);
        let mut source = ParquetSource::new(Arc::clone(&file_schema)).with_enable_page_index(true);
        if let Some(predicate) = file_predicate(&self.snapshot, &file_schema, filters)? {
            source = source.with_predicate(predicate);
        }
        MetricBuilder::new(source.metrics()).global_counter(CHUNKS_CONSIDERED).add(considered);
        MetricBuilder::new(source.metrics()).global_counter(CHUNKS_PRUNED).add(considered - chunks.len());
        let files = chunks.iter().map(|chunk| self.file(chunk)).collect::<Result<Vec<_>, _>>()?;
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let rows = chunks.iter().map(|chunk| chunk.rows as usize).sum();
        let statistics = Statistics {
            num_rows: Precision::Exact(rows),
            total_byte_size: Precision::Absent,
            column_statistics: file_schema.fields().iter().map(|_| ColumnStatistics::new_unknown()).collect(),
        };
        let needed = needed_fields(columns, &file_schema);
        let config = FileScanConfigBuilder::new(store_url().map_err(through_engine)?, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_limit(limit.filter(|_| filters.is_empty()))
            .with_projection_indices(Some(needed))?
            .build();
        let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
        if columns.iter().all(|column| column.names.name == column.names.physical && !column.remainder) {
            return Ok(scan);
        }
        let schema = scan.schema();
        let outputs = columns.iter().map(|column| Ok((output_expr(column, &schema)?, column.names.name.clone())));
        let outputs = outputs.collect::<Result<Vec<_>, DataFusionError>>()?;
        Ok(Arc::new(ProjectionExec::try_new(outputs, scan)?))
    }
}

/// The stored columns that a scan may read, in the types that SQL sees: those of the result, then those that only
/// filters need.
fn file_schema(columns: &[&TableColumn], snapshot: &Snapshot, filters: &[Expr]) -> SchemaRef {
    let mut fields: Vec<Field> = Vec::new();
    let filtered = filters.iter().flat_map(|filter| filter.column_refs()).map(|column| column.name.clone());
    let filtered: Vec<String> = filtered.collect();
    let extra = snapshot.columns.iter().filter(|column| filtered.contains(&column.names.name));
    for column in columns.iter().copied().chain(extra) {
        if fields.iter().any(|field| *field.name() == column.names.physical) {
            continue;
        }
        fields.push(column.sql_field().with_name(&column.names.physical));
        if column.remainder {
            fields.push(Field::new(column.remainder_name(), DataType::Int32, true));
        }
    }
    Arc::new(Schema::new(fields))
}

fn needed_fields(columns: &[&TableColumn], file_schema: &Schema) -> Vec<usize> {
    let names = columns.iter().flat_map(|column| {
        let remainder = column.remainder.then(|| column.remainder_name());
        std::iter::once(column.names.physical.clone()).chain(remainder)
    });
    names.filter_map(|name| file_schema.index_of(&name).ok()).collect()
}

/// The filters in terms of stored columns, for row groups and pages. A column with nanoseconds beyond the microsecond
/// is stored without them, so filters on it are left out.
fn file_predicate(
    snapshot: &Snapshot,
    file_schema: &SchemaRef,
    filters: &[Expr],
) -> Result<Option<Arc<dyn PhysicalExpr>>, DataFusionError> {
    let column = |name: &str| snapshot.columns.find(name);
    let usable =
        |filter: &&Expr| filter.column_refs().iter().all(|c| column(&c.name).is_some_and(|column| !column.remainder));
    let renamed = filters.iter().filter(usable).cloned().map(|filter| {
        let rename = |expr| match expr {
            Expr::Column(named) => {
                let physical = column(&named.name).map_or(named.name.clone(), |c| c.names.physical.clone());
                Ok(Transformed::yes(Expr::Column(Column::new_unqualified(physical))))
            }
            other => Ok(Transformed::no(other)),
        };
        Ok(filter.transform_up(rename)?.data)
    });
    let Some(condition) = conjunction(renamed.collect::<Result<Vec<_>, DataFusionError>>()?) else { return Ok(None) };
    let schema = DFSchema::try_from(file_schema.as_ref().clone())?;
    create_physical_expr(&condition, &schema, &Default::default(), &Default::default()).map(Some)
}

/// What gives a column of the table from the columns of the scan.
fn output_expr(column: &TableColumn, scan: &Schema) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let stored: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new_with_schema(&column.names.physical, scan)?);
    if !column.remainder {
        return Ok(stored);
    }
    let DataType::Timestamp(TimeUnit::Nanosecond, _) = column.logical else { return Ok(stored) };
    // whole microseconds in nanoseconds + coalesce(remainder, 0), as a timestamp again
    let rest: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new_with_schema(&column.remainder_name(), scan)?);
    let rest: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(rest, DataType::Int64, None));
    let zero: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::Int64(Some(0))));
    let is_null: Arc<dyn PhysicalExpr> = Arc::new(IsNullExpr::new(Arc::clone(&rest)));
    let rest: Arc<dyn PhysicalExpr> = Arc::new(CaseExpr::try_new(None, vec![(is_null, zero)], Some(rest))?);
    let whole: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(stored, DataType::Int64, None));
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
        let chunks: Vec<Arc<Chunk>> = self.snapshot.live_chunks().cloned().collect();
        let keep = keep_chunks(&self.snapshot, &chunks, filters).map_err(through_engine)?;
        let kept: Vec<&Arc<Chunk>> =
            chunks.iter().zip(keep).filter(|(_, keep)| *keep).map(|(chunk, _)| chunk).collect();
        self.tally.considered.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        self.tally.pruned.fetch_add((chunks.len() - kept.len()) as u64, Ordering::Relaxed);
        if kept.is_empty() {
            let fields = columns.iter().map(|column| column.sql_field()).collect::<Vec<_>>();
            return Ok(Arc::new(EmptyExec::new(Arc::new(Schema::new(fields)))));
        }
        self.scan_files(state, &columns, &kept, chunks.len(), filters, limit)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
