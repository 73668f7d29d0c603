//! CSV with a header. It has no nested values: they are written as text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{Destination, RowWriter};

/// See the module's comment.
pub(super) struct Csv {
    flat: SchemaRef,
    writer: csv::Writer<Destination>,
    began: bool,
}

impl Csv {
    /// A writer of rows of `schema`.
    pub(super) fn new(schema: &Schema, to: Destination) -> Self {
        let fields = schema.fields().iter().map(|field| {
            let data_type = if field.data_type().is_nested() { DataType::Utf8 } else { field.data_type().clone() };
            Field::new(field.name(), data_type, true)
        });
        let flat = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self { flat, writer: csv::Writer::new(to), began: false }
    }
}

impl RowWriter for Csv {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        // A line of no fields would read as one empty field.
        if batch.num_columns() == 0 {
            return Ok(());
        }
        self.began = true;
        let columns = batch
            .columns()
            .iter()
            .map(|column| if column.data_type().is_nested() { as_text(column) } else { Ok(Arc::clone(column)) });
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = columns.collect::<Result<_, _>>()?;
        self.writer.write(&RecordBatch::try_new_with_options(Arc::clone(&self.flat), columns, &options)?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), ArrowError> {
        if !self.began && !self.flat.fields().is_empty() {
            // The header stands even when no row does.
            let empty = RecordBatch::new_empty(Arc::clone(&self.flat));
            self.writer.write(&empty)?;
        }
        self.writer.into_inner().flush().map_err(ArrowError::from)
    }
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    let values = (0..column.len()).map(|row| match column.is_null(row) {
        true => Ok(None),
        false => formatter.value(row).try_to_string().map(Some),
    });
    Ok(Arc::new(values.collect::<Result<StringArray, _>>()?))
}
