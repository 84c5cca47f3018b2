//! What is counted of a Kafka source, and what it shows of its group.

use std::sync::Arc;

use crate::position::Shard;

use super::PipelineMetrics;

/// The numbers of one pipeline's Kafka source. Cheap to clone.
#[derive(Clone)]
pub struct KafkaMetrics {
    of: PipelineMetrics,
}

/// What became of a commit of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    Done,
    /// It is tried again.
    Failed,
    /// The partitions are another's now; never tried again.
    Fenced,
}

/// A partition that this node owns.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionNow {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The shard that its records are read as.
    pub shard: Shard,
    /// Committed, read, and the end of what can be read; offsets.
    pub committed: Option<i64>,
    pub read: i64,
    pub end: Option<i64>,
    /// Not fetched from, as what was read of it waits.
    pub paused: bool,
}

/// The group as this node sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupNow {
    pub group: String,
    /// This node's id in the group, once it has one.
    pub member: String,
    /// `classic` or `consumer`.
    pub protocol: &'static str,
    pub owned: Vec<PartitionNow>,
    /// All members, as the coordinator told; empty while it did not.
    pub members: Vec<MemberNow>,
}

/// A member of the group.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberNow {
    pub id: String,
    pub client: String,
    pub host: String,
    pub owns: Vec<(Arc<str>, i32)>,
}

impl PipelineMetrics {
    /// The numbers of its Kafka source.
    pub fn kafka(&self) -> KafkaMetrics {
        KafkaMetrics { of: self.clone() }
    }
}

impl KafkaMetrics {
    /// Partitions came or went.
    pub fn rebalanced(&self) {}

    /// A commit was answered.
    pub fn committed(&self, _what: Commit) {}

    /// A plan of a former owner was found, and is kept.
    pub fn took_over(&self) {}

    /// Records without a value were left out.
    pub fn tombstones(&self, _records: u64) {}

    /// So many offsets are gone that were not read.
    pub fn lost(&self, _offsets: u64) {}

    /// What is to be seen of the group from now on.
    pub fn show(&self, _group: GroupNow) {
        let _ = &self.of;
    }
}
