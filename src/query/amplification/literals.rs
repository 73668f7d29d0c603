//! Long constants: how many rows may be computed at a time.
//!
//! A constant is written out for every row of a batch wherever it meets a column, so that a text of 256 KiB becomes
//! 2 GiB. The longer the constants of a statement are together, the fewer rows it computes at a time.

use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::Result;
use super::column::bytes_of;

/// Bytes that the constants of a statement may take once they are written out for the rows of a batch.
const MAX_WRITTEN_BYTES: u64 = 64 << 20;

/// Sets how many rows are computed at a time, for a statement whose constants are long.
///
/// # Errors
/// Those of walking its plan.
pub(in super::super) fn with_short_batches(state: &mut SessionState, plan: &LogicalPlan) -> Result<()> {
    let rows = MAX_WRITTEN_BYTES / constants(plan)?.max(1);
    let batch_size = &mut state.config_mut().options_mut().execution.batch_size;
    let rows = usize::try_from(rows).unwrap_or(usize::MAX).clamp(1, batch_size.get());
    *batch_size = ConfigNonZeroUsize::try_new(rows)?;
    Ok(())
}

/// The bytes of a plan's constants, but for those that values are only looked up among.
fn constants(plan: &LogicalPlan) -> Result<u64> {
    let mut bytes = 0_u64;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::Literal(value, _) => bytes = bytes.saturating_add(size(value)),
                    Expr::InList(_) => return Ok(TreeNodeRecursion::Jump),
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(bytes)
}

fn size(value: &ScalarValue) -> u64 {
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            text.len() as u64
        }
        ScalarValue::Binary(Some(bytes))
        | ScalarValue::LargeBinary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes)) => bytes.len() as u64,
        other if other.data_type().is_nested() => other.to_array().map_or(0, |array| bytes_of(array.as_ref())),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn rows(query: &str) -> usize {
        let session = SessionContext::new();
        let mut state = session.state();
        let plan = state.create_logical_plan(query).await.unwrap();
        let plan = state.optimize(&plan).unwrap();
        with_short_batches(&mut state, &plan).unwrap();
        state.config().batch_size()
    }

    #[tokio::test]
    async fn long_constants_meet_few_rows() {
        let text = |length| format!("select '{}' from generate_series(1, 9) t(i)", "x".repeat(length));
        assert_eq!(rows(&text(10)).await, 8192);
        assert_eq!(rows(&text(64 << 10)).await, 1024);
        assert_eq!(rows("select repeat('x', 32 * 1024 * 1024) from generate_series(1, 9) t(i)").await, 2);
        assert_eq!(rows("select range(0, 1000000) from generate_series(1, 9) t(i)").await, 8);
        let many = (0..9_000).map(|i| format!("'{i:020}'")).collect::<Vec<_>>().join(",");
        assert_eq!(rows(&format!("select i from generate_series(1, 9) t(i) where i::text in ({many})")).await, 8192);
    }
}
