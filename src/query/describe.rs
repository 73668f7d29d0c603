//! What a statement will give and wants, before it is run.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;

use super::dialect::parse;
use super::failure::OrQueryError;
use super::output::{all_nullable, output_schema};
use super::parameters::{bind, wanted_types};
use super::session::{check_text, only_reads};
use super::write::{StatementKind, classify};
use crate::error::{Error, Kind, Result};

/// What a statement will give and wants.
#[derive(Debug, Clone)]
pub struct Described {
    /// The schema of its rows; `None` when it changes something and gives none.
    pub schema: Option<SchemaRef>,
    /// Its parameters, `$1` and on, with the types it wants them in; text where nothing tells.
    pub parameters: SchemaRef,
}

/// Describes a statement in the catalog of `session`.
///
/// # Errors
/// Those of planning it.
pub(super) async fn describe(session: &SessionContext, sql: &str) -> Result<Described> {
    match classify(sql)? {
        StatementKind::Query => describe_query(session, sql).await,
        StatementKind::Write => {
            let parameters = write_parameters(session, sql).await?;
            Ok(Described { schema: None, parameters: fields(&parameters) })
        }
    }
}

async fn describe_query(session: &SessionContext, sql: &str) -> Result<Described> {
    check_text(sql)?;
    let plan = session.state().statement_to_plan(parse(sql)?).await.or_query_error()?;
    let plan = only_reads(plan)?;
    let types = wanted_types(&plan)?;
    let parameters = fields(&types);
    let plan = bind(plan, stand_ins(&types)?)?;
    let physical = session.state().create_physical_plan(&plan).await.or_query_error()?;
    let mut schema = output_schema(&physical.schema());
    if !types.is_empty() {
        schema = all_nullable(&schema);
    }
    Ok(Described { schema: Some(schema), parameters })
}

/// The parameters of a statement that changes something. The engine's own planner knows what most of them want.
async fn write_parameters(session: &SessionContext, sql: &str) -> Result<Vec<Option<DataType>>> {
    let statement = parse(sql)?;
    match session.state().statement_to_plan(statement).await.or_query_error() {
        Ok(plan) => wanted_types(&plan),
        // It has statements of its own that the engine does not plan; those have no parameters.
        Err(error) if !sql.contains('$') && error.kind() != Kind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn fields(types: &[Option<DataType>]) -> SchemaRef {
    let field = |(place, wanted): (usize, &Option<DataType>)| {
        let wanted = wanted.clone().filter(|wanted| !matches!(wanted, DataType::Null)).unwrap_or(DataType::Utf8);
        Field::new(format!("${}", place + 1), wanted, true)
    };
    Arc::new(Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// Values with which a plan has the schema that it will have with real ones. A number of rows cannot be null.
fn stand_ins(types: &[Option<DataType>]) -> Result<Vec<ScalarValue>> {
    let stand_in = |wanted: &Option<DataType>| match wanted {
        Some(DataType::Int64) => Ok(ScalarValue::Int64(Some(1))),
        other => ScalarValue::try_from(other.as_ref().unwrap_or(&DataType::Utf8)).or_query_error(),
    };
    types.iter().map(stand_in).collect()
}

/// Whether a plan takes parameters.
///
/// # Errors
/// As [`wanted_types`].
pub(super) fn has_parameters(plan: &LogicalPlan) -> Result<bool> {
    Ok(!wanted_types(plan)?.is_empty())
}

/// The error for a statement with parameters that came without values.
pub(super) fn no_values() -> Error {
    Error::invalid("the statement has parameters, and no values were given; prepare it and bind them")
}
