//! What librdkafka says of itself every few seconds, as far as it is looked at here.
//!
//! Format: `STATISTICS.md` of librdkafka 2.12.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One statement.
#[derive(Debug, Default, Deserialize)]
pub struct Stats {
    #[serde(default)]
    pub brokers: BTreeMap<String, Broker>,
    #[serde(default)]
    pub topics: BTreeMap<String, Topic>,
}

/// A connection to a broker.
#[derive(Debug, Deserialize)]
pub struct Broker {
    #[serde(default)]
    pub state: String,
}

/// A topic.
#[derive(Debug, Deserialize)]
pub struct Topic {
    #[serde(default)]
    pub partitions: BTreeMap<String, Partition>,
}

/// A partition. Offsets are -1001 where nothing is known.
#[derive(Debug, Deserialize)]
pub struct Partition {
    pub partition: i32,
    /// The end of what read_committed sees, and of all.
    #[serde(default)]
    pub ls_offset: i64,
    #[serde(default)]
    pub hi_offset: i64,
    /// Bytes that were fetched and not read.
    #[serde(default)]
    pub fetchq_size: u64,
}

impl Stats {
    /// Whether any broker can be talked to.
    pub fn is_connected(&self) -> bool {
        self.brokers.values().any(|broker| broker.state == "UP")
    }

    /// What is said of a partition.
    pub fn of(&self, topic: &str, partition: i32) -> Option<&Partition> {
        let found = self.topics.get(topic)?.partitions.get(&partition.to_string())?;
        (found.partition == partition).then_some(found)
    }
}
