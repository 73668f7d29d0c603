//! Queries made of the parts of a statement. Each begins as a parsed text, whose parts are put in place of its own.

use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SetExpr, Statement, TableAlias, TableFactor, TableWithJoins, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use crate::error::{Error, Result};

/// A name in quotes.
pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// A column of a table, by its alias.
pub(super) fn column(alias: &Ident, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![alias.clone(), quoted(name)])
}

/// An expression under a name of its own.
pub(super) fn named(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: quoted(name) }
}

/// A number.
pub(super) fn number(value: usize) -> Expr {
    Expr::value(Value::Number(value.to_string(), false))
}

/// `left = right`.
pub(super) fn equal(left: Expr, right: Expr) -> Expr {
    use datafusion::sql::sqlparser::ast::BinaryOperator;
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Eq, right: Box::new(right) }
}

/// `CASE WHEN … THEN … END` of some conditions and results; null where none holds.
pub(super) fn case(whens: Vec<(Expr, Expr)>) -> Expr {
    let when = |(condition, result)| CaseWhen { condition: Expr::Nested(Box::new(condition)), result };
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: whens.into_iter().map(when).collect(),
        else_result: None,
    }
}

/// A table under an alias.
///
/// # Errors
/// Never, as long as the text that it begins as parses.
pub(super) fn table(name: &ObjectName, alias: Option<TableAlias>) -> Result<TableFactor> {
    let select = parsed_select("SELECT 1 FROM t")?;
    let mut factor = select.from.into_iter().next().map(|from| from.relation).ok_or_else(broken)?;
    if let TableFactor::Table { name: own, alias: given, .. } = &mut factor {
        (*own, *given) = (name.clone(), alias);
    }
    Ok(factor)
}

/// A name of quoted parts.
pub(super) fn object_name(parts: &[&str]) -> ObjectName {
    ObjectName(parts.iter().map(|part| ObjectNamePart::Identifier(quoted(part))).collect())
}

/// An alias without columns.
pub(super) fn alias(name: Ident) -> TableAlias {
    TableAlias { explicit: true, name, columns: Vec::new(), at: None }
}

/// A relation by itself.
pub(super) fn alone(relation: TableFactor) -> TableWithJoins {
    TableWithJoins { relation, joins: Vec::new() }
}

/// A relation joined with another where `condition` holds.
pub(super) fn joined(
    left: TableFactor,
    operator: fn(JoinConstraint) -> JoinOperator,
    right: TableFactor,
    condition: Expr,
) -> TableWithJoins {
    let join_operator = operator(JoinConstraint::On(condition));
    TableWithJoins { relation: left, joins: vec![Join { relation: right, global: false, join_operator }] }
}

/// `SELECT projection FROM from WHERE condition`.
///
/// # Errors
/// Never, as long as the text that it begins as parses.
pub(super) fn select(
    projection: Vec<SelectItem>,
    from: Vec<TableWithJoins>,
    condition: Option<Expr>,
) -> Result<EngineStatement> {
    let mut query = parsed("SELECT 1")?;
    match query.body.as_mut() {
        SetExpr::Select(select) => {
            (select.projection, select.from, select.selection) = (projection, from, condition);
        }
        _ => return Err(broken()),
    }
    Ok(of_query(query))
}

/// A query as a statement.
pub(super) fn of_query(query: Box<Query>) -> EngineStatement {
    EngineStatement::Statement(Box::new(Statement::Query(query)))
}

/// An expression of a text of ours.
///
/// # Errors
/// Never, as long as the text parses.
pub(super) fn expression(text: &str) -> Result<Expr> {
    match parsed_select(&format!("SELECT {text}"))?.projection.pop() {
        Some(SelectItem::UnnamedExpr(expr)) => Ok(expr),
        _ => Err(broken()),
    }
}

/// `*`.
///
/// # Errors
/// As [`expression`].
pub(super) fn wildcard() -> Result<SelectItem> {
    parsed_select("SELECT *")?.projection.pop().ok_or_else(broken)
}

fn parsed_select(text: &str) -> Result<Select> {
    match *parsed(text)?.body {
        SetExpr::Select(select) => Ok(*select),
        _ => Err(broken()),
    }
}

fn parsed(text: &str) -> Result<Box<Query>> {
    let mut statements = Parser::parse_sql(&GenericDialect {}, text).map_err(|error| broken().because(error))?;
    match statements.pop() {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(broken()),
    }
}

fn broken() -> Error {
    Error::internal("a part of a statement cannot be made a query")
}
