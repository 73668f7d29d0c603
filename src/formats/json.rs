//! One JSON array with an object per row, as the clients of pandas read it.
//!
//! | value | in JSON |
//! |---|---|
//! | null, NaN, infinity | `null` |
//! | date, time, timestamp | ISO 8601, with the offset where there is a zone; a number beyond the year 262,000 |
//! | duration | ISO 8601 (`PT1.5S`) |
//! | decimal | a number with all its digits |
//! | binary | Base64 |
//! | category | its value |
//! | list, struct, map | array, object, object |

use std::sync::Arc;

use arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use arrow::error::ArrowError;
use arrow::json::writer::{JsonArray, NullableEncoder};
use arrow::json::{Encoder, EncoderFactory, EncoderOptions, Writer, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Destination, RowWriter};

/// See the module's comment.
pub(super) struct Json(Writer<Destination, JsonArray>);

impl Json {
    /// A writer of rows.
    pub(super) fn new(to: Destination) -> Self {
        let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Factory));
        Self(builder.build::<_, JsonArray>(to))
    }
}

impl RowWriter for Json {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.0.write(&without_null_categories(batch)?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), ArrowError> {
        self.0.finish()?;
        let mut to = self.0.into_inner();
        to.write_all(b"\n")?;
        to.flush().map_err(ArrowError::from)
    }
}

/// The encoder asks the keys of a dictionary alone whether a row is null, and its values may be.
fn without_null_categories(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let has_null_values = |column: &ArrayRef| {
        column.as_any_dictionary_opt().is_some_and(|dictionary| dictionary.values().logical_null_count() > 0)
    };
    if !batch.columns().iter().any(has_null_values) {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Dictionary(_, values) if has_null_values(column) => cast(column, values),
        _ => Ok(Arc::clone(column)),
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    let fields = batch.schema_ref().fields().iter().zip(&columns);
    let fields: Vec<Field> =
        fields.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

/// Values that Arrow's own writer has otherwise: binary ones as hexadecimal digits, and instants beyond the calendar as
/// the text of an error.
#[derive(Debug)]
struct Factory;

impl EncoderFactory for Factory {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => Box::new(Base64(array.as_binary::<i32>())),
            DataType::LargeBinary => Box::new(Base64(array.as_binary::<i64>())),
            DataType::BinaryView => Box::new(Base64(array.as_binary_view())),
            DataType::FixedSizeBinary(_) => Box::new(Base64(array.as_fixed_size_binary())),
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Box::new(Instants::new(array)?),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Instants<'a> {
    text: ArrayFormatter<'a>,
    stored: Int64Array,
}

impl<'a> Instants<'a> {
    fn new(array: &'a dyn Array) -> Result<Self, ArrowError> {
        // Dates of 32 bits go to 64 through their own width.
        let narrow = matches!(array.data_type(), DataType::Date32);
        let stored = if narrow { cast(array, &DataType::Int32)? } else { cast(array, &DataType::Int64)? };
        let stored = cast(&stored, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        Ok(Self { text: ArrayFormatter::try_new(array, &FORMAT)?, stored })
    }
}

/// The default, with a lifetime that every formatter can have.
static FORMAT: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

impl Encoder for Instants<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        match self.text.value(row).try_to_string() {
            Ok(text) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            Err(_) => out.extend_from_slice(self.stored.value(row).to_string().as_bytes()),
        }
    }
}

struct Base64<A>(A);

impl<'a, A: ArrayAccessor<Item = &'a [u8]>> Encoder for Base64<A> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(STANDARD.encode(self.0.value(row)).as_bytes());
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, DictionaryArray, DurationMillisecondArray, Float64Array, Int8Array,
        StringArray, TimestampMillisecondArray, TimestampSecondArray,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn text(columns: Vec<(&str, ArrayRef)>) -> String {
        let shared = Shared::default();
        let mut writer = Box::new(Json::new(Box::new(shared.clone())));
        writer.write(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        writer.finish().unwrap();
        String::from_utf8(shared.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn values_stand_as_the_table_says() {
        let instant = TimestampMillisecondArray::from(vec![1_704_067_200_500]);
        let zoned = instant.clone().with_timezone("+02:00");
        let decimal = Decimal128Array::from(vec![12_345_678_901_234_567_890_123_i128]).with_precision_and_scale(38, 2);
        let written = text(vec![
            ("nan", Arc::new(Float64Array::from(vec![f64::NAN]))),
            ("inf", Arc::new(Float64Array::from(vec![f64::INFINITY]))),
            ("t", Arc::new(instant)),
            ("z", Arc::new(zoned)),
            ("d", Arc::new(decimal.unwrap())),
            ("b", Arc::new(BinaryArray::from(vec![&b"\x00\xff\xfe"[..]]))),
            ("p", Arc::new(DurationMillisecondArray::from(vec![1_500]))),
        ]);
        assert_eq!(
            written,
            "[{\"nan\":null,\"inf\":null,\"t\":\"2024-01-01T00:00:00.500\",\"z\":\"2024-01-01T02:00:00.500+02:00\",\
             \"d\":123456789012345678901.23,\"b\":\"AP/+\",\"p\":\"PT1.5S\"}]\n"
        );
    }

    #[test]
    fn instants_beyond_the_calendar_are_numbers() {
        let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![Some(i64::MAX), Some(0), None]));
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(i32::MIN), Some(0), None]));
        assert_eq!(
            text(vec![("t", far), ("d", days)]),
            "[{\"t\":9223372036854775807,\"d\":-2147483648},{\"t\":\"1970-01-01T00:00:00\",\"d\":\"1970-01-01\"},\
             {\"t\":null,\"d\":null}]\n"
        );
    }

    #[test]
    fn a_null_among_the_categories_is_a_null() {
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let column = DictionaryArray::try_new(Int8Array::from(vec![0, 1, 0]), values).unwrap();
        assert_eq!(text(vec![("c", Arc::new(column))]), "[{\"c\":\"a\"},{\"c\":null},{\"c\":\"a\"}]\n");
    }
}
