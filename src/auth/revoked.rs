//! `--revoked`: users and tokens that are let in no more, although their credentials are good.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use super::watched::read_file;
use crate::error::{Error, Result};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What the file names.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Revoked {
    /// Names of users; with an issuer's tokens their subjects (`sub`).
    #[serde(default)]
    users: HashSet<String>,
    /// Ids of tokens (`jti`), or of the log-in that they come from (`origin_jti`).
    #[serde(default)]
    tokens: HashSet<String>,
}

impl Revoked {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) in one line when it cannot be read or is not well formed.
    pub(super) fn read(path: &Path) -> Result<Self> {
        read_file(path, MAX_FILE_BYTES, |text| {
            toml::from_str(text).map_err(|error| Error::invalid(error.message().replace('\n', " ")))
        })
    }

    /// Lets pass who is not named, by a token that is not.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`](crate::error::Kind::Unauthenticated) otherwise.
    pub(super) fn check(&self, user: &str, tokens: &[String]) -> Result<()> {
        if self.users.contains(user) {
            return Err(Error::unauthenticated("this user was shut out; ask whoever runs the server"));
        }
        if tokens.iter().any(|token| self.tokens.contains(token)) {
            return Err(Error::unauthenticated("the token was revoked; log in again"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Revoked> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked.toml");
        std::fs::write(&path, text).unwrap();
        Revoked::read(&path)
    }

    #[test]
    fn users_and_tokens_are_told_apart() {
        let revoked = read("users = [\"ann\"]\ntokens = [\"1\", \"2\"]").unwrap();
        assert!(revoked.check("ann", &[]).is_err() && revoked.check("1", &[]).is_ok());
        assert!(revoked.check("bob", &["0".into(), "2".into()]).is_err());
        assert!(revoked.check("bob", &["0".into(), "ann".into()]).is_ok());
        assert_eq!(read("").unwrap(), Revoked::default());
    }

    #[test]
    fn what_cannot_be_read_is_told_in_one_line() {
        for text in ["user = [\"ann\"]", "users = \"ann\"", "users = [1]", "users = ["] {
            let error = read(text).unwrap_err();
            assert!(error.message().contains("revoked.toml") && !error.message().contains('\n'), "{text}: {error}");
        }
    }
}
