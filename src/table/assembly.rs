//! Puts rows in the order of their places, in memory.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    downcast_primitive,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{filter, interleave};
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

/// Rows of consecutive places on their way into order. Each batch puts its values where they belong as soon as it is
/// decoded, so that nothing but the result is held of columns of fixed width. Several threads may add at once.
pub(super) struct Assembly {
    first: i64,
    rows: usize,
    columns: OnceLock<Columns>,
    placed: Mutex<Placed>,
}

/// Columns by name, each with a lock of its own.
struct Columns {
    schema: SchemaRef,
    slots: Vec<Mutex<ColumnSlots>>,
}

/// Which rows came from where.
struct Placed {
    batches: u32,
    rows: usize,
    /// For each place the batch and the row in it.
    sources: Vec<(u32, u32)>,
}

/// The values of one column.
enum ColumnSlots {
    /// Of fixed width, each at its place.
    Fixed(Box<dyn Slots>),
    /// Of other types, by the number of the batch: picked at the end.
    Apart(Vec<(u32, ArrayRef)>),
}

const NO_SOURCE: (u32, u32) = (u32::MAX, u32::MAX);

impl Assembly {
    /// For rows whose places lie from `first` to `last`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the two are out of reach of each other.
    pub(super) fn new(first: i64, last: i64) -> Result<Self> {
        const MAX_SPREAD: i64 = 1 << 31;
        let spread = last.checked_sub(first).filter(|spread| (0..MAX_SPREAD).contains(spread)).ok_or_else(damaged)?;
        let rows = spread as usize + 1;
        let placed = Placed { batches: 0, rows: 0, sources: Vec::new() };
        Ok(Self { first, rows, columns: OnceLock::new(), placed: Mutex::new(placed) })
    }

    /// Adds the rows of a batch; all batches have the same form.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when a place is missing or out of bounds.
    pub(super) fn add(&self, batch: &RecordBatch) -> Result<()> {
        let place = |place: &i64| {
            let place = place.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
            place.filter(|place| *place < self.rows).map(|place| place as u32).ok_or_else(damaged)
        };
        let places = places(batch)?.iter().map(place).collect::<Result<Vec<u32>>>()?;
        let columns = self.columns.get_or_init(|| Columns::new(batch, self.rows));
        let number = self.note(&places);
        for (field, slots) in columns.schema.fields().iter().zip(&columns.slots) {
            let array = batch.column_by_name(field.name()).ok_or_else(damaged)?;
            match &mut *lock(slots) {
                ColumnSlots::Fixed(slots) => slots.put(array, &places),
                ColumnSlots::Apart(arrays) => arrays.push((number, Arc::clone(array))),
            }
        }
        Ok(())
    }

    /// Notes where a batch's rows go, and gives it a number.
    fn note(&self, places: &[u32]) -> u32 {
        let mut placed = lock(&self.placed);
        let number = placed.batches;
        placed.batches += 1;
        placed.rows += places.len();
        if placed.sources.is_empty() {
            placed.sources = vec![NO_SOURCE; self.rows];
        }
        for (row, place) in places.iter().enumerate() {
            if let Some(source) = placed.sources.get_mut(*place as usize) {
                *source = (number, row as u32);
            }
        }
        number
    }

    /// The rows in order, once all are added.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the batches differed in form.
    pub(super) fn finish(self) -> Result<Order> {
        let placed = self.placed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(columns) = self.columns.into_inner() else {
            return Ok(Order { schema: Arc::new(Schema::empty()), columns: Vec::new(), sources: Vec::new() });
        };
        let mut sources = placed.sources;
        // Places of rows that a filter's pruning left out.
        let gaps = (placed.rows < self.rows).then(|| {
            let present: BooleanArray = sources.iter().map(|source| Some(*source != NO_SOURCE)).collect();
            sources.retain(|source| *source != NO_SOURCE);
            present
        });
        let column = |slots: Mutex<ColumnSlots>| {
            Ok(match slots.into_inner().unwrap_or_else(PoisonError::into_inner) {
                ColumnSlots::Fixed(slots) => OrderedColumn::Whole(match &gaps {
                    None => slots.finish(),
                    Some(present) => filter(&slots.finish(), present).map_err(out_of_form)?,
                }),
                ColumnSlots::Apart(mut arrays) => {
                    arrays.sort_by_key(|(number, _)| *number);
                    OrderedColumn::Apart(arrays.into_iter().map(|(_, array)| array).collect())
                }
            })
        };
        let ordered = columns.slots.into_iter().map(column).collect::<Result<_>>()?;
        Ok(Order { schema: columns.schema, columns: ordered, sources })
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
            macro_rules! fixed {
                ($type:ty) => {
                    ColumnSlots::Fixed(Box::new(PrimitiveSlots::<$type>::new(field.data_type(), rows)))
                };
            }
            Mutex::new(downcast_primitive! {
                field.data_type() => (fixed),
                DataType::Boolean => ColumnSlots::Fixed(Box::new(BooleanSlots::new(rows))),
                _ => ColumnSlots::Apart(Vec::new()),
            })
        });
        Self { slots: slots.collect(), schema: Arc::clone(&schema) }
    }
}

/// Values of fixed width, each put at its place.
trait Slots: Send {
    /// Puts the values of an array where they belong.
    fn put(&mut self, array: &ArrayRef, places: &[u32]);
    /// The column.
    fn finish(self: Box<Self>) -> ArrayRef;
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
    fn put(&mut self, array: &ArrayRef, places: &[u32]) {
        let Some(array) = array.as_primitive_opt::<T>() else { return };
        put(&mut self.values, array.values().iter().copied(), places);
        self.validity.put(array.nulls(), places);
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
    fn put(&mut self, array: &ArrayRef, places: &[u32]) {
        let Some(array) = array.as_boolean_opt() else { return };
        put(&mut self.values, array.values().iter(), places);
        self.validity.put(array.nulls(), places);
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

    fn put(&mut self, nulls: Option<&NullBuffer>, places: &[u32]) {
        if let Some(nulls) = nulls {
            put(self.valid.get_or_insert_with(|| vec![true; self.rows]), nulls.iter(), places);
        }
    }

    fn finish(self) -> Option<NullBuffer> {
        self.valid.map(NullBuffer::from)
    }
}

fn put<T>(slots: &mut [T], values: impl Iterator<Item = T>, places: &[u32]) {
    for (value, place) in values.zip(places) {
        if let Some(slot) = slots.get_mut(*place as usize) {
            *slot = value;
        }
    }
}

/// Rows in the order they belong in.
pub(super) struct Order {
    schema: SchemaRef,
    columns: Vec<OrderedColumn>,
    /// For each row the batch and the row in it.
    sources: Vec<(u32, u32)>,
}

enum OrderedColumn {
    /// In order.
    Whole(ArrayRef),
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
        let Some((first, last)) = bounds else { return Assembly::new(0, 0)?.finish() };
        let assembly = Assembly::new(first, last)?;
        batches.iter().try_for_each(|batch| assembly.add(batch))?;
        assembly.finish()
    }

    /// How many batches come out.
    pub(super) fn outputs(&self) -> usize {
        self.sources.len().div_ceil(OUTPUT_ROWS)
    }

    /// The batch of this number, its rows in order, without their places.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when the batches differ in form.
    pub(super) fn output(&self, number: usize) -> Result<RecordBatch> {
        let start = number * OUTPUT_ROWS;
        let rows = OUTPUT_ROWS.min(self.sources.len().saturating_sub(start));
        let mut pairs: Option<Vec<(usize, usize)>> = None;
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push(match column {
                OrderedColumn::Whole(values) => values.slice(start, rows),
                OrderedColumn::Apart(arrays) => {
                    let pairs = pairs.get_or_insert_with(|| {
                        let sources = self.sources.iter().skip(start).take(rows);
                        sources.map(|(batch, row)| (*batch as usize, *row as usize)).collect()
                    });
                    interleave(&arrays.iter().map(AsRef::as_ref).collect::<Vec<_>>(), pairs).map_err(out_of_form)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(out_of_form)
    }
}

fn out_of_form(error: ArrowError) -> Error {
    Error::internal("rows could not be put in order").because(error)
}

fn damaged() -> Error {
    Error::corrupt("the places of a chunk's rows are damaged")
}
