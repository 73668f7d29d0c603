//! `ls`: the datasets a caller may see, with their rows and bytes.
//!
//! Promise: one line per dataset in the server's order, in columns that line up.

use arrow_flight::FlightInfo;
use futures::TryStreamExt;

use super::columns::{self, Side};
use super::connect::{self, ServerOptions};
use super::output;
use crate::error::Result;

/// The columns of the list.
const COLUMNS: [(&str, Side); 3] = [("NAME", Side::Left), ("ROWS", Side::Right), ("BYTES", Side::Right)];

/// What `ls` takes.
#[derive(Debug, clap::Args)]
pub struct LsArgs {
    /// Only datasets whose name begins with this
    #[arg(value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// Which server, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Lists datasets.
pub(super) async fn run(args: LsArgs) -> Result<()> {
    let mut client = connect::connect(&args.server).await?;
    let flights = client.list_flights(args.prefix.unwrap_or_default()).await.map_err(connect::flight_error)?;
    let lines: Vec<[String; 3]> =
        flights.map_ok(|info| line(&info)).try_collect().await.map_err(connect::flight_error)?;
    output::print(&columns::lines(COLUMNS, lines))
}

fn line(info: &FlightInfo) -> [String; 3] {
    let name = info.flight_descriptor.as_ref().map(|descriptor| descriptor.path.join("/")).unwrap_or_default();
    [name, columns::count(info.total_records), columns::size(info.total_bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_flight::FlightDescriptor;

    #[test]
    fn columns_line_up() {
        let info = FlightInfo::new()
            .with_descriptor(FlightDescriptor::new_path(vec!["my".into(), "dätaset".into()]))
            .with_total_records(336_776)
            .with_total_bytes(3 * 1024 * 1024);
        let unknown = FlightInfo::new().with_total_records(-1).with_total_bytes(-1);
        let text = columns::lines(COLUMNS, vec![line(&info), line(&unknown)]);
        let expected = "NAME           ROWS     BYTES\nmy/dätaset  336,776  3.00 MiB\n                  ?         ?\n";
        assert_eq!(text, expected);
    }
}
