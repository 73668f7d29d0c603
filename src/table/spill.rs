//! Batches set aside on disk while a load is larger than its memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::error::{Error, Result};

/// Bytes read at a time.
const READ_BYTES: usize = 128 << 10;

/// Where a run of batches stands in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    offset: u64,
    length: u64,
}

/// A temporary file without a name: it is gone when the load is, however it ends.
pub(super) struct SpillFile {
    file: Arc<File>,
    end: u64,
}

fn spill_error(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::exhausted("a load larger than its memory could not be set aside on disk; free space for --spill-dir")
        .because(error)
}

impl SpillFile {
    /// A new file in `folder`.
    ///
    /// # Errors
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted), as for every operation here, when the disk does not take it.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(spill_error)?;
        Ok(Self { file: Arc::new(tempfile::tempfile_in(folder).map_err(spill_error)?), end: 0 })
    }

    /// Appends batches of one schema.
    pub(super) fn write(&mut self, batches: &[RecordBatch]) -> Result<Segment> {
        let Some(first) = batches.first() else { return Ok(Segment { offset: self.end, length: 0 }) };
        let offset = self.end;
        let mut file = self.file.as_ref();
        file.seek(SeekFrom::Start(offset)).map_err(spill_error)?;
        let mut writer = StreamWriter::try_new(BufWriter::new(&mut file), &first.schema()).map_err(spill_error)?;
        for batch in batches {
            writer.write(batch).map_err(spill_error)?;
        }
        writer.finish().map_err(spill_error)?;
        writer.into_inner().map_err(spill_error)?.flush().map_err(spill_error)?;
        self.end = file.stream_position().map_err(spill_error)?;
        Ok(Segment { offset, length: self.end - offset })
    }

    /// Reads a segment back, batch by batch. Nothing is opened before the first batch is asked for.
    pub(super) fn read(&self, segment: Segment) -> impl Iterator<Item = Result<RecordBatch>> + use<> {
        let file = Arc::clone(&self.file);
        let opened = std::iter::once_with(move || {
            let reader = SegmentReader { file, position: segment.offset, end: segment.offset + segment.length };
            StreamReader::try_new(BufReader::with_capacity(READ_BYTES, reader), None)
        });
        opened.filter(move |_| segment.length > 0).flat_map(|opened| {
            let (batches, failed) = match opened {
                Ok(batches) => (Some(batches), None),
                Err(error) => (None, Some(Err(error))),
            };
            batches.into_iter().flatten().chain(failed).map(|batch| batch.map_err(spill_error))
        })
    }
}

/// Reads at a position of its own: all readers and the writer share one file handle, and so its position.
struct SegmentReader {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for SegmentReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let Some(part) = buffer.get_mut(..most) else { return Ok(0) };
        let read = self.file.read_at(part, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn batch(from: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from_iter_values(from..from + 9)) as ArrayRef)]).unwrap()
    }

    #[test]
    fn segments_can_be_read_side_by_side_and_while_others_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = SpillFile::create(folder.path()).unwrap();
        let segments = [0, 100, 200].map(|from| spill.write(&[batch(from), batch(from + 9)]).unwrap());
        let mut readers = segments.map(|segment| spill.read(segment));
        let first: Vec<RecordBatch> = readers.iter_mut().map(|reader| reader.next().unwrap().unwrap()).collect();
        spill.write(&[batch(300)]).unwrap();
        let second: Vec<RecordBatch> = readers.iter_mut().map(|reader| reader.next().unwrap().unwrap()).collect();
        let starts = |batches: Vec<RecordBatch>| -> Vec<i64> {
            batches.iter().map(|b| b.column(0).as_primitive::<Int64Type>().value(0)).collect()
        };
        assert_eq!((starts(first), starts(second)), (vec![0, 100, 200], vec![9, 109, 209]));
        assert!(readers.iter_mut().all(|reader| reader.next().is_none()));
    }
}
