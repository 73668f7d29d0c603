//! A statement, whatever it is: a query is planned, to be run when its rows are wanted; what changes something is run
//! at once, and gives how many rows it changed.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::deadline::Deadline;
use super::engine::{Engine, PlannedQuery};
use super::parameters::Parameters;
use super::statement::Statement;
use super::write::{StatementKind, classify};
use crate::auth::Principal;
use crate::error::{Error, Result};

/// A statement that was begun.
pub enum Begun {
    /// A query, planned.
    Query(Box<PlannedQuery>),
    /// A change, made: how many rows it was.
    Affected(i64),
}

impl Engine {
    /// Plans a query, or makes a change.
    ///
    /// # Errors
    /// Those of [`Engine::plan`] and [`Engine::write`].
    pub async fn begin(&self, caller: &Principal, statement: &Statement) -> Result<Begun> {
        let deadline = self.deadline(&statement.options);
        match self.kind_by(deadline, &statement.sql).await? {
            StatementKind::Query => {
                let planned = Box::pin(self.plan_by(deadline, caller, statement)).await?;
                Ok(Begun::Query(Box::new(planned)))
            }
            StatementKind::Write => {
                let parameters = statement.parameters.as_ref().map(Parameters::batch);
                let (sql, options) = (&statement.sql, &statement.options);
                Ok(Begun::Affected(Box::pin(self.write_by(deadline, caller, sql, parameters, options)).await?.rows))
            }
        }
    }

    /// Tells what a statement is, from its text alone.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a text that is no statement.
    pub async fn kind(&self, statement: &Statement) -> Result<StatementKind> {
        self.kind_by(self.deadline(&statement.options), &statement.sql).await
    }

    /// As [`Engine::kind`]; a text of many thousand words is not parsed on the threads of the network.
    async fn kind_by(&self, deadline: Deadline, sql: &str) -> Result<StatementKind> {
        let sql = sql.to_string();
        deadline.in_time(self.cpu.run(async move { classify(&sql) })).await
    }
}

/// The schema of what a change gives.
pub fn affected_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, false)]))
}

/// What a change gives: how many rows it was.
///
/// # Errors
/// Never.
pub fn affected_batch(rows: i64) -> Result<RecordBatch> {
    RecordBatch::try_new(affected_schema(), vec![Arc::new(Int64Array::from(vec![rows]))])
        .map_err(|error| Error::internal("a number of rows cannot be put together").because(error))
}
