//! Shards, positions and ranges: the words for where in a log something lies.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// One ordered log, for ever: a spool's incarnation, a file, a Kafka partition.
///
/// 1 to 64 characters of `[a-z0-9]`, so that it can stand in an object name between dashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard(Arc<str>);

impl Shard {
    /// The longest shard id, in characters.
    pub const LEN_MAX: usize = 64;

    /// A shard id, or `None` if the text is not one.
    pub fn new(id: &str) -> Option<Shard> {
        let fits = (1..=Shard::LEN_MAX).contains(&id.len());
        let clean = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        (fits && clean).then(|| Shard(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one owner's part of a log that a group of nodes shares. Its positions are kept by the group, not by
    /// us: what we note of it ends with the process. Ids of all other shards are hex digits, or begin with another word.
    pub fn is_session(&self) -> bool {
        self.0.starts_with('k')
    }

    /// The log that it is, or is one owner's part of: positions of shards of one log are of one kind, and do not overlap.
    pub fn log(&self) -> &str {
        match self.0.rsplit_once('s') {
            // What several partitions were merged into has positions of its own.
            Some((log, _)) if self.is_session() && log.contains('p') => log,
            _ => &self.0,
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where to read on in a shard: a natural number in decimal of any length (a byte offset, a record number, a Kinesis
/// sequence number, which exceeds 128 bits). Ordered as the log is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position(Arc<str>);

impl Position {
    /// The longest position, in digits (Kinesis allows 129).
    pub const DIGITS_MAX: usize = 136;

    /// Parses decimal digits (leading zeros are dropped), or `None`.
    pub fn parse(text: &str) -> Option<Position> {
        let digits = (1..=Position::DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let trimmed = text.trim_start_matches('0');
        digits.then(|| Position(if trimmed.is_empty() { "0" } else { trimmed }.into()))
    }

    /// The position as text, without leading zeros.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a number, if it fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }
}

impl From<u64> for Position {
    fn from(number: u64) -> Position {
        Position(number.to_string().into())
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Position) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Position) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[start, end)` of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShardRange {
    pub shard: Shard,
    pub start: Position,
    pub end: Position,
}

impl fmt::Display for ShardRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}..{})", self.shard, self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_as_numbers_of_any_length() {
        let parse = |text| Position::parse(text).unwrap();
        assert!(parse("9") < parse("10"));
        assert!(parse("49543463076548007577105092703039560359975228518395019266") > Position::from(u64::MAX));
        assert_eq!(parse("000"), Position::from(0));
        assert_eq!(parse("0012"), Position::from(12));
        assert_eq!(Position::parse(""), None);
        assert_eq!(Position::parse("-1"), None);
    }

    #[test]
    fn owners_of_a_partition_read_one_log() {
        let log = |id: &str| Shard::new(id).unwrap().log().to_owned();
        assert_eq!(log("k1a2b3c4dp12s7d2a90b4e1f0"), "k1a2b3c4dp12");
        assert_eq!(log("k1a2b3c4dp12s000000000000"), "k1a2b3c4dp12");
        assert_eq!(log("kms7d2a90b4e1f0"), "kms7d2a90b4e1f0");
        assert_eq!(log("7d2a90b4e1f0"), "7d2a90b4e1f0");
    }

    #[test]
    fn a_shard_id_can_stand_between_dashes() {
        assert!(Shard::new("7f3a9c").is_some());
        assert!(Shard::new("").is_none());
        assert!(Shard::new("a-b").is_none());
        assert!(Shard::new("../x").is_none());
    }
}
