//! One pass over the bytes of a JSON record that finds the values at a few paths, without building anything.
//!
//! It follows JSON's grammar (every bracket, comma and number), so that a torn or trailing record is noticed; inside
//! strings that nobody asked for it looks only for their end. It does not recurse, and goes [`DEPTH_MAX`] deep.

use std::borrow::Cow;

use super::field::{FieldPath, Step};

/// Deepest nesting of arrays and objects, as serde_json's.
pub const DEPTH_MAX: usize = 128;

/// Most paths looked for at once: one bit each.
pub const PATHS_MAX: usize = 64;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    Missing,
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a str),
    Text(Text<'a>),
    Object,
    Array,
}

/// A string as it is written, between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

/// Why the record is not JSON, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanError {
    pub at: usize,
    pub message: &'static str,
}

/// What a scan needs besides its input; kept from record to record.
#[derive(Debug, Default)]
pub struct Frames {
    open: Vec<Frame>,
    /// Per path: where its value begins, and of what kind it is.
    places: Vec<Place>,
}

/// An array or object that is open.
#[derive(Debug)]
struct Frame {
    /// The paths that lead through it.
    paths: u64,
    object: bool,
    index: usize,
}

/// A [`Found`] without its lifetime.
#[derive(Debug, Clone, Copy)]
enum Place {
    Missing,
    Null,
    Bool(bool),
    Number(usize, usize),
    Text(usize, usize, bool),
    Object,
    Array,
}

impl<'a> Text<'a> {
    /// The text without escapes; `None` if an escape is wrong. Allocates only where there are escapes.
    pub fn unescaped(&self) -> Option<Cow<'a, str>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        serde_json::from_str::<String>(&format!("\"{}\"", self.raw)).ok().map(Cow::Owned)
    }
}

impl Frames {
    /// Scans `json` for `paths` (at most [`PATHS_MAX`]); of a key that is there twice the last counts, as in jq.
    pub fn scan(&mut self, json: &str, paths: &[FieldPath]) -> Result<(), ScanError> {
        assert!(paths.len() <= PATHS_MAX, "a template holds at most {PATHS_MAX} paths");
        self.open.clear();
        self.places.clear();
        self.places.resize(paths.len(), Place::Missing);
        let all = if paths.len() == PATHS_MAX { u64::MAX } else { (1 << paths.len()) - 1 };
        let mut scanner = Scanner { json, bytes: json.as_bytes(), at: 0 };
        self.value(&mut scanner, paths, all)?;
        loop {
            scanner.space();
            let Some(frame) = self.open.last_mut() else {
                return if scanner.at == json.len() { Ok(()) } else { Err(scanner.wrong("trailing characters")) };
            };
            let close = if frame.object { b'}' } else { b']' };
            let is_first = frame.index == usize::MAX;
            frame.index = frame.index.wrapping_add(1);
            match scanner.peek() {
                Some(byte) if byte == close => {
                    scanner.at += 1;
                    self.open.pop();
                    continue;
                }
                Some(b',') if !is_first => {
                    scanner.at += 1;
                    scanner.space();
                }
                Some(_) if is_first => {}
                None => return Err(scanner.wrong("the record ends early")),
                Some(_) => {
                    return Err(scanner.wrong(if frame.object {
                        "expected `,` or `}`"
                    } else {
                        "expected `,` or `]`"
                    }));
                }
            }
            let (through, index, depth) = (frame.paths, frame.index, self.open.len() - 1);
            let mut here = 0;
            if close == b'}' {
                let key = scanner.string("expected a key in quotes")?;
                scanner.space();
                scanner.expect(b':', "expected `:`")?;
                if through != 0 {
                    let key = key.unescaped().ok_or_else(|| scanner.wrong("a key with a wrong escape"))?;
                    here = leading(
                        paths,
                        through,
                        |path| matches!(path.steps().get(depth), Some(Step::Key(k)) if *k == key),
                    );
                }
            } else if through != 0 {
                here = leading(paths, through, |path| path.steps().get(depth) == Some(&Step::Index(index)));
            }
            for path in bits(here) {
                self.places[path] = Place::Missing;
            }
            self.value(&mut scanner, paths, here)?;
        }
    }

    /// What the last scan, which was over `json`, found at path `index`.
    pub fn found<'a>(&self, json: &'a str, index: usize) -> Found<'a> {
        match self.places[index] {
            Place::Missing => Found::Missing,
            Place::Null => Found::Null,
            Place::Bool(truth) => Found::Bool(truth),
            Place::Number(start, end) => Found::Number(&json[start..end]),
            Place::Text(start, end, escaped) => Found::Text(Text { raw: &json[start..end], escaped }),
            Place::Object => Found::Object,
            Place::Array => Found::Array,
        }
    }

    /// Reads a value up to which `here` leads; of an array or object only its opening bracket.
    fn value(&mut self, scanner: &mut Scanner<'_>, paths: &[FieldPath], here: u64) -> Result<(), ScanError> {
        let depth = self.open.len();
        scanner.space();
        let start = scanner.at;
        let place = match scanner.peek() {
            Some(b @ (b'{' | b'[')) => {
                if depth == DEPTH_MAX {
                    return Err(scanner.wrong("nested deeper than 128"));
                }
                scanner.at += 1;
                let on = leading(paths, here, |path| path.steps().len() > depth);
                self.open.push(Frame { paths: on, object: b == b'{', index: usize::MAX });
                if b == b'{' { Place::Object } else { Place::Array }
            }
            Some(b'"') => {
                let text = scanner.string("expected a value")?;
                Place::Text(start + 1, start + 1 + text.raw.len(), text.escaped)
            }
            Some(b't') => scanner.word("true", Place::Bool(true))?,
            Some(b'f') => scanner.word("false", Place::Bool(false))?,
            Some(b'n') => scanner.word("null", Place::Null)?,
            Some(b'-' | b'0'..=b'9') => {
                scanner.number()?;
                Place::Number(start, scanner.at)
            }
            Some(_) => return Err(scanner.wrong("expected a value")),
            None => return Err(scanner.wrong("the record ends early")),
        };
        for path in bits(leading(paths, here, |path| path.steps().len() == depth)) {
            self.places[path] = place;
        }
        Ok(())
    }
}

/// Those of `among` that `is` holds for.
fn leading(paths: &[FieldPath], among: u64, is: impl Fn(&FieldPath) -> bool) -> u64 {
    bits(among).filter(|&path| is(&paths[path])).fold(0, |mask, path| mask | 1 << path)
}

fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(bit)
    })
}

struct Scanner<'a> {
    json: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong(&self, message: &'static str) -> ScanError {
        ScanError { at: self.at, message }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, message: &'static str) -> Result<(), ScanError> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.wrong(message)),
            None => Err(self.wrong("the record ends early")),
        }
    }

    fn string(&mut self, expected: &'static str) -> Result<Text<'a>, ScanError> {
        self.expect(b'"', expected)?;
        let (start, mut escaped) = (self.at, false);
        loop {
            match memchr::memchr2(b'"', b'\\', self.bytes.get(self.at..).unwrap_or_default()) {
                Some(length) if self.bytes[self.at + length] == b'"' => {
                    let end = self.at + length;
                    self.at = end + 1;
                    return Ok(Text { raw: &self.json[start..end], escaped });
                }
                Some(length) => {
                    self.at += length + 2;
                    escaped = true;
                }
                None => {
                    self.at = self.bytes.len();
                    return Err(self.wrong("the record ends within a string"));
                }
            }
        }
    }

    fn word(&mut self, word: &str, place: Place) -> Result<Place, ScanError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        Ok(place)
    }

    fn number(&mut self) -> Result<(), ScanError> {
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.wrong("not a number")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn paths(texts: &[&str]) -> Vec<FieldPath> {
        texts.iter().map(|text| FieldPath::jq(text).unwrap()).collect()
    }

    fn scan(json: &str, path: &str) -> Result<String, ScanError> {
        let mut frames = Frames::default();
        frames.scan(json, &paths(&[path]))?;
        Ok(match frames.found(json, 0) {
            Found::Text(text) => format!("text {}", text.unescaped().unwrap()),
            Found::Number(number) => format!("number {number}"),
            other => format!("{other:?}").to_lowercase(),
        })
    }

    #[test]
    fn values_are_found_where_the_path_leads() {
        let json = r#" {"a":{"b":[1,{"c":"x"}],"d":-1.5e3},"e":true,"f":null,"g":"\u00e9\n","\u0068":false} "#;
        for (path, expected) in [
            (".a", "object"),
            (".a.b", "array"),
            (".a.b[0]", "number 1"),
            (".a.b[1].c", "text x"),
            (".a.b[2]", "missing"),
            (".a.d", "number -1.5e3"),
            (".a.d.x", "missing"),
            (".e", "bool(true)"),
            (".f", "null"),
            (".g", "text é\n"),
            (".h", "bool(false)"),
            (".i", "missing"),
            (".[0]", "missing"),
        ] {
            assert_eq!(scan(json, path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        assert_eq!(scan(r#"{"a":1,"a":2}"#, ".a").unwrap(), "number 2");
        assert_eq!(scan(r#"{"a":{"b":1},"a":{}}"#, ".a.b").unwrap(), "missing");
        assert_eq!(scan(r#"{"a":{"b":1},"a":7}"#, ".a.b").unwrap(), "missing");
    }

    #[test]
    fn what_is_not_json_says_where_it_stops_being_so() {
        for (json, at, message) in [
            ("", 0, "the record ends early"),
            ("hello", 0, "expected a value"),
            ("{\"a\":1", 6, "the record ends early"),
            ("{\"a\":\"x", 7, "the record ends within a string"),
            ("{\"a\":\"x\\", 8, "the record ends within a string"),
            ("{\"a\" 1}", 5, "expected `:`"),
            ("{\"a\":1 \"b\":2}", 7, "expected `,` or `}`"),
            ("{\"a\":1,}", 7, "expected a key in quotes"),
            ("{,}", 1, "expected a key in quotes"),
            ("[1,]", 3, "expected a value"),
            ("{\"a\":01}", 6, "expected `,` or `}`"),
            ("{\"a\":-}", 6, "not a number"),
            ("{\"a\":1}{\"a\":2}", 7, "trailing characters"),
            ("{\"a\":[}", 6, "expected a value"),
            ("nul", 0, "expected a value"),
        ] {
            assert_eq!(scan(json, ".a"), Err(ScanError { at, message }), "{json}");
        }
    }

    #[test]
    fn a_hundred_thousand_brackets_are_one_more_wrong_record() {
        for deep in ["[".repeat(100_000), "{\"a\":".repeat(100_000), format!("{{\"a\":{}", "[".repeat(100_000))] {
            assert_eq!(scan(&deep, ".a").unwrap_err().message, "nested deeper than 128");
        }
        let fits = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert_eq!(scan(&fits, ".a").unwrap(), "missing");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[ab\"\\\\é]{1,2}", inner), 0..4)
                    .prop_map(|pairs| Value::from(pairs.into_iter().collect::<serde_json::Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_serde_json_finds(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let paths = paths(&[".a", ".b", ".a.b", ".b[1]", ".[0].a", ".aa.bb", ".[1]"]);
            let pointers = ["/a", "/b", "/a/b", "/b/1", "/0/a", "/aa/bb", "/1"];
            let mut frames = Frames::default();
            frames.scan(&text, &paths).unwrap();
            for (index, pointer) in pointers.iter().enumerate() {
                let found = match frames.found(&text, index) {
                    Found::Missing => None,
                    Found::Null => Some(Value::Null),
                    Found::Bool(truth) => Some(Value::from(truth)),
                    Found::Number(number) => Some(serde_json::from_str(number).unwrap()),
                    Found::Text(text) => Some(Value::from(text.unescaped().unwrap())),
                    Found::Object => Some(Value::from("object")),
                    Found::Array => Some(Value::from("array")),
                };
                let expected = value.pointer(pointer).map(|value| match value {
                    Value::Object(_) => Value::from("object"),
                    Value::Array(_) => Value::from("array"),
                    other => other.clone(),
                });
                prop_assert_eq!(found, expected, "{} in {}", pointer, text);
            }
        }

        #[test]
        fn it_refuses_what_serde_json_refuses(text in "[\\[\\]{}\",:a01tr. -]{0,14}") {
            let ours = scan(&text, ".a").is_ok();
            prop_assert_eq!(ours, serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
        }
    }
}
