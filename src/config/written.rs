//! A pipeline as it is written; each station's options lie beside the station.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::plan;
use super::read::Later;
use crate::encode;
use crate::naming::DEFAULT_ERROR_PREFIX;
use crate::sink;
use crate::source::{demo, file, kafka};
use crate::transform;
use crate::units::{INTERVAL_PATTERN, Interval, Size};

/// Words of choices that later versions bring, so that whoever tries one is told.
pub(super) const LATER: Later = &[("Source", &["kinesis", "syslog"])];

/// A pipeline: records from one source, through transforms, in one format, to one sink. It is named after its file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Where records come from: exactly one of these.
    pub source: Source,
    /// What becomes of records between source and format, one after the other; at most 16.
    #[serde(default)]
    pub transforms: Vec<transform::Options>,
    /// What an object is made of: exactly one of these.
    pub format: encode::Options,
    /// When an object is complete: by size or by age, whichever comes first.
    #[serde(default)]
    pub buffer: Buffer,
    /// Where objects go.
    pub sink: Sink,
    /// Where records go that cannot be transformed, converted or routed: whole, as Firehose's JSON lines, with the reason.
    #[serde(default)]
    pub errors: Errors,
    /// Limits of what waits on this machine's disk, for sources that are pushed to: `firehose`, `http`, `stdin`.
    pub spool: Option<Spool>,
}

/// Where records come from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A made-up clickstream, to try things out.
    Demo(demo::Options),
    /// Lines of files, which may grow, be renamed and come anew.
    File(file::Options),
    /// Topics of Kafka, and of what speaks its protocol; their partitions are shared by all nodes of one group.
    Kafka(Box<kafka::Options>),
    /// What producers put by the Firehose API: any AWS SDK with hydrant as its endpoint.
    Firehose(Stream),
    /// What producers post to `/streams/{stream}/records`.
    Http(Stream),
    /// Lines of standard input; of one pipeline of a process at the most.
    Stdin(Nothing),
}

impl Source {
    /// The word it is chosen by.
    pub fn word(&self) -> &'static str {
        match self {
            Source::Demo(_) => "demo",
            Source::File(_) => "file",
            Source::Kafka(_) => "kafka",
            Source::Firehose(_) => "firehose",
            Source::Http(_) => "http",
            Source::Stdin(_) => "stdin",
        }
    }
}

/// A stream of the spool, by its name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Name of the stream: 1 to 64 of `a-z A-Z 0-9 _ . -`. Several pipelines may read one stream, each at its own position.
    #[schemars(extend("examples" = ["clickstream"]))]
    pub stream: String,
}

/// No options.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Where objects go.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// A folder, or a store: S3 and what speaks it, Google Cloud Storage, Azure Blob Storage.
    ObjectStore(sink::Options),
}

/// When an object is complete: by size or by age, whichever comes first.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Buffer {
    /// Encoded bytes of the largest object.
    #[schemars(extend("x-bounds" = format!("{} to {}", plan::BUFFER_SIZE_MIN, plan::BUFFER_SIZE_MAX)))]
    #[schemars(extend("examples" = ["128 MiB", "64MB"]))]
    pub size: Size,
    /// Time since an object's first record: `60s`, `1h30m`. With `aligned` behind it, up to the next multiple by the clock
    /// of the sink's `time_zone`: `1h aligned` ends at each full hour.
    #[schemars(extend("x-bounds" = format!("{} to {}", plan::BUFFER_INTERVAL_MIN, plan::BUFFER_INTERVAL_MAX)))]
    #[schemars(extend("examples" = ["60s", "15m", "1h aligned"]))]
    pub interval: Closing,
}

impl Default for Buffer {
    fn default() -> Buffer {
        let interval = Closing { interval: Interval::from_secs(60), aligned: false };
        Buffer { size: Size::from_mib(128), interval }
    }
}

/// `60s` after the first record, or `1h aligned`: at the full hour.
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    pub interval: Interval,
    pub aligned: bool,
}

impl Serialize for Closing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As it is written.
impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.interval, if self.aligned { " aligned" } else { "" })
    }
}

impl JsonSchema for Closing {
    fn schema_name() -> Cow<'static, str> {
        "Closing".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = format!("^{INTERVAL_PATTERN}(\\saligned\\s*)?$");
        json_schema!({ "type": "string", "pattern": pattern, "x-type": "interval" })
    }
}

impl<'de> Deserialize<'de> for Closing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Closing, D::Error> {
        struct Closings;
        impl Visitor<'_> for Closings {
            type Value = Closing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an interval such as `60s` or `1h aligned`")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Closing, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Closing, E> {
                let aligned = text.trim_end().strip_suffix("aligned").filter(|rest| rest.ends_with(' '));
                let interval = aligned.unwrap_or(text).parse().map_err(E::custom)?;
                Ok(Closing { interval, aligned: aligned.is_some() })
            }
        }
        deserializer.deserialize_any(Closings)
    }
}

/// Where records that were set aside go.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Errors {
    /// Where below the sink's `url` error objects go; a template of `{reason}`, `{arrival:%Y-%m-%d}` and Firehose's
    /// `!{firehose:error-output-type}` and `!{timestamp:..}`.
    pub prefix: String,
}

impl Default for Errors {
    fn default() -> Errors {
        Errors { prefix: DEFAULT_ERROR_PREFIX.into() }
    }
}

/// Limits of the spool of this pipeline's stream.
#[derive(Debug, Clone, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Bytes that may wait for delivery; above, producers are told to slow down.
    #[schemars(extend("x-bounds" = format!("{} to {}", plan::SPOOL_SIZE_MIN, plan::SPOOL_SIZE_MAX)))]
    pub size: Size,
    /// How long a retry of an AWS SDK is recognised, so that its records come once.
    #[schemars(extend("x-bounds" = format!("{} to {}", plan::ONCE_WINDOW_MIN, plan::ONCE_WINDOW_MAX)))]
    pub once_window: Interval,
}

impl Default for Spool {
    fn default() -> Spool {
        Spool { size: Size::from_gib(10), once_window: Interval::from_secs(300) }
    }
}
