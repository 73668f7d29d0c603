//! The client: its limits, and the count of its requests.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{Builder, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;

use crate::metrics::Metrics;

/// The longest that connecting and one try may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const TRY_LIMIT: Duration = Duration::from_millis(1_500);
/// The longest that a request may take with all tries, credentials and pauses; callers wait at most five seconds, in
/// which what was written may have to be read back.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(4);
/// Tries of a request that is throttled, times out or fails on DynamoDB's side.
const MAX_TRIES: u32 = 6;
/// The pause before the second try, at most; each later one may be twice as long as the one before. The SDK takes a
/// random part of it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// The header that names the operation.
const OPERATION_HEADER: &str = "x-amz-target";

/// A client with the credentials, region and endpoint of `shared`, and limits of its own.
pub(super) fn new(shared: &SdkConfig, metrics: &Metrics) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_LIMIT)
        .read_timeout(TRY_LIMIT)
        .operation_attempt_timeout(TRY_LIMIT)
        .operation_timeout(REQUEST_LIMIT)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(MAX_TRIES)
        .with_initial_backoff(FIRST_PAUSE)
        .with_max_backoff(MAX_PAUSE);
    let counter = RequestCounter { metrics: metrics.clone() };
    let config = Builder::from(shared).timeout_config(timeouts).retry_config(retries).interceptor(counter);
    Client::from_conf(config.build())
}

/// Counts each try of each request by its operation: what DynamoDB is asked, and charges for.
#[derive(Debug)]
struct RequestCounter {
    metrics: Metrics,
}

impl Intercept for RequestCounter {
    fn name(&self) -> &'static str {
        "RequestCounter"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get(OPERATION_HEADER);
        let operation = target.and_then(|target| target.rsplit('.').next()).unwrap_or("unknown");
        self.metrics.count_dynamodb_request(operation);
        Ok(())
    }
}
