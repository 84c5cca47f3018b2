//! `jq`: each record becomes the outputs of a jq program: none, one or several.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use super::jaq::{
    self, BATCH_BYTES_MAX, Failure, Limits, Program, TIME_MAX, Unwritten, text_or_map, text_or_map_schema,
};
use super::{Answers, Transform, Transformed, Wrong};
use crate::error::Fault;
use crate::record::Batch;
use crate::units::{Interval, Size};

/// What an output costs beside its bytes.
const OUTPUT_BYTES: usize = 32;

const FAILED: &str = "Jq.Failed";

/// A jq program, alone or with its limits.
///
/// Each record is read as JSON; outputs are written as compact JSON (a text in quotes), in the program's order of keys.
/// `$arrival` (Unix milliseconds), `$key`, `$topic`, `$partition`, `$offset` and `$headers` (`[{name, value}]`) are what
/// is known of it beside; null where nothing is.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub program: String,
    /// For one record.
    pub time_max: Interval,
    /// Bytes that one record may become, with what its outputs take over from it: key, headers, partition keys.
    pub output_max: Size,
}

impl Options {
    /// The transform.
    pub fn make(&self) -> Result<Arc<dyn Transform>, Wrong> {
        let program = Program::compile(&self.program, "program")?;
        let output_bytes_max = usize::try_from(self.output_max.bytes()).unwrap_or(usize::MAX).min(BATCH_BYTES_MAX);
        Ok(Arc::new(Jq { program, limits: Limits::of_time(self.time_max), output_bytes_max }))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename = "Options", deny_unknown_fields)]
struct Written {
    /// A jq program. `$arrival` (Unix milliseconds), `$key`, `$topic`, `$partition`, `$offset` and `$headers` are what is
    /// known of a record beside its text.
    program: String,
    /// How long it may take for one record.
    #[serde(default = "time_max")]
    time_max: Interval,
    /// Bytes that one record may become.
    #[serde(default = "output_max")]
    output_max: Size,
}

fn time_max() -> Interval {
    TIME_MAX
}

fn output_max() -> Size {
    Size::from_mib(16)
}

impl From<String> for Written {
    fn from(program: String) -> Written {
        Written { program, time_max: time_max(), output_max: output_max() }
    }
}

impl JsonSchema for Options {
    fn schema_name() -> Cow<'static, str> {
        "Jq".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        text_or_map_schema::<Written>(generator)
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Options, D::Error> {
        let expected = "a jq program, or a map of `program`, `time_max`, `output_max`";
        let Written { program, time_max, output_max } = text_or_map(deserializer, expected)?;
        Ok(Options { program, time_max, output_max })
    }
}

struct Jq {
    program: Program,
    limits: Limits,
    output_bytes_max: usize,
}

/// What some rows became.
#[derive(Default)]
struct Part {
    text: String,
    /// Where each output ends in the text.
    ends: Vec<usize>,
    /// Per row.
    rows: Vec<Became>,
}

enum Became {
    /// So many of the outputs.
    Outputs(usize),
    Failed(Failure),
}

impl Jq {
    /// What row `row` becomes; gives the bytes of it.
    fn add(&self, part: &mut Part, batch: &Batch, row: usize) -> usize {
        let (start, outputs) = (part.text.len(), part.ends.len());
        let output_bytes = OUTPUT_BYTES + jaq::inherited_bytes(batch, row);
        let done = self.program.run(batch, row, self.limits, |value| {
            let spent = (part.ends.len() - outputs) * output_bytes;
            let left = (start + self.output_bytes_max).saturating_sub(spent);
            jaq::write(&mut part.text, &value, left).map_err(|unwritten| match unwritten {
                Unwritten::TooLong => format!("the record becomes longer than {} bytes", self.output_bytes_max),
                Unwritten::NotFinite => "an output holds a number that JSON has no word for: nan or infinite".into(),
            })?;
            part.ends.push(part.text.len());
            Ok(())
        });
        part.rows.push(match done {
            Ok(()) => Became::Outputs(part.ends.len() - outputs),
            Err(failure) => {
                part.text.truncate(start);
                part.ends.truncate(outputs);
                Became::Failed(failure)
            }
        });
        part.text.len() - start + (part.ends.len() - outputs) * output_bytes
    }
}

#[async_trait]
impl Transform for Jq {
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let done = jaq::over(&batch, |part, row| self.add(part, &batch, row))?;
        let mut answers = Answers::with_room_for(&batch);
        let mut row = 0;
        for part in done.parts {
            let (mut ends, mut start) = (part.ends.iter(), 0);
            for became in part.rows {
                match became {
                    Became::Outputs(0) => answers.drop_one(),
                    Became::Outputs(count) => {
                        for end in ends.by_ref().take(count) {
                            answers.push(&batch, row, &part.text.as_bytes()[start..*end], &[]);
                            start = *end;
                        }
                    }
                    Became::Failed(failure) => answers.fail(&batch, row, FAILED, failure.to_string()),
                }
                row += 1;
            }
        }
        Ok(Transformed { left: done.left, ..answers.finish() })
    }

    fn shown(&self) -> String {
        "jq".into()
    }
}
