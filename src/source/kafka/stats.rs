//! What librdkafka says of itself every few seconds, as far as it is looked at here.
//!
//! Format: `STATISTICS.md` of librdkafka 2.12.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
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
    /// The end of what read_committed sees, and of all.
    #[serde(default)]
    pub ls_offset: i64,
    #[serde(default)]
    pub hi_offset: i64,
    /// Messages and bytes that were fetched and not read.
    #[serde(default)]
    pub fetchq_cnt: u64,
    #[serde(default)]
    pub fetchq_size: u64,
}

/// How much is fetched ahead of one partition: at either it rests until some is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AheadMax {
    pub messages: u64,
    pub bytes: u64,
}

impl Stats {
    /// Whether any broker can be talked to.
    pub fn is_connected(&self) -> bool {
        self.brokers.values().any(|broker| broker.state == "UP")
    }

    /// What is said of a partition.
    pub fn of(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(&partition.to_string())
    }
}

impl Partition {
    /// Whether nothing more of it is fetched until some of it is read.
    pub fn is_full(&self, max: AheadMax) -> bool {
        self.fetchq_cnt >= max.messages || self.fetchq_size >= max.bytes
    }
}

impl AheadMax {
    /// That of a client, by its configuration; librdkafka's own where nothing was set.
    pub fn of(config: &ClientConfig) -> Result<AheadMax, KafkaError> {
        let native = config.create_native_config()?;
        let number = |name: &str| native.get(name).map(|value| value.parse().unwrap_or(u64::MAX));
        let bytes = number("queued.max.messages.kbytes")?.saturating_mul(1024);
        Ok(AheadMax { messages: number("queued.min.messages")?, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_rests_when_its_queue_is_full() {
        let mut config = ClientConfig::new();
        assert_eq!(AheadMax::of(&config).unwrap(), AheadMax { messages: 100_000, bytes: 64 << 20 });
        config.set("queued.max.messages.kbytes", "32");
        let max = AheadMax::of(&config).unwrap();
        let stats: Stats = serde_json::from_str(
            r#"{ "topics": { "a": { "partitions": {
                "-1": { "partition": -1 },
                "0": { "partition": 0, "fetchq_cnt": 9, "fetchq_size": 32767 },
                "1": { "partition": 1, "fetchq_cnt": 9, "fetchq_size": 32768 },
                "2": { "partition": 2, "fetchq_cnt": 100000, "fetchq_size": 0 } } } } }"#,
        )
        .unwrap();
        let is_full = |partition| stats.of("a", partition).unwrap().is_full(max);
        assert_eq!([0, 1, 2].map(is_full), [false, true, true]);
        assert!(stats.of("a", 3).is_none() && stats.of("b", 0).is_none());
    }
}
