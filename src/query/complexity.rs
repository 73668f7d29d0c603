//! How much a statement may ask of the planner.
//!
//! A planner takes longer than in proportion over long chains of operators, many joins and much that is sorted or
//! grouped by, and a common table expression costs as much as its query each time it is named, so that a few lines can
//! ask for minutes. So the parts of a statement are counted on its syntax, in one walk, before it is planned. Each
//! limit is far above what people and their tools write, and keeps what is below it within seconds.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Delete, Expr, FromTable, GroupByExpr, Ident, ObjectName, ObjectNamePart, OrderByKind, Query, Select, SetExpr,
    SetOperator, Statement as SqlStatement, TableFactor, TableWithJoins, Update, UpdateTableFromKind, Visit, Visitor,
    WindowType,
};

use crate::error::{Error, Result};

/// Operators one after the other, as in `a OR b OR c`, and whatever else nests in one expression.
const MAX_DEPTH: u64 = 1_000;
/// Parts of all expressions, each counted as often as it is deep in its expression.
const MAX_WEIGHT: u64 = 2_000_000;
/// `SELECT` and `VALUES`, those of a common table expression each time it is named.
const MAX_SELECTS: u64 = 500;
/// Joins, `INTERSECT`, `EXCEPT` and subqueries in expressions among them, those of a common table expression each time
/// it is named.
const MAX_JOINS: u64 = 64;
/// What one clause sorts or groups by.
const MAX_KEYS: u64 = 500;
/// Groupings that one `GROUP BY` asks for by `CUBE`, `ROLLUP` and `GROUPING SETS`.
const MAX_GROUPINGS: u64 = 4_096;
/// Functions with `OVER`.
const MAX_WINDOWS: u64 = 200;

/// Checks a statement.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming what it has too many of.
pub(super) fn check_statement(statement: &Statement) -> Result<()> {
    match statement {
        Statement::Statement(inner) => check(inner.as_ref()),
        Statement::Explain(explain) => check_statement(&explain.statement),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => check(query.as_ref()),
            CopyToSource::Relation(_) => Ok(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => Ok(()),
    }
}

/// Checks an expression.
///
/// # Errors
/// As [`check_statement`].
pub(super) fn check_expression(expression: &Expr) -> Result<()> {
    check(expression)
}

fn check(syntax: &impl Visit) -> Result<()> {
    let mut counted = Walk::default();
    match syntax.visit(&mut counted) {
        ControlFlow::Continue(()) => counted.verdict(),
        ControlFlow::Break(never) => match never {},
    }
}

/// What planning a query costs.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    selects: u64,
    joins: u64,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.selects = self.selects.saturating_add(other.selects);
        self.joins = self.joins.saturating_add(other.joins);
    }

    fn at_least(&mut self, other: Self) {
        self.selects = self.selects.max(other.selects);
        self.joins = self.joins.max(other.joins);
    }
}

/// A query that is being walked through; the outermost is the statement itself.
#[derive(Debug, Default)]
struct Scope {
    cost: Cost,
    /// Its common table expressions that were walked through, by name.
    known: HashMap<String, Cost>,
    /// The names of those that come next. They are the first queries in a query.
    coming: VecDeque<String>,
}

#[derive(Debug)]
struct Walk {
    scopes: Vec<Scope>,
    most: Cost,
    depth: u64,
    deepest: u64,
    weight: u64,
    keys: u64,
    groupings: u64,
    windows: u64,
}

impl Default for Walk {
    fn default() -> Self {
        let (scopes, most) = (vec![Scope::default()], Cost::default());
        Self { scopes, most, depth: 0, deepest: 0, weight: 0, keys: 0, groupings: 1, windows: 0 }
    }
}

impl Walk {
    fn verdict(mut self) -> Result<()> {
        let whole = self.scopes.pop().unwrap_or_default().cost;
        self.most.at_least(whole);
        let deep = "group parts of it with parentheses, or use IN (…) in place of many comparisons";
        let named = "a WITH query counts each time it is named; store what is used often in a table first";
        for (what, count, limit, way_out) in [
            ("an expression of operators in a chain or nested", self.deepest, MAX_DEPTH, deep),
            ("expressions whose parts, each counted as often as it is deep, are", self.weight, MAX_WEIGHT, deep),
            ("SELECT or VALUES", self.most.selects, MAX_SELECTS, named),
            ("joins, INTERSECT, EXCEPT and subqueries in expressions", self.most.joins, MAX_JOINS, named),
            ("keys in one ORDER BY, GROUP BY or PARTITION BY", self.keys, MAX_KEYS, "name fewer"),
            ("groupings by CUBE, ROLLUP or GROUPING SETS", self.groupings, MAX_GROUPINGS, "ask for fewer columns"),
            ("functions with OVER", self.windows, MAX_WINDOWS, "ask for some of them in another statement"),
        ] {
            if count > limit {
                return Err(Error::invalid(format!(
                    "the SQL takes too long to plan: {what}: {count}, and at most {limit} can be; {way_out}"
                )));
            }
        }
        Ok(())
    }

    fn add(&mut self, cost: Cost) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.cost.add(cost);
        }
    }

    fn add_joins(&mut self, joins: usize) {
        self.add(Cost { selects: 0, joins: joins as u64 });
    }

    fn keys(&mut self, keys: usize) {
        self.keys = self.keys.max(keys as u64);
    }

    fn function_over(&mut self, over: &WindowType) {
        self.windows += 1;
        if let WindowType::WindowSpec(window) = over {
            self.keys(window.order_by.len());
            self.keys(window.partition_by.len());
        }
    }
}

fn joins(tables: &[TableWithJoins]) -> usize {
    tables.len().saturating_sub(1) + tables.iter().map(|table| table.joins.len()).sum::<usize>()
}

/// The `SELECT` and `VALUES` that set operations put together.
fn cost_of_arms(body: &SetExpr) -> Cost {
    let (mut open, mut cost) = (vec![body], Cost::default());
    while let Some(next) = open.pop() {
        match next {
            SetExpr::SetOperation { op, left, right, .. } => {
                open.extend([left.as_ref(), right.as_ref()]);
                // The others are joins to the planner.
                cost.joins += u64::from(*op != SetOperator::Union);
            }
            // It is a query, and counted as one.
            SetExpr::Query(_) => {}
            _ => cost.selects += 1,
        }
    }
    cost
}

fn groupings(by: &[Expr]) -> u64 {
    let of = |expr: &Expr| match expr {
        Expr::Cube(columns) => 1_u64.checked_shl(columns.len().try_into().unwrap_or(u32::MAX)).unwrap_or(u64::MAX),
        Expr::Rollup(columns) => columns.len() as u64 + 1,
        Expr::GroupingSets(sets) => sets.len() as u64,
        _ => 1,
    };
    by.iter().map(of).fold(1, u64::saturating_mul)
}

/// A name as the planner compares it.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

impl Visitor for Walk {
    type Break = Infallible;

    fn pre_visit_statement(&mut self, statement: &SqlStatement) -> ControlFlow<Infallible> {
        match statement {
            SqlStatement::Update(Update { from: Some(from), .. }) => {
                let (UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) = from;
                self.add_joins(from.len() + joins(from));
            }
            SqlStatement::Delete(Delete { from, using, .. }) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
                self.add_joins(joins(from) + using.as_ref().map_or(0, |using| using.len() + joins(using)));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Infallible> {
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        let coming = named.map(|named| folded(&named.alias.name)).collect();
        self.scopes.push(Scope { cost: cost_of_arms(&query.body), coming, ..Scope::default() });
        if let Some(OrderByKind::Expressions(keys)) = query.order_by.as_ref().map(|order| &order.kind) {
            self.keys(keys.len());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Infallible> {
        let cost = self.scopes.pop().unwrap_or_default().cost;
        self.most.at_least(cost);
        if let Some(outer) = self.scopes.last_mut() {
            match outer.coming.pop_front() {
                Some(name) => _ = outer.known.insert(name, cost),
                None => outer.cost.add(cost),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Infallible> {
        self.add_joins(joins(&select.from) + select.lateral_views.len());
        if let GroupByExpr::Expressions(by, _) = &select.group_by {
            self.keys(by.len());
            self.groupings = self.groupings.max(groupings(by));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Infallible> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, .. } => self.add_joins(table_with_joins.joins.len()),
            TableFactor::Table { name: ObjectName(parts), .. } => {
                if let [ObjectNamePart::Identifier(name)] = parts.as_slice() {
                    let name = folded(name);
                    let cost = self.scopes.iter().rev().find_map(|scope| scope.known.get(&name)).copied();
                    self.add(cost.unwrap_or_default());
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Infallible> {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.weight = self.weight.saturating_add(self.depth);
        match expr {
            Expr::Exists { .. } | Expr::InSubquery { .. } | Expr::Subquery(_) => self.add_joins(1),
            Expr::Function(function) => {
                if let Some(over) = &function.over {
                    self.function_over(over);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Infallible> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::parse;

    fn is_refused(sql: &str) -> bool {
        // Parsing a statement checks it.
        match parse(sql) {
            Ok(_) => false,
            Err(error) if error.message().contains("too long to plan") => true,
            Err(error) => panic!("{error}"),
        }
    }

    fn list(count: usize, separator: &str, item: impl Fn(usize) -> String) -> String {
        (0..count).map(item).collect::<Vec<_>>().join(separator)
    }

    #[test]
    fn what_people_and_tools_write_is_planned() {
        for sql in [
            format!("select * from t where a in ({})", list(10_000, ", ", |i| i.to_string())),
            format!("select * from t where a not in ({})", list(10_000, ", ", |i| format!("'2024-01-01 00:00:{i}'"))),
            format!("select {} from t", list(4_000, ", ", |i| format!("c{i} as \"Column {i}\""))),
            format!("select case {} end from t", list(1_000, " ", |i| format!("when a = {i} then 'v{i}'"))),
            format!("select * from t where {}", list(500, " or ", |i| format!("(a = {i} and b = 'x')"))),
            format!("select * from t0 {}", list(60, " ", |i| format!("left join t{i} on t0.a = t{i}.a"))),
            list(300, " union all ", |i| format!("select a from t{i}")),
            format!("insert into t values {}", list(3_000, ", ", |i| format!("({i}, 'v{i}', null)"))),
            format!(
                "with c0 as (select 1 x), {} select * from c99",
                list(99, ", ", |i| format!("c{} as (select x from c{i})", i + 1))
            ),
        ] {
            assert!(!is_refused(&sql), "{:.60}", sql);
        }
    }

    #[test]
    fn what_takes_a_planner_minutes_is_refused() {
        let doubling = |i| format!("c{} as (select a.x from c{i} a, c{i} b)", i + 1);
        for sql in [
            format!("select {}", list(1_100, "+", |i| i.to_string())),
            format!("select * from t where {}", list(1_100, " or ", |i| format!("a = {i}"))),
            format!("select a{} from t", "::bigint::text".repeat(600)),
            format!("select * from t where {}", list(950, " or ", |i| format!("f(a, {i}, {i}, 1, 2, 3) = {i}"))),
            list(501, " union all ", |i| format!("select {i}")),
            list(501, " union all ", |i| format!("values ({i})")),
            list(66, " intersect ", |i| format!("select {i}")),
            format!("select * from {}", list(66, ", ", |i| format!("t{i}"))),
            format!("select * from t {}", list(65, " ", |i| format!("join t{i} using (a)"))),
            format!("select * from (t {})", list(65, " ", |i| format!("join t{i} using (a)"))),
            format!("update t set a = 1 from {}", list(65, ", ", |i| format!("t{i}"))),
            format!("delete from t where {}", list(65, " and ", |i| format!("exists (select {i})"))),
            format!("with c0 as (select 1 x), {} select 1", list(20, ", ", doubling)),
            format!("explain with c0 as (select 1 x), {} select 1", list(20, ", ", doubling)),
            format!("with C0 as (select 1 x), {} select 1", list(20, ", ", doubling)),
            format!("select a from t order by {}", list(501, ", ", |i| format!("a + {i}"))),
            format!("select 1 from t group by {}", list(501, ", ", |i| format!("a + {i}"))),
            format!("select 1 from t group by cube ({})", list(13, ", ", |i| format!("c{i}"))),
            "select 1 from t group by cube (a, b, c, d, e, f, g), cube (h, i, j, k, l, m)".into(),
            format!("select {} from t", list(201, ", ", |i| format!("sum(a) over (order by c{i})"))),
            format!("copy (select {}) to 'x'", list(1_100, "+", |i| i.to_string())),
        ] {
            assert!(is_refused(&sql), "{:.80}", sql);
        }
    }

    #[test]
    fn a_name_means_the_nearest_query() {
        let inner = "select * from (with c as (select 1 x) select * from c, c d) e";
        assert!(!is_refused(&format!("with c as ({}) {inner}", list(400, " union ", |i| format!("select {i} x")))));
        let both = format!("with c as ({}) select * from c, c d", list(300, " union ", |i| format!("select {i} x")));
        assert!(is_refused(&both));
        assert!(!is_refused(&both.replace("c, c d", "c, \"C\" d")));
    }
}
