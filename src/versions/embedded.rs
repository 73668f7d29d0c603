//! The version store in one SQLite file, for one machine.
//!
//! Several processes may share it: SQLite locks the file, in write-ahead mode with full syncing, so that what is
//! committed survives the loss of power. redb and sled were looked at: both give the file to one process alone.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::{DatasetRecord, ForgottenTable, Head, MAX_PAGE, VersionStore};
use crate::error::{Error, Result};
use crate::names::{DatasetName, TenantId};

/// How long a call waits for another process to finish writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The form of the file as written now; a newer one is refused.
const FORMAT_VERSION: i64 = 1;
/// Marks the file as one of ours: `pdbv` in ASCII.
const APPLICATION_ID: i64 = 0x7064_6276;

const SCHEMA: &str = "
create table if not exists dataset (
    table_id text primary key,
    tenant text not null,
    name text not null,
    log_version integer,
    version integer not null default 0,
    live_versions integer not null default 0,
    rows integer not null default 0,
    bytes integer not null default 0,
    updated_at_micros integer,
    unique (tenant, name)
) strict;
create table if not exists forgotten (
    table_id text primary key,
    tenant text not null,
    at_micros integer not null
) strict;
";
const COLUMNS: &str = "tenant, name, table_id, log_version, version, live_versions, rows, bytes, updated_at_micros";

/// See the module's comment.
#[derive(Debug, Clone)]
pub struct EmbeddedVersionStore {
    connection: Arc<Mutex<Connection>>,
}

fn away(error: rusqlite::Error) -> Error {
    Error::unavailable("the version store did not answer as it should; retry later").because(error)
}

impl EmbeddedVersionStore {
    /// Opens the file, making it when it is not there.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) when it cannot be opened, and
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when a newer pandas-db wrote it.
    pub fn open(path: &Path) -> Result<Self> {
        let unusable = |error: rusqlite::Error| {
            Error::unavailable(format!("the version file {} cannot be opened: {error}", path.display()))
        };
        let connection = Connection::open(path).map_err(unusable)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(unusable)?;
        // Looked at before anything is written: it may be a newer program's, or no file of ours at all.
        let format = pragma(&connection, "user_version").map_err(unusable)?;
        let tables: i64 =
            connection.query_row("select count(*) from sqlite_master", [], |row| row.get(0)).map_err(unusable)?;
        if tables > 0 && pragma(&connection, "application_id").map_err(unusable)? != APPLICATION_ID {
            return Err(Error::unavailable(format!(
                "the file {} is a database of another program; name another file",
                path.display()
            )));
        }
        if format > FORMAT_VERSION {
            return Err(Error::corrupt(format!(
                "the version file {} has the format {format}, and this program reads up to {FORMAT_VERSION}; use a \
                 newer pandas-db",
                path.display()
            )));
        }
        prepare(&connection).map_err(unusable)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || work(&lock(&connection))).await;
        done.map_err(|error| Error::internal("a call to the version store broke off").because(error))?.map_err(away)
    }
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("pragma {name}"), [], |row| row.get(0))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    if pragma(connection, "user_version")? == FORMAT_VERSION {
        return Ok(());
    }
    // In one transaction, so that no other process sees tables without the marks.
    connection.execute_batch(&format!(
        "begin immediate; {SCHEMA} pragma application_id = {APPLICATION_ID}; pragma user_version = {FORMAT_VERSION}; \
         commit;"
    ))
}

/// SQLite rolls back what a panicking caller left, so a poisoned lock is as good as any.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A row as stored, before its names are checked.
type RawRecord = (String, String, String, Head);

fn read(row: &Row<'_>) -> rusqlite::Result<RawRecord> {
    let micros: Option<i64> = row.get(8)?;
    let head = Head {
        log_version: row.get(3)?,
        version: row.get(4)?,
        live_versions: row.get(5)?,
        rows: row.get(6)?,
        bytes: row.get(7)?,
        updated_at: micros.and_then(DateTime::from_timestamp_micros),
    };
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, head))
}

fn checked(tenant: &TenantId, (_, name, table_id, head): RawRecord) -> Result<DatasetRecord> {
    let name = DatasetName::parse(&name)
        .map_err(|error| Error::corrupt("the version store holds a name that no dataset can have").because(error))?;
    Ok(DatasetRecord { tenant: tenant.clone(), name, table_id, head })
}

#[async_trait]
impl VersionStore for EmbeddedVersionStore {
    async fn find(&self, tenant: &TenantId, name: &DatasetName) -> Result<Option<DatasetRecord>> {
        let (tenant_text, name_text) = (tenant.as_str().to_string(), name.as_str().to_string());
        let sql = format!("select {COLUMNS} from dataset where tenant = ? and name = ?");
        let found = self.run(move |c| c.query_row(&sql, params![tenant_text, name_text], read).optional()).await?;
        found.map(|raw| checked(tenant, raw)).transpose()
    }

    async fn create(&self, tenant: &TenantId, name: &DatasetName, table_id: &str) -> Result<DatasetRecord> {
        let (tenant_text, name_text) = (tenant.as_str().to_string(), name.as_str().to_string());
        let id = table_id.to_string();
        let raw = self
            .run(move |connection| {
                let insert = "insert into dataset (table_id, tenant, name) values (?, ?, ?) on conflict do nothing";
                connection.execute(insert, params![id, tenant_text, name_text])?;
                let sql = format!("select {COLUMNS} from dataset where tenant = ? and name = ?");
                connection.query_row(&sql, params![tenant_text, name_text], read)
            })
            .await?;
        checked(tenant, raw)
    }

    async fn advance(&self, table_id: &str, head: Head) -> Result<()> {
        let id = table_id.to_string();
        self.run(move |connection| {
            let sql = "update dataset set log_version = ?1, version = ?2, live_versions = ?3, rows = ?4, bytes = ?5, \
                       updated_at_micros = ?6 where table_id = ?7 and coalesce(log_version, -1) < ?1";
            let micros = head.updated_at.map(|instant| instant.timestamp_micros());
            connection.execute(
                sql,
                params![head.log_version, head.version, head.live_versions, head.rows, head.bytes, micros, id],
            )
        })
        .await
        .map(drop)
    }

    async fn list(&self, tenant: &TenantId, prefix: &str, after: Option<&DatasetName>) -> Result<Vec<DatasetRecord>> {
        let (tenant_text, prefix) = (tenant.as_str().to_string(), prefix.to_string());
        let after = after.map_or(String::new(), |name| name.as_str().to_string());
        let raw = self
            .run(move |connection| {
                // substr, since the prefix of LIKE and GLOB would need escaping.
                let sql = format!(
                    "select {COLUMNS} from dataset where tenant = ?1 and substr(name, 1, length(?2)) = ?2 \
                     and name > ?3 order by name limit {MAX_PAGE}"
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let rows = statement.query_map(params![tenant_text, prefix, after], read)?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        raw.into_iter().map(|raw| checked(tenant, raw)).collect()
    }

    async fn list_all(&self, after: Option<&str>) -> Result<Vec<DatasetRecord>> {
        let after = after.unwrap_or_default().to_string();
        let raw = self
            .run(move |connection| {
                let sql =
                    format!("select {COLUMNS} from dataset where table_id > ? order by table_id limit {MAX_PAGE}");
                let mut statement = connection.prepare_cached(&sql)?;
                let rows = statement.query_map(params![after], read)?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })
            .await?;
        let record = |raw: RawRecord| {
            let tenant = TenantId::stored(&raw.0);
            checked(&tenant, raw)
        };
        raw.into_iter().map(record).collect()
    }

    async fn forget(&self, table_id: &str, at: DateTime<Utc>) -> Result<()> {
        let (id, micros) = (table_id.to_string(), at.timestamp_micros());
        self.run(move |connection| {
            let both = connection.unchecked_transaction()?;
            let remember = "insert into forgotten (table_id, tenant, at_micros) \
                            select table_id, tenant, ? from dataset where table_id = ? on conflict do nothing";
            both.execute(remember, params![micros, id])?;
            both.execute("delete from dataset where table_id = ?", params![id])?;
            both.commit()
        })
        .await
    }

    async fn stage(&self, tenant: &TenantId, table_id: &str, until: DateTime<Utc>) -> Result<()> {
        let (tenant, id, micros) = (tenant.as_str().to_string(), table_id.to_string(), until.timestamp_micros());
        self.run(move |connection| {
            let remember = "insert into forgotten (table_id, tenant, at_micros) values (?, ?, ?)";
            connection.execute(remember, params![id, tenant, micros])
        })
        .await
        .map(drop)
    }

    async fn replace(
        &self,
        tenant: &TenantId,
        name: &DatasetName,
        table_id: &str,
        at: DateTime<Utc>,
    ) -> Result<Option<String>> {
        let (tenant, name) = (tenant.as_str().to_string(), name.as_str().to_string());
        let (id, micros) = (table_id.to_string(), at.timestamp_micros());
        let replaced = self.run(move |connection| {
            // Immediate, because it reads before it writes and another process may do the same.
            let all = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let named = "select table_id from dataset where tenant = ? and name = ?";
            let old: Option<String> = all.query_row(named, params![tenant, name], |row| row.get(0)).optional()?;
            if all.execute("delete from forgotten where table_id = ?", params![id])? == 0 {
                return Ok(None);
            }
            if let Some(old) = &old {
                let remember = "insert into forgotten (table_id, tenant, at_micros) values (?, ?, ?)";
                all.execute(remember, params![old, tenant, micros])?;
                all.execute("delete from dataset where table_id = ?", params![old])?;
            }
            let insert = "insert into dataset (table_id, tenant, name) values (?, ?, ?)";
            all.execute(insert, params![id, tenant, name])?;
            all.commit()?;
            Ok(Some(old))
        });
        let not_staged = || Error::conflict("the load took so long that its table was given up; repeat it");
        replaced.await?.ok_or_else(not_staged)
    }

    async fn forgotten(&self, before: DateTime<Utc>) -> Result<Vec<ForgottenTable>> {
        let micros = before.timestamp_micros();
        self.run(move |connection| {
            let sql = format!(
                "select tenant, table_id from forgotten where at_micros < ? order by at_micros limit {MAX_PAGE}"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let table = |row: &Row<'_>| {
                Ok(ForgottenTable { tenant: TenantId::stored(&row.get::<_, String>(0)?), table_id: row.get(1)? })
            };
            let rows = statement.query_map(params![micros], table)?;
            rows.collect()
        })
        .await
    }

    async fn purge(&self, table_id: &str) -> Result<()> {
        let id = table_id.to_string();
        self.run(move |connection| connection.execute("delete from forgotten where table_id = ?", params![id]))
            .await
            .map(drop)
    }

    async fn ping(&self) -> Result<()> {
        self.run(|connection| connection.query_row("select 1", [], |_| Ok(()))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DatasetName {
        DatasetName::parse(text).unwrap()
    }

    #[tokio::test]
    async fn two_processes_agree_on_the_first_creator() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("versions.db");
        let (one, two) = (EmbeddedVersionStore::open(&path).unwrap(), EmbeddedVersionStore::open(&path).unwrap());
        let tenant = TenantId::default_tenant();
        let first = one.create(&tenant, &name("a/b"), "t1").await.unwrap();
        let second = two.create(&tenant, &name("a/b"), "t2").await.unwrap();
        assert_eq!((first.table_id.as_str(), second.table_id.as_str()), ("t1", "t1"));
        assert_eq!(two.find(&tenant, &name("a")).await.unwrap(), None);
    }

    #[test]
    fn a_file_of_another_program_or_a_newer_one_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.db");
        Connection::open(&path).unwrap().execute_batch("create table theirs (x)").unwrap();
        assert!(EmbeddedVersionStore::open(&path).unwrap_err().message().contains("another program"));
        let path = folder.path().join("newer.db");
        drop(EmbeddedVersionStore::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 2).unwrap();
        assert!(EmbeddedVersionStore::open(&path).unwrap_err().message().contains("newer pandas-db"));
        let tables = Connection::open(folder.path().join("other.db")).unwrap();
        let count: i64 = tables.query_row("select count(*) from sqlite_master", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
    }

    #[tokio::test]
    async fn heads_only_move_forward() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedVersionStore::open(&folder.path().join("v.db")).unwrap();
        let tenant = TenantId::default_tenant();
        store.create(&tenant, &name("a"), "t").await.unwrap();
        for (log_version, rows) in [(0, 1), (2, 3), (1, 2)] {
            store.advance("t", Head { log_version: Some(log_version), rows, ..Head::default() }).await.unwrap();
        }
        assert_eq!(store.find(&tenant, &name("a")).await.unwrap().unwrap().head.rows, 3);
    }

    #[tokio::test]
    async fn a_forgotten_name_can_be_given_anew_and_its_table_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedVersionStore::open(&folder.path().join("v.db")).unwrap();
        let tenant = TenantId::default_tenant();
        store.create(&tenant, &name("a"), "t1").await.unwrap();
        let at = DateTime::from_timestamp_micros(1_000_000).unwrap();
        store.forget("t1", at).await.unwrap();
        store.forget("t1", at).await.unwrap();
        assert_eq!(store.create(&tenant, &name("a"), "t2").await.unwrap().table_id, "t2");
        assert_eq!(store.forgotten(at).await.unwrap(), []);
        let later = at + chrono::TimeDelta::seconds(1);
        let gone = ForgottenTable { tenant, table_id: "t1".into() };
        assert_eq!(store.forgotten(later).await.unwrap(), [gone]);
        store.purge("t1").await.unwrap();
        assert_eq!(store.forgotten(later).await.unwrap(), []);
        let all = store.list_all(None).await.unwrap();
        assert_eq!(all.iter().map(|record| record.table_id.as_str()).collect::<Vec<_>>(), ["t2"]);
        assert!(store.list_all(Some("t2")).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_staged_table_takes_a_name_once_and_the_old_one_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedVersionStore::open(&folder.path().join("v.db")).unwrap();
        let tenant = TenantId::default_tenant();
        store.create(&tenant, &name("a"), "t1").await.unwrap();
        let at = DateTime::from_timestamp_micros(1_000_000).unwrap();
        let later = at + chrono::TimeDelta::seconds(1);
        store.stage(&tenant, "t2", later).await.unwrap();
        assert_eq!(store.forgotten(later).await.unwrap(), []);
        assert_eq!(store.find(&tenant, &name("a")).await.unwrap().unwrap().table_id, "t1");
        assert_eq!(store.replace(&tenant, &name("a"), "t2", at).await.unwrap(), Some("t1".into()));
        assert_eq!(store.find(&tenant, &name("a")).await.unwrap().unwrap().table_id, "t2");
        let gone = ForgottenTable { tenant: tenant.clone(), table_id: "t1".into() };
        assert_eq!(store.forgotten(later).await.unwrap(), [gone]);
        assert!(store.replace(&tenant, &name("a"), "t2", at).await.is_err());
        assert!(store.replace(&tenant, &name("b"), "t3", at).await.is_err());
        store.stage(&tenant, "t3", later).await.unwrap();
        assert_eq!(store.replace(&tenant, &name("b"), "t3", at).await.unwrap(), None);
    }

    #[tokio::test]
    async fn listing_pages_by_name_within_a_prefix() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedVersionStore::open(&folder.path().join("v.db")).unwrap();
        let tenant = TenantId::default_tenant();
        for (i, dataset) in ["b/1", "a_x", "a-x", "b", "b/2"].iter().enumerate() {
            store.create(&tenant, &name(dataset), &format!("t{i}")).await.unwrap();
        }
        let names =
            |page: Vec<DatasetRecord>| page.into_iter().map(|r| r.name.as_str().to_string()).collect::<Vec<_>>();
        assert_eq!(names(store.list(&tenant, "b", None).await.unwrap()), ["b", "b/1", "b/2"]);
        assert_eq!(names(store.list(&tenant, "b", Some(&name("b"))).await.unwrap()), ["b/1", "b/2"]);
        assert_eq!(names(store.list(&tenant, "a_", None).await.unwrap()), ["a_x"]);
    }
}
