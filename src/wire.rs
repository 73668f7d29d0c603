//! Record batches as Flight messages.
//!
//! Promises: the schema goes out with all its metadata and types, dictionaries as dictionaries (each again only when
//! it changed), and every batch in messages under [`MAX_MESSAGE_BYTES`], which any gRPC server takes, except where a
//! single row or a dictionary is larger by itself.
//!
//! `arrow_flight::encode::FlightDataEncoder` is not used: it declares `LargeList` columns as `List`, so that they
//! cannot be read back, drops the metadata of unions, and measures a slice by the buffers it is cut from, so that
//! sliced batches fall apart into tiny messages.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow_flight::{FlightData, FlightDescriptor};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder};
use arrow_ipc::{MessageHeader, root_as_message};
use bytes::Bytes;

/// The largest message sent. gRPC servers take 4 MiB unless told otherwise; the rest is room for the envelope.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;
/// What a slice is cut to by estimate. A client takes several messages of this size in three quarters of the time that
/// it needs for a larger one (pyarrow, `benches/frame_roundtrip.py`), and few have to be cut again.
const TARGET_BYTES: usize = 1024 * 1024;

/// A Flight message whose body still lies in the buffers of its columns.
#[derive(Debug, Default)]
pub struct Message {
    /// Everything but the body.
    pub envelope: FlightData,
    /// The body, in pieces.
    pub body: Vec<Bytes>,
}

impl Message {
    /// The bytes of the body.
    pub fn body_bytes(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// The message in one piece, by a copy of the body.
    pub fn into_flight_data(self) -> FlightData {
        FlightData { data_body: self.body.concat().into(), ..self.envelope }
    }

    fn bytes(&self) -> usize {
        self.envelope.data_header.len().saturating_add(self.body_bytes())
    }
}

/// Turns batches of one schema into messages.
pub struct Encoder {
    stream: StreamEncoder,
    schema: FlightData,
}

impl Encoder {
    /// An encoder at the start of a stream of batches of `schema`.
    ///
    /// # Errors
    /// When the schema holds what Arrow's messages cannot say: dictionaries of dictionaries.
    pub fn try_new(schema: &Schema) -> Result<Self, ArrowError> {
        let options = IpcWriteOptions::default();
        // Dictionaries may change from batch to batch; a stream just sends the new one.
        let mut dictionaries = DictionaryTracker::new(false);
        let message =
            IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut dictionaries, &options);
        let stream = StreamEncoder::try_new_with_options(schema, options)?;
        Ok(Self { stream, schema: message.into() })
    }

    /// The first message: the schema, and what the stream is for.
    pub fn schema(&self, descriptor: FlightDescriptor) -> FlightData {
        self.schema.clone().with_descriptor(descriptor)
    }

    /// The messages of one slice: dictionaries first, then the rows, cut again where the estimate was too low.
    ///
    /// # Errors
    /// When Arrow cannot encode it.
    pub fn slice(&mut self, slice: &RecordBatch) -> Result<Vec<Message>, ArrowError> {
        let mut out = Vec::new();
        let whole = self.encoded(slice, &mut out)?;
        self.cut(slice, whole, &mut out)?;
        Ok(out)
    }

    fn cut(&mut self, rows: &RecordBatch, whole: Message, out: &mut Vec<Message>) -> Result<(), ArrowError> {
        let count = rows.num_rows();
        if whole.bytes() <= MAX_MESSAGE_BYTES || count < 2 {
            out.push(whole);
            return Ok(());
        }
        let left = rows.slice(0, count / 2);
        let right = rows.slice(count / 2, count - count / 2);
        let left_message = self.encoded(&left, out)?;
        let right_message = self.encoded(&right, out)?;
        // Some nested types (dense unions, list views) are written with all their children however few rows are
        // left. Cutting only multiplies those, so they go as they are.
        if left_message.bytes().saturating_add(right_message.bytes()) > whole.bytes().saturating_mul(3) / 2 {
            out.push(whole);
            return Ok(());
        }
        drop(whole);
        self.cut(&left, left_message, out)?;
        self.cut(&right, right_message, out)
    }

    /// The message of some rows; the dictionaries that must precede it go to `out`.
    fn encoded(&mut self, rows: &RecordBatch, out: &mut Vec<Message>) -> Result<Message, ArrowError> {
        let mut messages = take_apart(self.stream.encode(&compact(rows)?)?)?;
        let rows = messages.pop().ok_or_else(broken)?;
        out.append(&mut messages);
        Ok(rows)
    }
}

/// A buffer as an owner of bytes.
struct Piece(Buffer);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// The messages in a stream of Arrow's IPC format, but for that of the schema: each begins with a mark and the length
/// of its header, and the header says how long the body is.
fn take_apart(stream: Vec<Buffer>) -> Result<Vec<Message>, ArrowError> {
    // Buffers without bytes come as pieces, at the end of a body too.
    let pieces = stream.into_iter().filter(|buffer| !buffer.is_empty());
    let mut pieces = pieces.map(|buffer| Bytes::from_owner(Piece(buffer)));
    let mut messages = Vec::new();
    while let Some(start) = pieces.next() {
        let length = start.last_chunk().map(|length| i32::from_le_bytes(*length)).ok_or_else(broken)?;
        let header: Bytes = take(&mut pieces, i64::from(length))?.concat().into();
        let read = root_as_message(&header).map_err(|_| broken())?;
        let (kind, body) = (read.header_type(), take(&mut pieces, read.bodyLength())?);
        if kind != MessageHeader::Schema {
            messages.push(Message { envelope: FlightData::new().with_data_header(header), body });
        }
    }
    Ok(messages)
}

/// As many pieces as have `bytes` together.
fn take(pieces: &mut impl Iterator<Item = Bytes>, bytes: i64) -> Result<Vec<Bytes>, ArrowError> {
    let mut missing = usize::try_from(bytes).map_err(|_| broken())?;
    let mut taken = Vec::new();
    while missing > 0 {
        let piece = pieces.next().ok_or_else(broken)?;
        missing = missing.checked_sub(piece.len()).ok_or_else(broken)?;
        taken.push(piece);
    }
    Ok(taken)
}

fn broken() -> ArrowError {
    ArrowError::IpcError("the encoder gave something that is no stream of messages".into())
}

/// Slices of about 1 MiB, in order; none of a batch without rows.
pub fn slices(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let rows = batch.num_rows();
    let step = rows_per_slice(rows, batch_bytes(batch));
    (0..rows).step_by(step).map(move |start| batch.slice(start, step.min(rows - start)))
}

fn rows_per_slice(rows: usize, bytes: usize) -> usize {
    let pieces = bytes.div_ceil(TARGET_BYTES).max(1);
    rows.div_ceil(pieces).max(1)
}

fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(column_bytes).fold(0, usize::saturating_add)
}

/// The bytes of a column's own rows, not of the buffers it is cut from.
fn column_bytes(column: &ArrayRef) -> usize {
    match column.data_type() {
        // The values travel once, in a message of their own.
        DataType::Dictionary(key, _) => column.len().saturating_mul(key.primitive_width().unwrap_or(8)),
        DataType::Utf8View => {
            let views = column.as_string_view();
            views.total_buffer_bytes_used().saturating_add(views.len().saturating_mul(16))
        }
        DataType::BinaryView => {
            let views = column.as_binary_view();
            views.total_buffer_bytes_used().saturating_add(views.len().saturating_mul(16))
        }
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_buffer_memory_size()),
    }
}

/// The batch with its view columns holding no more than their own bytes: they are written with every buffer they
/// share with other slices.
fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let is_view = |column: &ArrayRef| matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !batch.columns().iter().any(is_view) {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => Arc::clone(column),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns.collect(), &options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        DictionaryArray, Int64Array, LargeListArray, NullArray, StringArray, StringViewArray, StructArray,
    };
    use arrow::datatypes::{Field, Int32Type, Int64Type};
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::{StreamExt, TryStreamExt, stream};

    fn encode(batches: &[RecordBatch]) -> Vec<FlightData> {
        let mut encoder = Encoder::try_new(&batches[0].schema()).unwrap();
        let mut out = vec![encoder.schema(FlightDescriptor::new_cmd("x"))];
        for batch in batches {
            for slice in slices(batch) {
                out.extend(encoder.slice(&slice).unwrap().into_iter().map(Message::into_flight_data));
            }
        }
        out
    }

    fn size(message: &FlightData) -> usize {
        message.data_header.len() + message.data_body.len()
    }

    async fn decode(messages: Vec<FlightData>) -> Vec<RecordBatch> {
        let stream = FlightRecordBatchStream::new_from_flight_data(stream::iter(messages).map(Ok));
        stream.try_collect().await.unwrap()
    }

    async fn comes_back(batch: &RecordBatch, limit: usize, at_most: usize) {
        let messages = encode(std::slice::from_ref(batch));
        assert!(messages.iter().all(|message| size(message) <= limit));
        assert!(messages.len() <= at_most, "{} messages", messages.len());
        let decoded = decode(messages).await;
        let schema = decoded[0].schema();
        assert_eq!(schema, batch.schema());
        assert_eq!(&arrow::compute::concat_batches(&schema, &decoded).unwrap(), batch);
    }

    fn one(name: &str, column: ArrayRef) -> RecordBatch {
        let field =
            Field::new(name, column.data_type().clone(), true).with_metadata([("k".to_owned(), "v".to_owned())].into());
        let schema = Schema::new(vec![field]).with_metadata([("pandas".to_owned(), "{}".to_owned())].into());
        RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap()
    }

    #[tokio::test]
    async fn messages_stay_under_the_limit_and_come_back_whole() {
        let numbers = Arc::new(Int64Array::from_iter_values(0..3_000_000));
        comes_back(&one("n", numbers), MAX_MESSAGE_BYTES, 30).await;
        let views = Arc::new(StringViewArray::from_iter_values((0..200_000).map(|n| format!("a long string {n:040}"))));
        comes_back(&one("v", views), MAX_MESSAGE_BYTES, 20).await;
    }

    #[tokio::test]
    async fn a_slice_counts_its_own_bytes_only() {
        let whole = one("n", Arc::new(Int64Array::from_iter_values(0..3_000_000)));
        assert_eq!(slices(&whole.slice(1_000_000, 1000)).count(), 1);
        comes_back(&whole.slice(1_000_000, 1000), 16 * 1024, 2).await;
    }

    #[tokio::test]
    async fn skewed_rows_are_cut_again() {
        let big = "x".repeat(1024 * 1024);
        let rows = (0..100_000).map(|n| if n < 12 { big.as_str() } else { "y" });
        comes_back(&one("s", Arc::new(StringArray::from_iter_values(rows))), MAX_MESSAGE_BYTES, 30).await;
    }

    #[tokio::test]
    async fn one_row_over_the_limit_still_goes() {
        let huge = "x".repeat(MAX_MESSAGE_BYTES + 1);
        comes_back(&one("s", Arc::new(StringArray::from(vec!["a", &huge, "b"]))), huge.len() + 1024, 5).await;
    }

    #[tokio::test]
    async fn large_lists_keep_their_type() {
        let rows = (0..1000).map(|n| Some(vec![Some(n), None]));
        comes_back(&one("l", Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>(rows))), 64 * 1024, 2)
            .await;
    }

    #[tokio::test]
    async fn a_dictionary_goes_once_until_it_changes() {
        let keys: DictionaryArray<Int32Type> = (0..2_000_000).map(|n| if n % 2 == 0 { "a" } else { "b" }).collect();
        let batch = one("c", Arc::new(keys));
        let messages = encode(std::slice::from_ref(&batch));
        let dictionaries = |messages: &[FlightData]| {
            let headers = messages.iter().map(|message| arrow_ipc::root_as_message(&message.data_header).unwrap());
            headers.filter(|header| header.header_as_dictionary_batch().is_some()).count()
        };
        assert_eq!(dictionaries(&messages), 1);
        let other: DictionaryArray<Int32Type> = ["z", "a"].into_iter().collect();
        let messages = encode(&[batch.slice(0, 2), one("c", Arc::new(other)), batch.slice(0, 2)]);
        assert_eq!(dictionaries(&messages), 3);
        let decoded = decode(messages).await;
        assert_eq!(decoded[0], batch.slice(0, 2));
        assert_eq!(decoded[1].column(0).as_dictionary::<Int32Type>().values().as_string::<i32>().value(0), "z");
    }

    #[tokio::test]
    async fn columns_without_bytes_come_back() {
        let empty_texts = || Arc::new(StringArray::from(vec![Some(""), None])) as ArrayRef;
        comes_back(&one("s", empty_texts()), 4_096, 2).await;
        let empty_lists = LargeListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![]), None::<Vec<_>>]);
        comes_back(&one("l", Arc::new(empty_lists)), 4_096, 2).await;
        comes_back(&one("e", Arc::new(StructArray::new_empty_fields(2, None))), 4_096, 2).await;
        comes_back(&one("n", Arc::new(NullArray::new(2))), 4_096, 2).await;
        let columns = [("s", empty_texts()), ("n", Arc::new(NullArray::new(2)) as ArrayRef)];
        let columns = columns.map(|(name, column)| (name, column, true));
        comes_back(&RecordBatch::try_from_iter_with_nullable(columns).unwrap(), 4_096, 2).await;
        let rows = RecordBatchOptions::new().with_row_count(Some(3));
        let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &rows).unwrap();
        let messages = Encoder::try_new(&none.schema()).unwrap().slice(&none).unwrap();
        let sent = root_as_message(&messages[0].envelope.data_header).unwrap();
        assert_eq!(sent.header_as_record_batch().unwrap().length(), 3);
    }

    #[test]
    fn columns_are_sent_from_where_they_lie() {
        let numbers = Int64Array::from_iter_values(0..10_000);
        let start = numbers.values().as_ptr().cast::<u8>();
        let batch = one("n", Arc::new(numbers));
        let messages = Encoder::try_new(&batch.schema()).unwrap().slice(&batch).unwrap();
        assert!(messages[0].body.iter().any(|piece| piece.as_ptr() == start));
    }

    #[test]
    fn an_empty_batch_makes_no_slice() {
        assert_eq!(slices(&one("n", Arc::new(Int64Array::from(Vec::<i64>::new())))).count(), 0);
    }
}
