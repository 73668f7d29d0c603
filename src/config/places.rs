//! Where the chunks and the version records are.

use std::path::{Component, Path, PathBuf};

use super::bad;
use crate::error::Result;

/// Stands for the caller's tenant in a storage place.
pub const TENANT_PLACE: &str = "{tenant}";
const S3_SCHEME: &str = "s3://";
const DYNAMODB_SCHEME: &str = "dynamodb://";
/// Name of the file of version records inside a local storage.
const VERSIONS_FILE: &str = "versions.db";
/// Spilled rows go there in a local storage.
const SPILL_FOLDER: &str = "spill";
/// And there, in the system's folder for temporary files, when the storage is none.
const TEMPORARY_SPILL_FOLDER: &str = "pandas-db-spill";
/// What S3 allows of a bucket's name; a tenant's part of it needs room for a hash.
const MAX_BUCKET_BYTES: usize = 63;
const MIN_BUCKET_BYTES: usize = 3;
const MIN_TENANT_BYTES: usize = 34;

/// Where chunks and logs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoragePlace {
    /// A local folder.
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The folder in it where tables are, with [`TENANT_PLACE`] in it; or nothing.
        below: String,
    },
    /// S3.
    S3 {
        /// The bucket, perhaps with [`TENANT_PLACE`] in its name.
        bucket: String,
        /// The prefix of all keys, perhaps with [`TENANT_PLACE`] in it; or nothing.
        prefix: String,
    },
}

impl StoragePlace {
    /// Reads `--storage`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the flag and what is wrong with it.
    pub fn parse(value: &str) -> Result<Self> {
        if let Some(place) = value.strip_prefix(S3_SCHEME) {
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            check_bucket(value, bucket)?;
            let prefix = prefix.trim_matches('/');
            if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(bad("storage", value, "the prefix has an empty part, or one of dots alone"));
            }
            return Ok(Self::S3 { bucket: bucket.into(), prefix: prefix.into() });
        }
        if let Some((scheme, _)) = value.split_once("://") {
            return Err(bad("storage", value, format_args!("{scheme}:// is not known; use a folder or s3://bucket")));
        }
        if value.is_empty() {
            return Err(bad("storage", "''", "must name a folder or s3://bucket"));
        }
        folder(value)
    }

    /// Whether it is one local folder for all tenants.
    fn is_one_folder(&self) -> bool {
        matches!(self, Self::Folder { below, .. } if below.is_empty())
    }

    /// Where spilled rows go unless a setting says otherwise.
    pub(super) fn spill_folder(&self) -> PathBuf {
        match self {
            Self::Folder { folder, below } if below.is_empty() => folder.join(SPILL_FOLDER),
            _ => std::env::temp_dir().join(TEMPORARY_SPILL_FOLDER),
        }
    }
}

fn folder(value: &str) -> Result<StoragePlace> {
    let (mut folder, mut below) = (PathBuf::new(), Vec::new());
    for component in Path::new(value).components() {
        match component.as_os_str().to_str() {
            Some(part) if !below.is_empty() || part.contains(TENANT_PLACE) => {
                if !matches!(component, Component::Normal(_)) {
                    return Err(bad("storage", value, format_args!("'{part}' cannot stand behind {TENANT_PLACE}")));
                }
                below.push(part.to_string());
            }
            _ => folder.push(component),
        }
    }
    if folder.as_os_str().is_empty() {
        folder.push(".");
    }
    Ok(StoragePlace::Folder { folder, below: below.join("/") })
}

fn check_bucket(value: &str, bucket: &str) -> Result<()> {
    let refuse = |why: &str| Err(bad("storage", value, why));
    let parts: Vec<&str> = bucket.split(TENANT_PLACE).collect();
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if bucket.is_empty() {
        return refuse("no bucket is named; write s3://bucket/prefix");
    }
    if !parts.iter().all(|part| part.chars().all(is_plain)) || bucket.starts_with(['-', '.']) {
        return refuse("a bucket's name is made of lower-case letters, digits, '-' and '.', and begins with neither");
    }
    match parts.len() {
        1 if !(MIN_BUCKET_BYTES..=MAX_BUCKET_BYTES).contains(&bytes) => refuse("a bucket's name is 3 to 63 characters"),
        2 if bytes + MIN_TENANT_BYTES > MAX_BUCKET_BYTES => refuse("the bucket leaves too little room for a tenant"),
        1 | 2 => Ok(()),
        _ => refuse("the tenant stands in the bucket's name more than once"),
    }
}

/// Where version records are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionsPlace {
    /// A file.
    Embedded(PathBuf),
    /// A table of DynamoDB.
    DynamoDb {
        /// Its name.
        table: String,
    },
}

impl VersionsPlace {
    /// Reads `--versions`, which must fit the storage.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the flag and what is wrong with it.
    pub(super) fn parse(value: &str, storage: &StoragePlace) -> Result<Self> {
        if let Some(table) = value.strip_prefix(DYNAMODB_SCHEME) {
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !(3..=255).contains(&table.len()) || !table.chars().all(is_name) {
                return Err(bad("versions", value, "a table's name is 3 to 255 letters, digits, '-', '_' and '.'"));
            }
            return Ok(Self::DynamoDb { table: table.into() });
        }
        match (value.split_once(':'), storage) {
            (None, StoragePlace::Folder { folder, .. }) if value == "embedded" && storage.is_one_folder() => {
                Ok(Self::Embedded(folder.join(VERSIONS_FILE)))
            }
            (None, _) if value == "embedded" => Err(bad(
                "versions",
                value,
                "this --storage is no folder for all tenants; use dynamodb://table, or embedded:PATH for one machine",
            )),
            (Some(("embedded", path)), _) if !path.is_empty() => Ok(Self::Embedded(PathBuf::from(path))),
            _ => Err(bad("versions", value, "must be embedded, embedded:PATH or dynamodb://table")),
        }
    }

    /// What an operator should know about this choice.
    pub fn warning(&self, storage: &StoragePlace) -> Option<&'static str> {
        let is_file = matches!(self, Self::Embedded(_));
        (is_file && matches!(storage, StoragePlace::S3 { .. })).then_some(
            "version records are in a file of this machine; servers on other machines must not use the same storage",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(value: &str) -> StoragePlace {
        StoragePlace::parse(value).unwrap()
    }

    #[test]
    fn storage_places() {
        let folder = |folder: &str, below: &str| StoragePlace::Folder { folder: folder.into(), below: below.into() };
        let s3 = |bucket: &str, prefix: &str| StoragePlace::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!(place("./data"), folder("./data", ""));
        assert_eq!(place("/srv/df-{tenant}/x"), folder("/srv", "df-{tenant}/x"));
        assert_eq!(place("{tenant}"), folder(".", "{tenant}"));
        assert_eq!(place("s3://bucket"), s3("bucket", ""));
        assert_eq!(place("s3://bucket/a/b/"), s3("bucket", "a/b"));
        assert_eq!(place("s3://df-{tenant}"), s3("df-{tenant}", ""));
        assert_eq!(place("s3://bucket/x/{tenant}"), s3("bucket", "x/{tenant}"));
        let long = format!("s3://{}-{{tenant}}", "x".repeat(40));
        for bad in [
            "",
            "s3://",
            "s3:///x",
            "s3://B",
            "s3://b_c",
            "s3://ab",
            "gs://x",
            "s3://abc/a//b",
            "s3://abc/..",
            "/a/{tenant}/../b",
            "s3://a{tenant}{tenant}",
            &long,
        ] {
            assert!(StoragePlace::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn version_places_fit_the_storage() {
        let of = |value: &str, storage: &str| VersionsPlace::parse(value, &place(storage));
        assert_eq!(of("embedded", "d").unwrap(), VersionsPlace::Embedded("d/versions.db".into()));
        assert_eq!(of("embedded:v", "s3://bucket").unwrap(), VersionsPlace::Embedded("v".into()));
        assert_eq!(of("dynamodb://t-1", "d").unwrap(), VersionsPlace::DynamoDb { table: "t-1".into() });
        for (value, storage) in [
            ("embedded", "s3://bucket"),
            ("embedded", "d/{tenant}"),
            ("dynamodb://", "d"),
            ("embedded:", "d"),
            ("x", "d"),
        ] {
            let error = of(value, storage).unwrap_err();
            assert!(error.message().starts_with("--versions"), "{error}");
        }
        let file = of("embedded:v", "s3://bucket").unwrap();
        assert!(file.warning(&place("s3://bucket")).is_some() && file.warning(&place("d")).is_none());
    }
}
