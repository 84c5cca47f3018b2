//! Drops records of one level, and hides e-mail addresses.

mod hydrant;

use hydrant::{Event, Output, Transform};
use serde_json::Value;

struct MyTransform {
    drop_level: String,
}

impl Transform for MyTransform {
    /// Once, before any record, with the `config` of the pipeline file: JSON, or an empty text. With an error the pipeline
    /// does not start.
    fn new(config: &str) -> Result<MyTransform, String> {
        if config.is_empty() {
            return Ok(MyTransform { drop_level: "debug".to_owned() });
        }
        let config: Value = serde_json::from_str(config).map_err(|error| format!("config: {error}"))?;
        Ok(MyTransform { drop_level: config["drop_level"].as_str().unwrap_or("debug").to_owned() })
    }

    /// One record: what it becomes (none: it is dropped), or why it is set aside.
    fn transform(&self, event: &Event) -> Result<Vec<Output>, String> {
        let mut record: Value = serde_json::from_slice(&event.data).map_err(|error| format!("not JSON: {error}"))?;
        let level = record["level"].as_str().ok_or("no field `level`")?;
        if level == self.drop_level {
            return Ok(vec![]);
        }
        if let Some(email) = record.get_mut("email") {
            *email = "***".into();
        }
        Ok(vec![record.to_string().into()])
    }
}

hydrant::export_transform!(MyTransform);
