//! The engine's functions, each with its limit.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, StructFieldMapping,
};

use super::column::{Column, bytes_of};
use super::estimate::{Estimate, Made, estimate};
use super::{Result, bounded, function};
use crate::error::Error;
use crate::query::failure::through_engine;

/// Bytes that one call may make of one batch of rows.
const MAX_MADE_BYTES: u64 = 256 << 20;
/// Bytes that a call may make whatever else the server holds.
const SMALL_BYTES: u64 = 8 << 20;
/// Steps that one call may take over one batch of rows.
const MAX_STEPS: u64 = 1 << 30;

/// One of the engine's, with a limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Bounded {
    inner: Arc<ScalarUDF>,
    /// The memory that the server may have when a call that makes much has ended.
    ceiling: u64,
}

impl Bounded {
    /// The function with its limit; `None` for one that needs none, or has it.
    pub(super) fn over(inner: &Arc<ScalarUDF>, ceiling: u64) -> Option<Arc<ScalarUDF>> {
        let is_bounded = inner.inner().is::<Self>();
        let needs_limit = !is_bounded && estimate(inner.name()).is_some();
        needs_limit.then(|| function(Self { inner: Arc::clone(inner), ceiling }))
    }

    fn refusal(&self, made: Made, amount: u64, rows: usize) -> DataFusionError {
        let name = self.inner.name();
        through_engine(Error::exhausted(match made {
            Made::Steps => format!(
                "{name} would take {amount} steps for {rows} rows at once, and at most {MAX_STEPS} can be; compare \
                 shorter values"
            ),
            Made::Bytes | Made::BytesAtMost => format!(
                "{name} would make {amount} bytes of {rows} rows at once, and at most {MAX_MADE_BYTES} can be; make \
                 shorter values"
            ),
        }))
    }

    /// Many calls, each within its limit, would still take all there is: what other calls made counts too.
    fn check_room(&self, amount: u64) -> Result<()> {
        if amount <= SMALL_BYTES {
            return Ok(());
        }
        let held = memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64);
        if held.saturating_add(amount) <= self.ceiling {
            return Ok(());
        }
        Err(through_engine(Error::exhausted(format!(
            "{} would make {amount} bytes, and the server has no more memory to give; make shorter values, or \
             retry later",
            self.inner.name()
        ))))
    }

    /// Calls the function for some rows at a time, and counts what it really makes.
    fn in_pieces(&self, args: &ScalarFunctionArgs, of_rows: &[u64]) -> Result<ColumnarValue> {
        let (mut pieces, mut made, mut start): (Vec<ArrayRef>, u64, usize) = (Vec::new(), 0, 0);
        while start < of_rows.len() {
            let rows = fitting(of_rows.iter().skip(start));
            if rows == 0 {
                let amount = of_rows.get(start).copied().unwrap_or(u64::MAX);
                return Err(self.refusal(Made::BytesAtMost, amount, 1));
            }
            let piece = self.inner.invoke_with_args(piece(args, start, rows))?.into_array(rows)?;
            made = made.saturating_add(bytes_of(piece.as_ref()));
            if made > MAX_MADE_BYTES {
                return Err(self.refusal(Made::Bytes, made, start + rows));
            }
            pieces.push(piece);
            start += rows;
        }
        let pieces: Vec<_> = pieces.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&pieces)?))
    }
}

/// How many of the next rows may be computed together.
fn fitting<'a>(of_rows: impl Iterator<Item = &'a u64>) -> usize {
    let mut sum = 0_u64;
    let fits = |amount: &&u64| {
        sum = sum.saturating_add(**amount);
        sum <= MAX_MADE_BYTES
    };
    of_rows.take_while(fits).count()
}

/// The call for some of its rows.
fn piece(args: &ScalarFunctionArgs, start: usize, rows: usize) -> ScalarFunctionArgs {
    let slice = |value: &ColumnarValue| match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(start, rows)),
        ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
    };
    ScalarFunctionArgs { args: args.args.iter().map(slice).collect(), number_rows: rows, ..args.clone() }
}

/// What a call makes of each of its rows. Of constants alone it makes one value.
fn of_rows(args: &ScalarFunctionArgs, estimate: Estimate) -> Result<Vec<u64>> {
    let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let columns = args.args.iter().map(Column::new).collect::<Result<Vec<_>>>()?;
    let rows = if is_constant { 1 } else { args.number_rows };
    Ok((0..rows).map(|row| (estimate.of_row)(&columns, row)).collect())
}

impl ScalarUDFImpl for Bounded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(estimate) = estimate(self.inner.name()) else { return self.inner.invoke_with_args(args) };
        let of_rows = of_rows(&args, estimate)?;
        let amount = of_rows.iter().copied().fold(0, u64::saturating_add);
        let limit = if estimate.made == Made::Steps { MAX_STEPS } else { MAX_MADE_BYTES };
        if estimate.made != Made::Steps {
            self.check_room(amount.min(MAX_MADE_BYTES))?;
        }
        match estimate.made {
            _ if amount <= limit => self.inner.invoke_with_args(args),
            Made::BytesAtMost if of_rows.len() > 1 => self.in_pieces(&args, &of_rows),
            made => Err(self.refusal(made, amount, of_rows.len())),
        }
    }

    /// What the engine makes of a call has limits too.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.inner.simplify(args, info)? {
            ExprSimplifyResult::Simplified(expr) => {
                let limited = expr.transform_up(|expr| Ok(bounded(expr, self.ceiling)))?;
                ExprSimplifyResult::Simplified(limited.data)
            }
            original => original,
        })
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.inner.preimage(args, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.inner().strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner.struct_field_mapping(literals)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}
