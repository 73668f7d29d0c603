//! `--auth jwt`: the tokens of an issuer (RFC 7519, OpenID Connect), those of an Amazon Cognito user pool among them.

use std::collections::HashMap;

use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;

use super::credentials::MAX_CREDENTIALS_BYTES;
use super::issuer::{Issuer, KeyPlace};
use super::jwks::VerificationKey;
use super::principal::Principal;
use crate::config::JwtConfig;
use crate::error::{Error, Result};
use crate::names::TenantId;

/// Seconds that two clocks may differ.
pub(super) const LEEWAY_SECONDS: u64 = 30;
/// The longest name of a user, in bytes.
const MAX_USER_BYTES: usize = 255;
/// Groups of one token.
const MAX_GROUPS: usize = 256;
/// What the header may say that a token is; others are for other purposes.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// Checks tokens.
pub(super) struct Verifier {
    issuer: Issuer,
    config: JwtConfig,
}

/// What a token says that is good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verified {
    /// Whose it is.
    pub principal: Principal,
    /// Until when it is good, in seconds since 1970.
    pub expires: i64,
    /// The ids by which it can be revoked.
    pub tokens: Vec<String>,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Option<OneOrMany>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    token_use: Option<String>,
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn names(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names,
        }
    }
}

impl Verifier {
    /// The verifier of an issuer's tokens; its keys are fetched in the background.
    ///
    /// # Errors
    /// Those of [`Issuer::new`].
    pub(super) fn new(config: &JwtConfig) -> Result<Self> {
        let place = match &config.jwks_url {
            Some(address) => KeyPlace::At(address.clone()),
            None => KeyPlace::Discovered { document: config.discovery_url.clone(), issuer: config.issuer.clone() },
        };
        Ok(Self { issuer: Issuer::new(place)?, config: config.clone() })
    }

    /// Fetches the issuer's keys.
    pub(super) async fn warm_up(&self) {
        self.issuer.warm_up().await;
    }

    /// Whose a token is.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`](crate::error::Kind::Unauthenticated) for a token that is not good,
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) while the issuer's keys are not known.
    pub(super) async fn verify(&self, token: &str) -> Result<Verified> {
        let id = key_id(token)?;
        let key = self.issuer.key(&id).await?;
        let key = key.ok_or_else(|| refused("it is signed with a key that the issuer does not have"))?;
        check(token, &key, &self.config)
    }
}

fn refused(why: &str) -> Error {
    Error::unauthenticated(format!("the token is refused: {why}"))
}

/// The id of the key that a token says it is signed with. It is looked up among the issuer's, and nowhere else.
fn key_id(token: &str) -> Result<String> {
    if token.len() > MAX_CREDENTIALS_BYTES {
        return Err(refused("it is longer than 8 KiB"));
    }
    let header = decode_header(token).map_err(|error| refused("it is no signed JSON Web Token").because(error))?;
    if header.crit.is_some() {
        return Err(refused("its header has critical extensions"));
    }
    if header.typ.is_some_and(|typ| !TYPES.contains(&typ.to_ascii_lowercase().as_str())) {
        return Err(refused("its header says that it is for another purpose"));
    }
    header.kid.ok_or_else(|| refused("its header names no key (kid)"))
}

/// Checks a token with the key that it should be signed with.
fn check(token: &str, key: &VerificationKey, config: &JwtConfig) -> Result<Verified> {
    let mut validation = Validation::new(key.algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    validation.set_issuer(&[&config.issuer]);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    // Done below: which claim it is depends on the token.
    validation.validate_aud = false;
    let decoded = decode::<Claims>(token, &key.key, &validation);
    let claims = decoded.map_err(|error| {
        use jsonwebtoken::errors::ErrorKind as Why;
        let why = match error.kind() {
            Why::ExpiredSignature => "it has expired; get a new one",
            Why::ImmatureSignature => "it is not good yet; the clocks may differ",
            Why::InvalidIssuer => "it is of another issuer",
            Why::MissingRequiredClaim(_) => "it lacks one of the claims exp, iss and sub, or has it in a wrong form",
            Why::InvalidAlgorithm | Why::InvalidSignature => "its signature is not the issuer's",
            _ => "it cannot be read",
        };
        refused(why).because(error)
    })?;
    let mut claims = claims.claims;
    // The library takes a list of issuers too.
    if claims.iss != config.issuer {
        return Err(refused("it is of another issuer"));
    }
    check_audience(&mut claims, &config.audiences)?;
    if claims.sub.is_empty() || claims.sub.len() > MAX_USER_BYTES || claims.sub.chars().any(char::is_control) {
        return Err(refused("its subject (sub) cannot be the name of a user"));
    }
    let tenant = tenant(&claims, &config.tenant_claim)?;
    let groups = groups(&mut claims)?;
    let tokens = ids(&claims);
    let principal = Principal { user: claims.sub, tenant, groups: groups.into(), ..Default::default() };
    Ok(Verified { principal, expires: claims.exp as i64, tokens })
}

/// The id of a token, and that of the log-in which it and others come from.
fn ids(claims: &Claims) -> Vec<String> {
    let ids = ["jti", "origin_jti"].into_iter().filter_map(|claim| claims.others.get(claim)?.as_str());
    ids.map(str::to_owned).collect()
}

/// An ID token is for its audience; an access token of Cognito has none, and names the client that it was given to.
fn check_audience(claims: &mut Claims, audiences: &[String]) -> Result<()> {
    let is_ours = |name: &String| audiences.contains(name);
    let client_is_ours = claims.client_id.as_ref().is_some_and(is_ours);
    let audience = claims.aud.take().map(OneOrMany::names);
    let audience_is_ours = audience.as_ref().is_some_and(|names| names.iter().any(is_ours));
    let is_good = match (claims.token_use.as_deref(), audience) {
        (Some("id"), _) | (None, Some(_)) => audience_is_ours,
        (Some("access"), _) => client_is_ours || audience_is_ours,
        (None, None) => client_is_ours,
        (Some(_), _) => return Err(refused("its token_use is neither id nor access")),
    };
    if is_good { Ok(()) } else { Err(refused("it is for another audience (aud, client_id)")) }
}

fn tenant(claims: &Claims, claim: &str) -> Result<TenantId> {
    let name = match claim {
        "sub" => Some(claims.sub.as_str()),
        "iss" => Some(claims.iss.as_str()),
        "client_id" => claims.client_id.as_deref(),
        other => claims.others.get(other).and_then(Value::as_str),
    };
    let name = name.ok_or_else(|| refused("it lacks the claim that names the tenant"))?;
    TenantId::parse(name).map_err(|error| refused("the claim that names the tenant cannot be one").because(error))
}

fn groups(claims: &mut Claims) -> Result<Vec<String>> {
    let sent = claims.others.remove("cognito:groups").or_else(|| claims.others.remove("groups"));
    let groups = match sent {
        None | Some(Value::Null) => Vec::new(),
        Some(sent) => serde_json::from_value::<OneOrMany>(sent)
            .map_err(|error| refused("its groups are no list of names").because(error))?
            .names(),
    };
    if groups.len() > MAX_GROUPS {
        return Err(refused("it has more than 256 groups"));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests;
