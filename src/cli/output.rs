//! Rows as text or files: table, CSV, JSON, Parquet and Arrow IPC.
//!
//! Promises: rows are encoded as they arrive; a file appears only when all of them did; a pipe closed by its reader
//! is a normal end.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use indicatif::HumanCount;
use tokio::sync::mpsc;

use super::target::{AtomicFile, Watched, write_error};
use crate::error::{Error, Result};
use crate::formats::{self, Destination, Encoding, RowWriter};

/// How many rows a table shows.
const TABLE_ROWS: usize = 40;
/// What is gathered before a write to a file or pipe.
const BUFFER_BYTES: usize = 256 * 1024;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Table,
    Csv,
    Json,
    Parquet,
    Ipc,
}

impl Format {
    /// What goes to stdout unless a format is asked for.
    pub(super) fn of_stdout(on_terminal: bool) -> Self {
        if on_terminal { Format::Table } else { Format::Csv }
    }

    /// The format of a file for a whole frame, by its extension.
    pub(super) fn of_frame_file(path: &Path) -> Result<Self> {
        Self::of_extension(path).ok_or_else(|| unknown_extension(path, ".parquet, .csv"))
    }

    /// The format of a file for the result of a query, by its extension.
    pub(super) fn of_result_file(path: &Path) -> Result<Self> {
        let json = has_extension(path, "json").then_some(Format::Json);
        json.or_else(|| Self::of_extension(path)).ok_or_else(|| unknown_extension(path, ".parquet, .csv, .json"))
    }

    fn of_extension(path: &Path) -> Option<Self> {
        let formats = [
            ("parquet", Format::Parquet),
            ("csv", Format::Csv),
            ("arrow", Format::Ipc),
            ("feather", Format::Ipc),
            ("ipc", Format::Ipc),
        ];
        formats.into_iter().find(|(extension, _)| has_extension(path, extension)).map(|(_, format)| format)
    }
}

fn unknown_extension(path: &Path, others: &str) -> Error {
    let path = path.display();
    Error::invalid(format!("the extension of {path} names no format; use {others}, .arrow, .feather or .ipc"))
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// What the reader of rows tells the writer.
#[derive(Debug)]
pub(super) enum Piece {
    /// Some rows.
    Batch(RecordBatch),
    /// There are no more, and none is missing. A channel that closes without it was cut off.
    End,
}

/// Where rows go, and how.
#[derive(Debug, Clone)]
pub(super) struct Output {
    /// How rows are written.
    pub(super) format: Format,
    /// The file; stdout if there is none.
    pub(super) file: Option<PathBuf>,
}

impl Output {
    /// Writes rows until their end and tells how many there were. Blocks.
    pub(super) fn write(&self, schema: SchemaRef, total: Option<u64>, pieces: mpsc::Receiver<Piece>) -> Result<u64> {
        let Some(path) = &self.file else {
            return self.write_to(io::stdout(), schema, total, pieces);
        };
        let file = AtomicFile::create(path)?;
        let (handle, failure) = Watched::new(file.handle()?);
        match (self.fill(schema, total, Box::new(handle), pieces), failure.get()) {
            (Ok(Some(rows)), _) => file.commit().map(|()| rows),
            // Cut off: the file is dropped, and whoever cut it off says why.
            (Ok(None), _) => Ok(0),
            (Err(_), Some(failure)) => Err(write_error(&path.display().to_string(), failure)),
            (Err(error), None) => Err(encode_error(error)),
        }
    }

    /// Writes to a stream whose reader may leave when it has had enough.
    fn write_to<W: Write + Send + 'static>(
        &self,
        stream: W,
        schema: SchemaRef,
        total: Option<u64>,
        pieces: mpsc::Receiver<Piece>,
    ) -> Result<u64> {
        let (stream, failure) = Watched::new(stream);
        match (self.fill(schema, total, Box::new(stream), pieces), failure.get()) {
            (Ok(rows), _) => Ok(rows.unwrap_or(0)),
            (Err(_), Some(failure)) if failure.kind() == ErrorKind::BrokenPipe => Ok(0),
            (Err(_), Some(failure)) => Err(write_error("to stdout", failure)),
            (Err(error), None) => Err(encode_error(error)),
        }
    }

    /// The number of rows written, or none when the rows were cut off.
    fn fill(
        &self,
        schema: SchemaRef,
        total: Option<u64>,
        destination: Destination,
        mut pieces: mpsc::Receiver<Piece>,
    ) -> Result<Option<u64>, ArrowError> {
        let destination = Box::new(BufWriter::with_capacity(BUFFER_BYTES, destination));
        let mut writer = self.writer(schema, total, destination)?;
        let mut rows = 0;
        while writer.wants_more() {
            match pieces.blocking_recv() {
                Some(Piece::Batch(batch)) => {
                    rows += batch.num_rows() as u64;
                    writer.write(&batch)?;
                }
                Some(Piece::End) => break,
                None => return Ok(None),
            }
        }
        writer.finish()?;
        Ok(Some(rows))
    }

    fn writer(&self, schema: SchemaRef, total: Option<u64>, to: Destination) -> Result<Box<dyn RowWriter>, ArrowError> {
        let encoding = match self.format {
            Format::Table => return Ok(Box::new(Table { schema, total, shown: Vec::new(), rows: 0, to })),
            Format::Csv => Encoding::Csv,
            Format::Json => Encoding::Json,
            Format::Parquet => Encoding::Parquet,
            Format::Ipc => Encoding::IpcFile,
        };
        formats::writer(encoding, schema, to)
    }
}

/// Writes `text` to stdout; that nobody reads it is no failure.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(write_error("to stdout", &error)),
        _ => Ok(()),
    }
}

/// For example `336,776 rows`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", HumanCount(count))
}

fn encode_error(error: ArrowError) -> Error {
    Error::invalid(format!("the rows cannot be written in this format, choose another: {error}")).because(error)
}

/// The first rows in a frame of lines, and how many there are.
struct Table {
    schema: SchemaRef,
    total: Option<u64>,
    shown: Vec<RecordBatch>,
    rows: u64,
    to: Destination,
}

impl Table {
    fn room(&self) -> usize {
        TABLE_ROWS.saturating_sub(usize::try_from(self.rows).unwrap_or(usize::MAX))
    }
}

impl RowWriter for Table {
    fn wants_more(&self) -> bool {
        // When the total is not known the rest is read to count it.
        self.room() > 0 || self.total.is_none()
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let room = self.room().min(batch.num_rows());
        if room > 0 {
            self.shown.push(batch.slice(0, room));
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), ArrowError> {
        let options = FormatOptions::default().with_null("null");
        let text = pretty_format_batches_with_schema(Arc::clone(&self.schema), &self.shown, &options)?;
        // Values come from anyone; none of them may steer the terminal.
        let safe = text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
        let shown = self.shown.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
        let total = self.total.unwrap_or(0).max(self.rows);
        let first = if shown < total { format!("the first {shown} of ") } else { String::new() };
        // A statement without a result has no columns to frame.
        if !self.schema.fields().is_empty() {
            writeln!(self.to, "{safe}")?;
        }
        writeln!(self.to, "({first}{})", counted(total, "row"))?;
        self.to.flush().map_err(ArrowError::from)
    }
}

fn pretty_format_batches_with_schema(
    schema: SchemaRef,
    batches: &[RecordBatch],
    options: &FormatOptions<'_>,
) -> Result<String, ArrowError> {
    let mut all = vec![RecordBatch::new_empty(schema)];
    all.extend_from_slice(batches);
    Ok(pretty_format_batches_with_options(&all, options)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, ArrayRef, DictionaryArray, Int64Array, ListArray};
    use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::fs::{self, File};

    fn batch() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)]), None]));
        let fields = vec![Field::new("n", DataType::Int64, true), Field::new("l", lists.data_type().clone(), true)];
        let metadata = [("pandas".to_owned(), r#"{"columns": []}"#.to_owned())].into();
        RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, metadata)), vec![numbers, lists]).unwrap()
    }

    fn write(format: Format, path: &Path, schema: &SchemaRef, pieces: Vec<Piece>, total: Option<u64>) -> Result<u64> {
        let (sender, receiver) = mpsc::channel(64);
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        drop(sender);
        Output { format, file: Some(path.to_owned()) }.write(Arc::clone(schema), total, receiver)
    }

    fn text(format: Format, batches: usize, total: Option<u64>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut pieces: Vec<_> = (0..batches).map(|_| Piece::Batch(batch())).collect();
        pieces.push(Piece::End);
        write(format, &path, &batch().schema(), pieces, total).unwrap();
        fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn extensions_tell_the_format() {
        assert_eq!(Format::of_frame_file(Path::new("a/b.parquet")).unwrap(), Format::Parquet);
        assert_eq!(Format::of_frame_file(Path::new("b.CSV")).unwrap(), Format::Csv);
        for name in ["b.arrow", "b.feather", "b.ipc"] {
            assert_eq!(Format::of_frame_file(Path::new(name)).unwrap(), Format::Ipc);
        }
        for name in ["b.json", "b.txt", "b", ".parquet"] {
            let error = Format::of_frame_file(Path::new(name)).unwrap_err();
            assert!(error.message().contains(name), "{error}");
        }
    }

    #[test]
    fn csv_has_a_header_and_nested_values_as_text() {
        assert_eq!(text(Format::Csv, 2, None), "n,l\n1,\"[1, 2]\"\n,\n1,\"[1, 2]\"\n,\n");
        assert_eq!(text(Format::Csv, 0, None), "n,l\n");
    }

    #[test]
    fn json_is_one_array_with_nulls() {
        assert_eq!(text(Format::Json, 1, None), "[{\"n\":1,\"l\":[1,2]},{\"n\":null,\"l\":null}]\n");
        assert_eq!(text(Format::Json, 0, None), "[]\n");
    }

    #[test]
    fn a_table_shows_forty_rows_and_counts_the_rest() {
        let shown = |text: &str| text.lines().filter(|line| line.starts_with("| 1 ") || line.contains("null")).count();
        let counted = text(Format::Table, 30, None);
        assert_eq!(shown(&counted), 40);
        assert!(counted.ends_with("\n(the first 40 of 60 rows)\n"), "{counted}");
        assert!(text(Format::Table, 30, Some(336_776)).ends_with("(the first 40 of 336,776 rows)\n"));
        assert!(text(Format::Table, 1, None).ends_with("(2 rows)\n"));
        let empty = text(Format::Table, 0, None);
        assert!(empty.contains("| n | l |") && empty.ends_with("(0 rows)\n"), "{empty}");
    }

    #[test]
    fn parquet_keeps_schema_and_pandas_metadata() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let rows = write(Format::Parquet, &path, &batch().schema(), vec![Piece::Batch(batch()), Piece::End], None);
        assert_eq!(rows.unwrap(), 2);
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        assert_eq!(builder.schema().as_ref(), batch().schema().as_ref());
        let entries = builder.metadata().file_metadata().key_value_metadata().unwrap();
        let pandas = entries.iter().find(|entry| entry.key == "pandas").unwrap();
        assert_eq!(pandas.value.as_deref(), Some(r#"{"columns": []}"#));
        let read = builder.build().unwrap().next().unwrap().unwrap();
        assert_eq!(read.columns(), batch().columns());
    }

    #[test]
    fn an_ipc_file_keeps_its_schema() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.arrow");
        write(Format::Ipc, &path, &batch().schema(), vec![Piece::Batch(batch()), Piece::End], None).unwrap();
        let mut reader = arrow_ipc::reader::FileReader::try_new(File::open(&path).unwrap(), None).unwrap();
        assert_eq!(reader.next().unwrap().unwrap(), batch());
    }

    #[test]
    fn an_ipc_file_takes_dictionaries_that_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.arrow");
        let one = |words: [&str; 2]| {
            let column: DictionaryArray<Int8Type> = words.into_iter().collect();
            let field = Field::new("c", column.data_type().clone(), true);
            RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::new(column)]).unwrap()
        };
        let batches = [one(["z", "a"]), one(["a", "m"]), one(["z", "z"])];
        let mut pieces: Vec<_> = batches.iter().cloned().map(Piece::Batch).collect();
        pieces.push(Piece::End);
        write(Format::Ipc, &path, &batches[0].schema(), pieces, None).unwrap();
        let reader = arrow_ipc::reader::FileReader::try_new(File::open(&path).unwrap(), None).unwrap();
        for (read, written) in reader.zip(&batches) {
            let text = |batch: &RecordBatch| arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
            assert_eq!(&text(&read.unwrap()), &text(written));
        }
    }

    struct Full(ErrorKind);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_a_normal_end_and_a_full_disk_is_not() {
        for format in [Format::Csv, Format::Json, Format::Parquet, Format::Ipc, Format::Table] {
            let outcome = |kind| {
                let (sender, receiver) = mpsc::channel(64);
                sender.try_send(Piece::Batch(batch())).unwrap();
                sender.try_send(Piece::End).unwrap();
                Output { format, file: None }.write_to(Full(kind), batch().schema(), None, receiver)
            };
            assert!(outcome(ErrorKind::BrokenPipe).is_ok(), "{format:?}");
            let full = outcome(ErrorKind::StorageFull).unwrap_err();
            assert_eq!(full.kind(), crate::error::Kind::Exhausted, "{format:?}: {full}");
        }
    }

    #[test]
    fn a_result_without_columns_has_no_frame_and_no_header() {
        let schema: SchemaRef = Arc::new(Schema::empty());
        for (format, expected) in [(Format::Table, "(0 rows)\n"), (Format::Csv, ""), (Format::Json, "[]\n")] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("out");
            write(format, &path, &schema, vec![Piece::End], None).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
    }

    #[test]
    fn rows_that_are_cut_off_make_no_file() {
        for format in [Format::Csv, Format::Json, Format::Parquet, Format::Ipc] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x");
            fs::write(&path, "old").unwrap();
            write(format, &path, &batch().schema(), vec![Piece::Batch(batch())], None).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }
}
