//! Bulk ingest: rows for a table, as drivers send them, are a load like any other.

use std::collections::HashMap;

use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption};

use crate::error::{Error, Result, shorten};
use crate::names::DatasetName;
use crate::proto::LoadDataframe;
use crate::query::{CATALOG, SessionOptions};
use crate::table::Creation;

/// The load that an ingest asks for, and what is to become of the table.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the field that cannot be,
/// [`Kind::Unimplemented`](crate::error::Kind::Unimplemented) for a temporary table.
pub(in super::super) fn ingest_command(
    command: CommandStatementIngest,
    session: &SessionOptions,
) -> Result<(LoadDataframe, Creation)> {
    if command.temporary {
        return Err(Error::unimplemented("temporary: there are no temporary tables; leave it out and drop the table"));
    }
    if let Some(other) = command.catalog.as_deref().filter(|catalog| !catalog.is_empty() && *catalog != CATALOG) {
        return Err(Error::invalid(format!("catalog: '{}' is not there; the only one is {CATALOG}", shorten(other))));
    }
    let creation = creation(command.table_definition_options)?;
    let schema = command.schema.as_deref().filter(|schema| !schema.is_empty()).unwrap_or(session.schema());
    let name = DatasetName::from_sql(schema, &command.table)?;
    let mut load = LoadDataframe { dataframe_name: name.as_str().into(), ..Default::default() };
    for (option, value) in command.options {
        match option.as_str() {
            "external_key" => load.external_key = Some(value),
            "keep_last" => load.keep_last = truth(&option, &value)?,
            "columns_keys" => load.columns_keys = columns_keys(&value)?,
            "idempotency_key" => load.idempotency_key = Some(value),
            "total_rows" => load.total_rows = Some(number(&option, &value)?),
            other => {
                return Err(Error::invalid(format!(
                    "options: there is no option '{}'; there are external_key, keep_last, columns_keys, \
                     idempotency_key and total_rows",
                    shorten(other)
                )));
            }
        }
    }
    Ok((load, creation))
}

fn creation(options: Option<TableDefinitionOptions>) -> Result<Creation> {
    use {TableExistsOption as E, TableNotExistOption as N};
    let options = options.unwrap_or_default();
    match (options.if_not_exist(), options.if_exists()) {
        (N::Create, E::Fail) => Ok(Creation::MustCreate),
        (N::Create, E::Append) => Ok(Creation::CreateOrAppend),
        (N::Create, E::Replace) => Ok(Creation::Replace),
        (N::Fail, E::Append) => Ok(Creation::MustExist),
        _ => Err(Error::invalid(
            "table_definition_options: give if_not_exist CREATE with if_exists FAIL, APPEND or REPLACE, or FAIL with \
             APPEND",
        )),
    }
}

fn truth(option: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::invalid(format!("options: {option} is '{}'; give true or false", shorten(value)))),
    }
}

fn number(option: &str, value: &str) -> Result<i64> {
    value
        .parse()
        .map_err(|error| Error::invalid(format!("options: {option} is no number: '{}'", shorten(value))).because(error))
}

/// Keys as JSON, `{"day": "Date"}`, or as `day:Date,item:ID`.
fn columns_keys(value: &str) -> Result<HashMap<String, String>> {
    let wrong = || {
        let shown = shorten(value);
        Error::invalid(format!("options: columns_keys is '{shown}'; write it as {{\"day\": \"Date\"}} or day:Date"))
    };
    if value.trim_start().starts_with('{') {
        return serde_json::from_str(value).map_err(|error| wrong().because(error));
    }
    let pair = |pair: &str| pair.rsplit_once(':').map(|(column, kind)| (column.trim().into(), kind.trim().into()));
    value.split(',').filter(|part| !part.trim().is_empty()).map(|part| pair(part).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(table: &str, options: &[(&str, &str)]) -> CommandStatementIngest {
        CommandStatementIngest {
            table: table.into(),
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: TableNotExistOption::Create as i32,
                if_exists: TableExistsOption::Append as i32,
            }),
            options: options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn an_ingest_is_a_load_with_its_options() {
        let session = SessionOptions::default().with_schema("sales/eu").unwrap();
        let options = [("external_key", "monday"), ("keep_last", "true"), ("columns_keys", "day:Date, item:ID")];
        let (load, creation) = ingest_command(command("2024", &options), &session).unwrap();
        assert_eq!((load.dataframe_name.as_str(), load.external_key.as_deref()), ("sales/eu/2024", Some("monday")));
        assert_eq!((load.keep_last, load.columns_keys.len()), (true, 2));
        assert_eq!(creation, Creation::CreateOrAppend);
        let json = [("columns_keys", r#"{"a:b": "Date"}"#)];
        let (load, _) = ingest_command(command("t", &json), &SessionOptions::default()).unwrap();
        assert_eq!(load.columns_keys.get("a:b").map(String::as_str), Some("Date"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let session = SessionOptions::default();
        for (table, options) in [
            ("t@last", vec![]),
            ("t$versions", vec![]),
            ("t", vec![("colour", "red")]),
            ("t", vec![("keep_last", "perhaps")]),
            ("t", vec![("columns_keys", "day")]),
        ] {
            assert!(ingest_command(command(table, &options), &session).is_err(), "{table} {options:?}");
        }
        let unspecified = CommandStatementIngest { table: "t".into(), ..Default::default() };
        assert!(ingest_command(unspecified, &session).is_err());
    }
}
