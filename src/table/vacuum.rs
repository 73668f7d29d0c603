//! Vacuum: deleting what no state that can be read names any more.
//!
//! First a commit says up to where states are given up, so that no read begins on one of them in any process; then the
//! files are deleted. A crash between the two leaves files that nothing names, as does a load that broke off; those are
//! deleted once they are old enough that no load can still be about to commit them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::chunk::Chunk;
use super::commit::Change;
use super::dataset::Dataset;
use super::record::StoredCategories;
use super::snapshot::Snapshot;
use super::writer::chunk_location;
use crate::clock;
use crate::error::Result;
use crate::storage::store_error;

/// The least age of a file that nothing names. A load that takes longer may lose its first chunks, and fails.
const MIN_ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);
/// Files deleted at the same time.
const DELETES_IN_FLIGHT: usize = 8;
/// Where the Delta log is, which stays whole: version records stand in it alone.
const LOG_FOLDER: &str = "_delta_log";

/// What a vacuum did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files deleted, with uploads that broke off and were ended.
    pub files_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Ended versions that can no longer be read.
    pub versions_removed: u64,
}

impl Dataset {
    /// Deletes what was replaced or deleted longer than `after` ago, unless a running read still needs it.
    ///
    /// # Errors
    /// Those of committing, of the storage and of the version store. What was deleted before an error stays deleted.
    pub async fn vacuum(self: Arc<Self>, after: Duration) -> Result<Vacuumed> {
        let snapshot = self.refresh().await?;
        let mut done = Vacuumed::default();
        let wanted = snapshot.commit_at(before(self.presence().present().await?, after));
        // States are given up only for something to delete.
        if Ended::by(&snapshot, wanted).is_some() {
            let horizon = self.leases().vacuum(wanted);
            if let Some(ended) = Ended::by(&snapshot, horizon) {
                done = Arc::clone(&self).delete_ended(horizon, ended).await?;
            }
        }
        let orphans = self.orphans(after).await?;
        done.files_deleted += orphans.len() as u64;
        done.bytes_deleted += orphans.iter().map(|orphan| orphan.size).sum::<u64>();
        delete(self.store(), orphans.into_iter().map(|orphan| orphan.location).collect()).await?;
        done.files_deleted += self.storage().end_uploads(self.root(), earlier(after.max(MIN_ORPHAN_AGE))).await?;
        Ok(done)
    }

    async fn delete_ended(self: Arc<Self>, horizon: i64, ended: Ended) -> Result<Vacuumed> {
        Arc::clone(&self).commit(Change::Vacuum(horizon)).await?;
        let files = ended.chunks.iter().map(|chunk| chunk_location(self.root(), &chunk.path));
        delete(self.store(), files.collect::<Result<_>>()?).await?;
        Ok(Vacuumed {
            files_deleted: ended.chunks.len() as u64,
            bytes_deleted: ended.chunks.iter().map(|chunk| chunk.bytes).sum(),
            versions_removed: ended.versions,
        })
    }

    /// Files that no state names and no load can still be about to name.
    async fn orphans(&self, after: Duration) -> Result<Vec<ObjectMeta>> {
        // Listed before the state is read: what a commit names in between is known then.
        let limit = earlier(after.max(MIN_ORPHAN_AGE));
        let listed = self.store().list(Some(self.root()));
        let old = listed.try_filter(|file| std::future::ready(file.last_modified < limit));
        let old: Vec<ObjectMeta> = old.try_collect().await.map_err(|error| store_error("listing files", error))?;
        if old.is_empty() {
            return Ok(old);
        }
        let snapshot = self.refresh().await?;
        let named = named_files(self.root(), &snapshot)?;
        let log = self.root().clone().join(LOG_FOLDER);
        Ok(old
            .into_iter()
            .filter(|file| !file.location.prefix_matches(&log) && !named.contains(&file.location))
            .collect())
    }
}

/// What a vacuum deletes.
struct Ended {
    chunks: Vec<Arc<Chunk>>,
    versions: u64,
}

impl Ended {
    /// What was removed and ended by the commit `horizon`; `None` when nothing was.
    fn by(snapshot: &Snapshot, horizon: i64) -> Option<Self> {
        let by_then = |commit: Option<i64>| commit.is_some_and(|commit| commit <= horizon);
        let chunks: Vec<_> = snapshot.removed_chunks().filter(|chunk| by_then(chunk.removed)).cloned().collect();
        let versions = snapshot.versions().filter(|version| by_then(version.end.map(|end| end.committed))).count();
        (!chunks.is_empty() || versions > 0).then_some(Self { chunks, versions: versions as u64 })
    }
}

fn earlier(by: Duration) -> DateTime<Utc> {
    before(clock::now(), by)
}

/// The instant that lies so much before another.
pub(super) fn before(instant: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
    instant.checked_sub_signed(by).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

fn named_files(root: &Path, snapshot: &Snapshot) -> Result<HashSet<Path>> {
    let chunks = snapshot.live_chunks().chain(snapshot.removed_chunks()).map(|chunk| chunk.path.as_str());
    let versions = snapshot.versions().chain(snapshot.last_version()).chain(snapshot.amendments.values());
    let categories = versions.filter_map(|version| match &version.record.categories {
        Some(StoredCategories::File(path)) => Some(path.as_str()),
        _ => None,
    });
    chunks.chain(categories).map(|path| chunk_location(root, path)).collect()
}

async fn delete(store: &Arc<dyn ObjectStore>, files: Vec<Path>) -> Result<()> {
    let deletes = files.into_iter().map(|file| async move {
        match store.delete(&file).await {
            // Another process, or an earlier try, was first.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(store_error("deleting a file", error)),
        }
    });
    let deletes: Vec<_> = deletes.collect();
    stream::iter(deletes).buffer_unordered(DELETES_IN_FLIGHT).try_collect::<Vec<()>>().await.map(drop)
}

/// Deletes all files of a table, its log last: until then a crash leaves something that can be found again.
///
/// # Errors
/// Those of the storage.
pub(super) async fn delete_table(store: &Arc<dyn ObjectStore>, root: &Path) -> Result<()> {
    let files: Vec<ObjectMeta> =
        store.list(Some(root)).try_collect().await.map_err(|error| store_error("listing files", error))?;
    let log = root.clone().join(LOG_FOLDER);
    let (log, others): (Vec<Path>, Vec<Path>) =
        files.into_iter().map(|file| file.location).partition(|file| file.prefix_matches(&log));
    delete(store, others).await?;
    delete(store, log).await
}
