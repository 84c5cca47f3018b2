//! What is counted, and the five positions of every shard: `released <= delivered <= sealed <= read <= tail`.
//!
//! Names are stable and documented in `docs/metrics.md` (`tests/it/metrics.rs` holds us to it); label sets are bounded
//! (pipelines, streams, reasons, and at most [`SHARDS_SHOWN_MAX`] shards and [`PARTITIONS_SHOWN_MAX`] partitions of Kafka of
//! a pipeline at a time).

mod kafka;
mod progress;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use crate::budget::InUse;
use crate::error::Reason;
use crate::live::{Counts, Delivered, Live};
use crate::position::Shard;

pub use kafka::{Commit, GroupNow, KafkaMetrics, MemberNow, PARTITIONS_SHOWN_MAX, PartitionNow};
use kafka::{KafkaFamilies, KafkaShown};
use progress::Shards;
pub use progress::{Positions, Progress};

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
    oldest_undelivered: Family<OfPipeline, Gauge<f64, AtomicU64>>,
    running: Family<OfPipeline, Gauge>,
    revision: Family<OfPipeline, Gauge>,
    revision_refused: Family<OfPipeline, Gauge>,
    standing: Mutex<BTreeSet<String>>,
    started: Gauge<f64, AtomicU64>,
    positions: Family<OfPosition, Gauge<f64, AtomicU64>>,
    spool_bytes: Family<OfStream, Gauge>,
    spool_bytes_max: Family<OfStream, Gauge>,
    spool_records: Family<OfStream, Gauge>,
    spool_refused: Family<OfStream, Gauge>,
    sync_seconds: Family<OfStream, Histogram>,
    memory: Family<OfUse, Gauge>,
    kafka: KafkaFamilies,
    lives: Mutex<BTreeMap<String, PipelineMetrics>>,
    /// By pipeline, the shards of its last way: their positions go when another way begins, or with the pipeline.
    shards: Mutex<BTreeMap<String, Shards>>,
}

/// Counters of one pipeline by reason, and code where there is one: looked up per record, so without a hash or a copy.
type ByReason = Arc<Mutex<Vec<((&'static str, &'static str), Counter)>>>;

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

impl OfPosition {
    fn new(pipeline: &str, shard: &Shard, position: &'static str) -> OfPosition {
        OfPosition { pipeline: pipeline.to_owned(), shard: shard.to_string(), position }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStream {
    stream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfUse {
    r#use: &'static str,
}

/// How a pipeline stands.
#[derive(Debug, Clone)]
pub struct Stands {
    pub pipeline: String,
    /// It does what its file says, or has done it.
    pub runs: bool,
    /// From 1.
    pub revision: u64,
    /// Whether what its file says now was refused.
    pub refused: bool,
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
            oldest_undelivered: family(
                of,
                "oldest_undelivered_seconds",
                "Since the oldest record arrived that was read and is not delivered; 0: there is none",
            ),
            running: family(of, "pipeline_running", "0 while it has stopped or cannot start, else 1"),
            revision: family(of, "revision", "Number of the revision that runs, from 1 since the start"),
            revision_refused: family(
                of,
                "revision_refused",
                "1 while what its file says now could not be taken, and the revision before it runs",
            ),
            standing: Mutex::default(),
            started: family(of, "start_time_seconds", "When the process started, Unix time"),
            positions: family(
                of,
                "position",
                "The five positions of a shard: released <= delivered <= sealed <= read <= tail",
            ),
            spool_bytes: family(of, "spool_bytes", "Bytes of a stream's segments on disk"),
            spool_bytes_max: family(of, "spool_bytes_max", "Bytes above which a stream's producers are throttled"),
            spool_records: family(of, "spool_records", "Records ever acknowledged to producers"),
            spool_refused: family(of, "spool_refused", "Requests answered with throttling since the start"),
            memory: family(of, "memory_bytes", "Bytes of the process budget in use"),
            kafka: KafkaFamilies::new(of),
            sync_seconds,
            lives: Mutex::default(),
            shards: Mutex::default(),
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

    /// What one pipeline counts, from now on if it is not known yet.
    pub fn pipeline(&self, pipeline: &str) -> PipelineMetrics {
        let of = OfPipeline { pipeline: pipeline.to_owned() };
        let families = &self.0;
        let mut lives = lock(&families.lives);
        let metrics = lives.entry(pipeline.to_owned()).or_insert_with(|| PipelineMetrics {
            counters: PipelineCounters {
                live: Live::default(),
                records_in: families.records_in.get_or_create_owned(&of),
                bytes_in: families.bytes_in.get_or_create_owned(&of),
                records_out: families.records_out.get_or_create_owned(&of),
                bytes_out: families.bytes_out.get_or_create_owned(&of),
                objects_out: families.objects_out.get_or_create_owned(&of),
                dropped: families.dropped.get_or_create_owned(&of),
            },
            transforms_failing: families.transforms_failing.get_or_create_owned(&of),
            retries: families.retries.get_or_create_owned(&of),
            blocked: families.blocked.get_or_create_owned(&of),
            oldest_undelivered: families.oldest_undelivered.get_or_create_owned(&of),
            rejected_for: Arc::default(),
            cut_for: Arc::default(),
            kafka_shown: Arc::default(),
            pipeline: pipeline.into(),
            families: Arc::downgrade(families),
        });
        metrics.clone()
    }

    /// What a pipeline counts, if it ever did and is not forgotten.
    pub fn known(&self, pipeline: &str) -> Option<PipelineMetrics> {
        lock(&self.0.lives).get(pipeline).cloned()
    }

    /// Forgets all that was said of a pipeline that is gone. Nobody may count for it any more.
    pub fn forget_pipeline(&self, pipeline: &str) {
        let of = OfPipeline { pipeline: pipeline.to_owned() };
        let families = &*self.0;
        for family in [
            &families.records_in,
            &families.bytes_in,
            &families.records_out,
            &families.bytes_out,
            &families.objects_out,
            &families.dropped,
            &families.retries,
        ] {
            family.remove(&of);
        }
        families.transforms_failing.remove(&of);
        families.blocked.remove(&of);
        families.oldest_undelivered.remove(&of);
        if let Some(shards) = lock(&families.shards).remove(pipeline) {
            families.leave(pipeline, &shards);
        }
        let Some(known) = lock(&families.lives).remove(pipeline) else { return };
        families.kafka.forget(&known);
        for ((reason, code), _) in lock(&known.rejected_for).drain(..) {
            families.rejected.remove(&OfRejected { pipeline: pipeline.to_owned(), reason, code });
        }
        for ((reason, _), _) in lock(&known.cut_for).drain(..) {
            families.cuts.remove(&OfReason { pipeline: pipeline.to_owned(), reason });
        }
    }

    /// Forgets all that was said of a stream that is closed.
    pub fn forget_stream(&self, stream: &str) {
        let of = OfStream { stream: stream.to_owned() };
        for family in [&self.0.spool_bytes, &self.0.spool_bytes_max, &self.0.spool_records, &self.0.spool_refused] {
            family.remove(&of);
        }
        self.0.sync_seconds.remove(&of);
    }

    /// Looks at what every pipeline has counted so far; to be called once a second.
    pub fn sample(&self) {
        for counters in lock(&self.0.lives).values() {
            counters.live.sample(counters.counts());
        }
    }

    /// What one stream counts.
    pub fn stream(&self, stream: &str) -> StreamMetrics {
        let of = OfStream { stream: stream.to_owned() };
        let families = &*self.0;
        StreamMetrics {
            bytes: families.spool_bytes.get_or_create_owned(&of),
            bytes_max: families.spool_bytes_max.get_or_create_owned(&of),
            records: families.spool_records.get_or_create_owned(&of),
            refused: families.spool_refused.get_or_create_owned(&of),
            sync_seconds: families.sync_seconds.get_or_create_owned(&of),
        }
    }

    /// Says how all pipelines stand, and forgets it of those that are gone.
    pub fn set_standing(&self, all: impl Iterator<Item = Stands>) {
        let families = &*self.0;
        let mut known = lock(&families.standing);
        let mut gone = std::mem::take(&mut *known);
        for Stands { pipeline, runs, revision, refused } in all {
            let of = OfPipeline { pipeline };
            families.running.get_or_create_owned(&of).set(i64::from(runs));
            families.revision.get_or_create_owned(&of).set(i64::try_from(revision).unwrap_or(i64::MAX));
            families.revision_refused.get_or_create_owned(&of).set(i64::from(refused));
            gone.remove(&of.pipeline);
            known.insert(of.pipeline);
        }
        for pipeline in gone {
            let of = OfPipeline { pipeline };
            for family in [&families.running, &families.revision, &families.revision_refused] {
                family.remove(&of);
            }
        }
    }

    /// Says when the process started, in Unix milliseconds.
    pub fn set_started(&self, at_ms: i64) {
        self.0.started.set(at_ms as f64 / 1e3);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn family<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let family = M::default();
    registry.register(name, help, family.clone());
    family
}

/// What one pipeline has counted since the start, over all its revisions.
#[derive(Clone)]
pub struct PipelineCounters {
    pub records_in: Counter,
    pub bytes_in: Counter,
    pub records_out: Counter,
    pub bytes_out: Counter,
    pub objects_out: Counter,
    pub dropped: Counter,
    /// What a person sees of it.
    pub live: Live,
}

impl PipelineCounters {
    /// All of it now.
    pub fn counts(&self) -> Counts {
        Counts {
            records_in: self.records_in.get(),
            bytes_in: self.bytes_in.get(),
            records_out: self.records_out.get(),
            bytes_out: self.bytes_out.get(),
            objects_out: self.objects_out.get(),
            rejected: self.live.rejected_records(),
            dropped: self.dropped.get(),
        }
    }
}

/// What one pipeline counts and shows.
#[derive(Clone)]
pub struct PipelineMetrics {
    counters: PipelineCounters,
    pub transforms_failing: Gauge,
    pub retries: Counter,
    pub blocked: Gauge,
    oldest_undelivered: Gauge<f64, AtomicU64>,
    rejected_for: ByReason,
    cut_for: ByReason,
    kafka_shown: KafkaShown,
    pipeline: Arc<str>,
    /// Weak, as these know it.
    families: Weak<Families>,
}

impl Deref for PipelineMetrics {
    type Target = PipelineCounters;

    fn deref(&self) -> &PipelineCounters {
        &self.counters
    }
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
        let (reason, code) = (why.by.as_str(), why.code);
        count(&self.rejected_for, (reason, code), || {
            let of = OfRejected { pipeline: self.pipeline.to_string(), reason, code };
            self.families.upgrade().map(|families| families.rejected.get_or_create_owned(&of))
        });
    }

    /// Counts a chunk that `cause` ended.
    pub fn cut(&self, cause: &'static str) {
        count(&self.cut_for, (cause, ""), || {
            let of = OfReason { pipeline: self.pipeline.to_string(), reason: cause };
            self.families.upgrade().map(|families| families.cuts.get_or_create_owned(&of))
        });
    }

    /// Says how old the oldest record is that is not delivered; `None`: there is none.
    pub fn set_oldest_undelivered(&self, age: Option<Duration>) {
        self.oldest_undelivered.set(age.unwrap_or_default().as_secs_f64());
    }
}

/// Counts one of this kind; the first of it makes the counter.
fn count(of: &ByReason, kind: (&'static str, &'static str), make: impl FnOnce() -> Option<Counter>) {
    let mut counters = lock(of);
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == kind) {
        counter.inc();
    } else if let Some(counter) = make() {
        counter.inc();
        counters.push((kind, counter));
    }
}

/// What one stream counts.
#[derive(Clone)]
pub struct StreamMetrics {
    bytes: Gauge,
    bytes_max: Gauge,
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

    /// Says how many bytes the spool may hold.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.set(i64::try_from(bytes_max).unwrap_or(i64::MAX));
    }

    /// Counts one group commit's sync.
    pub fn synced(&self, took: Duration) {
        self.sync_seconds.observe(took.as_secs_f64());
    }
}
