//! The dictionaries of a load: which categories a column had, in which order, used or not.
//!
//! Chunks store the values of a dictionary column, so that every reader sees them; the dictionary itself is kept once
//! per load and applied again on reading. Dictionaries are numbered in the depth-first order of the schema.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, DictionaryArray, Int64Array, ListArray, RecordBatch, new_empty_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, concat};
use arrow::datatypes::{ArrowDictionaryKeyType, DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

use crate::error::{Error, Result};

/// Collects the dictionaries of the batches of one load.
#[derive(Default)]
pub(super) struct CategoryBuilder {
    nodes: Vec<Node>,
    position: usize,
}

struct Node {
    /// All categories so far, in order of first appearance.
    values: ArrayRef,
    /// The dictionary last merged, by which an unchanged one is known without comparing values.
    last: ArrayRef,
    /// Built when a second, different dictionary arrives.
    seen: Option<HashMap<Box<[u8]>, ()>>,
}

impl CategoryBuilder {
    /// Begins a batch: the next dictionary met is the first of the schema again.
    pub(super) fn begin_batch(&mut self) {
        self.position = 0;
    }

    /// Takes the dictionary at the present position and moves on.
    pub(super) fn collect(&mut self, dictionary: &ArrayRef) -> Result<(), ArrowError> {
        match self.nodes.get_mut(self.position) {
            Some(node) => node.merge(dictionary)?,
            None => {
                self.nodes.push(Node { values: Arc::clone(dictionary), last: Arc::clone(dictionary), seen: None });
            }
        }
        self.position += 1;
        Ok(())
    }

    /// Takes the dictionaries that another has collected of the same schema.
    pub(super) fn absorb(&mut self, other: Self) -> Result<()> {
        self.begin_batch();
        let collected = other.nodes.iter().try_for_each(|node| self.collect(&node.values));
        collected.map_err(|error| Error::internal("categories could not be joined").because(error))
    }

    /// The collected dictionaries as one row of lists, a column each; `None` when there were none.
    pub(super) fn finish(self) -> Result<Option<RecordBatch>> {
        if self.nodes.is_empty() {
            return Ok(None);
        }
        pack(self.nodes.into_iter().map(|node| node.values).collect()).map(Some)
    }
}

fn pack(values: Vec<ArrayRef>) -> Result<RecordBatch> {
    let column = |(number, values): (usize, ArrayRef)| {
        let field = Arc::new(Field::new("item", values.data_type().clone(), true));
        let list = ListArray::try_new(field, OffsetBuffer::from_lengths([values.len()]), values, None)?;
        Ok((format!("dictionary_{number}"), Arc::new(list) as ArrayRef))
    };
    let columns: Result<Vec<_>, ArrowError> = values.into_iter().enumerate().map(column).collect();
    let batch = columns.and_then(RecordBatch::try_from_iter);
    batch.map_err(|error| Error::internal("the categories of a load could not be packed").because(error))
}

impl Node {
    fn merge(&mut self, dictionary: &ArrayRef) -> Result<(), ArrowError> {
        if self.last.to_data().ptr_eq(&dictionary.to_data()) || self.last.as_ref() == dictionary.as_ref() {
            return Ok(());
        }
        let converter = converter(dictionary.data_type())?;
        if self.seen.is_none() {
            let rows = converter.convert_columns(&[Arc::clone(&self.values)])?;
            self.seen = Some(rows.iter().map(|row| (row.as_ref().into(), ())).collect());
        }
        let seen = self.seen.get_or_insert_default();
        let rows = converter.convert_columns(&[Arc::clone(dictionary)])?;
        let new = rows.iter().enumerate().filter(|(_, row)| seen.insert(row.as_ref().into(), ()).is_none());
        let new: Int64Array = new.map(|(index, _)| Some(index as i64)).collect();
        if !new.is_empty() {
            let added = arrow::compute::take(dictionary, &new, None)?;
            self.values = concat(&[&self.values, &added])?;
        }
        self.last = Arc::clone(dictionary);
        Ok(())
    }
}

fn converter(data_type: &DataType) -> Result<RowConverter, ArrowError> {
    RowConverter::new(vec![SortField::new(data_type.clone())])
}

/// The dictionaries of one column, to be met in depth-first order.
#[derive(Clone, Default)]
pub(super) struct Categories {
    lookups: Arc<[Arc<Lookup>]>,
    position: usize,
}

impl Categories {
    /// No dictionaries are kept: they are made from the values.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// The dictionaries of a load, as [`CategoryBuilder::finish`] packed them; `None` gives none.
    pub(super) fn unpack(batch: Option<&RecordBatch>) -> Result<Vec<ArrayRef>> {
        let Some(batch) = batch else { return Ok(Vec::new()) };
        let values = |column: &ArrayRef| {
            let list = column.as_list_opt::<i32>().filter(|list| list.len() == 1);
            list.map(|list| list.value(0)).ok_or_else(|| Error::corrupt("the stored categories of a load are damaged"))
        };
        batch.columns().iter().map(values).collect()
    }

    /// Lookups for the given dictionaries.
    pub(super) fn new(values: Vec<ArrayRef>) -> Result<Self> {
        let lookups: Result<Vec<_>> = values.into_iter().map(|values| Lookup::new(values).map(Arc::new)).collect();
        Ok(Self { lookups: lookups?.into(), position: 0 })
    }

    /// The dictionary at the present position, and moves on.
    pub(super) fn next(&mut self, value_type: &DataType) -> Option<Arc<Lookup>> {
        let lookup = self.lookups.get(self.position).cloned();
        self.position += 1;
        lookup.filter(|lookup| lookup.values.data_type() == value_type)
    }
}

/// Joins the dictionaries of two loads: the categories of the first, then those that only the second has.
pub(super) fn union(first: &ArrayRef, second: &ArrayRef) -> Result<ArrayRef> {
    let mut node = Node { values: Arc::clone(first), last: Arc::clone(first), seen: None };
    node.merge(second).map_err(|error| Error::internal("categories could not be joined").because(error))?;
    Ok(node.values)
}

/// Finds the code of a value.
pub(super) struct Lookup {
    values: ArrayRef,
    codes: HashMap<Box<[u8]>, i64>,
}

impl Lookup {
    fn new(values: ArrayRef) -> Result<Self> {
        let mut codes = HashMap::with_capacity(values.len());
        let keys = keys_of(&values).map_err(|error| Error::corrupt("unusable categories").because(error))?;
        for (code, key) in keys.iter().enumerate() {
            codes.entry(key.unwrap_or_default().into()).or_insert(code as i64);
        }
        Ok(Self { values, codes })
    }

    /// The stored values as a dictionary array over these categories; `restore` gives them the category type.
    pub(super) fn encode(
        &self,
        stored: &ArrayRef,
        key_type: &DataType,
        restore: impl Fn(&ArrayRef) -> Result<ArrayRef, ArrowError>,
    ) -> Result<ArrayRef, ArrowError> {
        let values = restore(stored)?;
        let keys = keys_of(&values)?;
        let code = |(row, key): (usize, Option<&[u8]>)| match key {
            Some(_) if values.is_null(row) => Ok(None),
            Some(key) => match self.codes.get(key) {
                Some(code) => Ok(Some(*code)),
                None => Err(ArrowError::InvalidArgumentError("a stored value is not among its categories".into())),
            },
            None => Ok(None),
        };
        let codes = keys.iter().enumerate().map(code).collect::<Result<Int64Array, _>>()?;
        dictionary(&cast(&codes, key_type)?, Arc::clone(&self.values))
    }
}

/// Bytes that are equal exactly where the values are.
fn keys_of(values: &ArrayRef) -> Result<BinaryArray, ArrowError> {
    match values.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Ok(cast(&cast(values, &DataType::Utf8)?, &DataType::Binary)?.as_binary::<i32>().clone())
        }
        other => {
            let rows = converter(other)?.convert_columns(&[Arc::clone(values)])?;
            rows.try_into_binary()
        }
    }
}

fn dictionary(keys: &ArrayRef, values: ArrayRef) -> Result<ArrayRef, ArrowError> {
    fn make<K: ArrowDictionaryKeyType>(keys: &ArrayRef, values: ArrayRef) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(DictionaryArray::<K>::try_new(keys.as_primitive::<K>().clone(), values)?))
    }
    use arrow::datatypes as t;
    match keys.data_type() {
        DataType::Int8 => make::<t::Int8Type>(keys, values),
        DataType::Int16 => make::<t::Int16Type>(keys, values),
        DataType::Int32 => make::<t::Int32Type>(keys, values),
        DataType::Int64 => make::<t::Int64Type>(keys, values),
        DataType::UInt8 => make::<t::UInt8Type>(keys, values),
        DataType::UInt16 => make::<t::UInt16Type>(keys, values),
        DataType::UInt32 => make::<t::UInt32Type>(keys, values),
        DataType::UInt64 => make::<t::UInt64Type>(keys, values),
        other => Err(ArrowError::InvalidArgumentError(format!("{other} cannot number categories"))),
    }
}

/// The schema of a load without categories, for an empty column of dictionaries.
pub(super) fn empty_values(value_type: &DataType) -> ArrayRef {
    new_empty_array(value_type)
}

/// Counts the dictionaries in a type, in depth-first order.
pub(super) fn count_dictionaries(data_type: &DataType) -> usize {
    use DataType as D;
    match data_type {
        D::Dictionary(_, values) => 1 + count_dictionaries(values),
        D::RunEndEncoded(_, values) => count_dictionaries(values.data_type()),
        D::List(f) | D::LargeList(f) | D::ListView(f) | D::LargeListView(f) | D::FixedSizeList(f, _) | D::Map(f, _) => {
            count_dictionaries(f.data_type())
        }
        D::Struct(fields) => fields.iter().map(|field| count_dictionaries(field.data_type())).sum(),
        _ => 0,
    }
}

/// Counts the dictionaries of a whole schema.
pub(super) fn count_in_schema(schema: &Schema) -> usize {
    schema.fields().iter().map(|field| count_dictionaries(field.data_type())).sum()
}
