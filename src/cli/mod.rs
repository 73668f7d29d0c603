//! The command-line client: `put`, `get`, `sql`, `ls`, `versions`, `rm`, `compact`, `vacuum` and `import-legacy`, all
//! over Arrow Flight; and what asks no server: `user`, which changes the users file, `init` and
//! `repair`.
//!
//! Promises: a file of any size passes in bounded memory, a file that `get` or `sql` writes appears whole or not at
//! all, `rm` deletes nothing unless somebody said yes, progress is drawn on a terminal only, and a reader that closes
//! the pipe early ends the command quietly.

mod action;
mod columns;
mod compact;
mod connect;
mod download;
mod get;
mod import_legacy;
mod init;
mod input;
mod ls;
mod output;
mod progress;
mod put;
mod repair;
mod rm;
mod sql;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod user;
mod vacuum;
mod versions;

pub use compact::CompactArgs;
pub use connect::ServerOptions;
pub use get::GetArgs;
pub use import_legacy::ImportLegacyArgs;
pub use init::init;
pub use ls::LsArgs;
pub use put::PutArgs;
pub use repair::{RepairArgs, run_repair};
pub use rm::RmArgs;
pub use sql::{SqlArgs, SqlFormat};
pub use user::UserCommand;
pub use vacuum::VacuumArgs;
pub use versions::VersionsArgs;

use crate::error::{Error, Result};

/// The commands that talk to a server.
#[derive(Debug, clap::Subcommand)]
pub enum ClientCommand {
    /// Load a Parquet, CSV or Arrow IPC file as a new version of a dataset
    Put(PutArgs),
    /// Read a dataset into a file, or show it
    Get(GetArgs),
    /// Run a SQL statement
    Sql(SqlArgs),
    /// List datasets
    Ls(LsArgs),
    /// List the versions of a dataset
    Versions(VersionsArgs),
    /// Delete a dataset, or one version of it
    Rm(RmArgs),
    /// Merge the small chunks of a dataset
    Compact(CompactArgs),
    /// Delete the files of what was replaced or deleted long enough ago
    Vacuum(VacuumArgs),
    /// Load what the first pandas-db stored: every version, in order
    ImportLegacy(ImportLegacyArgs),
}

impl ClientCommand {
    /// Says whether the command can be run as it stands; it asks no server.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) when an argument is missing.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Rm(args) => rm::check(args),
            _ => Ok(()),
        }
    }
}

/// Runs one client command to its end.
pub async fn run(command: ClientCommand) -> Result<()> {
    match command {
        ClientCommand::Put(args) => put::run(args).await,
        ClientCommand::Get(args) => get::run(args).await,
        ClientCommand::Sql(args) => sql::run(args).await,
        ClientCommand::Ls(args) => ls::run(args).await,
        ClientCommand::Versions(args) => versions::run(args).await,
        ClientCommand::Rm(args) => rm::run(args).await,
        ClientCommand::Compact(args) => compact::run(args).await,
        ClientCommand::Vacuum(args) => vacuum::run(args).await,
        ClientCommand::ImportLegacy(args) => import_legacy::run(args).await,
    }
}

/// Runs file work on a thread that may block. The readers and writers of Arrow panic on some damaged files, so a
/// panic of theirs becomes an error like any other.
async fn blocking<T, F>(doing: &'static str, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::internal(format!("{doing} failed unexpectedly; the data may be damaged")).because(error))
        }
    }
}
