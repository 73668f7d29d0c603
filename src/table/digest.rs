//! A digest of the schema and rows of a load that does not depend on how the rows were cut into batches.
//!
//! It tells a repeated load from another one under the same idempotency key. There is no adversary (both come from the
//! same caller), so a fast hash serves: XXH3 with 128 bits. Each column has streams of its own, since only within a
//! column do the bytes of consecutive batches join without a seam.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use twox_hash::xxhash3_128::Hasher;

/// Digests a load, batch by batch, in its stored form.
pub(super) struct Digest {
    schema: Vec<u8>,
    columns: Vec<ColumnDigest>,
}

#[derive(Default)]
struct ColumnDigest {
    rows: u64,
    nulls: Hasher,
    lengths: Hasher,
    values: Hasher,
    children: Vec<ColumnDigest>,
}

impl Digest {
    /// Begins with the encoded logical schema.
    pub(super) fn new(encoded_schema: &[u8]) -> Self {
        Self { schema: encoded_schema.to_vec(), columns: Vec::new() }
    }

    /// Adds the rows of `batch`.
    pub(super) fn update(&mut self, batch: &RecordBatch) {
        self.columns.resize_with(batch.num_columns(), ColumnDigest::default);
        for (digest, column) in self.columns.iter_mut().zip(batch.columns()) {
            digest.update(column);
        }
    }

    /// The digest as 32 hexadecimal digits.
    pub(super) fn finish(self) -> String {
        let mut all = Hasher::new();
        all.write(&self.schema);
        for column in self.columns {
            column.finish(&mut all);
        }
        format!("xxh3-128:{:032x}", all.finish_128())
    }
}

impl ColumnDigest {
    fn update(&mut self, array: &ArrayRef) {
        if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
            for row in (0..array.len()).filter(|row| nulls.is_null(*row)) {
                self.nulls.write(&(self.rows + row as u64).to_le_bytes());
            }
        }
        match array.data_type() {
            DataType::Boolean => {
                let bytes: Vec<u8> = array.as_boolean().iter().map(|v| u8::from(v.unwrap_or_default())).collect();
                self.values.write(&bytes);
            }
            DataType::Utf8 | DataType::Binary => self.update_bytes(array),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                self.update_nested(list.value_offsets(), &[Arc::clone(list.values())]);
            }
            DataType::Map(..) => {
                let map = array.as_map();
                self.update_nested(map.value_offsets(), &[Arc::clone(map.keys()), Arc::clone(map.values())]);
            }
            DataType::Struct(_) => self.update_children(array.as_struct().columns()),
            _ => self.update_fixed(array),
        }
        self.rows += array.len() as u64;
    }

    /// Fixed-width values, the undefined bytes of nulls as zeros.
    fn update_fixed(&mut self, array: &ArrayRef) {
        let (Some(width), data) = (array.data_type().primitive_width(), array.to_data()) else { return };
        let start = data.offset() * width;
        let bytes = data.buffers().first().map(|buffer| buffer.as_slice());
        let Some(bytes) = bytes.and_then(|bytes| bytes.get(start..start + data.len() * width)) else { return };
        match array.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => self.values.write(bytes),
            Some(nulls) => {
                let mut clean = bytes.to_vec();
                for (row, value) in clean.chunks_exact_mut(width).enumerate() {
                    if nulls.is_null(row) {
                        value.fill(0);
                    }
                }
                self.values.write(&clean);
            }
        }
    }

    fn update_bytes(&mut self, array: &ArrayRef) {
        let (offsets, bytes) = match array.data_type() {
            DataType::Utf8 => (array.as_string::<i32>().value_offsets(), array.as_string::<i32>().value_data()),
            _ => (array.as_binary::<i32>().value_offsets(), array.as_binary::<i32>().value_data()),
        };
        self.update_lengths(offsets);
        if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
            self.values.write(bytes.get(*first as usize..*last as usize).unwrap_or_default());
        }
    }

    fn update_nested(&mut self, offsets: &[i32], children: &[ArrayRef]) {
        self.update_lengths(offsets);
        if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
            let (first, length) = (*first as usize, (*last - *first) as usize);
            let used: Vec<ArrayRef> = children.iter().map(|child| child.slice(first, length)).collect();
            self.update_children(&used);
        }
    }

    fn update_lengths(&mut self, offsets: &[i32]) {
        let lengths = offsets.iter().zip(offsets.iter().skip(1)).map(|(from, to)| to - from);
        let bytes: Vec<u8> = lengths.flat_map(i32::to_le_bytes).collect();
        self.lengths.write(&bytes);
    }

    fn update_children(&mut self, children: &[ArrayRef]) {
        self.children.resize_with(children.len(), ColumnDigest::default);
        for (digest, child) in self.children.iter_mut().zip(children) {
            digest.update(child);
        }
    }

    fn finish(self, all: &mut Hasher) {
        all.write(&self.rows.to_le_bytes());
        for stream in [self.nulls, self.lengths, self.values] {
            all.write(&stream.finish_128().to_le_bytes());
        }
        for child in self.children {
            child.finish(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    use super::*;

    fn frame(ints: &[Option<i64>]) -> RecordBatch {
        let texts: StringArray = ints.iter().map(|v| v.map(|v| "x".repeat((v.rem_euclid(5)) as usize))).collect();
        let floats: Float64Array = ints.iter().map(|v| v.map(|v| v as f64 / 3.0)).collect();
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
            ints.iter().map(|v| v.map(|v| (0..v.rem_euclid(3)).map(|i| Some(i as i32)))),
        );
        let bools: arrow::array::BooleanArray = ints.iter().map(|v| v.map(|v| v % 2 == 0)).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("i", Arc::new(Int64Array::from(ints.to_vec())) as ArrayRef, true),
            ("s", Arc::new(texts) as ArrayRef, true),
            ("f", Arc::new(floats) as ArrayRef, true),
            ("l", Arc::new(lists) as ArrayRef, true),
            ("b", Arc::new(bools) as ArrayRef, true),
        ])
        .unwrap()
    }

    fn digest(batch: &RecordBatch, cuts: &[usize]) -> String {
        let mut digest = Digest::new(b"schema");
        let mut from = 0;
        for to in cuts.iter().map(|cut| cut % (batch.num_rows() + 1)).chain([batch.num_rows()]) {
            if to >= from {
                digest.update(&batch.slice(from, to - from));
                from = to;
            }
        }
        digest.finish()
    }

    proptest! {
        #[test]
        fn batches_do_not_matter_but_values_do(
            ints in proptest::collection::vec(proptest::option::of(-9i64..9), 1..60),
            cuts in proptest::collection::vec(0usize..60, 0..4),
            changed in 0usize..60,
        ) {
            let whole = frame(&ints);
            prop_assert_eq!(digest(&whole, &[]), digest(&whole, &cuts));
            let mut other = ints.clone();
            let at = changed % other.len();
            other[at] = other[at].map_or(Some(1), |v| Some(v + 1));
            prop_assert_ne!(digest(&whole, &[]), digest(&frame(&other), &[]));
        }
    }
}
