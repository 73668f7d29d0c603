//! Values for the parameters of prepared statements: received, and carried in handles.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow_flight::decode::DecodedPayload;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::incoming::Incoming;
use crate::error::{Error, Result};
use crate::query::Parameters;

/// Arrow bytes of the values that are bound to a query, since its handle and its tickets carry them.
const MAX_BOUND_BYTES: usize = 1 << 20;
/// Arrow bytes of the values of an update, which are held in memory while it runs.
const MAX_UPDATE_BYTES: usize = 256 << 20;

/// What values are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They are bound to a query that is run later.
    Bind,
    /// They are used at once, row by row.
    Update,
}

/// Reads the values that a client sends; `None` when it sends none.
///
/// # Errors
/// [`Kind::Exhausted`](crate::error::Kind::Exhausted) for more than can be carried, and those of [`Incoming::next`].
pub(super) async fn receive(incoming: &mut Incoming, purpose: Purpose) -> Result<Option<Parameters>> {
    let limit = if purpose == Purpose::Bind { MAX_BOUND_BYTES } else { MAX_UPDATE_BYTES };
    let (mut schema, mut batches, mut bytes) = (None, Vec::<RecordBatch>::new(), 0);
    while let Some(payload) = incoming.next().await? {
        match payload {
            DecodedPayload::None => {}
            DecodedPayload::Schema(sent) => {
                schema.get_or_insert(sent);
            }
            DecodedPayload::RecordBatch(batch) => {
                bytes += batch.get_array_memory_size();
                if bytes > limit {
                    return Err(Error::exhausted(format!(
                        "the values of the parameters take more than {limit} bytes; send fewer, or load them into a \
                         table"
                    )));
                }
                batches.push(batch);
            }
        }
    }
    let Some(schema) = schema.filter(|schema| !schema.fields().is_empty() && !batches.is_empty()) else {
        return Ok(None);
    };
    let joined = concat_batches(&schema, &batches)
        .map_err(|error| Error::invalid("the values of the parameters differ in their types").because(error))?;
    if joined.num_rows() == 0 { Ok(None) } else { Parameters::new(&joined).map(Some) }
}

/// Values as text.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when they cannot be written.
pub(super) fn to_text(parameters: &Parameters) -> Result<String> {
    let broken = |error| Error::internal("parameters cannot be written").because(error);
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, parameters.batch().schema_ref()).map_err(broken)?;
    writer.write(parameters.batch()).and_then(|()| writer.finish()).map_err(broken)?;
    drop(writer);
    Ok(STANDARD.encode(bytes))
}

/// Values from the text that [`to_text`] made, which came back under our signature.
///
/// # Errors
/// [`Kind::Internal`](crate::error::Kind::Internal) when it is not such a text.
pub(super) fn from_text(text: &str) -> Result<Parameters> {
    let broken = || Error::internal("the parameters of a handle cannot be read");
    let bytes = STANDARD.decode(text).map_err(|error| broken().because(error))?;
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|error| broken().because(error))?;
    let batch = reader.next().ok_or_else(broken)?.map_err(|error| broken().because(error))?;
    Parameters::new(&batch)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn values_survive_a_handle() {
        let batch = RecordBatch::try_from_iter([
            ("a", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef),
            ("b", Arc::new(StringArray::from(vec!["x", "ü"])) as ArrayRef),
        ]);
        let parameters = Parameters::new(&batch.unwrap()).unwrap();
        assert_eq!(from_text(&to_text(&parameters).unwrap()).unwrap(), parameters);
        assert!(from_text("AAAA").is_err());
    }
}
