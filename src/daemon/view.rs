//! The daemon as the admin address knows it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::live::{Live, Seen};
use crate::metrics::Positions;
use crate::spool::{self, Stream};
use crate::status::Admin;
use crate::status::reload::{Refused, Reloaded};
use crate::status::view::{Counts, MemoryView, PendingView, PipelineView, ShardView, StreamView, View, WayView};

use super::fleet::{Fleet, Pending, Pipeline, Told};
use super::reload::Request;

/// What runs.
pub struct Standing {
    fleet: Arc<Fleet>,
    requests: mpsc::Sender<Request>,
    started_ms: i64,
}

impl Standing {
    /// The fleet since now; reloads are asked for with `requests`.
    pub fn new(fleet: &Arc<Fleet>, requests: mpsc::Sender<Request>) -> Standing {
        Standing { fleet: fleet.clone(), requests, started_ms: fleet.house.ground.clock.now_ms() }
    }
}

#[async_trait]
impl Admin for Standing {
    fn metrics(&self) -> String {
        let super::House { metrics, budget, .. } = &self.fleet.house;
        metrics.set_memory(budget.in_use());
        for stream in self.fleet.streams.shown() {
            let spool::Stats { bytes, durable, refused, .. } = stream.stats();
            metrics.stream(stream.name()).set(bytes, durable, refused);
        }
        metrics.render()
    }

    fn ills(&self) -> Vec<String> {
        let of_house = super::lock(&self.fleet.house.ills).clone();
        of_house.into_iter().chain(self.fleet.ills()).collect()
    }

    fn view(&self) -> View {
        let house = &self.fleet.house;
        let in_use = house.budget.in_use();
        View {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            now_ms: house.ground.clock.now_ms(),
            ills: self.ills(),
            memory: MemoryView {
                used_bytes: (in_use.requests + in_use.uploads + in_use.encoders) as u64,
                budget_bytes: house.memory_bytes,
            },
            pipelines: self.fleet.pipelines().iter().map(|of| pipeline(house, of)).collect(),
            streams: self.fleet.streams.shown().iter().map(stream).collect(),
            without_file: self.fleet.without_file(),
        }
    }

    fn live(&self, pipeline: &str) -> Option<Live> {
        let known = self.fleet.pipeline(pipeline)?;
        Some(self.fleet.house.metrics.pipeline(&known.name).live)
    }

    async fn reload(&self) -> Reloaded {
        let (request, answer) = oneshot::channel();
        let sent = self.requests.send(request).await;
        let stopping = || Refused { name: "hydrant".into(), problems: "it is stopping\n".into() };
        match (sent, answer.await) {
            (Ok(()), Ok(reloaded)) => reloaded,
            _ => Reloaded { refused: vec![stopping()], ..Reloaded::default() },
        }
    }
}

fn pipeline(house: &super::House, of: &Pipeline) -> PipelineView {
    let Told { file, state, why, revision, wanted, way, pending, .. } = of.told();
    let metrics = &house.metrics.pipeline(&of.name);
    let Seen { delivered, rejected, open, sink, reading } = metrics.live.seen();
    let (outbox_bytes, outbox_bytes_max) = way.as_ref().map(|way| way.room.taken()).unwrap_or_default();
    let shards = way.iter().flat_map(|way| way.progress.shown());
    let drawn = wanted.as_ref().map(|wanted| WayView {
        source: wanted.spec.drawn.source.clone(),
        stream: wanted.stream().map(str::to_owned),
        transforms: wanted.spec.drawn.transforms.clone(),
        format: wanted.spec.drawn.format.clone(),
        sink: wanted.spec.drawn.sink.clone(),
    });
    let pending = pending.map(|Pending { hash, since_ms, problems, .. }| PendingView { hash, since_ms, problems });
    PipelineView {
        name: of.name.clone(),
        file,
        way: drawn.unwrap_or_default(),
        state,
        why,
        revision,
        pending,
        counts: Counts {
            records_in: metrics.records_in.get(),
            bytes_in: metrics.bytes_in.get(),
            records_out: metrics.records_out.get(),
            bytes_out: metrics.bytes_out.get(),
            objects_out: metrics.objects_out.get(),
            rejected: 0,
            dropped: metrics.dropped.get(),
        },
        shards: shards.map(|(shard, positions)| shard_view(shard.as_str(), &positions)).collect(),
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
    let bytes_max = stream.limits().spool_bytes_max;
    StreamView { name: stream.name().to_owned(), bytes, bytes_max, records: durable, refused }
}
