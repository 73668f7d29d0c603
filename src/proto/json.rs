//! How proto3's JSON form is read: integers as numbers or strings, `null` as absent.

use serde::de::{Deserialize, Deserializer, Error};

/// A field that may be `null`, which means its default.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(serde::Deserialize)]
#[serde(untagged, expecting = "an integer, or an integer in a string")]
enum Integer {
    Number(i64),
    Text(String),
}

impl Integer {
    fn value<E: Error>(self) -> Result<i64, E> {
        match self {
            Integer::Number(number) => Ok(number),
            Integer::Text(text) => text.parse().map_err(|_| E::custom(format_args!("'{text}' is not an integer"))),
        }
    }
}

/// An integer as a number or a string.
pub(super) fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(optional_integer(deserializer)?.unwrap_or_default())
}

/// An integer as a number or a string, or nothing.
pub(super) fn optional_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Option::<Integer>::deserialize(deserializer)?.map(Integer::value).transpose()
}

/// Bytes, in base64 as proto3's JSON form has them.
pub(super) mod base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    /// Writes bytes.
    pub(in crate::proto) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads what [`serialize`] wrote.
    pub(in crate::proto) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}
