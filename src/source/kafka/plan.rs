//! Plans: what a node is about to deliver, as the group's coordinator keeps it in the metadata of committed offsets.
//!
//! ```text
//! hydrant1 sink=9f3a6c01 topic=sWZ8rTdIQ5qIh1mQ0SCO7g k1a2b3c4dp12s7d2a90b4e1f0:1000-2500 ...
//! |        |             |                            '- shard : start - end (positions of it), the oldest first; `@` and
//! |        |             |                               the offset of this partition behind it, where positions are not offsets
//! |        |             '- the id of the topic, where brokers give topics ids (Kafka 2.8): of a topic that was deleted and
//! |        |                made again these offsets say nothing
//! |        '- the first digits of the SHA-256 of the sink's URL, where the handover copies lie
//! '- the version of this text
//! ```
//! A text that does not begin with `hydrant` is somebody else's, and says nothing. The coordinator takes 4096 bytes
//! (`offset.metadata.max.bytes`).

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::naming::OWN_FOLDER;
use crate::position::{Position, Shard, ShardRange};

/// Plans of one partition that may be under way; with the longest shards and positions they stay below 4096 bytes.
pub const PLANS_MAX: usize = 16;

/// Plans in one commit, over all of its partitions, each of which counts as one too; a plan has about 60 bytes, a partition
/// about 130, and coordinators take no commit above 1 MiB (`message.max.bytes` of `__consumer_offsets`).
pub const PLANS_AT_ONCE_MAX: usize = 4096;

const VERSION: &str = "hydrant1";

/// A chunk that is about to be delivered: `[start, end)` of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Plan {
    pub shard: Shard,
    pub start: Position,
    pub end: Position,
    /// Where the partition stands when it is delivered.
    pub offset: i64,
}

impl Plan {
    /// The chunk's range.
    pub fn range(&self) -> ShardRange {
        ShardRange { shard: self.shard.clone(), start: self.start.clone(), end: self.end.clone() }
    }
}

/// Whether the shard is one partition's: then nobody else has a plan for the same chunk.
pub fn is_of_one_partition(shard: &Shard) -> bool {
    shard.as_str().contains('p')
}

/// The name below a sink under which the sealed file of a range lies, for whoever owns its shard next.
pub fn copy_name(pipeline: &str, range: &ShardRange) -> String {
    let ShardRange { shard, start, end } = range;
    format!("{}{shard}-{start}-{end}.sealed", copies_of(pipeline))
}

/// The folder of a pipeline's handover copies, below the sink.
pub fn copies_of(pipeline: &str) -> String {
    format!("{OWN_FOLDER}handover/{pipeline}/")
}

/// What the group knows of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Told {
    /// All before it is delivered.
    pub offset: i64,
    /// What may be half-delivered behind it, the oldest first.
    pub plans: Vec<Plan>,
}

/// Which sink plans were made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SinkMark(String);

impl SinkMark {
    /// The mark of a sink's URL.
    pub fn of(url: &str) -> SinkMark {
        let hash = Sha256::digest(url.as_bytes());
        SinkMark(hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for SinkMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a topic, as Kafka's own tools show it (base64url of 16 bytes): one that is made again has another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(Arc<str>);

impl TopicId {
    /// Length of the text.
    pub const LEN: usize = 22;

    /// From its text.
    pub fn parse(text: &str) -> Option<TopicId> {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (text.len() == TopicId::LEN && text.bytes().all(sound)).then(|| TopicId(text.into()))
    }

    /// As Kafka's tools show it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The topic that metadata of ours was written for; `None`: it does not say.
pub fn topic_of(metadata: &str) -> Option<TopicId> {
    let word = metadata.strip_prefix(VERSION)?.split(' ').find_map(|word| word.strip_prefix("topic="))?;
    TopicId::parse(word)
}

/// Whether a hydrant has written the metadata: else somebody has set the offset.
pub fn is_ours(metadata: &str) -> bool {
    metadata.starts_with("hydrant")
}

/// Why metadata cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// Of another version, or damaged.
    Text(String),
    /// The plans lie at another sink.
    OtherSink(String),
}

impl Told {
    /// Where the partition is read on when all that is planned is delivered.
    pub fn read_on(&self) -> i64 {
        self.plans.last().map_or(self.offset, |plan| plan.offset)
    }

    /// What a committed offset and its metadata say to who delivers to `sink`.
    pub fn parse(offset: i64, metadata: &str, sink: &SinkMark) -> Result<Told, Unreadable> {
        let mut words = metadata.split(' ');
        let version = words.next().unwrap_or_default();
        if !is_ours(version) {
            return Ok(Told { offset, plans: Vec::new() });
        }
        let unreadable = || Unreadable::Text(metadata.to_owned());
        if version != VERSION {
            return Err(unreadable());
        }
        let of = words.next().and_then(|word| word.strip_prefix("sink=")).ok_or_else(unreadable)?;
        let words = words.filter(|word| !word.starts_with("topic="));
        let plans: Vec<Plan> = words.map(parse_plan).collect::<Option<_>>().ok_or_else(unreadable)?;
        if !plans.is_empty() && of != sink.0 {
            return Err(Unreadable::OtherSink(of.to_owned()));
        }
        Ok(Told { offset, plans })
    }

    /// The metadata that says this of a partition of a topic.
    pub fn metadata(&self, sink: &SinkMark, topic: Option<&TopicId>) -> String {
        let mut text = format!("{VERSION} sink={sink}");
        if let Some(topic) = topic {
            text.push_str(&format!(" topic={topic}"));
        }
        for Plan { shard, start, end, offset } in &self.plans {
            text.push_str(&format!(" {shard}:{start}-{end}"));
            if end.as_u64() != u64::try_from(*offset).ok() {
                text.push_str(&format!("@{offset}"));
            }
        }
        text
    }
}

fn parse_plan(word: &str) -> Option<Plan> {
    let (shard, range) = word.split_once(':')?;
    let (range, offset) = range.split_once('@').map_or((range, None), |(range, offset)| (range, Some(offset)));
    let (start, end) = range.split_once('-')?;
    let (start, end) = (Position::parse(start)?, Position::parse(end)?);
    let offset = match offset {
        Some(offset) => offset.parse().ok()?,
        None => i64::try_from(end.as_u64()?).ok()?,
    };
    (start < end && offset >= 0).then_some(Plan { shard: Shard::new(shard)?, start, end, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(start: u64, end: u64, offset: i64) -> Plan {
        Plan { shard: Shard::new("k1a2b3c4dp3s0011223344").unwrap(), start: start.into(), end: end.into(), offset }
    }

    #[test]
    fn what_was_told_reads_back_the_same() {
        let sink = SinkMark::of("s3://lake/events");
        for plans in [vec![], vec![plan(0, 5, 5)], vec![plan(5, 9, 9), plan(9, 12, 70)]] {
            let told = Told { offset: 5, plans };
            for topic in [None, TopicId::parse("sWZ8rTdIQ5qIh1mQ0SCO7g")] {
                let text = told.metadata(&sink, topic.as_ref());
                assert_eq!(Told::parse(5, &text, &sink), Ok(told.clone()));
                assert_eq!(topic_of(&text), topic, "{text}");
                assert!(is_ours(&text));
            }
        }
    }

    #[test]
    fn the_longest_metadata_fits_a_broker_as_it_comes() {
        let shard = Shard::new(&"k".repeat(Shard::LEN_MAX)).unwrap();
        let most = u64::try_from(i64::MAX).unwrap();
        let plan = Plan { shard, start: (most - 1).into(), end: most.into(), offset: i64::MAX - 1 };
        let told = Told { offset: 0, plans: vec![plan; PLANS_MAX] };
        assert!(told.metadata(&SinkMark::of("x"), TopicId::parse(&"x".repeat(TopicId::LEN)).as_ref()).len() <= 4096);
    }

    #[test]
    fn texts_of_others_say_nothing_and_texts_that_cannot_be_followed_are_refused() {
        let (sink, other) = (SinkMark::of("file:///a"), SinkMark::of("file:///b"));
        let nothing = Told { offset: 7, plans: vec![] };
        for text in ["", "connect-s3 1", "{}"] {
            assert_eq!(Told::parse(7, text, &sink), Ok(nothing.clone()));
        }
        for text in [
            "hydrant2 sink=x",
            "hydrant1",
            "hydrant1 sink=1 k:1-1",
            "hydrant1 sink=1 k:5-4",
            "hydrant1 sink=1 k:1-2@-4",
        ] {
            assert_eq!(Told::parse(7, text, &sink), Err(Unreadable::Text(text.into())), "{text}");
        }
        let told = Told { offset: 7, plans: vec![plan(7, 9, 9)] };
        assert_eq!(Told::parse(7, &told.metadata(&other, None), &sink), Err(Unreadable::OtherSink(other.to_string())));
        assert_eq!(
            Told::parse(7, &nothing.metadata(&other, None), &sink),
            Ok(nothing),
            "without plans the sink may change"
        );
    }
}
