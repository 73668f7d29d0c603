//! The version store: the index of datasets and versions beside the Delta logs.
//!
//! The Delta log is the truth. What stands here is derived from it but for one fact: which opaque table id a dataset's
//! name means ([`VersionStore::create`] decides that, once). A lost or stale head is repaired when its dataset is
//! next opened.

mod embedded;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

pub use self::embedded::EmbeddedVersionStore;
use crate::error::Result;
use crate::names::{DatasetName, TenantId};

/// Datasets that one call of [`VersionStore::list`] gives at most.
pub const MAX_PAGE: usize = 1_000;

/// What a dataset's name means, and how the dataset stood when its head was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetRecord {
    /// Whose dataset.
    pub tenant: TenantId,
    /// Its name.
    pub name: DatasetName,
    /// The opaque id that names its root; a dataset made anew under an old name has another.
    pub table_id: String,
    /// The newest commit known here; behind the log after a crash between the two.
    pub head: Head,
}

/// A table without a name, whose files are still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenTable {
    /// Whose dataset it was.
    pub tenant: TenantId,
    /// The opaque id that names its root.
    pub table_id: String,
}

/// The totals of a dataset as of one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The commit, by its number in the Delta log; `None` before the first.
    pub log_version: Option<i64>,
    /// The newest version's number.
    pub version: i64,
    /// Live versions.
    pub live_versions: i64,
    /// Rows of the live versions.
    pub rows: i64,
    /// Arrow bytes of the live versions, as they were sent.
    pub bytes: i64,
    /// When the newest version was committed.
    pub updated_at: Option<DateTime<Utc>>,
}

/// Keeps the records of datasets. All operations are atomic, and durable when they return.
#[async_trait]
pub trait VersionStore: Send + Sync + std::fmt::Debug {
    /// The dataset of this name, if there is one.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the store is away.
    async fn find(&self, tenant: &TenantId, name: &DatasetName) -> Result<Option<DatasetRecord>>;

    /// Gives a name to a table. Of several callers one wins, and every caller gets the winner's record.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn create(&self, tenant: &TenantId, name: &DatasetName, table_id: &str) -> Result<DatasetRecord>;

    /// Records a commit's totals, unless a newer commit's are there already.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn advance(&self, table_id: &str, head: Head) -> Result<()>;

    /// At most [`MAX_PAGE`] datasets whose names begin with `prefix` and come after `after`, by name.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn list(&self, tenant: &TenantId, prefix: &str, after: Option<&DatasetName>) -> Result<Vec<DatasetRecord>>;

    /// At most [`MAX_PAGE`] datasets of all tenants whose table ids come after `after`, by table id.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn list_all(&self, after: Option<&str>) -> Result<Vec<DatasetRecord>>;

    /// Takes the name from a table, for good; the table itself is remembered until [`VersionStore::purge`].
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn forget(&self, table_id: &str, at: DateTime<Utc>) -> Result<()>;

    /// Remembers a table that has no name yet like one that loses it at `until`.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn stage(&self, tenant: &TenantId, table_id: &str, until: DateTime<Utc>) -> Result<()>;

    /// Gives a staged table a name, and takes the name from the table that has it, which is remembered as by
    /// [`VersionStore::forget`]; all at once. Gives the id of that table.
    ///
    /// # Errors
    /// As [`VersionStore::find`], and [`Kind::Conflict`](crate::error::Kind::Conflict) when the table is not staged.
    async fn replace(
        &self,
        tenant: &TenantId,
        name: &DatasetName,
        table_id: &str,
        at: DateTime<Utc>,
    ) -> Result<Option<String>>;

    /// At most [`MAX_PAGE`] tables that lost their names before `before`.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn forgotten(&self, before: DateTime<Utc>) -> Result<Vec<ForgottenTable>>;

    /// Forgets a table altogether, once its files are deleted.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn purge(&self, table_id: &str) -> Result<()>;

    /// Whether the store answers.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn ping(&self) -> Result<()>;
}
