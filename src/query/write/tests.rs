use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, Decimal128Array, Float64Array, Int64Array, NullArray, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use futures::StreamExt;

use super::super::{Engine, EngineSettings, SessionOptions, SessionSettings, Statement as QueryStatement};
use super::{StatementKind, WriteOutcome, classify};
use crate::auth::Principal;
use crate::error::{Kind, Result};
use crate::metrics::Metrics;
use crate::names::TenantId;
use crate::storage::Storage;
use crate::table::{Catalog, ReadSettings, SplitSettings};
use crate::versions::EmbeddedVersionStore;

/// An engine on a folder of its own.
struct Bench {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open_local(&folder.path().join("data"), "").unwrap();
        let versions = EmbeddedVersionStore::open(&folder.path().join("versions.db")).unwrap();
        let spill_folder = folder.path().to_path_buf();
        let settings = EngineSettings {
            session: SessionSettings {
                memory_bytes: 256 << 20,
                spill_bytes: 256 << 20,
                spill_folder: spill_folder.clone(),
                threads: 2,
            },
            read: ReadSettings { order_bytes: 64 << 20, spill_folder: spill_folder.clone() },
            split: SplitSettings { chunk_rows: 1_000, max_partitions: 100, buffer_bytes: 64 << 20, spill_folder },
            timeout: Duration::from_secs(60),
            audit_file: None,
        };
        let catalog = Arc::new(Catalog::new(storage, Arc::new(versions), Duration::from_secs(60)));
        Self { engine: Engine::start(catalog, settings, Metrics::default()).unwrap(), _folder: folder }
    }

    async fn write(&self, sql: &str, params: Option<&RecordBatch>) -> Result<WriteOutcome> {
        let caller = Principal::new("ann", TenantId::default_tenant());
        self.engine.write(&caller, sql, params, &SessionOptions::default()).await
    }

    async fn text(&self, sql: &str) -> String {
        let statement = QueryStatement::new(sql, SessionOptions::default());
        let plan = self.engine.plan(&Principal::local(), &statement).await.unwrap();
        let batches: Vec<RecordBatch> = self.engine.run(plan, Ok).unwrap().map(Result::unwrap).collect().await;
        let rows = batches.iter().flat_map(|batch| {
            let text = |row| {
                let value = |column: &ArrayRef| arrow::util::display::array_value_to_string(column, row).unwrap();
                batch.columns().iter().map(value).collect::<Vec<_>>().join(",")
            };
            (0..batch.num_rows()).map(text).collect::<Vec<_>>()
        });
        rows.collect::<Vec<_>>().join(" ")
    }
}

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_from_iter(columns.into_iter().enumerate().map(|(place, column)| (format!("p{place}"), column)))
        .unwrap()
}

fn ids(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<StringArray>())
}

#[test]
fn statements_are_told_apart_by_their_text() {
    for (sql, kind) in [
        ("select 1", StatementKind::Query),
        ("explain delete from t", StatementKind::Query),
        ("explain analyze insert into t values (1)", StatementKind::Query),
        ("show tables", StatementKind::Query),
        ("create view v as select 1", StatementKind::Query),
        ("create external table t stored as csv location 'x'", StatementKind::Query),
        ("copy t to 'x'", StatementKind::Query),
        ("with t as (select 1) select * from t", StatementKind::Query),
        ("insert into t select 1", StatementKind::Write),
        ("/* a */ update t set x = 1 -- b", StatementKind::Write),
        ("create table t as select 1", StatementKind::Write),
        ("delete from t", StatementKind::Write),
        ("merge into t using s on true when matched then delete", StatementKind::Write),
        ("drop table if exists t", StatementKind::Write),
        ("truncate table t;", StatementKind::Write),
    ] {
        assert_eq!(classify(sql).unwrap(), kind, "{sql}");
    }
    for sql in ["", "select", "delete from t; delete from u", "update t"] {
        assert_eq!(classify(sql).unwrap_err().kind(), Kind::Invalid, "{sql}");
    }
}

#[tokio::test]
async fn parameters_of_one_row_are_values_of_their_types() {
    let bench = Bench::new();
    bench
        .write("create table t (id bigint, s varchar, x double, d decimal(10,2), b bytea, t timestamp)", None)
        .await
        .unwrap();
    let decimals = Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).unwrap();
    let params = batch(vec![
        ids(&[7]),
        texts(&[Some("it's; drop table t")]),
        Arc::new(Float64Array::from(vec![f64::NAN])),
        Arc::new(decimals),
        Arc::new(BinaryArray::from_vec(vec![b"\x00\xff"])),
        Arc::new(TimestampNanosecondArray::from(vec![1])),
    ]);
    let done = bench.write("insert into t values ($1, $2, $3, $4, $5, $6)", Some(&params)).await.unwrap();
    assert_eq!(done, WriteOutcome { rows: 1, version: Some(2) });
    assert_eq!(bench.text("select * from t").await, "7,it's; drop table t,NaN,1.50,00ff,1970-01-01T00:00:00.000000001");
    let nulls = batch(vec![ids(&[8]), Arc::new(NullArray::new(1))]);
    bench.write("insert into t (id, s) values ($1, $2)", Some(&nulls)).await.unwrap();
    bench
        .write("insert into t (id, s) select id + $1, 'n' from t order by id limit $1", Some(&batch(vec![ids(&[1])])))
        .await
        .unwrap();
    assert_eq!(bench.text("select id, s from t where id = 8 order by s").await, "8,n 8,");
    let params = batch(vec![texts(&[Some("up")]), ids(&[8])]);
    let done = bench.write("update t set s = $1 || $1 where id = $2", Some(&params)).await.unwrap();
    assert_eq!(done.rows, 2);
    let merge = "merge into t using (select $1 as k, $2 as v) s on t.id = s.k when matched then update set s = $2 \
                 when not matched then insert (id, s) values ($1, s.v)";
    let params = batch(vec![ids(&[99]), texts(&[Some("m")])]);
    assert_eq!(bench.write(merge, Some(&params)).await.unwrap().rows, 1);
    assert_eq!(bench.text("select s from t order by id, s").await, "it's; drop table t upup upup m");
    assert_eq!(bench.write("delete from t where s = $2 and id = $1", Some(&params)).await.unwrap().rows, 1);
}

#[tokio::test]
async fn values_of_many_rows_of_parameters_are_one_load_in_order() {
    let bench = Bench::new();
    bench.write("create table t (id integer, s varchar)", None).await.unwrap();
    let numbers: Vec<i64> = (0..20_000).rev().collect();
    let words: Vec<Option<&str>> = numbers.iter().map(|n| (n % 3 != 0).then_some("w")).collect();
    let params = batch(vec![ids(&numbers), texts(&words)]);
    let insert = "insert into t (s, id) values (upper($2), $1 * 2 + 1)";
    let done = bench.write(insert, Some(&params)).await.unwrap();
    assert_eq!(done, WriteOutcome { rows: 20_000, version: Some(2) });
    assert_eq!(bench.text("select count(*), sum(id), count(s) from t").await, "20000,400000000,13333");
    let (dataset, snapshot) = bench
        .engine
        .datasets
        .open(&Principal::local(), &crate::names::DatasetName::parse("t").unwrap(), crate::auth::Access::Read)
        .await
        .unwrap();
    let (settings, metrics) = (bench.engine.settings.read.clone(), Metrics::default());
    let read = crate::table::FrameRead::plan(dataset, snapshot, &Default::default(), None, settings, metrics).await;
    let batches: Vec<RecordBatch> = read.unwrap().stream().map(Result::unwrap).collect().await;
    let order = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<arrow::datatypes::Int32Type>().values().to_vec());
    assert!(order.map(i64::from).eq(numbers.iter().map(|n| n * 2 + 1)));
    let bad = batch(vec![ids(&[1, 1 << 40]), texts(&[None, None])]);
    let error = bench.write(insert, Some(&bad)).await.unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.message().contains("2199023255553"), "{error}");
    assert_eq!(bench.text("select count(*) from t").await, "20000");
}

#[tokio::test]
async fn other_statements_run_once_for_each_row_of_parameters() {
    let bench = Bench::new();
    bench.write("create table t as select value as id, 0 as n from range(0, 10)", None).await.unwrap();
    let params = batch(vec![ids(&[1, 2, 1, 77]), ids(&[10, 20, 30, 40])]);
    let done = bench.write("update t set n = n + $2 where id = $1", Some(&params)).await.unwrap();
    assert_eq!(done, WriteOutcome { rows: 3, version: Some(4) });
    assert_eq!(bench.text("select n from t where id in (1, 2) order by id").await, "40 20");
    let done = bench.write("delete from t where id = $1", Some(&params)).await.unwrap();
    assert_eq!((done.rows, bench.text("select count(*) from t").await.as_str()), (2, "8"));
    let none = params.slice(0, 0);
    assert_eq!(bench.write("delete from t where id = $1", Some(&none)).await.unwrap(), WriteOutcome::default());
    let many = "insert into t values ($1, $2), ($2, $1)";
    assert_eq!(bench.write(many, Some(&params)).await.unwrap().rows, 8);
}

#[tokio::test]
async fn parameters_without_values_are_refused() {
    let bench = Bench::new();
    bench.write("create table t (id bigint)", None).await.unwrap();
    let one = batch(vec![ids(&[1])]);
    for (sql, params, words) in [
        ("insert into t values ($2)", Some(&one), "$2"),
        ("insert into t values ($1)", None, "$1"),
        ("delete from t where id = $0", Some(&one), "$0"),
        ("delete from t where id = ?", Some(&one), "?"),
        ("delete from t where id = $name", Some(&one), "$name"),
        ("delete from t where id = \"__pdb_parameter_1\"()", None, "__pdb_parameter_1"),
    ] {
        let error = bench.write(sql, params).await.unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.message().contains(words), "{sql}: {error}");
    }
    let error = bench.write("select $1", Some(&one)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
}

#[tokio::test]
async fn rows_that_a_statement_works_on_have_no_name_that_a_text_can_say() {
    let bench = Bench::new();
    bench.write("create table t as select 1 as id", None).await.unwrap();
    for sql in [
        "delete from t where id in (select id from \"t$rows\")",
        "delete from t where \"load\" = 1",
        "insert into t select \"__pdb_load\" from t",
        "update t set id = \"__pdb_row\"",
    ] {
        assert!(matches!(bench.write(sql, None).await.unwrap_err().kind(), Kind::Invalid | Kind::NotFound), "{sql}");
    }
}
