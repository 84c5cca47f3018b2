//! The daemon as the admin address knows it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::error::{Blame, Fault};
use crate::live::{Live, Seen};
use crate::metrics::{Metrics, Positions, Stands};
use crate::pipeline::Way;
use crate::position::Shard;
use crate::source::Unit;
use crate::spool::{self, Stream};
use crate::status::Admin;
use crate::status::reload::{Refused, Reloaded};
use crate::status::replay::{Ask, Hearing};
use crate::status::view::{
    KafkaView, MemoryView, PendingView, PipelineView, ShardView, State, StreamView, View, WayView, shard_names,
};

use super::fleet::{Fleet, Pending, Pipeline, Told};
use super::reload::Request;
use super::replay::{Kit, opener};

/// What runs.
pub struct Standing {
    fleet: Arc<Fleet>,
    requests: mpsc::Sender<Request>,
    started_ms: i64,
}

impl Standing {
    /// The fleet since now; reloads are asked for with `requests`.
    pub fn new(fleet: &Arc<Fleet>, requests: mpsc::Sender<Request>) -> Standing {
        tokio::spawn(sample(fleet.house.metrics.clone()));
        let started_ms = fleet.house.ground.clock.now_ms();
        Standing { fleet: fleet.clone(), requests, started_ms }
    }

    /// What a replay of a pipeline needs.
    fn kit(&self, pipeline: &str) -> Result<Kit, Fault> {
        let super::House { ground, budget, metrics, .. } = self.fleet.house.clone();
        let told = self.fleet.pipeline(pipeline).map(|of| of.told());
        let known = told.is_some();
        let Some((way, wanted)) = told.and_then(|told| Some((told.way?, told.wanted?))) else {
            if known {
                let hint = "hint: stop the daemon, and replay with --state";
                return Err(Fault::new(Blame::Config, format!("pipeline {pipeline} does not run now\n{hint}")));
            }
            let names: Vec<String> = self.fleet.pipelines().iter().map(|of| of.name.clone()).collect();
            let message = format!("no pipeline {pipeline} runs here: there are {}", names.join(", "));
            return Err(Fault::new(Blame::Config, message));
        };
        let (stream, lent) = wanted.stream().and_then(|name| self.fleet.streams.lend(name)).unzip();
        Ok(Kit {
            state: self.fleet.settings.state.clone(),
            recipe: way.recipe.clone(),
            transforms: wanted.spec.transforms.clone(),
            open_sink: opener(wanted.spec.sink.clone(), &ground),
            stream,
            lent,
            stream_is_read: true,
            sweeps: true,
            stop: CancellationToken::new(),
            ground,
            budget,
            metrics,
        })
    }

    /// The tail of a stream moves also while a pipeline does not read.
    fn look_at_tails(&self) {
        for Told { wanted, way, .. } in self.fleet.pipelines().iter().map(|of| of.told()) {
            let stream = wanted.as_ref().and_then(|wanted| self.fleet.streams.get(wanted.stream()?));
            if let (Some(way), Some(stream)) = (way, stream) {
                way.progress.reaches(stream.shard(), &stream.stats().durable.into());
            }
        }
    }
}

#[async_trait]
impl Admin for Standing {
    fn metrics(&self) -> String {
        let super::House { metrics, budget, .. } = &self.fleet.house;
        metrics.set_memory(budget.in_use());
        for stream in self.fleet.streams.shown() {
            let spool::Stats { bytes, durable, refused, .. } = stream.stats();
            let of_stream = metrics.stream(stream.name());
            of_stream.set(bytes, durable, refused);
            of_stream.set_bytes_max(stream.limits().spool_bytes_max);
        }
        self.look_at_tails();
        let now_ms = self.fleet.house.ground.clock.now_ms();
        for of in self.fleet.pipelines() {
            // One that is done has no way any more, and nothing undelivered.
            let oldest_ms = of.told().way.and_then(|way| oldest_undelivered_ms(&way, self.started_ms));
            let age = oldest_ms.map(|oldest_ms| u64::try_from(now_ms - oldest_ms).unwrap_or(0));
            if let Some(known) = metrics.known(&of.name) {
                known.set_oldest_undelivered(age.map(Duration::from_millis));
            }
        }
        metrics.set_standing(self.fleet.pipelines().iter().map(|of| stands(&of.name, &of.told())));
        metrics.set_started(self.started_ms);
        metrics.render()
    }

    fn ills(&self) -> Vec<String> {
        if !self.fleet.house.is_ready() {
            return vec!["starting".to_owned()];
        }
        let of_house = super::lock(&self.fleet.house.ills).clone();
        of_house.into_iter().chain(self.fleet.ills()).collect()
    }

    fn view(&self) -> View {
        let house = &self.fleet.house;
        let in_use = house.budget.in_use();
        self.look_at_tails();
        View {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            now_ms: house.ground.clock.now_ms(),
            ills: self.ills(),
            memory: MemoryView {
                used_bytes: (in_use.requests + in_use.uploads + in_use.encoders) as u64,
                budget_bytes: house.budget.bytes() as u64,
            },
            doors: house.doors.get().cloned(),
            pipelines: self.fleet.pipelines().iter().map(|of| pipeline(house, of, self.started_ms)).collect(),
            streams: self.fleet.streams.shown().iter().map(stream).collect(),
            without_file: self.fleet.without_file(),
        }
    }

    fn live(&self, pipeline: &str) -> Option<Live> {
        let known = self.fleet.pipeline(pipeline)?;
        Some(self.fleet.house.metrics.known(&known.name)?.live.clone())
    }

    fn replay(&self, ask: Ask) -> Hearing {
        let kit = self.kit(&ask.pipeline);
        self.fleet.house.replaying.begin(ask, kit)
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

    fn read_of(&self) -> Option<(u64, u64)> {
        let pipelines = self.fleet.pipelines();
        let of_ways = pipelines.iter().filter_map(|of| of.told().way).map(|way| way.source.read_of());
        of_ways.reduce(|a, b| Some((a?.0 + b?.0, a?.1 + b?.1))).flatten()
    }
}

fn stands(name: &str, told: &Told) -> Stands {
    let runs = match told.state {
        State::Running | State::Draining | State::Done => true,
        State::Stopped | State::Waiting => false,
    };
    Stands { pipeline: name.to_owned(), runs, revision: told.revision.number, refused: told.pending.is_some() }
}

/// Once a second, for ever: what was counted.
async fn sample(metrics: Metrics) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        metrics.sample();
    }
}

/// When the oldest record arrived that is not delivered; where nothing can be read, at least since then.
fn oldest_undelivered_ms(way: &Way, started_ms: i64) -> Option<i64> {
    let reading = way.metrics.live.not_reading_since_ms();
    way.progress.oldest_ms(started_ms).into_iter().chain(reading).min()
}

fn pipeline(house: &super::House, of: &Pipeline, started_ms: i64) -> PipelineView {
    let Told { file, state, why, revision, wanted, way, pending, .. } = of.told();
    // One that was never right has counted nothing, and one that has gone meanwhile counts no more.
    let metrics = house.metrics.known(&of.name);
    let seen = metrics.as_ref().map(|metrics| metrics.live.seen());
    let Seen { delivered, rejected, open, sink, reading, history, rates } = seen.unwrap_or_default();
    let way = way.as_deref();
    let drawn = wanted.as_ref().map(|wanted| WayView {
        source: wanted.spec.drawn.source.clone(),
        stream: wanted.stream().map(str::to_owned),
        transforms: wanted.spec.transforms.iter().map(|transform| transform.shown()).collect(),
        format: wanted.spec.drawn.format.clone(),
        sink: wanted.spec.drawn.sink.clone(),
    });
    let lag = |unit| way.filter(|way| way.source.unit() == unit).and_then(|way| way.progress.lag());
    let (outbox_bytes, outbox_bytes_max) = way.map(|way| way.room.taken()).unwrap_or_default();
    let shards = way.into_iter().flat_map(|way| way.progress.shown());
    let group = metrics.as_ref().and_then(|metrics| metrics.kafka_group());
    let mut names = group.as_deref().map(shard_names).unwrap_or_default();
    let pending = pending.map(|Pending { hash, since_ms, problems, .. }| PendingView { hash, since_ms, problems });
    PipelineView {
        name: of.name.clone(),
        file,
        way: drawn.unwrap_or_default(),
        state,
        why,
        revision,
        pending,
        counts: metrics.as_ref().map(|metrics| metrics.counts()).unwrap_or_default(),
        rates,
        shards_known: way.map_or(0, |way| way.progress.shards_known() as u64),
        shards: shards.map(|(shard, positions)| shard_view(&shard, names.remove(&shard), &positions)).collect(),
        kafka: group.as_deref().map(KafkaView::of),
        lag_records: lag(Unit::Records),
        lag_bytes: lag(Unit::Bytes),
        oldest_undelivered_ms: way.and_then(|way| oldest_undelivered_ms(way, started_ms)),
        open: open.into_values().max_by_key(|open| open.bytes),
        outbox_bytes,
        outbox_bytes_max,
        delivered: delivered.into(),
        rejected: rejected.into(),
        sink_trouble: sink,
        reading_trouble: reading,
        transforms_failing: metrics.is_some_and(|metrics| metrics.transforms_failing.get() != 0),
        history,
    }
}

fn shard_view(shard: &Shard, name: Option<String>, positions: &Positions) -> ShardView {
    let Positions { released, delivered, sealed, read, tail } = positions;
    ShardView {
        shard: shard.to_string(),
        name,
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
