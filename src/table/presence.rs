//! What the nodes of one storage tell each other: that they live, and since when their oldest read runs.
//!
//! A read of this process is known to the commit (`lease.rs`); of a read of another node only its beginning is known.
//! No read looks at what had ended by its beginning longer ago than it stays readable, so a vacuum that takes the
//! beginning of the oldest read for the present deletes nothing that a read needs.
//!
//! Clocks of nodes differ. Whether a node lives is told by whether its heartbeat changes while our own clock runs, and
//! what nodes say of instants is taken with a margin.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock;
use crate::error::Result;
use crate::versions::{Heartbeat, VersionStore};

/// The time between two heartbeats.
const BEAT: Duration = Duration::from_secs(15);
/// Beats that a node may miss.
const MISSED_BEATS: u32 = 4;
/// How far the clocks of nodes may be apart, and how long a read may take from its beginning to being known.
const MARGIN: TimeDelta = TimeDelta::seconds(30);
/// The lease of the node that goes through all datasets.
const PASS_LEASE: &str = "pass";

/// See the module's comment.
#[derive(Debug)]
pub struct Presence {
    node: String,
    versions: Arc<dyn VersionStore>,
    /// The longest that a read may run.
    read_limit: Duration,
    reads: Mutex<Reads>,
    seen: Mutex<HashMap<String, Seen>>,
}

/// The beginnings of the reads that run, each with a number of its own.
#[derive(Debug, Default)]
struct Reads {
    running: BTreeSet<(DateTime<Utc>, u64)>,
    next: u64,
}

/// What was last heard of a node, and since when nothing else.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: DateTime<Utc>,
    since: Instant,
}

/// A read of this process, until it is dropped.
#[derive(Debug)]
pub(super) struct RunningRead {
    presence: Arc<Presence>,
    read: (DateTime<Utc>, u64),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Presence {
    /// A new node, whose reads run at most `read_limit`.
    pub(super) fn new(versions: Arc<dyn VersionStore>, read_limit: Duration) -> Self {
        let node = clock::new_ulid();
        Self { node, versions, read_limit, reads: Mutex::default(), seen: Mutex::default() }
    }

    /// Notes a read that begins.
    pub(super) fn begin_read(self: &Arc<Self>) -> RunningRead {
        let mut reads = locked(&self.reads);
        let read = (clock::now(), reads.next);
        reads.next += 1;
        reads.running.insert(read);
        RunningRead { presence: Arc::clone(self), read }
    }

    fn oldest_read(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        locked(&self.reads).running.first().map_or(now, |(began, _)| now.min(*began))
    }

    /// Tells the others once that this node lives, and hears what they say.
    ///
    /// # Errors
    /// Those of the version store.
    pub async fn beat(&self, address: &str) -> Result<()> {
        let now = clock::now();
        let (node, address) = (self.node.clone(), address.to_string());
        self.versions.beat(&Heartbeat { node, address, at: now, oldest_read: self.oldest_read(now) }).await?;
        self.others().await.map(drop)
    }

    /// Tells it again and again, until it is dropped.
    pub async fn keep_telling(self: Arc<Self>, address: String) {
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            if let Err(error) = self.beat(&address).await {
                tracing::warn!(error = %error.in_full(), "the other nodes could not be told that this one lives");
            }
        }
    }

    /// Tells the others that this node ends, and gives up what it has leased.
    pub async fn leave(&self) {
        let left = async {
            self.versions.release(PASS_LEASE, &self.node).await?;
            self.versions.leave(&self.node).await
        };
        if let Err(error) = left.await {
            tracing::warn!(error = %error.in_full(), "the other nodes could not be told that this one ends");
        }
    }

    /// What other nodes that may live say.
    async fn others(&self) -> Result<Vec<Heartbeat>> {
        let (heard, now) = (self.versions.heartbeats().await?, Instant::now());
        let silence = self.read_limit + BEAT * MISSED_BEATS;
        let mut seen = locked(&self.seen);
        seen.retain(|node, _| heard.iter().any(|heartbeat| heartbeat.node == *node));
        let lives = |heartbeat: &Heartbeat| {
            let last = seen.entry(heartbeat.node.clone()).or_insert(Seen { at: heartbeat.at, since: now });
            if last.at != heartbeat.at {
                *last = Seen { at: heartbeat.at, since: now };
            }
            now.duration_since(last.since) < silence && !is_long_past(heartbeat.at, clock::now(), silence)
        };
        let others = heard.iter().filter(|heartbeat| heartbeat.node != self.node).cloned();
        Ok(others.filter(lives).collect())
    }

    /// The present, as far as reads of other nodes allow: no read of theirs began before it.
    ///
    /// # Errors
    /// Those of the version store.
    pub(super) async fn present(&self) -> Result<DateTime<Utc>> {
        let now = clock::now();
        let oldest = self.others().await?.into_iter().map(|heartbeat| heartbeat.oldest_read).min();
        let oldest = oldest.map(|oldest| oldest.checked_sub_signed(MARGIN).unwrap_or(DateTime::<Utc>::MIN_UTC));
        Ok(oldest.map_or(now, |oldest| oldest.min(now)))
    }

    /// Whether this node is the one that goes through all datasets, for so long.
    ///
    /// # Errors
    /// Those of the version store.
    pub(super) async fn leads_pass(&self, lasting: Duration) -> Result<bool> {
        self.lease(PASS_LEASE, lasting).await
    }

    /// Takes a lease for this node.
    ///
    /// # Errors
    /// Those of the version store.
    pub(super) async fn lease(&self, name: &str, lasting: Duration) -> Result<bool> {
        let now = clock::now();
        let until = TimeDelta::from_std(lasting).ok().and_then(|lasting| now.checked_add_signed(lasting));
        self.versions.try_lease(name, &self.node, now, until.unwrap_or(DateTime::<Utc>::MAX_UTC)).await
    }

    /// Gives a lease of this node back.
    ///
    /// # Errors
    /// Those of the version store.
    pub(super) async fn release(&self, name: &str) -> Result<()> {
        self.versions.release(name, &self.node).await
    }
}

/// Whether something was said so long ago that no difference of clocks explains it.
fn is_long_past(at: DateTime<Utc>, now: DateTime<Utc>, silence: Duration) -> bool {
    TimeDelta::from_std(silence).is_ok_and(|silence| now - at > silence + MARGIN)
}

impl Drop for RunningRead {
    fn drop(&mut self) {
        locked(&self.presence.reads).running.remove(&self.read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::EmbeddedVersionStore;

    fn nodes(folder: &tempfile::TempDir) -> [Arc<Presence>; 2] {
        [0, 1].map(|_| {
            let store = EmbeddedVersionStore::open(&folder.path().join("v.db")).unwrap();
            Arc::new(Presence::new(Arc::new(store), Duration::from_secs(60)))
        })
    }

    #[tokio::test]
    async fn the_oldest_read_of_another_node_is_its_present() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = nodes(&folder);
        let before = clock::now();
        assert!(one.present().await.unwrap() >= before, "alone");
        let (old, new) = (two.begin_read(), two.begin_read());
        let began = old.read.0;
        two.beat("grpc://two").await.unwrap();
        assert_eq!(one.present().await.unwrap(), began - MARGIN);
        // Its own reads are known exactly.
        assert!(two.present().await.unwrap() >= before);
        drop(old);
        two.beat("grpc://two").await.unwrap();
        assert_eq!(one.present().await.unwrap(), new.read.0 - MARGIN);
        two.leave().await;
        assert!(one.present().await.unwrap() >= new.read.0);
    }

    #[tokio::test]
    async fn a_node_of_which_nothing_new_is_heard_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = nodes(&folder);
        two.beat("grpc://two").await.unwrap();
        assert_eq!(one.others().await.unwrap().len(), 1);
        let silence = one.read_limit + BEAT * MISSED_BEATS;
        let long_ago = Instant::now().checked_sub(silence).unwrap();
        locked(&one.seen).get_mut(&two.node).unwrap().since = long_ago;
        assert_eq!(one.others().await.unwrap(), []);
        two.beat("grpc://two").await.unwrap();
        assert_eq!(one.others().await.unwrap().len(), 1);
        // What a process long gone said is not taken for news by one that begins.
        let old = clock::now() - TimeDelta::from_std(silence).unwrap() - MARGIN * 2;
        let said = Heartbeat { node: "gone".into(), address: String::new(), at: old, oldest_read: old };
        one.versions.beat(&said).await.unwrap();
        assert_eq!(one.others().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn one_node_leads_the_pass_until_it_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = nodes(&folder);
        let hour = Duration::from_secs(3_600);
        assert!(one.leads_pass(hour).await.unwrap() && one.leads_pass(hour).await.unwrap());
        assert!(!two.leads_pass(hour).await.unwrap());
        one.leave().await;
        assert!(two.leads_pass(hour).await.unwrap());
        assert!(one.lease("merge x", hour).await.unwrap());
        assert!(!two.lease("merge x", hour).await.unwrap());
        one.release("merge x").await.unwrap();
        assert!(two.lease("merge x", hour).await.unwrap());
    }
}
