//! The columns of a dataset over all its loads: what they are called where, and of which type.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use super::convert::physical_field;
use super::types::{free_name, physical_type, sql_type};
use crate::error::{Error, Result, shorten};
use crate::names::HIDDEN_PREFIX;

/// The hidden column that names the load a row came with.
pub const LOAD_COLUMN: &str = "__pdb_load";
/// The hidden column that holds a row's place in its load, from 0.
pub const ROW_COLUMN: &str = "__pdb_row";
/// What the hidden column of a timestamp's nanoseconds beyond the microsecond begins with.
pub(super) const REMAINDER_PREFIX: &str = "__pdb_ns_";
/// Columns a dataset may have.
pub(super) const MAX_COLUMNS: usize = 4_096;
/// Bytes of a column's name.
pub(super) const MAX_COLUMN_NAME_BYTES: usize = 1_024;

/// A column's names, as the table's metadata keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnNames {
    /// As the caller calls it.
    pub name: String,
    /// As it is called in chunks: other readers dislike the empty name and names equal but for case.
    pub physical: String,
}

/// A column of a dataset over all its loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its names.
    pub names: ColumnNames,
    /// The logical type that every version's values fit in.
    pub logical: DataType,
    /// The type in chunks; `None` while every version has nulls alone.
    pub physical: Option<DataType>,
    /// Whether some chunk has nanoseconds beyond the microsecond.
    pub remainder: bool,
}

impl Column {
    /// The hidden column that holds its nanoseconds.
    pub fn remainder_name(&self) -> String {
        format!("{REMAINDER_PREFIX}{}", self.names.physical)
    }

    /// The column as SQL sees it.
    pub fn sql_field(&self) -> Field {
        Field::new(&self.names.name, sql_type(&self.logical), true)
    }
}

/// All columns of a dataset, in the order first seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns(Vec<Column>);

impl Columns {
    /// The columns, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Column> {
        self.0.iter()
    }

    /// The column that the caller calls `name`.
    pub fn find(&self, name: &str) -> Option<&Column> {
        self.0.iter().find(|column| column.names.name == name)
    }

    /// The names of all columns, as the table's metadata keeps them.
    pub fn names(&self) -> Vec<ColumnNames> {
        self.0.iter().map(|column| column.names.clone()).collect()
    }

    /// The schema that SQL sees: the columns that were loaded and no others.
    pub fn sql_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.0.iter().map(Column::sql_field).collect::<Vec<_>>()))
    }

    /// The schema of the Delta table: stored columns, then the hidden ones.
    pub fn physical_schema(&self) -> SchemaRef {
        let stored = self.0.iter().filter_map(|column| {
            column.physical.as_ref().map(|physical| physical_field(&column.names.physical, physical.clone()))
        });
        let hidden = [LOAD_COLUMN, ROW_COLUMN].map(|name| physical_field(name, DataType::Int64));
        let remainders = self.0.iter().filter(|column| column.remainder);
        let remainders = remainders.map(|column| physical_field(&column.remainder_name(), DataType::Int32));
        Arc::new(Schema::new(stored.chain(hidden).chain(remainders).collect::<Vec<_>>()))
    }

    /// These columns with those of a further load, whose names in chunks are `kept` where the metadata has them.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the column and both types when they cannot be joined.
    pub fn joined(&self, schema: &Schema, kept: &[ColumnNames], remainders: &HashSet<String>) -> Result<Self> {
        let mut columns = self.0.clone();
        let mut taken: HashSet<String> =
            columns.iter().map(|column| &column.names).chain(kept).map(|names| names.physical.to_lowercase()).collect();
        for field in schema.fields() {
            let name = field.name();
            let physical = physical_type(name, field.data_type())?;
            let remainder = remainders.contains(name);
            if let Some(column) = columns.iter_mut().find(|column| column.names.name == *name) {
                column.logical = widen(name, &column.logical, field.data_type())?;
                column.physical = physical_type(name, &column.logical)?;
                column.remainder |= remainder;
                continue;
            }
            let names = kept.iter().find(|names| names.name == *name).cloned();
            let names = names.unwrap_or_else(|| new_names(name, &mut taken));
            columns.push(Column { names, logical: field.data_type().clone(), physical, remainder });
        }
        if columns.len() > MAX_COLUMNS {
            return Err(Error::exhausted(format!("a dataset has at most {MAX_COLUMNS} columns")));
        }
        Ok(Self(columns))
    }
}

fn new_names(name: &str, taken: &mut HashSet<String>) -> ColumnNames {
    // Other readers do not tell names by their case.
    let wanted =
        if name.to_lowercase().starts_with(HIDDEN_PREFIX) { format!("column{name}") } else { name.to_string() };
    let physical = free_name(&wanted, |candidate| taken.insert(candidate.to_lowercase()));
    ColumnNames { name: name.to_string(), physical }
}

/// Checks the schema of a load before any row is read.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) for a column name that appears twice or is too long, for no columns
/// that could be kept, or a type that cannot be stored.
pub(super) fn check_load_schema(schema: &Schema) -> Result<()> {
    if schema.fields().len() > MAX_COLUMNS {
        return Err(Error::exhausted(format!(
            "the frame has {} columns; a dataset has at most {MAX_COLUMNS}",
            schema.fields().len()
        )));
    }
    let mut seen = HashSet::new();
    for field in schema.fields() {
        let name = field.name();
        if name.len() > MAX_COLUMN_NAME_BYTES {
            return Err(Error::invalid(format!(
                "the column name '{}' is longer than {MAX_COLUMN_NAME_BYTES} bytes",
                shorten(name)
            )));
        }
        if !seen.insert(name) {
            return Err(Error::invalid(format!("the column name '{}' appears twice; rename one", shorten(name))));
        }
        physical_type(&shorten(name), field.data_type())?;
    }
    Ok(())
}

/// An extension type by which old clients can be made to run code that stands in the metadata (CVE-2023-47248).
const CODE_EXTENSION: &str = "arrow.py_extension_type";

/// The schema without the extension type that makes clients run code; its columns stay what they are stored as.
pub(super) fn without_code(schema: SchemaRef) -> SchemaRef {
    let is_code = |field: &Field| field.metadata().get(EXTENSION_NAME).is_some_and(|name| name == CODE_EXTENSION);
    if !schema.flattened_fields().into_iter().any(is_code) {
        return schema;
    }
    let fields: Fields = schema.fields().iter().map(clean_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

fn clean_field(field: &FieldRef) -> FieldRef {
    let mut metadata = field.metadata().clone();
    if metadata.get(EXTENSION_NAME).is_some_and(|name| name == CODE_EXTENSION) {
        metadata.remove(EXTENSION_NAME);
        metadata.remove(EXTENSION_METADATA);
    }
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(clean_field(item)),
        DataType::LargeList(item) => DataType::LargeList(clean_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(clean_field(item), *size),
        DataType::Map(entries, sorted) => DataType::Map(clean_field(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(clean_field).collect()),
        other => other.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type).with_metadata(metadata))
}

/// The type that holds the values of both without loss. Where it is stored otherwise than before, the chunks that are
/// there are rewritten in the commit (`rewrite.rs`).
fn widen(name: &str, old: &DataType, new: &DataType) -> Result<DataType> {
    common_type(old, new).ok_or_else(|| {
        Error::invalid(format!(
            "column '{}' has the type {old} in earlier versions and {new} in this load, which cannot be joined without \
             loss; convert it to {old}, or load under another name",
            shorten(name)
        ))
    })
}

fn common_type(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as D;
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (D::Null, other) | (other, D::Null) => Some(other.clone()),
        (D::Dictionary(ka, va), D::Dictionary(kb, vb)) => {
            // The union may have more categories than either; 64 bits number them all where 8 might not.
            let values = common_type(va, vb)?;
            let keys = if ka == kb { ka.as_ref().clone() } else { common_integer(ka, kb)? };
            Some(D::Dictionary(Box::new(keys), Box::new(values)))
        }
        (D::Dictionary(_, values), other) | (other, D::Dictionary(_, values)) => common_type(values, other),
        (a, b) if a.is_integer() && b.is_integer() => common_integer(a, b),
        (D::Float16, D::Float32) | (D::Float32, D::Float16) => Some(D::Float32),
        // Integers of 64 bits only where every value is exact, which is looked at as they are stored.
        (a, D::Float64) | (D::Float64, a) if a.is_integer() && *a != D::UInt64 => Some(D::Float64),
        (a, b) if is_short(a) && b.is_floating() || a.is_floating() && is_short(b) => Some(D::Float64),
        (a, b) if a.is_floating() && b.is_floating() => Some(D::Float64),
        (a, b) if a.is_string() && b.is_string() => Some(D::LargeUtf8),
        (a, b) if is_binary(a) && is_binary(b) => Some(D::LargeBinary),
        (D::Timestamp(ua, za), D::Timestamp(ub, zb)) if za.is_some() == zb.is_some() => {
            let zone = if za == zb { za.clone() } else { Some("UTC".into()) };
            Some(D::Timestamp(finer(*ua, *ub), zone))
        }
        (D::Date64, D::Timestamp(unit, None)) | (D::Timestamp(unit, None), D::Date64) => {
            Some(D::Timestamp(finer(*unit, TimeUnit::Millisecond), None))
        }
        (D::List(a), D::List(b)) => Some(D::List(common_field(a, b)?)),
        (D::LargeList(a), D::List(b) | D::LargeList(b)) | (D::List(a), D::LargeList(b)) => {
            Some(D::LargeList(common_field(a, b)?))
        }
        (D::Struct(a), D::Struct(b)) if a.len() == b.len() && !a.is_empty() => {
            let fields: Option<Fields> = a.iter().zip(b.iter()).map(|(a, b)| common_field(a, b)).collect();
            Some(D::Struct(fields?))
        }
        _ => None,
    }
}

fn common_field(a: &FieldRef, b: &FieldRef) -> Option<FieldRef> {
    let stored = |data_type: &DataType| physical_type(a.name(), &DataType::new_list(data_type.clone(), true)).ok();
    let is_list_item = |field: &Field| matches!(field.name().as_str(), "item" | "element");
    let same_name = a.name() == b.name() || (is_list_item(a) && is_list_item(b));
    let common = common_type(a.data_type(), b.data_type()).filter(|_| same_name)?;
    // What is nested is never rewritten, so both must be stored in the same way already.
    if stored(a.data_type()) != stored(&common) || stored(b.data_type()) != stored(&common) {
        return None;
    }
    Some(Arc::new(a.as_ref().clone().with_data_type(common).with_nullable(a.is_nullable() || b.is_nullable())))
}

fn is_binary(data_type: &DataType) -> bool {
    data_type.is_binary() || matches!(data_type, DataType::FixedSizeBinary(_))
}

fn is_short(data_type: &DataType) -> bool {
    data_type.is_integer() && data_type.primitive_width().is_some_and(|bytes| bytes < 8)
}

/// The smallest integer type that holds both; `None` for `uint64` with a signed one.
fn common_integer(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as D;
    let (signed_a, bits_a) = integer_shape(a)?;
    let (signed_b, bits_b) = integer_shape(b)?;
    let (signed, bits) = match (signed_a, signed_b) {
        (true, false) => (true, bits_a.max(bits_b * 2)),
        (false, true) => (true, bits_b.max(bits_a * 2)),
        (signed, _) => (signed, bits_a.max(bits_b)),
    };
    Some(match (signed, bits) {
        (true, 8) => D::Int8,
        (true, 16) => D::Int16,
        (true, 32) => D::Int32,
        (true, 64) => D::Int64,
        (false, 8) => D::UInt8,
        (false, 16) => D::UInt16,
        (false, 32) => D::UInt32,
        (false, 64) => D::UInt64,
        _ => return None,
    })
}

fn integer_shape(data_type: &DataType) -> Option<(bool, usize)> {
    let bits = data_type.is_integer().then(|| data_type.primitive_width())?? * 8;
    Some((data_type.is_signed_integer(), bits))
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let rank = |unit: &TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    if rank(&a) >= rank(&b) { a } else { b }
}

/// The logical schema of a union of versions: columns in the order first seen, types that hold all, the fields and
/// metadata of the newest version.
///
/// # Errors
/// As [`Columns::joined`].
pub(super) fn union_schema(schemas: &[SchemaRef], columns: &Columns) -> Result<SchemaRef> {
    let Some(newest) = schemas.last() else { return Ok(Arc::new(Schema::empty())) };
    if schemas.iter().all(|schema| schema == newest) {
        return Ok(Arc::clone(newest));
    }
    let mut joined: BTreeMap<&str, FieldRef> = BTreeMap::new();
    for schema in schemas {
        for field in schema.fields() {
            let merged = match joined.get(field.name().as_str()) {
                None => Arc::clone(field),
                Some(old) => {
                    let data_type = widen(field.name(), old.data_type(), field.data_type())?;
                    let nullable = old.is_nullable() || field.is_nullable();
                    Arc::new(field.as_ref().clone().with_data_type(data_type).with_nullable(nullable))
                }
            };
            joined.insert(field.name(), merged);
        }
    }
    let in_all = |name: &str| schemas.iter().all(|schema| schema.column_with_name(name).is_some());
    let fields = columns.iter().filter_map(|column| joined.get(column.names.name.as_str())).map(|field| {
        let nullable = field.is_nullable() || !in_all(field.name());
        Arc::new(field.as_ref().clone().with_nullable(nullable))
    });
    Ok(Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), newest.metadata().clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        Schema::new(fields.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect::<Vec<_>>())
    }

    fn join(columns: &Columns, fields: &[(&str, DataType)]) -> Result<Columns> {
        columns.joined(&schema(fields), &columns.names(), &HashSet::new())
    }

    #[test]
    fn stored_names_are_safe_and_stay() {
        let first =
            join(&Columns::default(), &[("a", DataType::Int8), ("A", DataType::Utf8), ("", DataType::Utf8)]).unwrap();
        let names: Vec<_> = first.iter().map(|c| c.names.physical.clone()).collect();
        assert_eq!(names, ["a", "A_2", "column"]);
        let second = join(&first, &[("__pdb_row", DataType::Int8), ("A", DataType::LargeUtf8)]).unwrap();
        let names: Vec<_> = second.iter().map(|c| c.names.physical.clone()).collect();
        assert_eq!(names, ["a", "A_2", "column", "column__pdb_row"]);
        assert_eq!(second.find("A").unwrap().logical, DataType::LargeUtf8);
    }

    #[test]
    fn integers_widen_and_losses_are_refused() {
        use DataType as D;
        for (a, b, common) in [
            (D::Int8, D::Int32, Some(D::Int32)),
            (D::UInt8, D::Int8, Some(D::Int16)),
            (D::UInt32, D::Int8, Some(D::Int64)),
            (D::Null, D::Float64, Some(D::Float64)),
            (D::Utf8, D::Int64, None),
            (D::UInt64, D::Int64, None),
            (D::UInt8, D::UInt64, Some(D::UInt64)),
            (D::Int64, D::Float64, Some(D::Float64)),
            (D::UInt64, D::Float64, None),
            (D::Int32, D::Float32, Some(D::Float64)),
            (D::Float16, D::Float64, Some(D::Float64)),
            (D::new_list(D::Int32, true), D::new_list(D::Float64, true), None),
            (D::new_list(D::Int32, true), D::new_list(D::Int64, true), Some(D::new_list(D::Int64, true))),
            (D::Timestamp(TimeUnit::Second, None), D::Timestamp(TimeUnit::Second, Some("UTC".into())), None),
        ] {
            assert_eq!(common_type(&a, &b), common, "{a} {b}");
        }
        let first = join(&Columns::default(), &[("x", D::Utf8)]).unwrap();
        let error = join(&first, &[("x", D::Int64)]).unwrap_err();
        assert!(error.message().contains("'x'") && error.message().contains("Utf8"), "{error}");
    }

    #[test]
    fn a_name_cannot_appear_twice() {
        let twice = schema(&[("x", DataType::Int8), ("x", DataType::Int8)]);
        assert!(check_load_schema(&twice).unwrap_err().message().contains("'x' appears twice"));
    }

    #[test]
    fn hidden_columns_are_last_and_not_in_sql() {
        let columns = join(&Columns::default(), &[("n", DataType::Null), ("x", DataType::UInt64)]).unwrap();
        let names: Vec<_> = columns.physical_schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["x", LOAD_COLUMN, ROW_COLUMN]);
        assert_eq!(columns.sql_schema().fields().len(), 2);
    }
}
