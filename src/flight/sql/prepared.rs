//! Prepared statements. Their handles hold all there is to them, so nothing is kept for a client that never comes back,
//! and every server that shares the key knows them.

use arrow::datatypes::Schema;
use arrow_flight::sql::DoPutPreparedStatementResult;
use arrow_flight::{IpcMessage, SchemaAsIpc};
use arrow_ipc::writer::IpcWriteOptions;
use prost::Message;
use prost::bytes::Bytes;

use super::super::incoming::Incoming;
use super::super::ticket::{Grant, PreparedGrant};
use super::messages::{PREPARED_STATEMENT_RESULT, PreparedStatementResult};
use super::parameters::{Purpose, from_text, receive, to_text};
use super::statement::SqlCaller;
use crate::error::{Error, Result};
use crate::query::Statement;

impl SqlCaller<'_> {
    /// Prepares a statement; gives the packed answer of `CreatePreparedStatement`.
    ///
    /// # Errors
    /// Those of [`Engine::describe`](crate::query::Engine::describe).
    pub(super) async fn prepare(&self, sql: &str) -> Result<Bytes> {
        let statement = self.statement(sql)?;
        let described = self.engine.describe(self.caller, &statement).await?;
        let grant = PreparedGrant { sql: statement.sql, parameters: None, options: statement.options };
        let result = PreparedStatementResult {
            prepared_statement_handle: self.tickets.sign(self.caller, Grant::Prepared(grant))?.into(),
            // By an empty schema drivers know a statement that changes something.
            dataset_schema: described.schema.as_deref().map(schema_bytes).transpose()?.unwrap_or_default(),
            parameter_schema: schema_bytes(&described.parameters)?,
            is_update: Some(described.schema.is_none()),
        };
        let any = prost_types::Any { type_url: PREPARED_STATEMENT_RESULT.into(), value: result.encode_to_vec() };
        Ok(any.encode_to_vec().into())
    }

    /// The statement of a handle, with the values that were bound to it.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a handle that is not one of ours for this caller.
    pub(in super::super) fn prepared(&self, handle: &Bytes) -> Result<Statement> {
        let (id, grant) = self.read_handle(handle)?;
        let values = grant.parameters.or_else(|| self.bound.values(&id));
        let parameters = values.as_deref().map(from_text).transpose()?;
        Ok(Statement { parameters, ..Statement::new(grant.sql, grant.options) })
    }

    fn read_handle(&self, handle: &Bytes) -> Result<(String, PreparedGrant)> {
        let signed = self.tickets.verify(self.caller, std::str::from_utf8(handle).unwrap_or_default())?;
        match signed.grant {
            Grant::Prepared(grant) => Ok((signed.id, grant)),
            _ => Err(Error::invalid("this is no handle of a prepared statement; prepare it first")),
        }
    }

    /// Binds values to the parameters of a prepared statement; gives the answer, which names its new handle.
    ///
    /// # Errors
    /// As [`SqlCaller::prepared`], and those of reading the values.
    pub(in super::super) async fn bind(&self, handle: &Bytes, incoming: &mut Incoming) -> Result<Bytes> {
        let (id, grant) = self.read_handle(handle)?;
        let values = receive(incoming, Purpose::Bind).await?;
        let parameters = values.as_ref().map(to_text).transpose()?;
        self.bound.bind(&id, parameters.clone());
        let signed = self.tickets.sign(self.caller, Grant::Prepared(PreparedGrant { parameters, ..grant }))?;
        let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(signed.into()) };
        Ok(result.encode_to_vec().into())
    }

    /// Runs a prepared statement that changes something, with the values that follow; gives how many rows it was.
    ///
    /// # Errors
    /// As [`SqlCaller::bind`], and those of running it.
    pub(in super::super) async fn prepared_update(&self, handle: &Bytes, incoming: &mut Incoming) -> Result<i64> {
        let statement = self.prepared(handle)?;
        let values = receive(incoming, Purpose::Update).await?;
        self.write(&Statement { parameters: values.or(statement.parameters), ..statement }).await
    }

    /// Forgets what is kept of a prepared statement. One that is not ours, or no longer, is as good as forgotten.
    pub(super) fn close_prepared(&self, handle: &Bytes) {
        if let Ok((id, _)) = self.read_handle(handle) {
            self.bound.bind(&id, None);
        }
    }
}

fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let message: IpcMessage = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|error| Error::internal("a schema cannot be sent").because(error))?;
    Ok(message.0)
}
