//! What is counted of a Kafka source, and what it shows of its group.
//!
//! ```text
//!   committed ........ read ........ end        offsets of a partition
//!   |----- lag ----------------------|
//!                      |-- unread ---|
//! ```
//! Counters live as long as their pipeline. What is shown goes with the last clone of the [`KafkaMetrics`] that showed it,
//! and as soon as a later one shows: a source that is being replaced says nothing of the group any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::position::Shard;

use super::{OfPipeline, PipelineMetrics, family, lock};

/// Partitions of a pipeline that have a metric of their own, or are shown one by one, at a time.
pub const PARTITIONS_SHOWN_MAX: usize = 64;

/// The numbers of one pipeline's Kafka source. Cheap to clone.
#[derive(Clone)]
pub struct KafkaMetrics(Arc<OfSource>);

/// What became of a commit of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    Done,
    /// It is tried again.
    Failed,
    /// The partitions are another's now; never tried again.
    Fenced,
}

/// A partition that this node owns.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionNow {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The shard that its records are read as.
    pub shard: Shard,
    /// Committed, read, and the end of what can be read; offsets.
    pub committed: Option<i64>,
    pub read: i64,
    pub end: Option<i64>,
    /// Not fetched from, as what was read of it waits.
    pub paused: bool,
}

impl PartitionNow {
    /// Offsets between what is committed, or where it is read before anything is, and the end; `None`: that is not known.
    pub fn lag(&self) -> Option<u64> {
        between(self.committed.unwrap_or(self.read), self.end)
    }

    /// Offsets between what is read and the end; `None`: that is not known.
    pub fn unread(&self) -> Option<u64> {
        between(self.read, self.end)
    }
}

/// The end is asked for now and then, and may be behind.
fn between(at: i64, end: Option<i64>) -> Option<u64> {
    end.map(|end| u64::try_from(end.saturating_sub(at)).unwrap_or(0))
}

/// The group as this node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupNow {
    pub group: String,
    /// This node's id in the group, once it has one.
    pub member: String,
    /// `classic` or `consumer`.
    pub protocol: &'static str,
    pub owned: Vec<PartitionNow>,
    /// All members, as the coordinator told; empty while it did not.
    pub members: Vec<MemberNow>,
}

impl GroupNow {
    /// The lag of all owned partitions of which it is known.
    pub fn lag(&self) -> u64 {
        self.owned.iter().filter_map(PartitionNow::lag).fold(0, u64::saturating_add)
    }

    /// Owned partitions that are not fetched from now.
    pub fn paused(&self) -> u64 {
        self.owned.iter().filter(|owned| owned.paused).count() as u64
    }
}

/// A member of the group.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberNow {
    pub id: String,
    pub client: String,
    pub host: String,
    pub owns: Vec<(Arc<str>, i32)>,
}

impl PipelineMetrics {
    /// The numbers of its Kafka source, which count on what sources before it counted.
    pub fn kafka(&self) -> KafkaMetrics {
        let counters = self.families.upgrade().map(|families| families.kafka.counters(&self.pipeline));
        let mut shown = lock(&self.kafka_shown);
        shown.sources += 1;
        let number = shown.sources;
        drop(shown);
        KafkaMetrics(Arc::new(OfSource { number, counters: counters.unwrap_or_default(), of: self.clone() }))
    }

    /// The group of its Kafka source as it was shown last; `None`: it shows none.
    pub fn kafka_group(&self) -> Option<Arc<GroupNow>> {
        lock(&self.kafka_shown).group.clone()
    }
}

impl KafkaMetrics {
    /// Partitions came or went.
    pub fn rebalanced(&self) {
        self.0.counters.rebalances.inc();
    }

    /// A commit was answered.
    pub fn committed(&self, what: Commit) {
        let [done, failed, fenced] = &self.0.counters.commits;
        let counter = match what {
            Commit::Done => done,
            Commit::Failed => failed,
            Commit::Fenced => fenced,
        };
        counter.inc();
    }

    /// A plan of a former owner was found, and is kept.
    pub fn took_over(&self) {
        self.0.counters.plans_taken_over.inc();
    }

    /// Records without a value were left out.
    pub fn tombstones(&self, records: u64) {
        self.0.counters.tombstones.inc_by(records);
    }

    /// So many offsets are gone that were not read.
    pub fn lost(&self, offsets: u64) {
        self.0.counters.lost.inc_by(offsets);
    }

    /// Something was not as the group had left it, by the policy's name for it.
    pub fn found(&self, what: &'static str) {
        let OfSource { of, .. } = &*self.0;
        if let Some(families) = of.families.upgrade() {
            families.kafka.found.get_or_create_owned(&OfFound { pipeline: of.pipeline.to_string(), what }).inc();
        }
    }

    /// So many owned partitions are not read until somebody decides.
    pub fn halted(&self, partitions: usize) {
        self.0.counters.halted.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    /// What is to be seen of the group from now on: also when nothing is owned.
    pub fn show(&self, group: GroupNow) {
        let OfSource { number, of, .. } = &*self.0;
        let mut shown = lock(&of.kafka_shown);
        // Another shows by now, or the pipeline is gone.
        if shown.by > *number {
            return;
        }
        shown.by = *number;
        if let Some(families) = of.families.upgrade() {
            families.kafka.show(&of.pipeline, &group, &mut shown.partitions);
        }
        shown.group = Some(Arc::new(group));
    }
}

/// One source, as it counts.
struct OfSource {
    /// Later sources of a pipeline have higher ones.
    number: u64,
    counters: Counters,
    of: PipelineMetrics,
}

impl OfSource {
    fn leave(&self) {
        let mut shown = lock(&self.of.kafka_shown);
        if shown.by == self.number {
            shown.leave(&self.of);
        }
    }
}

impl Drop for OfSource {
    fn drop(&mut self) {
        self.leave();
    }
}

#[derive(Default)]
struct Counters {
    rebalances: Counter,
    /// Done, failed, fenced.
    commits: [Counter; 3],
    plans_taken_over: Counter,
    tombstones: Counter,
    lost: Counter,
    halted: Gauge,
}

/// What is shown of a pipeline's group.
#[derive(Default)]
pub(super) struct Shown {
    /// Sources so far.
    sources: u64,
    /// The number of the source that showed last; the pipeline is gone: one that none has.
    by: u64,
    group: Option<Arc<GroupNow>>,
    /// Partitions that have a metric.
    partitions: BTreeSet<(Arc<str>, i32)>,
}

/// As pipelines keep it.
pub(super) type KafkaShown = Arc<Mutex<Shown>>;

impl Shown {
    fn leave(&mut self, of: &PipelineMetrics) {
        let partitions = std::mem::take(&mut self.partitions);
        if self.group.take().is_some()
            && let Some(families) = of.families.upgrade()
        {
            families.kafka.leave(&of.pipeline, partitions);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPartition {
    pipeline: String,
    topic: Arc<str>,
    partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    pipeline: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFound {
    pipeline: String,
    what: &'static str,
}

/// What [`KafkaMetrics::found`] may be told.
const FOUND: [&str; 7] = [
    "topic_made_again",
    "partition_added",
    "offset_erased",
    "records_gone",
    "log_truncated",
    "offset_moved",
    "metadata_unreadable",
];

const OUTCOMES: [&str; 3] = ["done", "failed", "fenced"];

/// The families of all Kafka sources.
pub(super) struct KafkaFamilies {
    lag: Family<OfPartition, Gauge>,
    lag_all: Family<OfPipeline, Gauge>,
    unread: Family<OfPipeline, Gauge>,
    paused: Family<OfPipeline, Gauge>,
    partitions: Family<OfPipeline, Gauge>,
    rebalances: Family<OfPipeline, Counter>,
    commits: Family<OfOutcome, Counter>,
    plans_taken_over: Family<OfPipeline, Counter>,
    tombstones: Family<OfPipeline, Counter>,
    lost: Family<OfPipeline, Counter>,
    halted: Family<OfPipeline, Gauge>,
    found: Family<OfFound, Counter>,
}

impl KafkaFamilies {
    pub(super) fn new(of: &mut Registry) -> KafkaFamilies {
        KafkaFamilies {
            lag: family(of, "kafka_lag", "Offsets between what is committed and the end of an owned partition"),
            lag_all: family(
                of,
                "kafka_lag_all",
                "Offsets between what is committed and the ends, of all owned partitions",
            ),
            unread: family(of, "kafka_unread", "Offsets between what is read and the ends, of all owned partitions"),
            paused: family(of, "kafka_paused", "Owned partitions that are not fetched from, as what was read waits"),
            partitions: family(of, "kafka_partitions", "Partitions that this node owns"),
            rebalances: family(of, "kafka_rebalances", "Partitions came or went, so often"),
            commits: family(of, "kafka_commits", "Commits of offsets, by what became of them"),
            plans_taken_over: family(
                of,
                "kafka_plans_taken_over",
                "Chunks of former owners that were found half-delivered",
            ),
            tombstones: family(of, "kafka_tombstones", "Records without a value, which are left out"),
            lost: family(of, "kafka_lost", "Offsets that were gone from the topic before they were read"),
            halted: family(of, "kafka_halted", "Owned partitions that are not read until somebody decides"),
            found: family(of, "kafka_found", "Partitions that were not as the group had left them, by what was found"),
        }
    }

    /// The counters of a pipeline, shown from now on.
    fn counters(&self, pipeline: &str) -> Counters {
        let of = OfPipeline { pipeline: pipeline.to_owned() };
        let commits = |outcome| OfOutcome { pipeline: pipeline.to_owned(), outcome };
        Counters {
            rebalances: self.rebalances.get_or_create_owned(&of),
            commits: OUTCOMES.map(|outcome| self.commits.get_or_create_owned(&commits(outcome))),
            plans_taken_over: self.plans_taken_over.get_or_create_owned(&of),
            tombstones: self.tombstones.get_or_create_owned(&of),
            lost: self.lost.get_or_create_owned(&of),
            halted: self.halted.get_or_create_owned(&of),
        }
    }

    /// Sets what the group shows. Partitions that have a metric keep it while they are owned; others fill the room that
    /// there is.
    fn show(&self, pipeline: &str, group: &GroupNow, shown: &mut BTreeSet<(Arc<str>, i32)>) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let of = OfPipeline { pipeline: pipeline.to_owned() };
        let unread = group.owned.iter().filter_map(PartitionNow::unread).fold(0, u64::saturating_add);
        for (family, value) in [
            (&self.lag_all, group.lag()),
            (&self.unread, unread),
            (&self.paused, group.paused()),
            (&self.partitions, group.owned.len() as u64),
        ] {
            family.get_or_create_owned(&of).set(number(value));
        }
        let lag = |owned: &PartitionNow| Some(((owned.topic.clone(), owned.partition), owned.lag()?));
        let lags: BTreeMap<_, _> = group.owned.iter().filter_map(lag).collect();
        shown.retain(|partition| {
            let stays = lags.contains_key(partition);
            if !stays {
                self.lag.remove(&OfPartition::new(pipeline, partition));
            }
            stays
        });
        for (partition, lag) in lags {
            if shown.len() < PARTITIONS_SHOWN_MAX || shown.contains(&partition) {
                self.lag.get_or_create_owned(&OfPartition::new(pipeline, &partition)).set(number(lag));
                shown.insert(partition);
            }
        }
    }

    /// Forgets what a pipeline's group has shown.
    fn leave(&self, pipeline: &str, shown: BTreeSet<(Arc<str>, i32)>) {
        let of = OfPipeline { pipeline: pipeline.to_owned() };
        for family in [&self.lag_all, &self.unread, &self.paused, &self.partitions] {
            family.remove(&of);
        }
        for partition in shown {
            self.lag.remove(&OfPartition::new(pipeline, &partition));
        }
    }

    /// Forgets all of a pipeline that is gone.
    pub(super) fn forget(&self, known: &PipelineMetrics) {
        let mut shown = lock(&known.kafka_shown);
        shown.group = None;
        shown.by = u64::MAX;
        self.leave(&known.pipeline, std::mem::take(&mut shown.partitions));
        let of = OfPipeline { pipeline: known.pipeline.to_string() };
        for family in [&self.rebalances, &self.plans_taken_over, &self.tombstones, &self.lost] {
            family.remove(&of);
        }
        self.halted.remove(&of);
        for outcome in OUTCOMES {
            self.commits.remove(&OfOutcome { pipeline: of.pipeline.clone(), outcome });
        }
        for what in FOUND {
            self.found.remove(&OfFound { pipeline: of.pipeline.clone(), what });
        }
    }
}

impl OfPartition {
    fn new(pipeline: &str, (topic, partition): &(Arc<str>, i32)) -> OfPartition {
        OfPartition { pipeline: pipeline.to_owned(), topic: topic.clone(), partition: *partition }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn owns(partitions: std::ops::Range<i32>) -> GroupNow {
        let owned = partitions.map(|partition| PartitionNow {
            topic: "orders".into(),
            partition,
            shard: Shard::new(&format!("k1p{partition}s1")).unwrap(),
            committed: Some(10),
            read: 12,
            end: Some(20),
            paused: partition % 2 == 1,
        });
        let (group, member) = ("lake".into(), "m1".into());
        GroupNow { group, member, protocol: "classic", owned: owned.collect(), members: vec![] }
    }

    fn says(metrics: &Metrics, line: &str) -> bool {
        metrics.render().lines().any(|shown| shown == line)
    }

    fn lags(metrics: &Metrics) -> usize {
        metrics.render().lines().filter(|line| line.starts_with("hydrant_kafka_lag{")).count()
    }

    #[test]
    fn a_group_shows_what_it_counts_until_it_is_left() {
        let metrics = Metrics::new();
        let of = metrics.pipeline("p");
        assert!(!metrics.render().contains("kafka_rebalances_total{"), "no pipeline of Kafka yet");
        let kafka = of.kafka();
        kafka.rebalanced();
        [Commit::Done, Commit::Failed, Commit::Fenced, Commit::Fenced]
            .into_iter()
            .for_each(|what| kafka.committed(what));
        kafka.took_over();
        kafka.tombstones(3);
        kafka.lost(7);
        kafka.show(owns(0..3));
        for line in [
            "hydrant_kafka_lag{pipeline=\"p\",topic=\"orders\",partition=\"2\"} 10",
            "hydrant_kafka_lag_all{pipeline=\"p\"} 30",
            "hydrant_kafka_unread{pipeline=\"p\"} 24",
            "hydrant_kafka_paused{pipeline=\"p\"} 1",
            "hydrant_kafka_partitions{pipeline=\"p\"} 3",
            "hydrant_kafka_rebalances_total{pipeline=\"p\"} 1",
            "hydrant_kafka_commits_total{pipeline=\"p\",outcome=\"failed\"} 1",
            "hydrant_kafka_commits_total{pipeline=\"p\",outcome=\"fenced\"} 2",
            "hydrant_kafka_plans_taken_over_total{pipeline=\"p\"} 1",
            "hydrant_kafka_tombstones_total{pipeline=\"p\"} 3",
            "hydrant_kafka_lost_total{pipeline=\"p\"} 7",
        ] {
            assert!(says(&metrics, line), "{line}\n{}", metrics.render());
        }
        kafka.show(owns(1..2));
        assert_eq!(lags(&metrics), 1, "others are given back");
        drop(kafka);
        assert!(lags(&metrics) == 0 && !metrics.render().contains("kafka_partitions{"), "{}", metrics.render());
        assert!(of.kafka_group().is_none() && says(&metrics, "hydrant_kafka_lost_total{pipeline=\"p\"} 7"));
        let spare = of.kafka();
        spare.show(owns(0..0));
        assert!(says(&metrics, "hydrant_kafka_partitions{pipeline=\"p\"} 0"), "a spare node is seen");
    }

    #[test]
    fn of_a_thousand_partitions_some_have_a_metric_and_keep_it_and_all_are_counted() {
        let metrics = Metrics::new();
        let kafka = metrics.pipeline("p").kafka();
        kafka.show(owns(500..600));
        kafka.show(owns(0..1000));
        assert_eq!(lags(&metrics), PARTITIONS_SHOWN_MAX);
        assert!(says(&metrics, "hydrant_kafka_lag{pipeline=\"p\",topic=\"orders\",partition=\"563\"} 10"));
        assert!(says(&metrics, "hydrant_kafka_lag_all{pipeline=\"p\"} 10000"));
        assert!(says(&metrics, "hydrant_kafka_partitions{pipeline=\"p\"} 1000"));
    }

    #[test]
    fn lag_is_what_is_not_committed_and_unknown_without_an_end() {
        let mut one = owns(0..1).owned.remove(0);
        assert_eq!((one.lag(), one.unread()), (Some(10), Some(8)));
        one.committed = None;
        assert_eq!(one.lag(), Some(8), "nothing is committed: from where it is read");
        (one.committed, one.read) = (Some(30), 31);
        assert_eq!((one.lag(), one.unread()), (Some(0), Some(0)), "the end was asked for long ago");
        one.end = None;
        assert_eq!((one.lag(), one.unread()), (None, None));
    }

    #[test]
    fn a_later_source_shows_instead_of_the_one_before_whatever_that_still_says() {
        let metrics = Metrics::new();
        let of = metrics.pipeline("p");
        let before = of.kafka();
        before.show(owns(0..3));
        let tried = of.kafka();
        drop(tried);
        assert_eq!(lags(&metrics), 3, "it has shown nothing");
        let after = of.kafka();
        after.show(owns(5..6));
        before.show(owns(0..3));
        drop(before);
        assert_eq!((lags(&metrics), of.kafka_group().unwrap().owned[0].partition), (1, 5));
        drop(after);
        assert!(lags(&metrics) == 0 && of.kafka_group().is_none());
    }

    #[test]
    fn a_pipeline_that_is_gone_takes_its_group_along() {
        let metrics = Metrics::new();
        let kafka = metrics.pipeline("p").kafka();
        kafka.committed(Commit::Done);
        kafka.show(owns(0..3));
        metrics.forget_pipeline("p");
        kafka.show(owns(0..3));
        kafka.lost(1);
        assert!(!metrics.render().contains("\"p\""), "{}", metrics.render());
        let again = metrics.pipeline("p").kafka();
        again.show(owns(0..1));
        drop(kafka);
        assert_eq!(lags(&metrics), 1, "of another life");
    }
}
