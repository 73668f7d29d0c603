//! Files that `put` reads: Parquet, CSV and Arrow IPC (file and stream), told apart by their content.
//!
//! Promises: the schema comes with all its metadata, dictionaries stay dictionaries, the number of rows is known
//! before the first batch, and a file is read batch by batch. The unit of memory is what the format makes it: a few
//! thousand rows of Parquet and CSV, one record batch (and the dictionaries) of IPC.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_ipc::reader::{FileReader, StreamReader, read_footer_length};
use arrow_ipc::{root_as_footer, root_as_message};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;

use crate::error::{Error, Result};

/// Rows decoded at once, at most.
pub(super) const BATCH_ROWS: usize = 8192;
/// Bytes decoded at once, about, for Parquet files with wide rows.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;
/// How much of a file is looked at to tell its format.
const HEAD_BYTES: u64 = 4096;
/// The first bytes of an IPC message; those of a stream with a schema.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// The end of an IPC file: the length of its footer, and the magic.
const IPC_TAIL_BYTES: u64 = 10;

/// Batches of a file, in its order.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

/// Rows that can be read any number of times. Promise: each time the same.
pub(super) trait Rows: Send + Sync {
    /// The schema, with all metadata.
    fn schema(&self) -> &SchemaRef;

    /// How many rows [`Rows::batches`] gives.
    fn count(&self) -> u64;

    /// Reads the rows from the first. Blocks.
    fn batches(&self) -> Result<Batches>;
}

/// What a file's content says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv,
    IpcFile,
    IpcStream,
}

/// A file that can be read any number of times.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    format: Format,
    schema: SchemaRef,
    rows: u64,
}

impl Source {
    /// Looks at a file: its format, schema and number of rows. Reads all of a CSV file, the footer of the others,
    /// and the message headers of an IPC stream. Blocks.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut head = Vec::new();
        opened(path)?.take(HEAD_BYTES).read_to_end(&mut head).map_err(|error| unreadable(path, error))?;
        let format = detect(&head).map_err(|reason| Error::invalid(format!("{}: {reason}", path.display())))?;
        let (schema, rows) = match format {
            Format::Parquet => {
                let builder = parquet(path)?;
                let rows = builder.metadata().file_metadata().num_rows();
                (Arc::clone(builder.schema()), u64::try_from(rows).map_err(|error| unreadable(path, error))?)
            }
            Format::Csv => {
                let (schema, rows) =
                    csv_format().infer_schema(opened(path)?, None).map_err(|error| unreadable(path, error))?;
                (Arc::new(schema), rows as u64)
            }
            Format::IpcFile => (ipc_file(path)?.schema(), rows_of_ipc_file(path)?),
            Format::IpcStream => (ipc_stream(path)?.schema(), rows_of_ipc_stream(path)?),
        };
        Ok(Self { path: path.to_owned(), format, schema, rows })
    }
}

impl Rows for Source {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn count(&self) -> u64 {
        self.rows
    }

    fn batches(&self) -> Result<Batches> {
        let path = self.path.clone();
        let wrong = move |error: ArrowError| unreadable(&path, error);
        Ok(match self.format {
            Format::Parquet => {
                let builder = parquet(&self.path)?;
                let rows = parquet_batch_rows(builder.metadata());
                let reader = builder.with_batch_size(rows).build().map_err(|error| unreadable(&self.path, error))?;
                // The reader's own batches lack the schema's metadata.
                let schema = Arc::clone(&self.schema);
                Box::new(reader.map(move |batch| batch.and_then(|batch| dressed(&batch, &schema)).map_err(&wrong)))
            }
            Format::Csv => {
                let builder = csv::ReaderBuilder::new(Arc::clone(&self.schema)).with_format(csv_format());
                let reader = builder.with_batch_size(BATCH_ROWS).build(opened(&self.path)?).map_err(&wrong)?;
                Box::new(reader.map(move |batch| batch.map_err(&wrong)))
            }
            Format::IpcFile => Box::new(ipc_file(&self.path)?.map(move |batch| batch.map_err(&wrong))),
            Format::IpcStream => Box::new(ipc_stream(&self.path)?.map(move |batch| batch.map_err(&wrong))),
        })
    }
}

/// The format of a file that begins with `head`, or why it is none of ours.
fn detect(head: &[u8]) -> Result<Format, &'static str> {
    if head.is_empty() {
        return Err("the file is empty");
    }
    if head.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    if head.starts_with(b"ARROW1") {
        return Ok(Format::IpcFile);
    }
    if head.starts_with(&CONTINUATION) {
        return Ok(Format::IpcStream);
    }
    if head.starts_with(b"PARE") {
        return Err("encrypted Parquet cannot be read; decrypt it first");
    }
    if head.starts_with(b"FEA1") {
        return Err("Feather version 1 cannot be read; write it anew as Feather version 2 or Parquet");
    }
    // Text has no NUL; anything else binary (gzip, zip, UTF-16 …) would only make nonsense columns.
    if head.contains(&0) || head.starts_with(&[0x1f, 0x8b]) {
        return Err("neither Parquet, nor Arrow IPC, nor CSV in UTF-8 (compressed files must be unpacked first)");
    }
    Ok(Format::Csv)
}

fn opened(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| {
        let message = format!("cannot open {}: {error}", path.display());
        if error.kind() == ErrorKind::NotFound { Error::not_found(message) } else { Error::invalid(message) }
    })
}

fn unreadable(path: &Path, error: impl Display) -> Error {
    Error::invalid(format!("cannot read {}: {error}", path.display()))
}

/// CSV as it is read: with a header.
pub(super) fn csv_format() -> csv::reader::Format {
    csv::reader::Format::default().with_header(true)
}

fn parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    ParquetRecordBatchReaderBuilder::try_new(opened(path)?).map_err(|error| unreadable(path, error))
}

fn ipc_file(path: &Path) -> Result<FileReader<BufReader<File>>> {
    FileReader::try_new_buffered(opened(path)?, None).map_err(|error| unreadable(path, error))
}

fn ipc_stream(path: &Path) -> Result<StreamReader<BufReader<File>>> {
    StreamReader::try_new_buffered(opened(path)?, None).map_err(|error| unreadable(path, error))
}

/// So many rows that a batch of the widest row group stays near [`BATCH_BYTES`].
fn parquet_batch_rows(metadata: &ParquetMetaData) -> usize {
    let widest = metadata.row_groups().iter().filter_map(|group| {
        let bytes = u64::try_from(group.total_byte_size()).ok()?;
        bytes.checked_div(u64::try_from(group.num_rows()).ok()?)
    });
    let row_bytes = widest.max().unwrap_or(0).max(1);
    usize::try_from(BATCH_BYTES / row_bytes).unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS)
}

/// The batch with `schema` in place of its own.
fn dressed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
}

/// Rows of an IPC file, from the headers of the batches that its footer points to.
fn rows_of_ipc_file(path: &Path) -> Result<u64> {
    let wrong = |error: &dyn Display| unreadable(path, error);
    let mut file = opened(path)?;
    let size = file.seek(SeekFrom::End(0)).map_err(|error| wrong(&error))?;
    let tail_at = size.checked_sub(IPC_TAIL_BYTES).ok_or_else(|| wrong(&"the file is cut off"))?;
    let mut tail = [0; IPC_TAIL_BYTES as usize];
    read_at(&mut file, tail_at, &mut tail).map_err(|error| wrong(&error))?;
    let length = read_footer_length(tail).map_err(|error| wrong(&error))? as u64;
    let footer_at = tail_at.checked_sub(length).ok_or_else(|| wrong(&"the file is cut off"))?;
    let mut footer = vec![0; usize::try_from(length).map_err(|error| wrong(&error))?];
    read_at(&mut file, footer_at, &mut footer).map_err(|error| wrong(&error))?;
    let footer = root_as_footer(&footer).map_err(|error| wrong(&error))?;
    let mut rows = 0;
    for block in footer.recordBatches().iter().flatten() {
        let at = u64::try_from(block.offset()).map_err(|error| wrong(&error))?;
        let length = u64::try_from(block.metaDataLength()).map_err(|error| wrong(&error))?;
        if length > size {
            return Err(wrong(&"a batch reaches beyond the end of the file"));
        }
        let mut header = vec![0; usize::try_from(length).map_err(|error| wrong(&error))?];
        read_at(&mut file, at, &mut header).map_err(|error| wrong(&error))?;
        // A length stands before the message, and a continuation marker before that in files since Arrow 0.15.
        let prefix = if header.starts_with(&CONTINUATION) { 8 } else { 4 };
        rows += message_header(header.get(prefix..).unwrap_or_default()).map_err(|reason| wrong(&reason))?.0;
    }
    Ok(rows)
}

fn read_at(file: &mut File, at: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(buffer)
}

/// Rows of an IPC stream: every message header is read, and every body skipped.
fn rows_of_ipc_stream(path: &Path) -> Result<u64> {
    let wrong = |error: &dyn Display| unreadable(path, error);
    let mut file = opened(path)?;
    let size = file.metadata().map_err(|error| wrong(&error))?.len();
    let mut at = 0;
    let mut rows = 0;
    // A stream may end with its marker or just end.
    while at < size {
        let mut word = [0; 4];
        read_at(&mut file, at, &mut word).map_err(|error| wrong(&error))?;
        at += 4;
        if word == CONTINUATION {
            read_at(&mut file, at, &mut word).map_err(|error| wrong(&error))?;
            at += 4;
        }
        let length = u64::from(u32::from_le_bytes(word));
        if length == 0 {
            break;
        }
        if length > size {
            return Err(wrong(&"a message reaches beyond the end of the file"));
        }
        let mut header = vec![0; usize::try_from(length).map_err(|error| wrong(&error))?];
        read_at(&mut file, at, &mut header).map_err(|error| wrong(&error))?;
        let (of_message, body) = message_header(&header).map_err(|reason| wrong(&reason))?;
        rows += of_message;
        at = at.saturating_add(length).saturating_add(body);
        if at > size {
            return Err(wrong(&"the file is cut off"));
        }
    }
    Ok(rows)
}

/// The rows of a message (none but for a record batch) and the length of its body.
fn message_header(bytes: &[u8]) -> Result<(u64, u64), String> {
    let message = root_as_message(bytes).map_err(|error| error.to_string())?;
    let rows = message.header_as_record_batch().map_or(0, |batch| batch.length());
    match (u64::try_from(rows), u64::try_from(message.bodyLength())) {
        (Ok(rows), Ok(body)) => Ok((rows, body)),
        _ => Err("a message has a negative length".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int8Type, Schema};
    use arrow_ipc::writer::{FileWriter, StreamWriter};
    use parquet::arrow::ArrowWriter;
    use std::collections::HashMap;
    use std::io::Write;

    fn sample() -> RecordBatch {
        let categories: DictionaryArray<Int8Type> = vec!["b", "a", "b"].into_iter().collect();
        let marked = HashMap::from([("field".to_owned(), "kept".to_owned())]);
        let fields = vec![
            Field::new("n", DataType::Int64, false).with_metadata(marked),
            Field::new("c", categories.data_type().clone(), true),
        ];
        let pandas = HashMap::from([("pandas".to_owned(), r#"{"index_columns": []}"#.to_owned())]);
        let schema = Arc::new(Schema::new_with_metadata(fields, pandas));
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(categories)];
        RecordBatch::try_new(schema, columns).unwrap()
    }

    use arrow::array::Array;

    fn reads_back(path: &Path, batch: &RecordBatch, times: usize) {
        let source = Source::open(path).unwrap();
        assert_eq!(source.count(), (batch.num_rows() * times) as u64);
        assert_eq!(source.schema().metadata().get("pandas"), batch.schema().metadata().get("pandas"));
        assert_eq!(source.schema().fields(), batch.schema().fields());
        for _ in 0..2 {
            let batches = source.batches().unwrap().collect::<Result<Vec<_>>>().unwrap();
            assert!(batches.iter().all(|read| read.schema_ref() == source.schema()));
            let read = arrow::compute::concat_batches(source.schema(), &batches).unwrap();
            assert_eq!(read.num_rows(), batch.num_rows() * times);
            assert_eq!(read.slice(0, batch.num_rows()).column(1), batch.column(1));
        }
    }

    #[test]
    fn formats_are_told_by_content() {
        assert_eq!(detect(b"PAR1...."), Ok(Format::Parquet));
        assert_eq!(detect(b"ARROW1\0\0"), Ok(Format::IpcFile));
        assert_eq!(detect(&[0xff, 0xff, 0xff, 0xff, 0x10, 0, 0, 0]), Ok(Format::IpcStream));
        assert_eq!(detect(b"a,b\n1,2\n"), Ok(Format::Csv));
        assert_eq!(detect("\u{feff}ä,b\n".as_bytes()), Ok(Format::Csv));
        for bad in [&b""[..], b"FEA1", b"PARE", &[0x1f, 0x8b, 8], b"a\0b", &[0xff, 0xfe, b'a', 0]] {
            assert!(detect(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parquet_keeps_schema_and_metadata() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let batch = sample();
        let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), None).unwrap();
        for _ in 0..3 {
            writer.write(&batch).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
        reads_back(file.path(), &batch, 3);
    }

    #[test]
    fn ipc_of_both_kinds_is_counted_and_read() {
        let batch = sample();
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = FileWriter::try_new(file.reopen().unwrap(), batch.schema_ref()).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        reads_back(file.path(), &batch, 2);

        let stream = tempfile::NamedTempFile::new().unwrap();
        let mut writer = StreamWriter::try_new(stream.reopen().unwrap(), batch.schema_ref()).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        reads_back(stream.path(), &batch, 2);
    }

    #[test]
    fn a_cut_off_stream_is_refused() {
        let batch = sample();
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, batch.schema_ref()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes[..bytes.len() - 40]).unwrap();
        assert!(Source::open(file.path()).is_err());
    }

    #[test]
    fn csv_types_come_from_the_whole_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "\u{feff}n,s,d").unwrap();
        for row in 0..20_000 {
            writeln!(file, "{row},\"two\nlines\",2024-01-01").unwrap();
        }
        writeln!(file, "1.5,,2024-02-01").unwrap();
        let source = Source::open(file.path()).unwrap();
        assert_eq!(source.count(), 20_001);
        assert_eq!(source.schema().field(0), &Field::new("n", DataType::Float64, true));
        assert_eq!(source.schema().field(2).data_type(), &DataType::Date32);
        let batches = source.batches().unwrap().collect::<Result<Vec<_>>>().unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 20_001);
        assert!(batches.len() > 1);
        let strings: &StringArray = batches[0].column(1).as_string();
        assert_eq!(strings.value(0), "two\nlines");
    }

    #[test]
    fn what_is_absent_is_named() {
        let error = Source::open(Path::new("/nowhere/x.parquet")).unwrap_err();
        assert!(error.to_string().starts_with("[NOT_FOUND] cannot open /nowhere/x.parquet"), "{error}");
    }
}
