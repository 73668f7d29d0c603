//! `get`: a dataset into a file, onto the screen, or down a pipe.
//!
//! Promises: rows arrive in the dataset's order whatever the number of endpoints, and a file written with `-o`
//! carries the schema and metadata that were loaded.

use std::io::IsTerminal;
use std::path::PathBuf;

use arrow_flight::FlightDescriptor;

use super::connect::{self, ServerOptions};
use super::download;
use super::output::{Format, Output};
use crate::error::Result;
use crate::proto::{GetDataframe, Packed};

/// What `get` takes.
#[derive(Debug, clap::Args)]
// `--version N` is an option of this command, so the flag that prints the program's version must not be here.
#[command(disable_version_flag = true)]
pub struct GetArgs {
    /// Dataset, e.g. my-project/dataset1
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Write here, in the format of the extension: .parquet, .csv, .arrow, .feather or .ipc
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only the versions of this external key
    #[arg(long, value_name = "KEY")]
    pub external_key: Option<String>,
    /// Only the newest version
    #[arg(long)]
    pub last: bool,
    /// Only this version
    #[arg(long, value_name = "N")]
    pub version: Option<i64>,
    /// As it stood at this ISO 8601 instant
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// Only these columns, in this order
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Only rows for which this SQL expression is true
    #[arg(long, value_name = "EXPR")]
    pub filter: Option<String>,
    /// Which server, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Reads the dataset and writes it out.
pub(super) async fn run(args: GetArgs) -> Result<()> {
    let format = match &args.output {
        Some(path) => Format::of_frame_file(path)?,
        None => Format::of_stdout(std::io::stdout().is_terminal()),
    };
    // With a filter the server's total may be that of the rows before it.
    let total_is_exact = args.filter.is_none();
    let command = GetDataframe {
        dataframe_name: args.name,
        external_key: args.external_key,
        use_last: args.last,
        version: args.version,
        as_of: args.as_of,
        columns: args.columns,
        filter: args.filter,
    };
    let mut client = connect::connect(&args.server).await?;
    let descriptor = FlightDescriptor::new_cmd(command.pack());
    let info = client.get_flight_info(descriptor).await.map_err(connect::flight_error)?;
    download::run(client, info, total_is_exact, Output { format, file: args.output }).await
}
