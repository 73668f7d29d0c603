//! The dataset that a statement writes.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

use super::super::options::SessionOptions;
use super::super::session::CATALOG;
use crate::error::{Error, Result, shorten};
use crate::names::DatasetName;

/// A table that a statement writes, as SQL names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenTable {
    /// The schema.
    pub schema: String,
    /// The name in it.
    pub table: String,
}

impl WrittenTable {
    /// Reads a name.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a name that no dataset can have, or that of a version.
    pub(super) fn read(name: &ObjectName, options: &SessionOptions) -> Result<Self> {
        let parts: Vec<String> = name.0.iter().map(part).collect::<Result<_>>()?;
        let (schema, table) = match parts.as_slice() {
            [table] => (options.schema(), table),
            [schema, table] => (schema.as_str(), table),
            [catalog, schema, table] if catalog == CATALOG => (schema.as_str(), table),
            _ => {
                return Err(Error::invalid(format!(
                    "'{}' names no table; a table is schema.table in the catalog {CATALOG}",
                    shorten(&name.to_string())
                )));
            }
        };
        if table.contains(['@', '$']) {
            return Err(Error::invalid(format!(
                "'{}' cannot be written: '@' and '$' name versions and what a dataset consists of; write the dataset \
                 itself",
                shorten(table)
            )));
        }
        Ok(Self { schema: schema.into(), table: table.clone() })
    }

    /// The dataset that it is.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a name that no dataset can have.
    pub(super) fn dataset(&self) -> Result<DatasetName> {
        DatasetName::from_sql(&self.schema, &self.table)
    }
}

fn part(part: &ObjectNamePart) -> Result<String> {
    match part {
        ObjectNamePart::Identifier(ident) => Ok(folded(ident)),
        ObjectNamePart::Function(_) => Err(Error::invalid("a function cannot be written; name a table")),
    }
}

/// An identifier as names are compared: without quotes its case does not matter.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The last part of a name that may be qualified, as that of a column.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when it is no identifier.
pub(super) fn column_name(name: &ObjectName) -> Result<String> {
    name.0.last().map_or_else(|| Err(Error::invalid("a column has no name")), part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&str]) -> Result<WrittenTable> {
        let parts = parts.iter().map(|part| ObjectNamePart::Identifier(Ident::new(*part)));
        WrittenTable::read(&ObjectName(parts.collect()), &SessionOptions::default())
    }

    #[test]
    fn names_of_one_to_three_parts() {
        assert_eq!(read(&["T"]).unwrap(), WrittenTable { schema: "public".into(), table: "t".into() });
        assert_eq!(read(&["s", "t"]).unwrap(), read(&["pandas_db", "s", "t"]).unwrap());
        assert!(read(&["other", "s", "t"]).is_err() && read(&["t@last"]).is_err() && read(&["t$versions"]).is_err());
    }
}
