//! Records and batches: what one hand gives the next.
//!
//! A batch is one contiguous buffer plus where each payload lies in it, so that a record costs no allocation of its
//! own from the socket to the encoder. A payload may lie anywhere in the buffer: a block of a file with its line
//! ends, or a frame of the spool with its header, is a batch without a copy.

mod known;

use std::sync::Arc;

use bytes::Bytes;

use known::Known;
pub use known::{Origin, Pairs};

/// Where one payload lies in a batch's buffer: `data[start..end]`, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// The record in a line: `line`, which is without its `\n`, up to a `\r` at its end; `None` if that is nothing.
///
/// This is the rule wherever lines come in, for a last one without its end too.
pub fn of_line(line: &[u8]) -> Option<&[u8]> {
    let content = line.strip_suffix(b"\r").unwrap_or(line);
    (!content.is_empty()).then_some(content)
}

/// Records handed over at once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    data: Bytes,
    spans: Vec<Span>,
    arrival_ms: Vec<i64>,
    known: Option<Arc<Known>>,
}

impl Batch {
    /// A batch over `data`; `arrival_ms` holds one arrival time (Unix milliseconds) per span.
    ///
    /// Panics if a span lies outside the buffer or the two lists differ in length: both are made by our own code.
    pub fn new(data: Bytes, spans: Vec<Span>, arrival_ms: Vec<i64>) -> Batch {
        assert_eq!(spans.len(), arrival_ms.len(), "one arrival time per record");
        assert!(
            spans.iter().all(|s| s.start <= s.end && s.end as usize <= data.len()),
            "every span lies in the buffer"
        );
        Batch { data, spans, arrival_ms, known: None }
    }

    /// Batches of one shard one behind the other, in one buffer: a copy, unless it is one batch.
    pub fn join(mut batches: Vec<Batch>) -> Batch {
        match batches.len() {
            0 => Batch::default(),
            1 => batches.swap_remove(0),
            _ => {
                let bytes = batches.iter().map(Batch::payload_bytes).sum::<u64>();
                let records = batches.iter().map(Batch::len).sum();
                let mut joined = BatchBuilder::with_capacity(records, usize::try_from(bytes).unwrap_or(0));
                for batch in &batches {
                    (0..batch.len()).for_each(|row| joined.push_from(batch, row, batch.payload(row), &[]));
                }
                joined.finish()
            }
        }
    }

    /// The batch in pieces of at most so many records and payload bytes (more if one record has more), without a copy of
    /// their payloads.
    pub fn pieces(self, records_max: usize, bytes_max: u64) -> Vec<Batch> {
        if self.len() <= records_max && self.payload_bytes() <= bytes_max {
            return vec![self];
        }
        let rows: Vec<u32> = (0..self.len() as u32).collect();
        let (mut pieces, mut start, mut bytes) = (Vec::new(), 0, 0);
        for row in 0..self.len() {
            let of_row = self.payload(row).len() as u64;
            if row > start && (row - start == records_max || bytes + of_row > bytes_max) {
                pieces.push(self.select(&rows[start..row]));
                (start, bytes) = (row, 0);
            }
            bytes += of_row;
        }
        pieces.push(self.select(&rows[start..]));
        pieces
    }

    /// The records of these rows (in this order), without a copy of their payloads.
    pub fn select(&self, rows: &[u32]) -> Batch {
        let rows = || rows.iter().map(|row| *row as usize);
        Batch {
            data: self.data.clone(),
            spans: rows().map(|row| self.spans[row]).collect(),
            arrival_ms: rows().map(|row| self.arrival_ms[row]).collect(),
            known: self.known.as_ref().map(|known| Arc::new(known.select(rows()))),
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The payload of record `index`.
    pub fn payload(&self, index: usize) -> &[u8] {
        let span = self.spans[index];
        &self.data[span.start as usize..span.end as usize]
    }

    /// The payload of record `index` by itself, without a copy: it keeps the batch's buffer alive.
    pub fn share(&self, index: usize) -> Bytes {
        let span = self.spans[index];
        self.data.slice(span.start as usize..span.end as usize)
    }

    /// When record `index` arrived, in Unix milliseconds.
    pub fn arrival_ms(&self, index: usize) -> i64 {
        self.arrival_ms[index]
    }

    /// When the oldest of the records arrived, in Unix milliseconds.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.arrival_ms.iter().copied().min()
    }

    /// The key of record `index`, if its source gave it one.
    pub fn key(&self, index: usize) -> Option<&[u8]> {
        self.known.as_ref()?.key(index)
    }

    /// Where record `index` comes from, if its source knows topics.
    pub fn origin(&self, index: usize) -> Option<Origin<'_>> {
        self.known.as_ref()?.origin(index)
    }

    /// The partition keys that transforms gave record `index`, oldest first: of one name the last counts.
    pub fn partition_keys(&self, index: usize) -> Pairs<'_> {
        self.known.as_ref().map(|known| known.partition_keys(index)).unwrap_or_default()
    }

    /// The payloads in order.
    pub fn payloads(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.payload(index))
    }

    /// Bytes of all payloads together.
    pub fn payload_bytes(&self) -> u64 {
        self.spans.iter().map(|s| u64::from(s.end - s.start)).sum()
    }

    /// Bytes of memory that this batch keeps alive (its whole buffer and its lists).
    pub fn memory(&self) -> usize {
        let known = self.known.as_ref().map_or(0, |known| known.memory());
        self.data.len() + self.spans.len() * (size_of::<Span>() + size_of::<i64>()) + known
    }
}

/// Collects payloads into one buffer, by copying.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    data: Vec<u8>,
    spans: Vec<Span>,
    arrival_ms: Vec<i64>,
    known: Option<Known>,
}

impl BatchBuilder {
    /// Room for this many records and payload bytes.
    pub fn with_capacity(records: usize, bytes: usize) -> BatchBuilder {
        BatchBuilder {
            data: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(records),
            arrival_ms: Vec::with_capacity(records),
            known: None,
        }
    }

    /// Says that the records come from this partition of a topic.
    pub fn set_topic(&mut self, topic: &Arc<str>, partition: u32) {
        let rows = self.len();
        self.known.get_or_insert_with(|| Known::of_nothing(rows)).set_topic(topic, partition);
    }

    /// Appends one record. Panics past 4 GiB, which every caller's own limit keeps far away.
    pub fn push(&mut self, payload: &[u8], arrival_ms: i64) {
        if let Some(known) = &mut self.known {
            known.push_nothing();
        }
        self.push_payload(payload, arrival_ms);
    }

    /// Appends one record with what its source knows of it: key, offset and headers. Panics as [`push`](Self::push).
    pub fn push_known<'h>(
        &mut self,
        payload: &[u8],
        arrival_ms: i64,
        (key, offset): (Option<&[u8]>, u64),
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
    ) {
        let rows = self.len();
        self.known.get_or_insert_with(|| Known::of_nothing(rows)).push(key, offset, headers);
        self.push_payload(payload, arrival_ms);
    }

    /// Appends what record `index` of `batch` has become: another payload, and all else as it was, with these partition
    /// keys more. Panics as [`push`](Self::push).
    pub fn push_from(&mut self, batch: &Batch, index: usize, payload: &[u8], keys: &[(&str, &str)]) {
        if batch.known.is_some() || !keys.is_empty() {
            let rows = self.len();
            let from = batch.known.as_deref().map(|known| (known, index));
            self.known.get_or_insert_with(|| Known::of_nothing(rows)).push_from(from, keys);
        } else if let Some(known) = &mut self.known {
            known.push_nothing();
        }
        self.push_payload(payload, batch.arrival_ms(index));
    }

    fn push_payload(&mut self, payload: &[u8], arrival_ms: i64) {
        let start = u32::try_from(self.data.len()).expect("a batch stays far below 4 GiB");
        self.data.extend_from_slice(payload);
        let end = u32::try_from(self.data.len()).expect("a batch stays far below 4 GiB");
        self.spans.push(Span { start, end });
        self.arrival_ms.push(arrival_ms);
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Payload bytes so far.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The batch.
    pub fn finish(self) -> Batch {
        let known = self.known.map(Arc::new);
        Batch { known, ..Batch::new(self.data.into(), self.spans, self.arrival_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_record_goes_on_to_what_it_becomes() {
        let mut read = BatchBuilder::default();
        read.push(b"nothing", 1);
        read.set_topic(&"orders".into(), 3);
        read.push_known(b"one", 2, (Some(b"key"), 42), [(&b"trace"[..], &b"ff"[..]), (b"", b"")]);
        let read = read.finish();
        assert_eq!((read.key(0), read.key(1)), (None, Some(&b"key"[..])));

        let mut next = BatchBuilder::default();
        next.push_from(&read, 1, b"uno", &[("country", "de")]);
        next.push_from(&read, 1, b"due", &[]);
        let next = next.finish().select(&[1, 0]);
        let mut last = BatchBuilder::default();
        last.push_from(&next, 1, b"ein", &[("country", "at")]);
        let last = last.finish();

        assert_eq!(next.partition_keys(0).next(), None);
        let keys: Vec<_> = last.partition_keys(0).collect();
        assert_eq!(keys, [(&b"country"[..], &b"de"[..]), (b"country", b"at")]);
        let origin = last.origin(0).unwrap();
        assert_eq!((origin.topic, origin.partition, origin.offset), ("orders", 3, 42));
        assert_eq!(origin.headers.collect::<Vec<_>>(), [(&b"trace"[..], &b"ff"[..]), (b"", b"")]);
        assert_eq!((last.key(0), last.arrival_ms(0), last.payload(0)), (Some(&b"key"[..]), 2, &b"ein"[..]));
    }

    #[test]
    fn joined_batches_keep_what_is_known_of_each_record() {
        let mut plain = BatchBuilder::default();
        plain.push(b"first", 1);
        let plain = plain.finish();
        let of_topic = |offset: u64| {
            let mut batch = BatchBuilder::default();
            batch.set_topic(&"orders".into(), 3);
            let header = offset.to_string();
            batch.push_known(b"x", 2, (Some(header.as_bytes()), offset), [(&b"at"[..], header.as_bytes())]);
            batch.push_known(b"", 3, (None, offset + 1), []);
            batch.finish()
        };
        let mut keyed = BatchBuilder::default();
        keyed.push_from(&of_topic(7), 0, b"keyed", &[("country", "de")]);
        let batches = vec![plain.clone(), of_topic(40).select(&[1, 0]), Batch::default(), keyed.finish()];

        let joined = Batch::join(batches);
        assert_eq!(joined.payloads().collect::<Vec<_>>(), [&b"first"[..], b"", b"x", b"keyed"]);
        let times: Vec<i64> = (0..joined.len()).map(|row| joined.arrival_ms(row)).collect();
        assert_eq!(times, [1, 3, 2, 2]);
        let keys: Vec<_> = (0..joined.len()).map(|row| joined.key(row)).collect();
        assert_eq!(keys, [None, None, Some(&b"40"[..]), Some(b"7")]);
        let origins: Vec<_> = (1..joined.len()).map(|row| joined.origin(row).unwrap().offset).collect();
        assert_eq!(origins, [41, 40, 7]);
        assert_eq!(joined.origin(2).unwrap().headers.collect::<Vec<_>>(), [(&b"at"[..], &b"40"[..])]);
        assert_eq!(joined.partition_keys(3).collect::<Vec<_>>(), [(&b"country"[..], &b"de"[..])]);

        let alone = Batch::join(vec![plain.clone()]);
        assert_eq!(alone.payload(0).as_ptr(), plain.payload(0).as_ptr(), "one batch is not copied");
    }

    #[test]
    fn a_line_is_a_record_without_its_end() {
        assert_eq!(of_line(b"x"), Some(&b"x"[..]));
        assert_eq!(of_line(b"x\r"), Some(&b"x"[..]));
        assert_eq!(of_line(b"x\r\r"), Some(&b"x\r"[..]), "one line has one end");
        assert_eq!(of_line(b"\rx"), Some(&b"\rx"[..]));
        assert_eq!((of_line(b""), of_line(b"\r")), (None, None));
    }
}
