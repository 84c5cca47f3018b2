//! A pipeline as it will run: what was written, judged and complete, so that nothing can be wrong any more.

use std::fmt;
use std::time::Duration;

use super::problem::Problems;
use super::stations::{demo, encode, file, object_store};
use super::tree::Tree;
use super::written::{Pipeline, Sink, Source, Spool};
use crate::units::{Interval, Size};

/// Bounds of `buffer.size`; Firehose takes 1 to 128 MiB, and S3 objects of one PUT end at 5 GiB.
pub const BUFFER_SIZE_MIN: Size = Size::from_kib(1);
pub const BUFFER_SIZE_MAX: Size = Size::from_gib(5);

/// Bounds of `buffer.interval`; Firehose takes 0 to 900 s.
pub const BUFFER_INTERVAL_MIN: Interval = Interval::from_millis(100);
pub const BUFFER_INTERVAL_MAX: Interval = Interval::from_secs(24 * 3600);

/// Bounds of `spool.size`.
pub const SPOOL_SIZE_MIN: Size = Size::from_mib(16);
pub const SPOOL_SIZE_MAX: Size = Size::from_gib(1 << 20);

/// Bounds of `spool.once_window`: retries are remembered in memory.
pub const ONCE_WINDOW_MIN: Interval = Interval::from_millis(0);
pub const ONCE_WINDOW_MAX: Interval = Interval::from_secs(3600);

/// Longest name of a stream: AWS's for delivery streams.
const STREAM_NAME_LEN_MAX: usize = 64;

/// One pipeline.
#[derive(Debug, Clone)]
pub struct PipelineSpec {
    /// Named after its file.
    pub name: String,
    pub source: SourceSpec,
    pub format: encode::Options,
    /// Bytes after which an object is complete.
    pub buffer_bytes: u64,
    /// Age at which an object is complete.
    pub buffer_interval: Duration,
    pub sink: object_store::Options,
    /// Template of the prefix of error objects.
    pub error_prefix: String,
}

/// Where its records come from.
#[derive(Debug, Clone)]
pub enum SourceSpec {
    Demo(demo::Options),
    File(file::Options),
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

/// One line for people: `clickstream: firehose clickstream -> parquet -> s3://lake/clickstream/`.
impl fmt::Display for PipelineSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            SourceSpec::Demo(_) => "demo".to_owned(),
            SourceSpec::File(options) => format!("file {}", options.path),
            SourceSpec::Stream(StreamSpec { fed_by: FedBy::Firehose, name, .. }) => format!("firehose {name}"),
            SourceSpec::Stream(StreamSpec { fed_by: FedBy::Http, name, .. }) => format!("http {name}"),
            SourceSpec::Stream(StreamSpec { fed_by: FedBy::Stdin, .. }) => "stdin".to_owned(),
        };
        let format = match &self.format {
            encode::Options::Lines(_) => "lines",
            encode::Options::Parquet(_) => "parquet",
        };
        write!(f, "{}: {source} -> {format} -> {}", self.name, self.sink.url)
    }
}

/// Turns what was written into what will run. Gives a spec also where there are problems (then it is not to be used).
pub(super) fn assemble(name: &str, written: Pipeline, tree: &Tree, problems: &mut Problems) -> PipelineSpec {
    if !written.transforms.is_empty() {
        let hint = Some("this version has none: remove them".into());
        problems.push(tree.place_of_key(&["transforms"]), "transforms come with a later version", hint);
    }
    let Sink::ObjectStore(sink) = written.sink;
    within(tree, problems, "buffer.size", written.buffer.size, BUFFER_SIZE_MIN, BUFFER_SIZE_MAX);
    within(tree, problems, "buffer.interval", written.buffer.interval, BUFFER_INTERVAL_MIN, BUFFER_INTERVAL_MAX);
    PipelineSpec {
        name: name.to_owned(),
        source: source(name, written.source, written.spool, tree, problems),
        format: written.format,
        buffer_bytes: written.buffer.size.bytes(),
        buffer_interval: written.buffer.interval.duration(),
        sink,
        error_prefix: written.errors.prefix,
    }
}

fn source(name: &str, source: Source, spool: Option<Spool>, tree: &Tree, problems: &mut Problems) -> SourceSpec {
    let word = source.word();
    let (fed_by, stream) = match source {
        Source::Demo(options) => return no_stream(SourceSpec::Demo(options), word, spool, tree, problems),
        Source::File(options) => return no_stream(SourceSpec::File(options), word, spool, tree, problems),
        Source::Firehose(stream) => (FedBy::Firehose, stream.stream),
        Source::Http(stream) => (FedBy::Http, stream.stream),
        Source::Stdin(_) => (FedBy::Stdin, name.to_owned()),
    };
    let clean = stream.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !(1..=STREAM_NAME_LEN_MAX).contains(&stream.len()) || !clean || stream.starts_with('.') {
        let message = format!("`source.{word}.stream`: `{}` is no name for a stream", super::tree::shown(&stream));
        let hint = "1 to 64 of `a-z A-Z 0-9 _ . -`, not beginning with a dot";
        problems.push(tree.place(&format!("source.{word}.stream")), message, Some(hint.into()));
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
