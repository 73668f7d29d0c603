//! A statement in, a bounded stream of batches out.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use datafusion::datasource::physical_plan::ParquetSource;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanVisitor, accept, execute_stream};
use datafusion::prelude::SessionContext;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::time::Sleep;

use super::amplification::with_short_batches;
use super::catalog::{TenantCatalog, with_nearest_name};
use super::cpu::CpuRuntime;
use super::deadline::Deadline;
use super::describe::{Described, describe};
use super::failure::{OrQueryError, query_error};
use super::filter::SqlFilter;
use super::options::SessionOptions;
use super::output::{all_nullable, output_schema, to_output};
use super::provider::ScanTally;
use super::session::{SessionSettings, plan, session, template};
use super::statement::{Moments, Statement};
use super::stop::{Stop, StopOnDrop, stoppable};
use crate::auth::{Access, Principal};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names::DatasetName;
use crate::table::{Catalog, FrameRead, ReadSettings, RowFilter, Selection, SplitSettings};

/// Limits of the engine.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Memory, disk and threads.
    pub session: SessionSettings,
    /// How whole frames are read.
    pub read: ReadSettings,
    /// How the rows of statements that write are cut.
    pub split: SplitSettings,
    /// The longest a statement or a read may take, from its beginning to its last batch.
    pub timeout: Duration,
    /// The file of the audit log, where it goes into one.
    pub audit_file: Option<PathBuf>,
}

/// Runs statements and reads over the datasets of a server.
#[derive(Debug)]
pub struct Engine {
    pub(super) datasets: Arc<Catalog>,
    pub(super) template: SessionState,
    pub(super) cpu: CpuRuntime,
    pub(super) settings: EngineSettings,
    pub(super) metrics: Metrics,
}

/// A result, item by item. It ends with [`Kind::Timeout`](crate::error::Kind::Timeout) when its time is up; dropping it
/// ends the work behind it.
pub struct ResultStream<T> {
    items: BoxStream<'static, Result<T>>,
    timer: Pin<Box<Sleep>>,
    deadline: Deadline,
    ended: bool,
}

/// A statement that was planned and not yet run.
pub struct PlannedQuery {
    schema: SchemaRef,
    plan: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    deadline: Deadline,
    /// Parts that the session wants the result in.
    wanted_parts: usize,
    stop: StopOnDrop,
    /// `EXPLAIN ANALYZE`: a row of ours comes after those of the engine.
    analyzed: bool,
    tally: Arc<ScanTally>,
}

impl PlannedQuery {
    /// The schema of its result.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The states of the datasets it reads.
    pub fn moments(&self) -> Moments {
        self.tally.moments()
    }

    /// How many parts its result comes in: as many as the session asked for, and no more than there are chunks, where
    /// all that the plan does is to read, filter and compute row by row. Otherwise one.
    pub fn parts(&self) -> usize {
        let chunks = self.tally.considered.load(Ordering::Relaxed) - self.tally.pruned.load(Ordering::Relaxed);
        let most = self.wanted_parts.min(usize::try_from(chunks).unwrap_or(usize::MAX)).max(1);
        if most > 1 && is_row_by_row(self.plan.as_ref()) { most } else { 1 }
    }
}

/// Whether each row of a plan's result comes of one row of one chunk. A limit is over all of them. Rows that are in no
/// chunk, such as those of `VALUES`, would be in every part.
fn is_row_by_row(plan: &dyn ExecutionPlan) -> bool {
    let reads_chunks = |scan: &DataSourceExec| scan.downcast_to_file_source::<ParquetSource>().is_some();
    let keeps_rows_apart = plan.downcast_ref::<DataSourceExec>().is_some_and(reads_chunks)
        || plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<UnionExec>()
        || plan.is::<EmptyExec>();
    keeps_rows_apart && plan.fetch().is_none() && plan.children().into_iter().all(|child| is_row_by_row(child.as_ref()))
}

/// What queries hold at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory that they have reserved.
    pub memory_bytes: usize,
    /// Bytes of disk that they have spilled to.
    pub spilled_bytes: u64,
}

impl Engine {
    /// What queries hold now.
    pub fn usage(&self) -> Usage {
        let runtime = self.template.runtime_env();
        Usage { memory_bytes: runtime.memory_pool.reserved(), spilled_bytes: runtime.disk_manager.used_disk_space() }
    }

    /// Starts the query threads.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when they cannot be started.
    pub fn start(datasets: Arc<Catalog>, settings: EngineSettings, metrics: Metrics) -> Result<Self> {
        let template = template(&settings.session, datasets.storage())?;
        let cpu = CpuRuntime::start(settings.session.threads)?;
        Ok(Self { datasets, template, cpu, settings, metrics })
    }

    /// Plans a query as `caller` sees it.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) or [`Kind::NotFound`](crate::error::Kind::NotFound) for a
    /// statement that is wrong,
    /// [`Kind::Timeout`](crate::error::Kind::Timeout) when planning takes too long.
    pub async fn plan(&self, caller: &Principal, statement: &Statement) -> Result<PlannedQuery> {
        self.plan_by(self.deadline(&statement.options), caller, statement).await
    }

    /// As [`Engine::plan`], within a time that began before.
    pub(super) async fn plan_by(
        &self,
        deadline: Deadline,
        caller: &Principal,
        statement: &Statement,
    ) -> Result<PlannedQuery> {
        let stop = Stop::default().on_drop();
        let (session, tally) = self.session_for(caller, statement, stop.flag()).await?;
        let (statement, flag) = (statement.clone(), stop.flag().clone());
        let wanted_parts = statement.options.endpoints();
        let planning = self.cpu.run(async move {
            let (logical, has_parameters) = plan(&session, &statement).await?;
            let analyzed = matches!(logical, LogicalPlan::Analyze(_));
            let mut state = session.state();
            let logical = state.optimize(&logical).or_query_error()?;
            with_short_batches(&mut state, &logical).or_query_error()?;
            let plan = state.query_planner().create_physical_plan(&logical, &state).await.or_query_error()?;
            let plan = stoppable(plan, &flag)?;
            let schema = output_schema(&plan.schema());
            let schema = if has_parameters { all_nullable(&schema) } else { schema };
            // Beyond its own part a scan must have no other say in what the result is.
            if statement.part.is_some() && !is_row_by_row(plan.as_ref()) {
                return Err(Error::internal("a result that cannot come in parts was announced in parts"));
            }
            Ok((schema, plan, state.task_ctx(), analyzed))
        });
        let (schema, plan, task, analyzed) = self.in_time(caller, deadline, planning).await?;
        Ok(PlannedQuery { schema, plan, task, deadline, wanted_parts, stop, analyzed, tally })
    }

    /// Tells what a statement will give and wants, without running it.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub async fn describe(&self, caller: &Principal, statement: &Statement) -> Result<Described> {
        let (deadline, stop) = (self.deadline(&statement.options), Stop::default().on_drop());
        let (session, _) = self.session_for(caller, statement, stop.flag()).await?;
        let sql = statement.sql.clone();
        self.in_time(caller, deadline, self.cpu.run(async move { describe(&session, &sql).await })).await
    }

    async fn session_for(
        &self,
        caller: &Principal,
        statement: &Statement,
        stop: &Stop,
    ) -> Result<(SessionContext, Arc<ScanTally>)> {
        let catalog = self.catalog_for(caller, statement).await?;
        let tally = Arc::clone(catalog.tally());
        Ok((session(&self.template, Arc::new(catalog), &statement.options, stop), tally))
    }

    /// The catalog that a statement is planned with.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the version store is away.
    pub(super) async fn catalog_for(&self, caller: &Principal, statement: &Statement) -> Result<TenantCatalog> {
        let audit_file = self.settings.audit_file.clone();
        TenantCatalog::for_statement(Arc::clone(&self.datasets), audit_file, caller.clone(), statement).await
    }

    /// The deadline of a statement that begins now.
    pub(super) fn deadline(&self, options: &SessionOptions) -> Deadline {
        Deadline::after(options.timeout(self.settings.timeout))
    }

    async fn in_time<T>(
        &self,
        caller: &Principal,
        deadline: Deadline,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match deadline.in_time(work).await {
            Err(error) => Err(with_nearest_name(&self.datasets, caller, error).await),
            done => done,
        }
    }

    /// Runs a planned statement.
    ///
    /// # Errors
    /// When the plan cannot be started; errors of its run come through the stream.
    ///
    /// `finish` makes of each batch what is handed over, on the threads that computed it.
    pub fn run<T: Send + 'static>(
        &self,
        query: PlannedQuery,
        mut finish: impl FnMut(RecordBatch) -> Result<T> + Send + 'static,
    ) -> Result<ResultStream<T>> {
        let PlannedQuery { schema, plan, task, deadline, wanted_parts: _, stop, analyzed, tally } = query;
        // Some nodes begin their work when they are asked for their stream.
        let batches = self.cpu.begin(|| execute_stream(Arc::clone(&plan), task)).or_query_error()?;
        let summary = {
            let (plan, schema, tally) = (Arc::clone(&plan), Arc::clone(&schema), Arc::clone(&tally));
            let totals = move || ScanTotals::of(plan.as_ref(), &tally);
            stream::iter(analyzed.then_some(())).map(move |()| scan_summary(&totals(), &schema))
        };
        let batches = batches.map(move |batch| to_output(&batch.map_err(query_error)?, &schema)).chain(summary);
        let counted = CountOnDrop { plan, tally, metrics: self.metrics.clone() };
        let batches = batches.map(move |batch| {
            let _counted_until_the_end = &counted;
            finish(batch?)
        });
        let batches = self.cpu.forward(batches).inspect(move |_| {
            let _set_when_dropped = &stop;
        });
        Ok(bounded(batches.boxed(), deadline))
    }

    /// Plans the read of a whole frame.
    ///
    /// # Errors
    /// Those of [`FrameRead::plan`], and of a filter that does not fit.
    pub async fn read(
        &self,
        caller: &Principal,
        name: &DatasetName,
        selection: &Selection,
        filter: Option<&str>,
    ) -> Result<FrameRead> {
        let (dataset, snapshot) = self.datasets.open(caller, name, Access::Read).await?;
        let filter = match filter {
            None => None,
            Some(text) => {
                let session = SessionContext::new_with_state(self.template.clone());
                let (text, snapshot) = (text.to_string(), Arc::clone(&snapshot));
                let parse = self.cpu.run(async move { SqlFilter::parse(&session, &text, &snapshot) });
                let parsed = Deadline::after(self.settings.timeout).in_time(parse).await?;
                Some(Arc::new(parsed) as Arc<dyn RowFilter>)
            }
        };
        let (settings, metrics) = (self.settings.read.clone(), self.metrics.clone());
        FrameRead::plan(dataset, snapshot, selection, filter, settings, metrics).await
    }

    /// Runs the read of a whole frame; `finish` as in [`Engine::run`].
    pub fn run_read<T: Send + 'static>(
        &self,
        read: FrameRead,
        mut finish: impl FnMut(RecordBatch) -> Result<T> + Send + 'static,
    ) -> ResultStream<T> {
        let items = read.stream().map(move |batch| finish(batch?));
        bounded(self.cpu.forward(items).boxed(), Deadline::after(self.settings.timeout))
    }
}

impl Engine {
    /// Hands over rows that are at hand; `finish` as in [`Engine::run`].
    pub fn run_rows<T: Send + 'static>(
        &self,
        rows: BoxStream<'static, Result<RecordBatch>>,
        mut finish: impl FnMut(RecordBatch) -> Result<T> + Send + 'static,
    ) -> ResultStream<T> {
        let items = rows.map(move |batch| finish(batch?));
        bounded(self.cpu.forward(items).boxed(), Deadline::after(self.settings.timeout))
    }
}

fn bounded<T>(items: BoxStream<'static, Result<T>>, deadline: Deadline) -> ResultStream<T> {
    let timer = Box::pin(tokio::time::sleep_until(deadline.at()));
    ResultStream { items, timer, deadline, ended: false }
}

impl<T: Send + 'static> Stream for ResultStream<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.timer.as_mut().poll(context).is_ready() {
            self.ended = true;
            self.items = stream::empty().boxed();
            return Poll::Ready(Some(Err(self.deadline.error())));
        }
        self.items.poll_next_unpin(context)
    }
}

/// Adds what a plan read to the server's counters, however its run ends.
struct CountOnDrop {
    plan: Arc<dyn ExecutionPlan>,
    tally: Arc<ScanTally>,
    metrics: Metrics,
}

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        let totals = ScanTotals::of(self.plan.as_ref(), &self.tally);
        self.metrics.chunks_considered.inc_by(totals.considered);
        self.metrics.chunks_pruned.inc_by(totals.pruned);
        self.metrics.chunks_read.inc_by(totals.considered.saturating_sub(totals.pruned));
        self.metrics.bytes_read.inc_by(totals.bytes);
    }
}

/// What `EXPLAIN ANALYZE` says of chunks, in the two text columns of its result.
fn scan_summary(totals: &ScanTotals, schema: &SchemaRef) -> Result<RecordBatch> {
    let text = format!(
        "chunks considered={}, chunks pruned={}, bytes read={}",
        totals.considered, totals.pruned, totals.bytes
    );
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec!["Chunks of all scans"])), Arc::new(StringArray::from(vec![text]))];
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| Error::internal("the summary of the plan cannot be made").because(error))
}

struct ScanTotals {
    considered: u64,
    pruned: u64,
    bytes: u64,
}

impl ScanTotals {
    fn of(plan: &dyn ExecutionPlan, tally: &ScanTally) -> Self {
        let (considered, pruned) = (tally.considered.load(Ordering::Relaxed), tally.pruned.load(Ordering::Relaxed));
        let mut totals = Self { considered, pruned, bytes: 0 };
        match accept(plan, &mut totals) {
            Ok(()) => totals,
            Err(never) => match never {},
        }
    }
}

impl ExecutionPlanVisitor for ScanTotals {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, plan: &dyn ExecutionPlan) -> std::result::Result<bool, Self::Error> {
        if let Some(metrics) = plan.metrics() {
            self.bytes += metrics.sum_by_name("bytes_scanned").map_or(0, |value| value.as_usize() as u64);
        }
        Ok(true)
    }
}
