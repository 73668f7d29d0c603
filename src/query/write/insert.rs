//! `INSERT`: a load of what a query gives.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{Expr, Insert, Query, SetExpr};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::super::failure::{OrQueryError, query_error};
use super::super::session::{CATALOG, DEFAULT_SCHEMA};
use super::names::{WrittenTable, column_name};
use super::parameters::column_of;
use super::revise::statement_schema;
use super::select::{alias, alone, named, object_name, of_query, quoted, select, table};
use super::session::{Computing, WriteSession};
use super::statement::{Write, inserted_table, refuse};
use super::{MAX_ATTEMPTS, Run, WriteOutcome, is_lost};
use crate::auth::Access;
use crate::clock;
use crate::error::{Error, Kind, Result, shorten};
use crate::names::{DatasetName, ExternalKey};
use crate::table::{Creation, Load, LoadRequest, Snapshot, WriteKind, check_nulls, from_sql, with_any_categories};

/// Rows on their way from a query into a load: the column of the load that each of its columns is for.
pub(super) struct Intake {
    schema: SchemaRef,
    /// For each column of the load its place in the query.
    sources: Vec<Option<usize>>,
}

impl Intake {
    /// For rows of `schema`, of which a query gives `columns`. The others are null.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a column that there is not, or that is named twice.
    pub(super) fn new(schema: &SchemaRef, columns: &[String]) -> Result<Self> {
        let mut sources = vec![None; schema.fields().len()];
        for (place, name) in columns.iter().enumerate() {
            let index = schema.index_of(name).map_err(|_| no_column(name, schema))?;
            match sources.get_mut(index) {
                Some(source @ None) => *source = Some(place),
                _ => return Err(Error::invalid(format!("column '{}' is named twice; name it once", shorten(name)))),
            }
        }
        let field = |field: &Arc<Field>| field.as_ref().clone().with_data_type(with_any_categories(field.data_type()));
        let fields: Vec<Field> = schema.fields().iter().map(field).collect();
        Ok(Self { schema: Arc::new(Schema::new(fields)), sources })
    }

    /// The rows of a query's batch as the load takes them.
    ///
    /// # Errors
    /// [`Kind::Invalid`] naming the column and the value that does not fit it.
    pub(super) fn take(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.sources.len());
        for (field, source) in self.schema.fields().iter().zip(&self.sources) {
            let column = match source.and_then(|place| batch.columns().get(place)) {
                Some(values) => from_sql(field.name(), values, field.data_type())?,
                None => new_null_array(field.data_type(), rows),
            };
            check_nulls(&column, field)?;
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| Error::internal("inserted rows do not fit their schema").because(error))
    }
}

/// The refusal of a column that there is not.
pub(super) fn no_column(name: &str, schema: &Schema) -> Error {
    let names: Vec<&str> = schema.fields().iter().take(20).map(|field| field.name().as_str()).collect();
    Error::invalid(format!(
        "there is no column '{}'; the columns are: {} (names with capitals want quotes)",
        shorten(name),
        shorten(&names.join(", "))
    ))
}

/// An `INSERT` that takes all rows of parameters at once; `None` for another statement.
pub(super) fn rows_of_parameters(write: &Write) -> Option<Insert> {
    let Write::Insert(insert) = write else { return None };
    let body = insert.source.as_ref().map(|source| source.body.as_ref());
    let takes = matches!(body, Some(SetExpr::Values(values)) if values.rows.len() == 1);
    takes.then(|| insert.as_ref().clone())
}

/// Where the rows of an `INSERT` come from.
pub(super) struct Source {
    /// Where it is computed.
    pub session: WriteSession,
    /// What gives the rows.
    pub plan: LogicalPlan,
}

impl Run<'_> {
    /// Inserts what a query gives.
    pub(super) async fn insert(&self, insert: Insert) -> Result<WriteOutcome> {
        check(&insert)?;
        let written = WrittenTable::read(inserted_table(&insert.table)?, self.options)?;
        let (name, named) = (written.dataset()?, insert.columns.iter().map(column_name).collect::<Result<Vec<_>>>()?);
        let query = insert.source.ok_or_else(|| Error::invalid("INSERT takes VALUES or a query"))?;
        let mut lost = None;
        for _ in 0..MAX_ATTEMPTS {
            match self.insert_once(&name, &named, &query).await {
                Err(error) if is_lost(&error) => lost = Some(error),
                done => return done,
            }
        }
        Err(lost.unwrap_or_else(|| Error::conflict("others kept changing the dataset; nothing was stored, retry")))
    }

    async fn insert_once(&self, name: &DatasetName, named: &[String], query: &Query) -> Result<WriteOutcome> {
        let (_, snapshot) = self.in_time(self.engine.datasets.open(self.caller, name, Access::Write)).await?;
        let source = self.in_time(self.source(query)).await?;
        let (schema, columns) = inserted_columns(&snapshot, named, &source.plan)?;
        let intake = Intake::new(&schema, &columns)?;
        let request = self.load_request(WriteKind::Insert)?;
        let load = self.begin(name, Creation::MustExist, request, schema).await?;
        self.load(load, source, intake, MakesVersion::WithRows).await
    }

    async fn source(&self, query: &Query) -> Result<Source> {
        if !matches!(query.body.as_ref(), SetExpr::Values(_)) {
            return self.source_by(query, Computing::Parallel).await;
        }
        match self.source_by(query, Computing::AsWritten).await {
            // Beside NaN or an infinity, which no decimal is, the numbers of a column are floats.
            Err(error) if error.kind() == Kind::Invalid => {
                self.source_by(query, Computing::Parallel).await.map_err(|_| error)
            }
            source => source,
        }
    }

    async fn source_by(&self, query: &Query, computing: Computing) -> Result<Source> {
        let session = self.session(computing).await?;
        let statement = match query.body.as_ref() {
            SetExpr::Values(values) if self.parameters.rows() > 1 => {
                let row = values.rows.first().map(|row| row.content.clone()).unwrap_or_default();
                self.select_from_parameters(&session, row)?
            }
            _ => of_query(Box::new(query.clone())),
        };
        let planning = session.clone();
        let plan = self.engine.cpu.run(async move { planning.plan(statement).await }).await?;
        Ok(Source { session, plan })
    }

    /// `VALUES (row)` for each row of the parameters, in order.
    fn select_from_parameters(&self, session: &WriteSession, mut row: Vec<Expr>) -> Result<EngineStatement> {
        let batch = self.parameters.batch().ok_or_else(|| Error::internal("there are no parameters"))?;
        let column = |(place, field): (usize, &Arc<Field>)| {
            field.as_ref().clone().with_name(column_of(place + 1)).with_nullable(true)
        };
        let fields: Vec<Field> = batch.schema().fields().iter().enumerate().map(column).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec());
        let batch = batch.map_err(|error| Error::internal("the parameters are no table").because(error))?;
        let name = format!("$parameters:{}", clock::new_ulid());
        let rows = MemTable::try_new(schema, vec![vec![batch]]).or_query_error()?;
        session.add(DEFAULT_SCHEMA, &name, Arc::new(rows));
        for expr in &mut row {
            self.parameters.bind_columns(expr)?;
        }
        let value = |(place, expr)| named(expr, &format!("value:{place}"));
        let projection = row.into_iter().enumerate().map(value).collect();
        let from = table(&object_name(&[CATALOG, DEFAULT_SCHEMA, &name]), Some(alias(quoted("parameters"))))?;
        select(projection, vec![alone(from)], None)
    }

    /// What a load by a statement asks for.
    pub(super) fn load_request(&self, statement: WriteKind) -> Result<LoadRequest> {
        Ok(LoadRequest {
            columns_keys: Default::default(),
            external_key: ExternalKey::parse(None)?,
            keep_last: false,
            idempotency_key: None,
            total_rows: None,
            user: self.caller.user.clone(),
            statement: Some(statement),
        })
    }

    /// Begins a load of rows of `schema`.
    pub(super) async fn begin(
        &self,
        name: &DatasetName,
        creation: Creation,
        request: LoadRequest,
        schema: SchemaRef,
    ) -> Result<Load> {
        let (datasets, split) = (&self.engine.datasets, self.engine.settings.split.clone());
        let mut load = self.in_time(datasets.begin_load(self.caller, name, creation, request, split)).await?;
        match load.begin_rows(schema) {
            Ok(()) => Ok(load),
            Err(error) => {
                load.abandon().await;
                Err(error)
            }
        }
    }

    /// Loads what a plan gives.
    pub(super) async fn load(
        &self,
        mut load: Load,
        source: Source,
        intake: Intake,
        makes: MakesVersion,
    ) -> Result<WriteOutcome> {
        let mut rows = self.engine.cpu.forward(computed(source, intake));
        let received = self.in_time(async {
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                if batch.num_rows() > 0 {
                    load.push(batch).await?;
                }
            }
            Ok(())
        });
        if let Err(error) = received.await {
            load.abandon().await;
            return Err(error);
        }
        if load.rows() == 0 && makes == MakesVersion::WithRows {
            load.abandon().await;
            return Ok(WriteOutcome::default());
        }
        let outcome = load.finish().await?;
        let (record, metrics) = (&outcome.record, &self.engine.metrics);
        metrics.loads.inc();
        metrics.rows_loaded.inc_by(record.rows as u64);
        metrics.bytes_loaded.inc_by(record.bytes as u64);
        metrics.chunks_written.inc_by(record.chunks as u64);
        Ok(WriteOutcome { rows: record.rows, version: Some(record.version) })
    }
}

/// Whether a load of a statement makes a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MakesVersion {
    /// In any case.
    Always,
    /// Where it has rows.
    WithRows,
}

/// The rows of a source, as a load takes them.
fn computed(source: Source, intake: Intake) -> BoxStream<'static, Result<RecordBatch>> {
    let Source { session, plan } = source;
    // What the session holds keeps the states that it reads from being vacuumed.
    let kept = session.clone();
    stream::once(async move { session.stream(&plan).await })
        .map_ok(move |rows| rows.map_err(query_error))
        .try_flatten()
        .map(move |batch| {
            let _kept_until_the_end = &kept;
            intake.take(&batch?)
        })
        .boxed()
}

/// The schema of the version, and the column of it that each column of the query is for.
fn inserted_columns(snapshot: &Snapshot, named: &[String], plan: &LogicalPlan) -> Result<(SchemaRef, Vec<String>)> {
    let all = || Ok(snapshot.union_of_live()?.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>());
    let columns = if named.is_empty() { all()? } else { named.to_vec() };
    let types: Vec<DataType> = plan.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    if types.len() != columns.len() {
        return Err(Error::invalid(format!(
            "INSERT gives {} values for {} columns; name the columns, or give each a value",
            types.len(),
            columns.len()
        )));
    }
    let typed: Vec<(String, DataType)> = columns.iter().cloned().zip(types).collect();
    Ok((statement_schema(snapshot, &typed)?, columns))
}

/// Refuses the forms that are not understood.
fn check(insert: &Insert) -> Result<()> {
    for (is_there, part) in [
        (insert.or.is_some() || insert.ignore || insert.on.is_some(), "ON CONFLICT, OR or IGNORE; use MERGE"),
        (insert.overwrite || insert.replace_into, "OVERWRITE or REPLACE; use TRUNCATE before it, or CREATE OR REPLACE"),
        (!insert.assignments.is_empty(), "SET"),
        (insert.partitioned.is_some() || !insert.after_columns.is_empty(), "PARTITION"),
        (insert.returning.is_some() || insert.output.is_some(), "RETURNING"),
        (insert.settings.is_some() || insert.format_clause.is_some(), "SETTINGS or FORMAT"),
        (insert.multi_table_insert_type.is_some() || !insert.multi_table_into_clauses.is_empty(), "several tables"),
        (insert.source.is_none(), "DEFAULT VALUES"),
    ] {
        refuse(is_there, "INSERT", part)?;
    }
    Ok(())
}
