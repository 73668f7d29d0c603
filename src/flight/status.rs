//! Errors as gRPC statuses. The only place that makes a [`Status`].

use http::header::{HeaderMap, HeaderValue};
use tonic::{Code, Status};

use crate::error::{Error, Kind, clip};

/// The status a caller sees; the message begins with the code, because client libraries merge several codes into one.
pub(super) fn to_status(error: &Error) -> Status {
    let code = match error.kind() {
        Kind::Invalid => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Conflict => Code::Aborted,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Corrupt => Code::DataLoss,
        Kind::Internal => Code::Internal,
    };
    Status::new(code, clip(error.to_string()))
}

/// The status of a call that went well.
pub(super) fn success() -> Status {
    Status::new(Code::Ok, "")
}

/// A status as the headers that end a body.
pub(super) fn to_trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // A message that no header can hold must not hide that the call failed.
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// What the transport says of a stream that a client sends.
pub(super) fn from_status(status: Status) -> Error {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            Error::exhausted("a message is larger than --max-message-size; send smaller record batches").because(status)
        }
        Code::Cancelled => Error::cancelled("the client ended the call").because(status),
        Code::InvalidArgument | Code::Internal => Error::invalid("a message is cut or damaged").because(status),
        _ => Error::cancelled("the upload broke off").because(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_begin_with_their_code_and_fit_a_header() {
        let status = to_status(&Error::not_found("no dataset"));
        assert_eq!((status.code(), status.message()), (Code::NotFound, "[NOT_FOUND] no dataset"));
        assert!(to_status(&Error::invalid("ü".repeat(9_000))).message().len() < 2_100);
    }
}
