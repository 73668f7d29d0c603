//! What every version store must do. Each runs the same tests, through `conformance_tests!`.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;

use super::{DatasetRecord, ForgottenTable, Head, Heartbeat, MAX_PAGE, VersionStore};
use crate::error::Kind;
use crate::names::{DatasetName, TenantId};

/// Tasks that race.
const RACERS: usize = 16;

/// Where a store keeps its records.
#[async_trait]
pub(super) trait Place: Send + Sync {
    /// A handle of its own onto the records, as another process has.
    async fn open(&self) -> Arc<dyn VersionStore>;
}

/// Makes a test of each check, on places that `$place` makes.
macro_rules! conformance_tests {
    ($place:expr) => {
        $crate::versions::conformance::conformance_tests!($place;
            a_name_is_found_only_where_it_was_given
            one_creator_wins_and_all_learn_who
            heads_only_move_forward_and_only_of_the_table_that_has_the_name
            a_forgotten_name_can_be_given_anew_and_its_table_is_remembered
            a_staged_table_takes_a_name_once_and_the_old_one_is_remembered
            every_replacement_of_a_race_takes_the_name_in_turn
            a_race_of_forgetting_and_creating_leaves_one_state
            totals_that_race_end_at_the_newest
            odd_names_and_tenants_stay_apart
            listing_goes_by_bytes_within_a_prefix
            listing_pages_beyond_one_page
            forgotten_tables_come_by_the_page
            a_lease_has_one_holder_until_it_ends
            one_of_many_gets_a_lease
            heartbeats_tell_the_newest_of_each_node
            what_was_written_is_there_after_a_restart
        );
    };
    ($place:expr; $($check:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            $crate::versions::conformance::$check(&$place.await).await;
        })*
    };
}
pub(super) use conformance_tests;

fn name(text: &str) -> DatasetName {
    DatasetName::parse(text).unwrap()
}

fn tenant(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

fn at(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_700_000_000_000_000 + micros).unwrap()
}

fn record(tenant: &TenantId, dataset: &str, table_id: &str) -> DatasetRecord {
    DatasetRecord { tenant: tenant.clone(), name: name(dataset), table_id: table_id.into(), head: Head::default() }
}

fn head(log_version: i64) -> Head {
    Head {
        log_version: Some(log_version),
        version: log_version + 1,
        live_versions: 2,
        rows: i64::MAX,
        bytes: 4,
        updated_at: Some(at(log_version)),
    }
}

fn names(page: &[DatasetRecord]) -> Vec<&str> {
    page.iter().map(|record| record.name.as_str()).collect()
}

async fn all(store: &dyn VersionStore) -> Vec<DatasetRecord> {
    let (mut records, mut from) = (Vec::new(), None);
    loop {
        let page = store.list_all(from.as_deref()).await.unwrap();
        assert!(page.records.len() <= MAX_PAGE);
        records.extend(page.records);
        from = page.next;
        if from.is_none() {
            return records;
        }
    }
}

async fn forgotten(store: &dyn VersionStore, before: DateTime<Utc>) -> Vec<String> {
    let mut ids: Vec<_> =
        store.forgotten(before, None).await.unwrap().into_iter().map(|table| table.table_id).collect();
    ids.sort();
    ids
}

async fn table_of(store: &dyn VersionStore, tenant: &TenantId, dataset: &str) -> Option<String> {
    store.find(tenant, &name(dataset)).await.unwrap().map(|record| record.table_id)
}

/// Runs as many tasks as race, each on a handle of its own, and gives what they gave.
async fn race<T: Send + 'static, F>(place: &dyn Place, run: impl Fn(usize, Arc<dyn VersionStore>) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let stores = join_all((0..RACERS).map(|_| place.open())).await;
    let tasks = stores.into_iter().enumerate().map(|(number, store)| tokio::spawn(run(number, store)));
    join_all(tasks).await.into_iter().map(|outcome| outcome.unwrap()).collect()
}

pub(super) async fn a_name_is_found_only_where_it_was_given(place: &dyn Place) {
    let store = place.open().await;
    let (ours, theirs) = (tenant("ours"), tenant("theirs"));
    store.ping().await.unwrap();
    assert_eq!(store.find(&ours, &name("a/b")).await.unwrap(), None);
    let made = store.create(&ours, &name("a/b"), "t1").await.unwrap();
    assert_eq!(made, record(&ours, "a/b", "t1"));
    assert_eq!(store.find(&ours, &name("a/b")).await.unwrap(), Some(made));
    for (tenant, dataset) in [(&ours, "a"), (&ours, "a/b/c"), (&ours, "A/b"), (&theirs, "a/b")] {
        assert_eq!(store.find(tenant, &name(dataset)).await.unwrap(), None, "{dataset}");
    }
}

pub(super) async fn one_creator_wins_and_all_learn_who(place: &dyn Place) {
    for round in 0..4 {
        let made = race(place, move |number, store| async move {
            let dataset = name(&format!("d{round}"));
            store.create(&tenant("t"), &dataset, &format!("r{round}n{number}")).await.unwrap()
        });
        let made = made.await;
        let found = place.open().await.find(&tenant("t"), &name(&format!("d{round}"))).await.unwrap().unwrap();
        assert!(made.iter().all(|record| *record == found), "{made:?}");
    }
}

pub(super) async fn heads_only_move_forward_and_only_of_the_table_that_has_the_name(place: &dyn Place) {
    let store = place.open().await;
    let t = tenant("t");
    let made = store.create(&t, &name("a"), "t1").await.unwrap();
    for log_version in [0, 2, 1] {
        store.advance(&DatasetRecord { head: head(log_version), ..made.clone() }).await.unwrap();
    }
    store.advance(&DatasetRecord { head: Head::default(), ..made.clone() }).await.unwrap();
    store.advance(&DatasetRecord { table_id: "t2".into(), head: head(9), ..made.clone() }).await.unwrap();
    assert_eq!(store.find(&t, &name("a")).await.unwrap().unwrap().head, head(2));
    // Of a dataset that is not there nothing comes to be.
    store.advance(&DatasetRecord { head: head(9), ..record(&t, "b", "t1") }).await.unwrap();
    assert_eq!(store.find(&t, &name("b")).await.unwrap(), None);
    // The winner's record tells its head.
    assert_eq!(store.create(&t, &name("a"), "t3").await.unwrap().head, head(2));
}

pub(super) async fn a_forgotten_name_can_be_given_anew_and_its_table_is_remembered(place: &dyn Place) {
    let store = place.open().await;
    let t = tenant("t");
    let first = store.create(&t, &name("a"), "t1").await.unwrap();
    store.forget(&first, at(0)).await.unwrap();
    store.forget(&first, at(5)).await.unwrap();
    assert_eq!(store.find(&t, &name("a")).await.unwrap(), None);
    let second = store.create(&t, &name("a"), "t2").await.unwrap();
    assert_eq!(second, record(&t, "a", "t2"));
    // The old one's end takes nothing from the new one.
    store.forget(&first, at(7)).await.unwrap();
    assert_eq!(store.find(&t, &name("a")).await.unwrap(), Some(second.clone()));
    assert_eq!(store.forgotten(at(0), None).await.unwrap(), []);
    assert_eq!(
        store.forgotten(at(1), None).await.unwrap(),
        [ForgottenTable { tenant: t.clone(), table_id: "t1".into() }]
    );
    store.purge("t1").await.unwrap();
    store.purge("t1").await.unwrap();
    assert_eq!(store.forgotten(at(9), None).await.unwrap(), []);
    assert_eq!(all(&*store).await, [second]);
}

pub(super) async fn a_staged_table_takes_a_name_once_and_the_old_one_is_remembered(place: &dyn Place) {
    let store = place.open().await;
    let t = tenant("t");
    let made = store.create(&t, &name("a"), "t1").await.unwrap();
    store.advance(&DatasetRecord { head: head(3), ..made }).await.unwrap();
    store.stage(&t, "t2", at(10)).await.unwrap();
    store.stage(&t, "t2", at(10)).await.unwrap();
    assert_eq!(forgotten(&*store, at(10)).await, [""; 0]);
    assert_eq!(forgotten(&*store, at(11)).await, ["t2"]);
    assert_eq!(table_of(&*store, &t, "a").await.as_deref(), Some("t1"));
    assert_eq!(store.replace(&t, &name("a"), "t2", at(0)).await.unwrap(), Some("t1".into()));
    assert_eq!(store.find(&t, &name("a")).await.unwrap(), Some(record(&t, "a", "t2")));
    assert_eq!(forgotten(&*store, at(11)).await, ["t1"]);
    for (dataset, table) in [("a", "t2"), ("b", "t3")] {
        let error = store.replace(&t, &name(dataset), table, at(0)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{dataset}: {error}");
    }
    store.stage(&t, "t3", at(10)).await.unwrap();
    assert_eq!(store.replace(&t, &name("b"), "t3", at(0)).await.unwrap(), None);
    assert_eq!(table_of(&*store, &t, "b").await.as_deref(), Some("t3"));
    // A staged table that is given up.
    store.stage(&t, "t4", at(10)).await.unwrap();
    store.purge("t4").await.unwrap();
    assert!(store.replace(&t, &name("c"), "t4", at(0)).await.is_err());
    assert_eq!(table_of(&*store, &t, "c").await, None);
}

pub(super) async fn every_replacement_of_a_race_takes_the_name_in_turn(place: &dyn Place) {
    let t = tenant("t");
    let replaced = race(place, |number, store| async move {
        let (t, id) = (tenant("t"), format!("n{number}"));
        store.stage(&t, &id, at(10)).await.unwrap();
        store.replace(&t, &name("a"), &id, at(0)).await.unwrap()
    });
    // A chain: each took the name from another, but for the first.
    let replaced = replaced.await;
    let taken: HashSet<_> = replaced.iter().flatten().cloned().collect();
    assert_eq!((taken.len(), replaced.iter().filter(|old| old.is_none()).count()), (RACERS - 1, 1), "{replaced:?}");
    let store = place.open().await;
    let last = table_of(&*store, &t, "a").await.unwrap();
    assert!(!taken.contains(&last));
    assert_eq!(forgotten(&*store, at(1)).await.into_iter().collect::<HashSet<_>>(), taken);
}

pub(super) async fn a_race_of_forgetting_and_creating_leaves_one_state(place: &dyn Place) {
    let t = tenant("t");
    let made = race(place, |number, store| async move {
        let (t, mut made) = (tenant("t"), HashSet::new());
        for round in 0..3 {
            let record = store.create(&t, &name("a"), &format!("n{number}r{round}")).await.unwrap();
            store.advance(&DatasetRecord { head: head(0), ..record.clone() }).await.unwrap();
            store.forget(&record, at(0)).await.unwrap();
            made.insert(record.table_id);
        }
        made
    });
    let made: HashSet<String> = made.await.into_iter().flatten().collect();
    let store = place.open().await;
    // Every table that had the name has lost it, is remembered once, and no other is.
    assert_eq!(table_of(&*store, &t, "a").await, None);
    assert_eq!(forgotten(&*store, at(1)).await.into_iter().collect::<HashSet<_>>(), made);
}

pub(super) async fn totals_that_race_end_at_the_newest(place: &dyn Place) {
    let t = tenant("t");
    let made = place.open().await.create(&t, &name("a"), "t1").await.unwrap();
    race(place, move |number, store| {
        let made = made.clone();
        async move {
            for round in 0..4 {
                let log_version = (number * 7 + round * 5) % 100;
                store.advance(&DatasetRecord { head: head(log_version as i64), ..made.clone() }).await.unwrap();
            }
        }
    })
    .await;
    let newest = (0..RACERS).flat_map(|n| (0..4).map(move |r| (n * 7 + r * 5) % 100)).max().unwrap();
    assert_eq!(place.open().await.find(&t, &name("a")).await.unwrap().unwrap().head, head(newest as i64));
}

pub(super) async fn odd_names_and_tenants_stay_apart(place: &dyn Place) {
    let store = place.open().await;
    let tenants =
        ["t", "T", "t#a", "t/a", "t a", "t'\"`", "ünï", "t%", "$x", ":x", "{}", "dataset#t", "東京", &"x".repeat(255)];
    let datasets =
        ["a", "A", "a b", "a.b", "a-b", "a_b", "a/b", "ü/ñ", "東京/データ", "0", "e\u{301}\u{316}", &"n".repeat(128)];
    let mut made = Vec::new();
    for tenant_name in tenants {
        for dataset in datasets {
            let id = format!("t{}", made.len());
            made.push(store.create(&tenant(tenant_name), &name(dataset), &id).await.unwrap());
        }
    }
    for record in &made {
        assert_eq!(store.find(&record.tenant, &record.name).await.unwrap().as_ref(), Some(record));
    }
    let mut ids: Vec<_> = all(&*store).await;
    ids.sort_by_key(|record| record.table_id[1..].parse::<usize>().unwrap());
    assert_eq!(ids, made);
    for tenant_name in tenants {
        let listed = store.list(&tenant(tenant_name), "", None).await.unwrap();
        let mut wanted: Vec<_> = made.iter().filter(|record| record.tenant.as_str() == tenant_name).cloned().collect();
        wanted.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        assert_eq!(listed, wanted, "{tenant_name}");
    }
}

pub(super) async fn listing_goes_by_bytes_within_a_prefix(place: &dyn Place) {
    let store = place.open().await;
    let t = tenant("t");
    for (number, dataset) in ["b/1", "a_x", "a-x", "b", "b/2", "b-c", "é", "z", "ｚ", "𝒂"].iter().enumerate() {
        store.create(&t, &name(dataset), &format!("t{number}")).await.unwrap();
    }
    let cases: [(&str, Option<&str>, &[&str]); 12] = [
        ("", None, &["a-x", "a_x", "b", "b-c", "b/1", "b/2", "z", "é", "ｚ", "𝒂"]),
        ("b", None, &["b", "b-c", "b/1", "b/2"]),
        ("b", Some("b"), &["b-c", "b/1", "b/2"]),
        ("b", Some("b-d"), &["b/1", "b/2"]),
        ("b/", Some("b"), &["b/1", "b/2"]),
        ("b", Some("a_x"), &["b", "b-c", "b/1", "b/2"]),
        ("b", Some("c"), &[]),
        ("a_", None, &["a_x"]),
        ("é", None, &["é"]),
        ("", Some("ｚ"), &["𝒂"]),
        ("%", None, &[]),
        ("nothing", None, &[]),
    ];
    for (prefix, after, wanted) in cases {
        let after = after.map(name);
        let listed = store.list(&t, prefix, after.as_ref()).await.unwrap();
        assert_eq!(names(&listed), wanted, "{prefix:?} {after:?}");
    }
    assert!(store.list(&t, &"x".repeat(4_000), None).await.unwrap().is_empty());
    assert!(store.list(&tenant("other"), "", None).await.unwrap().is_empty());
}

pub(super) async fn listing_pages_beyond_one_page(place: &dyn Place) {
    const DATASETS: usize = MAX_PAGE + 37;
    let (store, t) = (place.open().await, tenant("t"));
    let numbers: Vec<usize> = (0..DATASETS).collect();
    for group in numbers.chunks(RACERS) {
        let made = group.iter().map(|number| {
            let (store, t) = (Arc::clone(&store), t.clone());
            async move { store.create(&t, &name(&format!("d/{number:05}")), &format!("t{number}")).await.unwrap() }
        });
        join_all(made).await;
    }
    let first = store.list(&t, "d/", None).await.unwrap();
    assert_eq!(first.len(), MAX_PAGE);
    let rest = store.list(&t, "d/", first.last().map(|record| &record.name)).await.unwrap();
    let listed: Vec<String> = first.iter().chain(&rest).map(|record| record.name.as_str().to_string()).collect();
    assert_eq!(listed, numbers.iter().map(|number| format!("d/{number:05}")).collect::<Vec<_>>());
    let everywhere: Vec<_> = all(&*store).await.into_iter().map(|record| record.table_id).collect();
    let once: HashSet<_> = everywhere.iter().cloned().collect();
    assert_eq!((everywhere.len(), once.len()), (DATASETS, DATASETS));
    assert!(once.contains("t0") && once.contains(&format!("t{}", DATASETS - 1)));
}

pub(super) async fn forgotten_tables_come_by_the_page(place: &dyn Place) {
    const TABLES: usize = MAX_PAGE + 5;
    let (store, t) = (place.open().await, tenant("t"));
    let numbers: Vec<usize> = (0..TABLES).collect();
    for group in numbers.chunks(RACERS) {
        join_all(group.iter().map(|number| {
            let (store, t) = (Arc::clone(&store), t.clone());
            // Those of odd numbers are still needed.
            async move { store.stage(&t, &format!("t{number}"), at((number % 2 * 100) as i64)).await.unwrap() }
        }))
        .await;
    }
    let even = store.forgotten(at(50), None).await.unwrap();
    assert_eq!(even.len(), TABLES.div_ceil(2));
    let after = store.forgotten(at(50), even.first().map(|table| table.table_id.as_str())).await.unwrap();
    assert_eq!(after, even[1..]);
    let (mut purged, mut pages) = (HashSet::new(), 0);
    loop {
        let page = store.forgotten(at(200), None).await.unwrap();
        if page.is_empty() {
            break;
        }
        pages += 1;
        for table in page {
            store.purge(&table.table_id).await.unwrap();
            assert!(purged.insert(table.table_id));
        }
    }
    assert_eq!((purged.len(), pages), (TABLES, 2));
}

pub(super) async fn a_lease_has_one_holder_until_it_ends(place: &dyn Place) {
    let (one, two) = (place.open().await, place.open().await);
    assert!(one.try_lease("l", "one", at(0), at(10)).await.unwrap());
    assert!(!two.try_lease("l", "two", at(5), at(15)).await.unwrap());
    assert!(two.try_lease("other", "two", at(5), at(15)).await.unwrap());
    // Its holder makes it last; then it ends.
    assert!(one.try_lease("l", "one", at(9), at(20)).await.unwrap());
    assert!(!two.try_lease("l", "two", at(10), at(20)).await.unwrap());
    assert!(two.try_lease("l", "two", at(20), at(30)).await.unwrap());
    assert!(!one.try_lease("l", "one", at(21), at(31)).await.unwrap());
    // Only the holder gives it back, and may do so twice.
    one.release("l", "one").await.unwrap();
    assert!(!one.try_lease("l", "one", at(21), at(31)).await.unwrap());
    two.release("l", "two").await.unwrap();
    two.release("l", "two").await.unwrap();
    assert!(one.try_lease("l", "one", at(21), at(31)).await.unwrap());
}

pub(super) async fn one_of_many_gets_a_lease(place: &dyn Place) {
    for (now, until) in [(at(0), at(10)), (at(10), at(20)), (at(20), at(30))] {
        let got = race(place, move |number, store| async move {
            store.try_lease("l", &format!("{until} {number}"), now, until).await.unwrap()
        });
        assert_eq!(got.await.into_iter().filter(|got| *got).count(), 1);
    }
}

pub(super) async fn heartbeats_tell_the_newest_of_each_node(place: &dyn Place) {
    let (one, two) = (place.open().await, place.open().await);
    assert_eq!(one.heartbeats().await.unwrap(), []);
    let beat = |node: &str, micros| Heartbeat {
        node: node.into(),
        address: format!("grpc://{node}:1"),
        at: at(micros),
        oldest_read: at(micros - 5),
    };
    one.beat(&beat("b", 0)).await.unwrap();
    two.beat(&beat("a", 1)).await.unwrap();
    one.beat(&beat("b", 2)).await.unwrap();
    assert_eq!(two.heartbeats().await.unwrap(), [beat("a", 1), beat("b", 2)]);
    one.leave("b").await.unwrap();
    one.leave("b").await.unwrap();
    assert_eq!(two.heartbeats().await.unwrap(), [beat("a", 1)]);
    let days = TimeDelta::days(2).num_microseconds().unwrap();
    one.beat(&beat("c", days)).await.unwrap();
    assert!(one.heartbeats().await.unwrap().contains(&beat("c", days)));
}

pub(super) async fn what_was_written_is_there_after_a_restart(place: &dyn Place) {
    let t = tenant("t");
    let store = place.open().await;
    let made = store.create(&t, &name("a"), "t1").await.unwrap();
    let advanced = DatasetRecord { head: head(4), ..made };
    store.advance(&advanced).await.unwrap();
    store.stage(&t, "t2", at(10)).await.unwrap();
    assert!(store.try_lease("l", "one", at(0), at(10)).await.unwrap());
    drop(store);
    let store = place.open().await;
    assert_eq!(store.find(&t, &name("a")).await.unwrap(), Some(advanced));
    assert_eq!(forgotten(&*store, at(11)).await, ["t2"]);
    assert!(!store.try_lease("l", "two", at(5), at(15)).await.unwrap());
}
