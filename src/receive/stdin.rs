//! Standard input: lines of a pipe into a stream.
//!
//! The promise: memory is bounded, order is kept, a full spool makes the pipe wait, and at the end of input all lines are
//! durable. Nobody resends what a pipe has given: lines that were read but are not durable at a crash are gone.
//! While one append is being made durable the next one gathers, so that the disk is never idle for want of a syscall.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::records;
use crate::ground::Clock;
use crate::record::{Batch, Span, of_line};
use crate::spool::{Append, AppendError, Stream};

/// A longer line is left out, logged and counted: half a record would be a wrong one.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes gathered for the next append before reading waits.
const GATHER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of one read: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// The pause before a full spool is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// What became of the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records made durable.
    pub records: u64,
    /// Lines left out for their length.
    pub too_long: u64,
}

/// Reads lines until the end of input, then ends the stream; or until `stop`, and leaves the stream open and a line
/// without its end out. An error comes after all that was read is durable, if the stream still took it.
///
/// Not cancel-safe: `stop` is the way.
pub async fn run<R>(
    mut input: R,
    stream: &Stream,
    clock: &Clock,
    stop: CancellationToken,
) -> Result<Summary, StdinError>
where
    R: AsyncRead + Unpin,
{
    let mut piece = BytesMut::with_capacity(READ_BYTES);
    let mut lines = Lines::default();
    let mut records = 0;
    let mut appending: Option<Appending> = None;
    let mut open = true;
    let mut fault = None;
    while open || appending.is_some() || !lines.spans.is_empty() {
        if appending.is_none() && !lines.spans.is_empty() {
            appending = Some(Box::pin(append(stream.clone(), lines.take(clock.now_ms()), stop.clone())));
        }
        let durable = async {
            match &mut appending {
                Some(appending) => appending.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = durable => {
                appending = None;
                records += done?;
            }
            read = input.read_buf(&mut piece), if open && lines.has_room() => match read {
                Ok(1..) => {
                    lines.add(&piece);
                    piece.clear();
                    piece.reserve(READ_BYTES);
                }
                end => {
                    open = false;
                    lines.finish();
                    fault = end.err();
                }
            },
            () = stop.cancelled(), if open => open = false,
        }
    }
    if let Some(error) = fault {
        return Err(StdinError::Read(error));
    }
    if !stop.is_cancelled() {
        stream.end();
    }
    Ok(Summary { records, too_long: lines.too_long })
}

/// Why standard input was given up.
#[derive(Debug)]
pub enum StdinError {
    /// It cannot be read.
    Read(std::io::Error),
    /// The stream takes no more, for this reason.
    Stopped(String),
}

impl std::fmt::Display for StdinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StdinError::Read(error) => write!(f, "standard input: {error}"),
            StdinError::Stopped(why) => write!(f, "standard input: the stream takes no more: {why}"),
        }
    }
}

impl std::error::Error for StdinError {}

type Appending = Pin<Box<dyn Future<Output = Result<u64, StdinError>> + Send>>;

/// Appends until it succeeds; a pipe can wait.
async fn append(stream: Stream, records: Batch, stop: CancellationToken) -> Result<u64, StdinError> {
    loop {
        match stream.append(Append { records: records.clone(), once: None }).await {
            Ok(_) => return Ok(records.len() as u64),
            Err(AppendError::Stopped(why)) => return Err(StdinError::Stopped(why)),
            Err(AppendError::Full) if stop.is_cancelled() => {
                return Err(StdinError::Stopped("it is full, and hydrant stops".into()));
            }
            Err(AppendError::Full) => {
                // Stopped or not, it is tried once more.
                let _ = stop.run_until_cancelled(tokio::time::sleep(FULL_PAUSE)).await;
            }
        }
    }
}

/// Lines read and not yet appended.
///
/// ```text
/// data   first linesecond linethird, of which the rest ha
/// spans  [--------)[---------)^ start
/// ```
#[derive(Default)]
struct Lines {
    data: BytesMut,
    spans: Vec<Span>,
    /// Where the line that has not ended yet starts.
    start: usize,
    /// That line is too long already: its bytes are not kept.
    skipping: bool,
    /// Lines ended so far, from the start of input.
    ended: u64,
    too_long: u64,
}

impl Lines {
    fn has_room(&self) -> bool {
        self.data.len() < GATHER_BYTES_MAX && self.spans.len() < records::RECORDS_MAX
    }

    fn add(&mut self, piece: &[u8]) {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            self.extend(&piece[from..end]);
            self.end_line();
            from = end + 1;
        }
        self.extend(&piece[from..]);
    }

    /// The input has ended, and with it a last line without an end.
    fn finish(&mut self) {
        if self.skipping || self.data.len() > self.start {
            self.end_line();
        }
    }

    /// The ended lines as records.
    fn take(&mut self, arrival_ms: i64) -> Batch {
        let data = self.data.split_to(self.start).freeze();
        self.start = 0;
        let arrivals = vec![arrival_ms; self.spans.len()];
        Batch::new(data, std::mem::take(&mut self.spans), arrivals)
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.skipping || self.data.len() - self.start + bytes.len() > LINE_BYTES_MAX + 1 {
            self.skipping = true; // one more than a line for the `\r`
            self.data.truncate(self.start);
        } else {
            self.data.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) {
        self.ended += 1;
        let mut len = of_line(&self.data[self.start..]).map_or(0, <[u8]>::len);
        if self.skipping || len > LINE_BYTES_MAX {
            tracing::warn!(line = self.ended, bytes_max = LINE_BYTES_MAX, "standard input: line too long, left out");
            self.too_long += 1;
            self.skipping = false;
            len = 0;
        }
        let end = self.start + len;
        self.data.truncate(end);
        if end > self.start {
            // Both are below 2^32: no more than GATHER_BYTES_MAX, a read and a line are gathered.
            self.spans.push(Span { start: self.start as u32, end: end as u32 });
        }
        self.start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that come out when `input` comes in pieces of `size` bytes.
    fn lines(input: &[u8], size: usize) -> (Vec<Vec<u8>>, u64) {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for (index, piece) in input.chunks(size).enumerate() {
            lines.add(piece);
            if index % 3 == 2 {
                found.extend(lines.take(0).payloads().map(<[u8]>::to_vec));
            }
        }
        lines.finish();
        found.extend(lines.take(0).payloads().map(<[u8]>::to_vec));
        (found, lines.too_long)
    }

    #[test]
    fn lines_are_the_same_whatever_the_pieces() {
        for last in [&b"last"[..], b"last\r", b"last\n\r"] {
            let input = [b"one\r\n\n\r\ntwo \xff\nthree\r\r\n", last].concat();
            for size in 1..=input.len() {
                let (found, too_long) = lines(&input, size);
                assert_eq!(found, [b"one".as_slice(), b"two \xff", b"three\r", b"last"], "{size}");
                assert_eq!(too_long, 0);
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_its_neighbours_stay() {
        let longest = vec![b'x'; LINE_BYTES_MAX];
        let too_long = vec![b'y'; LINE_BYTES_MAX + 1];
        let input = [b"a\n", &*longest, b"\r\n", &*too_long, b"\nb\n", &*too_long].concat();
        for size in [1000, READ_BYTES, 3 * LINE_BYTES_MAX, usize::MAX] {
            let (found, count) = lines(&input, size);
            assert_eq!(count, 2, "{size}");
            assert_eq!(found.len(), 3, "{size}");
            assert!(found[0] == b"a" && found[1] == longest && found[2] == b"b", "{size}");
        }
    }

    #[test]
    fn a_line_without_an_end_costs_bounded_memory() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            lines.add(&[b'x'; READ_BYTES]);
            assert!(lines.data.len() <= LINE_BYTES_MAX + 1);
        }
    }
}
