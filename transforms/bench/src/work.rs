//! Work on a record, written once: the guest does it in WebAssembly, and the bench natively.

use serde_json::Value;

/// What a record became.
pub enum Became {
    Record(Vec<u8>),
    Nothing,
}

/// Does something to a record, which arrived at this time (Unix milliseconds).
pub type Work = fn(Vec<u8>, u64) -> Result<Became, String>;

/// The work of this name.
pub fn of(name: &str) -> Option<Work> {
    match name {
        "identity" => Some(identity),
        "redact" => Some(redact),
        "parse-drop-add" => Some(parse_drop_add),
        _ => None,
    }
}

fn identity(data: Vec<u8>, _: u64) -> Result<Became, String> {
    Ok(Became::Record(data))
}

/// Puts three stars in the place of `email` and `user.ip`.
fn redact(data: Vec<u8>, _: u64) -> Result<Became, String> {
    let mut record = parse(&data)?;
    if let Some(email) = record.get_mut("email") {
        *email = "***".into();
    }
    if let Some(ip) = record.get_mut("user").and_then(|user| user.get_mut("ip")) {
        *ip = "***".into();
    }
    written(&record)
}

/// Drops a record whose `level` is `debug`; adds to others when they were processed.
fn parse_drop_add(data: Vec<u8>, arrival_ms: u64) -> Result<Became, String> {
    let mut record = parse(&data)?;
    if record.get("level").and_then(Value::as_str) == Some("debug") {
        return Ok(Became::Nothing);
    }
    let members = record.as_object_mut().ok_or("not an object")?;
    members.insert("email".to_owned(), "***".into());
    members.insert("processed_at".to_owned(), arrival_ms.into());
    written(&record)
}

fn parse(data: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(data).map_err(|error| error.to_string())
}

fn written(record: &Value) -> Result<Became, String> {
    serde_json::to_vec(record).map(Became::Record).map_err(|error| error.to_string())
}
