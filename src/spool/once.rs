//! The once window: which producers' calls are stored already, so that a retry gets the answer of its original.

use std::collections::{HashMap, VecDeque};

use crate::spool::{Appended, OnceKey};

/// The most calls that are remembered per stream, about 30 MiB of memory; the oldest are forgotten first.
pub const ONCE_KEYS_MAX: usize = 400_000;

/// Remembers calls for a while. Time is milliseconds since the stream was opened, from a clock that never jumps.
#[derive(Debug, Default)]
pub struct Once {
    known: HashMap<OnceKey, Appended>,
    /// In the order of their records: when to forget which key, and its first record.
    order: VecDeque<(u64, OnceKey, u64)>,
}

impl Once {
    /// The answer that the original of this call got.
    pub fn get(&self, key: OnceKey) -> Option<Appended> {
        self.known.get(&key).copied()
    }

    /// Remembers a call until `expires_ms`. Calls come in the order of their records.
    pub fn insert(&mut self, key: OnceKey, appended: Appended, expires_ms: u64) {
        self.known.insert(key, appended);
        self.order.push_back((expires_ms, key, appended.first));
        if self.order.len() > ONCE_KEYS_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets what is over at `now_ms`.
    pub fn expire(&mut self, now_ms: u64) {
        while self.order.front().is_some_and(|(expires_ms, ..)| *expires_ms <= now_ms) {
            self.forget_oldest();
        }
    }

    /// The first record of the oldest remembered call: a restart needs the segments from here on to remember it again.
    pub fn floor(&self) -> Option<u64> {
        self.order.front().map(|(_, _, first)| *first)
    }

    /// When the oldest remembered call is over.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.order.front().map(|(expires_ms, ..)| *expires_ms)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key, first)) = self.order.pop_front()
            && self.known.get(&key).is_some_and(|appended| appended.first == first)
        {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> OnceKey {
        OnceKey((u128::from(n)).to_le_bytes())
    }

    #[test]
    fn a_call_is_known_until_its_time_is_over_and_the_newer_twin_outlives_the_older() {
        let mut once = Once::default();
        once.insert(key(1), Appended { first: 0, count: 1 }, 10);
        once.insert(key(1), Appended { first: 5, count: 1 }, 20);
        assert_eq!(once.floor(), Some(0));
        once.expire(10);
        assert_eq!(once.get(key(1)), Some(Appended { first: 5, count: 1 }));
        assert_eq!((once.floor(), once.next_expiry_ms()), (Some(5), Some(20)));
        once.expire(20);
        assert_eq!((once.get(key(1)), once.floor()), (None, None));
    }

    #[test]
    fn the_window_is_bounded_by_number_too() {
        let mut once = Once::default();
        for n in 0..=ONCE_KEYS_MAX as u64 {
            once.insert(key(n), Appended { first: n, count: 1 }, u64::MAX);
        }
        assert_eq!((once.get(key(0)), once.floor()), (None, Some(1)));
        assert_eq!(once.known.len(), ONCE_KEYS_MAX);
    }
}
