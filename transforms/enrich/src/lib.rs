//! Looks a field of each record up in a table of the config, and adds what it finds there.

use std::collections::HashMap;
use std::sync::OnceLock;

use exports::hydrant::transform::transformer::{Event, Guest, Output};
use hydrant::transform::host::{Level, log};
use serde::Deserialize;
use serde_json::{Map, Value};

wit_bindgen::generate!({ path: "../hydrant.wit", world: "transform" });

/// What the pipeline file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The field to look up: a text, or a number or boolean as it is written.
    field: String,
    /// The field that gets what was found.
    into: String,
    table: HashMap<String, Value>,
    /// What it gets if nothing was found; without this it gets nothing.
    otherwise: Option<Value>,
    /// Whether the pipeline's prefix may use what was found, as `!{partitionKey:INTO}`.
    #[serde(default)]
    partition: bool,
}

static CONFIG: OnceLock<Config> = OnceLock::new();

struct Enrich;

impl Guest for Enrich {
    fn init(config: String) -> Result<(), String> {
        let config: Config = serde_json::from_str(&config).map_err(|error| format!("config: {error}"))?;
        if config.table.is_empty() {
            log(Level::Warn, "the table is empty");
        }
        CONFIG.set(config).map_err(|_| "init is called once".to_owned())
    }

    fn process(events: Vec<Event>) -> Vec<Result<Vec<Output>, String>> {
        let config = CONFIG.get().expect("init comes first");
        events.iter().map(|event| config.enrich(&event.data).map(|output| vec![output])).collect()
    }
}

impl Config {
    fn enrich(&self, data: &[u8]) -> Result<Output, String> {
        let mut record: Map<String, Value> =
            serde_json::from_slice(data).map_err(|error| format!("not a JSON object: {error}"))?;
        let mut partition_keys = Vec::new();
        if let Some(found) = self.find(record.get(&self.field)) {
            if self.partition {
                partition_keys.push((self.into.clone(), text(found)));
            }
            record.insert(self.into.clone(), found.clone());
        }
        let data = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        Ok(Output { data, partition_keys })
    }

    fn find(&self, value: Option<&Value>) -> Option<&Value> {
        value.and_then(|value| self.table.get(&text(value))).or(self.otherwise.as_ref())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

export!(Enrich);
