//! Error objects as one log: the objects of a plan one behind the other, a position is a byte.
//!
//! A line becomes a record with its original time of arrival. A line that is none becomes a record too, with what is wrong as
//! its key, so that whoever transforms can set it aside: it is never passed over in silence.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::line::{LINE_BYTES_MAX, Line, read_line};
use super::plan::{Plan, Planned};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::position::{Position, Shard};
use crate::record::{Batch, BatchBuilder, of_line};
use crate::sink::ObjectSink;
use crate::source::{Read, Reader, Source};

/// Bytes that one read takes.
const READ_BYTES: u64 = 1 << 20;

/// Objects that one read takes, and of which so many are asked for at once.
const OBJECTS_PER_READ: usize = 256;
const REQUESTS_AT_ONCE: usize = 16;

/// Of a line that cannot be read and is longer, only the beginning is set aside.
const UNREADABLE_BYTES_MAX: usize = 1 << 20;
const SHOWN_BYTES: usize = 1 << 10;

/// What was seen while reading, beside records; counted again where something is read again.
#[derive(Debug, Default)]
pub struct Sight {
    /// By [`super::Class`], as far as lines were to be replayed.
    pub classes: [AtomicU64; 3],
    pub unreadable: AtomicU64,
    /// Lines of classes that were not asked for, and those that an earlier replay had set aside.
    pub left_alone: AtomicU64,
    gone: Mutex<Gone>,
}

/// Objects of the plan, by their place in it, that are there no more, or not as they were planned.
#[derive(Debug, Default)]
struct Gone {
    /// Nothing of them was read.
    whole: BTreeSet<usize>,
    part: BTreeSet<usize>,
}

impl Sight {
    /// How many objects were gone, or others than planned.
    pub fn gone(&self) -> u64 {
        let gone = self.gone_mut();
        gone.whole.union(&gone.part).count() as u64
    }

    /// Whether nothing of this object of the plan could be read.
    pub fn is_unread(&self, object: usize) -> bool {
        self.gone_mut().whole.contains(&object)
    }

    fn gone_mut(&self) -> MutexGuard<'_, Gone> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Error objects as a source with one shard.
pub struct ErrorSource {
    log: Arc<Objects>,
    given: AtomicBool,
}

struct Objects {
    sink: ObjectSink,
    shard: Shard,
    plan: Arc<Plan>,
    /// Where each of them begins, and behind them where the log ends.
    starts: Vec<u64>,
    sight: Arc<Sight>,
}

impl ErrorSource {
    /// The objects of a plan, in the store of `sink`.
    pub fn new(sink: ObjectSink, plan: Arc<Plan>, sight: Arc<Sight>) -> Result<ErrorSource, Fault> {
        let shard = plan.shard().ok_or_else(|| Fault::new(Blame::Disk, format!("replay: shard {:?}", plan.shard)))?;
        let mut starts = vec![0];
        starts.extend(plan.objects.iter().scan(0, |end, object| {
            *end += object.bytes;
            Some(*end)
        }));
        let log = Arc::new(Objects { sink, shard, plan, starts, sight });
        Ok(ErrorSource { log, given: AtomicBool::new(false) })
    }
}

#[async_trait]
impl Source for ErrorSource {
    async fn next_shard(&self) -> Result<Option<Shard>, Fault> {
        let first = !self.given.swap(true, Ordering::Relaxed);
        Ok(first.then(|| self.log.shard.clone()))
    }

    async fn open(&self, shard: &Shard, from: Option<&Position>) -> Result<Box<dyn Reader>, Fault> {
        let position = from.map_or(Some(0), Position::as_u64).filter(|position| *position <= self.log.end());
        match position.filter(|_| *shard == self.log.shard) {
            Some(position) => Ok(Box::new(ErrorReader { log: self.log.clone(), position })),
            None => Err(Fault::new(Blame::Disk, format!("replay: {shard} from {from:?} is not of this plan"))),
        }
    }

    /// Error objects stay: they belong to whoever keeps the store.
    async fn release(&self, _shard: &Shard, _upto: &Position) -> Result<(), Fault> {
        Ok(())
    }
}

/// Reads the log in order.
struct ErrorReader {
    log: Arc<Objects>,
    position: u64,
}

/// A part of one object that one read takes.
#[derive(Debug, Clone, Copy)]
struct Piece {
    object: usize,
    offset: u64,
    bytes: u64,
}

#[async_trait]
impl Reader for ErrorReader {
    fn position(&self) -> Position {
        self.position.into()
    }

    fn tail(&self) -> Position {
        self.log.end().into()
    }

    async fn next(&mut self) -> Result<Option<Read>, Fault> {
        let log = self.log.clone();
        loop {
            let pieces = log.pieces(self.position);
            let Some(Piece { object, offset, bytes }) = pieces.last().copied() else { return Ok(None) };
            let mut batch = BatchBuilder::default();
            let end = log.starts[object] + offset + bytes;
            let end = match pieces.as_slice() {
                [piece] if offset + bytes < log.object(object).bytes => {
                    log.starts[object] + log.some_lines(*piece, &mut batch).await?
                }
                pieces => {
                    let asked: Vec<_> = pieces.iter().map(|piece| log.fetch(*piece)).collect();
                    let got: Vec<_> = stream::iter(asked).buffered(REQUESTS_AT_ONCE).try_collect().await?;
                    off_async(|| {
                        for (piece, bytes) in pieces.iter().zip(&got) {
                            log.lines(piece.object, piece.offset, bytes.as_deref().unwrap_or_default(), &mut batch);
                        }
                    });
                    end
                }
            };
            self.position = end;
            let batch = batch.finish();
            // A chunk without a record would be a range without an object: a gap, for who audits.
            if !batch.is_empty() || end == log.end() {
                return Ok(Some(Read { batch, end: end.into() }));
            }
        }
    }
}

impl Objects {
    fn object(&self, object: usize) -> &Planned {
        &self.plan.objects[object]
    }

    fn end(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// What the read at `position` takes: the rest of objects, or a part of one that is large.
    fn pieces(&self, position: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let (mut at, mut left) = (position, READ_BYTES);
        while at < self.end() && pieces.len() < OBJECTS_PER_READ {
            // The last that begins here or before, so that objects without a byte are passed over.
            let object = self.starts.partition_point(|start| *start <= at) - 1;
            let offset = at - self.starts[object];
            let rest = self.object(object).bytes - offset;
            match rest <= left {
                true => pieces.push(Piece { object, offset, bytes: rest }),
                false if pieces.is_empty() => return vec![Piece { object, offset, bytes: left }],
                false => break,
            }
            (at, left) = (at + rest, left - rest);
        }
        pieces
    }

    /// The bytes of a piece; `None`: its object is gone.
    async fn fetch(&self, piece: Piece) -> Result<Option<Bytes>, Fault> {
        let Piece { object, offset, bytes } = piece;
        let Planned { name, bytes: whole, .. } = self.object(object);
        let got = self.sink.read(name, *whole, offset..offset + bytes).await?;
        let mut gone = self.sight.gone_mut();
        match (&got, offset) {
            (Some(_), 0) => drop(gone.whole.remove(&object)),
            (Some(_), _) => {}
            (None, 0) => drop(gone.whole.insert(object)),
            (None, _) => drop(gone.part.insert(object)),
        }
        drop(gone);
        if got.is_none() {
            let object = self.sink.location(name);
            tracing::warn!(object, "an error object that was to be replayed is gone, or is another one by now");
        }
        Ok(got)
    }

    /// Reads the lines that end within a piece, or else the one that it begins with; answers where in the object they end.
    async fn some_lines(&self, mut piece: Piece, batch: &mut BatchBuilder) -> Result<u64, Fault> {
        let whole = self.object(piece.object).bytes;
        loop {
            let Some(bytes) = self.fetch(piece).await? else { return Ok(whole) };
            let is_end = piece.offset + piece.bytes == whole;
            let lines = if is_end { Some(bytes.len()) } else { memchr::memrchr(b'\n', &bytes).map(|at| at + 1) };
            if let Some(lines) = lines {
                off_async(|| self.lines(piece.object, piece.offset, &bytes[..lines], batch));
                return Ok(piece.offset + lines as u64);
            }
            if bytes.len() > LINE_BYTES_MAX {
                let end = self.end_of_line(piece.object, piece.offset + piece.bytes).await?;
                self.unreadable(piece.object, piece.offset, &bytes[..SHOWN_BYTES], &too_long(), batch);
                return Ok(end);
            }
            piece.bytes = (piece.bytes * 2).min(whole - piece.offset);
        }
    }

    /// Behind the line that byte `at` of an object lies in.
    async fn end_of_line(&self, object: usize, mut at: u64) -> Result<u64, Fault> {
        let whole = self.object(object).bytes;
        while at < whole {
            let bytes = READ_BYTES.min(whole - at);
            let Some(got) = self.fetch(Piece { object, offset: at, bytes }).await? else { return Ok(whole) };
            match memchr::memchr(b'\n', &got) {
                Some(end) => return Ok(at + end as u64 + 1),
                None => at += bytes,
            }
        }
        Ok(whole)
    }

    /// Adds the records of whole lines, which begin at `offset` of the object.
    fn lines(&self, object: usize, offset: u64, lines: &[u8], batch: &mut BatchBuilder) {
        let planned = self.object(object);
        let mut start = 0;
        while start < lines.len() {
            let end = memchr::memchr(b'\n', &lines[start..]).map_or(lines.len(), |at| start + at);
            let at = offset + start as u64;
            let line = of_line(&lines[start..end]);
            start = end + 1;
            let Some(line) = line else { continue };
            if line.len() > LINE_BYTES_MAX {
                self.unreadable(object, at, line, &too_long(), batch);
                continue;
            }
            match read_line(line) {
                Line::Record { class, arrival_ms, payload } if planned.classes.has(class) => {
                    self.sight.classes[class as usize].fetch_add(1, Ordering::Relaxed);
                    batch.push(&payload, arrival_ms.unwrap_or(planned.modified_ms));
                }
                Line::Record { .. } | Line::SetAsideByReplay => {
                    self.sight.left_alone.fetch_add(1, Ordering::Relaxed);
                }
                Line::Unreadable(wrong) => self.unreadable(object, at, line, &wrong, batch),
            }
        }
    }

    fn unreadable(&self, object: usize, at: u64, line: &[u8], wrong: &str, batch: &mut BatchBuilder) {
        let Planned { name, modified_ms, .. } = self.object(object);
        self.sight.unreadable.fetch_add(1, Ordering::Relaxed);
        let message = format!("{} at byte {at}: {wrong}", self.sink.location(name));
        let kept = if line.len() > UNREADABLE_BYTES_MAX { &line[..SHOWN_BYTES] } else { line };
        batch.push_known(kept, *modified_ms, (Some(message.as_bytes()), at), []);
    }
}

fn too_long() -> String {
    format!("a line of more than {LINE_BYTES_MAX} bytes")
}

/// What is wrong with record `row` of a batch of an [`ErrorSource`], if it is a line that could not be read.
pub fn what_is_wrong(batch: &Batch, row: usize) -> Option<&[u8]> {
    batch.key(row)
}
