//! Rows as CSV, JSON, Parquet and Arrow IPC, for files of the command line and for HTTP answers alike.
//!
//! Promises: rows are encoded as they arrive; Parquet and IPC keep the schema with its metadata, and the `pandas` entry
//! stands where pandas looks for it; a result without rows is a whole file all the same.
//!
//! | file | what is there |
//! |---|---|
//! | `csv` | CSV, nested values as text |
//! | `json` | one JSON array of records |
//! | `parquet` | Parquet |
//! | `ipc` | Arrow IPC, as a file and as a stream |
//! | `dictionaries` | one growing dictionary per column, for IPC files |

mod csv;
mod dictionaries;
mod ipc;
mod json;
mod parquet;

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

/// Where encoded bytes go.
pub type Destination = Box<dyn Write + Send>;

/// How rows are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON array with an object per row.
    Json,
    /// A Parquet file.
    Parquet,
    /// An Arrow IPC file.
    IpcFile,
    /// An Arrow IPC stream.
    IpcStream,
}

/// One format's way of writing rows.
pub trait RowWriter: Send {
    /// Whether more rows would change the output.
    fn wants_more(&self) -> bool {
        true
    }

    /// Writes some rows.
    ///
    /// # Errors
    /// For values that the format does not have, and when the destination fails.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError>;

    /// Writes what stands after the rows, and all that was held back.
    ///
    /// # Errors
    /// When the destination fails.
    fn finish(self: Box<Self>) -> Result<(), ArrowError>;
}

/// A writer of rows of `schema`.
///
/// # Errors
/// For a schema that the format cannot hold, and when the destination fails.
pub fn writer(encoding: Encoding, schema: SchemaRef, to: Destination) -> Result<Box<dyn RowWriter>, ArrowError> {
    Ok(match encoding {
        Encoding::Csv => Box::new(csv::Csv::new(&schema, to)),
        Encoding::Json => Box::new(json::Json::new(to)),
        Encoding::Parquet => Box::new(parquet::Parquet::new(schema, to)?),
        Encoding::IpcFile => Box::new(ipc::IpcFile::new(&schema, to)?),
        Encoding::IpcStream => Box::new(ipc::IpcStream::new(&schema, to)?),
    })
}
