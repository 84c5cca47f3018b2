//! The reader of one file: waits for growth, hands out lines, and notices when the file ends, moves or is truncated.
//!
//! Promise: whatever it has handed out lies before `position` and is covered by a durable fingerprint, so that a restart
//! reads on in the same file or not at all. Nothing is awaited between taking bytes and handing them out.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::Shared;
use super::identity::{Fingerprint, read_head};
use super::input::{BLOCK_BYTES, Held, Packing, Unpacker, is_still, open_entry};
use super::lines::Lines;
use super::registry::{SharedStanding, Standing};
use crate::cpu::off_async;
use crate::error::Fault;
use crate::position::{Position, Shard};
use crate::source::{Read, Reader};

/// Reads one file in order.
pub struct FileReader {
    shared: Arc<Shared>,
    shard: Shard,
    /// For messages; the registry knows the present one.
    path: PathBuf,
    standing: SharedStanding,
    input: Input,
    lines: Lines,
    /// The first bytes of the file as this reader knows them.
    head: Vec<u8>,
    size: u64,
    /// Bounded: the size when it was opened, where reading stops.
    stop_at: Option<u64>,
    told: Told,
    arrival_ms: i64,
    next_look: Instant,
    quiet_since: Option<Instant>,
}

/// What a bounded source was told that this reader has read, and will have, in bytes as they lie on the disk.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    start: u64,
    read: u64,
    known: u64,
}

enum Input {
    Plain(Held),
    /// Let go while idle, because too many files are open.
    Parked,
    /// Decompressed bytes still to be passed over before the position.
    Packed(Unpacker, u64),
    /// All bytes were read; what is unfinished is the last line.
    AtEnd,
    Ended,
}

enum Look {
    Read(Read),
    Wait,
    Again,
    Ended,
}

impl FileReader {
    /// Opens the file of `shard` at `from`. Blocks. A file that is nowhere any more is a reader at its end.
    pub fn open(shared: &Arc<Shared>, shard: &Shard, from: Option<u64>) -> Result<FileReader, Fault> {
        let entry = shared.registry().of_shard(shard).cloned();
        let start = from.or(entry.as_ref().and_then(|entry| entry.start)).unwrap_or(0);
        let mut reader = FileReader {
            shared: shared.clone(),
            shard: shard.clone(),
            path: entry.as_ref().map(|entry| entry.path.clone()).unwrap_or_default(),
            standing: entry.as_ref().map_or_else(SharedStanding::replaced, |entry| entry.standing.clone()),
            input: Input::Ended,
            lines: Lines::new(start, shared.line_bytes_max),
            head: Vec::new(),
            size: start,
            stop_at: None,
            told: Told { start, ..Told::default() },
            arrival_ms: i64::MIN,
            next_look: Instant::now(),
            quiet_since: None,
        };
        let found = match &entry {
            Some(entry) => open_entry(entry, &shared.held).map_err(|error| reader.fault("cannot open", error))?,
            None => None,
        };
        let (Some(entry), Some((file, head))) = (entry, found) else {
            tracing::warn!(path = %reader.path.display(), %shard, "file source: gone before it was read to its end");
            return Ok(reader);
        };
        let size = file.metadata().map_err(|error| reader.fault("cannot open", error))?.len();
        reader.stop_at = shared.bounded.then_some(size);
        reader.head = head.get(..entry.fingerprint.bytes).unwrap_or(&head).to_vec();
        reader.input = match Packing::of(&reader.path, &head) {
            Packing::None => Input::Plain(file),
            packing => {
                let size = if head.len() < Fingerprint::BYTES_MAX { head.len() as u64 } else { size };
                if head.len() > entry.fingerprint.bytes {
                    shared.registry().grown(shard, &head)?;
                }
                let unpacker =
                    Unpacker::new(file, size, packing).map_err(|error| reader.fault("cannot unpack", error))?;
                reader.told.start = 0;
                Input::Packed(unpacker, start)
            }
        };
        reader.tell_read();
        Ok(reader)
    }

    /// Tells the source how far it is.
    fn tell_read(&mut self) {
        let Some(stop_at) = self.stop_at else { return };
        let Told { start, read, known } = self.told;
        let known_now = known.max(stop_at.saturating_sub(start));
        let read_now = match &self.input {
            Input::Plain(_) | Input::Parked => self.lines.read_to().saturating_sub(start),
            Input::Packed(unpacker, _) => unpacker.taken(),
            Input::AtEnd | Input::Ended => known_now,
        };
        // Lines that were amid at the end are read beyond it.
        let (read_now, known_now) = (read_now.max(read), known_now.max(read_now));
        self.shared.read_bytes.fetch_add(read_now - read, Ordering::Relaxed);
        self.shared.known_bytes.fetch_add(known_now - known, Ordering::Relaxed);
        self.told = Told { start, read: read_now, known: known_now };
    }

    /// Whether a followed file plainly has nothing new: one cheap call, so that hundreds of idle files need not change
    /// threads for it.
    fn is_idle(&mut self) -> bool {
        let Input::Plain(file) = &self.input else { return false };
        let nothing_new = self.stop_at.is_none()
            && self.standing.get() == Standing::Listed
            && self.shared.held.load(Ordering::Relaxed) <= self.shared.pace.files_held_max
            && file.metadata().is_ok_and(|metadata| metadata.len() == self.lines.read_to());
        if nothing_new {
            self.quiet_since = None;
        }
        nothing_new
    }

    /// One look at the file: synchronous, so that nothing is lost between reading and handing out.
    fn look(&mut self) -> Result<Look, Fault> {
        match &self.input {
            Input::Plain(_) => self.look_plain(),
            Input::Parked => self.look_parked(),
            Input::Packed(..) => self.look_packed(),
            Input::AtEnd => {
                self.input = Input::Ended;
                let arrival_ms = self.now_ms();
                let last = self.lines.finish(arrival_ms);
                self.tell_too_long();
                Ok(last.map_or(Look::Ended, Look::Read))
            }
            Input::Ended => Ok(Look::Ended),
        }
    }

    fn look_plain(&mut self) -> Result<Look, Fault> {
        let Input::Plain(file) = &self.input else { return Ok(Look::Again) };
        let size = file.metadata().map_err(|error| self.fault("cannot look at", error))?.len();
        let read_to = self.lines.read_to();
        if size < read_to || self.standing.get() == Standing::Replaced {
            return self.truncated(size);
        }
        self.size = size;
        if self.stop_at.is_some_and(|stop| read_to >= stop && (size == read_to || !self.lines.is_amid_line())) {
            return Ok(self.at_end(false));
        }
        if size == read_to {
            return self.look_idle();
        }
        self.quiet_since = None;
        if !self.covers_head()? {
            return self.truncated(size);
        }
        let Input::Plain(file) = &self.input else { return Ok(Look::Again) };
        let want = usize::try_from(size - read_to).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        let old = self.lines.buffer().len();
        let result = file.append_to(self.lines.buffer(), read_to, want);
        result.map_err(|error| self.fault("cannot read", error))?;
        Ok(self.cut(old).map_or(Look::Again, Look::Read))
    }

    /// At the end of a plain file, open or parked, that may grow.
    fn look_idle(&mut self) -> Result<Look, Fault> {
        if self.standing.get() == Standing::Listed {
            self.quiet_since = None;
            if self.shared.held.load(Ordering::Relaxed) > self.shared.pace.files_held_max {
                self.input = Input::Parked;
            }
            return Ok(Look::Wait);
        }
        let since = *self.quiet_since.get_or_insert_with(Instant::now);
        if since.elapsed() < Duration::from_millis(self.shared.pace.quiet_ms) {
            return Ok(Look::Wait);
        }
        let deleted = match &self.input {
            Input::Plain(file) => file.metadata().map_err(|error| self.fault("cannot look at", error))?.nlink() == 0,
            _ => false,
        };
        tracing::info!(path = %self.path.display(), shard = %self.shard, deleted, "file source: rotated file ended");
        Ok(self.at_end(deleted))
    }

    fn look_parked(&mut self) -> Result<Look, Fault> {
        let Some(entry) = self.shared.registry().of_shard(&self.shard).cloned() else {
            return Ok(self.at_end(false));
        };
        if is_still(&entry, self.lines.read_to()) {
            return self.look_idle();
        }
        match open_entry(&entry, &self.shared.held).map_err(|error| self.fault("cannot open", error))? {
            Some((file, _)) => {
                self.input = Input::Plain(file);
                Ok(Look::Again)
            }
            None if entry.standing.get() == Standing::Listed => Ok(Look::Wait),
            None => Ok(self.at_end(false)),
        }
    }

    fn look_packed(&mut self) -> Result<Look, Fault> {
        let Input::Packed(unpacker, to_pass) = &mut self.input else { return Ok(Look::Again) };
        if *to_pass > 0 {
            let want = usize::try_from(*to_pass).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let result = unpacker.append_to(&mut Vec::new(), want);
            let offset = self.lines.position() - *to_pass;
            let passed = match result {
                Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "shorter than what was delivered of it")),
                other => other,
            };
            *to_pass -= passed.map_err(|error| unpack_fault(&self.path, offset, error))? as u64;
            return Ok(Look::Again);
        }
        let old = self.lines.buffer().len();
        let offset = self.lines.read_to();
        let result = unpacker.append_to(self.lines.buffer(), BLOCK_BYTES);
        match result.map_err(|error| unpack_fault(&self.path, offset, error))? {
            0 => Ok(self.at_end(false)),
            _ => Ok(self.cut(old).map_or(Look::Again, Look::Read)),
        }
    }

    /// The lines that end in the bytes behind `old` of the buffer.
    fn cut(&mut self, old: usize) -> Option<Read> {
        let arrival_ms = self.now_ms();
        let read = self.lines.cut(old, arrival_ms);
        self.tell_too_long();
        read
    }

    /// Whether the file still begins as known; if it begins with more now, that is durable on return.
    fn covers_head(&mut self) -> Result<bool, Fault> {
        let Input::Plain(file) = &self.input else { return Ok(true) };
        let head = read_head(file).map_err(|error| self.fault("cannot read", error))?;
        if !head.starts_with(&self.head) {
            return Ok(false);
        }
        if head.len() > self.head.len() {
            self.shared.registry().grown(&self.shard, &head)?;
            self.head = head;
        }
        Ok(true)
    }

    /// The file lost what this reader has read: what it holds from now on is a new shard.
    fn truncated(&mut self, size: u64) -> Result<Look, Fault> {
        let Input::Plain(file) = &self.input else { return Ok(Look::Again) };
        let head = read_head(file).map_err(|error| self.fault("cannot read", error))?;
        let next = self.shared.registry().next_generation(&self.shard, &head)?;
        tracing::warn!(
            path = %self.path.display(), shard = %self.shard, next = next.as_ref().map(Shard::as_str),
            read_to = self.lines.read_to(), size,
            "file source: truncated or rewritten in place; what was not read before is gone, the rest is a new shard"
        );
        Ok(self.at_end(false))
    }

    /// All bytes were taken: lets the file go; a last line without a newline comes next.
    fn at_end(&mut self, deleted: bool) -> Look {
        self.shared.registry().ended(&self.shard, self.lines.read_to(), deleted);
        self.input = Input::AtEnd;
        Look::Again
    }

    fn tell_too_long(&mut self) {
        for line in self.lines.take_too_long() {
            self.shared.lines_too_long.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                path = %self.path.display(), offset = line.offset, bytes = line.bytes,
                line_bytes_max = self.shared.line_bytes_max, "file source: line is too long to be a record, passed over"
            );
        }
    }

    /// The wall clock, never running back within this reader.
    fn now_ms(&mut self) -> i64 {
        self.arrival_ms = self.arrival_ms.max(self.shared.clock.now_ms());
        self.arrival_ms
    }

    fn fault(&self, doing: &str, error: io::Error) -> Fault {
        let (path, offset) = (self.path.display(), self.lines.read_to());
        Fault::source(error).context(format!("file {path}: {doing} (at byte {offset})"))
    }
}

impl Drop for FileReader {
    /// What it has not read, another reader of the shard will.
    fn drop(&mut self) {
        let Told { read, known, .. } = self.told;
        self.shared.known_bytes.fetch_sub(known - read, Ordering::Relaxed);
    }
}

fn unpack_fault(path: &Path, offset: u64, error: io::Error) -> Fault {
    let what = match error.kind() {
        io::ErrorKind::UnexpectedEof => "compressed data is cut off (still being written?)",
        _ => "compressed data is damaged",
    };
    Fault::source(error).context(format!("file {}: {what} (at unpacked byte {offset})", path.display()))
}

#[async_trait]
impl Reader for FileReader {
    fn position(&self) -> Position {
        Position::from(self.lines.position())
    }

    /// The size of the file at the last look; of a compressed one, what is unpacked.
    fn tail(&self) -> Position {
        Position::from(self.size.max(self.lines.read_to()))
    }

    async fn next(&mut self) -> Result<Option<Read>, Fault> {
        loop {
            tokio::time::sleep_until(self.next_look).await;
            let look = if self.is_idle() { Ok(Look::Wait) } else { off_async(|| self.look()) };
            self.tell_read();
            if !matches!(look, Ok(Look::Read(_) | Look::Again)) {
                self.next_look = Instant::now() + Duration::from_millis(self.shared.pace.poll_ms);
            }
            match look? {
                Look::Read(read) => return Ok(Some(read)),
                Look::Ended => return Ok(None),
                Look::Wait => {}
                Look::Again => tokio::task::yield_now().await,
            }
        }
    }
}
