//! What a pipeline waits for: records, room in the outbox, a sink that takes an object, a better moment after a fault. No wait
//! holds up a cut for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::chunk::CHUNK_BYTES_MAX;
use crate::error::{Blame, Fault};
use crate::ground::Clock;
use crate::live::InTrouble;
use crate::metrics::PipelineMetrics;
use crate::position::{Position, Shard};
use crate::sink::Trouble;

use super::transforms::{Piece, Transforming};
use super::{Leave, Leaving, Way};

/// Room is counted in steps of this size.
const STEP_BYTES: u64 = 1 << 10;
/// Promises that may wait in the outbox, however small they are.
const PROMISES_MAX: u64 = 128;

/// Bytes that may wait in the outbox of one pipeline, at the least.
const OUTBOX_BYTES_LEAST: u64 = 2 << 30;

/// Bytes that may wait in the outbox of a pipeline whose largest object has `size_bytes`: room for four of them.
pub fn outbox_bytes_max(size_bytes: u64) -> u64 {
    OUTBOX_BYTES_LEAST.max(size_bytes.saturating_mul(4))
}

/// How much may wait in the outbox. When it is full, cutting stops, sources pause, the spool fills, and producers are
/// throttled.
#[derive(Debug, Clone)]
pub struct OutboxRoom {
    free: Arc<Semaphore>,
    steps: u64,
}

/// Room that one promise takes until the checkpoint has passed it.
#[derive(Debug)]
pub struct Room {
    _permit: Option<OwnedSemaphorePermit>,
}

impl OutboxRoom {
    /// Room for `outbox_bytes_max` bytes of promises.
    pub fn new(outbox_bytes_max: u64) -> OutboxRoom {
        let steps = (outbox_bytes_max / STEP_BYTES).clamp(PROMISES_MAX, u64::from(u32::MAX));
        let free = Semaphore::new(usize::try_from(steps).unwrap_or(Semaphore::MAX_PERMITS));
        OutboxRoom { free: Arc::new(free), steps }
    }

    /// Bytes of promises that are there, and that there is room for.
    pub fn taken(&self) -> (u64, u64) {
        let free = u64::try_from(self.free.available_permits()).unwrap_or(u64::MAX);
        (self.steps.saturating_sub(free) * STEP_BYTES, self.steps * STEP_BYTES)
    }

    fn cost(&self, bytes: u64) -> u32 {
        let steps = bytes.div_ceil(STEP_BYTES).clamp(self.steps / PROMISES_MAX, self.steps);
        u32::try_from(steps).unwrap_or(u32::MAX)
    }

    /// Waits for room for a promise of `bytes`; one larger than everything waits for everything. Cancel-safe.
    pub async fn wait(&self, bytes: u64) -> Room {
        Room { _permit: self.free.clone().acquire_many_owned(self.cost(bytes)).await.ok() }
    }

    /// The same; `None`: at a cut, as a sink that takes nothing would give no room either.
    pub async fn wait_or_leave(&self, bytes: u64, leaving: &Leaving, metrics: &PipelineMetrics) -> Option<Room> {
        let in_vain = async {
            leaving.until(Leave::Cut).await;
            if metrics.blocked.get() == 0 {
                // The time that a cut may take ends it.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            room = self.wait(bytes) => Some(room),
            () = in_vain => None,
        }
    }

    /// Room for a promise that lies there already; as much as there is.
    pub fn take_over(&self, bytes: u64) -> Room {
        Room { _permit: self.free.clone().try_acquire_many_owned(self.cost(bytes)).ok() }
    }
}

/// Reads a shard until it is time to leave.
pub struct Leaver<'t> {
    reader: Transforming<'t>,
    leaving: &'t Leaving,
    /// Since it was told to drain: up to where it still reads, if it owes anything.
    owed: Option<Option<Position>>,
}

/// What comes next of a shard.
pub enum Next {
    Piece(Box<Piece>),
    /// The shard has ended for good.
    End,
    /// Nothing more is to be read here now.
    Leave,
}

impl<'t> Leaver<'t> {
    /// Reads until `leaving` says otherwise.
    pub fn new(reader: Transforming<'t>, leaving: &'t Leaving) -> Leaver<'t> {
        Leaver { reader, leaving, owed: None }
    }

    /// Where the next read begins.
    pub fn position(&self) -> Position {
        self.reader.position()
    }

    /// The end of what can be read now, as far as known.
    pub fn tail(&self) -> Position {
        self.reader.tail()
    }

    /// What became of the next records. A read that transforms are at work on is waited for. Cancel-safe.
    pub async fn next(&mut self) -> Result<Next, Fault> {
        while self.reader.is_amid_a_read() || !self.is_time() {
            tokio::select! {
                biased;
                next = self.reader.next() => return Ok(next?.map_or(Next::End, |piece| Next::Piece(Box::new(piece)))),
                () = self.leaving.until(Leave::Drain), if !self.leaving.is(Leave::Drain) => {}
                () = self.leaving.until(Leave::Cut), if !self.leaving.is(Leave::Cut) => {}
            }
        }
        Ok(Next::Leave)
    }

    /// More of a read that is not complete.
    pub async fn rest(&mut self) -> Result<Option<Piece>, Fault> {
        self.reader.next().await
    }

    fn is_time(&mut self) -> bool {
        if self.leaving.is(Leave::Cut) || !self.leaving.is(Leave::Drain) {
            return self.leaving.is(Leave::Cut);
        }
        let owed = self.owed.get_or_insert_with(|| self.reader.owed());
        owed.as_ref().is_none_or(|owed| self.reader.position() >= *owed)
    }
}

/// The pause after a fault that time may mend: 200 ms, doubling up to 30 s, until something went well. While the disk is
/// full, chunks get smaller too, so that one of them fits.
#[derive(Default)]
pub struct Pause {
    faults: u32,
    full: u32,
    trouble: Option<InTrouble>,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(30);
    /// From 4 GiB to 64 KiB.
    const HALVINGS_MAX: u32 = 16;

    /// Says what is wrong and waits; not at a cut.
    pub async fn after(&mut self, way: &Way, shard: Option<&Shard>, fault: &Fault, leaving: &Leaving) {
        let pipeline = way.name.as_str();
        let pause = (Pause::FIRST * 2u32.saturating_pow(self.faults.min(16))).min(Pause::LONGEST);
        self.faults += 1;
        if fault.blame == Blame::Space {
            self.full = (self.full + 1).min(Pause::HALVINGS_MAX);
        }
        let shard = shard.map(tracing::field::display);
        let what = match fault.blame {
            Blame::Space => "the disk is full: waiting until delivered chunks have freed some of it",
            Blame::Transform => "a transform cannot work: trying again",
            _ => "the source cannot be read: trying again",
        };
        tracing::warn!(pipeline, shard, error = format!("{:#}", fault.error), pause_ms = pause.as_millis(), "{what}");
        let now_ms = way.ground.clock.now_ms();
        let trouble = self.trouble.get_or_insert_with(|| way.metrics.live.reading());
        trouble.again(&format!("{:#}", fault.error), None, now_ms, Some(after(now_ms, pause)));
        let _ = tokio::time::timeout(pause, leaving.until(Leave::Cut)).await;
    }

    /// Whether nothing has gone well since a fault.
    pub fn is_after_fault(&self) -> bool {
        self.faults > 0
    }

    /// Records could be read. (Whether there is room for them shows when they are promised.)
    pub fn reads(&mut self) {
        if self.full == 0 {
            self.trouble = None;
        }
    }

    /// Something went well.
    pub fn over(&mut self) {
        self.trouble = None;
        self.faults = 0;
        self.full = self.full.saturating_sub(1);
    }

    /// Bytes at which the next chunk should be cut.
    pub fn chunk_bytes_max(&self) -> u64 {
        CHUNK_BYTES_MAX >> self.full
    }
}

/// Says that the sink does not take an object, and counts it as blocked for as long as this lives.
pub struct Blocked<'a> {
    metrics: &'a PipelineMetrics,
    pipeline: &'a str,
    clock: &'a Clock,
    blocked: AtomicBool,
    trouble: InTrouble,
}

impl<'a> Blocked<'a> {
    /// Not blocked yet.
    pub fn new(pipeline: &'a str, metrics: &'a PipelineMetrics, clock: &'a Clock) -> Blocked<'a> {
        Blocked { metrics, pipeline, clock, blocked: AtomicBool::new(false), trouble: metrics.live.putting() }
    }

    /// Another attempt has failed. Said at the 1st, 2nd, 4th, 8th ... attempt.
    pub fn again(&self, trouble: &Trouble) {
        self.metrics.retries.inc();
        if !self.blocked.swap(true, Ordering::Relaxed) {
            self.metrics.blocked.inc();
        }
        let now_ms = self.clock.now_ms();
        self.trouble.again(&trouble.message, trouble.hint, now_ms, Some(after(now_ms, trouble.next)));
        if trouble.attempt.is_power_of_two() {
            let Trouble { attempt, since, next, message, hint } = trouble;
            let (since_s, next_ms) = (since.as_secs(), next.as_millis());
            let pipeline = self.pipeline;
            tracing::warn!(pipeline, attempt, since_s, next_ms, hint, "the sink refuses an object: {message}");
        }
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        if self.blocked.load(Ordering::Relaxed) {
            self.metrics.blocked.dec();
        }
    }
}

fn after(now_ms: i64, pause: Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_outbox_makes_the_next_promise_wait() {
        let room = OutboxRoom::new(1 << 20);
        let half = room.wait(512 << 10).await;
        let _other = room.wait(512 << 10).await;
        let mut next = std::pin::pin!(room.wait(1));
        assert!(futures::poll!(next.as_mut()).is_pending());
        drop(half);
        next.await;
    }

    #[tokio::test]
    async fn tiny_promises_are_limited_in_number() {
        let room = OutboxRoom::new(1 << 20);
        let mut held = Vec::new();
        for _ in 0..PROMISES_MAX {
            held.push(room.wait(1).await);
        }
        assert!(futures::poll!(std::pin::pin!(room.wait(1))).is_pending());
    }
}
