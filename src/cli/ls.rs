//! `ls`: the datasets a caller may see, with their rows and bytes.
//!
//! Promise: one line per dataset in the server's order, in columns that line up.

use arrow_flight::FlightInfo;
use futures::TryStreamExt;
use indicatif::{HumanBytes, HumanCount};

use super::connect::{self, ServerOptions};
use super::output;
use crate::error::Result;

/// What stands where the server gave no number.
const UNKNOWN: &str = "?";

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
    output::print(&table(lines))
}

fn line(info: &FlightInfo) -> [String; 3] {
    let name = info.flight_descriptor.as_ref().map(|descriptor| descriptor.path.join("/")).unwrap_or_default();
    let rows = u64::try_from(info.total_records).map_or(UNKNOWN.to_owned(), |rows| HumanCount(rows).to_string());
    let bytes = u64::try_from(info.total_bytes).map_or(UNKNOWN.to_owned(), |bytes| HumanBytes(bytes).to_string());
    [name, rows, bytes]
}

/// Names to the left, numbers to the right.
fn table(lines: Vec<[String; 3]>) -> String {
    let header = ["NAME", "ROWS", "BYTES"].map(str::to_owned);
    let lines: Vec<[String; 3]> = std::iter::once(header).chain(lines).collect();
    let mut widths = [0; 3];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let [name_width, rows_width, bytes_width] = widths;
    let text = lines
        .iter()
        .map(|[name, rows, bytes]| format!("{name:<name_width$}  {rows:>rows_width$}  {bytes:>bytes_width$}\n"));
    text.collect()
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
        let text = table(vec![line(&info), line(&unknown)]);
        let expected = "NAME           ROWS     BYTES\nmy/dätaset  336,776  3.00 MiB\n                  ?         ?\n";
        assert_eq!(text, expected);
    }
}
