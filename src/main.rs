//! The program: reads the command line and does what it says.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use pandas_db::cli::{ClientCommand, RepairArgs, ServerOptions, UserCommand};
use pandas_db::config::{Config, ServeArgs};
use pandas_db::error::{Error, Result};
use tikv_jemalloc_ctl::{Access, AsName};

/// Keeps freed memory for some seconds before the system gets it back. Batches come and go by the megabyte, and memory
/// that is new to the process must be cleared page by page: with the system's allocator or mimalloc a read takes a
/// quarter longer (`benches/frame_roundtrip.py`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where the allocator's threshold stands, at which it hands freed blocks back at once.
const OVERSIZE_THRESHOLD: &[u8] = b"arena.0.oversize_threshold\0";

/// Exit code for settings and arguments that cannot be used.
const EXIT_USAGE: u8 = 2;

/// A database for DataFrames: pandas in and out over Arrow Flight, Delta Lake at rest, SQL for everyone else.
#[derive(Parser)]
#[command(
    name = "pandas-db",
    version,
    args_override_self = true,
    allow_negative_numbers = true,
    after_help = "The options above are those of serve. The other commands take --server URL and --token TOKEN, before \
                  or after the command, and options of their own."
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
    /// Make the table of --versions dynamodb://TABLE, and try storage and version store; takes the settings of serve
    #[command(args_override_self = true, allow_negative_numbers = true)]
    Init(Box<ServeArgs>),
    /// Make the version records anew from the logs of the datasets; takes the settings of serve
    #[command(args_override_self = true, allow_negative_numbers = true)]
    Repair(Box<RepairArgs>),
    /// Add, remove or list the users of --auth users
    #[command(subcommand)]
    User(UserCommand),
    #[command(flatten)]
    Client(Box<ClientCommand>),
}

fn main() -> ExitCode {
    keep_large_blocks();
    let arguments = match parse(std::env::args_os()) {
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
        Some(Command::Init(args)) => operate(*args, |config| async move { pandas_db::cli::init(&config).await }),
        Some(Command::Repair(args)) => match args.into_parts() {
            Ok((serve, settings)) => operate(serve, |config| pandas_db::cli::run_repair(config, settings)),
            Err(error) => refuse(error),
        },
        Some(Command::User(command)) => report(command.run()),
        Some(Command::Client(command)) => match command.check() {
            Ok(()) => report(run(pandas_db::cli::run(*command))),
            Err(error) => refuse(error),
        },
    }
}

/// Has the allocator keep freed blocks of 8 MiB and more for some seconds too. `.cargo/config.toml` asks for it, but
/// the first arena, which there is the only one, is made before that is applied (jemalloc 5.3, `arena_new` and
/// `arena_init_huge`). A load then had 270 MB cleared by the system that it had freed itself just before: a third of
/// its system time.
fn keep_large_blocks() {
    // A matter of speed alone: nothing depends on it.
    let _ = OVERSIZE_THRESHOLD.name().write(usize::MAX);
}

/// Lets the process open as many files as it can be allowed. Each connection is one, and a read that puts rows in order
/// holds some dozens; the usual limit of 1,024 is there for programs that call `select`.
fn allow_open_files() {
    // What cannot be raised stays: a read that finds the limit reached fails, and can be tried again.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
}

/// Reads the command line. The options that say which server to talk to may stand before the command as well; the
/// settings of `serve` may not, since they would be ignored there.
fn parse(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    let given = |options: Vec<Arg>| {
        let is_given = |option: &&Arg| matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine);
        options.iter().find(is_given).and_then(Arg::get_long).map(|long| format!("--{long}"))
    };
    let misplaced = match matches.subcommand_name() {
        None | Some("serve" | "init" | "repair" | "user") => given(options::<ServerOptions>()).map(|option| {
            format!("{option} is for the commands that talk to a server, not for serve, init, repair and user")
        }),
        Some(_) => None,
    };
    let misplaced = misplaced.or_else(|| {
        matches
            .subcommand_name()
            .and(given(options::<ServeArgs>()))
            .map(|option| format!("{option} is a setting of serve; it stands after 'serve', or without a command"))
    });
    match misplaced {
        Some(why) => Err(command.error(ErrorKind::ArgumentConflict, why)),
        None => Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command)),
    }
}

fn command() -> clap::Command {
    // Global ones are handed down to all commands. They are hidden, or the manual of `serve` would show them; those of
    // the other commands show their own.
    let ahead = options::<ServerOptions>().into_iter().map(|option| option.global(true).hide(true));
    Arguments::command().args(ahead)
}

/// The options that a part of the command line consists of.
fn options<T: Args>() -> Vec<Arg> {
    T::augment_args(clap::Command::new("")).get_arguments().cloned().collect()
}

fn serve(args: ServeArgs) -> ExitCode {
    match args.with_file().and_then(|args| Config::from_args(&args)) {
        Ok(config) => {
            allow_open_files();
            pandas_db::telemetry::start(config.log_format);
            run(pandas_db::server::serve(config)).map_or_else(refuse, |()| ExitCode::SUCCESS)
        }
        Err(error) => refuse(error),
    }
}

/// Runs a command that works on what a server has, with the server's settings.
fn operate<F: Future<Output = Result<()>>>(args: ServeArgs, command: impl FnOnce(Config) -> F) -> ExitCode {
    match args.with_file().and_then(|args| Config::from_args(&args)) {
        Ok(config) => {
            pandas_db::telemetry::start(config.log_format);
            report(run(command(config)))
        }
        Err(error) => refuse(error),
    }
}

/// What cannot be begun says why in one line: a server that cannot start, which does not fail once it has started, or a
/// command that lacks an argument.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&str> {
        std::iter::once("pandas-db").chain(line.split_whitespace()).collect()
    }

    fn refusal(line: &str) -> String {
        parse(words(line)).err().unwrap().to_string()
    }

    #[test]
    fn the_allocator_keeps_large_blocks() {
        keep_large_blocks();
        let threshold: usize = OVERSIZE_THRESHOLD.name().read().unwrap();
        assert_eq!(threshold, usize::MAX);
    }

    #[test]
    fn the_server_may_stand_before_and_after_the_command() {
        for line in [
            "--server grpc://h:1 --token t ls a",
            "ls a --server grpc://h:1 --token t",
            "--server grpc://h:1 ls --token t a",
            "--server grpc://other:2 --token t ls a --server grpc://h:1",
        ] {
            let Some(Command::Client(command)) = parse(words(line)).unwrap().command else { panic!("{line}") };
            let ClientCommand::Ls(args) = *command else { panic!("{line}") };
            assert_eq!(args.prefix.as_deref(), Some("a"), "{line}");
            assert_eq!(
                (args.server.server.as_str(), args.server.token.as_deref()),
                ("grpc://h:1", Some("t")),
                "{line}"
            );
        }
    }

    #[test]
    fn settings_of_serve_stand_with_serve_or_alone() {
        let alone = parse(words("--listen 127.0.0.1:1")).unwrap();
        assert!(alone.command.is_none());
        assert_eq!(alone.serve.listen.as_deref(), Some("127.0.0.1:1"));
        let Some(Command::Serve(args)) = parse(words("serve --listen 127.0.0.1:1")).unwrap().command else { panic!() };
        assert_eq!(args.listen.as_deref(), Some("127.0.0.1:1"));
        assert!(parse(words("")).unwrap().command.is_none());
        for line in ["--listen 127.0.0.1:1 ls", "--listen 127.0.0.1:1 serve", "--insecure true versions a"] {
            assert!(refusal(line).contains("is a setting of serve"), "{line}");
        }
        for line in ["--server grpc://h:1", "--server grpc://h:1 serve", "serve --token t", "--token t --listen x"] {
            assert!(refusal(line).contains("not for serve"), "{line}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        // A manual comes as a refusal to go on.
        assert!(refusal("ls --help").contains("--server <URL>"));
        assert!(!refusal("serve --help").contains("--server"));
        assert!(refusal("--help").starts_with("A database for DataFrames"));
    }
}
