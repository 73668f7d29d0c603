//! Who calls. Every call that touches data asks here, and nowhere else.

use axum::http::{HeaderMap, header};

use crate::audit::Trail;
use crate::auth::{Authenticator, Credentials, Principal};
use crate::error::Result;

/// The caller that the headers of a request speak of.
///
/// # Errors
/// Those of [`Authenticator::identify`].
pub(super) async fn identify(headers: &HeaderMap, authenticator: &Authenticator, trail: &Trail) -> Result<Principal> {
    let values = headers.get_all(header::AUTHORIZATION).iter().map(|value| value.as_bytes());
    let credentials = if authenticator.is_open() { Credentials::Absent } else { Credentials::of_header(values)? };
    Ok(authenticator.identify(credentials, trail).await?.principal)
}
