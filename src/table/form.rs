//! The one form that rows of chunks are brought into, to be merged, changed or cut anew.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::assembly::Order;
use super::convert::physical_field;
use super::keys::KeyColumn;
use super::rewrite::{decode_chunk, in_stored_types};
use super::schema::{Columns, LOAD_COLUMN, REMAINDER_PREFIX, ROW_COLUMN};
use super::selection::first_places;
use super::snapshot::{Snapshot, Version};
use super::split::{KeyArrays, ReadyChunk, SplitSettings, Splitter};
use crate::error::{Error, Result};

/// How the rows of a dataset are stored as of one snapshot.
#[derive(Clone)]
pub(super) struct StoredForm {
    /// The columns.
    pub columns: Columns,
    /// The stored columns, the load, the place in it, remainders.
    pub stored: SchemaRef,
    /// The keys, as they stand among the stored columns.
    pub keys: Vec<KeyColumn>,
    /// Where the rows of each load begin when all versions follow one another.
    first_places: Arc<HashMap<i64, i64>>,
}

impl StoredForm {
    /// That of a dataset which has, or is about to have, these columns.
    pub(super) fn of(snapshot: &Snapshot, columns: Columns) -> Self {
        let stored = columns.physical_schema();
        let live: Vec<Version> = snapshot.live_versions().cloned().collect();
        Self { keys: keys(snapshot, &columns, &stored), columns, stored, first_places: Arc::new(first_places(&live)) }
    }

    /// The rows of a chunk, all columns in their stored types.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when it is damaged.
    pub(super) fn decode(&self, file: bytes::Bytes) -> Result<Vec<RecordBatch>> {
        decode_chunk(file)?.iter().map(|batch| self.complete(&in_stored_types(batch, &self.columns)?)).collect()
    }

    /// A batch of a chunk with the columns that the chunk leaves out.
    fn complete(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => arrow::compute::cast(column, field.data_type())
                .map_err(|error| Error::corrupt("a stored column does not fit its type").because(error)),
            None if field.name().starts_with(REMAINDER_PREFIX) => {
                Ok(Arc::new(arrow::array::Int32Array::from_value(0, rows)) as ArrayRef)
            }
            None => Ok(arrow::array::new_null_array(field.data_type(), rows)),
        };
        let columns = self.stored.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.stored), columns).map_err(unfit)
    }

    /// A batch of the form with the places of its rows over all versions, by which they are put in order. Their places
    /// in their loads stay, under another name meanwhile.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when it holds rows of a version that is not live.
    pub(super) fn placed(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let name = |field: &FieldRef| if field.name() == ROW_COLUMN { KEPT_ROW } else { field.name() }.to_string();
        let named = self.stored.fields().iter().map(|field| field.as_ref().clone().with_name(name(field)));
        let fields: Vec<Field> = named.chain([physical_field(ROW_COLUMN, DataType::Int64)]).collect();
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(self.places(batch)?));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unfit)
    }

    fn places(&self, batch: &RecordBatch) -> Result<Int64Array> {
        let missing = || Error::corrupt("a chunk lacks its hidden columns");
        let numbers = |name: &str| {
            batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>()).ok_or_else(missing)
        };
        let (loads, rows) = (numbers(LOAD_COLUMN)?, numbers(ROW_COLUMN)?);
        let place = |(load, row): (&i64, &i64)| {
            let start = self.first_places.get(load).ok_or_else(missing)?;
            Ok(start.saturating_add(*row))
        };
        loads.values().iter().zip(rows.values()).map(place).collect::<Result<Vec<i64>>>().map(Into::into)
    }

    /// Rows of [`StoredForm::placed`], put in order and cut into chunks.
    ///
    /// # Errors
    /// As [`Splitter::push`].
    pub(super) fn split(&self, batches: &[RecordBatch], settings: SplitSettings) -> Result<Vec<ReadyChunk>> {
        let order = Order::find_sparse(batches)?;
        let mut splitter = Splitter::new(self.keys.clone(), Arc::clone(&self.stored), settings)?;
        let mut ready = Vec::new();
        let mut first_row = 0;
        for number in 0..order.outputs() {
            let batch = order.output(number)?;
            let batch = RecordBatch::try_new(Arc::clone(&self.stored), batch.columns().to_vec()).map_err(unfit)?;
            let key_array = |key: &KeyColumn| key.stored.map(|place| Arc::clone(batch.column(place)));
            let key_arrays: KeyArrays = self.keys.iter().map(key_array).collect();
            let rows = batch.num_rows() as i64;
            ready.extend(splitter.push(batch, &key_arrays, first_row)?);
            first_row += rows;
        }
        splitter.finish(|chunk| {
            ready.push(chunk);
            Ok(())
        })?;
        Ok(ready)
    }
}

/// What the place of a row in its load is called while rows are put in order.
const KEPT_ROW: &str = "__pdb_kept_row";

fn unfit(error: ArrowError) -> Error {
    Error::internal("the columns of chunks do not fit").because(error)
}

/// The keys as they stand in the stored form.
fn keys(snapshot: &Snapshot, columns: &Columns, stored: &Schema) -> Vec<KeyColumn> {
    let mut keys: Vec<KeyColumn> = Vec::new();
    for (name, kind) in snapshot.keys.iter().flatten() {
        let physical = columns.find(name).map(|column| column.names.physical.clone());
        let place = physical.and_then(|physical| stored.index_of(&physical).ok());
        let index = columns.iter().position(|column| column.names.name == *name);
        keys.push(KeyColumn { name: name.clone(), index, stored: place, kind: *kind });
    }
    keys.sort_by_key(|key| (key.kind, key.index));
    keys
}
