//! `min` and `max` of floats by group.
//!
//! The engine's own compare floats by `partial_cmp`, which NaN has no answer to, so that whatever follows a NaN wins,
//! and begin at the greatest finite number, so that a group of infinities alone comes out finite. Without groups, and
//! for all other types, they are right and are used as they are. Here NaN is above everything, as it is where rows are
//! sorted or compared.

use std::sync::Arc;

use arrow::array::ArrowPrimitiveType;
use arrow::datatypes::{DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

type F16 = <Float16Type as ArrowPrimitiveType>::Native;
type Result<T> = std::result::Result<T, DataFusionError>;

/// `min` and `max`, to be registered over the engine's own.
pub(super) fn extremes() -> [Arc<AggregateUDF>; 2] {
    [(min_udaf(), Extreme::Least), (max_udaf(), Extreme::Greatest)]
        .map(|(inner, extreme)| Arc::new(AggregateUDF::new_from_impl(ExactExtreme { inner, extreme })))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Extreme {
    Least,
    Greatest,
}

/// One of the engine's two, but for floats by group.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactExtreme {
    inner: Arc<AggregateUDF>,
    extreme: Extreme,
}

impl ExactExtreme {
    fn by_group<T>(
        &self,
        data_type: &DataType,
        lowest: T::Native,
        nan: T::Native,
        is_less: fn(&T::Native, &T::Native) -> bool,
    ) -> Box<dyn GroupsAccumulator>
    where
        T: ArrowPrimitiveType + Send,
        T::Native: Send + Sync,
    {
        let extreme = self.extreme;
        let keep = move |current: &mut T::Native, new: T::Native| {
            let replaces = match extreme {
                Extreme::Least => is_less(&new, current),
                Extreme::Greatest => is_less(current, &new),
            };
            if replaces {
                *current = new;
            }
        };
        let start = if extreme == Extreme::Least { nan } else { lowest };
        Box::new(PrimitiveGroupsAccumulator::<T, _>::new(data_type, keep).with_starting_value(start))
    }
}

impl AggregateUDFImpl for ExactExtreme {
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type().clone();
        Ok(match &data_type {
            DataType::Float16 => {
                self.by_group::<Float16Type>(&data_type, F16::NEG_INFINITY, F16::NAN, |a, b| a.total_cmp(b).is_lt())
            }
            DataType::Float32 => {
                self.by_group::<Float32Type>(&data_type, f32::NEG_INFINITY, f32::NAN, |a, b| a.total_cmp(b).is_lt())
            }
            DataType::Float64 => {
                self.by_group::<Float64Type>(&data_type, f64::NEG_INFINITY, f64::NAN, |a, b| a.total_cmp(b).is_lt())
            }
            _ => return self.inner.create_groups_accumulator(args),
        })
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.is_descending()
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.value_from_stats(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn nan_is_greatest_and_infinities_stay() {
        let session = SessionContext::new();
        for function in extremes() {
            session.register_udaf(AggregateUDF::clone(&function));
        }
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let rows = RecordBatch::try_from_iter([
            ("g", Arc::new(Int64Array::from(vec![1, 1, 1, 2, 2, 3, 3])) as ArrayRef),
            ("x", Arc::new(Float64Array::from(vec![nan, -1e300, -inf, inf, inf, -inf, nan])) as ArrayRef),
        ]);
        session.register_batch("t", rows.unwrap()).unwrap();
        let query = "select min(x), max(x) from t group by g order by g";
        let found = session.sql(query).await.unwrap().collect().await.unwrap();
        let floats = |column: usize| {
            let column = found[0].column(column).as_any().downcast_ref::<Float64Array>().unwrap().clone();
            column.values().to_vec()
        };
        assert_eq!(floats(0), [-inf, inf, -inf]);
        let greatest = floats(1);
        assert!(greatest[0].is_nan() && greatest[1] == inf && greatest[2].is_nan(), "{greatest:?}");
    }
}
