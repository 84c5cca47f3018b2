//! Finds the column of a key. Producers write the same keys in the same order, so the first guess is the order last seen.

use std::collections::HashMap;

use super::flaw::Found;
use super::scan::Scanner;
use super::wide::{self, BLOCK, Block};

/// How many keys of the last record are remembered, and how long each may be.
const SEEN_MAX: usize = 1024;
const SEEN_BYTES_MAX: usize = 128;
/// How many remembered keys may be missing in a row before a key is looked up.
const AHEAD: usize = 4;

/// Which keys find a column besides the one that is exactly its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Matching {
    /// One that differs by ASCII case only, as in Firehose.
    pub case_insensitive: bool,
    /// One that has dots where the column has underscores, as in the OpenX SerDe: `a.b` finds `a_b`.
    pub dots_to_underscores: bool,
}

/// The keys of one object: where each leads, and in which order they came last.
pub struct Keys {
    exact: HashMap<Box<[u8]>, usize>,
    /// In lower case where case does not count; empty if only exact keys count.
    alike: HashMap<Box<[u8]>, usize>,
    matching: Matching,
    seen: Vec<Seen>,
}

/// A key as its bytes stood, with its quotes and the colon right behind it, and the column it leads to.
pub struct Seen {
    len: usize,
    /// The first bytes of it, with zeros behind, and which of them count.
    head: [Block; 2],
    wanted: [u32; 2],
    /// The bytes behind these.
    tail: Box<[u8]>,
    pub column: Option<usize>,
}

impl Seen {
    fn new(token: &[u8], column: Option<usize>) -> Seen {
        let tail = token.get(2 * BLOCK..).unwrap_or_default().into();
        let head = [wide::load(token, 0), wide::load(token, BLOCK)];
        let wanted = [wide::first(token.len()), wide::first(token.len().saturating_sub(BLOCK))];
        Seen { len: token.len(), head, wanted, tail, column }
    }

    /// Where the value begins if this key stands at `at`. Equal bytes up to the closing quote are an equal string,
    /// escapes included.
    #[inline(always)]
    pub fn end_at(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let other = !wide::load(bytes, at).equal(self.head[0]) & self.wanted[0];
        let there = other == 0 && (self.len <= BLOCK || self.goes_on_at(bytes, at + BLOCK));
        there.then_some(at + self.len)
    }

    #[inline(never)]
    fn goes_on_at(&self, bytes: &[u8], at: usize) -> bool {
        let other = !wide::load(bytes, at).equal(self.head[1]) & self.wanted[1];
        other == 0 && (self.len <= 2 * BLOCK || bytes[at + BLOCK..].starts_with(&self.tail))
    }
}

impl Keys {
    /// Keys in the order of their columns. Of columns that are alike, an inexact key finds the first.
    pub fn new<'k>(keys: impl Iterator<Item = &'k str>, matching: Matching) -> Keys {
        let mut found = Keys { exact: HashMap::new(), alike: HashMap::new(), matching, seen: Vec::new() };
        for (column, key) in keys.enumerate() {
            found.exact.insert(key.as_bytes().into(), column);
            if matching != Matching::default() {
                let mut key = key.as_bytes().to_vec();
                if matching.case_insensitive {
                    key.make_ascii_lowercase();
                }
                found.alike.entry(key.into()).or_insert(column);
            }
            let mut token = serde_json::to_vec(key).unwrap_or_default();
            token.push(b':');
            found.remember(column, &token, Some(column));
        }
        found
    }

    /// The key that is most likely to be the next, after `next` keys of the object.
    #[inline(always)]
    pub fn likely(&self, next: usize) -> Option<&Seen> {
        self.seen.get(next)
    }

    /// Takes the key that stands here and its colon, and gives its column, or `None` if it is unknown. `next` counts the
    /// keys of the object, from 0.
    #[inline(never)]
    pub fn find(&mut self, scan: &mut Scanner, next: &mut usize, scratch: &mut Vec<u8>) -> Found<Option<usize>> {
        let start = scan.at;
        for (ahead, seen) in self.seen.iter().skip(*next).take(AHEAD).enumerate() {
            if let Some(end) = seen.end_at(scan.bytes, start) {
                *next += ahead + 1;
                scan.at = end;
                return Ok(seen.column);
            }
        }
        let key = scan.string()?;
        let column = self.column(key.plain(scratch));
        let end = scan.at;
        scan.expect(b':', "expected `:`")?;
        if scan.at == end + 1 {
            self.remember(*next, scan.since(start), column);
        }
        *next += 1;
        Ok(column)
    }

    /// The column that a key finds: its own, or else one that is alike by case, or else by dots too.
    fn column(&self, key: &[u8]) -> Option<usize> {
        if let Some(column) = self.exact.get(key) {
            return Some(*column);
        }
        if self.alike.is_empty() || key.len() > SEEN_BYTES_MAX * 2 {
            return None;
        }
        let mut alike = [0; SEEN_BYTES_MAX * 2];
        let alike = &mut alike[..key.len()];
        alike.copy_from_slice(key);
        if self.matching.case_insensitive {
            alike.make_ascii_lowercase();
        }
        let found = self.alike.get(&*alike).copied();
        if found.is_some() || !self.matching.dots_to_underscores {
            return found;
        }
        alike.iter_mut().filter(|byte| **byte == b'.').for_each(|byte| *byte = b'_');
        self.alike.get(&*alike).copied()
    }

    fn remember(&mut self, at: usize, token: &[u8], column: Option<usize>) {
        if token.len() > SEEN_BYTES_MAX || at >= SEEN_MAX {
            return;
        }
        let seen = Seen::new(token, column);
        match self.seen.get_mut(at) {
            Some(slot) => *slot = seen,
            None => self.seen.push(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Matching = Matching { case_insensitive: true, dots_to_underscores: false };
    const DOTS: Matching = Matching { case_insensitive: false, dots_to_underscores: true };

    fn find(keys: &mut Keys, object_keys: &[&str]) -> Vec<Option<usize>> {
        let mut next = 0;
        let mut find = |(place, key): (usize, &&str)| {
            // A blank before the colon, now and then.
            let text = format!("{key}{}:1", [" ", "", ""][place % 3]);
            let mut scan = Scanner::new(text.as_bytes());
            let column = keys.find(&mut scan, &mut next, &mut Vec::new()).unwrap();
            assert_eq!(scan.peek(), b'1');
            column
        };
        object_keys.iter().enumerate().map(&mut find).collect()
    }

    #[test]
    fn any_order_finds_the_same_columns() {
        let mut keys = Keys::new(["a", "B", "c\"d"].into_iter(), CASE);
        for _ in 0..3 {
            assert_eq!(find(&mut keys, &[r#""a""#, r#""B""#, r#""c\"d""#]), [Some(0), Some(1), Some(2)]);
            assert_eq!(
                find(&mut keys, &[r#""c\u0022d""#, r#""x""#, r#""b""#, r#""A""#]),
                [Some(2), None, Some(1), Some(0)]
            );
            assert_eq!(
                find(&mut keys, &[r#""\u0061""#, r#""""#, r#""a""#, r#""a""#]),
                [Some(0), None, Some(0), Some(0)]
            );
        }
    }

    #[test]
    fn keys_of_every_length_are_told_from_those_that_begin_like_them() {
        let names: Vec<String> = (1..140).map(|len| "k".repeat(len)).collect();
        let mut keys = Keys::new(names.iter().map(String::as_str), Matching::default());
        let tokens: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let expected: Vec<_> = (0..names.len()).map(Some).collect();
        for _ in 0..2 {
            assert_eq!(find(&mut keys, &tokens), expected);
            // One place off: each is compared with the one that is a byte longer.
            assert_eq!(find(&mut keys, &[&["\"x\""], &tokens[..]].concat())[1..], expected);
        }
    }

    #[test]
    fn the_exact_key_comes_before_the_same_in_another_case() {
        let mut keys = Keys::new(["id", "ID"].into_iter(), CASE);
        assert_eq!(find(&mut keys, &[r#""ID""#, r#""id""#, r#""Id""#]), [Some(1), Some(0), Some(0)]);
        let mut keys = Keys::new(["id"].into_iter(), Matching::default());
        assert_eq!(find(&mut keys, &[r#""ID""#, r#""id""#]), [None, Some(0)]);
    }

    #[test]
    fn a_dot_finds_an_underscore_where_asked_to() {
        let columns = ["a_b", "c.d", "c_d"];
        let mut keys = Keys::new(columns.into_iter(), DOTS);
        assert_eq!(
            find(&mut keys, &[r#""a.b""#, r#""c.d""#, r#""c_d""#, r#""a_b""#, r#""A.b""#]),
            [Some(0), Some(1), Some(2), Some(0), None]
        );
        let mut keys = Keys::new(columns.into_iter(), Matching { case_insensitive: true, ..DOTS });
        assert_eq!(
            find(&mut keys, &[r#""A.B""#, r#""C.D""#, r#""C_d""#, r#""a-b""#]),
            [Some(0), Some(1), Some(2), None]
        );
        let mut keys = Keys::new(columns.into_iter(), CASE);
        assert_eq!(find(&mut keys, &[r#""a.b""#]), [None]);
    }
}
