//! Equalities that a plan must not conclude.
//!
//! From `coalesce(a, 0) = 0`, given to a scan for ruling out row groups, the engine concludes that `0` and the
//! expression stand for each other, everywhere in the plan. Wherever something is sorted by an expression with a `0` in
//! it, the `0` is replaced, and replaced again inside of what took its place, until no two parts of the plan agree on
//! the order. Filters conclude only what equals a column, and do the same where the column is in what it equals, as in
//! `abs(a) = a`, unless the column comes first. So scans are given bounds in place of such equalities, which rule out
//! the same, and filters have columns first.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

type Part = Arc<dyn PhysicalExpr>;

/// The engine's rules, with this one before any that looks at what is sorted.
pub(super) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let pushdown = FilterPushdown::new();
    let after = rules.iter().position(|rule| rule.name() == pushdown.name()).map_or(0, |place| place + 1);
    rules.insert(after, Arc::new(SoundEqualities));
    rules
}

/// See the module's comment.
#[derive(Debug)]
struct SoundEqualities;

impl PhysicalOptimizerRule for SoundEqualities {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let sound = |node: Arc<dyn ExecutionPlan>| {
            let changed = match sound_scan(node.as_ref()) {
                None => sound_filter(node.as_ref())?,
                scan => scan,
            };
            Ok(changed.map_or(Transformed::no(node), Transformed::yes))
        };
        plan.transform_up(sound).data()
    }

    fn name(&self) -> &str {
        "SoundEqualities"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The scan in the place of one that may not stay as it is.
fn sound_scan(node: &dyn ExecutionPlan) -> Option<Arc<dyn ExecutionPlan>> {
    let scan = node.downcast_ref::<DataSourceExec>()?;
    let (config, source) = scan.downcast_to_file_source::<ParquetSource>()?;
    let source = source.with_predicate(changed(&source.filter()?, as_bounds)?);
    let config = FileScanConfigBuilder::from(config.clone()).with_source(Arc::new(source)).build();
    Some(DataSourceExec::from_data_source(config))
}

/// The filter in the place of one that may not stay as it is.
fn sound_filter(node: &dyn ExecutionPlan) -> Result<Option<Arc<dyn ExecutionPlan>>, DataFusionError> {
    let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(None) };
    let Some(predicate) = changed(filter.predicate(), with_column_first) else { return Ok(None) };
    Ok(Some(Arc::new(FilterExecBuilder::from(filter).with_predicate(predicate).build()?)))
}

/// The condition with those of its parts changed that `change` has something else for, if there are any.
fn changed(condition: &Part, change: fn(&BinaryExpr) -> Option<Part>) -> Option<Part> {
    let change = |part: &Part| {
        let equality = part.downcast_ref::<BinaryExpr>().filter(|binary| *binary.op() == Operator::Eq)?;
        change(equality)
    };
    let parts = split_conjunction(condition);
    let instead: Vec<Option<Part>> = parts.iter().map(|part| change(part)).collect();
    if instead.iter().all(Option::is_none) {
        return None;
    }
    Some(conjunction(parts.into_iter().zip(instead).map(|(part, other)| other.unwrap_or_else(|| Arc::clone(part)))))
}

/// `x >= y AND x <= y` for `x = y`, unless both are columns or constants.
fn as_bounds(equality: &BinaryExpr) -> Option<Part> {
    let (left, right) = (equality.left(), equality.right());
    let is_simple = |side: &Part| is_column(side) || side.downcast_ref::<Literal>().is_some();
    if is_simple(left) && is_simple(right) {
        return None;
    }
    Some(conjunction([binary(left, Operator::GtEq, right), binary(left, Operator::LtEq, right)]))
}

/// `a = x` for `x = a`, where `a` is a column and `x` is none.
fn with_column_first(equality: &BinaryExpr) -> Option<Part> {
    let (left, right) = (equality.left(), equality.right());
    (is_column(right) && !is_column(left)).then(|| binary(right, Operator::Eq, left))
}

fn is_column(expr: &Part) -> bool {
    expr.downcast_ref::<Column>().is_some()
}

fn binary(left: &Part, op: Operator, right: &Part) -> Part {
    Arc::new(BinaryExpr::new(Arc::clone(left), op, Arc::clone(right)))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::DFSchema;
    use datafusion::prelude::SessionContext;

    use super::*;

    fn with(condition: &str, change: fn(&BinaryExpr) -> Option<Part>) -> Option<String> {
        let fields = ["a", "b"].map(|name| Field::new(name, DataType::Int64, true));
        let (session, schema) = (SessionContext::new(), DFSchema::try_from(Schema::new(fields.to_vec())).unwrap());
        let condition = session.parse_sql_expr(condition, &schema).unwrap();
        changed(&session.create_physical_expr(condition, &schema).unwrap(), change).map(|other| other.to_string())
    }

    #[test]
    fn scans_keep_equalities_of_columns_and_constants_alone() {
        assert_eq!(with("a = 1 and 2 = b and a = b and a + b > 0", as_bounds), None);
        let expected = "a@0 = 1 AND a@0 + b@1 >= 0 AND a@0 + b@1 <= 0";
        assert_eq!(with("a = 1 and a + b = 0", as_bounds).as_deref(), Some(expected));
        assert_eq!(with("a = a + b", as_bounds).as_deref(), Some("a@0 >= a@0 + b@1 AND a@0 <= a@0 + b@1"));
    }

    #[test]
    fn filters_have_columns_first() {
        assert_eq!(with("a = 1 and b = a and a + b = 0 and a + b < b", with_column_first), None);
        assert_eq!(with("a = 1 and a + b = b", with_column_first).as_deref(), Some("a@0 = 1 AND b@1 = a@0 + b@1"));
    }

    #[test]
    fn the_rule_comes_right_after_filters_are_pushed_down() {
        let names = physical_rules().iter().map(|rule| rule.name().to_string()).collect::<Vec<_>>();
        let place = names.iter().position(|name| name == "SoundEqualities").unwrap();
        assert_eq!(names[place - 1], FilterPushdown::new().name());
    }
}
