//! `import-legacy`: what the first pandas-db stored, version by version.
//!
//! Promises: the versions of a dataset are loaded in the order of their times; each is one load whose idempotency key
//! comes from its path, so that a run that broke off goes on where it was and a second run loads nothing twice; and a
//! version that cannot be loaded stops its dataset, whose later versions would otherwise come before it.
//!
//! | file | what is there |
//! |---|---|
//! | `layout` | paths as versions |
//! | `place` | where the files are, and getting them |
//! | `parts` | the files of a version as rows |
//! | `types` | one type for each column of a dataset |
//! | `report` | what was done, in lines |

mod layout;
mod parts;
mod place;
mod report;
mod types;

use std::collections::HashSet;
use std::sync::Arc;

use self::layout::{LegacyDataset, LegacyVersion, Plan};
use self::parts::Parts;
use self::place::Place;
use self::report::{Done, Outcome};
use self::types::ColumnTypes;
use super::connect::ServerOptions;
use super::input::Rows;
use super::{action, blocking, output, progress, put};
use crate::error::{Error, Kind, Result};
use crate::names::{DatasetName, ExternalKey};
use crate::proto::{ListVersions, LoadDataframe, VersionInfo};

/// What `import-legacy` takes.
#[derive(Debug, clap::Args)]
pub struct ImportLegacyArgs {
    /// The first pandas-db's bucket (s3://bucket or s3://bucket/prefix), or a folder with its content
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Put this and a slash before the name of every dataset
    #[arg(long, value_name = "PREFIX")]
    pub name_prefix: Option<String>,
    /// Only say what would be loaded; no server is asked
    #[arg(long)]
    pub dry_run: bool,
    /// Which server, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Loads all versions and prints a line for each dataset.
pub(super) async fn run(args: ImportLegacyArgs) -> Result<()> {
    let place = Place::open(&args.source).await?;
    let looking = progress::spinner("listing the files");
    let plan = layout::plan(&place).await;
    looking.finish_and_clear();
    let plan = plan?;
    if args.dry_run {
        output::print(&report::planned(&plan, args.name_prefix.as_deref()))?;
        return report::unsound(&plan, args.name_prefix.as_deref());
    }
    let Plan { datasets, strangers } = plan;
    let (of, mut done) = (datasets.len(), Vec::with_capacity(datasets.len()));
    for (at, dataset) in datasets.iter().enumerate() {
        let import = Import { args: &args, place: &place, dataset, label: format!("{}/{of}", at + 1) };
        done.push(import.run().await);
    }
    output::print(&report::lines(&done, &strangers))?;
    report::failures(&done)
}

/// The name under which a dataset is loaded.
fn target_name(prefix: Option<&str>, name: &str) -> String {
    match prefix.map(|prefix| prefix.trim_end_matches('/')) {
        None | Some("") => name.to_owned(),
        Some(prefix) => format!("{prefix}/{name}"),
    }
}

/// Says whether a version's name and key can be.
fn check(prefix: Option<&str>, dataset: &LegacyDataset) -> Result<()> {
    DatasetName::parse(&target_name(prefix, &dataset.name))?;
    dataset.versions.iter().try_for_each(|version| ExternalKey::parse(version.external_key.as_deref()).map(drop))
}

/// The import of one dataset.
struct Import<'a> {
    args: &'a ImportLegacyArgs,
    place: &'a Place,
    dataset: &'a LegacyDataset,
    label: String,
}

impl Import<'_> {
    /// Loads the versions that are not there yet.
    async fn run(&self) -> Done {
        let name = target_name(self.args.name_prefix.as_deref(), &self.dataset.name);
        let mut done = Done::new(name, self.dataset.versions.len());
        if let Err((folder, error)) = self.load_all(&mut done).await {
            done.fail(folder, error);
        }
        done
    }

    async fn load_all(&self, done: &mut Done) -> Result<(), (String, Error)> {
        let as_a_whole = |error| (self.dataset.name.clone(), error);
        check(self.args.name_prefix.as_deref(), self.dataset).map_err(as_a_whole)?;
        let there = self.idempotency_keys(&done.name).await.map_err(as_a_whole)?;
        let (known, left) = split(&self.dataset.versions, &there);
        done.count(Outcome::Known, known, 0);
        let mut opened = Vec::with_capacity(left.len());
        let mut types = ColumnTypes::default();
        for version in left {
            let parts = self.open(version).await.map_err(|error| (version.folder.clone(), error))?;
            types.add(parts.found());
            opened.push((version, parts));
        }
        for (version, parts) in opened {
            let loaded = self.load(&done.name, version, parts, &types).await;
            let (outcome, rows) = loaded.map_err(|error| (version.folder.clone(), error))?;
            done.count(outcome, 1, rows);
        }
        Ok(())
    }

    /// The idempotency keys of the versions that the dataset has or had.
    async fn idempotency_keys(&self, name: &str) -> Result<HashSet<String>> {
        let command = ListVersions { dataframe_name: name.into(), external_key: None, include_replaced: true };
        match action::all::<VersionInfo>(&self.args.server, "list_versions", &command).await {
            Ok(versions) => Ok(versions.into_iter().filter_map(|version| version.idempotency_key).collect()),
            Err(error) if error.kind() == Kind::NotFound => Ok(HashSet::new()),
            Err(error) => Err(error),
        }
    }

    async fn open(&self, version: &LegacyVersion) -> Result<Parts> {
        let reading = progress::spinner(&format!("{} reading {}", self.label, version.folder));
        let opened = async {
            let files = self.place.fetch(&version.files).await?;
            blocking("reading a version", move || Parts::open(files)).await
        };
        let opened = opened.await;
        reading.finish_and_clear();
        opened
    }

    async fn load(
        &self,
        name: &str,
        version: &LegacyVersion,
        parts: Parts,
        types: &ColumnTypes,
    ) -> Result<(Outcome, i64)> {
        let rows: Arc<dyn Rows> = Arc::new(parts.with_types(types));
        let command = LoadDataframe {
            dataframe_name: name.into(),
            external_key: version.external_key.clone(),
            keep_last: version.keep_last,
            idempotency_key: Some(version.idempotency_key()),
            total_rows: Some(put::whole(rows.count())?),
            ..Default::default()
        };
        let what = format!("{} storing {}", self.label, version.folder);
        let result = put::load(&self.args.server, &command, rows, &what).await?;
        let outcome = if result.duplicate == Some(true) { Outcome::Known } else { Outcome::Loaded };
        Ok((outcome, result.rows))
    }
}

/// How many versions are there, and those that are not. What a version with `keep_last` replaced is no longer known
/// once it was vacuumed, and must not come back: it counts as there.
fn split<'a>(versions: &'a [LegacyVersion], there: &HashSet<String>) -> (usize, Vec<&'a LegacyVersion>) {
    let is_there = |version: &LegacyVersion| there.contains(&version.idempotency_key());
    let mut replaced = HashSet::new();
    let mut left: Vec<&LegacyVersion> = Vec::new();
    for version in versions.iter().rev() {
        if is_there(version) {
            if version.keep_last {
                replaced.insert(&version.external_key);
            }
        } else if !replaced.contains(&version.external_key) {
            left.push(version);
        }
    }
    left.reverse();
    (versions.len() - left.len(), left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(folder: &str, key: Option<&str>, keep_last: bool) -> LegacyVersion {
        let external_key = key.map(str::to_owned);
        LegacyVersion { folder: folder.into(), external_key, keep_last, ..LegacyVersion::default() }
    }

    #[test]
    fn names_take_a_prefix() {
        assert_eq!(target_name(None, "a/b"), "a/b");
        assert_eq!(target_name(Some(""), "a/b"), "a/b");
        for prefix in ["old", "old/"] {
            assert_eq!(target_name(Some(prefix), "a/b"), "old/a/b");
        }
    }

    #[test]
    fn what_was_replaced_does_not_come_back() {
        let versions = [
            version("1", None, false),
            version("2", Some("k"), false),
            version("3", None, true),
            version("4", None, false),
        ];
        let folders = |there: &[&LegacyVersion]| {
            let keys = there.iter().map(|version| version.idempotency_key()).collect();
            let (known, left) = split(&versions, &keys);
            (known, left.iter().map(|version| version.folder.clone()).collect::<Vec<_>>())
        };
        assert_eq!(folders(&[]), (0, vec!["1".into(), "2".into(), "3".into(), "4".into()]));
        assert_eq!(folders(&[&versions[0]]), (1, vec!["2".into(), "3".into(), "4".into()]));
        // The first was vacuumed after the third replaced it.
        assert_eq!(folders(&[&versions[2]]), (2, vec!["2".into(), "4".into()]));
    }
}
