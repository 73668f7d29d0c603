//! Passwords: Argon2id hashes (RFC 9106) in PHC form.

use argon2::password_hash::SaltString;
use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};

use crate::clock;
use crate::error::{Error, Result};

/// The shortest password that is taken for a new user, in characters.
const MIN_PASSWORD_CHARS: usize = 8;
/// The longest.
const MAX_PASSWORD_BYTES: usize = 1_024;
const SALT_BYTES: usize = 16;

/// Checks a new password.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when it is too short or too long.
pub fn check_password(password: &str) -> Result<()> {
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return Err(Error::invalid(format!("the password is shorter than {MIN_PASSWORD_CHARS} characters")));
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(Error::invalid(format!("the password is longer than {MAX_PASSWORD_BYTES} bytes")));
    }
    Ok(())
}

/// The hash of a password, with a salt of its own. It takes a good part of a second.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when it cannot be made.
pub fn hash_password(password: &str) -> Result<String> {
    let unusable = |error: argon2::password_hash::Error| {
        Error::internal("a password cannot be hashed").because(std::io::Error::other(error.to_string()))
    };
    let salt = SaltString::encode_b64(&clock::random_bytes::<SALT_BYTES>()).map_err(unusable)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(unusable)?;
    Ok(hash.to_string())
}

/// Whether a text is the hash of some password.
pub(super) fn is_hash(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| hash.algorithm.as_str() == "argon2id" && hash.hash.is_some())
}

/// Whether a password is the one of a hash. It takes as long as [`hash_password`].
pub(super) fn is_password(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_its_password_alone() {
        let hash = hash_password("correct horse").unwrap();
        assert!(is_hash(&hash) && hash.starts_with("$argon2id$"));
        assert!(is_password("correct horse", &hash));
        assert!(!is_password("correct horses", &hash) && !is_password("", &hash));
        assert_ne!(hash_password("correct horse").unwrap(), hash);
        for text in ["", "secret", "$argon2id$", "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"] {
            assert!(!is_hash(text), "{text}");
        }
    }

    #[test]
    fn new_passwords_have_a_length() {
        assert!(check_password("1234567").is_err());
        assert!(check_password("ä".repeat(8).as_str()).is_ok());
        assert!(check_password(&"x".repeat(2_000)).is_err());
    }
}
