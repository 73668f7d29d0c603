//! What a client sets for its session: the schema of bare names, a time limit, how many endpoints a result may have.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::session::{CATALOG, DEFAULT_SCHEMA};
use crate::error::{Error, Result, shorten};
use crate::names::{DatasetName, PUBLIC_SCHEMA};

/// The most endpoints that a client may ask for.
const MAX_ENDPOINTS: i64 = 64;

/// The options of a session. What is absent is as the server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOptions {
    /// The schema of names that give none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    /// Milliseconds that a statement may take; never more than the server allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query_timeout_ms: Option<u64>,
    /// Endpoints that the result of a query may be fetched through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoints: Option<usize>,
}

/// The value of an option, as a client gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
}

/// An option that cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of this name.
    UnknownName,
    /// It cannot have this value.
    BadValue,
}

impl SessionOptions {
    /// Sets an option, or gives it its default where there is no value.
    ///
    /// # Errors
    /// Why it cannot be set; then nothing changed.
    pub fn set(&mut self, name: &str, value: Option<OptionValue>) -> Result<(), Refusal> {
        match (name, value) {
            ("catalog", None) => {}
            ("catalog", Some(OptionValue::Text(catalog))) if catalog == CATALOG || catalog.is_empty() => {}
            ("schema", None) => self.schema = None,
            ("schema", Some(OptionValue::Text(schema))) => {
                let schema = Some(schema).filter(|schema| !schema.is_empty());
                self.schema = schema.map(checked_schema).transpose().map_err(|_| Refusal::BadValue)?;
            }
            ("query_timeout", None) => self.query_timeout_ms = None,
            ("query_timeout", Some(value)) => {
                let limit = parse_timeout(&value).filter(|limit| *limit > 0).ok_or(Refusal::BadValue)?;
                self.query_timeout_ms = Some(limit);
            }
            ("endpoints", None) => self.endpoints = None,
            ("endpoints", Some(value)) => {
                let number = parse_number(&value).filter(|number| (1..=MAX_ENDPOINTS).contains(number));
                self.endpoints = Some(number.ok_or(Refusal::BadValue)? as usize);
            }
            ("catalog", Some(_)) => return Err(Refusal::BadValue),
            _ => return Err(Refusal::UnknownName),
        }
        Ok(())
    }

    /// All options with their values.
    pub fn all(&self) -> Vec<(&'static str, OptionValue)> {
        let mut all = vec![
            ("catalog", OptionValue::Text(CATALOG.into())),
            ("schema", OptionValue::Text(self.schema().into())),
            ("endpoints", OptionValue::Number(self.endpoints() as i64)),
        ];
        if let Some(limit) = self.query_timeout_ms {
            all.push(("query_timeout", OptionValue::Text(format!("{limit}ms"))));
        }
        all
    }

    /// These options with another schema of bare names.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) when no dataset can be in a schema of this name.
    pub fn with_schema(mut self, schema: &str) -> Result<Self> {
        self.schema = Some(checked_schema(schema.to_string())?);
        Ok(self)
    }

    /// The schema of names that give none.
    pub fn schema(&self) -> &str {
        self.schema.as_deref().unwrap_or(DEFAULT_SCHEMA)
    }

    /// Endpoints that the result of a query may be fetched through.
    pub fn endpoints(&self) -> usize {
        self.endpoints.unwrap_or(1)
    }

    /// The time a statement may take on a server that allows `most`.
    pub fn timeout(&self, most: Duration) -> Duration {
        self.query_timeout_ms.map_or(most, |limit| most.min(Duration::from_millis(limit)))
    }
}

fn checked_schema(schema: String) -> Result<String> {
    if schema == PUBLIC_SCHEMA {
        return Ok(schema);
    }
    let name = DatasetName::parse(&schema).map_err(|error| {
        Error::invalid(format!("schema: no dataset can be in '{}': {}", shorten(&schema), error.message()))
    })?;
    Ok(name.as_str().into())
}

fn parse_number(value: &OptionValue) -> Option<i64> {
    match value {
        OptionValue::Number(number) => Some(*number),
        OptionValue::Text(text) => text.trim().parse().ok(),
    }
}

/// Whole seconds, or a time with its unit such as `500ms`.
fn parse_timeout(value: &OptionValue) -> Option<u64> {
    let duration = match (value, parse_number(value)) {
        (_, Some(seconds)) => Duration::from_secs(u64::try_from(seconds).ok()?),
        (OptionValue::Text(text), None) => humantime::parse_duration(text.trim()).ok()?,
        (OptionValue::Number(_), None) => return None,
    };
    u64::try_from(duration.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<OptionValue> {
        Some(OptionValue::Text(value.into()))
    }

    #[test]
    fn options_are_set_and_taken_back() {
        let mut options = SessionOptions::default();
        assert_eq!((options.schema(), options.endpoints()), ("public", 1));
        options.set("schema", text("sales/eu")).unwrap();
        options.set("catalog", text("pandas_db")).unwrap();
        options.set("query_timeout", text("1500ms")).unwrap();
        options.set("endpoints", Some(OptionValue::Number(4))).unwrap();
        assert_eq!((options.schema(), options.endpoints()), ("sales/eu", 4));
        assert_eq!(options.timeout(Duration::from_secs(60)), Duration::from_millis(1_500));
        assert_eq!(options.timeout(Duration::from_secs(1)), Duration::from_secs(1));
        for name in ["schema", "query_timeout", "endpoints", "catalog"] {
            options.set(name, None).unwrap();
        }
        assert_eq!(options, SessionOptions::default());
    }

    #[test]
    fn what_cannot_be_set_is_named_and_changes_nothing() {
        let mut options = SessionOptions::default();
        assert_eq!(options.set("colour", text("red")), Err(Refusal::UnknownName));
        for (name, value) in [("catalog", "other"), ("schema", "a//b"), ("query_timeout", "-1"), ("endpoints", "0")] {
            assert_eq!(options.set(name, text(value)), Err(Refusal::BadValue), "{name}");
        }
        assert_eq!(options, SessionOptions::default());
    }
}
