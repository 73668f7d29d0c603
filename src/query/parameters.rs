//! Parameters of statements: `?` and `$1` in the text, and their values in a record batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::dialect::VersionedDialect;
use super::failure::OrQueryError;
use super::session::MAX_STATEMENT_BYTES;
use crate::error::{Error, Result, shorten};
use crate::table::sql_type;

/// Parameters of one statement.
const MAX_PARAMETERS: usize = 4_096;

/// Values for the parameters of a statement: a column for each, in order, and a row for each run of the statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters(RecordBatch);

impl Parameters {
    /// Takes values as a client sends them. Dictionaries become their values and unions what they hold, since drivers
    /// that do not know the type of a parameter send it so.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for a union whose rows hold several types.
    pub fn new(batch: &RecordBatch) -> Result<Self> {
        let plain = |(place, column): (usize, &ArrayRef)| {
            let column = match column.data_type() {
                DataType::Union(..) => out_of_union(place, column)?,
                _ => Arc::clone(column),
            };
            let wanted = sql_type(column.data_type());
            cast(&column, &wanted).map_err(|error| {
                Error::invalid(format!("parameter ${} is of a type that cannot be used", place + 1)).because(error)
            })
        };
        let columns = batch.columns().iter().enumerate().map(plain).collect::<Result<Vec<ArrayRef>>>()?;
        let name = |(place, column): (usize, &ArrayRef)| {
            Field::new(format!("${}", place + 1), column.data_type().clone(), true)
        };
        let schema = Schema::new(columns.iter().enumerate().map(name).collect::<Vec<_>>());
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::new(schema), columns, &options);
        batch.map(Self).map_err(|error| Error::internal("parameters cannot be put together").because(error))
    }

    /// The values, in columns named `$1`, `$2` and so on.
    pub fn batch(&self) -> &RecordBatch {
        &self.0
    }

    /// How often the statement is to be run.
    pub fn rows(&self) -> usize {
        self.0.num_rows()
    }

    /// The values of one run.
    ///
    /// # Errors
    /// [`Kind::Internal`](crate::error::Kind::Internal) when there is no such row.
    pub(super) fn row(&self, row: usize) -> Result<Vec<ScalarValue>> {
        self.0.columns().iter().map(|column| ScalarValue::try_from_array(column, row).or_query_error()).collect()
    }
}

fn out_of_union(place: usize, column: &ArrayRef) -> Result<ArrayRef> {
    let value = |row| match ScalarValue::try_from_array(column, row).or_query_error()? {
        ScalarValue::Union(Some((_, inner)), ..) => Ok(*inner),
        other => Ok(other),
    };
    let values = (0..column.len()).map(value).collect::<Result<Vec<ScalarValue>>>()?;
    if values.is_empty() {
        return Ok(arrow::array::new_empty_array(&DataType::Null));
    }
    ScalarValue::iter_to_array(values).map_err(|error| {
        Error::invalid(format!("parameter ${} has values of several types; give it one", place + 1)).because(error)
    })
}

/// The text with `$1`, `$2` and so on in place of question marks.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when it has both forms.
pub fn number_placeholders(sql: &str) -> Result<String> {
    // What is too long is told so before it is parsed.
    if sql.len() > MAX_STATEMENT_BYTES || !sql.contains('?') {
        return Ok(sql.into());
    }
    // Text that is not even words and signs is told so by the parser.
    let Ok(tokens) = Tokenizer::new(&VersionedDialect, sql).tokenize_with_location() else { return Ok(sql.into()) };
    let lines: Vec<&str> = sql.split_inclusive('\n').collect();
    let (mut numbered, mut copied, mut count) = (String::with_capacity(sql.len() + 16), 0, 0);
    for token in &tokens {
        let Token::Placeholder(name) = &token.token else { continue };
        if name != "?" {
            return Err(Error::invalid("the SQL has both '?' and '$1' for parameters; use one of the two"));
        }
        let at = byte_of(&lines, token.span.start.line, token.span.start.column);
        count += 1;
        numbered.push_str(sql.get(copied..at).unwrap_or_default());
        numbered.push_str(&format!("${count}"));
        copied = at + 1;
    }
    numbered.push_str(sql.get(copied..).unwrap_or_default());
    Ok(numbered)
}

/// Where a character stands, from its line and column, which count from 1.
fn byte_of(lines: &[&str], line: u64, column: u64) -> usize {
    let (line, column) = (line.saturating_sub(1) as usize, column.saturating_sub(1) as usize);
    let before: usize = lines.iter().take(line).map(|text| text.len()).sum();
    let within = lines.get(line).and_then(|text| text.char_indices().nth(column)).map_or(0, |(at, _)| at);
    before + within
}

/// The parameters that a plan has, with the types it wants them in where that is known.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for a parameter that is not `$1`, `$2` and so on.
pub(super) fn wanted_types(plan: &LogicalPlan) -> Result<Vec<Option<DataType>>> {
    let mut wanted: Vec<Option<DataType>> = Vec::new();
    let mut want = |id: &str, data_type: Option<DataType>| {
        let number = id.strip_prefix('$').and_then(|number| number.parse().ok()).unwrap_or_default();
        if !(1..=MAX_PARAMETERS).contains(&number) {
            return Err(Error::invalid(format!(
                "the parameter '{}' is not one of $1 to ${MAX_PARAMETERS}",
                shorten(id)
            )));
        }
        if wanted.len() < number {
            wanted.resize(number, None);
        }
        if let Some(known) = wanted.get_mut(number - 1) {
            *known = known.take().or(data_type);
        }
        Ok(())
    };
    for (id, data_type) in typed_placeholders(plan)? {
        want(&id, data_type)?;
    }
    for id in limits(plan)? {
        want(&id, Some(DataType::Int64))?;
    }
    Ok(wanted)
}

/// The placeholders of a plan with the types that the planner found for them. One that stands beside values of several
/// types has the type that all of them are compared in, or none. (The engine's own way to ask refuses such a plan.)
fn typed_placeholders(plan: &LogicalPlan) -> Result<BTreeMap<String, Option<DataType>>> {
    let mut found: BTreeMap<String, Option<DataType>> = BTreeMap::new();
    let mut note = |expr: &Expr| {
        if let Expr::Placeholder(placeholder) = expr {
            // What stands in a string's place may be of any string type.
            let new = placeholder.field.as_ref().map(|field| sql_type(field.data_type()));
            match (found.get(&placeholder.id).cloned().flatten(), new) {
                (Some(known), Some(new)) if known != new => {
                    found.insert(placeholder.id.clone(), comparison_coercion(&known, &new));
                }
                (Some(_), _) => {}
                (None, new) => {
                    found.insert(placeholder.id.clone(), new);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    };
    let visit = |node: &LogicalPlan| node.apply_expressions(|expr| expr.apply(&mut note));
    plan.apply_with_subqueries(visit).or_query_error()?;
    Ok(found)
}

/// The parameters that stand for numbers of rows.
fn limits(plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let visit = |node: &LogicalPlan| {
        if let LogicalPlan::Limit(limit) = node {
            for expr in [&limit.skip, &limit.fetch].into_iter().flatten() {
                if let Expr::Placeholder(placeholder) = expr.as_ref() {
                    found.push(placeholder.id.clone());
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    };
    plan.apply_with_subqueries(visit).or_query_error()?;
    Ok(found)
}

/// The plan with values in place of its parameters.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when there are more or fewer values than parameters, or a value is
/// not what its place wants.
pub(super) fn bind(plan: LogicalPlan, values: Vec<ScalarValue>) -> Result<LogicalPlan> {
    let wanted = wanted_types(&plan)?;
    if wanted.len() != values.len() {
        return Err(Error::invalid(format!(
            "the statement has {} parameters, and {} values were given",
            wanted.len(),
            values.len()
        )));
    }
    if wanted.is_empty() {
        return Ok(plan);
    }
    let fit = |(place, (value, wanted)): (usize, (ScalarValue, Option<DataType>))| as_wanted(place, value, wanted);
    let values = values.into_iter().zip(wanted).enumerate().map(fit).collect::<Result<Vec<ScalarValue>>>()?;
    plan.with_param_values(ParamValues::from(values)).or_query_error()
}

/// Text becomes what its place wants, and so do nulls; other values are left to the planner, which never loses digits.
fn as_wanted(place: usize, value: ScalarValue, wanted: Option<DataType>) -> Result<ScalarValue> {
    let is_text = matches!(value, ScalarValue::Utf8(_));
    match wanted {
        Some(wanted) if is_text || value.is_null() || matches!(wanted, DataType::Int64) && is_whole(&value) => {
            let cast = value.cast_to(&wanted);
            cast.map_err(|error| {
                let shown = shorten(&value.to_string());
                Error::invalid(format!("parameter ${}: '{shown}' is no {wanted}", place + 1)).because(error)
            })
        }
        _ => Ok(value),
    }
}

fn is_whole(value: &ScalarValue) -> bool {
    value.data_type().is_integer()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray, UnionArray};
    use arrow::buffer::ScalarBuffer;
    use arrow::datatypes::UnionFields;

    use super::*;

    #[test]
    fn question_marks_are_numbered_where_they_stand_for_values() {
        for (sql, numbered) in [
            ("select ?, '?', \"?\" -- ?\n, ?", "select $1, '?', \"?\" -- ?\n, $2"),
            ("select 'é', ?", "select 'é', $1"),
            ("select\n'üü' ,\n  ?+? /* ? */", "select\n'üü' ,\n  $1+$2 /* ? */"),
            ("select $1", "select $1"),
            ("select 'a", "select 'a"),
        ] {
            assert_eq!(number_placeholders(sql).unwrap(), numbered);
        }
        assert!(number_placeholders("select ?, $1").is_err());
    }

    #[test]
    fn values_in_unions_come_out() {
        let fields = UnionFields::try_new(
            [0, 1],
            [Field::new("s", DataType::Utf8, true), Field::new("i", DataType::Int64, true)],
        );
        let children: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(Vec::<&str>::new())), Arc::new(Int64Array::from(vec![7]))];
        let offsets = Some(ScalarBuffer::from(vec![0]));
        let union = UnionArray::try_new(fields.unwrap(), ScalarBuffer::from(vec![1i8]), offsets, children).unwrap();
        let batch = RecordBatch::try_from_iter([("param_0", Arc::new(union) as ArrayRef)]).unwrap();
        let parameters = Parameters::new(&batch).unwrap();
        assert_eq!(parameters.row(0).unwrap(), [ScalarValue::Int64(Some(7))]);
        assert_eq!(parameters.batch().schema().field(0).name(), "$1");
    }
}
