//! Finds the values of named fields in a JSON text, in one pass over its bytes, and copies all else as it is.
//!
//! The whole text is checked on the way (RFC 8259, UTF-8 included): a text that a reader might understand in another way
//! than we do does not go on, since its secrets may lie elsewhere. Keys match without regard to ASCII case, as columns
//! do, and a key that comes twice is redacted twice.

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How deep arrays and objects may lie in each other: the guest's stack is small.
const DEPTH_MAX: usize = 128;

/// A key of `hash` has at least this many bytes: a shorter one can be found by trying.
const KEY_BYTES_MIN: usize = 16;

/// Bytes of a hash that are kept; each is two digits.
const HASH_BYTES: usize = 16;

/// Redacts records.
pub struct Redactor {
    /// A tree of keys; the first one is the root.
    nodes: Vec<Node>,
    with: With,
}

/// What takes the place of a value.
pub enum With {
    /// This JSON text.
    Text(Vec<u8>),
    /// The hash of a text without its escapes, or of any other value as it is written; `null` stays.
    Hash(Keyed),
    /// Nothing: its key goes, too.
    Nothing,
}

/// HMAC-SHA256 that has taken in its key.
pub struct Keyed(Hmac<Sha256>);

/// Where a text is not JSON, or not as we take it.
#[derive(Debug, PartialEq)]
pub struct Fault {
    /// Offset in bytes.
    pub at: usize,
    pub expected: &'static str,
}

#[derive(Default)]
struct Node {
    steps: Vec<(Box<[u8]>, Step)>,
}

#[derive(Clone, Copy)]
enum Step {
    /// Its value is one to redact.
    Redact,
    /// Fields of its value may be: the node of this number.
    Into(usize),
}

impl Redactor {
    /// Redacts the fields of these paths: keys with dots between them; `\.` is a dot in a key.
    pub fn new<'p>(paths: impl IntoIterator<Item = &'p str>, with: With) -> Result<Redactor, String> {
        let mut redactor = Redactor { nodes: vec![Node::default()], with };
        for path in paths {
            let keys: Vec<_> = path.replace("\\.", "\0").split('.').map(|key| key.replace('\0', ".")).collect();
            if keys.iter().any(String::is_empty) {
                return Err(format!("fields: `{path}` has an empty key"));
            }
            redactor.add(&keys);
        }
        match redactor.nodes[0].steps.is_empty() {
            true => Err("fields: names none".to_owned()),
            false => Ok(redactor),
        }
    }

    fn add(&mut self, keys: &[String]) {
        let mut node = 0;
        for (number, key) in keys.iter().enumerate() {
            let is_last = number + 1 == keys.len();
            let place = self.nodes[node].find(key.as_bytes());
            node = match place.map(|place| self.nodes[node].steps[place].1) {
                Some(Step::Redact) => return,
                Some(Step::Into(next)) if !is_last => next,
                _ => {
                    let step = if is_last { Step::Redact } else { Step::Into(self.nodes.len()) };
                    let steps = &mut self.nodes[node].steps;
                    match place {
                        Some(place) => steps[place].1 = step,
                        None => steps.push((key.as_bytes().into(), step)),
                    }
                    if is_last {
                        return;
                    }
                    self.nodes.push(Node::default());
                    self.nodes.len() - 1
                }
            };
        }
    }

    /// The record without what is to be redacted; itself if there is nothing.
    pub fn redact(&self, record: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let mut pass = Pass { redactor: self, text: &record, at: 0, out: Vec::new(), copied: 0 };
        pass.all()?;
        let Pass { mut out, copied, .. } = pass;
        if copied == 0 {
            return Ok(record);
        }
        out.extend_from_slice(&record[copied..]);
        Ok(out)
    }
}

impl Node {
    fn find(&self, key: &[u8]) -> Option<usize> {
        self.steps.iter().position(|(name, _)| name.len() == key.len() && name.eq_ignore_ascii_case(key))
    }
}

/// One pass over a record: `text[..at]` was read, `text[..copied]` is in `out`, or left out.
struct Pass<'r> {
    redactor: &'r Redactor,
    text: &'r [u8],
    at: usize,
    out: Vec<u8>,
    copied: usize,
}

/// A text between its quotes.
#[derive(Clone, Copy)]
struct Quoted {
    start: usize,
    end: usize,
    is_escaped: bool,
}

impl<'r> Pass<'r> {
    fn all(&mut self) -> Result<(), Fault> {
        self.space();
        self.value(Some(&self.redactor.nodes[0]), 0)?;
        self.space();
        if self.at < self.text.len() { self.fault("the end") } else { Ok(()) }
    }

    /// Reads a value whose fields may be to redact.
    fn value(&mut self, node: Option<&'r Node>, depth: usize) -> Result<(), Fault> {
        match self.peek() {
            b'"' => self.quoted().map(drop),
            b'{' => self.object(node, depth + 1),
            b'[' => self.array(node, depth + 1),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.fault("a value"),
        }
    }

    fn object(&mut self, node: Option<&'r Node>, depth: usize) -> Result<(), Fault> {
        self.enter(depth)?;
        // Where the member begins: at the comma before it, or where it would be the first one.
        let mut member = self.at;
        let mut is_first = true;
        self.space();
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != b'"' {
                return self.fault("a key");
            }
            let key = self.quoted()?;
            self.space();
            self.expect(b':', "`:`")?;
            self.space();
            let is_gone = match node.and_then(|node| self.step(node, key)) {
                None => self.value(None, depth).map(|()| false)?,
                Some(Step::Into(next)) => self.value(Some(&self.redactor.nodes[next]), depth).map(|()| false)?,
                Some(Step::Redact) => self.redact(member, depth)?,
            };
            is_first &= is_gone;
            self.space();
            match self.peek() {
                b',' => {
                    member = self.at;
                    self.at += 1;
                    if is_first {
                        // What comes next will be the first one, and has no comma before it.
                        self.copied = self.at;
                        member = self.at;
                    }
                }
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fault("`,` or `}`"),
            }
        }
    }

    fn array(&mut self, node: Option<&'r Node>, depth: usize) -> Result<(), Fault> {
        self.enter(depth)?;
        self.space();
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            self.value(node, depth)?;
            self.space();
            match self.peek() {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fault("`,` or `]`"),
            }
        }
    }

    /// Reads a value and puts another one in its place, or takes its member away and says so.
    fn redact(&mut self, member: usize, depth: usize) -> Result<bool, Fault> {
        let start = self.at;
        let is_text = self.peek() == b'"';
        let whole = if is_text {
            self.quoted()?
        } else {
            self.value(None, depth)?;
            Quoted { start, end: self.at, is_escaped: false }
        };
        match &self.redactor.with {
            With::Text(text) => self.replace(start, text),
            With::Nothing => self.replace(member, b""),
            With::Hash(_) if &self.text[start..self.at] == b"null" => {}
            With::Hash(keyed) => {
                let hash = keyed.hash(&self.content(whole));
                self.replace(start, &hash);
            }
        }
        Ok(matches!(self.redactor.with, With::Nothing))
    }

    /// Puts this in the place of what was read since `start`.
    fn replace(&mut self, start: usize, with: &[u8]) {
        if self.out.capacity() == 0 {
            // Room for a few that grow.
            self.out.reserve_exact(self.text.len() + 4 * (with.len() + HASH_BYTES));
        }
        self.out.extend_from_slice(&self.text[self.copied..start]);
        self.out.extend_from_slice(with);
        self.copied = self.at;
    }

    fn step(&self, node: &Node, key: Quoted) -> Option<Step> {
        let place = match key.is_escaped {
            false => node.find(&self.text[key.start..key.end]),
            true => node.find(&self.content(key)),
        };
        place.map(|place| node.steps[place].1)
    }

    /// A text without its escapes; half of a surrogate pair is U+FFFD.
    fn content(&self, quoted: Quoted) -> Cow<'r, [u8]> {
        let raw = &self.text[quoted.start..quoted.end];
        if quoted.is_escaped { Cow::Owned(unescaped(raw)) } else { Cow::Borrowed(raw) }
    }

    /// Reads a text, whose quote comes next.
    fn quoted(&mut self) -> Result<Quoted, Fault> {
        let start = self.at + 1;
        let mut at = start;
        let (mut is_escaped, mut beyond_ascii) = (false, 0);
        loop {
            while let Some(bytes) = self.text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
                let word = u64::from_le_bytes(*bytes);
                let plain = plain_bytes(word);
                beyond_ascii |= word & (EACH << 7);
                at += plain;
                if plain < 8 {
                    break;
                }
            }
            match self.text.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    is_escaped = true;
                    self.at = at + 1;
                    at += self.escape()?;
                }
                Some(0..0x20) => {
                    self.at = at;
                    return self.fault("no control character");
                }
                Some(byte) => {
                    beyond_ascii |= u64::from(byte & 0x80);
                    at += 1;
                }
                None => {
                    self.at = at;
                    return self.fault("`\"`");
                }
            }
        }
        if beyond_ascii != 0
            && let Err(error) = std::str::from_utf8(&self.text[start..at])
        {
            self.at = start + error.valid_up_to();
            return self.fault("UTF-8");
        }
        self.at = at + 1;
        Ok(Quoted { start, end: at, is_escaped })
    }

    /// How many bytes the escape is whose `\` is behind us.
    fn escape(&self) -> Result<usize, Fault> {
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(2),
            b'u' => match self.text.get(self.at + 1..self.at + 5) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => Ok(6),
                _ => self.fault("`u` and four hexadecimal digits"),
            },
            _ => self.fault("an escape"),
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1
        } else {
            self.digits()?
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if let b'e' | b'E' = self.peek() {
            self.at += 1;
            if let b'+' | b'-' = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        if !self.peek().is_ascii_digit() {
            return self.fault("a digit");
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Fault> {
        if !self.text[self.at..].starts_with(word) {
            return self.fault("a value");
        }
        self.at += word.len();
        Ok(())
    }

    fn space(&mut self) {
        while let b' ' | b'\n' | b'\r' | b'\t' = self.peek() {
            self.at += 1;
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return self.fault("at most 128 levels");
        }
        self.at += 1;
        Ok(())
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Fault> {
        if self.peek() != byte {
            return self.fault(expected);
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte; behind the end a zero, which JSON has nowhere.
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn fault<T>(&self, expected: &'static str) -> Result<T, Fault> {
        Err(Fault { at: self.at, expected })
    }
}

/// A one in each byte.
const EACH: u64 = u64::MAX / 255;

/// How many of eight bytes (the first one lowest) come before a quote, a backslash or a control character.
fn plain_bytes(word: u64) -> usize {
    let is_below = |word: u64, limit: u64| word.wrapping_sub(EACH * limit) & !word & (EACH << 7);
    let is_equal = |byte: u8| is_below(word ^ (EACH * u64::from(byte)), 1);
    let special = is_below(word, 0x20) | is_equal(b'"') | is_equal(b'\\');
    (special.trailing_zeros() / 8) as usize
}

/// A text without its escapes, which were checked.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&letter, after)) = rest.split_first() else { break };
        rest = after;
        match letter {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let mut units = vec![unit(&mut rest)];
                if (0xd800..0xdc00).contains(&units[0]) && rest.starts_with(b"\\u") {
                    let mut next = &rest[2..];
                    let low = unit(&mut next);
                    if (0xdc00..0xe000).contains(&low) {
                        units.push(low);
                        rest = next;
                    }
                }
                out.extend_from_slice(String::from_utf16_lossy(&units).as_bytes());
            }
            quote_or_slash => out.push(quote_or_slash),
        }
    }
    out
}

/// The UTF-16 unit that four digits spell, which are then behind.
fn unit(rest: &mut &[u8]) -> u16 {
    let (digits, after) = rest.split_at(4.min(rest.len()));
    *rest = after;
    digits.iter().fold(0, |unit, digit| unit << 4 | (*digit as char).to_digit(16).unwrap_or(0) as u16)
}

impl Keyed {
    /// Hashes with this key.
    pub fn new(key: &str) -> Result<Keyed, String> {
        if key.len() < KEY_BYTES_MIN {
            return Err(format!("hash: a key of {} bytes can be guessed; {KEY_BYTES_MIN} are needed", key.len()));
        }
        let mac = Hmac::new_from_slice(key.as_bytes()).map_err(|error| format!("hash: {error}"))?;
        Ok(Keyed(mac))
    }

    /// The first 32 digits, between quotes.
    fn hash(&self, content: &[u8]) -> [u8; 2 * HASH_BYTES + 2] {
        let digest = self.0.clone().chain_update(content).finalize().into_bytes();
        let mut out = [b'"'; 2 * HASH_BYTES + 2];
        for (byte, digits) in digest.iter().zip(out[1..=2 * HASH_BYTES].chunks_exact_mut(2)) {
            digits[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            digits[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        out
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON: expected {} at byte {}", self.expected, self.at)
    }
}
