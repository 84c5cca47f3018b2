//! A Kafka in this process: librdkafka's mock cluster, and a producer to it.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A cluster with one topic.
pub struct Kafka {
    pub cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Kafka {
    /// A broker with `topic` of so many partitions.
    pub fn new(topic: &str, partitions: i32) -> Kafka {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(topic, partitions, 1).unwrap();
        let producer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        Kafka { cluster, producer }
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
        self.producer.flush(Duration::from_secs(30)).unwrap();
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
}
