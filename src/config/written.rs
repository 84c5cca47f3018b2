//! A pipeline as it is written; each station's options lie beside the station.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::read::Later;
use crate::encode;
use crate::naming::DEFAULT_ERROR_PREFIX;
use crate::sink;
use crate::source::{demo, file};
use crate::transform;
use crate::units::{Interval, Size};

/// Words of choices that later versions bring, so that whoever tries one is told.
pub(super) const LATER: Later = &[("Source", &["kafka", "kinesis", "syslog"])];

/// A pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    pub source: Source,
    #[serde(default)]
    pub transforms: Vec<transform::Options>,
    pub format: encode::Options,
    #[serde(default)]
    pub buffer: Buffer,
    pub sink: Sink,
    #[serde(default)]
    pub errors: Errors,
    pub spool: Option<Spool>,
}

/// Where records come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Demo(demo::Options),
    File(file::Options),
    Firehose(Stream),
    Http(Stream),
    Stdin(Nothing),
}

impl Source {
    /// The word it is chosen by.
    pub fn word(&self) -> &'static str {
        match self {
            Source::Demo(_) => "demo",
            Source::File(_) => "file",
            Source::Firehose(_) => "firehose",
            Source::Http(_) => "http",
            Source::Stdin(_) => "stdin",
        }
    }
}

/// A stream of the spool, by its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    pub stream: String,
}

/// No options.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Where objects go.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    ObjectStore(sink::Options),
}

/// When an object is complete: by size or by age, whichever comes first.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Buffer {
    pub size: Size,
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
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Errors {
    pub prefix: String,
}

impl Default for Errors {
    fn default() -> Errors {
        Errors { prefix: DEFAULT_ERROR_PREFIX.into() }
    }
}

/// Limits of the spool of this pipeline's stream.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    pub size: Size,
    pub once_window: Interval,
}

impl Default for Spool {
    fn default() -> Spool {
        Spool { size: Size::from_gib(10), once_window: Interval::from_secs(300) }
    }
}
