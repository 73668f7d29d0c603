//! Puts the rows of a load back into the order they were sent, in bounded memory.
//!
//! Each chunk holds its rows in order, with their places in the load in a hidden column. Chunks whose places do not
//! overlap are simply read one after the other. Those that overlap are read together: in memory where they are few,
//! and otherwise set aside on disk in windows of consecutive places, each of which then fits in memory. Places are
//! numbers, so nothing is compared: each row is put where it belongs.

use arrow::array::RecordBatch;
use std::path::PathBuf;

use super::assembly::{OUTPUT_ROWS, Order, places};
use super::buffers::Buffers;
use super::group::GroupKey;
use super::selection::SelectedChunk;
use crate::error::Result;

/// Of the bytes that a read may keep in memory, the part that batches take while they are set aside: the others are
/// being decoded meanwhile.
const WINDOW_BUFFER_PART: usize = 3;
/// And the part that one window takes.
const WINDOW_PART: u64 = 8;

/// A chunk of a read.
#[derive(Debug, Clone)]
pub(super) struct PlacedChunk {
    /// The chunk, and what of it is read.
    pub selected: SelectedChunk,
    /// The smallest and greatest place in the whole of its rows.
    pub places: (i64, i64),
    /// How many rows of it are read.
    pub rows: u64,
}

/// Chunks that are read one after the other, or together.
#[derive(Debug)]
pub(super) enum Run {
    /// They do not overlap, and stand in order.
    Apart(Vec<PlacedChunk>),
    /// Their places overlap.
    Mixed(Vec<PlacedChunk>),
}

/// Arranges the chunks of a read.
pub(super) fn runs(mut chunks: Vec<PlacedChunk>) -> Vec<Run> {
    chunks.sort_by_key(|chunk| chunk.places);
    let mut groups: Vec<(i64, Vec<PlacedChunk>)> = Vec::new();
    for chunk in chunks {
        let (first, last) = chunk.places;
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
            (Some(Run::Mixed(run)), _) if rows(run) + rows(&group) <= OUTPUT_ROWS as u64 => run.extend(group),
            (_, 1) => runs.push(Run::Apart(group)),
            _ => runs.push(Run::Mixed(group)),
        }
    }
    runs
}

fn rows(chunks: &[PlacedChunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.rows).sum()
}

/// The rows of a window that one chunk after another is cut into; `None` where all fit in `most_bytes`.
pub(super) fn window_rows(chunks: &[PlacedChunk], bytes_per_row: u64, most_bytes: usize) -> Option<i64> {
    let bytes_per_row = bytes_per_row.max(1);
    let most = most_bytes as u64;
    (rows(chunks).saturating_mul(bytes_per_row) > most).then(|| (most / WINDOW_PART / bytes_per_row).max(1) as i64)
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
                Order::find(&batches)
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use std::sync::Arc;

    use super::super::chunk::{Chunk, LoadRows};
    use super::super::schema::ROW_COLUMN;
    use super::*;

    fn chunk(first: i64, last: i64, rows: u64) -> PlacedChunk {
        let chunk = Chunk {
            path: format!("{first}"),
            bytes: 1,
            rows,
            loads: Box::new([LoadRows { load_id: 1, rows, first, last }]),
            number: 1,
            stats: Box::default(),
            added: 0,
            removed: None,
        };
        PlacedChunk { selected: SelectedChunk { chunk: Arc::new(chunk), loads: None }, places: (first, last), rows }
    }

    fn batch(places: &[i64]) -> RecordBatch {
        let column = Arc::new(Int64Array::from(places.to_vec())) as ArrayRef;
        let texts = places.iter().map(|place| (place % 3 != 0).then(|| place.to_string()));
        let texts = Arc::new(texts.collect::<StringArray>()) as ArrayRef;
        let numbers = places.iter().map(|place| (place % 5 != 0).then_some(*place)).collect::<Int64Array>();
        let numbers = Arc::new(numbers) as ArrayRef;
        let columns = [(ROW_COLUMN, Arc::clone(&column)), ("x", column), ("s", texts), ("n", numbers)];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn values(batch: &RecordBatch) -> Vec<i64> {
        let places = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        let (texts, numbers) = (batch.column(1).as_string::<i32>(), batch.column(2).as_primitive::<Int64Type>());
        for (row, place) in places.iter().enumerate() {
            assert_eq!(
                texts.is_valid(row).then(|| texts.value(row).to_string()),
                (place % 3 != 0).then(|| place.to_string())
            );
            assert_eq!(numbers.is_valid(row).then(|| numbers.value(row)), (place % 5 != 0).then_some(*place));
        }
        places
    }

    #[test]
    fn chunks_that_do_not_overlap_are_read_one_by_one() {
        let long = OUTPUT_ROWS as u64;
        let runs =
            runs(vec![chunk(10, 19, 10), chunk(0, 9, 10), chunk(20, 40, long), chunk(30, 50, long), chunk(51, 60, 10)]);
        assert!(matches!(&runs[0], Run::Apart(chunks) if chunks.len() == 2));
        assert!(matches!(&runs[1], Run::Mixed(chunks) if chunks.len() == 2));
        assert!(matches!(&runs[2], Run::Apart(chunks) if chunks.len() == 1));
    }

    #[test]
    fn small_overlaps_are_read_together() {
        let small = (0..10).flat_map(|n| [chunk(n * 100, n * 100 + 98, 50), chunk(n * 100 + 1, n * 100 + 99, 50)]);
        assert!(matches!(runs(small.collect()).as_slice(), [Run::Mixed(chunks)] if chunks.len() == 20));
    }

    proptest! {
        #[test]
        fn rows_come_back_in_order_by_both_ways(owners in proptest::collection::vec(0usize..6, 1..300)) {
            let of = |owner| (0..owners.len() as i64).filter(|i| owners[*i as usize] == owner).collect::<Vec<i64>>();
            let batches: Vec<RecordBatch> = (0..5).map(|owner| batch(&of(owner))).collect();
            // Places of a sixth batch are left out, as pruning does.
            let wanted: Vec<i64> = (0..owners.len() as i64).filter(|i| owners[*i as usize] < 5).collect();
            let order = Order::find(&batches).unwrap();
            let found: Vec<i64> = (0..order.outputs()).flat_map(|i| values(&order.output(i).unwrap())).collect();
            prop_assert_eq!(&found, &wanted);
            let order = Order::find_sparse(&batches).unwrap();
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
