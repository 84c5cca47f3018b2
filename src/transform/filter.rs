//! `filter`: keeps records for which a jq expression is true, as they are.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use jaq_core::ValT as _;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use super::jaq::{self, Limits, Program, TIME_MAX, text_or_map, text_or_map_schema};
use super::{Answers, Transform, Transformed, Wrong};
use crate::error::Fault;
use crate::record::Batch;
use crate::units::Interval;

const FAILED: &str = "Filter.Failed";

/// A jq expression, alone or with its limit. A record goes on, byte for byte, if any output is true (neither false nor
/// null); a field that is missing is null. Variables are those of [`super::jq::Options`].
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub expression: String,
    /// For one record.
    pub time_max: Interval,
}

impl Options {
    /// The transform.
    pub fn make(&self) -> Result<Arc<dyn Transform>, Wrong> {
        let program = Program::compile(&self.expression, "expression")?;
        Ok(Arc::new(Filter { program, limits: Limits::of_time(self.time_max) }))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename = "Options", deny_unknown_fields)]
struct Written {
    /// A jq expression; a record goes on if any of its outputs is true (neither `false` nor `null`).
    expression: String,
    /// How long it may take for one record.
    #[serde(default = "time_max")]
    time_max: Interval,
}

fn time_max() -> Interval {
    TIME_MAX
}

impl From<String> for Written {
    fn from(expression: String) -> Written {
        Written { expression, time_max: time_max() }
    }
}

impl JsonSchema for Options {
    fn schema_name() -> Cow<'static, str> {
        "Filter".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        text_or_map_schema::<Written>(generator)
    }
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Options, D::Error> {
        let expected = "a jq expression, or a map of `expression`, `time_max`";
        let Written { expression, time_max } = text_or_map(deserializer, expected)?;
        Ok(Options { expression, time_max })
    }
}

struct Filter {
    program: Program,
    limits: Limits,
}

/// What became of some rows.
#[derive(Default)]
struct Part {
    kept: Vec<u32>,
    failed: Vec<(usize, jaq::Failure)>,
}

impl Filter {
    fn keeps(&self, batch: &Batch, row: usize) -> Result<bool, jaq::Failure> {
        let mut kept = false;
        self.program.run(batch, row, self.limits, |value| {
            kept |= value.as_bool();
            Ok(())
        })?;
        Ok(kept)
    }
}

#[async_trait]
impl Transform for Filter {
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let done = jaq::over(&batch, |part: &mut Part, row| {
            match self.keeps(&batch, row) {
                Ok(true) => part.kept.push(row as u32),
                Ok(false) => {}
                Err(failure) => part.failed.push((row, failure)),
            }
            0
        })?;
        let (mut kept, mut answers) = (Vec::with_capacity(done.rows), Answers::default());
        for part in done.parts {
            kept.extend(part.kept);
            part.failed.iter().for_each(|(row, failure)| answers.fail(&batch, *row, FAILED, failure.to_string()));
        }
        let rejected = answers.finish().rejected;
        let dropped = (done.rows - kept.len() - rejected.len()) as u64;
        let batch = if kept.len() == batch.len() { batch } else { batch.select(&kept) };
        Ok(Transformed { batch, rejected, dropped, left: done.left })
    }

    fn shown(&self) -> String {
        "filter".into()
    }
}
