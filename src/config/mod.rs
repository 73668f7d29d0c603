//! Settings, checked: what `raw.rs` collected, turned into the values that components take.

mod auth;
mod places;
mod raw;
mod tls;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

pub use self::auth::{AuthConfig, CallerConfig, JwtConfig};
pub use self::places::{StoragePlace, TENANT_PLACE, VersionsPlace};
pub use self::raw::ServeArgs;
pub use self::tls::TlsConfig;
use crate::error::{Error, Result};

/// Everything the server can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where Flight listens.
    pub listen: SocketAddr,
    /// Where HTTP listens; `None` for not at all.
    pub http: Option<SocketAddr>,
    /// Who may call.
    pub callers: CallerConfig,
    /// Where is written who did what.
    pub audit_log: AuditPlace,
    /// The files of TLS; `None` for none.
    pub tls: Option<TlsConfig>,
    /// Where the chunks are.
    pub storage: StoragePlace,
    /// Whether buckets that are not there are made.
    pub create_buckets: bool,
    /// Where the version records are.
    pub versions: VersionsPlace,
    /// The secret that signs tickets; `None` for one that is kept among the version records.
    pub handle_key: Option<HandleKey>,
    /// Memory that all queries together may hold.
    pub memory_bytes: usize,
    /// The longest a query or a read may take.
    pub query_timeout: Duration,
    /// The largest message taken.
    pub max_message_bytes: usize,
    /// The largest body of an HTTP request taken.
    pub http_body_bytes: u64,
    /// Connections held at the same time.
    pub max_connections: usize,
    /// Where loads and queries larger than their memory are set aside.
    pub spill_folder: PathBuf,
    /// Disk that queries may take there.
    pub spill_bytes: u64,
    /// How long ended data stays readable.
    pub vacuum_after: Duration,
    /// The time between two passes of the background over all datasets.
    pub maintenance_interval: Duration,
    /// How long running calls get when the server is told to stop.
    pub shutdown_grace: Duration,
    /// Rows of a chunk, about.
    pub chunk_rows: usize,
    /// Partitions of one load.
    pub max_partitions: usize,
    /// How logs are written.
    pub log_format: LogFormat,
}

/// Where the secret that signs tickets comes from.
#[derive(Clone)]
pub enum HandleKey {
    /// Given as a setting.
    Given(String),
    /// Kept in a file, and made when that is not there.
    File(PathBuf),
}

impl std::fmt::Debug for HandleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HandleKey::Given(_) => "Given(***)",
            HandleKey::File(_) => "File",
        })
    }
}

/// Where the audit log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditPlace {
    /// There is none.
    Nowhere,
    /// To stderr, among the log lines.
    Stderr,
    /// To the end of a file.
    File(PathBuf),
}

/// The form of the log lines on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Name of the file of the signing secret beside that of the version records.
const HANDLE_KEY_FILE: &str = "handle.key";
/// A shorter secret could be guessed.
const MIN_HANDLE_KEY_BYTES: usize = 32;

fn bad(flag: &str, value: impl Display, why: impl Display) -> Error {
    Error::invalid(format!("--{flag} {value}: {why}"))
}

fn parse<T: FromStr>(flag: &str, value: &str, wanted: &str) -> Result<T> {
    value.parse().map_err(|_| bad(flag, value, format_args!("not {wanted}")))
}

fn positive(flag: &str, value: &str) -> Result<usize> {
    match parse(flag, value, "a whole number")? {
        0 => Err(bad(flag, value, "must be more than 0")),
        number => Ok(number),
    }
}

fn size(flag: &str, value: &str) -> Result<u64> {
    match parse::<ByteSize>(flag, value, "a size such as 512MiB or 4GB")?.as_u64() {
        0 => Err(bad(flag, value, "must be more than 0")),
        bytes => Ok(bytes),
    }
}

fn duration(flag: &str, value: &str) -> Result<Duration> {
    humantime::parse_duration(value).map_err(|_| bad(flag, value, "not a duration such as 30s, 5m or 7d"))
}

fn interval(flag: &str, value: &str) -> Result<Duration> {
    match duration(flag, value)? {
        Duration::ZERO => Err(bad(flag, value, "must be more than 0")),
        interval => Ok(interval),
    }
}

fn switch(flag: &str, value: &str) -> Result<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(bad(flag, other, "must be true or false")),
    }
}

impl Config {
    /// Checks collected settings.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the flag, its value and what is wrong with it.
    pub fn from_args(args: &ServeArgs) -> Result<Self> {
        let listen = parse(
            "listen",
            &or(&args.listen, "127.0.0.1:50051"),
            "an address such as 127.0.0.1:50051 (port 0 picks a free one)",
        )?;
        let http = match or(&args.http, "127.0.0.1:8080").as_str() {
            "off" => None,
            address => Some(parse("http", address, "an address such as 127.0.0.1:8080, or off")?),
        };
        let open_to: Vec<SocketAddr> = [listen].into_iter().chain(http).collect();
        let callers = CallerConfig::from_args(args, &open_to)?;
        let storage = StoragePlace::parse(&or(&args.storage, "./pandas-db-data"))?;
        let versions = VersionsPlace::parse(&or(&args.versions, "embedded"), &storage)?;
        Ok(Self {
            listen,
            http,
            callers,
            audit_log: audit_log(&or(&args.audit_log, "off"))?,
            tls: TlsConfig::from_args(args)?,
            handle_key: handle_key(args, &versions)?,
            versions,
            create_buckets: switch("create-buckets", &or(&args.create_buckets, "false"))?,
            memory_bytes: size("memory-limit", &or(&args.memory_limit, "2GiB"))? as usize,
            query_timeout: duration("query-timeout", &or(&args.query_timeout, "5m"))?,
            max_message_bytes: size("max-message-size", &or(&args.max_message_size, "256MiB"))? as usize,
            http_body_bytes: size("http-body-limit", &or(&args.http_body_limit, "64MiB"))?,
            max_connections: positive("max-connections", &or(&args.max_connections, "1000"))?,
            spill_folder: args.spill_dir.as_ref().map_or_else(|| storage.spill_folder(), PathBuf::from),
            spill_bytes: size("spill-limit", &or(&args.spill_limit, "20GiB"))?,
            shutdown_grace: duration("shutdown-grace", &or(&args.shutdown_grace, "30s"))?,
            chunk_rows: positive("chunk-rows", &or(&args.chunk_rows, "100000"))?,
            max_partitions: positive("max-partitions", &or(&args.max_partitions, "4096"))?,
            log_format: log_format(&or(&args.log_format, "auto"))?,
            vacuum_after: duration("vacuum-after", &or(&args.vacuum_after, "7d"))?,
            maintenance_interval: interval("maintenance-interval", &or(&args.maintenance_interval, "10m"))?,
            storage,
        })
    }
}

fn or(value: &Option<String>, default: &str) -> String {
    value.clone().unwrap_or_else(|| default.into())
}

fn audit_log(value: &str) -> Result<AuditPlace> {
    match value {
        "" => Err(bad("audit-log", "''", "must be off, stderr or a file")),
        "off" => Ok(AuditPlace::Nowhere),
        "stderr" => Ok(AuditPlace::Stderr),
        file => Ok(AuditPlace::File(file.into())),
    }
}

fn handle_key(args: &ServeArgs, versions: &VersionsPlace) -> Result<Option<HandleKey>> {
    match (&args.handle_key, versions) {
        (None, VersionsPlace::Embedded(file)) => Ok(Some(HandleKey::File(file.with_file_name(HANDLE_KEY_FILE)))),
        (None, VersionsPlace::DynamoDb { .. }) => Ok(None),
        // The message leaves the value out: it is a secret.
        (Some(key), _) if key.len() < MIN_HANDLE_KEY_BYTES => {
            Err(bad("handle-key", "***", format_args!("must be at least {MIN_HANDLE_KEY_BYTES} bytes")))
        }
        (Some(key), _) => Ok(Some(HandleKey::Given(key.clone()))),
    }
}

fn log_format(value: &str) -> Result<LogFormat> {
    use std::io::IsTerminal;
    match value {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        "auto" if std::io::stderr().is_terminal() => Ok(LogFormat::Text),
        "auto" => Ok(LogFormat::Json),
        other => Err(bad("log-format", other, "must be json, text or auto")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut ServeArgs)) -> Result<Config> {
        let mut args = ServeArgs::default();
        change(&mut args);
        Config::from_args(&args)
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let config = config(|_| {}).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:50051");
        assert_eq!(config.http.unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!(config.versions, VersionsPlace::Embedded("./pandas-db-data/versions.db".into()));
        assert_eq!(config.chunk_rows, 100_000);
    }

    #[test]
    fn an_open_server_without_authentication_is_refused() {
        let error = config(|args| args.listen = Some("0.0.0.0:1".into())).unwrap_err();
        assert!(error.message().contains("--insecure"), "{error}");
        let open = config(|args| {
            args.listen = Some("0.0.0.0:1".into());
            args.insecure = Some("true".into());
        });
        assert!(open.is_ok());
    }

    #[test]
    fn unusable_values_name_the_flag() {
        type Change = fn(&mut ServeArgs);
        let changes: [(&str, Change); 14] = [
            ("--listen", |a| a.listen = Some("nowhere".into())),
            ("--memory-limit", |a| a.memory_limit = Some("much".into())),
            ("--http-body-limit", |a| a.http_body_limit = Some("0".into())),
            ("--query-timeout", |a| a.query_timeout = Some("soon".into())),
            ("--chunk-rows", |a| a.chunk_rows = Some("0".into())),
            ("--versions", |a| a.versions = Some("etcd".into())),
            ("--tls-cert", |a| a.tls_cert = Some("x.pem".into())),
            ("--auth", |a| a.auth = Some("basic".into())),
            ("--auth", |a| a.auth = Some("users".into())),
            ("--users-file", |a| a.users_file = Some("u.toml".into())),
            ("--revoked", |a| a.revoked = Some("r.toml".into())),
            ("--recheck-interval", |a| a.recheck_interval = Some("often".into())),
            ("--http", |a| a.http = Some("0.0.0.0:1".into())),
            ("--handle-key", |a| a.handle_key = Some("short".into())),
        ];
        for (flag, change) in changes {
            let error = config(change).unwrap_err();
            assert!(error.message().starts_with(flag), "{flag}: {error}");
            assert!(!error.message().contains('\n'));
        }
    }
}
