//! TLS to a server: its certificate is checked against the authorities of the system, or those of a file. One that asks
//! for a certificate of the client gets it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::ResolvesClientCert;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use crate::error::{Error, Result};
use crate::pem::{bad_file, certificates, private_key};

/// What gRPC speaks, as a TLS handshake says it.
const PROTOCOL: &[u8] = b"h2";
/// The port of an address without one.
const DEFAULT_PORT: u16 = 443;
/// How long a server that asked for a certificate and got none may take to say that it needs one.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The files of TLS.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsOptions {
    /// Certificate authorities to trust with grpc+tls://, in PEM form [default: those of the system]
    #[arg(long, env = "PANDAS_DB_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate chain to show a server that wants one of its clients, in PEM form
    #[arg(long, env = "PANDAS_DB_TLS_CLIENT_CERT", value_name = "FILE")]
    pub tls_client_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM form
    #[arg(long, env = "PANDAS_DB_TLS_CLIENT_KEY", value_name = "FILE")]
    pub tls_client_key: Option<PathBuf>,
}

/// Has no certificate, and remembers that a server asked for one.
#[derive(Debug, Default)]
struct NoCertificate {
    was_asked: AtomicBool,
}

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A connection.
type Encrypted = TokioIo<TlsStream<TcpStream>>;

/// What connects with TLS.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for a file that does not hold what its flag says.
pub(super) fn tls_connector(
    options: &TlsOptions,
) -> Result<impl Service<Uri, Response = Encrypted, Error = io::Error, Future: Send> + Send + 'static> {
    let versions =
        ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| Error::internal("TLS has no version").because(error))?;
    let settings = versions.with_root_certificates(roots(options.tls_ca.as_deref())?);
    let without = Arc::new(NoCertificate::default());
    let mut settings = match (&options.tls_client_cert, &options.tls_client_key) {
        (None, None) => settings.with_client_cert_resolver(Arc::clone(&without) as _),
        (Some(chain), Some(key)) => {
            let unusable = |error| bad_file("tls-client-cert", chain, format_args!("not usable with its key: {error}"));
            settings
                .with_client_auth_cert(certificates("tls-client-cert", chain)?, private_key("tls-client-key", key)?)
                .map_err(unusable)?
        }
        (Some(chain), None) => return Err(bad_file("tls-client-cert", chain, "give --tls-client-key too")),
        (None, Some(key)) => return Err(bad_file("tls-client-key", key, "give --tls-client-cert too")),
    };
    settings.alpn_protocols = vec![PROTOCOL.to_vec()];
    let connector = TlsConnector::from(Arc::new(settings));
    Ok(tower::service_fn(move |address: Uri| {
        let (connector, without) = (connector.clone(), Arc::clone(&without));
        async move {
            let host = address.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_string();
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let stream = TcpStream::connect((host.as_str(), address.port_u16().unwrap_or(DEFAULT_PORT))).await?;
            stream.set_nodelay(true)?;
            let mut stream = connector.connect(name, stream).await?;
            if without.was_asked.load(Ordering::Relaxed) {
                refusal(&mut stream).await?;
            }
            Ok(TokioIo::new(stream))
        }
    }))
}

/// Waits for the first bytes of a server: with TLS 1.3 it tells only after the handshake that it needs a certificate,
/// and what is sent meanwhile fails without this reason.
async fn refusal(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    let Ok(Err(error)) = tokio::time::timeout(REFUSAL_TIMEOUT, stream.fill_buf()).await else { return Ok(()) };
    let advice = "the server asks for a client certificate, which --tls-client-cert names";
    Err(io::Error::new(error.kind(), format!("{error}; {advice}")))
}

fn roots(authorities: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = authorities else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return Ok(roots);
    };
    for certificate in certificates("tls-ca", path)? {
        roots.add(certificate).map_err(|error| bad_file("tls-ca", path, error))?;
    }
    Ok(roots)
}
