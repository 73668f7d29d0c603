//! Rows by group, in memory up to a limit and on disk beyond it, each group in the order its rows came.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;

use super::spill::{Segment, SpillFile};
use crate::error::{Error, Result};

/// What tells one group from another; groups come back in this order.
pub(super) type GroupKey = u128;

/// Arrow bytes of a chunk, at which it is cut even if it has few rows.
const CHUNK_BYTES: usize = 32 << 20;
/// Arrow bytes that one load keeps in memory before it sets rows aside on disk.
const BUFFER_BYTES: usize = 256 << 20;
/// The rows of a batch by partition, in order within each. One stable counting sort and one copy serve all partitions,
/// however many a batch touches.
pub(super) fn group(batch: &RecordBatch, packed: &[GroupKey]) -> Result<Vec<(GroupKey, RecordBatch)>> {
    let mut numbers: HashMap<GroupKey, u32> = HashMap::new();
    let mut found: Vec<GroupKey> = Vec::new();
    let mut counts: Vec<u32> = Vec::new();
    let mut last: Option<(GroupKey, u32)> = None;
    let mut groups = Vec::with_capacity(packed.len());
    for key in packed {
        let number = match last {
            Some((known, number)) if known == *key => number,
            _ => *numbers.entry(*key).or_insert_with(|| {
                found.push(*key);
                counts.push(0);
                found.len() as u32 - 1
            }),
        };
        last = Some((*key, number));
        if let Some(count) = counts.get_mut(number as usize) {
            *count += 1;
        }
        groups.push(number);
    }
    if let [key] = found.as_slice() {
        return Ok(vec![(*key, batch.clone())]);
    }
    if let Some(runs) = contiguous(&groups, found.len()) {
        return Ok(runs
            .into_iter()
            .map(|(group, start, count)| (group, batch.slice(start, count)))
            .filter_map(|(group, rows)| Some((*found.get(group as usize)?, rows)))
            .collect());
    }
    let mut starts: Vec<u32> = counts.iter().scan(0, |sum, count| Some(std::mem::replace(sum, *sum + count))).collect();
    let spans: Vec<(u32, u32)> = starts.iter().copied().zip(counts).collect();
    let mut order = vec![0u32; packed.len()];
    for (row, group) in groups.into_iter().enumerate() {
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
    Ok(found.into_iter().zip(spans).map(slice).collect())
}

/// Group, first row and rows of each group when the rows of every group stand together, as they do in sorted data:
/// then nothing need be copied.
fn contiguous(groups: &[u32], count: usize) -> Option<Vec<(u32, usize, usize)>> {
    let mut runs: Vec<(u32, usize, usize)> = Vec::with_capacity(count);
    for (row, group) in groups.iter().enumerate() {
        let full = runs.len() == count;
        match runs.last_mut() {
            Some((known, _, rows)) if known == group => *rows += 1,
            // More runs than groups: some group has rows in two places.
            _ if full => return None,
            _ => runs.push((*group, row, 1)),
        }
    }
    Some(runs)
}

/// The rows of one group.
#[derive(Default)]
pub(super) struct Partition {
    /// Runs set aside on disk, older than the batches in memory.
    segments: Vec<Segment>,
    batches: Vec<RecordBatch>,
    /// All its rows, in memory and on disk.
    pub(super) rows: usize,
    rows_in_memory: usize,
    bytes_in_memory: usize,
}

/// The rows of all partitions, in memory and on disk.
pub(super) struct Buffers {
    partitions: BTreeMap<GroupKey, Partition>,
    store: BatchStore,
    bytes_in_memory: usize,
    spill_folder: PathBuf,
}

/// What reads partitions back.
pub(super) struct BatchStore {
    /// The form of the rows.
    pub(super) schema: SchemaRef,
    /// Rows of a chunk, about.
    pub(super) chunk_rows: usize,
    spill: Option<SpillFile>,
}

impl Buffers {
    /// No rows yet; `chunk_rows` are about those of a chunk.
    pub(super) fn new(schema: SchemaRef, chunk_rows: usize, spill_folder: PathBuf) -> Self {
        let store = BatchStore { schema, chunk_rows: chunk_rows.max(1), spill: None };
        Self { partitions: BTreeMap::new(), store, bytes_in_memory: 0, spill_folder }
    }

    /// Whether there are rows of this group.
    pub(super) fn contains(&self, key: GroupKey) -> bool {
        self.partitions.contains_key(&key)
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Adds rows to a group, after those it has.
    pub(super) fn add(&mut self, key: GroupKey, rows: RecordBatch) {
        let bytes = slice_bytes(&rows);
        let partition = self.partitions.entry(key).or_default();
        partition.rows += rows.num_rows();
        partition.rows_in_memory += rows.num_rows();
        partition.bytes_in_memory += bytes;
        self.bytes_in_memory += bytes;
        partition.batches.push(rows);
    }

    /// Takes what is enough for whole chunks from partitions that have nothing on disk.
    pub(super) fn take_full(&mut self) -> Result<Vec<(GroupKey, Vec<RecordBatch>)>> {
        let mut full = Vec::new();
        for (key, partition) in &mut self.partitions {
            let enough = partition.rows_in_memory >= self.store.chunk_rows || partition.bytes_in_memory >= CHUNK_BYTES;
            if !enough || !partition.segments.is_empty() {
                continue;
            }
            let batches = std::mem::take(&mut partition.batches);
            self.bytes_in_memory -= std::mem::take(&mut partition.bytes_in_memory);
            partition.rows_in_memory = 0;
            let mut cutter = Cutter::new(self.store.chunk_rows, batches.into_iter().map(Ok));
            while let Some(chunk) = cutter.next_full() {
                full.push((*key, chunk?));
            }
            for rest in cutter.rest() {
                partition.rows_in_memory += rest.num_rows();
                let bytes = slice_bytes(&rest);
                partition.bytes_in_memory += bytes;
                self.bytes_in_memory += bytes;
                partition.batches.push(rest);
            }
            partition.rows = partition.rows_in_memory;
        }
        Ok(full)
    }

    /// Takes all rows of the groups before `key` that have nothing on disk.
    pub(super) fn take_before(&mut self, key: GroupKey) -> Result<Vec<(GroupKey, Vec<RecordBatch>)>> {
        let later = self.partitions.split_off(&key);
        let earlier = std::mem::replace(&mut self.partitions, later);
        let mut taken = Vec::with_capacity(earlier.len());
        for (key, partition) in earlier {
            if partition.segments.is_empty() {
                self.bytes_in_memory -= partition.bytes_in_memory;
                for chunk in self.store.chunks(&partition)? {
                    taken.push((key, chunk?));
                }
            } else {
                self.partitions.insert(key, partition);
            }
        }
        Ok(taken)
    }

    /// Sets all rows aside on disk when there are too many for the memory.
    pub(super) fn keep_within_memory(&mut self) -> Result<()> {
        if self.bytes_in_memory <= BUFFER_BYTES {
            return Ok(());
        }
        if self.store.spill.is_none() {
            self.store.spill = Some(SpillFile::create(&self.spill_folder)?);
        }
        let Some(spill) = &mut self.store.spill else { return Ok(()) };
        for partition in self.partitions.values_mut().filter(|partition| !partition.batches.is_empty()) {
            partition.segments.push(spill.write(&partition.batches)?);
            partition.batches.clear();
            (partition.rows_in_memory, partition.bytes_in_memory) = (0, 0);
        }
        self.bytes_in_memory = 0;
        Ok(())
    }

    /// The groups, and what reads them.
    pub(super) fn into_parts(self) -> (BTreeMap<GroupKey, Partition>, BatchStore) {
        (self.partitions, self.store)
    }
}

impl BatchStore {
    /// All rows of a partition, in order.
    pub(super) fn batches(&self, partition: &Partition) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let segments = partition.segments.iter().map(|segment| match &self.spill {
            Some(spill) => spill.read(*segment),
            None => Err(Error::internal("rows were set aside without a file")),
        });
        let segments = segments.collect::<Result<Vec<_>>>()?;
        Ok(segments.into_iter().flatten().chain(partition.batches.clone().into_iter().map(Ok)))
    }

    /// All rows of a partition, cut into chunks.
    pub(super) fn chunks(
        &self,
        partition: &Partition,
    ) -> Result<impl Iterator<Item = Result<Vec<RecordBatch>>> + use<>> {
        Ok(Cutter::new(self.chunk_rows, self.batches(partition)?))
    }
}

/// Cuts a run of batches into chunks of about as many rows or bytes as a chunk has.
struct Cutter<I> {
    source: I,
    chunk_rows: usize,
    held: Vec<RecordBatch>,
    held_rows: usize,
    held_bytes: usize,
}

impl<I: Iterator<Item = Result<RecordBatch>>> Cutter<I> {
    fn new(chunk_rows: usize, source: I) -> Self {
        Self { source, chunk_rows, held: Vec::new(), held_rows: 0, held_bytes: 0 }
    }

    fn next_full(&mut self) -> Option<Result<Vec<RecordBatch>>> {
        loop {
            if self.held_rows >= self.chunk_rows || self.held_bytes >= CHUNK_BYTES {
                return Some(Ok(self.cut()));
            }
            match self.source.next()? {
                Ok(batch) => self.hold(batch),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn hold(&mut self, batch: RecordBatch) {
        self.held_rows += batch.num_rows();
        self.held_bytes += slice_bytes(&batch);
        self.held.push(batch);
    }

    /// Takes a chunk from what is held, and keeps the rest of a batch that is too long for it.
    fn cut(&mut self) -> Vec<RecordBatch> {
        let mut chunk = std::mem::take(&mut self.held);
        let bytes_per_row = (self.held_bytes / self.held_rows.max(1)).max(1);
        let most = self.chunk_rows.min((CHUNK_BYTES / bytes_per_row).max(1));
        let mut excess = self.held_rows.saturating_sub(most);
        (self.held_rows, self.held_bytes) = (0, 0);
        let mut rest = Vec::new();
        while excess > 0 {
            let Some(last) = chunk.pop() else { break };
            let cut = last.num_rows().saturating_sub(excess);
            rest.push(last.slice(cut, last.num_rows() - cut));
            excess -= last.num_rows() - cut;
            if cut > 0 {
                chunk.push(last.slice(0, cut));
            }
        }
        rest.into_iter().rev().for_each(|batch| self.hold(batch));
        chunk
    }

    fn rest(self) -> Vec<RecordBatch> {
        self.held
    }
}

impl<I: Iterator<Item = Result<RecordBatch>>> Iterator for Cutter<I> {
    type Item = Result<Vec<RecordBatch>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(full) = self.next_full() {
            return Some(full);
        }
        (!self.held.is_empty()).then(|| {
            (self.held_rows, self.held_bytes) = (0, 0);
            Ok(std::mem::take(&mut self.held))
        })
    }
}

/// The bytes of the rows in a batch, not of the buffers it shares with others.
pub(super) fn slice_bytes(batch: &RecordBatch) -> usize {
    let size = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(column.len());
    batch.columns().iter().map(size).sum()
}
