//! Sorts the rows of a batch into groups, keeping their order within each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;

use super::gather::{Run, Window, gather};
use crate::error::{Error, Result};

/// What tells one group from another; groups come back in this order.
pub(super) type GroupKey = u128;

/// Groups that are found without a look into the map.
const RECENT_GROUPS: usize = 1_024;

/// Rows from which on columns are sorted on several threads,
const PARALLEL_ROWS: usize = 100_000;
/// and on how many at most.
const COLUMNS_AT_ONCE: usize = 4;

/// Which group each row of a batch belongs to.
pub(super) struct Groups {
    keys: Vec<GroupKey>,
    counts: Vec<u32>,
    /// For each row the place of its group in `keys`.
    numbers: Vec<u32>,
}

impl Groups {
    /// Numbers the groups of rows in the order first met.
    pub(super) fn find(row_keys: &[GroupKey]) -> Self {
        let mut known: HashMap<GroupKey, u32> = HashMap::new();
        // Days follow one another, so that those of a frame hardly ever share a slot; a look here costs less than one
        // into the map.
        let mut recent = vec![None::<(GroupKey, u32)>; RECENT_GROUPS];
        let (mut keys, mut counts): (Vec<GroupKey>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut numbers = Vec::with_capacity(row_keys.len());
        for key in row_keys {
            let slot = recent.get_mut(*key as usize % RECENT_GROUPS);
            let number = match slot.as_deref() {
                Some(Some((same, number))) if same == key => *number,
                _ => *known.entry(*key).or_insert_with(|| {
                    keys.push(*key);
                    counts.push(0);
                    keys.len() as u32 - 1
                }),
            };
            if let Some(slot) = slot {
                *slot = Some((*key, number));
            }
            if let Some(count) = counts.get_mut(number as usize) {
                *count += 1;
            }
            numbers.push(number);
        }
        Self { keys, counts, numbers }
    }

    /// The rows of each group, when those of every group stand together, as they do in sorted data: then nothing need
    /// be copied.
    pub(super) fn slices_in_place(&self, batch: &RecordBatch) -> Option<Vec<(GroupKey, RecordBatch)>> {
        let mut runs: Vec<(u32, usize, usize)> = Vec::with_capacity(self.keys.len());
        for (row, group) in self.numbers.iter().enumerate() {
            let full = runs.len() == self.keys.len();
            match runs.last_mut() {
                Some((known, _, rows)) if known == group => *rows += 1,
                // More runs than groups: some group has rows in two places.
                _ if full => return None,
                _ => runs.push((*group, row, 1)),
            }
        }
        let slice = |(group, start, rows): (u32, usize, usize)| {
            Some((*self.keys.get(group as usize)?, batch.slice(start, rows)))
        };
        runs.into_iter().map(slice).collect()
    }

    /// The rows of each group, by a stable counting sort and one copy of the batches, however many groups there are.
    /// The rows of all `batches`, in their order, are those that the groups were found for.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the batches have another number of rows or form.
    pub(super) fn sorted_slices(
        self,
        schema: &SchemaRef,
        batches: &[RecordBatch],
    ) -> Result<Vec<(GroupKey, RecordBatch)>> {
        let starts = self.counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count)));
        let mut starts: Vec<u32> = starts.collect();
        let spans: Vec<(u32, u32)> = starts.iter().copied().zip(self.counts).collect();
        // Where each row goes. Written there in the order the rows came, values are read once and in sequence; picked
        // in the order they go, nearly every one would have to be fetched from memory anew.
        let mut targets = self.numbers;
        for target in &mut targets {
            if let Some(next) = starts.get_mut(*target as usize) {
                *target = *next;
                *next += 1;
            }
        }
        let sorted = scatter_batches(schema, batches, &targets)?;
        let slice = |(key, (start, count)): (GroupKey, (u32, u32))| (key, sorted.slice(start as usize, count as usize));
        Ok(self.keys.into_iter().zip(spans).map(slice).collect())
    }
}

/// The rows of `batches` in one batch, each at its target.
fn scatter_batches(schema: &SchemaRef, batches: &[RecordBatch], targets: &[u32]) -> Result<RecordBatch> {
    let other = || Error::internal("a batch has other rows than its groups");
    let window = Window { first: 0, rows: targets.len() };
    let (mut of_batches, mut rest) = (Vec::with_capacity(batches.len()), targets);
    for batch in batches {
        let (own, later) = rest.split_at_checked(batch.num_rows()).ok_or_else(other)?;
        of_batches.push((batch, own));
        rest = later;
    }
    if !rest.is_empty() {
        return Err(other());
    }
    let column = |place: usize| {
        let mut runs = Vec::with_capacity(of_batches.len());
        for (batch, ranks) in &of_batches {
            let array = batch.columns().get(place).ok_or_else(other)?;
            runs.push(Run { array, rows: 0..batch.num_rows(), ranks });
        }
        gather(&runs, window)
    };
    let columns = schema.fields().len();
    let threads = if window.rows < PARALLEL_ROWS { 1 } else { COLUMNS_AT_ONCE };
    let columns = side_by_side(columns, threads, column)?;
    let options = RecordBatchOptions::new().with_row_count(Some(window.rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::internal("a batch could not be split").because(error))
}

/// Makes columns on several threads: the rest of the load waits for them.
fn side_by_side(
    columns: usize,
    threads: usize,
    column: impl Fn(usize) -> Result<ArrayRef> + Sync,
) -> Result<Vec<ArrayRef>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(threads);
    if threads < 2 {
        return (0..columns).map(column).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let places =
            std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|place| *place < columns);
        places.map(|place| Ok((place, column(place)?))).collect::<Result<Vec<_>>>()
    };
    let mut made = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let broken = |_| Error::internal("splitting a batch broke off");
        workers.into_iter().map(|worker| worker.join().map_err(broken)?).collect::<Result<Vec<_>>>()
    })?
    .concat();
    made.sort_by_key(|(place, _)| *place);
    Ok(made.into_iter().map(|(_, column)| column).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Float64Array, StringArray, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::*;

    fn batch(values: &[Option<i64>]) -> RecordBatch {
        let instants = TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC");
        let flags: BooleanArray = values.iter().map(|value| value.map(|value| value % 2 == 0)).collect();
        let floats: Float64Array = values.iter().map(|value| value.map(|value| value as f64)).collect();
        let texts: StringArray = values.iter().map(|value| value.map(|value| value.to_string())).collect();
        let columns: [(&str, ArrayRef); 4] =
            [("t", Arc::new(instants)), ("f", Arc::new(floats)), ("s", Arc::new(texts)), ("b", Arc::new(flags))];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[test]
    fn columns_keep_their_places_whoever_makes_them() {
        let column = |place: usize| Ok(Arc::new(arrow::array::Int64Array::from(vec![place as i64])) as ArrayRef);
        for threads in [1, 4] {
            let made = side_by_side(20, threads, column).unwrap();
            let expected: Vec<ArrayRef> = (0..20).map(|place| column(place).unwrap()).collect();
            assert_eq!(made, expected);
            let fails = |place| if place == 7 { Err(Error::internal("7")) } else { column(place) };
            assert!(side_by_side(20, threads, fails).is_err());
            assert!(side_by_side(0, threads, column).unwrap().is_empty());
        }
    }

    proptest! {
        #[test]
        fn each_group_has_its_rows_in_order(
            rows in proptest::collection::vec((0u128..7, proptest::option::of(any::<i64>())), 1..200),
            cut in any::<proptest::sample::Index>(),
        ) {
            let keys: Vec<GroupKey> = rows.iter().map(|(key, _)| *key).collect();
            let values: Vec<Option<i64>> = rows.iter().map(|(_, value)| *value).collect();
            let (left, right) = values.split_at(cut.index(values.len()));
            let batches = [batch(left), batch(right)];
            let schema = batches[0].schema();
            let slices = Groups::find(&keys).sorted_slices(&schema, &batches).unwrap();
            prop_assert_eq!(slices.iter().map(|(_, slice)| slice.num_rows()).sum::<usize>(), rows.len());
            for (key, slice) in slices {
                let wanted: Vec<Option<i64>> = rows.iter().filter(|row| row.0 == key).map(|row| row.1).collect();
                prop_assert_eq!(slice, batch(&wanted));
            }
        }
    }
}
