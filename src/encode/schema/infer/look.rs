//! Looks at a record and notes in a shape what stands where.
//!
//! The record has passed the decoder's own check: it is one JSON object, in UTF-8, nested at most as deep as the decoder
//! allows. So nothing is checked again here, and recursion ends where types end.

use std::borrow::Cow;

use super::super::{TYPE_DEPTH_MAX, check_name};
use super::shape::{Fields, Limits, Shape, kind};

/// Whole numbers up to here are exact as float64.
const EXACT_MAX: u64 = 1 << 53;

/// Notes the fields of a record as columns, at most `columns_max`, except those that may not be one. `false` if there was
/// such a one.
pub fn record(
    record: &[u8],
    columns: &mut Fields,
    columns_max: usize,
    taken: impl Fn(&str) -> bool,
    limits: &mut Limits,
) -> bool {
    let mut scanner = Scanner { bytes: record, at: 0 };
    let mut all = true;
    scanner.object(|scanner, key| {
        let may = !taken(key) && check_name(key).is_ok();
        match columns.find_or_add(key, if may { columns_max } else { 0 }, limits) {
            Some(shape) => scanner.value(shape, 1, limits),
            None => {
                all = false;
                scanner.skip();
            }
        }
    });
    all
}

struct Scanner<'r> {
    bytes: &'r [u8],
    at: usize,
}

impl<'r> Scanner<'r> {
    fn value(&mut self, shape: &mut Shape, depth: usize, limits: &mut Limits) {
        match self.token() {
            b'{' if depth < TYPE_DEPTH_MAX => {
                shape.note(kind::OBJECT, limits);
                self.object(|scanner, key| match shape.field(key, limits) {
                    Some(field) => scanner.value(field, depth + 1, limits),
                    None => scanner.skip(),
                });
            }
            b'[' if depth < TYPE_DEPTH_MAX => {
                shape.note(kind::LIST, limits);
                self.at += 1;
                while !matches!(self.token(), b']' | 0) {
                    self.value(shape.element(), depth + 1, limits);
                    if self.token() == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
            }
            b'{' | b'[' => {
                shape.note(kind::ODD, limits);
                self.skip();
            }
            b'"' => {
                let text = self.string();
                // Among other texts a timestamp is one more text.
                let is_time = !shape.has(kind::TEXT) && is_timestamp(text);
                shape.note(if is_time { kind::TIME } else { kind::TEXT }, limits);
            }
            b't' | b'f' => {
                self.word();
                shape.note(kind::BOOL, limits);
            }
            b'n' => drop(self.word()),
            _ => {
                let number = self.word();
                shape.note(of_number(number), limits);
            }
        }
    }

    fn object(&mut self, mut member: impl FnMut(&mut Self, &str)) {
        self.token();
        self.at += 1;
        while self.token() == b'"' {
            let key = plain(self.string());
            self.token();
            self.at += 1;
            member(self, &key);
            if self.token() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    /// Passes over a value.
    fn skip(&mut self) {
        let mut open = 0;
        loop {
            match self.token() {
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open -= 1;
                    self.at += 1;
                }
                b',' | b':' => self.at += 1,
                b'"' => drop(self.string()),
                0 => return,
                _ => drop(self.word()),
            }
            if open <= 0 {
                return;
            }
        }
    }

    /// What stands between the quotes, escapes and all.
    fn string(&mut self) -> &'r [u8] {
        let start = self.at + 1;
        let mut end = start;
        while let Some(byte) = self.bytes.get(end).filter(|byte| **byte != b'"') {
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// A number or literal.
    fn word(&mut self) -> &'r [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
        let word = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        // A byte at least, so that every loop ends, whatever stands here.
        self.at += word.len().max(1);
        word
    }

    /// The byte behind white space, or 0 at the end.
    fn token(&mut self) -> u8 {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied().unwrap_or(0)
    }
}

/// A string without its escapes.
fn plain(raw: &[u8]) -> Cow<'_, str> {
    if !raw.contains(&b'\\') {
        return String::from_utf8_lossy(raw);
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).unwrap_or_default().into()
}

fn of_number(text: &[u8]) -> u16 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    if !text.contains(['.', 'e', 'E']) {
        return match text.parse::<i64>() {
            Ok(number) if number.unsigned_abs() <= EXACT_MAX => kind::INT,
            Ok(_) => kind::INT | kind::BIG,
            Err(_) => kind::ODD,
        };
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => kind::FLOAT,
        _ => kind::ODD,
    }
}

/// Whether a text is RFC 3339 with an offset, of an instant that exists, and no finer than microseconds.
fn is_timestamp(text: &[u8]) -> bool {
    let Some((moment, rest)) = text.split_first_chunk::<19>() else { return false };
    let form = b"dddd-dd-ddTdd:dd:dd";
    let fits = |(byte, form): (&u8, &u8)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form };
    if !moment.iter().zip(form).all(fits) || &moment[17..] == b"60" {
        return false;
    }
    let fraction =
        rest.strip_prefix(b".").map_or(0, |rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
    let offset = if fraction == 0 { rest } else { &rest[1 + fraction..] };
    let offset_fits = match offset {
        b"Z" => true,
        [b'+' | b'-', hours @ .., b':', m1, m2] => {
            hours.len() == 2 && hours <= &b"23"[..] && hours.iter().chain([m1, m2]).all(u8::is_ascii_digit)
        }
        _ => false,
    };
    let text = std::str::from_utf8(text).unwrap_or_default();
    fraction <= 6 && offset_fits && text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns that records like these have.
    fn inferred(records: &[&str]) -> Vec<String> {
        let mut limits = Limits { case_insensitive: true, room: 10_000, news: false };
        let mut columns = Fields::default();
        for one in records {
            record(one.as_bytes(), &mut columns, 1000, |_| false, &mut limits);
        }
        columns.columns(false).iter().map(|column| format!("{}: {}", column.name, column.data)).collect()
    }

    /// The type that takes all these values.
    fn of(values: &[&str]) -> Option<String> {
        let records: Vec<_> = values.iter().map(|value| format!("{{ \"c\" : {value} }}")).collect();
        let columns = inferred(&records.iter().map(String::as_str).collect::<Vec<_>>());
        columns.first().map(|column| column.strip_prefix("c: ").unwrap().to_owned())
    }

    #[test]
    fn the_type_is_the_narrowest_that_changes_no_value() {
        for (values, expected) in [
            (&["1", "-2", "null"][..], Some("int64")),
            (&["9223372036854775807"], Some("int64")),
            (&["1", "2.5"], Some("float64")),
            (&["1.0"], Some("float64")),
            (&["1e3"], Some("float64")),
            (&["9007199254740992", "0.5"], Some("float64")),
            (&["9007199254740993", "0.5"], Some("json")),
            (&["9223372036854775808"], Some("json")),
            (&["1e400"], Some("json")),
            (&["true", "false"], Some("bool")),
            (&["true", "1"], Some("json")),
            (&["\"a\"", "\"\""], Some("string")),
            (&["\"a\"", "1"], Some("json")),
            (&["[]", "[1]", "[null, 2]"], Some("list<int64>")),
            (&["[[\"a\"], []]"], Some("list<list<string>>")),
            (&["[1, \"a\"]"], Some("list<json>")),
            (&["[1]", "1"], Some("json")),
            (&["{\"a\":1}", "{\"b\":[{\"c\":true}]}", "null"], Some("struct<a:int64, b:list<struct<c:bool>>>")),
            (&["{\"a\":1}", "[1]"], Some("json")),
            (&["{\"a b\":1, \"\\u00e9\":2}"], Some("struct<\"a b\":int64, é:int64>")),
            (&["{\"\":1}"], Some("json")),
            (&["null"], None),
            (&["[]", "[null]"], None),
            (&["{}", "{\"a\":null}"], None),
        ] {
            assert_eq!(of(values).as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn only_full_timestamps_with_an_offset_are_timestamps() {
        for (text, expected) in [
            ("2026-11-20T10:02:03Z", "timestamp(us)"),
            ("2026-11-20T10:02:03.123456+01:00", "timestamp(us)"),
            ("2026-11-20T10:02:03.1234567Z", "string"),
            ("2026-11-20T10:02:03", "string"),
            ("2026-11-20 10:02:03Z", "string"),
            ("2026-02-30T10:02:03Z", "string"),
            ("2026-11-20T10:02:60Z", "string"),
            ("2026-11-20T10:02:03.Z", "string"),
            ("2026-11-20T10:02:03+0100", "string"),
            ("2026-11-20T10:02:03+24:00", "string"),
            ("2026-11-20", "string"),
        ] {
            assert_eq!(of(&[&format!("\"{text}\"")]).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(of(&["\"2026-11-20T10:02:03Z\"", "\"\""]).as_deref(), Some("string"));
    }

    #[test]
    fn keys_that_are_data_do_not_become_fields() {
        let ids = |value: &str| (0..300).map(|id| format!("{{\"user-{id}\":{value}}}")).collect::<Vec<_>>();
        let of_all = |values: &[String]| of(&values.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert_eq!(of_all(&ids("1")), "map<string,int64>");
        assert_eq!(of_all(&ids("{\"n\":1,\"t\":[\"x\"]}")), "map<string,struct<n:int64, t:list<string>>>");
        let mixed: Vec<_> = ids("1").into_iter().chain(ids("\"a\"")).collect();
        assert_eq!(of_all(&mixed), "json");
        let or_lists: Vec<_> = ids("1").into_iter().chain(["[1]".to_owned()]).collect();
        assert_eq!(of_all(&or_lists), "json");
        let after_lists: Vec<_> = ["[1]".to_owned()].into_iter().chain(ids("1")).collect();
        assert_eq!(of_all(&after_lists), "json");
    }

    #[test]
    fn keys_that_differ_by_case_only_are_one_column() {
        assert_eq!(
            inferred(&["{\"Id\":1,\"a\":{\"X\":1}}", "{\"ID\":2.5,\"a\":{\"x\":\"\"}}"]),
            ["Id: float64", "a: struct<X:json>"]
        );
    }

    #[test]
    fn what_nests_too_deep_is_json() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let lists = |depth: usize, inner: &str| format!("{}{inner}{}", "list<".repeat(depth), ">".repeat(depth));
        assert_eq!(of(&[&nested(15)]).unwrap(), lists(15, "int64"));
        assert_eq!(of(&[&nested(100)]).unwrap(), lists(15, "json"));
    }

    #[test]
    fn room_that_runs_out_makes_json_of_what_does_not_fit() {
        let mut limits = Limits { case_insensitive: false, room: 3, news: false };
        let mut columns = Fields::default();
        let text = br#"{"a":{"x":1,"y":2,"z":3},"b":1,"":2,"c":3}"#;
        assert!(!record(text, &mut columns, 1000, |_| false, &mut limits));
        let columns: Vec<_> = columns.columns(false).iter().map(|c| format!("{}: {}", c.name, c.data)).collect();
        assert_eq!(columns, ["a: json"]);
    }
}
