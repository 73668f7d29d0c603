//! Where output goes: a file that appears at once, or stdout.
//!
//! Promises: a reader of the file's name sees the old file or the whole new one, never a part; a command that fails
//! leaves nothing beside it; and a failed write can be told from data that cannot be encoded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::clock;
use crate::error::{Error, Result};

/// A file under a temporary name, which [`AtomicFile::commit`] gives its own; dropped before that, it is removed.
#[derive(Debug)]
pub(super) struct AtomicFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Makes the temporary file, in the folder of `path` so that a rename can replace it.
    pub(super) fn create(path: &Path) -> Result<Self> {
        // Behind a link the file it points to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(Error::invalid(format!("{} is not a regular file; name another", path.display())));
        }
        if path.file_name().is_none() {
            return Err(Error::invalid(format!("{} does not name a file", path.display())));
        }
        // Not made from the file's own name, which may already be as long as a name can be.
        let temporary = path.with_file_name(format!(".pandas-db-{}.tmp", clock::new_ulid()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|error| write_error(&path.display().to_string(), &error))?;
        Ok(Self { file, temporary, path, committed: false })
    }

    /// A handle to write through.
    pub(super) fn handle(&self) -> Result<File> {
        self.file.try_clone().map_err(|error| self.failed(&error))
    }

    /// Makes the content durable and puts it in place.
    pub(super) fn commit(mut self) -> Result<()> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        fs::rename(&self.temporary, &self.path).map_err(|error| self.failed(&error))?;
        self.committed = true;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Error {
        write_error(&self.path.display().to_string(), error)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // Nobody is left to be told.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A failed write to `place`, with what to do about it.
pub(super) fn write_error(place: &str, error: &io::Error) -> Error {
    let message = format!("cannot write {place}: {error}");
    match error.kind() {
        ErrorKind::NotFound => Error::not_found(message),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Error::exhausted(message),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::InvalidFilename => {
            Error::invalid(message)
        }
        _ => Error::unavailable(message),
    }
}

/// A writer that keeps a copy of its first failure, because the encoders wrap it beyond recognition.
#[derive(Debug)]
pub(super) struct Watched<W> {
    inner: W,
    failure: Arc<OnceLock<io::Error>>,
}

impl<W: Write> Watched<W> {
    /// A writer, and the place where its failure will be found.
    pub(super) fn new(inner: W) -> (Self, Arc<OnceLock<io::Error>>) {
        let failure = Arc::new(OnceLock::new());
        (Self { inner, failure: Arc::clone(&failure) }, failure)
    }

    fn noted<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &outcome
            && error.kind() != ErrorKind::Interrupted
        {
            // The first failure is the one that counts; later ones follow from it.
            let _ = self.failure.set(io::Error::new(error.kind(), error.to_string()));
        }
        outcome
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.inner.write(bytes);
        self.noted(outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.inner.flush();
        self.noted(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_at_its_commit_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        fs::write(&path, "old").unwrap();
        let file = AtomicFile::create(&path).unwrap();
        file.handle().unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        file.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(folder.path()), ["x.csv"]);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = AtomicFile::create(&folder.path().join("x.csv")).unwrap();
        file.handle().unwrap().write_all(b"half").unwrap();
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(AtomicFile::create(folder.path()).is_err());
        assert!(AtomicFile::create(Path::new("/dev/null")).is_err());
        let absent = AtomicFile::create(&folder.path().join("no/such/x.csv")).unwrap_err();
        assert!(absent.to_string().starts_with("[NOT_FOUND] cannot write "), "{absent}");
        assert!(!absent.to_string().contains(".pandas-db-"), "{absent}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.csv"), folder.path().join("link.csv"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let file = AtomicFile::create(&link).unwrap();
        file.handle().unwrap().write_all(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_failure_is_kept() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut writer, failure) = Watched::new(Gone);
        assert!(failure.get().is_none());
        assert!(writer.write_all(b"x").is_err());
        assert_eq!(failure.get().unwrap().kind(), ErrorKind::BrokenPipe);
    }
}
