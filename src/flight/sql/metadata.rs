//! The metadata commands of Flight SQL: what they are, the schemas of their answers, and the answers.
//!
//! The schemas are those of `FlightSql.proto` to the letter, since clients compare them. A ticket of such a command is
//! the command itself: it is checked again when it is used.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoDataBuilder, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use prost::Message;

use super::info::sql_info;
use super::type_info::{type_infos, with_column_metadata};
use crate::auth::{Access, Principal};
use crate::error::{Error, Kind, Result};
use crate::names::{DatasetName, PUBLIC_SCHEMA};
use crate::query::{CATALOG, sql_schema};
use crate::table::Catalog;

/// The type of every table; drivers ask for it by this word.
const TABLE_TYPE: &str = "TABLE";
/// Tables that one answer tells of.
const MAX_TABLES: usize = 100_000;
/// Tables of one batch, without and with their schemas.
const NAMES_PER_BATCH: usize = 10_000;
const SCHEMAS_PER_BATCH: usize = 200;

/// A metadata command.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum MetadataCommand {
    /// The one catalog.
    Catalogs(CommandGetCatalogs),
    /// The schemas that datasets are in.
    DbSchemas(CommandGetDbSchemas),
    /// Datasets.
    Tables(CommandGetTables),
    /// The one type of tables.
    TableTypes(CommandGetTableTypes),
    /// Keys, of which there are none.
    PrimaryKeys(CommandGetPrimaryKeys),
    /// Likewise.
    ExportedKeys(CommandGetExportedKeys),
    /// Likewise.
    ImportedKeys(CommandGetImportedKeys),
    /// Likewise.
    CrossReference(CommandGetCrossReference),
    /// What the server can do.
    SqlInfo(CommandGetSqlInfo),
    /// The types of SQL.
    XdbcTypeInfo(CommandGetXdbcTypeInfo),
}

fn decoded<T: Message + Default>(bytes: &[u8], name: &str) -> Result<T> {
    T::decode(bytes).map_err(|error| Error::invalid(format!("the {name} is cut or damaged")).because(error))
}

fn not_built(error: FlightError) -> Error {
    Error::internal("metadata cannot be put together").because(error)
}

impl MetadataCommand {
    /// Reads the command of this name; `None` when it is no metadata command.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when its bytes are damaged.
    pub(in super::super) fn read(name: &str, bytes: &[u8]) -> Result<Option<Self>> {
        Ok(Some(match name {
            "CommandGetCatalogs" => Self::Catalogs(decoded(bytes, name)?),
            "CommandGetDbSchemas" => Self::DbSchemas(decoded(bytes, name)?),
            "CommandGetTables" => Self::Tables(decoded(bytes, name)?),
            "CommandGetTableTypes" => Self::TableTypes(decoded(bytes, name)?),
            "CommandGetPrimaryKeys" => Self::PrimaryKeys(decoded(bytes, name)?),
            "CommandGetExportedKeys" => Self::ExportedKeys(decoded(bytes, name)?),
            "CommandGetImportedKeys" => Self::ImportedKeys(decoded(bytes, name)?),
            "CommandGetCrossReference" => Self::CrossReference(decoded(bytes, name)?),
            "CommandGetSqlInfo" => Self::SqlInfo(decoded(bytes, name)?),
            "CommandGetXdbcTypeInfo" => Self::XdbcTypeInfo(decoded(bytes, name)?),
            _ => return Ok(None),
        }))
    }

    /// The schema of its answer.
    pub(in super::super) fn schema(&self) -> SchemaRef {
        match self {
            Self::Catalogs(command) => command.into_builder().schema(),
            Self::DbSchemas(command) => command.clone().into_builder().schema(),
            Self::Tables(command) => command.clone().into_builder().schema(),
            Self::TableTypes(command) => command.into_builder().schema(),
            Self::PrimaryKeys(_) => Arc::clone(&PRIMARY_KEYS),
            Self::ExportedKeys(_) | Self::ImportedKeys(_) | Self::CrossReference(_) => Arc::clone(&FOREIGN_KEYS),
            Self::SqlInfo(_) => Arc::new(SqlInfoDataBuilder::schema().clone()),
            Self::XdbcTypeInfo(_) => XdbcTypeInfoDataBuilder::new().schema(),
        }
    }

    /// Its answer for a caller.
    ///
    /// # Errors
    /// [`Kind::Exhausted`] for more tables than can be told of, and those of reading datasets, also later in the
    /// stream.
    pub(in super::super) async fn answer(
        self,
        datasets: Arc<Catalog>,
        caller: Principal,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let batch = match self {
            Self::Catalogs(command) => {
                let mut builder = command.into_builder();
                builder.append(CATALOG);
                builder.build().map_err(not_built)?
            }
            Self::TableTypes(command) => {
                let mut builder = command.into_builder();
                builder.append(TABLE_TYPE);
                builder.build().map_err(not_built)?
            }
            Self::DbSchemas(command) => schemas(command, &datasets, &caller).await?,
            Self::Tables(command) => return tables(command, datasets, caller).await,
            Self::PrimaryKeys(_) => RecordBatch::new_empty(Arc::clone(&PRIMARY_KEYS)),
            Self::ExportedKeys(_) | Self::ImportedKeys(_) | Self::CrossReference(_) => {
                RecordBatch::new_empty(Arc::clone(&FOREIGN_KEYS))
            }
            Self::SqlInfo(command) => sql_info()?.record_batch(command.info).map_err(not_built)?,
            Self::XdbcTypeInfo(command) => type_infos()?.record_batch(command.data_type).map_err(not_built)?,
        };
        Ok(stream::once(std::future::ready(Ok(batch))).boxed())
    }
}

async fn schemas(command: CommandGetDbSchemas, datasets: &Catalog, caller: &Principal) -> Result<RecordBatch> {
    let mut found = BTreeSet::from([PUBLIC_SCHEMA.to_string()]);
    let mut after = None;
    loop {
        let (page, last) = datasets.list(caller, "", after.as_ref()).await?;
        found.extend(page.iter().map(|record| record.name.to_sql().0.to_string()));
        after = last;
        if after.is_none() {
            break;
        }
    }
    let mut builder = command.into_builder();
    found.iter().for_each(|schema| builder.append(CATALOG, schema));
    builder.build().map_err(not_built)
}

async fn tables(
    command: CommandGetTables,
    datasets: Arc<Catalog>,
    caller: Principal,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let (schema, with_schemas) = (command.clone().into_builder().schema(), command.include_schema);
    let names = table_names(&command, &datasets, &caller).await?;
    if names.is_empty() {
        return Ok(stream::once(std::future::ready(Ok(RecordBatch::new_empty(schema)))).boxed());
    }
    let step = if with_schemas { SCHEMAS_PER_BATCH } else { NAMES_PER_BATCH };
    let pages: Vec<Vec<DatasetName>> = names.chunks(step).map(<[DatasetName]>::to_vec).collect();
    let state = (datasets, caller);
    let batch = move |page: Vec<DatasetName>| {
        let (datasets, caller) = state.clone();
        async move { tables_batch(&page, with_schemas, &datasets, &caller).await }
    };
    Ok(stream::iter(pages).then(batch).try_filter(|batch| std::future::ready(batch.num_rows() > 0)).boxed())
}

/// The names that a command's filters leave, in the order of its answer.
async fn table_names(command: &CommandGetTables, datasets: &Catalog, caller: &Principal) -> Result<Vec<DatasetName>> {
    let mut names: Vec<DatasetName> = Vec::new();
    let mut after = None;
    loop {
        let (page, last) = datasets.list(caller, "", after.as_ref()).await?;
        let mut builder = CommandGetTables { include_schema: false, ..command.clone() }.into_builder();
        for record in &page {
            let (schema, table) = record.name.to_sql();
            builder.append(CATALOG, schema, table, TABLE_TYPE, &Schema::empty()).map_err(not_built)?;
        }
        let left = builder.build().map_err(not_built)?;
        let (schemas, tables) = (left.column(1).as_string::<i32>(), left.column(2).as_string::<i32>());
        for (schema, table) in schemas.iter().zip(tables) {
            names.push(DatasetName::from_sql(schema.unwrap_or_default(), table.unwrap_or_default())?);
        }
        if names.len() > MAX_TABLES {
            return Err(Error::exhausted(format!(
                "there are more than {MAX_TABLES} tables; give a schema or a name pattern"
            )));
        }
        after = last;
        if after.is_none() {
            break;
        }
    }
    names.sort_by(|one, other| one.to_sql().cmp(&other.to_sql()));
    Ok(names)
}

async fn tables_batch(
    page: &[DatasetName],
    with_schemas: bool,
    datasets: &Catalog,
    caller: &Principal,
) -> Result<RecordBatch> {
    let mut builder = CommandGetTables { include_schema: with_schemas, ..Default::default() }.into_builder();
    for name in page {
        let (schema, table) = name.to_sql();
        let columns = match with_schemas {
            false => Schema::empty(),
            true => match datasets.open(caller, name, Access::Read).await {
                Ok((_, snapshot)) => with_column_metadata(sql_schema(&snapshot)?.as_ref(), schema, table),
                // It was deleted meanwhile, or one that cannot be read: neither must hide the others.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt | Kind::Unimplemented) => continue,
                Err(error) => return Err(error),
            },
        };
        builder.append(CATALOG, schema, table, TABLE_TYPE, &columns).map_err(not_built)?;
    }
    builder.build().map_err(not_built)
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

static PRIMARY_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});
