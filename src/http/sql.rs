//! `POST /sql`: a statement, and its result in the form asked for.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, Uri};
use tracing::Instrument;

use super::answer::{self, Planned};
use super::body::receive;
use super::identify::Sender;
use super::status::Failure;
use super::{HttpState, parameters};
use crate::auth::Principal;
use crate::error::Error;
use crate::proto::{SqlTicket, read_json};
use crate::query::{Begun, SessionOptions, Statement, affected_batch};

/// The longest statement taken, with each of its characters escaped.
const MAX_BODY_BYTES: usize = 2 << 20;

/// Runs a statement.
pub(super) async fn run(
    State(state): State<HttpState>,
    uri: Uri,
    sender: Sender,
    body: Body,
) -> Result<Response<Body>, Failure> {
    let (call, standing) = state.begin("http_sql", &sender).await?;
    let planned = plan(&state, standing.principal(), &uri, &sender.headers, body).instrument(call.span().clone()).await;
    match planned {
        Ok(planned) => answer::rows(&state, call, standing, planned, &sender.headers).await,
        Err(failure) => {
            call.finish(Err(failure.error()));
            Err(failure)
        }
    }
}

async fn plan(
    state: &HttpState,
    caller: &Principal,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Planned, Failure> {
    parameters::none(uri)?;
    let body = receive(headers, body, &state.limits, async |incoming| incoming.whole(MAX_BODY_BYTES).await).await?;
    // An array of its values would pass for an object.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Error::invalid(r#"the body must be a JSON object such as {"sql": "SELECT 1"}"#).into());
    }
    let SqlTicket { sql } = read_json(&body, "the body")?;
    let statement = Statement::new(sql, SessionOptions::default());
    Ok(match state.engine.begin(caller, &statement).await? {
        Begun::Query(query) => Planned::Sql(query),
        Begun::Affected(rows) => Planned::Rows(affected_batch(rows)?),
    })
}
