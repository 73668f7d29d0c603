//! Makes the table, and tries whether it can be used: what `pandas-db init` does.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification, ScalarAttributeType,
    TimeToLiveSpecification, TimeToLiveStatus,
};

use super::failure::for_operator;
use super::item::EXPIRES_AT;
use super::{DynamoVersionStore, VersionStore};
use crate::clock;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::names::{DatasetName, TenantId};
use crate::versions::{DatasetRecord, Head, Heartbeat};

/// How long a new table may take to be there.
const CREATION_LIMIT: Duration = Duration::from_secs(180);
/// The tenant whose dataset is made and ended to try the rights. No credentials can name it: a tenant's name has no
/// control characters.
const PROBE_TENANT: &str = "\u{1}probe";

/// What was found and done, in lines for the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// What was changed; empty when all was as it should be.
    pub changes: Vec<String>,
    /// What could not be had, and what that means.
    pub warnings: Vec<String>,
}

/// Makes the table where it is not there, switches on what it needs, and makes every kind of request once that the
/// server will make. Done twice it changes nothing.
///
/// # Errors
/// In words for the operator: [`Kind::Invalid`](crate::error::Kind::Invalid) when a table of this name is another
/// program's, [`Kind::Unavailable`](crate::error::Kind::Unavailable) when DynamoDB is away or lets us not in.
pub async fn set_up(shared: &SdkConfig, table: &str, metrics: &Metrics) -> Result<Setup> {
    let store = DynamoVersionStore::unchecked(shared, table, metrics);
    let mut setup = Setup::default();
    let done = async {
        store.make_table(&mut setup).await?;
        store.switch_on_expiry(&mut setup).await?;
        store.switch_on_recovery(&mut setup).await;
        store.mark().await?;
        store.try_rights().await
    };
    done.await.map_err(for_operator)?;
    Ok(setup)
}

impl DynamoVersionStore {
    async fn make_table(&self, setup: &mut Setup) -> Result<()> {
        match self.client.describe_table().table_name(&self.table).send().await {
            Ok(_) => {}
            Err(error) if error.code() == Some("ResourceNotFoundException") => {
                self.create_table().await?;
                setup.changes.push(format!("made the DynamoDB table '{}'", self.table));
            }
            Err(error) => return Err(self.failed("DescribeTable", error)),
        }
        let waited = self.client.wait_until_table_exists().table_name(&self.table).wait(CREATION_LIMIT).await;
        waited.map(drop).map_err(|error| {
            Error::unavailable(format!("the DynamoDB table '{}' did not become active; run init again", self.table))
                .because(error)
        })
    }

    async fn create_table(&self) -> Result<()> {
        let mut create = self
            .client
            .create_table()
            .table_name(&self.table)
            .billing_mode(BillingMode::PayPerRequest)
            .deletion_protection_enabled(true);
        for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
            let element = KeySchemaElement::builder().attribute_name(name).key_type(kind);
            create = create.attribute_definitions(attribute.build().map_err(unbuilt)?);
            create = create.key_schema(element.build().map_err(unbuilt)?);
        }
        match create.send().await {
            Ok(_) => Ok(()),
            // Another init was first.
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(()),
            Err(error) => Err(self.failed("CreateTable", error)),
        }
    }

    /// Expired items are deleted by DynamoDB, free of charge.
    async fn switch_on_expiry(&self, setup: &mut Setup) -> Result<()> {
        let described = self.client.describe_time_to_live().table_name(&self.table).send().await;
        let described = described.map_err(|error| self.failed("DescribeTimeToLive", error))?;
        let status = described.time_to_live_description().and_then(|expiry| expiry.time_to_live_status());
        if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
            return Ok(());
        }
        let expiry = TimeToLiveSpecification::builder().enabled(true).attribute_name(EXPIRES_AT);
        let request = self.client.update_time_to_live().table_name(&self.table);
        let request = request.time_to_live_specification(expiry.build().map_err(unbuilt)?);
        request.send().await.map_err(|error| self.failed("UpdateTimeToLive", error))?;
        setup.changes.push(format!("switched on the time to live of '{EXPIRES_AT}'"));
        Ok(())
    }

    /// Not every DynamoDB has it, and the log of each dataset would tell all that is lost; so it is no condition.
    async fn switch_on_recovery(&self, setup: &mut Setup) {
        match self.try_recovery().await {
            Ok(true) => setup.changes.push("switched on point-in-time recovery".into()),
            Ok(false) => {}
            Err(error) => setup.warnings.push(format!(
                "point-in-time recovery could not be switched on; `pandas-db repair` can make lost records anew ({})",
                for_operator(error).message()
            )),
        }
    }

    async fn try_recovery(&self) -> Result<bool> {
        let described = self.client.describe_continuous_backups().table_name(&self.table).send().await;
        let described = described.map_err(|error| self.failed("DescribeContinuousBackups", error))?;
        let backups = described.continuous_backups_description();
        let recovery = backups.and_then(|backups| backups.point_in_time_recovery_description());
        let status = recovery.and_then(|recovery| recovery.point_in_time_recovery_status());
        if status.is_some_and(|status| status.as_str() == "ENABLED") {
            return Ok(false);
        }
        let wanted = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true);
        let request = self.client.update_continuous_backups().table_name(&self.table);
        let request = request.point_in_time_recovery_specification(wanted.build().map_err(unbuilt)?);
        request.send().await.map_err(|error| self.failed("UpdateContinuousBackups", error))?;
        Ok(true)
    }

    /// Does once what the server will do, with items that nothing else looks at, and leaves none of them.
    async fn try_rights(&self) -> Result<()> {
        let (tenant, name) = (TenantId::stored(PROBE_TENANT), DatasetName::parse(&clock::new_ulid())?);
        let (probe, now) = (clock::new_ulid(), clock::now());
        let record = self.create(&tenant, &name, &probe).await?;
        self.advance(&DatasetRecord { head: Head { log_version: Some(0), ..Head::default() }, ..record.clone() })
            .await?;
        let found = self.find(&tenant, &name).await?;
        self.list(&tenant, "", None).await?;
        self.list_all(None).await?;
        self.forget(&record, now).await?;
        self.purge(&record.table_id).await?;
        self.try_lease(&probe, &probe, now, now).await?;
        self.release(&probe, &probe).await?;
        self.beat(&Heartbeat { node: probe.clone(), address: String::new(), at: now, oldest_read: now }).await?;
        self.heartbeats().await?;
        self.leave(&probe).await?;
        match found.and_then(|record| record.head.log_version) {
            Some(0) => Ok(()),
            _ => Err(Error::unavailable(format!(
                "the DynamoDB table '{}' does not keep what is written to it; name another table",
                self.table
            ))),
        }
    }
}

fn unbuilt(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("a request to the version store is incomplete").because(error)
}
