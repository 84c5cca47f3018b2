//! What the daemon tells about itself: one document, from which the page and the commands draw what a person sees.
//!
//! It is the answer of `GET /api/status`, as JSON; keys are only ever added. Times are Unix milliseconds.

mod group;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use crate::live::{Counts, Rates};
use crate::live::{Delivered, Open, Rejected, Trouble};

pub use group::{KafkaView, MEMBERS_SHOWN_MAX, MemberView, OwnsView, PartitionView, shard_names};

/// The daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Of hydrant.
    pub version: String,
    pub started_ms: i64,
    pub now_ms: i64,
    /// What is not as it should be, one sentence each; empty: healthy.
    pub ills: Vec<String>,
    pub memory: MemoryView,
    /// Where producers send records, once there is a stream for them.
    #[serde(default)]
    pub doors: Option<DoorsView>,
    /// By name.
    pub pipelines: Vec<PipelineView>,
    /// By name.
    pub streams: Vec<StreamView>,
    /// State of pipelines that no file configures now.
    pub without_file: Vec<LeftView>,
}

/// Bytes of the process budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryView {
    pub used_bytes: u64,
    pub budget_bytes: u64,
}

/// Where producers send records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoorsView {
    /// Such as `127.0.0.1:4573`.
    pub address: String,
    /// Whether they must prove who they are.
    pub credentials: bool,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineView {
    pub name: String,
    /// The path of its file.
    pub file: String,
    pub way: WayView,
    pub state: State,
    /// Why it is in that state, where there is something to say.
    pub why: Option<String>,
    pub revision: RevisionView,
    /// What its file says now, if that could not be taken.
    pub pending: Option<PendingView>,
    pub counts: Counts,
    #[serde(default)]
    pub rates: Rates,
    /// How many shards it reads.
    #[serde(default)]
    pub shards_known: u64,
    /// Its shards, at most [`crate::metrics::SHARDS_SHOWN_MAX`].
    pub shards: Vec<ShardView>,
    /// The group of its source, where that is Kafka and has begun.
    #[serde(default)]
    pub kafka: Option<KafkaView>,
    /// Records between the tails and what is delivered, where positions are numbers of records.
    pub lag_records: Option<u64>,
    /// The same, where positions are bytes of files.
    #[serde(default)]
    pub lag_bytes: Option<u64>,
    /// When the oldest record arrived that was read, or could not be read, and is not delivered.
    #[serde(default)]
    pub oldest_undelivered_ms: Option<i64>,
    /// The fullest of the open chunks.
    pub open: Option<Open>,
    pub outbox_bytes: u64,
    pub outbox_bytes_max: u64,
    pub delivered: Vec<Delivered>,
    pub rejected: Vec<Rejected>,
    /// Why the sink takes no objects.
    pub sink_trouble: Option<Trouble>,
    /// Why nothing is read.
    pub reading_trouble: Option<Trouble>,
    /// Whether transforms set every record aside, or cannot be had.
    pub transforms_failing: bool,
    /// Counts of the last minute, one per second, the oldest first.
    pub history: Vec<Counts>,
}

impl DoorsView {
    /// Doors at `address`, which may want `credentials`.
    pub fn new(address: SocketAddr, credentials: bool) -> DoorsView {
        DoorsView { address: address.to_string(), credentials }
    }
}

impl View {
    /// Leaves out what only a pipeline that is looked at closely needs, but for those `looked_at`: with 500 pipelines and a
    /// look every second that is most of it.
    pub fn thin(&mut self, looked_at: impl Fn(&str) -> bool) {
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| !looked_at(&pipeline.name)) {
            pipeline.delivered.truncate(1);
            pipeline.shards.clear();
            pipeline.kafka = pipeline.kafka.take().and_then(KafkaView::thin);
            pipeline.rejected.clear();
            pipeline.history.clear();
        }
    }

    /// Leaves out what records hold, for those who may not see that.
    pub fn withhold(&mut self) {
        self.pipelines.iter_mut().for_each(PipelineView::withhold);
    }
}

impl PipelineView {
    /// Names of objects hold what records hold, where a prefix says so: the sink's URL is told instead.
    fn withhold(&mut self) {
        let sink = &self.way.sink;
        for rejected in &mut self.rejected {
            rejected.sample.clear();
            rejected.message.clear();
        }
        for delivered in &mut self.delivered {
            delivered.object.clone_from(sink);
        }
        if let Some(Trouble { message, .. }) = &mut self.sink_trouble
            && let Some((_, what)) = message.split_once(": ")
        {
            *message = format!("{sink}: {what}");
        }
    }
}

/// The way of its records in words, without what came from variables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WayView {
    /// Such as `firehose clickstream`.
    pub source: String,
    /// The stream of its source, if that is one.
    pub stream: Option<String>,
    /// Such as `wasm redact.wasm`.
    pub transforms: Vec<String>,
    /// Such as `parquet`.
    pub format: String,
    /// The sink's URL.
    pub sink: String,
}

/// What a pipeline does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It runs.
    Running,
    /// Its file is gone; what was acknowledged is being delivered.
    Draining,
    /// Its sources have ended and everything is delivered.
    Done,
    /// A fault has ended it; a changed file or a reload starts it again.
    Stopped,
    /// It cannot start now, and is tried again.
    Waiting,
}

/// What a pipeline runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevisionView {
    /// From 1, since the start of the process.
    pub number: u64,
    /// The first digits of the SHA-256 of its file and of what that names.
    pub hash: String,
    pub since_ms: i64,
}

/// A revision that was refused; the one before it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingView {
    pub hash: String,
    pub since_ms: i64,
    /// What is wrong with it, as `hydrant check` says it: file, line, column, hint.
    pub problems: String,
}

/// The five positions of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardView {
    pub shard: String,
    /// What it is to a person, where its id says nothing: `orders/3`.
    #[serde(default)]
    pub name: Option<String>,
    pub released: String,
    pub delivered: String,
    pub sealed: String,
    pub read: String,
    pub tail: String,
}

/// A stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamView {
    pub name: String,
    pub bytes: u64,
    pub bytes_max: u64,
    /// Records ever made durable.
    pub records: u64,
    /// Requests answered with throttling since the start.
    pub refused: u64,
}

/// What a pipeline without a file has left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftView {
    pub name: String,
    /// Its folder below the state folder.
    pub folder: String,
    /// Objects promised and not delivered.
    pub promised: u64,
    /// Whether it was drained: nothing that was acknowledged to it is undelivered.
    pub drained: bool,
    /// Streams whose records are kept for it.
    pub holds: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> PipelineView {
        let text = "x".repeat(100);
        let position = "123456789012".to_owned();
        let shard = ShardView {
            shard: text.clone(),
            name: Some(text.clone()),
            released: position.clone(),
            delivered: position.clone(),
            sealed: position.clone(),
            read: position.clone(),
            tail: position,
        };
        let object = Delivered { object: text.repeat(2), rows: 1 << 30, bytes: 1 << 40, at_ms: 1 << 41 };
        let rejected = Rejected {
            reason: text.clone(),
            code: text.clone(),
            message: text.clone(),
            sample: "\0".repeat(crate::live::SAMPLE_BYTES_MAX),
            at_ms: 1 << 41,
            records: 1 << 40,
        };
        let topic = "a-topic-of-usual-length".to_owned();
        let owns = OwnsView { topic: topic.clone(), count: 1 << 30, partitions: text.clone() };
        let member = MemberView {
            id: text.clone(),
            client: "a-client-of-usual-length".into(),
            host: "100.100.100.100".into(),
            here: false,
            owned: 1 << 30,
            owns: vec![owns.clone(); group::TOPICS_SHOWN_MAX],
        };
        let partition = PartitionView {
            topic,
            partition: 1 << 30,
            committed: Some(1 << 40),
            read: 1 << 40,
            end: Some(1 << 40),
            lag: Some(1 << 40),
            paused: false,
        };
        let kafka = KafkaView {
            group: text.clone(),
            member: text.clone(),
            protocol: "consumer".into(),
            owned: 1 << 30,
            paused: 1 << 30,
            lag: 1 << 40,
            owns: vec![owns; group::TOPICS_SHOWN_MAX],
            partitions: vec![partition; crate::metrics::PARTITIONS_SHOWN_MAX],
            members_known: 1 << 30,
            members: vec![member; MEMBERS_SHOWN_MAX],
        };
        PipelineView {
            name: "a-name-of-usual-length".into(),
            file: text.clone(),
            way: WayView {
                source: text.clone(),
                stream: Some(text.clone()),
                transforms: vec![text.clone()],
                format: "parquet".into(),
                sink: text,
            },
            state: State::Running,
            why: None,
            revision: RevisionView { number: 1, hash: "0123456789abcdef".into(), since_ms: 1 << 41 },
            pending: None,
            counts: Counts::default(),
            rates: Rates::default(),
            shards_known: 64,
            shards: vec![shard; 64],
            kafka: Some(kafka),
            lag_records: Some(1),
            lag_bytes: None,
            oldest_undelivered_ms: None,
            open: None,
            outbox_bytes: 0,
            outbox_bytes_max: 1 << 31,
            delivered: vec![object; crate::live::DELIVERED_MAX],
            rejected: vec![rejected; crate::live::REJECTED_MAX],
            sink_trouble: None,
            reading_trouble: None,
            transforms_failing: false,
            history: vec![Counts::default(); crate::live::HISTORY_MAX],
        }
    }

    #[test]
    fn nothing_of_what_records_hold_is_told_to_all() {
        let mut one = full();
        let secret = |text: &str| format!("ada-{text}");
        one.delivered.iter_mut().for_each(|object| object.object = secret("object"));
        one.rejected.iter_mut().for_each(|rejected| (rejected.sample, rejected.message) = (secret("s"), secret("m")));
        let message = "s3://lake/name=ada-1/x.parquet: access denied: 403: no".to_owned();
        let trouble = Trouble { message, hint: None, since_ms: 1, attempts: 1, waiting: 1, next_at_ms: None };
        one.sink_trouble = Some(trouble);
        one.withhold();
        assert!(!serde_json::to_string(&one).unwrap().contains("ada"), "{one:?}");
        assert_eq!(one.sink_trouble.unwrap().message, format!("{}: access denied: 403: no", one.way.sink));
    }

    #[test]
    fn what_an_older_daemon_tells_is_read() {
        let mut told = serde_json::to_value(full()).unwrap();
        told.as_object_mut().unwrap().remove("kafka");
        for shard in told["shards"].as_array_mut().unwrap() {
            shard.as_object_mut().unwrap().remove("name");
        }
        let read: PipelineView = serde_json::from_value(told).unwrap();
        assert!(read.kafka.is_none() && read.shards[0].name.is_none());
    }

    #[test]
    fn five_hundred_pipelines_of_which_three_are_looked_at_fit_a_megabyte() {
        let named = |n| PipelineView { name: format!("pipeline-{n}"), ..full() };
        let memory = MemoryView { used_bytes: 0, budget_bytes: 0 };
        let mut view = View {
            version: String::new(),
            started_ms: 0,
            now_ms: 0,
            ills: Vec::new(),
            memory,
            doors: None,
            pipelines: (0..500).map(named).collect(),
            streams: Vec::new(),
            without_file: Vec::new(),
        };
        view.thin(|name| ["pipeline-0", "pipeline-7", "pipeline-77"].contains(&name));
        let bytes = serde_json::to_vec(&view).unwrap().len();
        assert!(bytes < 1 << 20, "{bytes} bytes");
        assert_eq!(view.pipelines[7], named(7));
        assert!(view.pipelines[8].history.is_empty());
    }
}
