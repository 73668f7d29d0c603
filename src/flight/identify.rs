//! Who calls. Every call asks here, and nowhere else.

use std::net::IpAddr;
use std::time::Duration;

use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status, Streaming};

use super::status::from_status;
use crate::audit::Trail;
use crate::auth::{Authenticator, Caller, Credentials, Identity, MAX_CREDENTIALS_BYTES};
use crate::error::{Error, Result};

/// The header in which older clients of Arrow send the token of their handshake.
const TOKEN_HEADER: &str = "auth-token-bin";
/// How long a handshake may wait for credentials that come as a message.
const MESSAGE_WAIT: Duration = Duration::from_secs(10);

/// The caller that the headers of a call from an address speak of.
///
/// # Errors
/// Those of [`Authenticator::identify`].
pub(super) async fn identify(
    metadata: &MetadataMap,
    address: Option<IpAddr>,
    authenticator: &Authenticator,
    trail: &Trail,
) -> Result<Identity> {
    let credentials = if authenticator.is_open() { Credentials::Absent } else { of_headers(metadata)? };
    authenticator.identify(Caller { credentials, address }, trail).await
}

fn of_headers(metadata: &MetadataMap) -> Result<Credentials> {
    let values = metadata.get_all("authorization").into_iter();
    match Credentials::of_header(values.map(|value| value.as_bytes()))? {
        Credentials::Absent => {}
        sent => return Ok(sent),
    }
    let Some(token) = metadata.get_bin(TOKEN_HEADER).and_then(|token| token.to_bytes().ok()) else {
        return Ok(Credentials::Absent);
    };
    match String::from_utf8(token.into()) {
        Ok(token) if token.len() <= MAX_CREDENTIALS_BYTES => Ok(Credentials::Bearer(token)),
        _ => Err(Error::unauthenticated(format!("the header {TOKEN_HEADER} holds no token"))),
    }
}

/// Logs in a caller, by header or as older clients do by message, and gives a token to go on with.
///
/// # Errors
/// As [`identify`].
pub(super) async fn log_in(
    metadata: &MetadataMap,
    address: Option<IpAddr>,
    messages: Streaming<HandshakeRequest>,
    authenticator: &Authenticator,
    trail: &Trail,
) -> Result<String> {
    let credentials = match authenticator.is_open() {
        true => Credentials::Absent,
        false => match of_headers(metadata)? {
            Credentials::Absent => of_message(messages).await?,
            sent => sent,
        },
    };
    let identity = authenticator.identify(Caller { credentials, address }, trail).await?;
    authenticator.token(identity)
}

async fn of_message(mut messages: Streaming<HandshakeRequest>) -> Result<Credentials> {
    let message = tokio::time::timeout(MESSAGE_WAIT, messages.message()).await;
    let message = message.map_err(|error| Error::timeout("the handshake sends no credentials").because(error))?;
    let Some(message) = message.map_err(from_status)? else { return Ok(Credentials::Absent) };
    if message.payload.is_empty() {
        return Ok(Credentials::Absent);
    }
    if message.payload.len() > MAX_CREDENTIALS_BYTES {
        return Err(Error::unauthenticated("the credentials are longer than 8 KiB"));
    }
    let BasicAuth { username, password } = BasicAuth::decode(message.payload.as_ref())
        .map_err(|_| Error::unauthenticated("the payload of the handshake is no BasicAuth message"))?;
    Ok(Credentials::of_password(username, password))
}

/// The answer to a log-in: the token is in the header, where clients look for it, and in the payload, where older ones
/// do.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when the token cannot be sent.
pub(super) fn handshake_answer(token: &str) -> Result<Response<BoxStream<'static, Result<HandshakeResponse, Status>>>> {
    let reply = HandshakeResponse { protocol_version: 0, payload: token.as_bytes().to_vec().into() };
    let mut response = Response::new(stream::iter([Ok(reply)]).boxed());
    let header = format!("Bearer {token}").parse();
    let header = header.map_err(|error| Error::internal("a token cannot be sent").because(error))?;
    response.metadata_mut().insert("authorization", header);
    Ok(response)
}
