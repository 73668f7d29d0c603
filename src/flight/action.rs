//! `DoAction` and `ListActions`: what can be done to a dataset besides loading and reading.
//!
//! A body is a message of ours in JSON or packed in an `Any`; the answers come in the form of the body.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_flight::{Action, ActionType, IpcMessage, SchemaAsIpc};
use arrow_ipc::writer::IpcWriteOptions;
use prost::bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sql::SQL_ACTIONS;
use crate::auth::{Access, Principal};
use crate::clock;
use crate::error::{Error, Result, shorten};
use crate::names::{DatasetName, ExternalKey};
use crate::proto::{
    Compact, Compacted, DataframeInfo, DeleteDataframe, DeleteVersion, DescribeDataframe, ListVersions, Packed,
    RetentionSet, SetRetention, Vacuum, Vacuumed, VersionInfo, is_json, read_command,
};
use crate::table::{Catalog, Dataset, Eagerness, MaintenanceSettings, Retention, Snapshot, Version};

/// The actions, with what they do and take.
const ACTIONS: [(&str, &str); 7] = [
    (
        "list_versions",
        "ListVersions {dataframe_name, external_key?, include_replaced?}: one VersionInfo for each version",
    ),
    ("describe_dataframe", "DescribeDataframe {dataframe_name}: schema, keys, totals, location and retention"),
    ("delete_version", "DeleteVersion {dataframe_name, version}: the version no longer counts"),
    ("delete_dataframe", "DeleteDataframe {dataframe_name}: the dataset ends and its name is free"),
    (
        "set_retention",
        "SetRetention {dataframe_name, keep_versions?, keep_seconds?}: which versions of each external key stay live",
    ),
    ("compact", "Compact {dataframe_name}: merges small chunks"),
    ("vacuum", "Vacuum {dataframe_name}: deletes the files of what was replaced or deleted long enough ago"),
];

/// What `ListActions` answers.
pub(super) fn action_types() -> Vec<ActionType> {
    let action =
        |(name, description): (&str, &str)| ActionType { r#type: name.into(), description: description.into() };
    ACTIONS.into_iter().chain(SQL_ACTIONS).map(action).collect()
}

/// The form in which a caller wants its answers: that of the body.
#[derive(Debug, Clone, Copy)]
enum Form {
    Json,
    Any,
}

impl Form {
    fn write<T: Packed + Serialize>(self, answer: &T) -> Result<arrow_flight::Result> {
        let body: Bytes = match self {
            Form::Any => answer.pack(),
            Form::Json => serde_json::to_vec(answer)
                .map_err(|error| Error::internal("an answer cannot be written").because(error))?
                .into(),
        };
        Ok(arrow_flight::Result { body })
    }
}

/// Does what actions ask for.
pub(super) struct Actions<'a> {
    /// The datasets.
    pub datasets: &'a Catalog,
    /// How chunks are cut, and how long ended data stays.
    pub settings: &'a MaintenanceSettings,
    /// Who asks.
    pub caller: &'a Principal,
}

impl Actions<'_> {
    /// Does one action and gives its answers.
    ///
    /// # Errors
    /// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) for an action that there is not,
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a body that is not its message, and those of the action.
    pub(super) async fn run(&self, action: &Action) -> Result<Vec<arrow_flight::Result>> {
        let form = if is_json(&action.body) { Form::Json } else { Form::Any };
        let body = &action.body;
        match action.r#type.as_str() {
            "list_versions" => {
                let versions = self.list_versions(&read(body)?).await?;
                versions.iter().map(|version| form.write(version)).collect()
            }
            "describe_dataframe" => one(form.write(&self.describe(&read(body)?).await?)),
            "delete_version" => {
                let command: DeleteVersion = read(body)?;
                if command.version < 1 {
                    let given = command.version;
                    return Err(Error::invalid(format!(
                        "version is {given}; give the number of the version to delete"
                    )));
                }
                let (dataset, _) = self.open(&command.dataframe_name, Access::Write).await?;
                dataset.delete_version(command.version).await?;
                one(form.write(&command))
            }
            "delete_dataframe" => {
                let command: DeleteDataframe = read(body)?;
                let name = DatasetName::parse(&command.dataframe_name)?;
                self.datasets.delete(self.caller, &name).await?;
                one(form.write(&command))
            }
            "set_retention" => one(form.write(&self.set_retention(read(body)?).await?)),
            "compact" => {
                let command: Compact = read(body)?;
                let (dataset, _) = self.open(&command.dataframe_name, Access::Admin).await?;
                let done = dataset.compact(&self.settings.split, Eagerness::OnDemand).await?;
                one(form.write(&Compacted {
                    dataframe_name: command.dataframe_name,
                    chunks_before: done.chunks_before as i64,
                    chunks_after: done.chunks_after as i64,
                }))
            }
            "vacuum" => {
                let command: Vacuum = read(body)?;
                let (dataset, _) = self.open(&command.dataframe_name, Access::Admin).await?;
                let done = dataset.vacuum(self.settings.vacuum_after).await?;
                one(form.write(&Vacuumed {
                    dataframe_name: command.dataframe_name,
                    files_deleted: done.files_deleted as i64,
                    bytes_deleted: done.bytes_deleted as i64,
                    versions_removed: done.versions_removed as i64,
                }))
            }
            other => Err(Error::unimplemented(format!(
                "there is no action '{}'; ListActions names those that there are",
                shorten(other)
            ))),
        }
    }

    async fn open(&self, name: &str, access: Access) -> Result<(Arc<Dataset>, Arc<Snapshot>)> {
        self.datasets.open(self.caller, &DatasetName::parse(name)?, access).await
    }

    async fn list_versions(&self, command: &ListVersions) -> Result<Vec<VersionInfo>> {
        let key = command.external_key.as_deref().map(|key| ExternalKey::parse(Some(key))).transpose()?;
        let (dataset, snapshot) = self.open(&command.dataframe_name, Access::Read).await?;
        let of_key = |version: &&Version| key.as_ref().is_none_or(|key| version.record.external_key == key.as_str());
        let known: Vec<&Version> = snapshot.versions().filter(of_key).collect();
        if let Some(key) = key.as_ref().filter(|_| known.is_empty()) {
            return Err(Error::not_found(format!(
                "'{}' has no version with the external_key '{}'",
                dataset.name(),
                shorten(key.as_str())
            )));
        }
        let shown = known.into_iter().filter(|version| command.include_replaced || version.is_live());
        Ok(shown.map(version_info).collect())
    }

    async fn describe(&self, command: &DescribeDataframe) -> Result<DataframeInfo> {
        let (dataset, snapshot) = self.open(&command.dataframe_name, Access::Read).await?;
        let schema = snapshot.union_of_live()?;
        let schema: IpcMessage = SchemaAsIpc::new(&schema, &IpcWriteOptions::default())
            .try_into()
            .map_err(|error| Error::internal("a schema cannot be sent").because(error))?;
        let keys = snapshot.keys.iter().flatten();
        let keys: HashMap<String, String> = keys.map(|(name, kind)| (name.clone(), kind.as_str().into())).collect();
        let head = snapshot.head();
        Ok(DataframeInfo {
            dataframe_name: dataset.name().as_str().into(),
            schema: schema.0.to_vec(),
            columns_keys: keys,
            versions: head.live_versions,
            rows: head.rows,
            bytes: head.bytes,
            chunks: snapshot.live_chunks().count() as i64,
            location: dataset.location().to_string(),
            retention: Some(crate::proto::Retention {
                keep_versions: snapshot.retention.keep_versions,
                keep_seconds: snapshot.retention.keep_seconds,
            }),
            newest_version: snapshot.newest(),
        })
    }

    async fn set_retention(&self, command: SetRetention) -> Result<RetentionSet> {
        let retention = Retention::new(command.keep_versions, command.keep_seconds)?;
        let (dataset, _) = self.open(&command.dataframe_name, Access::Admin).await?;
        let SetRetention { dataframe_name, keep_versions, keep_seconds } = command;
        let expired = dataset.set_retention(retention).await?;
        Ok(RetentionSet { dataframe_name, keep_versions, keep_seconds, expired })
    }
}

fn read<T: Packed + DeserializeOwned>(body: &Bytes) -> Result<T> {
    read_command(body)
}

fn one(answer: Result<arrow_flight::Result>) -> Result<Vec<arrow_flight::Result>> {
    answer.map(|answer| vec![answer])
}

fn version_info(version: &Version) -> VersionInfo {
    let record = &version.record;
    VersionInfo {
        version: record.version,
        external_key: record.external_key.clone(),
        state: version.state().into(),
        created_at: clock::format_instant(record.created_at),
        created_by: record.created_by.clone(),
        rows: version.rows,
        bytes: version.bytes(),
        chunks: record.chunks,
        keep_last: record.keep_last,
        idempotency_key: record.idempotency_key.clone(),
    }
}
