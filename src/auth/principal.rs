//! A caller, as its credentials say.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::policy::Rights;
use crate::audit::Trail;
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Principal {
    /// The user.
    pub user: String,
    /// Whose datasets the user works on.
    pub tenant: TenantId,
    /// The groups that the user is in.
    pub groups: Arc<[String]>,
    /// The most that the user may do.
    pub role: Role,
    /// What the rules of the server give the user.
    pub rights: Rights,
    /// What the call does that the user makes now.
    pub trail: Trail,
}

impl Principal {
    /// A user in no group.
    pub fn new(user: impl Into<String>, tenant: TenantId) -> Self {
        Self { user: user.into(), tenant, ..Self::default() }
    }

    /// Everybody, on a server without authentication.
    pub fn local() -> Self {
        Self::new("local", TenantId::default_tenant())
    }
}
