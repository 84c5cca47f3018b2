//! Lines: cuts blocks of bytes into records, in memory bounded by one block and one line.
//!
//! A record is a line without its end, `\n` or `\r\n`. Empty lines are no records; they only count in positions. A
//! line above the limit is no record either: it is passed over to its end, told to the caller, and stays in the file.
//!
//! ```text
//!            |<- unfinished ->|<---- new bytes ---->|
//! ... aaaa \n  bbbb bbbb bbbb   bb \n  cccc \n  dddd
//!             ^position                       ^position after the cut: always the start of a line
//! ```

use bytes::Bytes;

use crate::position::Position;
use crate::record::{Batch, Span, of_line};
use crate::source::Read;

/// A line that was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its length without the newline, in bytes.
    pub bytes: u64,
}

/// The lines of one file, from a position on.
pub struct Lines {
    line_bytes_max: usize,
    position: u64,
    /// The line that begins at `position`, as far as it was read.
    unfinished: Vec<u8>,
    /// Bytes of that line that were let go because it is too long.
    passed: u64,
    too_long: Vec<TooLong>,
    records_usual: usize,
}

impl Lines {
    /// Lines from `position`, which is the start of one; none may be longer than `line_bytes_max`.
    pub fn new(position: u64, line_bytes_max: usize) -> Lines {
        Lines { line_bytes_max, position, unfinished: Vec::new(), passed: 0, too_long: Vec::new(), records_usual: 0 }
    }

    /// The start of the first line that was not handed out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where the next byte must come from.
    pub fn read_to(&self) -> u64 {
        self.position + self.passed + self.unfinished.len() as u64
    }

    /// Whether part of a line waits for its end.
    pub fn is_amid_line(&self) -> bool {
        self.read_to() > self.position
    }

    /// The buffer that the next bytes are appended to, before `cut`.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.unfinished
    }

    /// The lines that were passed over since the last call.
    pub fn take_too_long(&mut self) -> Vec<TooLong> {
        std::mem::take(&mut self.too_long)
    }

    /// Hands out the lines that end in the new bytes, those of the buffer from `old` on; `None` if no line ends there.
    pub fn cut(&mut self, old: usize, arrival_ms: i64) -> Option<Read> {
        let mut block = std::mem::take(&mut self.unfinished);
        let passed = std::mem::take(&mut self.passed);
        let mut spans = Vec::with_capacity(self.records_usual);
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', &block[old..]) {
            let newline = old + newline;
            let let_go = if start == 0 { passed } else { 0 };
            let offset = self.position + passed - let_go + start as u64;
            spans.extend(self.line(&block, start, newline, let_go, offset));
            start = newline + 1;
        }
        if start == 0 {
            self.keep(block, passed);
            return None;
        }
        self.keep(block[start..].to_vec(), 0);
        self.position += passed + start as u64;
        block.truncate(start);
        Some(self.read(block, spans, arrival_ms))
    }

    /// The file has ended: hands out the last line if it had no newline.
    pub fn finish(&mut self, arrival_ms: i64) -> Option<Read> {
        if !self.is_amid_line() {
            return None;
        }
        let block = std::mem::take(&mut self.unfinished);
        let passed = std::mem::take(&mut self.passed);
        let spans = Vec::from_iter(self.line(&block, 0, block.len(), passed, self.position));
        self.position += passed + block.len() as u64;
        Some(self.read(block, spans, arrival_ms))
    }

    /// The record of the line that ends at `end`, if it is one; `let_go` bytes of the line at `offset` came before.
    fn line(&mut self, block: &[u8], start: usize, end: usize, let_go: u64, offset: u64) -> Option<Span> {
        let line = &block[start..end];
        let len = of_line(line).map_or(0, <[u8]>::len);
        if let_go > 0 || len > self.line_bytes_max {
            self.too_long.push(TooLong { offset, bytes: let_go + line.len() as u64 });
            return None;
        }
        (len > 0).then(|| Span { start: start as u32, end: (start + len) as u32 })
    }

    /// Keeps an unfinished line, unless it is too long already (one byte more may be a `\r`).
    fn keep(&mut self, unfinished: Vec<u8>, passed: u64) {
        if passed > 0 || unfinished.len() > self.line_bytes_max + 1 {
            self.passed = passed + unfinished.len() as u64;
        } else {
            self.unfinished = unfinished;
        }
    }

    fn read(&mut self, block: Vec<u8>, spans: Vec<Span>, arrival_ms: i64) -> Read {
        self.records_usual = spans.len();
        let arrivals = vec![arrival_ms; spans.len()];
        let batch = if spans.is_empty() { Batch::default() } else { Batch::new(Bytes::from(block), spans, arrivals) };
        Read { batch, end: Position::from(self.position) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `step` bytes; all records, the positions behind each hand-over, the passed lines.
    fn feed(input: &[u8], step: usize, line_bytes_max: usize) -> (Vec<Vec<u8>>, Vec<u64>, Vec<TooLong>) {
        let mut lines = Lines::new(0, line_bytes_max);
        let (mut records, mut ends, mut too_long) = (Vec::new(), Vec::new(), Vec::new());
        let mut keep = |read: Option<Read>, lines: &mut Lines| {
            let Some(read) = read else { return };
            records.extend(read.batch.payloads().map(<[u8]>::to_vec));
            ends.push(read.end.as_u64().unwrap());
            assert_eq!(read.end, Position::from(lines.position()));
            too_long.extend(lines.take_too_long());
        };
        for piece in input.chunks(step) {
            let old = lines.buffer().len();
            lines.buffer().extend_from_slice(piece);
            let read = lines.cut(old, 7);
            assert!(lines.buffer().len() <= line_bytes_max + 1, "never holds more than one line");
            keep(read, &mut lines);
        }
        let read = lines.finish(7);
        keep(read, &mut lines);
        (records, ends, too_long)
    }

    #[test]
    fn lines_come_out_the_same_however_the_bytes_come_in() {
        let input = b"one\r\ntwo\n\n\r\nthree \r four\nthis one is far too long\r\nfive5678\r\nand also this one\nend";
        let expected: [&[u8]; 5] = [b"one", b"two", b"three \r four", b"five5678", b"end"];
        let passed = [TooLong { offset: 25, bytes: 25 }, TooLong { offset: 61, bytes: 17 }];
        for step in 1..=input.len() {
            let (records, ends, too_long) = feed(input, step, 12);
            assert_eq!(records, expected, "in steps of {step}");
            assert_eq!(too_long, passed, "in steps of {step}");
            assert!(ends.is_sorted_by(|a, b| a < b));
            assert_eq!(ends.last(), Some(&(input.len() as u64)));
            for end in &ends[..ends.len() - 1] {
                assert_eq!(input[*end as usize - 1], b'\n', "a position is the start of a line");
            }
        }
    }

    #[test]
    fn a_last_line_without_newline_loses_its_carriage_return_too() {
        for step in 1..=3 {
            assert_eq!(feed(b"x\r", step, 8).0, [b"x"]);
            assert_eq!(feed(b"x\n\r", step, 8).0, [b"x"], "a lone one is no record");
        }
        assert_eq!(feed(b"\r", 1, 8), (vec![], vec![1], vec![]), "and is passed over");
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_a_record_with_either_line_end() {
        for input in [&b"12345678\n"[..], b"12345678\r\n", b"12345678", b"12345678\r"] {
            for step in 1..=input.len() {
                assert_eq!(feed(input, step, 8), (vec![b"12345678".to_vec()], vec![input.len() as u64], vec![]));
            }
        }
        for input in [&b"123456789\n"[..], b"123456789\r\n", b"123456789", b"123456789\r"] {
            assert_eq!(feed(input, 3, 8).0, Vec::<Vec<u8>>::new());
            assert_eq!(feed(input, 3, 8).2.len(), 1);
        }
    }
}
