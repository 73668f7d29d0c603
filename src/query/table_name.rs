//! What stands behind the name of a dataset in SQL: `dataset@last`, `dataset@key=K@last`, `dataset$versions`.
//!
//! Neither `@` nor `$` can be in a dataset's name, and `@` not in an external key, so a name means one thing only.

use chrono::{DateTime, Utc};

use crate::error::{Error, Result, shorten};
use crate::names::ExternalKey;
use crate::table::Selection;

/// A table's name in SQL.
#[derive(Debug)]
pub(super) struct TableName<'a> {
    /// The dataset, without its schema.
    pub dataset: &'a str,
    /// What of it.
    pub part: TablePart,
}

/// What of a dataset a table shows.
#[derive(Debug)]
pub(super) enum TablePart {
    /// Its rows.
    Rows(Selection),
    /// Its versions, one row each.
    Versions,
    /// Its chunks, one row for each version in each.
    Chunks,
}

impl<'a> TableName<'a> {
    /// Reads a name; `None` when no table can have it.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a version or an instant that is none.
    pub(super) fn parse(name: &'a str) -> Result<Option<Self>> {
        // A key may hold a dollar sign.
        if let Some((dataset, part)) = name.split_once('$').filter(|(dataset, _)| !dataset.contains('@')) {
            let part = match part {
                "versions" => TablePart::Versions,
                "chunks" => TablePart::Chunks,
                _ => return Ok(None),
            };
            return Ok(Some(Self { dataset, part }));
        }
        let mut parts = name.split('@');
        let dataset = parts.next().unwrap_or_default();
        let mut selection = Selection::default();
        let parts: Vec<&str> = parts.collect();
        match parts.as_slice() {
            [] => {}
            ["last"] => selection.use_last = true,
            [one] => match one.split_once('=') {
                Some(("key", key)) => selection.external_key = Some(ExternalKey::parse(Some(key))?),
                Some(("version", number)) => selection.version = Some(parse_version(number)?),
                Some(("as_of", instant)) => selection.as_of = Some(parse_instant(instant)?),
                _ => return Ok(None),
            },
            [key, "last"] => match key.split_once('=') {
                Some(("key", key)) => {
                    (selection.external_key, selection.use_last) = (Some(ExternalKey::parse(Some(key))?), true);
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }
        Ok(Some(Self { dataset, part: TablePart::Rows(selection) }))
    }
}

fn parse_version(text: &str) -> Result<i64> {
    let shown = shorten(text);
    text.parse().map_err(|error| Error::invalid(format!("version: '{shown}' is not a number")).because(error))
}

/// Reads an ISO 8601 instant; a date alone means its first moment in UTC.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when it is none.
pub fn parse_instant(text: &str) -> Result<DateTime<Utc>> {
    arrow::compute::kernels::cast_utils::string_to_datetime(&Utc, &extended(text.trim())).map_err(|error| {
        let shown = shorten(text);
        Error::invalid(format!("as_of: '{shown}' is not an ISO 8601 instant such as 2024-06-01T00:00:00Z"))
            .because(error)
    })
}

/// ISO 8601's extended form with seconds, which the parser wants, of its basic form, of one without seconds, or with a
/// comma before the fraction. Whatever else it is comes back as it is.
fn extended(text: &str) -> String {
    let (date, rest) = text.split_at(text.find(['T', 't', ' ']).unwrap_or(text.len()));
    let zone = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone);
    let time = time.replace(',', ".");
    let (clock, fraction) = time.split_at(time.find('.').unwrap_or(time.len()));
    let is_basic = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (mark, clock) = clock.split_at(clock.len().min(1));
    let pairs = |digits: &str, widths: &[usize], sign: &str| {
        let mut rest = digits;
        let mut parts = Vec::new();
        for width in widths {
            let (part, after) = rest.split_at(rest.len().min(*width));
            parts.extend(Some(part).filter(|part| !part.is_empty()));
            rest = after;
        }
        parts.join(sign)
    };
    let date = if date.len() == 8 && is_basic(date) { pairs(date, &[4, 2, 2], "-") } else { date.to_string() };
    let mut clock = if is_basic(clock) { pairs(clock, &[2, 2, 2], ":") } else { clock.to_string() };
    if clock.matches(':').count() == 1 {
        clock.push_str(":00");
    }
    format!("{date}{mark}{clock}{fraction}{zone}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(name: &str) -> Selection {
        match TableName::parse(name).unwrap().unwrap().part {
            TablePart::Rows(selection) => selection,
            other => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn every_form_of_the_contract_is_understood() {
        assert!(selection("d@last").use_last);
        assert_eq!(selection("d@key=K=1").external_key.unwrap().as_str(), "K=1");
        let last = selection("d@key=K@last");
        assert!(last.use_last && last.external_key.unwrap().as_str() == "K");
        assert_eq!(selection("d@version=7").version, Some(7));
        assert_eq!(selection("d@as_of=2024-06-01T00:00:00Z").as_of, selection("d@as_of=2024-06-01").as_of);
        assert_eq!(selection("d@as_of=2024-06-01T02:30+02:30").as_of, selection("d@as_of=2024-06-01T00:00Z").as_of);
        for same in ["20240601T000000Z", "2024-06-01T00:00:00,000Z", "20240601", "2024-06-01 00:00"] {
            assert_eq!(parse_instant(same).unwrap(), parse_instant("2024-06-01T00:00:00Z").unwrap(), "{same}");
        }
        assert_eq!(selection("d@key=$versions").external_key.unwrap().as_str(), "$versions");
        assert!(matches!(TableName::parse("d$chunks").unwrap().unwrap().part, TablePart::Chunks));
    }

    #[test]
    fn other_forms_are_no_tables_and_bad_values_are_named() {
        for name in ["d$x", "d@first", "d@last@last", "d@key=K@version=1", "d@version=1@last"] {
            assert!(TableName::parse(name).unwrap().is_none(), "{name}");
        }
        assert!(TableName::parse("d@version=x").unwrap_err().message().contains("'x'"));
        assert!(TableName::parse("d@as_of=yesterday").unwrap_err().message().contains("yesterday"));
    }
}
