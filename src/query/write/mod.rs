//! The statements that write: what they mean, and how they run.
//!
//! | file | what is there |
//! |---|---|
//! | `statement` | which statements there are, and what of their many forms is understood |
//! | `parameters` | `$1`, `$2`, … and their values |
//! | `names` | the dataset that a statement writes |
//! | `session` | the session that its parts are planned in, and the group of chunks that it works on |
//! | `select` | queries made of the parts of a statement |
//! | `create`, `insert` | statements that are a load |
//! | `revise`, `change`, `merge` | statements that change rows |
//!
//! A statement runs once, whole or not at all. Those that change rows are computed on one state of their dataset and
//! are computed anew when others change it meanwhile, so that they seem to run one after the other.

mod change;
mod create;
mod insert;
mod merge;
mod names;
mod parameters;
mod revise;
mod select;
mod session;
mod statement;

use std::future::Future;

use arrow::array::RecordBatch;

use self::insert::rows_of_parameters;
use self::parameters::Parameters;
use self::session::{Computing, WriteSession};
use self::statement::Write;
use super::deadline::Deadline;
use super::engine::Engine;
use super::options::SessionOptions;
use super::statement::Statement as QueryStatement;
use super::stop::{Stop, StopOnDrop};
use crate::auth::Principal;
use crate::error::{Error, Kind, Result};

/// What a statement did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOutcome {
    /// Rows added, changed and deleted.
    pub rows: i64,
    /// The version that it made; `None` when it changed nothing, or made or ended a dataset without rows.
    pub version: Option<i64>,
}

impl WriteOutcome {
    /// What two runs did one after the other.
    fn and(self, later: Self) -> Self {
        Self { rows: self.rows + later.rows, version: later.version.or(self.version) }
    }
}

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// It reads, or is refused as a query.
    Query,
    /// It writes, by [`Engine::write`].
    Write,
}

/// Tells what a statement is, from its text alone. To explain a write is to read.
///
/// # Errors
/// [`Kind::Invalid`] for a text that is no statement.
pub(super) fn classify(sql: &str) -> Result<StatementKind> {
    Ok(if statement::read(sql)?.is_some() { StatementKind::Write } else { StatementKind::Query })
}

/// One run of one statement.
struct Run<'a> {
    engine: &'a Engine,
    caller: &'a Principal,
    /// The text of the statement.
    sql: String,
    options: &'a SessionOptions,
    parameters: Parameters,
    deadline: Deadline,
    /// Ends what it computes, however far that is, when it is dropped.
    stop: StopOnDrop,
}

impl Engine {
    /// Runs a statement that writes. `params` has a column for each of `$1`, `$2`, …: of its rows, an `INSERT` of
    /// values takes all in one load, and any other statement runs once with each.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a statement or a value that is wrong, [`Kind::NotFound`] and [`Kind::AlreadyExists`] where
    /// the dataset is absent or there, [`Kind::Conflict`] when others kept changing it meanwhile, [`Kind::Timeout`]
    /// when it takes too long; nothing is changed then.
    pub async fn write(
        &self,
        caller: &Principal,
        sql: &str,
        params: Option<&RecordBatch>,
        options: &SessionOptions,
    ) -> Result<WriteOutcome> {
        Box::pin(self.write_by(self.deadline(options), caller, sql, params, options)).await
    }

    /// As [`Engine::write`], within a time that began before.
    pub(super) async fn write_by(
        &self,
        deadline: Deadline,
        caller: &Principal,
        sql: &str,
        params: Option<&RecordBatch>,
        options: &SessionOptions,
    ) -> Result<WriteOutcome> {
        let text = sql.to_string();
        let write = deadline.in_time(self.cpu.run(async move { statement::read(&text) })).await?;
        let write = write.ok_or_else(|| Error::invalid("this statement does not write; run it as a query"))?;
        let given = Parameters::new(params);
        let run = |parameters| {
            let (sql, stop) = (sql.to_string(), Stop::default().on_drop());
            Run { engine: self, caller, sql, options, parameters, deadline, stop }
        };
        if given.rows() > 1
            && let Some(insert) = rows_of_parameters(&write)
        {
            return Box::pin(run(given).insert(insert)).await.inspect(|done| note(caller, *done));
        }
        let mut done = WriteOutcome::default();
        for row in 0..given.rows() {
            done = done.and(Box::pin(run(given.row(row)).write(write.clone())).await?);
        }
        note(caller, done);
        Ok(done)
    }
}

fn note(caller: &Principal, done: WriteOutcome) {
    done.version.inspect(|version| caller.trail.version(*version));
    caller.trail.moved(done.rows.unsigned_abs(), 0);
}

impl Run<'_> {
    /// A session to plan and run parts of the statement in.
    async fn session(&self, computing: Computing) -> Result<WriteSession> {
        let statement = QueryStatement::new(self.sql.as_str(), self.options.clone());
        WriteSession::open(self.engine, self.caller, &statement, &self.parameters, computing, self.stop.flag()).await
    }

    async fn write(&self, write: Write) -> Result<WriteOutcome> {
        match write {
            Write::Create(create) => self.create(*create).await,
            Write::CreateSchema => Ok(WriteOutcome::default()),
            Write::Drop { name, if_exists } => self.drop_table(&name, if_exists).await,
            Write::Insert(insert) => self.insert(*insert).await,
            Write::Revise(revise) => self.revise(*revise).await,
        }
    }

    /// Waits for the part of a statement that changes nothing yet, as long as there is time.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.deadline.in_time(work).await
    }
}

/// How often a statement is computed before its caller is told to retry.
const MAX_ATTEMPTS: u32 = 10;

/// Whether a statement that failed so can be computed anew: it lost a race, and surely stored nothing.
fn is_lost(error: &Error) -> bool {
    error.kind() == Kind::Conflict
}

#[cfg(test)]
mod tests;
