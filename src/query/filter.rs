//! The condition of a `GetDataframe`: a SQL boolean expression over the columns of one dataset.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;

use super::dialect::parse_expression;
use super::failure::{OrQueryError, query_error};
use super::pruning::keep_chunks;
use super::session::check_text;
use crate::error::{Error, Result};
use crate::table::{RowFilter, SelectedChunk, Snapshot};

/// A parsed condition.
pub(super) struct SqlFilter {
    columns: Vec<String>,
    logical: Expr,
    physical: Arc<dyn PhysicalExpr>,
}

impl SqlFilter {
    /// Reads a condition on the columns of `snapshot`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) when it does not parse, names an unknown column or is no boolean.
    pub(super) fn parse(session: &SessionContext, text: &str, snapshot: &Snapshot) -> Result<Self> {
        check_text(text)?;
        let named_field = |error: Error| Error::invalid(format!("filter: {}", error.message())).because(error);
        let wrong = |error| named_field(query_error(error));
        let all = snapshot.columns.sql_schema();
        let all = DFSchema::try_from(all.as_ref().clone()).or_query_error()?;
        let logical = parse_expression(&session.state(), text, &all).map_err(named_field)?;
        let logical = limited(&session.state(), logical, &all).map_err(wrong)?;
        // The condition is evaluated on batches of just the columns it looks at, in the order of the dataset.
        let named: Vec<String> = logical.column_refs().iter().map(|column| column.name.clone()).collect();
        let used = snapshot.columns.iter().filter(|column| named.contains(&column.names.name));
        let (columns, fields): (Vec<_>, Vec<_>) =
            used.map(|column| (column.names.name.clone(), column.sql_field())).unzip();
        let schema = DFSchema::try_from(Schema::new(fields)).or_query_error()?;
        // Some functions exist only until the engine has simplified them away.
        let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
        let simplifier = ExprSimplifier::new(context);
        let simple = simplifier.coerce(logical.clone(), &schema).and_then(|expr| simplifier.simplify(expr));
        let physical = session.create_physical_expr(simple.map_err(wrong)?, &schema).map_err(wrong)?;
        let data_type = physical.data_type(schema.as_arrow()).map_err(wrong)?;
        if !matches!(data_type, DataType::Boolean | DataType::Null) {
            return Err(Error::invalid(format!("filter: the expression is of type {data_type}, not a condition")));
        }
        Ok(Self { columns, logical, physical })
    }
}

/// The condition with the limits that an analyzed plan has.
fn limited(session: &SessionState, condition: Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let (rewrites, options) = (&session.analyzer().function_rewrites, session.config_options());
    rewrites.iter().try_fold(condition, |condition, rewrite| {
        Ok(condition.transform_up(|expr| rewrite.rewrite(expr, schema, options))?.data)
    })
}

impl RowFilter for SqlFilter {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn keep_chunks(&self, snapshot: &Snapshot, chunks: &[SelectedChunk]) -> Result<Vec<bool>> {
        keep_chunks(snapshot, chunks, std::slice::from_ref(&self.logical))
    }

    fn rows(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let values = self.physical.evaluate(batch).and_then(|value| value.into_array(batch.num_rows()));
        let values = values.or_query_error()?;
        match values.as_boolean_opt() {
            Some(mask) if mask.null_count() > 0 => Ok(prep_null_mask_filter(mask)),
            Some(mask) => Ok(mask.clone()),
            // A condition that is always null is never true.
            None => Ok(BooleanArray::from(vec![false; batch.num_rows()])),
        }
    }
}
