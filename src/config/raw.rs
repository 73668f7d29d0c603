//! Settings as written: flags, environment, file. Nothing is resolved here; see `mod.rs`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{Error, Result};

macro_rules! serve_args {
    ($($(#[$doc:meta])* $field:ident, $env:literal, $value:literal;)*) => {
        /// The flags of `pandas-db serve`. Each is also an environment variable and a key of the file that `--config`
        /// names;
        /// a flag goes before the environment, that before the file, and that before the default.
        #[derive(Debug, Clone, Default, clap::Args, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub struct ServeArgs {
            /// TOML file of settings, named as the flags are
            #[arg(long, env = "PANDAS_DB_CONFIG", value_name = "FILE")]
            #[serde(skip)]
            pub config: Option<PathBuf>,
            /// Allow --auth none on an address that others can reach
            #[arg(long, env = "PANDAS_DB_INSECURE", value_name = "BOOL")]
            #[arg(num_args = 0..=1, default_missing_value = "true")]
            #[serde(deserialize_with = "scalar")]
            pub insecure: Option<String>,
            /// Make buckets of s3:// storage that are not there
            #[arg(long, env = "PANDAS_DB_CREATE_BUCKETS", value_name = "BOOL")]
            #[arg(num_args = 0..=1, default_missing_value = "true")]
            #[serde(deserialize_with = "scalar")]
            pub create_buckets: Option<String>,
            $($(#[$doc])*
            // Help would show what the environment holds, secrets too.
            #[arg(long, env = $env, value_name = $value, hide_env_values = true)]
            #[serde(deserialize_with = "scalar")]
            pub $field: Option<String>,)*
        }

        impl ServeArgs {
            fn or(self, file: Self) -> Self {
                let insecure = self.insecure.or(file.insecure);
                let create_buckets = self.create_buckets.or(file.create_buckets);
                Self { config: self.config, insecure, create_buckets, $($field: self.$field.or(file.$field)),* }
            }
        }
    };
}

serve_args! {
    /// Where Arrow Flight and Flight SQL listen; port 0 picks a free one [default: 127.0.0.1:50051]
    listen, "PANDAS_DB_LISTEN", "ADDRESS";
    /// Where HTTP listens (REST, health, metrics); off disables it [default: 127.0.0.1:8080]
    http, "PANDAS_DB_HTTP", "ADDRESS";
    /// Where the data is: a folder or s3://bucket/prefix; {tenant} in it is the caller's [default: ./pandas-db-data]
    storage, "PANDAS_DB_STORAGE", "PLACE";
    /// Where version records live: embedded (in the storage), embedded:PATH or dynamodb://TABLE [default: embedded]
    versions, "PANDAS_DB_VERSIONS", "STORE";
    /// Who may call: none, jwt or users [default: none]
    auth, "PANDAS_DB_AUTH", "KIND";
    /// OIDC issuer of the tokens (with --auth jwt)
    jwt_issuer, "PANDAS_DB_JWT_ISSUER", "URL";
    /// Audience of the tokens, or several with commas between (with --auth jwt)
    jwt_audience, "PANDAS_DB_JWT_AUDIENCE", "NAME";
    /// Where the issuer's keys are (with --auth jwt), unless its discovery document is to say
    jwks_url, "PANDAS_DB_JWKS_URL", "URL";
    /// The claim that names the tenant (with --auth jwt) [default: sub]
    jwt_tenant_claim, "PANDAS_DB_JWT_TENANT_CLAIM", "CLAIM";
    /// TOML file of users (with --auth users)
    users_file, "PANDAS_DB_USERS_FILE", "FILE";
    /// TOML file of rules for who may do what on which datasets
    policy, "PANDAS_DB_POLICY", "FILE";
    /// TOML file of users and tokens that are let in no more (with --auth jwt or users)
    revoked, "PANDAS_DB_REVOKED", "FILE";
    /// After how long a call that goes on is checked again: token, user, rules [default: 60s]
    recheck_interval, "PANDAS_DB_RECHECK_INTERVAL", "DURATION";
    /// Certificate chain for TLS
    tls_cert, "PANDAS_DB_TLS_CERT", "FILE";
    /// Private key for TLS
    tls_key, "PANDAS_DB_TLS_KEY", "FILE";
    /// Certificate authority of client certificates
    tls_client_ca, "PANDAS_DB_TLS_CLIENT_CA", "FILE";
    /// Secret of at least 32 bytes that signs tickets [default: made and kept beside the version records]
    handle_key, "PANDAS_DB_HANDLE_KEY", "SECRET";
    /// How long replaced and deleted data stays readable before its files are deleted [default: 7d]
    vacuum_after, "PANDAS_DB_VACUUM_AFTER", "DURATION";
    /// Time between two passes of the background: retention, merging of small chunks, vacuum [default: 10m]
    maintenance_interval, "PANDAS_DB_MAINTENANCE_INTERVAL", "DURATION";
    /// Where audit lines go: off, stderr or a file [default: off]
    audit_log, "PANDAS_DB_AUDIT_LOG", "WHERE";
    /// Memory that all queries together may hold [default: 2GiB]
    memory_limit, "PANDAS_DB_MEMORY_LIMIT", "SIZE";
    /// The longest a query or a read may take [default: 5m]
    query_timeout, "PANDAS_DB_QUERY_TIMEOUT", "DURATION";
    /// The largest message taken, and so the largest record batch of an upload [default: 256MiB]
    max_message_size, "PANDAS_DB_MAX_MESSAGE_SIZE", "SIZE";
    /// The largest body of an HTTP request, and so the largest frame that REST takes [default: 64MiB]
    http_body_limit, "PANDAS_DB_HTTP_BODY_LIMIT", "SIZE";
    /// Connections held at the same time on each port; more wait [default: 1000]
    max_connections, "PANDAS_DB_MAX_CONNECTIONS", "NUMBER";
    /// Where loads and queries larger than their memory are set aside [default: spill in the storage]
    spill_dir, "PANDAS_DB_SPILL_DIR", "FOLDER";
    /// Disk that queries may take there [default: 20GiB]
    spill_limit, "PANDAS_DB_SPILL_LIMIT", "SIZE";
    /// How long running calls get when the server is told to stop [default: 30s]
    shutdown_grace, "PANDAS_DB_SHUTDOWN_GRACE", "DURATION";
    /// Rows of a chunk, about [default: 100000]
    chunk_rows, "PANDAS_DB_CHUNK_ROWS", "NUMBER";
    /// Partitions that one load may have [default: 4096]
    max_partitions, "PANDAS_DB_MAX_PARTITIONS", "NUMBER";
    /// Form of the logs on stderr: json, text, or auto for text on a terminal [default: auto]
    log_format, "PANDAS_DB_LOG_FORMAT", "FORM";
}

/// TOML has numbers and booleans; a setting's text says the same.
fn scalar<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a string, a number or a boolean")]
    enum Scalar {
        Text(String),
        Whole(i64),
        Fraction(f64),
        Bool(bool),
    }
    Ok(Some(match Scalar::deserialize(deserializer)? {
        Scalar::Text(text) => text,
        Scalar::Whole(number) => number.to_string(),
        Scalar::Fraction(number) => number.to_string(),
        Scalar::Bool(value) => value.to_string(),
    }))
}

impl ServeArgs {
    /// Adds what the file of `--config` says to what flags and environment leave open.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) in one line when the file cannot be read, or has a key that is no
    /// setting.
    pub fn with_file(self) -> Result<Self> {
        let Some(path) = &self.config else { return Ok(self) };
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::invalid(format!("--config {shown}: it cannot be read: {error}")))?;
        let file = parse_file(&text).map_err(|why| Error::invalid(format!("--config {shown}: {why}")))?;
        Ok(self.or(file))
    }
}

fn parse_file(text: &str) -> Result<ServeArgs, String> {
    let one_line = |error: toml::de::Error| error.message().replace('\n', " ");
    let table: toml::Table = text.parse().map_err(one_line)?;
    // Both spellings are natural in TOML.
    let table: toml::Table = table.into_iter().map(|(key, value)| (key.replace('_', "-"), value)).collect();
    let file: ServeArgs = table.try_into().map_err(one_line)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_both_spellings_and_plain_values() {
        let file = parse_file("listen = '127.0.0.1:1'\nchunk_rows = 5\nmax-connections = 7\ninsecure = true").unwrap();
        assert_eq!(file.chunk_rows.as_deref(), Some("5"));
        assert_eq!(file.max_connections.as_deref(), Some("7"));
        assert_eq!(file.insecure.as_deref(), Some("true"));
    }

    #[test]
    fn unknown_keys_are_named_in_one_line() {
        let error = parse_file("listn = 'x'").unwrap_err();
        assert!(error.contains("listn") && !error.contains('\n'), "{error}");
        assert!(parse_file("listen = [1]").is_err());
    }

    #[test]
    fn flags_go_before_the_file() {
        let flags = ServeArgs { chunk_rows: Some("1".into()), ..Default::default() };
        let file = parse_file("chunk-rows = 2\nhttp = 'off'").unwrap();
        let both = flags.or(file);
        assert_eq!((both.chunk_rows.as_deref(), both.http.as_deref()), (Some("1"), Some("off")));
    }
}
