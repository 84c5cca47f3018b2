//! From what was configured to stations that run: promises and checkpoints first, then the streams they read, then
//! ways and doors.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::checkpoint::Checkpoint;
use crate::chunk::Recipe;
use crate::config::{Drawn, FedBy, PipelineSpec, Settings, SourceSpec, StreamSpec};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::metrics::Progress;
use crate::outbox::Outbox;
use crate::pipeline::{OutboxRoom, Promised, Transforms, Way};
use crate::position::{Position, Shard};
use crate::receive::{Door, Doors};
use crate::sink::ObjectSink;
use crate::source::Source;
use crate::source::demo::DemoSource;
use crate::source::file::FileSource;
use crate::spool::{self, Stream};

use super::House;

/// Bytes that may wait in the outbox of one pipeline, at the least; four times its buffer if that is more.
const OUTBOX_BYTES_MAX: u64 = 2 << 30;
/// Bytes of one spool segment.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Free bytes that producers never get, beside room for one chunk of each pipeline.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// The stations, not yet running.
pub struct Built {
    pub ways: Vec<(Arc<Way>, Shown)>,
    pub streams: Vec<Stream>,
    /// If there is a stream for producers to push to.
    pub doors: Option<Arc<Doors>>,
    /// The streams that standard input feeds: one at the most.
    pub stdin: Option<Stream>,
}

/// What is told of a pipeline beside what it does.
#[derive(Clone)]
pub struct Shown {
    pub file: String,
    pub drawn: Drawn,
    pub stream: Option<String>,
    pub spec: PipelineSpec,
}

/// What a pipeline left on the disk.
struct Kept {
    outbox: Outbox,
    checkpoint: Checkpoint<Promised>,
    /// The URLs that promises were made to.
    sinks: Vec<String>,
    /// By shard, up to where records were read into promises.
    promised: BTreeMap<Shard, Position>,
}

/// Opens everything. Blocking work of the start: no request is answered yet.
pub async fn build(house: &House, settings: &Settings, specs: Vec<PipelineSpec>) -> Result<Built, Fault> {
    let mut kept = BTreeMap::new();
    for spec in &specs {
        let dir = settings.state.join("pipelines").join(&spec.name);
        let found =
            off_async(|| open_kept(house, &dir)).map_err(|fault| fault.context(format!("pipeline {}", spec.name)))?;
        kept.insert(spec.name.clone(), found);
    }
    let free_bytes_min = FREE_BYTES_MIN + specs.iter().map(|spec| spec.limits.size_bytes).sum::<u64>();
    let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
    let mut doors = BTreeMap::new();
    let mut stdin = None;
    for spec in &specs {
        let SourceSpec::Stream(wanted) = &spec.source else { continue };
        if streams.contains_key(&wanted.name) {
            continue;
        }
        let stream = open_stream(house, settings, wanted, free_bytes_min, &kept).await?;
        match wanted.fed_by {
            FedBy::Stdin => stdin = Some(stream.clone()),
            FedBy::Firehose | FedBy::Http => {
                let door = Door { stream: stream.clone(), about: spec.about(house.ground.clock.now_ms()) };
                doors.insert(wanted.name.clone(), door);
            }
        }
        streams.insert(wanted.name.clone(), stream);
    }
    let present = specs.iter().map(|spec| spec.name.clone()).collect();
    let mut ways = Vec::with_capacity(specs.len());
    for spec in specs {
        let name = spec.name.clone();
        let Some(kept) = kept.remove(&name) else { continue };
        let stream = match &spec.source {
            SourceSpec::Stream(stream) => Some(stream.name.clone()),
            SourceSpec::Demo(_) | SourceSpec::File(_) => None,
        };
        let shown = Shown { file: spec.file.clone(), drawn: spec.drawn.clone(), stream, spec: spec.clone() };
        let way = way(house, settings, spec, kept, &streams).await;
        match way.map_err(|fault| fault.context(format!("pipeline {name}"))) {
            Ok(way) => ways.push((Arc::new(way), shown)),
            Err(fault) if fault.ends_process() || settings.once => return Err(fault),
            Err(fault) => {
                let error = format!("{:#}", fault.error);
                tracing::error!(
                    error,
                    "the pipeline does not run; what it has not delivered is kept for the next start"
                );
                house.ail(error);
            }
        }
    }
    hold_for_the_absent(house, settings, &streams, &present).await?;
    let doors = (!doors.is_empty()).then(|| {
        let opened = Doors::new(&house.ground, house.budget.requests(), settings.doors());
        opened.set_streams(doors);
        Arc::new(opened)
    });
    Ok(Built { ways, streams: streams.into_values().collect(), doors, stdin })
}

fn open_kept(house: &House, dir: &Path) -> Result<Kept, Fault> {
    let checkpoint = Checkpoint::open(&house.ground, dir)?;
    let outbox = Outbox::open(&house.ground, &dir.join("outbox"))?;
    let mut promised = checkpoint.all();
    let mut sinks = Vec::new();
    for sealed in outbox.pending()?.into_values().flatten() {
        let end = promised.entry(sealed.range().shard.clone()).or_insert_with(|| sealed.range().end.clone());
        *end = sealed.range().end.clone().max(end.clone());
        sinks.push(sealed.sink().to_owned());
    }
    sinks.sort();
    sinks.dedup();
    Ok(Kept { outbox, checkpoint, sinks, promised })
}

async fn open_stream(
    house: &House,
    settings: &Settings,
    wanted: &StreamSpec,
    free_bytes_min: u64,
    kept: &BTreeMap<String, Kept>,
) -> Result<Stream, Fault> {
    let dir = settings.state.join("streams").join(&wanted.name);
    let shard = spool::shard_of(&house.ground, &dir)?;
    let positions = kept.values().filter_map(|kept| kept.promised.get(shard.as_ref()?)?.as_u64());
    let options = spool::Options {
        segment_bytes: SEGMENT_BYTES,
        spool_bytes_max: wanted.spool_bytes_max,
        free_bytes_min,
        once_window_ms: u64::try_from(wanted.once_window.as_millis()).unwrap_or(u64::MAX),
        known_durable: positions.max().unwrap_or(0),
        on_corruption: settings.on_corruption,
    };
    let stream = Stream::open(&house.ground, &dir, &wanted.name, &options).await?;
    let metrics = house.metrics.stream(&wanted.name);
    stream.on_sync(move |took| metrics.synced(took));
    Ok(stream)
}

async fn way(
    house: &House,
    settings: &Settings,
    spec: PipelineSpec,
    kept: Kept,
    streams: &BTreeMap<String, Stream>,
) -> Result<Way, Fault> {
    let House { ground, budget, metrics, .. } = house.clone();
    let dir = settings.state.join("pipelines").join(&spec.name);
    let source: Box<dyn Source> = match &spec.source {
        SourceSpec::Demo(options) => {
            Box::new(off_async(|| DemoSource::open(&ground, &dir.join("demo"), options, settings.once))?)
        }
        SourceSpec::File(options) => {
            Box::new(off_async(|| FileSource::open(&ground, &dir.join("files"), options, settings.once))?)
        }
        SourceSpec::Stream(wanted) => match streams.get(&wanted.name) {
            Some(stream) => Box::new(stream.source(&spec.name)),
            None => return Err(Fault::new(Blame::Bug, format!("stream {} was not opened", wanted.name))),
        },
    };
    let mut sinks = BTreeMap::new();
    for url in std::iter::once(&spec.sink.url).chain(&kept.sinks) {
        let options = crate::sink::Options { url: url.clone(), ..spec.sink.clone() };
        let opened = off_async(|| ObjectSink::open(&options, ground.random.clone()));
        let sink = opened.map_err(|fault| match *url == spec.sink.url {
            true => fault,
            false => Fault { blame: Blame::Sink, ..fault }.context(format!(
                "objects were promised to {url}\nhint: put that sink and its options back until they are delivered"
            )),
        })?;
        sinks.insert(url.clone(), sink.within(&budget));
    }
    let format = off_async(|| spec.format.open(&ground.disk, &dir.join("schema"), &spec.name))?;
    let metrics = metrics.pipeline(&spec.name);
    let outbox_bytes_max = OUTBOX_BYTES_MAX.max(spec.limits.size_bytes.saturating_mul(4));
    let recipe = Recipe {
        pipeline: spec.name.clone(),
        format,
        prefix: spec.prefix,
        error_prefix: spec.error_prefix,
        sink: spec.sink.url,
        limits: spec.limits,
    };
    Ok(Way {
        transforms: Transforms::new(&spec.name, spec.transforms, &metrics),
        name: spec.name,
        source,
        recipe: Arc::new(recipe),
        outbox: kept.outbox,
        sinks,
        checkpoint: kept.checkpoint,
        room: OutboxRoom::new(outbox_bytes_max),
        ground,
        budget,
        progress: Progress::new(&metrics),
        metrics,
    })
}

/// Pipelines that have run on this state folder and are not configured now: what they have not delivered of an open stream
/// is held for them, and said.
async fn hold_for_the_absent(
    house: &House,
    settings: &Settings,
    streams: &BTreeMap<String, Stream>,
    present: &BTreeSet<String>,
) -> Result<(), Fault> {
    let folder = settings.state.join("pipelines");
    let absent = off_async(|| folders_of(&folder)).map_err(Fault::disk)?;
    for name in absent.difference(present) {
        let dir = folder.join(name);
        let kept = off_async(|| open_kept(house, &dir)).map_err(|fault| fault.context(format!("pipeline {name}")))?;
        if !kept.sinks.is_empty() {
            tracing::warn!(pipeline = name, "not configured now: objects that it promised wait in its outbox");
        }
        for stream in streams.values() {
            if let Some(position) = kept.promised.get(stream.shard()) {
                stream.source(name).release(stream.shard(), position).await?;
                let (stream, hint) = (stream.name(), format!("remove {} to let them go", dir.display()));
                tracing::warn!(pipeline = name, stream, hint, "not configured now: its undelivered records are kept");
            }
        }
    }
    Ok(())
}

fn folders_of(folder: &Path) -> io::Result<BTreeSet<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The fault of the first stream whose disk fails; pends for ever while all is well.
pub async fn first_failure(streams: &[Stream]) -> Fault {
    let mut failures: FuturesUnordered<_> = streams.iter().map(|stream| stream.failed()).collect();
    match failures.next().await {
        Some(fault) => fault,
        None => std::future::pending().await,
    }
}
