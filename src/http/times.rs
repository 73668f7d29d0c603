//! Times that came as integers.
//!
//! `DataFrame.to_json` writes a timestamp as milliseconds since 1970 unless told otherwise, so that is what an integer
//! in a column with the key `Date` means. Nowhere else does anything tell such integers from others.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};

use crate::error::{Error, Result, shorten};

/// An integer nearer to 1970 than this is hardly a time: `20240101` is a date written as a number.
const MILLIS_OF_A_YEAR: u64 = 365 * 86_400_000;

/// The columns of a frame whose integers are times.
pub(super) struct Times {
    schema: SchemaRef,
    places: Vec<usize>,
}

impl Times {
    /// Those of `schema` that `is_date_key` names.
    pub(super) fn new(schema: &Schema, is_date_key: impl Fn(&str) -> bool) -> Self {
        let is_time = |field: &FieldRef| field.data_type() == &DataType::Int64 && is_date_key(field.name());
        let places = schema.fields().iter().enumerate().filter(|(_, field)| is_time(field));
        let places = places.map(|(place, _)| place).collect();
        let fields = schema.fields().iter().map(|field| match is_time(field) {
            true => Arc::new(Field::new(field.name(), DataType::Timestamp(TimeUnit::Millisecond, None), true)),
            false => Arc::clone(field),
        });
        Self { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), places }
    }

    /// The schema with times in it.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows with times in them.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for an integer that is hardly a time.
    pub(super) fn apply(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.places.is_empty() {
            return Ok(batch);
        }
        let columns = batch.columns().iter().enumerate().map(|(place, column)| match self.places.contains(&place) {
            true => self.times(place, column),
            false => Ok(Arc::clone(column)),
        });
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_>>()?)
            .map_err(|error| Error::internal("times do not fit their schema").because(error))
    }

    fn times(&self, place: usize, column: &ArrayRef) -> Result<ArrayRef> {
        let integers = column.as_primitive::<Int64Type>();
        let odd = integers.iter().flatten().find(|value| value.unsigned_abs() < MILLIS_OF_A_YEAR);
        if let Some(odd) = odd {
            let name = self.schema.fields().get(place).map_or("", |field| field.name());
            return Err(Error::invalid(format!(
                "dataframe: the column '{}' has the key Date and holds the integer {odd}, which as milliseconds since \
                 1970 is hardly meant; send ISO 8601 strings, as to_json(date_format='iso') makes them",
                shorten(name)
            )));
        }
        Ok(Arc::new(integers.reinterpret_cast::<TimestampMillisecondType>()))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, Int64Array};

    use super::*;

    fn batch(values: Vec<Option<i64>>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        RecordBatch::try_from_iter([("day", Arc::clone(&column)), ("n", column)]).unwrap()
    }

    #[test]
    fn integers_of_date_keys_are_milliseconds() {
        let rows = batch(vec![Some(1_704_067_200_000), None, Some(-631_152_000_000)]);
        let times = Times::new(rows.schema_ref(), |name| name == "day");
        let rows = times.apply(rows).unwrap();
        let day = rows.column(0).as_primitive::<TimestampMillisecondType>();
        assert_eq!(day.value_as_datetime(0).unwrap().to_string(), "2024-01-01 00:00:00");
        assert!(day.is_null(1));
        assert_eq!(rows.column(1).data_type(), &DataType::Int64);
    }

    #[test]
    fn a_date_written_as_a_number_is_refused() {
        let rows = batch(vec![Some(20_240_101)]);
        let error = Times::new(rows.schema_ref(), |name| name == "day").apply(rows.clone()).err().unwrap();
        assert!(error.message().contains("'day'") && error.message().contains("20240101"), "{error}");
        assert!(Times::new(rows.schema_ref(), |_| false).apply(rows).is_ok());
    }
}
