//! How the columns of a chunk are encoded and compressed, by what their values are like.

use std::collections::HashSet;
use std::hash::Hash;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;

use super::bounds::Bounds;
use super::delta::FORMAT_PROPERTY;
use super::record::FORMAT_VERSION;
use super::schema::ROW_COLUMN;
use crate::error::{Error, Result};

/// Rows of a row group: what one thread of a query decodes at a time, and what its own bounds can rule out.
const ROW_GROUP_ROWS: usize = 131_072;
/// Rows of a page: what is decoded together, and the least that a query can skip within a chunk.
const PAGE_ROWS: usize = 20_000;
/// The fastest level: higher ones cost more time in a load than they save in reads.
const ZSTD_LEVEL: i32 = 1;
/// Rows of a column that are looked at to choose its encoding.
const SAMPLE_ROWS: usize = 512;
/// Bits by which differences may be longer than places in a dictionary, which take twice the time to make.
const BITS_FOR_SPEED: u32 = 2;

/// Columns of a chunk whose values or lengths are stored as differences. For each the writer keeps a buffer of 1 MiB
/// (`DEFAULT_BIT_WRITER_SIZE`), however few rows there are, and those of all columns at once.
const MOST_DIFFERENCES: usize = 64;

/// How a chunk is written.
pub(super) struct ChunkForm {
    /// The properties of the file.
    pub properties: WriterProperties,
    /// Of a chunk with the rows of a single page, the statistics of each column that are known, and that the writer
    /// leaves out. Of a larger one the writer finds them, of each page too.
    pub statistics: Option<Vec<Option<Statistics>>>,
}

impl ChunkForm {
    /// The form of a chunk whose rows come in `pieces` of one schema.
    ///
    /// # Errors
    /// Never, as long as the level of compression is one.
    pub(super) fn of(pieces: &[RecordBatch], uncompressed: &HashSet<ColumnPath>) -> Result<Self> {
        let rows: usize = pieces.iter().map(RecordBatch::num_rows).sum();
        let is_single_page = rows <= PAGE_ROWS;
        let mut properties = common_properties(is_single_page)?;
        for path in uncompressed {
            properties = properties.set_column_compression(path.clone(), Compression::UNCOMPRESSED);
        }
        let (mut statistics, mut differences) = (Vec::new(), 0);
        let Some(longest) = pieces.iter().max_by_key(|piece| piece.num_rows()) else {
            return Ok(Self { properties: properties.build(), statistics: None });
        };
        for (place, field) in longest.schema().fields().iter().enumerate() {
            let path = ColumnPath::from(vec![field.name().clone()]);
            let columns: Vec<&ArrayRef> = pieces.iter().map(|piece| piece.column(place)).collect();
            let is_wanted = is_single_page || decides(field.data_type());
            let bounds = if is_wanted { Bounds::of(&columns) } else { Bounds::Unknown };
            if let Some(encoding) = encoding(field.name(), longest.column(place), &bounds, differences) {
                differences += usize::from(encoding != Encoding::PLAIN);
                properties = properties.set_column_dictionary_enabled(path.clone(), false);
                properties = properties.set_column_encoding(path.clone(), encoding);
            }
            let is_left_out = matches!(bounds, Bounds::Nan) || (is_single_page && matches!(bounds, Bounds::Known(_)));
            if is_left_out {
                properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
            }
            statistics.push(if let Bounds::Known(known) = bounds { Some(known) } else { None });
        }
        Ok(Self { properties: properties.build(), statistics: is_single_page.then_some(statistics) })
    }
}

fn common_properties(is_single_page: bool) -> Result<WriterPropertiesBuilder> {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(|error| Error::internal("unknown zstd level").because(error))?;
    // Bounds of pages say nothing more than those of the chunk when it has a single page.
    let statistics = if is_single_page { EnabledStatistics::Chunk } else { EnabledStatistics::Page };
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(statistics)
        .set_key_value_metadata(Some(vec![KeyValue::new(FORMAT_PROPERTY.into(), FORMAT_VERSION.to_string())]))
        .set_created_by(concat!("pandas-db version ", env!("CARGO_PKG_VERSION")).into()))
}

/// Whether the bounds of a column of this type decide about more than its statistics.
fn decides(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int64 | DataType::Timestamp(..) | DataType::Float64 | DataType::Float32)
}

/// The encoding of a column in place of a dictionary, where one is smaller or much faster. So many columns before it
/// are stored as `differences`.
fn encoding(name: &str, column: &ArrayRef, bounds: &Bounds, differences: usize) -> Option<Encoding> {
    // Ascending numbers: their differences take almost no space, a dictionary would take them all.
    if name == ROW_COLUMN {
        return Some(Encoding::DELTA_BINARY_PACKED);
    }
    let sample = Sample::of(column)?;
    // A dictionary would hold nearly every value. Building one and giving it up takes a tenth of a load.
    let is_mostly_distinct = sample.distinct * 4 > sample.rows * 3;
    if differences >= MOST_DIFFERENCES {
        return is_mostly_distinct.then_some(Encoding::PLAIN);
    }
    match column.data_type() {
        DataType::Utf8 if is_mostly_distinct => Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        DataType::Float64 | DataType::Float32 if is_mostly_distinct => Some(Encoding::PLAIN),
        DataType::Int64 | DataType::Timestamp(..) => {
            let bits_of_places = usize::BITS - sample.distinct.saturating_sub(1).leading_zeros();
            let is_short = bounds.bits_of_differences().is_some_and(|bits| bits <= bits_of_places + BITS_FOR_SPEED);
            (is_mostly_distinct || is_short).then_some(Encoding::DELTA_BINARY_PACKED)
        }
        _ => None,
    }
}

/// Some rows of a column.
struct Sample {
    rows: usize,
    /// Different values among them.
    distinct: usize,
}

impl Sample {
    /// Nothing for a column of a type for which it does not matter.
    fn of(column: &ArrayRef) -> Option<Self> {
        let step = (column.len() / SAMPLE_ROWS).max(1);
        let rows: Vec<usize> = (0..column.len()).step_by(step).filter(|row| column.is_valid(*row)).collect();
        let distinct = match column.data_type() {
            DataType::Float64 => distinct(&rows, |row| column.as_primitive::<Float64Type>().value(row).to_bits()),
            DataType::Float32 => distinct(&rows, |row| column.as_primitive::<Float32Type>().value(row).to_bits()),
            DataType::Int64 => distinct(&rows, |row| column.as_primitive::<Int64Type>().value(row)),
            DataType::Timestamp(..) => {
                distinct(&rows, |row| column.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            DataType::Utf8 => distinct(&rows, |row| column.as_string::<i32>().value(row)),
            _ => return None,
        };
        Some(Self { rows: rows.len(), distinct })
    }
}

fn distinct<T: Hash + Eq>(rows: &[usize], value: impl Fn(usize) -> T) -> usize {
    rows.iter().map(|row| value(*row)).collect::<hashbrown::HashSet<T>>().len()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn chosen(column: ArrayRef) -> Option<Encoding> {
        encoding("x", &column, &Bounds::of(&[&column]), 0)
    }

    fn noise(row: u64) -> u64 {
        row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    }

    #[test]
    fn integers_are_stored_as_differences_where_these_are_short_or_all_differ() {
        let ints = |value: fn(u64) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values((0..5_000).map(|row| value(row) as i64)))
        };
        assert_eq!(chosen(ints(|_| 7)), Some(Encoding::DELTA_BINARY_PACKED), "all the same");
        assert_eq!(chosen(ints(|row| noise(row) % 100)), Some(Encoding::DELTA_BINARY_PACKED), "a small range");
        assert_eq!(chosen(ints(noise)), Some(Encoding::DELTA_BINARY_PACKED), "all distinct");
        assert_eq!(chosen(ints(|row| noise(row % 10))), None, "few values that are far apart");
    }

    #[test]
    fn texts_have_a_dictionary_where_few_differ() {
        let texts = |modulus: u64| -> ArrayRef {
            Arc::new(StringArray::from_iter_values((0..5_000).map(|row| (noise(row) % modulus).to_string())))
        };
        assert_eq!(chosen(texts(u64::MAX)), Some(Encoding::DELTA_LENGTH_BYTE_ARRAY));
        assert_eq!(chosen(texts(10)), None);
    }

    #[test]
    fn few_columns_of_a_wide_chunk_are_stored_as_differences() {
        let all_same: ArrayRef = Arc::new(Int64Array::from(vec![7; 9]));
        let distinct: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let names = (0..100).map(|number| format!("i{number}")).chain([ROW_COLUMN.to_string()]);
        let batch = RecordBatch::try_from_iter_with_nullable(names.map(|name| (name, Arc::clone(&all_same), true)));
        let form = ChunkForm::of(&[batch.unwrap()], &HashSet::new()).unwrap();
        let encoding = |name: &str| form.properties.encoding(&ColumnPath::from(name));
        assert_eq!(encoding("i63"), Some(Encoding::DELTA_BINARY_PACKED));
        assert_eq!(encoding("i64"), None, "a dictionary");
        assert_eq!(encoding(ROW_COLUMN), Some(Encoding::DELTA_BINARY_PACKED), "always");
        let bounds = Bounds::of(&[&distinct]);
        assert_eq!(super::encoding("s", &distinct, &bounds, 63), Some(Encoding::DELTA_LENGTH_BYTE_ARRAY));
        assert_eq!(super::encoding("s", &distinct, &bounds, 64), Some(Encoding::PLAIN));
    }

    #[test]
    fn a_column_of_nulls_has_a_dictionary() {
        assert_eq!(chosen(Arc::new(Int64Array::from(vec![None::<i64>; 9]))), None);
        assert_eq!(chosen(Arc::new(StringArray::from(vec![None::<&str>; 9]))), None);
    }
}
