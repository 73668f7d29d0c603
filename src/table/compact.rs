//! Compaction: the rows of many small chunks of a partition in few large ones.
//!
//! Small loads leave small chunks, which cost a query more than their rows. A merge reads the chunks of one partition,
//! puts their rows in the order of versions, cuts them like a load (`split.rs`) and commits the new chunks in place of
//! the old. Every row keeps its load and its place, so no read gives anything else than before; the old chunks stay
//! until they are vacuumed, for reads that run and for earlier states. A merge never blocks a writer: when one of its
//! chunks is gone by the time it commits, it is given up, and its own chunks are removed.
//!
//! delta-rs's optimize is not used: it drops the tags that tell which load a row came with.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::blocking::on_thread;
use super::chunk::Chunk;
use super::commit::{Change, PendingMerge};
use super::dataset::Dataset;
use super::encode::LoadColumn;
use super::form::StoredForm;
use super::keys::KeyKind;
use super::rewrite::fetch;
use super::snapshot::Snapshot;
use super::split::SplitSettings;
use super::writer::ChunkWriter;
use crate::error::{Error, Kind, Result};

/// Small chunks of one partition from which on they are merged in the background.
const MANY_CHUNKS: usize = 8;
/// Stored bytes that one merge reads at most, since it holds their rows in memory.
const MAX_MERGE_BYTES: u64 = 32 << 20;
/// Arrow bytes of those rows, about.
const MAX_MERGE_ARROW_BYTES: u64 = 96 << 20;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// Live chunks before it.
    pub chunks_before: usize,
    /// Live chunks after it.
    pub chunks_after: usize,
}

/// How much is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eagerness {
    /// Only where many small chunks of a size have gathered, so that a row is rewritten few times in its life.
    Background,
    /// Whatever can be merged.
    OnDemand,
}

impl Dataset {
    /// Merges small chunks, partition by partition.
    ///
    /// # Errors
    /// Those of reading and storing chunks, and of committing. What was merged before an error stays merged.
    pub async fn compact(self: Arc<Self>, settings: &SplitSettings, eagerness: Eagerness) -> Result<Compaction> {
        let _turn = self.compaction_turn().await;
        let snapshot = self.refresh().await?;
        let chunks_before = snapshot.live_chunks().count();
        for group in groups(&snapshot, settings.chunk_rows as u64, eagerness) {
            match Arc::clone(&self).merge(group, settings).await {
                // A writer was first, whose chunks are another compaction's matter.
                Err(error) if error.kind() == Kind::Conflict => tracing::debug!(%error, "a merge was given up"),
                other => other?,
            }
        }
        Ok(Compaction { chunks_before, chunks_after: self.snapshot().live_chunks().count() })
    }

    /// Whether chunks that this process knows of could be merged.
    pub(super) fn has_merges(&self, settings: &SplitSettings, eagerness: Eagerness) -> bool {
        !groups(&self.snapshot(), settings.chunk_rows as u64, eagerness).is_empty()
    }

    async fn merge(self: Arc<Self>, chunks: Vec<Arc<Chunk>>, settings: &SplitSettings) -> Result<()> {
        let snapshot = self.snapshot();
        // The places of its rows are known only as long as their versions are live.
        if chunks.iter().any(|chunk| snapshot.live_chunk(&chunk.path).is_none()) {
            return Err(Error::conflict("a chunk that was to be merged was replaced meanwhile"));
        }
        let form = StoredForm::of(&snapshot, snapshot.columns.clone());
        let mut batches = Vec::new();
        for chunk in &chunks {
            let file = fetch(&self, chunk).await?;
            let form = form.clone();
            batches.extend(
                on_thread(move || {
                    form.decode(file)?.iter().map(|batch| form.placed(batch)).collect::<Result<Vec<_>>>()
                })
                .await?,
            );
        }
        let stored = Arc::clone(&form.stored);
        let (keys, schema) = (form.keys.clone(), Arc::clone(&stored));
        let mut writer =
            ChunkWriter::new(Arc::clone(self.store()), self.root().clone(), schema, keys.into(), LoadColumn::InBatches);
        let settings = settings.clone();
        let ready = on_thread(move || form.split(&batches, settings)).await;
        let written = match ready {
            Ok(ready) => {
                for chunk in ready {
                    writer.submit(chunk).await?;
                }
                writer.finish().await
            }
            Err(error) => Err(error),
        };
        let adds = match written {
            Ok(adds) => adds,
            Err(error) => {
                writer.abandon().await;
                return Err(error);
            }
        };
        let removes = chunks.iter().map(|chunk| chunk.path.clone()).collect();
        let outcome = Arc::clone(&self).commit(Change::Merge(PendingMerge { removes, stored, adds })).await;
        // After any other failure the outcome may be unknown, and what it may name must stay.
        if outcome.as_ref().is_err_and(|error| error.kind() == Kind::Conflict) {
            writer.abandon().await;
        }
        outcome.map(drop)
    }
}

/// The chunks that are merged with each other.
fn groups(snapshot: &Snapshot, chunk_rows: u64, eagerness: Eagerness) -> Vec<Vec<Arc<Chunk>>> {
    let mut partitions: BTreeMap<String, Vec<&Arc<Chunk>>> = BTreeMap::new();
    for chunk in snapshot.live_chunks() {
        partitions.entry(partition_of(snapshot, chunk)).or_default().push(chunk);
    }
    let (rows, bytes) = snapshot.live_versions().fold((1, 1), |(rows, bytes), version| {
        (rows + version.record.rows.unsigned_abs(), bytes + version.record.bytes.unsigned_abs())
    });
    let most_rows = MAX_MERGE_ARROW_BYTES / (bytes / rows).max(1);
    let mut groups = Vec::new();
    for chunks in partitions.into_values() {
        let mut small = small_chunks(snapshot, chunks, chunk_rows);
        if eagerness == Eagerness::Background {
            small = of_a_size(small);
        }
        groups.extend(within_memory(small, most_rows));
    }
    groups
}

/// What chunks must share to be merged: the dates, and which ids are null. Ranges of ids differ from load to load.
fn partition_of(snapshot: &Snapshot, chunk: &Chunk) -> String {
    let dates = snapshot.keys.iter().flatten().filter(|(_, kind)| **kind == KeyKind::Date).count();
    let levels = chunk.partition().split('/');
    // Each key has two levels: its column, and the date or the range.
    let shared =
        levels.enumerate().map(|(level, part)| if level < 2 * dates || part == "__null__" { part } else { "" });
    shared.collect::<Vec<_>>().join("/")
}

/// Chunks with room for more rows. With ids, a load that has several chunks here keeps them: its ranges must not
/// overlap.
fn small_chunks(snapshot: &Snapshot, chunks: Vec<&Arc<Chunk>>, chunk_rows: u64) -> Vec<Arc<Chunk>> {
    let has_ids = snapshot.keys.iter().flatten().any(|(_, kind)| *kind == KeyKind::Id);
    let mut loads: HashMap<i64, usize> = HashMap::new();
    for rows in chunks.iter().flat_map(|chunk| chunk.loads.iter()) {
        *loads.entry(rows.load_id).or_default() += 1;
    }
    let alone = |chunk: &Chunk| chunk.loads.iter().all(|rows| loads.get(&rows.load_id) == Some(&1));
    let small = chunks.into_iter().filter(|chunk| chunk.rows < chunk_rows / 2 && (!has_ids || alone(chunk)));
    small.cloned().collect()
}

/// The smaller ones, up to where one is larger than all before it together: merging that would rewrite many rows for
/// few. So a row is rewritten about as often as its chunk doubles.
fn of_a_size(mut chunks: Vec<Arc<Chunk>>) -> Vec<Arc<Chunk>> {
    chunks.sort_by_key(|chunk| chunk.rows);
    let mut sum = 0;
    let mut taken = 0;
    for (count, chunk) in chunks.iter().enumerate() {
        if count >= MANY_CHUNKS && chunk.rows > sum {
            break;
        }
        sum += chunk.rows;
        taken = count + 1;
    }
    chunks.truncate(if taken >= MANY_CHUNKS { taken } else { 0 });
    chunks
}

/// Groups that fit in memory, in the order of their first load.
fn within_memory(mut chunks: Vec<Arc<Chunk>>, most_rows: u64) -> Vec<Vec<Arc<Chunk>>> {
    chunks.sort_by_key(|chunk| chunk.added);
    let mut groups: Vec<(u64, u64, Vec<Arc<Chunk>>)> = Vec::new();
    for chunk in chunks {
        match groups.last_mut() {
            Some((bytes, rows, group))
                if *bytes + chunk.bytes <= MAX_MERGE_BYTES && *rows + chunk.rows <= most_rows =>
            {
                (*bytes, *rows) = (*bytes + chunk.bytes, *rows + chunk.rows);
                group.push(chunk);
            }
            _ => groups.push((chunk.bytes, chunk.rows, vec![chunk])),
        }
    }
    groups.into_iter().map(|(.., group)| group).filter(|group| group.len() > 1).collect()
}
