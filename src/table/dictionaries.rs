//! The dictionaries of a read: those of its versions, joined in their order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::categories::{Categories, count_dictionaries, empty_values, union};
use super::dataset::Dataset;
use super::record::{StoredCategories, VersionRecord, decode_batch, decode_inline_batch};
use super::selection::SelectedRows;
use super::writer::chunk_location;
use crate::error::{Error, Result};
use crate::storage::store_error;

/// The dictionaries of each column of a frame, in the depth-first order of its type.
#[derive(Clone, Default)]
pub(super) struct Dictionaries {
    columns: Vec<(String, Vec<ArrayRef>, Categories)>,
}

impl Dictionaries {
    /// Reads the dictionaries that the columns of `schema` had in the selected versions, and joins them.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when they are damaged, and those of reading their files.
    pub(super) async fn load(dataset: &Dataset, rows: &SelectedRows, schema: &Schema) -> Result<Self> {
        let wanted = schema.fields().iter().filter(|field| count_dictionaries(field.data_type()) > 0);
        let mut joined: Vec<(String, Vec<ArrayRef>)> = wanted.map(|field| (field.name().clone(), Vec::new())).collect();
        if joined.is_empty() {
            return Ok(Self::default());
        }
        let mut last: Option<(&StoredCategories, Vec<ArrayRef>)> = None;
        for version in rows.versions.iter().chain(&rows.amendments) {
            let Some(stored) = &version.record.categories else { continue };
            // Versions that follow one another mostly have the same dictionaries.
            let values = match last.take().filter(|(known, _)| *known == stored) {
                Some((_, values)) => values,
                None => load_values(dataset, &version.record, stored).await?,
            };
            let mut rest = values.iter().cloned();
            for field in version.schema.fields() {
                let own: Vec<ArrayRef> = rest.by_ref().take(count_dictionaries(field.data_type())).collect();
                if let Some((_, known)) = joined.iter_mut().find(|(name, _)| name == field.name()) {
                    join(known, own)?;
                }
            }
            last = Some((stored, values));
        }
        let columns = joined.into_iter().map(|(name, values)| Ok((name, values.clone(), Categories::new(values)?)));
        Ok(Self { columns: columns.collect::<Result<_>>()? })
    }

    /// Those of one column.
    pub(super) fn of(&self, column: &str) -> Categories {
        let found = self.columns.iter().find(|(name, ..)| name == column);
        found.map(|(_, _, categories)| categories.clone()).unwrap_or_default()
    }

    /// The schema with key types that number all joined categories: 8 bits may do for each batch of a load, or for each
    /// version, but not for all.
    ///
    /// # Errors
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) for more categories than any key type numbers.
    pub(super) fn with_wide_keys(&self, schema: &SchemaRef) -> Result<SchemaRef> {
        let widened = schema.fields().iter().map(|field| {
            let known = self.columns.iter().find(|(name, ..)| name == field.name());
            let (Some((_, values, _)), DataType::Dictionary(key, value)) = (known, field.data_type()) else {
                return Ok(Arc::clone(field));
            };
            let count = values.first().map_or(0, |values| values.len());
            let key = wide_key(key, count).ok_or_else(|| {
                Error::exhausted(format!("column '{}' has more categories than can be numbered", field.name()))
            })?;
            let data_type = DataType::Dictionary(Box::new(key), value.clone());
            Ok(Arc::new(Field::clone(field).with_data_type(data_type)))
        });
        let fields = widened.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())))
    }
}

fn wide_key(key: &DataType, count: usize) -> Option<DataType> {
    use DataType as D;
    let (unsigned, signed) = ([D::UInt8, D::UInt16, D::UInt32, D::UInt64], [D::Int8, D::Int16, D::Int32, D::Int64]);
    let kinds = if key.is_unsigned_integer() { unsigned } else { signed };
    let holds = |kind: &D| {
        let bits = kind.primitive_width().unwrap_or(8) * 8 - usize::from(kind.is_signed_integer());
        bits >= usize::BITS as usize || count <= 1 << bits
    };
    let from = kinds.iter().position(|kind| kind == key)?;
    kinds.into_iter().skip(from).find(holds)
}

async fn load_values(dataset: &Dataset, record: &VersionRecord, stored: &StoredCategories) -> Result<Vec<ArrayRef>> {
    let batch = match stored {
        StoredCategories::Inline(text) => decode_inline_batch(text)?,
        StoredCategories::File(path) => {
            let location = chunk_location(dataset.root(), path)?;
            let missing = format!("reading the categories of version {}", record.version);
            let stored = dataset.store().get_opts(&location, Default::default()).await;
            let stored = stored.map_err(|error| store_error(&missing, error))?;
            let bytes = stored.bytes().await.map_err(|error| store_error(&missing, error))?;
            decode_batch(bytes.to_vec())?
        }
    };
    Categories::unpack(Some(&batch))
}

fn join(known: &mut Vec<ArrayRef>, own: Vec<ArrayRef>) -> Result<()> {
    if known.is_empty() {
        *known = own;
        return Ok(());
    }
    for (known, own) in known.iter_mut().zip(own) {
        let own = if own.data_type() == known.data_type() { own } else { empty_values(known.data_type()) };
        *known = union(known, &own)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_widen_only_as_far_as_needed() {
        assert_eq!(wide_key(&DataType::Int8, 128), Some(DataType::Int8));
        assert_eq!(wide_key(&DataType::Int8, 129), Some(DataType::Int16));
        assert_eq!(wide_key(&DataType::UInt8, 256), Some(DataType::UInt8));
        assert_eq!(wide_key(&DataType::UInt8, 70_000), Some(DataType::UInt32));
        assert_eq!(wide_key(&DataType::Int64, 129), Some(DataType::Int64));
    }
}
