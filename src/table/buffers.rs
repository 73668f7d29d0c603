//! Rows by group, in memory up to a limit and on disk beyond it, each group in the order its rows came.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use hashbrown::HashSet;

use super::group::{GroupKey, Groups};
use super::spill::{Segment, SpillFile};
use crate::error::{Error, Result};

/// Arrow bytes of unsorted batches that are sorted into their groups together, so that a group's rows come in few
/// pieces.
const UNSORTED_BYTES: usize = 48 << 20;

/// Arrow bytes of a chunk, at which it is cut even if it has few rows.
const CHUNK_BYTES: usize = 32 << 20;
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
    /// Batches that are not yet sorted into their groups, with the group of each row.
    unsorted: Vec<RecordBatch>,
    unsorted_keys: Vec<GroupKey>,
    unsorted_bytes: usize,
    /// All groups ever seen.
    seen: HashSet<GroupKey>,
    bytes_in_memory: usize,
    most_bytes: usize,
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
    /// No rows yet. `chunk_rows` are about those of a chunk; beyond `most_bytes` rows are set aside in `spill_folder`.
    pub(super) fn new(schema: SchemaRef, chunk_rows: usize, most_bytes: usize, spill_folder: PathBuf) -> Self {
        let store = BatchStore { schema, chunk_rows: chunk_rows.max(1), spill: None };
        Self {
            partitions: BTreeMap::new(),
            store,
            unsorted: Vec::new(),
            unsorted_keys: Vec::new(),
            unsorted_bytes: 0,
            seen: HashSet::new(),
            bytes_in_memory: 0,
            most_bytes,
            spill_folder,
        }
    }

    /// How many groups there were, written ones too.
    pub(super) fn groups_seen(&self) -> usize {
        self.seen.len()
    }

    /// Adds rows, whose groups are `keys`.
    ///
    /// # Errors
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) when the disk does not take what memory cannot hold.
    pub(super) fn push(&mut self, batch: RecordBatch, keys: Vec<GroupKey>) -> Result<()> {
        let groups = Groups::find(&keys);
        if let Some(slices) = groups.slices_in_place(&batch) {
            self.sort()?;
            slices.into_iter().for_each(|(key, rows)| self.add(key, rows));
        } else {
            self.unsorted_bytes += slice_bytes(&batch);
            self.unsorted.push(batch);
            self.unsorted_keys.extend(keys);
            if self.unsorted_bytes >= UNSORTED_BYTES.min(self.most_bytes / 4) {
                self.sort()?;
            }
        }
        self.keep_within_memory()
    }

    /// Sorts what waits for it into its groups.
    pub(super) fn sort(&mut self) -> Result<()> {
        let (batches, keys) = (std::mem::take(&mut self.unsorted), std::mem::take(&mut self.unsorted_keys));
        self.unsorted_bytes = 0;
        if batches.is_empty() {
            return Ok(());
        }
        let groups = Groups::find(&keys);
        drop(keys);
        for (key, rows) in groups.sorted_slices(&self.store.schema, &batches)? {
            self.add(key, rows);
        }
        Ok(())
    }

    /// Adds rows to a group, after those it has.
    fn add(&mut self, key: GroupKey, rows: RecordBatch) {
        let bytes = slice_bytes(&rows);
        self.seen.insert(key);
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
    fn keep_within_memory(&mut self) -> Result<()> {
        if self.bytes_in_memory <= self.most_bytes {
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

    /// The groups, and what reads them, once all rows are [sorted](Buffers::sort).
    pub(super) fn into_parts(self) -> (BTreeMap<GroupKey, Partition>, BatchStore) {
        (self.partitions, self.store)
    }
}

impl BatchStore {
    /// All rows of a partition, in order.
    pub(super) fn batches(&self, partition: &Partition) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let segments = partition.segments.iter().map(|segment| match &self.spill {
            Some(spill) => Ok(spill.read(*segment)),
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
