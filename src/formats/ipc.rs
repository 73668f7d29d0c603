//! Arrow IPC: files for disks, streams for the network.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryHandling, FileWriter, IpcWriteOptions, StreamWriter};

use super::dictionaries::Dictionaries;
use super::{Destination, RowWriter};

/// An IPC file, compressed.
pub(super) struct IpcFile {
    dictionaries: Dictionaries,
    writer: FileWriter<Destination>,
}

impl IpcFile {
    /// A writer of rows of `schema`.
    ///
    /// # Errors
    /// When the destination fails.
    pub(super) fn new(schema: &Schema, to: Destination) -> Result<Self, ArrowError> {
        // An IPC file takes one dictionary per column, which may grow but not change.
        let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
        let options = options.try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let writer = FileWriter::try_new_with_options(to, schema, options)?;
        Ok(Self { dictionaries: Dictionaries::of(schema)?, writer })
    }
}

impl RowWriter for IpcFile {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.writer.write(&self.dictionaries.unify(batch)?)
    }

    fn finish(self: Box<Self>) -> Result<(), ArrowError> {
        self.writer.into_inner()?.flush().map_err(ArrowError::from)
    }
}

/// An IPC stream, uncompressed, since not every reader of streams has the codecs.
pub(super) struct IpcStream(StreamWriter<Destination>);

impl IpcStream {
    /// A writer of rows of `schema`.
    ///
    /// # Errors
    /// When the destination fails.
    pub(super) fn new(schema: &Schema, to: Destination) -> Result<Self, ArrowError> {
        Ok(Self(StreamWriter::try_new(to, schema)?))
    }
}

impl RowWriter for IpcStream {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.0.write(batch)
    }

    fn finish(self: Box<Self>) -> Result<(), ArrowError> {
        self.0.into_inner()?.flush().map_err(ArrowError::from)
    }
}
