//! A caller, as its credentials say.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::TenantId;

/// The most that a user of the users file may do, whatever else allows more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To read.
    Reader,
    /// To read and write.
    Writer,
    /// Everything in the tenant.
    #[default]
    Admin,
}

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: String,
    /// Whose datasets the user works on.
    pub tenant: TenantId,
    /// The groups that the user is in.
    pub groups: Arc<[String]>,
    /// The most that the user may do.
    pub role: Role,
}

impl Principal {
    /// A user in no group.
    pub fn new(user: impl Into<String>, tenant: TenantId) -> Self {
        Self { user: user.into(), tenant, groups: Arc::default(), role: Role::default() }
    }

    /// Everybody, on a server without authentication.
    pub fn local() -> Self {
        Self::new("local", TenantId::default_tenant())
    }
}
