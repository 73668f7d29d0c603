//! The parameters of a statement: where they stand in it, and their values.
//!
//! The values of one row become functions without arguments, which the optimiser replaces by the values before it looks
//! at conditions. So a value has its exact type wherever it stands, and no text of it is ever parsed.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr as LogicalExpr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{Expr, Value, VisitMut, VisitorMut};

use super::super::failure::OrQueryError;
use super::select::{expression, quoted};
use crate::error::{Error, Result, shorten};

/// What the functions of parameters begin with.
const FUNCTION_PREFIX: &str = "__pdb_parameter_";

/// The parameters of a statement; a batch of one row or more.
#[derive(Debug, Clone)]
pub(super) struct Parameters(Option<RecordBatch>);

impl Parameters {
    /// Parameters of a call; `None` without any.
    pub(super) fn new(given: Option<&RecordBatch>) -> Self {
        Self(given.cloned())
    }

    /// How often the statement is to run.
    pub(super) fn rows(&self) -> usize {
        self.0.as_ref().map_or(1, RecordBatch::num_rows)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.as_ref().map_or(0, RecordBatch::num_columns)
    }

    /// Those of one run.
    pub(super) fn row(&self, row: usize) -> Self {
        Self(self.0.as_ref().map(|batch| batch.slice(row, 1)))
    }

    /// All of them as a table, whose columns are called as [`column_of`] says.
    pub(super) fn batch(&self) -> Option<&RecordBatch> {
        self.0.as_ref()
    }

    /// Makes the values known to a session.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a value of a type that the engine has not.
    pub(super) fn register(&self, state: &mut SessionState) -> Result<()> {
        let Some(batch) = self.0.as_ref().filter(|batch| batch.num_rows() == 1) else { return Ok(()) };
        for (place, column) in batch.columns().iter().enumerate() {
            let value = ScalarValue::try_from_array(column, 0).or_query_error()?;
            let name = format!("{FUNCTION_PREFIX}{}", place + 1);
            let signature = Signature::exact(Vec::new(), Volatility::Immutable);
            let function = ParameterValue { name, value, signature };
            state.register_udf(Arc::new(ScalarUDF::from(function))).or_query_error()?;
        }
        Ok(())
    }

    /// Puts the values where the parameters stand.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a parameter that has no value.
    pub(super) fn bind(&self, part: &mut impl VisitMut) -> Result<()> {
        replace(part, self.count(), |number| expression(&format!("\"{FUNCTION_PREFIX}{number}\"()")))
    }

    /// Puts the columns of [`Parameters::batch`] where the parameters stand.
    ///
    /// # Errors
    /// As [`Parameters::bind`].
    pub(super) fn bind_columns(&self, part: &mut impl VisitMut) -> Result<()> {
        replace(part, self.count(), |number| Ok(Expr::Identifier(quoted(&column_of(number)))))
    }
}

/// What the column of a parameter is called.
pub(super) fn column_of(number: usize) -> String {
    format!("{FUNCTION_PREFIX}{number}")
}

fn replace(part: &mut impl VisitMut, count: usize, by: impl Fn(usize) -> Result<Expr>) -> Result<()> {
    match part.visit(&mut Replacing { count, by }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Replacing<F> {
    count: usize,
    by: F,
}

impl<F: Fn(usize) -> Result<Expr>> VisitorMut for Replacing<F> {
    type Break = Box<Error>;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Error>> {
        let Expr::Value(value) = &*expr else { return ControlFlow::Continue(()) };
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        let number = name.strip_prefix('$').and_then(|number| number.parse().ok()).filter(|number| *number > 0);
        let by = match number {
            Some(number) if number <= self.count => (self.by)(number),
            Some(_) => Err(Error::invalid(format!("the parameter {} has no value; {} are given", name, self.count))),
            None => Err(Error::invalid(format!("'{}' is no parameter; use $1, $2, …", shorten(name)))),
        };
        match by {
            Ok(by) => {
                *expr = by;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ParameterValue {
    name: String,
    value: ScalarValue,
    signature: Signature,
}

impl ScalarUDFImpl for ParameterValue {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }

    fn simplify(&self, _: Vec<LogicalExpr>, _: &SimplifyContext) -> Result<ExprSimplifyResult, DataFusionError> {
        Ok(ExprSimplifyResult::Simplified(LogicalExpr::Literal(self.value.clone(), None)))
    }
}
