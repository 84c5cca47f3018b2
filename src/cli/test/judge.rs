//! Whether what came out of a case is what was expected, and what differs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cases::{Case, Expected, Output, payload};
use crate::cli::dry::{Dry, Reject};
use crate::cli::transform::diff;
use crate::config::PipelineSpec;

/// What differs, part by part, with `-` before what was expected and `+` before what became; nothing if all is as expected.
pub fn differences(case: &Case, dry: &Dry, spec: &PipelineSpec) -> Vec<String> {
    let mut differing = Vec::new();
    if let Some(expected) = &case.output {
        match output(expected, dry, spec) {
            Ok(None) => {}
            Ok(Some(text)) => differing.push(format!("output (- expected, + became):\n{}", text.trim_end())),
            Err(wrong) => differing.push(format!("output: {wrong}")),
        }
    }
    rejects(&case.rejects, &dry.rejected, &mut differing);
    if let Some(expected) = case.dropped.filter(|expected| *expected != dry.dropped) {
        differing.push(format!("dropped:\n- {expected}\n+ {}", dry.dropped));
    }
    if let Some(patterns) = &case.objects {
        objects(patterns, dry, &mut differing);
    }
    differing
}

fn output(expected: &Output, dry: &Dry, spec: &PipelineSpec) -> Result<Option<String>, String> {
    let mut became: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for object in &dry.objects {
        let rows = object.rows(spec).map_err(|error| format!("{}: {error}", object.name))?;
        became.entry(&object.prefix).or_default().extend(rows);
    }
    let (expected, became) = match expected {
        Output::Rows(rows) => (numbered(rows.iter()), numbered(became.values().flatten())),
        Output::ByPrefix(prefixes) => {
            let lines = |prefixes: BTreeMap<&str, Vec<&Value>>, all: &[&str]| {
                let mut text = String::new();
                for (number, prefix) in all.iter().enumerate() {
                    for row in prefixes.get(prefix).into_iter().flatten() {
                        text.push_str(&format!("{} {prefix}  {}\n", number + 1, plain(row)));
                    }
                }
                text
            };
            let of_expected: BTreeMap<&str, Vec<&Value>> =
                prefixes.iter().map(|(prefix, rows)| (prefix.as_str(), rows.iter().collect())).collect();
            let of_became: BTreeMap<&str, Vec<&Value>> =
                became.iter().map(|(prefix, rows)| (*prefix, rows.iter().collect())).collect();
            let mut all: Vec<&str> = of_expected.keys().chain(of_became.keys()).copied().collect();
            all.sort_unstable();
            all.dedup();
            (lines(of_expected, &all), lines(of_became, &all))
        }
    };
    Ok(diff::between(&expected, &became))
}

/// Rows with their numbers, a line each.
fn numbered<'r>(rows: impl Iterator<Item = &'r Value>) -> String {
    rows.enumerate().map(|(number, row)| format!("{} {}\n", number + 1, plain(row))).collect()
}

/// A row as it is compared: without keys whose value is null, and whole numbers without a point.
fn plain(row: &Value) -> Value {
    match row {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Value::Number(number) => match number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
            Some(float) if float.abs() < 9e15 => Value::from(float as i64),
            _ => row.clone(),
        },
        other => other.clone(),
    }
}

fn rejects(expected: &[Expected], became: &[Reject], differing: &mut Vec<String>) {
    let mut left: Vec<&Reject> = became.iter().collect();
    let mut lines = Vec::new();
    for one in expected {
        match left.iter().position(|reject| fits(one, reject)) {
            Some(at) => drop(left.remove(at)),
            None => lines.push(format!("- {}", shown_expected(one))),
        }
    }
    lines.extend(left.iter().map(|reject| format!("+ {}", shown(reject))));
    if !lines.is_empty() {
        differing.push(format!("rejects (- expected, + became):\n{}", lines.join("\n")));
    }
}

fn fits(expected: &Expected, reject: &Reject) -> bool {
    let Expected { reason, code, message, record } = expected;
    reason.as_ref().is_none_or(|reason| *reason == reject.reason)
        && code.as_ref().is_none_or(|code| *code == reject.code)
        && message.as_ref().is_none_or(|part| reject.message.contains(part.as_str()))
        && record.as_ref().is_none_or(|record| same_record(record, &reject.record))
}

fn same_record(expected: &Value, record: &[u8]) -> bool {
    payload(expected).as_bytes() == record
        || serde_json::from_slice::<Value>(record).is_ok_and(|value| value == *expected)
}

fn shown(reject: &Reject) -> String {
    let record = String::from_utf8_lossy(&reject.record);
    format!("{} {}: {}  {record}", reject.reason, reject.code, reject.message)
}

fn shown_expected(expected: &Expected) -> String {
    let Expected { reason, code, message, record } = expected;
    let texts = [("reason", reason), ("code", code), ("message", message)];
    let mut parts: Vec<String> =
        texts.iter().filter_map(|(key, text)| text.as_ref().map(|text| format!("{key}: {text}"))).collect();
    parts.extend(record.as_ref().map(|record| format!("record: {record}")));
    if parts.is_empty() { "any record".to_owned() } else { parts.join(", ") }
}

fn objects(patterns: &[String], dry: &Dry, differing: &mut Vec<String>) {
    let mut left: Vec<&str> = dry.objects.iter().map(|object| object.name.as_str()).collect();
    let mut lines = Vec::new();
    for pattern in patterns {
        let parts = pattern.split('*').map(glob::Pattern::escape).collect::<Vec<_>>().join("*");
        let fits = |name: &&str| glob::Pattern::new(&parts).is_ok_and(|pattern| pattern.matches(name));
        match left.iter().position(fits) {
            Some(at) => drop(left.remove(at)),
            None => lines.push(format!("- {pattern}")),
        }
    }
    lines.extend(left.iter().map(|name| format!("+ {name}")));
    if !lines.is_empty() {
        differing.push(format!("objects (- expected, + became):\n{}", lines.join("\n")));
    }
}
