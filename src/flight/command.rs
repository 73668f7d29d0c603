//! What a descriptor or a ticket asks for.

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::sql::{
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, TicketStatementQuery,
};
use arrow_flight::{FlightDescriptor, Ticket};
use prost::Message;
use prost::bytes::Bytes;

use super::sql::MetadataCommand;
use super::ticket::{Grant, QueryGrant, TicketKey};
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
    /// A statement, to be run.
    Sql(String),
    /// A prepared statement, by its handle.
    Prepared(Bytes),
    /// A query that a ticket of ours was signed for.
    Query(Box<QueryGrant>),
    /// How many rows a statement changed, when it was run.
    Affected(i64),
    /// What the server and its tables are.
    Metadata(MetadataCommand),
}

/// What a caller wants to put.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PutCommand {
    /// A version of a dataset.
    Load(LoadDataframe),
    /// Rows of a table, as drivers load them.
    Ingest(CommandStatementIngest),
    /// A statement that changes something.
    Update(String),
    /// A prepared one, by its handle, with values for its parameters.
    PreparedUpdate(Bytes),
    /// Values for the parameters of a prepared query, by its handle.
    Bind(Bytes),
}

/// Reads the descriptor of `GetFlightInfo`, `PollFlightInfo` or `GetSchema`.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for what is no command of ours or of Flight SQL, or not one of these
/// calls', [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) for a Flight SQL command that is not offered.
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

/// Reads the ticket of `DoGet`: one of ours, a command, or a statement. A ticket of ours also tells its id.
///
/// # Errors
/// As [`read_descriptor`], and [`Kind::Invalid`](crate::error::Kind::Invalid) for a ticket that is not ours.
pub(super) fn read_ticket(
    ticket: &Ticket,
    caller: &Principal,
    key: &TicketKey,
) -> Result<(ReadCommand, Option<String>)> {
    let bytes = &ticket.ticket;
    match signed_part(bytes)? {
        Some(token) => read_signed(&token, caller, key).map(|(command, id)| (command, Some(id))),
        None => read_bytes(bytes).map(|command| (command, None)),
    }
}

/// The signed part of a ticket; `None` for one that is a command.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when it is damaged.
pub(super) fn signed_part(bytes: &Bytes) -> Result<Option<Bytes>> {
    if is_json(bytes) {
        return Ok(None);
    }
    let any = prost_types::Any::decode(bytes.as_ref()).ok().filter(|any| any.type_url.contains('/'));
    match &any {
        Some(any) if any.type_url.ends_with(".TicketStatementQuery") => {
            let ticket: TicketStatementQuery = decoded(any, "TicketStatementQuery")?;
            Ok(Some(ticket.statement_handle))
        }
        Some(_) => Ok(None),
        None => Ok(Some(bytes.clone())),
    }
}

fn read_signed(token: &[u8], caller: &Principal, key: &TicketKey) -> Result<(ReadCommand, String)> {
    let signed = key.verify(caller, std::str::from_utf8(token).unwrap_or_default())?;
    let command = match signed.grant {
        Grant::Frame { command, table } => {
            let command = read_json(command.as_bytes(), GetDataframe::NAME)?;
            ReadCommand::Granted { command, table }
        }
        Grant::Query(query) => ReadCommand::Query(Box::new(query)),
        Grant::Affected(rows) => ReadCommand::Affected(rows),
        Grant::Prepared(_) | Grant::Session(_) => {
            return Err(Error::invalid("this is a handle and no ticket; call GetFlightInfo with it"));
        }
    };
    Ok((command, signed.id))
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
    let Some(name) = any.type_url.strip_prefix(FLIGHT_SQL_PREFIX) else {
        return read_command(bytes).map(ReadCommand::Frame);
    };
    match name {
        "CommandStatementQuery" => {
            let command: CommandStatementQuery = decoded(&any, name)?;
            no_transaction(command.transaction_id.as_ref())?;
            Ok(ReadCommand::Sql(command.query))
        }
        "CommandPreparedStatementQuery" => {
            let command: CommandPreparedStatementQuery = decoded(&any, name)?;
            Ok(ReadCommand::Prepared(command.prepared_statement_handle))
        }
        "CommandStatementUpdate" | "CommandPreparedStatementUpdate" | "CommandStatementIngest" => {
            Err(Error::invalid(format!("{name} is a command of DoPut")))
        }
        _ => match MetadataCommand::read(name, &any.value)? {
            Some(command) => Ok(ReadCommand::Metadata(command)),
            None => Err(not_offered(name)),
        },
    }
}

fn decoded<T: Message + Default>(any: &prost_types::Any, name: &str) -> Result<T> {
    T::decode(any.value.as_slice())
        .map_err(|error| Error::invalid(format!("the {name} is cut or damaged")).because(error))
}

fn not_offered(command: &str) -> Error {
    Error::unimplemented(format!("the Flight SQL command {} is not offered; send SQL as text", shorten(command)))
}

/// Refuses a command that is to be part of a transaction, since there are none over several statements.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when it names one.
pub(super) fn no_transaction(id: Option<&Bytes>) -> Result<()> {
    match id {
        Some(id) if !id.is_empty() => Err(Error::invalid(
            "transaction_id: there are no transactions over several statements; leave it out, each statement is atomic",
        )),
        _ => Ok(()),
    }
}

/// Reads the descriptor of `DoPut`.
///
/// # Errors
/// As [`read_descriptor`].
pub(super) fn read_put(descriptor: &FlightDescriptor) -> Result<PutCommand> {
    match descriptor.r#type() {
        DescriptorType::Path => {
            let name = DatasetName::from_path(&descriptor.path)?;
            Ok(PutCommand::Load(LoadDataframe { dataframe_name: name.as_str().into(), ..Default::default() }))
        }
        DescriptorType::Cmd => {
            let any = prost_types::Any::decode(descriptor.cmd.as_ref()).ok().filter(|_| !is_json(&descriptor.cmd));
            let name = any.as_ref().and_then(|any| any.type_url.strip_prefix(FLIGHT_SQL_PREFIX));
            match any.as_ref().zip(name) {
                Some((any, name)) => read_sql_put(any, name),
                None => read_command(&descriptor.cmd).map(PutCommand::Load),
            }
        }
        DescriptorType::Unknown => Err(Error::invalid("the first message of an upload must have a descriptor")),
    }
}

fn read_sql_put(any: &prost_types::Any, name: &str) -> Result<PutCommand> {
    Ok(match name {
        "CommandStatementUpdate" => {
            let command: CommandStatementUpdate = decoded(any, name)?;
            no_transaction(command.transaction_id.as_ref())?;
            PutCommand::Update(command.query)
        }
        "CommandPreparedStatementUpdate" => {
            let command: CommandPreparedStatementUpdate = decoded(any, name)?;
            PutCommand::PreparedUpdate(command.prepared_statement_handle)
        }
        "CommandPreparedStatementQuery" => {
            let command: CommandPreparedStatementQuery = decoded(any, name)?;
            PutCommand::Bind(command.prepared_statement_handle)
        }
        "CommandStatementIngest" => {
            let command: CommandStatementIngest = decoded(any, name)?;
            no_transaction(command.transaction_id.as_ref())?;
            PutCommand::Ingest(command)
        }
        "CommandStatementQuery" => return Err(Error::invalid("CommandStatementQuery is a command of GetFlightInfo")),
        _ => return Err(not_offered(name)),
    })
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::ProstMessageExt;

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
        let name = format!("{FLIGHT_SQL_PREFIX}CommandStatementSubstraitPlan");
        let other = prost_types::Any { type_url: name, value: vec![] };
        let error = read_descriptor(&FlightDescriptor::new_cmd(other.encode_to_vec())).unwrap_err();
        assert_eq!(error.kind(), Kind::Unimplemented);
        for bytes in [&b"hello"[..], b"", b"{\"dataframe\": 1}", b"\x0a\xff"] {
            let error = read_descriptor(&FlightDescriptor::new_cmd(bytes.to_vec())).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{bytes:?}");
        }
    }
}
