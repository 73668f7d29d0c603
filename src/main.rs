//! The program: reads the command line and does what it says.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pandas_db::cli::ClientCommand;
use pandas_db::config::{Config, ServeArgs};
use pandas_db::error::{Error, Result};

/// Keeps freed memory for some seconds before the system gets it back. Batches come and go by the megabyte, and memory
/// that is new to the process must be cleared page by page: with the system's allocator or mimalloc a read takes a
/// quarter longer (`benches/frame_roundtrip.py`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code for settings and arguments that cannot be used.
const EXIT_USAGE: u8 = 2;

/// A database for DataFrames: pandas in and out over Arrow Flight, Delta Lake at rest, SQL for everyone else.
#[derive(Parser)]
#[command(
    name = "pandas-db",
    version,
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    allow_negative_numbers = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (also without any command)
    #[command(args_override_self = true, allow_negative_numbers = true)]
    Serve(Box<ServeArgs>),
    #[command(flatten)]
    Client(Box<ClientCommand>),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            // The first paragraph says what is wrong; the rest is the manual.
            let text = error.render().to_string();
            let line = text.split("\n\n").next().unwrap_or(&text).split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("{line}");
            return ExitCode::from(EXIT_USAGE);
        }
        Err(help) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    match arguments.command {
        None => serve(arguments.serve),
        Some(Command::Serve(args)) => serve(*args),
        Some(Command::Client(command)) => report(run(pandas_db::cli::run(*command))),
    }
}

fn serve(args: ServeArgs) -> ExitCode {
    match args.with_file().and_then(|args| Config::from_args(&args)) {
        Ok(config) => {
            pandas_db::telemetry::start(config.log_format);
            run(pandas_db::server::serve(config)).map_or_else(refuse, |()| ExitCode::SUCCESS)
        }
        Err(error) => refuse(error),
    }
}

/// A server that cannot start says why in one line; once it has started it does not fail.
fn refuse(error: Error) -> ExitCode {
    eprintln!("error: {}", error.message());
    ExitCode::from(EXIT_USAGE)
}

fn run(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Error::internal("threads cannot be started").because(error))?.block_on(work)
}

fn report(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
