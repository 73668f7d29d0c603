//! SQL on datasets.
//!
//! | file | what is there |
//! |---|---|
//! | `engine` | a statement in, a bounded stream of batches out |
//! | `session` | the template session, limits, the statements that are refused |
//! | `dialect` | the SQL that is understood, and versions of tables in it |
//! | `catalog` | datasets as tables, for one tenant |
//! | `table_name` | `dataset@last`, `dataset$versions`: what stands behind a dataset's name |
//! | `history` | versions and chunks as tables |
//! | `provider` | one dataset as a table: from filters to the chunks that are read |
//! | `pruning` | which chunks a condition can rule out |
//! | `selection` | a `GetDataframe` as the rows that it selects |
//! | `filter` | the condition of a `GetDataframe` |
//! | `output` | the one schema that a result is declared and sent with |
//! | `cpu` | the threads that queries compute on |
//! | `failure` | what the engine's errors mean for a caller |

mod catalog;
mod cpu;
mod dialect;
mod engine;
mod failure;
mod filter;
mod history;
mod output;
mod provider;
mod pruning;
mod selection;
mod session;
mod table_name;

pub use self::engine::{Engine, EngineSettings, PlannedQuery, ResultStream};
pub use self::selection::selection;
pub use self::session::SessionSettings;
pub use self::table_name::parse_instant;
