//! The lines of a tenant, read back from the file of the audit log.
//!
//! A file may be large and holds the lines of all tenants, so it is read some lines at a time. What is read is what
//! was in the file when it was opened: a reader does not run after the lines that are written meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::error::{Error, Result};

/// Bytes of the file that are read between two pauses, lines of others counted.
const BLOCK_BYTES: usize = 256 << 10;
/// Bytes of a line; a call leaves none that is longer.
const MAX_LINE_BYTES: u64 = 256 << 10;

/// The line of a call, as it is read back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AuditLine {
    /// When the call ended.
    pub time: DateTime<Utc>,
    /// The call's id, as in the server's log.
    pub id: String,
    /// What was called.
    pub call: String,
    /// Which action, where it was one.
    pub action: Option<String>,
    /// Who called.
    pub user: Option<String>,
    /// For whom.
    pub tenant: String,
    /// The datasets that the call named; not all of them, where there were many.
    pub datasets: Vec<String>,
    /// How many there were.
    pub datasets_total: i64,
    /// The version that the call made.
    pub version: Option<i64>,
    /// Rows that were stored or sent.
    pub rows: i64,
    /// Their bytes.
    pub bytes: i64,
    /// `ok`, or the code of the error.
    pub outcome: String,
    /// How long it took.
    pub seconds: f64,
}

/// Whose a line is; nobody's where a caller was not let in, or where it counts lines that are missing.
#[derive(Deserialize)]
struct Owner {
    tenant: Option<String>,
}

/// Reads the lines of one tenant, in the order they were written.
pub struct AuditReader {
    input: Box<dyn BufRead + Send>,
    tenant: String,
    line: Vec<u8>,
    /// The last piece that was read did not end its line.
    within_line: bool,
    unreadable: u64,
}

impl AuditReader {
    /// Opens the file. One that is not there, since it was moved away, has no lines. It blocks.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) when it is no regular file, out of which nothing can be read
    /// back, and [`Kind::Unavailable`](crate::error::Kind::Unavailable) when it cannot be opened.
    pub fn open(path: &Path, tenant: &str) -> Result<Self> {
        let input: Box<dyn BufRead + Send> = match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Box::new(std::io::empty()),
            Err(error) => return Err(unavailable(error)),
            Ok(metadata) if !metadata.is_file() => return Err(not_kept()),
            Ok(metadata) => Box::new(BufReader::new(File::open(path).map_err(unavailable)?).take(metadata.len())),
        };
        Ok(Self::of(input, tenant))
    }

    fn of(input: Box<dyn BufRead + Send>, tenant: &str) -> Self {
        Self { input, tenant: tenant.into(), line: Vec::new(), within_line: false, unreadable: 0 }
    }

    /// The next lines, at most so many; fewer or none when the next ones are of others, `None` at the end. It blocks.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the file cannot be read.
    pub fn next_lines(&mut self, most: usize) -> Result<Option<Vec<AuditLine>>> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < most && bytes < BLOCK_BYTES {
            let read = self.read_piece()?;
            if read == 0 {
                if found.is_empty() {
                    self.tell_unreadable();
                    return Ok(None);
                }
                break;
            }
            bytes += read;
            found.extend(self.line_of_tenant());
        }
        Ok(Some(found))
    }

    /// Reads a line, or a piece of one that is too long; how many bytes it was.
    fn read_piece(&mut self) -> Result<usize> {
        self.line.clear();
        let mut piece = self.input.by_ref().take(MAX_LINE_BYTES);
        piece.read_until(b'\n', &mut self.line).map_err(unavailable)
    }

    /// The piece that was read, when it is a line of the tenant. The last line may still be being written.
    fn line_of_tenant(&mut self) -> Option<AuditLine> {
        let ends = self.line.ends_with(b"\n");
        let goes_on = std::mem::replace(&mut self.within_line, !ends);
        if !ends {
            return None;
        }
        let read = if goes_on { None } else { parse(&self.line, &self.tenant).ok() };
        self.unreadable += u64::from(read.is_none());
        read.flatten()
    }

    fn tell_unreadable(&self) {
        if self.unreadable > 0 {
            tracing::warn!(lines = self.unreadable, "lines of the audit log cannot be read; a query left them out");
        }
    }
}

fn parse(line: &[u8], tenant: &str) -> serde_json::Result<Option<AuditLine>> {
    let owner: Owner = serde_json::from_slice(line)?;
    if owner.tenant.as_deref() == Some(tenant) { serde_json::from_slice(line).map(Some) } else { Ok(None) }
}

fn unavailable(error: std::io::Error) -> Error {
    Error::unavailable("the audit log cannot be read; the server's log says why").because(error)
}

/// The answer where no lines can be read back.
pub fn not_kept() -> Error {
    Error::not_found("this server keeps no audit log that can be read back; start it with --audit-log FILE")
}

#[cfg(test)]
mod tests {
    use super::super::AuditLog;
    use super::*;

    fn line(tenant: &str, id: &str) -> String {
        format!(
            r#"{{"time":"2026-01-01T00:00:00.000001Z","id":"{id}","call":"do_get","user":"ann","tenant":"{tenant}","#
        ) + r#""datasets":["a"],"datasets_total":1,"rows":1,"bytes":2,"outcome":"ok","seconds":0.5}"#
    }

    fn ids(text: String, most: usize) -> (Vec<String>, u64) {
        let mut reader = AuditReader::of(Box::new(std::io::Cursor::new(text)), "acme");
        let mut found = Vec::new();
        while let Some(lines) = reader.next_lines(most).unwrap() {
            assert!(lines.len() <= most);
            found.extend(lines.into_iter().map(|line| line.id));
        }
        (found, reader.unreadable)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = AuditLog::to_file(&path).unwrap();
        for tenant in ["acme", "other"] {
            let trail = log.trail("do_action", "id1");
            trail.caller("ann\n\"", tenant);
            trail.action("compact");
            trail.dataset("a/b");
            trail.version(3);
            trail.moved(2, 10);
            log.write(&trail, "NOT_FOUND", 0.25);
        }
        log.close();
        let mut reader = AuditReader::open(&path, "acme").unwrap();
        let lines = reader.next_lines(10).unwrap().unwrap();
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!((line.call.as_str(), line.action.as_deref()), ("do_action", Some("compact")));
        assert_eq!((line.user.as_deref(), line.tenant.as_str()), (Some("ann\n\""), "acme"));
        assert_eq!((line.datasets.as_slice(), line.datasets_total), ([String::from("a/b")].as_slice(), 1));
        assert_eq!((line.version, line.rows, line.bytes), (Some(3), 2, 10));
        assert_eq!((line.outcome.as_str(), line.seconds), ("NOT_FOUND", 0.25));
        assert!(reader.next_lines(10).unwrap().is_none() && reader.unreadable == 0);
    }

    #[test]
    fn lines_of_others_are_left_out_and_broken_ones_counted() {
        let long = "x".repeat(3 * MAX_LINE_BYTES as usize);
        let lost = r#"{"time":"2026-01-01T00:00:00Z","lost":7}"#;
        let broken = r#"{"tenant":"acme","id":1}"#;
        let nobody = line("acme", "z").replace("\"acme\"", "null");
        let parts =
            [&line("acme", "1"), &line("acme2", "2"), lost, broken, "{\"ten", "", &long, &nobody, &line("acme", "3")];
        let text = parts.join("\n") + "\n";
        for most in [1, 2, 100] {
            let (found, unreadable) = ids(text.clone() + &line("acme", "4"), most);
            assert_eq!((found, unreadable), (vec!["1".into(), "3".into()], 4), "{most}");
        }
    }

    #[test]
    fn a_block_of_lines_of_others_ends_with_a_pause() {
        let text = (line("other", "1") + "\n").repeat(10_000);
        let mut reader = AuditReader::of(Box::new(std::io::Cursor::new(text)), "acme");
        assert_eq!(reader.next_lines(10).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn a_file_that_was_moved_away_has_no_lines_and_a_folder_none_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = AuditReader::open(&folder.path().join("gone"), "acme").unwrap();
        assert!(reader.next_lines(1).unwrap().is_none());
        let refused = AuditReader::open(folder.path(), "acme").err().unwrap();
        assert_eq!(refused.kind(), crate::error::Kind::NotFound);
    }
}
