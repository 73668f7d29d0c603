//! Batches set aside on disk while a load is larger than its memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Take, Write};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::error::{Error, Result};

/// Where a run of batches stands in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    offset: u64,
    length: u64,
}

/// A temporary file without a name: it is gone when the load is, however it ends.
pub(super) struct SpillFile {
    file: File,
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
        Ok(Self { file: tempfile::tempfile_in(folder).map_err(spill_error)?, end: 0 })
    }

    /// Appends batches of one schema.
    pub(super) fn write(&mut self, batches: &[RecordBatch]) -> Result<Segment> {
        let Some(first) = batches.first() else { return Ok(Segment { offset: self.end, length: 0 }) };
        let offset = self.end;
        self.file.seek(SeekFrom::Start(offset)).map_err(spill_error)?;
        let mut writer = StreamWriter::try_new(BufWriter::new(&mut self.file), &first.schema()).map_err(spill_error)?;
        for batch in batches {
            writer.write(batch).map_err(spill_error)?;
        }
        writer.finish().map_err(spill_error)?;
        writer.into_inner().map_err(spill_error)?.flush().map_err(spill_error)?;
        self.end = self.file.stream_position().map_err(spill_error)?;
        Ok(Segment { offset, length: self.end - offset })
    }

    /// Reads a segment back, batch by batch.
    pub(super) fn read(&self, segment: Segment) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let reader = if segment.length == 0 { None } else { Some(self.open(segment)?) };
        Ok(reader.into_iter().flatten().map(|batch| batch.map_err(spill_error)))
    }

    fn open(&self, segment: Segment) -> Result<StreamReader<Take<BufReader<File>>>> {
        use std::io::Read;
        let mut file = self.file.try_clone().map_err(spill_error)?;
        file.seek(SeekFrom::Start(segment.offset)).map_err(spill_error)?;
        StreamReader::try_new(BufReader::new(file).take(segment.length), None).map_err(spill_error)
    }
}
