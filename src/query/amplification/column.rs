//! The arguments of a call, row by row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::logical_expr::ColumnarValue;

use super::Result;

/// An argument.
#[derive(Debug)]
pub(super) struct Column {
    array: ArrayRef,
    is_constant: bool,
}

impl Column {
    /// An argument of a call.
    ///
    /// # Errors
    /// Those of the engine, for a constant that no array can hold.
    pub(super) fn new(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self { array: Arc::clone(array), is_constant: false },
            ColumnarValue::Scalar(value) => Self { array: value.to_array()?, is_constant: true },
        })
    }

    /// The same, as whole numbers: dates as days, and timestamps as nanoseconds whatever their unit is, as the engine's
    /// series are made. `None` where it holds something else.
    pub(super) fn numbers(&self) -> Option<Self> {
        let array = match self.array.data_type() {
            DataType::Date64 => cast(&self.array, &DataType::Date32).ok()?,
            DataType::Timestamp(_, zone) => {
                cast(&self.array, &DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())).ok()?
            }
            other if other.is_integer() || *other == DataType::Date32 => Arc::clone(&self.array),
            _ => return None,
        };
        Some(Self { array: cast(&array, &DataType::Int64).ok()?, is_constant: self.is_constant })
    }

    /// Its type.
    pub(super) fn data_type(&self) -> &DataType {
        self.array.data_type()
    }

    /// Its values.
    pub(super) fn array(&self) -> &dyn Array {
        self.array.as_ref()
    }

    /// The place of a row in its values, unless it is null there.
    pub(super) fn at(&self, row: usize) -> Option<usize> {
        let row = if self.is_constant { 0 } else { row };
        (row < self.array.len() && self.array.is_valid(row)).then_some(row)
    }

    /// The whole number of a row; 0 where there is none.
    pub(super) fn number(&self, row: usize) -> i64 {
        self.known_number(row).unwrap_or(0)
    }

    /// The whole number of a row, if there is one.
    pub(super) fn known_number(&self, row: usize) -> Option<i64> {
        let numbers = self.array.as_primitive_opt::<Int64Type>()?;
        self.at(row).map(|row| numbers.value(row))
    }

    /// The bytes of a row's value.
    pub(super) fn bytes(&self, row: usize) -> u64 {
        self.at(row).map_or(0, |row| bytes_at(self.array.as_ref(), row))
    }

    /// The bytes of the longest character of a row's text.
    pub(super) fn width(&self, row: usize) -> u64 {
        let is_ascii = self.text(row).is_none_or(str::is_ascii);
        if is_ascii { 1 } else { 4 }
    }

    /// A row's text.
    pub(super) fn text(&self, row: usize) -> Option<&str> {
        let row = self.at(row)?;
        match self.array.data_type() {
            DataType::Utf8 => Some(self.array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Some(self.array.as_string::<i64>().value(row)),
            DataType::Utf8View => Some(self.array.as_string_view().value(row)),
            _ => None,
        }
    }

    /// How many values the list of a row has.
    pub(super) fn items(&self, row: usize) -> u64 {
        self.at(row).map_or(0, |row| match self.array.data_type() {
            DataType::List(_) => self.array.as_list::<i32>().value_length(row).unsigned_abs().into(),
            DataType::LargeList(_) => self.array.as_list::<i64>().value_length(row).unsigned_abs(),
            DataType::FixedSizeList(_, size) => size.unsigned_abs().into(),
            _ => 0,
        })
    }
}

/// The bytes of one value.
fn bytes_at(array: &dyn Array, row: usize) -> u64 {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value_length(row).unsigned_abs().into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value_length(row).unsigned_abs(),
        DataType::Utf8View => array.as_string_view().value(row).len() as u64,
        DataType::Binary => array.as_binary::<i32>().value_length(row).unsigned_abs().into(),
        DataType::LargeBinary => array.as_binary::<i64>().value_length(row).unsigned_abs(),
        DataType::BinaryView => array.as_binary_view().value(row).len() as u64,
        other => match other.primitive_width() {
            Some(width) => width as u64,
            None => array.slice(row, 1).to_data().get_slice_memory_size().unwrap_or(0) as u64,
        },
    }
}

/// The bytes of all values of an array.
pub(super) fn bytes_of(array: &dyn Array) -> u64 {
    (0..array.len()).filter(|row| array.is_valid(*row)).map(|row| bytes_at(array, row)).sum()
}
