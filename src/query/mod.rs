//! SQL on datasets.
//!
//! | file | what is there |
//! |---|---|
//! | `begin` | a statement, whatever it is |
//! | `engine` | a statement in, a bounded stream of batches out |
//! | `statement` | a statement, its values, options and moments |
//! | `parameters`, `options` | values for `$1`; what a client sets for its session |
//! | `describe` | what a statement will give and wants |
//! | `write` | statements that change datasets |
//! | `session` | the template session, limits, the statements that are refused |
//! | `dialect` | the SQL that is understood, and versions of tables in it |
//! | `complexity` | how much a statement may ask of the planner |
//! | `catalog` | datasets as tables, for one tenant |
//! | `table_name` | `dataset@last`, `dataset$versions`: what stands behind a dataset's name |
//! | `history` | versions and chunks as tables |
//! | `audit` | the audit log as a table |
//! | `provider` | one dataset as a table: from filters to the chunks that are read |
//! | `intervals` | intervals, put together from their parts |
//! | `pruning` | which chunks a condition can rule out |
//! | `selection` | a `GetDataframe` as the rows that it selects |
//! | `filter` | the condition of a `GetDataframe` |
//! | `write` | the statements that write |
//! | `output` | the one schema that a result is declared and sent with |
//! | `deadline` | when a statement's time is up |
//! | `cpu` | the threads that queries compute on |
//! | `planning` | planning that stops |
//! | `cooperative`, `stop` | joins that pause, and that stop |
//! | `amplification` | functions that make much of little |
//! | `extremes` | `min` and `max` of floats by group |
//! | `orderings` | functions with a limited domain, and order |
//! | `equalities` | equalities that a plan must not conclude |
//! | `failure` | what the engine's errors mean for a caller |

mod amplification;
mod audit;
mod begin;
mod catalog;
mod complexity;
mod cooperative;
mod cpu;
mod deadline;
mod describe;
mod dialect;
mod engine;
mod equalities;
mod extremes;
mod failure;
mod filter;
mod history;
mod intervals;
mod options;
mod orderings;
mod output;
mod parameters;
mod planning;
mod provider;
mod pruning;
mod selection;
mod session;
mod statement;
mod stop;
mod table_name;
mod write;

pub use self::begin::{Begun, affected_batch, affected_schema};
pub use self::describe::Described;
pub use self::engine::{Engine, EngineSettings, PlannedQuery, ResultStream, Usage};
pub use self::options::{OptionValue, Refusal, SessionOptions};
pub use self::parameters::{Parameters, number_placeholders};
pub use self::provider::sql_schema;
pub use self::selection::selection;
pub use self::session::{CATALOG, DEFAULT_SCHEMA, MAX_STATEMENT_BYTES, SessionSettings};
pub use self::statement::{Moment, Moments, Part, Statement};
pub use self::table_name::parse_instant;
pub use self::write::{StatementKind, WriteOutcome};
