//! One chunk as a Parquet file.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use super::buffers::slice_bytes;
use super::chunk::LoadRows;
use super::compression::CompressionTrials;
use super::convert::physical_field;
use super::delta::FORMAT_PROPERTY;
use super::record::FORMAT_VERSION;
use super::schema::{LOAD_COLUMN, REMAINDER_PREFIX, ROW_COLUMN};
use super::stats::delta_stats;
use crate::error::{Error, Result};

/// Rows of a row group: what one thread of a query decodes at a time, and what its own bounds can rule out.
const ROW_GROUP_ROWS: usize = 131_072;
/// Rows of a page: what is decoded together, and the least that a query can skip within a chunk.
const PAGE_ROWS: usize = 20_000;
/// Pieces of a chunk that are encoded as they are, however small.
const MAX_PIECES: usize = 8;
const SMALL_PIECE_ROWS: usize = 8_192;
/// The fastest level: higher ones cost more time in a load than they save in reads.
const ZSTD_LEVEL: i32 = 1;

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
    let broken = |error: ParquetError| Error::internal("a chunk cannot be encoded").because(error);
    let uncompressed = trials.uncompressed();
    let properties = properties(&pieces, &uncompressed)?;
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    // Grown step by step, a buffer of this size would be copied several times.
    let mut file = Vec::with_capacity(pieces.iter().map(slice_bytes).sum::<usize>());
    let mut writer = ArrowWriter::try_new_with_options(&mut file, first.schema(), options).map_err(broken)?;
    for piece in &pieces {
        writer.write(piece).map_err(broken)?;
    }
    let metadata = writer.close().map_err(broken)?;
    trials.learn(&metadata, &uncompressed);
    let stats = delta_stats(&metadata, &first.schema())?;
    Ok(EncodedChunk { file: file.into(), loads: loads_of(&pieces)?, stats, remainders })
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

fn properties(pieces: &[RecordBatch], uncompressed: &HashSet<ColumnPath>) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(|error| Error::internal("unknown zstd level").because(error))?;
    let row_column = ColumnPath::from(ROW_COLUMN);
    let rows: usize = pieces.iter().map(RecordBatch::num_rows).sum();
    // Bounds of pages say nothing more than those of the chunk when it has a single page.
    let statistics = if rows > PAGE_ROWS { EnabledStatistics::Page } else { EnabledStatistics::Chunk };
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(statistics)
        .set_key_value_metadata(Some(vec![KeyValue::new(FORMAT_PROPERTY.into(), FORMAT_VERSION.to_string())]))
        .set_created_by(concat!("pandas-db version ", env!("CARGO_PKG_VERSION")).into())
        // Ascending numbers: their differences take almost no space, a dictionary would take them all.
        .set_column_dictionary_enabled(row_column.clone(), false)
        .set_column_encoding(row_column, Encoding::DELTA_BINARY_PACKED);
    for path in uncompressed {
        properties = properties.set_column_compression(path.clone(), Compression::UNCOMPRESSED);
    }
    let Some(longest) = pieces.iter().max_by_key(|piece| piece.num_rows()) else { return Ok(properties.build()) };
    for (place, field) in longest.schema().fields().iter().enumerate() {
        let path = ColumnPath::from(vec![field.name().clone()]);
        if pieces.iter().any(|piece| holds_nan(piece.column(place))) {
            properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
        }
        if *field.name() == ROW_COLUMN || !is_mostly_distinct(longest.column(place)) {
            continue;
        }
        properties = properties.set_column_dictionary_enabled(path.clone(), false);
        properties = match field.data_type() {
            DataType::Int64 | DataType::Timestamp(..) => {
                properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
            }
            DataType::Utf8 => properties.set_column_encoding(path, Encoding::DELTA_LENGTH_BYTE_ARRAY),
            _ => properties,
        };
    }
    Ok(properties.build())
}

/// Rows of a column that are looked at to choose its encoding.
const SAMPLE_ROWS: usize = 512;

/// Whether a dictionary would hold nearly every value. Building one and giving it up takes a tenth of a load.
fn is_mostly_distinct(column: &ArrayRef) -> bool {
    let step = (column.len() / SAMPLE_ROWS).max(1);
    let rows: Vec<usize> = (0..column.len()).step_by(step).filter(|row| column.is_valid(*row)).collect();
    let distinct = match column.data_type() {
        DataType::Float64 => distinct(&rows, |row| column.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Float32 => distinct(&rows, |row| column.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Int64 => distinct(&rows, |row| column.as_primitive::<Int64Type>().value(row)),
        DataType::Timestamp(..) => distinct(&rows, |row| column.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Utf8 => distinct(&rows, |row| column.as_string::<i32>().value(row)),
        _ => return false,
    };
    distinct * 4 > rows.len() * 3
}

fn distinct<T: std::hash::Hash + Eq>(rows: &[usize], value: impl Fn(usize) -> T) -> usize {
    rows.iter().map(|row| value(*row)).collect::<hashbrown::HashSet<T>>().len()
}

/// Whether a float column holds NaN. Nested floats have no bounds in any index of ours, but Parquet's own would mislead
/// a query in the same way, so they count too.
fn holds_nan(column: &ArrayRef) -> bool {
    match column.data_type() {
        // What stands under a null may be NaN too, so only then the nulls are looked at.
        DataType::Float32 => {
            let floats = column.as_primitive::<Float32Type>();
            floats.values().iter().any(|value| value.is_nan()) && floats.iter().flatten().any(f32::is_nan)
        }
        DataType::Float64 => {
            let floats = column.as_primitive::<Float64Type>();
            floats.values().iter().any(|value| value.is_nan()) && floats.iter().flatten().any(f64::is_nan)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, StringArray};
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
