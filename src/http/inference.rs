//! The schema of a frame that came as records, from all of them.
//!
//! Arrow's own inference makes strings of columns whose values differ in kind. Here nothing is made of anything: a
//! column that mixes kinds is refused, by its name and with a value. Only whole numbers and others go together, as
//! floats, because many writers leave `.0` out.
//!
//! Each value is looked at once as the JSON text is read, and none is kept.

use std::cell::RefCell;
use std::fmt;
use std::io::BufRead;

use arrow::datatypes::Schema;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::seen::{Budget, Integers, Record, Seen};
use crate::error::{Error, Result, shorten};

/// The schema of the records in a JSON array, and how many there are.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) when the text is no array of objects, or a column mixes kinds.
pub(super) fn infer(text: impl BufRead) -> Result<(Schema, u64)> {
    let context = Context::default();
    let mut json = serde_json::Deserializer::from_reader(text);
    let mut record = Record::default();
    let read = (&mut json).deserialize_any(Records { record: &mut record, context: &context });
    let rows = read.and_then(|rows| json.end().map(|()| rows)).map_err(|error| context.explain(error))?;
    Ok((record.schema(), rows))
}

/// Where the reading is, and what it found to be wrong.
#[derive(Debug, Default)]
struct Context {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    row: u64,
    budget: Budget,
    problem: Option<Problem>,
}

/// What ends the reading. Its path is put together, from its end, on the way out.
#[derive(Debug)]
struct Problem {
    what: String,
    of_column: bool,
    path: Vec<String>,
}

impl Context {
    /// Notes what is wrong. The error itself only ends the reading.
    fn refuse<E: serde::de::Error>(&self, what: String, of_column: bool) -> E {
        self.state.borrow_mut().problem.get_or_insert(Problem { what, of_column, path: Vec::new() });
        E::custom("refused")
    }

    fn mixed<E: serde::de::Error>(&self, seen: &Seen, value: &str) -> E {
        let row = self.state.borrow().row;
        let (value, noun) = (shorten(value), seen.noun());
        self.refuse(
            format!("mixes kinds: {value} in record {row} where others have {noun}; make its values one kind"),
            true,
        )
    }

    /// Notes the field in which a problem was found.
    fn within(&self, name: &str) {
        if let Some(problem) = &mut self.state.borrow_mut().problem {
            problem.path.push(name.into());
        }
    }

    fn explain(&self, error: serde_json::Error) -> Error {
        match self.state.borrow_mut().problem.take() {
            Some(Problem { what, of_column: false, .. }) => Error::invalid(format!("dataframe: {what}")),
            Some(Problem { what, mut path, .. }) => {
                path.reverse();
                Error::invalid(format!("dataframe: the column '{}' {what}", shorten(&path.join("."))))
            }
            None if error.is_io() => Error::unavailable("the body of the upload cannot be read back").because(error),
            None => Error::invalid(format!("dataframe: it is no JSON array of records: {error}")),
        }
    }
}

/// The array of all records.
struct Records<'a> {
    record: &'a mut Record,
    context: &'a Context,
}

impl<'de> Visitor<'de> for Records<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut rows = 0;
        while items.next_element_seed(Row { record: &mut *self.record, context: self.context })?.is_some() {
            rows += 1;
            self.context.state.borrow_mut().row = rows;
        }
        Ok(rows)
    }
}

/// One record.
struct Row<'a> {
    record: &'a mut Record,
    context: &'a Context,
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} to be an object", self.context.state.borrow().row)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        fields(self.record, self.context, map)
    }
}

fn fields<'de, A: MapAccess<'de>>(record: &mut Record, context: &Context, mut map: A) -> Result<(), A::Error> {
    let mut expected = 0;
    while let Some(place) = map.next_key_seed(Key { record: &mut *record, context, expected })? {
        expected = place + 1;
        let Some(seen) = record.seen(place) else { return Err(A::Error::custom("a field has no place")) };
        let read = map.next_value_seed(Value { seen, context });
        read.inspect_err(|_| context.within(record.name(place)))?;
    }
    Ok(())
}

/// The name of a field; gives its place.
struct Key<'a> {
    record: &'a mut Record,
    context: &'a Context,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        if let Some(place) = self.record.place(name, self.expected) {
            return Ok(place);
        }
        let taken = self.context.state.borrow_mut().budget.take();
        taken.map_err(|problem| self.context.refuse(problem, false))?;
        Ok(self.record.add(name))
    }
}

/// One value of a column, or an item of one.
struct Value<'a> {
    seen: &'a mut Seen,
    context: &'a Context,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.seen {
            Seen::Bool => {}
            seen @ Seen::Nothing => *seen = Seen::Bool,
            seen => return Err(self.context.mixed(seen, &value.to_string())),
        }
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.integer(Integers { negative: value < 0, large: false }, &value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.integer(Integers { negative: false, large: i64::try_from(value).is_err() }, &value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match self.seen {
            Seen::Float => {}
            seen @ (Seen::Nothing | Seen::Integer(_)) => *seen = Seen::Float,
            seen => return Err(self.context.mixed(seen, &value.to_string())),
        }
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        match self.seen {
            Seen::Text => {}
            seen @ Seen::Nothing => *seen = Seen::Text,
            seen => return Err(self.context.mixed(seen, &format!("\"{value}\""))),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if matches!(self.seen, Seen::Nothing) {
            *self.seen = Seen::List(Box::default());
        }
        let Seen::List(of_items) = self.seen else { return Err(self.context.mixed(self.seen, "an array")) };
        while items.next_element_seed(Value { seen: &mut *of_items, context: self.context })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if matches!(self.seen, Seen::Nothing) {
            *self.seen = Seen::Record(Record::default());
        }
        let Seen::Record(record) = self.seen else { return Err(self.context.mixed(self.seen, "an object")) };
        fields(record, self.context, map)
    }
}

impl Value<'_> {
    fn integer<E: serde::de::Error>(self, found: Integers, value: &dyn fmt::Display) -> Result<(), E> {
        let both = match &*self.seen {
            Seen::Float => return Ok(()),
            Seen::Nothing => found,
            Seen::Integer(before) => before.and(found),
            other => return Err(self.context.mixed(other, &value.to_string())),
        };
        if both.is_too_wide() {
            let what = format!("holds negative integers and others beyond {}; no integer type has both", i64::MAX);
            return Err(self.context.refuse(what, true));
        }
        *self.seen = Seen::Integer(both);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    fn types(text: &str) -> Vec<(String, String)> {
        let (schema, _) = infer(text.as_bytes()).unwrap();
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect()
    }

    fn one(values: &str) -> String {
        let records: Vec<String> = values.split(';').map(|value| format!(r#"{{"x": {value}}}"#)).collect();
        types(&format!("[{}]", records.join(","))).remove(0).1
    }

    #[test]
    fn types_hold_all_values() {
        for (values, data_type) in [
            ("1;null;-2", "Int64"),
            ("1;2.5", "Float64"),
            ("2.5;1", "Float64"),
            ("1e3", "Float64"),
            ("null", "Null"),
            ("true;false;null", "Boolean"),
            ("\"a\";null", "Utf8"),
            ("9223372036854775807", "Int64"),
            ("9223372036854775808;1", "UInt64"),
            ("18446744073709551616;1", "Float64"),
            ("-9223372036854775809", "Float64"),
        ] {
            assert_eq!(one(values), data_type, "{values}");
        }
    }

    #[test]
    fn nested_values_and_the_order_of_columns() {
        let (schema, rows) =
            infer(r#"[{"z": [1, null], "a": {"q": 1}}, {"m": null, "a": {"p": [[]], "q": 2.5}, "z": []}]"#.as_bytes())
                .unwrap();
        assert_eq!(rows, 2);
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["z", "a", "m"]);
        assert_eq!(schema.field(0).data_type(), &DataType::new_list(DataType::Int64, true));
        let lists = DataType::new_list(DataType::new_list(DataType::Null, true), true);
        let fields = vec![Field::new("q", DataType::Float64, true), Field::new("p", lists, true)];
        assert_eq!(schema.field(1).data_type(), &DataType::Struct(fields.into()));
        assert_eq!(infer(&b"[]"[..]).unwrap().1, 0);
        assert_eq!(infer(&b"[{},{}]"[..]).unwrap().1, 2);
    }

    use arrow::datatypes::Field;

    #[test]
    fn mixed_kinds_are_named_with_column_record_and_value() {
        let error = infer(&br#"[{"x": 1}, {"x": null}, {"x": "abc"}]"#[..]).unwrap_err();
        let told = "dataframe: the column 'x' mixes kinds: \"abc\" in record 2 where others have a number; \
                    make its values one kind";
        assert_eq!(error.message(), told);
        let nested = infer(&br#"[{"a": {"b": [true, 3]}}]"#[..]).unwrap_err();
        assert!(nested.message().contains("'a.b' mixes kinds: 3 in record 0"), "{nested}");
        for text in [
            r#"[{"x": 1}, {"x": true}]"#,
            r#"[{"x": "a"}, {"x": 2.5}]"#,
            r#"[{"x": [1]}, {"x": 1}]"#,
            r#"[{"x": 1}, {"x": [1]}]"#,
            r#"[{"x": {"y": 1}}, {"x": 1}]"#,
            r#"[{"x": -1}, {"x": 18446744073709551615}]"#,
        ] {
            assert!(infer(text.as_bytes()).unwrap_err().message().contains("'x'"), "{text}");
        }
    }

    #[test]
    fn what_is_no_array_of_records_is_refused() {
        for text in ["", "{}", "1", "[1]", "[null]", "[[]]", "[{}", "[{}] x", "[{},]", "[{\"x\": NaN}]", "{\"x\": [1]}"]
        {
            let error = infer(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid, "{text}: {error}");
        }
        let deep = format!("[{{\"x\": {}{}}}]", "[".repeat(10_000), "]".repeat(10_000));
        assert!(infer(deep.as_bytes()).is_err());
        let many: Vec<String> = (0..20_000).map(|n| format!("{{\"c{n}\": 1}}")).collect();
        assert!(infer(format!("[{}]", many.join(",")).as_bytes()).unwrap_err().message().contains("fields"));
    }
}
