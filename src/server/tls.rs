//! TLS: certificates as their files say now, and handshakes.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::config::TlsConfig;
use crate::error::{Error, Result};
use crate::pem::{bad_file, certificates, private_key};

/// How long a client may take to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// By which files are known to have changed: when each was.
type Stamps = [Option<SystemTime>; 3];

struct Loaded {
    stamps: Stamps,
    settings: Arc<ServerConfig>,
}

/// Shakes hands with clients. The files are read again when they changed; while they cannot be read, what was read
/// before stays.
pub(super) struct Tls {
    config: TlsConfig,
    protocol: &'static [u8],
    loaded: RwLock<Loaded>,
}

impl Tls {
    /// Reads the files. Clients and server agree on `protocol` (ALPN, RFC 7301) or on nothing.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the flag of the file that cannot be used.
    pub(super) fn open(config: &TlsConfig, protocol: &'static [u8]) -> Result<Self> {
        let stamps = paths(config).map(|path| path.and_then(|path| std::fs::metadata(path).ok()?.modified().ok()));
        let loaded = RwLock::new(Loaded { stamps, settings: Arc::new(load(config, protocol)?) });
        Ok(Self { config: config.clone(), protocol, loaded })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// When the client does not, or not in time.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.settings().await);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await?
    }

    async fn settings(&self) -> Arc<ServerConfig> {
        let mut stamps = Stamps::default();
        for (stamp, path) in stamps.iter_mut().zip(paths(&self.config)) {
            let Some(path) = path else { continue };
            *stamp = tokio::fs::metadata(path).await.ok().and_then(|metadata| metadata.modified().ok());
        }
        let known = {
            let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
            if loaded.stamps == stamps {
                return Arc::clone(&loaded.settings);
            }
            Arc::clone(&loaded.settings)
        };
        let (config, protocol) = (self.config.clone(), self.protocol);
        let read = tokio::task::spawn_blocking(move || load(&config, protocol)).await;
        let settings = match read {
            Ok(Ok(settings)) => {
                info!("the TLS certificate was read again");
                Arc::new(settings)
            }
            Ok(Err(error)) => {
                warn!(%error, "the TLS files changed and cannot be used; what was read before stays");
                known
            }
            Err(error) => {
                warn!(%error, "the TLS files cannot be read; what was read before stays");
                known
            }
        };
        let now = Loaded { stamps, settings: Arc::clone(&settings) };
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = now;
        settings
    }
}

fn paths(config: &TlsConfig) -> [Option<&Path>; 3] {
    [Some(&config.cert), Some(&config.key), config.client_ca.as_deref()]
}

fn load(config: &TlsConfig, protocol: &[u8]) -> Result<ServerConfig> {
    let chain = certificates("tls-cert", &config.cert)?;
    let key = private_key("tls-key", &config.key)?;
    let provider = Arc::new(default_provider());
    let versions = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| Error::internal("TLS has no version").because(error))?;
    let clients = match &config.client_ca {
        None => versions.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates("tls-client-ca", path)? {
                roots.add(root).map_err(|error| bad_file("tls-client-ca", path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            versions.with_client_cert_verifier(verifier.map_err(|error| bad_file("tls-client-ca", path, error))?)
        }
    };
    let settings = clients.with_single_cert(chain, key);
    let mut settings = settings
        .map_err(|error| bad_file("tls-cert", &config.cert, format_args!("not usable with its key: {error}")))?;
    settings.alpn_protocols = vec![protocol.to_vec()];
    Ok(settings)
}
