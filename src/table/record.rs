//! The version record: what a commit says of each version it makes.
//!
//! The records stand in the `commitInfo` of the Delta commit, under [`COMMIT_KEY`], so that the log alone tells
//! everything and any index of them can be built anew.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::keys::ColumnsKeys;
use crate::clock;
use crate::error::{Error, Result};

/// The key of `commitInfo` that holds a [`CommitRecord`].
pub(super) const COMMIT_KEY: &str = "pandasDb";
/// The form of the records as written now. Readers refuse a newer one.
pub(super) const FORMAT_VERSION: u32 = 1;

/// What a commit adds to the dataset's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The form of this record.
    pub format_version: u32,
    /// Unique to the attempt, by which its author knows its own commit again after an unknown outcome.
    pub commit_id: String,
    /// From when on it counts: strictly later than all that was before, and the instant of its last version.
    pub at: DateTime<Utc>,
    /// The versions made, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VersionRecord>,
    /// Versions that are no longer live from now on, other than those that one of `versions` replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedVersion>,
    /// The retention from now on, where it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Chunks that a commit up to this one removed are deleted, and what only they held cannot be read any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<i64>,
    /// The dataset is deleted: nothing comes after this commit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

impl CommitRecord {
    /// A record of nothing yet, for a commit that counts from `at`.
    pub(super) fn new(at: DateTime<Utc>) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            commit_id: clock::new_ulid(),
            at,
            versions: Vec::new(),
            ended: Vec::new(),
            retention: None,
            horizon: None,
            dropped: false,
        }
    }
}

/// A version that was ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedVersion {
    /// Its number.
    pub version: i64,
    /// Why.
    pub state: EndState,
}

/// Why a version is no longer live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndState {
    /// A later version of its key took its place.
    Replaced,
    /// A caller deleted it.
    Deleted,
    /// The dataset's retention does not keep it.
    Expired,
}

impl EndState {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            EndState::Replaced => "replaced",
            EndState::Deleted => "deleted",
            EndState::Expired => "expired",
        }
    }
}

/// Which versions of each external key stay live: those that one of the rules given keeps, or all without any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Only the newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_versions: Option<i64>,
    /// Only those younger than so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_seconds: Option<i64>,
}

impl Retention {
    /// Checks what a caller asks for.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the field that is not positive.
    pub fn new(keep_versions: Option<i64>, keep_seconds: Option<i64>) -> Result<Self> {
        for (field, value) in [("keep_versions", keep_versions), ("keep_seconds", keep_seconds)] {
            if let Some(value) = value.filter(|value| *value < 1) {
                return Err(Error::invalid(format!("{field} is {value}; give 1 or more, or leave it out")));
            }
        }
        Ok(Self { keep_versions, keep_seconds })
    }

    /// Whether it keeps everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Its number, from 1 per dataset, in commit order.
    pub version: i64,
    /// What its rows carry in the hidden column `__pdb_load`.
    pub load_id: i64,
    /// The caller's own name for it, or `default`.
    pub external_key: String,
    /// When it was committed; strictly increasing within a dataset.
    pub created_at: DateTime<Utc>,
    /// The user who loaded it.
    pub created_by: String,
    /// Rows.
    pub rows: i64,
    /// Arrow bytes as received.
    pub bytes: i64,
    /// Chunks it was stored in.
    pub chunks: i64,
    /// Whether it replaced the earlier versions of its key.
    pub keep_last: bool,
    /// The keys that the load itself gave.
    #[serde(default)]
    pub columns_keys: ColumnsKeys,
    /// The caller's token for doing this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Digest of schema and rows.
    pub digest: String,
    /// The logical schema with all metadata: an Arrow IPC stream without batches, in base64.
    pub schema: Arc<str>,
    /// The dictionaries of its columns, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<StoredCategories>,
    /// Earlier versions that this one made no longer live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<i64>,
    /// The kind of SQL statement that made it; `None` for a load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<WriteKind>,
    /// Earlier versions of which its statement changed rows. They stay live, with fewer rows or other values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<i64>,
}

/// A SQL statement that makes a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteKind {
    /// `CREATE TABLE`, also with a query.
    Create,
    /// `INSERT`.
    Insert,
    /// `DELETE` and `TRUNCATE`.
    Delete,
    /// `UPDATE`.
    Update,
    /// `MERGE`.
    Merge,
}

/// Where the dictionaries of a load are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredCategories {
    /// Here, as an Arrow IPC stream in base64.
    Inline(String),
    /// In a file, as an Arrow IPC stream, at this path below the dataset's root.
    File(String),
}

impl VersionRecord {
    /// Whether it counts as the newest of its key: a load does, a statement only when it brought rows.
    pub fn brings_rows(&self) -> bool {
        self.statement.is_none() || self.rows > 0
    }

    /// The logical schema.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the record is damaged.
    pub fn decode_schema(&self) -> Result<SchemaRef> {
        let damaged = || Error::corrupt(format!("the schema of version {} is damaged", self.version));
        let bytes = STANDARD.decode(self.schema.as_bytes()).map_err(|error| damaged().because(error))?;
        let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| damaged().because(error))?;
        Ok(reader.schema())
    }
}

/// A schema as an Arrow IPC stream without batches.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when the schema cannot be written.
pub(super) fn encode_schema(schema: &Schema) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, schema)
        .and_then(|mut writer| writer.finish())
        .map_err(|error| Error::invalid(format!("the schema cannot be kept: {error}")))?;
    Ok(bytes)
}

/// Bytes as a record holds them.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A single batch as an Arrow IPC stream.
pub(super) fn encode_batch(batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut write = || {
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
        writer.write(batch)?;
        writer.finish()
    };
    write().map_err(|error| Error::internal("the categories of a load could not be written").because(error))?;
    Ok(bytes)
}

/// Reads what [`encode_batch`] wrote.
pub(super) fn decode_batch(bytes: Vec<u8>) -> Result<RecordBatch> {
    let read = || StreamReader::try_new(Cursor::new(bytes), None)?.next().transpose();
    let damaged = || Error::corrupt("the categories of a load are damaged");
    read().map_err(|error| damaged().because(error))?.ok_or_else(damaged)
}

/// Reads what [`encode_batch`] wrote, from base64.
pub(super) fn decode_inline_batch(text: &str) -> Result<RecordBatch> {
    let bytes = STANDARD.decode(text);
    decode_batch(bytes.map_err(|error| Error::corrupt("the categories of a load are damaged").because(error))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_the_words_that_are_stored() {
        use WriteKind as W;
        let words = [W::Create, W::Insert, W::Delete, W::Update, W::Merge].map(|k| serde_json::to_string(&k).unwrap());
        assert_eq!(words, ["\"create\"", "\"insert\"", "\"delete\"", "\"update\"", "\"merge\""]);
    }
}
