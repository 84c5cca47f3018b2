//! The streams that pipelines read, and the doors through which producers reach them.
//!
//! ```text
//!  want(pipeline) -> bind, open, hold for the absent, claim, register -> settle: door open
//!  unwant         -> nobody wants it: door closed, appends under way answered: what is durable now is all that is owed
//!  leave          -> drained: mark, forget; nobody claims it: stopped, closed
//! ```
//! A stream is open while a pipeline claims it, wanted or draining, and while it is lent. The port is bound before the first
//! stream is opened that is to be reached by it, so that an address in use is known early; it is served once doors are
//! there, as a producer that is told of no such stream may give up. One lock orders all changes; it is never held while a
//! pipeline is waited for.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::mark_drained;
use crate::config::{FedBy, PipelineSpec, Settings, StreamSpec};
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
pub const FREE_BYTES_MIN: u64 = 64 << 20;
/// Streams that are opened at the same time.
const OPENED_AT_ONCE: usize = 16;

/// All open streams.
pub struct Streams {
    house: House,
    settings: Arc<Settings>,
    doors: Arc<Doors>,
    faults: mpsc::UnboundedSender<Fault>,
    stop: CancellationToken,
    inside: tokio::sync::Mutex<Inside>,
    /// What was left by pipelines that are not at work.
    looked: Mutex<Arc<BTreeMap<String, Left>>>,
    /// The open streams by name, for who looks.
    shown: Mutex<BTreeMap<String, (Stream, Lent)>>,
}

/// Keeps a stream open for as long as it lives.
pub type Lent = Arc<()>;

#[derive(Default)]
struct Inside {
    open: BTreeMap<String, Open>,
    serving: JoinSet<()>,
    port: Port,
    /// Whether something has changed that doors and limits do not show yet.
    is_unsettled: bool,
    /// By pipeline: bytes of a chunk, which must find room on the disk.
    chunks: BTreeMap<String, u64>,
    /// By pipeline: the last goal for which it was said what it is to read.
    told: BTreeMap<String, u64>,
}

/// Whom producers may push for.
#[derive(Clone, Copy)]
enum PushedFor {
    All,
    /// Who has no later goal than this.
    Goal(u64),
    Nobody,
}

/// The port of the doors.
#[derive(Default)]
enum Port {
    #[default]
    Free,
    /// Callers wait in the backlog.
    Bound(TcpListener),
    Served,
}

struct Open {
    stream: Stream,
    lent: Lent,
    watching: AbortHandle,
    since_ms: i64,
    /// By pipeline.
    claims: BTreeMap<String, Claim>,
}

struct Claim {
    /// Whether producers may push for it; else it reads what is there to the end.
    wanted: bool,
    /// Whether it has begun to read.
    is_read: bool,
    /// Whether records were kept for it before.
    was_held: bool,
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

    /// These pipelines are to run: their streams are open when this returns, and keep their records for them;
    /// [`Streams::settle`] opens the doors. `present`: the names of all pipelines that have a file. Doing it twice is doing
    /// it once.
    pub async fn want(&self, specs: &[&PipelineSpec], present: &BTreeSet<String>) -> Vec<Result<(), Fault>> {
        let wanted = self.want_all(specs, PushedFor::All, present).await;
        wanted.into_iter().map(|wanted| wanted.map(|_| ())).collect()
    }

    /// The same for one pipeline as it starts: the stream that it reads. Producers push for it if it works towards goal
    /// `order` and was told no later one since; without one it only finishes what is owed.
    pub async fn want_to_read(
        &self,
        order: Option<u64>,
        spec: &PipelineSpec,
        present: impl Fn() -> BTreeSet<String>,
    ) -> Result<Option<Stream>, Fault> {
        let Some(stream) = spec.stream() else { return Ok(None) };
        let present = if self.get(&stream.name).is_some() { BTreeSet::new() } else { present() };
        let pushed_for = order.map_or(PushedFor::Nobody, PushedFor::Goal);
        let missing = || Err(Fault::new(Blame::Bug, format!("pipeline {}: not answered", spec.name)));
        self.want_all(&[spec], pushed_for, &present).await.pop().unwrap_or_else(missing)
    }

    async fn want_all(
        &self,
        specs: &[&PipelineSpec],
        pushed_for: PushedFor,
        present: &BTreeSet<String>,
    ) -> Vec<Result<Option<Stream>, Fault>> {
        let mut inside = self.inside.lock().await;
        let inside = &mut *inside;
        let mut failed: BTreeMap<&str, (Blame, String)> = BTreeMap::new();
        let mut readers: BTreeMap<&str, (&StreamSpec, BTreeSet<&str>)> = BTreeMap::new();
        for (spec, wanted) in specs.iter().filter_map(|spec| Some((spec, spec.stream()?))) {
            if wanted.fed_by != FedBy::Stdin
                && let Err(fault) = self.listen(inside).await
            {
                failed.insert(&wanted.name, (fault.blame, format!("{:#}", fault.error)));
            } else if !inside.open.contains_key(&wanted.name) {
                readers.entry(&wanted.name).or_insert_with(|| (wanted, BTreeSet::new())).1.insert(&spec.name);
            }
        }
        let free_bytes_min = inside.free_bytes_min();
        let mut opening: Vec<BoxFuture<'_, (&str, Result<Open, Fault>)>> = Vec::with_capacity(readers.len());
        for (name, (wanted, readers)) in readers {
            let opened = async move { (name, self.open(wanted, free_bytes_min, &readers, present).await) };
            opening.push(Box::pin(opened));
        }
        let mut opening = futures::stream::iter(opening).buffer_unordered(OPENED_AT_ONCE);
        while let Some((name, opened)) = opening.next().await {
            match opened {
                Ok(open) => _ = inside.open.insert(name.to_owned(), open),
                Err(fault) => _ = failed.insert(name, (fault.blame, format!("{:#}", fault.error))),
            }
        }
        let mut answers = Vec::with_capacity(specs.len());
        for spec in specs {
            let claimed = match spec.stream() {
                None => Ok(None),
                Some(wanted) => match failed.get(wanted.name.as_str()) {
                    Some((blame, error)) => Err(Fault::new(*blame, error.clone())),
                    None => inside.claim(spec, wanted, pushed_for).map(Some),
                },
            };
            if claimed.is_ok() {
                let before = inside.chunks.insert(spec.name.clone(), spec.limits.size_bytes);
                inside.is_unsettled |= before != Some(spec.limits.size_bytes);
            }
            answers.push(claimed);
        }
        answers
    }

    /// Brings doors and limits in line with what is wanted.
    pub async fn settle(&self) {
        self.settle_all(&mut *self.inside.lock().await).await;
    }

    async fn listen(&self, inside: &mut Inside) -> Result<(), Fault> {
        if !matches!(inside.port, Port::Free) {
            return Ok(());
        }
        let settings = &self.settings;
        receive::check_exposure(settings.listen, &settings.auth(), settings.anonymous)
            .map_err(|problem| Fault::new(Blame::Config, problem))?;
        inside.port = Port::Bound(bind(settings.listen, "--listen").await?);
        Ok(())
    }

    /// Serves the port from now on, if it is bound.
    fn serve(&self, inside: &mut Inside) {
        match std::mem::replace(&mut inside.port, Port::Served) {
            Port::Bound(listener) => {
                let address = listener.local_addr().unwrap_or(self.settings.listen);
                let _ = self.house.doors.set(DoorsView::new(address, !self.settings.credentials.is_empty()));
                inside.serving.spawn(receive::serve(listener, self.doors.clone(), self.stop.clone()));
                tracing::info!(%address, "receiving: the Firehose API, and POST /streams/{{stream}}/records");
            }
            other => inside.port = other,
        }
    }

    /// Opens a stream that `readers` are to read.
    async fn open(
        &self,
        wanted: &StreamSpec,
        free_bytes_min: u64,
        readers: &BTreeSet<&str>,
        present: &BTreeSet<String>,
    ) -> Result<Open, Fault> {
        let dir = self.dir(&wanted.name);
        let left = off_async(|| self.look())?;
        let shard = spool::shard_of(&self.house.ground, &dir)?;
        let at = |left: &Left| shard.as_ref().and_then(|shard| left.positions.get(shard)?.as_u64());
        let known_durable = left.values().filter_map(at).max().unwrap_or(0);
        let options = spool_options(&self.settings, wanted, free_bytes_min, known_durable);
        let stream = Stream::open(&self.house.ground, &dir, &wanted.name, &options).await?;
        let metrics = self.house.metrics.stream(&wanted.name);
        stream.on_sync(move |took| metrics.synced(took));
        for (name, left) in left.iter().filter(|(name, _)| !readers.contains(name.as_str())) {
            if let Some(position) = left.needs(stream.shard()) {
                self.hold(&stream, name, position, present.contains(name))?;
            }
        }
        let (faults, failing) = (self.faults.clone(), stream.clone());
        let watching = tokio::spawn(async move {
            let _ = faults.send(failing.failed().await);
        });
        let (watching, since_ms) = (watching.abort_handle(), self.house.ground.clock.now_ms());
        Ok(Open { stream, lent: Lent::default(), watching, since_ms, claims: BTreeMap::new() })
    }

    /// Keeps the records of a stream from `position` on for a pipeline that does not read it now.
    fn hold(&self, stream: &Stream, pipeline: &str, position: &Position, reads_another: bool) -> Result<(), Fault> {
        if reads_another && *position >= stream.stats().durable.into() {
            // Its file was changed while nobody ran, and all that came before that is delivered.
            self.look_again(pipeline);
            return self.mark(pipeline, &BTreeMap::from([(stream.shard().clone(), position.clone())]));
        }
        // Registered and at its place, without a trim: those who are to come first are not registered yet.
        stream.hold(pipeline, position.as_u64().unwrap_or(0));
        let (why, hint) = match reads_another {
            true => ("it reads another stream now", "let it read this one until they are delivered".to_owned()),
            false => {
                let folder = kept::folder(&self.settings, pipeline);
                ("not configured now", format!("remove {} to let them go", folder.display()))
            }
        };
        let stream = stream.name();
        tracing::warn!(pipeline, stream, hint, "{why}: its undelivered records are kept");
        Ok(())
    }

    /// What all pipelines have left that are not at work; each is looked at once, until it begins or ends its work.
    fn look(&self) -> Result<Arc<BTreeMap<String, Left>>, Fault> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let at_work = self.house.at_work();
        let mut names = kept::names(&self.settings).map_err(Fault::disk)?;
        names.retain(|name| !at_work.contains(name));
        let all = Arc::make_mut(&mut looked);
        all.retain(|name, _| names.contains(name));
        for name in names {
            if let Entry::Vacant(unknown) = all.entry(name) {
                let left = Left::look(&self.house.ground, &kept::folder(&self.settings, unknown.key()));
                let left = left.map_err(|fault| fault.context(format!("pipeline {}", unknown.key())))?;
                unknown.insert(left);
            }
        }
        Ok(looked.clone())
    }

    /// A pipeline begins or ends its work: what has been looked at is not what is.
    pub fn look_again(&self, pipeline: &str) {
        Arc::make_mut(&mut *self.looked.lock().unwrap_or_else(PoisonError::into_inner)).remove(pipeline);
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

    /// For goal `order` a pipeline is to read no stream but `next`, if that: producers push for it into no other. When this
    /// returns, all that was ever acknowledged for it lies before the durable end, if nobody else wants the stream. It
    /// counts for nothing once a later goal was told.
    pub async fn unwant(&self, order: u64, pipeline: &str, next: Option<&str>) {
        let mut inside = self.inside.lock().await;
        let inside = &mut *inside;
        let told = inside.told.entry(pipeline.to_owned()).or_default();
        if *told > order {
            return;
        }
        *told = order;
        let claims = inside.open.iter_mut().filter(|(name, _)| Some(name.as_str()) != next);
        for claim in claims.filter_map(|(_, open)| open.claims.get_mut(pipeline)) {
            inside.is_unsettled |= std::mem::replace(&mut claim.wanted, false);
        }
        self.settle_all(inside).await;
    }

    /// A pipeline begins to read this stream. It reads no other now: what it was to read and has not, nor is to read any
    /// more, holds nothing for it.
    pub async fn reads(&self, pipeline: &str, stream: Option<&str>) -> Result<(), Fault> {
        let mut inside = self.inside.lock().await;
        let inside = &mut *inside;
        for (name, open) in &mut inside.open {
            let Some(claim) = open.claims.get_mut(pipeline) else { continue };
            if Some(name.as_str()) == stream {
                claim.is_read = true;
            } else if !claim.wanted && !claim.is_read {
                if !claim.was_held {
                    open.stream.forget(pipeline)?;
                }
                open.claims.remove(pipeline);
                inside.is_unsettled = true;
            }
        }
        self.settle_all(inside).await;
        Ok(())
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
        inside.told.remove(pipeline);
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
        let has_doors = !doors.is_empty();
        self.doors.set_streams(doors);
        if has_doors {
            self.serve(inside);
        }
        for open in inside.open.values().filter(|open| !open.claims.values().any(|claim| claim.wanted)) {
            open.stream.close().await;
        }
        for name in self.to_be_closed(inside) {
            if let Some(open) = inside.open.remove(&name) {
                open.stream.stop().await;
                open.watching.abort();
                self.house.metrics.forget_stream(&name);
                tracing::info!(stream = name, "closed: no pipeline reads it");
            }
        }
    }

    /// The streams that nobody claims and nobody has borrowed: they are shown no more. All others are.
    fn to_be_closed(&self, inside: &mut Inside) -> Vec<String> {
        let mut shown = self.shown_mut();
        let mut names = Vec::new();
        for (name, open) in &inside.open {
            let is_lent = Arc::strong_count(&open.lent) > 1 + usize::from(shown.contains_key(name));
            if !open.claims.is_empty() || is_lent {
                // Looked at again when it is given back.
                inside.is_unsettled |= open.claims.is_empty();
                shown.entry(name.clone()).or_insert_with(|| (open.stream.clone(), open.lent.clone()));
            } else {
                shown.remove(name);
                names.push(name.clone());
            }
        }
        names
    }

    /// The open streams.
    pub fn shown(&self) -> Vec<Stream> {
        self.shown_mut().values().map(|(stream, _)| stream.clone()).collect()
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<Stream> {
        self.shown_mut().get(name).map(|(stream, _)| stream.clone())
    }

    /// One of them, which stays open for as long as what comes with it lives.
    pub fn lend(&self, name: &str) -> Option<(Stream, Lent)> {
        self.shown_mut().get(name).cloned()
    }

    fn shown_mut(&self) -> MutexGuard<'_, BTreeMap<String, (Stream, Lent)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.settings.state.join("streams").join(name)
    }

    /// Waits until the port is served no more, after `stop`.
    pub async fn served(&self) {
        let mut serving = std::mem::take(&mut self.inside.lock().await.serving);
        while serving.join_next().await.is_some() {}
    }

    /// Finishes the group commits under way; nothing is appended after it.
    pub async fn stop(&self) {
        let streams = self.shown();
        futures::future::join_all(streams.iter().map(Stream::stop)).await;
    }
}

impl Inside {
    /// Notes that a pipeline reads an open stream, and whether producers push for it.
    fn claim(&mut self, spec: &PipelineSpec, wanted: &StreamSpec, pushed_for: PushedFor) -> Result<Stream, Fault> {
        let is_pushed_for = match pushed_for {
            PushedFor::All => true,
            PushedFor::Goal(order) => self.told.get(&spec.name).is_none_or(|told| *told <= order),
            PushedFor::Nobody => false,
        };
        let Some(open) = self.open.get_mut(&wanted.name) else {
            return Err(Fault::new(Blame::Bug, format!("stream {} is not open", wanted.name)));
        };
        let known = open.claims.get(&spec.name);
        let about = |spec: &PipelineSpec| spec.about(open.since_ms);
        let is_same = |claim: &Claim| claim.wanted && claim.stream == *wanted && about(&claim.spec) == about(spec);
        if known.is_none() || is_pushed_for && !known.is_some_and(is_same) {
            let claim = Claim {
                wanted: is_pushed_for,
                is_read: known.is_some_and(|known| known.is_read),
                was_held: known.map_or_else(|| open.stream.has_reader(&spec.name), |known| known.was_held),
                spec: spec.clone(),
                stream: wanted.clone(),
            };
            open.claims.insert(spec.name.clone(), claim);
            self.is_unsettled = true;
        }
        // Registered from now on: before anybody releases what it has not read.
        drop(open.stream.source(&spec.name));
        Ok(open.stream.clone())
    }

    fn free_bytes_min(&self) -> u64 {
        FREE_BYTES_MIN + self.chunks.values().sum::<u64>()
    }
}

/// How a stream's spool is opened; all records below `known_durable` are known to be durable.
pub fn spool_options(
    settings: &Settings,
    wanted: &StreamSpec,
    free_bytes_min: u64,
    known_durable: u64,
) -> spool::Options {
    spool::Options {
        segment_bytes: SEGMENT_BYTES,
        spool_bytes_max: wanted.spool_bytes_max,
        free_bytes_min,
        once_window_ms: once_window_ms(wanted),
        known_durable,
        on_corruption: settings.on_corruption,
    }
}

fn once_window_ms(stream: &StreamSpec) -> u64 {
    u64::try_from(stream.once_window.as_millis()).unwrap_or(u64::MAX)
}
