//! Errors as HTTP answers. The only place that decides a status code.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

use crate::error::{Error, Kind, clip, shorten};

/// Seconds after which a caller may try again what was refused for now.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A call that failed, and what that is over HTTP.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: Error,
}

/// The body of every failure.
#[derive(Serialize)]
struct Told {
    error: String,
}

impl Failure {
    /// The failure of a call because of what its body holds: a limit that it is over is one of size.
    pub(super) fn of_body(error: Error) -> Self {
        let status = match error.kind() {
            Kind::Exhausted => StatusCode::PAYLOAD_TOO_LARGE,
            _ => status(error.kind()),
        };
        Self { status, error }
    }

    /// A path that is none.
    pub(super) fn no_such_path(path: &str) -> Self {
        Error::not_found(format!("there is nothing at '{}'; /openapi.json names the paths", shorten(path))).into()
    }

    /// A method that a path does not take.
    pub(super) fn method_not_allowed(method: &str) -> Self {
        let error = Error::invalid(format!(
            "the method {} is not taken here; /openapi.json names those that are",
            shorten(method)
        ));
        Self { status: StatusCode::METHOD_NOT_ALLOWED, error }
    }

    /// What went wrong.
    pub(super) fn error(&self) -> &Error {
        &self.error
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: status(error.kind()), error }
    }
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        // What this server cannot do the caller must ask for otherwise.
        Kind::Invalid | Kind::Unimplemented => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::AlreadyExists | Kind::Conflict => StatusCode::CONFLICT,
        Kind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Kind::Timeout | Kind::Cancelled | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Corrupt | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response<Body> {
        let told = Told { error: clip(self.error.to_string()) };
        let mut response = (self.status, Json(told)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_of_the_contract() {
        let codes = [
            (Error::invalid(""), 400),
            (Error::unimplemented(""), 400),
            (Error::unauthenticated(""), 401),
            (Error::forbidden(""), 403),
            (Error::not_found(""), 404),
            (Error::already_exists(""), 409),
            (Error::conflict(""), 409),
            (Error::exhausted(""), 429),
            (Error::internal(""), 500),
            (Error::corrupt(""), 500),
            (Error::timeout(""), 503),
            (Error::cancelled(""), 503),
            (Error::unavailable(""), 503),
        ];
        for (error, code) in codes {
            let kind = error.kind();
            assert_eq!(Failure::from(error).into_response().status(), code, "{kind:?}");
        }
        assert_eq!(Failure::of_body(Error::exhausted("")).into_response().status(), 413);
        assert_eq!(Failure::of_body(Error::invalid("")).into_response().status(), 400);
    }
}
