//! The columns that partition a dataset: what they are, and what partition a row belongs to.
//!
//! A `Date` key puts a row in the partition of its UTC date, an `ID` key in a range of ids. Nulls have a partition of
//! their own. A chunk's folder names its partition for people, for example
//! `transaction_date/2024-01-01/customer_id/from_1000_to_2000/`; reading never depends on it.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int32Builder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Schema, TimestampMicrosecondType};
use chrono::{Datelike, NaiveDate};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, shorten};

/// The folder of rows whose key is null.
pub(super) const NULL_PARTITION: &str = "__null__";
const MICROS_PER_DAY: i64 = 86_400_000_000;
const UNIX_EPOCH_FROM_CE_DAYS: i32 = 719_163;
/// A folder's name is cut here, since file systems allow 255 bytes.
const MAX_FOLDER_BYTES: usize = 200;

/// How a key column partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyKind {
    /// By UTC date.
    Date,
    /// By contiguous ranges of ids.
    #[serde(rename = "ID")]
    Id,
}

impl KeyKind {
    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyKind::Date => "Date",
            KeyKind::Id => "ID",
        }
    }
}

/// The keys of a dataset: column name to kind.
pub type ColumnsKeys = BTreeMap<String, KeyKind>;

/// Reads `columns_keys` as a caller sent it.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for a kind other than `Date` and `ID`, naming the column.
pub fn parse_columns_keys<'a>(given: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<ColumnsKeys> {
    let kind = |(column, kind): (&String, &String)| match kind.as_str() {
        "Date" => Ok((column.clone(), KeyKind::Date)),
        "ID" => Ok((column.clone(), KeyKind::Id)),
        other => Err(Error::invalid(format!(
            "columns_keys: column '{}' has the kind '{}'; use 'Date' or 'ID'",
            shorten(column),
            shorten(other)
        ))),
    };
    given.into_iter().map(kind).collect()
}

/// The keys a load must follow: those of the dataset, which what the load itself gives must not contradict.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the column and both kinds.
pub(super) fn effective_keys(fixed: Option<&ColumnsKeys>, given: &ColumnsKeys) -> Result<ColumnsKeys> {
    let Some(fixed) = fixed else { return Ok(given.clone()) };
    for (column, kind) in given {
        let shown = shorten(column);
        match fixed.get(column) {
            Some(has) if has == kind => {}
            Some(has) => {
                return Err(Error::invalid(format!(
                    "columns_keys: column '{shown}' is a {} key of this dataset, not {}; leave columns_keys out",
                    has.as_str(),
                    kind.as_str()
                )));
            }
            None => {
                return Err(Error::invalid(format!(
                    "columns_keys: column '{shown}' is not a key of this dataset, whose keys were fixed by an earlier \
                     load; leave it out"
                )));
            }
        }
    }
    Ok(fixed.clone())
}

/// A key column in a load's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    /// The column's name.
    pub name: String,
    /// Its place in the load's schema; `None` when the load lacks it, so that all its rows have a null there.
    pub index: Option<usize>,
    /// Its place in the stored form; `None` also for a column of nulls alone.
    pub stored: Option<usize>,
    /// How it partitions.
    pub kind: KeyKind,
}

/// Finds the keys in a load's schema: `Date` keys first, then `ID`s, each in schema order. A key that the load itself
/// `given` must be there; one that an earlier load gave may be missing.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when a key column is absent or of a type that cannot be its key.
pub(super) fn find_keys(keys: &ColumnsKeys, given: &ColumnsKeys, schema: &Schema) -> Result<Vec<KeyColumn>> {
    let mut found = Vec::with_capacity(keys.len());
    for (name, kind) in keys {
        let Some((index, field)) = schema.column_with_name(name) else {
            if !given.contains_key(name) {
                found.push(KeyColumn { name: name.clone(), index: None, stored: None, kind: *kind });
                continue;
            }
            let columns: Vec<&str> = schema.fields().iter().take(20).map(|field| field.name().as_str()).collect();
            return Err(Error::invalid(format!(
                "columns_keys: the column '{}' is absent; the columns are: {}",
                shorten(name),
                shorten(&columns.join(", "))
            )));
        };
        if !can_be_key(*kind, field.data_type()) {
            let wanted = match kind {
                KeyKind::Date => "a date, a timestamp, or a string with ISO 8601 dates",
                KeyKind::Id => "an integer",
            };
            return Err(Error::invalid(format!(
                "columns_keys: the column '{}' of type {} cannot be a {} key; it must be {wanted}",
                shorten(name),
                field.data_type(),
                kind.as_str()
            )));
        }
        let index = Some(index);
        found.push(KeyColumn { name: name.clone(), index, stored: None, kind: *kind });
    }
    found.sort_by_key(|key| (key.kind, key.index));
    Ok(found)
}

fn can_be_key(kind: KeyKind, data_type: &DataType) -> bool {
    match (kind, data_type) {
        (_, DataType::Dictionary(_, values)) => can_be_key(kind, values),
        // A column of nulls alone has no type yet; all its rows are in the null partition.
        (_, DataType::Null) => true,
        (KeyKind::Id, _) => data_type.is_integer(),
        (KeyKind::Date, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)) => true,
        (KeyKind::Date, _) => data_type.is_string(),
    }
}

/// The UTC date of each row of a stored `Date` key column, in days since 1970-01-01.
///
/// `first_row` is the number of the column's first row within the load, for messages.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming column, row and value when a string is no ISO 8601 date.
pub(super) fn dates(column: &str, stored: &ArrayRef, first_row: i64) -> Result<Int32Array> {
    match stored.data_type() {
        DataType::Date32 => Ok(stored.as_primitive::<Date32Type>().reinterpret_cast()),
        DataType::Timestamp(..) => {
            let micros = stored.as_primitive::<TimestampMicrosecondType>();
            Ok(micros.unary(|value| value.div_euclid(MICROS_PER_DAY) as i32))
        }
        DataType::Utf8 => dates_of_strings(column, stored, first_row),
        other => Err(Error::internal(format!("a Date key is stored as {other}"))),
    }
}

fn dates_of_strings(column: &str, stored: &ArrayRef, first_row: i64) -> Result<Int32Array> {
    let texts = stored.as_string::<i32>();
    let mut days = Int32Builder::with_capacity(texts.len());
    // Neighbouring rows mostly share their instant; the last answer saves most of the parsing.
    let mut last: Option<(&str, i32)> = None;
    for (row, text) in texts.iter().enumerate() {
        let Some(text) = text else {
            days.append_null();
            continue;
        };
        let day = match last {
            Some((known, day)) if known == text => day,
            _ => parse_date(text).ok_or_else(|| {
                Error::invalid(format!(
                    "column '{}', row {}: '{}' is not an ISO 8601 date or timestamp; correct it, or leave the \
                     column out of columns_keys",
                    shorten(column),
                    first_row + row as i64,
                    shorten(text)
                ))
            })?,
        };
        last = Some((text, day));
        days.append_value(day);
    }
    Ok(days.finish())
}

/// The UTC date of an ISO 8601 date or timestamp, in days since 1970-01-01. Basic and extended forms, with or without
/// a zone; a space may stand for the `T`. The parsers of arrow and chrono each refuse some of these forms, and take
/// others that are no ISO 8601.
fn parse_date(text: &str) -> Option<i32> {
    let text = text.trim();
    let (date, rest) = match text.get(..10).and_then(|date| NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()) {
        Some(date) => (date, text.get(10..)?),
        None => {
            let digits = text.get(..8).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
            (NaiveDate::parse_from_str(digits, "%Y%m%d").ok()?, text.get(8..)?)
        }
    };
    let day = date.num_days_from_ce() - UNIX_EPOCH_FROM_CE_DAYS;
    if rest.is_empty() {
        return Some(day);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at_checked(zone_at)?;
    let minutes = parse_minutes(time.trim_end())? - parse_offset(zone)?;
    Some(day + minutes.div_euclid(MINUTES_PER_DAY))
}

const MINUTES_PER_DAY: i32 = 24 * 60;

fn two_digits(text: &str) -> Option<i32> {
    text.parse().ok().filter(|_| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
}

/// Minutes since midnight of `HH`, `HH:MM`, `HH:MM:SS`, each with or without colons, seconds with a fraction.
fn parse_minutes(time: &str) -> Option<i32> {
    let (time, fraction) = time.split_once(['.', ',']).unwrap_or((time, "0"));
    let parts: Vec<&str> = if time.contains(':') {
        time.split(':').collect()
    } else {
        (0..time.len()).step_by(2).map(|at| time.get(at..at + 2)).collect::<Option<_>>()?
    };
    let parts: Vec<i32> = parts.into_iter().map(two_digits).collect::<Option<_>>()?;
    let (hour, minute, second) = match parts.as_slice() {
        [hour] => (*hour, 0, 0),
        [hour, minute] => (*hour, *minute, 0),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return None,
    };
    // 24:00 is the end of the day, and a leap second is the 61st of its minute.
    let in_range = (hour < 24 && minute < 60 && second <= 60) || (hour, minute, second) == (24, 0, 0);
    let plain = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    (in_range && plain).then_some(hour * 60 + minute)
}

/// Minutes east of UTC of ``, `Z`, `+HH`, `+HHMM` or `+HH:MM`.
fn parse_offset(zone: &str) -> Option<i32> {
    let sign = match zone.as_bytes() {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let digits: String = zone.chars().skip(1).filter(|c| *c != ':').collect();
    let hours = two_digits(digits.get(..2)?)?;
    let minutes = if digits.len() == 2 { 0 } else { two_digits(digits.get(2..)?)? };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// The date of a partition as its folder names it, for example `2024-01-01`.
pub(super) fn format_day(day: i32) -> String {
    match NaiveDate::from_num_days_from_ce_opt(day.saturating_add(UNIX_EPOCH_FROM_CE_DAYS)) {
        Some(date) => date.format("%Y-%m-%d").to_string(),
        // Beyond the calendar's range (about 262,000 years): the number still names the partition.
        None => format!("day_{day}"),
    }
}

/// The ids of a stored `ID` key column. 128 bits hold both signed and unsigned ones.
pub(super) fn ids(stored: &ArrayRef) -> Result<Vec<Option<i128>>> {
    let wide = cast(stored, &DataType::Decimal128(38, 0))
        .map_err(|error| Error::internal("an ID key is not stored as an integer").because(error))?;
    Ok(wide.as_primitive::<arrow::datatypes::Decimal128Type>().iter().collect())
}

/// What a chunk holds of one key: a level of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum KeyRange {
    /// Rows whose key is null.
    Null,
    /// Rows of one UTC date, in days since 1970-01-01.
    Day(i32),
    /// Rows whose id lies between the bounds, both inclusive.
    Ids(i128, i128),
}

impl KeyRange {
    fn folder(self) -> String {
        match self {
            KeyRange::Null => NULL_PARTITION.into(),
            KeyRange::Day(day) => format_day(day),
            KeyRange::Ids(from, to) => format!("from_{from}_to_{to}"),
        }
    }
}

/// The folder of a partition below the dataset's root, `column/value/` for each key; empty without keys.
pub(super) fn partition_folder(keys: &[KeyColumn], ranges: &[KeyRange]) -> String {
    keys.iter().zip(ranges).map(|(key, range)| format!("{}/{}/", encode_folder(&key.name), range.folder())).collect()
}

const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');

/// A column name as a folder: percent-encoded but for letters, digits, `_`, `-` and `.`.
fn encode_folder(column: &str) -> String {
    let mut folder = utf8_percent_encode(column, PLAIN).to_string();
    if folder.chars().all(|c| c == '.') {
        folder = folder.replace('.', "%2E");
    }
    // Cutting keeps ASCII boundaries; two long names that fall together share a folder, which harms nothing.
    folder.truncate(MAX_FOLDER_BYTES);
    if folder.is_empty() { "%00".into() } else { folder }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;

    use super::*;

    fn days(texts: &[&str]) -> Result<Vec<String>> {
        let array: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        Ok(dates("d", &array, 0)?.iter().map(|day| day.map_or("null".into(), format_day)).collect())
    }

    #[test]
    fn strings_are_read_as_utc_dates() {
        for (text, date) in [
            ("2013-01-01T05:00:00Z", "2013-01-01"),
            ("2024-01-01", "2024-01-01"),
            ("20240102", "2024-01-02"),
            ("20240102T235959.5", "2024-01-02"),
            ("2024-01-01T23:30:00-02:00", "2024-01-02"),
            ("2024-03-01T00:30+0100", "2024-02-29"),
            ("2024-02-29 12:00", "2024-02-29"),
            ("2024-02-29T12Z", "2024-02-29"),
            ("2024-12-31T24:00:00", "2025-01-01"),
            ("1969-12-31T23:59:60,25 +01", "1969-12-31"),
        ] {
            assert_eq!(days(&[text]).unwrap(), [date], "{text}");
        }
    }

    #[test]
    fn a_bad_date_names_column_row_and_value() {
        for bad in [
            "",
            "yesterday",
            "2024-13-01",
            "01/02/2024",
            "2023-02-29",
            "12",
            "Z",
            "2024-01-01T",
            "2024-01-01T25:00",
            "2024-01-01x",
            "2024-01-01T10:00+1",
            "2024-01-01T10:0é",
            "éééééééé",
        ] {
            let error = days(&["2024-01-01", bad]).unwrap_err();
            assert!(error.message().contains("column 'd', row 1") && error.message().contains(bad), "{error}");
        }
    }

    #[test]
    fn times_before_1970_fall_on_their_own_day() {
        let array: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![-1, 0]));
        assert_eq!(dates("t", &array, 0).unwrap().values(), &[-1, 0]);
    }

    #[test]
    fn folders_name_the_partition() {
        let keys = [
            KeyColumn { name: "my date/é".into(), index: Some(0), stored: Some(0), kind: KeyKind::Date },
            KeyColumn { name: "id".into(), index: Some(1), stored: Some(1), kind: KeyKind::Id },
        ];
        let folder = partition_folder(&keys, &[KeyRange::Day(19_723), KeyRange::Ids(-5, 10)]);
        assert_eq!(folder, "my%20date%2F%C3%A9/2024-01-01/id/from_-5_to_10/");
        assert_eq!(
            partition_folder(&keys, &[KeyRange::Null, KeyRange::Null]),
            "my%20date%2F%C3%A9/__null__/id/__null__/"
        );
        assert_eq!(encode_folder(".."), "%2E%2E");
    }

    #[test]
    fn keys_cannot_be_contradicted() {
        let fixed: ColumnsKeys = [("d".to_string(), KeyKind::Date)].into();
        assert_eq!(effective_keys(Some(&fixed), &ColumnsKeys::new()).unwrap(), fixed);
        for given in [("d", KeyKind::Id), ("e", KeyKind::Date)] {
            let given: ColumnsKeys = [(given.0.to_string(), given.1)].into();
            assert!(effective_keys(Some(&fixed), &given).is_err());
        }
    }
}
