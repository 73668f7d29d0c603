//! `--policy`: rules for who may do what, and the one function that decides.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::principal::{Principal, Role};
use super::watched::read_file;
use crate::error::{Error, Result};
use crate::names::DatasetName;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// What stands for every principal, or every name.
const ANY: &str = "*";

/// What is done to a dataset; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// To see that it is there, and to read it.
    Read,
    /// To load and change rows.
    Write,
    /// To end it, and to decide what is kept.
    Admin,
}

impl Role {
    fn access(self) -> Access {
        match self {
            Self::Reader => Access::Read,
            Self::Writer => Access::Write,
            Self::Admin => Access::Admin,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    principal: Option<String>,
    #[serde(default)]
    group: Option<String>,
    /// Of this tenant alone; otherwise of each, in its own datasets.
    #[serde(default)]
    tenant: Option<String>,
    /// The dataset of this name, and all below it.
    prefix: String,
    allow: Access,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "rule")]
    rules: Vec<Rule>,
}

/// The rules of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Policy(Vec<Rule>);

/// What a caller may do: the most that a rule allows, and no more than the caller's role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights(Option<Arc<[(Names, Access)]>>);

/// The names that a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    All,
    At(String),
}

impl Policy {
    /// Reads the rules.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) in one line when the file cannot be read or is not well formed.
    pub(super) fn read(path: &Path) -> Result<Self> {
        read_file(path, MAX_FILE_BYTES, Self::parse)
    }

    fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| Error::invalid(error.message().replace('\n', " ")))?;
        for (number, rule) in file.rules.iter().enumerate() {
            rule.check().map_err(|error| Error::invalid(format!("rule {}: {}", number + 1, error.message())))?;
        }
        Ok(Self(file.rules))
    }

    /// What the rules give a principal.
    pub(super) fn rights_of(&self, principal: &Principal) -> Rights {
        let ours = self.0.iter().filter(|rule| rule.is_about(principal));
        Rights(Some(ours.map(|rule| (rule.names(), rule.allow)).collect()))
    }
}

impl Rule {
    fn check(&self) -> Result<()> {
        if self.principal.is_some() == self.group.is_some() {
            return Err(Error::invalid("give either principal or group"));
        }
        match self.names() {
            Names::All => Ok(()),
            Names::At(name) => DatasetName::parse(&name).map(drop),
        }
    }

    fn is_about(&self, principal: &Principal) -> bool {
        let of_tenant = self.tenant.as_ref().is_none_or(|tenant| tenant == principal.tenant.as_str());
        let by_name = self.principal.as_ref().is_some_and(|name| name == ANY || *name == principal.user);
        let by_group = self.group.as_ref().is_some_and(|group| principal.groups.contains(group));
        of_tenant && (by_name || by_group)
    }

    fn names(&self) -> Names {
        match self.prefix.trim_end_matches('/') {
            "" | ANY => Names::All,
            // Names are normalised; what a rule says of them is too.
            name => Names::At(DatasetName::parse(name).map_or_else(|_| name.into(), |name| name.as_str().into())),
        }
    }
}

impl Names {
    fn hold(&self, name: &DatasetName) -> bool {
        match self {
            Self::All => true,
            // Segment by segment: `sales` is not about `sales2`.
            Self::At(prefix) => {
                let rest = name.as_str().strip_prefix(prefix.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl Principal {
    /// Whether the caller may do this to a dataset of this name, whether it is there or not.
    pub fn may(&self, access: Access, name: &DatasetName) -> bool {
        let by_role = access <= self.role.access();
        let by_rule = match &self.rights.0 {
            None => true,
            Some(rules) => rules.iter().any(|(names, allowed)| access <= *allowed && names.hold(name)),
        };
        by_role && by_rule
    }

    /// Whether the caller may do everything in the tenant, which is wider than in each dataset that there is.
    pub fn administers_tenant(&self) -> bool {
        let by_rule = match &self.rights.0 {
            None => true,
            Some(rules) => rules.iter().any(|(names, allowed)| *names == Names::All && *allowed == Access::Admin),
        };
        self.role == Role::Admin && by_rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::TenantId;

    const RULES: &str = "
        [[rule]]
        principal = '*'
        prefix = 'open'
        allow = 'read'
        [[rule]]
        group = 'analysts'
        prefix = 'sales/'
        allow = 'write'
        [[rule]]
        principal = 'ann'
        tenant = 'acme'
        prefix = '*'
        allow = 'admin'
    ";

    fn principal(user: &str, tenant: &str, group: &str, role: Role) -> Principal {
        let mut principal = Principal::new(user, TenantId::parse(tenant).unwrap());
        (principal.groups, principal.role) = ([group.to_string()].into(), role);
        principal.rights = Policy::parse(RULES).unwrap().rights_of(&principal);
        principal
    }

    #[test]
    fn the_most_that_a_rule_and_the_role_allow() {
        use Access::{Admin, Read, Write};
        use Role as R;
        let cases = [
            ("bob", "acme", "x", R::Admin, "open", Some(Read)),
            ("bob", "acme", "x", R::Admin, "open/a", Some(Read)),
            ("bob", "acme", "x", R::Admin, "opens", None),
            ("bob", "acme", "x", R::Admin, "ope", None),
            ("bob", "acme", "x", R::Admin, "sales/a", None),
            ("bob", "acme", "analysts", R::Admin, "sales/a", Some(Write)),
            ("bob", "acme", "analysts", R::Admin, "sales", Some(Write)),
            ("bob", "acme", "analysts", R::Reader, "sales/a", Some(Read)),
            ("bob", "acme", "Analysts", R::Admin, "sales/a", None),
            ("ann", "acme", "x", R::Admin, "any/thing", Some(Admin)),
            ("ann", "acme", "x", R::Writer, "any/thing", Some(Write)),
            ("ann", "other", "x", R::Admin, "any/thing", None),
            ("Ann", "acme", "x", R::Admin, "any/thing", None),
        ];
        for (user, tenant, group, role, name, most) in cases {
            let (principal, name) = (principal(user, tenant, group, role), DatasetName::parse(name).unwrap());
            for access in [Read, Write, Admin] {
                let may = most.is_some_and(|most| access <= most);
                assert_eq!(principal.may(access, &name), may, "{user} {tenant} {group} {role:?} {name} {access:?}");
            }
        }
    }

    #[test]
    fn a_tenants_admin_is_who_may_do_everything_under_every_name() {
        let of = |user, tenant, role| principal(user, tenant, "analysts", role).administers_tenant();
        assert!(of("ann", "acme", Role::Admin));
        assert!(
            !of("ann", "acme", Role::Writer) && !of("ann", "other", Role::Admin) && !of("bob", "acme", Role::Admin)
        );
        let mut bob = Principal::new("bob", TenantId::default_tenant());
        assert!(bob.administers_tenant());
        let rules =
            "[[rule]]\nprincipal='*'\nprefix='a'\nallow='admin'\n[[rule]]\nprincipal='*'\nprefix='*'\nallow='write'";
        bob.rights = Policy::parse(rules).unwrap().rights_of(&bob);
        assert!(!bob.administers_tenant());
        (bob.rights, bob.role) = (Rights::default(), Role::Reader);
        assert!(!bob.administers_tenant());
    }

    #[test]
    fn without_rules_the_role_alone_decides_and_with_none_nobody_may() {
        let name = DatasetName::parse("a").unwrap();
        let mut ann = Principal::new("ann", TenantId::default_tenant());
        assert!(ann.may(Access::Admin, &name));
        ann.role = Role::Writer;
        assert!(ann.may(Access::Write, &name) && !ann.may(Access::Admin, &name));
        ann.rights = Policy::parse("").unwrap().rights_of(&ann);
        assert!(!ann.may(Access::Read, &name));
    }

    #[test]
    fn rules_that_cannot_be_are_refused_in_one_line() {
        for text in [
            "[[rule]]\nprefix='a'\nallow='read'",
            "[[rule]]\nprincipal='a'\ngroup='b'\nprefix='a'\nallow='read'",
            "[[rule]]\nprincipal='a'\nallow='read'",
            "[[rule]]\nprincipal='a'\nprefix='a'\nallow='own'",
            "[[rule]]\nprincipal='a'\nprefix='a//b'\nallow='read'",
            "[[rule]]\nprincipal='a'\nprefix='a'\nallow='read'\ndeny=true",
            "[[rules]]\n",
            "rule = 1",
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert!(!error.message().contains('\n'), "{error}");
        }
    }
}
