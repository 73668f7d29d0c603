//! `rm`: the end of a dataset, or of one version of it.
//!
//! Promise: nothing is deleted unless somebody said yes, on the command line or when asked on a terminal.

use std::io::{self, IsTerminal, Write};

use super::connect::ServerOptions;
use super::{action, blocking, output};
use crate::error::{Error, Result, shorten};
use crate::proto::{DeleteDataframe, DeleteVersion};

/// What `rm` takes.
#[derive(Debug, clap::Args)]
// `--version N` is an option of this command, so the flag that prints the program's version must not be here.
#[command(disable_version_flag = true)]
pub struct RmArgs {
    /// Dataset, e.g. my-project/dataset1
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Delete this version alone, not the dataset
    #[arg(long, value_name = "N")]
    pub version: Option<i64>,
    /// Delete without asking
    #[arg(long)]
    pub yes: bool,
    /// Which server, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Says whether the command can be run as it stands: somebody must be there to answer, or have answered.
pub(super) fn check(args: &RmArgs) -> Result<()> {
    check_with(args, io::stdin().is_terminal() && io::stderr().is_terminal())
}

fn check_with(args: &RmArgs, can_ask: bool) -> Result<()> {
    if args.yes || can_ask {
        return Ok(());
    }
    Err(Error::invalid("rm asks before it deletes, and there is no terminal to ask on; give --yes to delete at once"))
}

/// Deletes, and prints one line about what.
pub(super) async fn run(args: RmArgs) -> Result<()> {
    let what = match args.version {
        Some(number) => format!("version {number} of {}", shorten(&args.name)),
        None => format!("{} with all its versions", shorten(&args.name)),
    };
    if !args.yes && !blocking("asking", move || ask(&what)).await? {
        return Err(Error::cancelled("nothing was deleted"));
    }
    let done = match args.version {
        Some(version) => {
            let command = DeleteVersion { dataframe_name: args.name, version };
            let done: DeleteVersion = action::one(&args.server, "delete_version", &command).await?;
            format!("{}: version {} deleted\n", done.dataframe_name, done.version)
        }
        None => {
            let command = DeleteDataframe { dataframe_name: args.name };
            let done: DeleteDataframe = action::one(&args.server, "delete_dataframe", &command).await?;
            format!("{}: deleted\n", done.dataframe_name)
        }
    };
    output::print(&done)
}

/// Asks on the terminal. Blocks.
fn ask(what: &str) -> Result<bool> {
    let unanswered = |error: io::Error| {
        Error::invalid(format!("the question cannot be asked ({error}); give --yes to delete at once")).because(error)
    };
    // Not on stdout, which may be piped and is for results.
    let mut terminal = io::stderr();
    write!(terminal, "Delete {what}? [y/N] ").and_then(|()| terminal.flush()).map_err(unanswered)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(unanswered)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::super::tls::TlsOptions;
    use super::*;

    #[test]
    fn somebody_must_say_yes() {
        let server = ServerOptions { server: "grpc://h:1".into(), token: None, tls: TlsOptions::default() };
        let mut args = RmArgs { name: "a/b".into(), version: Some(1), yes: false, server };
        assert!(check_with(&args, true).is_ok());
        assert!(check_with(&args, false).unwrap_err().message().contains("--yes"));
        args.yes = true;
        assert!(check_with(&args, false).is_ok());
        for (answer, yes) in [("y\n", true), (" YES \r\n", true), ("\n", false), ("", false), ("yesterday", false)] {
            assert_eq!(is_yes(answer), yes, "{answer:?}");
        }
    }
}
