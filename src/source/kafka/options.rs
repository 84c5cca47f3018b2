//! What a user writes under `kafka:`, and the client's configuration that it comes to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::properties;
use super::security::{Sasl, Tls};
use crate::sink::Text;
use crate::source::texts::{OneOrMany, one_or_many};

/// What a user writes under `kafka:`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The brokers that are asked first, `host:port` each (without a port 9092): one, or a list. They name the others.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany", extend("examples" = ["kafka-1:9092"]))]
    pub brokers: Vec<String>,
    /// Names of topics, one or a list. One that begins with `^` is a regular expression, which is held against whole names;
    /// topics that match it later are taken too.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany", extend("examples" = ["orders", "^clicks-.*"]))]
    pub topics: Vec<String>,
    /// The consumer group: all nodes that name the same one share the partitions, and it remembers what is delivered.
    /// `hydrant-` and the pipeline's name if not given.
    #[serde(default)]
    pub group: Option<String>,
    /// Where a partition begins of which the group knows nothing: `earliest`, `latest`, or the first record of a time
    /// such as `2026-11-20T12:00:00Z`. One that is added to a topic later begins with its oldest record.
    #[serde(default)]
    pub start: Start,
    /// Static membership (`group.instance.id`): a name of this node, of which there is no other in the group. A restart
    /// within the session timeout then moves no partitions.
    #[serde(default)]
    pub instance: Option<String>,
    /// How members of the group agree on who reads what.
    #[serde(default)]
    pub protocol: Protocol,
    /// Whether records of transactions that are open or were aborted are read.
    #[serde(default)]
    pub isolation: Isolation,
    /// What becomes of records that have no payload, which delete a key in a compacted topic.
    #[serde(default)]
    pub tombstones: Tombstones,
    /// What happens when records are gone before they were read (by retention, or as the log was truncated), or offsets
    /// that the group had committed (they expired, or were deleted). See docs/kafka.md.
    #[serde(default)]
    pub on_lost: OnLost,
    /// Whether all partitions of a topic that a node has go into the same objects: fewer and larger ones where partitions are
    /// many and thin. Records of one partition stay in order.
    #[serde(default)]
    pub merge: bool,
    /// TLS: `true`, `false`, or a map. `true` if there is `sasl`, else `false`.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Who we are: exactly one of these.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// Properties of librdkafka's consumer by their names, such as `fetch.max.bytes`; see its CONFIGURATION.md. Those that
    /// hydrant's promises rest on are refused. A value may be a secret: `env:NAME`, `file:/path`, `cred:name`.
    #[serde(default)]
    #[schemars(schema_with = "properties::names_known")]
    pub client: BTreeMap<String, Text>,
}

/// Where a partition begins of which the group knows nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record there is.
    #[default]
    Earliest,
    /// With what comes from now on.
    Latest,
    /// With the first record of this time or later, by the records' timestamps.
    At(Timestamp),
}

/// How members of a group agree on who reads what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// `consumer` where the brokers have it, else `classic`.
    #[default]
    Auto,
    /// The members do, by cooperative-sticky assignment.
    Classic,
    /// The broker does (KIP-848, Apache Kafka 4.0).
    Consumer,
}

/// One of the two protocols of groups, as a client is made with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaks {
    Classic,
    Consumer,
}

/// Whether records of transactions that are open or were aborted are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Only committed ones are.
    #[default]
    ReadCommitted,
    /// All are.
    ReadUncommitted,
}

/// What becomes of records that have no payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tombstones {
    /// They are left out, and counted.
    #[default]
    Drop,
    /// They are records with an empty payload.
    Keep,
}

/// What happens when records are gone before they were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLost {
    /// The pipeline stops reading that partition and says which records are gone, until somebody decides.
    #[default]
    Stop,
    /// It says so, counts them, and goes on with the oldest record there is; without offsets, as `start` says.
    GoOn,
}

/// How many bytes of memory a client takes at the least, for what it has fetched.
pub const MEMORY_BYTES_MIN: usize = 4 << 20;
/// Of one response, in bytes: librdkafka's default, and at the least the largest message that brokers take by default.
const FETCH_BYTES_MAX: usize = 50 << 20;
const FETCH_BYTES_MIN: usize = 1 << 20;
/// What librdkafka wants to be left of a response around what is fetched, in bytes.
const RESPONSE_HEAD_BYTES: usize = 512;
/// Of one partition in a response, in bytes; a larger batch of records comes whole.
const PARTITION_FETCH_BYTES_MAX: usize = 1 << 20;
const PARTITION_FETCH_BYTES_MIN: usize = 16 << 10;
/// Of one partition, fetched ahead and not taken, in KiB: more only falls out of caches.
const QUEUED_KBYTES_MAX: usize = 4096;
/// New partitions and topics are seen so soon, in milliseconds.
const METADATA_REFRESH_MS: &str = "30000";
/// Consumption statistics come so often, in milliseconds.
const STATISTICS_INTERVAL_MS: u64 = 5000;
/// A client whose task does not poll for so long is thrown out of its group, in milliseconds. It polls while sinks are
/// slow, so this only meets one that hangs.
const POLL_INTERVAL_MAX_MS: &str = "600000";
/// Where a broker listens that was given no port.
const PORT: u16 = 9092;

impl Options {
    /// The consumer group.
    pub fn group_of<'a>(&'a self, pipeline: &str) -> Cow<'a, str> {
        self.group.as_deref().map_or_else(|| Cow::Owned(format!("hydrant-{pipeline}")), Cow::Borrowed)
    }

    /// The protocols to try, the better one first: the next one if brokers say that they do not have it.
    pub fn speaks(&self) -> &'static [Speaks] {
        match self.protocol {
            Protocol::Auto => &[Speaks::Consumer, Speaks::Classic],
            Protocol::Classic => &[Speaks::Classic],
            Protocol::Consumer => &[Speaks::Consumer],
        }
    }

    /// What is subscribed to: names, and regular expressions that match whole names by both protocols (by the classic one
    /// librdkafka searches, by the other one the broker matches all of a name).
    pub fn subscription(&self) -> Vec<String> {
        let whole = |topic: &String| match topic.strip_prefix('^') {
            Some(expression) => format!("^({})$", expression.strip_suffix('$').unwrap_or(expression)),
            None => topic.clone(),
        };
        self.topics.iter().map(whole).collect()
    }

    /// The brokers as librdkafka takes them.
    pub fn bootstrap(&self) -> String {
        let brokers = self.brokers.iter().flat_map(|text| text.split(','));
        let brokers = brokers.map(str::trim).filter(|broker| !broker.is_empty());
        brokers.map(with_port).collect::<Vec<_>>().join(",")
    }

    /// Whether connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        match &self.tls {
            Some(tls) => tls.is_on(),
            None => self.sasl.is_some(),
        }
    }

    /// The client's configuration: of what is fetched and not yet taken, each of `partitions` holds its share of
    /// `memory_bytes`, half of it in its queue and half in one response. `pipeline` is the pipeline's name. Holds secrets:
    /// must not be printed.
    pub fn client_config(
        &self,
        pipeline: &str,
        speaks: Speaks,
        (memory_bytes, partitions): (usize, usize),
    ) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        let fetch_bytes = self.fetch_bytes(memory_bytes);
        let half_bytes = memory_bytes / partitions.max(1) / 2;
        let partition_bytes = half_bytes.clamp(PARTITION_FETCH_BYTES_MIN, PARTITION_FETCH_BYTES_MAX);
        let queued_kbytes = (half_bytes / 1024).clamp(1, QUEUED_KBYTES_MAX);
        for (name, value) in [
            ("client.id", format!("hydrant-{pipeline}")),
            ("queued.max.messages.kbytes", queued_kbytes.to_string()),
            ("fetch.max.bytes", fetch_bytes.to_string()),
            ("fetch.message.max.bytes", partition_bytes.min(fetch_bytes).to_string()),
            ("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS.to_owned()),
            ("max.poll.interval.ms", POLL_INTERVAL_MAX_MS.to_owned()),
            ("socket.keepalive.enable", "true".to_owned()),
            // As Java's client does.
            ("check.crcs", "true".to_owned()),
            // It is heard only as the reason why no broker answers.
            ("log.connection.close", "true".to_owned()),
        ] {
            config.set(name, value);
        }
        for (name, Text(value)) in &self.client {
            let is_of_classic = properties::CLASSIC_ONLY.contains(&name.as_str());
            if !is_of_classic || speaks == Speaks::Classic {
                config.set(properties::canonical(name), value);
            }
        }
        for (name, value) in [
            ("bootstrap.servers", self.bootstrap().as_str()),
            ("group.id", &self.group_of(pipeline)),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("allow.auto.create.topics", "false"),
            ("isolation.level", self.isolation.as_str()),
            ("statistics.interval.ms", &STATISTICS_INTERVAL_MS.to_string()),
            ("client.software.name", "hydrant"),
            ("client.software.version", env!("CARGO_PKG_VERSION")),
        ] {
            config.set(name, value);
        }
        match speaks {
            Speaks::Classic => {
                config.set("group.protocol", "classic").set("partition.assignment.strategy", "cooperative-sticky")
            }
            Speaks::Consumer => config.set("group.protocol", "consumer"),
        };
        if let Some(instance) = &self.instance {
            config.set("group.instance.id", instance);
        }
        super::security::set(&mut config, self);
        config
    }

    /// Bytes of one response: a quarter of the memory, between what the user says of messages and responses, if anything.
    fn fetch_bytes(&self, memory_bytes: usize) -> usize {
        let given = |name: &str| self.client.get(name).and_then(|Text(value)| value.parse::<usize>().ok());
        let bytes = (memory_bytes / 4).clamp(FETCH_BYTES_MIN, FETCH_BYTES_MAX);
        let bytes = bytes.max(given("message.max.bytes").unwrap_or(0));
        bytes
            .min(given("receive.message.max.bytes").map_or(usize::MAX, |most| most.saturating_sub(RESPONSE_HEAD_BYTES)))
    }
}

/// `host` as `host:9092`; `[::1]` is one, and `::1` is nothing that can be told from a port.
fn with_port(broker: &str) -> String {
    let behind_host = broker.rsplit_once(']').map_or(broker, |(_, behind)| behind);
    if behind_host.contains(':') { broker.to_owned() } else { format!("{broker}:{PORT}") }
}

/// `earliest`, `latest`, or a time.
impl Serialize for Start {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Start::Earliest => serializer.serialize_str("earliest"),
            Start::Latest => serializer.serialize_str("latest"),
            Start::At(time) => serializer.collect_str(time),
        }
    }
}

impl JsonSchema for Start {
    fn schema_name() -> Cow<'static, str> {
        "Start".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let time = "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].*";
        json_schema!({ "type": "string", "pattern": format!("^(earliest|latest|{time})$"), "x-type": "time" })
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Start, D::Error> {
        struct Starts;
        impl Visitor<'_> for Starts {
            type Value = Start;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`earliest`, `latest` or a time such as `2026-11-20T12:00:00Z`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Start, E> {
                match text {
                    "earliest" => Ok(Start::Earliest),
                    "latest" => Ok(Start::Latest),
                    time => time.parse().map(Start::At).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_str(Starts)
    }
}

impl Isolation {
    fn as_str(self) -> &'static str {
        match self {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        }
    }
}
