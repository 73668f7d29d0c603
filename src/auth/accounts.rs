//! The users file: who there is, in TOML.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::passwords::is_hash;
use super::principal::Role;
use super::watched::read_file;
use crate::error::{Error, Result};
use crate::names::TenantId;

/// The user name that stands for a token as the password.
pub const TOKEN_USER: &str = "token";
/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 8 << 20;
/// The longest name of a user or a group, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// A user of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The name.
    pub name: String,
    /// Whose datasets the user works on.
    pub tenant: String,
    /// The Argon2id hash of the password.
    pub hash: String,
    /// The most that the user may do.
    #[serde(default)]
    pub role: Role,
    /// The groups that the user is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Account {
    /// Checks what is written of a user.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the field that cannot be.
    pub fn check(&self) -> Result<()> {
        check_name("user", &self.name)?;
        if self.name.contains(':') || self.name == TOKEN_USER {
            return Err(Error::invalid(format!("user '{}': a name has no ':' and is not '{TOKEN_USER}'", self.name)));
        }
        TenantId::parse(&self.tenant)?;
        self.groups.iter().try_for_each(|group| check_name("group", group))?;
        if !is_hash(&self.hash) {
            return Err(Error::invalid(format!(
                "user '{}': hash is no Argon2id hash; set the password with 'pandas-db user add'",
                self.name
            )));
        }
        Ok(())
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let shown = crate::error::shorten(name);
        return Err(Error::invalid(format!(
            "{what} '{shown}': a name is 1 to {MAX_NAME_BYTES} bytes without control characters"
        )));
    }
    Ok(())
}

/// All users, by name.
pub type Accounts = BTreeMap<String, Account>;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "user")]
    users: Vec<Account>,
}

/// Reads a users file.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) in one line when it cannot be read or is not well formed.
pub fn read_accounts(path: &Path) -> Result<Accounts> {
    read_file(path, MAX_FILE_BYTES, parse)
}

fn parse(text: &str) -> Result<Accounts> {
    // The whole text of the error would repeat the line, and with it a hash.
    let file: File = toml::from_str(text).map_err(|error| Error::invalid(error.message().replace('\n', " ")))?;
    let mut accounts = Accounts::new();
    for account in file.users {
        account.check()?;
        let name = account.name.clone();
        if accounts.insert(name.clone(), account).is_some() {
            return Err(Error::invalid(format!("user '{name}' stands there twice")));
        }
    }
    Ok(accounts)
}

/// Writes a users file, whole or not at all, and for its owner alone to read.
///
/// # Errors
/// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when it cannot be written.
pub fn write_accounts(path: &Path, accounts: &Accounts) -> Result<()> {
    let file = File { users: accounts.values().cloned().collect() };
    let text = toml::to_string(&file).map_err(|error| Error::internal("users cannot be written").because(error))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(b"# Users of pandas-db; changed with 'pandas-db user', read again by a running server.\n")?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| Error::unavailable(format!("{}: it cannot be written: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account {
            name: name.into(),
            tenant: "acme".into(),
            hash: super::super::passwords::hash_password("correct horse").unwrap(),
            role: Role::Writer,
            groups: vec!["a \"b\"".into()],
        }
    }

    #[test]
    fn a_file_says_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let accounts: Accounts = ["ann", "böb \\"].map(|name| (name.to_string(), account(name))).into();
        write_accounts(&path, &accounts).unwrap();
        assert_eq!(read_accounts(&path).unwrap(), accounts);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_without_a_hash() {
        let hash = super::super::passwords::hash_password("correct horse").unwrap();
        let user = |name: &str, rest: &str| format!("[[user]]\nname='{name}'\ntenant='t'\nhash='{hash}'\n{rest}\n");
        for text in [
            "users = 1".to_string(),
            "[[user]]\nname='a'".to_string(),
            user("a", "role='king'"),
            user("a", "colour='red'"),
            user("", ""),
            user("token", ""),
            user("a:b", ""),
            user("a", "groups=['']"),
            format!("{}{}", user("a", ""), user("a", "")),
            format!("[[user]]\nname='a'\ntenant=''\nhash='{hash}'"),
            "[[user]]\nname='a'\ntenant='t'\nhash='plain'".to_string(),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(!error.message().contains('\n') && !error.message().contains(&hash), "{error}");
        }
        assert_eq!(parse(&user("a", "")).unwrap()["a"].role, Role::Admin);
    }
}
