//! The version store: the index of datasets and versions beside the Delta logs.
//!
//! The Delta log is the truth. What stands here is derived from it but for one fact: which opaque table id a dataset's
//! name means ([`VersionStore::create`] decides that, once). A lost or stale head is repaired when its dataset is
//! next opened.
//!
//! | module | what is there |
//! |---|---|
//! | `embedded`, `liveness` | the store in a file, for one machine, and which of its processes live |
//! | `dynamodb` | the store in a table of DynamoDB, for many nodes |
//! | `conformance` | the tests that both pass |

#[cfg(test)]
mod conformance;
mod dynamodb;
mod embedded;
mod liveness;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

pub use self::dynamodb::{DynamoVersionStore, Setup, set_up};
pub use self::embedded::EmbeddedVersionStore;
use crate::error::Result;
use crate::names::{DatasetName, TenantId};

/// Datasets or tables that one call gives at most.
pub const MAX_PAGE: usize = 1_000;
/// How long a store keeps what a node said, at least.
pub const HEARTBEAT_LIFE: TimeDelta = TimeDelta::days(1);

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

/// A part of all datasets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetPage {
    /// At most [`MAX_PAGE`] of them.
    pub records: Vec<DatasetRecord>,
    /// Where the next page begins, in words that only the store that gave it understands; `None` after the last.
    pub next: Option<String>,
}

/// What a node says of itself, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The node: an id that its process has made for itself.
    pub node: String,
    /// Where others reach it.
    pub address: String,
    /// When this was said, by the node's own clock.
    pub at: DateTime<Utc>,
    /// No read that runs on the node began earlier.
    pub oldest_read: DateTime<Utc>,
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
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when the store is away,
    /// [`Kind::Exhausted`](crate::error::Kind::Exhausted) when it takes no more requests at the moment.
    async fn find(&self, tenant: &TenantId, name: &DatasetName) -> Result<Option<DatasetRecord>>;

    /// Gives a name to a table. Of several callers one wins, and every caller gets the winner's record.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn create(&self, tenant: &TenantId, name: &DatasetName, table_id: &str) -> Result<DatasetRecord>;

    /// Records the totals that `record.head` says of a commit, unless a newer commit's are there already or the name
    /// means another table by now.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn advance(&self, record: &DatasetRecord) -> Result<()>;

    /// At most [`MAX_PAGE`] datasets whose names begin with `prefix` and come after `after`, in the order of the
    /// bytes of their names.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn list(&self, tenant: &TenantId, prefix: &str, after: Option<&DatasetName>) -> Result<Vec<DatasetRecord>>;

    /// The datasets of all tenants, page by page, in any order; `from` is the [`DatasetPage::next`] of the page before.
    /// A dataset that is there all the while comes once.
    ///
    /// # Errors
    /// As [`VersionStore::find`], and [`Kind::Invalid`](crate::error::Kind::Invalid) when no page of this store gave
    /// `from`.
    async fn list_all(&self, from: Option<&str>) -> Result<DatasetPage>;

    /// Takes the name from the table that `record` names, if it has it, for good; the table itself is remembered until
    /// [`VersionStore::purge`].
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn forget(&self, record: &DatasetRecord, at: DateTime<Utc>) -> Result<()>;

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

    /// At most [`MAX_PAGE`] tables that lost their names before `before` and come after the table id `after`, by id.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn forgotten(&self, before: DateTime<Utc>, after: Option<&str>) -> Result<Vec<ForgottenTable>>;

    /// Forgets a table altogether, once its files are deleted.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn purge(&self, table_id: &str) -> Result<()>;

    /// Takes the lease `name` for `holder` until `until`, or makes it last until then; `false` when it is another's and
    /// has not ended by `now`. Clocks of nodes differ, so a lease only saves double work: what is done under it must
    /// be right without it.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn try_lease(&self, name: &str, holder: &str, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<bool>;

    /// Gives a lease back, if `holder` has it.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn release(&self, name: &str, holder: &str) -> Result<()>;

    /// Says that a node lives, in place of what it said before. What was said longer than [`HEARTBEAT_LIFE`] ago may
    /// be forgotten.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn beat(&self, heartbeat: &Heartbeat) -> Result<()>;

    /// The newest heartbeat of each node, by node; also of nodes that died of late, unless the store knows they did.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn heartbeats(&self) -> Result<Vec<Heartbeat>>;

    /// Forgets a node that ends.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn leave(&self, node: &str) -> Result<()>;

    /// Whether the store answers.
    ///
    /// # Errors
    /// As [`VersionStore::find`].
    async fn ping(&self) -> Result<()>;
}
