//! The group of a Kafka source as a person sees it: who owns what, and how far this node is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::metrics::{GroupNow, MemberNow, PARTITIONS_SHOWN_MAX, PartitionNow};
use crate::position::Shard;

/// Members of a group that are shown.
pub const MEMBERS_SHOWN_MAX: usize = 20;
/// Topics of a member that are shown, and ranges of partitions of a topic.
pub(super) const TOPICS_SHOWN_MAX: usize = 3;
const RANGES_SHOWN_MAX: usize = 12;
/// Characters that are shown of what other members say of themselves.
const WORDS_MAX: usize = 120;

/// A group that shares the partitions of some topics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KafkaView {
    pub group: String,
    /// This node's id in it; empty: it has not joined yet.
    pub member: String,
    /// `classic` or `consumer`.
    pub protocol: String,
    /// How many partitions this node owns.
    pub owned: u64,
    /// Those of them that are not fetched from, as what was read of them waits.
    pub paused: u64,
    /// Offsets between what is committed and the ends, of all of them.
    pub lag: u64,
    /// What this node owns, by topic; the first few topics.
    pub owns: Vec<OwnsView>,
    /// The partitions of this node one by one, at most [`PARTITIONS_SHOWN_MAX`].
    pub partitions: Vec<PartitionView>,
    /// How many members there are; 0: the coordinator has not told.
    pub members_known: u64,
    /// This node first; at most [`MEMBERS_SHOWN_MAX`].
    pub members: Vec<MemberView>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnsView {
    pub topic: String,
    /// How many.
    pub count: u64,
    /// Which, such as `0-3,7`; many pieces end with `…`.
    pub partitions: String,
}

/// A partition of this node. Offsets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionView {
    pub topic: String,
    pub partition: i32,
    pub committed: Option<i64>,
    pub read: i64,
    /// Up to where it can be read, if that is known.
    pub end: Option<i64>,
    pub lag: Option<u64>,
    pub paused: bool,
}

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    pub id: String,
    /// How it calls itself.
    pub client: String,
    /// From where it came to the broker.
    pub host: String,
    /// Whether it is this node.
    pub here: bool,
    /// How many partitions it owns.
    pub owned: u64,
    /// Which, by topic; the first few topics.
    pub owns: Vec<OwnsView>,
}

impl KafkaView {
    /// What is to be seen of a group.
    pub fn of(now: &GroupNow) -> KafkaView {
        let GroupNow { group, member, protocol, owned, members } = now;
        let mut partitions: Vec<&PartitionNow> = owned.iter().collect();
        partitions.sort_by_key(|of| (&of.topic, of.partition));
        let owns = owns(owned.iter().map(|of| (&*of.topic, of.partition)));
        let mut shown: Vec<MemberView> = members.iter().map(|of| MemberView::of(of, member)).collect();
        shown.sort_by(|a, b| (!a.here, &a.client, &a.host, &a.id).cmp(&(!b.here, &b.client, &b.host, &b.id)));
        shown.truncate(MEMBERS_SHOWN_MAX);
        KafkaView {
            group: group.clone(),
            member: member.clone(),
            protocol: (*protocol).to_owned(),
            owned: owned.len() as u64,
            paused: now.paused(),
            lag: now.lag(),
            owns,
            partitions: partitions.into_iter().take(PARTITIONS_SHOWN_MAX).map(PartitionView::of).collect(),
            members_known: members.len() as u64,
            members: shown,
        }
    }

    /// What one needs who does not look closely: whether it waits for partitions.
    pub(super) fn thin(self) -> Option<KafkaView> {
        let (owns, partitions, members) = Default::default();
        (self.owned == 0).then_some(KafkaView { owns, partitions, members, ..self })
    }
}

impl PartitionView {
    fn of(now: &PartitionNow) -> PartitionView {
        let PartitionNow { topic, partition, shard: _, committed, read, end, paused } = now;
        PartitionView {
            topic: topic.to_string(),
            partition: *partition,
            committed: *committed,
            read: *read,
            end: *end,
            lag: now.lag(),
            paused: *paused,
        }
    }
}

impl MemberView {
    fn of(now: &MemberNow, here: &str) -> MemberView {
        let MemberNow { id, client, host, owns: parts } = now;
        let words = |text: &str| text.chars().take(WORDS_MAX).collect();
        MemberView {
            id: words(id),
            client: words(client),
            // Brokers write `/10.0.0.1`.
            host: words(host.trim_start_matches('/')),
            here: id == here,
            owned: parts.len() as u64,
            owns: owns(parts.iter().map(|(topic, partition)| (&**topic, *partition))),
        }
    }
}

/// What the shards of a group are to a person: `orders/3`, or `orders/0-3,7` where one is read from several partitions.
pub fn shard_names(now: &GroupNow) -> BTreeMap<Shard, String> {
    let mut parts: BTreeMap<&Shard, Vec<(&str, i32)>> = BTreeMap::new();
    for of in &now.owned {
        parts.entry(&of.shard).or_default().push((&of.topic, of.partition));
    }
    let name = |parts: Vec<(&str, i32)>| {
        let words = owns(parts.into_iter()).into_iter().map(|of| format!("{}/{}", of.topic, of.partitions));
        words.collect::<Vec<_>>().join(" ")
    };
    parts.into_iter().map(|(shard, parts)| (shard.clone(), name(parts))).collect()
}

/// By topic.
fn owns<'t>(parts: impl Iterator<Item = (&'t str, i32)>) -> Vec<OwnsView> {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partition) in parts {
        topics.entry(topic).or_default().insert(partition);
    }
    let shown = topics.into_iter().take(TOPICS_SHOWN_MAX);
    shown
        .map(|(topic, of)| OwnsView { topic: topic.to_owned(), count: of.len() as u64, partitions: ranges(&of) })
        .collect()
}

/// Such as `0-3,7`.
fn ranges(partitions: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for at in partitions {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*at) => *last = *at,
            _ => ranges.push((*at, *at)),
        }
    }
    let words = ranges.iter().take(RANGES_SHOWN_MAX).map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let more = (ranges.len() > RANGES_SHOWN_MAX).then(|| "…".to_owned());
    words.chain(more).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, partition: i32, shard: &str) -> PartitionNow {
        let (topic, shard) = (topic.into(), Shard::new(shard).unwrap());
        PartitionNow { topic, partition, shard, committed: Some(5), read: 7, end: Some(9), paused: partition == 0 }
    }

    fn member(id: &str, owns: std::ops::Range<i32>) -> MemberNow {
        let owns = owns.map(|partition| ("orders".into(), partition)).collect();
        MemberNow { id: id.to_owned(), client: format!("hydrant-{id}"), host: "/10.0.0.1".into(), owns }
    }

    fn group(owned: Vec<PartitionNow>, members: Vec<MemberNow>) -> GroupNow {
        GroupNow { group: "lake".into(), member: "c".into(), protocol: "classic", owned, members }
    }

    fn ranges_of(of: impl IntoIterator<Item = i32>) -> String {
        ranges(&of.into_iter().collect())
    }

    #[test]
    fn partitions_are_said_in_ranges() {
        assert_eq!(ranges_of([]), "");
        assert_eq!(ranges_of([7, 0, 2, 1, 3]), "0-3,7");
        assert_eq!(ranges_of([i32::MAX - 1, i32::MAX]), "2147483646-2147483647");
        assert_eq!(ranges_of(0..1000), "0-999");
        let pieces = ranges_of((0..1000).map(|n| n * 2));
        assert!(pieces.starts_with("0,2,4,") && pieces.ends_with(",22,…"), "{pieces}");
    }

    #[test]
    fn this_node_is_the_first_of_the_members_and_the_others_have_their_order() {
        let owned = vec![partition("orders", 1, "k1p1s1"), partition("orders", 0, "k1p0s1")];
        let view = KafkaView::of(&group(owned, vec![member("b", 4..8), member("c", 0..2), member("a", 2..4)]));
        let shown: Vec<_> = view.members.iter().map(|of| (of.client.as_str(), of.here, of.owned)).collect();
        assert_eq!(shown, [("hydrant-c", true, 2), ("hydrant-a", false, 2), ("hydrant-b", false, 4)]);
        assert_eq!((view.members[2].host.as_str(), view.members[2].owns[0].partitions.as_str()), ("10.0.0.1", "4-7"));
        assert_eq!((view.owned, view.paused, view.lag, view.members_known), (2, 1, 8, 3));
        assert_eq!(view.partitions.iter().map(|of| of.partition).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn of_a_thousand_partitions_and_members_some_are_shown_and_all_are_counted() {
        let owned = (0..1000).map(|n| partition(&format!("t{}", n / 10), n, "k1")).collect();
        let members = (0..1000).map(|n| member(&format!("{n:0>4}{}", "x".repeat(9000)), n..n + 1)).collect();
        let view = KafkaView::of(&group(owned, members));
        assert_eq!((view.owned, view.members_known), (1000, 1000));
        assert_eq!((view.partitions.len(), view.members.len()), (PARTITIONS_SHOWN_MAX, MEMBERS_SHOWN_MAX));
        assert_eq!((view.owns.len(), view.owns[2].partitions.as_str()), (TOPICS_SHOWN_MAX, "100-109"));
        assert!(serde_json::to_vec(&view).unwrap().len() < 20_000);
        assert_eq!(view.clone().thin(), None);
        let waits = KafkaView { owned: 0, ..view }.thin().unwrap();
        assert!(waits.members.is_empty() && waits.partitions.is_empty() && waits.members_known == 1000);
    }

    #[test]
    fn a_shard_is_called_by_its_partitions() {
        let owned = vec![partition("orders", 3, "k1p3s1"), partition("a", 0, "k2"), partition("a", 1, "k2")];
        let names = shard_names(&group(owned, vec![]));
        let name = |id| names.get(&Shard::new(id).unwrap()).map(String::as_str);
        assert_eq!((name("k1p3s1"), name("k2"), name("k3")), (Some("orders/3"), Some("a/0-1"), None));
    }
}
