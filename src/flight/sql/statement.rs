//! Statements: a query is planned and later run by its ticket; what changes something is run at once, and its ticket
//! holds no more than how many rows it changed. So whichever calls a client makes, a change is made once.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use prost::Message;
use prost_types::Timestamp;

use super::super::ticket::{Grant, QueryGrant, TICKET_SECONDS, TicketKey};
use super::bound::Bound;
use super::parameters::{from_text, to_text};
use crate::auth::Principal;
use crate::clock;
use crate::error::{Error, Result};
use crate::query::{
    Begun, Engine, Part, PlannedQuery, SessionOptions, Statement, StatementKind, affected_schema, number_placeholders,
};

/// What `total_records` and `total_bytes` say when only reading tells.
const UNKNOWN: i64 = -1;

/// Who runs statements, and with what.
pub(in super::super) struct SqlCaller<'a> {
    /// What runs them.
    pub(in super::super) engine: &'a Engine,
    /// What signs tickets and handles.
    pub(in super::super) tickets: &'a TicketKey,
    /// Values that were bound.
    pub(in super::super) bound: &'a Bound,
    /// Who.
    pub(in super::super) caller: &'a Principal,
    /// The options of the session.
    pub(in super::super) options: &'a SessionOptions,
}

impl SqlCaller<'_> {
    /// A statement from its text.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a text with both forms of parameters.
    pub(in super::super) fn statement(&self, sql: &str) -> Result<Statement> {
        Ok(Statement::new(number_placeholders(sql)?, self.options.clone()))
    }

    /// The query that a ticket was signed for.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when its parameters cannot be read.
    pub(in super::super) fn granted(query: QueryGrant) -> Result<Statement> {
        let QueryGrant { sql, parameters, options, moments, part } = query;
        let parameters = parameters.as_deref().map(from_text).transpose()?;
        Ok(Statement { sql, parameters, options, moments, part })
    }

    /// Plans a query, or makes a change.
    ///
    /// # Errors
    /// Those of [`Engine::begin`].
    pub(in super::super) async fn begin(&self, statement: &Statement) -> Result<Begun> {
        self.engine.begin(self.caller, statement).await
    }

    /// Makes a change; gives how many rows it was.
    ///
    /// # Errors
    /// Those of [`Engine::begin`], and [`Kind::Invalid`](crate::error::Kind::Invalid) for a query.
    pub(in super::super) async fn write(&self, statement: &Statement) -> Result<i64> {
        if self.engine.kind(statement).await? == StatementKind::Query {
            return Err(Error::invalid("this statement is a query; send it as CommandStatementQuery to GetFlightInfo"));
        }
        match self.begin(statement).await? {
            Begun::Affected(rows) => Ok(rows),
            Begun::Query(_) => Err(Error::internal("a statement was taken for another kind")),
        }
    }

    /// The schema of a statement's result, without running it.
    ///
    /// # Errors
    /// Those of [`Engine::plan`] and [`Engine::describe`].
    pub(in super::super) async fn schema(&self, statement: &Statement) -> Result<SchemaRef> {
        if statement.parameters.is_some() && self.engine.kind(statement).await? == StatementKind::Query {
            let planned = self.engine.plan(self.caller, statement).await?;
            return Ok(Arc::clone(planned.schema()));
        }
        let described = self.engine.describe(self.caller, statement).await?;
        Ok(described.schema.unwrap_or_else(affected_schema))
    }

    /// Begins a statement and tells how to fetch its result.
    ///
    /// # Errors
    /// Those of [`SqlCaller::begin`], and of signing tickets.
    pub(in super::super) async fn info(&self, statement: &Statement, of: FlightDescriptor) -> Result<FlightInfo> {
        match self.begin(statement).await? {
            Begun::Query(planned) => self.query_info(&planned, statement, of),
            Begun::Affected(rows) => {
                let ticket = self.tickets.sign(self.caller, Grant::Affected(rows))?;
                let info = FlightInfo::new().with_endpoint(endpoint(statement_ticket(ticket)));
                let info = info.try_with_schema(&affected_schema()).map_err(unsendable)?;
                Ok(info.with_descriptor(of).with_total_records(rows).with_total_bytes(UNKNOWN).with_ordered(true))
            }
        }
    }

    fn query_info(&self, planned: &PlannedQuery, statement: &Statement, of: FlightDescriptor) -> Result<FlightInfo> {
        let of_parts = planned.parts();
        let parameters = statement.parameters.as_ref().map(to_text).transpose()?;
        let mut info = FlightInfo::new().try_with_schema(planned.schema()).map_err(unsendable)?;
        for number in 0..of_parts {
            let grant = QueryGrant {
                sql: statement.sql.clone(),
                parameters: parameters.clone(),
                options: statement.options.clone(),
                moments: planned.moments(),
                part: (of_parts > 1).then_some(Part { number, of: of_parts }),
            };
            let ticket = self.tickets.sign(self.caller, Grant::Query(grant))?;
            info = info.with_endpoint(endpoint(statement_ticket(ticket)));
        }
        Ok(info.with_descriptor(of).with_total_records(UNKNOWN).with_total_bytes(UNKNOWN).with_ordered(true))
    }
}

fn unsendable(error: arrow::error::ArrowError) -> Error {
    Error::internal("a schema cannot be sent").because(error)
}

/// The endpoint of a signed ticket: any server that shares the key, for as long as the ticket is good.
pub(in super::super) fn endpoint(ticket: prost::bytes::Bytes) -> FlightEndpoint {
    let mut endpoint = FlightEndpoint::new().with_ticket(Ticket { ticket });
    endpoint.expiration_time = Some(Timestamp { seconds: clock::now().timestamp() + TICKET_SECONDS, nanos: 0 });
    endpoint
}

/// The ticket of a statement, as Flight SQL clients expect it.
pub(in super::super) fn statement_ticket(signed: String) -> prost::bytes::Bytes {
    TicketStatementQuery { statement_handle: signed.into() }.as_any().encode_to_vec().into()
}
