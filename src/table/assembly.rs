//! Puts rows in the order of their places, in memory.
//!
//! The rows of a batch are in order among themselves; those of several are to be mixed. The whole is handed on window
//! by window, each so small that its columns fit in the processor's cache: every batch gives a run of its rows to a
//! window, and their values are put where they belong there. Reading is sequential then, and writing never leaves the
//! cache.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::buffers::slice_bytes;
use super::gather::{Run, Window, gather};
use super::schema::ROW_COLUMN;
use crate::error::{Error, Result};

/// Rows of a batch that is decoded at a time.
pub(super) const OUTPUT_ROWS: usize = 65_536;
/// Rows of a window: of more, its columns do not fit in the processor's cache; of fewer, the runs that it is made of
/// are so short that finding them takes longer than copying them.
const WINDOW_ROWS: usize = 131_072;
/// And its bytes, where rows are long.
const WINDOW_BYTES: usize = 16 << 20;

/// The places of a batch's rows.
///
/// # Errors
/// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the batch has none.
pub(super) fn places(batch: &RecordBatch) -> Result<&[i64]> {
    let column = batch.column_by_name(ROW_COLUMN).and_then(|column| column.as_primitive_opt::<Int64Type>());
    column.map(|places| places.values().as_ref()).ok_or_else(|| Error::corrupt("a chunk lacks the places of its rows"))
}

/// Rows on their way into order. Several threads may add at once.
pub(super) struct Assembly {
    first: i64,
    /// From the first place to the last.
    spread: usize,
    /// Rows that can be added.
    capacity: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    schema: Option<SchemaRef>,
    parts: Vec<Part>,
    rows: usize,
    bytes: usize,
}

/// The rows of a batch.
struct Part {
    /// Where each row belongs, counted from the first place, and in the end in the order of all rows; ascending.
    ranks: Vec<u32>,
    columns: Vec<ArrayRef>,
}

impl Assembly {
    /// For `rows` rows, whose places lie from `first` to `last`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the two are out of reach of each other.
    pub(super) fn new(rows: usize, first: i64, last: i64) -> Result<Self> {
        const MAX_SPREAD: i64 = 1 << 31;
        let spread = last.checked_sub(first).filter(|spread| (0..MAX_SPREAD).contains(spread)).ok_or_else(damaged)?;
        let spread = spread as usize + 1;
        let capacity = if rows <= spread { rows } else { return Err(damaged()) };
        Ok(Self { first, spread, capacity, taken: Mutex::default() })
    }

    /// Adds the rows of a batch; all batches have the same form.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when a place is missing or out of bounds, or there are more rows
    /// than were announced.
    pub(super) fn add(&self, batch: &RecordBatch) -> Result<()> {
        let batch = ascending(batch)?;
        let places = places(&batch)?;
        let is_within =
            |place: &i64| place.checked_sub(self.first).is_some_and(|rank| (0..self.spread as i64).contains(&rank));
        // They ascend, so that the outermost speak for all.
        if !places.first().into_iter().chain(places.last()).all(is_within) {
            return Err(damaged());
        }
        let ranks: Vec<u32> = places.iter().map(|place| place.wrapping_sub(self.first) as u32).collect();
        let (schema, columns) = without_places(&batch)?;
        let bytes = slice_bytes(&batch);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.rows = taken.rows.checked_add(ranks.len()).filter(|rows| *rows <= self.capacity).ok_or_else(damaged)?;
        taken.bytes = taken.bytes.saturating_add(bytes);
        taken.schema.get_or_insert(schema);
        taken.parts.push(Part { ranks, columns });
        Ok(())
    }

    /// The rows in order, once all are added.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when two rows have the same place.
    pub(super) fn finish(self) -> Result<Order> {
        let Taken { schema, mut parts, rows, bytes } = self.taken.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut places = PlaceSet::new(self.spread);
        for rank in parts.iter().flat_map(|part| &part.ranks) {
            if !places.insert(*rank) {
                return Err(damaged());
            }
        }
        if rows < self.spread {
            // There are places of rows that a filter's pruning left out.
            let counted = places.counted();
            for rank in parts.iter_mut().flat_map(|part| &mut part.ranks) {
                *rank = counted.before(*rank);
            }
        }
        let schema = schema.unwrap_or_else(|| Arc::new(Schema::empty()));
        Ok(Order { schema, parts, rows, window_rows: window_rows(rows, bytes) })
    }
}

/// Which places have a row.
struct PlaceSet(Vec<u64>);

/// And how many have one before each word of them.
struct CountedPlaces {
    words: Vec<u64>,
    before: Vec<u32>,
}

impl PlaceSet {
    fn new(spread: usize) -> Self {
        Self(vec![0; spread.div_ceil(u64::BITS as usize)])
    }

    /// Whether the place had no row before, and is within reach.
    fn insert(&mut self, place: u32) -> bool {
        let Some(word) = self.0.get_mut((place / u64::BITS) as usize) else { return false };
        let bit = 1 << (place % u64::BITS);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn counted(self) -> CountedPlaces {
        let counts = self.0.iter().map(|word| word.count_ones());
        let before = counts.scan(0, |all, count| Some(std::mem::replace(all, *all + count))).collect();
        CountedPlaces { words: self.0, before }
    }
}

impl CountedPlaces {
    /// How many places before this one have a row.
    fn before(&self, place: u32) -> u32 {
        let word = (place / u64::BITS) as usize;
        let (Some(bits), Some(before)) = (self.words.get(word), self.before.get(word)) else { return u32::MAX };
        before + (bits & ((1 << (place % u64::BITS)) - 1)).count_ones()
    }
}

/// The batch with its rows in the order of their places, as those of chunks mostly are.
fn ascending(batch: &RecordBatch) -> Result<RecordBatch> {
    let places = places(batch)?;
    if places.is_sorted() {
        return Ok(batch.clone());
    }
    let mut rows: Vec<u32> = (0..places.len() as u32).collect();
    rows.sort_by_key(|row| places.get(*row as usize));
    let rows = UInt32Array::from(rows);
    let columns = batch.columns().iter().map(|column| take(column, &rows, None)).collect::<Result<_, _>>();
    RecordBatch::try_new(batch.schema(), columns.map_err(out_of_form)?).map_err(out_of_form)
}

fn without_places(batch: &RecordBatch) -> Result<(SchemaRef, Vec<ArrayRef>)> {
    let form = batch.schema();
    let kept = form.fields().iter().enumerate().filter(|(_, field)| field.name() != ROW_COLUMN);
    let kept: Vec<usize> = kept.map(|(place, _)| place).collect();
    let columns = kept.iter().filter_map(|place| batch.columns().get(*place)).cloned().collect();
    Ok((Arc::new(form.project(&kept).map_err(out_of_form)?), columns))
}

/// Rows in the order they belong in.
pub(super) struct Order {
    schema: SchemaRef,
    parts: Vec<Part>,
    rows: usize,
    window_rows: usize,
}

fn window_rows(rows: usize, bytes: usize) -> usize {
    (WINDOW_BYTES / (bytes / rows.max(1)).max(1)).clamp(1, WINDOW_ROWS)
}

impl Order {
    /// Finds the order of the rows of `batches`, which all have the same form.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the places are missing or out of reach of each other.
    pub(super) fn find(batches: &[RecordBatch]) -> Result<Self> {
        let mut bounds: Option<(i64, i64)> = None;
        for batch in batches {
            for place in places(batch)? {
                let (min, max) = bounds.unwrap_or((*place, *place));
                bounds = Some((min.min(*place), max.max(*place)));
            }
        }
        let (first, last) = bounds.unwrap_or_default();
        let assembly = Assembly::new(batches.iter().map(RecordBatch::num_rows).sum(), first, last)?;
        batches.iter().try_for_each(|batch| assembly.add(batch))?;
        assembly.finish()
    }

    /// Finds the order of the rows of `batches`, which all have the same form and whose places may lie far apart.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the places are missing.
    pub(super) fn find_sparse(batches: &[RecordBatch]) -> Result<Self> {
        let batches = batches.iter().map(ascending).collect::<Result<Vec<_>>>()?;
        let mut rows: Vec<(i64, u32)> = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        for (number, batch) in batches.iter().enumerate() {
            rows.extend(places(batch)?.iter().map(|place| (*place, number as u32)));
        }
        // Stable, and quick where it finds runs that are in order.
        rows.sort();
        let (mut schema, mut parts) = (Arc::new(Schema::empty()), Vec::with_capacity(batches.len()));
        for batch in &batches {
            let (form, columns) = without_places(batch)?;
            schema = form;
            parts.push(Part { ranks: Vec::with_capacity(batch.num_rows()), columns });
        }
        for (rank, (_, number)) in rows.iter().enumerate() {
            if let Some(part) = parts.get_mut(*number as usize) {
                part.ranks.push(rank as u32);
            }
        }
        let bytes = batches.iter().map(slice_bytes).sum();
        Ok(Self { schema, parts, rows: rows.len(), window_rows: window_rows(rows.len(), bytes) })
    }

    /// How many batches come out.
    pub(super) fn outputs(&self) -> usize {
        self.rows.div_ceil(self.window_rows)
    }

    /// The batch of this number, its rows in order, without their places.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the batches differ in form.
    pub(super) fn output(&self, number: usize) -> Result<RecordBatch> {
        let first = number * self.window_rows;
        let window = Window { first: first as u32, rows: self.rows.saturating_sub(first).min(self.window_rows) };
        let parts: Vec<(&Part, Range<usize>)> =
            self.parts.iter().map(|part| (part, part.rows_in(window))).filter(|(_, rows)| !rows.is_empty()).collect();
        let column = |place: usize| {
            let runs = parts.iter().map(|(part, rows)| part.run(place, rows));
            gather(&runs.collect::<Result<Vec<_>>>()?, window)
        };
        let columns = (0..self.schema.fields().len()).map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(window.rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(out_of_form)
    }
}

impl Part {
    /// Those of its rows that belong into a window.
    fn rows_in(&self, window: Window) -> Range<usize> {
        let before = |end: u64| self.ranks.partition_point(|rank| u64::from(*rank) < end);
        let first = u64::from(window.first);
        before(first)..before(first + window.rows as u64)
    }

    fn run(&self, column: usize, rows: &Range<usize>) -> Result<Run<'_>> {
        let (array, ranks) = (self.columns.get(column), self.ranks.get(rows.clone()));
        let (array, ranks) = array.zip(ranks).ok_or_else(|| Error::internal("the chunks of a read differ in form"))?;
        Ok(Run { array, rows: rows.clone(), ranks })
    }
}

/// What the engine says of arrays that do not fit.
pub(super) fn out_of_form(error: ArrowError) -> Error {
    Error::internal("rows could not be put in order").because(error)
}

fn damaged() -> Error {
    Error::corrupt("the places of a chunk's rows are damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_bounded_in_rows_and_bytes() {
        assert_eq!(window_rows(1_000_000, 80_000_000), WINDOW_ROWS);
        assert_eq!(window_rows(1_000, 16 << 20), 1_000);
        assert_eq!(window_rows(10, 10 << 30), 1);
        assert_eq!(window_rows(0, 0), WINDOW_ROWS);
    }
}
