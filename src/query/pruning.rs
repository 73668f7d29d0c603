//! Which chunks a condition can rule out, by the bounds in the index.
//!
//! The condition is DataFusion's [`PruningPredicate`](datafusion::physical_optimizer::pruning::PruningPredicate); here
//! are the
//! bounds it asks for. A `Date` key that is kept as text has bounds of text, which say nothing about
//! `CAST(column AS DATE)`; but its partition is a UTC date, and so conditions on the date or instant of such a column
//! are answered by the date of the chunk's folder ([`DatedColumns`]).

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::NaiveDate;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Cast, Expr, TryCast};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use super::failure::OrQueryError;
use crate::error::Result;
use crate::table::{Bound, Column as TableColumn, ColumnStats, KeyKind, SelectedChunk, Snapshot};

/// What the stand-in for the date of a text column begins with; no stored column of a user does.
const DATE_PREFIX: &str = "__pdb_date_";
/// Likewise for its instant.
const INSTANT_PREFIX: &str = "__pdb_instant_";
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Which of `chunks` may hold rows for which all of `filters` are true. A condition that says nothing rules out
/// nothing.
///
/// # Errors
/// When the bounds cannot be compared, which is a defect.
pub(super) fn keep_chunks(snapshot: &Snapshot, chunks: &[SelectedChunk], filters: &[Expr]) -> Result<Vec<bool>> {
    let Some(condition) = conjunction(filters.iter().cloned()) else { return Ok(vec![true; chunks.len()]) };
    let dated = DatedColumns::of(snapshot);
    let condition = dated.rewrite(condition)?;
    let schema = dated.extend(&snapshot.columns.sql_schema());
    let df_schema = DFSchema::try_from(schema.as_ref().clone()).or_query_error()?;
    // A condition may come as it was written, with its types not yet matched.
    let context = SimplifyContext::builder().with_schema(Arc::new(df_schema.clone())).build();
    let simplifier = ExprSimplifier::new(context);
    let simple = simplifier.coerce(condition, &df_schema).and_then(|condition| simplifier.simplify(condition));
    let Ok(condition) = simple else {
        return Ok(vec![true; chunks.len()]);
    };
    let Ok(physical) = create_physical_expr(&condition, &df_schema, &Default::default(), &Default::default()) else {
        return Ok(vec![true; chunks.len()]);
    };
    let Ok(predicate) = PruningPredicateBuilder::new().with_file_schema(schema).try_build(physical) else {
        return Ok(vec![true; chunks.len()]);
    };
    predicate.prune(&Index { snapshot, chunks, dated: &dated }).or_query_error()
}

/// The least or the greatest value of a column in each chunk, in the type that SQL sees; `None` when the column has no
/// bounds.
///
/// # Errors
/// Never, as long as the snapshot is whole.
pub(super) fn key_bounds(
    snapshot: &Snapshot,
    chunks: &[SelectedChunk],
    column: &str,
    greatest: bool,
) -> Result<Option<ArrayRef>> {
    let dated = DatedColumns::of(snapshot);
    Ok(Index { snapshot, chunks, dated: &dated }.bounds(&Column::new_unqualified(column), greatest))
}

/// The `Date` keys of a dataset that are kept as text.
struct DatedColumns(HashSet<String>);

impl DatedColumns {
    fn of(snapshot: &Snapshot) -> Self {
        let is_text = |name: &str| {
            let physical = snapshot.columns.find(name).and_then(|column| column.physical.as_ref());
            physical == Some(&DataType::Utf8)
        };
        let dates = snapshot.keys.iter().flatten().filter(|(name, kind)| **kind == KeyKind::Date && is_text(name));
        Self(dates.map(|(name, _)| name.clone()).collect())
    }

    /// Puts the stand-ins where the condition speaks of the date or the instant of such a column.
    fn rewrite(&self, condition: Expr) -> Result<Expr> {
        if self.0.is_empty() {
            return Ok(condition);
        }
        let rewritten = condition.transform_up(|expr| {
            Ok(match self.stand_in(&expr) {
                Some(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column))),
                None => Transformed::no(expr),
            })
        });
        Ok(rewritten.or_query_error()?.data)
    }

    fn stand_in(&self, expr: &Expr) -> Option<String> {
        let dated = |expr: &Expr| match expr {
            Expr::Column(column) => self.0.get(&column.name).cloned(),
            _ => None,
        };
        match expr {
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => match field.data_type() {
                DataType::Date32 => Some(format!("{DATE_PREFIX}{}", dated(expr)?)),
                DataType::Timestamp(TimeUnit::Nanosecond, None) => Some(format!("{INSTANT_PREFIX}{}", dated(expr)?)),
                _ => None,
            },
            Expr::ScalarFunction(call) => match (call.name(), call.args.as_slice()) {
                ("to_date", [argument]) => Some(format!("{DATE_PREFIX}{}", dated(argument)?)),
                ("to_timestamp", [argument]) => Some(format!("{INSTANT_PREFIX}{}", dated(argument)?)),
                _ => None,
            },
            _ => None,
        }
    }

    fn extend(&self, schema: &SchemaRef) -> SchemaRef {
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        for name in &self.0 {
            let instant = DataType::Timestamp(TimeUnit::Nanosecond, None);
            fields.push(Arc::new(Field::new(format!("{DATE_PREFIX}{name}"), DataType::Date32, true)));
            fields.push(Arc::new(Field::new(format!("{INSTANT_PREFIX}{name}"), instant, true)));
        }
        Arc::new(Schema::new(fields))
    }
}

/// The bounds of some chunks.
struct Index<'a> {
    snapshot: &'a Snapshot,
    chunks: &'a [SelectedChunk],
    dated: &'a DatedColumns,
}

impl Index<'_> {
    fn bounds(&self, column: &Column, greatest: bool) -> Option<ArrayRef> {
        if let Some(name) = column.name.strip_prefix(DATE_PREFIX).filter(|name| self.dated.0.contains(*name)) {
            let days: Date32Array = self.days(name).collect();
            return Some(Arc::new(days));
        }
        if let Some(name) = column.name.strip_prefix(INSTANT_PREFIX).filter(|name| self.dated.0.contains(*name)) {
            let end = if greatest { MICROS_PER_DAY } else { 0 };
            let micros = self.days(name).map(|day| day.map(|day| i64::from(day) * MICROS_PER_DAY + end));
            let micros: TimestampMicrosecondArray = micros.collect();
            return cast(&micros, &DataType::Timestamp(TimeUnit::Nanosecond, None)).ok();
        }
        let table_column = self.snapshot.columns.find(&column.name)?;
        let bounds = self
            .stats(table_column)?
            .map(|stats| stats.and_then(|stats| if greatest { stats.max.as_ref() } else { stats.min.as_ref() }));
        bounds_array(table_column, bounds, greatest)
    }

    fn stats(&self, column: &TableColumn) -> Option<impl Iterator<Item = Option<&ColumnStats>>> {
        let place = self.snapshot.stats_position(&column.names.physical)?;
        Some(self.chunks.iter().map(move |selected| selected.chunk.stats.get(place)))
    }

    /// The date of each chunk's partition by the key `name`.
    fn days(&self, name: &str) -> impl Iterator<Item = Option<i32>> {
        let keys = self.snapshot.keys.iter().flatten().filter(|(_, kind)| **kind == KeyKind::Date);
        // Only with a single Date key is it the first level of the folder for certain.
        let single = keys.map(|(key, _)| key.as_str()).eq([name]);
        self.chunks.iter().map(move |selected| {
            let folder = selected.chunk.partition().split('/').nth(1).filter(|_| single)?;
            let date = NaiveDate::parse_from_str(folder, "%Y-%m-%d").ok()?;
            i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
        })
    }
}

/// The bounds as an array of the type that the condition compares with.
fn bounds_array<'a>(
    column: &TableColumn,
    bounds: impl Iterator<Item = Option<&'a Bound>>,
    greatest: bool,
) -> Option<ArrayRef> {
    let physical = column.physical.as_ref()?;
    let int = |bound: Option<&Bound>| if let Some(Bound::Int(value)) = bound { Some(*value) } else { None };
    let array: ArrayRef = match physical {
        DataType::Int64 | DataType::Int32 | DataType::Date32 | DataType::Timestamp(..) => {
            int_bounds(&bounds.map(int).collect(), physical)?
        }
        DataType::Float32 | DataType::Float64 => Arc::new(
            bounds
                .map(|bound| if let Some(Bound::Float(value)) = bound { Some(*value) } else { None })
                .collect::<Float64Array>(),
        ),
        DataType::Utf8 => Arc::new(
            bounds
                .map(|bound| if let Some(Bound::Text(value)) = bound { Some(value.as_ref()) } else { None })
                .collect::<StringArray>(),
        ),
        DataType::Boolean => Arc::new(
            bounds
                .map(|bound| if let Some(Bound::Bool(value)) = bound { Some(*value) } else { None })
                .collect::<BooleanArray>(),
        ),
        _ => return None,
    };
    let target = column.sql_field();
    match (physical, target.data_type()) {
        // The stored microsecond lacks up to 999 ns, so the greatest instant is that much later.
        (DataType::Timestamp(..), DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
            let micros = cast(&array, &DataType::Int64).ok()?;
            let micros = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&micros);
            let rest = if greatest { 999 } else { 0 };
            let nanos = micros.unary_opt::<_, arrow::datatypes::TimestampNanosecondType>(|value| {
                value.checked_mul(1_000)?.checked_add(rest)
            });
            Some(Arc::new(nanos.with_timezone_opt(zone.clone())))
        }
        (DataType::Float32 | DataType::Float64, _) => cast(&array, target.data_type()).ok(),
        // Text that stands for something else (large decimals) does not sort like it.
        (DataType::Utf8, other) if *other != DataType::Utf8 => None,
        (_, other) => cast(&array, other).ok(),
    }
}

/// Bounds in 64 bits as the stored type; a date is counted in 32.
fn int_bounds(bounds: &Int64Array, physical: &DataType) -> Option<ArrayRef> {
    match physical {
        DataType::Date32 => cast(&cast(bounds, &DataType::Int32).ok()?, physical).ok(),
        _ => cast(bounds, physical).ok(),
    }
}

impl PruningStatistics for Index<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, true)
    }

    fn num_containers(&self) -> usize {
        self.chunks.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let column = self.snapshot.columns.find(&column.name)?;
        let nulls: UInt64Array = self.stats(column)?.map(|stats| stats.and_then(|stats| stats.nulls)).collect();
        Some(Arc::new(nulls))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.chunks.iter().map(|selected| selected.chunk.rows))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
