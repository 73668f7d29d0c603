//! Statements that change datasets.

use super::engine::Engine;
use super::options::SessionOptions;
use super::parameters::Parameters;
use crate::error::{Error, Result};
use crate::names::TenantId;

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// It only reads.
    Query,
    /// It changes something.
    Write,
}

/// Who changes something.
#[derive(Debug, Clone)]
pub struct WriteCaller {
    /// Whose datasets.
    pub tenant: TenantId,
    /// Who.
    pub user: String,
}

/// What a statement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOutcome {
    /// Rows that were added, changed or removed.
    pub rows: i64,
    /// The version it made.
    pub version: Option<i64>,
}

/// Tells what a statement is.
///
/// # Errors
/// When it does not parse.
pub fn classify(sql: &str) -> Result<StatementKind> {
    use datafusion::sql::parser::Statement;
    use datafusion::sql::sqlparser::ast::Statement as S;
    super::session::check_text(sql)?;
    Ok(match super::dialect::parse(sql)? {
        Statement::Statement(inner) => match *inner {
            S::Insert(_)
            | S::Update { .. }
            | S::Delete(_)
            | S::Merge { .. }
            | S::CreateTable(_)
            | S::Drop { .. }
            | S::Truncate { .. } => StatementKind::Write,
            _ => StatementKind::Query,
        },
        _ => StatementKind::Query,
    })
}

impl Engine {
    /// Runs it.
    pub async fn write(
        &self,
        _caller: &WriteCaller,
        _sql: &str,
        _parameters: Option<&Parameters>,
        _options: &SessionOptions,
    ) -> Result<WriteOutcome> {
        Err(Error::unimplemented("not merged yet"))
    }
}
