//! What is checked of an uploaded message before it is decoded.
//!
//! The Arrow decoder trusts lengths that a message claims: a compressed buffer that claims 2^46 bytes ends the process,
//! and one of 24 KB can unfold to 760 MB. So offsets, lengths and counts are checked against the bytes that are there,
//! and the unfolded size against a limit, before anything is allocated. What panics in the decoder all the same is
//! caught by its caller.

use arrow_flight::FlightData;
use arrow_ipc::{CompressionType, MessageHeader, RecordBatch};

use crate::error::{Error, Result};

/// Rows of one record batch.
const MAX_BATCH_ROWS: i64 = 100_000_000;
/// A compressed buffer begins with the size it unfolds to.
const PREFIX_BYTES: i64 = 8;

fn damaged(what: &str) -> Error {
    Error::invalid(format!("a message of the upload is damaged: {what}"))
}

/// Checks one message. `limit` bounds the bytes its buffers unfold to.
///
/// # Errors
/// [`Kind::Invalid`](crate::error::Kind::Invalid) naming what does not fit,
/// [`Kind::Exhausted`](crate::error::Kind::Exhausted) for what unfolds beyond the limit.
pub(super) fn check(message: &FlightData, limit: usize) -> Result<()> {
    let header = arrow_ipc::root_as_message(&message.data_header)
        .map_err(|error| damaged("its header is no Arrow IPC message").because(error.to_string()))?;
    let batch = match header.header_type() {
        MessageHeader::RecordBatch => header.header_as_record_batch(),
        MessageHeader::DictionaryBatch => header.header_as_dictionary_batch().and_then(|batch| batch.data()),
        MessageHeader::Schema => return Ok(()),
        _ => return Err(damaged("it is neither schema, dictionary nor rows")),
    };
    let batch = batch.ok_or_else(|| damaged("it holds no rows"))?;
    check_batch(batch, &message.data_body, limit)
}

fn check_batch(batch: RecordBatch<'_>, body: &[u8], limit: usize) -> Result<()> {
    if !(0..=MAX_BATCH_ROWS).contains(&batch.length()) {
        return Err(damaged("its number of rows cannot be"));
    }
    let codec = batch.compression().map(|compression| compression.codec());
    let mut unfolded: i64 = 0;
    for buffer in batch.buffers().iter().flatten() {
        let size = buffer_size(buffer.offset(), buffer.length(), body, codec)?;
        unfolded = unfolded.saturating_add(size);
        if unfolded > limit as i64 {
            return Err(Error::exhausted(format!(
                "a record batch unfolds to more than {limit} bytes (--max-message-size); send smaller batches"
            )));
        }
    }
    for node in batch.nodes().iter().flatten() {
        if node.length() < 0 || node.null_count() < 0 || node.null_count() > node.length() {
            return Err(damaged("its numbers of values and nulls cannot be"));
        }
    }
    Ok(())
}

/// The bytes a buffer takes once decoded.
fn buffer_size(offset: i64, length: i64, body: &[u8], codec: Option<CompressionType>) -> Result<i64> {
    let end = offset.checked_add(length).filter(|end| offset >= 0 && length >= 0 && *end <= body.len() as i64);
    if end.is_none() {
        return Err(damaged("a buffer lies outside of its body"));
    }
    let Some(codec) = codec.filter(|_| length > 0) else { return Ok(length) };
    let prefix = body.get(offset as usize..(offset + PREFIX_BYTES) as usize).filter(|_| length >= PREFIX_BYTES);
    let prefix = prefix.and_then(|prefix| <[u8; 8]>::try_from(prefix).ok());
    match prefix.map(i64::from_le_bytes) {
        // -1 means that this buffer was left as it is.
        Some(-1) => Ok(length),
        Some(size) if size >= 0 => {
            let frame = body.get((offset + PREFIX_BYTES) as usize..(offset + length) as usize).unwrap_or_default();
            if codec == CompressionType::LZ4_FRAME && !unfolds_within(frame, size) {
                return Err(damaged("a compressed buffer unfolds to more than it says"));
            }
            Ok(size)
        }
        _ => Err(damaged("a compressed buffer lacks its size")),
    }
}

/// Whether an LZ4 frame has no more than `size` bytes in it. The decoder, unlike that for ZSTD, does not stop there. A
/// damaged frame passes: decoding it fails later.
fn unfolds_within(frame: &[u8], size: i64) -> bool {
    use std::io::Read;
    let mut decoder = lz4_flex::frame::FrameDecoder::new(frame).take(size as u64 + 1);
    std::io::copy(&mut decoder, &mut std::io::sink()).map_or(true, |bytes| bytes <= size as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch as Batch, StringArray};
    use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
    use proptest::prelude::*;

    use super::*;
    use crate::error::Kind;

    const LIMIT: usize = 64 << 20;

    fn message(compression: Option<CompressionType>, rows: usize) -> FlightData {
        let batch = Batch::try_from_iter([
            ("n", Arc::new(Int64Array::from_iter_values(std::iter::repeat_n(0, rows))) as ArrayRef),
            ("s", Arc::new(StringArray::from_iter_values(std::iter::repeat_n("text", rows))) as ArrayRef),
        ])
        .unwrap();
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut dictionaries = DictionaryTracker::new(false);
        let mut context = IpcWriteContext::default();
        let encoded = IpcDataGenerator::default().encode(&batch, &mut dictionaries, &options, &mut context);
        encoded.unwrap().1.into()
    }

    #[test]
    fn honest_messages_pass() {
        for compression in [None, Some(CompressionType::ZSTD), Some(CompressionType::LZ4_FRAME)] {
            check(&message(compression, 1_000), LIMIT).unwrap();
        }
    }

    #[test]
    fn a_size_of_2_to_the_46_is_refused() {
        for compression in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
            let mut message = message(Some(compression), 100);
            let mut body = message.data_body.to_vec();
            for start in (0..body.len().saturating_sub(8)).step_by(8) {
                if i64::from_le_bytes(body[start..start + 8].try_into().unwrap()) == 800 {
                    body[start..start + 8].copy_from_slice(&(1i64 << 46).to_le_bytes());
                }
            }
            message.data_body = body.into();
            assert_eq!(check(&message, LIMIT).unwrap_err().kind(), Kind::Exhausted);
        }
    }

    #[test]
    fn a_bomb_is_refused_by_what_it_unfolds_to() {
        let bomb = message(Some(CompressionType::ZSTD), 1_000_000);
        let limit = bomb.data_body.len();
        assert_eq!(check(&bomb, limit).unwrap_err().kind(), Kind::Exhausted);
    }

    #[test]
    fn a_frame_larger_than_it_says_is_refused() {
        let mut message = message(Some(CompressionType::LZ4_FRAME), 100_000);
        let mut body = message.data_body.to_vec();
        for start in (0..body.len().saturating_sub(8)).step_by(8) {
            if i64::from_le_bytes(body[start..start + 8].try_into().unwrap()) == 800_000 {
                body[start..start + 8].copy_from_slice(&8i64.to_le_bytes());
            }
        }
        message.data_body = body.into();
        assert!(check(&message, LIMIT).unwrap_err().message().contains("unfolds to more"));
    }

    #[test]
    fn a_cut_body_is_refused() {
        let mut message = message(None, 100);
        message.data_body = message.data_body.slice(..10);
        assert_eq!(check(&message, LIMIT).unwrap_err().kind(), Kind::Invalid);
    }

    proptest! {
        #[test]
        fn altered_messages_never_panic_here(at in any::<usize>(), byte in any::<u8>(), in_body in any::<bool>()) {
            let mut message = message(Some(CompressionType::LZ4_FRAME), 50);
            let mut bytes = if in_body { message.data_body.to_vec() } else { message.data_header.to_vec() };
            let at = at % bytes.len();
            bytes[at] = byte;
            if in_body { message.data_body = bytes.into() } else { message.data_header = bytes.into() }
            let _ = check(&message, LIMIT);
        }
    }
}
