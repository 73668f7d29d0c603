//! Bodies of requests: taken piece by piece, no larger than the limit, within the time limit.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::Instant;

use super::HttpLimits;
use super::status::Failure;
use crate::error::{Error, Result};

/// What is read and dropped of a body that was refused, so that a client which sends all of it before it listens hears
/// why; in multiples of the limit.
const DROPPED_LIMITS: u64 = 4;
/// How long that may take.
const DROPPING_TIME: Duration = Duration::from_secs(20);

/// A body that is being received.
pub(super) struct Incoming {
    pieces: axum::body::BodyDataStream,
    left: u64,
    limit: u64,
    deadline: Instant,
    time: Duration,
}

impl Incoming {
    fn begin(body: Body, limits: &HttpLimits) -> Self {
        let (limit, time) = (limits.body_bytes, limits.time);
        Self { pieces: body.into_data_stream(), left: limit, limit, deadline: Instant::now() + time, time }
    }

    /// Checks what the headers say of the body.
    ///
    /// # Errors
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) for a body that says it is larger than the limit,
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for one that is compressed.
    fn check(&self, headers: &HeaderMap) -> Result<()> {
        let coded = headers.get(header::CONTENT_ENCODING).filter(|coding| coding.as_bytes() != b"identity");
        if coded.is_some() {
            return Err(Error::invalid("the body has a Content-Encoding; send it as it is"));
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        match length {
            Some(length) if length > self.limit => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) over the limit,
    /// [`Kind::Timeout`](crate::error::Kind::Timeout) when the time is up, and
    /// [`Kind::Cancelled`](crate::error::Kind::Cancelled) when the client broke off.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = tokio::time::timeout_at(self.deadline, self.pieces.next()).await;
        let piece = match next {
            Err(_) => return Err(self.too_slow()),
            Ok(None) => return Ok(None),
            Ok(Some(piece)) => piece.map_err(|error| Error::cancelled("the body broke off").because(error))?,
        };
        match self.left.checked_sub(piece.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(self.too_large()),
        }
        Ok(Some(piece))
    }

    /// All of a body that has at most `most` bytes.
    ///
    /// # Errors
    /// As [`Incoming::next`], and [`Kind::Exhausted`](crate::error::Kind::Exhausted) over `most`.
    pub(super) async fn whole(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > most {
                return Err(Error::exhausted(format!("the body is larger than {most} bytes, the most taken here")));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// Reads and drops what still comes of a body that was refused, within bounds.
    async fn drop_rest(mut self, headers: &HeaderMap) {
        // Who asks before sending has sent nothing yet.
        if headers.contains_key(header::EXPECT) {
            return;
        }
        let mut dropped = 0;
        let rest = async {
            while let Some(Ok(piece)) = self.pieces.next().await {
                dropped += piece.len() as u64;
                if dropped > self.limit.saturating_mul(DROPPED_LIMITS) {
                    return;
                }
            }
        };
        // Whoever takes longer may lose the answer.
        let _ = tokio::time::timeout(DROPPING_TIME, rest).await;
    }

    fn too_large(&self) -> Error {
        Error::exhausted(format!(
            "the body is larger than {} bytes (--http-body-limit); send less at a time, or use Arrow Flight",
            self.limit
        ))
    }

    fn too_slow(&self) -> Error {
        Error::timeout(format!(
            "the body took longer than --query-timeout ({} s); send less at a time",
            self.time.as_secs_f64()
        ))
    }
}

/// Receives a body by `take`; what is wrong with it is a failure of the body, told after the rest of it was dropped.
///
/// # Errors
/// Those of [`Incoming::check`] and of `take`.
pub(super) async fn receive<T>(
    headers: &HeaderMap,
    body: Body,
    limits: &HttpLimits,
    take: impl AsyncFnOnce(&mut Incoming) -> Result<T>,
) -> Result<T, Failure> {
    let mut incoming = Incoming::begin(body, limits);
    let taken = match incoming.check(headers) {
        Ok(()) => take(&mut incoming).await,
        Err(error) => Err(error),
    };
    match taken {
        Ok(taken) => Ok(taken),
        Err(error) => {
            incoming.drop_rest(headers).await;
            Err(Failure::of_body(error))
        }
    }
}
