//! Taps: records on their way, sampled for whoever asks.
//!
//! While nobody asks, a stage costs one relaxed load per batch. While somebody does, it costs a copy of some of the batch's
//! records, at most [`BYTES_PER_SECOND_MAX`], and never a wait: what a tap cannot take at once is left out and counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Delivered;
use crate::error::Reason;
use crate::record::Batch;

/// Taps of one pipeline at a time.
pub const TAPS_MAX: usize = 4;
/// Records that a tap shows in a second, unless told otherwise, and at the most.
pub const RATE_DEFAULT: u32 = 100;
pub const RATE_MAX: u32 = 10_000;
/// Bytes that a tap copies in a second.
pub const BYTES_PER_SECOND_MAX: u32 = 4 << 20;
/// Bytes of a payload that are shown.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of a key, and of the name and the value of a partition key, that are shown.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Partition keys that are shown.
const KEYS_MAX: usize = 32;
/// Samples that wait for a client that is slow, and their bytes.
const WAITING_MAX: usize = 1024;
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Where on its way a record is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// As it was read from the source.
    Source,
    /// Behind the transform of this number, from 0.
    Transform(usize),
    /// Behind the last transform, or as it was read if there is none: what the format gets.
    Format,
    /// Set aside, by a transform, the prefix or the format.
    Rejected,
    /// In the store: objects, not records.
    Delivered,
}

/// The taps of one pipeline. Cheap to clone.
#[derive(Clone, Default)]
pub struct Taps(Arc<Inside>);

#[derive(Default)]
struct Inside {
    open: AtomicUsize,
    taps: Mutex<Vec<Tap>>,
}

/// An open tap, as the pipeline sees it.
struct Tap {
    number: u64,
    stage: Stage,
    samples: mpsc::Sender<Sample>,
    records: Allowance,
    bytes: Allowance,
    counted: Arc<Counted>,
}

#[derive(Default)]
struct Counted {
    passed: AtomicU64,
    left_out: AtomicU64,
    waiting_bytes: AtomicUsize,
}

/// What is shown of one record, or of one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    Record(Record),
    Rejected(Record, Why),
    Delivered(Delivered),
}

/// A record, as far as it is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Unix milliseconds.
    pub arrival_ms: i64,
    /// Its first [`PAYLOAD_BYTES_MAX`].
    pub payload: Vec<u8>,
    /// Bytes of the whole payload.
    pub payload_bytes: usize,
    pub key: Option<Vec<u8>>,
    /// As transforms gave them; of one name the last counts.
    pub partition_keys: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why a record was set aside.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// Such as `format-conversion-failed`.
    pub reason: &'static str,
    pub code: &'static str,
    pub message: String,
}

/// An open tap, as its client sees it; closed when dropped.
pub struct Tapped {
    taps: Taps,
    number: u64,
    samples: mpsc::Receiver<Sample>,
    counted: Arc<Counted>,
}

/// What has gone by an open tap, in records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    pub records: u64,
    /// Those that are not shown: more than the rate, or than the client takes.
    pub left_out: u64,
}

impl Taps {
    /// Records pass a stage. Does nothing while no tap is open, and never waits.
    #[inline]
    pub fn pass(&self, stage: Stage, batch: &Batch) {
        if self.0.open.load(Ordering::Relaxed) != 0 && !batch.is_empty() {
            self.each(stage, |tap| tap.pass(batch));
        }
    }

    /// A record is set aside.
    #[inline]
    pub fn reject(&self, why: &Reason, payload: &[u8], arrival_ms: i64) {
        if self.0.open.load(Ordering::Relaxed) != 0 {
            self.each(Stage::Rejected, |tap| {
                tap.one(payload.len(), || {
                    let why = Why { reason: why.by.as_str(), code: why.code, message: why.message.clone() };
                    Sample::Rejected(Record::of(payload, arrival_ms), why)
                });
            });
        }
    }

    /// An object is in the store.
    #[inline]
    pub fn deliver(&self, delivered: &Delivered) {
        if self.0.open.load(Ordering::Relaxed) != 0 {
            self.each(Stage::Delivered, |tap| {
                tap.one(delivered.object.len(), || Sample::Delivered(delivered.clone()));
            });
        }
    }

    /// Opens a tap at `stage` that shows `rate` records in a second at the most (1 to [`RATE_MAX`]). `None`: there are
    /// [`TAPS_MAX`] open already.
    pub fn open(&self, stage: Stage, rate: u32) -> Option<Tapped> {
        let mut taps = self.lock();
        if taps.len() >= TAPS_MAX {
            return None;
        }
        let (sender, samples) = mpsc::channel(WAITING_MAX);
        let counted = Arc::new(Counted::default());
        let number = taps.last().map_or(0, |last| last.number + 1);
        taps.push(Tap {
            number,
            stage,
            samples: sender,
            records: Allowance::per_second(rate.clamp(1, RATE_MAX)),
            bytes: Allowance::per_second(BYTES_PER_SECOND_MAX),
            counted: counted.clone(),
        });
        self.0.open.store(taps.len(), Ordering::Relaxed);
        Some(Tapped { taps: self.clone(), number, samples, counted })
    }

    #[cold]
    fn each(&self, stage: Stage, mut show: impl FnMut(&mut Tap)) {
        self.lock().iter_mut().filter(|tap| tap.stage == stage).for_each(&mut show);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Tap>> {
        self.0.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// Shows as many of the records as it may, evenly spread over the batch.
    fn pass(&mut self, batch: &Batch) {
        let now = Instant::now();
        let shown = usize::try_from(self.records.left(now)).unwrap_or(usize::MAX).min(batch.len());
        let rows = (0..shown).map(|nth| nth * batch.len() / shown.max(1));
        let mut taken = 0;
        for row in rows {
            let bytes = batch.payload(row).len();
            taken += u64::from(self.show(now, bytes, || Record::of_row(batch, row)));
        }
        self.counted.passed.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.counted.left_out.fetch_add(batch.len() as u64 - taken, Ordering::Relaxed);
    }

    fn one(&mut self, bytes: usize, sample: impl FnOnce() -> Sample) {
        let taken = self.show(Instant::now(), bytes, sample);
        self.counted.passed.fetch_add(1, Ordering::Relaxed);
        self.counted.left_out.fetch_add(u64::from(!taken), Ordering::Relaxed);
    }

    /// Whether a sample could be handed over.
    fn show(&mut self, now: Instant, bytes: usize, sample: impl FnOnce() -> Sample) -> bool {
        let bytes = bytes.min(PAYLOAD_BYTES_MAX) as u32;
        let waiting = self.counted.waiting_bytes.load(Ordering::Relaxed);
        if self.records.left(now) == 0 || self.bytes.left(now) < bytes || waiting > WAITING_BYTES_MAX {
            return false;
        }
        let Ok(place) = self.samples.try_reserve() else { return false };
        let sample = sample();
        self.records.take(1);
        self.bytes.take(bytes);
        self.counted.waiting_bytes.fetch_add(sample.memory(), Ordering::Relaxed);
        place.send(sample);
        true
    }
}

impl Sample {
    fn memory(&self) -> usize {
        match self {
            Sample::Record(record) => record.memory(),
            Sample::Rejected(record, why) => record.memory() + why.message.len(),
            Sample::Delivered(delivered) => delivered.object.len(),
        }
    }
}

impl Record {
    fn of(payload: &[u8], arrival_ms: i64) -> Record {
        let shown = cut(payload, PAYLOAD_BYTES_MAX);
        Record { arrival_ms, payload: shown, payload_bytes: payload.len(), ..Record::default() }
    }

    fn of_row(batch: &Batch, row: usize) -> Sample {
        let keys = batch.partition_keys(row).take(KEYS_MAX);
        Sample::Record(Record {
            key: batch.key(row).map(|key| cut(key, KEY_BYTES_MAX)),
            partition_keys: keys.map(|(name, value)| (cut(name, KEY_BYTES_MAX), cut(value, KEY_BYTES_MAX))).collect(),
            ..Record::of(batch.payload(row), batch.arrival_ms(row))
        })
    }

    fn memory(&self) -> usize {
        let keys = self.partition_keys.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.payload.len() + self.key.as_ref().map_or(0, Vec::len) + keys
    }
}

fn cut(bytes: &[u8], bytes_max: usize) -> Vec<u8> {
    bytes.get(..bytes_max).unwrap_or(bytes).to_vec()
}

impl Tapped {
    /// The next sample. Cancel-safe.
    pub async fn next(&mut self) -> Option<Sample> {
        let sample = self.samples.recv().await?;
        self.counted.waiting_bytes.fetch_sub(sample.memory(), Ordering::Relaxed);
        Some(sample)
    }

    /// Whether it looks at the records of these taps: a pipeline that went and came back has others.
    pub fn is_of(&self, taps: &Taps) -> bool {
        Arc::ptr_eq(&self.taps.0, &taps.0)
    }

    /// What has gone by so far.
    pub fn passed(&self) -> Passed {
        let Counted { passed, left_out, .. } = &*self.counted;
        Passed { records: passed.load(Ordering::Relaxed), left_out: left_out.load(Ordering::Relaxed) }
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        let mut taps = self.taps.lock();
        taps.retain(|tap| tap.number != self.number);
        self.taps.0.open.store(taps.len(), Ordering::Relaxed);
    }
}

/// How much may be taken now: what was not taken is kept for one second.
struct Allowance {
    per_second: u32,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn per_second(per_second: u32) -> Allowance {
        Allowance { per_second, left: f64::from(per_second), at: Instant::now() }
    }

    fn left(&mut self, now: Instant) -> u32 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(self.per_second);
        self.left = (self.left + gained).min(f64::from(self.per_second));
        self.at = now;
        self.left as u32
    }

    fn take(&mut self, amount: u32) {
        self.left -= f64::from(amount);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record::BatchBuilder;

    /// What waits in a tap, in the order in which it went by.
    fn drain(tapped: &mut Tapped) -> Vec<Sample> {
        let samples: Vec<Sample> = std::iter::from_fn(|| tapped.samples.try_recv().ok()).collect();
        let bytes = samples.iter().map(Sample::memory).sum();
        tapped.counted.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        samples
    }

    fn batch(payloads: impl IntoIterator<Item = Vec<u8>>) -> Batch {
        let mut batch = BatchBuilder::default();
        payloads.into_iter().for_each(|payload| batch.push(&payload, 7));
        batch.finish()
    }

    fn numbers(records: usize) -> Batch {
        batch((0..records).map(|n| n.to_string().into_bytes()))
    }

    fn payloads(tapped: &mut Tapped) -> Vec<String> {
        let text = |sample| match sample {
            Sample::Record(record) | Sample::Rejected(record, _) => String::from_utf8(record.payload).unwrap(),
            Sample::Delivered(delivered) => delivered.object,
        };
        drain(tapped).into_iter().map(text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_sampled_evenly_and_the_rest_counted() {
        let taps = Taps::default();
        taps.pass(Stage::Source, &numbers(5));
        let mut tapped = taps.open(Stage::Source, 4).unwrap();
        taps.pass(Stage::Format, &numbers(3));
        taps.pass(Stage::Source, &numbers(100));
        assert_eq!(payloads(&mut tapped), ["0", "25", "50", "75"]);
        taps.pass(Stage::Source, &numbers(2));
        assert_eq!(payloads(&mut tapped), [""; 0]);
        assert_eq!(tapped.passed(), Passed { records: 102, left_out: 98 });
        tokio::time::advance(Duration::from_millis(500)).await;
        taps.pass(Stage::Source, &numbers(2));
        assert_eq!(payloads(&mut tapped), ["0", "1"], "half a second gives half of the rate");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_holds_a_bounded_number_of_records_and_bytes() {
        let taps = Taps::default();
        let mut slow = taps.open(Stage::Source, RATE_MAX).unwrap();
        taps.pass(Stage::Source, &numbers(5000));
        assert_eq!(slow.passed(), Passed { records: 5000, left_out: 5000 - WAITING_MAX as u64 });
        assert_eq!(payloads(&mut slow).len(), WAITING_MAX);

        let large = batch((0..32).map(|_| vec![b'x'; 1 << 20]));
        for _ in 0..16 {
            tokio::time::advance(Duration::from_secs(1)).await;
            taps.pass(Stage::Source, &large);
        }
        let samples = drain(&mut slow);
        let bytes: usize = samples.iter().map(Sample::memory).sum();
        assert!(bytes <= WAITING_BYTES_MAX + PAYLOAD_BYTES_MAX, "{bytes}");
        let Some(Sample::Record(first)) = samples.first() else { panic!("no record: {samples:?}") };
        assert_eq!((first.payload.len(), first.payload_bytes), (PAYLOAD_BYTES_MAX, 1 << 20));
        taps.pass(Stage::Source, &numbers(1));
        assert_eq!(payloads(&mut slow), ["0"], "read again, it is shown records again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tap_that_is_dropped_makes_room_and_costs_nothing_any_more() {
        let taps = Taps::default();
        let mut tapped: Vec<_> = (0..TAPS_MAX).map(|_| taps.open(Stage::Rejected, 10).unwrap()).collect();
        assert!(taps.open(Stage::Rejected, 10).is_none());
        tapped.remove(1);
        tapped.push(taps.open(Stage::Delivered, 10).unwrap());
        let delivered = Delivered { object: "o".into(), rows: 1, bytes: 2, at_ms: 3 };
        taps.deliver(&delivered);
        assert_eq!(drain(&mut tapped[3]), [Sample::Delivered(delivered)]);
        let why = Reason { by: crate::error::RejectedBy::Format, code: "C", message: "m".into() };
        taps.reject(&why, b"bad", 1);
        assert_eq!(tapped.iter_mut().map(|tapped| payloads(tapped).len()).collect::<Vec<_>>(), [1, 1, 1, 0]);
        drop(tapped);
        assert_eq!(taps.0.open.load(Ordering::Relaxed), 0);
    }
}
