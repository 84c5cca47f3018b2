//! The daemon as the admin address knows it.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;

use crate::live::{Live, Seen};
use crate::metrics::Positions;
use crate::pipeline::Way;
use crate::spool::{self, Stream};
use crate::status::Admin;
use crate::status::reload::Reloaded;
use crate::status::view::{
    Counts, MemoryView, PipelineView, RevisionView, ShardView, State, StreamView, View, WayView,
};

use super::House;
use super::build::{Built, Shown};

/// What runs.
pub struct Standing {
    house: House,
    ways: Vec<(Arc<Way>, Shown)>,
    streams: Vec<Stream>,
    started_ms: i64,
}

impl Standing {
    /// What was built, since `started_ms` (Unix milliseconds).
    pub fn new(house: &House, built: &Built, started_ms: i64) -> Standing {
        Standing { house: house.clone(), ways: built.ways.clone(), streams: built.streams.clone(), started_ms }
    }
}

#[async_trait]
impl Admin for Standing {
    fn metrics(&self) -> String {
        let House { metrics, budget, .. } = &self.house;
        metrics.set_memory(budget.in_use());
        for stream in &self.streams {
            let spool::Stats { bytes, durable, refused, .. } = stream.stats();
            metrics.stream(stream.name()).set(bytes, durable, refused);
        }
        metrics.render()
    }

    fn ills(&self) -> Vec<String> {
        self.house.ills.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn view(&self) -> View {
        let in_use = self.house.budget.in_use();
        View {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            now_ms: self.house.ground.clock.now_ms(),
            ills: self.ills(),
            memory: MemoryView {
                used_bytes: (in_use.requests + in_use.uploads + in_use.encoders) as u64,
                budget_bytes: 0,
            },
            pipelines: self.ways.iter().map(|(way, shown)| pipeline(way, shown)).collect(),
            streams: self.streams.iter().map(stream).collect(),
            without_file: Vec::new(),
        }
    }

    fn live(&self, pipeline: &str) -> Option<Live> {
        self.ways.iter().find(|(way, _)| way.name == pipeline).map(|(way, _)| way.metrics.live.clone())
    }

    async fn reload(&self) -> Reloaded {
        Reloaded::default()
    }

    fn read_of(&self) -> Option<(u64, u64)> {
        let of_ways = self.ways.iter().map(|(way, _)| way.source.read_of());
        of_ways.reduce(|a, b| Some((a?.0 + b?.0, a?.1 + b?.1))).flatten()
    }
}

fn pipeline(way: &Way, shown: &Shown) -> PipelineView {
    let (metrics, drawn) = (&way.metrics, &shown.drawn);
    let Seen { delivered, rejected, open, sink, reading } = metrics.live.seen();
    let (outbox_bytes, outbox_bytes_max) = way.room.taken();
    PipelineView {
        name: way.name.clone(),
        file: shown.file.clone(),
        way: WayView {
            source: drawn.source.clone(),
            stream: shown.stream.clone(),
            transforms: drawn.transforms.clone(),
            format: drawn.format.clone(),
            sink: drawn.sink.clone(),
        },
        state: State::Running,
        why: None,
        revision: RevisionView { number: 1, hash: String::new(), since_ms: 0 },
        pending: None,
        counts: Counts {
            records_in: metrics.records_in.get(),
            bytes_in: metrics.bytes_in.get(),
            records_out: metrics.records_out.get(),
            bytes_out: metrics.bytes_out.get(),
            objects_out: metrics.objects_out.get(),
            rejected: 0,
            dropped: metrics.dropped.get(),
        },
        shards: way.progress.shown().iter().map(|(shard, positions)| shard_view(shard.as_str(), positions)).collect(),
        lag_records: None,
        open: open.into_values().max_by_key(|open| open.bytes),
        outbox_bytes,
        outbox_bytes_max,
        delivered: delivered.into(),
        rejected: rejected.into(),
        sink_trouble: sink,
        reading_trouble: reading,
        transforms_failing: metrics.transforms_failing.get() != 0,
        history: Vec::new(),
    }
}

fn shard_view(shard: &str, positions: &Positions) -> ShardView {
    let Positions { released, delivered, sealed, read, tail } = positions;
    ShardView {
        shard: shard.to_owned(),
        released: released.to_string(),
        delivered: delivered.to_string(),
        sealed: sealed.to_string(),
        read: read.to_string(),
        tail: tail.to_string(),
    }
}

fn stream(stream: &Stream) -> StreamView {
    let spool::Stats { bytes, durable, refused, .. } = stream.stats();
    StreamView { name: stream.name().to_owned(), bytes, bytes_max: 0, records: durable, refused }
}
