//! `GetFlightInfo`, `GetSchema` and `DoGet`: what a read will give, and its rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, SchemaAsIpc, SchemaResult};
use arrow_ipc::writer::IpcWriteOptions;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument;

use super::command::{ReadCommand, statement_ticket};
use super::status::to_status;
use super::ticket::{Grant, TicketKey};
use crate::auth::Principal;
use crate::call::Call;
use crate::clock;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names::DatasetName;
use crate::proto::GetDataframe;
use crate::query::{Engine, PlannedQuery, ResultStream, selection};
use crate::table::FrameRead;
use crate::wire::{Encoder, slices};

/// Messages that wait for a slow client before the read does; each is at most 4 MiB.
const MESSAGES_AHEAD: usize = 4;
/// What `total_records` and `total_bytes` say when only reading tells.
const UNKNOWN: i64 = -1;

/// A read that was planned and not yet run.
pub(super) enum PlannedRead {
    /// Whole rows.
    Frame(Box<FrameRead>),
    /// A statement.
    Sql(PlannedQuery),
}

impl PlannedRead {
    /// Plans a read.
    ///
    /// # Errors
    /// Those of [`Engine::read`] and [`Engine::plan`].
    pub(super) async fn plan(engine: &Engine, caller: &Principal, command: &ReadCommand) -> Result<Self> {
        match command {
            ReadCommand::Frame(command) => plan_frame(engine, caller, command).await,
            ReadCommand::Granted { command, table } => match plan_frame(engine, caller, command).await? {
                Self::Frame(read) if read.table_id() != table => Err(Error::not_found(
                    "the dataset of this ticket was deleted, and another has its name; call GetFlightInfo again",
                )),
                read => Ok(read),
            },
            ReadCommand::Sql(sql) => engine.plan(&caller.tenant, sql).await.map(Self::Sql),
        }
    }

    /// The schema of what it gives.
    pub(super) fn schema(&self) -> &SchemaRef {
        match self {
            Self::Frame(read) => read.schema(),
            Self::Sql(query) => query.schema(),
        }
    }

    /// Runs the read; its batches become messages on the threads that computed them.
    fn run(self, engine: &Engine, mut encoder: Encoder) -> Result<ResultStream<Encoded>> {
        let encode = move |batch: RecordBatch| {
            let mut messages = Vec::new();
            for slice in slices(&batch) {
                let encoded = encoder.slice(&slice);
                messages.extend(encoded.map_err(|error| Error::internal("a result cannot be encoded").because(error))?);
            }
            Ok(Encoded { rows: batch.num_rows() as u64, messages })
        };
        match self {
            Self::Frame(read) => Ok(engine.run_read(*read, encode)),
            Self::Sql(query) => engine.run(query, encode),
        }
    }
}

async fn plan_frame(engine: &Engine, caller: &Principal, command: &GetDataframe) -> Result<PlannedRead> {
    let name = DatasetName::parse(&command.dataframe_name)?;
    let selection = selection(command)?;
    let read = engine.read(&caller.tenant, &name, &selection, command.filter.as_deref()).await?;
    Ok(PlannedRead::Frame(Box::new(read)))
}

/// A batch as it is sent.
struct Encoded {
    rows: u64,
    messages: Vec<FlightData>,
}

/// What a planned read will give, and the ticket to fetch it with.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when the ticket cannot be signed.
pub(super) fn flight_info(
    read: &PlannedRead,
    command: &ReadCommand,
    descriptor: FlightDescriptor,
    caller: &Principal,
    key: &TicketKey,
) -> Result<FlightInfo> {
    let (ticket, rows, bytes) = match (read, command) {
        (PlannedRead::Frame(read), ReadCommand::Frame(command)) => {
            let pinned = serde_json::to_string(&pin(command, read));
            let pinned = pinned.map_err(|error| Error::internal("a ticket cannot be written").because(error))?;
            let grant = Grant::Frame { command: pinned, table: read.table_id().into() };
            (key.sign(caller, grant)?.into(), read.total_rows(), read.total_bytes())
        }
        (_, ReadCommand::Sql(sql)) => (statement_ticket(key.sign(caller, Grant::Sql(sql.clone()))?), None, None),
        (_, ReadCommand::Frame(_) | ReadCommand::Granted { .. }) => {
            return Err(Error::internal("a read was planned as a query"));
        }
    };
    let endpoint = FlightEndpoint::new().with_ticket(arrow_flight::Ticket { ticket });
    let info = FlightInfo::new()
        .try_with_schema(read.schema())
        .map_err(|error| Error::internal("a schema cannot be sent").because(error))?;
    Ok(info
        .with_endpoint(endpoint)
        .with_descriptor(descriptor)
        .with_total_records(rows.unwrap_or(UNKNOWN))
        .with_total_bytes(bytes.unwrap_or(UNKNOWN))
        .with_ordered(true))
}

/// The command with the present moment of the dataset in it, so that the ticket gives what was announced.
fn pin(command: &GetDataframe, read: &FrameRead) -> GetDataframe {
    let mut pinned = command.clone();
    if pinned.version.is_none() && pinned.as_of.is_none() {
        pinned.as_of = read.newest_instant().map(clock::format_instant);
    }
    pinned
}

/// A schema as `GetSchema` gives it.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when it cannot be written.
pub(super) fn schema_result(read: &PlannedRead) -> Result<SchemaResult> {
    SchemaResult::try_from(SchemaAsIpc::new(read.schema(), &IpcWriteOptions::default()))
        .map_err(|error| Error::internal("a schema cannot be sent").because(error))
}

/// Runs a read and gives its messages: the schema first, even when there are no rows.
///
/// # Errors
/// When the read cannot be started; later errors end the stream.
pub(super) fn messages(
    read: PlannedRead,
    engine: &Engine,
    call: Call,
    metrics: Metrics,
) -> Result<BoxStream<'static, Result<FlightData, Status>>> {
    let schema = Arc::clone(read.schema());
    let mut encoder = Encoder::new();
    let first = encoder.schema(&schema, FlightDescriptor::default());
    // Only the first message of an upload has a descriptor.
    let first = FlightData { flight_descriptor: None, ..first };
    let batches = read.run(engine, encoder)?;
    let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
    let span = call.span().clone();
    tokio::spawn(async move { send_all(batches, sender, call, metrics).await }.instrument(span));
    Ok(stream::once(std::future::ready(Ok(first))).chain(ReceiverStream::new(receiver)).boxed())
}

/// Hands messages over, until the end or until nobody takes them any more.
async fn send_all(
    mut batches: ResultStream<Encoded>,
    sender: mpsc::Sender<Result<FlightData, Status>>,
    call: Call,
    metrics: Metrics,
) {
    loop {
        let batch = tokio::select! {
            batch = batches.next() => batch,
            // Dropping the batches ends the work behind them; dropping the call notes that the caller went away.
            () = sender.closed() => return,
        };
        match batch {
            None => return call.finish(Ok(())),
            Some(Ok(Encoded { rows, messages })) => {
                metrics.rows_sent.inc_by(rows);
                for message in messages {
                    if sender.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            }
            Some(Err(error)) => {
                let _ = sender.send(Err(to_status(&error))).await;
                return call.finish(Err(&error));
            }
        }
    }
}
