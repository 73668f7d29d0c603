//! One growing dictionary per column, for formats that take no other.
//!
//! An Arrow IPC file has one dictionary per column, to which values may be added; a stream may change it from batch
//! to batch, as a dataset does whose versions have different categories.
//!
//! Promises: no value is dropped, moved or repeated once it stands in the dictionary, new ones are appended in the
//! order they come, and batches that share a dictionary cost nothing. Dictionaries inside nested types are left alone.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, make_array, new_empty_array,
};
use arrow::compute::{CastOptions, cast_with_options, concat, take};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};

/// The dictionaries of a schema's columns.
pub(super) struct Dictionaries(Vec<Option<Growing>>);

impl Dictionaries {
    /// Empty dictionaries for the columns that have one.
    pub(super) fn of(schema: &Schema) -> Result<Self, ArrowError> {
        let columns = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Dictionary(_, values) => Growing::new(values),
            _ => Ok(None),
        });
        Ok(Self(columns.collect::<Result<_, _>>()?))
    }

    /// The same rows, with the keys of the one dictionary so far.
    pub(super) fn unify(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = batch.columns().iter().zip(&mut self.0).map(|(column, growing)| match growing {
            Some(growing) => growing.unify(column),
            None => Ok(Arc::clone(column)),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(batch.schema(), columns.collect::<Result<_, _>>()?, &options)
    }
}

struct Growing {
    values: ArrayRef,
    positions: HashMap<OwnedRow, i64>,
    rows: RowConverter,
    /// The last dictionary seen, and where its values stand in this one.
    last: Option<(ArrayRef, Int64Array)>,
}

impl Growing {
    /// None for values that cannot be compared.
    fn new(data_type: &DataType) -> Result<Option<Self>, ArrowError> {
        let fields = vec![SortField::new(data_type.clone())];
        if !RowConverter::supports_fields(&fields) {
            return Ok(None);
        }
        let values = new_empty_array(data_type);
        Ok(Some(Self { values, positions: HashMap::new(), rows: RowConverter::new(fields)?, last: None }))
    }

    fn unify(&mut self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let DataType::Dictionary(key_type, _) = column.data_type() else {
            return Ok(Arc::clone(column));
        };
        let Some(dictionary) = column.as_any_dictionary_opt() else {
            return Ok(Arc::clone(column));
        };
        let places = self.places(dictionary.values())?;
        let keys = take(&places, dictionary.keys(), None)?;
        // A key type too small for all values together is an error, not a null.
        let strict = CastOptions { safe: false, ..Default::default() };
        let keys = cast_with_options(&keys, key_type, &strict)?.into_data().into_builder();
        let unified = keys.data_type(column.data_type().clone()).add_child_data(self.values.to_data()).build()?;
        Ok(make_array(unified))
    }

    /// Where the values of a dictionary stand in this one, after those that are new to it were added.
    fn places(&mut self, values: &ArrayRef) -> Result<Int64Array, ArrowError> {
        if let Some((seen, places)) = &self.last
            && seen.to_data().ptr_eq(&values.to_data())
        {
            return Ok(places.clone());
        }
        let rows = self.rows.convert_columns(&[Arc::clone(values)])?;
        let mut places = Vec::with_capacity(values.len());
        let mut fresh = Vec::new();
        for (row, at) in rows.iter().zip(0_i64..) {
            let next = self.positions.len() as i64;
            let place = *self.positions.entry(row.owned()).or_insert(next);
            if place == next {
                fresh.push(at);
            }
            places.push(place);
        }
        if !fresh.is_empty() {
            let added = take(values, &Int64Array::from(fresh), None)?;
            self.values = concat(&[self.values.as_ref(), added.as_ref()])?;
        }
        let places = Int64Array::from(places);
        self.last = Some((Arc::clone(values), places.clone()));
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int8Array, StringArray};
    use arrow::compute::cast;
    use arrow::datatypes::{Field, Int8Type};

    fn batch(keys: Vec<Option<i8>>, values: Vec<&str>) -> RecordBatch {
        let values: ArrayRef = Arc::new(StringArray::from(values));
        let column = DictionaryArray::<Int8Type>::try_new(Int8Array::from(keys), values).unwrap();
        let field = Field::new("c", column.data_type().clone(), true);
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(column)]).unwrap()
    }

    fn values(batch: &RecordBatch) -> Vec<String> {
        let dictionary = batch.column(0).as_dictionary::<Int8Type>();
        dictionary.values().as_string::<i32>().iter().map(|value| value.unwrap().to_owned()).collect()
    }

    #[test]
    fn a_dictionary_grows_and_keeps_its_order() {
        let batches = [
            batch(vec![Some(1), None], vec!["z", "a"]),
            batch(vec![Some(0), Some(1)], vec!["a", "m"]),
            batch(vec![Some(0)], vec!["z"]),
        ];
        let mut dictionaries = Dictionaries::of(&batches[0].schema()).unwrap();
        let unified = batches.clone().map(|batch| dictionaries.unify(&batch).unwrap());
        assert_eq!(values(&unified[0]), ["z", "a"]);
        assert_eq!(values(&unified[1]), ["z", "a", "m"]);
        assert_eq!(values(&unified[2]), ["z", "a", "m"]);
        for (before, after) in batches.iter().zip(&unified) {
            let text = |batch: &RecordBatch| cast(batch.column(0), &DataType::Utf8).unwrap();
            assert_eq!(&text(before), &text(after));
            assert_eq!(before.schema(), after.schema());
        }
    }

    #[test]
    fn too_many_values_for_the_keys_are_refused() {
        let names: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let halves = names.chunks(100).map(|half| batch(vec![Some(99)], half.iter().map(String::as_str).collect()));
        let halves: Vec<_> = halves.collect();
        let mut dictionaries = Dictionaries::of(&halves[0].schema()).unwrap();
        assert!(dictionaries.unify(&halves[0]).is_ok());
        assert!(dictionaries.unify(&halves[1]).is_err());
    }
}
