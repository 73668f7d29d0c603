use std::sync::Arc;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use chrono::{DateTime, Utc};

use super::stand_in::{Fault, SECRET, StandIn, TABLE, Wire, settings, start};
use super::{DynamoVersionStore, set_up};
use crate::error::{Error, Kind};
use crate::metrics::Metrics;
use crate::names::{DatasetName, TenantId};
use crate::versions::conformance::conformance_tests;
use crate::versions::{DatasetRecord, Head, Heartbeat, VersionStore};

conformance_tests!(StandIn::new());

mod in_small_pages {
    use super::StandIn;
    use crate::versions::conformance::conformance_tests;

    conformance_tests!(StandIn::with_page_items(7));
}

fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

fn name(text: &str) -> DatasetName {
    DatasetName::parse(text).unwrap()
}

fn at(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap()
}

fn head(log_version: i64) -> Head {
    Head { log_version: Some(log_version), ..Head::default() }
}

/// A store whose requests pass a wire.
async fn wired() -> (DynamoVersionStore, Arc<Wire>) {
    let (place, wire) = (StandIn::new().await, Arc::new(Wire::default()));
    let endpoint = wire.start(&place.endpoint).await;
    let store = DynamoVersionStore::open(&settings(&endpoint), TABLE, &Metrics::default()).await.unwrap();
    wire.take_seen();
    (store, wire)
}

fn throttled() -> Fault {
    Fault::Refuse(400, "ProvisionedThroughputExceededException", "slow down")
}

#[tokio::test]
async fn requests_are_few_and_reads_consistent() {
    let (store, wire) = wired().await;
    let operations = |wanted: &[&str]| {
        let seen = wire.take_seen();
        assert_eq!(seen.iter().map(|(operation, _)| operation.as_str()).collect::<Vec<_>>(), wanted);
        let mut reads = seen.iter().filter(|(operation, _)| matches!(operation.as_str(), "GetItem" | "Query" | "Scan"));
        assert!(reads.all(|(_, body)| body.contains("\"ConsistentRead\":true")), "{seen:?}");
    };
    let record = store.create(&tenant(), &name("a"), "t1").await.unwrap();
    operations(&["PutItem"]);
    store.create(&tenant(), &name("a"), "t2").await.unwrap();
    operations(&["PutItem"]);
    store.find(&tenant(), &name("a")).await.unwrap();
    operations(&["GetItem"]);
    store.advance(&DatasetRecord { head: head(0), ..record.clone() }).await.unwrap();
    operations(&["UpdateItem"]);
    store.list(&tenant(), "a", None).await.unwrap();
    operations(&["Query"]);
    store.list_all(None).await.unwrap();
    operations(&["Scan"]);
    store.stage(&tenant(), "t2", at(1)).await.unwrap();
    operations(&["TransactWriteItems"]);
    store.replace(&tenant(), &name("a"), "t2", at(1)).await.unwrap();
    operations(&["GetItem", "TransactWriteItems"]);
    store.forget(&DatasetRecord { table_id: "t2".into(), ..record }, at(1)).await.unwrap();
    operations(&["TransactWriteItems"]);
    store.forgotten(at(9), None).await.unwrap();
    operations(&["Query"]);
    store.purge("t1").await.unwrap();
    operations(&["DeleteItem"]);
    store.try_lease("l", "h", at(0), at(1)).await.unwrap();
    operations(&["PutItem"]);
}

#[tokio::test]
async fn each_try_is_counted_by_its_operation() {
    let (place, wire, metrics) = (StandIn::new().await, Arc::new(Wire::default()), Metrics::default());
    let endpoint = wire.start(&place.endpoint).await;
    let store = DynamoVersionStore::open(&settings(&endpoint), TABLE, &metrics).await.unwrap();
    wire.fail("PutItem", throttled(), 2);
    store.create(&tenant(), &name("a"), "t1").await.unwrap();
    let text = metrics.render();
    assert!(text.contains(r#"pandas_db_dynamodb_requests_total{operation="PutItem"} 3"#), "{text}");
    assert!(text.contains(r#"pandas_db_dynamodb_requests_total{operation="GetItem"} 1"#), "{text}");
}

#[tokio::test]
async fn throttling_is_waited_out_and_then_told() {
    let (store, wire) = wired().await;
    wire.fail("GetItem", throttled(), 3);
    assert_eq!(store.find(&tenant(), &name("a")).await.unwrap(), None);
    assert_eq!(wire.take_seen().len(), 4);
    wire.fail("GetItem", Fault::Refuse(400, "ThrottlingException", "slow down"), 100);
    let error = store.find(&tenant(), &name("a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{error}");
    let tries = wire.take_seen().len();
    assert!((2..=6).contains(&tries), "{tries}");
}

#[tokio::test]
async fn a_transaction_that_others_are_in_the_way_of_is_tried_again() {
    let (store, wire) = wired().await;
    let record = store.create(&tenant(), &name("a"), "t1").await.unwrap();
    wire.fail("TransactWriteItems", throttled(), 1);
    store.forget(&record, at(0)).await.unwrap();
    assert_eq!(store.find(&tenant(), &name("a")).await.unwrap(), None);
    wire.fail("UpdateItem", Fault::Refuse(400, "TransactionConflictException", "busy"), 100);
    let error = store.advance(&DatasetRecord { head: head(0), ..record }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
}

/// Loses the answers to the first `lost` tries of each write.
async fn writes_happen_once(lost: usize) {
    let (store, wire) = wired().await;
    let lose = |operation| wire.fail(operation, Fault::LoseAnswer, lost);
    lose("PutItem");
    let record = store.create(&tenant(), &name("a"), "t1").await.unwrap();
    assert_eq!(record.table_id, "t1");
    store.stage(&tenant(), "t2", at(100)).await.unwrap();
    lose("TransactWriteItems");
    assert_eq!(store.replace(&tenant(), &name("a"), "t2", at(1)).await.unwrap(), Some("t1".into()));
    lose("TransactWriteItems");
    let record = store.find(&tenant(), &name("a")).await.unwrap().unwrap();
    store.forget(&record, at(2)).await.unwrap();
    assert_eq!(store.find(&tenant(), &name("a")).await.unwrap(), None);
    let ids: Vec<_> = store.forgotten(at(99), None).await.unwrap().into_iter().map(|table| table.table_id).collect();
    assert_eq!(ids, ["t1", "t2"]);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_happens_once() {
    writes_happen_once(1).await;
}

#[tokio::test]
async fn a_write_of_which_no_answer_comes_is_read_back() {
    writes_happen_once(6).await;
}

#[tokio::test]
async fn other_writes_are_the_same_when_they_are_sent_twice() {
    let (store, wire) = wired().await;
    let lose = |operation| wire.fail(operation, Fault::LoseAnswer, 1);
    let record = store.create(&tenant(), &name("a"), "t1").await.unwrap();
    lose("UpdateItem");
    store.advance(&DatasetRecord { head: head(3), ..record }).await.unwrap();
    assert_eq!(store.find(&tenant(), &name("a")).await.unwrap().unwrap().head, head(3));
    lose("PutItem");
    assert!(store.try_lease("l", "h", at(0), at(10)).await.unwrap());
    lose("DeleteItem");
    store.release("l", "h").await.unwrap();
    assert!(store.try_lease("l", "other", at(0), at(10)).await.unwrap());
    lose("PutItem");
    let beat = Heartbeat { node: "n".into(), address: "a".into(), at: at(1), oldest_read: at(0) };
    store.beat(&beat).await.unwrap();
    assert_eq!(store.heartbeats().await.unwrap(), [beat]);
}

#[tokio::test]
async fn a_staged_table_whose_answer_was_lost_can_still_be_named() {
    let (store, wire) = wired().await;
    wire.fail("TransactWriteItems", Fault::LoseAnswer, 1);
    store.stage(&tenant(), "t1", at(1)).await.unwrap();
    assert_eq!(store.replace(&tenant(), &name("a"), "t1", at(1)).await.unwrap(), None);
    assert_eq!(store.forgotten(at(9), None).await.unwrap(), []);
}

#[tokio::test]
async fn callers_learn_when_to_retry_and_the_operator_what_to_do() {
    let (store, wire) = wired().await;
    let signature = "The request signature we calculated does not match: 'x-amz-security-token:the-secret-of-the-key'";
    let cases: [(u16, &str, &str, &[&str]); 9] = [
        (400, "AccessDeniedException", "User: arn:aws:x is not authorized", &["dynamodb:GetItem", "arn:aws:x"]),
        (400, "ResourceNotFoundException", "Requested resource not found", &["pandas-db init", "AWS_REGION"]),
        (400, "ExpiredTokenException", "The security token is expired", &["credentials", "expired"]),
        (400, "UnrecognizedClientException", "The security token is invalid", &["credentials"]),
        (400, "InvalidSignatureException", signature, &["credentials"]),
        (400, "InvalidSignatureException", "Signature expired: 20261124T1 is now earlier than", &["clock"]),
        (400, "RequestExpired", "too late", &["clock"]),
        (400, "ValidationException", "The provided key element does not match the schema", &["not one that", "schema"]),
        (500, "InternalServerError", "oh", &["AWS_ENDPOINT_URL_DYNAMODB"]),
    ];
    for (status, code, message, advice) in cases {
        wire.fail("GetItem", Fault::Refuse(status, code, message), 6);
        let error = store.find(&tenant(), &name("a")).await.unwrap_err();
        wire.clear();
        assert_eq!(error.kind(), Kind::Unavailable, "{code}");
        assert_eq!(error.message(), "the version store did not answer as it should; retry later");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(advice.iter().all(|words| source.contains(words)) && source.contains(code), "{code}: {source}");
        assert!(!source.contains(SECRET) && source.contains(TABLE), "{source}");
    }
}

fn advice(error: &Error) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

#[tokio::test]
async fn a_dynamodb_that_is_away_is_told_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    // Nobody takes the connection from the backlog: no answer ever comes.
    let silent = DynamoVersionStore::unchecked(&settings(&endpoint), TABLE, &Metrics::default());
    let error = silent.find(&tenant(), &name("a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    drop(listener);
    let gone = DynamoVersionStore::unchecked(&settings(&endpoint), TABLE, &Metrics::default());
    for error in [
        gone.find(&tenant(), &name("a")).await.unwrap_err(),
        gone.create(&tenant(), &name("a"), "t1").await.unwrap_err(),
        gone.replace(&tenant(), &name("a"), "t1", at(0)).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(advice(&error).contains("AWS_ENDPOINT_URL_DYNAMODB"), "{}", advice(&error));
    }
    assert!(DynamoVersionStore::open(&settings(&endpoint), TABLE, &Metrics::default()).await.is_err());
}

#[test]
fn a_caller_waits_at_most_five_seconds() {
    // A write, and reading it back.
    assert!(super::client::REQUEST_LIMIT + super::names::READ_BACK_LIMIT < std::time::Duration::from_secs(5));
}

#[tokio::test]
async fn missing_credentials_are_named() {
    let endpoint = start().await;
    let shared =
        settings(&endpoint).into_builder().credentials_provider(SharedCredentialsProvider::new(Nobody)).build();
    let store = DynamoVersionStore::unchecked(&shared, TABLE, &Metrics::default());
    let error = store.find(&tenant(), &name("a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(advice(&error).contains("look at the AWS credentials"), "{}", advice(&error));
}

/// Has no credentials to give.
#[derive(Debug)]
struct Nobody;

impl aws_credential_types::provider::ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        use aws_credential_types::provider::error::CredentialsError;
        let nothing = CredentialsError::not_loaded("nothing configured");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(nothing))
    }
}

#[tokio::test]
async fn a_second_set_up_changes_nothing() {
    let endpoint = start().await;
    let shared = settings(&endpoint);
    let missing = DynamoVersionStore::open(&shared, TABLE, &Metrics::default()).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::Invalid);
    assert!(missing.message().contains("pandas-db init"), "{missing}");
    let first = set_up(&shared, TABLE, &Metrics::default()).await.unwrap();
    assert!(first.changes.iter().any(|line| line.contains("made the DynamoDB table 'versions'")), "{first:?}");
    let second = set_up(&shared, TABLE, &Metrics::default()).await.unwrap();
    assert_eq!(second.changes, [""; 0]);
    // The stand-in has no recovery to a point in time.
    assert!(second.warnings.iter().any(|line| line.contains("point-in-time recovery")), "{second:?}");
    let store = DynamoVersionStore::open(&shared, TABLE, &Metrics::default()).await.unwrap();
    let everything = store.client.scan().table_name(TABLE).send().await.unwrap();
    assert_eq!(everything.count(), 1, "only the mark is left: {:?}", everything.items());
}

#[tokio::test]
async fn a_table_of_another_program_is_refused() {
    let endpoint = start().await;
    let shared = settings(&endpoint);
    let theirs = DynamoVersionStore::unchecked(&shared, TABLE, &Metrics::default());
    let attribute = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash);
    let create = theirs.client.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    let create = create.attribute_definitions(attribute.build().unwrap()).key_schema(key.build().unwrap());
    create.send().await.unwrap();
    for error in [
        set_up(&shared, TABLE, &Metrics::default()).await.unwrap_err(),
        DynamoVersionStore::open(&shared, TABLE, &Metrics::default()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.message().contains("not one that `pandas-db init` makes"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_right_stops_the_set_up_with_its_name() {
    let (place, wire) = (StandIn::new().await, Arc::new(Wire::default()));
    let endpoint = wire.start(&place.endpoint).await;
    let cases = [("UpdateItem", "dynamodb:UpdateItem"), ("TransactWriteItems", "dynamodb:DeleteItem")];
    for (operation, right) in cases.into_iter().chain([("Scan", "dynamodb:Scan"), ("Query", "dynamodb:Query")]) {
        wire.fail(operation, Fault::Refuse(400, "AccessDeniedException", "no"), 1);
        let error = set_up(&settings(&endpoint), TABLE, &Metrics::default()).await.unwrap_err();
        assert!(error.message().contains(right), "{operation}: {error}");
    }
}

#[tokio::test]
async fn all_nodes_sign_with_the_secret_of_the_first() {
    let (store, wire) = wired().await;
    assert_eq!(store.keep_secret(vec![1; 32]).await.unwrap(), vec![1; 32]);
    assert_eq!(store.keep_secret(vec![2; 32]).await.unwrap(), vec![1; 32]);
    let operations: Vec<_> = wire.take_seen().into_iter().map(|(operation, _)| operation).collect();
    assert_eq!(operations, ["GetItem", "PutItem", "GetItem", "GetItem"]);
}
