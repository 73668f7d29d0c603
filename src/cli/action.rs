//! `DoAction`: what is asked of a server besides rows.
//!
//! Promises: bodies and answers are JSON, and an answer that is missing or cannot be read is a failure, never a
//! guess.

use arrow_flight::Action;
use futures::TryStreamExt;
use prost::bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connect::{self, ServerOptions};
use crate::error::{Error, Result};

/// Does an action and gives all its answers.
pub(super) async fn all<T: DeserializeOwned>(
    server: &ServerOptions,
    kind: &str,
    command: &impl Serialize,
) -> Result<Vec<T>> {
    let body = serde_json::to_vec(command)
        .map_err(|error| Error::internal(format!("the action {kind} cannot be written")).because(error))?;
    let mut client = connect::connect(server).await?;
    let answers = client.do_action(Action::new(kind, body)).await.map_err(connect::flight_error)?;
    let answers: Vec<Bytes> = answers.try_collect().await.map_err(connect::flight_error)?;
    answers.iter().map(|answer| read(kind, answer)).collect()
}

/// Does an action that has one answer.
pub(super) async fn one<T: DeserializeOwned>(
    server: &ServerOptions,
    kind: &str,
    command: &impl Serialize,
) -> Result<T> {
    let answer = all(server, kind, command).await?.pop();
    answer.ok_or_else(|| Error::internal(format!("the server ended the action {kind} without an answer")))
}

fn read<T: DeserializeOwned>(kind: &str, answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer).map_err(|error| {
        Error::internal(format!("the server's answer to the action {kind} cannot be read: {error}")).because(error)
    })
}
