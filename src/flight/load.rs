//! `DoPut`: an upload, from the first message to the last answer.
//!
//! The work runs in a task of its own, so that a client that closes its side without reading the answers still gets
//! its version. Answers about progress are dropped when nobody takes them; the last one has a place kept for it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, PutResult};
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;

use super::guard;
use super::status::from_status;
use crate::auth::Principal;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names::DatasetName;
use crate::proto::{LoadDataframe, LoadResult};
use crate::table::{Catalog, Load, LoadRequest, SplitSettings, committed, read_request};

/// Answers that wait for a client to take them.
pub(super) const ANSWERS_AHEAD: usize = 16;
/// Arrow bytes between two answers about progress.
const PROGRESS_BYTES: i64 = 4 << 20;

/// How uploads are taken.
#[derive(Debug, Clone)]
pub struct LoadSettings {
    /// How loads are cut.
    pub split: SplitSettings,
    /// The most that the buffers of one message may unfold to.
    pub max_message_bytes: usize,
}

/// The answers to an upload.
pub(super) type Answers = mpsc::Sender<Result<PutResult, Status>>;

/// An upload that was understood and not yet read.
pub(super) struct Upload {
    name: DatasetName,
    request: LoadRequest,
}

impl Upload {
    /// Checks what the first message asks for.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the field that cannot be.
    pub(super) fn new(command: &LoadDataframe, caller: &Principal) -> Result<Self> {
        let (name, request) = read_request(command, &caller.user)?;
        Ok(Self { name, request })
    }

    /// Reads the messages, stores their rows and commits.
    ///
    /// # Errors
    /// Those of [`Load`], and [`Kind::Invalid`](crate::error::Kind::Invalid) for messages that are no Arrow stream.
    pub(super) async fn run(
        self,
        datasets: Arc<Catalog>,
        caller: Principal,
        settings: LoadSettings,
        messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
        answers: &Answers,
        metrics: &Metrics,
    ) -> Result<()> {
        let dataset = datasets.open_or_create(&caller.tenant, &self.name).await?;
        let mut load = Load::begin(dataset, self.request, settings.split).await?;
        let received = receive(&mut load, messages, settings.max_message_bytes, answers).await;
        if let Err(error) = received {
            load.abandon().await;
            return Err(error);
        }
        let outcome = load.finish().await?;
        if !outcome.duplicate {
            let record = &outcome.record;
            metrics.count_load(record.rows, record.bytes, record.chunks);
        }
        // A client that does not read answers is no reason to fail what is stored.
        let _ = answers.try_send(Ok(answer(&committed(&self.name, &outcome))?));
        Ok(())
    }
}

async fn receive(
    load: &mut Load,
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    max_message_bytes: usize,
    answers: &Answers,
) -> Result<()> {
    let checked = messages.filter_map(move |message| {
        std::future::ready(match message {
            Err(status) => Some(Err(FlightError::ExternalError(Box::new(from_status(status))))),
            // A message may bring metadata alone.
            Ok(message) if message.data_header.is_empty() && message.data_body.is_empty() => None,
            Ok(message) => Some(match guard::check(&message, max_message_bytes) {
                Ok(()) => Ok(message),
                Err(error) => Err(FlightError::ExternalError(Box::new(error))),
            }),
        })
    });
    let mut decoder = FlightDataDecoder::new(checked);
    let (mut has_schema, mut reported) = (false, 0);
    // The decoder panics on some malformed input; unwinding leaves nothing behind that is used again.
    while let Some(decoded) = AssertUnwindSafe(decoder.next()).catch_unwind().await.map_err(|_| panicked())? {
        match decoded.map_err(decode_error)?.payload {
            DecodedPayload::None => {}
            DecodedPayload::Schema(_) if has_schema => {
                return Err(Error::invalid(
                    "the schema changed within the upload; send one schema, or several uploads",
                ));
            }
            DecodedPayload::Schema(schema) => {
                has_schema = true;
                load.begin_rows(schema)?;
            }
            DecodedPayload::RecordBatch(batch) => load.push(batch).await?,
        }
        if load.bytes() - reported >= PROGRESS_BYTES {
            reported = load.bytes();
            // The last place is kept for the last answer.
            if answers.capacity() > 1 {
                let _ = answers.try_send(Ok(answer(&receiving(load))?));
            }
        }
    }
    Ok(())
}

fn panicked() -> Error {
    Error::invalid("a message of the upload is damaged: it cannot be decoded")
}

fn decode_error(error: FlightError) -> Error {
    match error {
        FlightError::ExternalError(source) => match source.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => Error::invalid("the upload cannot be read").because(other),
        },
        FlightError::ProtocolError(message) if message.contains("prior to Schema") => {
            Error::invalid("the upload sends rows before its schema; send the schema first")
        }
        FlightError::ProtocolError(message) | FlightError::DecodeError(message) => {
            Error::invalid(format!("a message of the upload is damaged: {message}"))
        }
        other => Error::invalid("a message of the upload is damaged: it cannot be decoded").because(other),
    }
}

fn answer(result: &LoadResult) -> Result<PutResult> {
    let json = serde_json::to_vec(result);
    let json = json.map_err(|error| Error::internal("an answer cannot be written").because(error))?;
    Ok(PutResult { app_metadata: json.into() })
}

fn receiving(load: &Load) -> LoadResult {
    LoadResult { state: "receiving".into(), rows: load.rows(), bytes: load.bytes(), ..Default::default() }
}
