//! Who calls.

use crate::names::TenantId;

/// A caller, as its credentials say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: String,
    /// Whose datasets the user works on.
    pub tenant: TenantId,
}

impl Principal {
    /// Everybody, on a server without authentication.
    pub fn local() -> Self {
        Self { user: "local".into(), tenant: TenantId::default_tenant() }
    }
}
