//! Sorts the rows of a batch into groups, keeping their order within each.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use hashbrown::HashMap;

use crate::error::{Error, Result};

/// What tells one group from another; groups come back in this order.
pub(super) type GroupKey = u128;

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
        let (mut keys, mut counts): (Vec<GroupKey>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut last: Option<(GroupKey, u32)> = None;
        let mut numbers = Vec::with_capacity(row_keys.len());
        for key in row_keys {
            let number = match last {
                Some((same, number)) if same == *key => number,
                _ => *known.entry(*key).or_insert_with(|| {
                    keys.push(*key);
                    counts.push(0);
                    keys.len() as u32 - 1
                }),
            };
            last = Some((*key, number));
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

    /// The rows of each group, by a stable counting sort and one copy of the batch, however many groups it has.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the batch has another number of rows.
    pub(super) fn sorted_slices(self, batch: &RecordBatch) -> Result<Vec<(GroupKey, RecordBatch)>> {
        let starts = self.counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count)));
        let mut starts: Vec<u32> = starts.collect();
        let spans: Vec<(u32, u32)> = starts.iter().copied().zip(self.counts).collect();
        let mut order = vec![0u32; self.numbers.len()];
        for (row, group) in self.numbers.into_iter().enumerate() {
            if let Some(start) = starts.get_mut(group as usize) {
                if let Some(slot) = order.get_mut(*start as usize) {
                    *slot = row as u32;
                }
                *start += 1;
            }
        }
        let sorted = take_record_batch(batch, &UInt32Array::from(order))
            .map_err(|error| Error::internal("a batch could not be split").because(error))?;
        let slice = |(key, (start, count)): (GroupKey, (u32, u32))| (key, sorted.slice(start as usize, count as usize));
        Ok(self.keys.into_iter().zip(spans).map(slice).collect())
    }
}
