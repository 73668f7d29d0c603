//! What an import does or did, in lines.

use super::layout::Plan;
use super::{check, target_name};
use crate::cli::columns::{self, Side};
use crate::clock;
use crate::error::{Error, Result};
use crate::names::DEFAULT_EXTERNAL_KEY;

const PLANNED: [(&str, Side); 6] = [
    ("NAME", Side::Left),
    ("KEY", Side::Left),
    ("TIME", Side::Left),
    ("FILES", Side::Right),
    ("BYTES", Side::Right),
    ("REPLACES", Side::Left),
];
const DONE: [(&str, Side); 5] = [
    ("NAME", Side::Left),
    ("LOADED", Side::Right),
    ("ROWS", Side::Right),
    ("WERE THERE", Side::Right),
    ("LEFT", Side::Right),
];

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was loaded.
    Loaded,
    /// It was there already.
    Known,
}

/// What became of a dataset.
#[derive(Debug)]
pub(super) struct Done {
    /// Its name here.
    pub(super) name: String,
    versions: usize,
    loaded: usize,
    known: usize,
    rows: i64,
    failure: Option<(String, Error)>,
}

impl Done {
    /// Nothing yet, of so many versions.
    pub(super) fn new(name: String, versions: usize) -> Self {
        Self { name, versions, loaded: 0, known: 0, rows: 0, failure: None }
    }

    /// Counts versions, and the rows of those that were loaded.
    pub(super) fn count(&mut self, outcome: Outcome, versions: usize, rows: i64) {
        match outcome {
            Outcome::Loaded => {
                self.loaded += versions;
                self.rows += rows;
            }
            Outcome::Known => self.known += versions,
        }
    }

    /// Notes what stopped it, and where.
    pub(super) fn fail(&mut self, folder: String, error: Error) {
        self.failure = Some((folder, error));
    }

    fn left(&self) -> usize {
        self.versions.saturating_sub(self.loaded + self.known)
    }
}

/// What would be loaded.
pub(super) fn planned(plan: &Plan, prefix: Option<&str>) -> String {
    let lines = plan.datasets.iter().flat_map(|dataset| {
        let name = target_name(prefix, &dataset.name);
        dataset.versions.iter().map(move |version| {
            [
                name.clone(),
                version.external_key.clone().unwrap_or_else(|| DEFAULT_EXTERNAL_KEY.into()),
                clock::format_instant(version.at),
                columns::count(version.files.len() as i64),
                columns::size(version.bytes() as i64),
                if version.keep_last { "yes" } else { "" }.into(),
            ]
        })
    });
    format!("{}{}", columns::lines(PLANNED, lines.collect()), strangers(&plan.strangers))
}

/// What was done.
pub(super) fn lines(done: &[Done], others: &[String]) -> String {
    let number = |count: usize| columns::count(count as i64);
    let line = |done: &Done| {
        [done.name.clone(), number(done.loaded), columns::count(done.rows), number(done.known), number(done.left())]
    };
    format!("{}{}", columns::lines(DONE, done.iter().map(line).collect()), strangers(others))
}

fn strangers(paths: &[String]) -> String {
    const SHOWN: usize = 10;
    let line = |what: &str| format!("no part of a version: {what}\n");
    let shown: String = paths.iter().take(SHOWN).map(|path| line(&harmless(path))).collect();
    match paths.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}{}", line(&format!("{more} other files"))),
    }
}

fn harmless(path: &str) -> String {
    path.replace(char::is_control, "\u{fffd}")
}

/// Says what could not be loaded, on stderr.
///
/// # Errors
/// When there was anything.
pub(super) fn failures(done: &[Done]) -> Result<()> {
    let failed: Vec<_> = done.iter().filter_map(|done| Some((done, done.failure.as_ref()?))).collect();
    for (_, (folder, error)) in &failed {
        eprintln!("{}: {error}", harmless(folder));
    }
    let left: usize = failed.iter().map(|(done, _)| done.left()).sum();
    match failed.len() {
        0 => Ok(()),
        datasets => Err(Error::invalid(format!(
            "{left} versions of {datasets} datasets were left out; mend what is said above and run the command again, \
             which loads nothing twice"
        ))),
    }
}

/// Says which datasets could not be loaded under their names and keys, on stderr.
///
/// # Errors
/// When there is one.
pub(super) fn unsound(plan: &Plan, prefix: Option<&str>) -> Result<()> {
    let wrong: Vec<_> =
        plan.datasets.iter().filter_map(|each| Some((&each.name, check(prefix, each).err()?))).collect();
    for (name, error) in &wrong {
        eprintln!("{}: {error}", harmless(name));
    }
    match wrong.len() {
        0 => Ok(()),
        datasets => Err(Error::invalid(format!("{datasets} datasets cannot be loaded under their names and keys"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_is_a_line() {
        let mut done = Done::new("a/b".into(), 5);
        done.count(Outcome::Known, 2, 0);
        done.count(Outcome::Loaded, 1, 100_000);
        done.fail("a/b/external_key/k/1".into(), Error::invalid("cannot"));
        let text = lines(&[done], &["x\n.txt".into()]);
        assert_eq!(
            text,
            "NAME  LOADED     ROWS  WERE THERE  LEFT\na/b        1  100,000           2     2\n\
             no part of a version: x\u{fffd}.txt\n"
        );
        let many: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        assert!(strangers(&many).ends_with("9\nno part of a version: 2 other files\n"));
        assert_eq!(strangers(&many[..10]).lines().count(), 10);
    }
}
