//! Where a replay runs: in the daemon, beside its pipelines, or alone, when no daemon has the state folder.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Kit, say};
use crate::budget::Budget;
use crate::chunk::Recipe;
use crate::config::{PipelineSpec, Settings, StreamSpec};
use crate::cpu::off_async;
use crate::daemon::kept::{self, Left};
use crate::daemon::lock::StateLock;
use crate::daemon::streams::{self, FREE_BYTES_MIN};
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::metrics::Metrics;
use crate::position::Shard;
use crate::sink::{self, ObjectSink};
use crate::spool::{self, Stream};
use crate::status::replay::{Ask, Hearing, Said, Saying, What};

/// The replays of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Replaying {
    inside: Arc<Mutex<Inside>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// By names of pipelines.
#[derive(Default)]
struct Inside {
    under_way: BTreeMap<String, UnderWay>,
    /// Those that were replayed since the start.
    known: BTreeSet<String>,
}

#[derive(Clone)]
struct UnderWay {
    /// Whether it reads the pipeline's stream.
    reads_stream: bool,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Replaying {
    /// Begins what was asked with what `kit` gives, unless a replay of that pipeline is under way.
    pub fn begin(&self, ask: Ask, kit: Result<Kit, Fault>) -> Hearing {
        let (saying, hearing) = mpsc::unbounded_channel();
        let name = ask.pipeline.clone();
        let failed = match kit {
            Err(fault) => format!("{:#}", fault.error),
            Ok(kit) => match self.enter(&ask, &kit.stop) {
                Some(entered) => {
                    let kit = Kit { sweeps: entered.is_first, ..kit };
                    tokio::spawn(self.clone().run(entered, ask, kit, saying));
                    return hearing;
                }
                None if self.stop.is_cancelled() => "hydrant is stopping".to_owned(),
                None => format!("pipeline {name} is being replayed already: wait for that, or end that command"),
            },
        };
        say(&saying, Said::Failed { message: failed, config: true });
        hearing
    }

    async fn run(self, entered: Entered, ask: Ask, kit: Kit, saying: Saying) {
        let stop = kit.stop.clone();
        // Nobody hears, or the process ends: the kit ends in order, and the next replay goes on.
        let leave = async {
            let _ = self.stop.run_until_cancelled(saying.closed()).await;
            stop.cancel();
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = kit.run(&ask, &saying) => {}
            () = leave => {}
        }
        drop(entered);
    }

    /// Ends all replays in order, and begins none from now on: when this returns, none is at work in the state folder.
    pub async fn stop(&self) {
        {
            let _no_other_begins = self.inside();
            self.stop.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A pipeline leaves its stream, which may be closed then and opened anew: a replay of its records ends in order, and the
    /// next one goes on. Returns when it has ended.
    pub async fn leave_stream(&self, pipeline: &str) {
        let reading = self.inside().under_way.get(pipeline).filter(|replay| replay.reads_stream).cloned();
        if let Some(UnderWay { stop, ended, .. }) = reading {
            stop.cancel();
            ended.cancelled().await;
        }
    }

    fn enter(&self, ask: &Ask, stop: &CancellationToken) -> Option<Entered> {
        let mut inside = self.inside();
        if self.stop.is_cancelled() || inside.under_way.contains_key(&ask.pipeline) {
            return None;
        }
        let reads_stream = matches!(ask.what, What::Records(_));
        let under_way = UnderWay { reads_stream, stop: stop.clone(), ended: CancellationToken::new() };
        inside.under_way.insert(ask.pipeline.clone(), under_way);
        let is_first = inside.known.insert(ask.pipeline.clone());
        Some(Entered { replaying: self.clone(), name: ask.pipeline.clone(), is_first, _task: self.tasks.token() })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A replay that is under way for as long as this lives.
struct Entered {
    replaying: Replaying,
    name: String,
    is_first: bool,
    /// Who stops waits for it, from before the task begins on.
    _task: TaskTrackerToken,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(replay) = self.replaying.inside().under_way.remove(&self.name) {
            replay.ended.cancel();
        }
    }
}

/// How sinks are opened: with the options of this one, but for the URL.
pub fn opener(options: sink::Options, ground: &Ground) -> super::OpenSink {
    let random = ground.random.clone();
    Box::new(move |url| {
        let options = sink::Options { url: url.to_owned(), ..options.clone() };
        off_async(|| ObjectSink::open(&options, random.clone()))
    })
}

/// Replays without a daemon: takes the lock of the state folder, and gives it back at the end.
pub async fn alone(settings: &Settings, spec: PipelineSpec, ask: &Ask, saying: &Saying, stop: CancellationToken) {
    if let Err(fault) = try_alone(settings, spec, ask, saying, stop).await {
        let config = fault.blame == Blame::Config;
        say(saying, Said::Failed { message: format!("{:#}", fault.error), config });
    }
}

async fn try_alone(
    settings: &Settings,
    spec: PipelineSpec,
    ask: &Ask,
    saying: &Saying,
    stop: CancellationToken,
) -> Result<(), Fault> {
    let dir = kept::folder(settings, &spec.name);
    if !dir.is_dir() {
        let state = settings.state.display();
        let message = format!("state folder {state}: pipeline {} has never run on it", spec.name);
        return Err(Fault::new(Blame::Config, format!("{message}\nhint: name the folder of its daemon with --state")));
    }
    let _lock = StateLock::take(&settings.state)?;
    let ground = Ground::real();
    let stream = match (&ask.what, spec.stream()) {
        (What::Records(_), Some(wanted)) => Some(open_stream(settings, &ground, wanted).await?),
        _ => None,
    };
    let format = off_async(|| spec.format.open(&ground.disk, &dir.join("schema"), &spec.name))?;
    let recipe = Recipe {
        pipeline: spec.name.clone(),
        format,
        prefix: spec.prefix,
        error_prefix: spec.error_prefix,
        sink: spec.sink.url.clone(),
        limits: spec.limits,
    };
    let kit = Kit {
        budget: Budget::new(usize::try_from(settings.memory_budget_bytes).unwrap_or(usize::MAX)),
        metrics: Metrics::new(),
        state: settings.state.clone(),
        recipe: Arc::new(recipe),
        transforms: spec.transforms,
        open_sink: opener(spec.sink, &ground),
        stream: stream.clone(),
        lent: None,
        // Its pipelines are not here to say what they need.
        stream_is_read: false,
        sweeps: true,
        stop,
        ground,
    };
    kit.run(ask, saying).await;
    if let Some(stream) = stream {
        stream.stop().await;
    }
    Ok(())
}

async fn open_stream(settings: &Settings, ground: &Ground, wanted: &StreamSpec) -> Result<Stream, Fault> {
    let dir = settings.state.join("streams").join(&wanted.name);
    let shard = spool::shard_of(ground, &dir)?;
    let Some(shard) = shard else {
        let message = format!("stream {}: there is none in {}", wanted.name, settings.state.display());
        return Err(Fault::new(Blame::Config, message));
    };
    let known_durable = off_async(|| known_durable(ground, settings, &shard))?;
    let options = streams::spool_options(settings, wanted, FREE_BYTES_MIN, known_durable);
    Stream::open(ground, &dir, &wanted.name, &options).await
}

/// The highest position of a shard in any checkpoint or outbox: all below was durable.
fn known_durable(ground: &Ground, settings: &Settings, shard: &Shard) -> Result<u64, Fault> {
    let mut highest = 0;
    for name in kept::names(settings).map_err(Fault::disk)? {
        let left = Left::look(ground, &kept::folder(settings, &name))?;
        highest = highest.max(left.positions.get(shard).and_then(|at| at.as_u64()).unwrap_or(0));
    }
    Ok(highest)
}
