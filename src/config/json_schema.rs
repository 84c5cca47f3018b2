//! JSON Schemas of what is written in YAML, made of the types that read it, for editors and for the reference.
//!
//! The promise: what loads, validates. What a type alone cannot say is said here for all of them: any scalar may be a
//! `${NAME}`, a map without required keys may be left empty, a choice is a map of exactly one key.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::settings::WrittenSettings;
use super::written::Pipeline;
use crate::units::Size;

/// A `${NAME}` in a scalar, as a regular expression.
const VARIABLE: &str = "\\$\\{";

/// The schema of a pipeline file.
pub fn pipeline_schema() -> Value {
    schema_of::<Pipeline>("A pipeline of hydrant")
}

/// The schema of `hydrant.yaml`.
pub fn settings_schema() -> Value {
    schema_of::<WrittenSettings>("Settings of hydrant")
}

/// The schema of a type that is read from YAML, with this title.
pub fn schema_of<T: JsonSchema>(title: &str) -> Value {
    // The draft that editors know best; without references they show more.
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    tidy(&mut schema);
    schema["title"] = json!(title);
    schema
}

/// Says it as YAML and its reader have it, from the leaves up.
fn tidy(value: &mut Value) {
    if let Value::Array(items) = value {
        items.iter_mut().for_each(tidy);
    }
    let Value::Object(schema) = value else { return };
    for (key, below) in schema.iter_mut() {
        match (key.as_str(), below) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(tidy),
            ("anyOf" | "oneOf" | "items" | "additionalProperties", below) => tidy(below),
            _ => {}
        }
    }
    for noise in ["format", "title"] {
        schema.remove(noise);
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = in_lines(description);
    }
    without_null(schema);
    defaults(schema);
    choices(schema);
    scalars(schema);
    if schema.get("type").and_then(Value::as_str) == Some("object") && !schema.contains_key("required") {
        let is_choice = schema.contains_key("minProperties");
        schema.insert("type".into(), if is_choice { json!("object") } else { json!(["object", "null"]) });
    }
}

/// Paragraphs as lines, and names of code without links.
fn in_lines(text: &str) -> String {
    let paragraphs =
        text.split("\n\n").map(|paragraph| paragraph.split('\n').map(str::trim).collect::<Vec<_>>().join(" "));
    let text = paragraphs.collect::<Vec<_>>().join("\n\n");
    text.replace("[`", "`").replace("`]", "`")
}

/// An optional key is left out; nobody writes `null`.
fn without_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    let Some(Value::Array(options)) = schema.get_mut("anyOf") else { return };
    options.retain(|option| option.get("type").is_none_or(|name| name != "null"));
    if let [Value::Object(only)] = options.as_slice() {
        let only = only.clone();
        schema.remove("anyOf");
        for (key, value) in only {
            schema.entry(key).or_insert(value);
        }
    }
}

/// Defaults as people write them; what is made of keys has its defaults there.
fn defaults(schema: &mut Map<String, Value>) {
    let is_size = schema.get("x-type").is_some_and(|kind| kind == "size");
    let default = match schema.get("default") {
        Some(Value::Number(bytes)) if is_size => bytes.as_u64().map(|bytes| json!(Size::from_bytes(bytes).to_string())),
        Some(Value::Null) => None,
        Some(Value::Object(map)) if map.len() != 1 || schema.contains_key("properties") => None,
        Some(Value::Array(items)) if items.is_empty() => None,
        Some(Value::String(text)) if text.is_empty() && schema.contains_key("enum") => None,
        other => other.cloned(),
    };
    schema.remove("default");
    schema.extend(default.map(|default| ("default".to_owned(), default)));
}

/// A list of maps with one key each, of which one is to be taken, as one map: editors then know what is wrong where.
fn choices(schema: &mut Map<String, Value>) {
    let Some(Value::Array(options)) = schema.get("oneOf") else { return };
    let words = options.iter().filter(|option| option.get("properties").is_none()).cloned().collect::<Vec<_>>();
    let mut properties = Map::new();
    for option in options {
        let Some(Value::Object(of_option)) = option.get("properties") else { continue };
        for (word, below) in of_option {
            let mut below = below.clone();
            if let (Some(description), Value::Object(below)) = (option.get("description"), &mut below) {
                below.insert("description".into(), description.clone());
            }
            properties.insert(word.clone(), below);
        }
    }
    if properties.is_empty() {
        // Words only.
        let variable = json!({ "type": "string", "pattern": VARIABLE });
        let words = words.into_iter().chain([variable]).collect();
        schema.insert("oneOf".into(), Value::Array(words));
        return;
    }
    schema.remove("oneOf");
    // Not `maxProperties`: where one key is allowed, yaml-language-server takes the one being typed for it, and is silent.
    let exactly_one: Vec<Value> = properties.keys().map(|word| json!({ "required": [word] })).collect();
    let map = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "minProperties": 1,
        "oneOf": exactly_one,
        "x-type": "choice"
    });
    match (words.is_empty(), map) {
        (true, Value::Object(map)) => schema.extend(map),
        (_, map) => {
            schema.insert("anyOf".into(), words.into_iter().chain([map]).collect());
        }
    }
}

/// Any scalar may come from a variable, and where a text is wanted any will do.
fn scalars(schema: &mut Map<String, Value>) {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let has = |key: &str| schema.contains_key(key);
    match kind.as_str() {
        "integer" | "number" | "boolean" => {
            schema.insert("type".into(), json!([kind, "string"]));
            schema.insert("pattern".into(), json!(VARIABLE));
        }
        "string" if has("enum") => {
            let words = schema.remove("enum");
            schema.remove("type");
            let variable = json!({ "type": "string", "pattern": VARIABLE });
            schema.insert("anyOf".into(), json!([{ "type": "string", "enum": words }, variable]));
        }
        "string" if has("const") => {}
        "string" if !has("pattern") => {
            schema.insert("type".into(), json!(["string", "number", "boolean"]));
        }
        _ => {
            if let Some(Value::String(pattern)) = schema.get_mut("pattern").filter(|pattern| **pattern != VARIABLE) {
                *pattern = format!("{pattern}|{VARIABLE}");
            }
        }
    }
}
