//! Signed tickets, handles of prepared statements and session cookies: self-contained, bound to their caller, good for
//! a day on every server that shares the key.
//!
//! Each is a JSON Web Token (RFC 7519) signed with HMAC-SHA-256, so that expiry and signature are checked by a
//! well-kept library. Its content is a command as any caller could send it; the signature only keeps it from being used
//! by another, or altered.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::auth::Principal;
use crate::clock;
use crate::error::{Error, Result};
use crate::query::{Moments, Part, SessionOptions};

/// Seconds that a ticket is good for.
pub(super) const TICKET_SECONDS: i64 = 86_400;
/// The form of tickets as signed now; those of another are refused.
const TICKET_FORMAT: u32 = 2;
const ISSUER: &str = "pandas-db";

/// What a ticket lets its caller fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Grant {
    /// Rows of a dataset.
    Frame {
        /// A `GetDataframe` in JSON, with what was the newest then.
        command: String,
        /// The table that the dataset was: under the same name there may be another since.
        table: String,
    },
    /// The result of a query.
    Query(QueryGrant),
    /// How many rows a statement changed, when it was run.
    Affected(i64),
    /// A prepared statement.
    Prepared(PreparedGrant),
    /// The options of a session.
    Session(SessionOptions),
}

/// A query and all that decides its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct QueryGrant {
    /// Its text.
    pub sql: String,
    /// The values of its parameters: an Arrow IPC stream in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// The options of its session.
    #[serde(default)]
    pub options: SessionOptions,
    /// The states that it reads.
    #[serde(default)]
    pub moments: Moments,
    /// The part of its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// A statement that was prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PreparedGrant {
    /// Its text.
    pub sql: String,
    /// The values that were bound to its parameters: an Arrow IPC stream in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// The options of the session that it was prepared in.
    #[serde(default)]
    pub options: SessionOptions,
}

/// What a ticket was signed for, and by what name it can be cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    /// Unique to the ticket.
    pub id: String,
    /// What it grants.
    pub grant: Grant,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// The form of the grant.
    v: u32,
    iss: String,
    jti: String,
    exp: i64,
    sub: String,
    tenant: String,
    grant: Grant,
}

/// The secret that signs tickets.
#[derive(Clone)]
pub struct TicketKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKey(***)")
    }
}

impl TicketKey {
    /// The key of a secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret) }
    }

    /// A ticket for `caller`.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when it cannot be signed.
    pub(super) fn sign(&self, caller: &Principal, grant: Grant) -> Result<String> {
        let claims = Claims {
            v: TICKET_FORMAT,
            iss: ISSUER.into(),
            jti: clock::new_ulid(),
            exp: clock::now().timestamp() + TICKET_SECONDS,
            sub: caller.user.clone(),
            tenant: caller.tenant.as_str().into(),
            grant,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|error| Error::internal("a ticket cannot be signed").because(error))
    }

    /// What a ticket or handle grants to `caller`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid), with one text for every reason, when it is not one of ours for
    /// this caller, or too old.
    pub(super) fn verify(&self, caller: &Principal, ticket: &str) -> Result<Signed> {
        let refused = || {
            Error::invalid(
                "the ticket or handle is not one of this server's for this caller, or has expired; call GetFlightInfo, \
                 or prepare the statement, again",
            )
        };
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.set_issuer(&[ISSUER]);
        let token = decode::<Claims>(ticket, &self.decoding, &validation).map_err(|error| refused().because(error))?;
        let claims = token.claims;
        if claims.v != TICKET_FORMAT || claims.sub != caller.user || claims.tenant != caller.tenant.as_str() {
            return Err(refused());
        }
        Ok(Signed { id: claims.jti, grant: claims.grant })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::TenantId;

    fn caller(user: &str) -> Principal {
        Principal::new(user, TenantId::default_tenant())
    }

    #[test]
    fn a_ticket_is_good_for_its_caller_and_key_alone() {
        let key = TicketKey::new(&[1; 32]);
        let grant = Grant::Affected(1);
        let ticket = key.sign(&caller("ann"), grant.clone()).unwrap();
        assert_eq!(key.verify(&caller("ann"), &ticket).unwrap().grant, grant);
        assert!(key.verify(&caller("bob"), &ticket).is_err());
        assert!(TicketKey::new(&[2; 32]).verify(&caller("ann"), &ticket).is_err());
    }

    proptest! {
        #[test]
        fn altered_tickets_are_refused(at in 0usize..200, byte in 33u8..127) {
            let key = TicketKey::new(&[1; 32]);
            let ticket = key.sign(&caller("ann"), Grant::Affected(1)).unwrap();
            let mut bytes = ticket.clone().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let altered = String::from_utf8(bytes).unwrap();
            // The last character of a base64 part has bits that mean nothing.
            if let Ok(signed) = key.verify(&caller("ann"), &altered) {
                prop_assert_eq!(signed.grant, Grant::Affected(1));
            }
        }
    }
}
