//! The oracle: knows what was attempted and acknowledged, looks at the store, and says whether the promise was kept.
//!
//! For each record: as often in the store as it was acknowledged, at the least, and as it was attempted, at the most
//! (one attempt, acknowledged: exactly once). Nothing else is there. A record whose position is known lies in an object
//! of its shard whose range holds it, and in that object in order; the ranges of a shard tile, so the order holds over
//! all its objects. No object was changed, removed or made twice. Formats and names differ, so two closures read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use bytes::Bytes;
use object_store::path::Path;

use super::store::History;

/// Problems that one verdict prints, in number.
const PROBLEMS_MAX: usize = 12;

/// What identifies a record: tests put it into the payload.
pub type Id = u64;

/// What an object's name says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    pub shard: String,
    /// The range `[start, end)` of positions.
    pub start: u64,
    pub end: u64,
}

/// When the store is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// In the middle: what is acknowledged may still be on its way.
    Midway,
    /// All is said to be delivered.
    Settled,
}

/// What is known of the records so far.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    records: BTreeMap<Id, Known>,
    gaps_allowed: bool,
}

#[derive(Debug, Clone, Default)]
struct Known {
    attempts: u32,
    acks: u32,
    /// Shard and position of each acknowledged copy, where told.
    places: Vec<(String, u64)>,
}

/// What is wrong, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub Vec<String>);

impl Oracle {
    /// Nothing is attempted yet.
    pub fn new() -> Oracle {
        Oracle::default()
    }

    /// Ranges need not touch: chunks may be empty (all records dropped), or logs have gaps. Overlap stays forbidden.
    pub fn allow_gaps(&mut self) {
        self.gaps_allowed = true;
    }

    /// A record is about to be handed over; again for each retry.
    pub fn attempt(&mut self, id: Id) {
        self.records.entry(id).or_default().attempts += 1;
    }

    /// The attempt was acknowledged.
    pub fn ack(&mut self, id: Id) {
        let known = self.records.entry(id).or_default();
        known.acks += 1;
        assert!(
            known.acks <= known.attempts,
            "record {id} is acknowledged more often than attempted: the test is wrong"
        );
    }

    /// The attempt was acknowledged, with the record's place in its shard.
    pub fn ack_at(&mut self, id: Id, shard: &str, position: u64) {
        self.ack(id);
        self.records.entry(id).or_default().places.push((shard.to_string(), position));
    }

    /// A record of a source that was there all along (a file): as good as acknowledged.
    pub fn given(&mut self, id: Id, shard: &str, position: u64) {
        self.attempt(id);
        self.ack_at(id, shard, position);
    }

    /// Number of acknowledged records.
    pub fn acked(&self) -> usize {
        self.records.values().filter(|known| known.acks > 0).count()
    }

    /// Looks at the store. `name` reads an object's name (`None`: foreign to the promise, such as a probe; not looked
    /// into); `decode` reads the ids in an object, main or error, in order.
    pub fn check(
        &self,
        when: When,
        objects: &BTreeMap<Path, Bytes>,
        history: &History,
        name: impl Fn(&str) -> Option<Named>,
        decode: impl Fn(&str, &[u8]) -> Result<Vec<Id>, String>,
    ) -> Result<(), Broken> {
        let mut broken = Vec::new();
        let mut delivered: BTreeMap<Id, Vec<(&str, Named)>> = BTreeMap::new();
        let mut ranges: BTreeMap<String, BTreeSet<(u64, u64)>> = BTreeMap::new();
        for (path, bytes) in objects {
            let path = path.as_ref();
            let Some(named) = name(path) else { continue };
            let ids = decode(path, bytes).unwrap_or_else(|why| {
                broken.push(format!("{path} cannot be read: {why}"));
                Vec::new()
            });
            self.check_order(path, &named, &ids, &mut broken);
            ids.into_iter().for_each(|id| delivered.entry(id).or_default().push((path, named.clone())));
            ranges.entry(named.shard).or_default().insert((named.start, named.end));
        }
        self.check_counts(when, &delivered, &mut broken);
        for (shard, ranges) in &ranges {
            self.check_tiles(when, shard, ranges, &mut broken);
        }
        check_history(history, &mut broken);
        if broken.is_empty() { Ok(()) } else { Err(Broken(broken)) }
    }

    /// Within one object the known positions grow.
    fn check_order(&self, path: &str, named: &Named, ids: &[Id], broken: &mut Vec<String>) {
        let mut last: Option<(u64, Id)> = None;
        for id in ids {
            // A record with several acknowledged copies does not say which one this is.
            let Some(Known { places, attempts: 1, .. }) = self.records.get(id) else { continue };
            let Some((_, position)) = places.first().filter(|(shard, _)| *shard == named.shard) else { continue };
            if let Some((before, earlier)) = last.filter(|(before, _)| before >= position) {
                let order = format!("record {earlier} (position {before}) before record {id} (position {position})");
                broken.push(format!("{path} is out of order: {order}"));
            }
            last = Some((*position, *id));
        }
    }

    /// Each record as often as it should be, and where it should be.
    fn check_counts(&self, when: When, delivered: &BTreeMap<Id, Vec<(&str, Named)>>, broken: &mut Vec<String>) {
        for (id, known) in &self.records {
            let found = delivered.get(id).map_or(&[][..], Vec::as_slice);
            let count = found.len() as u32;
            let paths = || found.iter().map(|(path, _)| *path).collect::<Vec<_>>().join(", ");
            let Known { attempts, acks, places } = known;
            if count > *attempts {
                broken.push(format!("record {id} is there {count} times after {attempts} attempts: {}", paths()));
            }
            if count < *acks && when == When::Settled {
                broken
                    .push(format!("record {id} is lost: {acks} times acknowledged at {places:?}, {count} times there"));
            }
            let home = |(shard, position): &(String, u64)| {
                found.iter().any(|(_, n)| n.shard == *shard && (n.start..n.end).contains(position))
            };
            if count > 0 && *attempts == 1 && !places.iter().all(home) {
                broken.push(format!("record {id} is not where {places:?} says but in {}", paths()));
            }
        }
        for (id, found) in delivered.iter().filter(|(id, _)| !self.records.contains_key(id)) {
            broken.push(format!("record {id} in {} was never attempted", found[0].0));
        }
    }

    /// The ranges of a shard lie side by side.
    fn check_tiles(&self, when: When, shard: &str, ranges: &BTreeSet<(u64, u64)>, broken: &mut Vec<String>) {
        for (start, end) in ranges.iter().filter(|(start, end)| start >= end) {
            broken.push(format!("shard {shard} has the empty range [{start}..{end})"));
        }
        for ((start, end), (next_start, next_end)) in ranges.iter().zip(ranges.iter().skip(1)) {
            let pair = format!("[{start}..{end}) and [{next_start}..{next_end})");
            if next_start < end {
                broken.push(format!("shard {shard} has overlapping ranges {pair}"));
            }
            // Chunks in flight side by side may appear in any order, so midway a gap means nothing.
            if next_start > end && !self.gaps_allowed && when == When::Settled {
                broken.push(format!("shard {shard} has a gap between {pair}"));
            }
        }
    }
}

fn check_history(history: &History, broken: &mut Vec<String>) {
    for (path, times) in history.created.iter().filter(|(_, times)| **times > 1) {
        broken.push(format!("{path} was created {times} times"));
    }
    for (path, times) in &history.changed {
        broken.push(format!("{path} was overwritten with other bytes {times} times"));
    }
    for (path, times) in &history.deleted {
        broken.push(format!("{path} was deleted {times} times"));
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("the promise is broken in {} places:\n", self.0.len());
        for problem in self.0.iter().take(PROBLEMS_MAX) {
            let _ = writeln!(text, "  - {problem}");
        }
        f.write_str(&text)
    }
}
