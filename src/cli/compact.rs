//! `compact`: small chunks merged into large ones.
//!
//! Promise: one line says how many chunks there were and are.

use super::connect::ServerOptions;
use super::{action, columns, output, progress};
use crate::error::Result;
use crate::proto::{Compact, Compacted};

/// What `compact` takes.
#[derive(Debug, clap::Args)]
pub struct CompactArgs {
    /// Dataset, e.g. my-project/dataset1
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Which server, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Merges, and prints one line about it.
pub(super) async fn run(args: CompactArgs) -> Result<()> {
    let bar = progress::spinner("merging chunks");
    let done: Result<Compacted> = action::one(&args.server, "compact", &Compact { dataframe_name: args.name }).await;
    bar.finish_and_clear();
    output::print(&format!("{}\n", summary(&done?)))
}

/// For example `my/data: merged 1,000 chunks into 12`.
fn summary(done: &Compacted) -> String {
    let Compacted { dataframe_name, chunks_before, chunks_after } = done;
    if chunks_before == chunks_after {
        let chunks = output::counted(u64::try_from(*chunks_after).unwrap_or(0), "chunk");
        return format!("{dataframe_name}: nothing to merge in {chunks}");
    }
    format!("{dataframe_name}: merged {} chunks into {}", columns::count(*chunks_before), columns::count(*chunks_after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_line() {
        let done = |chunks_before, chunks_after| {
            summary(&Compacted { dataframe_name: "my/data".into(), chunks_before, chunks_after })
        };
        assert_eq!(done(1_000, 12), "my/data: merged 1,000 chunks into 12");
        assert_eq!(done(1, 1), "my/data: nothing to merge in 1 chunk");
        assert_eq!(done(0, 0), "my/data: nothing to merge in 0 chunks");
    }
}
