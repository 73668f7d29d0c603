//! Parquet, as pandas and others read it.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::{Destination, RowWriter};

/// What is gathered before a row group is written; it is held in memory.
const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;

/// See the module's comment.
pub(super) struct Parquet(ArrowWriter<Destination>);

impl Parquet {
    /// A writer of rows of `schema`.
    ///
    /// # Errors
    /// For a schema that Parquet cannot hold.
    pub(super) fn new(schema: SchemaRef, to: Destination) -> Result<Self, ArrowError> {
        let properties = properties(&schema);
        Ok(Self(ArrowWriter::try_new(to, schema, Some(properties))?))
    }
}

impl RowWriter for Parquet {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.0.write(batch).map_err(ArrowError::from)
    }

    fn finish(self: Box<Self>) -> Result<(), ArrowError> {
        self.0.into_inner()?.flush().map_err(ArrowError::from)
    }
}

fn properties(schema: &Schema) -> WriterProperties {
    // The writer embeds the Arrow schema; pandas and others look for their entry beside it.
    let entries = schema.metadata().iter().filter(|(key, _)| key.as_str() != ARROW_SCHEMA_META_KEY);
    let mut metadata: Vec<_> = entries.map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    metadata.sort_by(|left, right| left.key.cmp(&right.key));
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_key_value_metadata(Some(metadata))
        .build()
}
