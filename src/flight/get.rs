//! `GetFlightInfo`, `GetSchema` and `DoGet`: what a read will give, and its rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, SchemaAsIpc, SchemaResult, Ticket};
use arrow_ipc::writer::IpcWriteOptions;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument;

use super::command::{ReadCommand, read_descriptor};
use super::sql::{Fetch, SqlCaller, endpoint};
use super::status::to_status;
use super::ticket::Grant;
use crate::auth::Standing;
use crate::call::Call;
use crate::clock;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names::DatasetName;
use crate::proto::GetDataframe;
use crate::query::{Begun, Engine, PlannedQuery, ResultStream, Statement, affected_batch, affected_schema, selection};
use crate::table::{Catalog, FrameRead};
use crate::wire::{Encoder, Message, slices};

/// Messages that wait for a slow client before the read does; each is at most 4 MiB.
const MESSAGES_AHEAD: usize = 4;
/// What `total_records` and `total_bytes` say when only reading tells.
const UNKNOWN: i64 = -1;

/// Who reads, and with what.
pub(super) struct Reader<'a> {
    /// The datasets.
    pub datasets: &'a Arc<Catalog>,
    /// Who runs statements.
    pub sql: SqlCaller<'a>,
}

/// What a read sends.
pub(super) type Messages = BoxStream<'static, Result<Message, Status>>;

/// A read that was planned and not yet run.
pub(super) enum PlannedRead {
    /// Whole rows.
    Frame(Box<FrameRead>),
    /// A query.
    Sql(Box<PlannedQuery>),
    /// Rows that are at hand.
    Rows(SchemaRef, BoxStream<'static, Result<RecordBatch>>),
}

impl Reader<'_> {
    /// What `GetFlightInfo` answers. A statement that changes something is run by it.
    ///
    /// # Errors
    /// Those of [`read_descriptor`] and of planning what it asks for.
    pub(super) async fn info(&self, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        match read_descriptor(&descriptor)? {
            ReadCommand::Frame(command) => {
                let read = self.plan_frame(&command).await?;
                self.frame_info(&read, &command, descriptor)
            }
            ReadCommand::Sql(sql) => self.sql.info(&self.sql.statement(&sql)?, descriptor).await,
            ReadCommand::Prepared(handle) => self.sql.info(&self.sql.prepared(&handle)?, descriptor).await,
            ReadCommand::Metadata(command) => {
                let endpoint = FlightEndpoint::new().with_ticket(Ticket { ticket: descriptor.cmd.clone() });
                let info = FlightInfo::new().try_with_schema(&command.schema()).map_err(unsendable)?;
                let info = info.with_endpoint(endpoint).with_descriptor(descriptor);
                Ok(info.with_total_records(UNKNOWN).with_total_bytes(UNKNOWN).with_ordered(true))
            }
            ReadCommand::Granted { .. } | ReadCommand::Query(_) | ReadCommand::Affected(_) => Err(not_a_descriptor()),
        }
    }

    /// What `GetSchema` answers. Nothing is run by it.
    ///
    /// # Errors
    /// As [`Reader::info`].
    pub(super) async fn schema(&self, descriptor: &FlightDescriptor) -> Result<SchemaResult> {
        let schema = match read_descriptor(descriptor)? {
            ReadCommand::Frame(command) => Arc::clone(self.plan_frame(&command).await?.schema()),
            ReadCommand::Sql(sql) => self.sql.schema(&self.sql.statement(&sql)?).await?,
            ReadCommand::Prepared(handle) => self.sql.schema(&self.sql.prepared(&handle)?).await?,
            ReadCommand::Metadata(command) => command.schema(),
            ReadCommand::Granted { .. } | ReadCommand::Query(_) | ReadCommand::Affected(_) => {
                return Err(not_a_descriptor());
            }
        };
        SchemaResult::try_from(SchemaAsIpc::new(&schema, &IpcWriteOptions::default())).map_err(unsendable)
    }

    /// Plans what a ticket asks for. A statement that changes something, given as the ticket itself, is run by it.
    ///
    /// # Errors
    /// Those of planning.
    pub(super) async fn plan(&self, command: ReadCommand) -> Result<PlannedRead> {
        Ok(match command {
            ReadCommand::Frame(command) => PlannedRead::Frame(Box::new(self.plan_frame(&command).await?)),
            ReadCommand::Granted { command, table } => {
                let read = self.plan_frame(&command).await?;
                if read.table_id() != table {
                    return Err(Error::not_found(
                        "the dataset of this ticket was deleted, and another has its name; call GetFlightInfo again",
                    ));
                }
                PlannedRead::Frame(Box::new(read))
            }
            ReadCommand::Sql(sql) => self.begin(&self.sql.statement(&sql)?).await?,
            ReadCommand::Prepared(handle) => self.begin(&self.sql.prepared(&handle)?).await?,
            ReadCommand::Query(query) => self.begin(&SqlCaller::granted(*query)?).await?,
            ReadCommand::Affected(rows) => affected(rows)?,
            ReadCommand::Metadata(command) => {
                let schema = command.schema();
                let rows = command.answer(Arc::clone(self.datasets), self.sql.caller.clone()).await?;
                PlannedRead::Rows(schema, rows)
            }
        })
    }

    async fn begin(&self, statement: &Statement) -> Result<PlannedRead> {
        match self.sql.begin(statement).await? {
            Begun::Query(planned) => Ok(PlannedRead::Sql(planned)),
            Begun::Affected(rows) => affected(rows),
        }
    }

    async fn plan_frame(&self, command: &GetDataframe) -> Result<FrameRead> {
        let name = DatasetName::parse(&command.dataframe_name)?;
        let selection = selection(command)?;
        self.sql.engine.read(self.sql.caller, &name, &selection, command.filter.as_deref()).await
    }

    fn frame_info(&self, read: &FrameRead, command: &GetDataframe, of: FlightDescriptor) -> Result<FlightInfo> {
        let pinned = serde_json::to_string(&pin(command, read));
        let pinned = pinned.map_err(|error| Error::internal("a ticket cannot be written").because(error))?;
        let grant = Grant::Frame { command: pinned, table: read.table_id().into() };
        let endpoint = endpoint(self.sql.tickets.sign(self.sql.caller, grant)?.into());
        let info = FlightInfo::new().try_with_schema(read.schema()).map_err(unsendable)?;
        Ok(info
            .with_endpoint(endpoint)
            .with_descriptor(of)
            .with_total_records(read.total_rows().unwrap_or(UNKNOWN))
            .with_total_bytes(read.total_bytes().unwrap_or(UNKNOWN))
            .with_ordered(true))
    }
}

fn unsendable(error: arrow::error::ArrowError) -> Error {
    Error::internal("a schema cannot be sent").because(error)
}

fn not_a_descriptor() -> Error {
    Error::invalid("this is a ticket; fetch it with DoGet")
}

fn affected(rows: i64) -> Result<PlannedRead> {
    let batch = affected_batch(rows)?;
    Ok(PlannedRead::Rows(affected_schema(), stream::once(std::future::ready(Ok(batch))).boxed()))
}

impl PlannedRead {
    /// The schema of what it gives.
    pub(super) fn schema(&self) -> &SchemaRef {
        match self {
            Self::Frame(read) => read.schema(),
            Self::Sql(query) => query.schema(),
            Self::Rows(schema, _) => schema,
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
            Self::Sql(query) => engine.run(*query, encode),
            Self::Rows(_, rows) => Ok(engine.run_rows(rows, encode)),
        }
    }
}

/// A batch as it is sent.
struct Encoded {
    rows: u64,
    messages: Vec<Message>,
}

/// The command with the present moment of the dataset in it, so that the ticket gives what was announced.
fn pin(command: &GetDataframe, read: &FrameRead) -> GetDataframe {
    let mut pinned = command.clone();
    if pinned.version.is_none() && pinned.as_of.is_none() {
        pinned.as_of = read.newest_instant().map(clock::format_instant);
    }
    pinned
}

/// Runs a read and gives its messages: the schema first, even when there are no rows. It ends early when the caller
/// cancels it, or when the caller may not go on.
///
/// # Errors
/// When the read cannot be started; later errors end the stream.
pub(super) fn messages(
    read: PlannedRead,
    engine: &Engine,
    call: Call,
    fetch: Option<Fetch>,
    metrics: Metrics,
    standing: Standing,
) -> Result<Messages> {
    let (first, batches) = match start(read, engine) {
        Ok(started) => started,
        Err(error) => {
            call.finish(Err(&error));
            return Err(error);
        }
    };
    let batches = standing.guard(batches);
    let (sender, receiver) = mpsc::channel(MESSAGES_AHEAD);
    let span = call.span().clone();
    tokio::spawn(async move { send_all(batches, sender, call, fetch, metrics).await }.instrument(span));
    Ok(stream::once(std::future::ready(Ok(first))).chain(ReceiverStream::new(receiver)).boxed())
}

/// The message of the schema, and the batches.
fn start(read: PlannedRead, engine: &Engine) -> Result<(Message, ResultStream<Encoded>)> {
    let encoder = Encoder::try_new(read.schema()).map_err(unsendable)?;
    // Only the first message of an upload has a descriptor.
    let envelope = FlightData { flight_descriptor: None, ..encoder.schema(FlightDescriptor::default()) };
    Ok((Message { envelope, body: Vec::new() }, read.run(engine, encoder)?))
}

/// Hands messages over, until the end or until nobody takes them any more.
async fn send_all(
    mut batches: BoxStream<'static, Result<Encoded>>,
    sender: mpsc::Sender<Result<Message, Status>>,
    call: Call,
    fetch: Option<Fetch>,
    metrics: Metrics,
) {
    let cancelled = async {
        match &fetch {
            Some(fetch) => fetch.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(cancelled);
    loop {
        let batch = tokio::select! {
            batch = batches.next() => batch,
            // Dropping the batches ends the work behind them; dropping the call notes that the caller went away.
            () = sender.closed() => return,
            () = &mut cancelled => Some(Err(Error::cancelled("the query was cancelled"))),
        };
        match batch {
            None => return call.finish(Ok(())),
            Some(Ok(Encoded { rows, messages })) => {
                metrics.rows_sent.inc_by(rows);
                call.trail().moved(rows, messages.iter().map(|message| message.body_bytes() as u64).sum());
                for message in messages {
                    if sender.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            }
            Some(Err(error)) => {
                // A slow client must not keep the work behind the batches going.
                drop(batches);
                let _ = sender.send(Err(to_status(&error))).await;
                return call.finish(Err(&error));
            }
        }
    }
}
