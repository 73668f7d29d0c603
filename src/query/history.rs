//! `dataset$versions` and `dataset$chunks`: what a dataset consists of, as tables.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;

use super::failure::through_engine;
use super::pruning::key_bounds;
use crate::table::{Chunk, LoadRows, SelectedChunk, Snapshot, Version};

fn table(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, column)| column).collect())?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

/// One row for each version, ended ones too until they are vacuumed.
pub(super) fn versions_table(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let versions: Vec<&Version> = snapshot.versions().collect();
    let numbers = |value: fn(&Version) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(versions.iter().map(|version| value(version))))
    };
    let texts = |value: fn(&Version) -> Option<&str>| -> ArrayRef {
        Arc::new(versions.iter().map(|version| value(version)).collect::<StringArray>())
    };
    let created = versions.iter().map(|version| version.record.created_at.timestamp_micros());
    let created = TimestampMicrosecondArray::from_iter_values(created).with_timezone("UTC");
    table(vec![
        ("version", numbers(|version| version.record.version)),
        ("external_key", texts(|version| Some(&version.record.external_key))),
        ("state", texts(|version| Some(version.state()))),
        ("created_at", Arc::new(created)),
        ("created_by", texts(|version| Some(&version.record.created_by))),
        ("rows", numbers(|version| version.rows)),
        ("bytes", numbers(Version::bytes)),
        ("chunks", numbers(|version| version.record.chunks)),
        ("idempotency_key", texts(|version| version.record.idempotency_key.as_deref())),
    ])
}

/// One row for each live version in each live chunk. Bytes are those of the whole chunk, which versions may share.
pub(super) fn chunks_table(snapshot: &Snapshot) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let by_load: HashMap<i64, &Version> =
        snapshot.live_versions().map(|version| (version.record.load_id, version)).collect();
    let mut rows: Vec<(&Version, &Arc<Chunk>, &LoadRows)> = Vec::new();
    for chunk in snapshot.live_chunks() {
        rows.extend(chunk.loads.iter().filter_map(|of| Some((*by_load.get(&of.load_id)?, chunk, of))));
    }
    let numbers = |value: fn(&(&Version, &Arc<Chunk>, &LoadRows)) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(value)))
    };
    let texts = |value: for<'a> fn(&'a (&Version, &Arc<Chunk>, &LoadRows)) -> &'a str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
    };
    let mut columns = vec![
        ("version".to_string(), numbers(|(version, ..)| version.record.version)),
        ("external_key".to_string(), texts(|(version, ..)| &version.record.external_key)),
        ("path".to_string(), texts(|(_, chunk, _)| &chunk.path)),
        ("partition".to_string(), texts(|(_, chunk, _)| chunk.partition())),
        ("rows".to_string(), numbers(|(.., of)| of.rows as i64)),
        ("bytes".to_string(), numbers(|(_, chunk, _)| chunk.bytes as i64)),
    ];
    let chunks: Vec<SelectedChunk> =
        rows.iter().map(|(_, chunk, _)| SelectedChunk { chunk: Arc::clone(chunk), loads: None }).collect();
    for key in snapshot.keys.iter().flatten().map(|(name, _)| name) {
        for (word, greatest) in [("min", false), ("max", true)] {
            if let Some(bounds) = key_bounds(snapshot, &chunks, key, greatest).map_err(through_engine)? {
                columns.push((format!("{word}_{key}"), bounds));
            }
        }
    }
    table(columns.iter().map(|(name, column)| (name.as_str(), Arc::clone(column))).collect())
}
