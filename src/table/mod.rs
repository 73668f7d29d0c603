//! A DataFrame as a Delta table: loading, committing, reading.
//!
//! | file | what is there |
//! |---|---|
//! | `catalog` | datasets by name |
//! | `dataset` | an opened dataset and its newest state |
//! | `snapshot`, `stats` | the state at one commit: versions, columns, chunks and their bounds |
//! | `record` | what a commit says of its versions |
//! | `load`, `split`, `ranges`, `group`, `buffers`, `spill`, `encode`, `writer` | from batches to chunks |
//! | `commit`, `delta` | from chunks to a version |
//! | `read`, `order`, `assembly` | from versions to batches |
//! | `blocking` | work that an async thread must not do |
//! | `types`, `convert`, `categories`, `schema`, `keys`, `digest` | types, columns, keys |

mod assembly;
mod blocking;
mod buffers;
mod catalog;
mod categories;
mod commit;
mod convert;
mod dataset;
mod delta;
mod digest;
mod encode;
mod group;
mod keys;
mod load;
mod order;
mod ranges;
mod read;
mod record;
mod schema;
mod snapshot;
mod spill;
mod split;
mod stats;
mod types;
mod writer;

pub use self::catalog::Catalog;
pub use self::commit::LoadOutcome;
pub use self::dataset::{Dataset, unknown_dataset};
pub use self::keys::{ColumnsKeys, KeyKind, parse_columns_keys};
pub use self::load::{Load, LoadRequest};
pub use self::read::{FrameRead, ReadSettings, RowFilter, Selection};
pub use self::record::{CommitRecord, VersionRecord};
pub use self::schema::{Column, Columns, LOAD_COLUMN, ROW_COLUMN};
pub use self::snapshot::{Chunk, Snapshot, Version};
pub use self::split::{MAX_DATE_KEYS, MAX_ID_KEYS, SplitSettings};
pub use self::stats::{Bound, ColumnStats};
pub use self::types::sql_type;
