//! Types of fixed size that are refused.
//!
//! `NULL::INT[2000000000]` is a null of 8 GB, and no list: memory for its two thousand million items is taken at once,
//! and a server that has not as much ends. And of lists of no items the engine's casts keep nothing to tell how many
//! there are, so that a result would have fewer rows than it should.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::Result;
use crate::error::{Error, shorten};
use crate::query::failure::through_engine;

/// Bytes of one value of a type of fixed size.
const MAX_FIXED_BYTES: u64 = 64 << 10;
/// Functions that give any type that their arguments name.
const CASTS: [&str; 4] = ["arrow_cast", "arrow_try_cast", "cast_to_type", "try_cast_to_type"];

/// Refuses a cast to a type whose values are too large, or nothing at all.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the type.
pub(super) fn check_width(expr: &Expr, schema: &DFSchema) -> Result<()> {
    match expr {
        Expr::Cast(cast) => check(cast.field.data_type()),
        Expr::TryCast(cast) => check(cast.field.data_type()),
        // What is wrong with its arguments is told by the planner.
        Expr::ScalarFunction(call) if CASTS.contains(&call.name()) => {
            expr.get_type(schema).map_or(Ok(()), |data_type| check(&data_type))
        }
        _ => Ok(()),
    }
}

fn check(data_type: &DataType) -> Result<()> {
    if has_lists_of_no_items(data_type) {
        return Err(through_engine(Error::invalid(format!(
            "the type {} has lists of 0 items, and a list of fixed size must have at least one; use a list without a \
             fixed size",
            shorten(&data_type.to_string())
        ))));
    }
    let bytes = width(data_type);
    if bytes <= MAX_FIXED_BYTES {
        return Ok(());
    }
    Err(through_engine(Error::invalid(format!(
        "each value of the type {} takes {bytes} bytes, also where it is null, and at most {MAX_FIXED_BYTES} can be; \
         use a list without a fixed size",
        shorten(&data_type.to_string())
    ))))
}

fn has_lists_of_no_items(data_type: &DataType) -> bool {
    match data_type {
        DataType::FixedSizeList(_, 0) => true,
        DataType::FixedSizeList(item, _)
        | DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::Map(item, _) => has_lists_of_no_items(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_lists_of_no_items(field.data_type())),
        DataType::Dictionary(_, value) => has_lists_of_no_items(value),
        _ => false,
    }
}

/// The bytes of a value that may be null.
fn width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(size) => u64::try_from(*size).unwrap_or(u64::MAX),
        DataType::FixedSizeList(item, size) => {
            u64::try_from(*size).unwrap_or(u64::MAX).saturating_mul(width(item.data_type()).max(1))
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => width(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| width(field.data_type())).fold(0, u64::saturating_add),
        DataType::Dictionary(_, value) => width(value),
        other => other.primitive_width().unwrap_or(0) as u64,
    }
}
