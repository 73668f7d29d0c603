//! What a descriptor or a ticket asks for.

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, Ticket};
use prost::Message;
use prost::bytes::Bytes;

use super::ticket::{Grant, TicketKey};
use crate::auth::Principal;
use crate::error::{Error, Result, shorten};
use crate::names::DatasetName;
use crate::proto::{GetDataframe, LoadDataframe, Packed, SqlTicket, is_json, read_command, read_json};

/// What stands before the name of a Flight SQL command in the type URL of an `Any`.
const FLIGHT_SQL_PREFIX: &str = "type.googleapis.com/arrow.flight.protocol.sql.";

/// A read that a caller asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ReadCommand {
    /// Whole rows of a dataset.
    Frame(GetDataframe),
    /// What a ticket of ours was signed for.
    Granted {
        /// The rows.
        command: GetDataframe,
        /// The table that the dataset was then.
        table: String,
    },
    /// The result of a statement.
    Sql(String),
}

/// Reads the descriptor of `GetFlightInfo` or `GetSchema`.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for what is no command of ours or of Flight SQL,
/// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) for a Flight SQL command that this version lacks.
pub(super) fn read_descriptor(descriptor: &FlightDescriptor) -> Result<ReadCommand> {
    match descriptor.r#type() {
        DescriptorType::Path => {
            let name = DatasetName::from_path(&descriptor.path)?;
            Ok(ReadCommand::Frame(GetDataframe { dataframe_name: name.as_str().into(), ..Default::default() }))
        }
        DescriptorType::Cmd => read_bytes(&descriptor.cmd),
        DescriptorType::Unknown => Err(Error::invalid("the descriptor has neither a path nor a command")),
    }
}

/// Reads the ticket of `DoGet`: one of ours, a command, or a statement.
///
/// # Errors
/// As [`read_descriptor`], and [`Kind::Invalid`](crate::error::Kind::Invalid) for a ticket that is not ours.
pub(super) fn read_ticket(ticket: &Ticket, caller: &Principal, key: &TicketKey) -> Result<ReadCommand> {
    let bytes = &ticket.ticket;
    if is_json(bytes) {
        return read_bytes(bytes);
    }
    let any = prost_types::Any::decode(bytes.as_ref()).ok().filter(|any| any.type_url.contains('/'));
    let signed = match &any {
        Some(any) if any.type_url.ends_with(".TicketStatementQuery") => {
            let ticket = TicketStatementQuery::decode(any.value.as_slice())
                .map_err(|error| Error::invalid("the TicketStatementQuery is cut or damaged").because(error))?;
            ticket.statement_handle
        }
        Some(_) => return read_bytes(bytes),
        None => bytes.clone(),
    };
    let token = std::str::from_utf8(&signed).unwrap_or_default();
    match key.verify(caller, token)? {
        Grant::Frame { command, table } => {
            let command = read_json(command.as_bytes(), GetDataframe::NAME)?;
            Ok(ReadCommand::Granted { command, table })
        }
        Grant::Sql(sql) => Ok(ReadCommand::Sql(sql)),
    }
}

fn read_bytes(bytes: &[u8]) -> Result<ReadCommand> {
    if is_json(bytes) {
        let value: serde_json::Value = read_json(bytes, "the command")?;
        if value.get("sql").is_some() {
            return read_json::<SqlTicket>(bytes, "the SQL ticket").map(|ticket| ReadCommand::Sql(ticket.sql));
        }
        return read_command(bytes).map(ReadCommand::Frame);
    }
    let any = prost_types::Any::decode(bytes)
        .map_err(|error| Error::invalid("the command is neither JSON nor a google.protobuf.Any").because(error))?;
    match any.type_url.strip_prefix(FLIGHT_SQL_PREFIX) {
        Some("CommandStatementQuery") => CommandStatementQuery::decode(any.value.as_slice())
            .map(|command| ReadCommand::Sql(command.query))
            .map_err(|error| Error::invalid("the CommandStatementQuery is cut or damaged").because(error)),
        Some(other) => Err(not_built(other)),
        None => read_command(bytes).map(ReadCommand::Frame),
    }
}

fn not_built(command: &str) -> Error {
    Error::unimplemented(format!(
        "the Flight SQL command {} is not available in this version; CommandStatementQuery is",
        shorten(command)
    ))
}

/// Reads the descriptor of `DoPut`.
///
/// # Errors
/// As [`read_descriptor`].
pub(super) fn read_load(descriptor: &FlightDescriptor) -> Result<LoadDataframe> {
    match descriptor.r#type() {
        DescriptorType::Path => {
            let name = DatasetName::from_path(&descriptor.path)?;
            Ok(LoadDataframe { dataframe_name: name.as_str().into(), ..Default::default() })
        }
        DescriptorType::Cmd => {
            let any = prost_types::Any::decode(descriptor.cmd.as_ref()).ok().filter(|_| !is_json(&descriptor.cmd));
            match any.as_ref().and_then(|any| any.type_url.strip_prefix(FLIGHT_SQL_PREFIX)) {
                Some(other) => Err(not_built(other)),
                None => read_command(&descriptor.cmd),
            }
        }
        DescriptorType::Unknown => Err(Error::invalid("the first message of an upload must have a descriptor")),
    }
}

/// The ticket of a statement, as Flight SQL clients expect it.
pub(super) fn statement_ticket(signed: String) -> Bytes {
    TicketStatementQuery { statement_handle: signed.into() }.as_any().encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn descriptors_of_every_form() {
        let path = FlightDescriptor::new_path(vec!["a".into(), "b".into()]);
        let frame = GetDataframe { dataframe_name: "a/b".into(), ..Default::default() };
        for descriptor in [
            path,
            FlightDescriptor::new_path(vec!["a/b".into()]),
            FlightDescriptor::new_cmd(frame.pack()),
            FlightDescriptor::new_cmd(&br#"{"dataframe_name": "a/b"}"#[..]),
        ] {
            assert_eq!(read_descriptor(&descriptor).unwrap(), ReadCommand::Frame(frame.clone()));
        }
        let sql = CommandStatementQuery { query: "select 1".into(), transaction_id: None }.as_any().encode_to_vec();
        for bytes in [sql, br#"{"sql": "select 1"}"#.to_vec()] {
            let command = read_descriptor(&FlightDescriptor::new_cmd(bytes)).unwrap();
            assert_eq!(command, ReadCommand::Sql("select 1".into()));
        }
    }

    #[test]
    fn unknown_commands_are_refused_by_what_they_are() {
        let other = prost_types::Any { type_url: format!("{FLIGHT_SQL_PREFIX}CommandGetTables"), value: vec![] };
        let error = read_descriptor(&FlightDescriptor::new_cmd(other.encode_to_vec())).unwrap_err();
        assert_eq!(error.kind(), Kind::Unimplemented);
        for bytes in [&b"hello"[..], b"", b"{\"dataframe\": 1}", b"\x0a\xff"] {
            let error = read_descriptor(&FlightDescriptor::new_cmd(bytes.to_vec())).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{bytes:?}");
        }
    }
}
