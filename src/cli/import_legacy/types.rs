//! One type for each column of a dataset.
//!
//! CSV has no types: they are told from the values, file by file. A column whose type differs between the versions of
//! a dataset could not be stored as one, so all its files together decide.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// What the files of a dataset say of their columns.
#[derive(Debug, Default)]
pub(super) struct ColumnTypes(HashMap<String, DataType>);

impl ColumnTypes {
    /// Takes in what one more file says.
    pub(super) fn add(&mut self, schema: &Schema) {
        for field in schema.fields() {
            let data_type = field.data_type();
            let known = self.0.entry(field.name().clone()).or_insert_with(|| data_type.clone());
            *known = common(known, data_type);
        }
    }

    /// The schema of a file with the columns of `schema`.
    pub(super) fn apply(&self, schema: &Schema) -> SchemaRef {
        let fields = schema.fields().iter().map(|field| {
            let data_type = self.0.get(field.name()).unwrap_or(field.data_type());
            Field::new(field.name(), data_type.clone(), true)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// The type that the values of two files together would have been given.
fn common(left: &DataType, right: &DataType) -> DataType {
    use DataType::{Float64, Int64, Null, Utf8};
    match (left, right) {
        (left, right) if left == right => left.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (Int64, Float64) | (Float64, Int64) => Float64,
        (left, right) => match (precision(left), precision(right)) {
            (Some(of_left), Some(of_right)) => (if of_left > of_right { left } else { right }).clone(),
            _ => Utf8,
        },
    }
}

fn precision(data_type: &DataType) -> Option<u32> {
    match data_type {
        DataType::Date32 => Some(0),
        DataType::Timestamp(unit, None) => Some(match unit {
            TimeUnit::Second => 1,
            TimeUnit::Millisecond => 2,
            TimeUnit::Microsecond => 3,
            TimeUnit::Nanosecond => 4,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::cli::input::csv_format;

    /// What Arrow says of two files is what it says of one file with the lines of both.
    #[test]
    fn two_files_are_as_one() {
        let values = [
            "",
            "1",
            "1.5",
            "true",
            "x",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.123",
            "2024-01-01 00:00:00.123456",
            "2024-01-01 00:00:00.123456789",
        ];
        let infer = |lines: &[&str]| {
            let text =
                format!("a,b\n{}\n", lines.iter().map(|line| format!("{line},9")).collect::<Vec<_>>().join("\n"));
            csv_format().infer_schema(Cursor::new(text), None).unwrap().0
        };
        for left in values {
            for right in values {
                let mut types = ColumnTypes::default();
                types.add(&infer(&[left]));
                types.add(&infer(&[right]));
                let both = infer(&[left, right]);
                assert_eq!(types.apply(&both).field(0), both.field(0), "{left} and {right}");
            }
        }
    }
}
