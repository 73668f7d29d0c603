//! `MERGE`: the queries that its clauses come to.
//!
//! Of the clauses for rows of one kind the first whose condition holds is the one that counts. Rows of the target that
//! match a row of the source are found by a join, those that match none by an anti-join, and so are the rows of the
//! source that are to be inserted.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, JoinConstraint, JoinOperator, Merge, MergeAction, MergeClause, MergeClauseKind, MergeInsertExpr,
    MergeInsertKind, SelectItem, TableFactor, TableWithJoins,
};
use futures::StreamExt;

use super::super::failure::{OrQueryError, query_error};
use super::super::session::{CATALOG, DEFAULT_SCHEMA};
use super::change::{Assignments, ClauseAction, RowsQuery, Target, own_alias, told};
use super::names::column_name;
use super::select::{alone, case, equal, joined, named, number, object_name, of_query, select, table, wildcard};
use super::session::WriteSession;
use super::statement::{always, refuse};
use crate::clock;
use crate::error::{Error, Result};

/// Arrow bytes of a source that is a query: it is computed once, and kept.
const MAX_SOURCE_BYTES: usize = 64 << 20;

/// A `MERGE`.
#[derive(Debug, Clone)]
pub(super) struct MergeParts {
    source: TableFactor,
    on: Expr,
    matched: Vec<Clause>,
    not_matched_by_source: Vec<Clause>,
    inserts: Vec<Insertion>,
}

/// What becomes of rows of the target.
#[derive(Debug, Clone)]
struct Clause {
    condition: Expr,
    /// `None` deletes.
    assignments: Option<Assignments>,
}

/// What of a row of the source is inserted.
#[derive(Debug, Clone)]
struct Insertion {
    condition: Expr,
    columns: Vec<String>,
    /// `None` for all its columns.
    values: Option<Vec<Expr>>,
}

/// A query whose rows are added to the target.
pub(super) struct AddedQuery {
    /// The query.
    pub statement: EngineStatement,
    /// The column of the target that each of its columns is for.
    pub columns: Vec<String>,
}

impl MergeParts {
    /// Reads the clauses of a statement.
    ///
    /// # Errors
    /// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) for a form that is not understood.
    pub(super) fn read(merge: Merge) -> Result<Self> {
        let Merge { source, on, clauses, .. } = merge;
        if clauses.is_empty() {
            return Err(Error::invalid("MERGE has no clause; add WHEN MATCHED THEN … or WHEN NOT MATCHED THEN …"));
        }
        let (matched, not_matched_by_source, inserts) = (Vec::new(), Vec::new(), Vec::new());
        let mut parts = Self { source, on: *on, matched, not_matched_by_source, inserts };
        for MergeClause { clause_kind, predicate, action, .. } in clauses {
            let condition = predicate.unwrap_or_else(always);
            let of_target = match clause_kind {
                MergeClauseKind::Matched => Some(&mut parts.matched),
                MergeClauseKind::NotMatchedBySource => Some(&mut parts.not_matched_by_source),
                MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => None,
            };
            match (of_target, action) {
                (Some(clauses), MergeAction::Delete { .. }) => clauses.push(Clause { condition, assignments: None }),
                (Some(clauses), MergeAction::Update(update)) => {
                    refuse(update.update_predicate.is_some(), "MERGE", "WHERE behind SET; use WHEN … AND")?;
                    refuse(update.delete_predicate.is_some(), "MERGE", "DELETE WHERE; use WHEN … AND … THEN DELETE")?;
                    let assignments = Some(Assignments::read(update.assignments)?);
                    clauses.push(Clause { condition, assignments });
                }
                (None, MergeAction::Insert(insert)) => parts.inserts.push(Insertion::read(condition, insert)?),
                _ => {
                    return Err(Error::invalid(
                        "a clause of MERGE does what rows of its kind cannot have done to them",
                    ));
                }
            }
        }
        Ok(parts)
    }

    /// The queries that it comes to, for a target of these columns.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for columns that do not fit,
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) for a source that is too large to be kept.
    pub(super) async fn queries(
        mut self,
        target: &Target,
        session: &WriteSession,
        columns: &[String],
    ) -> Result<(Vec<RowsQuery>, Vec<AddedQuery>)> {
        if let Some(kept) = keep_source(&self.source, session).await? {
            self.source = kept;
        }
        let on = target.adapt(self.on.clone());
        let mut changed = Vec::new();
        if !self.matched.is_empty() {
            let both = joined(target.rows()?, JoinOperator::Inner, self.source.clone(), on.clone());
            changed.push(rows_query(target, &self.matched, both)?);
        }
        if !self.not_matched_by_source.is_empty() {
            let alone = joined(target.rows()?, JoinOperator::LeftAnti, self.source.clone(), on.clone());
            changed.push(rows_query(target, &self.not_matched_by_source, alone)?);
        }
        let mut added = Vec::new();
        for (place, insertion) in self.inserts.iter().enumerate() {
            let anti: fn(JoinConstraint) -> JoinOperator = JoinOperator::LeftAnti;
            let from = joined(self.source.clone(), anti, target.whole()?, on.clone());
            let is_first = first_of(self.inserts.iter().map(|insertion| insertion.condition.clone()));
            added.push(insertion.query(from, equal(is_first, number(place)), columns)?);
        }
        Ok((changed, added))
    }
}

/// The number of the first of some conditions that holds; null where none does.
fn first_of(conditions: impl Iterator<Item = Expr>) -> Expr {
    case(conditions.enumerate().map(|(place, condition)| (condition, number(place))).collect())
}

/// The query that tells what clauses do to rows of the target.
fn rows_query(target: &Target, clauses: &[Clause], from: TableWithJoins) -> Result<RowsQuery> {
    let first = first_of(clauses.iter().map(|clause| target.adapt(clause.condition.clone())));
    let mut projection = told(target);
    projection.push(named(first.clone(), "clause"));
    let mut actions = Vec::new();
    for (place, clause) in clauses.iter().enumerate() {
        let Some(assignments) = &clause.assignments else {
            actions.push(ClauseAction::Delete);
            continue;
        };
        let mut columns = Vec::new();
        for (name, expr) in assignments.of(target)? {
            columns.push((name, projection.len()));
            // Computed for the rows of the clause alone: of others it may be an error.
            let value = case(vec![(equal(first.clone(), number(place)), expr)]);
            projection.push(named(value, &format!("value:{}", projection.len())));
        }
        actions.push(ClauseAction::Update(columns));
    }
    let statement = select(projection, vec![from], Some(Expr::IsNotNull(Box::new(first))))?;
    Ok(RowsQuery { statement, clauses: actions, may_repeat: false })
}

impl Insertion {
    fn read(condition: Expr, insert: MergeInsertExpr) -> Result<Self> {
        refuse(insert.insert_predicate.is_some(), "MERGE", "WHERE behind VALUES; use WHEN … AND")?;
        let columns = insert.columns.iter().map(column_name).collect::<Result<_>>()?;
        let values = match insert.kind {
            MergeInsertKind::Row => None,
            MergeInsertKind::Values(mut values) => match (values.rows.pop(), values.rows.is_empty()) {
                (Some(row), true) => Some(row.content),
                _ => return Err(Error::invalid("INSERT in a MERGE takes one row of values")),
            },
        };
        Ok(Self { condition, columns, values })
    }

    fn query(&self, from: TableWithJoins, condition: Expr, all: &[String]) -> Result<AddedQuery> {
        let columns = if self.columns.is_empty() { all.to_vec() } else { self.columns.clone() };
        let projection: Vec<SelectItem> = match &self.values {
            None => vec![wildcard()?],
            Some(values) if values.len() != columns.len() => {
                return Err(Error::invalid(format!(
                    "INSERT has {} values for {} columns; name the columns, or give each a value",
                    values.len(),
                    columns.len()
                )));
            }
            Some(values) => {
                let value = |(place, expr): (usize, &Expr)| named(expr.clone(), &format!("value:{place}"));
                values.iter().enumerate().map(value).collect()
            }
        };
        Ok(AddedQuery { statement: select(projection, vec![from], Some(condition))?, columns })
    }
}

/// Computes a source that is a query, so that all clauses see the same rows; `None` for a table, whose state is fixed.
async fn keep_source(source: &TableFactor, session: &WriteSession) -> Result<Option<TableFactor>> {
    let (query, alias) = match source {
        TableFactor::Table { .. } => return Ok(None),
        TableFactor::Derived { lateral: false, subquery, alias, .. } => (of_query(subquery.clone()), alias.clone()),
        other => (select(vec![wildcard()?], vec![alone(other.clone())], None)?, None),
    };
    let plan = session.plan(query).await?;
    let mut stream = session.stream(&plan).await?;
    let (schema, mut batches, mut bytes) = (stream.schema(), Vec::<RecordBatch>::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(query_error)?;
        bytes += batch.get_array_memory_size();
        if bytes > MAX_SOURCE_BYTES {
            return Err(Error::exhausted(format!(
                "the source of MERGE comes to more than {} MiB; put it in a table first, and merge that",
                MAX_SOURCE_BYTES >> 20
            )));
        }
        batches.push(batch);
    }
    let name = format!("$source:{}", clock::new_ulid());
    session.add(DEFAULT_SCHEMA, &name, Arc::new(MemTable::try_new(schema, vec![batches]).or_query_error()?));
    table(&object_name(&[CATALOG, DEFAULT_SCHEMA, &name]), Some(own_alias(alias, "source"))).map(Some)
}
