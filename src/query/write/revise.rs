//! Runs the statements that change rows: group by group of the chunks that may hold some.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::{cast, concat, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;

use super::super::failure::query_error;
use super::super::provider::DatasetTable;
use super::change::{ClauseAction, FIRST_VALUE, RowsQuery, Target};
use super::insert::Intake;
use super::merge::AddedQuery;
use super::session::{Computing, TargetTable, WriteSession};
use super::statement::{Revise, ReviseChange};
use super::{MAX_ATTEMPTS, Run, WriteOutcome, is_lost};
use crate::auth::Access;
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::table::{
    ChangedColumn, CommitTurn, Dataset, Revision, RowChanges, SelectedChunk, Selection, Snapshot, SplitSettings,
    WriteKind, sql_type,
};

/// Arrow bytes, about, of the chunks of one group.
const GROUP_BYTES: i64 = 64 << 20;
/// Chunks of one group, however small.
const GROUP_CHUNKS: usize = 1_024;
/// Arrow bytes of the new values of one group.
const MAX_CHANGED_BYTES: usize = 256 << 20;
/// The longest pause before a statement is computed anew.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

impl Run<'_> {
    /// Runs a statement that changes rows, as often as it takes to find no other in its way.
    pub(super) async fn revise(&self, revise: Revise) -> Result<WriteOutcome> {
        let target = Target::read(&revise.target, self.options)?;
        let name = target.table.dataset()?;
        let mut lost = None;
        for attempt in 0..MAX_ATTEMPTS {
            let opened = self.in_time(self.engine.datasets.open(self.caller, &name, Access::Write)).await;
            let (dataset, mut snapshot) = match opened {
                Err(error) if error.kind() == Kind::NotFound && revise.if_exists => return Ok(WriteOutcome::default()),
                opened => opened?,
            };
            let mut turn = None;
            if attempt > 0 {
                // From now on no other task of this process commits in between.
                turn = Some(self.in_time(async { Ok(dataset.wait_for_turn().await) }).await?);
                snapshot = dataset.refresh().await?;
            }
            if snapshot.exists() {
                match self.run_on(&revise, &target, dataset, snapshot, turn).await {
                    Err(error) if is_lost(&error) => lost = Some(error),
                    done => return done,
                }
            }
            tokio::time::sleep(clock::jitter(PAUSE)).await;
        }
        Err(lost.unwrap_or_else(|| Error::conflict("others kept changing the dataset; nothing was changed, retry")))
    }

    /// Runs a statement on one state.
    async fn run_on(
        &self,
        revise: &Revise,
        target: &Target,
        dataset: Arc<Dataset>,
        snapshot: Arc<Snapshot>,
        turn: Option<CommitTurn>,
    ) -> Result<WriteOutcome> {
        let revision = self.in_time(self.compute(revise, target, dataset, snapshot)).await?;
        let rows = revision.changed_rows() + revision.added_rows();
        match revision.commit(turn).await {
            Ok(outcome) => Ok(WriteOutcome { rows, version: outcome.map(|outcome| outcome.record.version) }),
            // The name may mean another dataset by now.
            Err(error) if error.kind() == Kind::NotFound => Err(Error::conflict(error.message())),
            Err(error) => Err(error),
        }
    }

    async fn compute(
        &self,
        revise: &Revise,
        target: &Target,
        dataset: Arc<Dataset>,
        snapshot: Arc<Snapshot>,
    ) -> Result<Revision> {
        let session = self.session(Computing::Parallel).await?;
        let (dataset_rows, user) = (Selection::default().find(&dataset, &snapshot)?, self.caller.user.clone());
        let whole = DatasetTable::new(Arc::clone(&dataset), Arc::clone(&snapshot), dataset_rows, session.tally())?;
        session.add(&target.table.schema, &target.table.table, Arc::new(whole.clone()));
        let rows = Arc::new(TargetTable::new(whole.with_hidden(&target.load, &target.row)));
        session.add(&target.table.schema, target.rows_name(), Arc::clone(&rows) as _);
        let (kind, split) = (revise.kind, self.engine.settings.split.clone());
        let work = Work { session, rows, target: target.clone(), dataset, snapshot, kind, user, split };
        let change = revise.change.clone();
        self.engine.cpu.run(async move { work.compute(change).await }).await
    }
}

/// What is needed to compute a statement on one state.
struct Work {
    session: WriteSession,
    rows: Arc<TargetTable>,
    target: Target,
    dataset: Arc<Dataset>,
    snapshot: Arc<Snapshot>,
    kind: WriteKind,
    user: String,
    split: SplitSettings,
}

/// A planned [`RowsQuery`].
struct PlannedRows {
    plan: LogicalPlan,
    clauses: Vec<ClauseAction>,
    may_repeat: bool,
}

impl Work {
    async fn compute(self, change: ReviseChange) -> Result<Revision> {
        let (changed, added) = match change {
            ReviseChange::DeleteAll => {
                let mut revision = self.begin(&[], &[]).await?;
                revision.delete_all();
                return Ok(revision);
            }
            ReviseChange::Where(change) => (vec![change.query(&self.target)?], Vec::new()),
            ReviseChange::Merge(parts) => parts.queries(&self.target, &self.session, &self.column_names()?).await?,
        };
        let mut planned = Vec::new();
        for RowsQuery { statement, clauses, may_repeat } in changed {
            planned.push(PlannedRows { plan: self.session.plan(statement).await?, clauses, may_repeat });
        }
        let mut additions = Vec::new();
        for AddedQuery { statement, columns } in added {
            additions.push((self.session.plan(statement).await?, columns));
        }
        let mut revision = self.begin(&planned, &additions).await?;
        let computed = async {
            self.change(&planned, &mut revision).await?;
            for (plan, columns) in &additions {
                self.add(plan, columns, &mut revision).await?;
            }
            Ok(())
        };
        match computed.await {
            Ok(()) => Ok(revision),
            Err(error) => {
                revision.abandon().await;
                Err(error)
            }
        }
    }

    fn column_names(&self) -> Result<Vec<String>> {
        Ok(self.snapshot.union_of_live()?.fields().iter().map(|field| field.name().clone()).collect())
    }

    async fn begin(&self, planned: &[PlannedRows], added: &[(LogicalPlan, Vec<String>)]) -> Result<Revision> {
        let mut typed: Vec<(String, DataType)> = Vec::new();
        for PlannedRows { plan, clauses, .. } in planned {
            for (column, place) in clauses.iter().flat_map(ClauseAction::columns) {
                typed.push((column.clone(), plan.schema().field(*place).data_type().clone()));
            }
        }
        let assigned: Vec<String> = typed.iter().map(|(column, _)| column.clone()).collect();
        for (plan, columns) in added {
            let types = plan.schema().fields().iter().map(|field| field.data_type().clone());
            typed.extend(columns.iter().cloned().zip(types));
        }
        let schema = statement_schema(&self.snapshot, &typed)?;
        let (dataset, snapshot) = (Arc::clone(&self.dataset), Arc::clone(&self.snapshot));
        Revision::begin(dataset, snapshot, schema, &assigned, self.kind, &self.user, self.split.clone()).await
    }

    /// Changes rows, group by group of the chunks that may hold some.
    async fn change(&self, planned: &[PlannedRows], revision: &mut Revision) -> Result<()> {
        let mut chunks: Vec<SelectedChunk> = Vec::new();
        for PlannedRows { plan, .. } in planned {
            for chunk in self.rows.chunks_for(&self.session, plan).await? {
                if chunks.iter().all(|known| known.chunk.path != chunk.chunk.path) {
                    chunks.push(chunk);
                }
            }
        }
        for group in groups(&self.snapshot, chunks) {
            self.rows.work_on(&group);
            let mut parts = Vec::new();
            let mut seen = HashSet::new();
            for planned in planned {
                parts.push(self.changes(planned, &mut seen).await?);
            }
            let chunks: Vec<_> = group.iter().map(|selected| Arc::clone(&selected.chunk)).collect();
            revision.change(&chunks, joined(parts)?).await?;
        }
        Ok(())
    }

    /// What a query tells of the present group.
    async fn changes(&self, planned: &PlannedRows, seen: &mut HashSet<(i64, i64)>) -> Result<RowChanges> {
        let mut stream = self.session.stream(&planned.plan).await?;
        let schema = stream.schema();
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = stream.next().await {
            let batch = self.once(batch.map_err(query_error)?, planned.may_repeat, seen)?;
            let of = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_default();
            bytes += batch.columns().iter().map(of).sum::<usize>();
            if bytes > MAX_CHANGED_BYTES {
                return Err(Error::exhausted(format!(
                    "the new values of some chunks come to more than {} MiB; change fewer rows at a time",
                    MAX_CHANGED_BYTES >> 20
                )));
            }
            batches.push(batch);
        }
        row_changes(&concat_batches(&schema, &batches).map_err(broken)?, &planned.clauses)
    }

    /// The rows of a batch that were not told before.
    fn once(&self, batch: RecordBatch, may_repeat: bool, seen: &mut HashSet<(i64, i64)>) -> Result<RecordBatch> {
        let (loads, rows) = (numbers(&batch, 0)?, numbers(&batch, 1)?);
        let keys = loads.values().iter().copied().zip(rows.values().iter().copied());
        let first: BooleanArray = keys.map(|key| Some(seen.insert(key))).collect();
        if first.true_count() == batch.num_rows() {
            return Ok(batch);
        }
        if !may_repeat {
            return Err(Error::invalid(format!(
                "a row of '{}' matches several rows of the source, so what is to become of it is not clear; make the \
                 source have one row for each",
                self.target.table.table
            )));
        }
        filter_record_batch(&batch, &first).map_err(broken)
    }

    async fn add(&self, plan: &LogicalPlan, columns: &[String], revision: &mut Revision) -> Result<()> {
        let intake = Intake::new(revision.schema(), columns)?;
        let mut stream = self.session.stream(plan).await?;
        while let Some(batch) = stream.next().await {
            let batch = intake.take(&batch.map_err(query_error)?)?;
            if batch.num_rows() > 0 {
                revision.add(batch).await?;
            }
        }
        Ok(())
    }
}

impl ClauseAction {
    /// The columns that it sets, with their places in the result.
    fn columns(&self) -> &[(String, usize)] {
        match self {
            ClauseAction::Delete => &[],
            ClauseAction::Update(columns) => columns,
        }
    }
}

/// The schema of the version that a statement makes: that of the union. A column of nulls alone gets the type of what
/// the statement puts there.
///
/// # Errors
/// [`Kind::Invalid`] for a column that there is not.
pub(super) fn statement_schema(snapshot: &Snapshot, typed: &[(String, DataType)]) -> Result<SchemaRef> {
    let union = snapshot.union_of_live()?;
    if let Some((name, _)) = typed.iter().find(|(name, _)| union.column_with_name(name).is_none()) {
        return Err(super::insert::no_column(name, &union));
    }
    let field = |field: &Arc<Field>| {
        let given = typed.iter().find(|(name, of)| name == field.name() && *of != DataType::Null);
        match given.filter(|_| *field.data_type() == DataType::Null) {
            Some((_, of)) => Arc::new(field.as_ref().clone().with_data_type(sql_type(of))),
            None => Arc::clone(field),
        }
    };
    let fields: Vec<_> = union.fields().iter().map(field).collect();
    Ok(Arc::new(Schema::new_with_metadata(fields, union.metadata().clone())))
}

/// Chunks that are worked on together, in the order they were added.
fn groups(snapshot: &Snapshot, mut chunks: Vec<SelectedChunk>) -> Vec<Vec<SelectedChunk>> {
    chunks.sort_by(|a, b| (a.chunk.added, &a.chunk.path).cmp(&(b.chunk.added, &b.chunk.path)));
    let versions = snapshot.live_versions().map(|version| (version.record.rows, version.record.bytes));
    let (rows, bytes) = versions.fold((1, 1), |(rows, bytes), (r, b)| (rows + r, bytes + b));
    let size = |chunk: &SelectedChunk| {
        let by_rows = (chunk.chunk.rows as i64).saturating_mul((bytes / rows).max(1));
        by_rows.max(chunk.chunk.bytes as i64)
    };
    let mut groups: Vec<(i64, Vec<SelectedChunk>)> = Vec::new();
    for chunk in chunks {
        let size = size(&chunk);
        match groups.last_mut() {
            Some((sum, group)) if *sum + size <= GROUP_BYTES && group.len() < GROUP_CHUNKS => {
                *sum += size;
                group.push(chunk);
            }
            _ => groups.push((size, vec![chunk])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn numbers(batch: &RecordBatch, place: usize) -> Result<Int64Array> {
    let column = batch.columns().get(place).and_then(|column| column.as_primitive_opt::<Int64Type>());
    column.cloned().ok_or_else(|| Error::internal("a query does not tell which rows it is about"))
}

/// What a query's result says of rows.
fn row_changes(told: &RecordBatch, clauses: &[ClauseAction]) -> Result<RowChanges> {
    let clause = told.columns().get(FIRST_VALUE - 1);
    let clause = clause.ok_or_else(|| Error::internal("a query does not tell what it is about"))?;
    let clause = cast(clause, &DataType::Int64).map_err(broken)?;
    let clause = clause.as_primitive::<Int64Type>();
    let is = |wanted: &dyn Fn(usize) -> bool| -> BooleanArray {
        clause.iter().map(|number| Some(number.is_some_and(|number| wanted(number as usize)))).collect()
    };
    let deleted = is(&|number| matches!(clauses.get(number), Some(ClauseAction::Delete)));
    let mut columns = Vec::new();
    for (number, action) in clauses.iter().enumerate() {
        let assigned = is(&|of| of == number);
        for (name, place) in action.columns() {
            let values = told.columns().get(*place).cloned();
            let values = values.ok_or_else(|| Error::internal("a query lacks a new value"))?;
            columns.push(ChangedColumn { name: name.clone(), values, assigned: assigned.clone() });
        }
    }
    Ok(RowChanges { loads: numbers(told, 0)?, rows: numbers(told, 1)?, deleted, columns })
}

/// The changes that several queries tell, as one.
fn joined(parts: Vec<RowChanges>) -> Result<RowChanges> {
    let total: usize = parts.iter().map(|part| part.loads.len()).sum();
    let (mut loads, mut rows, mut deleted, mut columns) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let (before, own) = (loads.len(), part.loads.len());
        let after = total - before - own;
        for column in part.columns {
            let none = |rows| new_null_array(column.values.data_type(), rows);
            let values = concat(&[&none(before), &column.values, &none(after)]).map_err(broken)?;
            let not = |rows| std::iter::repeat_n(false, rows);
            let assigned = not(before).chain(column.assigned.values().iter()).chain(not(after)).collect::<Vec<_>>();
            columns.push(ChangedColumn { name: column.name, values, assigned: assigned.into() });
        }
        loads.extend(part.loads.values().iter().copied());
        rows.extend(part.rows.values().iter().copied());
        deleted.extend(part.deleted.values().iter());
    }
    Ok(RowChanges { loads: loads.into(), rows: rows.into(), deleted: deleted.into(), columns })
}

fn broken(error: ArrowError) -> Error {
    Error::internal("what a statement does to rows cannot be put together").because(error)
}
