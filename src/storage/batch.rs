//! Files that become durable together.
//!
//! To sync each of hundreds of small files costs more than to write them. Those of a batch are written without, and
//! synced at its end: a few one by one, many by one call that flushes the file system (`syncfs(2)`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::PutOptions;

use crate::error::{Error, Result};

/// Files and folders that are synced one by one; of more the whole file system is.
const SYNCED_SINGLY: usize = 24;

/// Files that become durable with [`WriteBatch::settle`], and may be lost or cut before. Clones are the same batch.
///
/// Of a store whose every `put` is durable it asks nothing.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch(Arc<Mutex<Unsynced>>);

/// Files and folders after which the file system is flushed while more come.
const FLUSHED_TOGETHER: usize = 150;

#[derive(Debug, Default)]
struct Unsynced {
    /// The folder of the store. It is open from before the first write on: then `syncfs` tells of every write since
    /// that failed, whoever else asked before.
    root: Option<File>,
    paths: BTreeSet<PathBuf>,
    /// How often it was flushed before the end.
    flushes: usize,
}

impl WriteBatch {
    /// The options of a `put` into this batch. The target must be new, and nobody may look at it before the end.
    pub fn options(&self) -> PutOptions {
        let mut options = PutOptions::default();
        options.extensions.insert(self.clone());
        options
    }

    /// Waits until all that was put is durable.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when some of it cannot be; what was put is worthless
    /// then.
    pub async fn settle(&self) -> Result<()> {
        let batch = self.clone();
        let settled = tokio::task::spawn_blocking(move || batch.unsynced().sync()).await;
        let settled = settled.map_err(|error| Error::internal("syncing files broke off").because(error))?;
        settled.map_err(|error| Error::unavailable("the disk did not take what was written").because(error))
    }

    /// To be called before the first write below `root`.
    ///
    /// # Errors
    /// When the folder cannot be opened.
    pub(super) fn begin(&self, root: &FsPath) -> io::Result<()> {
        let mut unsynced = self.unsynced();
        if unsynced.root.is_none() {
            unsynced.root = Some(File::open(root)?);
        }
        Ok(())
    }

    /// Notes files that were written, and folders in which something was made.
    pub(super) fn note(&self, paths: impl IntoIterator<Item = PathBuf>) {
        self.unsynced().paths.extend(paths);
    }

    /// Flushes what has come together, when that is much: then the disk works while the rest is made, and little is
    /// left for the end.
    pub(super) fn flush_early(&self, root: &FsPath) {
        let mut unsynced = self.unsynced();
        if unsynced.paths.len() / FLUSHED_TOGETHER <= unsynced.flushes || !flushes_tell_of_errors() {
            return;
        }
        unsynced.flushes += 1;
        drop(unsynced);
        // Should it fail, the flush at the end says so: the folder that it asks of was open before.
        if let Err(error) = File::open(root).and_then(|root| flush(&root)) {
            tracing::debug!(%error, "an early flush failed");
        }
    }

    fn unsynced(&self) -> MutexGuard<'_, Unsynced> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unsynced {
    fn sync(&mut self) -> io::Result<()> {
        match &self.root {
            Some(root) if self.paths.len() > SYNCED_SINGLY && flushes_tell_of_errors() => flush(root)?,
            _ => self.paths.iter().try_for_each(|path| File::open(path)?.sync_all())?,
        }
        self.paths.clear();
        self.flushes = 0;
        Ok(())
    }
}

/// Whether `syncfs` tells of writes that failed: since Linux 5.8 (its manual page).
#[cfg(target_os = "linux")]
fn flushes_tell_of_errors() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().ok());
    let version: (Option<u32>, Option<u32>) = (numbers.next().flatten(), numbers.next().flatten());
    version >= (Some(5), Some(8))
}

#[cfg(target_os = "linux")]
fn flush(root: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(root)?)
}

#[cfg(not(target_os = "linux"))]
fn flushes_tell_of_errors() -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn flush(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
