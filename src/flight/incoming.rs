//! Arrow data that a client sends, message by message: checked, then decoded.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use arrow_flight::FlightData;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use futures::{FutureExt, Stream, StreamExt};

use super::guard;
use crate::error::{Error, Result};

/// Messages of an upload on their way in.
pub(super) struct Incoming {
    decoder: Pin<Box<FlightDataDecoder>>,
}

impl Incoming {
    /// Decodes `messages`, none of which may unfold to more than `max_message_bytes`.
    pub(super) fn new(
        messages: impl Stream<Item = Result<FlightData>> + Send + 'static,
        max_message_bytes: usize,
    ) -> Self {
        let checked = messages.filter_map(move |message| {
            std::future::ready(match message {
                Err(error) => Some(Err(FlightError::ExternalError(Box::new(error)))),
                // A message may bring metadata alone.
                Ok(message) if message.data_header.is_empty() && message.data_body.is_empty() => None,
                Ok(message) => Some(match guard::check(&message, max_message_bytes) {
                    Ok(()) => Ok(message),
                    Err(error) => Err(FlightError::ExternalError(Box::new(error))),
                }),
            })
        });
        Self { decoder: Box::pin(FlightDataDecoder::new(checked)) }
    }

    /// The next payload; `None` at the end.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for messages that are no Arrow stream, and what ended the stream.
    pub(super) async fn next(&mut self) -> Result<Option<DecodedPayload>> {
        // The decoder panics on some malformed input; unwinding leaves nothing behind that is used again.
        let decoded = AssertUnwindSafe(self.decoder.next()).catch_unwind().await.map_err(|_| panicked())?;
        decoded.map(|decoded| decoded.map(|data| data.payload).map_err(decode_error)).transpose()
    }
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
