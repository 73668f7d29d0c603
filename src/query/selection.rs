//! A `GetDataframe` as the rows that it selects.

use super::table_name::parse_instant;
use crate::error::Result;
use crate::names::ExternalKey;
use crate::proto::GetDataframe;
use crate::table::Selection;

/// The rows that a `GetDataframe` selects.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the field that cannot be.
pub fn selection(command: &GetDataframe) -> Result<Selection> {
    let external_key = command.external_key.as_deref().map(|key| ExternalKey::parse(Some(key))).transpose()?;
    let as_of = command.as_of.as_deref().map(parse_instant).transpose()?;
    let (use_last, version, columns) = (command.use_last, command.version, command.columns.clone());
    Ok(Selection { external_key, use_last, version, as_of, columns })
}
