//! `vacuum`: the files of what ended long enough ago deleted.
//!
//! Promise: one line says how much went.

use super::connect::ServerOptions;
use super::{action, columns, output, progress};
use crate::error::Result;
use crate::proto::{Vacuum, Vacuumed};

/// What `vacuum` takes.
#[derive(Debug, clap::Args)]
pub struct VacuumArgs {
    /// Dataset, e.g. my-project/dataset1
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Which server, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Vacuums, and prints one line about it.
pub(super) async fn run(args: VacuumArgs) -> Result<()> {
    let bar = progress::spinner("deleting files");
    let done: Result<Vacuumed> = action::one(&args.server, "vacuum", &Vacuum { dataframe_name: args.name }).await;
    bar.finish_and_clear();
    output::print(&format!("{}\n", summary(&done?)))
}

/// For example `my/data: deleted 12 files (3.20 MiB), removed 4 versions`.
fn summary(done: &Vacuumed) -> String {
    let Vacuumed { dataframe_name, files_deleted, bytes_deleted, versions_removed } = done;
    if (*files_deleted, *versions_removed) == (0, 0) {
        return format!("{dataframe_name}: nothing to vacuum");
    }
    let counted = |count: i64, noun| output::counted(u64::try_from(count).unwrap_or(0), noun);
    let (files, versions) = (counted(*files_deleted, "file"), counted(*versions_removed, "version"));
    format!("{dataframe_name}: deleted {files} ({}), removed {versions}", columns::size(*bytes_deleted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_line() {
        let done = |files_deleted, bytes_deleted, versions_removed| {
            let dataframe_name = "my/data".into();
            summary(&Vacuumed { dataframe_name, files_deleted, bytes_deleted, versions_removed })
        };
        assert_eq!(done(1_200, 3 << 20, 1), "my/data: deleted 1,200 files (3.00 MiB), removed 1 version");
        assert_eq!(done(0, 0, 2), "my/data: deleted 0 files (0 B), removed 2 versions");
        assert_eq!(done(0, 0, 0), "my/data: nothing to vacuum");
    }
}
