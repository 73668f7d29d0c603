//! A load as callers ask for it, and what they are told of it.

use super::commit::LoadOutcome;
use super::keys::parse_columns_keys;
use super::load::LoadRequest;
use crate::clock;
use crate::error::{Error, Result};
use crate::names::{DatasetName, ExternalKey, check_key};
use crate::proto::{Chunk, LoadDataframe, LoadResult};

/// Chunks that an answer lists.
const MAX_LISTED_CHUNKS: usize = 1_000;

/// Checks what a `LoadDataframe` of `user` asks for.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the field that cannot be.
pub fn read_request(command: &LoadDataframe, user: &str) -> Result<(DatasetName, LoadRequest)> {
    if let Some(key) = &command.idempotency_key {
        check_key("idempotency_key", key)?;
    }
    if let Some(total) = command.total_rows.filter(|total| *total < 0) {
        return Err(Error::invalid(format!("total_rows is {total}; it cannot be negative")));
    }
    let request = LoadRequest {
        columns_keys: parse_columns_keys(&command.columns_keys)?,
        external_key: ExternalKey::parse(command.external_key.as_deref())?,
        keep_last: command.keep_last,
        idempotency_key: command.idempotency_key.clone(),
        total_rows: command.total_rows,
        user: user.into(),
        statement: None,
    };
    Ok((DatasetName::parse(&command.dataframe_name)?, request))
}

/// What is told of a load that is durable.
pub fn committed(name: &DatasetName, outcome: &LoadOutcome) -> LoadResult {
    let record = &outcome.record;
    let committed = outcome.snapshot.version(record.version).map_or(outcome.snapshot.log_version, |v| v.committed);
    let chunks = outcome.snapshot.chunks_of_load(record.load_id, committed);
    let listed = chunks.take(MAX_LISTED_CHUNKS).map(|chunk| Chunk {
        path: chunk.path.clone(),
        rows: chunk.rows as i64,
        number: chunk.number,
        partition: chunk.partition().into(),
    });
    let keys = outcome.columns_keys.iter().map(|(column, kind)| (column.clone(), kind.as_str().to_string()));
    LoadResult {
        state: "committed".into(),
        rows: record.rows,
        bytes: record.bytes,
        dataframe_name: Some(name.as_str().into()),
        version: Some(record.version),
        external_key: Some(record.external_key.clone()),
        columns_keys: keys.collect(),
        keep_last: Some(record.keep_last),
        total_rows: Some(record.rows),
        chunks: listed.collect(),
        chunks_total: Some(record.chunks),
        created_at: Some(clock::format_instant(record.created_at)),
        duplicate: outcome.duplicate.then_some(true),
    }
}
