//! Files of settings: read within a limit, and read again when they changed.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tracing::{info, warn};

use crate::error::{Error, Result};

/// Reads what a file of at most so many bytes says.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the file when it cannot be read, is larger, or `parse` refuses
/// it.
pub(super) fn read_file<T>(path: &Path, most_bytes: u64, parse: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let wrong = |why: String| Error::invalid(format!("{}: {why}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(format!("it cannot be opened: {error}")))?;
    let read = file.take(most_bytes + 1).read_to_string(&mut text);
    read.map_err(|error| wrong(format!("it cannot be read: {error}")))?;
    if text.len() as u64 > most_bytes {
        return Err(wrong(format!("it is larger than {most_bytes} bytes")));
    }
    parse(&text).map_err(|error| wrong(error.message().into()))
}

/// By what a changed file is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    inode: u64,
    bytes: u64,
}

impl Stamp {
    fn of(metadata: std::io::Result<std::fs::Metadata>) -> Option<Self> {
        let metadata = metadata.ok()?;
        Some(Self { modified: metadata.modified().ok()?, inode: metadata.ino(), bytes: metadata.len() })
    }
}

struct Known<T> {
    stamp: Option<Stamp>,
    content: Arc<T>,
}

/// What a file says now. While it cannot be read what it said before stays.
pub(super) struct Watched<T> {
    path: PathBuf,
    read: fn(&Path) -> Result<T>,
    known: RwLock<Known<T>>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the file.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn open(path: &Path, read: fn(&Path) -> Result<T>) -> Result<Self> {
        let stamp = Stamp::of(std::fs::metadata(path));
        let content = Arc::new(read(path)?);
        Ok(Self { path: path.into(), read, known: RwLock::new(Known { stamp, content }) })
    }

    /// What it says now.
    pub(super) async fn now(&self) -> Arc<T> {
        let stamp = Stamp::of(tokio::fs::metadata(&self.path).await);
        let before = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.stamp == stamp {
                return Arc::clone(&known.content);
            }
            Arc::clone(&known.content)
        };
        let (path, read, file) = (self.path.clone(), self.read, self.path.display());
        let content = match tokio::task::spawn_blocking(move || read(&path)).await {
            Ok(Ok(content)) => {
                info!(%file, "a file that changed was read again");
                Arc::new(content)
            }
            Ok(Err(error)) => {
                warn!(%file, %error, "a file changed and cannot be used; what it said before stays");
                before
            }
            Err(error) => {
                warn!(%file, %error, "a file cannot be read; what it said before stays");
                before
            }
        };
        let now = Known { stamp, content: Arc::clone(&content) };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = now;
        content
    }
}
