//! `metadata_extraction`: Firehose's processor of this name, which gives records partition keys by a jq query.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jaq::{self, Failure, Limits, Program, TIME_MAX, Value};
use super::{Answers, Transform, Transformed, Wrong};
use crate::error::{Fault, Reason, RejectedBy};
use crate::naming::{self, GivenKeys};
use crate::record::Batch;
use crate::units::Interval;

/// Firehose's error code.
const FAILED: &str = "DynamicPartitioning.MetadataExtractionFailed";

/// Most partition keys (Firehose's limit).
const KEYS_MAX: usize = 50;

/// Bytes of all keys of a record.
const KEYS_BYTES_MAX: usize = 16 << 10;

/// Options, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Firehose's `MetadataExtractionQuery`, such as `{customer: .customer_id, day: (.ts|strftime("%Y-%m-%d"))}`: any jq
    /// that gives one object, of texts, numbers and booleans.
    pub query: String,
    /// Firehose's `JsonParsingEngine`, which has one value.
    #[serde(default)]
    pub parsing_engine: Engine,
    /// How long the query may take for one record.
    #[serde(default = "time_max")]
    pub time_max: Interval,
}

/// The language of a query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum Engine {
    #[default]
    #[serde(rename = "JQ-1.6")]
    Jq16,
}

fn time_max() -> Interval {
    TIME_MAX
}

impl Options {
    /// The transform.
    pub fn make(&self) -> Result<Arc<dyn Transform>, Wrong> {
        let program = Program::compile(&self.query, "query")?;
        match &program.keys {
            Some(keys) if keys.len() > KEYS_MAX => {
                Err(Wrong::new("query", format!("{} partition keys are more than {KEYS_MAX}", keys.len())))
            }
            Some(keys) if keys.iter().any(String::is_empty) => Err(Wrong::new("query", "a partition key needs a name")),
            _ => Ok(Arc::new(Extraction { program, limits: Limits::of_time(self.time_max) })),
        }
    }

    /// The keys that it gives, as far as its text tells; nothing of a wrong query.
    pub fn given_keys(&self) -> GivenKeys {
        match Program::compile(&self.query, "query").map(|program| program.keys) {
            Ok(Some(names)) => GivenKeys { queried: names, ..GivenKeys::default() },
            Ok(None) | Err(_) => GivenKeys { any_queried: true, ..GivenKeys::default() },
        }
    }
}

struct Extraction {
    program: Program,
    limits: Limits,
}

impl Extraction {
    fn keys(&self, batch: &Batch, row: usize) -> Result<Vec<(String, String)>, String> {
        let mut found = None;
        let done = self.program.run(batch, row, self.limits, |value| match found {
            Some(_) => Err("the query has several outputs".into()),
            None => {
                found = Some(keys_of(&value)?);
                Ok(())
            }
        });
        done.map_err(|failure| match failure {
            Failure::NotJson(error) => format!("Non JSON record provided: {error}"),
            Failure::Program(message) => message,
        })?;
        found.ok_or_else(|| "the query has no output".to_owned())
    }
}

fn keys_of(value: &Value) -> Result<Vec<(String, String)>, String> {
    let Value::Obj(object) = value else { return Err(format!("the query gives no object: {value}")) };
    if object.of.len() > KEYS_MAX {
        return Err(format!("{} partition keys are more than {KEYS_MAX}", object.of.len()));
    }
    let mut bytes = 0;
    let keys = object.of.iter().map(|(name, value)| {
        let wrong = |what: &str| Err(format!("partition key `{name}` {what}"));
        let text = match value {
            Value::Str(text) if text.is_empty() => return wrong("is an empty text"),
            Value::Str(text) => text.as_str().to_owned(),
            Value::Bool(truth) => truth.to_string(),
            Value::Num(_) => match naming::number_text(&value.to_json()) {
                Some(text) => text.into_owned(),
                None => return wrong("is a number out of range"),
            },
            Value::Null => return wrong("is null or missing"),
            Value::Arr(_) => return wrong("is an array"),
            Value::Obj(_) => return wrong("is an object"),
        };
        bytes += name.len() + text.len();
        if bytes > KEYS_BYTES_MAX {
            return Err(format!("the partition keys are longer than {KEYS_BYTES_MAX} bytes"));
        }
        Ok((name.as_str().to_owned(), text))
    });
    keys.collect()
}

#[async_trait]
impl Transform for Extraction {
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let done = jaq::over(&batch, |part: &mut Vec<_>, row| {
            let keys = self.keys(&batch, row);
            let bytes = |keys: &Vec<(String, String)>| keys.iter().map(|(name, value)| name.len() + value.len()).sum();
            let bytes = keys.as_ref().map_or(0, bytes);
            part.push(keys);
            batch.payload(row).len() + jaq::inherited_bytes(&batch, row) + bytes
        })?;
        let mut answers = Answers::with_room_for(&batch);
        for (row, keys) in done.parts.into_iter().flatten().enumerate() {
            match keys {
                Ok(keys) => {
                    let keys: Vec<_> = keys.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    answers.push(&batch, row, batch.payload(row), &keys);
                }
                Err(message) => {
                    answers.reject(&batch, row, Reason { by: RejectedBy::Prefix, code: FAILED, message });
                }
            }
        }
        Ok(Transformed { left: done.left, ..answers.finish() })
    }

    fn shown(&self) -> String {
        "metadata_extraction".into()
    }
}
