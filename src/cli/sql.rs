//! `sql`: one statement over Flight SQL, and its rows in a format of choice.
//!
//! Promise: rows are written as they arrive, in every format but the table, which shows the first ones and counts.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use arrow_flight::FlightDescriptor;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use prost::Message;

use super::connect::{self, ServerOptions};
use super::download;
use super::output::{Format, Output};
use crate::error::{Error, Result};

/// What `sql` takes.
#[derive(Debug, clap::Args)]
pub struct SqlArgs {
    /// The statement
    #[arg(value_name = "QUERY")]
    pub query: String,
    /// How to write the rows (default: the extension of -o, else a table)
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<SqlFormat>,
    /// Write here instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Which server, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// The values of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SqlFormat {
    /// The first rows, for reading on a screen
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One array of records
    Json,
    /// A Parquet file
    Parquet,
}

/// Runs the statement and writes its rows out.
pub(super) async fn run(args: SqlArgs) -> Result<()> {
    let format = chosen(args.format, args.output.as_deref(), std::io::stdout().is_terminal())?;
    let mut client = connect::connect(&args.server).await?;
    let command = CommandStatementQuery { query: args.query, transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let info = client.get_flight_info(descriptor).await.map_err(connect::flight_error)?;
    download::run(client, info, true, Output { format, file: args.output }).await
}

fn chosen(format: Option<SqlFormat>, file: Option<&Path>, on_terminal: bool) -> Result<Format> {
    match (format, file) {
        (None, None) => Ok(Format::Table),
        (None, Some(path)) => Format::of_result_file(path),
        (Some(SqlFormat::Table), Some(_)) => {
            Err(Error::invalid("a table shows the first rows only; choose csv, json or parquet for a file"))
        }
        (Some(SqlFormat::Parquet), None) if on_terminal => {
            Err(Error::invalid("Parquet is not for a terminal; give -o FILE, or pipe the output"))
        }
        (Some(SqlFormat::Table), None) => Ok(Format::Table),
        (Some(SqlFormat::Csv), _) => Ok(Format::Csv),
        (Some(SqlFormat::Json), _) => Ok(Format::Json),
        (Some(SqlFormat::Parquet), _) => Ok(Format::Parquet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_flag_file_and_terminal() {
        assert_eq!(chosen(None, None, true).unwrap(), Format::Table);
        assert_eq!(chosen(None, None, false).unwrap(), Format::Table);
        assert_eq!(chosen(None, Some(Path::new("x.json")), true).unwrap(), Format::Json);
        assert_eq!(chosen(Some(SqlFormat::Csv), Some(Path::new("x.json")), true).unwrap(), Format::Csv);
        assert_eq!(chosen(Some(SqlFormat::Parquet), None, false).unwrap(), Format::Parquet);
        assert!(chosen(Some(SqlFormat::Parquet), None, true).is_err());
        assert!(chosen(Some(SqlFormat::Table), Some(Path::new("x.csv")), true).is_err());
        assert!(chosen(None, Some(Path::new("x.txt")), true).is_err());
    }
}
