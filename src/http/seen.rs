//! What was seen of a column so far, and the Arrow type that holds all of it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};

/// Fields of all levels of a frame; a dataset takes fewer columns, and this bounds what a small body can make us hold.
const MAX_FIELDS: usize = 16_384;

/// What the values of one column have in common.
#[derive(Debug, Default)]
pub(super) enum Seen {
    /// Nulls alone, or nothing.
    #[default]
    Nothing,
    /// Booleans.
    Bool,
    /// Whole numbers.
    Integer(Integers),
    /// Numbers of which one at least is no whole number.
    Float,
    /// Strings.
    Text,
    /// Arrays, and what their items have in common.
    List(Box<Seen>),
    /// Objects, and what each of their fields has.
    Record(Record),
}

/// The extremes of whole numbers, as far as types differ by them.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Integers {
    /// One is below zero.
    pub negative: bool,
    /// One is beyond the largest 64-bit integer with a sign.
    pub large: bool,
}

impl Integers {
    /// What both have.
    pub(super) fn and(self, other: Self) -> Self {
        Self { negative: self.negative || other.negative, large: self.large || other.large }
    }

    /// Whether no integer type has them all.
    pub(super) fn is_too_wide(self) -> bool {
        self.negative && self.large
    }
}

impl Seen {
    /// The word for such values in a message.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Seen::Nothing => "null",
            Seen::Bool => "a boolean",
            Seen::Integer(_) | Seen::Float => "a number",
            Seen::Text => "a string",
            Seen::List(_) => "an array",
            Seen::Record(_) => "an object",
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Seen::Nothing => DataType::Null,
            Seen::Bool => DataType::Boolean,
            Seen::Integer(Integers { large: true, .. }) => DataType::UInt64,
            Seen::Integer(_) => DataType::Int64,
            Seen::Float => DataType::Float64,
            Seen::Text => DataType::Utf8,
            Seen::List(items) => DataType::List(Arc::new(Field::new_list_field(items.data_type(), true))),
            Seen::Record(record) => DataType::Struct(record.fields()),
        }
    }
}

/// The fields of objects, in the order first seen.
#[derive(Debug, Default)]
pub(super) struct Record {
    places: HashMap<String, usize>,
    fields: Vec<(String, Seen)>,
}

impl Record {
    /// The place of a field. `expected` is where it stands if this object has the order of the first.
    pub(super) fn place(&self, name: &str, expected: usize) -> Option<usize> {
        match self.fields.get(expected) {
            Some((there, _)) if there == name => Some(expected),
            _ => self.places.get(name).copied(),
        }
    }

    /// Adds a field, and gives its place.
    pub(super) fn add(&mut self, name: &str) -> usize {
        let place = self.fields.len();
        self.places.insert(name.into(), place);
        self.fields.push((name.into(), Seen::Nothing));
        place
    }

    /// The name of the field at a place.
    pub(super) fn name(&self, place: usize) -> &str {
        self.fields.get(place).map_or("", |(name, _)| name)
    }

    /// What was seen of the field at a place.
    pub(super) fn seen(&mut self, place: usize) -> Option<&mut Seen> {
        self.fields.get_mut(place).map(|(_, seen)| seen)
    }

    /// The schema of records with these fields.
    pub(super) fn schema(&self) -> Schema {
        Schema::new(self.fields())
    }

    fn fields(&self) -> Fields {
        let field = |(name, seen): &(String, Seen)| -> FieldRef { Arc::new(Field::new(name, seen.data_type(), true)) };
        self.fields.iter().map(field).collect()
    }
}

/// How many fields may still be found.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_FIELDS)
    }
}

impl Budget {
    /// Takes one field's share.
    ///
    /// # Errors
    /// With what is wrong, when there is none left.
    pub(super) fn take(&mut self) -> Result<(), String> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| format!("the records have more than {MAX_FIELDS} fields"))?;
        Ok(())
    }
}
