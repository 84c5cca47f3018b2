//! Where partitions stand: what the group has committed of them, and where those begin of which it knows nothing.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::ledger::Part;
use super::options::Start;

/// Where a partition stands.
pub struct Standing {
    pub part: Part,
    /// The committed offset and its metadata.
    pub committed: Option<(i64, String)>,
    /// Where it begins, if nothing is committed.
    pub start: i64,
}

/// Asks the brokers where these partitions stand. Blocking, up to `timeout` for each question.
pub fn ask(
    consumer: &BaseConsumer<Context>,
    parts: &[Part],
    start: Start,
    timeout: Duration,
) -> Result<Vec<Standing>, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(parts.len());
    for part in parts {
        list.add_partition(&part.topic, part.partition);
    }
    let committed = consumer.committed_offsets(list, timeout)?;
    let mut standing = Vec::with_capacity(parts.len());
    for part in parts {
        let element = committed.find_partition(&part.topic, part.partition);
        let committed = match &element {
            Some(element) => {
                element.error()?;
                match element.offset() {
                    Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
                    _ => None,
                }
            }
            None => None,
        };
        let start = match committed {
            Some((offset, _)) => offset,
            None => begins(consumer, part, start, timeout)?,
        };
        standing.push(Standing { part: part.clone(), committed, start });
    }
    Ok(standing)
}

fn begins(consumer: &BaseConsumer<Context>, part: &Part, start: Start, timeout: Duration) -> Result<i64, KafkaError> {
    let bounds = || consumer.fetch_watermarks(&part.topic, part.partition, timeout);
    match start {
        Start::Earliest => bounds().map(|(first, _)| first),
        Start::Latest => bounds().map(|(_, end)| end),
        Start::At(at) => {
            let mut times = TopicPartitionList::new();
            times.add_partition_offset(&part.topic, part.partition, Offset::Offset(at.as_millisecond()))?;
            let found = consumer.offsets_for_times(times, timeout)?;
            match found.find_partition(&part.topic, part.partition).map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => Ok(offset),
                // Nothing is as young.
                _ => bounds().map(|(_, end)| end),
            }
        }
    }
}
