//! Items: how values are written into attributes and read from them.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, Utc};

use crate::error::{Error, Result};

/// The attribute that holds the form of an item.
pub(super) const FORMAT_VERSION: &str = "format_version";
/// The form of items as written now.
const FORMAT: i64 = 1;
/// The attribute by which DynamoDB deletes items.
pub(super) const EXPIRES_AT: &str = "expires_at";

/// An item as DynamoDB takes and gives it.
pub(super) type Attributes = HashMap<String, AttributeValue>;

/// A string.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A whole number.
pub(super) fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// An instant.
pub(super) fn instant(at: DateTime<Utc>) -> AttributeValue {
    number(at.timestamp_micros())
}

/// The form of items as written now.
pub(super) fn format_version() -> AttributeValue {
    number(FORMAT)
}

/// A key.
pub(super) fn key(pk: &str, sk: &str) -> Attributes {
    HashMap::from([("pk".to_string(), text(pk)), ("sk".to_string(), text(sk))])
}

/// A whole item, with its form.
pub(super) fn whole<const N: usize>(pk: &str, sk: &str, attributes: [(&str, AttributeValue); N]) -> Attributes {
    let mut item = key(pk, sk);
    item.insert(FORMAT_VERSION.into(), format_version());
    item.extend(attributes.into_iter().map(|(name, value)| (name.to_string(), value)));
    item
}

/// What `#name` stands for in expressions: the attribute `name`, for each that occurs. Written out, an attribute could
/// be one of DynamoDB's 573 reserved words.
pub(super) fn aliases(expressions: &[&str]) -> HashMap<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut aliases = HashMap::new();
    for expression in expressions {
        for part in expression.split('#').skip(1) {
            let name = part.split(|c| !is_name(c)).next().unwrap_or_default();
            aliases.insert(format!("#{name}"), name.to_string());
        }
    }
    aliases
}

/// An item that was read.
pub(super) struct Item<'a>(&'a Attributes);

impl<'a> Item<'a> {
    /// An item of a form that this program knows.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when a newer pandas-db wrote it, or it is no item of ours.
    pub(super) fn new(attributes: &'a Attributes) -> Result<Self> {
        let item = Self(attributes);
        match item.number(FORMAT_VERSION)? {
            format if format > FORMAT => Err(Error::corrupt(format!(
                "a version record has the format {format}, and this program reads up to {FORMAT}; use a newer pandas-db"
            ))),
            _ => Ok(item),
        }
    }

    /// A string that must be there.
    pub(super) fn text(&self, name: &str) -> Result<&'a str> {
        let value = self.0.get(name).and_then(|value| value.as_s().ok());
        value.map(String::as_str).ok_or_else(|| damaged(name))
    }

    /// A whole number that must be there.
    pub(super) fn number(&self, name: &str) -> Result<i64> {
        self.optional_number(name)?.ok_or_else(|| damaged(name))
    }

    /// A whole number that may be absent.
    pub(super) fn optional_number(&self, name: &str) -> Result<Option<i64>> {
        let number = |value: &AttributeValue| value.as_n().ok().and_then(|digits| digits.parse().ok());
        self.0.get(name).map(|value| number(value).ok_or_else(|| damaged(name))).transpose()
    }

    /// An instant that must be there.
    pub(super) fn instant(&self, name: &str) -> Result<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.number(name)?).ok_or_else(|| damaged(name))
    }
}

fn damaged(name: &str) -> Error {
    Error::corrupt(format!("a version record is damaged: its '{name}' cannot be read; run `pandas-db repair`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alias_of_an_expression_is_found() {
        let found = aliases(&["#log_version < :v AND attribute_not_exists(#pk)", "SET #rows = :r, #bytes=:b"]);
        let mut names: Vec<_> = found.values().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["bytes", "log_version", "pk", "rows"]);
        assert!(found.iter().all(|(alias, name)| alias.strip_prefix('#') == Some(name)));
    }

    #[test]
    fn newer_and_damaged_items_are_refused() {
        let newer = HashMap::from([(FORMAT_VERSION.to_string(), number(FORMAT + 1))]);
        assert!(Item::new(&newer).err().unwrap().message().contains("newer pandas-db"));
        assert!(Item::new(&HashMap::new()).is_err());
        let item = whole("p", "s", [("rows", text("many")), ("bytes", number(7))]);
        let item = Item::new(&item).unwrap();
        assert!(item.number("rows").unwrap_err().message().contains("'rows'"));
        assert_eq!((item.number("bytes").unwrap(), item.text("pk").unwrap()), (7, "p"));
        assert_eq!(item.optional_number("absent").unwrap(), None);
    }
}
