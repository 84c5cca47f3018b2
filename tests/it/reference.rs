//! The reference in `docs/configuration.md` is made of the types that read the configuration, and so tells all of it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use hydrant::config::{pipeline_schema, settings_schema};
use serde_json::Value;

/// What stands before the keys.
const BEFORE: &str = "\
# Configuration

<!-- Made by `UPDATE=1 cargo test --test it reference` of the types that read the configuration: change their comments. -->

A pipeline is a YAML file, named after it: `pipelines/clickstream.yaml` is the pipeline `clickstream`. It has one source, any
transforms, one format and one sink. Settings of the whole process stand in [`hydrant.yaml`](#hydrantyaml), and most of them
are flags of `hydrant run` too. `hydrant check` finds everything that is wrong, with line and column; `hydrant explain` shows what
a pipeline will do. [pipelines/reference.yaml](../pipelines/reference.yaml) is all of it as one file with comments. For
completion while you write, give your editor [pipeline.schema.json](pipeline.schema.json), which `hydrant schema json-schema` prints.

## How values are written

| type | written as |
| --- | --- |
| size | `128 MiB`, `64MB`, or a number of bytes; KiB, MiB, GiB, TiB are powers of 1024, KB, MB, GB, TB of 1000 |
| interval | `60s`, `500ms`, `1h30m`; a number without a unit is refused |
| text | any scalar; in quotes where YAML would take it for something else, as with `{` in it |
| secret | `env:NAME` (an environment variable), `file:/path`, `cred:name` (a systemd credential); never printed. A literal one works, with a warning |
| column type | `string`, `int64`, `timestamp(ms)`, `decimal(12,2)`, `list<string>`, `struct<a: int, b: string>` ..; with `not null` behind it a record without it is set aside |
| one of | a map of exactly one key, such as `source: { demo: {} }` |

`${NAME}` in any scalar is the environment variable NAME. Paths are relative to the current folder, those of schema files and
modules to the pipeline's file. Unknown keys are errors.
";

/// What stands behind the keys of a pipeline.
const THE_PREFIX: &str = "
## The prefix

Where an object goes is made of its records. Records of different prefixes go to different objects.

| in a template | becomes |
| --- | --- |
| `{country}`, `{device.os}` | a field of the record (JSON) |
| `{event_time:%Y-%m-%d}` | that field as a time, in the sink's `time_zone` |
| `{arrival:%H}` | the time of arrival |
| `!{timestamp:yyyy/MM/dd/HH}` | Firehose's: the oldest arrival in the object |
| `!{firehose:random-string}` | Firehose's |
| `!{partitionKeyFromQuery:id}` | Firehose's: a key of `partition_keys`, or of a `metadata_extraction` |
| `!{partitionKeyFromLambda:id}` | Firehose's: a key that a `lambda` or `wasm` transform gives |
| `!{partitionKey:id}` | a key of `partition_keys`; else one that a transform gives |
| `{{` | a brace |

In `errors.prefix` there are `{reason}` (`processing-failed`, `format-conversion-failed`, `metadata-extraction-failed`),
`{arrival:..}`, and Firehose's `!{firehose:error-output-type}`, `!{firehose:random-string}`, `!{timestamp:..}`.
";

/// The stations in the order of the data.
const STATIONS: [&str; 7] = ["source", "transforms", "format", "buffer", "sink", "errors", "spool"];

/// The reference.
fn reference() -> String {
    let mut text = BEFORE.to_owned();
    let pipeline = pipeline_schema();
    let stations: BTreeSet<&str> = pipeline["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(stations, STATIONS.into(), "a station is not in the reference");
    for station in STATIONS {
        let required = is_required(&pipeline, station);
        let below = &pipeline["properties"][station];
        let _ = writeln!(text, "\n## `{station}`\n\n{}{}", words(below), if required { " Required." } else { "" });
        keys(&mut text, station, below);
    }
    text.push_str(THE_PREFIX);
    let settings = settings_schema();
    let _ = writeln!(
        text,
        "\n## hydrant.yaml\n\nSettings of the process: `hydrant run --config hydrant.yaml pipelines/`. Flags win."
    );
    keys(&mut text, "", &settings);
    text
}

/// The keys below a way: choices as sections, others as a table.
fn keys(text: &mut String, way: &str, schema: &Value) {
    let schema = schema.get("items").filter(|items| items.get("properties").is_some()).unwrap_or(schema);
    let Some(properties) = schema["properties"].as_object() else { return };
    if schema["x-type"] == "choice" {
        for (word, below) in properties {
            let _ = writeln!(text, "\n### `{way}: {word}`\n\n{}", words(below));
            if word == "wasm" {
                let _ = writeln!(text, "\nHow to write one: [transforms](transforms.md).");
            }
            let below = map_form(below);
            if below["properties"].as_object().is_none_or(|keys| keys.is_empty()) {
                let _ = writeln!(text, "\nNo keys: `{word}: {{}}`.");
            }
            table(text, "", below);
        }
        return;
    }
    table(text, "", schema);
}

/// Of what is written as a text or as a map, the map.
fn map_form(schema: &Value) -> &Value {
    let options = schema["anyOf"].as_array().into_iter().flatten();
    options.clone().find(|option| option.get("properties").is_some()).unwrap_or(schema)
}

fn table(text: &mut String, above: &str, schema: &Value) {
    let Some(properties) = schema["properties"].as_object().filter(|keys| !keys.is_empty()) else { return };
    if above.is_empty() {
        text.push_str("\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
    }
    let (first, then): (Vec<_>, Vec<_>) = properties.iter().partition(|(key, _)| is_required(schema, key));
    for (key, below) in first.into_iter().chain(then) {
        let way = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        let default = match below.get("default") {
            _ if is_required(schema, key) => "required".to_owned(),
            Some(Value::String(default)) => code(default),
            Some(default) => code(&default.to_string()),
            None => String::new(),
        };
        let mut meaning = words(below);
        if let Some(bounds) = bounds(below) {
            let _ = write!(meaning, " Bounds: {bounds}.");
        }
        let examples = below["examples"].as_array().into_iter().flatten();
        let examples: Vec<String> = examples.map(|example| code(example.as_str().unwrap_or_default())).collect();
        if !examples.is_empty() {
            let _ = write!(meaning, " Examples: {}.", examples.join(", "));
        }
        let alternatives = alternatives(below);
        if !alternatives.is_empty() {
            let _ = write!(meaning, " {}", alternatives.join(" "));
        }
        let meaning = meaning.trim().replace('|', "\\|").replace('\n', " ");
        let _ = writeln!(text, "| `{way}` | {} | {default} | {meaning} |", kind(below));
        let rows = below.get("items").unwrap_or(below);
        if rows["x-type"] != "settings" && below["x-type"] != "columns" {
            table(text, &way, map_form(rows));
        }
    }
}

fn code(text: &str) -> String {
    if text.is_empty() {
        "an empty text".to_owned()
    } else {
        format!("`{}`", text.replace('|', "\\|").replace('\t', "\\t"))
    }
}

fn is_required(schema: &Value, key: &str) -> bool {
    schema["required"].as_array().into_iter().flatten().any(|required| required == key)
}

fn words(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn bounds(schema: &Value) -> Option<String> {
    if let Some(bounds) = schema["x-bounds"].as_str() {
        return Some(bounds.to_owned());
    }
    match (schema["minimum"].as_u64().filter(|min| *min > 0), schema["maximum"].as_u64()) {
        (Some(min), Some(max)) => Some(format!("{min} to {max}")),
        (None, Some(max)) => Some(format!("at most {max}")),
        (Some(min), None) => Some(format!("at least {min}")),
        (None, None) => None,
    }
}

/// The words of a choice of words, each with its meaning.
fn alternatives(schema: &Value) -> Vec<String> {
    let words_of = schema["oneOf"].as_array().into_iter().flatten();
    let told = |word: &Value| {
        let name = word["const"].as_str()?;
        Some(format!("`{name}`: {}", words(word)))
    };
    words_of.filter_map(told).collect()
}

fn kind(schema: &Value) -> String {
    match schema["x-type"].as_str() {
        Some("choice") => return "one of".into(),
        Some("settings") => return "map".into(),
        Some(named) => return named.to_owned(),
        None => {}
    }
    for several in ["anyOf", "oneOf"] {
        if let Some(options) = schema[several].as_array() {
            let mut kinds: Vec<String> = options.iter().filter(|option| !is_variable(option)).map(kind).collect();
            kinds.dedup();
            return kinds.join(" or ");
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(", ");
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("`{word}`");
    }
    let is = |name: &str| {
        schema["type"] == name || schema["type"].as_array().is_some_and(|names| names.iter().any(|it| it == name))
    };
    match () {
        () if is("integer") => "number".into(),
        () if is("object") => "map".into(),
        () if is("array") => format!("list of {}", kind(&schema["items"])),
        () if is("string") && is("boolean") && !is("number") => "true, false".into(),
        () if is("string") => "text".into(),
        () => "anything".into(),
    }
}

fn is_variable(schema: &Value) -> bool {
    schema["pattern"] == "\\$\\{"
}

#[test]
fn the_reference_tells_what_the_types_read() {
    crate::support::kept::is_kept("docs/configuration.md", &reference());
}

#[test]
fn every_key_says_what_it_means() {
    let mut silent = Vec::new();
    for (of, schema) in [("pipeline", pipeline_schema()), ("hydrant.yaml", settings_schema())] {
        visit(&schema, of, &mut |way, schema| {
            let said = words(schema);
            if said.len() < 10 || said.contains("ptions, as written") {
                silent.push(format!("{way}: {said}"));
            }
        });
    }
    assert!(silent.is_empty(), "keys without words for users:\n{}", silent.join("\n"));
}

#[test]
fn the_commented_pipeline_names_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/reference.yaml");
    let text = fs::read_to_string(path).unwrap();
    let mut missing = Vec::new();
    visit(&pipeline_schema(), "", &mut |way, _| {
        let key = way.rsplit('.').next().unwrap();
        let named = text.match_indices(&format!("{key}:")).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            before.is_none_or(|sign| !sign.is_alphanumeric() && sign != '_')
        });
        if !named {
            missing.push(way.to_owned());
        }
    });
    assert!(missing.is_empty(), "not in pipelines/reference.yaml: {missing:?}");
}

/// Visits every key with its way; not those of stores, which are object_store's own.
fn visit(schema: &Value, way: &str, told: &mut impl FnMut(&str, &Value)) {
    if schema["x-type"] == "settings" || schema["x-type"] == "columns" {
        return;
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let way = format!("{way}.{key}");
        told(&way, below);
        visit(below, &way, told);
    }
    for below in ["anyOf", "oneOf"].iter().filter_map(|several| schema[several].as_array()).flatten() {
        visit(below, way, told);
    }
    if let Some(items) = schema.get("items") {
        visit(items, way, told);
    }
}
