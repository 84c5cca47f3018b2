//! What the writer and the readers of one stream share: its segments, its durable end, who has released what.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::disk::remove_if_there;
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::position::Shard;
use crate::spool::damage::{Damage, move_away};
use crate::spool::recent::{Extent, Recent};
use crate::spool::segment::Segment;
use crate::spool::{Limits, OnCorruption, Options, Stats};

/// How far the log can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// All records below this number are durable; nobody reads beyond.
    pub durable: u64,
    /// No record will ever come behind them.
    pub ended: bool,
}

/// Called with the time that one group commit took to become durable.
type OnSync = Box<dyn Fn(Duration) + Send + Sync>;

/// One stream's log. Locks are held for list operations only, never over a call to the disk (`trimming` excepted, which
/// nobody else waits for).
pub struct Log {
    pub ground: Ground,
    pub dir: PathBuf,
    pub name: String,
    pub shard: Shard,
    pub policy: OnCorruption,
    limits: Mutex<Limits>,
    tail: Mutex<Tail>,
    /// Wakes readers, always in the same order (which a watch channel does not), so that a simulated history repeats.
    pub grown: Notify,
    /// Why the stream stopped for good; `None` while it is healthy.
    pub failed: watch::Sender<Option<(Blame, String)>>,
    pub on_sync: OnceLock<OnSync>,
    /// Bytes that the files of this stream take.
    pub bytes: AtomicU64,
    pub group_commits: AtomicU64,
    pub refused: AtomicU64,
    /// The first record that the once window still needs after a restart.
    pub once_floor: AtomicU64,
    /// In the order of their bases; the last is the one being written.
    segments: Mutex<VecDeque<Arc<Segment>>>,
    /// Per reader: all below this number may go.
    readers: Mutex<BTreeMap<String, u64>>,
    recent: Mutex<Recent>,
    gaps: Mutex<Vec<(u64, u64)>>,
    trimming: Mutex<()>,
}

impl Log {
    /// The log as recovery found it.
    pub fn new(
        ground: Ground,
        dir: PathBuf,
        name: String,
        shard: Shard,
        options: &Options,
        segments: Vec<Arc<Segment>>,
        gaps: Vec<(u64, u64)>,
    ) -> Log {
        let bytes = segments.iter().map(|segment| segment.on_disk.load(Ordering::Relaxed)).sum();
        let &Options { spool_bytes_max, free_bytes_min, once_window_ms, on_corruption: policy, .. } = options;
        Log {
            ground,
            dir,
            name,
            shard,
            policy,
            limits: Mutex::new(Limits { spool_bytes_max, free_bytes_min, once_window_ms }),
            tail: Mutex::new(Tail { durable: 0, ended: false }),
            grown: Notify::new(),
            failed: watch::Sender::new(None),
            on_sync: OnceLock::new(),
            bytes: AtomicU64::new(bytes),
            group_commits: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            once_floor: AtomicU64::new(0),
            segments: Mutex::new(segments.into()),
            readers: Mutex::default(),
            recent: Mutex::default(),
            gaps: Mutex::new(gaps),
            trimming: Mutex::default(),
        }
    }

    /// The limits of now.
    pub fn limits(&self) -> Limits {
        *lock(&self.limits)
    }

    /// From now on these limits.
    pub fn set_limits(&self, limits: Limits) {
        *lock(&self.limits) = limits;
    }

    /// All records below this number are durable.
    pub fn durable(&self) -> u64 {
        self.tail().durable
    }

    /// How far the log can be read.
    pub fn tail(&self) -> Tail {
        *lock(&self.tail)
    }

    /// No record will ever come behind the last one.
    pub fn end(&self) {
        lock(&self.tail).ended = true;
        self.grown.notify_waiters();
    }

    /// Lets readers read up to `durable`.
    pub fn publish(&self, durable: u64) {
        let mut tail = lock(&self.tail);
        assert!(tail.durable <= durable, "the durable end never goes back");
        tail.durable = durable;
        drop(tail);
        self.grown.notify_waiters();
    }

    /// Keeps a durable group in memory for the readers.
    pub fn keep(&self, extent: Extent) {
        let readers = lock(&self.readers).len();
        lock(&self.recent).keep(extent, readers);
    }

    /// The group with record `number`, if it is still in memory and not released.
    pub fn take(&self, number: u64) -> Option<Extent> {
        if number < self.oldest() {
            return None;
        }
        lock(&self.recent).take(number)
    }

    /// The stream stops for good; the first reason stays.
    pub fn fail(&self, blame: Blame, reason: String) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                *failed = Some((blame, reason));
            }
            first
        });
    }

    /// Number of the oldest retained record.
    pub fn oldest(&self) -> u64 {
        lock(&self.segments).front().map_or_else(|| self.durable(), |segment| segment.base)
    }

    /// The segment that holds record `number`, and the base of the next one (`u64::MAX` in the last).
    pub fn segment_of(&self, number: u64) -> Option<(Arc<Segment>, u64)> {
        let segments = lock(&self.segments);
        let next = segments.partition_point(|segment| segment.base <= number);
        let segment = segments.get(next.checked_sub(1)?)?;
        Some((segment.clone(), segments.get(next).map_or(u64::MAX, |segment| segment.base)))
    }

    /// Adds the segment that will be written from now on; returns those that it replaces, which hold nothing that counts.
    pub fn push(&self, segment: Arc<Segment>) -> Vec<Arc<Segment>> {
        let mut segments = lock(&self.segments);
        let mut replaced = Vec::new();
        while let Some(last) = segments.pop_back_if(|last| last.base >= segment.base) {
            replaced.push(last);
        }
        segments.push_back(segment);
        replaced
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        lock(&self.segments).len()
    }

    /// The end of the accepted gap that record `number` lies in.
    pub fn gap_at(&self, number: u64) -> Option<u64> {
        let gaps = lock(&self.gaps);
        gaps.iter().filter(|(start, end)| (*start..*end).contains(&number)).map(|(_, end)| *end).max()
    }

    /// Records a gap and goes on, or stops the stream, as the policy says.
    pub fn settle(&self, damage: &Damage) -> Result<(), Fault> {
        if let Err(fault) = damage.settle(&self.ground, &self.dir, self.policy) {
            self.fail(fault.blame, format!("{:#}", fault.error));
            return Err(fault);
        }
        lock(&self.gaps).push((damage.start, damage.end));
        Ok(())
    }

    /// Registers a reader: from now on nothing goes that it has not released. A new one starts at the oldest record.
    pub fn register(&self, reader: &str) {
        let mut readers = lock(&self.readers);
        if !readers.contains_key(reader) {
            readers.insert(reader.to_owned(), self.oldest());
        }
    }

    /// Whether this reader is registered.
    pub fn is_registered(&self, reader: &str) -> bool {
        lock(&self.readers).contains_key(reader)
    }

    /// Registers a reader that has released all below `from`. Removes nothing.
    pub fn hold(&self, reader: &str, from: u64) {
        let mut readers = lock(&self.readers);
        readers.insert(reader.to_owned(), from.max(self.oldest()));
    }

    /// Forgets a reader: it holds nothing back any more.
    pub fn forget(&self, reader: &str) -> Result<(), Fault> {
        lock(&self.readers).remove(reader);
        self.trim()
    }

    /// `reader` no longer needs what lies below `upto`.
    pub fn release(&self, reader: &str, upto: u64) -> Result<(), Fault> {
        if let Some(released) = lock(&self.readers).get_mut(reader) {
            *released = upto.max(*released);
        }
        self.trim()
    }

    /// Whether every reader has released all below `upto`; not, while there is no reader.
    pub fn is_released(&self, upto: u64) -> bool {
        lock(&self.readers).values().min().is_some_and(|released| *released >= upto)
    }

    /// Removes the oldest segments that neither a reader nor the once window needs; never the one being written.
    pub fn trim(&self) -> Result<(), Fault> {
        self.remove_below(|| self.once_floor.load(Ordering::Relaxed))
    }

    /// Removes also what only the once window holds: producers come before retries that a restart would recognise. The
    /// calls stay known to this process.
    pub fn trim_for_room(&self) -> Result<(), Fault> {
        self.remove_below(|| u64::MAX)
    }

    fn remove_below(&self, floor: impl Fn() -> u64) -> Result<(), Fault> {
        let _one_at_a_time = lock(&self.trimming);
        while let Some((segment, next_base)) = self.pop_unneeded(floor()) {
            let damaged = lock(&self.gaps).iter().any(|(start, end)| *start < next_base && *end > segment.base);
            let path = self.dir.join(&segment.name);
            let disk = &*self.ground.disk;
            // One at a time and each durably, so that after a crash the segments have no hole between them.
            let gone = match damaged {
                true => move_away(disk, &self.dir, &segment.name),
                false => remove_if_there(disk, &path).and_then(|()| disk.sync_dir(&self.dir)),
            };
            if let Err(error) = gone {
                let fault = Fault::disk(error).context(format!("{}: remove a segment", path.display()));
                self.fail(Blame::Disk, format!("{:#}", fault.error));
                return Err(fault);
            }
            self.bytes.fetch_sub(segment.on_disk.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Ok(())
    }

    fn pop_unneeded(&self, floor: u64) -> Option<(Arc<Segment>, u64)> {
        // Under the readers' lock, so that a reader that registers now starts behind what goes.
        let readers = lock(&self.readers);
        let released = *readers.values().min()?;
        let floor = released.min(floor).min(self.durable());
        let mut segments = lock(&self.segments);
        let next_base = segments.get(1)?.base;
        let segment = segments.pop_front_if(|_| next_base <= floor)?;
        Some((segment, next_base))
    }

    /// The numbers for the metrics and the status page.
    pub fn stats(&self) -> Stats {
        Stats {
            bytes: self.bytes.load(Ordering::Relaxed),
            oldest: self.oldest(),
            durable: self.durable(),
            group_commits: self.group_commits.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// A panic elsewhere leaves these lists whole, as no operation on them stops half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
