//! The service as a gRPC server.
//!
//! Tonic serves every call but `DoGet`. Of that one it would copy each message into a buffer of its own, and nearly all
//! that a server of frames does is to send them; so here its messages go out from the buffers of their columns. What
//! is written is the same: gRPC's length-prefixed messages
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), each a `FlightData` of `Flight.proto`.

use std::convert::Infallible;
use std::future::ready;
use std::task::{Context, Poll};

use arrow_flight::Ticket;
use arrow_flight::flight_service_server::FlightServiceServer;
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstDecoder;
use tower::Service as TowerService;

use super::get::Messages;
use super::service::Service;
use super::status::{success, to_status, to_trailers};
use crate::error::{Error, Result};
use crate::wire::Message;

/// The path of the call that is served here.
const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
/// The header that says how messages are compressed.
const ENCODING: &str = "grpc-encoding";
/// The number of the body's field in `FlightData`; it is the last.
const DATA_BODY: u32 = 1000;
/// What stands before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Pieces below this are copied together, since each goes out in a frame of its own.
const SMALL_PIECE_BYTES: usize = 8 << 10;

/// Arrow Flight over gRPC.
#[derive(Debug, Clone)]
pub struct FlightServer {
    service: Service,
    others: FlightServiceServer<Service>,
    max_message_bytes: usize,
}

impl FlightServer {
    /// A server of `service` that takes messages of at most `max_message_bytes`.
    pub fn new(service: Service, max_message_bytes: usize) -> Self {
        let others = FlightServiceServer::new(service.clone())
            .max_decoding_message_size(max_message_bytes)
            .max_encoding_message_size(usize::MAX);
        Self { service, others, max_message_bytes }
    }
}

impl NamedService for FlightServer {
    const NAME: &'static str = <FlightServiceServer<Service> as NamedService>::NAME;
}

impl TowerService<http::Request<Body>> for FlightServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != DO_GET {
            return TowerService::call(&mut self.others, request);
        }
        let (service, max_message_bytes) = (self.service.clone(), self.max_message_bytes);
        let answer = async move {
            let request = receive_ticket(request, max_message_bytes).await?;
            service.get(request).await
        };
        answer.map(|answer| Ok(answer.map_or_else(Status::into_http, respond))).boxed()
    }
}

/// The only message of the request.
async fn receive_ticket(request: http::Request<Body>, max_bytes: usize) -> Result<Request<Ticket>, Status> {
    let (head, body) = request.into_parts();
    if let Some(encoding) = head.headers.get(ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(to_status(&Error::unimplemented(format!("{ENCODING}: {encoding:?}; send it uncompressed"))));
    }
    let mut messages = Streaming::new_request(ProstDecoder::<Ticket>::default(), body, None, Some(max_bytes));
    let missing = || to_status(&Error::invalid("DoGet came without a ticket; send the one that GetFlightInfo gave"));
    let ticket = messages.message().await?.ok_or_else(missing)?;
    // Read to the end: some clients take it ill when a stream is answered before they have closed it.
    messages.trailers().await?;
    Ok(Request::from_parts(MetadataMap::from_headers(head.headers), head.extensions, ticket))
}

fn respond(answer: Response<Messages>) -> http::Response<Body> {
    let (metadata, messages, _) = answer.into_parts();
    let mut response = http::Response::new(body(messages));
    *response.headers_mut() = metadata.into_headers();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The messages, and in the end how it went.
fn body(messages: Messages) -> Body {
    let with_end =
        messages.map(|message| message.and_then(|message| framed(message).map_err(|error| to_status(&error))));
    let with_end = with_end.map(Some).chain(stream::once(ready(None)));
    let frames = with_end.scan(false, |has_ended, item| {
        let frames = match item {
            _ if *has_ended => return ready(None),
            Some(Ok(pieces)) => pieces.into_iter().map(Frame::data).collect(),
            Some(Err(status)) => {
                *has_ended = true;
                vec![Frame::trailers(to_trailers(&status))]
            }
            None => vec![Frame::trailers(to_trailers(&success()))],
        };
        ready(Some(stream::iter(frames.into_iter().map(Ok::<Frame<Bytes>, Infallible>))))
    });
    Body::new(StreamBody::new(frames.flatten()))
}

/// A message as it goes over the wire, in pieces.
///
/// # Errors
/// [`Kind::Exhausted`](crate::error::Kind::Exhausted) when it is longer than gRPC can say.
fn framed(message: Message) -> Result<Vec<Bytes>> {
    let body_bytes = message.body_bytes();
    let body_field = match body_bytes {
        0 => 0,
        _ => key_len(DATA_BODY) + encoded_len_varint(body_bytes as u64) + body_bytes,
    };
    let length = u32::try_from(message.envelope.encoded_len() + body_field);
    let length = length
        .map_err(|_| Error::exhausted("a row or a dictionary is larger than 4 GiB, more than a message can hold"))?;
    let mut start = BytesMut::with_capacity(PREFIX_BYTES + message.envelope.encoded_len() + SMALL_PIECE_BYTES);
    start.put_u8(0);
    start.put_u32(length);
    let unwritten = |error| Error::internal("a message cannot be written").because(error);
    message.envelope.encode(&mut start).map_err(unwritten)?;
    if body_bytes > 0 {
        encode_key(DATA_BODY, WireType::LengthDelimited, &mut start);
        encode_varint(body_bytes as u64, &mut start);
    }
    Ok(joined(start, message.body))
}

/// The pieces after what is there already, small ones together.
fn joined(mut small: BytesMut, pieces: Vec<Bytes>) -> Vec<Bytes> {
    let mut out = Vec::with_capacity(pieces.len() + 1);
    for piece in pieces {
        if piece.len() < SMALL_PIECE_BYTES {
            small.put(piece);
            continue;
        }
        if !small.is_empty() {
            out.push(small.split().freeze());
        }
        out.push(piece);
    }
    if !small.is_empty() {
        out.push(small.freeze());
    }
    out
}

#[cfg(test)]
mod tests {
    use arrow_flight::FlightData;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_what_prost_would_write(
            header in proptest::collection::vec(any::<u8>(), 0..300),
            metadata in proptest::collection::vec(any::<u8>(), 0..20),
            lengths in proptest::collection::vec(0usize..3 * SMALL_PIECE_BYTES, 0..12),
        ) {
            let (data_header, app_metadata) = (header.into(), metadata.into());
            let envelope = FlightData { data_header, app_metadata, ..Default::default() };
            let pieces = lengths.iter().enumerate().map(|(number, length)| vec![number as u8; *length].into());
            let message = Message { envelope, body: pieces.collect() };
            let written = framed(Message { envelope: message.envelope.clone(), body: message.body.clone() }).unwrap();
            prop_assert!(written.iter().rev().skip(1).all(|piece| !piece.is_empty()));
            let written = written.concat();
            let wanted = message.into_flight_data().encode_to_vec();
            prop_assert_eq!(&written[..PREFIX_BYTES], &[&[0][..], &(wanted.len() as u32).to_be_bytes()].concat());
            prop_assert_eq!(&written[PREFIX_BYTES..], &wanted);
        }
    }

    /// How many bytes a body has, and the status that it ends with.
    async fn read(messages: Vec<Result<Message, Status>>) -> (usize, String, String) {
        let read = http_body_util::BodyExt::collect(body(stream::iter(messages).boxed())).await.unwrap();
        let trailers = read.trailers().cloned().unwrap();
        let trailer = |name: &str| trailers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let (status, message) = (trailer("grpc-status"), trailer("grpc-message"));
        (read.to_bytes().len(), status, message)
    }

    #[tokio::test]
    async fn a_body_ends_with_its_status_and_after_an_error_at_once() {
        assert_eq!(read(vec![Ok(Message::default())]).await, (PREFIX_BYTES, "0".into(), String::new()));
        let broken = vec![Err(Status::data_loss("[DATA_LOSS] gone")), Ok(Message::default())];
        assert_eq!(read(broken).await, (0, "15".into(), "[DATA_LOSS]%20gone".into()));
    }
}
