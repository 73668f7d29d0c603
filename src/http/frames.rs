//! `GET` and `DELETE /dataframes/{name}`: the rows of a dataset, and its end.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, Uri};
use serde::Serialize;
use tracing::Instrument;

use super::answer::{self, Planned};
use super::identify::Sender;
use super::status::Failure;
use super::{HttpState, answered, parameters};
use crate::auth::Principal;
use crate::error::Result;
use crate::query::selection;

/// Answers with rows.
pub(super) async fn get(State(state): State<HttpState>, uri: Uri, sender: Sender) -> Result<Response<Body>, Failure> {
    let (call, standing) = state.begin("http_get", &sender).await?;
    let planned = plan(&state, standing.principal(), &uri).instrument(call.span().clone()).await;
    match planned {
        Ok(planned) => answer::rows(&state, call, standing, planned, &sender.headers).await,
        Err(error) => {
            call.finish(Err(&error));
            Err(error.into())
        }
    }
}

async fn plan(state: &HttpState, caller: &Principal, uri: &Uri) -> Result<Planned> {
    let name = parameters::dataset_name(uri)?;
    let command = parameters::read_options(&name, uri)?;
    let rows = selection(&command)?;
    let read = state.engine.read(caller, &name, &rows, command.filter.as_deref()).await?;
    Ok(Planned::Frame(Box::new(read)))
}

/// What is told of a dataset that was deleted.
#[derive(Debug, Serialize)]
pub(super) struct Deleted {
    df_name: String,
    deleted: bool,
}

/// Ends a dataset.
pub(super) async fn delete(State(state): State<HttpState>, uri: Uri, sender: Sender) -> Result<Json<Deleted>, Failure> {
    let (call, standing) = state.begin("http_delete", &sender).await?;
    let work = async {
        parameters::none(&uri)?;
        let name = parameters::dataset_name(&uri)?;
        state.datasets.delete(standing.principal(), &name).await?;
        Ok(Deleted { df_name: name.as_str().into(), deleted: true })
    };
    answered(call, work).await.map(Json)
}
