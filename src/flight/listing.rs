//! `ListFlights`: the datasets of the caller's tenant whose names begin with a prefix.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use unicode_normalization::UnicodeNormalization;

use crate::auth::{Access, Principal};
use crate::error::{Error, Kind, Result};
use crate::names::DatasetName;
use crate::proto::{GetDataframe, Packed};
use crate::table::Catalog;
use crate::versions::DatasetRecord;

/// Where a listing goes on.
struct Cursor {
    datasets: Arc<Catalog>,
    caller: Principal,
    prefix: String,
    page: VecDeque<DatasetRecord>,
    after: Option<DatasetName>,
    ended: bool,
}

/// Reads the criteria of a listing.
///
/// # Errors
/// [`Kind::Invalid`] when they are no text.
pub(super) fn read_prefix(expression: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(expression);
    let text = text.map_err(|error| Error::invalid("the criteria are not UTF-8; give a name prefix").because(error))?;
    Ok(text.nfc().collect())
}

/// Lists datasets by name, a page at a time, as they are taken.
pub(super) fn list(
    datasets: Arc<Catalog>,
    caller: Principal,
    prefix: String,
) -> BoxStream<'static, Result<FlightInfo>> {
    let cursor = Cursor { datasets, caller, prefix, page: VecDeque::new(), after: None, ended: false };
    stream::try_unfold(cursor, |mut cursor| async move {
        let info = cursor.next().await?;
        Ok::<_, Error>(info.map(|info| (info, cursor)))
    })
    .into_stream()
    .boxed()
}

impl Cursor {
    async fn next(&mut self) -> Result<Option<FlightInfo>> {
        loop {
            if let Some(record) = self.page.pop_front() {
                match self.describe(&record).await {
                    // It was deleted since the page was read.
                    Err(error) if error.kind() == Kind::NotFound => continue,
                    // One dataset that cannot be read must not hide all others.
                    Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::Unimplemented) => {
                        tracing::warn!(
                            error = %error.in_full(), dataset = %record.name,
                            "a dataset is left out of a listing"
                        );
                        continue;
                    }
                    described => return described.map(Some),
                }
            }
            if self.ended {
                return Ok(None);
            }
            let (page, last) = self.datasets.list(&self.caller, &self.prefix, self.after.as_ref()).await?;
            self.ended = last.is_none();
            self.after = last;
            self.page = page.into();
        }
    }

    async fn describe(&self, record: &DatasetRecord) -> Result<FlightInfo> {
        let (_, snapshot) = self.datasets.open(&self.caller, &record.name, Access::Read).await?;
        let path = record.name.segments().map(str::to_string).collect();
        let command = GetDataframe { dataframe_name: record.name.as_str().into(), ..Default::default() };
        let ticket = FlightEndpoint::new().with_ticket(Ticket { ticket: command.pack() });
        let info = FlightInfo::new()
            .try_with_schema(snapshot.union_of_live()?.as_ref())
            .map_err(|error| Error::internal("a schema cannot be sent").because(error))?;
        let head = snapshot.head();
        Ok(info
            .with_endpoint(ticket)
            .with_descriptor(FlightDescriptor::new_path(path))
            .with_total_records(head.rows)
            .with_total_bytes(head.bytes))
    }
}
