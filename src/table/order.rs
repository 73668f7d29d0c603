//! Puts the rows of a load back into the order they were sent, in bounded memory.
//!
//! Each chunk holds its rows in order, with their places in the load in a hidden column. Chunks whose places do not
//! overlap are simply read one after the other. Those that overlap are read together: in memory where they are few,
//! and otherwise set aside on disk in windows of consecutive places, each of which then fits in memory. Places are
//! numbers, so nothing is compared: each row is put where it belongs.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::buffers::Buffers;
use super::group::GroupKey;
use super::schema::ROW_COLUMN;
use super::snapshot::Chunk;
use crate::error::{Error, Result};

/// Rows of a batch that is handed on.
pub(super) const OUTPUT_ROWS: usize = 65_536;
/// Of the bytes that a read may keep in memory, the part that batches take while they are set aside: the others are
/// being decoded meanwhile.
const WINDOW_BUFFER_PART: usize = 3;
/// And the part that one window takes.
const WINDOW_PART: u64 = 8;

/// Chunks that are read one after the other, or together.
#[derive(Debug)]
pub(super) enum Run {
    /// They do not overlap, and stand in order.
    Apart(Vec<Arc<Chunk>>),
    /// Their places overlap.
    Mixed(Vec<Arc<Chunk>>),
}

/// Arranges the chunks of one load.
pub(super) fn runs(mut chunks: Vec<Arc<Chunk>>) -> Vec<Run> {
    chunks.sort_by_key(|chunk| chunk.row_range);
    let mut groups: Vec<(i64, Vec<Arc<Chunk>>)> = Vec::new();
    for chunk in chunks {
        let (first, last) = chunk.row_range;
        match groups.last_mut() {
            Some((end, group)) if first <= *end => {
                *end = last.max(*end);
                group.push(chunk);
            }
            _ => groups.push((last, vec![chunk])),
        }
    }
    let mut runs: Vec<Run> = Vec::new();
    for (_, group) in groups {
        match (runs.last_mut(), group.len()) {
            (Some(Run::Apart(run)), 1) => run.extend(group),
            (_, 1) => runs.push(Run::Apart(group)),
            _ => runs.push(Run::Mixed(group)),
        }
    }
    runs
}

/// The rows of a window that one chunk after another is cut into; `None` where all fit in `most_bytes`.
pub(super) fn window_rows(chunks: &[Arc<Chunk>], bytes_per_row: u64, most_bytes: usize) -> Option<i64> {
    let rows: u64 = chunks.iter().map(|chunk| chunk.rows).sum();
    let bytes_per_row = bytes_per_row.max(1);
    let most = most_bytes as u64;
    (rows.saturating_mul(bytes_per_row) > most).then(|| (most / WINDOW_PART / bytes_per_row).max(1) as i64)
}

fn places(batch: &RecordBatch) -> Result<&[i64]> {
    let column = batch.column_by_name(ROW_COLUMN).and_then(|column| column.as_primitive_opt::<Int64Type>());
    column.map(|places| places.values().as_ref()).ok_or_else(|| Error::corrupt("a chunk lacks the places of its rows"))
}

/// Rows of several batches, and the order they belong in.
pub(super) struct Order {
    schema: SchemaRef,
    columns: Vec<Rows>,
    /// For each batch the number of its first row, if the rows of all were counted through.
    starts: Vec<u32>,
    /// For consecutive places, the batch and the row in it.
    slots: Vec<(u32, u32)>,
}

/// The values of one column.
enum Rows {
    /// Joined, since picking fixed widths from one array costs a third of picking them from hundreds.
    Joined(ArrayRef),
    /// As the batches have them: joined, long texts might go beyond what offsets of 32 bits reach.
    Apart(Vec<ArrayRef>),
}

const EMPTY_SLOT: (u32, u32) = (u32::MAX, u32::MAX);

impl Order {
    /// Finds the order of the rows of `batches`, which all have the same form.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the places are missing or out of reach of each other.
    pub(super) fn find(batches: Vec<RecordBatch>) -> Result<Self> {
        let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let kept: Vec<usize> = schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| field.name() != ROW_COLUMN)
            .map(|(place, _)| place)
            .collect();
        let schema = schema.project(&kept).map_err(out_of_form)?;
        let mut starts = Vec::with_capacity(batches.len());
        let mut rows: u32 = 0;
        for batch in &batches {
            starts.push(rows);
            rows = u32::try_from(batch.num_rows()).ok().and_then(|more| rows.checked_add(more)).ok_or_else(damaged)?;
        }
        let slots = slots(&batches)?;
        let column = |place| batches.iter().map(|batch| Arc::clone(batch.column(place))).collect();
        let columns = kept.into_iter().map(|place| Rows::new(column(place))).collect::<Result<_>>()?;
        Ok(Self { schema: Arc::new(schema), columns, starts, slots })
    }

    /// How many batches come out.
    pub(super) fn outputs(&self) -> usize {
        self.slots.len().div_ceil(OUTPUT_ROWS)
    }

    /// The batch of this number, its rows in order, without their places.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the batches differ in form.
    pub(super) fn output(&self, number: usize) -> Result<RecordBatch> {
        let slots = || self.slots.iter().skip(number * OUTPUT_ROWS).take(OUTPUT_ROWS);
        let start = |batch: u32| self.starts.get(batch as usize).copied().unwrap_or_default();
        let counted: UInt32Array = slots().map(|(batch, row)| start(*batch) + row).collect::<Vec<u32>>().into();
        let pairs: Vec<(usize, usize)> = slots().map(|(batch, row)| (*batch as usize, *row as usize)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        let columns = self.columns.iter().map(|column| match column {
            Rows::Joined(values) => take(values, &counted, None),
            Rows::Apart(values) => interleave(&values.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &pairs),
        });
        columns
            .collect::<Result<Vec<_>, _>>()
            .and_then(|columns| RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options))
            .map_err(out_of_form)
    }
}

impl Rows {
    fn new(arrays: Vec<ArrayRef>) -> Result<Self> {
        let fixed = arrays
            .first()
            .is_some_and(|array| array.data_type().is_primitive() || *array.data_type() == DataType::Boolean);
        if !fixed {
            return Ok(Self::Apart(arrays));
        }
        concat(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map(Self::Joined).map_err(out_of_form)
    }
}

fn out_of_form(error: ArrowError) -> Error {
    Error::internal("rows could not be put in order").because(error)
}

fn damaged() -> Error {
    Error::corrupt("the places of a chunk's rows are damaged")
}

/// The batch and the row in it of each place, in order.
fn slots(batches: &[RecordBatch]) -> Result<Vec<(u32, u32)>> {
    const MAX_SPREAD: i64 = 1 << 31;
    let mut bounds: Option<(i64, i64)> = None;
    for batch in batches {
        // Within a chunk places rise, but a batch from disk may hold rows of several.
        for place in places(batch)? {
            let (min, max) = bounds.unwrap_or((*place, *place));
            bounds = Some((min.min(*place), max.max(*place)));
        }
    }
    let Some((min, max)) = bounds else { return Ok(Vec::new()) };
    let spread = max.checked_sub(min).filter(|spread| (0..MAX_SPREAD).contains(spread)).ok_or_else(damaged)?;
    let mut slots = vec![EMPTY_SLOT; spread as usize + 1];
    for (number, batch) in batches.iter().enumerate() {
        for (row, place) in places(batch)?.iter().enumerate() {
            if let Some(slot) = slots.get_mut((place - min) as usize) {
                *slot = (number as u32, row as u32);
            }
        }
    }
    // Places of rows that a filter's pruning left out.
    slots.retain(|slot| *slot != EMPTY_SLOT);
    Ok(slots)
}

/// Rows set aside by windows of consecutive places.
pub(super) struct Windows {
    rows: i64,
    most_bytes: usize,
    spill_folder: PathBuf,
    buffers: Option<Buffers>,
}

impl Windows {
    /// Windows of `rows` places each, for a read that may keep `most_bytes` in memory.
    pub(super) fn new(rows: i64, most_bytes: usize, spill_folder: PathBuf) -> Self {
        Self { rows: rows.max(1), most_bytes, spill_folder, buffers: None }
    }

    /// Sets rows aside.
    ///
    /// # Errors
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) when the disk is full.
    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let keys: Vec<GroupKey> = places(&batch)?.iter().map(|place| (place / self.rows) as GroupKey).collect();
        let (folder, most) = (self.spill_folder.clone(), self.most_bytes / WINDOW_BUFFER_PART);
        let buffers = self.buffers.get_or_insert_with(|| Buffers::new(batch.schema(), usize::MAX, most, folder));
        buffers.push(batch, keys)
    }

    /// The windows in order, each with its rows in order.
    ///
    /// # Errors
    /// As [`Windows::add`]; reading a window fails likewise.
    pub(super) fn finish(mut self) -> Result<impl Iterator<Item = Result<Order>>> {
        if let Some(buffers) = &mut self.buffers {
            buffers.sort()?;
        }
        Ok(self.buffers.map(Buffers::into_parts).into_iter().flat_map(|(windows, store)| {
            windows.into_values().map(move |window| {
                let batches: Vec<RecordBatch> = store.batches(&window)?.collect::<Result<_>>()?;
                Order::find(batches)
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use proptest::prelude::*;

    use super::*;

    fn chunk(first: i64, last: i64) -> Arc<Chunk> {
        Arc::new(Chunk {
            path: format!("{first}"),
            bytes: 1,
            rows: (last - first + 1) as u64,
            load_id: 1,
            number: 1,
            stats: Box::default(),
            row_range: (first, last),
            removed: None,
        })
    }

    fn batch(places: &[i64]) -> RecordBatch {
        let column = Arc::new(Int64Array::from(places.to_vec())) as ArrayRef;
        RecordBatch::try_from_iter([(ROW_COLUMN, Arc::clone(&column)), ("x", column)]).unwrap()
    }

    fn values(batch: &RecordBatch) -> Vec<i64> {
        batch.column(0).as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn chunks_that_do_not_overlap_are_read_one_by_one() {
        let runs = runs(vec![chunk(10, 19), chunk(0, 9), chunk(20, 40), chunk(30, 50), chunk(51, 60)]);
        assert!(matches!(&runs[0], Run::Apart(chunks) if chunks.len() == 2));
        assert!(matches!(&runs[1], Run::Mixed(chunks) if chunks.len() == 2));
        assert!(matches!(&runs[2], Run::Apart(chunks) if chunks.len() == 1));
    }

    proptest! {
        #[test]
        fn rows_come_back_in_order_by_both_ways(owners in proptest::collection::vec(0usize..5, 1..300)) {
            let of = |owner| (0..owners.len() as i64).filter(|i| owners[*i as usize] == owner).collect::<Vec<i64>>();
            let batches: Vec<RecordBatch> = (0..5).map(|owner| batch(&of(owner))).collect();
            let wanted: Vec<i64> = (0..owners.len() as i64).collect();
            let order = Order::find(batches.clone()).unwrap();
            let found: Vec<i64> = (0..order.outputs()).flat_map(|i| values(&order.output(i).unwrap())).collect();
            prop_assert_eq!(&found, &wanted);
            let mut windows = Windows::new(7, 1_000, std::env::temp_dir());
            batches.into_iter().for_each(|batch| windows.add(batch).unwrap());
            let found: Vec<i64> = windows
                .finish()
                .unwrap()
                .map(Result::unwrap)
                .flat_map(|order| {
                    (0..order.outputs()).flat_map(|i| values(&order.output(i).unwrap())).collect::<Vec<_>>()
                })
                .collect();
            prop_assert_eq!(&found, &wanted);
        }
    }
}
