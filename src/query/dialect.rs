//! The SQL that is understood: the engine's own, and `VERSION AS OF`, `TIMESTAMP AS OF` behind a table.
//!
//! The engine's planner passes over such a clause without a word and would answer with the whole table. So they are
//! parsed here, and each is turned into the table's name for that version ([`name_versions`]) before it is planned;
//! what cannot be is refused.

use std::any::TypeId;
use std::ops::ControlFlow;

use datafusion::common::DFSchema;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr as LogicalExpr;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor, TableVersion, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

use super::complexity::{check_expression, check_statement};
use super::failure::OrQueryError;
use super::table_name::parse_instant;
use crate::clock::format_instant;
use crate::error::{Error, Result};

/// How deep expressions may nest.
const MAX_NESTING: usize = 50;

/// The engine's default dialect with table versions. A name cannot begin with `@`: `dataset @v1` would be an alias.
#[derive(Debug)]
pub(super) struct VersionedDialect;

macro_rules! as_generic {
    ($($method:ident),* $(,)?) => {
        $(fn $method(&self) -> bool {
            GenericDialect.$method()
        })*
    };
}

impl Dialect for VersionedDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch != '@' && GenericDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    /// The parser takes all that follows `IS DISTINCT FROM` for its operand, `AND` and `OR` too.
    fn parse_infix(
        &self,
        parser: &mut Parser<'_>,
        expr: &Expr,
        _: u8,
    ) -> Option<std::result::Result<Expr, ParserError>> {
        let is_not = parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]);
        if !is_not && !parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
            return None;
        }
        let left = Box::new(expr.clone());
        Some(parser.parse_subexpr(self.prec_value(Precedence::Is)).map(|right| match is_not {
            true => Expr::IsNotDistinctFrom(left, Box::new(right)),
            false => Expr::IsDistinctFrom(left, Box::new(right)),
        }))
    }

    as_generic! {
        supports_unicode_string_literal,
        supports_partition_by_after_order_by,
        supports_array_join_syntax,
        supports_group_by_expr,
        supports_group_by_with_modifier,
        supports_left_associative_joins_without_parens,
        supports_connect_by,
        supports_match_recognize,
        supports_pipe_operator,
        supports_start_transaction_modifier,
        supports_window_function_null_treatment_arg,
        supports_dictionary_syntax,
        supports_window_clause_named_window_reference,
        supports_parenthesized_set_variables,
        supports_select_wildcard_except,
        support_map_literal_syntax,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_extract_comma_syntax,
        supports_create_view_comment_syntax,
        supports_parens_around_table_factor,
        supports_values_as_table_factor,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_limit_comma,
        supports_update_order_by,
        supports_from_first_select,
        supports_projection_trailing_commas,
        supports_asc_desc_in_column_definition,
        supports_try_convert,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_assignment_operator,
        supports_struct_literal,
        supports_empty_projections,
        supports_nested_comments,
        supports_multiline_comment_hints,
        supports_user_host_grantee,
        supports_string_escape_constant,
        supports_array_typedef_with_brackets,
        supports_match_against,
        supports_set_names,
        supports_comma_separated_set_assignments,
        supports_filter_during_aggregation,
        supports_select_wildcard_exclude,
        supports_data_type_signed_suffix,
        supports_interval_options,
        supports_quote_delimited_string,
        supports_select_wildcard_replace,
        supports_select_wildcard_ilike,
        supports_select_wildcard_rename,
        supports_optimize_table,
        supports_install,
        supports_detach,
        supports_prewhere,
        supports_with_fill,
        supports_limit_by,
        supports_interpolate,
        supports_settings,
        supports_select_format,
        supports_comment_optimizer_hint,
        supports_constraint_keyword_without_name,
        supports_key_column_option,
        supports_comma_separated_trim,
        supports_cte_without_as,
        supports_select_item_multi_column_alias,
        supports_xml_expressions,
    }
}

/// Parses the one statement of a text, and names the versions that it asks for.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when it does not parse, holds several statements, a version that is
/// no literal, or more than the planner may be asked for.
pub(super) fn parse(sql: &str) -> Result<Statement> {
    let parser = DFParserBuilder::new(sql).with_dialect(&VersionedDialect).with_recursion_limit(MAX_NESTING).build();
    let mut statements = parser.or_query_error()?.parse_statements().or_query_error()?;
    let mut statement = match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => statement,
        (None, _) => return Err(Error::invalid("the SQL is empty")),
        (Some(_), false) => {
            return Err(Error::invalid("only one statement can be run at a time; send them one by one"));
        }
    };
    check_statement(&statement)?;
    name_versions(&mut statement)?;
    Ok(statement)
}

/// Parses an expression over the columns of `schema`.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when it does not parse, names an unknown column or
/// is more than the planner may be asked for.
pub(super) fn parse_expression(session: &SessionState, text: &str, schema: &DFSchema) -> Result<LogicalExpr> {
    let parser = DFParserBuilder::new(text).with_dialect(&VersionedDialect).with_recursion_limit(MAX_NESTING).build();
    let parsed = parser.or_query_error()?.parse_into_expr().or_query_error()?;
    check_expression(&parsed.expr)?;
    session.create_logical_expr_from_sql_expr(parsed, schema).or_query_error()
}

/// Puts `table@version=N` in place of `table VERSION AS OF N`, and so on, wherever a table stands.
fn name_versions(statement: &mut Statement) -> Result<()> {
    let inner = match statement {
        Statement::Statement(inner) => inner,
        Statement::Explain(explain) => return name_versions(&mut explain.statement),
        _ => return Ok(()),
    };
    match inner.visit(&mut VersionNames) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct VersionNames;

impl VisitorMut for VersionNames {
    type Break = Error;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, version, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(version) = version.take() else { return ControlFlow::Continue(()) };
        match name_version(name, &version) {
            Ok(table) => {
                // Columns are still qualified by the table's own name.
                alias.get_or_insert(TableAlias { explicit: true, name: table, columns: Vec::new(), at: None });
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Makes the name that of a version; gives the table's own.
fn name_version(name: &mut ObjectName, version: &TableVersion) -> Result<Ident> {
    let suffix = match version {
        TableVersion::VersionAsOf(Expr::Value(value)) => match &value.value {
            Value::Number(number, _) => format!("@version={number}"),
            _ => return Err(not_literal("VERSION", "a number")),
        },
        TableVersion::TimestampAsOf(instant) | TableVersion::ForSystemTimeAsOf(instant) => {
            let text = literal_text(instant).ok_or_else(|| not_literal("TIMESTAMP", "an instant in quotes"))?;
            format!("@as_of={}", format_instant(parse_instant(text)?))
        }
        TableVersion::VersionAsOf(_) => return Err(not_literal("VERSION", "a number")),
        TableVersion::Function(_) | TableVersion::Changes { .. } => {
            return Err(Error::invalid(
                "this way to name a state of a table is not understood; use VERSION AS OF 3 or TIMESTAMP AS OF \
                 '2024-06-01T00:00:00Z'",
            ));
        }
    };
    let Some(ObjectNamePart::Identifier(last)) = name.0.last_mut() else {
        return Err(Error::invalid("only a table has versions"));
    };
    if last.value.contains(['@', '$']) {
        return Err(Error::invalid(format!("'{}' names a version already; give it once", last.value)));
    }
    // Without quotes a name would fold to lower case, which the suffix must not.
    let table = if last.quote_style.is_some() { last.value.clone() } else { last.value.to_lowercase() };
    *last = Ident::with_quote('"', format!("{table}{suffix}"));
    Ok(Ident::with_quote('"', table))
}

fn not_literal(what: &str, wanted: &str) -> Error {
    Error::invalid(format!("{what} AS OF takes {wanted}, not an expression"))
}

/// The text of `'…'`, `TIMESTAMP '…'` or `'…'::timestamp`.
fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        Expr::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        Expr::Cast { expr, .. } => literal_text(expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_become_names_wherever_a_table_stands() {
        for (sql, name) in [
            ("select * from S.T version as of 3", "S.\"t@version=3\""),
            ("select 1 from (select * from \"A b\" VERSION AS OF 3 x) y", "\"A b@version=3\""),
            (
                "with c as (select * from t timestamp as of '2024-06-01') table c",
                "\"t@as_of=2024-06-01T00:00:00.000000Z\"",
            ),
            (
                "explain select * from t for system_time as of timestamp '2024-06-01'",
                "\"t@as_of=2024-06-01T00:00:00.000000Z\"",
            ),
            ("select * from a join t version as of 1 using (x)", "\"t@version=1\""),
        ] {
            let parsed = parse(sql).unwrap().to_string();
            assert!(parsed.contains(name), "{sql}: {parsed}");
        }
    }

    #[test]
    fn what_cannot_be_named_is_refused() {
        for sql in [
            "select * from t timestamp as of now()",
            "select * from t at(timestamp => '2024-06-01')",
            "select * from \"t@last\" version as of 1",
            "select * from t version as of 1; select 1",
            "select * from t @v1",
            "",
        ] {
            assert!(parse(sql).is_err(), "{sql}");
        }
    }
}
