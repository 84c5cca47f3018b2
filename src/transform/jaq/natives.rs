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
const CHECKED: [(&str, &str); 8] = [
    ("matches", "matches_unchecked"),
    ("split_matches", "split_matches_unchecked"),
    ("split_", "split_unchecked"),
    ("escape_html", "escape_html_unchecked"),
    ("encode_uri", "encode_uri_unchecked"),
    ("escape_sh", "escape_sh_unchecked"),
    ("gmtime", "gmtime_unchecked"),
    ("strftime", "strftime_unchecked"),
];

/// In jq: what is checked, and what jaq has elsewhere or not at all.
const OURS: &str = r#"
def matches($re; $flags):       regex_fits_($re; $flags) | matches_unchecked($re; $flags);
def split_matches($re; $flags): regex_fits_($re; $flags) | split_matches_unchecked($re; $flags);
def split_($re; $flags):        regex_fits_($re; $flags) | split_unchecked($re; $flags);
def escape_html: grows_(6) | escape_html_unchecked;
def encode_uri: grows_(3) | encode_uri_unchecked;
def escape_sh: grows_(4) | escape_sh_unchecked;
def gmtime: time_fits_ | gmtime_unchecked;
def strftime($format): time_fits_ | strftime_unchecked($format);
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

/// Most groups of a regular expression.
const REGEX_GROUPS_MAX: usize = 100;

/// Beyond the years that times can have, and far below 2^63 microseconds.
const SECONDS_MAX: usize = 260_000_000_000;

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
        ("regex_fits_", v(2), |mut cv| {
            let (flags, regex) = (cv.0.pop_var(), cv.0.pop_var());
            bome(regex_fits(cv.1, &regex, &flags))
        }),
        ("grows_", v(1), |cv| unary(cv, |value, times| Ok(grows(value, &times)))),
        ("time_fits_", v(0), |cv| bome(time_fits(cv.1))),
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
        Value::Str(text) => {
            meter::work(text.len());
            Value::from(text.chars().count())
        }
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
        (Value::Str(text), Value::Str(part)) => {
            meter::work(text.len());
            text.contains(part.as_str())
        }
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
        (Value::Str(text), Value::Str(part)) => indices_in(text, part),
        (Value::Arr(_), Value::Arr(part)) => value.positions_in_array(&part.of),
        (Value::Arr(_), part) => value.positions_in_array(std::slice::from_ref(part)),
        _ => return Err(Error::index(value.clone(), part.clone())),
    };
    Ok(found.into_iter().map(Value::from).collect())
}

/// At which characters the part begins.
fn indices_in(text: &str, part: &str) -> Vec<usize> {
    let (mut found, mut rest, mut before) = (Vec::new(), text, 0);
    loop {
        let at = rest.find(part);
        meter::work(at.unwrap_or(rest.len()) + part.len());
        let Some(at) = at else { return found };
        before += rest[..at].chars().count();
        found.push(before);
        meter::charge(size_of::<usize>());
        let mut after = rest[at..].chars();
        after.next();
        (rest, before) = (after.as_str(), before + 1);
    }
}

fn bsearch(items: &Value, wanted: &Value) -> Result<Value, Error> {
    let Value::Arr(items) = items else { return Err(Error::typ(items.clone(), "array")) };
    let found = items.of.binary_search(wanted);
    Ok(Value::from(found.map_or_else(|at| -1 - at as isize, |at| at as isize)))
}

/// The text, if there is memory for as many times its length.
fn grows(text: Value, times: &Value) -> Value {
    if let (Value::Str(text), Some(times)) = (&text, times.as_isize()) {
        meter::charge(text.len().saturating_mul(times.unsigned_abs()));
    }
    text
}

/// The time, if its microseconds are a number of 64 bits: the library takes others for other times.
fn time_fits(time: Value) -> Result<Value, Error> {
    match time.as_isize() {
        Some(seconds) if seconds.unsigned_abs() > SECONDS_MAX => {
            Err(Error::str(format_args!("{time} is no time in seconds")))
        }
        _ => Ok(time),
    }
}

/// The text, if this regular expression can run over it in time and memory: nothing stops one that runs.
fn regex_fits(text: Value, regex: &Value, flags: &Value) -> Result<Value, Error> {
    if let (Value::Str(text), Value::Str(regex), Value::Str(flags)) = (&text, regex, flags) {
        let groups = 1 + regex.bytes().filter(|byte| *byte == b'(').count();
        if groups > REGEX_GROUPS_MAX {
            return Err(Error::str(format_args!("a regular expression has at most {REGEX_GROUPS_MAX} groups")));
        }
        let has_comment = regex.contains('#') && regex.contains('\n') && (flags.contains('x') || regex.contains("(?"));
        if has_comment && regex.contains('{') {
            return Err(Error::str("a regular expression with `{` can have no comments"));
        }
        let states = states(regex);
        let length = text.len() as u64;
        let lengths = if flags.contains('g') && looks_far(regex) { length.saturating_mul(length) } else { length };
        if states.saturating_mul(lengths) > REGEX_WORK_MAX {
            return Err(Error::str("this regular expression takes too long on a text of this length"));
        }
        // Two tables of where each group begins and ends, for each state.
        let tables = states.saturating_mul(4 * 8 * groups as u64);
        meter::charge(usize::try_from(tables).unwrap_or(usize::MAX).saturating_add(regex.len().saturating_mul(16)));
    }
    Ok(text)
}

/// Whether a search may go on far behind a match, so that to find all takes a square of the length: an unbounded
/// repetition, and something that may match without it.
fn looks_far(regex: &str) -> bool {
    let regex: String = regex.chars().filter(|c| !c.is_whitespace()).collect();
    let holds = |pieces: &[&str]| pieces.iter().any(|piece| regex.contains(piece));
    holds(&["*", "+", ",}"]) && holds(&["|", ")?", ")*", ")+", "){"])
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
            // With the flag x it is nothing: what repeats is before it.
            b' ' | b'\t'..=b'\r' | 0x80.. => last = last.saturating_add(1),
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
