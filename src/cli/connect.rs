//! The connection to a server, and the translation of what it answers with.
//!
//! Promises: `--server` and `--token` mean the same in every command, the token shows in no output, and a failure
//! the server describes reaches the user in the server's words, with its code once.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use arrow_flight::FlightClient;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::tls::{TlsOptions, tls_connector};
use crate::error::{Error, Result};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle connection is probed, so that a vanished server is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a probe may stay unanswered.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest message taken from a server. Other servers' batches may be far above gRPC's default of 4 MiB.
const MAX_RECEIVED_MESSAGE: usize = 64 * 1024 * 1024;
/// HTTP/2 flow-control window; the default of 64 KiB would hold a fast link back.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Which server to talk to, and as whom.
#[derive(Clone, clap::Args)]
pub struct ServerOptions {
    /// Address of the server: grpc://HOST:PORT (also grpc+tcp:// and http://), or grpc+tls://HOST:PORT (also https://)
    #[arg(long, env = "PANDAS_DB_SERVER", default_value = "grpc://127.0.0.1:50051", value_name = "URL")]
    pub server: String,
    /// Bearer token to send with every call
    #[arg(long, env = "PANDAS_DB_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// How a server with TLS is told, and what it is shown
    #[command(flatten)]
    pub tls: TlsOptions,
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is a secret and stays out of logs.
        let token = self.token.as_ref().map(|_| "***");
        f.debug_struct("ServerOptions").field("server", &self.server).field("token", &token).finish_non_exhaustive()
    }
}

/// Connects, with the token and the limits of this client set.
pub(super) async fn connect(options: &ServerOptions) -> Result<FlightClient> {
    let address = Address::parse(&options.server)?;
    let endpoint = Endpoint::from_shared(format!("http://{}", address.place))
        .map_err(|error| Error::invalid(format!("--server '{}' is not an address", options.server)).because(error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let connected = if address.has_tls {
        endpoint.connect_with_connector(tls_connector(&options.tls)?).await
    } else {
        endpoint.connect().await
    };
    let channel = connected.map_err(|error| {
        let cause = innermost(&error);
        let message = format!("cannot reach {}: {cause}; is it running? (--server names another)", options.server);
        Error::unavailable(message).because(error)
    })?;
    let service = FlightServiceClient::new(channel)
        .max_decoding_message_size(MAX_RECEIVED_MESSAGE)
        .max_encoding_message_size(usize::MAX);
    let mut client = FlightClient::new_from_inner(service);
    if let Some(token) = options.token.as_deref().filter(|token| !token.is_empty()) {
        // The error is left out: it could repeat the token.
        client
            .add_header("authorization", &format!("Bearer {token}"))
            .map_err(|_| Error::invalid("--token holds characters that a header cannot carry"))?;
    }
    Ok(client)
}

/// Where a server is.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    /// Host and port.
    place: &'a str,
    has_tls: bool,
}

impl<'a> Address<'a> {
    fn parse(server: &'a str) -> Result<Self> {
        let Some((scheme, place)) = server.split_once("://") else {
            return Err(Error::invalid(format!("--server '{server}' has no scheme; write grpc://HOST:PORT")));
        };
        if place.is_empty() {
            return Err(Error::invalid(format!("--server '{server}' names no host; write grpc://HOST:PORT")));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "grpc" | "grpc+tcp" | "http" => Ok(Self { place, has_tls: false }),
            "grpc+tls" | "https" => Ok(Self { place, has_tls: true }),
            _ => Err(Error::invalid(format!(
                "--server '{server}': unknown scheme '{scheme}'; write grpc://HOST:PORT or grpc+tls://HOST:PORT"
            ))),
        }
    }
}

/// What went wrong in a Flight call, as an error of ours.
pub(super) fn flight_error(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => status_error(&status),
        other => Error::internal(format!("the server's answer cannot be read: {other}")).because(other),
    }
}

/// A status as an error: the kind of its code, and its message without the code in brackets, which
/// [`Error`]'s `Display` puts back.
pub(super) fn status_error(status: &Status) -> Error {
    if let Some(message) = without_code(status.message()) {
        return of_code(status.code(), message.to_owned());
    }
    let cause = status.source().map(innermost);
    let message = match &cause {
        Some(cause) if !status.message().contains(cause.as_str()) => format!("{}: {cause}", status.message()),
        _ => status.message().to_owned(),
    };
    // No code in brackets but a cause: not the server's words but the transport's. It says "unknown", "internal" or
    // "cancelled" of a connection that broke, and a retry can help there.
    match status.code() {
        Code::Unknown | Code::Internal | Code::Cancelled if cause.is_some() => Error::unavailable(message),
        code => of_code(code, message),
    }
}

fn of_code(code: Code, message: String) -> Error {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Error::invalid(message),
        Code::Unauthenticated => Error::unauthenticated(message),
        Code::PermissionDenied => Error::forbidden(message),
        Code::NotFound => Error::not_found(message),
        Code::AlreadyExists => Error::already_exists(message),
        Code::Aborted => Error::conflict(message),
        Code::ResourceExhausted => Error::exhausted(message),
        Code::DeadlineExceeded => Error::timeout(message),
        Code::Cancelled => Error::cancelled(message),
        Code::Unavailable => Error::unavailable(message),
        Code::Unimplemented => Error::unimplemented(message),
        Code::DataLoss => Error::corrupt(message),
        Code::Ok | Code::Unknown | Code::Internal => Error::internal(message),
    }
}

/// The message after its `[CODE] `, if it begins with one.
fn without_code(message: &str) -> Option<&str> {
    let (code, rest) = message.strip_prefix('[')?.split_once(']')?;
    let is_code = !code.is_empty() && code.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    is_code.then(|| rest.trim_start())
}

/// The words of the last error of a chain, which is the one that says what happened.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_status_of_the_server_shows_its_code_once() {
        let error = status_error(&Status::not_found("[NOT_FOUND] dataset 'a' does not exist"));
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(error.to_string(), "[NOT_FOUND] dataset 'a' does not exist");
    }

    #[test]
    fn every_code_keeps_its_kind() {
        let kinds = [
            (Code::InvalidArgument, Kind::Invalid),
            (Code::Unauthenticated, Kind::Unauthenticated),
            (Code::PermissionDenied, Kind::Forbidden),
            (Code::NotFound, Kind::NotFound),
            (Code::AlreadyExists, Kind::AlreadyExists),
            (Code::Aborted, Kind::Conflict),
            (Code::ResourceExhausted, Kind::Exhausted),
            (Code::DeadlineExceeded, Kind::Timeout),
            (Code::Cancelled, Kind::Cancelled),
            (Code::Unavailable, Kind::Unavailable),
            (Code::Unimplemented, Kind::Unimplemented),
            (Code::DataLoss, Kind::Corrupt),
            (Code::Internal, Kind::Internal),
        ];
        for (code, kind) in kinds {
            let error = status_error(&Status::new(code, format!("[{}] it [is] so", kind.code())));
            assert_eq!(error.kind(), kind);
            assert_eq!(error.message(), "it [is] so");
            assert_eq!(status_error(&Status::new(code, "[odd] bracket")).message(), "[odd] bracket");
        }
    }

    #[test]
    fn a_broken_connection_is_worth_a_retry() {
        let mut status = Status::unknown("transport error");
        status.set_source(std::sync::Arc::new(std::io::Error::other("connection reset")));
        let error = status_error(&status);
        assert_eq!(error.to_string(), "[UNAVAILABLE] transport error: connection reset");
    }

    #[test]
    fn addresses_of_all_schemes() {
        for (server, has_tls) in
            [("grpc://h:1", false), ("grpc+tcp://h:1", false), ("http://h:1", false), ("grpc+tls://h:1", true)]
        {
            assert_eq!(Address::parse(server).unwrap(), Address { place: "h:1", has_tls });
        }
        for server in ["h:1", "ftp://h:1", "grpc://", "grpc+tls://"] {
            assert_eq!(Address::parse(server).unwrap_err().kind(), Kind::Invalid);
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let options =
            ServerOptions { server: "grpc://h:1".into(), token: Some("secret".into()), tls: TlsOptions::default() };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
