//! From the values of a SQL statement to those of a column as it was loaded.
//!
//! What SQL computes is of the engine's types; a dataset has its own. A value that has no exact counterpart in the type
//! of its column is refused, by name: a statement never changes a value on its way.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericListArray, NullArray, OffsetSizeTrait, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, IntervalUnit, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::categories::Categories;
use super::convert::to_logical;
use super::types::interval_fields;
use crate::error::{Error, Result, shorten};

const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

/// The values of a SQL expression in the `logical` type of the column that takes them.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the column and the value that has no counterpart in the type.
pub fn from_sql(column: &str, values: &ArrayRef, logical: &DataType) -> Result<ArrayRef> {
    convert(values, logical).map_err(|error| {
        let bad = (0..values.len()).find(|row| convert(&values.slice(*row, 1), logical).is_err());
        unfit(column, values, bad, &format!("the type {logical}")).because(error)
    })
}

/// The type with keys that number any categories. Those of a frame may number few; a read widens them where it must.
pub fn with_any_categories(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => DataType::Dictionary(Box::new(DataType::Int64), values.clone()),
        other => other.clone(),
    }
}

/// Checks that values of a column, in the type that it has over all versions, can be in rows of one version, which has
/// it as `field`.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the column, the value and the version.
pub(super) fn check_version(values: &ArrayRef, field: &Field, version: i64) -> Result<()> {
    if !field.is_nullable() && values.logical_null_count() > 0 {
        return Err(null_refused(field.name()));
    }
    let (narrow, wide) = (plain_type(field.data_type()), plain_type(values.data_type()));
    if narrow == wide || *narrow == DataType::Null {
        return Ok(());
    }
    let is_exact = |values: &ArrayRef| {
        let back = convert(values, narrow).and_then(|narrowed| convert(&narrowed, wide));
        back.is_ok_and(|back| back.as_ref() == values.as_ref())
    };
    let values =
        convert(values, wide).map_err(|error| Error::internal("a value is of no known type").because(error))?;
    if is_exact(&values) {
        return Ok(());
    }
    let bad = (0..values.len()).find(|row| !is_exact(&values.slice(*row, 1)));
    let what = format!("the type {narrow} that the column has in version {version}, of which a row would hold it");
    Err(unfit(field.name(), &values, bad, &what))
}

/// Checks that a column without nulls gets none.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the column.
pub fn check_nulls(values: &ArrayRef, field: &Field) -> Result<()> {
    if field.is_nullable() || values.logical_null_count() == 0 { Ok(()) } else { Err(null_refused(field.name())) }
}

fn null_refused(column: &str) -> Error {
    Error::invalid(format!("column '{}' cannot hold nulls; give it a value", shorten(column)))
}

fn unfit(column: &str, values: &ArrayRef, row: Option<usize>, what: &str) -> Error {
    let options = FormatOptions::new().with_null("NULL");
    let formatter = ArrayFormatter::try_new(values, &options).ok();
    let shown = row.and_then(|row| formatter.as_ref()?.value(row).try_to_string().ok());
    let shown = shown.map_or("a value".to_string(), |value| format!("the value {}", shorten(&value)));
    Error::invalid(format!("column '{}': {shown} does not fit {what}", shorten(column)))
}

/// The type of the values of dictionaries and runs.
fn plain_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        other => other,
    }
}

fn cast(array: &dyn Array, target: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, target, &STRICT)
}

fn convert(values: &ArrayRef, logical: &DataType) -> Result<ArrayRef, ArrowError> {
    use DataType as D;
    let given = values.data_type();
    if given == logical {
        return Ok(Arc::clone(values));
    }
    match (given, logical) {
        (D::Null, _) => Ok(new_null_array(logical, values.len())),
        (D::Dictionary(..) | D::RunEndEncoded(..), _) => convert(&cast(values, plain_type(given))?, logical),
        (_, D::Null) if values.logical_null_count() == values.len() => Ok(Arc::new(NullArray::new(values.len()))),
        (_, D::Dictionary(_, of)) => cast(&convert(values, of)?, logical),
        (_, D::RunEndEncoded(_, of)) => cast(&convert(values, of.data_type())?, logical),
        (D::Struct(_), D::Interval(unit @ (IntervalUnit::DayTime | IntervalUnit::MonthDayNano))) => {
            restored(&convert(values, &D::Struct(interval_fields(*unit)))?, logical)
        }
        (D::Boolean, D::Struct(fields)) if fields.is_empty() => restored(values, logical),
        (_, D::Date64) => restored(&cast(values, &D::Timestamp(TimeUnit::Microsecond, None))?, logical),
        (from, to) if (from.is_floating() || from.is_decimal()) && to.is_integer() => whole(values, logical),
        // Digit by digit: a quotient of two rounded numbers may be another one.
        (from, to) if from.is_decimal() && to.is_floating() => cast(&cast(values, &D::Utf8)?, logical),
        (from, D::FixedSizeBinary(_)) if from.is_string() => cast(&cast(values, &D::Binary)?, logical),
        (D::List(_), D::List(field)) => convert_list(values.as_list::<i32>(), field),
        (D::LargeList(_), D::LargeList(field)) => convert_list(values.as_list::<i64>(), field),
        (D::List(from), D::LargeList(_)) => convert(&cast(values, &D::LargeList(Arc::clone(from)))?, logical),
        (D::LargeList(from), D::List(_)) => convert(&cast(values, &D::List(Arc::clone(from)))?, logical),
        (D::List(_) | D::LargeList(_), D::FixedSizeList(field, _) | D::ListView(field) | D::LargeListView(field)) => {
            cast(&convert(values, &D::List(Arc::clone(field)))?, logical)
        }
        (D::Struct(_), D::Struct(fields)) => convert_struct(values.as_struct(), fields),
        _ => cast(values, logical),
    }
}

/// What is stored as another type comes back from it.
fn restored(stored: &ArrayRef, logical: &DataType) -> Result<ArrayRef, ArrowError> {
    to_logical(stored, None, logical, &mut Categories::none()).map_err(|error| ArrowError::ExternalError(error.into()))
}

/// Whole numbers of a type with fractions as integers; others are refused.
fn whole(values: &ArrayRef, logical: &DataType) -> Result<ArrayRef, ArrowError> {
    let converted = cast(values, logical)?;
    // That of -0.0 is 0.
    let given = match values.data_type().is_floating() {
        true => {
            let floats = cast(values, &DataType::Float64)?;
            let floats = floats.as_primitive::<Float64Type>();
            Arc::new(floats.unary::<_, Float64Type>(|value| value + 0.0)) as ArrayRef
        }
        false => Arc::clone(values),
    };
    if cast(&converted, given.data_type())?.as_ref() == given.as_ref() {
        return Ok(converted);
    }
    Err(ArrowError::CastError("a fraction would be lost".into()))
}

fn convert_list<O: OffsetSizeTrait>(list: &GenericListArray<O>, field: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let items = convert(list.values(), field.data_type())?;
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    Ok(Arc::new(GenericListArray::<O>::try_new(Arc::clone(field), offsets, items, nulls)?))
}

/// By the names of the fields, or by their places where the names differ.
fn convert_struct(array: &StructArray, fields: &Fields) -> Result<ArrayRef, ArrowError> {
    let is_named = fields.iter().all(|field| array.column_by_name(field.name()).is_some());
    if array.num_columns() != fields.len() {
        return Err(ArrowError::CastError(format!("{} fields instead of {}", array.num_columns(), fields.len())));
    }
    let column = |(place, field): (usize, &FieldRef)| {
        let named = array.column_by_name(field.name()).filter(|_| is_named);
        convert(named.unwrap_or_else(|| array.column(place)), field.data_type())
    };
    let columns = fields.iter().enumerate().map(column).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, array.nulls().cloned())?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;

    fn floats(values: &[f64]) -> ArrayRef {
        Arc::new(Float64Array::from(values.to_vec()))
    }

    #[test]
    fn a_value_that_does_not_fit_is_named() {
        let big: ArrayRef = Arc::new(Int64Array::from(vec![1, 5_000_000_000]));
        let error = from_sql("n", &big, &DataType::Int32).unwrap_err();
        assert!(error.message().contains("column 'n': the value 5000000000"), "{error}");
        assert!(from_sql("n", &floats(&[1.0, 2.5]), &DataType::Int64).unwrap_err().message().contains("2.5"));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["2024-01-01", "soon"]));
        assert!(from_sql("d", &text, &DataType::Date32).unwrap_err().message().contains("soon"));
    }

    #[test]
    fn whole_floats_are_integers_and_nan_is_none() {
        let whole = from_sql("n", &floats(&[-0.0, 3.0]), &DataType::Int8).unwrap();
        assert_eq!(whole.as_primitive::<arrow::datatypes::Int8Type>().values(), &[0, 3]);
        assert!(from_sql("n", &floats(&[f64::NAN]), &DataType::Int64).is_err());
    }

    #[test]
    fn a_row_keeps_to_the_type_of_its_version() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![7, 5_000_000_000]));
        let field = Field::new("n", DataType::Int32, true);
        let error = check_version(&values, &field, 3).unwrap_err();
        assert!(error.message().contains("5000000000") && error.message().contains("version 3"), "{error}");
        assert!(check_version(&values.slice(0, 1), &field, 3).is_ok());
        assert!(check_version(&floats(&[1.5]), &field, 3).is_err());
        assert!(check_version(&floats(&[f64::NAN]), &Field::new("x", DataType::Float32, true), 3).is_ok());
        let nulls = new_null_array(&DataType::Int32, 1);
        assert!(check_version(&nulls, &field.clone().with_nullable(false), 3).is_err());
    }
}
