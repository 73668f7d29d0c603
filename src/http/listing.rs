//! `GET /dataframes`: the datasets whose names begin with a prefix, a page at a time as they are taken.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, Uri};
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use unicode_normalization::UnicodeNormalization;

use super::identify::Sender;
use super::status::Failure;
use super::{HttpState, answer, parameters};
use crate::auth::Principal;
use crate::clock;
use crate::error::{Error, Result};
use crate::names::DatasetName;
use crate::table::Catalog;
use crate::versions::DatasetRecord;

const MEDIA_TYPE: &str = "application/json";

#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    versions: i64,
    rows: i64,
    bytes: i64,
    updated_at: Option<String>,
}

/// Answers with the datasets.
pub(super) async fn list(State(state): State<HttpState>, uri: Uri, sender: Sender) -> Result<Response<Body>, Failure> {
    let (call, standing) = state.begin("http_list", &sender).await?;
    let prefix = match parameters::prefix(&uri) {
        Ok(prefix) => prefix.nfc().collect(),
        Err(error) => {
            call.finish(Err(&error));
            return Err(error.into());
        }
    };
    let caller = standing.principal().clone();
    let listing = Listing { datasets: state.datasets, caller, prefix, place: Place::Begin };
    let pages = stream::unfold(listing, |mut listing| async move {
        let page = listing.next().await.transpose()?;
        if page.is_err() {
            listing.place = Place::Ended;
        }
        Some((page, listing))
    });
    answer::send(call, state.limits.time, MEDIA_TYPE, standing.guard(pages)).await
}

/// Where a listing goes on.
struct Listing {
    datasets: Arc<Catalog>,
    caller: Principal,
    prefix: String,
    place: Place,
}

enum Place {
    Begin,
    After(DatasetName, bool),
    Ended,
}

impl Listing {
    /// The text of the next page, with what stands before the first and after the last.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let (mut text, after, mut is_first) = match std::mem::replace(&mut self.place, Place::Ended) {
            Place::Begin => (br#"{"dataframes":["#.to_vec(), None, true),
            Place::After(name, is_first) => (Vec::new(), Some(name), is_first),
            Place::Ended => return Ok(None),
        };
        let (page, last) = self.datasets.list(&self.caller, &self.prefix, after.as_ref()).await?;
        for record in &page {
            if !is_first {
                text.push(b',');
            }
            is_first = false;
            write(record, &mut text)?;
        }
        match last {
            Some(last) => self.place = Place::After(last, is_first),
            None => text.extend_from_slice(b"]}"),
        }
        Ok(Some(text.into()))
    }
}

fn write(record: &DatasetRecord, text: &mut Vec<u8>) -> Result<()> {
    let head = &record.head;
    let listed = Listed {
        name: record.name.as_str(),
        versions: head.live_versions,
        rows: head.rows,
        bytes: head.bytes,
        updated_at: head.updated_at.map(clock::format_instant),
    };
    serde_json::to_writer(text, &listed).map_err(|error| Error::internal("a listing cannot be written").because(error))
}
