//! Paths of the first pandas-db as versions.
//!
//! | path | what it is |
//! |---|---|
//! | `<name>/external_key/default/<YYYY-MM-DD>/<HH:MM:SS>/*.csv.gz` | the parts of a version without a key of its own |
//! | `<name>/external_key/<key>/<uuid>/*.csv.gz` | the parts of a version with one |
//! | `last_key.txt` beside the folder of a version | names the version that was to be the only one |

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use object_store::ObjectMeta;
use twox_hash::XxHash3_128;

use super::place::Place;
use crate::error::Result;

/// The folder between the name of a dataset and its keys.
const KEYS_FOLDER: &str = "external_key";
/// The folder of the versions that gave no key.
const DEFAULT_FOLDER: &str = "default";
const LAST_KEY_FILE: &str = "last_key.txt";
const PART_EXTENSION: &str = ".csv.gz";

/// All that is to be loaded.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// By their names.
    pub(super) datasets: Vec<LegacyDataset>,
    /// Files that belong to no version.
    pub(super) strangers: Vec<String>,
}

/// A dataset with its versions, the oldest first.
#[derive(Debug)]
pub(super) struct LegacyDataset {
    /// As it was called.
    pub(super) name: String,
    /// In the order in which they are loaded.
    pub(super) versions: Vec<LegacyVersion>,
}

/// One version.
#[derive(Debug, Default)]
pub(super) struct LegacyVersion {
    /// Where its files are.
    pub(super) folder: String,
    /// Its key; none for `default`.
    pub(super) external_key: Option<String>,
    /// When it was stored: what its path says, else when its last file was written.
    pub(super) at: DateTime<Utc>,
    /// It replaced the earlier ones of its key.
    pub(super) keep_last: bool,
    /// Its parts, in the order in which they were written.
    pub(super) files: Vec<ObjectMeta>,
}

impl LegacyVersion {
    /// The same for each load of this version, and for no other.
    pub(super) fn idempotency_key(&self) -> String {
        format!("import-legacy-{:032x}", XxHash3_128::oneshot(self.folder.as_bytes()))
    }

    /// The size of its files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// What a path says of a part.
#[derive(Debug, PartialEq, Eq)]
struct PartPath<'a> {
    name: String,
    external_key: Option<String>,
    folder: &'a str,
    at: Option<DateTime<Utc>>,
}

/// Finds the versions below a place.
///
/// # Errors
/// When it cannot be listed or a `last_key.txt` cannot be read.
pub(super) async fn plan(place: &Place) -> Result<Plan> {
    let mut found = Found::default();
    for file in place.list().await? {
        if file.location.filename() == Some(LAST_KEY_FILE) {
            found.add_last_key(file.location.as_ref(), &place.read_small(&file).await?);
        } else {
            found.add_file(file);
        }
    }
    Ok(found.into_plan())
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    datasets: BTreeMap<String, BTreeMap<String, LegacyVersion>>,
    /// Folders of versions that `last_key.txt` files name.
    last: HashSet<String>,
    strangers: Vec<String>,
}

impl Found {
    fn add_last_key(&mut self, path: &str, content: &str) {
        let folder = path.strip_suffix(LAST_KEY_FILE).unwrap_or_default();
        self.last.insert(format!("{folder}{}", content.trim().trim_matches('/')));
    }

    fn add_file(&mut self, file: ObjectMeta) {
        let path = file.location.to_string();
        let Some(part) = read_path(&path) else {
            self.strangers.push(path);
            return;
        };
        let version = self.datasets.entry(part.name).or_default().entry(part.folder.into()).or_default();
        version.folder = part.folder.into();
        version.external_key = part.external_key;
        version.at = part.at.unwrap_or_else(|| version.at.max(file.last_modified));
        version.files.push(file);
    }

    fn into_plan(self) -> Plan {
        let Self { datasets, last, mut strangers } = self;
        let dataset = |(name, versions): (String, BTreeMap<String, LegacyVersion>)| {
            let mut versions: Vec<LegacyVersion> = versions.into_values().collect();
            for version in &mut versions {
                version.keep_last = last.contains(&version.folder);
                let time_and_path = |file: &ObjectMeta| (file.last_modified, file.location.clone());
                version.files.sort_by_key(time_and_path);
            }
            versions.sort_by(|left, right| (left.at, &left.folder).cmp(&(right.at, &right.folder)));
            LegacyDataset { name, versions }
        };
        strangers.sort();
        Plan { datasets: datasets.into_iter().map(dataset).collect(), strangers }
    }
}

fn read_path(path: &str) -> Option<PartPath<'_>> {
    let (folder, file) = path.rsplit_once('/')?;
    file.strip_suffix(PART_EXTENSION)?;
    // A dataset may itself have a segment of this name.
    let segments: Vec<&str> = folder.split('/').collect();
    let keys_at = segments.iter().rposition(|segment| *segment == KEYS_FOLDER).filter(|at| *at > 0)?;
    let (name, below) = segments.split_at(keys_at);
    let name = name.join("/");
    match below.get(1..)? {
        [DEFAULT_FOLDER, date, time] => {
            let at = Some(read_time(date, time)?);
            Some(PartPath { name, external_key: None, folder, at })
        }
        [key @ .., version] if !key.is_empty() && is_uuid(version) => {
            Some(PartPath { name, external_key: Some(key.join("/")), folder, at: None })
        }
        _ => None,
    }
}

fn read_time(date: &str, time: &str) -> Option<DateTime<Utc>> {
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let time = NaiveTime::parse_from_str(time, "%H:%M:%S").ok()?;
    Some(NaiveDateTime::new(date, time).and_utc())
}

fn is_uuid(text: &str) -> bool {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let groups: Vec<&str> = text.split('-').collect();
    groups.len() == GROUPS.len()
        && groups
            .iter()
            .zip(GROUPS)
            .all(|(group, length)| group.len() == length && group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;

    use super::*;

    const UUID: &str = "123e4567-e89b-42d3-a456-426614174000";

    fn file(path: &str, seconds: i64) -> ObjectMeta {
        let last_modified = DateTime::from_timestamp(seconds, 0).unwrap();
        ObjectMeta { location: Path::from(path), last_modified, size: 10, e_tag: None, version: None }
    }

    #[test]
    fn paths_of_both_kinds_are_read() {
        let path = format!("a/b/external_key/default/2024-01-02/03:04:05/{UUID}.csv.gz");
        let part = read_path(&path).unwrap();
        assert_eq!((part.name.as_str(), part.external_key), ("a/b", None));
        assert_eq!(part.at.unwrap().to_rfc3339(), "2024-01-02T03:04:05+00:00");
        for (key, name) in [("k", "a"), ("x/y z", "a/external_key/b")] {
            let path = format!("{name}/external_key/{key}/{UUID}/{UUID}.csv.gz");
            let part = read_path(&path).unwrap();
            assert_eq!((part.name.as_str(), part.external_key.as_deref(), part.at), (name, Some(key), None));
        }
        for stranger in [
            format!("external_key/default/2024-01-02/03:04:05/{UUID}.csv.gz"),
            format!("a/external_key/default/2024-01-02/{UUID}.csv.gz"),
            format!("a/external_key/default/2024-13-02/03:04:05/{UUID}.csv.gz"),
            format!("a/external_key/k/{UUID}.csv.gz"),
            format!("a/external_key/k/1/{UUID}.csv.gz"),
            format!("a/external_key/k/{UUID}/{UUID}.csv"),
            format!("a/data/day/2024-01-02/{UUID}.csv.gz"),
            "a.csv.gz".into(),
        ] {
            assert_eq!(read_path(&stranger), None, "{stranger}");
        }
    }

    #[test]
    fn versions_stand_in_the_order_of_their_times() {
        let mut found = Found::default();
        let one = "a/external_key/default/2024-01-01/00:00:10";
        let two = "a/external_key/default/2024-01-01/00:00:20";
        let keyed = format!("a/external_key/k/{UUID}");
        for (path, seconds) in [
            (format!("{two}/2.csv.gz"), 5),
            (format!("{two}/1.csv.gz"), 9),
            (format!("{one}/1.csv.gz"), 99),
            (format!("{keyed}/1.csv.gz"), 1_704_067_215),
            ("README.md".into(), 1),
        ] {
            found.add_file(file(&path, seconds));
        }
        found.add_last_key("a/external_key/default/2024-01-01/last_key.txt", "00:00:20\n");
        let plan = found.into_plan();
        assert_eq!(plan.strangers, ["README.md"]);
        let [dataset] = &plan.datasets[..] else { panic!() };
        let versions: Vec<_> = dataset.versions.iter().map(|v| (v.folder.as_str(), v.keep_last)).collect();
        assert_eq!(versions, [(one, false), (keyed.as_str(), false), (two, true)]);
        let files: Vec<_> = dataset.versions[2].files.iter().filter_map(|file| file.location.filename()).collect();
        assert_eq!(files, ["2.csv.gz", "1.csv.gz"]);
        let keys: HashSet<_> = dataset.versions.iter().map(LegacyVersion::idempotency_key).collect();
        assert!(keys.len() == 3 && keys.iter().all(|key| crate::names::check_key("key", key).is_ok()));
    }
}
