//! One column of a window, gathered from runs of rows of many arrays.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, GenericByteArray, PrimitiveArray, downcast_primitive,
};
use arrow::buffer::{BooleanBuffer, MutableBuffer, NullBuffer, OffsetBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{BinaryType, ByteArrayType, DataType, Utf8Type};

use super::assembly::out_of_form;
use crate::error::{Error, Result};

/// Rows of an array that stand together there, and apart in the window.
pub(super) struct Run<'a> {
    /// The array.
    pub array: &'a ArrayRef,
    /// Which of its rows.
    pub rows: Range<usize>,
    /// Where each of them belongs, in the order of all rows.
    pub ranks: &'a [u32],
}

/// Consecutive rows of the whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// The first.
    pub first: u32,
    /// How many.
    pub rows: usize,
}

impl Window {
    /// The slots of the window that a run fills.
    fn slots<'a>(self, run: &'a Run<'_>) -> impl Iterator<Item = usize> + 'a {
        run.ranks.iter().map(move |rank| rank.wrapping_sub(self.first) as usize)
    }
}

/// The column of the window that these runs give, which are of arrays of one type and fill every slot once.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when the arrays differ in type or the runs do not fit.
pub(super) fn gather(runs: &[Run<'_>], window: Window) -> Result<ArrayRef> {
    let data_type = runs.first().ok_or_else(unfit)?.array.data_type();
    macro_rules! primitive {
        ($type:ty) => {
            primitives::<$type>(runs, window, data_type)
        };
    }
    downcast_primitive! {
        data_type => (primitive),
        DataType::Boolean => booleans(runs, window),
        DataType::Utf8 => bytes::<Utf8Type>(runs, window),
        DataType::Binary => bytes::<BinaryType>(runs, window),
        _ => others(runs, window),
    }
}

fn unfit() -> Error {
    Error::internal("the chunks of a read differ in form")
}

/// Puts values into their slots.
fn fill<T>(slots: &mut [T], at: impl Iterator<Item = usize>, values: impl Iterator<Item = T>) -> Result<()> {
    for (slot, value) in at.zip(values) {
        *slots.get_mut(slot).ok_or_else(unfit)? = value;
    }
    Ok(())
}

fn primitives<T: ArrowPrimitiveType>(runs: &[Run<'_>], window: Window, data_type: &DataType) -> Result<ArrayRef> {
    let mut gathered = vec![T::Native::default(); window.rows];
    for run in runs {
        let array = run.array.as_primitive_opt::<T>().ok_or_else(unfit)?;
        let values = array.values().get(run.rows.clone()).ok_or_else(unfit)?;
        fill(&mut gathered, window.slots(run), values.iter().copied())?;
    }
    let gathered = PrimitiveArray::<T>::try_new(gathered.into(), validity(runs, window)?).map_err(out_of_form)?;
    Ok(Arc::new(gathered.with_data_type(data_type.clone())))
}

fn booleans(runs: &[Run<'_>], window: Window) -> Result<ArrayRef> {
    let of = |run: &Run<'_>| run.array.as_boolean_opt().map(BooleanArray::values).cloned().ok_or_else(unfit);
    let gathered = bits(runs, window, |run| of(run).map(Some))?;
    Ok(Arc::new(BooleanArray::new(gathered, validity(runs, window)?)))
}

fn bytes<T: ByteArrayType<Offset = i32>>(runs: &[Run<'_>], window: Window) -> Result<ArrayRef> {
    let pieces = runs.iter().map(|run| Pieces::<T>::of(run)).collect::<Result<Vec<_>>>()?;
    // First the lengths, one slot later than where they belong, then their sums.
    let mut offsets = vec![0i32; window.rows + 1];
    for (run, pieces) in runs.iter().zip(&pieces) {
        fill(&mut offsets, window.slots(run).map(|slot| slot + 1), pieces.lengths())?;
    }
    let mut end = 0i32;
    for offset in &mut offsets {
        end = end.checked_add(*offset).ok_or_else(|| Error::exhausted("the texts of a batch are too long together"))?;
        *offset = end;
    }
    let mut gathered = vec![0; end as usize];
    for (run, pieces) in runs.iter().zip(&pieces) {
        for (slot, piece) in window.slots(run).zip(pieces.iter()) {
            let start = *offsets.get(slot).ok_or_else(unfit)? as usize;
            let place = gathered.get_mut(start..).and_then(|rest| rest.get_mut(..piece.len()));
            copy_short(piece, place.ok_or_else(unfit)?);
        }
    }
    let offsets = OffsetBuffer::new(offsets.into());
    let gathered = GenericByteArray::<T>::try_new(offsets, gathered.into(), validity(runs, window)?);
    Ok(Arc::new(gathered.map_err(out_of_form)?))
}

/// Copies a text to a place of its length. Most are short, and to call the library for each takes longer than the copy:
/// 4 to 16 bytes are two words, which may overlap.
fn copy_short(piece: &[u8], place: &mut [u8]) {
    if piece.len() > 16 || piece.len() != place.len() {
        return place.copy_from_slice(piece);
    }
    if !copy_ends::<8>(piece, place) && !copy_ends::<4>(piece, place) {
        for (to, from) in place.iter_mut().zip(piece) {
            *to = *from;
        }
    }
}

/// Copies the first and the last `N` bytes, where there are as many.
fn copy_ends<const N: usize>(piece: &[u8], place: &mut [u8]) -> bool {
    let (Some(first), Some(last)) = (piece.first_chunk::<N>(), piece.last_chunk::<N>()) else { return false };
    if let Some(start) = place.first_chunk_mut() {
        *start = *first;
    }
    if let Some(end) = place.last_chunk_mut() {
        *end = *last;
    }
    true
}

/// The bytes of a run's values.
struct Pieces<'a, T: ByteArrayType<Offset = i32>> {
    array: &'a GenericByteArray<T>,
    offsets: &'a [i32],
}

impl<'a, T: ByteArrayType<Offset = i32>> Pieces<'a, T> {
    fn of(run: &Run<'a>) -> Result<Self> {
        let array = run.array.as_bytes_opt::<T>().ok_or_else(unfit)?;
        let offsets = array.value_offsets().get(run.rows.start..=run.rows.end).ok_or_else(unfit)?;
        Ok(Self { array, offsets })
    }

    fn ends(&self) -> impl Iterator<Item = (i32, i32)> + '_ {
        self.offsets.iter().zip(self.offsets.iter().skip(1)).map(|(start, end)| (*start, *end))
    }

    fn lengths(&self) -> impl Iterator<Item = i32> + '_ {
        self.ends().map(|(start, end)| end - start)
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.ends().map(|(start, end)| self.array.value_data().get(start as usize..end as usize).unwrap_or_default())
    }
}

fn others(runs: &[Run<'_>], window: Window) -> Result<ArrayRef> {
    let mut sources = vec![(0, 0); window.rows];
    for (number, run) in runs.iter().enumerate() {
        fill(&mut sources, window.slots(run), run.rows.clone().map(|row| (number, row)))?;
    }
    let arrays: Vec<&dyn Array> = runs.iter().map(|run| run.array.as_ref()).collect();
    interleave(&arrays, &sources).map_err(out_of_form)
}

/// One bit of each row; all are set in a run that has none.
fn bits(
    runs: &[Run<'_>],
    window: Window,
    of: impl Fn(&Run<'_>) -> Result<Option<BooleanBuffer>>,
) -> Result<BooleanBuffer> {
    let mut gathered = MutableBuffer::from_len_zeroed(window.rows.div_ceil(8));
    for run in runs {
        let bits = match of(run)? {
            None => BooleanBuffer::new_set(run.rows.len()),
            Some(bits) if run.rows.end <= bits.len() => bits.slice(run.rows.start, run.rows.len()),
            Some(_) => return Err(unfit()),
        };
        for (slot, is_set) in window.slots(run).zip(&bits) {
            *gathered.get_mut(slot / 8).ok_or_else(unfit)? |= u8::from(is_set) << (slot % 8);
        }
    }
    Ok(BooleanBuffer::new(gathered.into(), 0, window.rows))
}

/// Which values of the column are not null; nothing when none is.
fn validity(runs: &[Run<'_>], window: Window) -> Result<Option<NullBuffer>> {
    if runs.iter().all(|run| run.array.null_count() == 0) {
        return Ok(None);
    }
    bits(runs, window, |run| Ok(run.array.nulls().map(NullBuffer::inner).cloned())).map(|valid| Some(valid.into()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Int32Array, StringArray, TimestampMicrosecondArray, UInt32Array};
    use arrow::compute::take;
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    use super::*;

    /// Columns of every kind whose rows all differ, some of them null.
    fn columns(rows: usize) -> Vec<ArrayRef> {
        let numbers = || (0..rows as i32).map(|n| (n % 5 != 3).then_some(n));
        let texts: StringArray = numbers().map(|n| n.map(|n| "ü".repeat(n as usize % 4) + &n.to_string())).collect();
        let times =
            TimestampMicrosecondArray::from_iter(numbers().map(|n| n.map(i64::from))).with_timezone("Asia/Tokyo");
        let lists = numbers().map(|n| n.map(|n| vec![Some(n); n as usize % 3]));
        vec![
            Arc::new(numbers().collect::<Int32Array>()),
            Arc::new(Int32Array::from_iter_values(0..rows as i32)),
            Arc::new(texts.clone()),
            Arc::new(BinaryArray::from_iter(texts.iter().map(|text| text.map(str::as_bytes)))),
            Arc::new(numbers().map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>()),
            Arc::new(times),
            Arc::new(arrow::array::ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
        ]
    }

    proptest! {
        #[test]
        fn every_row_comes_to_its_slot(owners in proptest::collection::vec(0usize..4, 1..80), start in 0u32..3) {
            for column in columns(owners.len()) {
                // Each owner has an array of its own, with a row before and one after that nobody asks for.
                let mut arrays: Vec<(ArrayRef, Vec<u32>)> = Vec::new();
                for owner in 0..4 {
                    let ranks: Vec<u32> = (0..owners.len() as u32).filter(|n| owners[*n as usize] == owner).collect();
                    let rows: Vec<u32> = [&[0], ranks.as_slice(), &[0]].concat();
                    let array = take(&column, &UInt32Array::from(rows), None).unwrap();
                    arrays.push((array, ranks.iter().map(|rank| rank + start).collect()));
                }
                let used = arrays.iter().filter(|(_, ranks)| !ranks.is_empty());
                let runs: Vec<Run> =
                    used.map(|(array, ranks)| Run { array, rows: 1..ranks.len() + 1, ranks }).collect();
                let found = gather(&runs, Window { first: start, rows: owners.len() }).unwrap();
                prop_assert_eq!(&found, &column);
            }
        }
    }

    proptest! {
        #[test]
        fn texts_are_copied_whatever_their_length(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut place = vec![0; text.len()];
            copy_short(&text, &mut place);
            prop_assert_eq!(place, text);
        }
    }

    #[test]
    fn arrays_of_several_types_are_told() {
        let (one, other) = (columns(3).swap_remove(1), columns(3).swap_remove(2));
        let runs = [Run { array: &one, rows: 0..1, ranks: &[0] }, Run { array: &other, rows: 0..1, ranks: &[1] }];
        assert!(gather(&runs, Window { first: 0, rows: 2 }).is_err());
        assert!(gather(&[], Window { first: 0, rows: 0 }).is_err());
    }
}
