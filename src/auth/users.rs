//! `--auth users`: the users file as a running server knows it, and the passwords it has seen to be right.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::accounts::{Account, Accounts, read_accounts};
use super::backoff::Backoff;
use super::passwords::{hash_password, is_password};
use super::secret::SigningSecret;
use super::watched::Watched;
use crate::clock;
use crate::error::{Error, Result};

/// Passwords that are hashed at the same time; each takes 19 MiB and a core.
const HASHED_AT_ONCE: usize = 2;
/// Log-ins that wait for their turn; more are turned away.
const MAX_WAITING: usize = 256;
/// Credentials that need not be hashed again.
const MAX_VERIFIED: usize = 4_096;

type Fingerprint = [u8; 32];

/// The users, as the file says now.
pub(super) struct Users {
    accounts: Watched<Accounts>,
    /// What is compared when there is no such user, so that it takes as long.
    decoy: String,
    verified: Mutex<HashSet<Fingerprint>>,
    key: aws_lc_rs::hmac::Key,
    backoff: Backoff,
    hashing: Semaphore,
    waiting: Semaphore,
}

impl Users {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) when it cannot be read or is not well formed.
    pub(super) fn open(path: &Path, secret: &SigningSecret) -> Result<Self> {
        let accounts = Watched::open(path, read_accounts)?;
        let key = secret.key_for("pandas-db/verified-passwords");
        Ok(Self {
            accounts,
            decoy: hash_password(&clock::new_ulid())?,
            verified: Mutex::default(),
            key: aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key),
            backoff: Backoff::default(),
            hashing: Semaphore::new(HASHED_AT_ONCE),
            waiting: Semaphore::new(MAX_WAITING),
        })
    }

    /// A user of this name.
    pub(super) async fn find(&self, name: &str) -> Option<Account> {
        self.accounts.now().await.get(name).cloned()
    }

    /// The user of this name and password, who logs in from an address.
    ///
    /// # Errors
    /// [`Kind::Unauthenticated`](crate::error::Kind::Unauthenticated), with one text whether the user or the password
    /// is wrong, and [`Kind::Exhausted`](crate::error::Kind::Exhausted) after many failures.
    pub(super) async fn log_in(&self, name: &str, password: String, address: Option<IpAddr>) -> Result<Account> {
        let account = self.find(name).await;
        let hash = account.as_ref().map_or(self.decoy.as_str(), |account| account.hash.as_str());
        let fingerprint = self.fingerprint(&[name, hash, &password]);
        if let Some(account) = account.as_ref().filter(|_| self.verified().contains(&fingerprint)) {
            return Ok(account.clone());
        }
        let hash = hash.to_string();
        let is_right = self.check(name, password, hash, address).await? && account.is_some();
        self.backoff.note(name, address, is_right, Instant::now());
        let account = account.filter(|_| is_right);
        let account = account.ok_or_else(|| Error::unauthenticated("the user or the password is wrong"))?;
        let mut verified = self.verified();
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
        }
        verified.insert(fingerprint);
        Ok(account)
    }

    /// What a token of a user is bound to: it ends with the password that it was given for.
    pub(super) fn credential_id(&self, account: &Account) -> String {
        use base64::Engine;
        base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(self.fingerprint(&[&account.name, &account.hash]))
    }

    async fn check(&self, name: &str, password: String, hash: String, address: Option<IpAddr>) -> Result<bool> {
        let _waits = self
            .waiting
            .try_acquire()
            .map_err(|error| Error::exhausted("too many log-ins at the same time; retry in a moment").because(error))?;
        let closed = |error| Error::internal("log-ins have ended").because(error);
        let _turn = self.hashing.acquire().await.map_err(closed)?;
        // Only now, or many tries at the same time would all be before the first failure.
        self.backoff.check(name, address, Instant::now())?;
        let checked = tokio::task::spawn_blocking(move || is_password(&password, &hash)).await;
        checked.map_err(|error| Error::internal("a password cannot be checked").because(error))
    }

    /// A keyed hash of several texts; what it is of cannot be guessed without the key.
    fn fingerprint(&self, texts: &[&str]) -> Fingerprint {
        let mut context = aws_lc_rs::hmac::Context::with_key(&self.key);
        for text in texts {
            context.update(&(text.len() as u64).to_le_bytes());
            context.update(text.as_bytes());
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        fingerprint
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashSet<Fingerprint>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::accounts::write_accounts;
    use super::super::principal::Role;
    use super::*;
    use crate::config::HandleKey;
    use crate::error::Kind;

    fn write(path: &Path, users: &[(&str, &str)]) {
        let account = |(name, password): &(&str, &str)| Account {
            name: (*name).into(),
            tenant: "acme".into(),
            hash: hash_password(password).unwrap(),
            role: Role::Admin,
            groups: Vec::new(),
        };
        let accounts = users.iter().map(|user| (user.0.to_string(), account(user))).collect();
        write_accounts(path, &accounts).unwrap();
    }

    fn secret() -> SigningSecret {
        SigningSecret::open(&HandleKey::Given("s".repeat(32))).unwrap()
    }

    async fn kind(users: &Users, name: &str, password: &str) -> Option<Kind> {
        users.log_in(name, password.into(), None).await.err().map(|error| error.kind())
    }

    #[tokio::test]
    async fn changes_of_the_file_count_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        write(&path, &[("ann", "correct horse")]);
        let users = Users::open(&path, &secret()).unwrap();
        assert_eq!(kind(&users, "ann", "correct horse").await, None);
        assert_eq!(kind(&users, "ann", "battery staple").await, Some(Kind::Unauthenticated));
        assert_eq!(kind(&users, "bob", "correct horse").await, Some(Kind::Unauthenticated));
        let before = users.credential_id(&users.find("ann").await.unwrap());
        write(&path, &[("ann", "battery staple")]);
        assert_eq!(kind(&users, "ann", "correct horse").await, Some(Kind::Unauthenticated));
        assert_eq!(kind(&users, "ann", "battery staple").await, None);
        assert_ne!(users.credential_id(&users.find("ann").await.unwrap()), before);
        std::fs::write(&path, "user = 1").unwrap();
        assert_eq!(kind(&users, "ann", "battery staple").await, None);
        write(&path, &[]);
        assert_eq!(kind(&users, "ann", "battery staple").await, Some(Kind::Unauthenticated));
    }

    #[tokio::test]
    async fn whoever_guesses_waits_and_whoever_is_known_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        write(&path, &[("ann", "correct horse"), ("bob", "correct horse")]);
        let users = Users::open(&path, &secret()).unwrap();
        assert_eq!(kind(&users, "ann", "correct horse").await, None);
        let mut last = None;
        for attempt in 0..6 {
            last = kind(&users, "ann", &attempt.to_string()).await;
        }
        assert_eq!(last, Some(Kind::Exhausted));
        assert_eq!(kind(&users, "bob", "correct horse").await, None);
        assert_eq!(kind(&users, "ann", "correct horse").await, None);
    }
}
