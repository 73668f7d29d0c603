//! Who calls. Every call that touches data asks here, and nowhere else.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::extract::connect_info::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use crate::audit::Trail;
use crate::auth::{Authenticator, Caller, Credentials, Identity};
use crate::error::Result;

/// The address of the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// What a request says of who sends it.
#[derive(Debug)]
pub(super) struct Sender {
    pub headers: HeaderMap,
    address: Option<IpAddr>,
}

impl<S: Sync> FromRequestParts<S> for Sender {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        Ok(Self { headers: parts.headers.clone(), address: peer.map(|ConnectInfo(Peer(address))| *address) })
    }
}

/// The caller that a request speaks of.
///
/// # Errors
/// Those of [`Authenticator::identify`].
pub(super) async fn identify(
    Sender { headers, address }: &Sender,
    authenticator: &Authenticator,
    trail: &Trail,
) -> Result<Identity> {
    let values = headers.get_all(header::AUTHORIZATION).iter().map(|value| value.as_bytes());
    let credentials = if authenticator.is_open() { Credentials::Absent } else { Credentials::of_header(values)? };
    authenticator.identify(Caller { credentials, address: *address }, trail).await
}
