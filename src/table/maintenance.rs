//! What happens in the background: merging of small chunks, retention by age, vacuum.
//!
//! One task of a process does it, one dataset at a time, so that it never takes more than one thread from callers. It
//! is told when a dataset has had enough commits to be worth a look, and goes through all datasets at intervals.
//! Of several nodes on one storage one goes through all datasets, and one at a time merges the chunks of a dataset:
//! they lease the work. A lease only saves double work. Each commit is checked against what the others committed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::catalog::Catalog;
use super::compact::Eagerness;
use super::dataset::Dataset;
use super::split::SplitSettings;
use crate::error::{Error, Result};

/// How long a node has to merge the chunks of a dataset before another may do the same.
const MERGE_LEASE: Duration = Duration::from_secs(600);

/// How the background works.
#[derive(Debug, Clone)]
pub struct MaintenanceSettings {
    /// How chunks are cut.
    pub split: SplitSettings,
    /// How long ended data stays readable.
    pub vacuum_after: Duration,
    /// The time between two passes over all datasets.
    pub interval: Duration,
}

/// The background task of a server.
#[derive(Debug)]
pub struct Maintenance {
    datasets: Arc<Catalog>,
    settings: MaintenanceSettings,
}

impl Maintenance {
    /// What the task works on.
    pub fn new(datasets: Arc<Catalog>, settings: MaintenanceSettings) -> Self {
        Self { datasets, settings }
    }

    /// Works until it is dropped, which it may be at any time: what was not committed then leaves nothing but files
    /// that nothing names.
    pub async fn run(self) {
        let mut passes = tokio::time::interval(self.settings.interval);
        passes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick comes at once, when a start has better to do.
        passes.tick().await;
        loop {
            tokio::select! {
                _ = passes.tick() => self.pass().await,
                () = self.datasets.background().notified() => self.merge_open().await,
            }
        }
    }

    async fn merge_open(&self) {
        for dataset in self.datasets.open_datasets() {
            if dataset.wants_merge() {
                self.merge(&dataset).await.unwrap_or_else(|error| note(&dataset, &error));
            }
        }
    }

    async fn merge(&self, dataset: &Arc<Dataset>) -> Result<()> {
        dataset.unmerged.store(0, Ordering::Relaxed);
        dataset.refresh().await?;
        if !dataset.has_merges(&self.settings.split, Eagerness::Background) {
            return Ok(());
        }
        let (presence, lease) = (self.datasets.presence(), format!("merge {}", dataset.table_id()));
        if !presence.lease(&lease, MERGE_LEASE).await? {
            return Ok(());
        }
        let merged = Arc::clone(dataset).compact(&self.settings.split, Eagerness::Background).await;
        presence.release(&lease).await?;
        merged.map(drop)
    }

    /// Whether this node goes through all datasets; asked again while it does. A quarter more than the time between two
    /// passes, so that it stays the same node as long as it lives.
    async fn leads(&self) -> bool {
        let lasting = self.settings.interval.saturating_add(self.settings.interval / 4);
        self.datasets.presence().leads_pass(lasting).await.unwrap_or_else(|error| {
            tracing::warn!(
                error = %error.in_full(),
                "whether another node goes through the datasets could not be found out"
            );
            false
        })
    }

    async fn pass(&self) {
        let mut leading = Instant::now();
        if !self.leads().await {
            return;
        }
        let mut from: Option<String> = None;
        loop {
            let page = match self.datasets.versions().list_all(from.as_deref()).await {
                Ok(page) => page,
                Err(error) => {
                    return tracing::warn!(
                        error = %error.in_full(),
                        "the background could not list the datasets"
                    );
                }
            };
            for record in &page.records {
                if leading.elapsed() > self.settings.interval / 2 {
                    leading = Instant::now();
                    if !self.leads().await {
                        return;
                    }
                }
                match self.datasets.open_quietly(record) {
                    Ok(dataset) => self.tend(&dataset).await.unwrap_or_else(|error| note(&dataset, &error)),
                    Err(error) => tracing::warn!(error = %error.in_full(), "the background could not open a dataset"),
                }
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        if let Err(error) = self.datasets.purge(self.settings.vacuum_after).await {
            tracing::warn!(error = %error.in_full(), "the files of deleted datasets could not be deleted");
        }
    }

    async fn tend(&self, dataset: &Arc<Dataset>) -> Result<()> {
        if !dataset.refresh().await?.exists() {
            return Ok(());
        }
        Arc::clone(dataset).expire().await?;
        self.merge(dataset).await?;
        Arc::clone(dataset).vacuum(self.settings.vacuum_after).await.map(drop)
    }
}

fn note(dataset: &Dataset, error: &Error) {
    tracing::warn!(
        error = %error.in_full(), dataset = %dataset.name(),
        "background work on a dataset failed; it is tried again later"
    );
}
