//! The spool as a source: readers of one stream, each at its own position, the number of the next record.
//!
//! A reader that keeps up gets the groups as they were written, from memory. Else a read takes about 1 MiB of a segment in
//! one go, past the page cache, which a backlog would only flood; every frame's checksums are looked at then. Either way it
//! is one batch whose payloads lie where they were: no copy. Nothing at or beyond the durable end is read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::cpu::off_async;
use crate::disk::{BLOCK_BYTES, Blocks, DiskFile};
use crate::error::{Blame, Fault};
use crate::position::{Position, Shard};
use crate::record::{Batch, Span};
use crate::source::{Read, Reader, Source};
use crate::spool::damage::Damage;
use crate::spool::frame::{ALIGNMENT, Frame};
use crate::spool::log::Log;
use crate::spool::recent::Extent;
use crate::spool::segment::{HEADER_BYTES, Scan, Segment};

/// Bytes that one read takes from a segment; a larger frame is read whole.
const READ_BYTES: usize = 1 << 20;

/// One stream as one pipeline reads it. What this reader has not released stays.
pub struct SpoolSource {
    log: Arc<Log>,
    reader: String,
    given: AtomicBool,
}

impl SpoolSource {
    pub(super) fn new(log: Arc<Log>, reader: &str) -> SpoolSource {
        log.register(reader);
        SpoolSource { log, reader: reader.to_owned(), given: AtomicBool::new(false) }
    }

    fn number(&self, position: &Position) -> Result<u64, Fault> {
        position.as_u64().ok_or_else(|| {
            Fault::new(Blame::Source, format!("stream {}: position {position} is no record number", self.log.name))
        })
    }
}

#[async_trait]
impl Source for SpoolSource {
    async fn next_shard(&self) -> Result<Option<Shard>, Fault> {
        let first = !self.given.swap(true, Ordering::Relaxed);
        Ok(first.then(|| self.log.shard.clone()))
    }

    async fn open(&self, shard: &Shard, from: Option<&Position>) -> Result<Box<dyn Reader>, Fault> {
        let name = &self.log.name;
        if *shard != self.log.shard {
            return Err(Fault::new(Blame::Source, format!("stream {name}: shard {shard} is of another log")));
        }
        let position = match from {
            Some(position) => self.number(position)?,
            None => self.log.oldest(),
        };
        let durable = self.log.durable();
        if position > durable {
            // To go on would give out these numbers again, and the records would never be read.
            let message = format!("stream {name}: reader {} is at {position}, behind the end {durable}", self.reader);
            let message =
                format!("{message}\nhint: the spool's folder is older than the checkpoint: restore both from one copy");
            self.log.fail(Blame::Disk, message.clone());
            return Err(Fault::new(Blame::Disk, message));
        }
        Ok(Box::new(SpoolReader { log: self.log.clone(), position, place: None, file: None }))
    }

    async fn release(&self, shard: &Shard, upto: &Position) -> Result<(), Fault> {
        if *shard != self.log.shard {
            return Ok(());
        }
        let upto = self.number(upto)?;
        off_async(|| self.log.release(&self.reader, upto))
    }
}

/// Reads a stream in order.
pub struct SpoolReader {
    log: Arc<Log>,
    position: u64,
    place: Option<Place>,
    /// Of the segment with this id; not opened while all comes from memory.
    file: Option<(u64, Arc<dyn DiskFile>)>,
}

/// Where in the files a reader is.
struct Place {
    segment: Arc<Segment>,
    /// The frame at byte `at` begins with record `number`.
    at: u64,
    number: u64,
}

#[async_trait]
impl Reader for SpoolReader {
    fn position(&self) -> Position {
        self.position.into()
    }

    fn tail(&self) -> Position {
        self.log.durable().into()
    }

    fn owed(&self) -> Option<Position> {
        Some(self.log.durable().into())
    }

    async fn next(&mut self) -> Result<Option<Read>, Fault> {
        let log = self.log.clone();
        loop {
            // Before the look, so that growth in between wakes it.
            let grown = log.grown.notified();
            let tail = log.tail();
            if self.position < tail.durable {
                if let Some(read) = self.read_recent() {
                    return Ok(Some(read));
                }
                return off_async(|| self.read(tail.durable)).map(Some);
            }
            if tail.ended {
                return Ok(None);
            }
            grown.await;
        }
    }
}

impl SpoolReader {
    /// Reads the group at the position, if it is still in memory.
    fn read_recent(&mut self) -> Option<Read> {
        let Extent { segment, at, first, end, frames } = self.log.take(self.position)?;
        let mut found = Found::default();
        let mut number = first;
        while number < end {
            let rest = &frames[found.bytes..];
            let frame = Frame::parse(rest, segment.salt)?;
            found.add(&frame, rest.get(..frame.bytes())?, self.position).then_some(())?;
            number = frame.end();
        }
        self.place = Some(Place { segment, at: at + frames.len() as u64, number: end });
        self.position = end;
        Some(Read { batch: found.batch(frames), end: end.into() })
    }

    /// Reads from the position on, below `durable`. Leaves the position where it was on an error.
    fn read(&mut self, durable: u64) -> Result<Read, Fault> {
        if let Some(end) = self.log.gap_at(self.position) {
            return Ok(self.step_over(end));
        }
        let Some((segment, next_base)) = self.log.segment_of(self.position) else { return Err(self.gone()) };
        let end = next_base.min(durable);
        let path = self.log.dir.join(&segment.name);
        let opened = self.file.take().filter(|(id, _)| *id == segment.id);
        let file = match opened.map_or_else(|| self.log.ground.disk.open_uncached(&path), |(_, file)| Ok(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.gone()),
            file => file.map_err(|error| self.unreadable(&segment, error))?,
        };
        self.file = Some((segment.id, file.clone()));
        let place = self.place.take().filter(|place| place.segment.id == segment.id && place.number <= self.position);
        let mut place =
            place.unwrap_or_else(|| Place { segment: segment.clone(), at: HEADER_BYTES, number: segment.base });
        let unreadable = |error| self.unreadable(&segment, error);
        let mut damaged = place.seek(&*file, self.position, end).map_err(unreadable)?;
        if damaged.is_none() {
            if let Some(batch) = place.read(&*file, self.position, end).map_err(unreadable)? {
                self.position = place.number;
                self.place = Some(place);
                return Ok(Read { batch, end: self.position.into() });
            }
            damaged = Some(place.at);
            place.go_behind(&*file, self.position, end).map_err(unreadable)?;
        }
        let offset = damaged.unwrap_or(place.at);
        let damage = Damage { file: path, offset, start: self.position, end: place.number, what: "damaged frame" };
        self.log.settle(&damage)?;
        self.place = Some(place);
        Ok(self.step_over(damage.end))
    }

    fn step_over(&mut self, end: u64) -> Read {
        self.position = end;
        Read { batch: Batch::default(), end: end.into() }
    }

    fn gone(&self) -> Fault {
        let Log { name, .. } = &*self.log;
        let (position, oldest) = (self.position, self.log.oldest());
        let message = format!("stream {name}: records {position}..{oldest} are gone, the oldest retained is {oldest}");
        Fault::new(Blame::Source, message)
    }

    fn unreadable(&self, segment: &Segment, error: io::Error) -> Fault {
        let path = self.log.dir.join(&segment.name);
        Fault::disk(error).context(format!("{}: read a segment", path.display()))
    }
}

impl Place {
    /// Moves to the frame that holds record `position`. Where that is damaged: behind the damage but not beyond `end`, and
    /// the answer is where the damage begins.
    fn seek(&mut self, file: &dyn DiskFile, position: u64, end: u64) -> io::Result<Option<u64>> {
        let mut scan = Scan::of_headers(file, self.segment.salt, self.segment.readable());
        while self.number < position {
            match scan.header(self.at)?.filter(|frame| frame.first == self.number) {
                Some(frame) if frame.end() > position => break,
                Some(frame) => (self.at, self.number) = (self.at + frame.bytes() as u64, frame.end()),
                None => {
                    // Damage below the position is no matter any more.
                    let at = self.at;
                    self.go_to(file, end, |frame| frame.end() > position)?;
                    return Ok((self.number > position).then_some(at));
                }
            }
        }
        Ok(None)
    }

    /// Moves behind the damaged frame at this place, which holds record `position`.
    fn go_behind(&mut self, file: &dyn DiskFile, position: u64, end: u64) -> io::Result<()> {
        self.go_to(file, end, |frame| frame.first > position)
    }

    fn go_to(&mut self, file: &dyn DiskFile, end: u64, wanted: impl Fn(&Frame) -> bool) -> io::Result<()> {
        let mut scan = Scan::new(file, self.segment.salt, self.segment.readable());
        let found = scan.find(self.at + ALIGNMENT as u64, |frame| frame.end() <= end && wanted(frame))?;
        (self.at, self.number) = found.map_or((self.at, end), |(at, frame)| (at, frame.first));
        Ok(())
    }

    /// Reads whole frames from here on and moves behind them; records below `position` are left out. `None`, and not
    /// moved: the frame here is damaged.
    fn read(&mut self, file: &dyn DiskFile, position: u64, end: u64) -> io::Result<Option<Batch>> {
        let salt = self.segment.salt;
        let readable = self.segment.readable().saturating_sub(self.at);
        let mut block = self.block(file, READ_BYTES, readable)?;
        let mut found = Found::default();
        let mut number = self.number;
        while number < end {
            let rest = &block[found.bytes..];
            let frame = Frame::parse(rest, salt).filter(|frame| frame.first == number && frame.end() <= end);
            let Some(frame) = frame else { break };
            if frame.bytes() > rest.len() {
                if found.bytes > 0 || frame.bytes() as u64 > readable || block.len() > READ_BYTES {
                    break;
                }
                block = self.block(file, frame.bytes(), readable)?;
                continue;
            }
            let bytes = &rest[..frame.bytes()];
            if !frame.is_whole(bytes, salt) || !found.add(&frame, bytes, position) {
                break;
            }
            number = frame.end();
        }
        if found.bytes == 0 {
            return Ok(None);
        }
        (self.at, self.number) = (self.at + found.bytes as u64, number);
        Ok(Some(found.batch(block)))
    }

    /// Up to `bytes` bytes of the file from here on, read as whole blocks.
    fn block(&self, file: &dyn DiskFile, bytes: usize, readable: u64) -> io::Result<Bytes> {
        let lead = (self.at % BLOCK_BYTES as u64) as usize;
        let wanted = readable.min(bytes as u64) as usize;
        let mut blocks = Blocks::zeroed((lead + wanted).next_multiple_of(BLOCK_BYTES));
        let read = file.read_at(&mut blocks, self.at - lead as u64)?;
        Ok(blocks.freeze().slice(lead.min(read)..(lead + wanted).min(read)))
    }
}

/// Frames found one behind the other in a block.
#[derive(Default)]
struct Found {
    spans: Vec<Span>,
    arrival_ms: Vec<i64>,
    /// Of all frames so far.
    bytes: usize,
}

impl Found {
    /// Adds the next frame's records from number `position` on; `false`: its ends contradict each other.
    fn add(&mut self, frame: &Frame, bytes: &[u8], position: u64) -> bool {
        let Some(numbers) = frame.spans(bytes, self.bytes, position, &mut self.spans) else { return false };
        self.arrival_ms.resize(self.arrival_ms.len() + (numbers.end - numbers.start) as usize, frame.arrival_ms);
        self.bytes += frame.bytes();
        true
    }

    fn batch(self, block: Bytes) -> Batch {
        Batch::new(block, self.spans, self.arrival_ms)
    }
}
