//! Walks JSON text: white space, strings, numbers, whole values. Strings are looked at a block at a time (`wide.rs`).
//!
//! Any bytes will do: what is not ASCII stands in strings only, and is checked to be UTF-8 there, where it is met.
//! Nothing here recurses: depth is counted, at most [`DEPTH_MAX`].

use super::flaw::{Flaw, Found};
use super::number::{Number, Short};
use super::wide;

/// How deep objects and arrays nest in one record.
pub const DEPTH_MAX: usize = 128;

/// A place in a record.
pub struct Scanner<'a> {
    /// All of the record.
    pub bytes: &'a [u8],
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
        let (end, ascii) = plain_end(self.bytes, start);
        if ascii && self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Text { raw: &self.bytes[start..end], escaped: false });
        }
        self.string_with_more(start, end)
    }

    /// The rest of a string that has more than ASCII or escapes.
    fn string_with_more(&mut self, start: usize, mut end: usize) -> Found<Text<'a>> {
        let mut escaped = false;
        while let Some(next) = self.escape_or_end(end)? {
            escaped = true;
            end = plain_end(self.bytes, end + next.1).0;
        }
        self.utf8(start, end)?;
        self.at = end + 1;
        Ok(Text { raw: &self.bytes[start..end], escaped })
    }

    /// Takes a string, whose first quote stands here, and appends it without quotes and escapes to `out`. If it is none,
    /// there may be a part of it.
    pub fn string_into(&mut self, out: &mut Vec<u8>) -> Found<()> {
        let begin = out.len();
        let start = self.at + 1;
        let mut end = copy_plain(self.bytes, start, out).0;
        while let Some((c, len)) = self.escape_or_end(end)? {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            end = copy_plain(self.bytes, end + len, out).0;
        }
        // What escapes stand for is whole characters: with them it is UTF-8 just if it is without.
        if simdutf8::basic::from_utf8(&out[begin..]).is_err() {
            self.utf8(start, end)?;
        }
        self.at = end + 1;
        Ok(())
    }

    /// What ends plain text at `end`: an escape, or the quote that ends the string.
    fn escape_or_end(&mut self, end: usize) -> Found<Option<(char, usize)>> {
        self.at = end;
        match self.bytes.get(end) {
            Some(b'"') => Ok(None),
            Some(b'\\') => match escape(&self.bytes[end..]) {
                Some(escape) => Ok(Some(escape)),
                None => Err(self.malformed("expected an escape that stands for a character")),
            },
            Some(_) => Err(self.malformed("expected no control character in a string")),
            None => Err(self.malformed("expected a closing quote")),
        }
    }

    /// That a string's bytes are UTF-8.
    fn utf8(&mut self, start: usize, end: usize) -> Found<()> {
        let raw = &self.bytes[start..end];
        if simdutf8::basic::from_utf8(raw).is_ok() {
            return Ok(());
        }
        self.at = start + std::str::from_utf8(raw).map_or_else(|error| error.valid_up_to(), str::len);
        Err(self.malformed("expected UTF-8"))
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
        if let Some(end) = usual_end(self.bytes, start) {
            self.at = end;
            return Ok(self.since(start));
        }
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
                b'"' | b'-' | b'0'..=b'9' if usual_end(self.bytes, self.at).is_some() => {
                    self.at = usual_end(self.bytes, self.at).unwrap_or(self.at);
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

/// The byte at `at`, or 0 at the end.
#[inline(always)]
pub fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The text of the string that begins at `at` with its quote, if it is ASCII without escapes.
#[inline(always)]
pub fn plain_text(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let (end, ascii) = plain_end(bytes, at + 1);
    (ascii && byte_at(bytes, end) == b'"').then(|| &bytes[at + 1..end])
}

/// Where the value at `at` ends, if it is a string, a number or a word, and as most are; else it has to be looked at
/// byte by byte.
#[inline(always)]
fn usual_end(bytes: &[u8], at: usize) -> Option<usize> {
    match byte_at(bytes, at) {
        b'"' => {
            let (end, ascii) = plain_end(bytes, at + 1);
            (ascii && byte_at(bytes, end) == b'"').then_some(end + 1)
        }
        b'-' | b'0'..=b'9' => Some(at + Short::parse(bytes, at)?.len),
        _ => None,
    }
}

/// Appends all up to the first quote, backslash or control character, or the end, and says where that is, and whether
/// there was ASCII only. Blocks are copied whole, and what was too much is cut off.
#[inline(always)]
pub fn copy_plain(bytes: &[u8], mut at: usize, out: &mut Vec<u8>) -> (usize, bool) {
    let mut high = 0;
    loop {
        let block = wide::load(bytes, at);
        out.extend_from_slice(&block.bytes());
        let special = block.special();
        if special != 0 {
            let plain = special.trailing_zeros() as usize;
            out.truncate(out.len() - wide::BLOCK + plain);
            high |= block.high() & wide::first(plain);
            // A block that ends the text has zeros behind it, which are control characters.
            return (at + plain, high == 0);
        }
        high |= block.high();
        at += wide::BLOCK;
    }
}

/// The first quote, backslash or control character at or behind `at`, or the end, and whether all before it is ASCII.
#[inline(always)]
fn plain_end(bytes: &[u8], mut at: usize) -> (usize, bool) {
    let mut high = 0;
    loop {
        let block = wide::load(bytes, at);
        let special = block.special();
        if special != 0 {
            let plain = special.trailing_zeros() as usize;
            high |= block.high() & wide::first(plain);
            return (at + plain, high == 0);
        }
        high |= block.high();
        at += wide::BLOCK;
    }
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
    fn the_end_of_plain_text_is_found_at_every_offset_and_length() {
        for start in 0..18 {
            for len in 0..40 {
                for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                    for filler in [b'a', b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff] {
                        let mut bytes = vec![filler; 64];
                        bytes[..start].fill(b'"');
                        bytes[start + len] = special;
                        let expected = (start + len, len == 0 || filler.is_ascii());
                        for bytes in [&bytes[..], &bytes[..start + len + 1], &bytes[..start + len]] {
                            assert_eq!(plain_end(bytes, start), expected, "{special:#x} behind {len} of {filler:#x}");
                            let mut copy = b"before".to_vec();
                            assert_eq!(copy_plain(bytes, start, &mut copy), expected);
                            assert_eq!(copy[6..], bytes[start..start + len]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn both_ways_to_take_a_string_agree() {
        for tail in ["", "é", "😀", "\\n", "\\ud83d\\ude00", "\\u0000é\\\\"] {
            for len in 0..40 {
                let json = format!("\"{}{tail}{tail}\"", "x".repeat(len));
                for cut in 0..=json.len() {
                    for broken in [None, Some(0xff), Some(b'\n')] {
                        let mut bytes = json.as_bytes()[..cut].to_vec();
                        bytes.extend(broken);
                        bytes.extend_from_slice(&json.as_bytes()[cut..]);
                        if cut == 0 && broken.is_some() {
                            continue;
                        }
                        let (mut one, mut other, mut out) = (Scanner::new(&bytes), Scanner::new(&bytes), Vec::new());
                        let taken = one.string().ok().map(|text| text.plain(&mut Vec::new()).to_vec());
                        let into = other.string_into(&mut out).ok().map(|()| out);
                        assert_eq!((taken, one.at), (into, other.at), "{bytes:?}");
                    }
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
