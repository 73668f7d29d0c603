//! The settings of TLS.

use std::path::PathBuf;

use super::bad;
use super::raw::ServeArgs;
use crate::error::Result;

/// The files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of client certificates, when those are wanted.
    pub client_ca: Option<PathBuf>,
}

impl TlsConfig {
    /// Checks the settings; `None` without any.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the flag that lacks another.
    pub(super) fn from_args(args: &ServeArgs) -> Result<Option<Self>> {
        match (&args.tls_cert, &args.tls_key, &args.tls_client_ca) {
            (None, None, None) => Ok(None),
            (Some(cert), Some(key), client_ca) => {
                Ok(Some(Self { cert: cert.into(), key: key.into(), client_ca: client_ca.as_ref().map(PathBuf::from) }))
            }
            (Some(cert), None, _) => Err(bad("tls-cert", cert, "give --tls-key too")),
            (None, Some(key), _) => Err(bad("tls-key", key, "give --tls-cert too")),
            (None, None, Some(client_ca)) => Err(bad("tls-client-ca", client_ca, "give --tls-cert and --tls-key too")),
        }
    }
}
