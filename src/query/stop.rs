//! Joins that stop within a batch.
//!
//! A join that keeps few of very many pairs of rows computes for minutes before it has a batch to hand over, and its
//! task can only be ended when it does. So the conditions of joins look at a flag each time they are evaluated, which
//! is at least once for some thousand pairs, and fail once nobody waits for the result any more.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};

use super::failure::{OrQueryError, through_engine};
use crate::error::{Error, Result};

/// The flag of one statement. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

/// Sets the flag when it is dropped.
#[derive(Debug)]
pub(super) struct StopOnDrop(Stop);

impl Stop {
    /// What sets the flag when it is dropped.
    pub(super) fn on_drop(self) -> StopOnDrop {
        StopOnDrop(self)
    }

    /// Fails once the flag is set.
    ///
    /// # Errors
    /// [`Kind::Cancelled`](crate::error::Kind::Cancelled), which nobody is there to read.
    pub(super) fn check(&self) -> Result<(), DataFusionError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(through_engine(Error::cancelled("nobody waits for the result any more"))),
            false => Ok(()),
        }
    }
}

impl StopOnDrop {
    /// The flag that it sets.
    pub(super) fn flag(&self) -> &Stop {
        &self.0
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// The plan with conditions of joins that look at the flag.
///
/// # Errors
/// Those of the engine, when a join cannot be built anew.
pub(super) fn stoppable(plan: Arc<dyn ExecutionPlan>, stop: &Stop) -> Result<Arc<dyn ExecutionPlan>> {
    let rebuild = |node: Arc<dyn ExecutionPlan>| {
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            let join = NestedLoopJoinExecBuilder::from(join).with_filter(Some(checked(filter, stop))).build()?;
            return Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>));
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>()
            && let Some(filter) = join.filter()
        {
            let join = join.builder().with_filter(Some(checked(filter, stop))).build()?;
            return Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>));
        }
        Ok(Transformed::no(node))
    };
    plan.transform_up(rebuild).data().or_query_error()
}

fn checked(filter: &JoinFilter, stop: &Stop) -> JoinFilter {
    let expression = Arc::new(Checked { inner: Arc::clone(filter.expression()), stop: stop.clone() });
    JoinFilter::new(expression, filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

/// A condition that fails once the flag is set.
#[derive(Debug, Clone)]
struct Checked {
    inner: Arc<dyn PhysicalExpr>,
    stop: Stop,
}

impl PartialEq for Checked {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Checked {}

impl Hash for Checked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Checked {
    fn data_type(&self, input: &Schema) -> Result<DataType, DataFusionError> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool, DataFusionError> {
        self.inner.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue, DataFusionError> {
        self.stop.check()?;
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let inner = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(Self { inner, stop: self.stop.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::physical_plan::collect;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn a_join_fails_once_nobody_waits() {
        let session = SessionContext::new();
        let query = "select count(*) from generate_series(1, 9) a(x), generate_series(1, 9) b(y) where x * y = 12";
        let plan = || async { session.sql(query).await.unwrap().create_physical_plan().await.unwrap() };
        let stop = Stop::default();
        let running = stoppable(plan().await, &stop).unwrap();
        assert!(collect(running, session.task_ctx()).await.is_ok());
        let stopped = stoppable(plan().await, &stop).unwrap();
        drop(stop.on_drop());
        assert!(collect(stopped, session.task_ctx()).await.is_err());
    }
}
