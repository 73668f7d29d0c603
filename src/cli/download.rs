//! What `get` and `sql` share: the endpoints of a FlightInfo, fetched in order and handed to a writer.
//!
//! Promises: only a few batches are in memory at a time, however large the answer; and the writer learns of the end
//! only when every endpoint was read to its end, so that a broken connection never looks like a complete file.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::{FlightClient, FlightEndpoint, FlightInfo};
use futures::StreamExt;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use super::connect::flight_error;
use super::output::{self, Format, Output, Piece};
use super::{blocking, progress};
use crate::error::{Error, Result};

/// Batches that wait for the writer.
const QUEUED_BATCHES: usize = 4;

/// Fetches all of `info` and writes it out. `total_is_exact` tells whether its number of records can be relied on.
pub(super) async fn run(client: FlightClient, info: FlightInfo, total_is_exact: bool, output: Output) -> Result<()> {
    let total = u64::try_from(info.total_records).ok().filter(|_| total_is_exact);
    let bar = if output.format == Format::Table { progress::none() } else { progress::rows("reading", total) };
    let outcome = transfer(Download::open(client, info).await?, total, output.clone(), &bar).await;
    bar.finish_and_clear();
    let rows = outcome?;
    match &output.file {
        Some(path) => output::print(&format!("{}: {}\n", path.display(), output::counted(rows, "row"))),
        None => Ok(()),
    }
}

async fn transfer(mut download: Download, total: Option<u64>, output: Output, bar: &ProgressBar) -> Result<u64> {
    let (sender, receiver) = mpsc::channel(QUEUED_BATCHES);
    let schema = Arc::clone(&download.schema);
    // Without -o an interrupt just ends the process; with it the temporary file has to go first.
    let to_file = output.file.is_some();
    let writing = blocking("writing the rows", move || output.write(schema, total, receiver));
    let reading = async {
        tokio::select! {
            read = pump(&mut download, sender, bar) => read,
            () = interrupted(to_file) => Err(Error::cancelled("interrupted; nothing was written")),
        }
    };
    let (written, read) = tokio::join!(writing, reading);
    // A writer that fails closes the channel, and the pump ends well; a pump that fails makes the writer give up.
    read?;
    written
}

/// Moves batches until the end, or until the writer has enough.
async fn pump(download: &mut Download, sender: mpsc::Sender<Piece>, bar: &ProgressBar) -> Result<()> {
    loop {
        let next = tokio::select! {
            // Seen at once, not only when a slow server has sent the next batch.
            () = sender.closed() => return Ok(()),
            next = download.next() => next?,
        };
        let Some(batch) = next else { break };
        bar.inc(batch.num_rows() as u64);
        if sender.send(Piece::Batch(batch)).await.is_err() {
            return Ok(());
        }
    }
    // The writer may have had enough just now.
    let _ = sender.send(Piece::End).await;
    Ok(())
}

/// Ends at Ctrl-C; never, when that is not asked for.
async fn interrupted(wanted: bool) {
    if wanted && tokio::signal::ctrl_c().await.is_ok() {
        return;
    }
    std::future::pending().await
}

/// The rows of a FlightInfo, endpoint by endpoint.
struct Download {
    client: FlightClient,
    schema: SchemaRef,
    endpoints: VecDeque<FlightEndpoint>,
    current: Option<FlightRecordBatchStream>,
    first: Option<RecordBatch>,
}

impl Download {
    /// Opens the first endpoint, because the schema that counts is the one its rows come with.
    async fn open(client: FlightClient, info: FlightInfo) -> Result<Self> {
        let mut download = Self {
            client,
            schema: Arc::new(arrow::datatypes::Schema::empty()),
            endpoints: info.endpoint.clone().into(),
            current: None,
            first: None,
        };
        if let Some(endpoint) = download.endpoints.pop_front() {
            let mut stream = download.stream(endpoint).await?;
            download.first = stream.next().await.transpose().map_err(flight_error)?;
            let schema = stream.schema().cloned();
            download.current = Some(stream);
            if let Some(schema) = schema {
                download.schema = schema;
                return Ok(download);
            }
        }
        let schema = info
            .try_decode_schema()
            .map_err(|error| Error::internal("the server's answer has no schema that can be read").because(error))?;
        download.schema = Arc::new(schema);
        Ok(download)
    }

    async fn stream(&mut self, endpoint: FlightEndpoint) -> Result<FlightRecordBatchStream> {
        let ticket = endpoint.ticket.ok_or_else(|| Error::internal("the server's answer has no ticket"))?;
        self.client.do_get(ticket).await.map_err(flight_error)
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.first.take() {
            return Ok(Some(batch));
        }
        loop {
            if let Some(stream) = &mut self.current
                && let Some(batch) = stream.next().await
            {
                return batch.map(Some).map_err(flight_error);
            }
            let Some(endpoint) = self.endpoints.pop_front() else {
                return Ok(None);
            };
            self.current = Some(self.stream(endpoint).await?);
        }
    }
}
