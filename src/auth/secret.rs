//! The secret of `--handle-key`, from which the keys of tickets, tokens and hashes are made.

use std::io::Write;
use std::path::Path;

use crate::clock;
use crate::config::HandleKey;
use crate::error::{Error, Result};

const SECRET_BYTES: usize = 32;

/// The secret that the servers of one storage share.
#[derive(Clone)]
pub struct SigningSecret(Vec<u8>);

impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningSecret(***)")
    }
}

impl SigningSecret {
    /// The secret that the settings name; one kept in a file is made when the file is not there.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the file can be neither read nor made.
    pub fn open(key: &HandleKey) -> Result<Self> {
        let path = match key {
            HandleKey::Given(secret) => return Ok(Self(secret.as_bytes().into())),
            HandleKey::File(path) => path,
        };
        let unusable = |error: std::io::Error| {
            Error::unavailable(format!("the key file {} cannot be used: {error}", path.display()))
        };
        match create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(unusable(error)),
            _ => {}
        }
        let secret = std::fs::read(path).map_err(unusable)?;
        if secret.len() < SECRET_BYTES {
            return Err(Error::unavailable(format!("the key file {} is cut; remove it", path.display())));
        }
        Ok(Self(secret))
    }

    /// A secret that the servers of one storage keep elsewhere.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when it is too short to be one.
    pub fn kept(secret: Vec<u8>) -> Result<Self> {
        if secret.len() < SECRET_BYTES {
            return Err(Error::corrupt("the secret among the version records is cut; give --handle-key"));
        }
        Ok(Self(secret))
    }

    /// A secret for [`SigningSecret::kept`] to find.
    pub fn made() -> Vec<u8> {
        clock::random_bytes::<SECRET_BYTES>().to_vec()
    }

    /// The secret itself.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A key for one purpose alone: what it signs is not taken for what another signed.
    pub(super) fn key_for(&self, purpose: &str) -> [u8; SECRET_BYTES] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &self.0);
        let tag = aws_lc_rs::hmac::sign(&key, purpose.as_bytes());
        let mut derived = [0; SECRET_BYTES];
        derived.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        derived
    }
}

/// Several servers may start at once on one folder: a file linked into place is whole, and the first one's stays.
fn create(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)?;
    // Named temporary files are readable by their owner alone.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&clock::random_bytes::<SECRET_BYTES>())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_secret_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = HandleKey::File(folder.path().join("keys/handle.key"));
        let made = SigningSecret::open(&file).unwrap();
        assert_eq!(SigningSecret::open(&file).unwrap().bytes(), made.bytes());
        assert_ne!(made.key_for("a"), made.key_for("b"));
    }
}
