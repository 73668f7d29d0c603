//! `put`: one file as one load.
//!
//! Promises: the file streams in bounded memory; the server is told how many rows must arrive, so that a file that
//! fails halfway makes no version; and every try of one command carries the same idempotency key, so that retries
//! store the file once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor, PutResult};
use futures::{Stream, StreamExt, stream};
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use super::connect::{self, ServerOptions};
use super::input::{Rows, Source};
use super::{blocking, output, progress};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::proto::{LoadDataframe, LoadResult, Packed};
use crate::wire::{self, Encoder};

/// How often a load is tried in all.
const MAX_TRIES: u32 = 5;
/// The wait before the second try; each later one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait between tries, before the jitter.
const MAX_WAIT: Duration = Duration::from_secs(8);
/// Messages, of up to 4 MiB each, that wait for the network.
const QUEUED_MESSAGES: usize = 4;

/// What `put` takes.
#[derive(Debug, clap::Args)]
pub struct PutArgs {
    /// Parquet, CSV (with a header) or Arrow IPC file; told by content
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Dataset, e.g. my-project/dataset1
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Partition by this column of dates; may be repeated
    #[arg(long, value_name = "COL")]
    pub date: Vec<String>,
    /// Partition by ranges of this integer column; may be repeated
    #[arg(long, value_name = "COL")]
    pub id: Vec<String>,
    /// Your own name for the version
    #[arg(long, value_name = "KEY")]
    pub external_key: Option<String>,
    /// Replace the earlier versions of the external key
    #[arg(long)]
    pub keep_last: bool,
    /// A repeat with the same key stores nothing (default: a new random one)
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Which server, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Loads the file and prints one line about the version it made.
pub(super) async fn run(args: PutArgs) -> Result<()> {
    // Before the file is read: a wrong option should not cost a pass over it.
    let columns_keys = columns_keys(&args.date, &args.id)?;
    let file = args.file.clone();
    let reading = progress::spinner("reading the file");
    let source = blocking("reading the file", move || Source::open(&file)).await;
    reading.finish_and_clear();
    let source: Arc<dyn Rows> = Arc::new(source?);
    let command = LoadDataframe {
        dataframe_name: args.name.clone(),
        columns_keys,
        external_key: args.external_key,
        keep_last: args.keep_last,
        idempotency_key: Some(args.idempotency_key.unwrap_or_else(clock::new_ulid)),
        total_rows: Some(whole(source.count())?),
    };
    let result = load(&args.server, &command, source, "storing").await?;
    output::print(&format!("{}\n", summary(&args.name, &result)))
}

/// Sends rows until they are stored, or cannot be; `what` stands beside the progress bar.
pub(super) async fn load(
    server: &ServerOptions,
    command: &LoadDataframe,
    source: Arc<dyn Rows>,
    what: &str,
) -> Result<LoadResult> {
    let bar = progress::rows(what, Some(source.count()));
    let result = with_retries(server, command, &source, &bar).await;
    bar.finish_and_clear();
    result
}

fn columns_keys(dates: &[String], ids: &[String]) -> Result<HashMap<String, String>> {
    if let Some(both) = dates.iter().find(|column| ids.contains(column)) {
        return Err(Error::invalid(format!("column '{both}' is given to both --date and --id; choose one")));
    }
    let pairs = |columns: &[String], key: &str| -> Vec<_> {
        columns.iter().map(|column| (column.clone(), key.to_owned())).collect()
    };
    Ok(pairs(dates, "Date").into_iter().chain(pairs(ids, "ID")).collect())
}

/// A number of rows as it is sent.
pub(super) fn whole(rows: u64) -> Result<i64> {
    i64::try_from(rows).map_err(|_| Error::invalid("the file claims more rows than a dataset can hold"))
}

async fn with_retries(
    server: &ServerOptions,
    command: &LoadDataframe,
    source: &Arc<dyn Rows>,
    bar: &ProgressBar,
) -> Result<LoadResult> {
    let mut tries = 1;
    loop {
        match upload(server, command, source, bar).await {
            Err(error) if tries < MAX_TRIES && is_worth_a_retry(&error) => {
                bar.set_position(0);
                tokio::time::sleep(wait_after(tries)).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

fn is_worth_a_retry(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Conflict)
}

/// Half of it fixed and half random, so that clients that failed together do not return together.
fn wait_after(tries: u32) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(MAX_WAIT);
    wait / 2 + clock::jitter(wait / 2)
}

/// One try.
async fn upload(
    server: &ServerOptions,
    command: &LoadDataframe,
    source: &Arc<dyn Rows>,
    bar: &ProgressBar,
) -> Result<LoadResult> {
    let mut client = connect::connect(server).await?;
    let descriptor = FlightDescriptor::new_cmd(command.pack());
    let (sender, receiver) = mpsc::channel(QUEUED_MESSAGES);
    let source = Arc::clone(source);
    let feeding = blocking("reading the file", move || feed(source.as_ref(), descriptor, &sender));
    let call = async {
        let answers = client.do_put(until_end(receiver)).await.map_err(connect::flight_error)?;
        confirmation(answers, bar).await
    };
    tokio::pin!(call);
    tokio::select! {
        // A file that fails ends the command here: the call is dropped, which cancels it on the server.
        fed = feeding => {
            fed?;
            call.await
        }
        answer = &mut call => answer,
    }
}

/// Reads the file into messages; `None` marks the end. A closed channel means that the call is over.
fn feed(source: &dyn Rows, descriptor: FlightDescriptor, sender: &mpsc::Sender<Option<FlightData>>) -> Result<()> {
    let wrong = |error| Error::invalid(format!("the file holds data that Arrow cannot send: {error}"));
    let mut encoder = Encoder::try_new(source.schema()).map_err(wrong)?;
    if sender.blocking_send(Some(encoder.schema(descriptor))).is_err() {
        return Ok(());
    }
    for batch in source.batches()? {
        for slice in wire::slices(&batch?) {
            for message in encoder.slice(&slice).map_err(wrong)? {
                if sender.blocking_send(Some(message.into_flight_data())).is_err() {
                    return Ok(());
                }
            }
        }
    }
    // The call may be over by now; its outcome says so.
    let _ = sender.blocking_send(None);
    Ok(())
}

/// The messages up to the end mark. Without the mark the stream stays open, because a clean end would tell the
/// server that the file was complete; [`upload`] then drops it.
fn until_end(
    receiver: mpsc::Receiver<Option<FlightData>>,
) -> impl Stream<Item = Result<FlightData, FlightError>> + Send + 'static {
    stream::unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Some(Some(message)) => Some((Ok(message), receiver)),
            Some(None) => None,
            None => std::future::pending().await,
        }
    })
}

/// Follows the server's reports to the one that says the load is durable.
async fn confirmation(
    mut answers: impl Stream<Item = Result<PutResult, FlightError>> + Unpin,
    bar: &ProgressBar,
) -> Result<LoadResult> {
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(connect::flight_error)?;
        if answer.app_metadata.is_empty() {
            continue;
        }
        let result: LoadResult = serde_json::from_slice(&answer.app_metadata)
            .map_err(|error| Error::internal("the server's report about the load cannot be read").because(error))?;
        bar.set_position(u64::try_from(result.rows).unwrap_or(0));
        if result.state == "committed" {
            return Ok(result);
        }
    }
    Err(Error::unavailable("the server ended the load without confirming it"))
}

/// For example `my/data: version 3, 336,776 rows in 366 chunks`.
fn summary(name: &str, result: &LoadResult) -> String {
    let name = result.dataframe_name.as_deref().unwrap_or(name);
    let count = |number: i64, noun| output::counted(u64::try_from(number).unwrap_or(0), noun);
    let chunks = result.chunks_total.unwrap_or_else(|| i64::try_from(result.chunks.len()).unwrap_or(i64::MAX));
    let repeated = match result.duplicate {
        Some(true) => " (stored by an earlier load with this idempotency key)",
        _ => "",
    };
    format!(
        "{name}: version {}, {} in {}{repeated}",
        result.version.unwrap_or_default(),
        count(result.total_rows.unwrap_or(result.rows), "row"),
        count(chunks, "chunk"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_line() {
        let mut result = LoadResult {
            state: "committed".into(),
            dataframe_name: Some("my/data".into()),
            version: Some(3),
            total_rows: Some(336_776),
            chunks_total: Some(366),
            ..Default::default()
        };
        assert_eq!(summary("x", &result), "my/data: version 3, 336,776 rows in 366 chunks");
        result.total_rows = Some(1);
        result.chunks_total = Some(1);
        assert_eq!(summary("x", &result), "my/data: version 3, 1 row in 1 chunk");
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        for tries in 1..MAX_TRIES * 10 {
            let wait = wait_after(tries);
            assert!(wait >= FIRST_WAIT / 2 && wait <= MAX_WAIT, "{wait:?}");
        }
    }

    #[test]
    fn keys_of_columns() {
        let keys = columns_keys(&["d".into()], &["a".into(), "b".into()]).unwrap();
        assert_eq!(keys.len(), 3);
        assert_eq!(keys["d"], "Date");
        assert_eq!(keys["b"], "ID");
        assert!(columns_keys(&["d".into()], &["d".into()]).is_err());
    }

    #[test]
    fn only_what_can_pass_is_retried() {
        assert!(is_worth_a_retry(&Error::unavailable("")));
        assert!(is_worth_a_retry(&Error::conflict("")));
        assert!(!is_worth_a_retry(&Error::invalid("")));
        assert!(!is_worth_a_retry(&Error::exhausted("")));
    }

    #[tokio::test]
    async fn a_load_without_confirmation_is_a_failure() {
        let receiving = PutResult { app_metadata: br#"{"state":"receiving","rows":5,"bytes":9}"#.to_vec().into() };
        let committed = PutResult { app_metadata: br#"{"state":"committed","rows":5,"version":1}"#.to_vec().into() };
        let bar = progress::none();
        let partial = stream::iter([Ok(receiving.clone())]);
        assert_eq!(confirmation(partial, &bar).await.unwrap_err().kind(), Kind::Unavailable);
        let full = stream::iter([Ok(receiving), Ok(committed)]);
        assert_eq!(confirmation(full, &bar).await.unwrap().version, Some(1));
    }

    #[tokio::test]
    async fn a_stream_without_its_end_mark_does_not_end() {
        let (sender, receiver) = mpsc::channel(2);
        sender.send(Some(FlightData::default())).await.unwrap();
        drop(sender);
        let mut stream = Box::pin(until_end(receiver));
        assert!(stream.next().await.is_some());
        assert!(tokio::time::timeout(Duration::from_millis(50), stream.next()).await.is_err());
    }
}
