//! `NAME.test.yaml`: what is written in it.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::record::{Batch, BatchBuilder, of_line};

/// Bytes of a file of records, at most.
const RECORDS_BYTES_MAX: usize = 64 << 20;

/// The cases of the pipeline beside it: records in, and what is expected to come out.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// What the clock says, for all cases.
    #[serde(default = "now_default")]
    #[schemars(extend("examples" = ["2026-11-20T12:00:00Z"]))]
    pub now: String,
    /// One after the other, each on its own.
    pub cases: Vec<Case>,
}

/// One case. What it does not mention is not compared, except that records which are set aside must be expected.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, in words.
    pub name: String,
    /// The records, in order.
    pub input: Input,
    /// What the clock says, instead of the file's `now`.
    pub now: Option<String>,
    /// The rows that readers of the objects see: a list in order of objects, or a map of prefixes to lists. Keys whose value
    /// is null may be left out.
    pub output: Option<Output>,
    /// The records that are set aside; none if not given.
    #[serde(default)]
    pub rejects: Vec<Expected>,
    /// How many records transforms drop.
    pub dropped: Option<u64>,
    /// Names of the objects, in any order; `*` stands for anything.
    pub objects: Option<Vec<String>>,
}

/// A list of records, or a file of them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Input {
    /// Records: a map or list is a record of JSON, a text a record as it is.
    Records(Vec<Record>),
    /// A file of records, one a line, beside this file.
    File(InputFile),
}

/// Records of a file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Relative to the folder of this file.
    pub file: String,
}

/// A record, alone or with what is known of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Record {
    /// With its time of arrival or key.
    Known(Known),
    /// Alone.
    Alone(Value),
}

/// A record with what is known of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The record.
    pub record: Value,
    /// When it arrived, as `2026-11-20T12:00:00Z`; now if not given.
    pub arrival: Option<String>,
    /// Its key, as Kafka and Kinesis have one.
    pub key: Option<String>,
}

/// Expected rows.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Output {
    /// Of all objects, in the order of their names.
    Rows(Vec<Value>),
    /// By prefix.
    ByPrefix(BTreeMap<String, Vec<Value>>),
}

/// A record that is expected to be set aside; what is not given is not compared.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expected {
    /// Such as `format-conversion-failed`.
    pub reason: Option<String>,
    /// Such as `DataFormatConversion.ParseError`.
    pub code: Option<String>,
    /// A part of the message.
    pub message: Option<String>,
    /// The record.
    pub record: Option<Value>,
}

fn now_default() -> String {
    "2026-01-01T00:00:00Z".into()
}

/// A time as written, in Unix milliseconds.
pub fn time(text: &str) -> Result<i64, String> {
    let time = text.parse::<jiff::Timestamp>().map(|time| time.as_millisecond());
    time.map_err(|_| format!("expected a time such as `2026-11-20T12:00:00Z`, found `{text}`"))
}

impl Case {
    /// Its records; `folder` is that of its file.
    pub fn records(&self, folder: &Path, now_ms: i64) -> Result<Batch, String> {
        let mut batch = BatchBuilder::default();
        match &self.input {
            Input::File(InputFile { file }) => {
                let path = folder.join(file);
                let shown = path.display();
                let bytes = std::fs::read(&path).map_err(|error| format!("{shown}: {error}"))?;
                if bytes.len() > RECORDS_BYTES_MAX {
                    return Err(format!("{shown}: more than {RECORDS_BYTES_MAX} bytes"));
                }
                bytes.split(|byte| *byte == b'\n').filter_map(of_line).for_each(|line| batch.push(line, now_ms));
            }
            Input::Records(records) => {
                for record in records {
                    let (record, arrival, key) = match record {
                        Record::Alone(record) => (record, None, None),
                        Record::Known(known) => (&known.record, known.arrival.as_deref(), known.key.as_deref()),
                    };
                    let arrival_ms = arrival.map_or(Ok(now_ms), time)?;
                    let key = key.map(str::as_bytes);
                    batch.push_known(payload(record).as_bytes(), arrival_ms, (key, 0), []);
                }
            }
        }
        Ok(batch.finish())
    }
}

/// A record's text: a text as it is, anything else as JSON.
pub fn payload(record: &Value) -> String {
    match record {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
