//! Puts rows in the order of their places, in memory.

use std::cell::OnceCell;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    UInt32Array, downcast_primitive,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::schema::ROW_COLUMN;
use crate::error::{Error, Result};

/// Rows of a batch that is handed on.
pub(super) const OUTPUT_ROWS: usize = 65_536;

/// The places of a batch's rows.
///
/// # Errors
/// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the batch has none.
pub(super) fn places(batch: &RecordBatch) -> Result<&[i64]> {
    let column = batch.column_by_name(ROW_COLUMN).and_then(|column| column.as_primitive_opt::<Int64Type>());
    column.map(|places| places.values().as_ref()).ok_or_else(|| Error::corrupt("a chunk lacks the places of its rows"))
}

/// Rows on their way into order. Each batch leaves its values as soon as it is decoded; of columns of fixed width
/// nothing else is held. Where every place has a row those values are put there at once, and otherwise one batch after
/// the other, to be picked in order at the end. Several threads may add at once.
pub(super) struct Assembly {
    first: i64,
    places: usize,
    /// Rows that can be added.
    capacity: usize,
    columns: OnceLock<Columns>,
    taken: Mutex<Taken>,
}

/// Columns by name, each with a lock of its own.
struct Columns {
    schema: SchemaRef,
    slots: Vec<Mutex<ColumnSlots>>,
}

/// Which rows came from where.
struct Taken {
    /// For each batch the number of its first row, when those of all are counted through.
    starts: Vec<u32>,
    rows: usize,
    /// For each place the batch and the row in it.
    sources: Vec<(u32, u32)>,
}

/// The values of one column.
enum ColumnSlots {
    /// Of fixed width.
    Joined(Box<dyn Slots>),
    /// Of other types, by the number of the batch: joined, long texts might go beyond what offsets of 32 bits reach.
    Apart(Vec<(u32, ArrayRef)>),
}

const NO_SOURCE: (u32, u32) = (u32::MAX, u32::MAX);

impl Assembly {
    /// For `rows` rows, whose places lie from `first` to `last`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the two are out of reach of each other.
    pub(super) fn new(rows: usize, first: i64, last: i64) -> Result<Self> {
        const MAX_SPREAD: i64 = 1 << 31;
        let spread = last.checked_sub(first).filter(|spread| (0..MAX_SPREAD).contains(spread)).ok_or_else(damaged)?;
        let places = spread as usize + 1;
        let capacity = if rows <= places { rows } else { return Err(damaged()) };
        let taken = Taken { starts: Vec::new(), rows: 0, sources: vec![NO_SOURCE; places] };
        Ok(Self { first, places, capacity, columns: OnceLock::new(), taken: Mutex::new(taken) })
    }

    /// Adds the rows of a batch; all batches have the same form.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when a place is missing or out of bounds, or there are more rows
    /// than were announced.
    pub(super) fn add(&self, batch: &RecordBatch) -> Result<()> {
        let places = places(batch)?;
        let (number, start) = self.note(places)?;
        let each: Vec<usize>;
        let at = if self.is_dense() {
            // Whether they are places at all was just found.
            each = places.iter().map(|place| place.wrapping_sub(self.first) as usize).collect();
            At::Each(&each)
        } else {
            At::From(start)
        };
        let columns = self.columns.get_or_init(|| Columns::new(batch, self.capacity));
        for (field, slots) in columns.schema.fields().iter().zip(&columns.slots) {
            let array = batch.column_by_name(field.name()).ok_or_else(damaged)?;
            match &mut *lock(slots) {
                ColumnSlots::Joined(slots) => slots.put(array, at)?,
                ColumnSlots::Apart(arrays) => arrays.push((number, Arc::clone(array))),
            }
        }
        Ok(())
    }

    /// Whether every place has a row.
    fn is_dense(&self) -> bool {
        self.capacity == self.places
    }

    /// Notes where a batch's rows belong; gives it a number, and that of its first row.
    fn note(&self, places: &[i64]) -> Result<(u32, usize)> {
        let mut taken = lock(&self.taken);
        let (number, start) = (taken.starts.len() as u32, taken.rows);
        taken.rows = start.checked_add(places.len()).filter(|rows| *rows <= self.capacity).ok_or_else(damaged)?;
        taken.starts.push(start as u32);
        for (row, place) in places.iter().enumerate() {
            let place = place.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
            let source = place.and_then(|place| taken.sources.get_mut(place)).ok_or_else(damaged)?;
            *source = (number, row as u32);
        }
        Ok((number, start))
    }

    /// The rows in order, once all are added.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when every place should have a row and one has none.
    pub(super) fn finish(self) -> Result<Order> {
        let is_dense = self.is_dense();
        let Taken { starts, rows, mut sources } = self.taken.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (schema, slots) = match self.columns.into_inner() {
            Some(columns) => (columns.schema, columns.slots),
            None => (Arc::new(Schema::empty()), Vec::new()),
        };
        if is_dense && sources.contains(&NO_SOURCE) {
            return Err(damaged());
        }
        if rows < self.places {
            // Places of rows that a filter's pruning left out.
            sources.retain(|source| *source != NO_SOURCE);
        }
        let column = |slots: Mutex<ColumnSlots>| match slots.into_inner().unwrap_or_else(PoisonError::into_inner) {
            ColumnSlots::Joined(slots) if is_dense => OrderedColumn::InOrder(slots.finish()),
            ColumnSlots::Joined(slots) => OrderedColumn::Joined(slots.finish()),
            ColumnSlots::Apart(mut arrays) => {
                arrays.sort_by_key(|(number, _)| *number);
                OrderedColumn::Apart(arrays.into_iter().map(|(_, array)| array).collect())
            }
        };
        Ok(Order { schema, columns: slots.into_iter().map(column).collect(), starts, sources })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Columns {
    fn new(batch: &RecordBatch, rows: usize) -> Self {
        let schema = batch.schema();
        let kept = schema.fields().iter().filter(|field| field.name() != ROW_COLUMN).cloned();
        let schema = Arc::new(Schema::new(kept.collect::<Vec<_>>()));
        let slots = schema.fields().iter().map(|field| {
            macro_rules! joined {
                ($type:ty) => {
                    ColumnSlots::Joined(Box::new(PrimitiveSlots::<$type>::new(field.data_type(), rows)))
                };
            }
            Mutex::new(downcast_primitive! {
                field.data_type() => (joined),
                DataType::Boolean => ColumnSlots::Joined(Box::new(BooleanSlots::new(rows))),
                _ => ColumnSlots::Apart(Vec::new()),
            })
        });
        Self { slots: slots.collect(), schema: Arc::clone(&schema) }
    }
}

/// Where the values of an array go.
#[derive(Clone, Copy)]
enum At<'a> {
    /// From a slot on.
    From(usize),
    /// Each to its own slot.
    Each(&'a [usize]),
}

impl At<'_> {
    /// Puts values into their slots.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when there are no such slots.
    fn fill<T>(self, slots: &mut [T], values: impl ExactSizeIterator<Item = T>) -> Result<()> {
        match self {
            At::From(start) => {
                let slots = slots.get_mut(start..start + values.len()).ok_or_else(other_form)?;
                slots.iter_mut().zip(values).for_each(|(slot, value)| *slot = value);
            }
            At::Each(places) => {
                for (place, value) in places.iter().zip(values) {
                    *slots.get_mut(*place).ok_or_else(other_form)? = value;
                }
            }
        }
        Ok(())
    }
}

/// Values of fixed width.
trait Slots: Send {
    /// Puts the values of an array where they go.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when they are of another type or there is no room.
    fn put(&mut self, array: &ArrayRef, at: At<'_>) -> Result<()>;
    /// The column.
    fn finish(self: Box<Self>) -> ArrayRef;
}

fn other_form() -> Error {
    Error::internal("the chunks of a read differ in form")
}

struct PrimitiveSlots<T: ArrowPrimitiveType> {
    data_type: DataType,
    values: Vec<T::Native>,
    validity: Validity,
}

impl<T: ArrowPrimitiveType> PrimitiveSlots<T> {
    fn new(data_type: &DataType, rows: usize) -> Self {
        Self { data_type: data_type.clone(), values: vec![T::Native::default(); rows], validity: Validity::new(rows) }
    }
}

impl<T: ArrowPrimitiveType> Slots for PrimitiveSlots<T> {
    fn put(&mut self, array: &ArrayRef, at: At<'_>) -> Result<()> {
        let array = array.as_primitive_opt::<T>().ok_or_else(other_form)?;
        at.fill(&mut self.values, array.values().iter().copied())?;
        self.validity.put(array.nulls(), at)
    }

    fn finish(self: Box<Self>) -> ArrayRef {
        let values = PrimitiveArray::<T>::new(self.values.into(), self.validity.finish());
        Arc::new(values.with_data_type(self.data_type))
    }
}

struct BooleanSlots {
    values: Vec<bool>,
    validity: Validity,
}

impl BooleanSlots {
    fn new(rows: usize) -> Self {
        Self { values: vec![false; rows], validity: Validity::new(rows) }
    }
}

impl Slots for BooleanSlots {
    fn put(&mut self, array: &ArrayRef, at: At<'_>) -> Result<()> {
        let array = array.as_boolean_opt().ok_or_else(other_form)?;
        at.fill(&mut self.values, array.values().iter())?;
        self.validity.put(array.nulls(), at)
    }

    fn finish(self: Box<Self>) -> ArrayRef {
        Arc::new(BooleanArray::new(self.values.into(), self.validity.finish()))
    }
}

/// Which values are not null; nothing as long as none is.
struct Validity {
    rows: usize,
    valid: Option<Vec<bool>>,
}

impl Validity {
    fn new(rows: usize) -> Self {
        Self { rows, valid: None }
    }

    fn put(&mut self, nulls: Option<&NullBuffer>, at: At<'_>) -> Result<()> {
        let Some(nulls) = nulls else { return Ok(()) };
        at.fill(self.valid.get_or_insert_with(|| vec![true; self.rows]), nulls.iter())
    }

    fn finish(self) -> Option<NullBuffer> {
        self.valid.map(NullBuffer::from)
    }
}

/// Rows in the order they belong in.
pub(super) struct Order {
    schema: SchemaRef,
    columns: Vec<OrderedColumn>,
    /// For each batch the number of its first row in what is joined.
    starts: Vec<u32>,
    /// For each row in order the batch and the row in it.
    sources: Vec<(u32, u32)>,
}

enum OrderedColumn {
    /// In order already.
    InOrder(ArrayRef),
    /// All batches in one array, from which picking costs a third of picking from hundreds.
    Joined(ArrayRef),
    /// As the batches had them.
    Apart(Vec<ArrayRef>),
}

impl Order {
    /// Finds the order of the rows of `batches`, which all have the same form.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the places are missing or out of reach of each other.
    pub(super) fn find(batches: &[RecordBatch]) -> Result<Self> {
        let mut bounds: Option<(i64, i64)> = None;
        for batch in batches {
            for place in places(batch)? {
                let (min, max) = bounds.unwrap_or((*place, *place));
                bounds = Some((min.min(*place), max.max(*place)));
            }
        }
        let (first, last) = bounds.unwrap_or_default();
        let assembly = Assembly::new(batches.iter().map(RecordBatch::num_rows).sum(), first, last)?;
        batches.iter().try_for_each(|batch| assembly.add(batch))?;
        assembly.finish()
    }

    /// Finds the order of the rows of `batches`, which all have the same form and whose places may lie far apart.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the places are missing.
    pub(super) fn find_sparse(batches: &[RecordBatch]) -> Result<Self> {
        let mut sources: Vec<(i64, u32, u32)> = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            let rows = places(batch)?.iter().enumerate();
            sources.extend(rows.map(|(row, place)| (*place, number as u32, row as u32)));
        }
        sources.sort_unstable();
        let form = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let kept: Vec<usize> =
            form.fields().iter().enumerate().filter(|(_, f)| f.name() != ROW_COLUMN).map(|(place, _)| place).collect();
        let schema = Arc::new(form.project(&kept).map_err(out_of_form)?);
        let column =
            |place: usize| OrderedColumn::Apart(batches.iter().map(|batch| Arc::clone(batch.column(place))).collect());
        let sources = sources.into_iter().map(|(_, batch, row)| (batch, row)).collect();
        Ok(Self { schema, columns: kept.into_iter().map(column).collect(), starts: vec![0; batches.len()], sources })
    }

    /// How many batches come out.
    pub(super) fn outputs(&self) -> usize {
        if self.starts.is_empty() { 0 } else { self.sources.len().div_ceil(OUTPUT_ROWS) }
    }

    /// The batch of this number, its rows in order, without their places.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the batches differ in form.
    pub(super) fn output(&self, number: usize) -> Result<RecordBatch> {
        let first = number * OUTPUT_ROWS;
        let count = self.sources.len().saturating_sub(first).min(OUTPUT_ROWS);
        let sources = || self.sources.iter().skip(first).take(count);
        let start = |batch: u32| self.starts.get(batch as usize).copied().unwrap_or_default();
        let rows: OnceCell<UInt32Array> = OnceCell::new();
        let pairs: OnceCell<Vec<(usize, usize)>> = OnceCell::new();
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push(match column {
                OrderedColumn::InOrder(values) => values.slice(first, count),
                OrderedColumn::Joined(values) => {
                    let joined = || sources().map(|(batch, row)| start(*batch) + row).collect::<Vec<u32>>().into();
                    take(values, rows.get_or_init(joined), None).map_err(out_of_form)?
                }
                OrderedColumn::Apart(arrays) => {
                    let pair = |(batch, row): &(u32, u32)| (*batch as usize, *row as usize);
                    let pairs = pairs.get_or_init(|| sources().map(pair).collect());
                    interleave(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>(), pairs).map_err(out_of_form)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(out_of_form)
    }
}

fn out_of_form(error: ArrowError) -> Error {
    Error::internal("rows could not be put in order").because(error)
}

fn damaged() -> Error {
    Error::corrupt("the places of a chunk's rows are damaged")
}
