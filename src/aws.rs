//! What all clients of AWS share: credentials, region and endpoints, from the places where all tools of AWS look.
//!
//! Credentials come from `aws-config`'s standard chain (environment, profiles, SSO, web identity, ECS, instance
//! metadata). Endpoints are `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL_DYNAMODB`, or `AWS_ENDPOINT_URL` for both.

use aws_config::{BehaviorVersion, SdkConfig};

/// The environment variable that names the endpoint of S3 alone.
const S3_ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";
/// The region of a server that is told none; servers other than AWS's own mostly take any.
const DEFAULT_REGION: &str = "us-east-1";

/// Reads the settings. Credentials are fetched when they are first needed.
pub async fn load() -> SdkConfig {
    let given = aws_config::defaults(BehaviorVersion::latest()).load().await;
    if given.region().is_some() {
        return given;
    }
    given.into_builder().region(aws_config::Region::new(DEFAULT_REGION)).build()
}

/// The region that requests are signed for.
pub fn region(config: &SdkConfig) -> String {
    config.region().map_or_else(|| DEFAULT_REGION.to_string(), ToString::to_string)
}

/// Where S3 is, when it is not AWS's own.
pub fn s3_endpoint(config: &SdkConfig) -> Option<String> {
    let own = std::env::var(S3_ENDPOINT).ok().filter(|url| !url.is_empty());
    own.or_else(|| config.endpoint_url().map(ToString::to_string))
}
