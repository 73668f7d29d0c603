//! `POST /dataframes/upload`: a frame as JSON records becomes a version, as one that comes over Flight does.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde::Serialize;
use tracing::Instrument;

use super::body::{Incoming, receive};
use super::envelope::Envelope;
use super::identify::Sender;
use super::records::{Records, Text};
use super::status::Failure;
use super::times::Times;
use super::{HttpState, broke_off, parameters};
use crate::auth::Principal;
use crate::error::{Error, Result};
use crate::names::NOW;
use crate::proto::{Chunk, LoadDataframe, LoadResult};
use crate::table::{KeyKind, Load, LoadOutcome, committed, read_request};

/// The header by which a repeat is known.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Bytes of a body that are gathered before they are worked on.
const GATHERED_BYTES: usize = 256 << 10;

/// What is told of a load.
#[derive(Debug, Serialize)]
pub(super) struct Uploaded {
    df_name: String,
    columns_keys: HashMap<String, String>,
    external_key: String,
    keep_last: bool,
    total_rows: i64,
    chunks: Vec<Piece>,
    chunks_total: i64,
    version: i64,
    created_at: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

#[derive(Debug, Serialize)]
struct Piece {
    path: String,
    rows: i64,
    number: i64,
}

/// Takes an upload.
pub(super) async fn upload(
    State(state): State<HttpState>,
    uri: Uri,
    sender: Sender,
    body: Body,
) -> Result<Json<Uploaded>, Failure> {
    let (call, mut standing) = state.begin("http_upload", &sender).await?;
    let span = call.span().clone();
    let receiving = async {
        parameters::none(&uri)?;
        let (mut command, records) =
            receive(&sender.headers, body, &state.limits, async |incoming| take(incoming, &state).await).await?;
        command.idempotency_key = idempotency_key(&sender.headers)?;
        let records = tokio::task::spawn_blocking(move || records.into_records()).await.map_err(broke_off)??;
        standing.check().await?;
        Ok::<_, Failure>((command, records))
    };
    let (command, records) = match receiving.instrument(span.clone()).await {
        Ok(received) => received,
        Err(failure) => {
            call.finish(Err(failure.error()));
            return Err(failure);
        }
    };
    // In a task of its own: a client that goes away now has sent everything, and gets its version.
    let storing = async move {
        let outcome = store(&state, standing.principal(), &command, records).await;
        call.finish(outcome.as_ref().map(drop));
        outcome
    };
    let stored = tokio::spawn(storing.instrument(span)).await.map_err(broke_off)?;
    stored.map(Json).map_err(Failure::of_body)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = std::str::from_utf8(key.as_bytes());
    key.map(|key| Some(key.to_string())).map_err(|error| Error::invalid("Idempotency-Key is not UTF-8").because(error))
}

/// What works on the pieces of a body, on threads that may block.
struct Taking {
    envelope: Envelope,
    text: Text,
}

impl Taking {
    fn work(mut self, gathered: &[u8]) -> Result<Self> {
        let mut frame = Vec::with_capacity(gathered.len());
        self.envelope.feed(gathered, &mut frame)?;
        self.text.append(&frame)?;
        Ok(self)
    }
}

/// Receives a body: what is asked for, and the text of the frame.
async fn take(incoming: &mut Incoming, state: &HttpState) -> Result<(LoadDataframe, Text)> {
    let mut taking = Taking { envelope: Envelope::default(), text: Text::new(&state.limits.spill_folder) };
    let mut gathered = Vec::new();
    loop {
        let piece = incoming.next().await?;
        let ended = piece.is_none();
        gathered.extend_from_slice(&piece.unwrap_or_default());
        if ended || gathered.len() >= GATHERED_BYTES {
            let work = std::mem::take(&mut gathered);
            taking = tokio::task::spawn_blocking(move || taking.work(&work)).await.map_err(broke_off)??;
        }
        if ended {
            return Ok((taking.envelope.finish()?, taking.text));
        }
    }
}

async fn store(state: &HttpState, caller: &Principal, command: &LoadDataframe, records: Records) -> Result<Uploaded> {
    let (name, request) = read_request(command, &caller.user)?;
    let dataset = state.datasets.open_or_create(caller, &name).await?;
    let fixed = dataset.snapshot().keys.clone().unwrap_or_default();
    let is_date_key = |column: &str| {
        let kind = request.columns_keys.get(column).or_else(|| fixed.get(column));
        matches!(kind, Some(KeyKind::Date))
    };
    let times = Times::new(records.schema(), is_date_key);
    let load = Load::begin(dataset, request, state.split.clone()).await?;
    let outcome = fill(load, times, records).await?;
    caller.trail.version(outcome.record.version);
    if !outcome.duplicate {
        let record = &outcome.record;
        caller.trail.moved(record.rows.unsigned_abs(), record.bytes.unsigned_abs());
        state.metrics.count_load(record.rows, record.bytes, record.chunks);
    }
    Ok(told(command, committed(&name, &outcome)))
}

async fn fill(mut load: Load, times: Times, records: Records) -> Result<LoadOutcome> {
    match push_all(&mut load, times, records).await {
        Ok(()) => load.finish().await,
        Err(error) => {
            load.abandon().await;
            Err(error)
        }
    }
}

async fn push_all(load: &mut Load, times: Times, mut records: Records) -> Result<()> {
    load.begin_rows(Arc::clone(times.schema()))?;
    loop {
        let decode = move || records.next().map(|batch| (batch, records));
        let (batch, rest) = tokio::task::spawn_blocking(decode).await.map_err(broke_off)??;
        let Some(batch) = batch else { return Ok(()) };
        load.push(times.apply(batch)?).await?;
        records = rest;
    }
}

fn told(command: &LoadDataframe, result: LoadResult) -> Uploaded {
    let piece = |Chunk { path, rows, number, .. }: Chunk| Piece { path, rows, number };
    Uploaded {
        df_name: result.dataframe_name.unwrap_or_default(),
        columns_keys: result.columns_keys,
        // The word that the caller used for it.
        external_key: command.external_key.clone().unwrap_or_else(|| NOW.into()),
        keep_last: result.keep_last.unwrap_or_default(),
        total_rows: result.rows,
        chunks: result.chunks.into_iter().map(piece).collect(),
        chunks_total: result.chunks_total.unwrap_or_default(),
        version: result.version.unwrap_or_default(),
        created_at: result.created_at.unwrap_or_default(),
        duplicate: result.duplicate.unwrap_or_default(),
    }
}
