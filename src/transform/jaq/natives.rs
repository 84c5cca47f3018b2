//! The functions that programs may call: jaq's, less those that reach out of the record or cannot be limited.

use std::iter;

use jaq_core::load::{self, parse::Def};
use jaq_core::native::{self, Filter, Fun, bome, unary, v};
use jaq_core::{RunPtr, ValT as _};
use jaq_json::Num;
use jaq_std::ValT as _;

use super::json;
use super::meter;
use super::run::Json;
use super::value::{Error, Value};

/// Of jaq's these are left out: the environment, the machine's time zone, the log, and loops that nothing can stop.
const LEFT_OUT: [&str; 7] = ["env", "localtime", "strflocaltime", "debug_empty", "stderr_empty", "jn", "yn"];

/// Jaq's that are called behind a check of their cost.
const CHECKED: [(&str, &str); 3] =
    [("matches", "matches_unchecked"), ("split_matches", "split_matches_unchecked"), ("split_", "split_unchecked")];

/// In jq: what is checked, and what jaq has elsewhere or not at all.
const OURS: &str = r#"
def matches($re; $flags):       regex_fits($re) | matches_unchecked($re; $flags);
def split_matches($re; $flags): regex_fits($re) | split_matches_unchecked($re; $flags);
def split_($re; $flags):        regex_fits($re) | split_unchecked($re; $flags);
"#;

const OURS_AFTER: &str = r#"
def toarray: if isarray then . else [.] end;
def trimstr($x): ltrimstr($x) | rtrimstr($x);
def @csv: [.[] | if isstring then "\"" + (split("\"") | join("\"\"")) + "\"" elif . == null then "" elif . < [] then tostring
  else error("only numbers, texts, booleans and null can be a csv field") end] | join(",");
def @tsv: [.[] | if isstring then split("\\") | join("\\\\") | split("\t") | join("\\t") | split("\n") | join("\\n")
  | split("\r") | join("\\r") elif . == null then "" elif . < [] then tostring
  else error("only numbers, texts, booleans and null can be a tsv field") end] | join("\t");
"#;

/// States of a regular expression times bytes of the text: some seconds at most.
const REGEX_WORK_MAX: u64 = 1 << 29;

/// All definitions in jq.
pub fn defs() -> impl Iterator<Item = Def<&'static str>> {
    let parse = |text| load::parse(text, |parser| parser.defs()).into_iter().flatten();
    let theirs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    parse(OURS).chain(theirs).chain(parse(OURS_AFTER))
}

/// All functions in Rust.
pub fn funs() -> impl Iterator<Item = Fun<Json>> {
    let theirs = jaq_core::funs().chain(jaq_std::funs()).filter(|(name, ..)| !LEFT_OUT.contains(name));
    let theirs = theirs.map(|(name, arguments, run)| {
        let renamed = CHECKED.iter().find(|(checked, _)| *checked == name).map_or(name, |(_, unchecked)| unchecked);
        (renamed, arguments, run)
    });
    ours().into_iter().map(|function| native::run::<Json>(function)).chain(theirs)
}

fn ours() -> Vec<Filter<RunPtr<Json>>> {
    vec![
        ("env", v(0), |_| bome(Value::from_map([]))),
        ("debug_empty", v(0), |_| Box::new(iter::empty())),
        ("stderr_empty", v(0), |_| Box::new(iter::empty())),
        ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
        ("tojson", v(0), |cv| bome(Ok(Value::from(cv.1.to_json())))),
        ("length", v(0), |cv| bome(length(cv.1))),
        ("has", v(1), |cv| unary(cv, |value, key| has(&value, &key).map(Value::from))),
        ("contains", v(1), |cv| unary(cv, |value, part| Ok(Value::from(contains(&value, &part))))),
        ("indices", v(1), |cv| unary(cv, |value, part| indices(&value, &part))),
        ("bsearch", v(1), |cv| unary(cv, |items, wanted| bsearch(&items, &wanted))),
        ("regex_fits", v(1), |cv| unary(cv, regex_fits)),
    ]
}

fn from_json(value: &Value) -> Result<Value, Error> {
    let Value::Str(text) = value else { return Err(Error::typ(value.clone(), "text")) };
    meter::charge(text.len());
    json::read(text.as_bytes()).map_err(|error| Error::str(format_args!("not JSON: {error}")))
}

fn length(value: Value) -> Result<Value, Error> {
    Ok(match value {
        Value::Null => Value::from(0usize),
        Value::Num(Num::Int(whole)) => Value::from(whole.unsigned_abs()),
        Value::Num(_) => Value::from(value.as_f64().map_or(0.0, f64::abs)),
        Value::Str(text) => Value::from(text.chars().count()),
        Value::Arr(array) => Value::from(array.of.len()),
        Value::Obj(object) => Value::from(object.of.len()),
        Value::Bool(_) => return Err(Error::str(format_args!("{value} has no length"))),
    })
}

fn has(value: &Value, key: &Value) -> Result<bool, Error> {
    match (value, key) {
        (Value::Obj(_), Value::Str(_)) | (Value::Arr(_), Value::Num(_)) => Ok(value.get(key)?.is_some()),
        _ => Err(Error::index(value.clone(), key.clone())),
    }
}

fn contains(value: &Value, part: &Value) -> bool {
    meter::step();
    match (value, part) {
        (Value::Str(text), Value::Str(part)) => text.contains(part.as_str()),
        (Value::Arr(items), Value::Arr(parts)) => {
            parts.of.iter().all(|part| items.of.iter().any(|item| contains(item, part)))
        }
        (Value::Obj(object), Value::Obj(parts)) => {
            parts.of.iter().all(|(key, part)| object.of.get(key).is_some_and(|item| contains(item, part)))
        }
        _ => value == part,
    }
}

fn indices(value: &Value, part: &Value) -> Result<Value, Error> {
    let found: Vec<usize> = match (value, part) {
        (Value::Null, _) => return Ok(Value::Null),
        (Value::Str(_), Value::Str(part)) if part.is_empty() => return Ok(Value::Null),
        (Value::Str(text), Value::Str(part)) => {
            let starts = text.char_indices().enumerate();
            starts.filter(|(_, (at, _))| text[*at..].starts_with(part.as_str())).map(|(count, _)| count).collect()
        }
        (Value::Arr(_), Value::Arr(part)) => value.positions_in_array(&part.of),
        (Value::Arr(_), part) => value.positions_in_array(std::slice::from_ref(part)),
        _ => return Err(Error::index(value.clone(), part.clone())),
    };
    Ok(found.into_iter().map(Value::from).collect())
}

fn bsearch(items: &Value, wanted: &Value) -> Result<Value, Error> {
    let Value::Arr(items) = items else { return Err(Error::typ(items.clone(), "array")) };
    let found = items.of.binary_search(wanted);
    Ok(Value::from(found.map_or_else(|at| -1 - at as isize, |at| at as isize)))
}

/// The text, if this regular expression can run over it in time: nothing stops one that runs.
fn regex_fits(text: Value, regex: Value) -> Result<Value, Error> {
    if let (Value::Str(text), Value::Str(regex)) = (&text, &regex) {
        meter::charge(regex.len().saturating_mul(16));
        if states(regex).saturating_mul(text.len() as u64) > REGEX_WORK_MAX {
            return Err(Error::str("this regular expression takes too long on a text of this length"));
        }
    }
    Ok(text)
}

/// About how many states it has: its characters, as often as they repeat.
fn states(regex: &str) -> u64 {
    let (mut groups, mut sum, mut last) = (Vec::new(), 0u64, 0u64);
    let mut bytes = regex.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'(' => {
                groups.push(sum.saturating_add(last));
                (sum, last) = (0, 0);
            }
            b')' => {
                last = sum.saturating_add(last).saturating_add(1);
                sum = groups.pop().unwrap_or(0);
            }
            b'{' => {
                let counts = regex[at + 1..].split('}').next().unwrap_or_default();
                let most = counts.split(',').filter_map(|count| count.trim().parse::<u64>().ok()).max();
                last = last.saturating_mul(most.unwrap_or(1).max(1));
            }
            _ => {
                if byte == b'\\' {
                    bytes.next();
                }
                sum = sum.saturating_add(last);
                last = 1;
            }
        }
    }
    groups.into_iter().fold(sum.saturating_add(last), u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_counted_as_they_repeat() {
        assert_eq!(states("abc"), 3);
        assert!(states(r"(\d{4}-\d{2}){3}") >= 21);
        assert!(states("((a{100}){100}){100}") >= 1_000_000);
        assert!(states("(((((((") < 10);
    }
}
