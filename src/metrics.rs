//! What is counted, and the five positions of every shard: `released <= delivered <= sealed <= read <= tail`.
//!
//! Names are stable and documented in the README; label sets are bounded (pipelines, streams, reasons, and at most
//! [`SHARDS_SHOWN_MAX`] shards of a pipeline at a time).

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use crate::budget::InUse;
use crate::error::Reason;
use crate::live::{Delivered, Live};
use crate::position::{Position, Shard};

/// Shards of a pipeline that have position metrics at a time.
pub const SHARDS_SHOWN_MAX: usize = 64;

/// All metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    records_in: Family<OfPipeline, Counter>,
    bytes_in: Family<OfPipeline, Counter>,
    records_out: Family<OfPipeline, Counter>,
    bytes_out: Family<OfPipeline, Counter>,
    objects_out: Family<OfPipeline, Counter>,
    dropped: Family<OfPipeline, Counter>,
    rejected: Family<OfRejected, Counter>,
    cuts: Family<OfReason, Counter>,
    transforms_failing: Family<OfPipeline, Gauge>,
    retries: Family<OfPipeline, Counter>,
    blocked: Family<OfPipeline, Gauge>,
    positions: Family<OfPosition, Gauge<f64, AtomicU64>>,
    spool_bytes: Family<OfStream, Gauge>,
    spool_records: Family<OfStream, Gauge>,
    spool_refused: Family<OfStream, Gauge>,
    sync_seconds: Family<OfStream, Histogram>,
    memory: Family<OfUse, Gauge>,
    lives: Mutex<BTreeMap<String, Live>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPipeline {
    pipeline: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    pipeline: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRejected {
    pipeline: String,
    reason: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPosition {
    pipeline: String,
    shard: String,
    position: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStream {
    stream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfUse {
    r#use: &'static str,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// A registry with every family at nothing.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("hydrant");
        let of = &mut registry;
        let sync_seconds = || Histogram::new(exponential_buckets(0.000_25, 2.0, 14));
        let sync_seconds = Family::new_with_constructor(sync_seconds as fn() -> Histogram);
        of.register("spool_sync_seconds", "Time of one group commit's fsync", sync_seconds.clone());
        Metrics(Arc::new(Families {
            records_in: family(of, "records_in", "Records read from the source"),
            bytes_in: family(of, "bytes_in", "Payload bytes read from the source"),
            records_out: family(of, "records_out", "Rows in delivered objects"),
            bytes_out: family(of, "bytes_out", "Bytes of delivered objects"),
            objects_out: family(of, "objects_out", "Delivered objects"),
            dropped: family(of, "records_dropped", "Records a transform left out"),
            rejected: family(of, "records_rejected", "Records set aside in error objects"),
            cuts: family(of, "chunks_cut", "Chunks, by what ended them"),
            transforms_failing: family(
                of,
                "transforms_failing",
                "1 while transforms set every record aside, or cannot be had",
            ),
            retries: family(of, "put_retries", "Attempts at the sink that failed"),
            blocked: family(of, "sink_blocked", "Objects that the sink does not take now"),
            positions: family(
                of,
                "position",
                "The five positions of a shard: released <= delivered <= sealed <= read <= tail",
            ),
            spool_bytes: family(of, "spool_bytes", "Bytes of a stream's segments on disk"),
            spool_records: family(of, "spool_records", "Records ever acknowledged to producers"),
            spool_refused: family(of, "spool_refused", "Requests answered with throttling since the start"),
            memory: family(of, "memory_bytes", "Bytes of the process budget in use"),
            sync_seconds,
            lives: Mutex::default(),
            registry,
        }))
    }

    /// The text that Prometheus scrapes (OpenMetrics 1.0).
    pub fn render(&self) -> String {
        let mut page = String::new();
        match text::encode(&mut page, &self.0.registry) {
            Ok(()) => page,
            Err(error) => format!("# {error}\n"),
        }
    }

    /// What one pipeline counts.
    pub fn pipeline(&self, pipeline: &str) -> PipelineMetrics {
        let of = OfPipeline { pipeline: pipeline.to_owned() };
        let families = &*self.0;
        let mut lives = families.lives.lock().unwrap_or_else(PoisonError::into_inner);
        PipelineMetrics {
            live: lives.entry(pipeline.to_owned()).or_default().clone(),
            records_in: families.records_in.get_or_create_owned(&of),
            bytes_in: families.bytes_in.get_or_create_owned(&of),
            records_out: families.records_out.get_or_create_owned(&of),
            bytes_out: families.bytes_out.get_or_create_owned(&of),
            objects_out: families.objects_out.get_or_create_owned(&of),
            dropped: families.dropped.get_or_create_owned(&of),
            transforms_failing: families.transforms_failing.get_or_create_owned(&of),
            retries: families.retries.get_or_create_owned(&of),
            blocked: families.blocked.get_or_create_owned(&of),
            pipeline: pipeline.to_owned(),
            metrics: self.clone(),
        }
    }

    /// What one stream counts.
    pub fn stream(&self, stream: &str) -> StreamMetrics {
        let of = OfStream { stream: stream.to_owned() };
        let families = &*self.0;
        StreamMetrics {
            bytes: families.spool_bytes.get_or_create_owned(&of),
            records: families.spool_records.get_or_create_owned(&of),
            refused: families.spool_refused.get_or_create_owned(&of),
            sync_seconds: families.sync_seconds.get_or_create_owned(&of),
        }
    }

    /// Says how much of the budget is in use.
    pub fn set_memory(&self, in_use: InUse) {
        for (r#use, bytes) in
            [("requests", in_use.requests), ("uploads", in_use.uploads), ("encoders", in_use.encoders)]
        {
            let gauge = self.0.memory.get_or_create_owned(&OfUse { r#use });
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

fn family<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let family = M::default();
    registry.register(name, help, family.clone());
    family
}

/// What one pipeline counts.
#[derive(Clone)]
pub struct PipelineMetrics {
    pub records_in: Counter,
    pub bytes_in: Counter,
    pub records_out: Counter,
    pub bytes_out: Counter,
    pub objects_out: Counter,
    pub dropped: Counter,
    pub transforms_failing: Gauge,
    pub retries: Counter,
    pub blocked: Gauge,
    /// What a person sees of it.
    pub live: Live,
    pipeline: String,
    metrics: Metrics,
}

impl PipelineMetrics {
    /// Counts what was read from the source.
    pub fn read(&self, records: u64, bytes: u64) {
        self.records_in.inc_by(records);
        self.bytes_in.inc_by(bytes);
    }

    /// Counts a delivered object, and shows it.
    pub fn delivered(&self, delivered: Delivered) {
        self.objects_out.inc();
        self.records_out.inc_by(delivered.rows);
        self.bytes_out.inc_by(delivered.bytes);
        self.live.delivered(delivered);
    }

    /// Counts a record set aside at `at_ms` (Unix milliseconds), and shows some of them.
    pub fn rejected(&self, why: &Reason, payload: &[u8], at_ms: i64) {
        self.live.rejected(why, payload, at_ms);
        let of = OfRejected { pipeline: self.pipeline.clone(), reason: why.by.as_str(), code: why.code };
        self.metrics.0.rejected.get_or_create_owned(&of).inc();
    }

    /// Records set aside so far.
    pub fn rejected_records(&self) -> u64 {
        0
    }

    /// Counts a chunk that `cause` ended.
    pub fn cut(&self, cause: &'static str) {
        let of = OfReason { pipeline: self.pipeline.clone(), reason: cause };
        self.metrics.0.cuts.get_or_create_owned(&of).inc();
    }

    fn position(&self, shard: &Shard, position: &'static str) -> OfPosition {
        OfPosition { pipeline: self.pipeline.clone(), shard: shard.to_string(), position }
    }
}

/// What one stream counts.
#[derive(Clone)]
pub struct StreamMetrics {
    bytes: Gauge,
    records: Gauge,
    refused: Gauge,
    sync_seconds: Histogram,
}

impl StreamMetrics {
    /// Says how the spool stands: its bytes on disk, records ever acknowledged, requests refused since the start.
    pub fn set(&self, bytes: u64, records: u64, refused: u64) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.bytes.set(number(bytes));
        self.records.set(number(records));
        self.refused.set(number(refused));
    }

    /// Counts one group commit's sync.
    pub fn synced(&self, took: Duration) {
        self.sync_seconds.observe(took.as_secs_f64());
    }
}

/// The five positions of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    /// The end of the log, as far as known.
    pub tail: Position,
    /// Up to here it is read into the open chunk.
    pub read: Position,
    /// Up to here it is promised.
    pub sealed: Position,
    /// Up to here it is in the store without a gap, durably noted.
    pub delivered: Position,
    /// Up to here the source was told to forget.
    pub released: Position,
}

impl Positions {
    fn named(&self) -> [(&'static str, &Position); 5] {
        [
            ("released", &self.released),
            ("delivered", &self.delivered),
            ("sealed", &self.sealed),
            ("read", &self.read),
            ("tail", &self.tail),
        ]
    }
}

/// The five positions of every shard of a pipeline: for the metrics, and to assert their order.
#[derive(Clone)]
pub struct Progress {
    shards: Arc<Mutex<BTreeMap<Shard, Known>>>,
    metrics: PipelineMetrics,
}

struct Known {
    positions: Positions,
    /// Among the first, and so in the metrics.
    shown: bool,
    /// Nothing more will be read.
    ended: bool,
}

impl Progress {
    /// Nothing is known yet.
    pub fn new(metrics: &PipelineMetrics) -> Progress {
        Progress { shards: Arc::default(), metrics: metrics.clone() }
    }

    /// A shard is read on from `at`; all before is promised, up to `delivered` delivered. The first time counts.
    pub fn begin(&self, shard: &Shard, delivered: &Position, at: &Position) {
        let (delivered, at) = (delivered.clone(), at.clone());
        let released = delivered.clone();
        let positions = Positions { tail: at.clone(), read: at.clone(), sealed: at, delivered, released };
        let mut shards = self.shards();
        let shown = shards.values().filter(|known| known.shown).count() < SHARDS_SHOWN_MAX;
        shards.entry(shard.clone()).or_insert(Known { positions, shown, ended: false });
        drop(shards);
        // Shown at once: an idle shard has positions too.
        self.update(shard, |_| ());
    }

    /// Changes a shard's positions, and asserts their order.
    pub fn update(&self, shard: &Shard, change: impl FnOnce(&mut Positions)) {
        let mut shards = self.shards();
        let Some(known) = shards.get_mut(shard) else { return };
        let positions = &mut known.positions;
        change(positions);
        if positions.tail < positions.read {
            positions.tail = positions.read.clone();
        }
        for pair in positions.named().windows(2) {
            let ((low, behind), (high, before)) = (pair[0], pair[1]);
            assert!(behind <= before, "{shard}: {low} {behind} is beyond {high} {before}");
        }
        if known.shown {
            for (name, position) in positions.named() {
                let gauge = self.metrics.metrics.0.positions.get_or_create_owned(&self.metrics.position(shard, name));
                gauge.set(position.as_str().parse().unwrap_or(f64::INFINITY));
            }
        }
        self.forget_if_done(shards, shard);
    }

    /// A shard has ended for good: it is forgotten when all of it is released.
    pub fn end(&self, shard: &Shard) {
        let mut shards = self.shards();
        if let Some(known) = shards.get_mut(shard) {
            known.ended = true;
        }
        self.forget_if_done(shards, shard);
    }

    fn forget_if_done(&self, mut shards: MutexGuard<'_, BTreeMap<Shard, Known>>, shard: &Shard) {
        let done = |known: &Known| known.ended && known.positions.released == known.positions.read;
        if shards.get(shard).is_some_and(done)
            && let Some(known) = shards.remove(shard)
        {
            for (name, _) in known.positions.named() {
                self.metrics.metrics.0.positions.remove(&self.metrics.position(shard, name));
            }
        }
    }

    /// The positions of the shards that are shown.
    pub fn shown(&self) -> Vec<(Shard, Positions)> {
        let shards = self.shards();
        let shown = shards.iter().filter(|(_, known)| known.shown);
        shown.map(|(shard, known)| (shard.clone(), known.positions.clone())).collect()
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<Shard, Known>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(n: usize) -> Shard {
        Shard::new(&format!("s{n}")).unwrap()
    }

    fn gauges(metrics: &Metrics, shard: &str) -> Vec<String> {
        let label = format!("shard=\"{shard}\"");
        metrics.render().lines().filter(|line| line.contains(&label)).map(str::to_owned).collect()
    }

    #[test]
    fn shards_shown_first_stay_shown_and_make_room_when_they_have_ended() {
        let metrics = Metrics::new();
        let progress = Progress::new(&metrics.pipeline("p"));
        for n in 0..=SHARDS_SHOWN_MAX {
            progress.begin(&shard(n), &0.into(), &0.into());
        }
        let all = |to: u64| {
            move |at: &mut Positions| {
                let to = Position::from(to);
                *at = Positions {
                    tail: to.clone(),
                    read: to.clone(),
                    sealed: to.clone(),
                    delivered: to.clone(),
                    released: to,
                };
            }
        };
        progress.update(&shard(0), all(7));
        progress.update(&shard(SHARDS_SHOWN_MAX), all(7));
        assert!(gauges(&metrics, "s0")[0].ends_with(" 7.0"), "{:?}", gauges(&metrics, "s0"));
        assert!(gauges(&metrics, "s64").is_empty());
        progress.end(&shard(0));
        assert!(gauges(&metrics, "s0").is_empty());
        progress.begin(&shard(100), &0.into(), &0.into());
        progress.update(&shard(100), all(9));
        assert_eq!(gauges(&metrics, "s100").len(), 5);
    }

    #[test]
    #[should_panic(expected = "s1: delivered 5 is beyond sealed 0")]
    fn positions_out_of_order_are_a_bug() {
        let progress = Progress::new(&Metrics::new().pipeline("p"));
        progress.begin(&shard(1), &0.into(), &0.into());
        progress.update(&shard(1), |at| at.delivered = 5.into());
    }
}
