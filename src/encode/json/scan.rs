//! Walks JSON text: white space, strings, numbers, whole values. The one place that looks for structure byte by byte,
//! so that something wider than a byte can be put below it.
//!
//! The text is valid UTF-8 (checked before). Nothing here recurses: depth is counted, at most [`DEPTH_MAX`].

use super::flaw::{Flaw, Found};
use super::number::Number;

/// How deep objects and arrays nest in one record.
pub const DEPTH_MAX: usize = 128;

/// A place in a record.
pub struct Scanner<'a> {
    bytes: &'a [u8],
    /// The next byte to look at.
    pub at: usize,
}

/// A string as it stands between its quotes.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// Without the quotes; valid UTF-8.
    pub raw: &'a [u8],
    /// Whether there is a backslash in it. All escapes are then known to be right.
    pub escaped: bool,
}

impl<'a> Text<'a> {
    /// The string itself; `scratch` holds it if it had escapes.
    pub fn plain<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        if !self.escaped {
            return self.raw;
        }
        scratch.clear();
        self.append_to(scratch);
        scratch
    }

    /// Appends the string itself to `out`.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        if !self.escaped {
            return out.extend_from_slice(self.raw);
        }
        let mut rest = self.raw;
        while let Some(backslash) = memchr::memchr(b'\\', rest) {
            out.extend_from_slice(&rest[..backslash]);
            let (c, len) = escape(&rest[backslash..]).expect("escapes were checked when the string was scanned");
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[backslash + len..];
        }
        out.extend_from_slice(rest);
    }
}

impl<'a> Scanner<'a> {
    /// At the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Scanner<'a> {
        Scanner { bytes, at: 0 }
    }

    /// Whether all is read.
    pub fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next byte, or 0 at the end (no JSON token begins with 0).
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    /// Skips white space, and looks at the byte behind it.
    #[inline(always)]
    pub fn token(&mut self) -> u8 {
        let byte = self.peek();
        if byte > b' ' {
            return byte;
        }
        self.token_behind_blanks()
    }

    fn token_behind_blanks(&mut self) -> u8 {
        while matches!(self.peek(), b' ' | b'\n' | b'\t' | b'\r') {
            self.at += 1;
        }
        self.peek()
    }

    /// What was read since `start`.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    /// Takes `token` if it stands here.
    #[inline(always)]
    pub fn take(&mut self, token: &[u8]) -> bool {
        let there = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(token));
        if there {
            self.at += token.len();
        }
        there
    }

    /// Takes one byte, behind white space, or says what was expected.
    #[inline(always)]
    pub fn expect(&mut self, byte: u8, expected: &'static str) -> Found<()> {
        if self.token() == byte {
            self.at += 1;
            return Ok(());
        }
        Err(self.malformed(expected))
    }

    /// Takes `true`, `false` or `null`.
    pub fn literal(&mut self, word: &'static str) -> Found<()> {
        match self.take(word.as_bytes()) {
            true => Ok(()),
            false => Err(self.malformed("expected true, false or null")),
        }
    }

    /// That it is not JSON from here on.
    #[cold]
    pub fn malformed(&self, what: &'static str) -> Box<Flaw> {
        Box::new(Flaw::Malformed { at: self.at, what })
    }

    /// Takes a string; its first quote stands here.
    #[inline]
    pub fn string(&mut self) -> Found<Text<'a>> {
        if self.peek() != b'"' {
            return Err(self.malformed("expected a string"));
        }
        let start = self.at + 1;
        let end = plain_end(self.bytes, start);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Text { raw: &self.bytes[start..end], escaped: false });
        }
        self.string_with_escapes(start, end)
    }

    fn string_with_escapes(&mut self, start: usize, mut end: usize) -> Found<Text<'a>> {
        loop {
            self.at = end;
            match self.bytes.get(end) {
                Some(b'"') => {
                    self.at = end + 1;
                    return Ok(Text { raw: &self.bytes[start..end], escaped: true });
                }
                Some(b'\\') => match escape(&self.bytes[end..]) {
                    Some((_, len)) => end = plain_end(self.bytes, end + len),
                    None => return Err(self.malformed("expected an escape that stands for a character")),
                },
                Some(_) => return Err(self.malformed("expected no control character in a string")),
                None => return Err(self.malformed("expected a closing quote")),
            }
        }
    }

    /// Takes a number; its first byte, a minus or a digit, stands here.
    #[inline]
    pub fn number(&mut self) -> Found<Number<'a>> {
        match Number::parse(&self.bytes[self.at..]) {
            Ok(number) => {
                self.at += number.text.len();
                Ok(number)
            }
            Err(offset) => {
                self.at += offset;
                Err(self.malformed("expected a digit"))
            }
        }
    }

    /// Takes a key and its colon.
    fn key(&mut self) -> Found<()> {
        if self.token() != b'"' {
            return Err(self.malformed("expected a key in quotes"));
        }
        self.string()?;
        self.expect(b':', "expected `:`")
    }

    /// Takes any value, `depth` deep in others, and gives its text. It is checked as if it were used.
    pub fn skip(&mut self, depth: usize) -> Found<&'a [u8]> {
        self.token();
        let start = self.at;
        // One bit per open level, the innermost lowest: whether it is an object.
        let mut objects: u128 = 0;
        let mut open = 0;
        'value: loop {
            match self.token() {
                bracket @ (b'{' | b'[') => {
                    if depth + open >= DEPTH_MAX {
                        return Err(self.malformed("expected at most 128 levels of objects and arrays"));
                    }
                    self.at += 1;
                    let object = bracket == b'{';
                    let empty = self.token() == if object { b'}' } else { b']' };
                    if empty {
                        self.at += 1;
                    } else {
                        open += 1;
                        objects = objects << 1 | u128::from(object);
                        if object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                }
                b'"' => drop(self.string()?),
                b'-' | b'0'..=b'9' => drop(self.number()?),
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                _ => return Err(self.malformed("expected a value")),
            }
            loop {
                if open == 0 {
                    return Ok(self.since(start));
                }
                match (self.token(), objects & 1 == 1) {
                    (b',', true) => {
                        self.at += 1;
                        self.key()?;
                        continue 'value;
                    }
                    (b',', false) => {
                        self.at += 1;
                        continue 'value;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        open -= 1;
                        objects >>= 1;
                    }
                    (_, true) => return Err(self.malformed("expected `,` or `}`")),
                    (_, false) => return Err(self.malformed("expected `,` or `]`")),
                }
            }
        }
    }
}

/// The first quote, backslash or control character at or behind `at`, or the end. Eight bytes at a step.
#[inline(always)]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The lowest high bit set by `below` is exact: borrows only travel upwards, above a true hit.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGHS;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let hits = quote | backslash | below(word, 0x20);
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\') {
        at += 1;
    }
    at
}

/// The character that the escape at the beginning of `bytes` stands for, and the escape's length; `None` if it stands
/// for none (a surrogate alone included).
fn escape(bytes: &[u8]) -> Option<(char, usize)> {
    let c = match bytes.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(bytes),
        _ => return None,
    };
    Some((c, 2))
}

fn unicode_escape(bytes: &[u8]) -> Option<(char, usize)> {
    let high = hex4(bytes.get(2..6)?)?;
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high)?, 6));
    }
    if bytes.get(6..8)? != b"\\u" {
        return None;
    }
    let low = hex4(bytes.get(8..12)?)?;
    (0xdc00..0xe000).contains(&low).then_some(())?;
    Some((char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, 12))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_plain_text_is_found_at_every_offset() {
        for len in 0..40 {
            for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                for filler in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![filler; 48];
                    bytes[len] = special;
                    assert_eq!(plain_end(&bytes, 0), len, "{special:#x} behind {len} of {filler:#x}");
                    assert_eq!(plain_end(&bytes[..len], 0), len);
                }
            }
        }
    }

    #[test]
    fn escapes_stand_for_characters_or_are_refused() {
        let text = |json: &str| {
            let mut scanner = Scanner::new(json.as_bytes());
            scanner.string().ok().map(|text| String::from_utf8(text.plain(&mut Vec::new()).to_vec()).unwrap())
        };
        assert_eq!(text(r#""a\"\\\/\b\f\n\r\t\u0000\u00e9\ud83d\ude00z""#).unwrap(), "a\"\\/\u{8}\u{c}\n\r\t\0é😀z");
        for wrong in
            [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\u12""#, r#""\x""#, r#""\"#, "\"a", "\"\n\""]
        {
            assert_eq!(text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn depth_is_counted_and_not_felt() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let skip = |text: &str, depth| Scanner::new(text.as_bytes()).skip(depth).is_ok();
        assert!(skip(&nested(DEPTH_MAX), 0));
        assert!(!skip(&nested(DEPTH_MAX + 1), 0));
        assert!(!skip(&nested(DEPTH_MAX), 1));
        assert!(!skip(&nested(1_000_000), 0));
        assert!(!skip(&"{\"a\":".repeat(1_000_000), 0));
    }
}
