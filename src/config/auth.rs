//! The settings of who may call.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use super::raw::ServeArgs;
use super::{bad, duration, or, parse};
use crate::error::{Error, Result};

/// Who may call, and what each may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerConfig {
    /// How callers are known.
    pub auth: AuthConfig,
    /// The file of the rules for who may do what; `None` for none.
    pub policy: Option<PathBuf>,
    /// The file of who is let in no more; `None` for none.
    pub revoked: Option<PathBuf>,
    /// After how long a call that goes on is checked again; at every message when it is zero.
    pub recheck_interval: Duration,
}

/// How callers are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthConfig {
    /// Not at all.
    None,
    /// By the users file.
    Users {
        /// The file.
        file: PathBuf,
    },
    /// By tokens of an issuer.
    Jwt(Box<JwtConfig>),
}

/// Which tokens are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// The issuer, as its tokens name it.
    pub issuer: String,
    /// The audiences, of which a token names one.
    pub audiences: Vec<String>,
    /// Where the issuer says where its keys are.
    pub discovery_url: Url,
    /// Where its keys are, when that is given.
    pub jwks_url: Option<Url>,
    /// The claim that names the tenant.
    pub tenant_claim: String,
}

impl CallerConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the flag, its value and what is wrong with it.
    pub(super) fn from_args(args: &ServeArgs, open_to: &[SocketAddr]) -> Result<Self> {
        let auth = AuthConfig::from_args(args, open_to)?;
        match (&args.revoked, &auth) {
            (Some(file), AuthConfig::None) => {
                Err(bad("revoked", file, "is for --auth jwt or users, and this is none, which lets everybody in"))
            }
            (revoked, _) => Ok(Self {
                policy: args.policy.as_ref().map(PathBuf::from),
                revoked: revoked.as_ref().map(PathBuf::from),
                recheck_interval: duration("recheck-interval", &or(&args.recheck_interval, "60s"))?,
                auth,
            }),
        }
    }
}

impl AuthConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the flag, its value and what is wrong with it.
    fn from_args(args: &ServeArgs, open_to: &[SocketAddr]) -> Result<Self> {
        let of_jwt = [
            ("jwt-issuer", &args.jwt_issuer),
            ("jwt-audience", &args.jwt_audience),
            ("jwks-url", &args.jwks_url),
            ("jwt-tenant-claim", &args.jwt_tenant_claim),
        ];
        let of_users = [("users-file", &args.users_file)];
        let kind = or(&args.auth, "none");
        // Ignoring one of these would leave a server open that its operator believes closed.
        let unused = |flags: &[(&str, &Option<String>)], of: &str| match flags.iter().find(|(_, value)| value.is_some())
        {
            Some((flag, Some(value))) => Err(bad(flag, value, format_args!("is for --auth {of}, and this is {kind}"))),
            _ => Ok(()),
        };
        match kind.as_str() {
            "none" => {
                unused(&of_jwt, "jwt")?;
                unused(&of_users, "users")?;
                check_open(args, open_to)?;
                Ok(Self::None)
            }
            "users" => {
                unused(&of_jwt, "jwt")?;
                let file = args.users_file.as_ref().map(PathBuf::from);
                let file = file.ok_or_else(|| bad("auth", "users", "give --users-file FILE too"))?;
                Ok(Self::Users { file })
            }
            "jwt" => {
                unused(&of_users, "users")?;
                JwtConfig::from_args(args).map(|jwt| Self::Jwt(Box::new(jwt)))
            }
            other => Err(bad("auth", other, "must be none, jwt or users")),
        }
    }
}

impl JwtConfig {
    fn from_args(args: &ServeArgs) -> Result<Self> {
        let insecure = is_insecure(args)?;
        let needed = |flag: &str, value: &Option<String>| {
            let value = value.clone().filter(|value| !value.trim().is_empty());
            value.ok_or_else(|| bad("auth", "jwt", format_args!("give --{flag} too")))
        };
        let issuer = needed("jwt-issuer", &args.jwt_issuer)?;
        let discovery = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        key_address("jwt-issuer", &issuer, insecure)?;
        let discovery_url = key_address("jwt-issuer", &discovery, insecure)?;
        let jwks_url = args.jwks_url.as_ref().map(|url| key_address("jwks-url", url, insecure)).transpose()?;
        let audience = needed("jwt-audience", &args.jwt_audience)?;
        let audiences = audience.split(',').map(|name| name.trim().to_string()).filter(|name| !name.is_empty());
        let audiences: Vec<String> = audiences.collect();
        if audiences.is_empty() {
            return Err(bad("jwt-audience", audience, "must name an audience, or several with commas between"));
        }
        let tenant_claim = or(&args.jwt_tenant_claim, "sub");
        if tenant_claim.is_empty() {
            return Err(bad("jwt-tenant-claim", "''", "must name a claim"));
        }
        Ok(Self { issuer, audiences, discovery_url, jwks_url, tenant_claim })
    }
}

/// An address of keys. Over a network without TLS they could be anybody's.
fn key_address(flag: &str, value: &str, insecure: bool) -> Result<Url> {
    let url: Url = value.parse().map_err(|_| bad(flag, value, "not a URL such as https://issuer.example"))?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback || insecure => Ok(url),
        "http" => Err(bad(flag, value, "keys that come without TLS could be anybody's; use https, or add --insecure")),
        _ => Err(bad(flag, value, "must begin with https://")),
    }
}

fn is_insecure(args: &ServeArgs) -> Result<bool, Error> {
    parse("insecure", &or(&args.insecure, "false"), "true or false")
}

/// Without authentication the addresses must be this machine's alone.
fn check_open(args: &ServeArgs, open_to: &[SocketAddr]) -> Result<()> {
    let insecure = is_insecure(args)?;
    match open_to.iter().zip(["listen", "http"]).find(|(address, _)| !address.ip().is_loopback()) {
        Some((address, flag)) if !insecure => Err(bad(
            flag,
            address,
            "--auth none would let anybody on the network in; use 127.0.0.1, or --auth users or jwt, or add --insecure",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(change: impl FnOnce(&mut ServeArgs)) -> Result<AuthConfig> {
        let mut args = ServeArgs {
            auth: Some("jwt".into()),
            jwt_issuer: Some("https://issuer.example/pool/".into()),
            jwt_audience: Some("app, other".into()),
            ..Default::default()
        };
        change(&mut args);
        AuthConfig::from_args(&args, &[])
    }

    #[test]
    fn an_issuer_tells_where_its_keys_are() {
        let Ok(AuthConfig::Jwt(config)) = jwt(|_| {}) else { panic!() };
        assert_eq!(config.issuer, "https://issuer.example/pool/");
        assert_eq!(config.discovery_url.path(), "/pool/.well-known/openid-configuration");
        assert_eq!(config.audiences, ["app", "other"]);
        assert_eq!(config.tenant_claim, "sub");
    }

    #[test]
    fn unusable_values_name_the_flag() {
        type Change = fn(&mut ServeArgs);
        let changes: [(&str, Change); 8] = [
            ("--auth jwt: give --jwt-issuer", |a| a.jwt_issuer = None),
            ("--auth jwt: give --jwt-audience", |a| a.jwt_audience = Some(" ".into())),
            ("--jwt-audience", |a| a.jwt_audience = Some(",".into())),
            ("--jwt-issuer", |a| a.jwt_issuer = Some("issuer".into())),
            ("--jwt-issuer", |a| a.jwt_issuer = Some("http://issuer.example".into())),
            ("--jwks-url", |a| a.jwks_url = Some("file:///keys".into())),
            ("--users-file", |a| a.users_file = Some("u".into())),
            ("--jwt-tenant-claim", |a| a.jwt_tenant_claim = Some(String::new())),
        ];
        for (flag, change) in changes {
            let error = jwt(change).unwrap_err();
            assert!(error.message().starts_with(flag), "{flag}: {error}");
        }
        assert!(jwt(|a| a.jwt_issuer = Some("http://127.0.0.1:9/x".into())).is_ok());
        assert!(jwt(|a| a.jwks_url = Some("http://localhost:9/x".into())).is_ok());
    }
}
