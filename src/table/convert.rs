//! Arrays between their logical type (what was sent) and their physical one (what is stored; see `types.rs`).
//!
//! Both directions are exact: `to_logical(to_physical(a)) == a` for every array that `to_physical` accepts,
//! dictionaries
//! included as far as their [`Categories`] are kept.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, GenericListArray, Int32Array, Int64Array, IntervalDayTimeArray,
    IntervalMonthDayNanoArray, ListArray, MapArray, NullArray, OffsetSizeTrait, StructArray, make_array,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, DecimalType, Field, FieldRef, Fields, Int64Type, IntervalDayTime,
    IntervalMonthDayNano, IntervalUnit, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;

use super::categories::{Categories, CategoryBuilder};
use super::types::{has_remainder, interval_fields};
use crate::error::{Error, Result};

const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };
const NANOS_PER_MICRO: i64 = 1_000;

/// A column in its stored form.
pub(super) struct Stored {
    /// The values.
    pub values: ArrayRef,
    /// Nanoseconds beyond the microsecond (0 to 999), for a timestamp column of nanoseconds.
    pub remainder: Option<ArrayRef>,
}

fn bad_value(column: &str, given: &DataType, target: &DataType, error: ArrowError) -> Error {
    Error::invalid(format!("column '{column}': a value of type {given} cannot be stored as {target}: {error}"))
        .because(error)
}

fn damaged(error: ArrowError) -> Error {
    Error::corrupt("a stored column does not fit the type it was loaded with").because(error)
}

fn cast(array: &dyn Array, target: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, target, &STRICT)
}

/// Turns a column into its stored form. `categories` collects the dictionaries met, in depth-first order.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the column when a value does not fit (a timestamp in seconds
/// beyond the range of microseconds).
pub(super) fn to_physical(
    column: &str,
    array: &ArrayRef,
    physical: &DataType,
    categories: &mut CategoryBuilder,
) -> Result<Stored> {
    if has_remainder(array.data_type()) {
        let (micros, remainder) = split_nanoseconds(array, physical);
        return Ok(Stored { values: micros, remainder: Some(remainder) });
    }
    let values =
        store(array, physical, categories).map_err(|error| bad_value(column, array.data_type(), physical, error))?;
    Ok(Stored { values, remainder: None })
}

/// Euclidean division keeps the remainder positive before 1970 too, and the microseconds in range.
fn split_nanoseconds(array: &ArrayRef, physical: &DataType) -> (ArrayRef, ArrayRef) {
    let nanos = array.as_primitive::<TimestampNanosecondType>();
    let micros = nanos.unary::<_, TimestampMicrosecondType>(|value| value.div_euclid(NANOS_PER_MICRO));
    let zone = if let DataType::Timestamp(_, zone) = physical { zone.clone() } else { None };
    let rest = nanos.unary::<_, arrow::datatypes::Int32Type>(|value| value.rem_euclid(NANOS_PER_MICRO) as i32);
    (Arc::new(micros.with_timezone_opt(zone)), Arc::new(rest))
}

fn join_nanoseconds(micros: &ArrayRef, remainder: Option<&ArrayRef>, logical: &DataType) -> Result<ArrayRef> {
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    let zone = if let DataType::Timestamp(_, zone) = logical { zone.clone() } else { None };
    // Wrapping, because the first microsecond of the range begins before its first nanosecond.
    let whole = micros.unary::<_, TimestampNanosecondType>(|value| value.wrapping_mul(NANOS_PER_MICRO));
    let nanos = match remainder {
        None => whole,
        Some(rest) => {
            let rest = rest.as_primitive::<arrow::datatypes::Int32Type>();
            let add = |whole: i64, rest: i32| whole.wrapping_add(i64::from(rest));
            if rest.null_count() == rest.len() {
                whole
            } else {
                arrow::compute::binary::<_, _, _, TimestampNanosecondType>(&whole, rest, add).map_err(damaged)?
            }
        }
    };
    Ok(Arc::new(nanos.with_timezone_opt(zone)))
}

fn store(array: &ArrayRef, physical: &DataType, categories: &mut CategoryBuilder) -> Result<ArrayRef, ArrowError> {
    use DataType as D;
    if array.data_type() == physical {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), physical) {
        (D::Null, _) => Ok(new_null_array(physical, array.len())),
        (D::Dictionary(..), _) => {
            let dictionary = array.as_any_dictionary();
            categories.collect(dictionary.values())?;
            let values = store(dictionary.values(), physical, categories)?;
            arrow::compute::take(&values, &cast(dictionary.keys(), &D::Int64)?, None)
        }
        (D::RunEndEncoded(_, values), _) => store(&cast(array, values.data_type())?, physical, categories),
        (D::Timestamp(TimeUnit::Nanosecond, _), D::Int64) => cast(array, &D::Int64),
        (D::Int64, D::Float64) => exact_float(array),
        (D::Date64, _) => cast(&cast(array, &D::Timestamp(TimeUnit::Millisecond, None))?, physical),
        (D::Interval(IntervalUnit::YearMonth), _) => cast(array, &D::Int32),
        (D::Interval(_), D::Struct(fields)) => Ok(store_interval(array, fields)),
        (D::Decimal128(..) | D::Decimal256(..), D::Utf8) => Ok(decimal_to_text(array)),
        (D::LargeList(_), D::List(field)) => store_list(array.as_list::<i64>(), field, categories),
        (D::List(_), D::List(field)) => store_list(array.as_list::<i32>(), field, categories),
        (D::ListView(f) | D::LargeListView(f), D::List(_)) => {
            store(&cast(array, &D::LargeList(Arc::clone(f)))?, physical, categories)
        }
        (D::FixedSizeList(f, _), D::List(_)) => {
            store(&cast(array, &D::LargeList(Arc::clone(f)))?, physical, categories)
        }
        (D::Struct(_), D::Boolean) => Ok(Arc::new(BooleanArray::new(presence(array), array.nulls().cloned()))),
        (D::Struct(_), D::Struct(fields)) => store_struct(array.as_struct(), fields, categories),
        (D::Map(..), D::Map(entries, _)) => store_map(array.as_map(), entries, categories),
        _ => cast(array, physical),
    }
}

/// Integers as floats, where each is exact: no other integer has the same float.
fn exact_float(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    const MAX_EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    let is_exact = |value: &i64| value.unsigned_abs() <= MAX_EXACT || (*value as f64) as i128 == i128::from(*value);
    match array.as_primitive::<Int64Type>().iter().flatten().find(|value| !is_exact(value)) {
        Some(value) => Err(ArrowError::CastError(format!("{value} has no exact floating-point number"))),
        None => cast(array, &DataType::Float64),
    }
}

/// Gives a stored column another stored type that holds its values too.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the column when a value is not exact in the other type.
pub(super) fn recast(column: &str, stored: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    store(stored, wanted, &mut CategoryBuilder::default()).map_err(|error| {
        Error::invalid(format!(
            "column '{column}' is stored as {} in earlier versions and would be {wanted} with this load, but a value \
             cannot be converted without loss: {error}; convert the load, or load under another name",
            stored.data_type()
        ))
    })
}

fn presence(array: &ArrayRef) -> arrow::buffer::BooleanBuffer {
    array.nulls().map_or_else(|| arrow::buffer::BooleanBuffer::new_set(array.len()), |n| n.inner().clone())
}

fn store_list<O: OffsetSizeTrait>(
    list: &GenericListArray<O>,
    field: &FieldRef,
    categories: &mut CategoryBuilder,
) -> Result<ArrayRef, ArrowError> {
    let first = list.value_offsets().first().copied().unwrap_or_default().as_usize();
    let last = list.value_offsets().last().copied().unwrap_or_default().as_usize();
    let values = store(&list.values().slice(first, last - first), field.data_type(), categories)?;
    let offsets = narrow_offsets(list.value_offsets(), first)?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(field), offsets, values, list.nulls().cloned())?))
}

/// 32-bit offsets that begin at zero; a chunk is far smaller than 2^31 values.
fn narrow_offsets<O: OffsetSizeTrait>(offsets: &[O], first: usize) -> Result<OffsetBuffer<i32>, ArrowError> {
    let narrowed: Result<Vec<i32>, _> = offsets.iter().map(|offset| i32::try_from(offset.as_usize() - first)).collect();
    let narrowed = narrowed.map_err(|_| ArrowError::CastError("more than 2^31 list values in one batch".into()))?;
    Ok(OffsetBuffer::new(narrowed.into()))
}

fn store_struct(
    array: &StructArray,
    fields: &Fields,
    categories: &mut CategoryBuilder,
) -> Result<ArrayRef, ArrowError> {
    let columns = array.columns().iter().zip(fields);
    let columns = columns.map(|(column, field)| store(column, field.data_type(), categories));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, array.nulls().cloned())?))
}

fn store_map(map: &MapArray, entries: &FieldRef, categories: &mut CategoryBuilder) -> Result<ArrayRef, ArrowError> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArrowError::CastError("a map without entries".into()));
    };
    let first = map.value_offsets().first().copied().unwrap_or_default() as usize;
    let last = map.value_offsets().last().copied().unwrap_or_default() as usize;
    let pairs = map.entries().slice(first, last - first);
    let pairs = store_struct(&pairs, fields, categories)?.as_struct().clone();
    let offsets = narrow_offsets(map.value_offsets(), first)?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, map.nulls().cloned(), false)?))
}

fn store_interval(array: &ArrayRef, fields: &Fields) -> ArrayRef {
    let nulls = array.nulls().cloned();
    let columns: Vec<ArrayRef> = if let Some(array) = array.as_any().downcast_ref::<IntervalMonthDayNanoArray>() {
        let values = array.values();
        vec![
            Arc::new(Int32Array::from_iter_values(values.iter().map(|v| v.months))),
            Arc::new(Int32Array::from_iter_values(values.iter().map(|v| v.days))),
            Arc::new(Int64Array::from_iter_values(values.iter().map(|v| v.nanoseconds))),
        ]
    } else if let Some(array) = array.as_any().downcast_ref::<IntervalDayTimeArray>() {
        let values = array.values();
        vec![
            Arc::new(Int32Array::from_iter_values(values.iter().map(|v| v.days))),
            Arc::new(Int32Array::from_iter_values(values.iter().map(|v| v.milliseconds))),
        ]
    } else {
        fields.iter().map(|field| new_null_array(field.data_type(), array.len())).collect()
    };
    Arc::new(StructArray::new(fields.clone(), columns, nulls))
}

/// Exact decimal digits, a negative scale written out as zeros.
fn decimal_to_text(array: &ArrayRef) -> ArrayRef {
    fn text<T: DecimalType>(array: &ArrayRef, precision: u8, scale: i8) -> ArrayRef
    where
        T::Native: std::fmt::Display,
    {
        let digits = |value: T::Native| {
            if scale > 0 { T::format_decimal(value, precision, scale) } else { padded(&value.to_string(), scale) }
        };
        let texts = array.as_primitive::<T>().iter().map(|value| value.map(digits));
        Arc::new(texts.collect::<arrow::array::StringArray>())
    }
    match array.data_type() {
        DataType::Decimal256(p, s) => text::<Decimal256Type>(array, *p, *s),
        DataType::Decimal128(p, s) => text::<Decimal128Type>(array, *p, *s),
        _ => new_null_array(&DataType::Utf8, array.len()),
    }
}

fn padded(digits: &str, scale: i8) -> String {
    if digits == "0" {
        digits.to_string()
    } else {
        format!("{digits}{}", "0".repeat(usize::from(scale.unsigned_abs())))
    }
}

/// Gives a stored column its logical type back. `categories` are the dictionaries kept for it, in depth-first order.
///
/// # Errors
/// [`Kind::Corrupt`](crate::error::Kind::Corrupt) when the stored values do not fit the type.
pub(super) fn to_logical(
    values: &ArrayRef,
    remainder: Option<&ArrayRef>,
    logical: &DataType,
    categories: &mut Categories,
) -> Result<ArrayRef> {
    if has_remainder(logical) && matches!(values.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _)) {
        return join_nanoseconds(values, remainder, logical);
    }
    restore(values, logical, categories).map_err(damaged)
}

fn restore(array: &ArrayRef, logical: &DataType, categories: &mut Categories) -> Result<ArrayRef, ArrowError> {
    use DataType as D;
    if array.data_type() == logical {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), logical) {
        (_, D::Null) => Ok(Arc::new(NullArray::new(array.len()))),
        (_, D::Dictionary(key, value)) => match categories.next(value) {
            Some(lookup) => lookup.encode(array, key, |values| restore(values, value, &mut Categories::none())),
            None => cast(&restore(array, value, categories)?, logical),
        },
        (_, D::RunEndEncoded(_, values)) => cast(&restore(array, values.data_type(), categories)?, logical),
        (D::Int64, D::Timestamp(TimeUnit::Nanosecond, _)) => cast(array, logical),
        (D::Timestamp(..), D::Date64) => {
            let millis = cast(array, &D::Timestamp(TimeUnit::Millisecond, None))?;
            cast(&cast(&millis, &D::Int64)?, logical)
        }
        (D::Struct(_), D::Interval(unit)) => Ok(restore_interval(array.as_struct(), *unit)),
        (D::Utf8, D::Decimal128(p, s)) if *s < 0 => restore_negative_scale::<Decimal128Type>(array, *p, *s),
        (D::Utf8, D::Decimal256(p, s)) if *s < 0 => restore_negative_scale::<Decimal256Type>(array, *p, *s),
        (D::List(_), D::List(field) | D::LargeList(field)) => {
            let large = matches!(logical, D::LargeList(_));
            restore_list(array.as_list::<i32>(), field, large, categories)
        }
        (D::List(_), D::FixedSizeList(field, _) | D::ListView(field) | D::LargeListView(field)) => {
            cast(&restore_list(array.as_list::<i32>(), field, false, categories)?, logical)
        }
        (D::Boolean, D::Struct(fields)) if fields.is_empty() => {
            Ok(Arc::new(StructArray::new_empty_fields(array.len(), array.nulls().cloned())))
        }
        (D::Struct(_), D::Struct(fields)) => {
            restore_struct(array.as_struct(), fields, array.nulls().cloned(), categories)
        }
        (D::Map(..), D::Map(entries, sorted)) => restore_map(array.as_map(), entries, *sorted, categories),
        (D::Timestamp(TimeUnit::Microsecond, _), D::Timestamp(_, zone)) => {
            // By way of the same unit without a zone, so that only the label changes, never the instant.
            let bare = cast(array, &D::Int64)?;
            let micros = cast(&bare, &D::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            cast(&micros, logical)
        }
        _ => cast(array, logical),
    }
}

fn restore_list(
    list: &ListArray,
    field: &FieldRef,
    large: bool,
    categories: &mut Categories,
) -> Result<ArrayRef, ArrowError> {
    let values = restore(list.values(), field.data_type(), categories)?;
    let nulls = list.nulls().cloned();
    if !large {
        return Ok(Arc::new(ListArray::try_new(Arc::clone(field), list.offsets().clone(), values, nulls)?));
    }
    let offsets: Vec<i64> = list.value_offsets().iter().map(|offset| i64::from(*offset)).collect();
    let offsets = OffsetBuffer::new(offsets.into());
    Ok(Arc::new(GenericListArray::<i64>::try_new(Arc::clone(field), offsets, values, nulls)?))
}

fn restore_struct(
    array: &StructArray,
    fields: &Fields,
    nulls: Option<NullBuffer>,
    categories: &mut Categories,
) -> Result<ArrayRef, ArrowError> {
    let columns = array.columns().iter().zip(fields);
    let columns = columns.map(|(column, field)| {
        let column = restore(column, field.data_type(), categories)?;
        nulls.as_ref().map_or_else(|| Ok(Arc::clone(&column)), |nulls| without_nulls_of(&column, nulls))
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?))
}

/// A child of a struct without nulls of its own, where it has none but those of the struct. Parquet keeps the latter
/// alone; Arrow's builders put values below them, and what is converted from a column without nulls keeps its type.
fn without_nulls_of(child: &ArrayRef, of_struct: &NullBuffer) -> Result<ArrayRef, ArrowError> {
    let Some(own) = child.nulls().filter(|own| own.null_count() > 0) else { return Ok(Arc::clone(child)) };
    let is_covered = own.iter().zip(of_struct).all(|(valid, struct_valid)| valid || !struct_valid);
    if !is_covered || matches!(child.data_type(), DataType::Dictionary(..)) {
        return Ok(Arc::clone(child));
    }
    Ok(make_array(child.to_data().into_builder().nulls(None).build()?))
}

fn restore_map(
    map: &MapArray,
    entries: &FieldRef,
    sorted: bool,
    categories: &mut Categories,
) -> Result<ArrayRef, ArrowError> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArrowError::CastError("a map without entries".into()));
    };
    let pairs = restore_struct(map.entries(), fields, None, categories)?.as_struct().clone();
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), map.offsets().clone(), pairs, map.nulls().cloned(), sorted)?))
}

/// Intervals from the struct that they are stored as.
pub fn restore_interval(array: &StructArray, unit: IntervalUnit) -> ArrayRef {
    let nulls = array.nulls().cloned();
    let expected = interval_fields(unit);
    let int32 = |i: usize| array.columns().get(i).and_then(|c| c.as_primitive_opt::<arrow::datatypes::Int32Type>());
    let int64 = |i: usize| array.columns().get(i).and_then(|c| c.as_primitive_opt::<arrow::datatypes::Int64Type>());
    match (unit, int32(0), int32(1), int64(2)) {
        (IntervalUnit::MonthDayNano, Some(months), Some(days), Some(nanos)) => {
            let values = (0..array.len())
                .map(|i| IntervalMonthDayNano::new(months.value(i), days.value(i), nanos.value(i)))
                .collect::<Vec<_>>();
            Arc::new(IntervalMonthDayNanoArray::new(values.into(), nulls))
        }
        (IntervalUnit::DayTime, Some(days), Some(millis), _) => {
            let values =
                (0..array.len()).map(|i| IntervalDayTime::new(days.value(i), millis.value(i))).collect::<Vec<_>>();
            Arc::new(IntervalDayTimeArray::new(values.into(), nulls))
        }
        _ => new_null_array(&DataType::Struct(expected), array.len()),
    }
}

fn restore_negative_scale<T: DecimalType>(array: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef, ArrowError>
where
    T::Native: std::str::FromStr,
{
    let zeros = usize::from(scale.unsigned_abs());
    let parse = |text: &str| {
        let digits = if text == "0" { text } else { text.get(..text.len().saturating_sub(zeros)).unwrap_or(text) };
        digits.parse::<T::Native>().map_err(|_| ArrowError::ParseError(format!("'{text}' is not a decimal")))
    };
    let values = array.as_string::<i32>().iter().map(|text| text.map(parse).transpose());
    let values = values.collect::<Result<arrow::array::PrimitiveArray<T>, _>>()?;
    Ok(Arc::new(values.with_precision_and_scale(precision, scale)?))
}

/// The field of a physical column: everything stored may be null.
pub(super) fn physical_field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}
