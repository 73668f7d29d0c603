//! A DataFrame as a Delta table: loading, committing, reading.
//!
//! | file | what is there |
//! |---|---|
//! | `catalog` | datasets by name |
//! | `dataset` | an opened dataset and its newest state |
//! | `snapshot`, `replay`, `chunk`, `stats` | the state at one commit: versions, columns, chunks and their bounds |
//! | `record` | what a commit says of its versions |
//! | `command` | a load as callers ask for it, and what they are told of it |
//! | `load`, `split`, `ranges`, `group`, `buffers`, `spill`, `writer` | from batches to partitions |
//! | `encode`, `encoding`, `bounds`, `compression` | from partitions to chunks |
//! | `commit`, `draft`, `rewrite`, `delta` | from chunks to a version, and every other change of a dataset |
//! | `selection`, `read`, `scan`, `order`, `assembly`, `gather`, `dictionaries` | from versions to batches |
//! | `revision`, `edit`, `sql_values`, `replacement` | what SQL statements make of rows and tables |
//! | `manage`, `compact`, `vacuum`, `lease`, `maintenance` | what else is done to a dataset, also in the background |
//! | `presence` | the other nodes of the storage |
//! | `repair` | records made anew from the logs |
//! | `form` | the one form of rows that are merged, changed or cut anew |
//! | `blocking` | work that an async thread must not do |
//! | `types`, `convert`, `categories`, `schema`, `keys`, `digest` | types, columns, keys |

mod assembly;
mod blocking;
mod bounds;
mod buffers;
mod catalog;
mod categories;
mod chunk;
mod command;
mod commit;
mod compact;
mod compression;
mod convert;
mod dataset;
mod delta;
mod dictionaries;
mod digest;
mod draft;
mod edit;
mod encode;
mod encoding;
mod form;
mod gather;
mod group;
mod keys;
mod lease;
mod load;
mod maintenance;
mod manage;
mod order;
mod presence;
mod ranges;
mod read;
mod record;
mod repair;
mod replacement;
mod replay;
mod revision;
mod rewrite;
mod scan;
mod schema;
mod selection;
mod snapshot;
mod spill;
mod split;
mod sql_values;
mod stats;
mod types;
mod vacuum;
mod writer;

pub use self::catalog::Catalog;
pub use self::chunk::{Chunk, LoadRows};
pub use self::command::{committed, read_request};
pub use self::commit::{CommitTurn, LoadOutcome};
pub use self::compact::{Compaction, Eagerness};
pub use self::convert::restore_interval;
pub use self::dataset::{Dataset, unknown_dataset};
pub use self::keys::{ColumnsKeys, KeyKind, parse_columns_keys};
pub use self::lease::Lease;
pub use self::load::{Creation, Load, LoadRequest};
pub use self::maintenance::{Maintenance, MaintenanceSettings};
pub use self::presence::Presence;
pub use self::read::{FrameRead, ReadSettings, RowFilter};
pub use self::record::{CommitRecord, EndState, EndedVersion, Retention, VersionRecord, WriteKind};
pub use self::repair::{Finding, RepairSettings, repair};
pub use self::revision::{ChangedColumn, Revision, RowChanges};
pub use self::schema::{Column, ColumnNames, Columns, LOAD_COLUMN, ROW_COLUMN};
pub use self::selection::{SelectedChunk, SelectedRows, Selection};
pub use self::snapshot::{End, Snapshot, Version};
pub use self::split::{MAX_DATE_KEYS, MAX_ID_KEYS, SplitSettings};
pub use self::sql_values::{check_nulls, from_sql, with_any_categories};
pub use self::stats::{Bound, ColumnStats};
pub use self::types::sql_type;
pub use self::vacuum::Vacuumed;
