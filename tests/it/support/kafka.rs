//! A Kafka in this process: librdkafka's mock cluster, and a producer to it; and a lake that several nodes deliver to.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;

use super::daemon::{Home, files, pipeline, until};

/// A cluster with one topic.
pub struct Kafka {
    pub cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    partitions: i32,
}

impl Kafka {
    /// A broker with `topic` of so many partitions.
    pub fn new(topic: &str, partitions: i32) -> Kafka {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(topic, partitions, 1).unwrap();
        let producer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        Kafka { cluster, producer, partitions }
    }

    /// Where it listens.
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Puts records into a partition; returns when they are there.
    pub fn put(&self, topic: &str, partition: i32, records: &[impl AsRef<[u8]>]) {
        for record in records {
            let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).partition(partition).payload(record.as_ref());
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.flush();
    }

    fn flush(&self) {
        until("the records are there", || self.producer.flush(Duration::from_secs(1)).ok());
    }

    /// Puts one record with a key and a header, or a tombstone.
    pub fn put_known(&self, topic: &str, key: &str, payload: Option<&str>, header: (&str, &str)) {
        let headers = OwnedHeaders::new().insert(Header { key: header.0, value: Some(header.1) });
        let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(0).key(key).headers(headers);
        record.payload = payload;
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.flush();
    }

    /// Puts rows of these ids into every partition of `orders`; `all` grows by them.
    pub fn put_rows(&self, all: &mut Vec<String>, ids: Range<u64>) {
        for partition in 0..self.partitions {
            let rows = rows(partition, ids.clone());
            self.put("orders", partition, &rows);
            all.extend(rows);
        }
    }

    /// Commits an offset of a group that has no members, with metadata.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let mut config = ClientConfig::new();
        let consumer: BaseConsumer =
            config.set("bootstrap.servers", self.brokers()).set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        list.find_partition(topic, partition).unwrap().set_metadata(metadata);
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }

    /// The next commits are answered so.
    pub fn refuse_commits(&self, errors: &[RDKafkaRespErr]) {
        self.cluster.request_errors(RDKafkaApiKey::OffsetCommit, errors);
    }
}

/// An error in short.
pub fn name(error: RDKafkaRespErr) -> String {
    format!("{:?}", RDKafkaErrorCode::from(error))
}

/// Rows of a partition.
pub fn rows(partition: i32, ids: Range<u64>) -> Vec<String> {
    ids.map(|id| format!("{{\"partition\":{partition},\"id\":{id}}}")).collect()
}

/// Where nodes deliver to: rows lie in its folder `rows/`.
pub struct Lake(TempDir);

impl Lake {
    pub fn new() -> Lake {
        Lake(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A pipeline `x` that reads `orders` into it, with more options of the source.
    pub fn write(&self, home: &Home, kafka: &Kafka, options: &str) {
        self.write_with(home, kafka, options, "100ms");
    }

    /// The same with this interval.
    pub fn write_with(&self, home: &Home, kafka: &Kafka, options: &str, interval: &str) {
        let source = format!("kafka: {{ brokers: \"{}\", topics: [orders], group: g{options} }}", kafka.brokers());
        let sink = format!("url: \"{}\", prefix: \"rows/\"", self.0.path().display());
        home.write("x.yaml", pipeline(&source, "lines: {}", interval, &sink));
    }

    /// No row can be put until [`Lake::unblock`]: a file lies where their folder should be.
    pub fn block(&self) {
        fs::write(self.path("rows"), "").unwrap();
    }

    /// Rows can be put.
    pub fn unblock(&self) {
        fs::remove_file(self.path("rows")).unwrap();
    }

    /// How often each row is there.
    pub fn lines(&self) -> BTreeMap<String, u32> {
        let mut times = BTreeMap::new();
        for path in files(&self.path("rows")) {
            fs::read_to_string(&path).unwrap().lines().for_each(|line| *times.entry(line.to_owned()).or_default() += 1);
        }
        times
    }

    /// Handover copies.
    pub fn copies(&self) -> Vec<PathBuf> {
        files(&self.path("_hydrant/handover"))
    }

    /// Waits until every row is there, once, and nothing is left of handing over.
    pub fn holds_once(&self, all: &[String]) {
        let all: BTreeMap<String, u32> = all.iter().map(|row| (row.clone(), 1)).collect();
        let mut seen = (0, 0);
        until("all rows are there", || {
            let lines = self.lines();
            let twice: Vec<_> = lines.iter().filter(|(_, times)| **times > 1).collect();
            assert!(twice.is_empty(), "twice: {twice:?}");
            if seen != (lines.len(), self.copies().len()) {
                seen = (lines.len(), self.copies().len());
                println!("{} of {} rows, {} copies", seen.0, all.len(), seen.1);
            }
            (lines == all).then_some(())
        });
        until("no handover copy is left", || self.copies().is_empty().then_some(()));
        assert!(self.lines() == all, "nothing more came");
    }
}
