//! What a person sees of a pipeline that runs, beyond its counters: what was delivered and set aside last, the chunks that
//! are open, what it waits for, the last minute, and records on their way ([`tap`]).
//!
//! Stations say what happens once per batch, chunk or object; of rejected records one a second and code is looked at, the
//! others are only counted. Everything kept here is bounded, but for a time per shard that has records on their way.

mod history;
pub mod tap;
mod trouble;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::Reason;
use crate::position::Shard;
use history::History;
pub use history::{Counts, HISTORY_MAX, Rates};
use tap::Taps;
pub use trouble::{InTrouble, Trouble};
use trouble::{Kind, Troubles};

/// Objects that are remembered.
pub const DELIVERED_MAX: usize = 10;
/// Rejected records that are remembered, each of another code.
pub const REJECTED_MAX: usize = 10;
/// How often the last rejected record of a code is replaced, in milliseconds: rejecting must stay cheap.
const REJECTED_EVERY_MS: i64 = 1000;
/// Bytes of a rejected record that are remembered.
pub const SAMPLE_BYTES_MAX: usize = 512;
/// Bytes of a reason's message that are remembered.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Open chunks that are shown at a time, one per shard.
pub const OPEN_MAX: usize = 64;

/// One pipeline as it is seen; the same over all its revisions. Cheap to clone.
#[derive(Clone, Default)]
pub struct Live(Arc<Inside>);

#[derive(Default)]
struct Inside {
    kept: Mutex<Kept>,
    rejected: AtomicU64,
    taps: Taps,
}

#[derive(Default)]
struct Kept {
    delivered: VecDeque<Delivered>,
    rejected: VecDeque<Rejected>,
    open: BTreeMap<Shard, Open>,
    /// Of chunks that are open or were closed and not sealed yet: when their oldest record arrived.
    oldest_ms: BTreeMap<Shard, i64>,
    sink: Troubles,
    reading: Troubles,
    history: History,
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
    /// Counts of the last minute, one per second, the oldest first.
    pub history: Vec<Counts>,
    pub rates: Rates,
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
    /// Records set aside with this code since the start, or since it was last remembered.
    #[serde(default)]
    pub records: u64,
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
    /// When the oldest of its records arrived, Unix milliseconds.
    #[serde(default)]
    pub oldest_ms: i64,
}

/// Shows an open chunk until it is dropped.
pub struct OpenChunk {
    live: Live,
    shard: Shard,
}

impl OpenChunk {
    /// How far it is.
    pub fn show(&self, open: Open) {
        let mut kept = self.live.lock();
        match kept.oldest_ms.get_mut(&self.shard) {
            Some(oldest_ms) => *oldest_ms = open.oldest_ms,
            None => drop(kept.oldest_ms.insert(self.shard.clone(), open.oldest_ms)),
        }
        if let Some(shown) = kept.open.get_mut(&self.shard) {
            *shown = open;
        } else if kept.open.len() < OPEN_MAX {
            kept.open.insert(self.shard.clone(), open);
        }
    }
}

impl Drop for OpenChunk {
    fn drop(&mut self) {
        self.live.lock().open.remove(&self.shard);
    }
}

impl Live {
    /// What is seen now.
    pub fn seen(&self) -> Seen {
        let kept = self.lock();
        Seen {
            delivered: kept.delivered.clone(),
            rejected: kept.rejected.clone(),
            open: kept.open.clone(),
            sink: kept.sink.last(),
            reading: kept.reading.last(),
            history: kept.history.counts(),
            rates: kept.history.rates(),
        }
    }

    /// Records on their way, for whoever asks to see some.
    pub fn taps(&self) -> &Taps {
        &self.0.taps
    }

    /// An object was delivered.
    pub fn delivered(&self, delivered: Delivered) {
        self.0.taps.deliver(&delivered);
        let mut kept = self.lock();
        kept.delivered.truncate(DELIVERED_MAX - 1);
        kept.delivered.push_front(delivered);
    }

    /// A record was set aside; of each code the last one is kept, looked at once a second. `at_ms` in Unix milliseconds.
    pub fn rejected(&self, why: &Reason, payload: &[u8], at_ms: i64) {
        self.0.rejected.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.lock();
        let place = kept.rejected.iter().position(|known| known.code == why.code);
        let mut records = 1;
        if let Some(known) = place.and_then(|place| kept.rejected.get_mut(place)) {
            known.records += 1;
            records = known.records;
            if (0..REJECTED_EVERY_MS).contains(&(at_ms - known.at_ms)) {
                return;
            }
        }
        match place {
            Some(place) => drop(kept.rejected.remove(place)),
            None => kept.rejected.truncate(REJECTED_MAX - 1),
        }
        kept.rejected.push_front(Rejected {
            reason: why.by.as_str().to_owned(),
            code: why.code.to_owned(),
            message: text_of(why.message.as_bytes(), MESSAGE_BYTES_MAX),
            sample: text_of(payload, SAMPLE_BYTES_MAX),
            at_ms,
            records,
        });
    }

    /// Records set aside since the start.
    pub fn rejected_records(&self) -> u64 {
        self.0.rejected.load(Ordering::Relaxed)
    }

    /// A chunk of `shard` is open for as long as what is answered lives.
    pub fn opens(&self, shard: &Shard) -> OpenChunk {
        OpenChunk { live: self.clone(), shard: shard.clone() }
    }

    /// When the oldest record arrived that is in the chunk of `shard` now, Unix milliseconds.
    pub fn oldest_ms(&self, shard: &Shard) -> Option<i64> {
        self.lock().oldest_ms.get(shard).copied()
    }

    /// The chunk of `shard` is promised: answers when its oldest record had arrived, and forgets it.
    pub fn sealed(&self, shard: &Shard) -> Option<i64> {
        self.lock().oldest_ms.remove(shard)
    }

    /// Someone whom the sink may refuse an object.
    pub fn putting(&self) -> InTrouble {
        InTrouble::new(self.clone(), Kind::Sink)
    }

    /// Someone who may be unable to read.
    pub fn reading(&self) -> InTrouble {
        InTrouble::new(self.clone(), Kind::Reading)
    }

    /// Since when nothing can be read, Unix milliseconds.
    pub fn not_reading_since_ms(&self) -> Option<i64> {
        self.lock().reading.since_ms()
    }

    /// What was counted so far, once a second.
    pub fn sample(&self, counts: Counts) {
        self.lock().history.push(std::time::Instant::now(), counts);
    }

    fn troubles<T>(&self, of: Kind, with: impl FnOnce(&mut Troubles) -> T) -> T {
        let mut kept = self.lock();
        with(match of {
            Kind::Sink => &mut kept.sink,
            Kind::Reading => &mut kept.reading,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first bytes as text; a character that the cut would halve is left out.
fn text_of(bytes: &[u8], bytes_max: usize) -> String {
    let Some(first) = bytes.get(..bytes_max) else { return String::from_utf8_lossy(bytes).into_owned() };
    let whole = match std::str::from_utf8(first) {
        Err(error) if error.error_len().is_none() => first.get(..error.valid_up_to()).unwrap_or(first),
        _ => first,
    };
    String::from_utf8_lossy(whole).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::RejectedBy;

    fn because(code: &'static str) -> Reason {
        Reason { by: RejectedBy::Format, code, message: "é".repeat(MESSAGE_BYTES_MAX) }
    }

    #[test]
    fn of_each_code_the_last_record_of_a_second_is_kept_and_all_are_counted() {
        let live = Live::default();
        for at_ms in 0..2000 {
            live.rejected(&because("A"), format!("a{at_ms}").as_bytes(), at_ms);
            live.rejected(&because("B"), format!("b{at_ms}").as_bytes(), at_ms);
        }
        let seen: Vec<_> = live.seen().rejected.into_iter().collect();
        let shown: Vec<_> = seen.iter().map(|one| (one.sample.as_str(), one.records)).collect();
        assert_eq!(shown, [("b1000", 2000), ("a1000", 2000)]);
        assert_eq!(live.rejected_records(), 4000);
        assert_eq!(seen[0].message.len(), MESSAGE_BYTES_MAX, "a message is not kept whole");
        // The clock went back: what comes now is the last.
        live.rejected(&because("A"), b"earlier", 5);
        assert_eq!(live.seen().rejected[0].sample, "earlier");
    }

    #[test]
    fn a_long_sample_is_cut_between_letters() {
        let payload = format!("x{}", "é".repeat(SAMPLE_BYTES_MAX));
        assert_eq!(text_of(payload.as_bytes(), SAMPLE_BYTES_MAX).len(), SAMPLE_BYTES_MAX - 1);
        assert_eq!(text_of(b"\xff\xfe", SAMPLE_BYTES_MAX), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn trouble_is_over_when_the_last_who_had_it_is_out_of_it() {
        let live = Live::default();
        let (first, second) = (live.putting(), live.putting());
        assert_eq!(live.seen().sink, None, "nobody was refused yet");
        first.again("denied", None, 1000, None);
        second.again("denied too", Some("ask"), 2000, Some(5000));
        second.again("denied too", Some("ask"), 3000, Some(9000));
        let said = live.seen().sink.unwrap();
        assert_eq!((said.since_ms, said.attempts, said.waiting), (1000, 3, 2));
        assert_eq!(
            (said.message.as_str(), said.hint.as_deref(), said.next_at_ms),
            ("denied too", Some("ask"), Some(9000))
        );
        drop(first);
        assert_eq!(live.seen().sink.unwrap().waiting, 1);
        second.over();
        second.over();
        assert_eq!(live.seen().sink, None);
        second.again("denied", None, 7000, None);
        assert_eq!(live.seen().sink.unwrap().since_ms, 7000);
        assert_eq!(live.seen().reading, None);
    }
}
