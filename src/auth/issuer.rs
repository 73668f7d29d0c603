//! The keys of an issuer, fetched when they are needed and kept: a new key is known after one fetch, tokens with
//! made-up key ids do not make a server ask all the time, and an issuer that is away for days is no reason to let
//! nobody in.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};
use url::Url;

use super::jwks::{KeySet, VerificationKey};
use crate::error::{Error, Result};

/// Time between two fetches because of an unknown key.
const MISS_INTERVAL: Duration = Duration::from_secs(60);
/// Time between two fetches while no key is known at all.
const FIRST_INTERVAL: Duration = Duration::from_secs(2);
/// Keys older than this are fetched again, once in [`MISS_INTERVAL`]; meanwhile they are good.
const FRESH: Duration = Duration::from_secs(3_600);
/// Keys older than this are good no longer.
const LONGEST_OUTAGE: Duration = Duration::from_secs(72 * 3_600);
/// The longest that a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest document that is read.
const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeyPlace {
    /// At this address.
    At(Url),
    /// Where the issuer's discovery document (OpenID Connect Discovery 1.0) says.
    Discovered {
        /// The address of the document.
        document: Url,
        /// The issuer that it must name.
        issuer: String,
    },
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

#[derive(Clone, Default)]
struct Known {
    keys: KeySet,
    fetched: Option<Instant>,
}

#[derive(Default)]
struct Attempts {
    last: Option<Instant>,
    last_miss: Option<Instant>,
}

/// See the module's comment.
pub(super) struct Issuer {
    place: KeyPlace,
    client: reqwest::Client,
    known: RwLock<Arc<Known>>,
    /// Held during a fetch, so that there is one at a time.
    attempts: Mutex<Attempts>,
}

impl Issuer {
    /// The keys at a place; none is fetched yet.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when no HTTP client can be made.
    pub(super) fn new(place: KeyPlace) -> Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            // A redirect could lead to keys of somebody else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::internal("HTTP cannot be spoken").because(error))?;
        Ok(Self { place, client, known: RwLock::default(), attempts: Mutex::default() })
    }

    /// The key of an id.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when no key is known and none can be fetched.
    pub(super) async fn key(&self, id: &str) -> Result<Option<VerificationKey>> {
        let known = self.known();
        let age = known.fetched.map(|fetched| fetched.elapsed());
        match (known.keys.get(id).cloned(), age) {
            (Some(key), Some(age)) if age < FRESH => Ok(Some(key)),
            (Some(key), Some(age)) if age < LONGEST_OUTAGE => {
                // Another may be fetching already: nobody waits for that who has a key.
                if let Ok(attempts) = self.attempts.try_lock() {
                    self.refresh(attempts, known.fetched).await;
                    return Ok(self.known().keys.get(id).cloned());
                }
                Ok(Some(key))
            }
            _ => self.fetched_key(id, &known).await,
        }
    }

    async fn fetched_key(&self, id: &str, known: &Known) -> Result<Option<VerificationKey>> {
        let attempts = self.attempts.lock().await;
        self.refresh(attempts, known.fetched).await;
        let now_known = self.known();
        match now_known.fetched.map(|fetched| fetched.elapsed()) {
            Some(age) if age < LONGEST_OUTAGE => Ok(now_known.keys.get(id).cloned()),
            _ => Err(Error::unavailable("the issuer's keys cannot be fetched now; retry later")),
        }
    }

    /// Fetches the keys at the start, so that the first caller need not wait.
    pub(super) async fn warm_up(&self) {
        self.refresh(self.attempts.lock().await, None).await;
    }

    /// Fetches the keys, unless that was tried too short a time ago or done while the caller waited.
    async fn refresh(&self, mut attempts: tokio::sync::MutexGuard<'_, Attempts>, seen: Option<Instant>) {
        let (known, now) = (self.known(), Instant::now());
        let is_first = known.fetched.is_none();
        let was_long_ago =
            |last: Option<Instant>, interval| last.is_none_or(|last| now.duration_since(last) >= interval);
        let may = if is_first {
            was_long_ago(attempts.last, FIRST_INTERVAL)
        } else {
            known.fetched == seen && was_long_ago(attempts.last_miss, MISS_INTERVAL)
        };
        if !may {
            return;
        }
        attempts.last = Some(now);
        if !is_first {
            attempts.last_miss = Some(now);
        }
        match self.fetch().await {
            Ok(keys) => {
                info!("the issuer's keys were fetched");
                let known = Known { keys, fetched: Some(Instant::now()) };
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, cause, "the issuer's keys cannot be fetched");
            }
        }
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn fetch(&self) -> Result<KeySet> {
        let address = match &self.place {
            KeyPlace::At(address) => address.clone(),
            KeyPlace::Discovered { document, issuer } => self.discover(document, issuer).await?,
        };
        KeySet::parse(&self.get(&address).await?)
    }

    async fn discover(&self, document: &Url, issuer: &str) -> Result<Url> {
        let found: Discovery = serde_json::from_slice(&self.get(document).await?)
            .map_err(|error| Error::unavailable("the issuer's discovery document cannot be read").because(error))?;
        if found.issuer != issuer {
            return Err(Error::unavailable("the issuer's discovery document is of another issuer"));
        }
        // Keys that come over an open network could be anybody's.
        if found.jwks_uri.scheme() != "https" && document.scheme() == "https" {
            return Err(Error::unavailable("the issuer's discovery document names keys without TLS"));
        }
        Ok(found.jwks_uri)
    }

    async fn get(&self, address: &Url) -> Result<Vec<u8>> {
        let away = |error: reqwest::Error| Error::unavailable(format!("{address} does not answer")).because(error);
        let mut response = self.client.get(address.clone()).send().await.map_err(away)?;
        let status = response.status();
        if !status.is_success() {
            return Err(Error::unavailable(format!("{address} answers with the status {status}")));
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(away)? {
            if body.len() + part.len() > MAX_DOCUMENT_BYTES {
                return Err(Error::unavailable(format!("{address} answers with more than {MAX_DOCUMENT_BYTES} bytes")));
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }
}
