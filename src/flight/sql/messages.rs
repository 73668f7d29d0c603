//! Messages of Arrow Flight that the `arrow-flight` crate does not have.
//!
//! Their fields and numbers are those of `Flight.proto` and `FlightSql.proto` in Arrow's `format` folder
//! (<https://arrow.apache.org/docs/format/FlightSql.html>).

use std::collections::HashMap;

use prost::bytes::Bytes;

/// The value of a session option.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SessionOptionValue {
    /// Absent: the option is to have its default.
    #[prost(oneof = "option_value::OptionValue", tags = "1, 2, 3, 4, 5")]
    pub(super) option_value: Option<option_value::OptionValue>,
}

/// The forms of a value.
pub(super) mod option_value {
    /// A list of texts.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(in super::super) struct StringListValue {
        /// The texts.
        #[prost(string, repeated, tag = "1")]
        pub(in super::super) values: Vec<String>,
    }

    /// One form.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(in super::super) enum OptionValue {
        /// A text.
        #[prost(string, tag = "1")]
        Text(String),
        /// A truth value.
        #[prost(bool, tag = "2")]
        Bool(bool),
        /// A whole number.
        #[prost(sfixed64, tag = "3")]
        Int(i64),
        /// A number.
        #[prost(double, tag = "4")]
        Double(f64),
        /// A list of texts.
        #[prost(message, tag = "5")]
        List(StringListValue),
    }
}

/// Sets options of the session.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SetSessionOptionsRequest {
    /// The options by name.
    #[prost(map = "string, message", tag = "1")]
    pub(super) session_options: HashMap<String, SessionOptionValue>,
}

/// The options that could not be set.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SetSessionOptionsResult {
    /// Why, by name.
    #[prost(map = "string, message", tag = "1")]
    pub(super) errors: HashMap<String, SetSessionOptionError>,
}

/// Why an option could not be set.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct SetSessionOptionError {
    /// The reason.
    #[prost(enumeration = "ErrorValue", tag = "1")]
    pub(super) value: i32,
}

/// The reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ErrorValue {
    /// None is told.
    Unspecified = 0,
    /// There is no option of this name.
    InvalidName = 1,
    /// The option cannot have this value.
    InvalidValue = 2,
    /// Something else.
    Error = 3,
}

/// The options of the session.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetSessionOptionsResult {
    /// The options by name.
    #[prost(map = "string, message", tag = "1")]
    pub(super) session_options: HashMap<String, SessionOptionValue>,
}

/// What became of a session.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct CloseSessionResult {
    /// 0 unknown, 1 closed, 2 closing, 3 cannot be closed.
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// The value of [`CloseSessionResult::status`] for a session that is closed.
pub(super) const SESSION_CLOSED: i32 = 1;

/// `ActionCreatePreparedStatementResult` with its newest field, by which drivers tell queries from updates.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PreparedStatementResult {
    /// What names the statement from now on.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) prepared_statement_handle: Bytes,
    /// The schema of the result as an IPC message; empty for a statement without one.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) dataset_schema: Bytes,
    /// The schema of the parameters, likewise.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) parameter_schema: Bytes,
    /// Whether it changes something.
    #[prost(bool, optional, tag = "4")]
    pub(super) is_update: Option<bool>,
}

/// The type URL under which [`PreparedStatementResult`] is packed.
pub(super) const PREPARED_STATEMENT_RESULT: &str =
    "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult";
