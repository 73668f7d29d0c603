//! Certificates and keys in PEM files (RFC 7468).

use std::fmt::Display;
use std::path::Path;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};

/// What is wrong with the file of a flag.
pub fn bad_file(flag: &str, path: &Path, why: impl Display) -> Error {
    Error::invalid(format!("--{flag} {}: {why}", path.display()))
}

/// The certificates of the file of a flag, at least one.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the flag when the file cannot be read or holds none.
pub fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| bad_file(flag, path, format_args!("no certificates in PEM form: {error}")))?;
    if found.is_empty() { Err(bad_file(flag, path, "it holds no certificate")) } else { Ok(found) }
}

/// The private key in the file of a flag.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the flag when the file cannot be read or holds none.
pub fn private_key(flag: &str, path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| bad_file(flag, path, format_args!("no private key in PEM form: {error}")))
}
