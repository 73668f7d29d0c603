//! Cross-origin requests: pages of any origin may call, as they always could. Credentials travel in the
//! `Authorization` header, which a page must set itself; cookies are not used.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;

/// Seconds that a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");

const PREFLIGHT: [(HeaderName, HeaderValue); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, DELETE, OPTIONS")),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization, Content-Type, Accept, Idempotency-Key"),
    ),
    (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
];

/// Answers a browser's question before a call, and marks every answer as readable.
pub(super) async fn open(request: Request, next: Next) -> Response<Body> {
    let asks =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks { (StatusCode::NO_CONTENT, PREFLIGHT).into_response() } else { next.run(request).await };
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
