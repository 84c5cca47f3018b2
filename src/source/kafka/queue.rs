//! The queue that a partition has of its own in librdkafka. Read by its C interface: rdkafka's hides what an error says and
//! where the log ends, and makes an event of each record.
//!
//! What is handed out comes in the order of offsets. Nothing that was fetched before a seek or another assignment comes
//! after it, as librdkafka tells such records by a version.

use std::ffi::CStr;
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;

use rdkafka::bindings as rd;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

use super::context::Context;
use super::ledger::Part;

/// A partition's queue. It keeps the consumer alive.
pub struct Queue {
    /// Ours, and of the same queue as the other.
    native: NonNull<rd::rd_kafka_queue_t>,
    /// Calls when there is something to be read.
    split: PartitionQueue<Context>,
}

// SAFETY: librdkafka's queues may be used by any thread.
unsafe impl Send for Queue {}

/// What comes next of a partition.
pub enum Next {
    Record(Record),
    /// All before this offset that may be read was handed out; what lies before it otherwise are marks of transactions, and
    /// records of those that were given up.
    End(i64),
    /// What went wrong, and what librdkafka says of it.
    Fault(KafkaError, String),
}

/// A record as it was fetched, without a copy.
pub struct Record(NonNull<rd::rd_kafka_message_t>);

impl Queue {
    /// The queue of a partition; from here on its records go there and nowhere else. `None`: no such topic can be.
    pub fn of(consumer: &Arc<BaseConsumer<Context>>, part: &Part) -> Option<Queue> {
        let split = consumer.split_partition_queue(&part.topic, part.partition)?;
        let topic = std::ffi::CString::new(&*part.topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client lives as long as `split`; the name is copied.
        let native = unsafe { rd::rd_kafka_queue_get_partition(client, topic.as_ptr(), part.partition) };
        Some(Queue { native: NonNull::new(native)?, split })
    }

    /// Calls `ready` whenever something comes to the empty queue, from any thread.
    pub fn on_ready(&mut self, ready: impl Fn() + Send + Sync + 'static) {
        self.split.set_nonempty_callback(ready);
    }

    /// What is there; it does not wait.
    pub fn next(&self) -> Option<Next> {
        // SAFETY: the queue is ours; what comes is given back when its keeper is dropped.
        let message = Record(NonNull::new(unsafe { rd::rd_kafka_consume_queue(self.native.as_ptr(), 0) })?);
        Some(match message.error() {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Next::Record(message),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Next::End(message.offset()),
            error => Next::Fault(KafkaError::MessageConsumption(RDKafkaErrorCode::from(error)), message.error_text()),
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it is ours, and not used any more.
        unsafe { rd::rd_kafka_queue_destroy(self.native.as_ptr()) }
    }
}

impl Record {
    /// `None`: a tombstone.
    pub fn payload(&self) -> Option<&[u8]> {
        // SAFETY: as many bytes as it says, for as long as the message lives.
        unsafe { bytes(self.message().payload.cast(), self.message().len) }
    }

    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.message().key.cast(), self.message().key_len) }
    }

    pub fn offset(&self) -> i64 {
        self.message().offset
    }

    /// Milliseconds of Unix time, by its producer or broker; not in the oldest formats.
    pub fn timestamp_ms(&self) -> Option<i64> {
        // SAFETY: the message lives; its kind is not asked for.
        let ms = unsafe { rd::rd_kafka_message_timestamp(self.0.as_ptr(), null_mut()) };
        (ms >= 0).then_some(ms)
    }

    /// Names and values, in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut headers = null_mut();
        // SAFETY: the headers are the message's.
        let error = unsafe { rd::rd_kafka_message_headers(self.0.as_ptr(), &mut headers) };
        let has_some = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        (0..if has_some { usize::MAX } else { 0 }).map_while(move |index| {
            let (mut name, mut value, mut len) = (null(), null(), 0);
            // SAFETY: name and value live as long as the message. Behind the last there is no more.
            unsafe {
                let error = rd::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut len);
                if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return None;
                }
                Some((CStr::from_ptr(name).to_bytes(), bytes(value.cast(), len).unwrap_or_default()))
            }
        })
    }

    fn message(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: it lives until this is dropped.
        unsafe { self.0.as_ref() }
    }

    fn error(&self) -> RDKafkaRespErr {
        self.message().err
    }

    fn error_text(&self) -> String {
        // SAFETY: the text lives as long as the message, or for ever.
        unsafe {
            let text = rd::rd_kafka_message_errstr(self.0.as_ptr());
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // SAFETY: it is ours, and not used any more.
        unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// # Safety
/// `first` is null, or `len` bytes are there for as long as the slice is used.
unsafe fn bytes<'b>(first: *const u8, len: usize) -> Option<&'b [u8]> {
    // SAFETY: as promised.
    (!first.is_null()).then(|| unsafe { std::slice::from_raw_parts(first, len) })
}

/// Where a log was cut, if that is what librdkafka says: it found by the epochs of leaders that the log is not the one that
/// was read. The text is of `rd_kafka_toppar_handle_OffsetForLeaderEpoch` in librdkafka 2.12; a broker without epochs
/// says -1, which is nowhere.
pub fn cut_at(said: &str) -> Option<i64> {
    let (_, end) = said.split_once("broker end offset is ")?;
    let digits = end.split(|c: char| !c.is_ascii_digit() && c != '-').next()?;
    digits.parse().ok().filter(|end| *end >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_log_is_told_from_one_that_is_too_short() {
        let cut = "Partition log truncation detected at offset 1000 (leader epoch 3): broker end offset is 900 (offset \
                   leader epoch 4). Reset to INVALID.: Local: Partition log truncation detected (broker 2)";
        assert_eq!(cut_at(cut), Some(900));
        let unknown = "No epoch found less or equal to offset 1000 (leader epoch 3): broker end offset is -1 (offset leader \
                       epoch -1). Reset using configured policy.: Local: Partition log truncation detected (broker 2)";
        assert_eq!(cut_at(unknown), None);
        let range =
            "fetch failed due to requested offset not available on the broker: Broker: Offset out of range (broker 1)";
        assert_eq!(cut_at(range), None);
    }
}
