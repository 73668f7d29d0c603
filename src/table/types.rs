//! How an Arrow type is stored, and how SQL sees it.
//!
//! A chunk holds *physical* types: those that Delta Lake knows, chosen so that nothing is lost and so that a later
//! load can widen a column without rewriting old chunks (every integer is a `long`). The *logical* schema, which is
//! what was sent, is kept in the version record and applied again on reading (`convert.rs`). SQL sees the *SQL type*:
//! the nearest one that the engine computes with exactly and that old clients can read.
//!
//! | logical | physical | SQL |
//! |---|---|---|
//! | null | not stored | null |
//! | bool, date32, float32, float64 | the same | the same |
//! | int8 … int64, uint8 … uint32 | int64 | the same as logical |
//! | uint64 | decimal(20, 0) | uint64 |
//! | float16 | float32 | float32 |
//! | strings, large and view ones too | utf8 | utf8 |
//! | binary, large, view, fixed size | binary | binary |
//! | date64 | timestamp µs | timestamp µs |
//! | timestamp s, ms, µs | timestamp µs (with a zone: UTC) | the same as logical |
//! | timestamp ns | timestamp µs, and the remainder in a hidden column where one is not zero | the same as logical |
//! | time32, time64, duration, interval year-month | int32 or int64 | the same as logical |
//! | interval day-time, month-day-nano | struct | the same as logical; inside a list, struct or map the struct |
//! | decimal to 38 digits, scale 0 or more | decimal128 | decimal128 |
//! | decimal256, negative scale | utf8 | decimal128 or decimal256 of scale 0 or more, or utf8 |
//! | dictionary, run-end encoded | that of the values | that of the values |
//! | list, large list, list view, fixed size list | list of the physical type | list of the SQL type |
//! | struct, map | of the physical types | of the SQL types |
//! | timestamp ns inside a list, struct or map | int64 nanoseconds | timestamp ns |

use std::sync::Arc;

use arrow::datatypes::{DECIMAL256_MAX_PRECISION, DataType, Field, FieldRef, Fields, IntervalUnit, TimeUnit};

use crate::error::{Error, Result};

/// How deep types may nest.
pub(super) const MAX_TYPE_DEPTH: usize = 32;
const MAX_DECIMAL128_PRECISION: u8 = 38;

fn nullable(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

/// The type in which a column of `logical` type is stored; `None` for the null type, which needs no storage.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for a type that cannot be kept, naming column and type.
pub(super) fn physical_type(column: &str, logical: &DataType) -> Result<Option<DataType>> {
    if matches!(logical, DataType::Null) {
        return Ok(None);
    }
    match logical {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => Ok(Some(microseconds(zone.is_some()))),
        _ => stored(column, logical, 0).map(Some),
    }
}

/// Whether a top-level column of this type may need a remainder column for its nanoseconds.
pub(super) fn has_remainder(logical: &DataType) -> bool {
    matches!(logical, DataType::Timestamp(TimeUnit::Nanosecond, _))
}

fn microseconds(zoned: bool) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "UTC".into()))
}

fn stored(column: &str, logical: &DataType, depth: usize) -> Result<DataType> {
    use DataType as D;
    if depth > MAX_TYPE_DEPTH {
        return Err(Error::invalid(format!("column '{column}': types nest deeper than {MAX_TYPE_DEPTH} levels")));
    }
    Ok(match logical {
        // A null type inside a list or struct needs some stored form; its values are never read.
        D::Null | D::Boolean => D::Boolean,
        D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 => D::Int64,
        D::UInt64 => D::Decimal128(20, 0),
        D::Float16 | D::Float32 => D::Float32,
        D::Float64 => D::Float64,
        D::Utf8 | D::LargeUtf8 | D::Utf8View => D::Utf8,
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => D::Binary,
        D::Date32 => D::Date32,
        D::Date64 => microseconds(false),
        D::Timestamp(TimeUnit::Nanosecond, _) => D::Int64,
        D::Timestamp(_, zone) => microseconds(zone.is_some()),
        D::Time32(_) | D::Interval(IntervalUnit::YearMonth) => D::Int32,
        D::Time64(_) | D::Duration(_) => D::Int64,
        D::Interval(unit) => D::Struct(interval_fields(*unit)),
        D::Decimal32(p, s) | D::Decimal64(p, s) | D::Decimal128(p, s) | D::Decimal256(p, s) => {
            if *p <= MAX_DECIMAL128_PRECISION && *s >= 0 { D::Decimal128(*p, *s) } else { D::Utf8 }
        }
        D::Dictionary(_, values) => stored(column, values, depth + 1)?,
        D::RunEndEncoded(_, values) => stored(column, values.data_type(), depth + 1)?,
        D::List(f) | D::LargeList(f) | D::ListView(f) | D::LargeListView(f) | D::FixedSizeList(f, _) => {
            D::List(nullable("element", stored(column, f.data_type(), depth + 1)?))
        }
        // Parquet has no struct without fields: what is left of it is whether it is there.
        D::Struct(fields) if fields.is_empty() => D::Boolean,
        D::Struct(fields) => D::Struct(struct_fields(column, fields, depth)?),
        D::Map(entries, _) => {
            let D::Struct(pair) = entries.data_type() else {
                return Err(unsupported(column, logical));
            };
            let [key, value] = pair.as_ref() else { return Err(unsupported(column, logical)) };
            let key = Field::new("key", stored(column, key.data_type(), depth + 1)?, false);
            let value = nullable("value", stored(column, value.data_type(), depth + 1)?);
            D::Map(Arc::new(Field::new("key_value", D::Struct(Fields::from(vec![Arc::new(key), value])), false)), false)
        }
        D::Union(..) => return Err(unsupported(column, logical)),
    })
}

/// The fields of the struct in which an interval is stored.
pub(super) fn interval_fields(unit: IntervalUnit) -> Fields {
    match unit {
        IntervalUnit::MonthDayNano => Fields::from(vec![
            nullable("months", DataType::Int32),
            nullable("days", DataType::Int32),
            nullable("nanoseconds", DataType::Int64),
        ]),
        _ => Fields::from(vec![nullable("days", DataType::Int32), nullable("milliseconds", DataType::Int32)]),
    }
}

/// Fields of a stored struct: Parquet and Delta want names that differ in more than case.
fn struct_fields(column: &str, fields: &Fields, depth: usize) -> Result<Fields> {
    let names = unique_names(fields.iter().map(|field| field.name().as_str()));
    fields
        .iter()
        .zip(names)
        .map(|(field, name)| Ok(nullable(&name, stored(column, field.data_type(), depth + 1)?)))
        .collect()
}

/// Makes names unique ignoring case, leaving the first of each as it is; the empty name becomes `column`.
pub(super) fn unique_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = std::collections::HashSet::new();
    names.map(|name| free_name(name, |candidate| taken.insert(candidate.to_lowercase()))).collect()
}

/// The first of `name`, `name_2`, `name_3`, … that `take` accepts.
pub(super) fn free_name(name: &str, mut take: impl FnMut(&str) -> bool) -> String {
    let base = if name.is_empty() { "column" } else { name };
    if take(base) {
        return base.to_string();
    }
    let mut number = 2u64;
    loop {
        let candidate = format!("{base}_{number}");
        if take(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

fn unsupported(column: &str, logical: &DataType) -> Error {
    Error::invalid(format!("column '{column}': the type {logical} cannot be stored; convert it first"))
}

/// The type that SQL sees for a column of `logical` type.
pub fn sql_type(logical: &DataType) -> DataType {
    use DataType as D;
    match logical {
        D::Utf8 | D::LargeUtf8 | D::Utf8View => D::Utf8,
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => D::Binary,
        D::Float16 => D::Float32,
        D::Date64 => microseconds(false),
        D::Decimal32(p, s) | D::Decimal64(p, s) | D::Decimal128(p, s) if *s >= 0 => D::Decimal128(*p, *s),
        D::Decimal32(p, s) | D::Decimal64(p, s) | D::Decimal128(p, s) | D::Decimal256(p, s) if *s < 0 => {
            // The same numbers, with their zeros written out.
            match p.saturating_add(s.unsigned_abs()) {
                digits @ ..=MAX_DECIMAL128_PRECISION => D::Decimal128(digits, 0),
                digits @ ..=DECIMAL256_MAX_PRECISION => D::Decimal256(digits, 0),
                _ => D::Utf8,
            }
        }
        D::Dictionary(_, values) => sql_type(values),
        D::RunEndEncoded(_, values) => sql_type(values.data_type()),
        D::List(f) | D::LargeList(f) | D::ListView(f) | D::LargeListView(f) | D::FixedSizeList(f, _) => {
            // The engine's functions make lists with this name, and take no others beside them.
            D::List(nullable("item", nested_sql_type(f.data_type())))
        }
        D::Struct(fields) if fields.is_empty() => D::Boolean,
        D::Struct(fields) => {
            let names = unique_names(fields.iter().map(|field| field.name().as_str()));
            D::Struct(
                fields.iter().zip(names).map(|(f, name)| nullable(&name, nested_sql_type(f.data_type()))).collect(),
            )
        }
        D::Map(entries, _) => sql_map(entries),
        other => other.clone(),
    }
}

/// Inside a list or struct, nulls and intervals are read as what they are stored as.
fn nested_sql_type(logical: &DataType) -> DataType {
    match logical {
        DataType::Null => DataType::Boolean,
        DataType::Interval(unit @ (IntervalUnit::DayTime | IntervalUnit::MonthDayNano)) => {
            DataType::Struct(interval_fields(*unit))
        }
        other => sql_type(other),
    }
}

fn sql_map(entries: &FieldRef) -> DataType {
    let DataType::Struct(pair) = entries.data_type() else { return DataType::Null };
    let [key, value] = pair.as_ref() else { return DataType::Null };
    let key = Field::new("key", nested_sql_type(key.data_type()), false);
    let value = nullable("value", nested_sql_type(value.data_type()));
    let pair = DataType::Struct(Fields::from(vec![Arc::new(key), value]));
    DataType::Map(Arc::new(Field::new("key_value", pair, false)), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unions_are_refused_by_name() {
        let union = DataType::Union(arrow::datatypes::UnionFields::empty(), arrow::datatypes::UnionMode::Dense);
        let error = physical_type("u", &union).unwrap_err();
        assert!(error.message().contains("column 'u'"), "{error}");
    }

    #[test]
    fn too_deep_types_are_refused() {
        let mut deep = DataType::Int8;
        for _ in 0..=MAX_TYPE_DEPTH {
            deep = DataType::List(nullable("item", deep));
        }
        assert!(physical_type("deep", &deep).is_err());
    }

    #[test]
    fn names_become_unique_ignoring_case() {
        assert_eq!(unique_names(["a", "A", "", "a_2", "a"].into_iter()), ["a", "A_2", "column", "a_2_2", "a_3"]);
    }
}
