//! The server: builds the components, listens, and ends in good order.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::transport::Server;
use tracing::{info, warn};

use self::connections::Connections;
use self::tls::Tls;
use crate::audit::AuditLog;
use crate::auth::{Authenticator, SigningSecret};
use crate::call::Drain;
use crate::config::{AuditPlace, Config};
use crate::error::{Error, Result};
use crate::flight::{FlightServer, LoadSettings, Service, Statements, TicketKey};
use crate::http::{HttpLimits, HttpState, Peer, router};
use crate::metrics::Metrics;
use crate::query::{Engine, EngineSettings, SessionSettings};
use crate::table::{Catalog, Maintenance, MaintenanceSettings, ReadSettings, SplitSettings};

mod connections;
mod stores;
mod tls;

/// Calls that one connection may have open; more are refused by the protocol itself.
const MAX_STREAMS_PER_CONNECTION: u32 = 128;
/// Bytes a client may send ahead on one call, and on one connection: enough for a fast network, little enough to hold.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const FRAME_BYTES: u32 = 1 << 20;
/// One load holds an eighth of the memory limit, and one read a tenth, before they set rows aside on disk.
const LOAD_SHARE: usize = 8;
const MAX_LOAD_BYTES: usize = 256 << 20;
const ORDER_SHARE: usize = 10;
const MAX_ORDER_BYTES: usize = 192 << 20;
const MIN_SHARE_BYTES: usize = 8 << 20;
/// What clients and server agree on in a TLS handshake.
const FLIGHT_PROTOCOL: &[u8] = b"h2";
const HTTP_PROTOCOL: &[u8] = b"http/1.1";
/// A connection that does not answer for this long is gone.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the server until it is told to stop and the running calls have ended, or their time is up.
///
/// # Errors
/// When storage or an address cannot be opened.
pub async fn serve(config: Config) -> Result<()> {
    let tls = |protocol| config.tls.as_ref().map(|files| Tls::open(files, protocol)).transpose();
    let (flight_tls, http_tls) = (tls(FLIGHT_PROTOCOL)?, tls(HTTP_PROTOCOL)?);
    let listener = bind("listen", config.listen).await?;
    let http_listener = match config.http {
        Some(address) => Some(bind("http", address).await?),
        None => None,
    };
    let metrics = Metrics::default();
    let storage = stores::storage(&config, &metrics).await?;
    let (versions, secret) = stores::versions(&config, &metrics).await?;
    let datasets = Catalog::new(storage, versions, config.query_timeout);
    let presence = Arc::clone(datasets.presence());
    let (service, http_state, maintenance) = build(&config, metrics, datasets, &secret)?;
    let (drain, audit) = (service.drain.clone(), service.audit.clone());
    let (flight_address, http_address) = (address(&listener)?, http_listener.as_ref().map(address).transpose()?);

    let (stop, stop_http) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let connections = Connections::new(listener, config.max_connections, flight_tls);
    let flight = tokio::spawn(serve_flight(service, connections, config.max_message_bytes, Arc::clone(&stop)));
    let http = http_listener.map(|listener| {
        let connections = Connections::new(listener, config.max_connections, http_tls);
        tokio::spawn(serve_http(http_state, connections, Arc::clone(&stop_http)))
    });
    let background = tokio::spawn(maintenance.run());
    let telling = tokio::spawn(Arc::clone(&presence).keep_telling(flight_address.to_string()));
    // Before the ready line, since whoever reads it may stop the server at once.
    let stopped = stop_signals()?;
    warn_of_plain_text(&config);
    announce(config.tls.is_some(), flight_address, http_address)?;
    stopped.await;

    info!("stopping; running calls get {} s", config.shutdown_grace.as_secs_f64());
    drain.start();
    background.abort();
    if tokio::time::timeout(config.shutdown_grace, drain.finished()).await.is_err() {
        warn!("some calls were still running when their time was up");
    }
    // Calls have ended; this closes the connections, whose last bytes get a moment to leave.
    stop.notify_one();
    stop_http.notify_one();
    const LAST_BYTES: Duration = Duration::from_secs(1);
    let last = async { tokio::join!(flight, OptionFuture::from(http)) };
    let _ = tokio::time::timeout(LAST_BYTES, last).await;
    // After the last call and read.
    telling.abort();
    presence.leave().await;
    let _ = tokio::task::spawn_blocking(move || audit.close()).await;
    Ok(())
}

async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| Error::invalid(format!("--{flag} {address}: the address cannot be used: {error}")))
}

fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| Error::internal("a listener has no address").because(error))
}

fn build(
    config: &Config,
    metrics: Metrics,
    datasets: Catalog,
    secret: &SigningSecret,
) -> Result<(Service, HttpState, Maintenance)> {
    let drain = Drain::default();
    let datasets = Arc::new(datasets);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::fs::create_dir_all(&config.spill_folder).map_err(|error| {
        Error::unavailable(format!("--spill-dir {}: it cannot be made: {error}", config.spill_folder.display()))
    })?;
    let session = SessionSettings {
        memory_bytes: config.memory_bytes,
        spill_bytes: config.spill_bytes,
        spill_folder: config.spill_folder.clone(),
        threads,
    };
    let read = ReadSettings {
        order_bytes: share(config.memory_bytes, ORDER_SHARE, MAX_ORDER_BYTES),
        spill_folder: config.spill_folder.clone(),
    };
    let split = SplitSettings {
        chunk_rows: config.chunk_rows,
        max_partitions: config.max_partitions,
        buffer_bytes: share(config.memory_bytes, LOAD_SHARE, MAX_LOAD_BYTES),
        spill_folder: config.spill_folder.clone(),
    };
    let audit = match &config.audit_log {
        AuditPlace::Nowhere => AuditLog::default(),
        AuditPlace::Stderr => AuditLog::to_stderr()?,
        AuditPlace::File(path) => AuditLog::to_file(path)?,
    };
    let authenticator = Authenticator::open(&config.callers, secret)?;
    let warmed_up = authenticator.clone();
    tokio::spawn(async move { warmed_up.warm_up().await });
    let audit_file = match &config.audit_log {
        AuditPlace::File(path) => Some(path.clone()),
        AuditPlace::Nowhere | AuditPlace::Stderr => None,
    };
    let settings = EngineSettings { session, read, split: split.clone(), timeout: config.query_timeout, audit_file };
    let engine = Arc::new(Engine::start(Arc::clone(&datasets), settings, metrics.clone())?);
    let maintenance = MaintenanceSettings {
        split: split.clone(),
        vacuum_after: config.vacuum_after,
        interval: config.maintenance_interval,
    };
    let service = Service {
        datasets: Arc::clone(&datasets),
        engine: Arc::clone(&engine),
        authenticator: authenticator.clone(),
        tickets: TicketKey::new(secret.bytes()),
        maintenance: maintenance.clone(),
        loads: LoadSettings { split: split.clone(), max_message_bytes: config.max_message_bytes },
        audit: audit.clone(),
        metrics: metrics.clone(),
        drain: drain.clone(),
        statements: Statements::default(),
    };
    let limits = HttpLimits {
        body_bytes: config.http_body_bytes,
        time: config.query_timeout,
        spill_folder: config.spill_folder.clone(),
    };
    let http =
        HttpState { datasets: Arc::clone(&datasets), engine, authenticator, split, limits, audit, metrics, drain };
    Ok((service, http, Maintenance::new(datasets, maintenance)))
}

/// The part of the memory limit that one load or read may take for the rows it holds.
fn share(memory_bytes: usize, part: usize, most: usize) -> usize {
    (memory_bytes / part).clamp(MIN_SHARE_BYTES, most)
}

async fn serve_flight(service: Service, connections: Connections, max_message_bytes: usize, stop: Arc<Notify>) {
    let flight = FlightServer::new(service, max_message_bytes);
    let served = Server::builder()
        .max_concurrent_streams(Some(MAX_STREAMS_PER_CONNECTION))
        .initial_stream_window_size(Some(STREAM_WINDOW_BYTES))
        .initial_connection_window_size(Some(CONNECTION_WINDOW_BYTES))
        .max_frame_size(Some(FRAME_BYTES))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(flight)
        .serve_with_incoming_shutdown(connections, stop.notified())
        .await;
    if let Err(error) = served {
        warn!(%error, "Flight ended");
    }
}

async fn serve_http(state: HttpState, connections: Connections, stop: Arc<Notify>) {
    let service = router(state).into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(connections, service).with_graceful_shutdown(async move { stop.notified().await });
    if let Err(error) = served.await {
        warn!(%error, "HTTP ended");
    }
}

/// Behind a proxy that speaks TLS this is as it should be; otherwise the network can read along.
fn warn_of_plain_text(config: &Config) {
    let is_open = !config.listen.ip().is_loopback() || config.http.is_some_and(|http| !http.ip().is_loopback());
    if config.tls.is_none() && is_open {
        warn!(
            "data and credentials are in plain text on the network; give --tls-cert and --tls-key, or a proxy with TLS"
        );
    }
}

/// The one line on stdout, by which scripts know that calls are taken and where.
fn announce(has_tls: bool, flight: SocketAddr, http: Option<SocketAddr>) -> Result<()> {
    let (grpc, https) = if has_tls { ("grpc+tls", "https") } else { ("grpc", "http") };
    let http = http.map_or(String::new(), |address| format!(" http={https}://{address}"));
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "pandas-db ready flight={grpc}://{flight}{http}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::unavailable("the ready line cannot be written to stdout").because(error))
}

/// Begins to listen for SIGTERM and Ctrl-C, and gives what waits for one of them.
fn stop_signals() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let unusable = |error: std::io::Error| Error::internal("signals cannot be waited for").because(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(unusable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
