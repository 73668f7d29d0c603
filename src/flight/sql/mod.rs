//! Flight SQL: statements, prepared statements, metadata, sessions, ingest.
//!
//! | file | what is there |
//! |---|---|
//! | `statement` | a statement's info and result; a statement that changes something |
//! | `prepared` | statements that are prepared, bound and run |
//! | `parameters`, `bound` | the values of their parameters |
//! | `ingest` | rows of a table, as drivers load them |
//! | `metadata`, `info`, `type_info` | what the server, its tables and its types are |
//! | `session` | options that a client sets |
//! | `running` | results that are being fetched, so that they can be cancelled |
//! | `actions` | the actions of Flight SQL |
//! | `messages` | messages that `arrow-flight` does not have |

mod actions;
mod bound;
mod info;
mod ingest;
mod messages;
mod metadata;
mod parameters;
mod prepared;
mod running;
mod session;
mod statement;
mod type_info;

pub(super) use self::actions::{SQL_ACTIONS, SqlActions, is_sql_action};
pub(super) use self::bound::Bound;
pub(super) use self::ingest::ingest_command;
pub(super) use self::metadata::MetadataCommand;
pub(super) use self::running::{Fetch, Running};
pub use self::session::ConnectionSession;
pub(super) use self::session::Session;
pub(super) use self::statement::{SqlCaller, endpoint};
