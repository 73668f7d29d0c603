use std::collections::BTreeMap;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::*;

fn settings(chunk_rows: usize, max_partitions: usize) -> SplitSettings {
    SplitSettings { chunk_rows, max_partitions, buffer_bytes: 4_096, spill_folder: std::env::temp_dir() }
}

fn key(name: &str, index: usize, kind: KeyKind) -> KeyColumn {
    KeyColumn { name: name.into(), index: Some(index), stored: Some(index), kind }
}

fn frame(days: &[Option<i32>], ids: &[Option<i64>], first: i64) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("d", DataType::Date32, true),
        Field::new("id", DataType::Int64, true),
        Field::new("row", DataType::Int64, true),
    ]);
    let rows = Int64Array::from_iter_values(first..first + days.len() as i64);
    let days = arrow::array::Date32Array::from(days.to_vec());
    RecordBatch::try_new(
        Arc::new(schema),
        vec![Arc::new(days), Arc::new(Int64Array::from(ids.to_vec())), Arc::new(rows)],
    )
    .unwrap()
}

/// Splits rows given in batches of `size`; gives the chunks as (partition, row numbers).
fn split(
    keys: Vec<KeyColumn>,
    days: &[Option<i32>],
    ids: &[Option<i64>],
    size: usize,
    chunk_rows: usize,
) -> Result<Vec<(Vec<KeyRange>, Vec<i64>)>> {
    let schema = frame(&[], &[], 0).schema();
    let positions: Vec<usize> = keys.iter().filter_map(|key| key.stored).collect();
    let mut splitter = Splitter::new(keys, schema, settings(chunk_rows, 1_000))?;
    let mut chunks = Vec::new();
    let mut first = 0;
    for (days, ids) in days.chunks(size).zip(ids.chunks(size)) {
        let batch = frame(days, ids, first);
        let arrays = positions.iter().map(|at| Some(Arc::clone(batch.column(*at)))).collect();
        chunks.extend(splitter.push(batch, &arrays, first)?);
        first += days.len() as i64;
    }
    splitter.finish(|chunk| {
        chunks.push(chunk);
        Ok(())
    })?;
    let rows = |chunk: &ReadyChunk| {
        chunk.batches.iter().flat_map(|b| b.column(2).as_primitive::<Int64Type>().values().to_vec()).collect()
    };
    Ok(chunks.iter().map(|chunk| (chunk.ranges.clone(), rows(chunk))).collect())
}

proptest! {
    #[test]
    fn every_row_is_in_one_chunk_of_its_partition_in_order(
        rows in proptest::collection::vec((proptest::option::of(-3i32..3), proptest::option::of(-9i64..9)), 1..200),
        size in 1usize..50,
        chunk_rows in 1usize..40,
    ) {
        let (days, ids): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        let keys = vec![key("d", 0, KeyKind::Date), key("id", 1, KeyKind::Id)];
        let chunks = split(keys, &days, &ids, size, chunk_rows).unwrap();
        let mut seen: Vec<i64> = Vec::new();
        let mut ranges: BTreeMap<KeyRange, Vec<KeyRange>> = BTreeMap::new();
        for (partition, rows) in &chunks {
            prop_assert!(rows.windows(2).all(|pair| pair[0] < pair[1]));
            for row in rows {
                let (day, id) = (days[*row as usize], ids[*row as usize]);
                prop_assert_eq!(partition[0], day.map_or(KeyRange::Null, KeyRange::Day));
                match (partition[1], id) {
                    (KeyRange::Ids(from, to), Some(id)) => prop_assert!((from..=to).contains(&i128::from(id))),
                    (range, id) => prop_assert!(range == KeyRange::Null && id.is_none()),
                }
            }
            seen.extend(rows);
            let known = ranges.entry(partition[0]).or_default();
            if !known.contains(&partition[1]) {
                known.push(partition[1]);
            }
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..days.len() as i64).collect::<Vec<_>>());
        for known in ranges.values_mut() {
            known.sort();
            for pair in known.windows(2) {
                if let [KeyRange::Ids(_, end), KeyRange::Ids(start, _)] = pair {
                    prop_assert!(end < start, "{:?}", pair);
                }
            }
        }
    }
}

#[test]
fn full_partitions_are_handed_out_while_rows_arrive() {
    let days = vec![Some(1); 25];
    let ids = vec![None; 25];
    let chunks = split(vec![key("d", 0, KeyKind::Date)], &days, &ids, 25, 10).unwrap();
    assert_eq!(chunks.iter().map(|(_, rows)| rows.len()).collect::<Vec<_>>(), [10, 10, 5]);
}

#[test]
fn too_many_partitions_are_refused() {
    let keys = vec![key("d", 0, KeyKind::Date)];
    let batch = frame(&[Some(1), Some(2), Some(3)], &[None; 3], 0);
    let mut splitter = Splitter::new(keys, batch.schema(), settings(10, 2)).unwrap();
    let arrays = vec![Some(Arc::clone(batch.column(0)))];
    let error = splitter.push(batch, &arrays, 0).err().unwrap();
    assert_eq!(error.kind(), crate::error::Kind::Exhausted);
}

#[test]
fn packed_days_before_1970_come_back() {
    let days = [Some(-719_528), Some(-1), Some(0), None, Some(i32::MAX)];
    let chunks = split(vec![key("d", 0, KeyKind::Date)], &days, &[None; 5], 5, 10).unwrap();
    let found: Vec<KeyRange> = chunks.into_iter().map(|(partition, _)| partition[0]).collect();
    let wanted =
        [KeyRange::Day(-719_528), KeyRange::Day(-1), KeyRange::Day(0), KeyRange::Day(i32::MAX), KeyRange::Null];
    assert_eq!(found, wanted);
}
