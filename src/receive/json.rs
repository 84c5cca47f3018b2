//! JSON as bytes: where values begin and end, found without recursion and without building anything.
//!
//! The promise: whatever the input, memory stays constant and the depth is bounded by [`DEPTH_MAX`], so that what is
//! handed on can be parsed by any parser without running out of stack.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Arrays and objects inside one another; as serde_json has it, and one bit each in a `u128`.
pub const DEPTH_MAX: u32 = 128;

/// What is wrong with a text, and at which byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// Offset of the offending byte; the length of the text if that ends too early.
    pub at: usize,
    /// Lower case, what was expected or found.
    pub what: &'static str,
}

impl JsonError {
    /// The error with its place as an editor counts it; `text` is what was parsed.
    pub fn in_text<'a>(&'a self, text: &'a [u8]) -> impl fmt::Display + 'a {
        let before = text.get(..self.at).unwrap_or(text);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        let column = before.len() - memchr::memrchr(b'\n', before).map_or(0, |at| at + 1) + 1;
        fmt::from_fn(move |f| write!(f, "{} at line {line} column {column} (byte {})", self.what, self.at))
    }
}

/// A string as it stands between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    /// The bytes between the quotes, escapes as written.
    pub raw: &'a [u8],
    /// Whether there is a backslash in it.
    pub escaped: bool,
}

impl<'a> Text<'a> {
    /// The bytes that the string means; `None` if an escape, a control character or the UTF-8 is wrong.
    pub fn decode(self) -> Option<Cow<'a, [u8]>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        let quoted = [b"\"", self.raw, b"\""].concat();
        let text: String = serde_json::from_slice(&quoted).ok()?;
        Some(Cow::Owned(text.into_bytes()))
    }
}

/// Walks over a text, token by token.
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// At the start of `text`.
    pub fn new(text: &'a [u8]) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// The next byte that is not white space, without taking it; `None` at the end.
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Takes the next token if it is `byte`.
    pub fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Takes the next token, which has to be `byte`, or fails with `what`.
    pub fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { Err(self.wrong(what)) }
    }

    /// Takes a string quickly: it ends at the first quote that is not escaped; what lies in it is not looked at.
    pub fn text(&mut self) -> Result<Text<'a>, JsonError> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            match memchr::memchr2(b'"', b'\\', rest) {
                Some(found) if rest[found] == b'"' => {
                    let raw = &self.text[start..self.at + found];
                    self.at += found + 1;
                    return Ok(Text { raw, escaped });
                }
                Some(found) => {
                    escaped = true;
                    self.at += found + 2;
                }
                None => {
                    self.at = self.text.len();
                    return Err(self.wrong("expected"));
                }
            }
        }
    }

    /// Takes one value of any kind, checked against the grammar, and says where it lies.
    pub fn value(&mut self) -> Result<Range<usize>, JsonError> {
        self.peek();
        let start = self.at;
        let mut depth = 0_u32;
        let mut objects = 0_u128; // the innermost level is bit 0: 1 in an object, 0 in an array
        loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if depth == DEPTH_MAX {
                        return Err(self.wrong("nesting deeper than 128"));
                    }
                    self.at += 1;
                    let object = open == b'{';
                    let empty = self.take(if object { b'}' } else { b']' });
                    if !empty {
                        depth += 1;
                        objects = objects << 1 | u128::from(object);
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(self.wrong("expected a value")),
            }
            loop {
                if depth == 0 {
                    return Ok(start..self.at);
                }
                let object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => self.at += 1,
                    Some(b']') if !object => self.at += 1,
                    _ if object => return Err(self.wrong("expected `,` or `}`")),
                    _ => return Err(self.wrong("expected `,` or `]`")),
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// The error `what` here, or that the text ends, if it does.
    pub fn wrong(&mut self, what: &'static str) -> JsonError {
        match self.peek() {
            Some(_) => JsonError { at: self.at, what },
            None => JsonError { at: self.text.len(), what: "the text ends too early" },
        }
    }

    fn key(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("expected a key in quotes"));
        }
        self.string()?;
        self.expect(b':', "expected `:`")
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return Err(JsonError { at: self.at, what: "control character in a string" }),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("expected")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.text.get(self.at + 2..self.at + 6) {
                Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => {
                    self.at += 6;
                    Ok(())
                }
                _ => Err(JsonError { at: self.at, what: "wrong escape in a string" }),
            },
            Some(_) => Err(JsonError { at: self.at, what: "wrong escape in a string" }),
            None => Err(JsonError { at: self.text.len(), what: "the text ends too early" }),
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.at += usize::from(self.text.get(self.at) == Some(&b'-'));
        if self.text.get(self.at) == Some(&b'0') {
            self.at += 1;
            if self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
                return Err(JsonError { at: self.at, what: "number with a leading zero" });
            }
        } else {
            self.digits()?;
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(self.wrong("expected a digit")) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The one value that `text` consists of.
    fn whole(text: &[u8]) -> Result<Range<usize>, JsonError> {
        let mut scanner = Scanner::new(text);
        let range = scanner.value()?;
        match scanner.peek() {
            None => Ok(range),
            Some(_) => Err(scanner.wrong("more")),
        }
    }

    #[test]
    fn a_value_is_found_with_its_exact_bytes() {
        let value = br#"{"a" : [1, -2.5e+3, {"b":"\"\\\u00e9"}, [], {}], "c":null}"#;
        let text = [b" \n", value.as_slice(), b"\r\t"].concat();
        assert_eq!(whole(&text), Ok(2..2 + value.len()));
        assert_eq!(whole(b"0"), Ok(0..1));
        assert_eq!(whole(b"\"]\""), Ok(0..3));
    }

    #[test]
    fn errors_say_what_and_where() {
        let error = |text: &str| whole(text.as_bytes()).unwrap_err().in_text(text.as_bytes()).to_string();
        assert_eq!(error("[1,\n 2 3]"), "expected `,` or `]` at line 2 column 4 (byte 7)");
        assert_eq!(error("{\"a\":1,}"), "expected a key in quotes at line 1 column 8 (byte 7)");
        assert_eq!(error("{\"a\""), "the text ends too early at line 1 column 5 (byte 4)");
        assert_eq!(error("\"a\nb\""), "control character in a string at line 1 column 3 (byte 2)");
        assert_eq!(error("[01]"), "number with a leading zero at line 1 column 3 (byte 2)");
        assert_eq!(error("nul"), "expected a value at line 1 column 1 (byte 0)");
        assert_eq!(error(""), "the text ends too early at line 1 column 1 (byte 0)");
    }

    #[test]
    fn depth_is_bounded_at_exactly_128() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert_eq!(whole(nested(128).as_bytes()), Ok(0..256));
        assert_eq!(whole(nested(129).as_bytes()), Err(JsonError { at: 128, what: "nesting deeper than 128" }));
        let objects = "{\"a\":".repeat(100_000);
        assert_eq!(whole(objects.as_bytes()), Err(JsonError { at: 640, what: "nesting deeper than 128" }));
    }

    #[test]
    fn a_string_may_be_escaped() {
        let text = Scanner::new(br#" "a\/\"b\\" "#).text().unwrap();
        assert_eq!(text.decode().unwrap().as_ref(), br#"a/"b\"#);
        assert_eq!(Text { raw: br"\x", escaped: true }.decode(), None);
        assert!(Scanner::new(br#""abc\"#).text().is_err());
        assert!(Scanner::new(br#""abc\""#).text().is_err());
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json(text in r#"[\[\]{}":,\\untrue0-9eE+. \-a]{0,24}"#) {
            let ours = whole(text.as_bytes()).is_ok();
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}
