//! The writer: gathers requests into groups, makes each group durable with one disk operation, then tells.
//!
//! A plain struct without tasks, so that a simulated disk can kill it at every step; `mod.rs` wraps it into a task.
//! What it promises: a number is given out once; nobody is answered before the group is durable; after an error nothing is
//! ever written to that file again. A disk that is full costs the group and closes the segment, and writing goes on
//! in a new one: what the failed write left lies at or beyond the new segment's base and counts for nothing, and until
//! there is a new segment it is an incomplete group, which recovery cuts. Any other error stops the stream.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::disk::{BLOCK_BYTES, Blocks, DiskFile};
use crate::error::Blame;
use crate::spool::frame::{self, Frame, HEADER_BYTES as FRAME_HEADER_BYTES, Heading, Salt};
use crate::spool::log::Log;
use crate::spool::once::Once;
use crate::spool::prepare::Prepared;
use crate::spool::recent::Extent;
use crate::spool::segment::{HEADER_BYTES, Header, Segment, name_of};
use crate::spool::{Append, AppendError, Appended, OnceKey};

/// Intact frames of a dead process that were possibly not durable: they open the next segment.
#[derive(Debug)]
pub struct Rescued {
    /// Number of the first record.
    pub base: u64,
    /// The frames as they lay in the old segment, with its salt.
    pub frames: Vec<u8>,
    pub salt: Salt,
}

/// Where a writer begins: what recovery found.
#[derive(Debug)]
pub struct Start {
    pub incarnation: u64,
    /// The number of the next record.
    pub next: u64,
    pub next_id: u64,
    /// The arrival of the last record.
    pub arrival_ms: i64,
    pub rescued: Option<Rescued>,
    pub once: Once,
}

/// Writes one stream's log.
pub struct Writer {
    log: Arc<Log>,
    /// Of one segment, at the most.
    segment_bytes_max: u64,
    start: Start,
    active: Option<Active>,
    prepared: Option<Prepared>,
    /// The segment during which a segment was last created in advance.
    prepare_asked: u64,
}

/// The segment being written.
struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Where the next group goes.
    used: u64,
    /// Bytes that were written before with zeros; 0: the file grows as it is written.
    allocated: u64,
    /// The bytes before `used` in its block. Groups are written in whole blocks where zeros lie already, so that they
    /// can pass the page cache by: what was in the first block is written again, and behind the group zeros.
    block: Vec<u8>,
}

impl Active {
    /// `bytes` are durable behind all else.
    fn advance(&mut self, bytes: &[u8]) {
        self.used += bytes.len() as u64;
        self.segment.readable.store(self.used, Ordering::Release);
        if self.allocated > 0 {
            let block = (self.used % BLOCK_BYTES as u64) as usize;
            self.block.extend_from_slice(&bytes[bytes.len().saturating_sub(block)..]);
            self.block.drain(..self.block.len() - block);
        }
    }
}

/// Why a group was not written.
enum Refused {
    Full,
    Failed(String),
}

/// What becomes of one request of a group.
enum Plan {
    Known(Appended),
    /// The n-th frame of the group; retries share their original's.
    Frame(usize),
}

impl Writer {
    /// A writer that begins at `start`, with a segment of its own if the disk has room for one. Blocks.
    pub fn new(log: Arc<Log>, segment_bytes_max: u64, start: Start) -> Writer {
        log.publish(start.rescued.as_ref().map_or(start.next, |rescued| rescued.base));
        let mut writer = Writer { log, segment_bytes_max, start, active: None, prepared: None, prepare_asked: 0 };
        writer.publish_once_floor();
        writer.begin();
        writer
    }

    /// Whether a segment to write to is missing, because the disk is full. At start, rescued records wait for it too.
    pub fn wants_segment(&self) -> bool {
        self.active.is_none() && self.log.failed.borrow().is_none()
    }

    /// Tries to make a segment if one is missing. Blocks.
    pub fn begin(&mut self) {
        if self.wants_segment()
            && let Err(Refused::Failed(reason)) = self.new_segment()
        {
            self.die(reason);
        }
    }

    /// Appends a group; one answer per request, in order. Blocks until the group is durable or refused as a whole.
    /// `now_ms` counts from the stream's opening and never jumps.
    pub fn commit(&mut self, group: &[Append], now_ms: u64) -> Vec<Result<Appended, AppendError>> {
        // Also when a reader or a removal met the error: a disk that failed once is not trusted again.
        if let Some((_, reason)) = &*self.log.failed.borrow() {
            return group.iter().map(|_| Err(AppendError::Stopped(reason.clone()))).collect();
        }
        self.start.once.expire(now_ms);
        let (plans, fresh) = self.plan(group);
        let written = match fresh.is_empty() {
            true => Ok(Vec::new()),
            false => self.write(&fresh),
        };
        let once_window_ms = self.log.limits().once_window_ms;
        if let Ok(appended) = &written {
            for (append, appended) in fresh.iter().zip(appended) {
                if let Some(key) = append.once {
                    self.start.once.insert(key, *appended, now_ms.saturating_add(once_window_ms));
                }
            }
        }
        self.publish_once_floor();
        let refusal = match written.as_ref().err() {
            Some(Refused::Failed(reason)) => {
                self.die(reason.clone());
                AppendError::Stopped(reason.clone())
            }
            _ => AppendError::Full,
        };
        plans
            .into_iter()
            .map(|plan| match (plan, &written) {
                (Plan::Known(appended), _) => Ok(appended),
                (Plan::Frame(index), Ok(appended)) => Ok(appended[index]),
                (Plan::Frame(_), Err(_)) => Err(refusal.clone()),
            })
            .collect()
    }

    /// Forgets calls that are over and removes segments that only they held. Blocks.
    pub fn tidy(&mut self, now_ms: u64) {
        self.start.once.expire(now_ms);
        self.publish_once_floor();
        // A failure has stopped the stream already.
        let _ = self.log.trim();
    }

    /// When [`Writer::tidy`] can next do something, in the time of `commit`.
    pub fn next_tidy_ms(&self) -> Option<u64> {
        self.start.once.next_expiry_ms().filter(|_| self.log.segments() > 1)
    }

    /// The size of a segment to create in advance, if now is the time for it.
    ///
    /// Asks once per segment, so that a disk without room is not tried again and again.
    pub fn wants_prepared(&mut self) -> Option<u64> {
        let active = self.active.as_ref().filter(|active| active.segment.id != self.prepare_asked)?;
        let bytes = self.segment_bytes();
        let flows = active.used >= PREPARE_AFTER_BYTES.min(bytes / 4);
        let room = self.log.bytes.load(Ordering::Relaxed) + 2 * bytes <= self.log.limits().spool_bytes_max;
        if !flows || !room || self.prepared.is_some() {
            return None;
        }
        self.prepare_asked = active.segment.id;
        Some(bytes)
    }

    /// Takes a segment created in advance; it is used at the next roll.
    pub fn offer(&mut self, prepared: Prepared) {
        self.log.bytes.fetch_add(prepared.bytes, Ordering::Relaxed);
        self.prepared = Some(prepared);
    }

    fn plan<'a>(&self, group: &'a [Append]) -> (Vec<Plan>, Vec<&'a Append>) {
        let mut fresh: Vec<&Append> = Vec::with_capacity(group.len());
        let mut twins: HashMap<OnceKey, usize> = HashMap::new();
        let plans = group
            .iter()
            .map(|append| {
                if let Some(appended) = append.once.and_then(|key| self.start.once.get(key)) {
                    return Plan::Known(appended);
                }
                let index = match append.once {
                    Some(key) => *twins.entry(key).or_insert(fresh.len()),
                    None => fresh.len(),
                };
                if index == fresh.len() {
                    fresh.push(append);
                }
                Plan::Frame(index)
            })
            .collect();
        (plans, fresh)
    }

    fn write(&mut self, fresh: &[&Append]) -> Result<Vec<Appended>, Refused> {
        let bytes = fresh.iter().map(|append| frame::bytes_of(&append.records)).sum::<usize>();
        self.check_room(bytes as u64)?;
        self.roll_if_due(bytes as u64)?;
        let Some(active) = &mut self.active else { return Err(Refused::Full) };

        let mut blocks = Blocks::with_capacity(active.block.len() + bytes + BLOCK_BYTES);
        let buffer = blocks.end_mut();
        buffer.extend_from_slice(&active.block);
        let end = buffer.len() + bytes;
        let (mut first, durable) = (self.start.next, self.start.next);
        let mut arrival_ms = self.start.arrival_ms;
        let mut appended = Vec::with_capacity(fresh.len());
        for append in fresh {
            arrival_ms = in_order(arrival_ms, append.records.arrival_ms(0));
            let count = append.records.len() as u32;
            let group_left = (end - buffer.len() - frame::bytes_of(&append.records)) as u32;
            let heading = Heading { first, arrival_ms, durable, group_left, once: append.once };
            frame::encode(buffer, active.segment.salt, heading, &append.records);
            appended.push(Appended { first, count });
            first += u64::from(count);
        }
        assert_eq!(buffer.len(), end, "a frame's size is known before it is encoded");
        blocks.pad(zeros_behind(active.used + bytes as u64, active.allocated));

        let began = tokio::time::Instant::now();
        if let Err(error) = active.file.write_durably_at(&blocks, active.used - active.block.len() as u64) {
            let refused =
                refusal(&error, || format!("{}: write a group", self.log.dir.join(&active.segment.name).display()));
            // What the disk kept of the group takes room until the segment goes.
            let kept = active.file.len().unwrap_or(active.used).max(active.allocated);
            grow(&self.log, &active.segment, kept);
            self.active = None;
            return Err(refused);
        }
        if let Some(on_sync) = self.log.on_sync.get() {
            on_sync(began.elapsed());
        }
        let frames = blocks.freeze().slice(active.block.len()..active.block.len() + bytes);
        active.advance(&frames);
        grow(&self.log, &active.segment, active.used);
        let (segment, at) = (active.segment.clone(), active.used - bytes as u64);
        self.log.keep(Extent { segment, at, first: durable, end: first, frames });
        (self.start.next, self.start.arrival_ms) = (first, arrival_ms);
        self.log.group_commits.fetch_add(1, Ordering::Relaxed);
        self.log.publish(first);
        Ok(appended)
    }

    /// Refuses a group of `bytes` that the quota or the disk has no room for, before anything is touched.
    fn check_room(&mut self, bytes: u64) -> Result<(), Refused> {
        let fits = self.active.as_ref().is_some_and(|active| active.used + bytes <= active.allocated);
        let grows = if fits { 0 } else { HEADER_BYTES + bytes };
        let max = self.log.limits().spool_bytes_max;
        let over = |log: &Log| log.bytes.load(Ordering::Relaxed).saturating_add(grows) > max;
        if over(&self.log) {
            // A segment can go only when it is no longer written to: one large request must not block the stream.
            let written = self.active.as_ref().is_some_and(|active| active.used > HEADER_BYTES);
            if written && self.log.is_released(self.start.next) {
                self.new_segment()?;
            }
            self.make_room()?;
            if over(&self.log) {
                return Err(Refused::Full);
            }
        }
        if self.disk_is_tight(grows)? {
            self.make_room()?;
            if self.disk_is_tight(grows)? {
                return Err(Refused::Full);
            }
        }
        Ok(())
    }

    /// Of one segment: a stream has four of them at the least.
    fn segment_bytes(&self) -> u64 {
        self.segment_bytes_max.min(self.log.limits().spool_bytes_max / 4)
    }

    fn make_room(&self) -> Result<(), Refused> {
        self.log.trim_for_room().map_err(|fault| Refused::Failed(format!("{:#}", fault.error)))
    }

    fn disk_is_tight(&self, grows: u64) -> Result<bool, Refused> {
        let failed = |error| Refused::Failed(format!("{}: ask for free bytes: {error}", self.log.dir.display()));
        let free = self.log.ground.disk.free_bytes(&self.log.dir).map_err(failed)?;
        Ok(free.saturating_sub(grows) < self.log.limits().free_bytes_min)
    }

    fn roll_if_due(&mut self, bytes: u64) -> Result<(), Refused> {
        let segment_bytes = self.segment_bytes();
        let due = self.active.as_ref().is_none_or(|active| {
            let full = active.used + bytes > segment_bytes.max(active.allocated);
            let slow = active.allocated == 0 && self.prepared.is_some();
            active.used > HEADER_BYTES && (full || slow)
        });
        if due { self.new_segment() } else { Ok(()) }
    }

    /// Makes the next segment, born whole with its header and what recovery rescued, and writes to it from now on.
    fn new_segment(&mut self) -> Result<(), Refused> {
        let base = self.start.rescued.as_ref().map_or(self.start.next, |rescued| rescued.base);
        let header = Header {
            incarnation: self.start.incarnation,
            id: self.start.next_id,
            base,
            salt: Salt(self.log.ground.random.u64()),
            arrival_ms: self.start.arrival_ms,
        };
        let mut head = header.encode().to_vec();
        if let Some(rescued) = &self.start.rescued {
            resalt(rescued, header.salt, &mut head);
        }
        let (disk, dir) = (self.log.ground.disk.clone(), self.log.dir.clone());
        let name = name_of(base, header.id);
        // An id is used once, whatever becomes of the file.
        self.start.next_id += 1;
        let (temporary, allocated, prepared) = match self.prepared.take() {
            Some(prepared) => {
                self.log.bytes.fetch_sub(prepared.bytes, Ordering::Relaxed);
                (prepared.path, prepared.bytes, Some(prepared.file))
            }
            None => (dir.join(format!("tmp-{name}")), 0, None),
        };
        let mut blocks = Blocks::with_capacity(head.len() + BLOCK_BYTES);
        blocks.end_mut().extend_from_slice(&head);
        blocks.pad(zeros_behind(head.len() as u64, allocated));
        let born = || {
            let file = match prepared {
                Some(file) => file,
                None => disk.create(&temporary)?,
            };
            file.write_durably_at(&blocks, 0)?;
            disk.rename(&temporary, &dir.join(&name))?;
            Ok(file)
        };
        let file = born().map_err(|error| {
            // Best effort: the next start removes it too.
            let _ = disk.remove(&temporary);
            refusal(&error, || format!("{}: create a segment", dir.join(&name).display()))
        })?;
        // Not `refusal`: whether the name is durable is unknown now, so there is no going on.
        disk.sync_dir(&dir).map_err(|error| Refused::Failed(format!("{}: sync: {error}", dir.display())))?;

        let used = head.len() as u64;
        let on_disk = used.max(allocated);
        let segment = Arc::new(Segment::new(&header, used, on_disk));
        self.log.bytes.fetch_add(on_disk, Ordering::Relaxed);
        for replaced in self.log.push(segment.clone()) {
            self.log.bytes.fetch_sub(replaced.on_disk.load(Ordering::Relaxed), Ordering::Relaxed);
            // Best effort: nothing in it counts, and the next start removes it too.
            let _ = disk.remove(&dir.join(&replaced.name));
        }
        let mut active = Active { segment, file, used: 0, allocated, block: Vec::new() };
        active.advance(&head);
        self.active = Some(active);
        self.start.rescued = None;
        self.log.publish(self.start.next);
        Ok(())
    }

    fn publish_once_floor(&self) {
        self.log.once_floor.store(self.start.once.floor().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn die(&mut self, reason: String) {
        tracing::error!(stream = %self.log.name, %reason, "spool: stopped, nothing more is acknowledged");
        self.log.fail(Blame::Disk, reason);
        self.active = None;
    }
}

/// Bytes in the active segment from which on a stream is worth a segment created in advance.
const PREPARE_AFTER_BYTES: u64 = 1 << 20;

/// How far the clock may go back while arrivals stand still, in milliseconds. One that goes back further was wrong
/// before, or is wrong now: it is followed, or a single jump ahead would be the time of all records until it is reached.
const BACK_MS_MAX: i64 = 10_000;

/// When a record arrived, by a clock that shows `now_ms`, behind one that arrived at `last_ms`.
fn in_order(last_ms: i64, now_ms: i64) -> i64 {
    if now_ms < last_ms.saturating_sub(BACK_MS_MAX) { now_ms } else { now_ms.max(last_ms) }
}

/// Zeros that make whole blocks of what ends at byte `end`, where they replace nothing but zeros.
fn zeros_behind(end: u64, allocated: u64) -> usize {
    (end.next_multiple_of(BLOCK_BYTES as u64).min(allocated).saturating_sub(end)) as usize
}

/// The disk has no room: the group is refused. Anything else: the stream stops.
fn refusal(error: &io::Error, doing: impl FnOnce() -> String) -> Refused {
    use io::ErrorKind::{QuotaExceeded, StorageFull, WriteZero};
    let too_many_files = rustix::io::Errno::from_io_error(error)
        .is_some_and(|errno| matches!(errno, rustix::io::Errno::MFILE | rustix::io::Errno::NFILE));
    match error.kind() {
        StorageFull | QuotaExceeded | WriteZero => Refused::Full,
        _ if too_many_files => Refused::Full,
        _ => Refused::Failed(format!("{}: {error}", doing())),
    }
}

fn grow(log: &Log, segment: &Segment, on_disk: u64) {
    let before = segment.on_disk.fetch_max(on_disk, Ordering::Relaxed);
    log.bytes.fetch_add(on_disk.saturating_sub(before), Ordering::Relaxed);
}

/// Appends rescued frames to `into` with the salt of their new segment, whose base is durable and so is their hint.
fn resalt(rescued: &Rescued, salt: Salt, into: &mut Vec<u8>) {
    let mut rest = &rescued.frames[..];
    while let Some(frame) = Frame::parse(rest, rescued.salt) {
        let start = into.len();
        let (bytes, behind) = rest.split_at(frame.bytes());
        into.extend_from_slice(bytes);
        let group_left = behind.len() as u32;
        frame::write_header(&mut into[start..], salt, Frame { durable: rescued.base, group_left, ..frame });
        rest = behind;
    }
    assert!(rest.is_empty() && into.len() > FRAME_HEADER_BYTES, "recovery rescues whole frames only");
}
