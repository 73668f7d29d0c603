//! The types of SQL: their names, and what `CommandGetXdbcTypeInfo` and the metadata of columns tell of them.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType as Xdbc, XdbcDatetimeSubcode as Subcode};

use crate::error::{Error, Result};
use crate::query::CATALOG;

/// What is told of one type.
struct SqlType {
    name: &'static str,
    xdbc: Xdbc,
    /// Digits of numbers, characters of dates, bytes or characters of others at most.
    size: i32,
    kind: Family,
}

/// What types have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Other,
    Text,
    Integer { unsigned: bool },
    Decimal,
    Float,
    Time(Option<Subcode>),
}

const fn sql_type(name: &'static str, xdbc: Xdbc, size: i32, kind: Family) -> SqlType {
    SqlType { name, xdbc, size, kind }
}

const SIGNED: Family = Family::Integer { unsigned: false };
const UNSIGNED: Family = Family::Integer { unsigned: true };
const UNBOUNDED: i32 = i32::MAX;

const TYPES: [SqlType; 25] = [
    sql_type("BOOLEAN", Xdbc::XdbcBit, 1, Family::Other),
    sql_type("TINYINT", Xdbc::XdbcTinyint, 3, SIGNED),
    sql_type("TINYINT UNSIGNED", Xdbc::XdbcTinyint, 3, UNSIGNED),
    sql_type("SMALLINT", Xdbc::XdbcSmallint, 5, SIGNED),
    sql_type("SMALLINT UNSIGNED", Xdbc::XdbcSmallint, 5, UNSIGNED),
    sql_type("INTEGER", Xdbc::XdbcInteger, 10, SIGNED),
    sql_type("INTEGER UNSIGNED", Xdbc::XdbcInteger, 10, UNSIGNED),
    sql_type("BIGINT", Xdbc::XdbcBigint, 19, SIGNED),
    sql_type("BIGINT UNSIGNED", Xdbc::XdbcBigint, 20, UNSIGNED),
    sql_type("REAL", Xdbc::XdbcReal, 7, Family::Float),
    sql_type("FLOAT", Xdbc::XdbcFloat, 7, Family::Float),
    sql_type("DOUBLE", Xdbc::XdbcDouble, 15, Family::Float),
    sql_type("DECIMAL", Xdbc::XdbcDecimal, 76, Family::Decimal),
    sql_type("NUMERIC", Xdbc::XdbcNumeric, 76, Family::Decimal),
    sql_type("CHAR", Xdbc::XdbcChar, UNBOUNDED, Family::Text),
    sql_type("VARCHAR", Xdbc::XdbcVarchar, UNBOUNDED, Family::Text),
    sql_type("VARBINARY", Xdbc::XdbcVarbinary, UNBOUNDED, Family::Other),
    sql_type("DATE", Xdbc::XdbcDate, 10, Family::Time(Some(Subcode::XdbcSubcodeYear))),
    sql_type("TIME", Xdbc::XdbcTime, 18, Family::Time(Some(Subcode::XdbcSubcodeTime))),
    sql_type("TIMESTAMP", Xdbc::XdbcTimestamp, 29, Family::Time(Some(Subcode::XdbcSubcodeTimestamp))),
    sql_type(
        "TIMESTAMP WITH TIME ZONE",
        Xdbc::XdbcTimestamp,
        35,
        Family::Time(Some(Subcode::XdbcSubcodeTimestampWithTimezone)),
    ),
    sql_type("INTERVAL", Xdbc::XdbcInterval, 64, Family::Time(None)),
    sql_type("ARRAY", Xdbc::XdbcUnknownType, UNBOUNDED, Family::Other),
    sql_type("STRUCT", Xdbc::XdbcUnknownType, UNBOUNDED, Family::Other),
    sql_type("MAP", Xdbc::XdbcUnknownType, UNBOUNDED, Family::Other),
];

/// The name of a column's type in SQL.
pub(super) fn type_name(data_type: &DataType) -> &'static str {
    use DataType as D;
    match data_type {
        D::Null => "NULL",
        D::Boolean => "BOOLEAN",
        D::Int8 => "TINYINT",
        D::UInt8 => "TINYINT UNSIGNED",
        D::Int16 => "SMALLINT",
        D::UInt16 => "SMALLINT UNSIGNED",
        D::Int32 => "INTEGER",
        D::UInt32 => "INTEGER UNSIGNED",
        D::Int64 => "BIGINT",
        D::UInt64 => "BIGINT UNSIGNED",
        D::Float16 | D::Float32 => "REAL",
        D::Float64 => "DOUBLE",
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => "DECIMAL",
        D::Utf8 | D::LargeUtf8 | D::Utf8View => "VARCHAR",
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => "VARBINARY",
        D::Date32 | D::Date64 => "DATE",
        D::Time32(_) | D::Time64(_) => "TIME",
        D::Timestamp(_, None) => "TIMESTAMP",
        D::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE",
        D::Duration(_) | D::Interval(_) => "INTERVAL",
        D::List(_) | D::LargeList(_) | D::FixedSizeList(..) | D::ListView(_) | D::LargeListView(_) => "ARRAY",
        D::Struct(_) | D::Union(..) => "STRUCT",
        D::Map(..) => "MAP",
        D::Dictionary(_, values) => type_name(values),
        D::RunEndEncoded(_, values) => type_name(values.data_type()),
    }
}

/// What `CommandGetXdbcTypeInfo` answers.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when it cannot be put together, which is a defect.
pub(super) fn type_infos() -> Result<XdbcTypeInfoData> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    TYPES.iter().for_each(|sql_type| builder.append(sql_type.info()));
    builder.build().map_err(|error| Error::internal("the types of SQL cannot be put together").because(error))
}

impl SqlType {
    fn info(&self) -> XdbcTypeInfo {
        let quote = matches!(self.kind, Family::Text | Family::Time(_)).then(|| "'".to_string());
        let is_number = matches!(self.kind, Family::Integer { .. } | Family::Decimal | Family::Float);
        let (subcode, is_time) = match self.kind {
            Family::Time(subcode) => (subcode, subcode.is_some()),
            _ => (None, false),
        };
        XdbcTypeInfo {
            type_name: self.name.into(),
            data_type: self.xdbc,
            column_size: Some(self.size),
            literal_prefix: quote.clone(),
            literal_suffix: quote,
            create_params: (self.kind == Family::Decimal).then(|| vec!["precision".into(), "scale".into()]),
            nullable: Nullable::NullabilityNullable,
            case_sensitive: self.kind == Family::Text,
            searchable: if self.kind == Family::Text { Searchable::Full } else { Searchable::Basic },
            unsigned_attribute: match self.kind {
                Family::Integer { unsigned } => Some(unsigned),
                _ => is_number.then_some(false),
            },
            fixed_prec_scale: false,
            auto_increment: Some(false),
            local_type_name: Some(self.name.into()),
            minimum_scale: matches!(self.kind, Family::Decimal | Family::Integer { .. }).then_some(0),
            maximum_scale: match self.kind {
                Family::Decimal => Some(self.size),
                Family::Integer { .. } => Some(0),
                _ => None,
            },
            // Of dates and times the verbose code is one for all, and the subcode tells them apart.
            sql_data_type: if is_time { Xdbc::XdbcDatetime } else { self.xdbc },
            datetime_subcode: subcode,
            num_prec_radix: is_number.then_some(10),
            interval_precision: None,
        }
    }
}

/// The schema of a table with what drivers read from the metadata of its columns
/// (`ARROW:FLIGHT:SQL:…`, as `FlightSql.proto` names them).
pub(super) fn with_column_metadata(schema: &Schema, db_schema: &str, table: &str) -> Schema {
    let field = |field: &arrow::datatypes::FieldRef| {
        let mut metadata: HashMap<String, String> = HashMap::new();
        let mut tell = |key: &str, value: String| metadata.insert(format!("ARROW:FLIGHT:SQL:{key}"), value);
        tell("CATALOG_NAME", CATALOG.into());
        // The protocol says one, and its first implementations another.
        tell("DB_SCHEMA_NAME", db_schema.into());
        tell("SCHEMA_NAME", db_schema.into());
        tell("TABLE_NAME", table.into());
        tell("TYPE_NAME", type_name(field.data_type()).into());
        if let Some((precision, scale)) = digits(field.data_type()) {
            tell("PRECISION", precision.to_string());
            tell("SCALE", scale.to_string());
        }
        for (key, value) in [("IS_AUTO_INCREMENT", false), ("IS_READ_ONLY", false), ("IS_SEARCHABLE", true)] {
            tell(key, i32::from(value).to_string());
        }
        tell("IS_CASE_SENSITIVE", i32::from(type_name(field.data_type()) == "VARCHAR").to_string());
        Field::clone(field).with_metadata(metadata)
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

/// Digits in all, and behind the point.
fn digits(data_type: &DataType) -> Option<(i32, i32)> {
    use DataType as D;
    if let D::Decimal32(p, s) | D::Decimal64(p, s) | D::Decimal128(p, s) | D::Decimal256(p, s) = data_type {
        return Some((i32::from(*p), i32::from(*s)));
    }
    let fraction = match data_type {
        D::Timestamp(unit, _) | D::Time32(unit) | D::Time64(unit) => match unit {
            TimeUnit::Second => 0,
            TimeUnit::Millisecond => 3,
            TimeUnit::Microsecond => 6,
            TimeUnit::Nanosecond => 9,
        },
        _ => 0,
    };
    let name = type_name(data_type);
    let known = TYPES.iter().find(|sql_type| sql_type.name == name && sql_type.size != UNBOUNDED);
    known.map(|sql_type| (sql_type.size, fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_told_and_can_be_asked_for() {
        assert_eq!(type_infos().unwrap().record_batch(None).unwrap().num_rows(), TYPES.len());
        assert_eq!(type_infos().unwrap().record_batch(Some(Xdbc::XdbcBigint as i32)).unwrap().num_rows(), 2);
        for data_type in [DataType::UInt8, DataType::Float16, DataType::Date32, DataType::Utf8] {
            assert!(TYPES.iter().any(|sql_type| sql_type.name == type_name(&data_type)));
        }
    }

    #[test]
    fn columns_tell_their_types() {
        let schema = Schema::new(vec![Field::new("d", DataType::Decimal128(12, 2), true)]);
        let told = with_column_metadata(&schema, "shop", "prices");
        let metadata = told.field(0).metadata();
        let get = |key: &str| metadata.get(&format!("ARROW:FLIGHT:SQL:{key}")).map(String::as_str);
        assert_eq!((get("TYPE_NAME"), get("PRECISION"), get("SCALE")), (Some("DECIMAL"), Some("12"), Some("2")));
    }
}
