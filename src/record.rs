//! Records and batches: what one hand gives the next.
//!
//! A batch is one contiguous buffer plus where each payload lies in it, so that a record costs no allocation of its
//! own from the socket to the encoder. A payload may lie anywhere in the buffer: a block of a file with its line
//! ends, or a frame of the spool with its header, is a batch without a copy.

use bytes::Bytes;

/// Where one payload lies in a batch's buffer: `data[start..end]`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        Batch { data, spans, arrival_ms }
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
        self.data.len() + self.spans.len() * (size_of::<Span>() + size_of::<i64>())
    }
}

/// Collects payloads into one buffer, by copying.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    data: Vec<u8>,
    spans: Vec<Span>,
    arrival_ms: Vec<i64>,
}

impl BatchBuilder {
    /// Room for this many records and payload bytes.
    pub fn with_capacity(records: usize, bytes: usize) -> BatchBuilder {
        BatchBuilder {
            data: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(records),
            arrival_ms: Vec::with_capacity(records),
        }
    }

    /// Appends one record. Panics past 4 GiB, which every caller's own limit keeps far away.
    pub fn push(&mut self, payload: &[u8], arrival_ms: i64) {
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
        Batch::new(self.data.into(), self.spans, self.arrival_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_record_without_its_end() {
        assert_eq!(of_line(b"x"), Some(&b"x"[..]));
        assert_eq!(of_line(b"x\r"), Some(&b"x"[..]));
        assert_eq!(of_line(b"x\r\r"), Some(&b"x\r"[..]), "one line has one end");
        assert_eq!(of_line(b"\rx"), Some(&b"\rx"[..]));
        assert_eq!((of_line(b""), of_line(b"\r")), (None, None));
    }
}
