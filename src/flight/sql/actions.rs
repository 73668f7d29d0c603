//! The actions of Flight SQL: preparing, sessions, cancelling, renewing.
//!
//! Those that Flight SQL brought are packed in an `Any`; those of Flight itself are plain messages.

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo, RenewFlightEndpointRequest,
};
use prost::Message;
use prost::bytes::Bytes;

use super::super::command::{no_transaction, signed_part};
use super::running::Running;
use super::session::{Cookie, Session};
use super::statement::{SqlCaller, endpoint, statement_ticket};
use crate::error::{Error, Result};

/// The actions, with what they do.
pub(in super::super) const SQL_ACTIONS: [(&str, &str); 8] = [
    ("CreatePreparedStatement", "ActionCreatePreparedStatementRequest: prepares a statement"),
    ("ClosePreparedStatement", "ActionClosePreparedStatementRequest: forgets a prepared statement"),
    ("CancelFlightInfo", "CancelFlightInfoRequest: cancels the results of a FlightInfo"),
    ("CancelQuery", "ActionCancelQueryRequest: the former name of CancelFlightInfo"),
    ("RenewFlightEndpoint", "RenewFlightEndpointRequest: the endpoint with a ticket that is good for another day"),
    ("SetSessionOptions", "SetSessionOptionsRequest: sets catalog, schema, query_timeout or endpoints"),
    ("GetSessionOptions", "GetSessionOptionsRequest: the options of the session"),
    ("CloseSession", "CloseSessionRequest: forgets the options of the session"),
];
/// Actions of Flight SQL that are refused, with what they are for.
const REFUSED: [(&str, &str); 5] = [
    ("BeginTransaction", "transactions over several statements"),
    ("EndTransaction", "transactions over several statements"),
    ("BeginSavepoint", "savepoints"),
    ("EndSavepoint", "savepoints"),
    ("CreatePreparedSubstraitPlan", "Substrait plans"),
];
const CANCEL_RESULT_CANCELLED: i32 = 1;

/// Whether an action is one of Flight SQL's, offered or not.
pub(in super::super) fn is_sql_action(name: &str) -> bool {
    SQL_ACTIONS.iter().chain(&REFUSED).any(|(known, _)| *known == name)
}

/// Does what the actions of Flight SQL ask for.
pub(in super::super) struct SqlActions<'a> {
    /// Who asks.
    pub(in super::super) caller: SqlCaller<'a>,
    /// Its session.
    pub(in super::super) session: &'a Session,
    /// What can be cancelled.
    pub(in super::super) running: &'a Running,
}

/// The answer to an action, and the header that sets a cookie.
pub(in super::super) type Answered = (Option<Bytes>, Option<String>);

impl SqlActions<'_> {
    /// Does one action.
    ///
    /// # Errors
    /// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) for what is not offered,
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a body that is not its message, and those of the action.
    pub(in super::super) async fn run(&self, action: &Action) -> Result<Answered> {
        let body = &action.body;
        let answer = match action.r#type.as_str() {
            "CreatePreparedStatement" => {
                let request: ActionCreatePreparedStatementRequest = packed(body, &action.r#type)?;
                no_transaction(request.transaction_id.as_ref())?;
                Some(self.caller.prepare(&request.query).await?)
            }
            "ClosePreparedStatement" => {
                let request: ActionClosePreparedStatementRequest = packed(body, &action.r#type)?;
                self.caller.close_prepared(&request.prepared_statement_handle);
                None
            }
            "CancelFlightInfo" => {
                let request: CancelFlightInfoRequest = plain(body, &action.r#type)?;
                self.cancel(&request.info.unwrap_or_default())?;
                let result = CancelFlightInfoResult { status: CancelStatus::Cancelled as i32 };
                Some(result.encode_to_vec().into())
            }
            "CancelQuery" => {
                let request: ActionCancelQueryRequest = packed(body, &action.r#type)?;
                self.cancel(&plain(&request.info, "FlightInfo")?)?;
                let result = ActionCancelQueryResult { result: CANCEL_RESULT_CANCELLED };
                Some(result.as_any().encode_to_vec().into())
            }
            "RenewFlightEndpoint" => Some(self.renew(body)?),
            "SetSessionOptions" => {
                let (answer, cookie) = self.session.set(body, self.caller.caller)?;
                return Ok((Some(answer), Some(self.header(cookie)?)));
            }
            "GetSessionOptions" => Some(self.session.get()),
            "CloseSession" => {
                let (answer, cookie) = self.session.close(self.caller.caller)?;
                return Ok((Some(answer), Some(self.header(cookie)?)));
            }
            other => {
                let what = REFUSED.iter().find(|(name, _)| *name == other).map_or(other, |(_, what)| what);
                return Err(Error::unimplemented(format!(
                    "{what} are not offered; each statement is atomic by itself"
                )));
            }
        };
        Ok((answer, None))
    }

    fn header(&self, cookie: Cookie) -> Result<String> {
        cookie.header(self.caller.caller, self.caller.tickets)
    }

    fn cancel(&self, info: &FlightInfo) -> Result<()> {
        let mut ids = Vec::new();
        for ticket in info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref()) {
            let signed = signed_part(&ticket.ticket)?.ok_or_else(|| Error::invalid("the info is not one of ours"))?;
            let token = std::str::from_utf8(&signed).unwrap_or_default();
            ids.push(self.caller.tickets.verify(self.caller.caller, token)?.id);
        }
        if ids.is_empty() {
            return Err(Error::invalid("info: it has no endpoints; give the FlightInfo of the query to cancel"));
        }
        ids.iter().for_each(|id| self.running.cancel(id));
        Ok(())
    }

    fn renew(&self, body: &Bytes) -> Result<Bytes> {
        let request: RenewFlightEndpointRequest = plain(body, "RenewFlightEndpoint")?;
        let given = request.endpoint.unwrap_or_default();
        let ticket = given.ticket.clone().unwrap_or_default().ticket;
        let signed = signed_part(&ticket)?
            .ok_or_else(|| Error::invalid("endpoint: its ticket is a command, which never expires; keep it"))?;
        let token = std::str::from_utf8(&signed).unwrap_or_default();
        let grant = self.caller.tickets.verify(self.caller.caller, token)?.grant;
        let renewed = self.caller.tickets.sign(self.caller.caller, grant)?;
        // It stays of the form it was.
        let ticket = if signed == ticket { renewed.into() } else { statement_ticket(renewed) };
        let mut renewed = endpoint(ticket);
        (renewed.location, renewed.app_metadata) = (given.location, given.app_metadata);
        Ok(renewed.encode_to_vec().into())
    }
}

fn packed<T: ProstMessageExt>(body: &Bytes, name: &str) -> Result<T> {
    let wrong = || Error::invalid(format!("the body of {name} is not its message packed in an Any"));
    let any = arrow_flight::sql::Any::decode(body.as_ref()).map_err(|error| wrong().because(error))?;
    any.unpack().map_err(|error| wrong().because(error))?.ok_or_else(wrong)
}

fn plain<T: Message + Default>(body: &Bytes, name: &str) -> Result<T> {
    T::decode(body.as_ref()).map_err(|error| Error::invalid(format!("the body of {name} is damaged")).because(error))
}
