//! Which columns are compressed: those in which it pays.
//!
//! Most columns are small once they are encoded, or hold what looks like noise, and compressing them takes more time in
//! a load and in every read than it saves bytes: of 5,000 random floats zstd saves 6 %, writing them takes nearly twice
//! as long, and reading them a quarter longer. The first chunks of a writer compress all columns and note what it made
//! of them; so does one of the later ones now and then, since later rows may be of another kind.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::ColumnPath;

/// Chunks of a writer that compress all columns, before it is known in which it pays,
const FIRST_TRIALS: usize = 16;
/// and then one of so many, to see whether it pays by now.
const CHUNKS_PER_TRIAL: usize = 32;
/// Compression pays when it saves this part of a column,
const LEAST_SAVED_PART: i64 = 8;
/// and this many bytes in each chunk: setting a compressor up takes about as long as reading as many from the storage.
const LEAST_SAVED_BYTES: i64 = 1 << 10;

/// What the chunks of one writer have seen of compression. Several threads may use it at once.
#[derive(Debug, Default)]
pub(super) struct CompressionTrials(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    chunks: usize,
    columns: HashMap<ColumnPath, Tally>,
}

/// A column in the chunks that compressed it.
#[derive(Debug, Default)]
struct Tally {
    chunks: i64,
    raw_bytes: i64,
    compressed_bytes: i64,
}

impl CompressionTrials {
    /// The columns that the next chunk leaves uncompressed; all others are worth a try.
    pub(super) fn uncompressed(&self) -> HashSet<ColumnPath> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_trial = seen.chunks < FIRST_TRIALS || seen.chunks.is_multiple_of(CHUNKS_PER_TRIAL);
        seen.chunks += 1;
        if is_trial {
            return HashSet::new();
        }
        let in_vain = seen.columns.iter().filter(|(_, tally)| !tally.pays());
        in_vain.map(|(path, _)| path.clone()).collect()
    }

    /// Learns from a chunk that was written with `uncompressed` columns.
    pub(super) fn learn(&self, metadata: &ParquetMetaData, uncompressed: &HashSet<ColumnPath>) {
        let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
        let mut added = HashMap::<&ColumnPath, Tally>::new();
        for column in columns.filter(|column| !uncompressed.contains(column.column_path())) {
            let tally = added.entry(column.column_path()).or_default();
            tally.chunks = 1;
            tally.raw_bytes += column.uncompressed_size();
            tally.compressed_bytes += column.compressed_size();
        }
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, chunk) in added {
            seen.columns.entry(path.clone()).or_default().add(&chunk);
        }
    }
}

impl Tally {
    /// What is long ago counts less and less, a small chunk less than a large one.
    fn add(&mut self, chunk: &Self) {
        if self.chunks >= FIRST_TRIALS as i64 {
            self.chunks /= 2;
            self.raw_bytes /= 2;
            self.compressed_bytes /= 2;
        }
        self.chunks += chunk.chunks;
        self.raw_bytes += chunk.raw_bytes;
        self.compressed_bytes += chunk.compressed_bytes;
    }

    fn pays(&self) -> bool {
        let least = (self.chunks * LEAST_SAVED_BYTES).max(self.raw_bytes / LEAST_SAVED_PART);
        self.raw_bytes - self.compressed_bytes >= least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(chunks: &[(i64, i64)]) -> Tally {
        let mut all = Tally::default();
        for (raw_bytes, compressed_bytes) in chunks {
            all.add(&Tally { chunks: 1, raw_bytes: *raw_bytes, compressed_bytes: *compressed_bytes });
        }
        all
    }

    #[test]
    fn a_column_is_compressed_where_it_saves_enough() {
        assert!(tally(&[(88_362, 30_533)]).pays());
        assert!(!tally(&[(44_203, 41_607)]).pays(), "a seventeenth is too little");
        assert!(!tally(&[(900, 100)]).pays(), "so few bytes do not matter");
    }

    #[test]
    fn a_small_chunk_does_not_outweigh_the_large_ones_before_it() {
        let mut chunks = vec![(88_362, 30_533); FIRST_TRIALS];
        chunks.push((900, 890));
        assert!(tally(&chunks).pays());
    }

    #[test]
    fn a_column_that_changes_is_noticed() {
        let mut chunks = vec![(44_203, 41_607); 3 * FIRST_TRIALS];
        assert!(!tally(&chunks).pays());
        chunks.extend([(44_203, 4_000); 2]);
        assert!(tally(&chunks).pays());
    }
}
