//! Functions with a limited domain, as the engine has them but for what they say of order.
//!
//! Asked how they order what is sorted by their argument, the engine's own fail unless the argument is known to lie in
//! their domain, and with them fails every plan that sorts by one of them. Here the answer is then that they do not.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

type Result<T> = std::result::Result<T, DataFusionError>;

const LIMITED: [&str; 9] = ["sqrt", "ln", "log", "log2", "log10", "acos", "asin", "acosh", "atanh"];

/// The functions of a session, those with a limited domain in the form described above.
pub(super) fn sound_orderings(functions: Vec<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let sound = |function: Arc<ScalarUDF>| match LIMITED.contains(&function.name()) {
        true => Arc::new(ScalarUDF::new_from_impl(Limited { inner: function })),
        false => function,
    };
    functions.into_iter().map(sound).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Limited {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Limited {
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(self.inner.output_ordering(inputs).unwrap_or(SortProperties::Unordered))
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
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

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, RecordBatch};
    use datafusion::execution::SessionStateDefaults;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn rows_are_numbered_in_the_order_of_a_root() {
        let session = SessionContext::new();
        for function in sound_orderings(SessionStateDefaults::default_scalar_functions()) {
            session.register_udf(ScalarUDF::clone(&function));
        }
        let column = Arc::new(Float64Array::from(vec![Some(4.0), None, Some(1.0)])) as ArrayRef;
        session.register_batch("t", RecordBatch::try_from_iter([("x", column)]).unwrap()).unwrap();
        for function in LIMITED {
            let query = format!("select row_number() over (order by {function}(x) nulls first) from t");
            assert!(session.sql(&query).await.unwrap().collect().await.is_ok(), "{function}");
        }
    }
}
