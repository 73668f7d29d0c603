//! For tests: a DynamoDB in this process, and one before it that fails as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use futures::stream;
use tokio::net::TcpListener;

use super::{DynamoVersionStore, set_up};
use crate::metrics::Metrics;
use crate::versions::VersionStore;
use crate::versions::conformance::Place;

/// What the table is called.
pub(super) const TABLE: &str = "versions";
/// What must never be in a message.
pub(super) const SECRET: &str = "the-secret-of-the-key";

/// Settings that reach `endpoint`.
pub(super) fn settings(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("AKIDEXAMPLE", SECRET, None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// A DynamoDB without tables; gives its endpoint.
pub(super) async fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(dynoxide::server::serve_on(listener, dynoxide::Database::memory().unwrap()));
    format!("http://{address}")
}

/// A table that is set up.
pub(super) struct StandIn {
    pub endpoint: String,
    page_items: usize,
}

impl StandIn {
    /// One with pages of the size that servers use.
    pub(super) async fn new() -> Self {
        Self::with_page_items(crate::versions::MAX_PAGE).await
    }

    /// One of whose items a request asks for at most so many.
    pub(super) async fn with_page_items(page_items: usize) -> Self {
        let endpoint = start().await;
        set_up(&settings(&endpoint), TABLE, &Metrics::default()).await.unwrap();
        Self { endpoint, page_items }
    }
}

#[async_trait]
impl Place for StandIn {
    async fn open(&self) -> Arc<dyn VersionStore> {
        let store = DynamoVersionStore::open(&settings(&self.endpoint), TABLE, &Metrics::default()).await.unwrap();
        Arc::new(DynamoVersionStore { page_items: self.page_items, ..store })
    }
}

/// How a request fails.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// It is not carried out, and this is the answer: a status, a code and a message.
    Refuse(u16, &'static str, &'static str),
    /// It is carried out, and the answer breaks off.
    LoseAnswer,
}

/// What stands between a client and a DynamoDB.
#[derive(Debug, Default)]
pub(super) struct Wire {
    faults: Mutex<Vec<(&'static str, Fault)>>,
    /// The requests that came, by operation, with their bodies.
    pub seen: Mutex<Vec<(String, String)>>,
}

impl Wire {
    /// Lets the next `times` requests of an operation fail.
    pub(super) fn fail(&self, operation: &'static str, fault: Fault, times: usize) {
        self.faults.lock().unwrap().extend(std::iter::repeat_n((operation, fault), times));
    }

    /// Lets nothing fail any more.
    pub(super) fn clear(&self) {
        self.faults.lock().unwrap().clear();
    }

    /// The operations of the requests since the last call.
    pub(super) fn take_seen(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn next_fault(&self, operation: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let place = faults.iter().position(|(of, _)| *of == operation)?;
        Some(faults.remove(place).1)
    }

    /// Begins to pass requests on to `behind`; gives the endpoint.
    pub(super) async fn start(self: &Arc<Self>, behind: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let app = Router::new().fallback(pass_on).with_state((Arc::clone(self), behind.to_string()));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        format!("http://{address}")
    }
}

async fn pass_on(State((wire, behind)): State<(Arc<Wire>, String)>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let target = headers.get("x-amz-target").unwrap().to_str().unwrap();
    let operation = target.rsplit('.').next().unwrap().to_string();
    wire.seen.lock().unwrap().push((operation.clone(), String::from_utf8_lossy(&body).into_owned()));
    let fault = wire.next_fault(&operation);
    if let Some(Fault::Refuse(status, code, message)) = fault {
        let body =
            serde_json::json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message});
        return answer(StatusCode::from_u16(status).unwrap(), Body::from(body.to_string()));
    }
    let mut request = reqwest::Client::new().post(&behind).body(body);
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host" && *name != "content-length") {
        request = request.header(name, value);
    }
    let response = request.send().await.unwrap();
    let (status, body) = (response.status(), response.bytes().await.unwrap());
    if fault.is_some() {
        let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("cut"))]);
        return answer(StatusCode::OK, Body::from_stream(broken));
    }
    answer(status, Body::from(body))
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    Response::builder().status(status).header("content-type", "application/x-amz-json-1.0").body(body).unwrap()
}
