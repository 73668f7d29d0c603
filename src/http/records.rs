//! A frame that came as a JSON array of records, as Arrow batches.
//!
//! The text waits in memory while it is small and on disk beyond that, since its schema is known only when all of it
//! was seen. It is read twice, once for the schema and once for the rows, a piece at a time.

use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use tempfile::SpooledTempFile;

use super::inference::infer;
use crate::error::{Error, Result};

/// Text that is kept in memory.
const IN_MEMORY_BYTES: usize = 1 << 20;
/// Text that is read at once.
const PIECE_BYTES: usize = 256 << 10;
/// Rows decoded at once, at most.
const BATCH_ROWS: usize = 8_192;
/// Text decoded at once, about: the decoder holds several times as much.
const BATCH_BYTES: usize = 2 << 20;

/// Text that is being received.
pub(super) struct Text {
    file: SpooledTempFile,
}

impl Text {
    /// An empty one, which grows in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self { file: tempfile::spooled_tempfile_in(IN_MEMORY_BYTES, folder) }
    }

    /// Appends. Blocks.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the disk does not take it.
    pub(super) fn append(&mut self, piece: &[u8]) -> Result<()> {
        self.file.write_all(piece).map_err(unusable)
    }

    /// Reads all of it for its schema. Blocks.
    ///
    /// # Errors
    /// Those of [`infer`].
    pub(super) fn into_records(mut self) -> Result<Records> {
        self.file.rewind().map_err(unusable)?;
        let (schema, _) = infer(BufReader::with_capacity(PIECE_BYTES, &mut self.file))?;
        self.file.rewind().map_err(unusable)?;
        let schema = Arc::new(schema);
        let decoder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(BATCH_ROWS).build_decoder();
        let decoder = decoder.map_err(|error| Error::invalid(format!("dataframe: {error}")).because(error))?;
        let (piece, outline) = (Vec::new(), Outline::default());
        let (at, boundary, gathered, ended) = (0, 0, 0, false);
        Ok(Records { file: self.file, piece, at, boundary, gathered, ended, outline, schema, decoder })
    }
}

fn unusable(error: std::io::Error) -> Error {
    let told = "the upload cannot be set aside";
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::unavailable(format!("{told}: the disk of --spill-dir is full")).because(error)
        }
        _ => Error::unavailable(told).because(error),
    }
}

/// Records whose schema is known.
pub(super) struct Records {
    file: SpooledTempFile,
    piece: Vec<u8>,
    /// Where in the piece the next bytes are.
    at: usize,
    /// Where in the piece the last record ends that ends there.
    boundary: usize,
    /// Bytes that the decoder holds.
    gathered: usize,
    ended: bool,
    outline: Outline,
    schema: SchemaRef,
    decoder: Decoder,
}

impl Records {
    /// The schema of the rows.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; none at the end. Blocks.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for what cannot be decoded.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if self.at >= self.piece.len() && !self.ended {
                self.fill()?;
            }
            let is_due = self.gathered >= BATCH_BYTES && self.boundary > self.at;
            let until = if is_due { self.boundary } else { self.piece.len() };
            let bytes = self.piece.get(self.at..until).unwrap_or_default();
            let decoded = self.decoder.decode(bytes).map_err(undecodable)?;
            self.at += decoded;
            self.gathered += decoded;
            // It stops short when a batch is full.
            if is_due || self.at < until || self.ended {
                self.gathered = 0;
                return self.decoder.flush().map_err(undecodable);
            }
        }
    }

    /// Reads a piece, without what stands around the records.
    fn fill(&mut self) -> Result<()> {
        self.piece.clear();
        self.at = 0;
        let read = (&mut self.file).take(PIECE_BYTES as u64).read_to_end(&mut self.piece).map_err(unusable)?;
        self.ended = read == 0;
        self.boundary = self.outline.blank(&mut self.piece);
        Ok(())
    }
}

fn undecodable(error: arrow::error::ArrowError) -> Error {
    Error::invalid(format!("dataframe: the records cannot be read: {error}")).because(error)
}

/// Where in an array of objects the reading is. The text was found to be one before.
#[derive(Debug, Default)]
struct Outline {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Outline {
    /// Puts spaces in the place of the array's brackets and commas: the decoder wants records one after the other.
    /// Gives the place after the last record that ends in `text`.
    fn blank(&mut self, text: &mut [u8]) -> usize {
        let mut boundary = 0;
        for (place, byte) in text.iter_mut().enumerate() {
            match *byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'[' if self.depth == 0 => {
                    self.depth = 1;
                    *byte = b' ';
                }
                b']' if self.depth == 1 => {
                    self.depth = 0;
                    *byte = b' ';
                }
                b',' if self.depth == 1 => *byte = b' ',
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 1 {
                        boundary = place + 1;
                    }
                }
                _ => {}
            }
        }
        boundary
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int64Type};

    use super::*;

    fn read(text: &str) -> (SchemaRef, Vec<RecordBatch>) {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Text::new(folder.path());
        for piece in text.as_bytes().chunks(7) {
            spool.append(piece).unwrap();
        }
        let mut records = spool.into_records().unwrap();
        let schema = Arc::clone(records.schema());
        (schema, std::iter::from_fn(|| records.next().unwrap()).collect())
    }

    #[test]
    fn records_come_in_order_across_pieces_and_batches() {
        // Brackets and commas in strings are not those of the array.
        let record = |n: usize| format!(r#" {{"n": {n}, "s": "a,[]{{}}\"{n}\\", "l": [{n}, null], "f": {}}}"#, n % 2);
        let records: Vec<String> = (0..30_000).map(record).collect();
        let text = format!(
            "[{}
]",
            records.join(
                ",
"
            )
        );
        assert!(text.len() > IN_MEMORY_BYTES && text.len() > 3 * PIECE_BYTES);
        let (_, batches) = read(&text);
        assert!(batches.len() > 3 && batches.iter().all(|batch| batch.num_rows() <= BATCH_ROWS));
        let mut next = 0;
        for batch in &batches {
            for row in 0..batch.num_rows() {
                assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(row), next);
                assert_eq!(batch.column(1).as_string::<i32>().value(row), format!("a,[]{{}}\"{next}\\"));
                next += 1;
            }
        }
        assert_eq!(next, 30_000);
    }

    #[test]
    fn batches_of_wide_rows_are_small() {
        let wide = "x".repeat(BATCH_BYTES / 10);
        let records: Vec<String> = (0..60).map(|n| format!(r#"{{"n": {n}, "s": "{wide}"}}"#)).collect();
        let (_, batches) = read(&format!("[{}]", records.join(",")));
        assert!(batches.len() >= 5 && batches.iter().all(|batch| batch.num_rows() <= 14), "{}", batches.len());
        let numbers = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        assert!(numbers.eq(0..60));
        // A row larger than a batch is one.
        let huge = "y".repeat(3 * BATCH_BYTES);
        let (_, batches) = read(&format!(r#"[{{"s": "{huge}"}}, {{"s": "{huge}"}}]"#));
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn integers_among_floats_and_the_empty_frame() {
        let (_, batches) = read(r#"[{"x": 1}, {"x": 2.5}, {}, {"x": 1e300}]"#);
        let values: Vec<_> = batches[0].column(0).as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [Some(1.0), Some(2.5), None, Some(1e300)]);
        let (schema, batches) = read("[]");
        assert!(schema.fields().is_empty() && batches.is_empty());
        let (_, batches) = read("[{}, {}]");
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    }
}
