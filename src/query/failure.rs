//! What an error of the query engine means for a caller.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::error::{Error, Result};

/// Names the kind and the words for an engine error. Errors of our own that went through the engine come out as they
/// went in; what could hold paths of the server is replaced.
pub(super) fn query_error(error: DataFusionError) -> Error {
    if let Some(own) = find_own(&error) {
        return own.duplicate().because(error);
    }
    let root = error.find_root();
    let text = root.strip_backtrace();
    let text = text.trim();
    let made = match root {
        DataFusionError::SQL(parser, _) => Error::invalid(format!("the SQL does not parse: {parser}")),
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { .. } => Error::invalid(text),
            _ => Error::invalid(text),
        },
        DataFusionError::Plan(message) if is_missing_table(message) => Error::not_found(format!(
            "{message}; SHOW TABLES lists what there is, and names with capitals or other characters want quotes"
        )),
        // A fault of the planner, which shows its whole plan, paths and all.
        DataFusionError::Plan(message) if message.contains("does not satisfy") => {
            Error::internal("the query engine made a plan that does not hold together; write the query in another way")
        }
        DataFusionError::Plan(message) => Error::invalid(message.clone()),
        DataFusionError::NotImplemented(message) if message.contains("single SQL statement") => {
            Error::invalid("one statement at a time; send the others by themselves")
        }
        DataFusionError::NotImplemented(message) => Error::unimplemented(message.clone()),
        DataFusionError::ResourcesExhausted(message) => {
            Error::exhausted(format!("the query needs more memory than --memory-limit allows; narrow it: {message}"))
        }
        DataFusionError::Execution(message) | DataFusionError::Configuration(message) => {
            Error::invalid(message.clone())
        }
        DataFusionError::ArrowError(arrow, _) => Error::invalid(arrow.to_string()),
        DataFusionError::ParquetError(_) => Error::corrupt("a chunk is damaged"),
        DataFusionError::ObjectStore(_) => Error::unavailable("a chunk could not be read; retry later"),
        DataFusionError::IoError(_) => Error::unavailable("the disk did not answer as it should; retry later"),
        _ => Error::internal("the query engine failed on this statement"),
    };
    made.because(error)
}

fn is_missing_table(message: &str) -> bool {
    message.starts_with("table '") && message.ends_with("not found")
}

fn find_own(error: &DataFusionError) -> Option<&Error> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(own) = error.downcast_ref::<Error>() {
            return Some(own);
        }
        source = error.source();
    }
    None
}

/// An error of ours on its way through the engine.
pub(super) fn through_engine(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Shorthand for results of the engine.
pub(super) trait OrQueryError<T> {
    /// Names the kind of the error.
    fn or_query_error(self) -> Result<T>;
}

impl<T> OrQueryError<T> for std::result::Result<T, DataFusionError> {
    fn or_query_error(self) -> Result<T> {
        self.map_err(query_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn kinds_follow_the_cause() {
        let own = DataFusionError::Context("x".into(), Box::new(through_engine(Error::not_found("gone"))));
        assert_eq!(query_error(own).kind(), Kind::NotFound);
        let plan = DataFusionError::Plan("table 'pandas_db.public.x' not found".into());
        assert_eq!(query_error(plan).kind(), Kind::NotFound);
        let io = DataFusionError::IoError(std::io::Error::other("/secret"));
        assert!(!query_error(io).to_string().contains("secret"));
    }
}
