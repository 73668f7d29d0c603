//! A database for DataFrames.
//!
//! A frame is uploaded over Arrow Flight, stored as partitioned Parquet chunks in a Delta Lake table, and comes back
//! exactly as it went in; SQL reads the same chunks, and only those it needs.
//!
//! # Where is what
//!
//! Modules in layers: a module names only those of lower layers (`tests/it/tidy.rs` fails otherwise).
//!
//! | layer | module | what is there |
//! |---|---|---|
//! | 7 | [`server`] | builds the components, listens, drains |
//! | 6 | [`http`], [`telemetry`] | REST, health and metrics; logs |
//! | 5 | [`flight`], [`cli`] | the wire of the server; the command-line client |
//! | 4 | [`query`] | SQL on datasets, reads with limits |
//! | 3 | [`table`] | a dataset: loading, committing, reading |
//! | 2 | [`storage`], [`versions`], [`auth`], [`call`] | bytes; the index of datasets; who calls; the life of a call |
//! | 1 | [`config`], [`names`], [`proto`], [`metrics`], [`wire`], [`formats`], [`audit`], [`pem`] | settings, names |
//! | 0 | [`error`], [`clock`] | failures and what a caller can do; time and randomness |
//!
//! # A load
//!
//! [`flight`] checks each message before it is decoded, [`table::Load`] brings rows into their stored form, splits them
//! by partition and writes full chunks while more arrive. The commit is one put-if-absent of the next entry of the
//! dataset's Delta log, after which the version exists; before it nothing is visible. The log is the truth: the
//! [`versions`] store is an index of it.
//!
//! # A read
//!
//! A dataset's state is kept in memory and brought up to date by reading only the commits made since
//! ([`table::Snapshot`]). From it the chunks that matter are chosen, for SQL by their bounds; only those are opened.
//! What computes
//! runs on threads of its own, and a slow client slows the read, not the server's memory.
//!
//! # A statement that writes
//!
//! `INSERT` and `CREATE TABLE` are loads of what a query gives. `UPDATE`, `DELETE` and `MERGE` become queries that tell
//! rows by the load they came with and their place in it ([`query::Engine::write`]); of the chunks that hold those rows
//! new ones are made ([`table::Revision`]), and one commit puts them in place of the old. It is refused, and the
//! statement computed anew, when another commit has changed rows since.
//!
//! # Words
//!
//! *Dataset*, *load*, *version*, *external key*, *chunk* (one Parquet file), *partition* (one date, one range of ids),
//! *principal*, *tenant*: one word for one thing, from the wire to the stored bytes.

pub mod audit;
pub mod auth;
pub mod aws;
pub mod call;
pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod flight;
pub mod formats;
pub mod http;
pub mod metrics;
pub mod names;
pub mod pem;
pub mod proto;
pub mod query;
pub mod server;
pub mod storage;
pub mod table;
pub mod telemetry;
pub mod versions;
pub mod wire;
