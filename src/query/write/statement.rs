//! Which statements write, and what of their many forms is understood. What is not is refused by name, never ignored.

use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    CreateTable, Delete, Expr, FromTable, Insert, Merge, ObjectName, ObjectType, Statement, TableFactor, TableObject,
    TableWithJoins, Truncate, Update, UpdateTableFromKind,
};

use super::super::dialect::parse;
use super::super::session::check_text;
use super::change::{Assignments, Change};
use super::merge::MergeParts;
use crate::error::{Error, Result};
use crate::table::WriteKind;

/// A statement that writes.
#[derive(Debug, Clone)]
pub(super) enum Write {
    /// `CREATE TABLE`.
    Create(Box<CreateTable>),
    /// `CREATE SCHEMA IF NOT EXISTS`: a schema is there as soon as a table is in it.
    CreateSchema,
    /// `DROP TABLE`.
    Drop {
        /// The table.
        name: ObjectName,
        /// Whether it may be absent.
        if_exists: bool,
    },
    /// `INSERT`.
    Insert(Box<Insert>),
    /// A statement that changes rows.
    Revise(Box<Revise>),
}

/// A statement that changes rows of a table.
#[derive(Debug, Clone)]
pub(super) struct Revise {
    /// What it is.
    pub kind: WriteKind,
    /// The table, with its alias.
    pub target: TableFactor,
    /// Whether the table may be absent.
    pub if_exists: bool,
    /// What it does.
    pub change: ReviseChange,
}

/// What a statement does to rows.
#[derive(Debug, Clone)]
pub(super) enum ReviseChange {
    /// All of them go.
    DeleteAll,
    /// Those for which a condition holds change or go.
    Where(Box<Change>),
    /// `MERGE`.
    Merge(Box<MergeParts>),
}

/// Reads a statement; `None` for one that does not write.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when it does not parse,
/// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) for a form that is not understood.
pub(super) fn read(sql: &str) -> Result<Option<Write>> {
    check_text(sql)?;
    let EngineStatement::Statement(statement) = parse(sql)? else { return Ok(None) };
    Ok(Some(match *statement {
        Statement::CreateTable(create) if !create.external => Write::Create(Box::new(create)),
        Statement::CreateSchema { if_not_exists: true, .. } => Write::CreateSchema,
        Statement::CreateSchema { .. } => {
            return Err(Error::unimplemented(
                "a schema is there as soon as a table is in it; leave CREATE SCHEMA out, or add IF NOT EXISTS",
            ));
        }
        Statement::Drop { object_type: ObjectType::Table, if_exists, names, temporary: false, .. } => {
            let [name] = names.as_slice() else {
                return Err(Error::unimplemented("DROP TABLE takes one table; drop them one by one"));
            };
            Write::Drop { name: name.clone(), if_exists }
        }
        Statement::Insert(insert) => Write::Insert(Box::new(insert)),
        Statement::Delete(delete) => Write::Revise(Box::new(read_delete(delete)?)),
        Statement::Update(update) => Write::Revise(Box::new(read_update(update)?)),
        Statement::Merge(merge) => Write::Revise(Box::new(read_merge(merge)?)),
        Statement::Truncate(truncate) => Write::Revise(Box::new(read_truncate(truncate)?)),
        _ => return Ok(None),
    }))
}

/// Refuses a part of a statement that is there.
///
/// # Errors
/// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) naming it.
pub(super) fn refuse(is_there: bool, statement: &str, part: &str) -> Result<()> {
    if is_there { Err(Error::unimplemented(format!("{statement} cannot have {part}; leave it out"))) } else { Ok(()) }
}

fn read_delete(delete: Delete) -> Result<Revise> {
    let Delete { tables, from, using, selection, returning, output, order_by, limit, .. } = delete;
    for (is_there, part) in [
        (!tables.is_empty(), "tables before FROM"),
        (returning.is_some() || output.is_some(), "RETURNING"),
        (!order_by.is_empty(), "ORDER BY"),
        (limit.is_some(), "LIMIT"),
    ] {
        refuse(is_there, "DELETE", part)?;
    }
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
    let [table] = from.as_slice() else {
        return Err(Error::unimplemented("DELETE takes one table after FROM; name others after USING"));
    };
    let target = single(table, "DELETE")?;
    let change = match (using, selection) {
        (None, None) => ReviseChange::DeleteAll,
        (using, condition) => ReviseChange::Where(Box::new(Change::delete(using.unwrap_or_default(), condition))),
    };
    Ok(Revise { kind: WriteKind::Delete, target, if_exists: false, change })
}

fn read_update(update: Update) -> Result<Revise> {
    let Update { table, assignments, from, selection, returning, output, or, order_by, limit, .. } = update;
    for (is_there, part) in [
        (returning.is_some() || output.is_some(), "RETURNING"),
        (or.is_some(), "OR"),
        (!order_by.is_empty(), "ORDER BY"),
        (limit.is_some(), "LIMIT"),
    ] {
        refuse(is_there, "UPDATE", part)?;
    }
    let target = single(&table, "UPDATE")?;
    let from = match from {
        None => Vec::new(),
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => from,
    };
    let change = ReviseChange::Where(Box::new(Change::update(Assignments::read(assignments)?, from, selection)));
    Ok(Revise { kind: WriteKind::Update, target, if_exists: false, change })
}

fn read_merge(merge: Merge) -> Result<Revise> {
    refuse(merge.output.is_some(), "MERGE", "OUTPUT")?;
    let target = merge.table.clone();
    let change = ReviseChange::Merge(Box::new(MergeParts::read(merge)?));
    Ok(Revise { kind: WriteKind::Merge, target, if_exists: false, change })
}

fn read_truncate(truncate: Truncate) -> Result<Revise> {
    let Truncate { table_names, partitions, if_exists, identity, cascade, on_cluster, .. } = truncate;
    refuse(partitions.is_some() || identity.is_some() || on_cluster.is_some(), "TRUNCATE", "options")?;
    refuse(cascade.is_some(), "TRUNCATE", "CASCADE or RESTRICT")?;
    let [table] = table_names.as_slice() else {
        return Err(Error::unimplemented("TRUNCATE takes one table; empty them one by one"));
    };
    refuse(table.only || table.has_asterisk, "TRUNCATE", "ONLY or an asterisk")?;
    let target = super::select::table(&table.name, None)?;
    Ok(Revise { kind: WriteKind::Delete, target, if_exists, change: ReviseChange::DeleteAll })
}

/// The one table of a statement, without joins.
fn single(table: &TableWithJoins, statement: &str) -> Result<TableFactor> {
    refuse(!table.joins.is_empty(), statement, "joins beside its table; name other tables after FROM or USING")?;
    Ok(table.relation.clone())
}

/// The table that an `INSERT` names.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for what is no table of ours.
pub(super) fn inserted_table(table: &TableObject) -> Result<&ObjectName> {
    match table {
        TableObject::TableName(name) => Ok(name),
        _ => Err(Error::invalid("INSERT takes the name of a table")),
    }
}

/// Whether a condition is left out.
pub(super) fn always() -> Expr {
    Expr::value(datafusion::sql::sqlparser::ast::Value::Boolean(true))
}
