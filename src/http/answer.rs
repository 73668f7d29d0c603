//! Rows as the body of an answer: encoded as they come, sent as they are taken.
//!
//! What fails before the first rows is an answer with its status. What fails later cuts the body off, so that no
//! client takes a part for the whole.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument;

use super::status::Failure;
use super::{HttpState, broke_off};
use crate::audit::Trail;
use crate::auth::Standing;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::formats::{self, Encoding, RowWriter};
use crate::query::{PlannedQuery, ResultStream};
use crate::table::FrameRead;
use crate::wire::slices;

/// Pieces that wait for a slow client before the work does.
const PIECES_AHEAD: usize = 2;

/// Rows that were planned and not yet read.
pub(super) enum Planned {
    /// Those of a dataset.
    Frame(Box<FrameRead>),
    /// The result of a statement.
    Sql(Box<PlannedQuery>),
    /// What a change gave.
    Rows(RecordBatch),
}

/// The form of rows that a client asks for by `Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    encoding: Encoding,
    media_type: &'static str,
}

const JSON: Form = Form { encoding: Encoding::Json, media_type: "application/json" };

/// The forms, the one that counts when a client takes several alike first.
const FORMS: [Form; 4] = [
    JSON,
    Form { encoding: Encoding::IpcStream, media_type: "application/vnd.apache.arrow.stream" },
    Form { encoding: Encoding::Csv, media_type: "text/csv" },
    Form { encoding: Encoding::Parquet, media_type: "application/vnd.apache.parquet" },
];

impl Form {
    /// The form that the headers prefer; JSON when they name none of ours.
    pub(super) fn asked_for(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<(&str, f32)> = accepted.flat_map(|value| value.split(',')).map(media_range).collect();
        let mut best = (JSON, 0.0);
        for form in FORMS {
            let weight = form.weight(&ranges);
            if weight > best.1 {
                best = (form, weight);
            }
        }
        best.0
    }

    /// The weight of the most exact range that this form is in.
    fn weight(self, ranges: &[(&str, f32)]) -> f32 {
        let of = |wanted: &str| ranges.iter().find(|(range, _)| range.eq_ignore_ascii_case(wanted));
        let whole = self.media_type.split_once('/').map(|(kind, _)| format!("{kind}/*"));
        let found = of(self.media_type).or_else(|| of(&whole?)).or_else(|| of("*/*"));
        found.map_or(0.0, |(_, weight)| *weight)
    }
}

/// A media range of an `Accept` header, and its weight.
fn media_range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse().ok());
    (range, weight.unwrap_or(1.0))
}

/// Runs a read and answers with its rows.
///
/// # Errors
/// When it cannot be started, or fails before its first rows.
pub(super) async fn rows(
    state: &HttpState,
    call: Call,
    standing: Standing,
    planned: Planned,
    headers: &HeaderMap,
) -> Result<Response<Body>, Failure> {
    let form = Form::asked_for(headers);
    let pieces = match encoded(state, planned, form, call.trail().clone()) {
        Ok(pieces) => standing.guard(pieces),
        Err(error) => {
            call.finish(Err(&error));
            return Err(error.into());
        }
    };
    send(call, state.limits.time, form.media_type, pieces).await
}

fn encoded(state: &HttpState, planned: Planned, form: Form, trail: Trail) -> Result<BoxStream<'static, Result<Bytes>>> {
    let schema = match &planned {
        Planned::Frame(read) => Arc::clone(read.schema()),
        Planned::Sql(query) => Arc::clone(query.schema()),
        Planned::Rows(batch) => batch.schema(),
    };
    let encoder = Encoder::new(form.encoding, schema)?;
    let (encode, sent) = (encoder.clone(), state.metrics.rows_sent.clone());
    let finish = move |batch: RecordBatch| {
        sent.inc_by(batch.num_rows() as u64);
        let bytes = encode.encode(&batch)?;
        trail.moved(batch.num_rows() as u64, bytes.len() as u64);
        Ok(bytes)
    };
    let pieces: ResultStream<Bytes> = match planned {
        Planned::Frame(read) => state.engine.run_read(*read, finish),
        Planned::Sql(query) => state.engine.run(*query, finish)?,
        Planned::Rows(batch) => state.engine.run_rows(stream::once(std::future::ready(Ok(batch))).boxed(), finish),
    };
    // An error ends the sending, so that the end is not written after one.
    let end = async move { tokio::task::spawn_blocking(move || encoder.finish()).await.map_err(broke_off)? };
    Ok(pieces.chain(stream::once(end)).boxed())
}

/// Answers with a body made of `pieces`.
///
/// # Errors
/// That of the first piece.
pub(super) async fn send(
    call: Call,
    time: Duration,
    media_type: &'static str,
    pieces: impl Stream<Item = Result<Bytes>> + Send + Unpin + 'static,
) -> Result<Response<Body>, Failure> {
    let (sender, mut receiver) = mpsc::channel(PIECES_AHEAD);
    let span = call.span().clone();
    tokio::spawn(async move { pump(pieces, sender, call, time).await }.instrument(span));
    let first = match receiver.recv().await {
        Some(Piece::Failed(error)) => return Err(error.into()),
        first => first,
    };
    let pieces = stream::unfold((first, receiver), |(first, mut receiver)| async move {
        let piece = match first {
            Some(piece) => Some(piece),
            None => receiver.recv().await,
        };
        let piece = match piece {
            Some(Piece::Bytes(bytes)) => Ok(bytes),
            Some(Piece::Failed(error)) => Err(error),
            Some(Piece::End) => return None,
            None => Err(Error::cancelled("the answer was cut off")),
        };
        Some((piece, (None, receiver)))
    });
    // An empty piece would look like nothing to send, and costs a write.
    let pieces = pieces.filter(|piece| std::future::ready(!matches!(piece, Ok(bytes) if bytes.is_empty())));
    let media_type = HeaderValue::from_static(media_type);
    Ok(([(header::CONTENT_TYPE, media_type)], Body::from_stream(pieces)).into_response())
}

/// What the pump hands over. A channel that closes without an end was cut off.
enum Piece {
    Bytes(Bytes),
    Failed(Error),
    End,
}

/// Moves pieces to the body until the end, the first error, the time limit, or until nobody takes them any more.
async fn pump(
    mut pieces: impl Stream<Item = Result<Bytes>> + Unpin,
    sender: mpsc::Sender<Piece>,
    call: Call,
    time: Duration,
) {
    let deadline = Instant::now() + time;
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            // Dropping the pieces ends the work behind them; dropping the call notes that the caller went away.
            () = sender.closed() => return,
        };
        let (piece, failed) = match piece {
            Some(Ok(bytes)) => (Piece::Bytes(bytes), None),
            Some(Err(error)) => (Piece::Failed(error.duplicate()), Some(error)),
            None => (Piece::End, None),
        };
        let ended = !matches!(piece, Piece::Bytes(_));
        match tokio::time::timeout_at(deadline, sender.send(piece)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            // A client that takes nothing must not keep what the read holds.
            Err(_) => {
                let error = Error::timeout("the client did not take the answer within --query-timeout");
                return call.finish(Err(&error));
            }
        }
        match failed {
            Some(error) => return call.finish(Err(&error)),
            None if ended => return call.finish(Ok(())),
            None => {}
        }
    }
}

/// A writer of rows whose bytes are taken after each batch.
#[derive(Clone)]
struct Encoder {
    writer: Arc<Mutex<Option<Box<dyn RowWriter>>>>,
    written: Written,
}

impl Encoder {
    fn new(encoding: Encoding, schema: SchemaRef) -> Result<Self> {
        let written = Written::default();
        let writer = formats::writer(encoding, schema, Box::new(written.clone())).map_err(unwritable)?;
        Ok(Self { writer: Arc::new(Mutex::new(Some(writer))), written })
    }

    fn encode(&self, batch: &RecordBatch) -> Result<Bytes> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.as_mut() {
            for slice in slices(batch) {
                writer.write(&slice).map_err(unwritable)?;
            }
        }
        Ok(self.written.take())
    }

    fn finish(&self) -> Result<Bytes> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            writer.finish().map_err(unwritable)?;
        }
        Ok(self.written.take())
    }
}

fn unwritable(error: ArrowError) -> Error {
    Error::invalid(format!("the rows cannot be written in this form, ask for another by Accept: {error}"))
        .because(error)
}

/// Bytes that were written and not yet taken.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &[&'static str]) -> Encoding {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        Form::asked_for(&headers).encoding
    }

    #[test]
    fn the_form_is_the_one_accepted_best() {
        for accept in
            [&[][..], &["*/*"], &["text/html,application/xhtml+xml,*/*;q=0.8"], &["image/png"], &["application/*"]]
        {
            assert_eq!(asked(accept), Encoding::Json, "{accept:?}");
        }
        assert_eq!(asked(&["text/csv"]), Encoding::Csv);
        assert_eq!(asked(&["text/*"]), Encoding::Csv);
        assert_eq!(asked(&["application/json;q=0.5, application/vnd.apache.parquet"]), Encoding::Parquet);
        assert_eq!(
            asked(&["application/json;q=0.5", "Application/vnd.apache.arrow.stream;q=0.9"]),
            Encoding::IpcStream
        );
        assert_eq!(asked(&["application/json;q=0, */*;q=0.1"]), Encoding::IpcStream);
        assert_eq!(asked(&["text/csv; charset=utf-8; q=0.3, application/json; q=0.2"]), Encoding::Csv);
    }
}
