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

use super::liveness::Liveness;
use super::{DatasetPage, DatasetRecord, ForgottenTable, HEARTBEAT_LIFE, Head, Heartbeat, MAX_PAGE, VersionStore};
use crate::error::{Error, Result};
use crate::names::{DatasetName, TenantId};

/// How long a call waits for another process to finish writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The form of the file as written now; a newer one is refused.
const FORMAT_VERSION: i64 = 2;
/// Marks the file as one of ours: `pdbv` in ASCII.
const APPLICATION_ID: i64 = 0x7064_6276;

/// Of format 1 were the first two.
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
create table if not exists lease (
    name text primary key,
    holder text not null,
    until_micros integer not null
) strict;
create table if not exists node (
    node text primary key,
    address text not null,
    at_micros integer not null,
    oldest_read_micros integer not null
) strict;
";
const COLUMNS: &str = "tenant, name, table_id, log_version, version, live_versions, rows, bytes, updated_at_micros";

/// See the module's comment.
#[derive(Debug, Clone)]
pub struct EmbeddedVersionStore {
    connection: Arc<Mutex<Connection>>,
    nodes: Arc<Liveness>,
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
        Ok(Self { connection: Arc::new(Mutex::new(connection)), nodes: Arc::new(Liveness::beside(path)) })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        blocking(move || work(&lock(&connection))).await?.map_err(away)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("a call to the version store broke off").because(error))
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

fn instant(row: &Row<'_>, column: usize) -> rusqlite::Result<DateTime<Utc>> {
    let micros: i64 = row.get(column)?;
    DateTime::from_timestamp_micros(micros).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, micros))
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

    async fn advance(&self, record: &DatasetRecord) -> Result<()> {
        let DatasetRecord { tenant, name, table_id, head } = record.clone();
        self.run(move |connection| {
            let sql = "update dataset set log_version = ?1, version = ?2, live_versions = ?3, rows = ?4, bytes = ?5, \
                       updated_at_micros = ?6 where table_id = ?7 and tenant = ?8 and name = ?9 \
                       and coalesce(log_version, -1) < ?1";
            let micros = head.updated_at.map(|instant| instant.timestamp_micros());
            let Head { log_version, version, live_versions, rows, bytes, .. } = head;
            let totals = params![log_version, version, live_versions, rows, bytes, micros];
            let of = params![table_id, tenant.as_str(), name.as_str()];
            connection.execute(sql, &[totals, of].concat()[..])
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

    async fn list_all(&self, from: Option<&str>) -> Result<DatasetPage> {
        let after = from.unwrap_or_default().to_string();
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
        let records: Vec<DatasetRecord> = raw.into_iter().map(record).collect::<Result<_>>()?;
        let next = records.last().filter(|_| records.len() == MAX_PAGE).map(|record| record.table_id.clone());
        Ok(DatasetPage { records, next })
    }

    async fn forget(&self, record: &DatasetRecord, at: DateTime<Utc>) -> Result<()> {
        let DatasetRecord { tenant, name, table_id, .. } = record.clone();
        let micros = at.timestamp_micros();
        self.run(move |connection| {
            let both = connection.unchecked_transaction()?;
            let taken = "delete from dataset where table_id = ? and tenant = ? and name = ?";
            if both.execute(taken, params![table_id, tenant.as_str(), name.as_str()])? > 0 {
                let remember = "insert or replace into forgotten (table_id, tenant, at_micros) values (?, ?, ?)";
                both.execute(remember, params![table_id, tenant.as_str(), micros])?;
            }
            both.commit()
        })
        .await
    }

    async fn stage(&self, tenant: &TenantId, table_id: &str, until: DateTime<Utc>) -> Result<()> {
        let (tenant, id, micros) = (tenant.as_str().to_string(), table_id.to_string(), until.timestamp_micros());
        self.run(move |connection| {
            let remember = "insert or replace into forgotten (table_id, tenant, at_micros) values (?, ?, ?)";
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
                let remember = "insert or replace into forgotten (table_id, tenant, at_micros) values (?, ?, ?)";
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

    async fn forgotten(&self, before: DateTime<Utc>, after: Option<&str>) -> Result<Vec<ForgottenTable>> {
        let (micros, after) = (before.timestamp_micros(), after.unwrap_or_default().to_string());
        self.run(move |connection| {
            let sql = format!(
                "select tenant, table_id from forgotten where at_micros < ? and table_id > ? order by table_id \
                 limit {MAX_PAGE}"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let table = |row: &Row<'_>| {
                Ok(ForgottenTable { tenant: TenantId::stored(&row.get::<_, String>(0)?), table_id: row.get(1)? })
            };
            let rows = statement.query_map(params![micros, after], table)?;
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

    async fn try_lease(&self, name: &str, holder: &str, now: DateTime<Utc>, until: DateTime<Utc>) -> Result<bool> {
        let (name, holder) = (name.to_string(), holder.to_string());
        let (now, until) = (now.timestamp_micros(), until.timestamp_micros());
        self.run(move |connection| {
            let sql = "insert into lease (name, holder, until_micros) values (?1, ?2, ?3) on conflict (name) \
                       do update set holder = ?2, until_micros = ?3 where holder = ?2 or until_micros <= ?4";
            connection.execute(sql, params![name, holder, until, now]).map(|changed| changed > 0)
        })
        .await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<()> {
        let (name, holder) = (name.to_string(), holder.to_string());
        self.run(move |connection| {
            connection.execute("delete from lease where name = ? and holder = ?", params![name, holder])
        })
        .await
        .map(drop)
    }

    async fn beat(&self, heartbeat: &Heartbeat) -> Result<()> {
        let Heartbeat { node, address, at, oldest_read } = heartbeat.clone();
        let (nodes, claimed) = (Arc::clone(&self.nodes), node.clone());
        // Before it is written that the node lives.
        blocking(move || nodes.claim(&claimed)).await?.map_err(|error| {
            Error::unavailable("the version store cannot note that this server lives").because(error)
        })?;
        let dead = at.checked_sub_signed(HEARTBEAT_LIFE).unwrap_or(DateTime::<Utc>::MIN_UTC).timestamp_micros();
        self.run(move |connection| {
            let both = connection.unchecked_transaction()?;
            both.execute("delete from node where at_micros < ?", params![dead])?;
            let say = "insert or replace into node values (?, ?, ?, ?)";
            both.execute(say, params![node, address, at.timestamp_micros(), oldest_read.timestamp_micros()])?;
            both.commit()
        })
        .await
    }

    async fn heartbeats(&self) -> Result<Vec<Heartbeat>> {
        let nodes = Arc::clone(&self.nodes);
        self.run(move |connection| {
            let sql = "select node, address, at_micros, oldest_read_micros from node order by node";
            let mut statement = connection.prepare_cached(sql)?;
            let said = |row: &Row<'_>| {
                let (at, oldest_read) = (instant(row, 2)?, instant(row, 3)?);
                Ok(Heartbeat { node: row.get(0)?, address: row.get(1)?, at, oldest_read })
            };
            let said = statement.query_map([], said)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(said.into_iter().filter(|heartbeat| nodes.lives(&heartbeat.node)).collect())
        })
        .await
    }

    async fn leave(&self, node: &str) -> Result<()> {
        let (nodes, node) = (Arc::clone(&self.nodes), node.to_string());
        self.run(move |connection| {
            connection.execute("delete from node where node = ?", params![node])?;
            nodes.give_up(&node);
            Ok(())
        })
        .await
    }

    async fn ping(&self) -> Result<()> {
        self.run(|connection| connection.query_row("select 1", [], |_| Ok(()))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::conformance::{Place, conformance_tests};

    /// A file in a folder of its own. Each handle is a connection of its own, as another process has.
    struct File(tempfile::TempDir);

    impl File {
        async fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
    }

    #[async_trait]
    impl Place for File {
        async fn open(&self) -> Arc<dyn VersionStore> {
            Arc::new(EmbeddedVersionStore::open(&self.0.path().join("versions.db")).unwrap())
        }
    }

    conformance_tests!(File::new());

    #[test]
    fn a_file_of_another_program_or_a_newer_one_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.db");
        Connection::open(&path).unwrap().execute_batch("create table theirs (x)").unwrap();
        assert!(EmbeddedVersionStore::open(&path).unwrap_err().message().contains("another program"));
        let path = folder.path().join("newer.db");
        drop(EmbeddedVersionStore::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", FORMAT_VERSION + 1).unwrap();
        assert!(EmbeddedVersionStore::open(&path).unwrap_err().message().contains("newer pandas-db"));
        let tables = Connection::open(folder.path().join("other.db")).unwrap();
        let count: i64 = tables.query_row("select count(*) from sqlite_master", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
    }

    #[tokio::test]
    async fn a_file_of_the_first_format_keeps_its_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        let (first, _) = SCHEMA.split_once("create table if not exists lease").unwrap();
        let old = format!(
            "{first} insert into dataset (table_id, tenant, name) values ('t', 'default', 'a'); \
             pragma application_id = {APPLICATION_ID}; pragma user_version = 1;"
        );
        Connection::open(&path).unwrap().execute_batch(&old).unwrap();
        let store = EmbeddedVersionStore::open(&path).unwrap();
        let name = DatasetName::parse("a").unwrap();
        assert_eq!(store.find(&TenantId::default_tenant(), &name).await.unwrap().unwrap().table_id, "t");
        let (now, later) = (DateTime::<Utc>::UNIX_EPOCH, DateTime::from_timestamp_micros(1).unwrap());
        assert!(store.try_lease("l", "n", now, later).await.unwrap());
    }
}
