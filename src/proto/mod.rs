//! The messages of `proto/pandas_db/v1/pandas_db.proto`, and their two forms on the wire.
//!
//! `generated.rs` is checked in so that nobody needs a protobuf compiler; `tests/it/generated.rs` makes it anew from
//! the `.proto` file and fails when the two differ. A command arrives packed in `google.protobuf.Any` or as JSON;
//! [`read_command`] takes both.

#[rustfmt::skip]
mod generated;
mod json;

pub use generated::{
    Chunk, Compact, Compacted, DataframeInfo, DeleteDataframe, DeleteVersion, DescribeDataframe, GetDataframe,
    ListVersions, LoadDataframe, LoadResult, Retention, RetentionSet, SetRetention, Vacuum, Vacuumed, VersionInfo,
};
use prost::Message;
use prost::bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, shorten};

/// What stands before the message name in the type URL of an `Any`.
pub const TYPE_URL_PREFIX: &str = "type.googleapis.com/pandas_db.v1.";

/// A message of ours that can be packed in an `Any`.
pub trait Packed: Message + Default {
    /// The message's name within its package.
    const NAME: &'static str;

    /// The encoded `google.protobuf.Any` that holds this message.
    fn pack(&self) -> Bytes {
        let any =
            prost_types::Any { type_url: format!("{TYPE_URL_PREFIX}{}", Self::NAME), value: self.encode_to_vec() };
        any.encode_to_vec().into()
    }
}

macro_rules! packed {
    ($($message:ident),* $(,)?) => {
        $(impl Packed for $message {
            const NAME: &'static str = stringify!($message);
        })*
    };
}

packed!(
    LoadDataframe,
    GetDataframe,
    ListVersions,
    VersionInfo,
    DescribeDataframe,
    DataframeInfo,
    DeleteVersion,
    DeleteDataframe,
    SetRetention,
    RetentionSet,
    Compact,
    Compacted,
    Vacuum,
    Vacuumed,
);

/// A SQL statement given as a JSON ticket: `{"sql": "select 1"}`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlTicket {
    /// The statement.
    pub sql: String,
}

/// Whether a command is JSON: its first byte says so, since no encoded `Any` begins with `{`
/// (field 15, wire type 3, which proto3 does not have).
pub fn is_json(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'{')
}

/// Reads a message of type `T` that stands packed in an `Any` or as JSON.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when the bytes are neither, or hold another message.
pub fn read_command<T: Packed + DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if is_json(bytes) {
        return read_json(bytes, T::NAME);
    }
    let any = prost_types::Any::decode(bytes).map_err(|error| {
        Error::invalid(format!(
            "the command is neither JSON nor a google.protobuf.Any; send {} in one of the two forms",
            T::NAME
        ))
        .because(error)
    })?;
    let wanted = format!("{TYPE_URL_PREFIX}{}", T::NAME);
    if any.type_url != wanted {
        return Err(Error::invalid(format!("unknown command '{}'; expected '{wanted}'", shorten(&any.type_url))));
    }
    T::decode(any.value.as_slice())
        .map_err(|error| Error::invalid(format!("the {} message is cut or damaged", T::NAME)).because(error))
}

/// Reads the JSON form of a message called `name`.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) with serde's word for what is wrong and where.
pub fn read_json<T: DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (field, error) = (error.path().to_string(), error.into_inner());
        // A path of dots alone means the whole.
        let field = if field == "." { String::new() } else { format!("{field}: ") };
        Error::invalid(format!("{name} as JSON: {field}{error}"))
    })?;
    json.end().map_err(|error| Error::invalid(format!("{name} as JSON: {error}")))?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_same_message() {
        let command = LoadDataframe {
            dataframe_name: "a/b".into(),
            columns_keys: [("d".to_string(), "Date".to_string())].into(),
            total_rows: Some(7),
            ..Default::default()
        };
        let from_any: LoadDataframe = read_command(&command.pack()).unwrap();
        let json = br#"{"dataframe_name":"a/b","columns_keys":{"d":"Date"},"total_rows":"7","keep_last":null}"#;
        let from_json: LoadDataframe = read_command(json).unwrap();
        assert_eq!(from_any, command);
        assert_eq!(from_json, command);
    }

    #[test]
    fn unknown_fields_types_and_garbage_are_refused() {
        for bytes in [&br#"{"dataframe":"x"}"#[..], b"{", b"\xff\xff", &GetDataframe::default().pack()] {
            let error = read_command::<LoadDataframe>(bytes).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid, "{error}");
        }
    }
}
