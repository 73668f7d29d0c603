//! Credentials of AWS's standard chain, for a client of S3.

use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use chrono::{DateTime, TimeDelta, Utc};
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error, Result};

use crate::clock;

/// Credentials are fetched anew this long before they expire.
const RENEWED_BEFORE: TimeDelta = TimeDelta::minutes(3);
/// Those that never say when they expire are looked at again after this long: a profile may have been edited.
const LOOKED_AT_AGAIN: TimeDelta = TimeDelta::minutes(15);

/// Keeps the credentials of the chain for as long as they hold.
#[derive(Debug)]
pub(super) struct ChainCredentials {
    chain: SharedCredentialsProvider,
    /// The lock is held while they are fetched, so that one task does it for all.
    kept: tokio::sync::Mutex<Option<(DateTime<Utc>, Arc<AwsCredential>)>>,
}

impl ChainCredentials {
    /// Credentials from a chain.
    pub(super) fn new(chain: SharedCredentialsProvider) -> Self {
        Self { chain, kept: tokio::sync::Mutex::default() }
    }
}

/// The chain has none.
#[derive(Debug)]
pub(super) struct NoCredentials(CredentialsError);

impl std::error::Error for NoCredentials {}

impl std::fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "no AWS credentials were found ({}); give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role",
            self.0
        )
    }
}

fn renewed_at(credentials: &Credentials) -> DateTime<Utc> {
    let expiry = credentials.expiry().map(|expiry| DateTime::<Utc>::from(expiry) - RENEWED_BEFORE);
    expiry.unwrap_or_else(|| clock::now() + LOOKED_AT_AGAIN)
}

#[async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let mut kept = self.kept.lock().await;
        if let Some((_, credential)) = kept.as_ref().filter(|(until, _)| clock::now() < *until) {
            return Ok(Arc::clone(credential));
        }
        let found = self.chain.provide_credentials().await;
        let found = found.map_err(|error| Error::Generic { store: "S3", source: Box::new(NoCredentials(error)) })?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().into(),
            secret_key: found.secret_access_key().into(),
            token: found.session_token().map(Into::into),
        });
        *kept = Some((renewed_at(&found), Arc::clone(&credential)));
        Ok(credential)
    }
}
