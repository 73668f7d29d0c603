//! Splits the rows of a load by partition, in bounded memory, and hands out chunks as they fill.
//!
//! Rows stay in the order they were sent within each partition. What does not fit in memory is set aside on disk, all
//! partitions at once, so that a load whose dates are shuffled is written with long sequential writes. A partition by
//! ids alone is known only when all ids are: such rows wait until the end and are then split again by ranges.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::buffers::{BatchStore, Buffers, Partition};
use super::group::GroupKey;
use super::keys::{KeyColumn, KeyKind, KeyRange, dates, ids};
use super::ranges::{IdBounds, RangeCuts, Sample};
use crate::error::{Error, Result};

/// Bits of a packed partition that a date takes: its day, and above it whether it is null.
const DATE_BITS: u32 = 33;
/// `Date` keys of a dataset; their packed days and the null flags of the ids fit in 128 bits.
pub const MAX_DATE_KEYS: usize = 3;
/// `ID` keys of a dataset.
pub const MAX_ID_KEYS: usize = 8;
/// Without keys nothing is gained by small chunks: they hold this many times more rows.
const UNKEYED_CHUNK_FACTOR: usize = 10;

/// How a load is cut.
#[derive(Debug, Clone)]
pub struct SplitSettings {
    /// Rows of a chunk, about.
    pub chunk_rows: usize,
    /// Partitions of one load; more are refused before anything is written.
    pub max_partitions: usize,
    /// Arrow bytes that one load keeps in memory before it sets rows aside on disk.
    pub buffer_bytes: usize,
    /// Where rows are set aside.
    pub spill_folder: PathBuf,
}

/// Rows of one partition, enough for a chunk.
pub(super) struct ReadyChunk {
    /// The partition, one level for each key.
    pub ranges: Vec<KeyRange>,
    /// The rows, in the order sent.
    pub batches: Vec<RecordBatch>,
}

/// Splits one load.
pub(super) struct Splitter {
    keys: Vec<KeyColumn>,
    settings: SplitSettings,
    buffers: Buffers,
    bounds: HashMap<GroupKey, Vec<IdBounds>>,
    /// The last partition seen, as long as rows have come sorted by partition.
    sorted_until: Option<GroupKey>,
}

/// The stored columns of the keys in a batch; `None` for a key that the load does not have.
pub(super) type KeyArrays = Vec<Option<ArrayRef>>;

impl Splitter {
    /// A splitter for batches of the stored form `schema`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for more keys than a dataset can have.
    pub(super) fn new(keys: Vec<KeyColumn>, schema: SchemaRef, settings: SplitSettings) -> Result<Self> {
        let dates = keys.iter().filter(|key| key.kind == KeyKind::Date).count();
        if dates > MAX_DATE_KEYS || keys.len() - dates > MAX_ID_KEYS {
            return Err(Error::invalid(format!(
                "columns_keys: at most {MAX_DATE_KEYS} Date keys and {MAX_ID_KEYS} ID keys"
            )));
        }
        let factor = if keys.is_empty() { UNKEYED_CHUNK_FACTOR } else { 1 };
        let buffers = Buffers::new(
            schema,
            settings.chunk_rows.saturating_mul(factor),
            settings.buffer_bytes,
            settings.spill_folder.clone(),
        );
        let sorted_until = Some(GroupKey::MIN);
        Ok(Self { keys, settings, buffers, bounds: HashMap::new(), sorted_until })
    }

    fn has_ids(&self) -> bool {
        self.keys.iter().any(|key| key.kind == KeyKind::Id)
    }

    /// Takes a batch whose first row is number `first_row` of the load. Gives the chunks that are full.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for an unreadable date,
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) for too many partitions or a full disk.
    pub(super) fn push(
        &mut self,
        batch: RecordBatch,
        key_arrays: &KeyArrays,
        first_row: i64,
    ) -> Result<Vec<ReadyChunk>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let packed = self.pack(&batch, key_arrays, first_row)?;
        if self.has_ids() {
            self.note_bounds(&packed, key_arrays)?;
        }
        let sorted_from = self.sorted_from(&packed);
        self.buffers.push(batch, packed)?;
        self.check_partitions()?;
        if self.has_ids() {
            return Ok(Vec::new());
        }
        let mut ready = self.buffers.take_full()?;
        if let Some(first) = sorted_from {
            ready.extend(self.buffers.take_before(first)?);
        }
        Ok(ready.into_iter().map(|(key, batches)| ReadyChunk { ranges: self.unpack(key, &[]), batches }).collect())
    }

    /// The rest, partition by partition. Each call of `emit` may wait until there is room for the chunk.
    ///
    /// # Errors
    /// As [`Splitter::push`], and whatever `emit` fails with.
    pub(super) fn finish(mut self, mut emit: impl FnMut(ReadyChunk) -> Result<()>) -> Result<()> {
        self.buffers.sort()?;
        self.check_partitions()?;
        let nothing = Buffers::new(Arc::new(arrow::datatypes::Schema::empty()), 1, 0, PathBuf::new());
        let buffers = std::mem::replace(&mut self.buffers, nothing);
        let (partitions, store) = buffers.into_parts();
        for (key, partition) in partitions {
            match self.keys.iter().position(|key| key.kind == KeyKind::Id) {
                Some(first_id) => self.finish_ids(key, &partition, &store, first_id, &mut emit)?,
                None => {
                    let ranges = self.unpack(key, &[]);
                    let mut chunks = store.chunks(&partition)?;
                    chunks.try_for_each(|batches| emit(ReadyChunk { ranges: ranges.clone(), batches: batches? }))?;
                }
            }
        }
        Ok(())
    }

    fn finish_ids(
        &self,
        key: GroupKey,
        partition: &Partition,
        store: &BatchStore,
        first_id: usize,
        emit: &mut impl FnMut(ReadyChunk) -> Result<()>,
    ) -> Result<()> {
        let bounds = self.bounds.get(&key).map(Vec::as_slice).unwrap_or_default();
        let single = || RangeCuts::single(bounds.first().and_then(|bounds| bounds.range()));
        let splittable = self.id_column(first_id).filter(|_| partition.rows > store.chunk_rows);
        let cuts = match splittable {
            Some(column) => {
                let mut sample = Sample::default();
                for batch in store.batches(partition)? {
                    sample.add(ids(batch?.column(column))?.into_iter().flatten());
                }
                let ranges = partition.rows.div_ceil(store.chunk_rows);
                bounds.first().and_then(IdBounds::range).map_or_else(single, |range| sample.cut(range, ranges))
            }
            None => single(),
        };
        let ranges_of = |range: Option<KeyRange>| {
            let mut known: Vec<Option<KeyRange>> = bounds.iter().map(|bounds| bounds.range()).collect();
            if let (Some(first), Some(range)) = (known.first_mut(), range) {
                *first = Some(range);
            }
            self.unpack(key, &known)
        };
        if cuts.len() <= 1 {
            let ranges = ranges_of(None);
            return store
                .chunks(partition)?
                .try_for_each(|batches| emit(ReadyChunk { ranges: ranges.clone(), batches: batches? }));
        }
        let mut buffers = Buffers::new(
            Arc::clone(&store.schema),
            store.chunk_rows,
            self.settings.buffer_bytes,
            self.settings.spill_folder.clone(),
        );
        let column = splittable.unwrap_or_default();
        for batch in store.batches(partition)? {
            let batch = batch?;
            let packed: Vec<GroupKey> = ids(batch.column(column))?.into_iter().map(|id| cuts.place(id)).collect();
            buffers.push(batch, packed)?;
            for (range, batches) in buffers.take_full()? {
                emit(ReadyChunk { ranges: ranges_of(cuts.range(range)), batches })?;
            }
        }
        buffers.sort()?;
        let (partitions, store) = buffers.into_parts();
        for (range, partition) in partitions {
            for batches in store.chunks(&partition)? {
                emit(ReadyChunk { ranges: ranges_of(cuts.range(range)), batches: batches? })?;
            }
        }
        Ok(())
    }

    /// Where the column of a key stands in the stored form.
    fn id_column(&self, key: usize) -> Option<usize> {
        self.keys.get(key).and_then(|key| key.stored)
    }

    fn pack(&self, batch: &RecordBatch, key_arrays: &KeyArrays, first_row: i64) -> Result<Vec<GroupKey>> {
        let mut packed = vec![0; batch.num_rows()];
        for (key, array) in self.keys.iter().zip(key_arrays) {
            match (key.kind, array) {
                (KeyKind::Date, Some(array)) => pack_dates(&mut packed, &dates(&key.name, array, first_row)?),
                (KeyKind::Date, None) => packed.iter_mut().for_each(|key| *key = (*key << DATE_BITS) | NULL_DATE),
                (KeyKind::Id, Some(array)) => packed
                    .iter_mut()
                    .enumerate()
                    .for_each(|(row, key)| *key = (*key << 1) | GroupKey::from(array.is_null(row))),
                (KeyKind::Id, None) => packed.iter_mut().for_each(|key| *key = (*key << 1) | 1),
            }
        }
        Ok(packed)
    }

    fn check_partitions(&self) -> Result<()> {
        let most = self.settings.max_partitions;
        if self.buffers.groups_seen() > most {
            return Err(Error::exhausted(format!(
                "the load has more than {most} partitions; use a coarser key, load it in parts, or raise \
                 --max-partitions"
            )));
        }
        Ok(())
    }

    /// While rows come sorted by partition, those before the present batch have all theirs, and are written at once
    /// instead of at the end. Should rows of one come later all the same, they make a further chunk.
    fn sorted_from(&mut self, packed: &[GroupKey]) -> Option<GroupKey> {
        let (first, last) = (*packed.iter().min()?, *packed.iter().max()?);
        self.sorted_until = self.sorted_until.filter(|until| *until <= first).map(|_| last);
        self.sorted_until.map(|_| first)
    }

    fn note_bounds(&mut self, packed: &[GroupKey], key_arrays: &KeyArrays) -> Result<()> {
        let id_arrays = self.keys.iter().zip(key_arrays).filter(|(key, _)| key.kind == KeyKind::Id);
        let id_arrays: Vec<_> = id_arrays.map(|(_, array)| array).collect();
        for (position, array) in id_arrays.iter().enumerate() {
            let Some(array) = array else { continue };
            for (id, key) in ids(array)?.into_iter().zip(packed) {
                let bounds = self.bounds.entry(*key).or_insert_with(|| vec![IdBounds::default(); id_arrays.len()]);
                if let (Some(id), Some(bounds)) = (id, bounds.get_mut(position)) {
                    bounds.add(id);
                }
            }
        }
        Ok(())
    }

    /// The partition that a packed key means; `id_ranges` are those of the `ID` keys, in order.
    fn unpack(&self, mut key: GroupKey, id_ranges: &[Option<KeyRange>]) -> Vec<KeyRange> {
        let mut ids_left = self.keys.iter().filter(|key| key.kind == KeyKind::Id).count();
        let mut ranges = Vec::with_capacity(self.keys.len());
        for column in self.keys.iter().rev() {
            let bits = if column.kind == KeyKind::Date { DATE_BITS } else { 1 };
            let part = key & ((1 << bits) - 1);
            key >>= bits;
            ranges.push(match column.kind {
                KeyKind::Date if part & NULL_DATE != 0 => KeyRange::Null,
                KeyKind::Date => KeyRange::Day((part as u32 ^ SIGN_BIT) as i32),
                KeyKind::Id => {
                    ids_left = ids_left.saturating_sub(1);
                    let range = id_ranges.get(ids_left).copied().flatten().filter(|_| part == 0);
                    range.unwrap_or(KeyRange::Null)
                }
            });
        }
        ranges.reverse();
        ranges
    }
}

const NULL_DATE: GroupKey = 1 << 32;
/// Flipping it makes packed days sort like days.
const SIGN_BIT: u32 = 1 << 31;

fn pack_dates(packed: &mut [GroupKey], days: &Int32Array) {
    for (row, key) in packed.iter_mut().enumerate() {
        let part = if days.is_null(row) { NULL_DATE } else { GroupKey::from(days.value(row) as u32 ^ SIGN_BIT) };
        *key = (*key << DATE_BITS) | part;
    }
}

#[cfg(test)]
mod tests;
