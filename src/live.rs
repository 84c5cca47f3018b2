//! What a person sees of a pipeline that runs, beyond its counters: what was delivered and set aside last, the chunk that
//! is open, what it waits for, and records on their way ([`tap`]).
//!
//! Stations say what happens once per batch, chunk or object, never per record; everything kept here is bounded.

pub mod tap;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::Reason;
use crate::position::Shard;
use tap::Taps;

/// Objects that are remembered.
pub const DELIVERED_MAX: usize = 10;
/// Rejected records that are remembered, each of another code.
pub const REJECTED_MAX: usize = 10;
/// How often the last rejected record of a code is replaced, in milliseconds: rejecting must stay cheap.
const REJECTED_EVERY_MS: i64 = 1000;
/// Bytes of a rejected record that are remembered.
pub const SAMPLE_BYTES_MAX: usize = 512;
/// Open chunks that are shown at a time, one per shard.
pub const OPEN_MAX: usize = 64;

/// One pipeline as it is seen; the same over all its revisions. Cheap to clone.
#[derive(Clone, Default)]
pub struct Live(Arc<Inside>);

#[derive(Default)]
struct Inside {
    seen: Mutex<Seen>,
    taps: Taps,
}

/// What is seen of a pipeline now.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The newest first, at most [`DELIVERED_MAX`].
    pub delivered: VecDeque<Delivered>,
    /// The newest first, at most [`REJECTED_MAX`].
    pub rejected: VecDeque<Rejected>,
    /// Chunks that records are read into, at most [`OPEN_MAX`].
    pub open: BTreeMap<Shard, Open>,
    /// Why the sink takes no objects.
    pub sink: Option<Trouble>,
    /// Why nothing is read: the source, a transform or the disk.
    pub reading: Option<Trouble>,
}

/// An object in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivered {
    /// Where it is, as an operator would write it.
    pub object: String,
    pub rows: u64,
    pub bytes: u64,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// A record that was set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// Such as `format-conversion-failed`.
    pub reason: String,
    /// Such as `DataFormatConversion.ParseError`.
    pub code: String,
    pub message: String,
    /// Its first bytes, what is no text replaced.
    pub sample: String,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// A chunk that is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// Bytes of the largest object of it, as the size limit counts them.
    pub bytes: u64,
    /// The size limit.
    pub bytes_max: u64,
    /// When its interval ends, Unix milliseconds.
    pub cut_at_ms: i64,
}

/// Shows an open chunk until it is dropped.
pub struct OpenChunk {
    live: Live,
    shard: Shard,
}

impl OpenChunk {
    /// How far it is.
    pub fn show(&self, open: Open) {
        let mut seen = self.live.lock();
        if seen.open.len() < OPEN_MAX || seen.open.contains_key(&self.shard) {
            seen.open.insert(self.shard.clone(), open);
        }
    }
}

impl Drop for OpenChunk {
    fn drop(&mut self) {
        self.live.lock().open.remove(&self.shard);
    }
}

/// Something that is tried again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// In words, such as `access denied: ...`.
    pub message: String,
    pub hint: Option<String>,
    /// Unix milliseconds.
    pub since_ms: i64,
    /// Attempts since then.
    pub attempts: u64,
}

impl Live {
    /// What is seen now.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Records on their way, for whoever asks to see some.
    pub fn taps(&self) -> &Taps {
        &self.0.taps
    }

    /// An object was delivered.
    pub fn delivered(&self, delivered: Delivered) {
        self.0.taps.deliver(&delivered);
        let mut seen = self.lock();
        seen.delivered.truncate(DELIVERED_MAX - 1);
        seen.delivered.push_front(delivered);
    }

    /// A record was set aside; of each code the last one is kept. `at_ms` in Unix milliseconds.
    pub fn rejected(&self, why: &Reason, payload: &[u8], at_ms: i64) {
        let mut seen = self.lock();
        if seen.rejected.front().is_some_and(|last| last.code == why.code && at_ms - last.at_ms < REJECTED_EVERY_MS) {
            return;
        }
        let sample = payload.get(..SAMPLE_BYTES_MAX).unwrap_or(payload);
        let sample = String::from_utf8_lossy(sample).into_owned();
        let (reason, code) = (why.by.as_str().to_owned(), why.code.to_owned());
        seen.rejected.retain(|known| known.code != code);
        seen.rejected.truncate(REJECTED_MAX - 1);
        seen.rejected.push_front(Rejected { reason, code, message: why.message.clone(), sample, at_ms });
    }

    /// A chunk of `shard` is open for as long as what is answered lives.
    pub fn opens(&self, shard: &Shard) -> OpenChunk {
        OpenChunk { live: self.clone(), shard: shard.clone() }
    }

    /// The sink does not take an object (`None`: it takes them again). The time since when stays that of the first.
    pub fn sink(&self, trouble: Option<Trouble>) {
        let mut seen = self.lock();
        seen.sink = merged(seen.sink.take(), trouble);
    }

    /// Nothing can be read (`None`: it can again).
    pub fn reading(&self, trouble: Option<Trouble>) {
        let mut seen = self.lock();
        seen.reading = merged(seen.reading.take(), trouble);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn merged(known: Option<Trouble>, now: Option<Trouble>) -> Option<Trouble> {
    let now = now?;
    let (since_ms, attempts) = known.map_or((now.since_ms, 0), |known| (known.since_ms, known.attempts));
    Some(Trouble { since_ms, attempts: attempts + 1, ..now })
}
