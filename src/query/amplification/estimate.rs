//! What a call makes of a row.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, IntervalMonthDayNanoType, IntervalUnit};

use super::column::Column;

/// Bytes of a number as text.
const NUMBER_TEXT: u64 = 24;
/// Bytes that one character of a format of times can stand for.
const FORMAT_TEXT: u64 = 16;
/// Bytes of a list's item whose own are not known.
const ITEM: u64 = 8;

/// What of a function is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// The bytes that it makes, exactly or nearly so.
    Bytes,
    /// The bytes that it may make at most, which can be far from what it does make.
    BytesAtMost,
    /// The steps that it takes.
    Steps,
}

/// Tells how much a function makes, from its arguments and the row.
type OfRow = fn(&[Column], usize) -> u64;

/// How much a function makes of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    /// What it makes.
    pub(super) made: Made,
    /// How much, from its arguments and the row.
    pub(super) of_row: OfRow,
}

/// The estimate for the function `name`; `None` for one that makes little.
pub(super) fn estimate(name: &str) -> Option<Estimate> {
    use Made::{Bytes, BytesAtMost, Steps};
    let (made, of_row): (Made, OfRow) = match name {
        "repeat" => (Bytes, repeat),
        "lpad" | "rpad" => (Bytes, pad),
        "replace" => (BytesAtMost, replace),
        "regexp_replace" => (BytesAtMost, regexp_replace),
        "translate" => (BytesAtMost, translate),
        "concat_ws" => (Bytes, |args, row| together(args, row) + separators(args, row)),
        "||" | "concat" | "overlay" | "make_array" | "array_append" | "array_prepend" | "array_concat" => {
            (Bytes, together)
        }
        "encode" => (Bytes, |args, row| args.first().map_or(0, |value| 2 * value.bytes(row) + 4)),
        "to_char" => (BytesAtMost, |args, row| args.get(1).map_or(0, |format| FORMAT_TEXT * format.bytes(row))),
        "array_repeat" => (Bytes, array_repeat),
        "array_resize" => (Bytes, array_resize),
        "array_replace" | "array_replace_n" | "array_replace_all" => (BytesAtMost, array_replace),
        "array_to_string" => (BytesAtMost, array_to_string),
        "range" | "generate_series" => (Bytes, |args, row| series(args, row).saturating_mul(8)),
        "levenshtein" => (Steps, levenshtein),
        _ => return None,
    };
    Some(Estimate { made, of_row })
}

fn bytes(args: &[Column], place: usize, row: usize) -> u64 {
    args.get(place).map_or(0, |column| column.bytes(row))
}

fn number(args: &[Column], place: usize, row: usize) -> u64 {
    args.get(place).map_or(0, |column| u64::try_from(column.number(row)).unwrap_or(0))
}

fn repeat(args: &[Column], row: usize) -> u64 {
    bytes(args, 0, row).saturating_mul(number(args, 1, row))
}

fn pad(args: &[Column], row: usize) -> u64 {
    let width = args.get(2).map_or(1, |fill| fill.width(row));
    number(args, 1, row).saturating_mul(width).saturating_add(bytes(args, 0, row))
}

fn replace(args: &[Column], row: usize) -> u64 {
    let (text, from, to) = (bytes(args, 0, row), bytes(args, 1, row), bytes(args, 2, row));
    // Nothing is found before, after and between all characters.
    let places = text.checked_div(from).unwrap_or(text + 1);
    places.saturating_mul(to).saturating_add(text)
}

fn regexp_replace(args: &[Column], row: usize) -> u64 {
    let text = bytes(args, 0, row);
    let replacement = args.get(2).and_then(|to| to.text(row)).unwrap_or_default();
    let is_global = args.get(3).and_then(|flags| flags.text(row)).is_some_and(|flags| flags.contains('g'));
    let places = if is_global { text + 1 } else { 1 };
    // Each reference to a group may stand for all that was found.
    let references = replacement.matches(['\\', '$']).count() as u64;
    places.saturating_mul(replacement.len() as u64).saturating_add(references.saturating_mul(text)).saturating_add(text)
}

fn translate(args: &[Column], row: usize) -> u64 {
    bytes(args, 0, row).saturating_mul(args.get(2).map_or(1, |to| to.width(row)))
}

fn together(args: &[Column], row: usize) -> u64 {
    args.iter().map(|column| column.bytes(row)).fold(0, u64::saturating_add)
}

fn separators(args: &[Column], row: usize) -> u64 {
    bytes(args, 0, row).saturating_mul(args.len() as u64)
}

fn array_repeat(args: &[Column], row: usize) -> u64 {
    bytes(args, 0, row).max(1).saturating_mul(number(args, 1, row))
}

fn array_resize(args: &[Column], row: usize) -> u64 {
    let item = args.get(2).map_or(ITEM, |fill| fill.bytes(row).max(1));
    number(args, 1, row).saturating_mul(item).saturating_add(bytes(args, 0, row))
}

fn array_replace(args: &[Column], row: usize) -> u64 {
    let items = args.first().map_or(0, |list| list.items(row));
    items.saturating_mul(bytes(args, 2, row)).saturating_add(bytes(args, 0, row))
}

fn array_to_string(args: &[Column], row: usize) -> u64 {
    let Some(list) = args.first() else { return 0 };
    // Lists in lists have no more items than bytes.
    let items = if is_nested(list.data_type()) { list.bytes(row) } else { list.items(row) };
    let between = bytes(args, 1, row).saturating_add(bytes(args, 2, row)).saturating_add(NUMBER_TEXT);
    items.saturating_mul(between).saturating_add(list.bytes(row))
}

fn is_nested(list: &DataType) -> bool {
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_nested()
        }
        _ => true,
    }
}

fn levenshtein(args: &[Column], row: usize) -> u64 {
    bytes(args, 0, row).saturating_mul(bytes(args, 1, row))
}

/// How many values a series has.
fn series(args: &[Column], row: usize) -> u64 {
    let numbers = |place: usize| args.get(place).and_then(Column::numbers)?.known_number(row);
    let (start, stop, step) = match args {
        [_] => (Some(0), numbers(0), 1),
        [_, _] => (numbers(0), numbers(1), 1),
        [start, _, step] => (numbers(0), numbers(1), step_of(step, start.data_type(), row)),
        _ => return 0,
    };
    // Of what is null, and of a time that no nanoseconds can tell, there is no series.
    let (Some(start), Some(stop)) = (start, stop) else { return 0 };
    let distance = i128::from(stop) - i128::from(start);
    // In the other direction there is nothing; a step of 0 is refused by the function itself.
    if step == 0 || (distance < 0) != (step < 0) {
        return 1;
    }
    u64::try_from(distance / step + 1).unwrap_or(u64::MAX)
}

/// The step of a series in what its start is counted in.
fn step_of(step: &Column, start: &DataType, row: usize) -> i128 {
    if !matches!(step.data_type(), DataType::Interval(IntervalUnit::MonthDayNano)) {
        return step.numbers().map_or(0, |column| column.number(row)).into();
    }
    let Some(row) = step.at(row) else { return 0 };
    let step = step.array().as_primitive::<IntervalMonthDayNanoType>().value(row);
    // Not longer than the shortest that it can be, so that there are not fewer values than the function makes.
    let days = i128::from(step.months) * 28 + i128::from(step.days);
    match start {
        DataType::Date32 | DataType::Date64 => days,
        _ => days * 86_400_000_000_000 + i128::from(step.nanoseconds),
    }
}
