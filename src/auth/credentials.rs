//! What the headers of a call say of its caller.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::accounts::TOKEN_USER;
use crate::error::{Error, Result};

/// Longer ones are refused before they are read.
pub const MAX_CREDENTIALS_BYTES: usize = 8 << 10;

/// Base64 with padding or without: some drivers leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials as sent; nothing of them is checked. They are secrets and have no `Debug`.
pub enum Credentials {
    /// None were sent.
    Absent,
    /// A bearer token (RFC 6750).
    Bearer(String),
    /// A user and a password (RFC 7617).
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl Credentials {
    /// Reads the values of the header `authorization`.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`](crate::error::Kind::Unauthenticated) for more than one, one that is too long, and one
    /// of another scheme.
    pub fn of_header<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self> {
        let mut values = values.into_iter();
        let Some(value) = values.next() else { return Ok(Self::Absent) };
        if values.next().is_some() {
            return Err(refused("there are several authorization headers; send one"));
        }
        if value.len() > MAX_CREDENTIALS_BYTES {
            return Err(refused("the authorization header is longer than 8 KiB"));
        }
        let value = std::str::from_utf8(value).map_err(|_| refused("the authorization header is not text"))?.trim();
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim();
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" if !rest.is_empty() => Ok(Self::Bearer(rest.into())),
            "basic" => Self::of_basic(rest),
            _ => Err(refused("the authorization header is neither 'Bearer TOKEN' nor 'Basic …'")),
        }
    }

    fn of_basic(encoded: &str) -> Result<Self> {
        let malformed = || refused("the Basic credentials are not USER:PASSWORD in base64");
        let decoded = BASE64.decode(encoded).map_err(|_| malformed())?;
        let text = String::from_utf8(decoded).map_err(|_| malformed())?;
        let (user, password) = text.split_once(':').ok_or_else(malformed)?;
        Ok(Self::of_password(user.into(), password.into()))
    }

    /// A user and a password. The user `token` has a token as its password, for clients that know no other way to send
    /// one.
    pub fn of_password(user: String, password: String) -> Self {
        if user == TOKEN_USER { Self::Bearer(password) } else { Self::Password { user, password } }
    }
}

fn refused(why: &str) -> Error {
    Error::unauthenticated(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Credentials> {
        Credentials::of_header(values.iter().map(|value| value.as_bytes())).ok()
    }

    #[test]
    fn both_schemes_are_read() {
        assert!(matches!(read(&[]), Some(Credentials::Absent)));
        assert!(matches!(read(&["bearer  abc "]), Some(Credentials::Bearer(token)) if token == "abc"));
        let basic = format!("BASIC {}", BASE64.encode("ann:pass:words"));
        let Some(Credentials::Password { user, password }) = read(&[&basic]) else { panic!() };
        assert_eq!((user.as_str(), password.as_str()), ("ann", "pass:words"));
        let unpadded = basic.trim_end_matches('=');
        assert!(unpadded != basic && matches!(read(&[unpadded]), Some(Credentials::Password { .. })));
        let token = format!("Basic {}", BASE64.encode("token:abc"));
        assert!(matches!(read(&[&token]), Some(Credentials::Bearer(token)) if token == "abc"));
    }

    #[test]
    fn what_is_no_credentials_is_refused() {
        let long = format!("Bearer {}", "x".repeat(MAX_CREDENTIALS_BYTES));
        let no_colon = format!("Basic {}", BASE64.encode("ann"));
        for values in [
            &["Bearer a", "Bearer b"][..],
            &["Bearer"],
            &["Bearer "],
            &["Basic"],
            &["Basic %%%"],
            &["Digest x"],
            &[""],
            &[&long],
            &[&no_colon],
        ] {
            assert!(read(values).is_none(), "{values:?}");
        }
        assert!(Credentials::of_header([&b"Bearer \xff"[..]]).is_err());
    }
}
