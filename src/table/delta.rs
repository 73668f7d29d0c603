//! The actions of a Delta commit, and the log they are written to.
//!
//! delta-rs supplies the forms of the actions, the file names and the put-if-absent of the log. Its commit builder,
//! conflict checker and table operations are not used: they know nothing of versions, and lose or double rows where
//! commits race.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitData, TransactionError};
use deltalake::kernel::{Action, Add, Metadata, Protocol, Remove, StructType, new_metadata};
use deltalake::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, default_logstore, get_actions};
use deltalake::protocol::DeltaOperation;
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use serde_json::json;
use url::Url;

use super::chunk::Chunk;
use super::encode::WrittenChunk;
use super::keys::ColumnsKeys;
use super::record::{COMMIT_KEY, CommitRecord, FORMAT_VERSION};
use super::schema::Columns;

use crate::error::{Error, Result};
use crate::names::{DatasetName, TenantId};
use crate::storage::store_error;
use crate::versions::DatasetRecord;

/// The table property, and the entry in chunks, that holds the form of what is stored.
pub(super) const FORMAT_PROPERTY: &str = "pandasdb.formatVersion";
/// The table property that holds the columns' names in chunks.
pub(super) const COLUMNS_PROPERTY: &str = "pandasdb.columns";
/// The table property that holds the keys.
pub(super) const KEYS_PROPERTY: &str = "pandasdb.columnsKeys";
/// The table property that says whose dataset it is; its name is the table's.
pub(super) const TENANT_PROPERTY: &str = "pandasdb.tenant";
/// The tag of a file that tells the loads its rows came with: `[[load, rows, first place, last place], …]`.
pub(super) const LOADS_TAG: &str = "pandasdb.loads";
/// The tag of a file that holds its place among the chunks of its load.
pub(super) const NUMBER_TAG: &str = "pandasdb.number";

/// How an attempt to write a commit ended, as far as the writer knows.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is in the log.
    Committed,
    /// Unknown or lost: the log must be read to tell.
    Unclear(Error),
}

/// The Delta log of one table.
#[derive(Clone)]
pub(super) struct Log {
    store: LogStoreRef,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// The log of the table at `root` of `store`, which other programs open at `location`.
    pub(super) fn new(store: &Arc<dyn ObjectStore>, root: &Path, location: &Url) -> Self {
        let prefixed = Arc::new(PrefixStore::new(Arc::clone(store), root.clone()));
        Self { store: default_logstore(prefixed, Arc::clone(store), location, &StorageConfig::default()) }
    }

    /// The actions of a commit; `None` when there is no such commit yet.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) for a damaged commit,
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the storage is away.
    pub(super) async fn read(&self, version: i64) -> Result<Option<Vec<Action>>> {
        let number = number(version)?;
        let bytes =
            self.store.read_commit_entry(number).await.map_err(|error| {
                Error::unavailable("the log of the dataset cannot be read; retry later").because(error)
            })?;
        let Some(bytes) = bytes else { return Ok(None) };
        get_actions(number, &bytes)
            .map(Some)
            .map_err(|error| Error::corrupt(format!("commit {version} of the dataset is damaged")).because(error))
    }

    /// Tries to be the one that writes commit `version`.
    pub(super) async fn write(&self, version: i64, bytes: Bytes) -> Result<Attempt> {
        let entry = CommitOrBytes::LogBytes(bytes);
        let attempt = self.store.write_commit_entry(number(version)?, entry, Default::default()).await;
        Ok(match attempt {
            Ok(()) => Attempt::Committed,
            Err(TransactionError::ObjectStore { source }) => Attempt::Unclear(store_error("committing", source)),
            Err(error) => Attempt::Unclear(Error::conflict("another writer was first; retry").because(error)),
        })
    }
}

fn number(version: i64) -> Result<u64> {
    u64::try_from(version).map_err(|error| Error::internal("a commit has a negative number").because(error))
}

/// The bytes of a commit.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when something in it cannot be written as JSON.
pub(super) fn commit_bytes(actions: Vec<Action>, operation: DeltaOperation, record: &CommitRecord) -> Result<Bytes> {
    let broken =
        |error: Box<dyn std::error::Error + Send + Sync>| Error::internal("a commit cannot be written").because(error);
    let record = serde_json::to_value(record).map_err(|error| broken(error.into()))?;
    let info = HashMap::from([
        (COMMIT_KEY.to_string(), record),
        ("clientVersion".to_string(), json!(concat!("pandas-db.", env!("CARGO_PKG_VERSION")))),
    ]);
    CommitData::new(actions, operation, info, Vec::new()).get_bytes().map_err(|error| broken(error.into()))
}

/// What a reader must be able to do, and the table's schema: for the first commit, and for one that adds columns.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when a stored type is unknown to Delta.
pub(super) fn table_actions(
    of: &DatasetRecord,
    columns: &Columns,
    keys: Option<&ColumnsKeys>,
    created_ms: i64,
) -> Result<Vec<Action>> {
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::internal("the schema of the table cannot be written").because(error)
    };
    let schema = columns.physical_schema();
    let delta: StructType =
        schema.as_ref().try_into_kernel().map_err(|error: arrow::error::ArrowError| broken(error.into()))?;
    let mut properties = vec![
        (FORMAT_PROPERTY, FORMAT_VERSION.to_string()),
        (COLUMNS_PROPERTY, json!(columns.names()).to_string()),
        (TENANT_PROPERTY, of.tenant.as_str().to_string()),
    ];
    if let Some(keys) = keys {
        properties.push((KEYS_PROPERTY, json!(keys).to_string()));
    }
    let no_partitions: [&str; 0] = [];
    let metadata = new_metadata(&delta, no_partitions, properties).map_err(|error| broken(error.into()))?;
    // The table's identity must not change with its schema.
    let mut metadata = serde_json::to_value(metadata).map_err(|error| broken(error.into()))?;
    if let Some(object) = metadata.as_object_mut() {
        object.insert("id".into(), json!(of.table_id));
        // With the tenant's property the one place besides the version store that knows what the dataset is called.
        object.insert("name".into(), json!(of.name.as_str()));
        object.insert("createdTime".into(), json!(created_ms));
    }
    let metadata: Metadata = serde_json::from_value(metadata).map_err(|error| broken(error.into()))?;
    Ok(vec![Action::Protocol(protocol(&schema)?), Action::Metadata(metadata)])
}

/// Whose dataset a first commit begins, and its name; `None` when another program wrote it, or a pandas-db that did not
/// write down the tenant.
pub(super) fn owner(actions: &[Action]) -> Option<(TenantId, DatasetName)> {
    let metadata = actions.iter().find_map(|action| match action {
        Action::Metadata(metadata) => serde_json::to_value(metadata).ok(),
        _ => None,
    })?;
    let tenant = metadata.get("configuration")?.get(TENANT_PROPERTY)?.as_str()?;
    Some((TenantId::parse(tenant).ok()?, DatasetName::parse(metadata.get("name")?.as_str()?).ok()?))
}

fn protocol(schema: &Schema) -> Result<Protocol> {
    let bare = schema.fields().iter().any(|field| has_bare_timestamp(field.data_type()));
    let json = if bare {
        json!({"minReaderVersion": 3, "minWriterVersion": 7,
               "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"]})
    } else {
        json!({"minReaderVersion": 1, "minWriterVersion": 2})
    };
    serde_json::from_value(json).map_err(|error| Error::internal("the protocol cannot be written").because(error))
}

/// Timestamps without a zone are a table feature of their own in Delta.
fn has_bare_timestamp(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, None) => true,
        DataType::List(field) | DataType::Map(field, _) => has_bare_timestamp(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_bare_timestamp(field.data_type())),
        _ => false,
    }
}

/// Whether a change of files is one of rows too, or only stores the same rows otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowsChange {
    /// Rows come or go.
    Yes,
    /// The same rows in other files.
    No,
}

/// The action that makes a written chunk part of the table; `number` is its place among the chunks of its load.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when its tags cannot be written as JSON.
pub(super) fn add_action(
    chunk: &WrittenChunk,
    number: Option<usize>,
    now_ms: i64,
    change: RowsChange,
) -> Result<Action> {
    let loads = serde_json::to_string(&chunk.loads);
    let loads = loads.map_err(|error| Error::internal("the tags of a chunk cannot be written").because(error))?;
    let mut tags = HashMap::from([(LOADS_TAG.to_string(), Some(loads))]);
    if let Some(number) = number {
        tags.insert(NUMBER_TAG.to_string(), Some(number.to_string()));
    }
    Ok(Action::Add(Add {
        path: chunk.path.clone(),
        size: chunk.bytes as i64,
        modification_time: now_ms,
        data_change: change == RowsChange::Yes,
        stats: Some(chunk.stats.clone()),
        tags: Some(tags),
        ..Add::default()
    }))
}

/// The action that takes a chunk out of the table; its file stays until it is vacuumed.
pub(super) fn remove_action(chunk: &Chunk, now_ms: i64, change: RowsChange) -> Action {
    Action::Remove(Remove {
        path: chunk.path.clone(),
        data_change: change == RowsChange::Yes,
        deletion_timestamp: Some(now_ms),
        extended_file_metadata: Some(true),
        partition_values: Some(HashMap::new()),
        size: Some(chunk.bytes as i64),
        ..Remove::default()
    })
}
