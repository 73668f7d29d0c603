//! What is done to a dataset besides loading and reading: ending versions, retention, merging, vacuuming.

use std::sync::Arc;

use super::commit::{Change, Done};
use super::dataset::Dataset;
use super::record::Retention;
use crate::error::Result;

impl Dataset {
    /// Ends the version of this number: it no longer counts, and can be read by its number until it is vacuumed.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) when no live version has the number, and those of committing.
    pub async fn delete_version(self: Arc<Self>, number: i64) -> Result<()> {
        self.commit(Change::DeleteVersion(number)).await.map(drop)
    }

    /// Sets which versions stay live, and ends those that do not. Gives the numbers of the ended ones.
    ///
    /// # Errors
    /// Those of committing.
    pub async fn set_retention(self: Arc<Self>, retention: Retention) -> Result<Vec<i64>> {
        let mut expired = self.commit(Change::SetRetention(retention)).await?.expired;
        expired.sort_unstable();
        Ok(expired)
    }

    /// Ends versions that have become too old for the retention. Gives their numbers.
    ///
    /// # Errors
    /// Those of committing.
    pub async fn expire(self: Arc<Self>) -> Result<Vec<i64>> {
        let snapshot = self.snapshot();
        if snapshot.retention.keep_seconds.is_none() || !snapshot.exists() {
            return Ok(Vec::new());
        }
        self.commit(Change::Expire).await.map(|done| done.expired)
    }

    /// Ends versions that the retention no longer keeps.
    ///
    /// # Errors
    /// Those of committing.
    pub(super) async fn expire_now(self: Arc<Self>) -> Result<()> {
        self.commit(Change::Expire).await.map(drop)
    }

    /// Ends the dataset. Its files stay until they are vacuumed.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::error::Kind::NotFound) when another call was first, and those of committing.
    pub(super) async fn end(self: Arc<Self>) -> Result<Done> {
        self.commit(Change::Drop).await
    }
}
