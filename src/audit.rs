//! The audit log: one JSON line for each call, saying who did what to which dataset, and how that ended.
//!
//! A call notes what it does in its [`Trail`]; when it ends that becomes a line. A thread of its own writes the lines,
//! so that no call waits for a disk. Lines that it cannot keep up with are counted, and the log says how many are
//! missing. [`AuditReader`] reads them back.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

pub use self::reader::{AuditLine, AuditReader, not_kept};

use crate::clock;
use crate::error::{Error, Result, shorten};

mod reader;

/// Lines that wait to be written.
const MAX_WAITING: usize = 8_192;
/// Datasets that one line names.
const MAX_DATASETS: usize = 64;

/// What one call did so far; empty without an audit log. Clones note in the same place.
#[derive(Debug, Clone, Default)]
pub struct Trail(Option<Arc<Mutex<Entry>>>);

#[derive(Debug, Default, Serialize)]
struct Entry {
    id: String,
    call: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    user: Option<String>,
    tenant: Option<String>,
    datasets: Vec<String>,
    /// Those that the call named; more than are listed, sometimes.
    datasets_total: usize,
    /// The version that the call made.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    rows: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    entry: &'a Entry,
    outcome: &'static str,
    seconds: f64,
}

/// Two are the same when they are of one call.
impl PartialEq for Trail {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Eq for Trail {}

impl Trail {
    fn note(&self, what: impl FnOnce(&mut Entry)) {
        if let Some(entry) = &self.0 {
            what(&mut entry.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Who calls.
    pub fn caller(&self, user: &str, tenant: &str) {
        self.note(|entry| (entry.user, entry.tenant) = (Some(user.into()), Some(tenant.into())));
    }

    /// Which action it is.
    pub fn action(&self, name: &str) {
        self.note(|entry| entry.action = Some(shorten(name)));
    }

    /// A dataset that the call wants to read or change.
    pub fn dataset(&self, name: &str) {
        self.note(|entry| {
            if entry.datasets.iter().any(|known| known == name) {
                return;
            }
            entry.datasets_total += 1;
            if entry.datasets.len() < MAX_DATASETS {
                entry.datasets.push(name.into());
            }
        });
    }

    /// The version that the call made.
    pub fn version(&self, version: i64) {
        self.note(|entry| entry.version = Some(version));
    }

    /// Rows and bytes that were stored or sent.
    pub fn moved(&self, rows: u64, bytes: u64) {
        self.note(|entry| {
            entry.rows += rows;
            entry.bytes += bytes;
        });
    }
}

/// Where the lines go; nowhere by default.
#[derive(Debug, Clone, Default)]
pub struct AuditLog(Option<Arc<Writer>>);

#[derive(Debug)]
struct Writer {
    lines: Mutex<Option<SyncSender<String>>>,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl AuditLog {
    /// Lines on stderr.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when no thread can be started.
    pub fn to_stderr() -> Result<Self> {
        Self::to(std::io::stderr())
    }

    /// Lines at the end of a file, which is made when it is not there, for its owner alone to read.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) when it cannot be opened.
    pub fn to_file(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = file
            .map_err(|error| Error::invalid(format!("--audit-log {}: it cannot be opened: {error}", path.display())))?;
        Self::to(BufWriter::new(file))
    }

    fn to(place: impl Write + Send + 'static) -> Result<Self> {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let thread =
            std::thread::Builder::new().name("audit".into()).spawn(move || write_all(place, &receiver, &counted));
        let thread = thread.map_err(|error| Error::internal("the audit log cannot be started").because(error))?;
        let (lines, thread) = (Mutex::new(Some(sender)), Mutex::new(Some(thread)));
        Ok(Self(Some(Arc::new(Writer { lines, lost, thread }))))
    }

    /// The trail of a call that begins.
    pub fn trail(&self, call: &'static str, id: &str) -> Trail {
        Trail(self.0.as_ref().map(|_| Arc::new(Mutex::new(Entry { id: id.into(), call, ..Default::default() }))))
    }

    /// Writes the line of a call that ended.
    pub fn write(&self, trail: &Trail, outcome: &'static str, seconds: f64) {
        let (Some(writer), Some(entry)) = (&self.0, &trail.0) else { return };
        let line = {
            let entry = entry.lock().unwrap_or_else(PoisonError::into_inner);
            let line = Line { time: clock::format_instant(clock::now()), entry: &entry, outcome, seconds };
            serde_json::to_string(&line)
        };
        let lines = writer.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = line.ok().zip(lines.as_ref()).is_some_and(|(line, lines)| lines.try_send(line).is_ok());
        if !sent {
            writer.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what waits, and ends the log. It blocks.
    pub fn close(&self) {
        let Some(writer) = &self.0 else { return };
        drop(writer.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = writer.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the audit log broke off");
        }
    }
}

fn write_all(mut place: impl Write, lines: &Receiver<String>, lost: &AtomicU64) {
    while let Ok(line) = lines.recv() {
        let waiting = std::iter::once(line).chain(std::iter::from_fn(|| lines.try_recv().ok())).take(MAX_WAITING);
        let written = write_some(&mut place, waiting, lost.swap(0, Ordering::Relaxed));
        if let Err(error) = written {
            tracing::error!(%error, "the audit log cannot be written; lines are missing");
        }
    }
}

fn write_some(place: &mut impl Write, lines: impl Iterator<Item = String>, lost: u64) -> std::io::Result<()> {
    if lost > 0 {
        writeln!(place, r#"{{"time":"{}","lost":{lost}}}"#, clock::format_instant(clock::now()))?;
    }
    for line in lines {
        writeln!(place, "{line}")?;
    }
    place.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_what_and_how() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = AuditLog::to_file(&path).unwrap();
        let trail = log.trail("do_put", "id1");
        trail.caller("ann\n\"", "acme");
        trail.action("compact");
        trail.dataset("a/b");
        trail.dataset("a/b");
        trail.version(3);
        trail.moved(2, 10);
        trail.clone().moved(1, 5);
        log.write(&trail, "ok", 0.5);
        log.close();
        log.write(&trail, "ok", 0.5);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["user"], &line["tenant"]), (&"ann\n\"".into(), &"acme".into()));
        assert_eq!((&line["datasets"], &line["version"]), (&serde_json::json!(["a/b"]), &3.into()));
        assert_eq!((&line["rows"], &line["bytes"], &line["outcome"]), (&3.into(), &15.into(), &"ok".into()));
    }

    #[test]
    fn datasets_are_listed_within_bounds_and_no_log_costs_nothing() {
        let log = AuditLog::default();
        log.trail("x", "y").dataset("a");
        assert_eq!(log.trail("x", "y"), Trail::default());
        let mut written = Vec::new();
        let trail = Trail(Some(Arc::default()));
        (0..100).for_each(|number| trail.dataset(&number.to_string()));
        trail.note(|entry| assert_eq!((entry.datasets.len(), entry.datasets_total), (MAX_DATASETS, 100)));
        write_some(&mut written, std::iter::once("{}".to_string()), 7).unwrap();
        assert!(String::from_utf8(written).unwrap().contains(r#""lost":7}"#));
    }
}
