//! One chunk as a Parquet file.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowWriterOptions, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::buffers::slice_bytes;
use super::chunk::LoadRows;
use super::compression::CompressionTrials;
use super::convert::physical_field;
use super::encoding::ChunkForm;
use super::schema::{LOAD_COLUMN, REMAINDER_PREFIX, ROW_COLUMN};
use super::stats::delta_stats;
use crate::error::{Error, Result};

/// Pieces of a chunk that are encoded as they are, however small.
const MAX_PIECES: usize = 8;
const SMALL_PIECE_ROWS: usize = 8_192;

/// A chunk that is in storage, not yet part of any version.
#[derive(Debug, Clone)]
pub(super) struct WrittenChunk {
    /// Its path below the dataset's root.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The loads its rows came with, in the order of its rows.
    pub loads: Vec<LoadRows>,
    /// Bounds of its columns, as Delta's JSON.
    pub stats: String,
    /// The hidden remainder columns that it has.
    pub remainders: Vec<String>,
}

/// An encoded chunk, without a place yet.
pub(super) struct EncodedChunk {
    /// The Parquet file.
    pub file: Bytes,
    /// The loads its rows came with, in the order of its rows.
    pub loads: Vec<LoadRows>,
    /// Bounds of its columns, as Delta's JSON.
    pub stats: String,
    /// The hidden remainder columns that it has.
    pub remainders: Vec<String>,
}

/// Which load the rows of a chunk came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadColumn {
    /// All with this one; the column is added.
    One(i64),
    /// Each with that of its column `__pdb_load`, which stands in the batches.
    InBatches,
}

/// Encodes stored-form batches of one partition, in the order of their rows. Chunks of one writer share their trials.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when Parquet refuses a stored type.
pub(super) fn encode_chunk(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    load: LoadColumn,
    trials: &CompressionTrials,
) -> Result<EncodedChunk> {
    // Small pieces cost more to encode one by one than to join first; joining large ones would double their memory.
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let small = batches.len() > MAX_PIECES && rows / batches.len() < SMALL_PIECE_ROWS;
    let joined = if small { Some(join(schema, batches)?) } else { None };
    let pieces: &[RecordBatch] = joined.as_ref().map_or(batches, std::slice::from_ref);
    let remainders = used_remainders(schema, pieces);
    let pieces = pieces.iter().map(|piece| finish_columns(piece, load, &remainders)).collect::<Result<Vec<_>>>()?;
    let Some(first) = pieces.first() else { return Err(Error::internal("a chunk without rows")) };
    let uncompressed = trials.uncompressed();
    let form = ChunkForm::of(&pieces, &uncompressed)?;
    // Grown step by step, a buffer of this size would be copied several times.
    let mut file = Vec::with_capacity(pieces.iter().map(slice_bytes).sum::<usize>());
    let metadata =
        write(&mut file, &pieces, form).map_err(|error| Error::internal("a chunk cannot be encoded").because(error))?;
    trials.learn(&metadata, &uncompressed);
    let stats = delta_stats(&metadata, &first.schema())?;
    Ok(EncodedChunk { file: file.into(), loads: loads_of(&pieces)?, stats, remainders })
}

/// Writes a chunk: column by column, with the statistics that are known already, or as Parquet's writer does it.
fn write(file: &mut Vec<u8>, pieces: &[RecordBatch], form: ChunkForm) -> Result<ParquetMetaData, ParquetError> {
    let schema = pieces.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    let options = ArrowWriterOptions::new().with_properties(form.properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(file, Arc::clone(&schema), options)?;
    let Some(statistics) = form.statistics else {
        pieces.iter().try_for_each(|piece| writer.write(piece))?;
        return writer.close();
    };
    let (mut writer, columns) = writer.into_serialized_writer()?;
    let mut columns = columns.create_column_writers(0)?.into_iter();
    let mut group = writer.next_row_group()?;
    for (place, (field, known)) in schema.fields().iter().zip(statistics).enumerate() {
        for mut column in write_column(&mut columns, field, pieces, place)? {
            if let Some(known) = &known {
                let metadata = column.close().metadata.clone().into_builder();
                column.close_mut().metadata = metadata.set_statistics(known.clone()).build()?;
            }
            column.append_to_row_group(&mut group)?;
        }
    }
    group.close()?;
    writer.close()
}

/// Encodes the column at `place`, which takes as many of the `writers` as it has leaves.
fn write_column(
    writers: &mut impl Iterator<Item = ArrowColumnWriter>,
    field: &Field,
    pieces: &[RecordBatch],
    place: usize,
) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    let mut of_column = Vec::new();
    for piece in pieces {
        for (number, leaf) in compute_leaves(field, piece.column(place))?.iter().enumerate() {
            if of_column.len() == number {
                of_column.extend(writers.next());
            }
            let writer: Option<&mut ArrowColumnWriter> = of_column.get_mut(number);
            writer.ok_or_else(|| ParquetError::General("a column without a writer".into()))?.write(leaf)?;
        }
    }
    of_column.into_iter().map(ArrowColumnWriter::close).collect()
}

fn join(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    concat_batches(schema, batches)
        .map_err(|error| Error::internal("the rows of a chunk cannot be joined").because(error))
}

/// The hidden remainder columns in which something is not zero.
fn used_remainders(schema: &Schema, pieces: &[RecordBatch]) -> Vec<String> {
    let names = schema.fields().iter().map(|field| field.name()).filter(|name| name.starts_with(REMAINDER_PREFIX));
    let used = |name: &&String| {
        let columns = pieces.iter().filter_map(|piece| piece.column_by_name(name));
        columns.flat_map(|column| column.as_primitive::<Int32Type>().iter().flatten()).any(|rest| rest != 0)
    };
    names.filter(used).cloned().collect()
}

/// Adds the load's column and leaves out remainders that are not used.
fn finish_columns(batch: &RecordBatch, load: LoadColumn, remainders: &[String]) -> Result<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.name().starts_with(REMAINDER_PREFIX) && !remainders.contains(field.name()) {
            continue;
        }
        if let (ROW_COLUMN, LoadColumn::One(load_id)) = (field.name().as_str(), load) {
            fields.push(Arc::new(physical_field(LOAD_COLUMN, DataType::Int64)));
            columns.push(Arc::new(Int64Array::from_value(load_id, batch.num_rows())));
        }
        fields.push(Arc::clone(field));
        columns.push(Arc::clone(column));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| Error::internal("the columns of a chunk do not fit").because(error))
}

/// The loads of the rows, in the order first met.
fn loads_of(pieces: &[RecordBatch]) -> Result<Vec<LoadRows>> {
    let mut loads: Vec<LoadRows> = Vec::new();
    for piece in pieces {
        let numbers = |name: &str| piece.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let (Some(ids), Some(places)) = (numbers(LOAD_COLUMN), numbers(ROW_COLUMN)) else {
            return Err(Error::internal("a chunk without its hidden columns"));
        };
        for (load_id, place) in ids.values().iter().zip(places.values()) {
            match loads.last_mut().filter(|last| last.load_id == *load_id) {
                Some(last) => last.add(*place),
                None => match loads.iter_mut().find(|known| known.load_id == *load_id) {
                    Some(known) => known.add(*place),
                    None => loads.push(LoadRows { load_id: *load_id, rows: 1, first: *place, last: *place }),
                },
            }
        }
    }
    Ok(loads)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use parquet::basic::Compression;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    fn frame(floats: Vec<f64>, rest: Vec<i32>) -> RecordBatch {
        let rows = floats.len() as i64;
        RecordBatch::try_from_iter([
            ("x", Arc::new(Float64Array::from(floats)) as ArrayRef),
            (ROW_COLUMN, Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef),
            ("__pdb_ns_t", Arc::new(Int32Array::from(rest)) as ArrayRef),
        ])
        .unwrap()
    }

    fn encoded(batch: &RecordBatch, trials: &CompressionTrials) -> EncodedChunk {
        encode_chunk(&batch.schema(), std::slice::from_ref(batch), LoadColumn::One(7), trials).unwrap()
    }

    #[test]
    fn a_column_with_nan_has_no_bounds_and_zero_remainders_are_left_out() {
        let batch = frame(vec![1.0, f64::NAN], vec![0, 0]);
        let chunk = encoded(&batch, &CompressionTrials::default());
        assert!(chunk.remainders.is_empty());
        assert!(!chunk.stats.contains(r#""x":1"#), "{}", chunk.stats);
        let reader = SerializedFileReader::new(chunk.file).unwrap();
        let group = reader.metadata().row_group(0);
        assert!(group.column(0).statistics().is_none());
        let names: Vec<_> = group.columns().iter().map(|c| c.column_path().string()).collect();
        assert_eq!(names, ["x", LOAD_COLUMN, ROW_COLUMN]);
    }

    #[test]
    fn bounds_and_remainders_are_kept_where_they_mean_something() {
        let batch = frame(vec![1.0, 2.5], vec![0, 999]);
        let chunk = encoded(&batch, &CompressionTrials::default());
        assert_eq!(chunk.remainders, ["__pdb_ns_t"]);
        assert!(chunk.stats.contains(r#""maxValues":{"#) && chunk.stats.contains(r#""x":2.5"#), "{}", chunk.stats);
    }

    #[test]
    fn later_chunks_compress_what_was_worth_it_and_now_and_then_all() {
        let noise =
            |row: i64| f64::from_bits(0x3ff0_0000_0000_0000 | (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12);
        let batch = RecordBatch::try_from_iter([
            ("noise", Arc::new(Float64Array::from_iter_values((0..4_000).map(noise))) as ArrayRef),
            ("text", Arc::new(StringArray::from_iter_values((0..4_000).map(|row| format!("row number {row}"))))),
            (ROW_COLUMN, Arc::new(Int64Array::from_iter_values(0..4_000))),
        ])
        .unwrap();
        let trials = CompressionTrials::default();
        let compressed = || {
            let chunk = encoded(&batch, &trials);
            let reader = SerializedFileReader::new(chunk.file).unwrap();
            let columns = reader.metadata().row_group(0).columns();
            let compressed = columns.iter().filter(|column| column.compression() != Compression::UNCOMPRESSED);
            compressed.map(|column| column.column_path().string()).collect::<Vec<_>>()
        };
        for chunk in 0..34 {
            let expected: &[&str] = match chunk {
                0..16 | 32 => &["noise", "text", LOAD_COLUMN, ROW_COLUMN],
                _ => &["text"],
            };
            assert_eq!(compressed(), expected, "chunk {chunk}");
        }
    }
}
