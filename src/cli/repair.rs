//! `repair`: makes the version records anew from the logs of the datasets. It asks no server.

use std::io::Write;
use std::sync::Arc;

use crate::aws;
use crate::config::{Config, ServeArgs, VersionsPlace};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names::TenantId;
use crate::storage::Storage;
use crate::table::{Catalog, Finding, RepairSettings, repair};
use crate::versions::{DynamoVersionStore, EmbeddedVersionStore, VersionStore};

/// The settings of `serve`, and what is to be repaired.
#[derive(Debug, clap::Args)]
pub struct RepairArgs {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Of several tables of one name give it to the newest; the others are deleted after --vacuum-after
    #[arg(long)]
    newest_wins: bool,
    /// A tenant with a bucket of its own that may have no record left; may be given several times
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    #[command(flatten)]
    serve: ServeArgs,
}

impl RepairArgs {
    /// The settings of `serve`, and how to repair.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a tenant that cannot be.
    pub fn into_parts(self) -> Result<(ServeArgs, RepairSettings)> {
        let tenants = self.tenants.iter().map(|tenant| TenantId::parse(tenant)).collect::<Result<_>>()?;
        Ok((self.serve, RepairSettings { dry_run: self.dry_run, newest_wins: self.newest_wins, tenants }))
    }
}

/// Brings the records of all datasets to what their logs say, and says on stdout what was done.
///
/// # Errors
/// Those of the storage and of the version store, and when something was found that an operator must decide.
pub async fn run_repair(config: Config, settings: RepairSettings) -> Result<()> {
    let metrics = Metrics::default();
    let storage = Storage::open(&config.storage, false, &metrics).await?;
    let versions: Arc<dyn VersionStore> = match &config.versions {
        VersionsPlace::Embedded(file) => Arc::new(EmbeddedVersionStore::open(file)?),
        VersionsPlace::DynamoDb { table } => {
            Arc::new(DynamoVersionStore::open(&aws::load().await, table, &metrics).await?)
        }
    };
    let datasets = Catalog::new(storage, versions, config.query_timeout);
    let (mut repaired, mut undecided) = (0, 0);
    let told = repair(&datasets, &settings, |finding: Finding| {
        let count = if finding.is_settled { &mut repaired } else { &mut undecided };
        *count += 1;
        // A reader that closed the pipe has seen enough; the repair goes on.
        let _ = writeln!(std::io::stdout(), "{}{}", if settings.dry_run { "would: " } else { "" }, finding.line);
    });
    told.await?;
    let doing = if settings.dry_run { "to repair" } else { "repaired" };
    let _ = writeln!(std::io::stdout(), "{repaired} {doing}, {undecided} to decide");
    match undecided {
        0 => Ok(()),
        _ => {
            Err(Error::conflict(format!("{undecided} things were found that the logs alone cannot settle; see above")))
        }
    }
}
