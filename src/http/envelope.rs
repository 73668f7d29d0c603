//! The body of an upload, taken apart as it arrives.
//!
//! The body is a JSON object, in which the field `dataframe` is a *string*: the frame as JSON text, escaped once more.
//! That string may be nearly all of the body, so it is unescaped piece by piece and handed on, and never held whole.
//! What stands around it is small; it is kept, with an empty string in the place of the frame, and read as JSON at the
//! end.

use serde::Deserialize;
use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::proto::{LoadDataframe, read_json};

/// The field that holds the frame.
const FRAME_FIELD: &str = "dataframe";
/// Bytes of everything but the frame: a name, a key, and kinds of columns.
const MAX_AROUND_BYTES: usize = 1 << 20;

/// The fields beside the frame.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(rename = "dataframe")]
    _frame: String,
    dataframe_name: String,
    #[serde(default)]
    columns_keys: Option<HashMap<String, String>>,
    #[serde(default)]
    external_key: Option<String>,
    #[serde(default)]
    keep_last: Option<bool>,
}

/// See the module's comment.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    around: Vec<u8>,
    place: Place,
    depth: usize,
    /// Where in `around` the key begins that is being read, or was read last, at the first level.
    key_at: usize,
    frames: usize,
}

/// Where in the body the next byte stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between the tokens of a level below the first, or before the body.
    #[default]
    Deep,
    /// In the object, where a key may begin.
    BeforeKey,
    /// After a key.
    AfterKey { frame: bool },
    /// After the colon of the frame's key.
    BeforeFrame,
    /// Where a value of another key stands.
    Value,
    /// In a string of ours to keep; `key` tells that it is a key of the first level.
    Text { escaped: bool, key: bool },
    /// In the frame.
    Frame(Escape),
    /// After the body's end.
    After,
}

/// How far an escape sequence of the frame has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// `\u` and some digits; `high` is the first half of a pair.
    Unit {
        digits: u8,
        value: u16,
        high: Option<u16>,
    },
    /// The first half of a pair, which a second must follow.
    Half {
        high: u16,
        slash: bool,
    },
}

impl Envelope {
    /// Takes the next bytes of the body and appends what they hold of the frame to `frame`.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) for what cannot be such a body.
    pub(super) fn feed(&mut self, bytes: &[u8], frame: &mut Vec<u8>) -> Result<()> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if let Place::Frame(Escape::None) = self.place {
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
                if plain > 0 {
                    let (text, others) = rest.split_at(plain);
                    frame.extend_from_slice(text);
                    rest = others;
                    continue;
                }
            }
            self.place = match self.place {
                Place::Frame(escape) => self.in_frame(escape, byte, frame)?,
                place => {
                    self.keep(byte)?;
                    self.around_frame(place, byte)?
                }
            };
            rest = after;
        }
        Ok(())
    }

    /// Ends the body and gives the load that it asks for.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) when the body is cut, is no JSON, or lacks a field.
    pub(super) fn finish(self) -> Result<LoadDataframe> {
        let fields: Fields = read_json(&self.around, "the upload")?;
        Ok(LoadDataframe {
            dataframe_name: fields.dataframe_name,
            columns_keys: fields.columns_keys.unwrap_or_default(),
            external_key: fields.external_key,
            keep_last: fields.keep_last.unwrap_or_default(),
            ..Default::default()
        })
    }

    fn keep(&mut self, byte: u8) -> Result<()> {
        if self.around.len() >= MAX_AROUND_BYTES {
            return Err(Error::invalid(format!(
                "the upload has more than {MAX_AROUND_BYTES} bytes outside of the string '{FRAME_FIELD}'"
            )));
        }
        self.around.push(byte);
        Ok(())
    }

    /// What comes after one byte outside of the frame. Only strings and nesting matter here; whether it all is JSON is
    /// seen at the end.
    fn around_frame(&mut self, place: Place, byte: u8) -> Result<Place> {
        let is_space = byte.is_ascii_whitespace();
        Ok(match (place, byte) {
            (Place::Text { escaped: true, key }, _) => Place::Text { escaped: false, key },
            (Place::Text { key, .. }, b'\\') => Place::Text { escaped: true, key },
            (Place::Text { key: true, .. }, b'"') => Place::AfterKey { frame: self.is_frame_key() },
            (Place::Text { .. }, b'"') => self.between(),
            (text @ Place::Text { .. }, _) => text,
            (Place::BeforeFrame, b'"') if self.frames == 0 => {
                self.frames += 1;
                Place::Frame(Escape::None)
            }
            (Place::BeforeFrame, b'"') => return Err(Error::invalid(format!("'{FRAME_FIELD}' is given twice"))),
            (Place::BeforeFrame, _) if is_space => Place::BeforeFrame,
            (Place::BeforeFrame, _) => {
                return Err(Error::invalid(format!(
                    "'{FRAME_FIELD}' must be a string that holds the frame as a JSON array of records, as \
                     DataFrame.to_json(orient='records') makes it"
                )));
            }
            (Place::Deep, _) if self.depth == 0 && is_space => Place::Deep,
            (Place::Deep, b'{') if self.depth == 0 => {
                self.depth = 1;
                Place::BeforeKey
            }
            (Place::Deep, _) if self.depth == 0 => return Err(Error::invalid("the body must be a JSON object")),
            (Place::BeforeKey, b'"') => {
                self.key_at = self.around.len() - 1;
                Place::Text { escaped: false, key: true }
            }
            (_, b'"') => Place::Text { escaped: false, key: false },
            (Place::AfterKey { frame }, b':') => {
                if frame {
                    Place::BeforeFrame
                } else {
                    Place::Value
                }
            }
            (Place::Value, b',') => Place::BeforeKey,
            (_, b'{' | b'[') => {
                self.depth += 1;
                Place::Deep
            }
            (_, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                self.between()
            }
            (other, _) => other,
        })
    }

    fn between(&self) -> Place {
        match self.depth {
            0 => Place::After,
            1 => Place::Value,
            _ => Place::Deep,
        }
    }

    fn is_frame_key(&self) -> bool {
        let key = self.around.get(self.key_at..).unwrap_or_default();
        serde_json::from_slice::<String>(key).is_ok_and(|key| key == FRAME_FIELD)
    }

    /// What comes after one byte of the frame.
    fn in_frame(&mut self, escape: Escape, byte: u8, frame: &mut Vec<u8>) -> Result<Place> {
        let next = match (escape, byte) {
            (Escape::None, b'"') => {
                self.keep(byte)?;
                return Ok(Place::Value);
            }
            (Escape::None, b'\\') => Escape::Begun,
            (Escape::None, _) => return Err(bad_frame("a control character that is not escaped")),
            (Escape::Begun, b'u') => Escape::Unit { digits: 0, value: 0, high: None },
            (Escape::Begun, _) => {
                frame.push(unescaped(byte)?);
                Escape::None
            }
            (Escape::Unit { digits, value, high }, _) => unit(digits, value, high, byte, frame)?,
            (Escape::Half { high, slash: false }, b'\\') => Escape::Half { high, slash: true },
            (Escape::Half { high, slash: true }, b'u') => Escape::Unit { digits: 0, value: 0, high: Some(high) },
            (Escape::Half { .. }, _) => return Err(bad_frame("half of a surrogate pair")),
        };
        Ok(Place::Frame(next))
    }
}

fn bad_frame(what: &str) -> Error {
    Error::invalid(format!("'{FRAME_FIELD}' is no JSON string: it holds {what}"))
}

fn unescaped(byte: u8) -> Result<u8> {
    Ok(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return Err(bad_frame("an escape sequence that there is not")),
    })
}

/// One digit of a `\u` sequence, and the character when it was the last.
fn unit(digits: u8, value: u16, high: Option<u16>, byte: u8, frame: &mut Vec<u8>) -> Result<Escape> {
    let digit = char::from(byte).to_digit(16).ok_or_else(|| bad_frame("a \\u sequence that is not hexadecimal"))?;
    let value = value << 4 | digit as u16;
    if digits < 3 {
        return Ok(Escape::Unit { digits: digits + 1, value, high });
    }
    if high.is_none() && (0xd800..0xdc00).contains(&value) {
        return Ok(Escape::Half { high: value, slash: false });
    }
    match char::decode_utf16(high.into_iter().chain([value])).next() {
        Some(Ok(character)) => {
            frame.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            Ok(Escape::None)
        }
        _ => Err(bad_frame("half of a surrogate pair")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn take(body: &[u8], step: usize) -> Result<(LoadDataframe, String)> {
        let (mut envelope, mut frame) = (Envelope::default(), Vec::new());
        for piece in body.chunks(step.max(1)) {
            envelope.feed(piece, &mut frame)?;
        }
        Ok((envelope.finish()?, String::from_utf8(frame).unwrap()))
    }

    #[test]
    fn the_frame_comes_out_unescaped_whatever_the_pieces() {
        let text = r#"[{"a": "x\"y\\z", "b": "größe \u00e9 😀"}]"#;
        let body = json!({
            "columns_keys": {"dataframe": "Date", "b": "ID"},
            "dataframe": text, "dataframe_name": "a/\"b", "external_key": null, "keep_last": true,
        });
        for body in [body.to_string(), serde_json::to_string_pretty(&body).unwrap()] {
            for step in 1..=body.len() {
                let (command, frame) = take(body.as_bytes(), step).unwrap();
                assert_eq!(frame, text);
                assert_eq!(command.dataframe_name, "a/\"b");
                assert_eq!(command.columns_keys.len(), 2);
                assert!(command.keep_last && command.external_key.is_none());
            }
        }
    }

    #[test]
    fn escapes_of_every_form() {
        let body = br#"{"dataframe_name":"n","data\u0066rame":"\u00e4\ud83d\ude00\b\f\n\r\t\/\"\\A\u20AC"}"#;
        for step in 1..=body.len() {
            assert_eq!(take(body, step).unwrap().1, "ä😀\u{8}\u{c}\n\r\t/\"\\A€");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for body in [
            "",
            " ",
            "[]",
            "3",
            "{",
            "{}",
            "x",
            r#"{"dataframe_name":"a"}"#,
            r#"{"dataframe":"[]"}"#,
            r#"{"dataframe":"[]","dataframe_name":"a""#,
            r#"{"dataframe":"[]","dataframe_name":"a"}}"#,
            r#"{"dataframe":"[]","dataframe_name":"a"} x"#,
            r#"{"dataframe":"[]","dataframe_name":"a","other":1}"#,
            r#"{"dataframe":"[]","dataframe":"[]","dataframe_name":"a"}"#,
            r#"{"dataframe":[],"dataframe_name":"a"}"#,
            r#"{"dataframe":null,"dataframe_name":"a"}"#,
            r#"{"dataframe":"[]","dataframe_name":"a","keep_last":"yes"}"#,
            r#"{"dataframe":"\x","dataframe_name":"a"}"#,
            r#"{"dataframe":"\ud83d","dataframe_name":"a"}"#,
            r#"{"dataframe":"\ude00","dataframe_name":"a"}"#,
            r#"{"dataframe":"\ud83d\ud83d","dataframe_name":"a"}"#,
            r#"{"dataframe":"\ud83d\u0041","dataframe_name":"a"}"#,
            r#"{"dataframe":"\u00g1","dataframe_name":"a"}"#,
            "{\"dataframe\":\"\n\",\"dataframe_name\":\"a\"}",
            r#"{"dataframe":"[]","dataframe_name":"a"]"#,
            r#"{"dataframe":"[]" "dataframe_name":"a"}"#,
        ] {
            let error = take(body.as_bytes(), 3).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid, "{body}: {error}");
        }
        let long = format!(r#"{{"dataframe_name":"{}"#, "a".repeat(MAX_AROUND_BYTES));
        assert!(take(long.as_bytes(), 1_000).unwrap_err().message().contains("outside"));
    }

    proptest! {
        #[test]
        fn any_text_comes_out_as_it_went_in(
            text in any::<String>(),
            name in "[a-z\"\\\\{}:,\u{e9}]{0,8}",
            step in 1..50usize,
        ) {
            let body = json!({"dataframe_name": name, "dataframe": text}).to_string();
            let (command, frame) = take(body.as_bytes(), step).unwrap();
            prop_assert_eq!((command.dataframe_name, frame), (name, text));
        }

        #[test]
        fn whatever_is_taken_is_json(body in r#"[{}\[\]",: \\adtfrme"]{0,40}"#, step in 1..9usize) {
            if take(body.as_bytes(), step).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}", body);
            }
        }
    }
}
