//! Who calls. Every call that touches data asks here, and nowhere else.

use axum::http::{HeaderMap, header};

use crate::auth::{Authenticator, Credentials, Principal};
use crate::error::Result;

/// The caller that the headers of a request speak of.
///
/// # Errors
/// Those of [`Authenticator::identify`].
pub(super) async fn identify(headers: &HeaderMap, authenticator: &Authenticator) -> Result<Principal> {
    if authenticator.is_open() {
        return Ok(Principal::local());
    }
    let values = headers.get_all(header::AUTHORIZATION).iter().map(|value| value.as_bytes());
    Ok(authenticator.identify(Credentials::of_header(values)?).await?.principal)
}
