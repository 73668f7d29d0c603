//! Tokens of our own, which a log-in is answered with: self-contained, signed, good for half a day on every server that
//! shares the key.
//!
//! A key of their own and a prefix keep them apart from tickets, and from the tokens of an issuer.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::principal::{Principal, Role};
use super::secret::SigningSecret;
use crate::clock;
use crate::error::{Error, Result};
use crate::names::TenantId;

/// Seconds that a token is good for.
pub(super) const TOKEN_SECONDS: i64 = 12 * 3_600;
/// What our tokens begin with, and no other does.
const PREFIX: &str = "pandas_db_";
const FORMAT: u32 = 1;
const ISSUER: &str = "pandas-db";
const AUDIENCE: &str = "pandas-db/bearer";

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    v: u32,
    iss: String,
    aud: String,
    jti: String,
    exp: i64,
    realm: String,
    sub: String,
    tenant: String,
    groups: Vec<String>,
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
    /// The ids of the token that this one was given for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    given_for: Vec<String>,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Granted {
    /// To whom it was given.
    pub principal: Principal,
    /// Until when it is good, in seconds since 1970.
    pub expires: i64,
    /// What it was given for; `None` for what cannot change.
    pub credential: Option<String>,
    /// The ids by which it can be revoked: those of the token that it was given for, and, once it is signed, its own.
    pub tokens: Vec<String>,
}

/// Signs tokens, and knows those it signed.
pub(super) struct BearerKey {
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// The way in: a token of one is not taken by another.
    realm: String,
}

impl BearerKey {
    /// The key of one way in.
    pub(super) fn new(secret: &SigningSecret, realm: String) -> Self {
        let key = secret.key_for("pandas-db/bearer-tokens");
        Self { encoding: EncodingKey::from_secret(&key), decoding: DecodingKey::from_secret(&key), realm }
    }

    /// Whether a token claims to be one of ours.
    pub(super) fn is_ours(token: &str) -> bool {
        token.starts_with(PREFIX)
    }

    /// A token.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when it cannot be signed.
    pub(super) fn sign(&self, granted: &Granted) -> Result<String> {
        let principal = &granted.principal;
        let claims = Claims {
            v: FORMAT,
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            jti: clock::new_ulid(),
            exp: granted.expires,
            realm: self.realm.clone(),
            sub: principal.user.clone(),
            tenant: principal.tenant.as_str().into(),
            groups: principal.groups.to_vec(),
            role: principal.role,
            credential: granted.credential.clone(),
            given_for: granted.tokens.clone(),
        };
        let signed = encode(&Header::new(Algorithm::HS256), &claims, &self.encoding);
        let signed = signed.map_err(|error| Error::internal("a token cannot be signed").because(error))?;
        Ok(format!("{PREFIX}{signed}"))
    }

    /// What a token of ours says.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`](crate::error::Kind::Unauthenticated), with one text for every reason, when it is not
    /// one of ours, or too old.
    pub(super) fn verify(&self, token: &str) -> Result<Granted> {
        let refused = || Error::unauthenticated("the token is not one of this server's, or has expired; log in again");
        let token = token.strip_prefix(PREFIX).ok_or_else(refused)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.leeway = 0;
        let claims = decode::<Claims>(token, &self.decoding, &validation).map_err(|error| refused().because(error))?;
        let claims = claims.claims;
        if claims.v != FORMAT || claims.realm != self.realm {
            return Err(refused());
        }
        let principal = Principal {
            user: claims.sub,
            tenant: TenantId::parse(&claims.tenant)?,
            groups: claims.groups.into(),
            role: claims.role,
            ..Default::default()
        };
        let mut tokens = claims.given_for;
        tokens.push(claims.jti);
        Ok(Granted { principal, expires: claims.exp, credential: claims.credential, tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HandleKey;

    fn key(secret: &str, realm: &str) -> BearerKey {
        BearerKey::new(&SigningSecret::open(&HandleKey::Given(secret.repeat(32))).unwrap(), realm.into())
    }

    fn granted(expires: i64) -> Granted {
        let mut principal = Principal::new("ann", TenantId::default_tenant());
        principal.groups = ["a".to_string()].into();
        Granted { principal, expires, credential: Some("c".into()), tokens: vec!["first".into()] }
    }

    #[test]
    fn a_token_is_good_for_its_key_realm_and_time() {
        let (now, users) = (clock::now().timestamp(), key("k", "users"));
        let token = users.sign(&granted(now + 60)).unwrap();
        assert!(BearerKey::is_ours(&token));
        let mut verified = users.verify(&token).unwrap();
        assert_eq!(verified.tokens.len(), 2);
        verified.tokens.pop();
        assert_eq!(verified, granted(now + 60));
        assert!(key("l", "users").verify(&token).is_err() && key("k", "jwt x").verify(&token).is_err());
        assert!(users.verify(&users.sign(&granted(now - 1)).unwrap()).is_err());
        assert!(users.verify(token.strip_prefix(PREFIX).unwrap()).is_err());
    }

    #[test]
    fn an_altered_token_is_refused() {
        let users = key("k", "users");
        let token = users.sign(&granted(clock::now().timestamp() + 60)).unwrap();
        for at in (0..token.len() - 1).step_by(7) {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(users.verify(std::str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
        }
    }
}
