//! `versions`: the versions of a dataset, with what each brought and what became of it.
//!
//! Promise: one line per version in version order, in columns that line up.

use super::columns::{self, Side};
use super::connect::ServerOptions;
use super::{action, output};
use crate::error::Result;
use crate::proto::{ListVersions, VersionInfo};

/// The columns of the list.
const COLUMNS: [(&str, Side); 8] = [
    ("VERSION", Side::Right),
    ("KEY", Side::Left),
    ("STATE", Side::Left),
    ("CREATED", Side::Left),
    ("BY", Side::Left),
    ("ROWS", Side::Right),
    ("BYTES", Side::Right),
    ("CHUNKS", Side::Right),
];

/// What `versions` takes.
#[derive(Debug, clap::Args)]
pub struct VersionsArgs {
    /// Dataset, e.g. my-project/dataset1
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Only the versions of this external key
    #[arg(long, value_name = "KEY")]
    pub external_key: Option<String>,
    /// Also versions that were replaced or deleted or have expired, until they are vacuumed
    #[arg(long)]
    pub all: bool,
    /// Which server, and as whom.
    #[command(flatten)]
    pub server: ServerOptions,
}

/// Lists versions.
pub(super) async fn run(args: VersionsArgs) -> Result<()> {
    let command =
        ListVersions { dataframe_name: args.name, external_key: args.external_key, include_replaced: args.all };
    let versions: Vec<VersionInfo> = action::all(&args.server, "list_versions", &command).await?;
    output::print(&columns::lines(COLUMNS, versions.into_iter().map(line).collect()))
}

fn line(version: VersionInfo) -> [String; 8] {
    [
        version.version.to_string(),
        version.external_key,
        version.state,
        version.created_at,
        version.created_by,
        columns::count(version.rows),
        columns::size(version.bytes),
        columns::count(version.chunks),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_line() {
        let version = VersionInfo {
            version: 1_000,
            external_key: "monday".into(),
            state: "replaced".into(),
            created_at: "2024-06-01T00:00:00.000001Z".into(),
            created_by: "local".into(),
            rows: 336_776,
            bytes: 3 << 20,
            chunks: 366,
            ..Default::default()
        };
        let text = columns::lines(COLUMNS, vec![line(version)]);
        let [names, shown] = [0, 1].map(|at| text.lines().nth(at).unwrap());
        assert_eq!(names, "VERSION  KEY     STATE     CREATED                      BY        ROWS     BYTES  CHUNKS");
        assert_eq!(shown, "   1000  monday  replaced  2024-06-01T00:00:00.000001Z  local  336,776  3.00 MiB     366");
    }
}
