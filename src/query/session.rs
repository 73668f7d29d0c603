//! The session that statements are planned in, and what they may not do.
//!
//! One template is made at the start and cloned for each statement. It has no file formats and no table factories, so
//! that no statement can name a file; what a caller can reach is the catalog of its tenant.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProviderList};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{FunctionRegistry, SessionStateDefaults};
use datafusion::logical_expr::{AggregateUDF, DdlStatement, LogicalPlan};
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::amplification::BoundedFunctions;
use super::cooperative::CooperativeJoins;
use super::describe::{has_parameters, no_values};
use super::dialect::{VersionedDialect, parse};
use super::equalities::physical_rules;
use super::extremes::extremes;
use super::failure::OrQueryError;
use super::options::SessionOptions;
use super::orderings::sound_orderings;
use super::parameters::bind;
use super::planning::stoppable_planning;
use super::statement::Statement;
use super::stop::Stop;
use crate::error::{Error, Result};
use crate::storage::{PLAN_URL, Storage};

/// The one catalog that statements see.
pub const CATALOG: &str = "pandas_db";
/// The schema of a name without one.
pub const DEFAULT_SCHEMA: &str = crate::names::PUBLIC_SCHEMA;
/// Bytes of a statement.
pub const MAX_STATEMENT_BYTES: usize = 256 << 10;
/// Words and signs of a statement; how they may be put together is limited by `complexity`.
const MAX_STATEMENT_TOKENS: usize = 50_000;
/// Parquet footers kept in memory.
const FOOTER_CACHE_BYTES: usize = 128 << 20;

/// Limits of the engine.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Memory that all queries together may hold.
    pub memory_bytes: usize,
    /// Disk that they may spill to.
    pub spill_bytes: u64,
    /// Where they spill.
    pub spill_folder: PathBuf,
    /// Partitions a plan computes in parallel.
    pub threads: usize,
}

/// The template session.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when the engine does not accept the settings.
pub(super) fn template(settings: &SessionSettings, storage: &Storage) -> Result<SessionState> {
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![settings.spill_folder.clone()]))
        .with_max_temp_directory_size(settings.spill_bytes);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(settings.memory_bytes)))
        .with_disk_manager_builder(disk)
        .with_metadata_cache_limit(FOOTER_CACHE_BYTES)
        .build_arc()
        .or_query_error()?;
    let url = store_url()?;
    runtime.register_object_store(url.as_ref(), Arc::clone(storage.store()));
    let mut config = SessionConfig::new()
        .with_target_partitions(settings.threads)
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    // The engine's own rules change what may be null between the two, and the check would refuse sound plans. What is
    // declared to clients is what the physical plan says.
    config.options_mut().execution.skip_physical_aggregate_schema_check = true;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_scalar_functions(sound_orderings(SessionStateDefaults::default_scalar_functions()))
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_physical_optimizer_rules(physical_rules())
        .with_physical_optimizer_rule(Arc::new(CooperativeJoins))
        .build();
    state.register_function_rewrite(Arc::new(BoundedFunctions::new(settings.memory_bytes))).or_query_error()?;
    Ok(state)
}

fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    // A later one takes the place of an earlier one of the same name.
    SessionStateDefaults::default_aggregate_functions().into_iter().chain(extremes()).collect()
}

/// The URL under which plans find the storage.
///
/// # Errors
/// Never, as long as the URL is one.
pub(super) fn store_url() -> Result<ObjectStoreUrl> {
    ObjectStoreUrl::parse(PLAN_URL).or_query_error()
}

/// A session that sees one catalog, and plans until the flag is set.
pub(super) fn session(
    template: &SessionState,
    catalog: Arc<dyn CatalogProvider>,
    options: &SessionOptions,
    stop: &Stop,
) -> SessionContext {
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.into(), catalog);
    let mut config = template.config().clone();
    config.options_mut().catalog.default_schema = options.schema().into();
    let builder = SessionStateBuilder::new_from_existing(template.clone())
        .with_config(config)
        .with_catalog_list(Arc::new(catalogs));
    SessionContext::new_with_state(stoppable_planning(builder, stop).build())
}

/// Checks the text of a statement before it is parsed.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for one that is empty or too long.
pub(super) fn check_text(sql: &str) -> Result<()> {
    if sql.trim().is_empty() {
        return Err(Error::invalid("the SQL is empty"));
    }
    if sql.len() > MAX_STATEMENT_BYTES {
        return Err(Error::invalid(format!(
            "the SQL has {} bytes, and at most {MAX_STATEMENT_BYTES} can be; put long lists of values in a table",
            sql.len()
        )));
    }
    // Text that is not even words and signs is told so by the parser.
    let tokens = Tokenizer::new(&VersionedDialect, sql).tokenize().unwrap_or_default();
    let tokens = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    if tokens > MAX_STATEMENT_TOKENS {
        return Err(Error::invalid(format!(
            "the SQL has {tokens} words and signs, and at most {MAX_STATEMENT_TOKENS} can be; put long lists of \
             values in a table"
        )));
    }
    Ok(())
}

/// Plans a query with its parameters' values in it, and tells whether it has any.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for a statement that does not parse, does not fit its tables or its
/// values, or is not allowed.
pub(super) async fn plan(session: &SessionContext, statement: &Statement) -> Result<(LogicalPlan, bool)> {
    check_text(&statement.sql)?;
    let plan = session.state().statement_to_plan(parse(&statement.sql)?).await.or_query_error()?;
    let plan = only_reads(plan)?;
    let has_parameters = has_parameters(&plan)?;
    let values = match &statement.parameters {
        None if has_parameters => return Err(no_values()),
        None => Vec::new(),
        Some(parameters) if parameters.rows() == 1 => parameters.row(0)?,
        Some(parameters) => {
            return Err(Error::invalid(format!(
                "a query takes one row of values for its parameters, and {} were given; run it once for each",
                parameters.rows()
            )));
        }
    };
    Ok((bind(plan, values)?, has_parameters))
}

/// To explain a statement that writes is to explain the query in it. (To analyze one would be to run it.)
fn explained(plan: LogicalPlan) -> LogicalPlan {
    let LogicalPlan::Explain(mut explain) = plan else { return plan };
    let query = match explain.plan.as_ref() {
        LogicalPlan::Dml(dml) => Some(Arc::clone(&dml.input)),
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => Some(Arc::clone(&create.input)),
        _ => None,
    };
    explain.plan = query.unwrap_or(explain.plan);
    LogicalPlan::Explain(explain)
}

/// A plan, when it does nothing that none may do.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) otherwise.
pub(super) fn only_reads(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = explained(plan);
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(|error| {
        Error::invalid(format!("this statement is not allowed; only queries are: {}", error.strip_backtrace()))
    })?;
    refuse_settings(&plan)?;
    Ok(plan)
}

/// `SHOW ALL` and its like read a table of the server's settings.
fn refuse_settings(plan: &LogicalPlan) -> Result<()> {
    let mut refused = false;
    let visit = |node: &LogicalPlan| {
        if let LogicalPlan::TableScan(scan) = node {
            refused |= scan.table_name.table() == "df_settings";
        }
        Ok(if refused { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    };
    plan.apply_with_subqueries(visit).or_query_error()?;
    if refused { Err(Error::invalid("the server's settings cannot be shown")) } else { Ok(()) }
}
