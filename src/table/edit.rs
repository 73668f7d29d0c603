//! Changes of single rows, applied to the stored form of chunks.

use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{filter_record_batch, interleave};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::chunk::Chunk;
use super::compression::CompressionTrials;
use super::encode::{EncodedChunk, LoadColumn, encode_chunk};
use super::form::StoredForm;
use super::schema::{LOAD_COLUMN, ROW_COLUMN};
use crate::error::{Error, Result};

/// New values of a stored column.
pub(super) struct EditedColumn {
    /// The column, as chunks call it.
    pub name: String,
    /// The values, one for each changed row.
    pub values: ArrayRef,
    /// The hidden column of its nanoseconds and their values, where it may have some.
    pub remainder: Option<(String, ArrayRef)>,
    /// Which changed rows get theirs.
    pub assigned: BooleanArray,
}

/// What becomes of some rows.
pub(super) struct Edit {
    /// The number of each changed row, by its load and its place in it.
    numbers: HashMap<(i64, i64), usize>,
    /// The places of each load, in order.
    places: HashMap<i64, Vec<i64>>,
    deleted: BooleanArray,
    columns: Vec<EditedColumn>,
    /// Whether changed rows may belong to other partitions.
    moves: bool,
}

/// What is left of a chunk.
pub(super) struct Left {
    /// Rows of the same partition.
    pub stays: Option<EncodedChunk>,
    /// Rows that may belong to other partitions.
    pub moved: Vec<RecordBatch>,
    /// How many rows were meant.
    pub touched: usize,
}

impl Edit {
    /// Changes of the rows that are told by their loads and places.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when a row is told twice.
    pub(super) fn new(
        loads: &Int64Array,
        rows: &Int64Array,
        deleted: BooleanArray,
        columns: Vec<EditedColumn>,
        moves: bool,
    ) -> Result<Self> {
        let mut numbers = HashMap::with_capacity(loads.len());
        let mut places: HashMap<i64, Vec<i64>> = HashMap::new();
        for (number, (load, row)) in loads.values().iter().zip(rows.values()).enumerate() {
            if numbers.insert((*load, *row), number).is_some() {
                return Err(Error::internal("a row is changed twice by one statement"));
            }
            places.entry(*load).or_default().push(*row);
        }
        places.values_mut().for_each(|places| places.sort_unstable());
        Ok(Self { numbers, places, deleted, columns, moves })
    }

    /// Whether a chunk may hold one of the rows, by what the index says of it.
    pub(super) fn may_touch(&self, chunk: &Chunk) -> bool {
        chunk.loads.iter().any(|of| {
            let Some(places) = self.places.get(&of.load_id) else { return false };
            let next = places.partition_point(|place| *place < of.first);
            places.get(next).is_some_and(|place| *place <= of.last)
        })
    }

    /// Whether a chunk holds one of the rows. Only its hidden columns are decoded.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when it is damaged.
    pub(super) fn touches(&self, file: &Bytes) -> Result<bool> {
        let damaged = |error: parquet::errors::ParquetError| Error::corrupt("a chunk is damaged").because(error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).map_err(damaged)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), [LOAD_COLUMN, ROW_COLUMN]);
        for batch in builder.with_projection(mask).build().map_err(damaged)? {
            let batch = batch.map_err(|error| Error::corrupt("a chunk is damaged").because(error))?;
            if self.find(&batch)?.iter().any(Option::is_some) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Applies the changes to the rows of a chunk.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when it is damaged.
    pub(super) fn apply(&self, form: &StoredForm, file: Bytes) -> Result<Left> {
        let (mut stays, mut moved, mut touched) = (Vec::new(), Vec::new(), 0);
        for batch in form.decode(file)? {
            let found = self.find(&batch)?;
            touched += found.iter().flatten().count();
            let batch = self.with_new_values(&batch, &found)?;
            let is_left = |number: &Option<usize>| number.is_none_or(|number| !self.deleted.value(number));
            let is_moved = |number: &Option<usize>| self.moves && number.is_some() && is_left(number);
            let kept: BooleanArray = found.iter().map(|number| Some(is_left(number) && !is_moved(number))).collect();
            stays.push(filter_record_batch(&batch, &kept).map_err(broken)?);
            if self.moves {
                let going: BooleanArray = found.iter().map(|number| Some(is_moved(number))).collect();
                moved.push(filter_record_batch(&batch, &going).map_err(broken)?);
            }
        }
        stays.retain(|batch| batch.num_rows() > 0);
        moved.retain(|batch| batch.num_rows() > 0);
        let stays = match stays.is_empty() {
            true => None,
            false => Some(encode_chunk(&form.stored, &stays, LoadColumn::InBatches, &CompressionTrials::default())?),
        };
        Ok(Left { stays, moved, touched })
    }

    /// The number of the change of each row of a batch, if there is one.
    fn find(&self, batch: &RecordBatch) -> Result<Vec<Option<usize>>> {
        let numbers = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            column.ok_or_else(|| Error::corrupt("a chunk lacks its hidden columns"))
        };
        let (loads, rows) = (numbers(LOAD_COLUMN)?, numbers(ROW_COLUMN)?);
        let keys = loads.values().iter().zip(rows.values());
        Ok(keys.map(|(load, row)| self.numbers.get(&(*load, *row)).copied()).collect())
    }

    fn with_new_values(&self, batch: &RecordBatch, found: &[Option<usize>]) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        let schema = batch.schema();
        for edited in &self.columns {
            let picks = picks(found, &edited.assigned);
            let rest = edited.remainder.iter().map(|(name, values)| (name, values));
            for (name, values) in [(&edited.name, &edited.values)].into_iter().chain(rest) {
                let place = schema.index_of(name).map_err(broken)?;
                let Some(column) = columns.get_mut(place) else { continue };
                *column = interleave(&[column.as_ref(), values.as_ref()], &picks).map_err(broken)?;
            }
        }
        RecordBatch::try_new(schema, columns).map_err(broken)
    }
}

/// For each row where its value comes from: its own place, or a change.
fn picks(found: &[Option<usize>], assigned: &BooleanArray) -> Vec<(usize, usize)> {
    let pick = |(row, number): (usize, &Option<usize>)| match number.filter(|number| assigned.value(*number)) {
        Some(number) => (1, number),
        None => (0, row),
    };
    found.iter().enumerate().map(pick).collect()
}

fn broken(error: ArrowError) -> Error {
    Error::internal("the rows of a chunk could not be changed").because(error)
}
