//! The commands against a server that is only pretended: what goes over the wire, and what comes of an answer.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::input::Rows;
use super::tls::TlsOptions;
use super::*;
use crate::error::Kind;
use crate::proto::{GetDataframe, LoadDataframe};
use crate::wire::{self, Encoder};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the pretended server saw, and how it is to behave.
#[derive(Default)]
struct State {
    failures: Mutex<u32>,
    loads: Mutex<Vec<(LoadDataframe, Vec<RecordBatch>)>>,
    reads: Mutex<Vec<GetDataframe>>,
    statements: Mutex<Vec<String>>,
    tokens: Mutex<Vec<Option<String>>>,
    actions: Mutex<Vec<(String, serde_json::Value)>>,
    breaks_off: bool,
}

#[derive(Clone)]
struct Pretended(Arc<State>);

fn sample() -> RecordBatch {
    let categories: DictionaryArray<Int8Type> = ["b", "a", "b"].into_iter().collect();
    let fields = vec![
        Field::new("n", DataType::Int64, false).with_metadata([("f".to_owned(), "kept".to_owned())].into()),
        Field::new("c", DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into()), true),
    ];
    let metadata = [("pandas".to_owned(), r#"{"columns": []}"#.to_owned())].into();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(categories)];
    RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, metadata)), columns).unwrap()
}

fn of_any<M: Message + Default>(bytes: &[u8], name: &str) -> Option<M> {
    let any = prost_types::Any::decode(bytes).unwrap();
    any.type_url.ends_with(name).then(|| M::decode(any.value.as_slice()).unwrap())
}

#[tonic::async_trait]
impl FlightService for Pretended {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;
    type DoExchangeStream = Answers<FlightData>;

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let token = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.0.tokens.lock().unwrap().push(token);
        let mut messages = request.into_inner().map_err(FlightError::from).boxed();
        let first = messages.next().await.unwrap().unwrap();
        let command = of_any(&first.flight_descriptor.clone().unwrap().cmd, "LoadDataframe").unwrap();
        let stream = FlightRecordBatchStream::new_from_flight_data(stream::iter([Ok(first)]).chain(messages));
        let batches: Vec<_> = stream.try_collect().await?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        self.0.loads.lock().unwrap().push((command, batches));
        let mut failures = self.0.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(Status::unavailable("[UNAVAILABLE] storage is away"));
        }
        let report = |state| format!(r#"{{"state": "{state}", "rows": {rows}, "bytes": 1, "version": 1}}"#);
        let reports = ["receiving", "committed"].map(|state| Ok(PutResult { app_metadata: report(state).into() }));
        Ok(Response::new(stream::iter(reports).boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let cmd = request.into_inner().cmd;
        if let Some(read) = of_any::<GetDataframe>(&cmd, "GetDataframe") {
            if read.dataframe_name == "absent" {
                return Err(Status::not_found("[NOT_FOUND] dataset 'absent' does not exist"));
            }
            self.0.reads.lock().unwrap().push(read);
        }
        if let Some(query) = of_any::<arrow_flight::sql::CommandStatementQuery>(&cmd, "CommandStatementQuery") {
            self.0.statements.lock().unwrap().push(query.query);
        }
        let mut info = FlightInfo::new().try_with_schema(&sample().schema()).unwrap();
        for ticket in ["1", "2"] {
            info = info.with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new(ticket)));
        }
        Ok(Response::new(info.with_total_records(6)))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let mut encoder = Encoder::try_new(&sample().schema()).unwrap();
        let mut out = vec![Ok(encoder.schema(FlightDescriptor::default()))];
        for slice in wire::slices(&sample()) {
            out.extend(encoder.slice(&slice).unwrap().into_iter().map(|message| Ok(message.into_flight_data())));
        }
        if self.0.breaks_off && request.into_inner().ticket == "2" {
            out.push(Err(Status::data_loss("[DATA_LOSS] chunk 7 is damaged")));
        }
        Ok(Response::new(stream::iter(out).boxed()))
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        assert_eq!(request.into_inner().expression, "my/");
        let info = FlightInfo::new().with_descriptor(FlightDescriptor::new_path(vec!["my".into(), "data".into()]));
        Ok(Response::new(stream::iter([Ok(info)]).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let Action { r#type: kind, body } = request.into_inner();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let answers = match (body["dataframe_name"].as_str(), kind.as_str()) {
            (Some("my/data"), "list_versions") => vec![r#"{"version": 1}"#, r#"{"version": "2", "state": "live"}"#],
            (Some("my/data"), "delete_version") => vec![r#"{"dataframe_name": "my/data", "version": 2}"#],
            (Some("my/data"), _) => vec![r#"{"dataframe_name": "my/data"}"#],
            (Some("garbled"), _) => vec!["nonsense"],
            (Some("mute"), _) => Vec::new(),
            _ => return Err(Status::not_found("[NOT_FOUND] dataset 'absent' does not exist")),
        };
        self.0.actions.lock().unwrap().push((kind, body));
        Ok(Response::new(stream::iter(answers).map(|answer| Ok(arrow_flight::Result::new(answer))).boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Starts the server and gives the options that reach it.
async fn serve(state: State) -> (Arc<State>, ServerOptions) {
    let state = Arc::new(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("grpc://{}", listener.local_addr().unwrap());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let service = FlightServiceServer::new(Pretended(Arc::clone(&state)));
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    (state, ServerOptions { server, token: Some("secret".into()), tls: TlsOptions::default() })
}

fn put_args(file: &Path, server: ServerOptions) -> PutArgs {
    PutArgs {
        file: file.to_owned(),
        name: "my/data".into(),
        date: vec!["d".into()],
        id: vec!["n".into()],
        external_key: Some("k".into()),
        keep_last: true,
        idempotency_key: None,
        server,
    }
}

fn get_args(name: &str, output: PathBuf, server: ServerOptions) -> GetArgs {
    GetArgs {
        name: name.into(),
        output: Some(output),
        external_key: None,
        last: true,
        version: None,
        as_of: None,
        columns: vec!["n".into()],
        filter: None,
        server,
    }
}

fn parquet_file(folder: &Path) -> PathBuf {
    let path = folder.join("in.parquet");
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), sample().schema(), None).unwrap();
    writer.write(&sample()).unwrap();
    writer.close().unwrap();
    path
}

#[tokio::test]
async fn put_sends_the_whole_file_and_retries_under_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let (state, server) = serve(State { failures: Mutex::new(2), ..Default::default() }).await;
    run(ClientCommand::Put(put_args(&parquet_file(folder.path()), server))).await.unwrap();
    let loads = state.loads.lock().unwrap();
    assert_eq!(loads.len(), 3);
    let (command, batches) = &loads[0];
    assert!(loads.iter().all(|load| &load.0 == command && &load.1 == batches));
    assert_eq!(command.dataframe_name, "my/data");
    assert_eq!(command.columns_keys["d"], "Date");
    assert_eq!(command.columns_keys["n"], "ID");
    assert_eq!(command.external_key.as_deref(), Some("k"));
    assert!(command.keep_last);
    assert_eq!(command.total_rows, Some(3));
    assert_eq!(command.idempotency_key.as_ref().map(String::len), Some(26));
    assert_eq!(batches, &[sample()]);
    assert_eq!(state.tokens.lock().unwrap()[0].as_deref(), Some("Bearer secret"));
}

#[tokio::test]
async fn a_file_that_fails_halfway_never_ends_its_stream() {
    let folder = tempfile::tempdir().unwrap();
    let (state, server) = serve(State::default()).await;
    let path = folder.path().join("in.csv");
    let mut text = "n\n".to_owned() + &"1\n".repeat(100_000);
    std::fs::write(&path, &text).unwrap();
    let source = input::Source::open(&path).unwrap();
    // What was an integer column when the file was first read.
    text.replace_range(150_000..150_001, "x");
    std::fs::write(&path, &text).unwrap();
    let error = source.batches().unwrap().find_map(Result::err);
    assert!(error.is_some());
    let args = put_args(&path, server);
    let error = put::load(&args.server, &LoadDataframe::default(), Arc::new(source), "storing").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid, "{error}");
    assert!(state.loads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn get_joins_the_endpoints_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.parquet");
    let (state, server) = serve(State::default()).await;
    run(ClientCommand::Get(get_args("my/data", path.clone(), server))).await.unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    assert_eq!(builder.schema(), &sample().schema());
    let rows: usize = builder.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 6);
    let read = state.reads.lock().unwrap()[0].clone();
    assert!(read.use_last && read.columns == ["n"] && read.dataframe_name == "my/data");
}

#[tokio::test]
async fn a_failure_reaches_the_user_in_the_servers_words_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (_, server) = serve(State { breaks_off: true, ..Default::default() }).await;
    for (name, words) in
        [("my/data", "[DATA_LOSS] chunk 7 is damaged"), ("absent", "[NOT_FOUND] dataset 'absent' does not exist")]
    {
        let args = get_args(name, folder.path().join("out.csv"), server.clone());
        let error = run(ClientCommand::Get(args)).await.unwrap_err();
        assert_eq!(error.to_string(), words);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn sql_writes_what_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json");
    let (state, server) = serve(State::default()).await;
    let args = SqlArgs { query: "select 1".into(), format: None, output: Some(path.clone()), server };
    run(ClientCommand::Sql(args)).await.unwrap();
    assert_eq!(state.statements.lock().unwrap()[0], "select 1");
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[1], serde_json::json!({"n": 2, "c": "a"}));
}

#[tokio::test]
async fn ls_asks_for_the_prefix() {
    let (_, server) = serve(State::default()).await;
    run(ClientCommand::Ls(LsArgs { prefix: Some("my/".into()), server })).await.unwrap();
}

fn rm_args(name: &str, version: Option<i64>, server: &ServerOptions) -> RmArgs {
    RmArgs { name: name.into(), version, yes: true, server: server.clone() }
}

#[tokio::test]
async fn actions_go_out_as_json() {
    let (state, server) = serve(State::default()).await;
    let name = || "my/data".to_owned();
    let versions = |external_key: Option<&str>, all| {
        let external_key = external_key.map(str::to_owned);
        ClientCommand::Versions(VersionsArgs { name: name(), external_key, all, server: server.clone() })
    };
    for command in [
        versions(None, false),
        versions(Some("k"), true),
        ClientCommand::Rm(rm_args("my/data", Some(2), &server)),
        ClientCommand::Rm(rm_args("my/data", None, &server)),
        ClientCommand::Compact(CompactArgs { name: name(), server: server.clone() }),
        ClientCommand::Vacuum(VacuumArgs { name: name(), server: server.clone() }),
    ] {
        command.check().unwrap();
        run(command).await.unwrap();
    }
    let expected = [
        ("list_versions", serde_json::json!({"dataframe_name": "my/data", "include_replaced": false})),
        (
            "list_versions",
            serde_json::json!({"dataframe_name": "my/data", "external_key": "k", "include_replaced": true}),
        ),
        ("delete_version", serde_json::json!({"dataframe_name": "my/data", "version": 2})),
        ("delete_dataframe", serde_json::json!({"dataframe_name": "my/data"})),
        ("compact", serde_json::json!({"dataframe_name": "my/data"})),
        ("vacuum", serde_json::json!({"dataframe_name": "my/data"})),
    ];
    let expected = expected.map(|(kind, body)| (kind.to_owned(), body));
    assert_eq!(*state.actions.lock().unwrap(), expected);
}

#[tokio::test]
async fn an_action_without_an_answer_is_a_failure() {
    let (_, server) = serve(State::default()).await;
    for (name, words) in [
        ("mute", "[INTERNAL] the server ended the action delete_dataframe without an answer"),
        ("garbled", "[INTERNAL] the server's answer to the action delete_dataframe cannot be read"),
        ("absent", "[NOT_FOUND] dataset 'absent' does not exist"),
    ] {
        let error = run(ClientCommand::Rm(rm_args(name, None, &server))).await.unwrap_err();
        assert!(error.to_string().starts_with(words), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let server = ServerOptions { server: "grpc://127.0.0.1:1".into(), token: None, tls: TlsOptions::default() };
    let error = run(ClientCommand::Ls(LsArgs { prefix: None, server })).await.unwrap_err();
    assert!(error.to_string().starts_with("[UNAVAILABLE] cannot reach grpc://127.0.0.1:1: "), "{error}");
}

#[test]
fn the_command_line_is_sound() {
    use clap::{CommandFactory, Parser};
    #[derive(Parser)]
    #[command(version, propagate_version = true)]
    struct Cli {
        #[command(subcommand)]
        command: ClientCommand,
    }
    Cli::command().debug_assert();
    let line = ["pandas-db", "get", "a/b", "--version", "7", "--columns", "a,b", "--server", "grpc://h:1"];
    let ClientCommand::Get(args) = Cli::try_parse_from(line).unwrap().command else { panic!("not get") };
    assert_eq!(args.version, Some(7));
    assert_eq!(args.columns, ["a", "b"]);
    let line = ["pandas-db", "rm", "a/b", "--version", "7"];
    let ClientCommand::Rm(args) = Cli::try_parse_from(line).unwrap().command else { panic!("not rm") };
    assert_eq!((args.version, args.yes), (Some(7), false));
}
