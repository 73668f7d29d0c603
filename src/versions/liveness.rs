//! Which processes of this machine live: each holds a lock on a file of its own, which the system gives up for it,
//! however it ends.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The locks of this process, and where those of others are.
#[derive(Debug)]
pub(super) struct Liveness {
    /// The file beside which they are.
    beside: PathBuf,
    held: Mutex<HashMap<String, File>>,
}

impl Liveness {
    /// Locks beside a file.
    pub(super) fn beside(file: &Path) -> Self {
        Self { beside: file.to_path_buf(), held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, File>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, node: &str) -> PathBuf {
        let mut name = self.beside.file_name().map_or_else(OsString::new, OsString::from);
        name.push(format!("-node-{node}"));
        self.beside.with_file_name(name)
    }

    /// Takes the lock of a node of this process, unless it has it.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub(super) fn claim(&self, node: &str) -> std::io::Result<()> {
        let mut held = self.held();
        if !held.contains_key(node) {
            let file = OpenOptions::new().create(true).append(true).open(self.path(node))?;
            file.try_lock()?;
            held.insert(node.into(), file);
        }
        Ok(())
    }

    /// Whether the process of a node that took its lock may live; what is left of one that does not is removed.
    pub(super) fn lives(&self, node: &str) -> bool {
        if self.held().contains_key(node) {
            return true;
        }
        let path = self.path(node);
        let file = match OpenOptions::new().append(true).open(&path) {
            Ok(file) => file,
            Err(error) => return error.kind() != ErrorKind::NotFound,
        };
        if file.try_lock().is_err() {
            return true;
        }
        // Another process may have removed it just now.
        let _ = std::fs::remove_file(path);
        false
    }

    /// Gives up the lock of a node of this process.
    pub(super) fn give_up(&self, node: &str) {
        if self.held().remove(node).is_some() {
            // What stays is removed by whoever asks for the node next.
            let _ = std::fs::remove_file(self.path(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_lives_as_long_as_its_process_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("versions.db");
        let (one, two) = (Liveness::beside(&file), Liveness::beside(&file));
        assert!(!two.lives("a"));
        one.claim("a").unwrap();
        one.claim("a").unwrap();
        assert!(one.lives("a") && two.lives("a"));
        assert!(two.claim("a").is_err());
        // The end of a process closes its files.
        drop(one);
        assert!(folder.path().join("versions.db-node-a").exists());
        assert!(!two.lives("a"));
        assert!(!folder.path().join("versions.db-node-a").exists());
        two.claim("b").unwrap();
        two.give_up("b");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
