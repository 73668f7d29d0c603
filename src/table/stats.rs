//! Minimum, maximum and null count of a chunk's columns: from Parquet, as Delta's JSON, and in the index.
//!
//! The numbers bound what a chunk holds; they need not be tight (long strings are cut, the upper bound rounded up). A
//! float column that holds NaN has no bounds: statistics ignore NaN, while the query engine sorts it above everything.

use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int32Type, Int64Type, Schema, TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// A bound of a column in the index.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// An integer, a date in days or a timestamp in microseconds.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Text(Box<str>),
    /// A boolean.
    Bool(bool),
}

/// What the index knows of one column of one chunk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ColumnStats {
    /// No value is smaller.
    pub min: Option<Bound>,
    /// No value is greater.
    pub max: Option<Bound>,
    /// Nulls.
    pub nulls: Option<u64>,
}

/// Reads the bounds of a written chunk, per column of `schema` that has any: the JSON of Delta's `stats`.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when Parquet's own statistics do not fit the schema.
pub(super) fn delta_stats(metadata: &ParquetMetaData, schema: &Schema) -> Result<String> {
    let broken = |error| Error::internal("the statistics of a chunk cannot be read").because(error);
    let parquet = metadata.file_metadata().schema_descr();
    let (mut min, mut max, mut nulls) = (Map::new(), Map::new(), Map::new());
    for field in schema.fields().iter().filter(|field| is_bounded(field.data_type())) {
        let converter = StatisticsConverter::try_new(field.name(), schema, parquet).map_err(broken)?;
        let groups = metadata.row_groups();
        let counts = converter.row_group_null_counts(groups).map_err(broken)?;
        nulls.extend(total(&counts).map(|count| (field.name().clone(), json!(count))));
        let mins = converter.row_group_mins(groups).map_err(broken)?;
        let maxes = converter.row_group_maxes(groups).map_err(broken)?;
        min.extend(extreme(&mins, &counts, metadata, false).map(|value| (field.name().clone(), value)));
        max.extend(extreme(&maxes, &counts, metadata, true).map(|value| (field.name().clone(), value)));
    }
    let rows = metadata.file_metadata().num_rows();
    Ok(json!({"numRecords": rows, "minValues": min, "maxValues": max, "nullCount": nulls}).to_string())
}

fn is_bounded(data_type: &DataType) -> bool {
    use DataType as D;
    matches!(
        data_type,
        D::Int64 | D::Int32 | D::Float32 | D::Float64 | D::Boolean | D::Utf8 | D::Date32 | D::Timestamp(..)
    )
}

fn total(counts: &UInt64Array) -> Option<u64> {
    counts.iter().sum()
}

/// The smallest minimum or greatest maximum over all row groups; nothing when a group with values has none.
fn extreme(bounds: &ArrayRef, nulls: &UInt64Array, metadata: &ParquetMetaData, greatest: bool) -> Option<Value> {
    let mut best: Option<Bound> = None;
    for (group, meta) in metadata.row_groups().iter().enumerate() {
        let all_null = nulls.is_valid(group) && nulls.value(group) as i64 == meta.num_rows();
        let Some(bound) = bound_at(bounds, group) else { if all_null { continue } else { return None } };
        best = match best {
            Some(known) if is_less(&bound, &known) == greatest => Some(known),
            _ => Some(bound),
        };
    }
    best.and_then(|bound| to_json(&bound, bounds.data_type()))
}

fn bound_at(bounds: &ArrayRef, at: usize) -> Option<Bound> {
    use DataType as D;
    if bounds.is_null(at) {
        return None;
    }
    Some(match bounds.data_type() {
        D::Int64 => Bound::Int(bounds.as_primitive::<Int64Type>().value(at)),
        D::Int32 => Bound::Int(bounds.as_primitive::<Int32Type>().value(at).into()),
        D::Date32 => Bound::Int(bounds.as_primitive::<Date32Type>().value(at).into()),
        D::Timestamp(..) => Bound::Int(bounds.as_primitive_opt::<TimestampMicrosecondType>()?.value(at)),
        D::Float32 => Bound::Float(bounds.as_primitive::<Float32Type>().value(at).into()),
        D::Float64 => Bound::Float(bounds.as_primitive::<Float64Type>().value(at)),
        D::Boolean => Bound::Bool(bounds.as_boolean().value(at)),
        D::Utf8 => Bound::Text(bounds.as_string::<i32>().value(at).into()),
        _ => return None,
    })
}

fn is_less(a: &Bound, b: &Bound) -> bool {
    match (a, b) {
        (Bound::Int(a), Bound::Int(b)) => a < b,
        (Bound::Float(a), Bound::Float(b)) => a < b,
        (Bound::Text(a), Bound::Text(b)) => a < b,
        (Bound::Bool(a), Bound::Bool(b)) => a < b,
        _ => false,
    }
}

fn to_json(bound: &Bound, data_type: &DataType) -> Option<Value> {
    Some(match (bound, data_type) {
        (Bound::Int(days), DataType::Date32) => {
            let date = DateTime::UNIX_EPOCH.date_naive().checked_add_signed(chrono::TimeDelta::try_days(*days)?)?;
            // Other readers expect four digits of year.
            (0..=9_999).contains(&chrono::Datelike::year(&date)).then(|| json!(date.format("%Y-%m-%d").to_string()))?
        }
        (Bound::Int(micros), DataType::Timestamp(_, zone)) => {
            let instant = DateTime::from_timestamp_micros(*micros)?;
            let form = if zone.is_some() { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%S%.6f" };
            let year = chrono::Datelike::year(&instant);
            (0..=9_999).contains(&year).then(|| json!(instant.format(form).to_string()))?
        }
        (Bound::Int(value), _) => json!(value),
        (Bound::Float(value), _) => value.is_finite().then(|| json!(value))?,
        (Bound::Text(value), _) => json!(value),
        (Bound::Bool(value), _) => json!(value),
    })
}

/// What the index keeps of Delta's `stats`, for the columns of `schema` in order, and the number of rows.
///
/// # Errors
/// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the text is no JSON object or lacks the number of rows.
pub(super) fn parse_stats(text: &str, schema: &Schema) -> Result<(u64, Box<[ColumnStats]>)> {
    let damaged = || Error::corrupt("the statistics of a chunk are damaged");
    let stats: Value = serde_json::from_str(text).map_err(|error| damaged().because(error))?;
    let rows = stats.get("numRecords").and_then(Value::as_u64).ok_or_else(damaged)?;
    let column = |field: &arrow::datatypes::FieldRef| {
        let bound = |kind: &str| from_json(stats.get(kind)?.get(field.name())?, field.data_type());
        let nulls = stats.get("nullCount").and_then(|nulls| nulls.get(field.name())).and_then(Value::as_u64);
        ColumnStats { min: bound("minValues"), max: bound("maxValues"), nulls }
    };
    Ok((rows, schema.fields().iter().map(column).collect()))
}

fn from_json(value: &Value, data_type: &DataType) -> Option<Bound> {
    Some(match data_type {
        DataType::Date32 => {
            let date = NaiveDate::parse_from_str(value.as_str()?, "%Y-%m-%d").ok()?;
            Bound::Int(date.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days())
        }
        DataType::Timestamp(..) => {
            let text = value.as_str()?.trim_end_matches('Z');
            Bound::Int(
                chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?.and_utc().timestamp_micros(),
            )
        }
        DataType::Int32 | DataType::Int64 => Bound::Int(value.as_i64()?),
        DataType::Float32 | DataType::Float64 => Bound::Float(value.as_f64()?),
        DataType::Utf8 => Bound::Text(value.as_str()?.into()),
        DataType::Boolean => Bound::Bool(value.as_bool()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, TimeUnit};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bounds_survive_json(int in any::<i64>(), float in any::<f64>(), text in "\\PC*") {
            let micros = int.rem_euclid(200_000_000_000_000_000);
            for (bound, data_type) in [
                (Bound::Int(int), DataType::Int64),
                (Bound::Int(micros), DataType::Timestamp(TimeUnit::Microsecond, None)),
                (Bound::Int(micros), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
                (Bound::Int(int.rem_euclid(2_000_000)), DataType::Date32),
                (Bound::Text(text.as_str().into()), DataType::Utf8),
            ] {
                let json = to_json(&bound, &data_type).unwrap();
                prop_assert_eq!(from_json(&json, &data_type), Some(bound));
            }
            if float.is_finite() {
                let text = to_json(&Bound::Float(float), &DataType::Float64).unwrap().to_string();
                let back: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(from_json(&back, &DataType::Float64), Some(Bound::Float(float)));
            }
        }
    }

    #[test]
    fn stats_without_rows_are_damaged() {
        let schema = Schema::new(vec![Field::new("x", DataType::Int64, true)]);
        assert!(parse_stats("{}", &schema).is_err());
        let (rows, stats) = parse_stats(r#"{"numRecords":2,"minValues":{"x":1}}"#, &schema).unwrap();
        assert_eq!((rows, stats[0].min.clone()), (2, Some(Bound::Int(1))));
    }
}
