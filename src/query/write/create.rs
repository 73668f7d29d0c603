//! `CREATE TABLE`, also with a query, and `DROP TABLE`.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, LogicalPlan};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    ColumnDef, ColumnOption, CreateTable, CreateTableOptions, DataType as SqlType, ExactNumberInfo, Expr,
    HiveDistributionStyle, Ident, ObjectName, SqlOption, Statement, Value,
};

use super::insert::{Intake, MakesVersion, Source};
use super::names::{WrittenTable, folded};
use super::session::{Computing, WriteSession};
use super::statement::refuse;
use super::{Run, WriteOutcome};
use crate::auth::Access;
use crate::error::{Error, Kind, Result, shorten};
use crate::names::ExternalKey;
use crate::table::{ColumnsKeys, Creation, KeyKind, WriteKind, parse_columns_keys, sql_type};

/// What a `CREATE TABLE` says beside columns and query.
#[derive(Debug, Default)]
struct Options {
    external_key: Option<String>,
    /// The kind of each key; `None` where its type tells.
    keys: Vec<(String, Option<KeyKind>)>,
}

impl Run<'_> {
    /// Makes a dataset: its first version is a load of what the query gives, or of no rows.
    pub(super) async fn create(&self, mut create: CreateTable) -> Result<WriteOutcome> {
        check(&create)?;
        let name = WrittenTable::read(&create.name, self.options)?.dataset()?;
        let options = Options::take(&mut create)?;
        create.columns.iter_mut().for_each(|column| widen_float(&mut column.data_type));
        let creation = match (create.or_replace, create.if_not_exists) {
            (true, true) => return Err(Error::invalid("OR REPLACE and IF NOT EXISTS contradict each other")),
            (true, false) => Creation::Replace,
            (false, _) => Creation::MustCreate,
        };
        let if_not_exists = create.if_not_exists;
        if if_not_exists {
            // With the right that making it takes, although nothing is made.
            match self.in_time(self.engine.datasets.open(self.caller, &name, Access::Write)).await {
                Ok(_) => return Ok(WriteOutcome::default()),
                Err(error) if error.kind() == Kind::Forbidden => return Err(error),
                Err(_) => {}
            }
        }
        let outcome = async {
            let not_null = not_null(&create.columns);
            let (session, plan) = self.in_time(self.created(create)).await?;
            let schema = created_schema(&plan, &not_null);
            let mut request = self.load_request(WriteKind::Create)?;
            request.external_key = ExternalKey::parse(options.external_key.as_deref())?;
            request.columns_keys = options.keys_of(&schema)?;
            let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
            let load = self.begin(&name, creation, request, Arc::clone(&schema)).await?;
            let intake = Intake::new(&schema, &columns)?;
            self.load(load, Source { session, plan }, intake, MakesVersion::Always).await
        };
        match outcome.await {
            // Another call made it meanwhile.
            Err(error) if if_not_exists && error.kind() == Kind::AlreadyExists => Ok(WriteOutcome::default()),
            outcome => outcome,
        }
    }

    /// The query of a new table; without one, a query of its columns that gives no rows.
    async fn created(&self, create: CreateTable) -> Result<(WriteSession, LogicalPlan)> {
        let session = self.session(Computing::Parallel).await?;
        let planning = session.clone();
        let statement = EngineStatement::Statement(Box::new(Statement::CreateTable(create)));
        let plan = self.engine.cpu.run(async move { planning.plan_created(statement).await }).await?;
        Ok((session, plan))
    }

    /// Ends a dataset.
    pub(super) async fn drop_table(&self, table: &ObjectName, if_exists: bool) -> Result<WriteOutcome> {
        let table = WrittenTable::read(table, self.options)?;
        let dropped = self.engine.datasets.delete(self.caller, &table.dataset()?).await;
        match dropped {
            Err(error) if if_exists && error.kind() == Kind::NotFound => Ok(WriteOutcome::default()),
            dropped => dropped.map(|()| WriteOutcome::default()),
        }
    }
}

impl WriteSession {
    async fn plan_created(&self, statement: EngineStatement) -> Result<LogicalPlan> {
        match self.plan_unchecked(statement).await? {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(CreateMemoryTable { input, .. })) => {
                self.checked(input.as_ref().clone())
            }
            _ => Err(Error::internal("CREATE TABLE was planned as something else")),
        }
    }
}

fn created_schema(plan: &LogicalPlan, not_null: &[String]) -> SchemaRef {
    // That a query gives no nulls does not mean that the table is to have none.
    let field =
        |field: &Arc<Field>| Field::new(field.name(), sql_type(field.data_type()), !not_null.contains(field.name()));
    Arc::new(Schema::new(plan.schema().fields().iter().map(field).collect::<Vec<_>>()))
}

/// Refuses the forms that are not understood here; the engine's planner refuses the others.
fn check(create: &CreateTable) -> Result<()> {
    refuse(!create.constraints.is_empty(), "CREATE TABLE", "constraints other than NOT NULL")?;
    let options = create.columns.iter().flat_map(|column| &column.options);
    for option in options {
        let is_kept = matches!(option.option, ColumnOption::Null | ColumnOption::NotNull | ColumnOption::Comment(_));
        refuse(!is_kept, "CREATE TABLE", &format!("'{}'", shorten(&option.to_string())))?;
    }
    let has_columns = !create.columns.is_empty() || create.query.is_some();
    if !has_columns { Err(Error::invalid("CREATE TABLE takes columns, or AS and a query")) } else { Ok(()) }
}

/// `FLOAT(53)` is a double in standard SQL; the engine would make it a single.
fn widen_float(data_type: &mut SqlType) {
    if let SqlType::Float(ExactNumberInfo::Precision(digits)) = data_type
        && *digits > u64::from(f32::MANTISSA_DIGITS)
    {
        *data_type = SqlType::DoublePrecision;
    }
}

fn not_null(columns: &[ColumnDef]) -> Vec<String> {
    let is_not_null = |column: &&ColumnDef| column.options.iter().any(|o| matches!(o.option, ColumnOption::NotNull));
    columns.iter().filter(is_not_null).map(|column| folded(&column.name)).collect()
}

impl Options {
    /// Takes the parts that the engine's planner does not know.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an option that there is not.
    fn take(create: &mut CreateTable) -> Result<Self> {
        let mut options = Self::default();
        match std::mem::replace(&mut create.hive_distribution, HiveDistributionStyle::NONE) {
            HiveDistributionStyle::NONE => {}
            HiveDistributionStyle::PARTITIONED { columns } => {
                options.keys.extend(columns.iter().map(|column| (folded(&column.name), None)));
            }
            HiveDistributionStyle::SKEWED { .. } => refuse(true, "CREATE TABLE", "SKEWED BY")?,
        }
        if let Some(partition_by) = create.partition_by.take() {
            options.keys.extend(key_names(&partition_by)?.into_iter().map(|name| (name, None)));
        }
        match std::mem::take(&mut create.table_options) {
            CreateTableOptions::None => {}
            CreateTableOptions::With(given) | CreateTableOptions::Options(given) => {
                given.iter().try_for_each(|option| options.set(option))?;
            }
            _ => refuse(true, "CREATE TABLE", "options other than WITH (external_key = …, columns_keys = …)")?,
        }
        Ok(options)
    }

    fn set(&mut self, option: &SqlOption) -> Result<()> {
        let unknown = || {
            let shown = shorten(&option.to_string());
            Error::invalid(format!("CREATE TABLE: '{shown}' is no option; there are external_key and columns_keys"))
        };
        let SqlOption::KeyValue { key, value: Expr::Value(value) } = option else { return Err(unknown()) };
        let (Value::SingleQuotedString(text) | Value::DoubleQuotedString(text)) = &value.value else {
            return Err(unknown());
        };
        match key.value.to_lowercase().as_str() {
            "external_key" => self.external_key = Some(text.clone()),
            "columns_keys" => {
                for part in text.split(',') {
                    let (name, kind) = part
                        .rsplit_once(':')
                        .ok_or_else(|| Error::invalid("columns_keys is a text such as 'day:Date,item:ID'"))?;
                    let (name, kind) = (name.trim().to_string(), kind.trim().to_string());
                    let parsed = parse_columns_keys([(&name, &kind)])?;
                    self.keys.extend(parsed.into_iter().map(|(name, kind)| (name, Some(kind))));
                }
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// The keys of a table with this schema.
    fn keys_of(&self, schema: &Schema) -> Result<ColumnsKeys> {
        let key = |(name, kind): &(String, Option<KeyKind>)| {
            let field = schema.field_with_name(name).map_err(|_| super::insert::no_column(name, schema))?;
            let kind = kind.unwrap_or(if field.data_type().is_integer() { KeyKind::Id } else { KeyKind::Date });
            Ok((name.clone(), kind))
        };
        self.keys.iter().map(key).collect()
    }
}

/// The columns of `PARTITION BY (a, b)`.
fn key_names(expr: &Expr) -> Result<Vec<String>> {
    let name = |ident: &Ident| vec![folded(ident)];
    match expr {
        Expr::Identifier(ident) => Ok(name(ident)),
        Expr::Nested(inner) => key_names(inner),
        Expr::Tuple(parts) => Ok(parts.iter().map(key_names).collect::<Result<Vec<_>>>()?.concat()),
        other => Err(Error::invalid(format!(
            "PARTITION BY takes columns, not '{}': a Date key partitions by day and an ID key by ranges by itself",
            shorten(&other.to_string())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn the_kind_of_a_key_follows_its_type() {
        let schema = Schema::new(vec![
            Field::new("day", DataType::Date32, true),
            Field::new("text", DataType::Utf8, true),
            Field::new("id", DataType::Int32, true),
        ]);
        let keys = ["day", "text", "id"].map(|name| (name.to_string(), None));
        let options = Options { external_key: None, keys: keys.into() };
        let kinds: Vec<KeyKind> = options.keys_of(&schema).unwrap().into_values().collect();
        assert_eq!(kinds, [KeyKind::Date, KeyKind::Id, KeyKind::Date]);
        let unknown = Options { external_key: None, keys: vec![("x".into(), None)] };
        assert!(unknown.keys_of(&schema).unwrap_err().message().contains("'x'"));
    }
}
