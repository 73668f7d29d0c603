//! The one place that decides who a caller is.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::accounts::Account;
use super::bearer::{BearerKey, Granted, TOKEN_SECONDS};
use super::credentials::Credentials;
use super::jwt::{LEEWAY_SECONDS, Verified, Verifier};
use super::policy::Policy;
use super::principal::Principal;
use super::revoked::Revoked;
use super::secret::SigningSecret;
use super::users::Users;
use super::watched::Watched;
use crate::audit::Trail;
use crate::clock;
use crate::config::{AuthConfig, CallerConfig};
use crate::error::{Error, Result};
use crate::names::TenantId;

/// The token that a log-in without authentication is answered with: clients that log in want one to go on with.
const LOCAL_TOKEN: &str = "local";

/// Who says to call, and from where.
pub struct Caller {
    /// What is said; nothing of it is checked.
    pub credentials: Credentials,
    /// The other end of the connection, which may be a proxy.
    pub address: Option<IpAddr>,
}

/// A caller that was identified.
pub struct Identity {
    /// Who.
    pub principal: Principal,
    /// Until when the credentials are good, in seconds since 1970.
    expires: i64,
    credential: Option<String>,
    /// The ids of the token, and of the one that it was given for.
    tokens: Vec<String>,
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
    revoked: Option<Watched<Revoked>>,
    recheck_interval: Duration,
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
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a users file, rules or revocations that cannot be read.
    pub fn open(config: &CallerConfig, secret: &SigningSecret) -> Result<Self> {
        let mode = match &config.auth {
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
        let policy = config.policy.as_ref().map(|file| Watched::open(file, Policy::read)).transpose();
        let policy = policy.map_err(|error| Error::invalid(format!("--policy {}", error.message())))?;
        let revoked = config.revoked.as_ref().map(|file| Watched::open(file, Revoked::read)).transpose();
        let revoked = revoked.map_err(|error| Error::invalid(format!("--revoked {}", error.message())))?;
        Ok(Self(Arc::new(Parts { mode, policy, revoked, recheck_interval: config.recheck_interval })))
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

    /// After how long a call that lasts is checked again.
    pub(super) fn recheck_interval(&self) -> Duration {
        self.0.recheck_interval
    }

    /// Who calls. What the caller does then is noted in `trail`.
    ///
    /// A token of our own says so by how it begins; what begins otherwise is the issuer's, or nobody's.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`](crate::error::Kind::Unauthenticated) for credentials that are missing or not good,
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) for a user who failed too often, and
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) while the issuer's keys are not known.
    pub async fn identify(&self, caller: Caller, trail: &Trail) -> Result<Identity> {
        let mut identity = self.of(caller).await?;
        trail.caller(&identity.principal.user, identity.principal.tenant.as_str());
        self.check_not_revoked(&identity).await?;
        identity.principal.trail = trail.clone();
        if let Some(policy) = &self.0.policy {
            identity.principal.rights = policy.now().await.rights_of(&identity.principal);
        }
        Ok(identity)
    }

    /// Lets pass a caller for whom all that [`Authenticator::identify`] found still holds.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`](crate::error::Kind::Unauthenticated) when the credentials have expired or were
    /// revoked, and [`Kind::Forbidden`](crate::error::Kind::Forbidden) when the rules give the caller other rights.
    pub async fn check_again(&self, identity: &Identity) -> Result<()> {
        if identity.expires.saturating_add_unsigned(LEEWAY_SECONDS) < clock::now().timestamp() {
            return Err(Error::unauthenticated("the token expired during the call; get a new one and call again"));
        }
        self.check_not_revoked(identity).await?;
        if let Mode::Users { users, .. } = &self.0.mode {
            check_account(users, identity).await?;
        }
        let Some(policy) = &self.0.policy else { return Ok(()) };
        if policy.now().await.rights_of(&identity.principal) != identity.principal.rights {
            return Err(Error::forbidden("the rules for this caller changed during the call; call again"));
        }
        Ok(())
    }

    async fn check_not_revoked(&self, identity: &Identity) -> Result<()> {
        let Some(revoked) = &self.0.revoked else { return Ok(()) };
        revoked.now().await.check(&identity.principal.user, &identity.tokens)
    }

    async fn of(&self, Caller { credentials, address }: Caller) -> Result<Identity> {
        match &self.0.mode {
            // Whatever a client sends that was made for another server: everybody is the same user.
            Mode::None => Ok(Identity::lasting(Principal::local(), None)),
            Mode::Users { users, tokens } => match credentials {
                Credentials::Absent => Err(missing("log in with user and password (Basic), or send a bearer token")),
                Credentials::Password { user, password } => {
                    let account = users.log_in(&user, password, address).await?;
                    Ok(Identity::lasting(of_account(&account)?, Some(users.credential_id(&account))))
                }
                Credentials::Bearer(token) => of_token(users, tokens.verify(&token)?).await,
            },
            Mode::Jwt { verifier, tokens } => match credentials {
                Credentials::Absent => Err(missing("send a token of the issuer as 'Bearer TOKEN'")),
                Credentials::Password { .. } => Err(Error::unauthenticated(
                    "this server knows no passwords; log in as the user 'token' with a token of the issuer as password",
                )),
                Credentials::Bearer(token) if BearerKey::is_ours(&token) => {
                    let Granted { principal, expires, credential, tokens } = tokens.verify(&token)?;
                    Ok(Identity { principal, expires, credential, tokens })
                }
                Credentials::Bearer(token) => {
                    let Verified { principal, expires, tokens } = verifier.verify(&token).await?;
                    Ok(Identity { principal, expires, credential: None, tokens })
                }
            },
        }
    }

    /// A token for a caller that logged in. It is good no longer than what it logged in with.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when it cannot be signed.
    pub fn token(&self, identity: Identity) -> Result<String> {
        let Identity { principal, expires, credential, tokens: given_for } = identity;
        match &self.0.mode {
            Mode::None => Ok(LOCAL_TOKEN.into()),
            Mode::Users { tokens, .. } | Mode::Jwt { tokens, .. } => {
                tokens.sign(&Granted { principal, expires: expires_at_most(expires), credential, tokens: given_for })
            }
        }
    }
}

impl Identity {
    /// By what does not expire.
    fn lasting(principal: Principal, credential: Option<String>) -> Self {
        Self { principal, expires: i64::MAX, credential, tokens: Vec::new() }
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
    let Granted { principal, expires, credential, tokens } = granted;
    let mut identity = Identity { principal, expires, credential, tokens };
    let account = known_account(users, &identity).await?;
    identity.principal = of_account(&account)?;
    Ok(identity)
}

/// The account of a caller, when it is still the same.
async fn known_account(users: &Users, identity: &Identity) -> Result<Account> {
    let ended = || Error::unauthenticated("the user of the token, or the password, is another since; log in again");
    let account = users.find(&identity.principal.user).await.ok_or_else(ended)?;
    let has_same_password = identity.credential.as_deref() == Some(users.credential_id(&account).as_str());
    let is_same = has_same_password && account.tenant == identity.principal.tenant.as_str();
    if is_same { Ok(account) } else { Err(ended()) }
}

async fn check_account(users: &Users, identity: &Identity) -> Result<()> {
    let now = of_account(&known_account(users, identity).await?)?;
    if now.role != identity.principal.role || now.groups != identity.principal.groups {
        return Err(Error::forbidden("the role or the groups of this user changed during the call; call again"));
    }
    Ok(())
}
