//! Intervals in SQL. Parquet has no type for them that Delta Lake knows, so they are stored as structs of their parts;
//! a scan puts them together again by this function.

use std::sync::Arc;

use arrow::array::{Array, AsArray, new_null_array};
use arrow::datatypes::{DataType, Field, IntervalUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::table::restore_interval;

/// Whether a column of this type is stored as a struct that is to be put together.
pub(super) fn is_put_together(sql: &DataType) -> bool {
    matches!(sql, DataType::Interval(IntervalUnit::DayTime | IntervalUnit::MonthDayNano))
}

/// The intervals of the type `sql` that `stored` holds the parts of.
pub(super) fn put_together(stored: Arc<dyn PhysicalExpr>, sql: &DataType) -> Arc<dyn PhysicalExpr> {
    let unit = if let DataType::Interval(unit) = sql { *unit } else { IntervalUnit::MonthDayNano };
    let function = Arc::new(ScalarUDF::from(IntervalOf { unit, signature: Signature::any(1, Volatility::Immutable) }));
    let field = Arc::new(Field::new("interval", sql.clone(), true));
    let name = function.name().to_string();
    Arc::new(ScalarFunctionExpr::new(&name, function, vec![stored], field, Arc::new(ConfigOptions::default())))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalOf {
    unit: IntervalUnit,
    signature: Signature,
}

impl ScalarUDFImpl for IntervalOf {
    fn name(&self) -> &str {
        "interval_of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Interval(self.unit))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let parts = ColumnarValue::values_to_arrays(&args.args)?;
        let intervals = match parts.first().and_then(|parts| parts.as_struct_opt()) {
            Some(parts) => restore_interval(parts, self.unit),
            // A chunk that lacks the column has nulls for it.
            None => new_null_array(&DataType::Interval(self.unit), parts.first().map_or(0, |parts| parts.len())),
        };
        Ok(ColumnarValue::Array(intervals))
    }
}
