//! Bytes: where chunks and logs live.
//!
//! [`Storage`] opens the place that `--storage` names as an [`ObjectStore`] whose `put` is durable when it returns.
//! It knows nothing of datasets; `table/` decides what lies where below a dataset's root.
//!
//! | file | what is there |
//! |---|---|
//! | `durable`, `batch` | a local folder; files there that become durable together |
//! | `buckets`, `bucket` | S3: all buckets as one store; one bucket |
//! | `requests`, `credentials` | how S3 is asked, and as whom |
//! | `answer` | what its refusals mean |
//! | `uploads` | buckets that are made, uploads that broke off |
//! | `probe` | whether a place can be used |
//! | `listing` | the tables that lie there |

mod answer;
mod batch;
mod bucket;
mod buckets;
mod credentials;
mod durable;
mod listing;
mod parts;
mod probe;
mod requests;
mod uploads;

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use aws_config::SdkConfig;
use chrono::{DateTime, Utc};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::runtime::Handle;
use url::Url;

pub use self::batch::WriteBatch;
use self::bucket::S3Client;
use self::buckets::Buckets;
use self::credentials::ChainCredentials;
use self::durable::DurableLocalStore;
use crate::aws;
use crate::config::{StoragePlace, TENANT_PLACE};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names::TenantId;

/// The URL under which a query plan finds the store; it never leaves the process.
pub const PLAN_URL: &str = "pandas-db://storage/";
/// The folder of the tenants' folders, where the place does not say where tenants stand.
const TENANTS: &str = "tenants";
/// The most bytes of a bucket's name.
const MAX_BUCKET_BYTES: usize = 63;

/// An opened storage place.
#[derive(Debug, Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    kind: StorageKind,
    /// What comes before a table's id, with [`TENANT_PLACE`] where the tenant stands.
    tables: String,
}

#[derive(Debug, Clone)]
enum StorageKind {
    /// Paths are below this folder.
    Folder(PathBuf),
    /// Paths begin with the bucket.
    S3(Buckets),
}

impl Storage {
    /// Opens a place.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when a folder cannot be made or read, or TLS not be set
    /// up; [`Kind::Invalid`](crate::error::Kind::Invalid) when what stands behind the folder or bucket cannot be part
    /// of a path.
    pub async fn open(place: &StoragePlace, create_buckets: bool, metrics: &Metrics) -> Result<Self> {
        match place {
            StoragePlace::Folder { folder, below } => Self::open_local(folder, below),
            StoragePlace::S3 { bucket, prefix } => {
                let client = s3_client(&aws::load().await, create_buckets, metrics)?;
                let buckets = Buckets::new(client);
                let tables = tables(&format!("{bucket}/{prefix}"))?;
                Ok(Self { store: Arc::new(buckets.clone()), kind: StorageKind::S3(buckets), tables })
            }
        }
    }

    /// Opens a local folder, making it when it is not there; tables are in its folder `below`.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_local(folder: &FsPath, below: &str) -> Result<Self> {
        let open = || {
            std::fs::create_dir_all(folder)?;
            folder.canonicalize()
        };
        let folder = open().map_err(|error| {
            Error::unavailable(format!("the storage folder {} cannot be opened: {error}", folder.display()))
        })?;
        let store = DurableLocalStore::new(&folder).map_err(|error| {
            Error::unavailable(format!("the storage folder {} cannot be opened", folder.display())).because(error)
        })?;
        Ok(Self { store: Arc::new(store), kind: StorageKind::Folder(folder), tables: tables(below)? })
    }

    /// The store, rooted at the storage place.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The root of the dataset with the opaque id `table_id`.
    pub fn table_root(&self, tenant: &TenantId, table_id: &str) -> Path {
        self.tenant_root(tenant).join(table_id)
    }

    /// Where the tables of a tenant are.
    fn tenant_root(&self, tenant: &TenantId) -> Path {
        let (first, rest) = self.tables.split_once('/').unwrap_or((&self.tables, ""));
        let first = match &self.kind {
            StorageKind::Folder(_) => first.replace(TENANT_PLACE, &tenant.folder()),
            StorageKind::S3(_) => bucket_of(first, tenant),
        };
        let rest = rest.replace(TENANT_PLACE, &tenant.folder());
        // What stands between was checked when the place was opened.
        let path = format!("{first}/{rest}");
        Path::parse(path.trim_end_matches('/')).unwrap_or_else(|_| Path::from(path))
    }

    /// The same root as other programs open it.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the path cannot be a URL.
    pub fn location(&self, root: &Path) -> Result<Url> {
        let unusable = || Error::internal("the storage place cannot be written as a URL");
        match &self.kind {
            StorageKind::Folder(folder) => {
                let folder = root.parts().fold(folder.clone(), |folder, part| folder.join(part.as_ref()));
                Url::from_directory_path(folder).map_err(|()| unusable())
            }
            StorageKind::S3(_) => Url::parse(&format!("s3://{root}/")).map_err(|error| unusable().because(error)),
        }
    }

    /// Ends uploads below `root` that were begun before `before` and broke off; gives their number.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the storage does not answer.
    pub async fn end_uploads(&self, root: &Path, before: DateTime<Utc>) -> Result<u64> {
        let StorageKind::S3(buckets) = &self.kind else { return Ok(0) };
        let doing = "ending uploads that broke off";
        let (bucket, prefix) = buckets.resolve(root).map_err(|error| store_error(doing, error))?;
        bucket.end_uploads(&prefix, before).await.map_err(|error| store_error(doing, error))
    }
}

fn s3_client(settings: &SdkConfig, create_buckets: bool, metrics: &Metrics) -> Result<S3Client> {
    let endpoint = aws::s3_endpoint(settings);
    // The client takes for granted that it can be parsed.
    if let Some(url) = endpoint.as_deref().filter(|url| !is_http(url)) {
        return Err(Error::invalid(format!("AWS_ENDPOINT_URL_S3 '{url}' is no URL such as https://s3.example.org")));
    }
    let connector = requests::Connector { network: Handle::current(), metrics: metrics.clone() };
    let http = bucket::pool(&connector, endpoint.as_deref())
        .map_err(|error| Error::unavailable("connections to S3 cannot be set up").because(error))?;
    let chain = settings.credentials_provider();
    let chain = chain.ok_or_else(|| Error::unavailable("there are no settings of AWS credentials"))?;
    let credentials = Arc::new(ChainCredentials::new(chain));
    Ok(S3Client { region: aws::region(settings), endpoint, credentials, http, create_buckets })
}

fn is_http(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Where tables are below a place; a tenant has a folder where the place does not name it.
fn tables(place: &str) -> Result<String> {
    let place = place.trim_matches('/');
    let tables = match place {
        "" => format!("{TENANTS}/{TENANT_PLACE}"),
        place if place.contains(TENANT_PLACE) => place.to_string(),
        place => format!("{place}/{TENANTS}/{TENANT_PLACE}"),
    };
    Path::parse(tables.replace(TENANT_PLACE, "t"))
        .map_err(|error| Error::invalid(format!("--storage: '{place}' cannot be part of a path: {error}")))?;
    Ok(tables)
}

/// The bucket of a tenant.
fn bucket_of(template: &str, tenant: &TenantId) -> String {
    let room = MAX_BUCKET_BYTES.saturating_sub(template.len().saturating_sub(TENANT_PLACE.len()));
    template.replace(TENANT_PLACE, &tenant.bucket_label(room))
}

/// What a failure of the store means for a caller. The store's own words hold paths of the server and go to the log.
pub fn store_error(doing: &str, error: object_store::Error) -> Error {
    let full = |error: &(dyn std::error::Error + 'static)| {
        let mut source = Some(error);
        while let Some(error) = source {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
            }
            source = error.source();
        }
        false
    };
    let kind = match &error {
        object_store::Error::NotFound { .. } => Error::corrupt(format!("{doing}: a stored file is missing")),
        other if full(other) => Error::exhausted(format!("{doing}: the storage is full; free space and retry")),
        _ => Error::unavailable(format!("{doing}: the storage did not answer as it should; retry later")),
    };
    kind.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_at(folder: &str, below: &str, tenant: &str) -> String {
        let folder = tempfile::tempdir().unwrap().path().join(folder);
        let storage = Storage::open_local(&folder, below).unwrap();
        storage.table_root(&TenantId::parse(tenant).unwrap(), "01ARZ").to_string()
    }

    #[test]
    fn tenants_stand_where_the_place_says() {
        assert_eq!(root_at("x", "", "a/b"), "tenants/a!2Fb/01ARZ");
        assert_eq!(root_at("x", "df-{tenant}/y", "a/b"), "df-a!2Fb/y/01ARZ");
        assert!(Storage::open_local(tempfile::tempdir().unwrap().path(), "../{tenant}").is_err());
    }

    #[test]
    fn a_bucket_takes_a_tenant_whose_name_can_be_part_of_it() {
        let bucket = |tenant: &str| bucket_of("df-{tenant}", &TenantId::parse(tenant).unwrap());
        assert_eq!(bucket("acme-1"), "df-acme-1");
        let hashed = bucket("Acme");
        assert!(hashed.starts_with("df-x-") && hashed.len() <= MAX_BUCKET_BYTES, "{hashed}");
        let label = hashed.strip_prefix("df-").unwrap().to_string();
        assert_ne!(bucket(&label), hashed, "a name that looks like a hash is hashed too");
    }

    #[test]
    fn a_full_disk_is_told_from_an_absent_one() {
        let store = |kind| object_store::Error::Generic {
            store: "x",
            source: Box::new(std::io::Error::new(kind, "secret path")),
        };
        let full = store_error("writing a chunk", store(std::io::ErrorKind::StorageFull));
        assert_eq!(full.kind(), crate::error::Kind::Exhausted);
        let away = store_error("writing a chunk", store(std::io::ErrorKind::TimedOut));
        assert_eq!(away.kind(), crate::error::Kind::Unavailable);
        assert!(!away.to_string().contains("secret"));
    }
}
