//! The session that the parts of a statement are planned in.
//!
//! It sees the catalog of the tenant, each table in one state however often it is named, and beside it the rows that
//! the statement works on: the chunks of its target, a group at a time, under a name that no text can guess.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, Session, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement;

use super::super::amplification::with_short_batches;
use super::super::catalog::TenantCatalog;
use super::super::engine::Engine;
use super::super::failure::{OrQueryError, through_engine};
use super::super::provider::{DatasetTable, ScanTally};
use super::super::session::{only_reads, session};
use super::super::statement::Statement as QueryStatement;
use super::super::stop::{Stop, stoppable};
use super::parameters::Parameters;
use crate::auth::Principal;
use crate::error::Result;
use crate::table::SelectedChunk;

/// The zone of times that are written without one.
const UTC: &str = "UTC";

/// See the module's comment.
#[derive(Clone)]
pub(super) struct WriteSession {
    state: SessionState,
    tables: Tables,
    tally: Arc<ScanTally>,
    parameters: Parameters,
    stop: Stop,
}

/// Tables by schema and name: those that were looked up, and those that only this statement has.
type Tables = Arc<Mutex<HashMap<(String, String), Arc<dyn TableProvider>>>>;

/// How a session computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Computing {
    /// In parallel.
    Parallel,
    /// Row after row, as written; numbers with a fraction are exact.
    AsWritten,
}

impl WriteSession {
    /// A session for a statement of `caller`, whose plans are made and run until the flag is set.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the version store is away.
    pub(super) async fn open(
        engine: &Engine,
        caller: &Principal,
        statement: &QueryStatement,
        parameters: &Parameters,
        computing: Computing,
        stop: &Stop,
    ) -> Result<Self> {
        let inner = engine.catalog_for(caller, statement).await?;
        let (tables, tally) = (Tables::default(), Arc::clone(inner.tally()));
        let catalog = WriteCatalog { inner, tables: Arc::clone(&tables) };
        // One state for the whole statement: its instant is that of `now()` in all parts.
        let mut state = session(&engine.template, Arc::new(catalog), &statement.options, stop).state();
        let options = state.config_mut().options_mut();
        // Without one, the engine takes a column with a time zone for one without.
        options.execution.time_zone.get_or_insert_with(|| UTC.into());
        if computing == Computing::AsWritten {
            options.execution.target_partitions = 1;
            options.sql_parser.parse_float_as_decimal = true;
        }
        parameters.register(&mut state)?;
        Ok(Self { state, tables, tally, parameters: parameters.clone(), stop: stop.clone() })
    }

    /// Puts a table beside those of the tenant.
    pub(super) fn add(&self, schema: &str, name: &str, table: Arc<dyn TableProvider>) {
        lock(&self.tables).insert((schema.into(), name.into()), table);
    }

    /// Plans a statement, with the values of its parameters in it.
    ///
    /// # Errors
    /// As [`plan`](super::super::session::plan).
    pub(super) async fn plan(&self, mut statement: Statement) -> Result<LogicalPlan> {
        if let Statement::Statement(inner) = &mut statement {
            self.parameters.bind(inner.as_mut())?;
        }
        self.checked(self.state.statement_to_plan(statement).await.or_query_error()?)
    }

    /// Plans a statement as it is written, whatever it does.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for one that does not fit its tables.
    pub(super) async fn plan_unchecked(&self, mut statement: Statement) -> Result<LogicalPlan> {
        if let Statement::Statement(inner) = &mut statement {
            self.parameters.bind(inner.as_mut())?;
        }
        self.state.statement_to_plan(statement).await.or_query_error()
    }

    /// A plan that is a part of a statement, when it does nothing but read.
    ///
    /// # Errors
    /// As [`plan`](super::super::session::plan).
    pub(super) fn checked(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = only_reads(plan)?;
        self.state.optimize(&plan).or_query_error()
    }

    /// What the scans of the statement chose, and what keeps the states that they read.
    pub(super) fn tally(&self) -> Arc<ScanTally> {
        Arc::clone(&self.tally)
    }

    /// How a plan is computed now.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) async fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        self.physical_by(&self.state, plan).await
    }

    async fn physical_by(&self, state: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = state.query_planner().create_physical_plan(plan, state).await.or_query_error()?;
        stoppable(plan, &self.stop)
    }

    /// Runs a plan.
    ///
    /// # Errors
    /// Those of the engine; errors of its run come through the stream.
    pub(super) async fn stream(&self, plan: &LogicalPlan) -> Result<SendableRecordBatchStream> {
        let mut state = self.state.clone();
        with_short_batches(&mut state, plan).or_query_error()?;
        execute_stream(self.physical_by(&state, plan).await?, state.task_ctx()).or_query_error()
    }
}

fn lock(tables: &Tables) -> std::sync::MutexGuard<'_, HashMap<(String, String), Arc<dyn TableProvider>>> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct WriteCatalog {
    inner: TenantCatalog,
    tables: Tables,
}

impl CatalogProvider for WriteCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.inner.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let inner = self.inner.schema(name)?;
        Some(Arc::new(WriteSchema { inner, schema: name.into(), tables: Arc::clone(&self.tables) }))
    }
}

#[derive(Debug)]
struct WriteSchema {
    inner: Arc<dyn SchemaProvider>,
    schema: String,
    tables: Tables,
}

#[async_trait]
impl SchemaProvider for WriteSchema {
    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let key = (self.schema.clone(), name.to_string());
        if let Some(known) = lock(&self.tables).get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let found = self.inner.table(name).await?;
        Ok(found.map(|table| Arc::clone(lock(&self.tables).entry(key).or_insert(table))))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name)
    }
}

/// The rows that a statement works on: those of its target, a group of chunks at a time. Its plan is made once, and
/// what it computes on is set before each run.
#[derive(Debug)]
pub(super) struct TargetTable {
    table: DatasetTable,
    group: Mutex<Group>,
}

/// What a scan of the target gives.
#[derive(Debug)]
enum Group {
    /// Nothing; it notes the chunks that it could not rule out.
    Choosing(Vec<SelectedChunk>),
    /// The rows of these chunks.
    Chunks(Vec<SelectedChunk>),
}

impl TargetTable {
    /// The rows of a table with its hidden columns.
    pub(super) fn new(table: DatasetTable) -> Self {
        Self { table, group: Mutex::new(Group::Choosing(Vec::new())) }
    }

    fn set(&self, group: Group) -> Group {
        std::mem::replace(&mut *self.group.lock().unwrap_or_else(PoisonError::into_inner), group)
    }

    /// The chunks that a plan may need.
    ///
    /// # Errors
    /// Those of planning.
    pub(super) async fn chunks_for(&self, session: &WriteSession, plan: &LogicalPlan) -> Result<Vec<SelectedChunk>> {
        self.set(Group::Choosing(Vec::new()));
        session.physical(plan).await?;
        match self.set(Group::Choosing(Vec::new())) {
            Group::Choosing(chunks) | Group::Chunks(chunks) => Ok(chunks),
        }
    }

    /// Sets the chunks that plans compute on from now on.
    pub(super) fn work_on(&self, chunks: &[SelectedChunk]) {
        self.set(Group::Chunks(chunks.to_vec()));
    }
}

#[async_trait]
impl TableProvider for TargetTable {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
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
        let chosen = {
            match &mut *self.group.lock().unwrap_or_else(PoisonError::into_inner) {
                Group::Choosing(chunks) => {
                    chunks.extend(self.table.chunks_for(filters).map_err(through_engine)?);
                    return Ok(self.table.empty_scan(projection));
                }
                Group::Chunks(chunks) => chunks.clone(),
            }
        };
        self.table.with_chunks(chosen).scan(state, projection, filters, limit).await
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        self.table.supports_filters_pushdown(filters)
    }
}
