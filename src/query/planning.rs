//! Planning that stops.
//!
//! A planner never pauses, so its task goes on when the time of its statement is up or its caller is gone. So each of
//! its rules looks at the statement's flag whenever it is applied, most of them for every node of the plan, and fails
//! once nobody waits for the plan any more. How long one rule takes over one node is bounded by the limits of
//! [`complexity`](super::complexity).

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;

use super::stop::Stop;

type Result<T> = std::result::Result<T, DataFusionError>;

/// A session whose planner looks at the flag.
pub(super) fn stoppable_planning(mut builder: SessionStateBuilder, stop: &Stop) -> SessionStateBuilder {
    if let Some(analyzer) = builder.analyzer() {
        wrap(&mut analyzer.rules, |inner| Arc::new(Stoppable { inner, stop: stop.clone() }));
    }
    if let Some(optimizer) = builder.optimizer() {
        wrap(&mut optimizer.rules, |inner| Arc::new(Stoppable { inner, stop: stop.clone() }));
    }
    if let Some(optimizer) = builder.physical_optimizers() {
        wrap(&mut optimizer.rules, |inner| Arc::new(Stoppable { inner, stop: stop.clone() }));
    }
    builder.expr_planners().get_or_insert_default().insert(0, Arc::new(StopBetweenOperators(stop.clone())));
    builder
}

fn wrap<R: ?Sized>(rules: &mut [Arc<R>], stoppable: impl Fn(Arc<R>) -> Arc<R>) {
    for rule in rules {
        *rule = stoppable(Arc::clone(rule));
    }
}

/// A rule that fails once the flag is set.
#[derive(Debug)]
struct Stoppable<R: ?Sized> {
    stop: Stop,
    inner: Arc<R>,
}

impl AnalyzerRule for Stoppable<dyn AnalyzerRule + Send + Sync> {
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        self.stop.check()?;
        self.inner.analyze(plan, config)
    }

    fn name(&self) -> &str {
        self.inner.name()
    }
}

impl OptimizerRule for Stoppable<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.inner.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        self.stop.check()?;
        self.inner.rewrite(plan, config)
    }
}

impl PhysicalOptimizerRule for Stoppable<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        self.stop.check()?;
        self.inner.optimize(plan, config)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.stop.check()?;
        self.inner.optimize_with_context(plan, context)
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_check(&self) -> bool {
        self.inner.schema_check()
    }
}

/// Plans nothing itself; it is asked about every operator with two sides.
#[derive(Debug)]
struct StopBetweenOperators(Stop);

impl ExprPlanner for StopBetweenOperators {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        self.0.check()?;
        Ok(PlannerResult::Original(expr))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionState;
    use datafusion::prelude::SessionContext;

    use super::*;

    fn session(stop: &Stop) -> SessionContext {
        let template = SessionStateBuilder::new_with_default_features().build();
        let builder = SessionStateBuilder::new_from_existing(template);
        SessionContext::new_with_state(stoppable_planning(builder, stop).build())
    }

    fn rules(state: &SessionState) -> [Vec<&str>; 3] {
        [
            state.analyzer().rules.iter().map(|rule| rule.name()).collect(),
            state.optimizers().iter().map(|rule| rule.name()).collect(),
            state.physical_optimizers().iter().map(|rule| rule.name()).collect(),
        ]
    }

    #[tokio::test]
    async fn each_step_of_planning_fails_once_nobody_waits() {
        let stop = Stop::default();
        let session = session(&stop);
        let query = "select a.x from generate_series(1, 9) a(x), generate_series(1, 9) b(y) where a.x + b.y = 12";
        let logical = session.state().create_logical_plan(query).await.unwrap();
        let optimized = session.state().optimize(&logical).unwrap();
        let physical = session.state().create_physical_plan(&optimized).await.unwrap();
        let state = session.state();
        let optimizer = state.physical_optimizers().first().cloned().unwrap();
        assert!(optimizer.optimize(Arc::clone(&physical), &ConfigOptions::default()).is_ok());
        drop(stop.on_drop());
        assert!(session.state().create_logical_plan(query).await.is_err());
        assert!(session.state().optimize(&logical).is_err());
        assert!(optimizer.optimize(physical, &ConfigOptions::default()).is_err());
    }

    #[test]
    fn no_rule_is_lost() {
        let plain = SessionStateBuilder::new_with_default_features().build();
        let stoppable = session(&Stop::default()).state();
        assert_eq!(rules(&plain), rules(&stoppable));
        assert!(rules(&plain).iter().all(|rules| !rules.is_empty()));
    }
}
