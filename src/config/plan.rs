//! A pipeline as it will run: what was written, judged and complete, so that nothing can be wrong any more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::problem::{Place, Problems};
use super::stations::{error_prefix, prefix, sink, time_zone, transforms};
use super::tree::{Tree, shown};
use super::written::{Buffer, Closing, Pipeline, Sink, Source, Spool};
use crate::chunk::Limits;
use crate::encode::{self, FormatSpec};
use crate::inputs::Reads;
use crate::naming::{DEFAULT_PREFIX, ErrorPrefix, Prefix, TimeZone};
use crate::receive::About;
use crate::source::{demo, file, kafka};
use crate::transform::Transform;
use crate::transform::wasm::Modules;
use crate::units::{Interval, Size};

/// Bounds of `buffer.size`; Firehose takes 1 to 128 MiB, and a chunk ends at `chunk::CHUNK_BYTES_MAX`.
pub const BUFFER_SIZE_MIN: Size = Size::from_kib(1);
pub const BUFFER_SIZE_MAX: Size = Size::from_gib(1);

/// Bounds of `buffer.interval`; Firehose takes 0 to 900 s.
pub const BUFFER_INTERVAL_MIN: Interval = Interval::from_millis(100);
pub const BUFFER_INTERVAL_MAX: Interval = DAY;
/// What aligned intervals divide.
const DAY: Interval = Interval::from_secs(24 * 3600);

/// Bounds of `spool.size`.
pub const SPOOL_SIZE_MIN: Size = Size::from_mib(16);
pub const SPOOL_SIZE_MAX: Size = Size::from_gib(1 << 20);

/// Bounds of `spool.once_window`: retries are remembered in memory.
pub const ONCE_WINDOW_MIN: Interval = Interval::from_millis(0);
pub const ONCE_WINDOW_MAX: Interval = Interval::from_secs(3600);

/// Longest name of a stream: AWS's for delivery streams, `[a-zA-Z0-9_.-]{1,64}`.
const STREAM_NAME_LEN_MAX: usize = 64;

/// One pipeline.
#[derive(Clone)]
pub struct PipelineSpec {
    /// Named after its file.
    pub name: String,
    pub source: SourceSpec,
    /// In their order; compiled, and started once.
    pub transforms: Vec<Arc<dyn Transform>>,
    pub format: FormatSpec,
    pub prefix: Prefix,
    pub error_prefix: ErrorPrefix,
    /// Checked; what a store answers is another matter.
    pub sink: crate::sink::Options,
    /// What ends a chunk.
    pub limits: Limits,
    /// The file it was read from, as it was named.
    pub file: String,
    /// The way in a few words, without what came from variables.
    pub drawn: Drawn,
    /// Prefixes as they were written, for who asks over the API.
    templates: (String, String),
    /// Firehose's word for the compression.
    compression: &'static str,
    /// Where things stand that can be wrong only together with other pipelines.
    pub(super) places: Places,
}

/// Places in the file.
#[derive(Clone)]
pub(super) struct Places {
    pub source: Place,
    pub spool: Place,
}

/// A way in words, for people.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// Such as `firehose clickstream`.
    pub source: String,
    /// Such as `wasm`.
    pub transforms: Vec<String>,
    /// Such as `parquet`.
    pub format: String,
    /// The sink's URL.
    pub sink: String,
}

/// Where its records come from.
#[derive(Debug, Clone)]
pub enum SourceSpec {
    Demo(demo::Options),
    File(file::Options),
    Kafka(Box<kafka::Options>),
    /// A stream that receivers append to.
    Stream(StreamSpec),
}

/// A stream, which several pipelines may read.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSpec {
    pub name: String,
    /// Who appends: whoever calls, or standard input.
    pub fed_by: FedBy,
    /// Bytes of its spool, above which producers are told to slow down.
    pub spool_bytes_max: u64,
    /// How long a producer's retries are recognised.
    pub once_window: Duration,
}

/// Who appends to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FedBy {
    /// Callers of the Firehose API.
    Firehose,
    /// Callers of `POST /streams/{stream}/records`.
    Http,
    /// Standard input.
    Stdin,
}

impl PipelineSpec {
    /// The stream that it reads, if it reads one.
    pub fn stream(&self) -> Option<&StreamSpec> {
        match &self.source {
            SourceSpec::Stream(stream) => Some(stream),
            SourceSpec::Demo(_) | SourceSpec::File(_) | SourceSpec::Kafka(_) => None,
        }
    }

    /// What the Firehose API tells about its stream, made at `created_ms` (Unix milliseconds).
    pub fn about(&self, created_ms: i64) -> About {
        let place = self.sink.url.split_once("://").map_or(self.sink.url.as_str(), |(_, place)| place);
        About {
            created_ms,
            bucket: place.split('/').next().unwrap_or_default().to_owned(),
            prefix: self.templates.0.clone(),
            error_prefix: self.templates.1.clone(),
            compression: self.compression.to_owned(),
            buffer_mib: self.limits.size_bytes.div_ceil(1 << 20),
            buffer_interval_s: self.limits.interval.as_secs_f64().ceil() as u64,
        }
    }
}

/// One line for people: `clickstream: firehose clickstream -> parquet -> s3://lake/clickstream/`.
impl fmt::Display for PipelineSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Drawn { source, transforms, format, sink } = &self.drawn;
        write!(f, "{}: {source} -> ", self.name)?;
        transforms.iter().try_for_each(|transform| write!(f, "{transform} -> "))?;
        write!(f, "{format} -> {sink}")
    }
}

impl fmt::Debug for PipelineSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PipelineSpec({self})")
    }
}

/// Turns what was written into what will run; `None` only where there are problems.
pub(super) fn assemble(
    name: &str,
    mut written: Pipeline,
    tree: &Tree,
    (modules, reads): (&Modules, &Reads),
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Option<PipelineSpec> {
    let Sink::ObjectStore(options) = written.sink.clone();
    let drawn = draw(&written, &options, tree);
    let compression = firehose_compression(&written.format);
    let zone = time_zone(&options, tree, problems);
    let prefix_built = prefix(&options, &zone, &written.transforms, tree, problems, warnings);
    let error_prefix = error_prefix(&written.errors.prefix, &zone, tree, problems, warnings);
    sink(&options, tree, reads, problems);
    let format = super::stations::format(&mut written.format, tree, reads, problems);
    let transforms = transforms(name, &written.transforms, (modules, reads), tree, problems);
    let limits = limits(&written.buffer, &zone, tree, problems);
    if let Source::Kafka(options) = &written.source {
        super::stations::kafka(name, options, tree, reads, problems, warnings);
    }
    let source = source(name, written.source, written.spool, tree, problems);
    Some(PipelineSpec {
        name: name.to_owned(),
        source,
        transforms: transforms?,
        format: format?,
        prefix: prefix_built?,
        error_prefix: error_prefix?,
        limits,
        file: tree.written.path.clone(),
        drawn,
        templates: (options.prefix.clone().unwrap_or_else(|| DEFAULT_PREFIX.into()), written.errors.prefix),
        compression,
        sink: options,
        places: Places { source: tree.place_of_key(&["source"]), spool: tree.place_of_key(&["spool"]) },
    })
}

fn draw(written: &Pipeline, sink: &crate::sink::Options, tree: &Tree) -> Drawn {
    let word = written.source.word();
    let shown = |key: &str, value: &str| tree.as_written(&["source", word, key], value);
    let source = match &written.source {
        Source::Demo(_) | Source::Stdin(_) => word.to_owned(),
        Source::File(options) => format!("{word} {}", shown("path", &options.path.join(", "))),
        Source::Kafka(options) => format!("{word} {}", shown("topics", &options.topics.join(", "))),
        Source::Firehose(from) | Source::Http(from) => format!("{word} {}", shown("stream", &from.stream)),
    };
    Drawn {
        source,
        transforms: written.transforms.iter().map(|transform| transform.word().to_owned()).collect(),
        format: written.format.word().to_owned(),
        sink: tree.as_written(&["sink", "object_store", "url"], &sink.url),
    }
}

fn firehose_compression(format: &encode::Options) -> &'static str {
    use encode::compress::Compression;
    match format.compression() {
        Some(Compression::Gzip(_)) => "GZIP",
        Some(Compression::Snappy) => "Snappy",
        Some(Compression::HadoopSnappy) => "HADOOP_SNAPPY",
        // Firehose has no word for zstd.
        None | Some(Compression::None | Compression::Zstd(_)) => "UNCOMPRESSED",
    }
}

fn limits(buffer: &Buffer, zone: &TimeZone, tree: &Tree, problems: &mut Problems) -> Limits {
    let Closing { interval, aligned } = buffer.interval;
    within(tree, problems, "buffer.size", buffer.size, BUFFER_SIZE_MIN, BUFFER_SIZE_MAX);
    within(tree, problems, "buffer.interval", interval, BUFFER_INTERVAL_MIN, BUFFER_INTERVAL_MAX);
    if aligned && !DAY.millis().is_multiple_of(interval.millis().max(1)) {
        let message = format!("`buffer.interval`: a day is no multiple of {interval}, so it cannot be aligned");
        let hint = Some("write a part of a day, such as `15m aligned`, `1h aligned` or `24h aligned`".into());
        problems.push(tree.place("buffer.interval"), message, hint);
    }
    let aligned = aligned.then(|| zone.clone());
    Limits { size_bytes: buffer.size.bytes(), interval: interval.duration(), aligned }
}

fn source(name: &str, source: Source, spool: Option<Spool>, tree: &Tree, problems: &mut Problems) -> SourceSpec {
    let word = source.word();
    let (fed_by, stream) = match source {
        Source::Demo(options) => return no_stream(SourceSpec::Demo(options), word, spool, tree, problems),
        Source::File(options) => {
            super::stations::file(&options, tree, problems);
            return no_stream(SourceSpec::File(options), word, spool, tree, problems);
        }
        Source::Kafka(options) => return no_stream(SourceSpec::Kafka(options), word, spool, tree, problems),
        Source::Firehose(stream) => (FedBy::Firehose, stream.stream),
        Source::Http(stream) => (FedBy::Http, stream.stream),
        Source::Stdin(_) => (FedBy::Stdin, name.to_owned()),
    };
    let clean = stream.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    // `.` and `..` would fit AWS's pattern, and are folders.
    if !(1..=STREAM_NAME_LEN_MAX).contains(&stream.len()) || !clean || matches!(stream.as_str(), "." | "..") {
        let message = format!("`source.{word}.stream`: `{}` is no name for a stream", shown(&stream));
        let hint = Some("write 1 to 64 of `a-z A-Z 0-9 _ . -`".into());
        problems.push(tree.place(&format!("source.{word}.stream")), message, hint);
    }
    let spool = spool.unwrap_or_default();
    within(tree, problems, "spool.size", spool.size, SPOOL_SIZE_MIN, SPOOL_SIZE_MAX);
    within(tree, problems, "spool.once_window", spool.once_window, ONCE_WINDOW_MIN, ONCE_WINDOW_MAX);
    SourceSpec::Stream(StreamSpec {
        name: stream,
        fed_by,
        spool_bytes_max: spool.size.bytes(),
        once_window: spool.once_window.duration(),
    })
}

fn no_stream(source: SourceSpec, word: &str, spool: Option<Spool>, tree: &Tree, problems: &mut Problems) -> SourceSpec {
    // The source may be a stand-in for a wrong one that has a spool.
    if spool.is_some() && tree.is_sound(&["source"]) {
        let message = format!("the source `{word}` has no spool");
        problems.push(tree.place_of_key(&["spool"]), message, Some("remove `spool`".into()));
    }
    source
}

/// A value within its bounds, both included.
fn within<T: PartialOrd + fmt::Display>(tree: &Tree, problems: &mut Problems, way: &str, value: T, min: T, max: T) {
    if value < min || value > max {
        problems.push(tree.place(way), format!("`{way}`: expected {min} to {max}, found {value}"), None);
    }
}
