//! A session: what one owner reads of a partition, or of several merged into one shard, from an assignment to its end.
//!
//! Each partition has a queue of its own in librdkafka, which fetches ahead up to its limits and no further: whoever reads
//! slowly pauses nobody else, and memory stays bounded. The reader takes records straight from there into one buffer.
//!
//! The promise: positions are Kafka's offsets (of a merged shard: a count of offsets read), what was read lies without a gap
//! between them, and nothing is handed out once the session is lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::error::KafkaError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::ground::Clock;
use crate::metrics::KafkaMetrics;
use crate::position::{Position, Shard, ShardRange};
use crate::record::BatchBuilder;
use crate::source::{Read, Reader};

use super::ledger::Part;
use super::options::Tombstones;
use super::plan::Told;
use super::queue::{Next, Queue, Record};

/// Payload bytes of one read, about.
const READ_BYTES: usize = 1 << 20;
/// Records of one read, at the most: small ones cost memory too.
const READ_RECORDS: usize = 1 << 15;
/// From the first record that came to a look at what has come: one by one they would cost more.
const GATHER_PAUSE: Duration = Duration::from_millis(5);
/// A reader that was not told of records looks for itself so often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What one owner reads.
pub struct Session {
    pub shard: Shard,
    pub parts: Vec<Part>,
    /// Positions are counts.
    merged: bool,
    tombstones: Tombstones,
    metrics: KafkaMetrics,
    clock: Clock,
    complain: Arc<Notify>,
    ready: Arc<Notify>,
    lost: CancellationToken,
    inside: Mutex<Inside>,
    begin: u64,
    /// By part: the end of what can be read, as the broker said last.
    ends: Vec<AtomicI64>,
}

struct Inside {
    /// By part; `None` once lost.
    queues: Vec<Option<Queue>>,
    /// By part: the offset that is read next.
    offsets: Vec<i64>,
    /// What is read next.
    position: u64,
    /// Where positions are counts: which offsets the ends of reads are.
    marks: Marks,
    /// Whose turn it is.
    turn: usize,
    /// What a partition's queue said, for the client.
    faults: Vec<(Part, KafkaError, String)>,
    /// Offsets were passed over: the next read says so.
    jumped: bool,
    /// By part: nothing is taken, as what comes may be from where it was read before.
    seeking: Vec<bool>,
}

/// Offsets of all parts at a position, and how they moved on from there.
struct Marks {
    at: u64,
    offsets: Vec<i64>,
    /// Ends of reads: position, and the parts that had moved, with their offsets.
    ahead: VecDeque<(u64, Vec<(usize, i64)>)>,
}

impl Marks {
    /// Nothing before `position` will be asked for.
    fn forget_before(&mut self, position: u64) {
        while let Some((at, moved)) = self.ahead.pop_front_if(|(at, _)| *at <= position) {
            self.at = at;
            moved.into_iter().for_each(|(index, offset)| self.offsets[index] = offset);
        }
    }

    /// The offsets of all parts at the end of a read.
    fn at(&self, position: u64) -> Option<Vec<i64>> {
        let mut offsets = self.offsets.clone();
        if self.at == position {
            return Some(offsets);
        }
        for (at, moved) in &self.ahead {
            moved.iter().for_each(|(index, offset)| offsets[*index] = *offset);
            if *at == position {
                return Some(offsets);
            }
        }
        None
    }
}

/// Where a part of a session begins, and its queue.
pub struct Opening {
    pub part: Part,
    /// What the group has of it, if anything.
    pub told: Option<Told>,
    /// Where it is read on.
    pub offset: i64,
    pub queue: Queue,
    /// Its queue is elsewhere: nothing is taken before [`Session::sought`].
    pub seeking: bool,
}

impl Session {
    /// A session over these partitions. `complain` is told when a queue says that something is wrong.
    pub fn new(
        shard: Shard,
        openings: Vec<Opening>,
        (merged, tombstones): (bool, Tombstones),
        (metrics, clock, complain): (KafkaMetrics, Clock, Arc<Notify>),
    ) -> Session {
        let offsets: Vec<i64> = openings.iter().map(|opening| opening.offset).collect();
        let position = if merged { 0 } else { offsets.first().map_or(0, |offset| of_offset(*offset)) };
        let ends = offsets.iter().map(|offset| AtomicI64::new(*offset)).collect();
        let ready = Arc::new(Notify::new());
        let seeking = openings.iter().map(|opening| opening.seeking).collect();
        let (parts, queues): (Vec<_>, Vec<_>) = openings
            .into_iter()
            .map(|Opening { part, mut queue, .. }| {
                let ready = ready.clone();
                queue.on_ready(move || ready.notify_one());
                (part, Some(queue))
            })
            .unzip();
        let marks = Marks { at: position, offsets: offsets.clone(), ahead: VecDeque::new() };
        let inside = Inside { queues, offsets, position, marks, turn: 0, faults: Vec::new(), jumped: false, seeking };
        let (inside, lost) = (Mutex::new(inside), CancellationToken::new());
        let begin = position;
        Session { shard, parts, merged, tombstones, metrics, clock, complain, ready, lost, inside, begin, ends }
    }

    /// Where its reading begins.
    pub fn begin(&self) -> Position {
        self.begin.into()
    }

    /// By part: the offset that is read next.
    pub fn offsets(&self) -> Vec<i64> {
        self.inside().offsets.clone()
    }

    /// The offset of a part that is read next.
    pub fn offset(&self, part: &Part) -> Option<i64> {
        let index = self.parts.iter().position(|other| other == part)?;
        self.inside().offsets.get(index).copied()
    }

    /// By part: where all before the end of `range` is read; `None` if no read ended there.
    pub fn ends_of(&self, range: &ShardRange) -> Option<Vec<(Part, i64)>> {
        let end = range.end.as_u64()?;
        let offsets = match self.merged {
            true => self.inside().marks.at(end)?,
            false => vec![i64::try_from(end).ok()?],
        };
        Some(self.parts.iter().cloned().zip(offsets).collect())
    }

    /// All before `upto` is delivered: nothing before it is asked for any more. (Until then it may be, in any order: copies of
    /// chunks are put at the same time, and each is claimed when its own is there.)
    pub fn delivered(&self, upto: &Position) {
        if let Some(upto) = upto.as_u64().filter(|_| self.merged) {
            self.inside().marks.forget_before(upto);
        }
    }

    /// Sets reading back to `at`; by part, where its queue is to be taken, if it is not there: nothing is read until it is.
    pub fn rewind(&self, at: &Position) -> Result<Option<Vec<(Part, i64)>>, Fault> {
        let unknown = || Fault::new(Blame::Bug, format!("{}: {at} is no end of a read", self.shard));
        let wanted = at.as_u64().ok_or_else(unknown)?;
        let mut inside = self.inside();
        if inside.position == wanted {
            return Ok(None);
        }
        let offsets = match self.merged {
            true => inside.marks.at(wanted).ok_or_else(unknown)?,
            false => vec![i64::try_from(wanted).map_err(|_| unknown())?],
        };
        inside.marks.ahead.retain(|(mark, _)| *mark <= wanted);
        (inside.position, inside.offsets) = (wanted, offsets.clone());
        inside.seeking.fill(true);
        Ok(Some(self.parts.iter().cloned().zip(offsets).collect()))
    }

    /// The partition is another's now, or is taken up anew: nothing more is handed out.
    pub fn lose(&self) {
        self.lost.cancel();
        self.inside().queues.iter_mut().for_each(|queue| *queue = None);
    }

    /// Waits until it is lost. Cancel-safe.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether it is lost.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Takes what queues have complained of.
    pub fn take_faults(&self) -> Vec<(Part, KafkaError, String)> {
        std::mem::take(&mut self.inside().faults)
    }

    /// Passes over what the broker does not have any more: reading goes on at `offset`.
    pub fn jump(&self, part: &Part, offset: i64) {
        let mut inside = self.inside();
        if let Some(index) = self.parts.iter().position(|other| other == part) {
            inside.offsets[index] = offset;
            (inside.jumped, inside.seeking[index]) = (true, true);
            self.ready.notify_one();
        }
    }

    /// The queue of a partition has been taken to this offset. If it is wanted elsewhere since, that is to be sought yet.
    pub fn sought(&self, part: &Part, offset: i64) {
        if let Some(index) = self.parts.iter().position(|other| other == part) {
            let mut inside = self.inside();
            inside.seeking[index] &= inside.offsets[index] != offset;
            self.ready.notify_one();
        }
    }

    /// The broker said how far a partition can be read.
    pub fn ends_at(&self, part: &Part, offset: i64) {
        if let Some(index) = self.parts.iter().position(|other| other == part) {
            self.ends[index].store(offset, Ordering::Relaxed);
        }
    }

    fn tail(&self) -> Position {
        let inside = self.inside();
        let ends = self.ends.iter().map(|end| end.load(Ordering::Relaxed));
        let ahead = ends.zip(&inside.offsets).map(|(end, at)| of_offset(end - *at));
        (inside.position + ahead.sum::<u64>()).into()
    }

    /// Takes what is there, up to a read's worth.
    fn take(&self) -> Option<Read> {
        let mut inside = self.inside();
        let inside = &mut *inside;
        let mut batch = BatchBuilder::default();
        let (mut read_offsets, mut tombstones) = (0u64, 0u64);
        let mut moved = Vec::new();
        let count = inside.queues.len();
        for turn in 0..count {
            let index = (inside.turn + turn) % count;
            if inside.seeking[index] {
                continue;
            }
            let Some(queue) = inside.queues[index].take() else { continue };
            let (part, offset) = (&self.parts[index], &mut inside.offsets[index]);
            let before = *offset;
            batch.set_topic(&part.topic, u32::try_from(part.partition).unwrap_or(0));
            while batch.bytes() < READ_BYTES && batch.len() < READ_RECORDS {
                match queue.next() {
                    None => break,
                    Some(Next::Fault(error, said)) => {
                        inside.faults.push((part.clone(), error, said));
                        break;
                    }
                    // Left over from before it was taken up here.
                    Some(Next::Record(record)) if record.offset() < *offset => {}
                    Some(Next::Record(record)) => {
                        *offset = record.offset() + 1;
                        tombstones += u64::from(!self.push(&mut batch, &record));
                    }
                    Some(Next::End(end)) => *offset = end.max(*offset),
                }
            }
            inside.queues[index] = Some(queue);
            if *offset != before {
                read_offsets += of_offset(*offset - before);
                moved.push((index, *offset));
            }
            if batch.bytes() >= READ_BYTES || batch.len() >= READ_RECORDS {
                // The others first, or one that always has more would have all reads.
                inside.turn = index + 1;
                break;
            }
        }
        self.metrics.tombstones(tombstones);
        if read_offsets == 0 && !inside.jumped {
            return None;
        }
        if inside.jumped {
            moved = inside.offsets.iter().copied().enumerate().collect();
            inside.jumped = false;
        }
        inside.position = match self.merged {
            // A jump alone is one step, so that no two marks are at one position.
            true => inside.position + read_offsets.max(1),
            false => inside.offsets.first().map_or(0, |offset| of_offset(*offset)),
        };
        if self.merged {
            inside.marks.ahead.push_back((inside.position, moved));
        }
        Some(Read { batch: batch.finish(), end: inside.position.into() })
    }

    /// Whether the record is one; a tombstone may be none.
    fn push(&self, batch: &mut BatchBuilder, record: &Record) -> bool {
        let payload = match (record.payload(), self.tombstones) {
            (Some(payload), _) => payload,
            (None, Tombstones::Keep) => &[],
            (None, Tombstones::Drop) => return false,
        };
        let arrival_ms = record.timestamp_ms().unwrap_or_else(|| self.clock.now_ms());
        batch.push_known(payload, arrival_ms, (record.key(), of_offset(record.offset())), record.headers());
        true
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Offsets and distances between them are not negative where brokers are what they should be.
fn of_offset(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

/// Reads a session.
pub struct SessionReader {
    session: Arc<Session>,
    at: Position,
}

impl SessionReader {
    /// Reads on from `at`, where the session stands.
    pub fn new(session: Arc<Session>, at: Position) -> SessionReader {
        SessionReader { session, at }
    }
}

#[async_trait]
impl Reader for SessionReader {
    fn position(&self) -> Position {
        self.at.clone()
    }

    fn tail(&self) -> Position {
        self.session.tail().max(self.at.clone())
    }

    async fn next(&mut self) -> Result<Option<Read>, Fault> {
        let session = self.session.clone();
        loop {
            if session.is_lost() {
                // Whoever waits for this is told otherwise that it is lost.
                std::future::pending::<()>().await;
            }
            let read = off_async(|| session.take());
            if !session.inside().faults.is_empty() {
                session.complain.notify_one();
            }
            if let Some(read) = read {
                self.at = read.end.clone();
                return Ok(Some(read));
            }
            if tokio::time::timeout(LOOK_INTERVAL, session.ready.notified()).await.is_ok() {
                tokio::time::sleep(GATHER_PAUSE).await;
            }
        }
    }
}
