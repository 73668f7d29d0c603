//! The one place that decides who a caller is.

use std::path::Path;
use std::sync::Arc;

use super::accounts::Account;
use super::bearer::{BearerKey, Granted, TOKEN_SECONDS};
use super::credentials::Credentials;
use super::jwt::{Verified, Verifier};
use super::policy::Policy;
use super::principal::Principal;
use super::secret::SigningSecret;
use super::users::Users;
use super::watched::Watched;
use crate::audit::Trail;
use crate::clock;
use crate::config::AuthConfig;
use crate::error::{Error, Result};
use crate::names::TenantId;

/// The token that a log-in without authentication is answered with: clients that log in want one to go on with.
const LOCAL_TOKEN: &str = "local";

/// A caller that was identified.
pub struct Identity {
    /// Who.
    pub principal: Principal,
    /// Until when a token of this log-in may be good, in seconds since 1970.
    expires: i64,
    credential: Option<String>,
}

enum Mode {
    None,
    Users { users: Box<Users>, tokens: BearerKey },
    Jwt { verifier: Box<Verifier>, tokens: BearerKey },
}

/// Knows who callers are. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Parts>);

struct Parts {
    mode: Mode,
    policy: Option<Watched<Policy>>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0.mode {
            Mode::None => "Authenticator(none)",
            Mode::Users { .. } => "Authenticator(users)",
            Mode::Jwt { .. } => "Authenticator(jwt)",
        })
    }
}

impl Authenticator {
    /// What the settings want.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a users file or rules that cannot be read.
    pub fn open(config: &AuthConfig, policy: Option<&Path>, secret: &SigningSecret) -> Result<Self> {
        let mode = match config {
            AuthConfig::None => Mode::None,
            AuthConfig::Users { file } => {
                let users = Users::open(file, secret)
                    .map_err(|error| Error::invalid(format!("--users-file {}", error.message())))?;
                Mode::Users { users: Box::new(users), tokens: BearerKey::new(secret, "users".into()) }
            }
            AuthConfig::Jwt(jwt) => {
                // A token given for other settings is not good for these.
                let realm = format!("jwt {} {} {}", jwt.issuer, jwt.audiences.join(","), jwt.tenant_claim);
                Mode::Jwt { verifier: Box::new(Verifier::new(jwt)?), tokens: BearerKey::new(secret, realm) }
            }
        };
        let policy = policy.map(|file| Watched::open(file, Policy::read)).transpose();
        let policy = policy.map_err(|error| Error::invalid(format!("--policy {}", error.message())))?;
        Ok(Self(Arc::new(Parts { mode, policy })))
    }

    /// Does what the first caller should not wait for.
    pub async fn warm_up(&self) {
        if let Mode::Jwt { verifier, .. } = &self.0.mode {
            verifier.warm_up().await;
        }
    }

    /// Whether credentials mean nothing.
    pub fn is_open(&self) -> bool {
        matches!(self.0.mode, Mode::None)
    }

    /// Whose the credentials are. What the caller does then is noted in `trail`.
    ///
    /// A token of our own says so by how it begins; what begins otherwise is the issuer's, or nobody's.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`](crate::error::Kind::Unauthenticated) for credentials that are missing or not good,
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) for a user who failed too often, and
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) while the issuer's keys are not known.
    pub async fn identify(&self, credentials: Credentials, trail: &Trail) -> Result<Identity> {
        let mut identity = self.of(credentials).await?;
        trail.caller(&identity.principal.user, identity.principal.tenant.as_str());
        identity.principal.trail = trail.clone();
        if let Some(policy) = &self.0.policy {
            identity.principal.rights = policy.now().await.rights_of(&identity.principal);
        }
        Ok(identity)
    }

    async fn of(&self, credentials: Credentials) -> Result<Identity> {
        match &self.0.mode {
            // Whatever a client sends that was made for another server: everybody is the same user.
            Mode::None => Ok(Identity { principal: Principal::local(), expires: i64::MAX, credential: None }),
            Mode::Users { users, tokens } => match credentials {
                Credentials::Absent => Err(missing("log in with user and password (Basic), or send a bearer token")),
                Credentials::Password { user, password } => {
                    let account = users.log_in(&user, password).await?;
                    let credential = Some(users.credential_id(&account));
                    Ok(Identity { principal: of_account(&account)?, expires: expires_at_most(i64::MAX), credential })
                }
                Credentials::Bearer(token) => of_token(users, tokens.verify(&token)?).await,
            },
            Mode::Jwt { verifier, tokens } => match credentials {
                Credentials::Absent => Err(missing("send a token of the issuer as 'Bearer TOKEN'")),
                Credentials::Password { .. } => Err(Error::unauthenticated(
                    "this server knows no passwords; log in as the user 'token' with a token of the issuer as password",
                )),
                Credentials::Bearer(token) if BearerKey::is_ours(&token) => {
                    let Granted { principal, expires, credential } = tokens.verify(&token)?;
                    Ok(Identity { principal, expires, credential })
                }
                Credentials::Bearer(token) => {
                    let Verified { principal, expires } = verifier.verify(&token).await?;
                    Ok(Identity { principal, expires, credential: None })
                }
            },
        }
    }

    /// A token for a caller that logged in. It is good no longer than what it logged in with.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when it cannot be signed.
    pub fn token(&self, identity: Identity) -> Result<String> {
        let Identity { principal, expires, credential } = identity;
        match &self.0.mode {
            Mode::None => Ok(LOCAL_TOKEN.into()),
            Mode::Users { tokens, .. } | Mode::Jwt { tokens, .. } => {
                tokens.sign(&Granted { principal, expires: expires_at_most(expires), credential })
            }
        }
    }
}

fn missing(how: &str) -> Error {
    Error::unauthenticated(format!("the call has no credentials; {how}"))
}

fn expires_at_most(expires: i64) -> i64 {
    expires.min(clock::now().timestamp() + TOKEN_SECONDS)
}

fn of_account(account: &Account) -> Result<Principal> {
    Ok(Principal {
        user: account.name.clone(),
        tenant: TenantId::parse(&account.tenant)?,
        groups: account.groups.clone().into(),
        role: account.role,
        ..Default::default()
    })
}

/// The user of a token as the file says now: who was removed, or has another password since, is let in no more.
async fn of_token(users: &Users, granted: Granted) -> Result<Identity> {
    let ended = || Error::unauthenticated("the user of the token, or the password, is another since; log in again");
    let account = users.find(&granted.principal.user).await.ok_or_else(ended)?;
    let principal = of_account(&account)?;
    let is_same = granted.credential.as_deref() == Some(users.credential_id(&account).as_str());
    if !is_same || principal.tenant != granted.principal.tenant {
        return Err(ended());
    }
    Ok(Identity { principal, expires: granted.expires, credential: granted.credential })
}
