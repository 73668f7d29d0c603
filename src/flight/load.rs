//! `DoPut`: an upload, from the first message to the last answer.
//!
//! The work runs in a task of its own, so that a client that closes its side without reading the answers still gets
//! its version. Answers about progress are dropped when nobody takes them; the last one has a place kept for it.

use std::sync::Arc;

use arrow_flight::decode::DecodedPayload;
use arrow_flight::sql::DoPutUpdateResult;
use arrow_flight::{FlightData, PutResult};
use futures::Stream;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

use super::incoming::Incoming;
use crate::auth::Principal;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names::DatasetName;
use crate::proto::{LoadDataframe, LoadResult};
use crate::table::{Catalog, Creation, Load, LoadRequest, SplitSettings, committed, read_request};

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
    creation: Creation,
    answers: AnswerForm,
}

/// How an upload is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// By a `LoadResult` now and then, and a last one.
    LoadResult,
    /// Once, by how many rows there were, as drivers expect it.
    RowCount,
}

impl Upload {
    /// Checks what the first message asks for.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the field that cannot be.
    pub(super) fn new(
        command: &LoadDataframe,
        creation: Creation,
        answers: AnswerForm,
        caller: &Principal,
    ) -> Result<Self> {
        let (name, request) = read_request(command, &caller.user)?;
        Ok(Self { name, request, creation, answers })
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
        messages: impl Stream<Item = Result<FlightData>> + Send + 'static,
        answers: &Answers,
        metrics: &Metrics,
    ) -> Result<()> {
        let Self { name, request, creation, answers: form } = self;
        let mut load = datasets.begin_load(&caller, &name, creation, request, settings.split).await?;
        let progress = (form == AnswerForm::LoadResult).then_some(answers);
        let received = receive(&mut load, messages, settings.max_message_bytes, progress).await;
        if let Err(error) = received {
            load.abandon().await;
            return Err(error);
        }
        let outcome = load.finish().await?;
        caller.trail.version(outcome.record.version);
        if !outcome.duplicate {
            let record = &outcome.record;
            caller.trail.moved(record.rows.unsigned_abs(), record.bytes.unsigned_abs());
            metrics.count_load(record.rows, record.bytes, record.chunks);
        }
        // A client that does not read answers is no reason to fail what is stored.
        let last = match form {
            AnswerForm::LoadResult => answer(&committed(&name, &outcome))?,
            AnswerForm::RowCount => row_count(outcome.record.rows),
        };
        let _ = answers.try_send(Ok(last));
        Ok(())
    }
}

async fn receive(
    load: &mut Load,
    messages: impl Stream<Item = Result<FlightData>> + Send + 'static,
    max_message_bytes: usize,
    progress: Option<&Answers>,
) -> Result<()> {
    let mut incoming = Incoming::new(messages, max_message_bytes);
    let (mut has_schema, mut reported) = (false, 0);
    while let Some(payload) = incoming.next().await? {
        match payload {
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
        let Some(answers) = progress.filter(|_| load.bytes() - reported >= PROGRESS_BYTES) else { continue };
        reported = load.bytes();
        // The last place is kept for the last answer.
        if answers.capacity() > 1 {
            let _ = answers.try_send(Ok(answer(&receiving(load))?));
        }
    }
    Ok(())
}

fn answer(result: &LoadResult) -> Result<PutResult> {
    let json = serde_json::to_vec(result);
    let json = json.map_err(|error| Error::internal("an answer cannot be written").because(error))?;
    Ok(PutResult { app_metadata: json.into() })
}

/// How many rows were changed, as Flight SQL answers it.
pub(super) fn row_count(rows: i64) -> PutResult {
    PutResult { app_metadata: DoPutUpdateResult { record_count: rows }.encode_to_vec().into() }
}

fn receiving(load: &Load) -> LoadResult {
    LoadResult { state: "receiving".into(), rows: load.rows(), bytes: load.bytes(), ..Default::default() }
}
