//! Requests to S3 on the wire: counted, bounded in time, and made on the threads that serve the network.

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    SpawnedReqwestConnector,
};
use tokio::runtime::Handle;

use crate::metrics::{Metrics, S3Operation};

/// How long the first bytes of an answer may take. A caller is to hear within 5 seconds that S3 is away.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(3_500);
/// What a request must send before the answer can begin is sent at least at this many bytes a second.
const SLOWEST_UPLOAD: u64 = 2 << 20;

/// Makes the clients that [`CountedRequests`] stands for.
#[derive(Debug)]
pub(super) struct Connector {
    /// The runtime of the network; a query's own has other things to do.
    pub(super) network: Handle,
    /// Where requests are counted.
    pub(super) metrics: Metrics,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = SpawnedReqwestConnector::new(self.network.clone()).connect(options)?;
        Ok(HttpClient::new(CountedRequests { inner, network: self.network.clone(), metrics: self.metrics.clone() }))
    }
}

#[derive(Debug)]
struct CountedRequests {
    inner: HttpClient,
    network: Handle,
    metrics: Metrics,
}

#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("S3 did not begin to answer in time")
    }
}

impl std::error::Error for NoAnswer {}

#[async_trait]
impl HttpService for CountedRequests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.metrics.count_s3_request(operation(&request));
        let upload = Duration::from_secs(request.body().content_length() as u64 / SLOWEST_UPLOAD);
        // Entered for the timer alone: the request itself is spawned there.
        let answer = {
            let _network = self.network.enter();
            tokio::time::timeout(ANSWER_TIMEOUT + upload, self.inner.execute(request))
        };
        answer.await.unwrap_or_else(|_| Err(HttpError::new(HttpErrorKind::Timeout, NoAnswer)))
    }
}

/// What S3 bills a request as.
fn operation(request: &HttpRequest) -> S3Operation {
    let query = request.uri().query().unwrap_or_default();
    let asks = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    match *request.method() {
        Method::GET if asks("list-type") || asks("uploads") => S3Operation::List,
        Method::GET => S3Operation::Get,
        Method::HEAD => S3Operation::Head,
        Method::DELETE => S3Operation::Delete,
        Method::POST if asks("delete") => S3Operation::Delete,
        Method::POST => S3Operation::Post,
        _ if request.headers().contains_key(http::header::IF_NONE_MATCH) => S3Operation::ConditionalPut,
        _ => S3Operation::Put,
    }
}
