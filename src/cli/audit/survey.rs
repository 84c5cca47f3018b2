//! A survey of a store: entries of a listing go in, per pipeline and shard what their names and sizes say comes out.
//!
//! Memory: 16 bytes for each distinct range (32 while they are sorted), and the objects of one range of one prefix; so
//! ten million chunks take 160 to 320 MB.

use std::collections::BTreeMap;

use super::ranges::{Found, Ranges};
use crate::error::{Blame, Fault};
use crate::naming::{OWN_FOLDER, ObjectName};
use crate::position::ShardRange;
use crate::sink::{Listed, ListedKind};

/// Distinct ranges that are held at once, all shards together: 1 GiB.
pub const RANGES_MAX: i64 = 64 << 20;

/// Pipelines times shards that are told apart.
const SHARDS_MAX: usize = 1 << 20;

/// What was found in a store.
#[derive(Debug, Default)]
pub struct Survey {
    /// Look only at this pipeline.
    only: Option<String>,
    pub objects: u64,
    pub bytes: u64,
    /// By pipeline and log: all owners of a Kafka partition together.
    pub shards: BTreeMap<(String, String), OfShard>,
    /// Names that are not ours.
    pub foreign: Found<String>,
    /// Unfinished files in a local folder.
    pub leftovers: Found<String>,
    /// Names of other pipelines, where only one was asked for.
    pub of_others: u64,
    held: i64,
    parts: Option<Parts>,
    last: String,
    /// The store does not list in the order of names, so that missing parts cannot be told.
    pub unordered: bool,
}

/// What names say of one shard of one pipeline.
#[derive(Debug, Default)]
pub struct OfShard {
    pub objects: u64,
    pub bytes: u64,
    pub ranges: Ranges,
    /// Objects without a byte: no encoder makes one.
    pub empty: Found<String>,
    /// Names that end where they begin, or before.
    pub backwards: Found<String>,
    /// A prefix has `-p02` of a range and not what comes before it.
    pub parts_missing: Found<String>,
}

/// The objects of one range under one prefix, by extension.
#[derive(Debug)]
struct Parts {
    prefix: String,
    pipeline: String,
    range: ShardRange,
    seen: BTreeMap<String, Vec<u32>>,
}

impl Survey {
    /// Nothing seen yet.
    pub fn of(only: Option<String>) -> Survey {
        Survey { only, ..Survey::default() }
    }

    /// Whether only this pipeline was asked for.
    pub fn is_only(&self, pipeline: &str) -> bool {
        self.only.as_deref() == Some(pipeline)
    }

    /// Looks at one entry; a fault is too many of them.
    pub fn see(&mut self, listed: Listed) -> Result<(), Fault> {
        let Listed { name, bytes, kind, .. } = listed;
        if kind == ListedKind::Leftover {
            self.leftovers.add(name);
            return Ok(());
        }
        if name.starts_with(OWN_FOLDER) {
            return Ok(());
        }
        let Some(parsed) = ObjectName::parse(&name).filter(|_| kind == ListedKind::Object) else {
            self.foreign.add(name);
            return Ok(());
        };
        if self.only.as_ref().is_some_and(|only| *only != parsed.pipeline) {
            self.of_others += 1;
            return Ok(());
        }
        self.objects += 1;
        self.bytes += bytes;
        let key = (parsed.pipeline.clone(), parsed.range.shard.log().to_owned());
        if self.shards.len() >= SHARDS_MAX && !self.shards.contains_key(&key) {
            return Err(too_many(format!("more than {SHARDS_MAX} shards")));
        }
        let shard = self.shards.entry(key).or_default();
        shard.objects += 1;
        shard.bytes += bytes;
        if bytes == 0 {
            shard.empty.add(name.clone());
        }
        if parsed.range.start >= parsed.range.end {
            shard.backwards.add(name);
            return Ok(());
        }
        self.held += shard.ranges.push(&parsed.range.start, &parsed.range.end);
        if self.held > RANGES_MAX {
            return Err(too_many(format!("more than {RANGES_MAX} ranges")));
        }
        self.see_part(parsed, name);
        Ok(())
    }

    fn see_part(&mut self, name: ObjectName, whole: String) {
        let ObjectName { prefix, pipeline, range, part, extension } = name;
        let same = |parts: &Parts| parts.prefix == prefix && parts.pipeline == pipeline && parts.range == range;
        if !self.parts.as_ref().is_some_and(same) {
            self.end_parts();
            // In one folder only: between folders a local listing has an order of its own.
            self.unordered |= whole < self.last && folder(&whole) == folder(&self.last);
            self.parts = Some(Parts { prefix, pipeline, range, seen: BTreeMap::new() });
        }
        self.last = whole;
        if let Some(parts) = &mut self.parts {
            parts.seen.entry(extension).or_default().push(part);
        }
    }

    /// Judges the parts of the range that the listing has left.
    fn end_parts(&mut self) {
        let Some(Parts { prefix, pipeline, range, seen }) = self.parts.take() else { return };
        for (extension, mut parts) in seen {
            parts.sort_unstable();
            let missing = parts.iter().zip(0u32..).find(|(part, expected)| **part != *expected);
            if let Some((_, expected)) = missing
                && let Some(shard) = self.shards.get_mut(&(pipeline.clone(), range.shard.log().to_owned()))
            {
                let (prefix, pipeline, range) = (prefix.clone(), pipeline.clone(), range.clone());
                let name = ObjectName { prefix, pipeline, range, part: expected, extension };
                shard.parts_missing.add(name.to_string());
            }
        }
    }

    /// The listing has ended.
    pub fn finish(mut self) -> Survey {
        self.end_parts();
        if self.unordered {
            self.shards.values_mut().for_each(|shard| shard.parts_missing = Found::default());
        }
        self
    }
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn too_many(what: String) -> Fault {
    Fault::new(Blame::Config, format!("{what} at once\nhint: look at one pipeline at a time with --only NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(names: &[&str]) -> Survey {
        let mut survey = Survey::of(None);
        for name in names {
            let listed = Listed { name: (*name).to_owned(), bytes: 1, modified_ms: 0, kind: ListedKind::Object };
            survey.see(listed).unwrap();
        }
        survey.finish()
    }

    #[test]
    fn owners_of_a_kafka_partition_are_judged_together_and_our_own_folder_is_nobody_s() {
        let mut survey = survey(&[
            "_hydrant/handover/p/k1a2b3c4dp3s000000000002-7-9.sealed",
            "p-k1a2b3c4dp3s000000000001-0000000000000000-0000000000000005.log",
            "p-k1a2b3c4dp3s000000000002-0000000000000004-0000000000000009.log",
        ]);
        assert_eq!(survey.foreign.total, 0);
        let of_partition = survey.shards.remove(&("p".to_owned(), "k1a2b3c4dp3".to_owned())).unwrap();
        assert_eq!(of_partition.ranges.judge(None).unwrap().overlaps.total, 1);
    }

    #[test]
    fn a_part_that_is_missing_before_another_is_noticed() {
        let of = |survey: &Survey| survey.shards[&("p".to_owned(), "7f".to_owned())].parts_missing.shown.clone();
        let whole = [
            "a/p-7f-0000000000000000-0000000000000009-p01.log",
            "a/p-7f-0000000000000000-0000000000000009-p02.log",
            "a/p-7f-0000000000000000-0000000000000009.log",
            "b/p-7f-0000000000000000-0000000000000009.log",
        ];
        assert!(of(&survey(&whole)).is_empty());
        let missing = of(&survey(&[whole[1], whole[2], whole[3]]));
        assert_eq!(missing, [whole[0]]);
        assert_eq!(of(&survey(&whole[..2])), [whole[2]], "the first of them");
        let unordered = survey(&["a/p-7f-0000000000000009-0000000000000011-p01.log", whole[1]]);
        assert!(unordered.unordered && of(&unordered).is_empty());
    }
}
