//! Functions that make much of little.
//!
//! What one call makes is in no memory pool, and the call cannot be stopped: `repeat('x', 2000000000)` takes 2 GB
//! before anything else happens, and thirty times `x || x` a billion times `x`. So what a call would make is computed
//! from its arguments, and refused, before the engine's own function is called.
//!
//! | file | what is there |
//! |---|---|
//! | `bounded` | the engine's functions, each with its limit |
//! | `estimate` | what a call makes of a row |
//! | `column` | the arguments of a call |
//! | `concatenation` | `a || b` |
//! | `width` | types of fixed size that are refused |
//! | `literals` | long constants: how many rows may be computed at a time |

mod bounded;
mod column;
mod concatenation;
mod estimate;
mod literals;
mod width;

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{BinaryExpr, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{Expr, Operator, ScalarUDF, ScalarUDFImpl};

use self::bounded::Bounded;
use self::concatenation::concatenation;
pub(super) use self::literals::with_short_batches;
use self::width::check_width;

type Result<T> = std::result::Result<T, DataFusionError>;

/// Memory beyond that of queries up to which the server may grow before calls that make much are refused.
const ROOM_BYTES: u64 = 1 << 30;

/// Puts functions with a limit in the place of those that have none, and refuses types of fixed size that are too
/// large or have nothing. It does so while a plan is analyzed, since syntax such as `[a, b]` does not look functions up
/// by their names.
#[derive(Debug)]
pub(super) struct BoundedFunctions {
    ceiling: u64,
}

impl BoundedFunctions {
    /// For a server whose queries may hold `memory_bytes`.
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self { ceiling: (memory_bytes as u64).saturating_add(ROOM_BYTES) }
    }
}

impl FunctionRewrite for BoundedFunctions {
    fn name(&self) -> &str {
        "BoundedFunctions"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        check_width(&expr, schema)?;
        Ok(bounded(expr, self.ceiling))
    }
}

fn bounded(expr: Expr, ceiling: u64) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(call) => match Bounded::over(&call.func, ceiling) {
            Some(func) => Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args })),
            None => Transformed::no(Expr::ScalarFunction(call)),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            let func = concatenation();
            let func = Bounded::over(&func, ceiling).unwrap_or(func);
            Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: vec![*left, *right] }))
        }
        other => Transformed::no(other),
    }
}

/// A function as a part of an expression.
fn function(implementation: impl ScalarUDFImpl + 'static) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(implementation))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use datafusion::execution::FunctionRegistry;
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::error::Kind;
    use crate::query::failure::query_error;

    fn session() -> SessionContext {
        let mut state = SessionStateBuilder::new_with_default_features().build();
        state.register_function_rewrite(Arc::new(BoundedFunctions::new(64 << 30))).unwrap();
        SessionContext::new_with_state(state)
    }

    async fn text(query: &str) -> std::result::Result<String, crate::error::Error> {
        let batches = async { session().sql(query).await?.collect().await }.await.map_err(query_error)?;
        let column = arrow::compute::cast(batches[0].column(0), &arrow::datatypes::DataType::Utf8).unwrap();
        Ok(column.as_string::<i32>().value(0).into())
    }

    const ROW: &str =
        "from (select i, case when i > 0 then 'aé' end s, ['a', 'b'] l from generate_series(1, 3) t(i)) v limit 1";

    #[tokio::test]
    async fn results_are_those_of_the_engine() {
        for (call, result) in [
            ("repeat(s, 3)", "aéaéaé"),
            ("lpad(s, 5, 'xy')", "xyxaé"),
            ("rpad(s, 4)", "aé  "),
            ("replace(s, 'a', 'bb')", "bbé"),
            ("regexp_replace(s, '(.)', '<\\1>', 'g')", "<a><é>"),
            ("translate(s, 'a', 'ü')", "üé"),
            ("concat(s, s, 'x')", "aéaéx"),
            ("concat_ws('-', s, s)", "aé-aé"),
            ("s || '-' || s || 1", "aé-aé1"),
            ("encode(s::bytea, 'hex')", "61c3a9"),
            ("array_to_string(l || ['c'], '+')", "a+b+c"),
            ("array_to_string(array_repeat(s, 2), '+')", "aé+aé"),
            ("array_to_string(array_resize(l, 3, 'z'), '+')", "a+b+z"),
            ("array_to_string([s, s], '+')", "aé+aé"),
            ("array_to_string(range(1, 4), '+')", "1+2+3"),
            ("array_to_string(generate_series(4, 1, -1), '+')", "4+3+2+1"),
            ("array_length(range(date '2024-01-01', date '2024-02-01', interval '1 day'))", "31"),
            (
                "array_length(generate_series(arrow_cast(timestamp '2021-01-01', 'Timestamp(s)'), \
                 timestamp '2021-01-01 15:00:00', interval '1 hour'))",
                "16",
            ),
            ("array_length(range(arrow_cast(date '2024-01-01', 'Date64'), date '2024-01-03', interval '1 day'))", "2"),
            ("array_to_string(array_replace_all(l, 'a', 'cc'), '+')", "cc+b"),
            ("levenshtein(s, 'ab')", "1"),
            ("overlay(s placing 'xx' from 1 for 1)", "xxé"),
        ] {
            assert_eq!(text(&format!("select {call} {ROW}")).await.unwrap(), result, "{call}");
        }
    }

    #[tokio::test]
    async fn what_would_be_too_large_is_refused() {
        let large = "repeat(s, 3000000)";
        for call in [
            "repeat(s, 100000000)".to_string(),
            "repeat('x', 300000000)".into(),
            "lpad(s, 300000000)".into(),
            "rpad('x', 300000000, 'é')".into(),
            "range(i, 1000000000)".into(),
            "range(1000000000)".into(),
            "generate_series(1000000000, i, -1)".into(),
            "generate_series(timestamp '2024-01-01', timestamp '2025-01-01', interval '1 nanosecond')".into(),
            "array_repeat(i, 1000000000)".into(),
            "array_repeat(array_repeat(s, 100000), 100000)".into(),
            "array_resize(l, 1000000000)".into(),
            "replace(repeat(s, 100000), 'a', repeat('x', 100000))".into(),
            "regexp_replace(repeat(s, 100000), 'a', repeat('x', 100000), 'g')".into(),
            format!("concat({})", vec![large; 40].join(", ")),
            vec![large; 40].join(" || "),
            format!("array_to_string([{}], '')", vec![large; 40].join(", ")),
            format!("array_to_string(array_repeat('x', 10000000), {large})"),
            format!("array_replace_all(array_repeat('x', 1000000), 'x', {large})"),
            "to_char(timestamp '2024-01-01', repeat('%c', 30000000))".into(),
            format!("levenshtein({large}, {large})"),
        ] {
            let error = text(&format!("select {call} {ROW}")).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Exhausted, "{call}: {error}");
        }
    }

    #[tokio::test]
    async fn types_of_fixed_size_are_small_and_not_empty() {
        for (query, kind) in [
            ("select null::int[2000000000]", Some(Kind::Invalid)),
            ("select [[null]]::int[20000][20000]", Some(Kind::Invalid)),
            ("select try_cast(null as int[2000000000])", Some(Kind::Invalid)),
            ("select arrow_cast(null, 'FixedSizeBinary(2000000000)')", Some(Kind::Invalid)),
            (
                "select arrow_cast(i, 'List(FixedSizeList(2000000000, Int64))') from (select [] i) t",
                Some(Kind::Invalid),
            ),
            ("select arrow_cast([], 'FixedSizeList(0, Null)') from generate_series(1, 3)", Some(Kind::Invalid)),
            ("select arrow_cast([i], 'List(FixedSizeList(0, Int64))') from (select [] i) t", Some(Kind::Invalid)),
            ("select array_length(arrow_cast([1, 2, 3], 'FixedSizeList(3, Int64)'))", None),
        ] {
            assert_eq!(text(query).await.err().map(|error| error.kind()), kind, "{query}");
        }
    }

    #[tokio::test]
    async fn an_estimate_that_is_too_high_refuses_nothing() {
        // Each of a hundred rows may become as long as all of them may be together, and none does.
        let query = "select sum(length(replace(repeat('x', 2000000), 'xy', repeat('z', i)))) from \
                     generate_series(50, 149) t(i)";
        assert_eq!(text(query).await.unwrap(), "200000000");
    }

    #[tokio::test]
    async fn columns_keep_their_names() {
        let plan = session().sql("select s || 'x', concat(s, s) from (select 'a' s) t").await.unwrap();
        let names = |plan: &datafusion::logical_expr::LogicalPlan| {
            plan.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
        };
        let before = names(plan.logical_plan());
        let optimized = plan.into_optimized_plan().unwrap();
        assert_eq!(names(&optimized), before);
        assert_eq!(before.len(), 2);
    }
}
