//! Finds the column of a key. Producers write the same keys in the same order, so the first guess is the order last seen.

use std::collections::HashMap;

use super::flaw::Found;
use super::scan::Scanner;

/// How many keys of the last record are remembered, and how long each may be.
const SEEN_MAX: usize = 1024;
const SEEN_BYTES_MAX: usize = 128;
/// How many remembered keys may be missing in a row before a key is looked up.
const AHEAD: usize = 4;

/// The keys of one object: where each leads, and in which order they came last.
pub struct Keys {
    exact: HashMap<Box<[u8]>, usize>,
    /// In lower case; empty if case counts.
    folded: HashMap<Box<[u8]>, usize>,
    seen: Vec<Seen>,
}

/// A key as its bytes stood, with its quotes, and the column it leads to.
struct Seen {
    token: Box<[u8]>,
    column: Option<usize>,
}

impl Keys {
    /// Keys in the order of their columns. Of two that differ by case only, an inexact key finds the first.
    pub fn new<'k>(keys: impl Iterator<Item = &'k str>, case_insensitive: bool) -> Keys {
        let mut found = Keys { exact: HashMap::new(), folded: HashMap::new(), seen: Vec::new() };
        for (column, key) in keys.enumerate() {
            found.exact.insert(key.as_bytes().into(), column);
            if case_insensitive {
                found.folded.entry(key.to_ascii_lowercase().into_bytes().into()).or_insert(column);
            }
            let json = serde_json::to_vec(key).unwrap_or_default();
            found.remember(column, &json, Some(column));
        }
        found
    }

    /// Takes the key that stands here, and gives its column, or `None` if it is unknown. `next` counts the keys of the
    /// object, from 0.
    #[inline]
    pub fn find(&mut self, scan: &mut Scanner, next: &mut usize, scratch: &mut Vec<u8>) -> Found<Option<usize>> {
        for ahead in 0..AHEAD {
            let Some(seen) = self.seen.get(*next + ahead) else { break };
            // Equal bytes up to the closing quote are an equal string, escapes included.
            if scan.take(&seen.token) {
                *next += ahead + 1;
                return Ok(seen.column);
            }
        }
        self.look_up(scan, next, scratch)
    }

    fn look_up(&mut self, scan: &mut Scanner, next: &mut usize, scratch: &mut Vec<u8>) -> Found<Option<usize>> {
        let start = scan.at;
        let key = scan.string()?.plain(scratch);
        let column = self.column(key);
        self.remember(*next, scan.since(start), column);
        *next += 1;
        Ok(column)
    }

    fn column(&self, key: &[u8]) -> Option<usize> {
        if let Some(column) = self.exact.get(key) {
            return Some(*column);
        }
        if self.folded.is_empty() || key.len() > SEEN_BYTES_MAX * 2 {
            return None;
        }
        let mut lower = [0; SEEN_BYTES_MAX * 2];
        let lower = &mut lower[..key.len()];
        lower.copy_from_slice(key);
        lower.make_ascii_lowercase();
        self.folded.get(&*lower).copied()
    }

    fn remember(&mut self, at: usize, token: &[u8], column: Option<usize>) {
        if token.len() > SEEN_BYTES_MAX || at >= SEEN_MAX {
            return;
        }
        let seen = Seen { token: token.into(), column };
        match self.seen.get_mut(at) {
            Some(slot) => *slot = seen,
            None => self.seen.push(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(keys: &mut Keys, object_keys: &[&str]) -> Vec<Option<usize>> {
        let mut next = 0;
        let find = |key: &&str| keys.find(&mut Scanner::new(key.as_bytes()), &mut next, &mut Vec::new()).unwrap();
        object_keys.iter().map(find).collect()
    }

    #[test]
    fn any_order_finds_the_same_columns() {
        let mut keys = Keys::new(["a", "B", "c\"d"].into_iter(), true);
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
    fn the_exact_key_comes_before_the_same_in_another_case() {
        let mut keys = Keys::new(["id", "ID"].into_iter(), true);
        assert_eq!(find(&mut keys, &[r#""ID""#, r#""id""#, r#""Id""#]), [Some(1), Some(0), Some(0)]);
        let mut keys = Keys::new(["id"].into_iter(), false);
        assert_eq!(find(&mut keys, &[r#""ID""#, r#""id""#]), [None, Some(0)]);
    }
}
