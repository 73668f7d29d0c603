//! One bucket of S3.
//!
//! What `object_store` does not do for a bucket is done here: large objects go up in parts, a missing bucket is told
//! from a missing object (and made, where that is wanted), and errors lose what must not reach a log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredentialProvider};
use object_store::client::HttpClient;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, RetryConfig,
};

use super::answer;
use super::parts;
use super::requests::Connector;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2_000);
/// How long a whole request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// After this long no further try is begun: callers hear within 5 seconds that S3 is away.
const RETRY_TIMEOUT: Duration = Duration::from_millis(2_500);
const MAX_RETRIES: usize = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(800);
/// Larger objects go up in parts, so that a connection that breaks costs one part.
const MAX_SINGLE_PUT: usize = 16 << 20;

/// How S3 is reached.
#[derive(Debug, Clone)]
pub(super) struct S3Client {
    /// The region that requests are signed for.
    pub(super) region: String,
    /// Where S3 is, when it is not AWS's own.
    pub(super) endpoint: Option<String>,
    /// Who asks.
    pub(super) credentials: AwsCredentialProvider,
    /// The one pool of connections.
    pub(super) http: HttpClient,
    /// Whether a bucket that is not there is made.
    pub(super) create_buckets: bool,
}

impl S3Client {
    /// The settings of the connections.
    pub(super) fn options(endpoint: Option<&str>) -> ClientOptions {
        ClientOptions::new()
            .with_allow_http(endpoint.is_some_and(|url| url.starts_with("http://")))
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT)
    }

    /// The URL of a bucket, in path style, which all servers understand.
    pub(super) fn bucket_url(&self, bucket: &str) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
            None => format!("https://s3.{}.amazonaws.com/{bucket}", self.region),
        }
    }
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Bucket {
    name: String,
    client: S3Client,
    store: AmazonS3,
}

impl Bucket {
    /// The client of a bucket, which need not exist yet.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub(super) fn open(client: &S3Client, name: &str) -> Result<Self> {
        let backoff = BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: MAX_PAUSE, base: 2.0 };
        let retry = RetryConfig { backoff, max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_region(&client.region)
            .with_credentials(Arc::clone(&client.credentials))
            .with_retry(retry)
            .with_client_options(S3Client::options(client.endpoint.as_deref()))
            .with_http_connector(Pool(client.http.clone()));
        if let Some(endpoint) = &client.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        Ok(Self { name: name.into(), client: client.clone(), store: builder.build()? })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How it is reached.
    pub(super) fn client(&self) -> &S3Client {
        &self.client
    }

    /// The store of its objects.
    pub(super) fn store(&self) -> &AmazonS3 {
        &self.store
    }

    /// An error of the store, without what does not belong into logs. In a bucket that will be made nothing is there.
    pub(super) fn told(&self, error: Error) -> Error {
        let will_be_made = self.client.create_buckets && answer::is_no_bucket(&error);
        match answer::told(&self.name, error) {
            Error::Generic { source, .. } if will_be_made => Error::NotFound { path: self.name.clone(), source },
            told => told,
        }
    }

    /// Stores an object; a large one in parts, unless it must not replace another.
    pub(super) async fn put(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let in_parts = payload.content_length() > MAX_SINGLE_PUT && opts.mode == PutMode::Overwrite;
        let stored = match self.put_once(path, payload.clone(), opts.clone(), in_parts).await {
            Err(error) if self.client.create_buckets && answer::is_no_bucket(&error) => {
                self.create().await?;
                self.put_once(path, payload, opts, in_parts).await
            }
            other => other,
        };
        stored.map_err(|error| self.told(error))
    }

    async fn put_once(&self, path: &Path, payload: PutPayload, opts: PutOptions, in_parts: bool) -> Result<PutResult> {
        if in_parts { self.put_parts(path, payload).await } else { self.store.put_opts(path, payload, opts).await }
    }

    async fn put_parts(&self, path: &Path, payload: PutPayload) -> Result<PutResult> {
        let mut upload = self.store.put_multipart_opts(path, PutMultipartOptions::default()).await?;
        match parts::send(upload.as_mut(), Bytes::from(payload)).await {
            Ok(stored) => Ok(stored),
            Err(error) => {
                // What cannot be ended now is found later by its age.
                if let Err(left) = upload.abort().await {
                    tracing::warn!(error = %self.told(left), "an upload in parts stays until it is cleaned up");
                }
                Err(error)
            }
        }
    }
}

/// Hands out the one pool of connections.
#[derive(Debug)]
struct Pool(HttpClient);

impl object_store::client::HttpConnector for Pool {
    fn connect(&self, _: &ClientOptions) -> Result<HttpClient> {
        Ok(self.0.clone())
    }
}

/// Makes the one pool of connections.
///
/// # Errors
/// When TLS cannot be set up.
pub(super) fn pool(connector: &Connector, endpoint: Option<&str>) -> Result<HttpClient> {
    object_store::client::HttpConnector::connect(connector, &S3Client::options(endpoint))
}
