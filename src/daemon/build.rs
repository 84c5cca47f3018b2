//! From what was configured to a way that runs: what the pipeline has kept, its source, its sinks, its format.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{drained, unmark_drained};
use crate::chunk::Recipe;
use crate::config::{PipelineSpec, Settings, SourceSpec};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::metrics::Progress;
use crate::pipeline::{OutboxRoom, Transforms, Way, outbox_bytes_max};
use crate::sink::{self, ObjectSink};
use crate::source::Source;
use crate::source::demo::DemoSource;
use crate::source::file::FileSource;
use crate::source::kafka::KafkaSource;
use crate::spool::Stream;

use super::House;
use super::kept::{self, Kept};

/// The options of sinks that promises may have been made to, by URL.
pub type KnownSinks = BTreeMap<String, sink::Options>;

/// The source of a pipeline with state in `dir`; `stream` is the one that it reads, if it reads one. Blocking.
pub fn source(
    house: &House,
    settings: &Settings,
    spec: &PipelineSpec,
    dir: &Path,
    stream: Option<&Stream>,
) -> Result<Box<dyn Source>, Fault> {
    let (ground, once) = (&house.ground, settings.once);
    Ok(match (&spec.source, stream) {
        (SourceSpec::Demo(options), _) => Box::new(DemoSource::open(ground, &dir.join("demo"), options, once)?),
        (SourceSpec::File(options), _) => Box::new(FileSource::open(ground, &dir.join("files"), options, once)?),
        (SourceSpec::Kafka(options), _) => {
            let (of, metrics) =
                ((spec.name.as_str(), options.as_ref(), spec.limits.interval), house.metrics.pipeline(&spec.name));
            let sink = ObjectSink::open(&spec.sink, ground.random.clone())?;
            Box::new(KafkaSource::open(of, (&spec.sink.url, sink), ground, &house.budget, &metrics))
        }
        (SourceSpec::Stream(_), Some(stream)) => Box::new(stream.source(&spec.name)),
        (SourceSpec::Stream(wanted), None) => {
            return Err(Fault::new(Blame::Bug, format!("stream {} was not opened", wanted.name)));
        }
    })
}

/// A pipeline that was drained and is back reads on where it was, as far as the stream still holds that. Its records are
/// kept for it from before this on; the mark goes last, so that all of it is done again after a death in between.
pub fn come_back(house: &House, kept: &Kept, name: &str, stream: &Stream) -> Result<(), Fault> {
    let disk = &*house.ground.disk;
    let Some(at) = drained(disk, &kept.dir)?.and_then(|mark| mark.get(stream.shard())?.as_u64()) else { return Ok(()) };
    let oldest = stream.stats().oldest;
    if at < oldest {
        let (stream_name, records) = (stream.name(), oldest - at);
        tracing::warn!(
            pipeline = name,
            stream = stream_name,
            records,
            "back after it was drained: it goes on with the oldest record there is, those before it are gone"
        );
        kept.checkpoint.pass_over(stream.shard(), &oldest.into())?;
    }
    unmark_drained(disk, &kept.dir, stream.shard())
}

/// The way of `spec` over `source`, with what it has kept. `known` tells how older promises reach their sinks, which the
/// options of `spec` may not; it learns those of this one. Blocking.
pub fn way(
    house: &House,
    spec: &PipelineSpec,
    kept: Kept,
    source: Box<dyn Source>,
    known: &mut KnownSinks,
) -> Result<Way, Fault> {
    let House { ground, budget, metrics, .. } = house.clone();
    let spec = spec.clone();
    known.insert(spec.sink.url.clone(), spec.sink.clone());
    let mut sinks = BTreeMap::new();
    for url in std::iter::once(&spec.sink.url).chain(kept.sinks.iter().filter(|url| **url != spec.sink.url)) {
        let options =
            known.get(url).cloned().unwrap_or_else(|| sink::Options { url: url.clone(), ..spec.sink.clone() });
        let sink = ObjectSink::open(&options, ground.random.clone()).map_err(|fault| match *url == spec.sink.url {
            true => fault,
            false => Fault { blame: Blame::Sink, ..fault }.context(format!(
                "objects were promised to {url}\nhint: put that sink and its options back until they are delivered"
            )),
        })?;
        sinks.insert(url.clone(), sink.within(&budget));
    }
    // Whoever changes it often would have many.
    known.retain(|url, _| sinks.contains_key(url));
    let format = spec.format.open(&ground.disk, &kept.dir.join("schema"), &spec.name)?;
    let metrics = metrics.pipeline(&spec.name);
    metrics.transforms_failing.set(0);
    let room = OutboxRoom::new(outbox_bytes_max(spec.limits.size_bytes));
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
        room,
        sweeps: true,
        ground,
        budget,
        progress: Progress::new(&metrics),
        metrics,
    })
}

/// All of it: opens what is kept, comes back if it was drained, and builds the way. Blocking.
pub fn whole_way(
    house: &House,
    settings: &Settings,
    spec: &PipelineSpec,
    stream: Option<&Stream>,
    known: &mut KnownSinks,
) -> Result<Way, Fault> {
    off_async(|| {
        let kept = Kept::open(&house.ground, &kept::folder(settings, &spec.name))?;
        if let Some(stream) = stream {
            come_back(house, &kept, &spec.name, stream)?;
        }
        let source = source(house, settings, spec, &kept.dir, stream)?;
        way(house, spec, kept, source, known)
    })
    .map_err(|fault| fault.context(format!("pipeline {}", spec.name)))
}
