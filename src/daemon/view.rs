//! The daemon as the admin address knows it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::error::{Blame, Fault};
use crate::live::{Live, Seen};
use crate::metrics::{Metrics, Positions};
use crate::pipeline::Way;
use crate::source::Unit;
use crate::spool::{self, Stream};
use crate::status::Admin;
use crate::status::reload::Reloaded;
use crate::status::replay::{Ask, Hearing};
use crate::status::view::{MemoryView, PipelineView, RevisionView, ShardView, State, StreamView, View, WayView};

use super::House;
use super::build::{Built, Shown};
use super::replay::{Kit, Replaying, opener};

/// What runs.
pub struct Standing {
    house: House,
    ways: Vec<(Arc<Way>, Shown)>,
    streams: Vec<Stream>,
    started_ms: i64,
    /// The state folder.
    state: PathBuf,
    replaying: Replaying,
}

impl Standing {
    /// What was built, since `started_ms` (Unix milliseconds).
    pub fn new(house: &House, built: &Built, started_ms: i64, state: &Path) -> Standing {
        tokio::spawn(sample(house.metrics.clone()));
        Standing {
            house: house.clone(),
            ways: built.ways.clone(),
            streams: built.streams.clone(),
            started_ms,
            state: state.to_owned(),
            replaying: Replaying::default(),
        }
    }

    /// What a replay of a pipeline needs.
    fn kit(&self, pipeline: &str) -> Result<Kit, Fault> {
        let House { ground, budget, metrics, .. } = self.house.clone();
        let Some((way, shown)) = self.ways.iter().find(|(way, _)| way.name == pipeline) else {
            let names: Vec<&str> = self.ways.iter().map(|(way, _)| way.name.as_str()).collect();
            let message = format!("no pipeline {pipeline} runs here: there are {}", names.join(", "));
            return Err(Fault::new(Blame::Config, message));
        };
        Ok(Kit {
            state: self.state.clone(),
            recipe: way.recipe.clone(),
            transforms: shown.spec.transforms.clone(),
            open_sink: opener(shown.spec.sink.clone(), &ground),
            stream: self.streams.iter().find(|stream| shown.stream.as_deref() == Some(stream.name())).cloned(),
            stream_is_read: true,
            stop: CancellationToken::new(),
            ground,
            budget,
            metrics,
        })
    }

    /// The tail of a stream moves also while a pipeline does not read.
    fn look_at_tails(&self) {
        for (way, shown) in &self.ways {
            if let Some(stream) = self.streams.iter().find(|stream| shown.stream.as_deref() == Some(stream.name())) {
                way.progress.reaches(stream.shard(), &stream.stats().durable.into());
            }
        }
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
        self.look_at_tails();
        let now_ms = self.house.ground.clock.now_ms();
        for (way, _) in &self.ways {
            let oldest_ms = oldest_undelivered_ms(way, self.started_ms);
            let age = oldest_ms.map(|oldest_ms| u64::try_from(now_ms - oldest_ms).unwrap_or(0));
            way.metrics.set_oldest_undelivered(age.map(Duration::from_millis));
        }
        metrics.render()
    }

    fn ills(&self) -> Vec<String> {
        self.house.ills.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn view(&self) -> View {
        let in_use = self.house.budget.in_use();
        self.look_at_tails();
        View {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            now_ms: self.house.ground.clock.now_ms(),
            ills: self.ills(),
            memory: MemoryView {
                used_bytes: (in_use.requests + in_use.uploads + in_use.encoders) as u64,
                budget_bytes: self.house.budget.bytes() as u64,
            },
            doors: None,
            pipelines: self.ways.iter().map(|(way, shown)| pipeline(way, shown, self.started_ms)).collect(),
            streams: self.streams.iter().map(stream).collect(),
            without_file: Vec::new(),
        }
    }

    fn live(&self, pipeline: &str) -> Option<Live> {
        self.ways.iter().find(|(way, _)| way.name == pipeline).map(|(way, _)| way.metrics.live.clone())
    }

    fn replay(&self, ask: Ask) -> Hearing {
        let kit = self.kit(&ask.pipeline);
        self.replaying.begin(ask, kit)
    }

    async fn reload(&self) -> Reloaded {
        Reloaded::default()
    }

    fn read_of(&self) -> Option<(u64, u64)> {
        let of_ways = self.ways.iter().map(|(way, _)| way.source.read_of());
        of_ways.reduce(|a, b| Some((a?.0 + b?.0, a?.1 + b?.1))).flatten()
    }
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

fn pipeline(way: &Way, shown: &Shown, started_ms: i64) -> PipelineView {
    let (metrics, drawn) = (&way.metrics, &shown.drawn);
    let Seen { delivered, rejected, open, sink, reading, history, rates } = metrics.live.seen();
    let lag = way.progress.lag();
    let of = |unit| lag.filter(|_| way.source.unit() == unit);
    let (outbox_bytes, outbox_bytes_max) = way.room.taken();
    PipelineView {
        name: way.name.clone(),
        file: shown.file.clone(),
        way: WayView {
            source: drawn.source.clone(),
            stream: shown.stream.clone(),
            transforms: way.transforms.shown(),
            format: drawn.format.clone(),
            sink: drawn.sink.clone(),
        },
        state: State::Running,
        why: None,
        revision: RevisionView { number: 1, hash: String::new(), since_ms: 0 },
        pending: None,
        counts: metrics.counts(),
        rates,
        shards_known: way.progress.shards_known() as u64,
        shards: way.progress.shown().iter().map(|(shard, positions)| shard_view(shard.as_str(), positions)).collect(),
        lag_records: of(Unit::Records),
        lag_bytes: of(Unit::Bytes),
        oldest_undelivered_ms: oldest_undelivered_ms(way, started_ms),
        open: open.into_values().max_by_key(|open| open.bytes),
        outbox_bytes,
        outbox_bytes_max,
        delivered: delivered.into(),
        rejected: rejected.into(),
        sink_trouble: sink,
        reading_trouble: reading,
        transforms_failing: metrics.transforms_failing.get() != 0,
        history,
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
