//! The transform: its config, and what hydrant calls.

mod redact;

use std::sync::OnceLock;

use exports::hydrant::transform::transformer::{Event, Guest, Output};
use redact::{Keyed, Redactor, With};
use serde::Deserialize;
use serde_json::Value;

wit_bindgen::generate!({ path: "../hydrant.wit", world: "transform" });

/// What the pipeline file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Paths of keys, with dots between them: `user.ip`. Arrays on the way are gone through.
    fields: Vec<String>,
    /// Values become this.
    #[serde(default, deserialize_with = "given")]
    with: Option<Value>,
    /// Values become 32 hexadecimal digits of HMAC-SHA256 under this key: equal ones stay equal.
    hash: Option<String>,
    /// Values go, together with their keys.
    #[serde(default)]
    remove: bool,
}

/// `null` is a value to put in place, too.
fn given<'d, D: serde::Deserializer<'d>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

impl Config {
    fn redactor(&self) -> Result<Redactor, String> {
        let with = match (&self.with, &self.hash, self.remove) {
            (None, None, false) => With::Text(br#""***""#.to_vec()),
            (Some(value), None, false) => With::Text(value.to_string().into_bytes()),
            (None, Some(key), false) => With::Hash(Keyed::new(key)?),
            (None, None, true) => With::Nothing,
            _ => return Err("of `with`, `hash` and `remove` only one can be done".to_owned()),
        };
        Redactor::new(self.fields.iter().map(String::as_str), with)
    }
}

static REDACTOR: OnceLock<Redactor> = OnceLock::new();

struct Redact;

impl Guest for Redact {
    fn init(config: String) -> Result<(), String> {
        let config: Config = serde_json::from_str(&config).map_err(|error| format!("config: {error}"))?;
        REDACTOR.set(config.redactor()?).map_err(|_| "init is called once".to_owned())
    }

    fn process(events: Vec<Event>) -> Vec<Result<Vec<Output>, String>> {
        let redactor = REDACTOR.get().expect("init comes first");
        let one = |event: Event| {
            let data = redactor.redact(event.data).map_err(|fault| fault.to_string())?;
            Ok(vec![Output { data, partition_keys: Vec::new() }])
        };
        events.into_iter().map(one).collect()
    }
}

export!(Redact);
