//! JSON to values and back: numbers that a program does not touch keep their text.

use std::fmt::{self, Write as _};
use std::rc::Rc;

use jaq_json::{Map, Num};

use super::meter::{self, DEPTH_MAX};
use super::value::{Value, array, object};

/// A whole number of more digits is kept as its text, and calculated with as a float.
const DIGITS_MAX: usize = 1000;

/// What is wrong with a JSON text, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub struct NotJson {
    pub at: usize,
    pub message: &'static str,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.message, self.at)
    }
}

/// The one value of a JSON text, of at most [`DEPTH_MAX`] arrays and objects in each other. Of equal keys the last
/// counts; half of a surrogate pair reads as U+FFFD.
pub fn read(bytes: &[u8]) -> Result<Value, NotJson> {
    let json = simdutf8::compat::from_utf8(bytes)
        .map_err(|error| NotJson { at: error.valid_up_to(), message: "invalid UTF-8" })?;
    let mut reader = Reader { json, bytes, at: 0 };
    let value = reader.value(0)?;
    reader.space();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.wrong("trailing characters")),
    }
}

/// A number as programs write it: `00.5` and `.5` are none of JSON's, so that their text is not kept.
pub fn literal(text: &str) -> Num {
    let mut reader = Reader { json: text, bytes: text.as_bytes(), at: 0 };
    let is_json = reader.number().is_ok() && reader.at == text.len();
    let real = if is_json { None } else { text.parse().ok() };
    match real {
        Some(real) if text.contains(|c: char| !c.is_ascii_digit()) => Num::Float(real),
        _ => number(text),
    }
}

/// A number as JSON writes it: whole ones exactly, others as their text until they are calculated with.
pub fn number(text: &str) -> Num {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = text != "-0" && digits.len() <= DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_digit());
    let whole = if whole { Num::from_str_radix(text, 10) } else { None };
    whole.unwrap_or_else(|| Num::Dec(text.to_owned().into()))
}

struct Reader<'a> {
    json: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: u8) -> Result<Value, NotJson> {
        self.space();
        match self.peek() {
            Some(b'{' | b'[') if depth == DEPTH_MAX => Err(self.wrong("nested deeper than 128")),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string("expected a value").map(Value::from),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.wrong("expected a value")),
            None => Err(self.wrong("the text ends early")),
        }
    }

    fn object(&mut self, depth: u8) -> Result<Value, NotJson> {
        self.at += 1;
        let mut map: Map<Rc<String>, Value> = Map::default();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(object(map));
        }
        loop {
            self.space();
            let key = self.string("expected a key in quotes")?;
            self.space();
            self.expect(b':', "expected `:`")?;
            map.insert(Rc::new(key), self.value(depth + 1)?);
            self.space();
            if self.peek() != Some(b',') {
                self.expect(b'}', "expected `,` or `}`")?;
                return Ok(object(map));
            }
            self.at += 1;
        }
    }

    fn array(&mut self, depth: u8) -> Result<Value, NotJson> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.peek() != Some(b',') {
                self.expect(b']', "expected `,` or `]`")?;
                return Ok(array(items));
            }
            self.at += 1;
        }
    }

    fn string(&mut self, expected: &'static str) -> Result<String, NotJson> {
        self.expect(b'"', expected)?;
        let mut out = String::new();
        loop {
            let start = self.at;
            let rest = self.bytes.get(start..).unwrap_or_default();
            let length = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len());
            self.at = start + length;
            let piece = &self.json[start..self.at];
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    if out.is_empty() {
                        return Ok(piece.to_owned());
                    }
                    out.push_str(piece);
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(piece);
                    self.at += 1;
                    out.push(self.escape()?);
                }
                Some(_) => return Err(self.wrong("a control character in a string")),
                None => return Err(self.wrong("the text ends within a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NotJson> {
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            Some(_) => return Err(self.wrong("a wrong escape")),
            None => return Err(self.wrong("the text ends within a string")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char, NotJson> {
        let high = self.hex()?;
        if !(0xD800..0xDC00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let after = self.at;
        if self.bytes.get(after..after + 2) == Some(b"\\u") {
            self.at += 1;
            let low = self.hex()?;
            if (0xDC00..0xE000).contains(&low) {
                let c = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    /// `u` and four digits.
    fn hex(&mut self) -> Result<u32, NotJson> {
        let digits = self.bytes.get(self.at + 1..self.at + 5).unwrap_or_default();
        let plain = digits.len() == 4 && digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| plain);
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let value = value.ok_or_else(|| self.wrong("a wrong escape"))?;
        self.at += 5;
        Ok(value)
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, NotJson> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, NotJson> {
        let start = self.at;
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
        Ok(Value::Num(number(&self.json[start..self.at])))
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.wrong("not a number")) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, message: &'static str) -> Result<(), NotJson> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.wrong(message)),
            None => Err(self.wrong("the text ends early")),
        }
    }

    fn wrong(&self, message: &'static str) -> NotJson {
        NotJson { at: self.at, message }
    }
}

/// Why a value was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritten {
    /// It has more bytes than it may.
    TooLong,
    /// It holds a number that JSON has no word for.
    NotFinite,
}

/// Appends the value as compact JSON, up to a length of `out` of about `bytes_max`.
pub fn write(out: &mut String, value: &Value, bytes_max: usize) -> Result<(), Unwritten> {
    put(out, value, bytes_max, Err(Unwritten::NotFinite))
}

/// The same, with null for numbers that JSON has no word for.
pub fn write_any(out: &mut String, value: &Value, bytes_max: usize) -> Result<(), Unwritten> {
    put(out, value, bytes_max, Ok("null"))
}

fn put(
    out: &mut String,
    value: &Value,
    bytes_max: usize,
    not_finite: Result<&str, Unwritten>,
) -> Result<(), Unwritten> {
    meter::step();
    if out.len() > bytes_max {
        return Err(Unwritten::TooLong);
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Num(Num::Float(float)) if !float.is_finite() => out.push_str(not_finite?),
        Value::Num(number) => write_number(out, number)?,
        Value::Str(text) => write_text(out, text, bytes_max)?,
        Value::Arr(array) => {
            out.push('[');
            for (index, item) in array.of.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                put(out, item, bytes_max, not_finite)?;
            }
            out.push(']');
        }
        Value::Obj(object) => {
            out.push('{');
            for (index, (key, item)) in object.of.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(out, key, bytes_max)?;
                out.push(':');
                put(out, item, bytes_max, not_finite)?;
            }
            out.push('}');
        }
    }
    if out.len() > bytes_max { Err(Unwritten::TooLong) } else { Ok(()) }
}

/// A calculated number: a whole one below 10^17 without a point, as jq does; others in the shortest form that reads back.
fn write_number(out: &mut String, number: &Num) -> Result<(), Unwritten> {
    let written = match number {
        Num::Float(float) if float.fract() == 0.0 && float.abs() < 1e17 => write!(out, "{float}"),
        Num::Float(float) => write!(out, "{float:?}"),
        number => write!(out, "{number}"),
    };
    written.map_err(|_| Unwritten::TooLong)
}

fn write_text(out: &mut String, text: &str, bytes_max: usize) -> Result<(), Unwritten> {
    out.push('"');
    meter::work(text.len());
    let room = bytes_max.saturating_sub(out.len());
    let mut rest = &text[..text.floor_char_boundary(room)];
    let is_whole = rest.len() == text.len();
    while let Some(at) = rest.bytes().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)) {
        // A control character becomes six.
        if out.len() + at > bytes_max {
            return Err(Unwritten::TooLong);
        }
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        match special.as_bytes()[0] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x8 => out.push_str("\\b"),
            0xc => out.push_str("\\f"),
            control => {
                let hex = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or('0');
                out.push_str("\\u00");
                out.extend([hex(control >> 4), hex(control & 15)]);
            }
        }
        rest = &special[1..];
    }
    out.push_str(rest);
    out.push('"');
    if is_whole { Ok(()) } else { Err(Unwritten::TooLong) }
}
