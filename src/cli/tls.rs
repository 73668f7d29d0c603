//! TLS to a server: its certificate is checked against the authorities of the system, or those of a file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use crate::error::{Error, Result};

/// What gRPC speaks, as a TLS handshake says it.
const PROTOCOL: &[u8] = b"h2";
/// The port of an address without one.
const DEFAULT_PORT: u16 = 443;

/// A connection.
type Encrypted = TokioIo<TlsStream<TcpStream>>;

/// What connects with TLS.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for a file that holds no certificates.
pub(super) fn tls_connector(
    authorities: Option<&Path>,
) -> Result<impl Service<Uri, Response = Encrypted, Error = io::Error, Future: Send> + Send + 'static> {
    let versions =
        ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| Error::internal("TLS has no version").because(error))?;
    let mut settings = versions.with_root_certificates(roots(authorities)?).with_no_client_auth();
    settings.alpn_protocols = vec![PROTOCOL.to_vec()];
    let connector = TlsConnector::from(Arc::new(settings));
    Ok(tower::service_fn(move |address: Uri| {
        let connector = connector.clone();
        async move {
            let host = address.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_string();
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            let stream = TcpStream::connect((host.as_str(), address.port_u16().unwrap_or(DEFAULT_PORT))).await?;
            stream.set_nodelay(true)?;
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    }))
}

fn roots(authorities: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = authorities else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return Ok(roots);
    };
    let bad = |why: String| Error::invalid(format!("--tls-ca {}: {why}", path.display()));
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    for certificate in read.map_err(|error| bad(format!("no certificates in PEM form: {error}")))? {
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() { Err(bad("it holds no certificate".into())) } else { Ok(roots) }
}
