//! Every key of a pipeline with its value: as written, or as it is by default.

use serde::Serialize;
use serde_json::Value;

/// One key.
#[derive(Debug, Serialize)]
pub struct Key {
    /// Its way, such as `buffer.size`.
    pub key: String,
    pub value: String,
    /// Whether it was not written.
    pub default: bool,
}

/// The keys of what is written, by its schema; those without a default stand only where they are written.
pub fn keys(schema: &Value, written: &Value) -> Vec<Key> {
    let mut keys = Vec::new();
    gather(schema, Some(written), String::new(), &mut keys);
    keys
}

fn gather(schema: &Value, written: Option<&Value>, way: String, keys: &mut Vec<Key>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let is = |kind: &str| schema.get("x-type").is_some_and(|found| found == kind);
    if let Some(properties) = properties.filter(|_| !is("settings")) {
        let is_choice = is("choice");
        for (name, below) in properties {
            let of_name = written.and_then(|written| written.get(name));
            // What was not chosen has no defaults.
            if is_choice && of_name.is_none() {
                continue;
            }
            let way = if way.is_empty() { name.clone() } else { format!("{way}.{name}") };
            gather(below, of_name, way, keys);
        }
        return;
    }
    if let (Some(items), Some(Value::Array(of_items))) = (schema.get("items"), written)
        && items.get("x-type").is_some_and(|kind| kind == "choice")
    {
        of_items.iter().enumerate().for_each(|(at, item)| gather(items, Some(item), format!("{way}[{at}]"), keys));
        return;
    }
    let (value, default) = match (written, schema.get("default")) {
        (Some(_), _) if is("secret") || is("settings") || is("columns") => return,
        (Some(Value::Null), Some(default)) | (None, Some(default)) => (default, true),
        (Some(written), _) => (written, false),
        (None, None) => return,
    };
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    keys.push(Key { key: way, value: value.lines().next().unwrap_or_default().to_owned(), default });
}
