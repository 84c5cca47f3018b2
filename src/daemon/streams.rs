//! The streams that pipelines read, and the doors through which producers reach them.
//!
//! ```text
//!  want(pipeline) -> bind, open, hold for the absent, claim, register -> door open
//!  unwant         -> nobody wants it: door closed, appends under way answered: what is durable now is all that is owed
//!  leave          -> drained: mark, forget; nobody claims it: stopped, closed
//! ```
//! A stream is open while a pipeline claims it, wanted or draining. The port is bound when the first stream is to be
//! reached by it, and stays. One lock orders all changes; it is never held while a pipeline is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::mark_drained;
use crate::config::{FedBy, PipelineSpec, Settings, SourceSpec, StreamSpec};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::position::{Position, Shard};
use crate::receive::{self, Door, Doors};
use crate::spool::{self, Limits, Stream};
use crate::status::view::{DoorsView, LeftView};

use super::kept::{self, Left};
use super::{House, bind};

/// Bytes of one spool segment.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Free bytes that producers never get, beside room for one chunk of each pipeline.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// All open streams.
pub struct Streams {
    house: House,
    settings: Arc<Settings>,
    doors: Arc<Doors>,
    faults: mpsc::UnboundedSender<Fault>,
    stop: CancellationToken,
    inside: tokio::sync::Mutex<Inside>,
    /// What was left by pipelines that are not at work.
    looked: Mutex<Option<Arc<BTreeMap<String, Left>>>>,
    /// The open streams by name, for who looks.
    shown: Mutex<BTreeMap<String, Stream>>,
}

#[derive(Default)]
struct Inside {
    open: BTreeMap<String, Open>,
    serving: JoinSet<()>,
    is_bound: bool,
    /// Whether something has changed that doors and limits do not show yet.
    is_unsettled: bool,
    /// By pipeline: bytes of a chunk, which must find room on the disk.
    chunks: BTreeMap<String, u64>,
}

struct Open {
    stream: Stream,
    watching: AbortHandle,
    since_ms: i64,
    /// By pipeline.
    claims: BTreeMap<String, Claim>,
}

struct Claim {
    /// Whether producers may push for it; else it reads what is there to the end.
    wanted: bool,
    spec: PipelineSpec,
    stream: StreamSpec,
}

impl Streams {
    /// None is open. Faults of their disks, which end the process, go to `faults`; `stop` closes the port.
    pub fn new(
        house: &House,
        settings: &Arc<Settings>,
        faults: mpsc::UnboundedSender<Fault>,
        stop: CancellationToken,
    ) -> Streams {
        Streams {
            doors: Arc::new(Doors::new(&house.ground, house.budget.requests(), settings.doors())),
            house: house.clone(),
            settings: settings.clone(),
            faults,
            stop,
            inside: tokio::sync::Mutex::default(),
            looked: Mutex::default(),
            shown: Mutex::default(),
        }
    }

    /// A pipeline is to run: its stream is open when this returns, and keeps its records for it; [`Streams::settle`] opens
    /// the door. `present`: the names of all pipelines that have a file. Doing it twice is doing it once.
    pub async fn want(&self, spec: &PipelineSpec, present: &BTreeSet<String>) -> Result<Option<Stream>, Fault> {
        let mut inside = self.inside.lock().await;
        let stream = match &spec.source {
            SourceSpec::Demo(_) | SourceSpec::File(_) => None,
            SourceSpec::Stream(wanted) => Some(self.claim(&mut inside, spec, wanted, present).await?),
        };
        let before = inside.chunks.insert(spec.name.clone(), spec.limits.size_bytes);
        inside.is_unsettled |= before != Some(spec.limits.size_bytes);
        Ok(stream)
    }

    /// Brings doors and limits in line with what is wanted.
    pub async fn settle(&self) {
        self.settle_all(&mut *self.inside.lock().await).await;
    }

    async fn claim(
        &self,
        inside: &mut Inside,
        spec: &PipelineSpec,
        wanted: &StreamSpec,
        present: &BTreeSet<String>,
    ) -> Result<Stream, Fault> {
        if wanted.fed_by != FedBy::Stdin && !inside.is_bound {
            let address = self.listen(inside).await?;
            tracing::info!(%address, "receiving: the Firehose API, and POST /streams/{{stream}}/records");
        }
        if !inside.open.contains_key(&wanted.name) {
            let open = self.open(wanted, inside.free_bytes_min(), present).await?;
            inside.open.insert(wanted.name.clone(), open);
        }
        let Some(open) = inside.open.get_mut(&wanted.name) else {
            return Err(Fault::new(Blame::Bug, format!("stream {} is not open", wanted.name)));
        };
        let about = |spec: &PipelineSpec| spec.about(open.since_ms);
        let is_same = |claim: &Claim| claim.wanted && claim.stream == *wanted && about(&claim.spec) == about(spec);
        if !open.claims.get(&spec.name).is_some_and(is_same) {
            let claim = Claim { wanted: true, spec: spec.clone(), stream: wanted.clone() };
            open.claims.insert(spec.name.clone(), claim);
            inside.is_unsettled = true;
        }
        // Registered from now on: before anybody releases what it has not read.
        drop(open.stream.source(&spec.name));
        Ok(open.stream.clone())
    }

    async fn listen(&self, inside: &mut Inside) -> Result<SocketAddr, Fault> {
        let settings = &self.settings;
        receive::check_exposure(settings.listen, &settings.auth(), settings.anonymous)
            .map_err(|problem| Fault::new(Blame::Config, problem))?;
        let listener: TcpListener = bind(settings.listen, "--listen").await?;
        let address = listener.local_addr().unwrap_or(settings.listen);
        let _ = self.house.doors.set(DoorsView::new(address, !settings.credentials.is_empty()));
        inside.serving.spawn(receive::serve(listener, self.doors.clone(), self.stop.clone()));
        inside.is_bound = true;
        Ok(address)
    }

    async fn open(&self, wanted: &StreamSpec, free_bytes_min: u64, present: &BTreeSet<String>) -> Result<Open, Fault> {
        let dir = self.dir(&wanted.name);
        let left = off_async(|| self.look())?;
        let shard = spool::shard_of(&self.house.ground, &dir)?;
        let at = |left: &Left| shard.as_ref().and_then(|shard| left.positions.get(shard)?.as_u64());
        let options = spool::Options {
            segment_bytes: SEGMENT_BYTES,
            spool_bytes_max: wanted.spool_bytes_max,
            free_bytes_min,
            once_window_ms: once_window_ms(wanted),
            known_durable: left.values().filter_map(at).max().unwrap_or(0),
            on_corruption: self.settings.on_corruption,
        };
        let stream = Stream::open(&self.house.ground, &dir, &wanted.name, &options).await?;
        let metrics = self.house.metrics.stream(&wanted.name);
        stream.on_sync(move |took| metrics.synced(took));
        for (name, left) in left.iter().filter(|(name, _)| !present.contains(*name)) {
            if let Some(position) = left.needs(stream.shard()) {
                // Registered and at its place, without a trim: those who are to come first are not registered yet.
                stream.hold(name, position.as_u64().unwrap_or(0));
                let hint = format!("remove {} to let them go", kept::folder(&self.settings, name).display());
                let stream = stream.name();
                tracing::warn!(pipeline = name, stream, hint, "not configured now: its undelivered records are kept");
            }
        }
        let (faults, failing) = (self.faults.clone(), stream.clone());
        let watching = tokio::spawn(async move {
            let _ = faults.send(failing.failed().await);
        });
        let (watching, since_ms) = (watching.abort_handle(), self.house.ground.clock.now_ms());
        Ok(Open { stream, watching, since_ms, claims: BTreeMap::new() })
    }

    /// What all pipelines have left that are not at work; looked at once, until one of them begins or ends.
    fn look(&self) -> Result<Arc<BTreeMap<String, Left>>, Fault> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = &*looked {
            return Ok(left.clone());
        }
        let at_work = self.house.at_work();
        let mut all = BTreeMap::new();
        for name in kept::names(&self.settings).map_err(Fault::disk)? {
            if !at_work.contains(&name) {
                let left = Left::look(&self.house.ground, &kept::folder(&self.settings, &name));
                let left = left.map_err(|fault| fault.context(format!("pipeline {name}")))?;
                all.insert(name, left);
            }
        }
        Ok(looked.insert(Arc::new(all)).clone())
    }

    /// A pipeline begins or ends its work: what has been looked at is not what is.
    pub fn look_again(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What pipelines have left that have no file. Blocking.
    pub fn left(&self, present: &BTreeSet<String>) -> Vec<LeftView> {
        let left = match self.look() {
            Ok(left) => left,
            Err(fault) => {
                tracing::warn!(
                    error = format!("{:#}", fault.error),
                    "what pipelines without a file have left is not known"
                );
                return Vec::new();
            }
        };
        let absent: Vec<_> = left.iter().filter(|(name, _)| !present.contains(*name)).collect();
        let mut shards = Vec::new();
        if !absent.is_empty() {
            for entry in std::fs::read_dir(self.settings.state.join("streams")).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if let Ok(Some(shard)) = spool::shard_of(&self.house.ground, &entry.path()) {
                    shards.push((name, shard));
                }
            }
        }
        let view = |(name, left): (&String, &Left)| LeftView {
            name: name.clone(),
            folder: kept::folder(&self.settings, name).display().to_string(),
            promised: left.promised,
            drained: left.drained,
            holds: shards
                .iter()
                .filter(|(_, shard)| left.needs(shard).is_some())
                .map(|(name, _)| name.clone())
                .collect(),
        };
        absent.into_iter().map(view).collect()
    }

    /// A pipeline is to read no stream any more but `next`, if that: producers push for it into no other. When this
    /// returns, all that was ever acknowledged for it lies before the durable end, if nobody else wants the stream.
    pub async fn unwant(&self, pipeline: &str, next: Option<&str>) {
        let mut inside = self.inside.lock().await;
        let inside = &mut *inside;
        let claims = inside.open.iter_mut().filter(|(name, _)| Some(name.as_str()) != next);
        for claim in claims.filter_map(|(_, open)| open.claims.get_mut(pipeline)) {
            inside.is_unsettled |= std::mem::replace(&mut claim.wanted, false);
        }
        self.settle_all(inside).await;
    }

    /// A pipeline has read a stream for the last time; `drained`: all of it is delivered up to here, so that nothing is
    /// kept for it any more. Changes nothing, and says so, if the stream is wanted for it again.
    pub async fn leave(&self, pipeline: &str, name: &str, drained: Option<&Position>) -> Result<bool, Fault> {
        let mut inside = self.inside.lock().await;
        let Some(open) = inside.open.get_mut(name) else { return Ok(true) };
        if open.claims.get(pipeline).is_some_and(|claim| claim.wanted) {
            return Ok(false);
        }
        if let Some(position) = drained {
            let shards = BTreeMap::from([(open.stream.shard().clone(), position.clone())]);
            self.mark(pipeline, &shards)?;
            open.stream.forget(pipeline)?;
        }
        open.claims.remove(pipeline);
        inside.is_unsettled = true;
        self.settle_all(&mut inside).await;
        Ok(true)
    }

    /// Marks a pipeline as drained of these shards.
    pub fn mark(&self, pipeline: &str, shards: &BTreeMap<Shard, Position>) -> Result<(), Fault> {
        let dir = kept::folder(&self.settings, pipeline);
        off_async(|| mark_drained(&*self.house.ground.disk, &dir, shards))
    }

    /// A pipeline is gone: its chunks need no room any more.
    pub async fn gone(&self, pipeline: &str) {
        let mut inside = self.inside.lock().await;
        inside.is_unsettled |= inside.chunks.remove(pipeline).is_some();
        self.settle_all(&mut inside).await;
    }

    /// Brings gates, doors and limits in line with what is claimed, and closes what nobody claims.
    async fn settle_all(&self, inside: &mut Inside) {
        if !std::mem::take(&mut inside.is_unsettled) {
            return;
        }
        let free_bytes_min = inside.free_bytes_min();
        let mut doors = BTreeMap::new();
        for (name, open) in &inside.open {
            let mut wanted = open.claims.values().filter(|claim| claim.wanted);
            let Some(Claim { spec, stream, .. }) = wanted.next() else { continue };
            open.stream.reopen().await;
            open.stream.set_limits(Limits {
                spool_bytes_max: stream.spool_bytes_max,
                free_bytes_min,
                once_window_ms: once_window_ms(stream),
            });
            if stream.fed_by != FedBy::Stdin {
                let door = Door { stream: open.stream.clone(), about: spec.about(open.since_ms) };
                doors.insert(name.clone(), door);
            }
        }
        self.doors.set_streams(doors);
        for open in inside.open.values().filter(|open| !open.claims.values().any(|claim| claim.wanted)) {
            open.stream.close().await;
        }
        let unclaimed: Vec<String> =
            inside.open.iter().filter(|(_, open)| open.claims.is_empty()).map(|(name, _)| name.clone()).collect();
        for name in unclaimed {
            if let Some(open) = inside.open.remove(&name) {
                open.stream.stop().await;
                open.watching.abort();
                self.house.metrics.forget_stream(&name);
                tracing::info!(stream = name, "closed: no pipeline reads it");
            }
        }
        *self.shown_mut() = inside.open.iter().map(|(name, open)| (name.clone(), open.stream.clone())).collect();
    }

    /// The open streams.
    pub fn shown(&self) -> Vec<Stream> {
        self.shown_mut().values().cloned().collect()
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<Stream> {
        self.shown_mut().get(name).cloned()
    }

    fn shown_mut(&self) -> MutexGuard<'_, BTreeMap<String, Stream>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.settings.state.join("streams").join(name)
    }

    /// Waits until the port is served no more, after `stop`.
    pub async fn served(&self) {
        let mut inside = self.inside.lock().await;
        while inside.serving.join_next().await.is_some() {}
    }

    /// Finishes the group commits under way; nothing is appended after it.
    pub async fn stop(&self) {
        let streams = self.shown();
        futures::future::join_all(streams.iter().map(Stream::stop)).await;
    }
}

impl Inside {
    fn free_bytes_min(&self) -> u64 {
        FREE_BYTES_MIN + self.chunks.values().sum::<u64>()
    }
}

fn once_window_ms(stream: &StreamSpec) -> u64 {
    u64::try_from(stream.once_window.as_millis()).unwrap_or(u64::MAX)
}
