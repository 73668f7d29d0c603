//! `DELETE` and `UPDATE`: the query that finds the rows and computes their new values.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, Ident, ObjectName, Query, TableAlias, TableFactor, TableWithJoins, VisitMut,
    VisitorMut,
};

use super::super::options::SessionOptions;
use super::super::session::CATALOG;
use super::names::{WrittenTable, column_name, folded};
use super::select::{alone, column, named, number, quoted, select, table};
use super::statement::refuse;
use crate::clock;
use crate::error::{Error, Result, shorten};

/// The table that a statement writes, and what it is called in it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The table.
    pub table: WrittenTable,
    /// What its columns are qualified by.
    pub alias: Ident,
    /// Whether the statement chose that itself.
    has_alias: bool,
    /// The name that stands for the rows that the statement works on.
    rows: String,
    /// The columns that tell a row's load and its place in it.
    pub load: String,
    /// See `load`.
    pub row: String,
}

impl Target {
    /// Reads the table of a statement.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for what cannot be written.
    pub(super) fn read(factor: &TableFactor, options: &SessionOptions) -> Result<Self> {
        let TableFactor::Table { name, alias, args: None, version: None, sample: None, partitions, .. } = factor else {
            return Err(Error::invalid("only a table can be written; name one"));
        };
        refuse(!partitions.is_empty(), "a statement that writes", "partitions of its table; use WHERE or ON")?;
        if alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()) {
            return Err(Error::invalid("the alias of a table that is written cannot rename its columns"));
        }
        let written = WrittenTable::read(name, options)?;
        let unguessable = clock::new_ulid();
        let alias = alias.as_ref().map(|alias| alias.name.clone());
        Ok(Self {
            has_alias: alias.is_some(),
            alias: alias.unwrap_or_else(|| quoted(&written.table)),
            rows: format!("{}$rows:{unguessable}", written.table),
            load: format!("load:{unguessable}"),
            row: format!("row:{unguessable}"),
            table: written,
        })
    }

    /// The name, in the schema of the table, of the rows that the statement works on.
    pub(super) fn rows_name(&self) -> &str {
        &self.rows
    }

    /// The rows that the statement works on, as a part of a query.
    ///
    /// # Errors
    /// Never, as long as queries can be made.
    pub(super) fn rows(&self) -> Result<TableFactor> {
        self.factor(&self.rows)
    }

    /// The whole table, as a part of a query.
    ///
    /// # Errors
    /// As [`Target::rows`].
    pub(super) fn whole(&self) -> Result<TableFactor> {
        self.factor(&self.table.table)
    }

    fn factor(&self, name: &str) -> Result<TableFactor> {
        let name = super::select::object_name(&[CATALOG, &self.table.schema, name]);
        table(&name, Some(super::select::alias(self.alias.clone())))
    }

    /// A part of the statement, in which columns qualified by the table's full name are qualified by its alias.
    pub(super) fn adapt<T: VisitMut>(&self, mut part: T) -> T {
        if !self.has_alias {
            let _ = part.visit(&mut ShortQualifiers { target: self, depth: 0 });
        }
        part
    }

    /// Whether a name that qualifies a column means the table.
    fn is_qualifier(&self, parts: &[Ident]) -> bool {
        let names: Vec<String> = parts.iter().map(folded).collect();
        let WrittenTable { schema, table } = &self.table;
        match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => true,
            [alias] => *alias == folded(&self.alias),
            [s, t] => !self.has_alias && s == schema && t == table,
            [c, s, t] => !self.has_alias && *c == CATALOG && s == schema && t == table,
            _ => false,
        }
    }
}

/// Puts the alias where columns of the target are qualified by its full name, but not in queries within.
struct ShortQualifiers<'a> {
    target: &'a Target,
    depth: usize,
}

impl VisitorMut for ShortQualifiers<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && self.depth == 0
            && parts.len() > 2
            && let Some((last, qualifier)) = parts.split_last()
            && self.target.is_qualifier(qualifier)
        {
            *parts = vec![self.target.alias.clone(), last.clone()];
        }
        ControlFlow::Continue(())
    }
}

/// The columns that a statement sets, and to what.
#[derive(Debug, Clone)]
pub(super) struct Assignments(Vec<(ObjectName, Expr)>);

impl Assignments {
    /// Reads them.
    ///
    /// # Errors
    /// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) for columns that are set together.
    pub(super) fn read(assignments: Vec<Assignment>) -> Result<Self> {
        let one = |Assignment { target, value }| match target {
            AssignmentTarget::ColumnName(name) => Ok((name, value)),
            AssignmentTarget::Tuple(_) => {
                Err(Error::unimplemented("SET (a, b) = … is not understood; set the columns one by one"))
            }
        };
        assignments.into_iter().map(one).collect::<Result<_>>().map(Self)
    }

    /// The columns of `target`, each with its expression.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a column of another table, or one that is set twice.
    pub(super) fn of(&self, target: &Target) -> Result<Vec<(String, Expr)>> {
        let mut seen = HashSet::new();
        let one = |(name, expr): &(ObjectName, Expr)| {
            let parts: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
            let is_own = parts.split_last().is_some_and(|(_, qualifier)| target.is_qualifier(qualifier));
            let column = column_name(name)?;
            if !is_own {
                let shown = shorten(&name.to_string());
                return Err(Error::invalid(format!("'{shown}' is no column of the table that is written")));
            }
            if !seen.insert(column.clone()) {
                return Err(Error::invalid(format!("column '{}' is set twice; set it once", shorten(&column))));
            }
            Ok((column, target.adapt(expr.clone())))
        };
        self.0.iter().map(one).collect()
    }
}

/// What a `DELETE` or an `UPDATE` does to the rows for which its condition holds.
#[derive(Debug, Clone)]
pub(super) struct Change {
    assignments: Option<Assignments>,
    from: Vec<TableWithJoins>,
    condition: Option<Expr>,
}

/// What a clause does to the rows that it is for.
#[derive(Debug, Clone)]
pub(super) enum ClauseAction {
    /// They go.
    Delete,
    /// Columns get new values: each column, and its place in the result of the query.
    Update(Vec<(String, usize)>),
}

/// A query whose result tells rows of the target: their loads, their places, the clause that is for each, and new
/// values.
pub(super) struct RowsQuery {
    /// The query.
    pub statement: EngineStatement,
    /// What each clause does.
    pub clauses: Vec<ClauseAction>,
    /// Whether a row may be told several times.
    pub may_repeat: bool,
}

/// Columns of a [`RowsQuery`] before the new values.
pub(super) const FIRST_VALUE: usize = 3;

impl Change {
    /// `DELETE FROM target USING from WHERE condition`.
    pub(super) fn delete(from: Vec<TableWithJoins>, condition: Option<Expr>) -> Self {
        Self { assignments: None, from, condition }
    }

    /// `UPDATE target SET assignments FROM from WHERE condition`.
    pub(super) fn update(assignments: Assignments, from: Vec<TableWithJoins>, condition: Option<Expr>) -> Self {
        Self { assignments: Some(assignments), from, condition }
    }

    /// The query that tells the rows.
    ///
    /// # Errors
    /// Those of [`Assignments::of`].
    pub(super) fn query(&self, target: &Target) -> Result<RowsQuery> {
        let mut projection = told(target);
        projection.push(named(number(0), "clause"));
        let clause = match &self.assignments {
            None => ClauseAction::Delete,
            Some(assignments) => {
                let mut columns = Vec::new();
                for (name, expr) in assignments.of(target)? {
                    columns.push((name, projection.len()));
                    projection.push(named(expr, &format!("value:{}", projection.len())));
                }
                ClauseAction::Update(columns)
            }
        };
        let mut from = vec![alone(target.rows()?)];
        from.extend(self.from.iter().cloned());
        let statement = select(projection, from, self.condition.clone().map(|condition| target.adapt(condition)))?;
        let may_repeat = self.assignments.is_none();
        Ok(RowsQuery { statement, clauses: vec![clause], may_repeat })
    }
}

/// The first columns of a query that tells rows.
pub(super) fn told(target: &Target) -> Vec<datafusion::sql::sqlparser::ast::SelectItem> {
    [&target.load, &target.row].into_iter().map(|name| named(column(&target.alias, name), name)).collect()
}

/// What a table is called without an alias of its own.
pub(super) fn own_alias(alias: Option<TableAlias>, name: &str) -> TableAlias {
    alias.unwrap_or_else(|| super::select::alias(quoted(name)))
}
