//! The bare librdkafka client of the Kafka bench: fills a topic, reads one and only counts, waits for a group.
//!
//! ```text
//! kafka produce ADDRESS TOPIC PARTITIONS FILE     makes the topic anew and writes the lines of a file into it
//! kafka consume ADDRESS TOPIC                     reads it to the end; prints how many records and bytes it saw
//! kafka count ADDRESS TOPIC                       prints how many records it has
//! kafka await ADDRESS TOPIC GROUP                 returns once the group has committed the end of each partition
//! ```
//!
//! `benches/kafka/main.py` calls it; `consume` is the least that reading can cost with this library.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ptr::null_mut;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::bindings as rd;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

/// How long the broker may take to answer one question.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Records of a file go to the same partition so many at a time, as a producer without keys does it.
const RECORDS_IN_TURN: usize = 1000;
/// Of a topic with many partitions, fewer: each shall have its share.
const TURNS_OF_PARTITION: usize = 20;
/// Records that are taken with one call: waiting for so many, not for one, is the cheapest that the library has.
const RECORDS_AT_ONCE: usize = 1000;
/// How long a batch may take to fill: the last never does.
const BATCH_WAIT: Duration = Duration::from_millis(50);
const AWAIT_EVERY: Duration = Duration::from_millis(100);
const AWAIT_MAX: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    // `cargo bench` adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["produce", address, topic, partitions, file] => produce(address, topic, partitions.parse()?, file),
        ["consume", address, topic] => consume(address, topic),
        ["count", address, topic] => count(address, topic),
        ["await", address, topic, group] => await_group(address, topic, group),
        // `cargo bench` without a bench's name starts all of them.
        [] => {
            println!("kafka: a part of `benches/run --kafka`");
            Ok(())
        }
        _ => bail!("usage: see the first lines of benches/kafka/client.rs"),
    }
}

fn produce(address: &str, topic: &str, partitions: i32, file: &str) -> Result<()> {
    make(address, topic, partitions)?;
    let mut config = client(address);
    config.set("compression.codec", "lz4").set("acks", "1").set("linger.ms", "50").set("batch.size", "131072");
    config.set("queue.buffering.max.messages", "200000");
    let producer: BaseProducer = config.create()?;
    let mut lines = BufReader::with_capacity(1 << 20, File::open(file).context(file.to_owned())?);
    let records = BufReader::new(File::open(file)?).split(b'\n').count();
    let in_turn = RECORDS_IN_TURN.min(records / (partitions as usize * TURNS_OF_PARTITION)).max(1);
    let mut line = Vec::new();
    for number in 0..records {
        line.clear();
        lines.read_until(b'\n', &mut line)?;
        let payload = line.strip_suffix(b"\n").unwrap_or(&line);
        let partition = (number / in_turn) as i32 % partitions;
        let mut record = BaseRecord::<(), [u8]>::to(topic).payload(payload).partition(partition);
        while let Err((error, again)) = producer.send(record) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(10));
            record = again;
        }
    }
    producer.flush(AWAIT_MAX)?;
    count(address, topic)
}

/// The topic, empty.
fn make(address: &str, topic: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(address).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_MAX));
    let asker: BaseConsumer = client(address).create()?;
    let is_there = || -> Result<bool> {
        Ok(asker.fetch_metadata(None, ANSWER_MAX)?.topics().iter().any(|each| each.name() == topic))
    };
    if is_there()? {
        runtime.block_on(admin.delete_topics(&[topic], &options))?;
        let began = Instant::now();
        while is_there()? {
            if began.elapsed() > ANSWER_MAX {
                bail!("topic {topic} is deleted and still there after {ANSWER_MAX:?}");
            }
            sleep(AWAIT_EVERY);
        }
    }
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for made in runtime.block_on(admin.create_topics([&new], &options))? {
        made.map_err(|(name, error)| anyhow::anyhow!("topic {name}: {error}"))?;
    }
    Ok(())
}

/// As hydrant reads, one record after the other, but does nothing with them.
fn consume(address: &str, topic: &str) -> Result<()> {
    let consumer: BaseConsumer = reader(address).create()?;
    let ends = ends(&consumer, topic)?;
    let mut from = TopicPartitionList::new();
    for (partition, &(begin, _)) in ends.iter().enumerate() {
        from.add_partition_offset(topic, partition as i32, Offset::Offset(begin))?;
    }
    consumer.assign(&from)?;
    let wanted: i64 = ends.iter().map(|(begin, end)| end - begin).sum();
    let (mut records, mut bytes, began) = (0i64, 0u64, Instant::now());
    let mut seen = began;
    // SAFETY: the consumer outlives its queue; messages are read before they are given back, each once.
    unsafe {
        let queue = rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        let mut messages = [null_mut::<rd::rd_kafka_message_t>(); RECORDS_AT_ONCE];
        while records < wanted {
            let wait_ms = BATCH_WAIT.as_millis() as i32;
            let count = rd::rd_kafka_consume_batch_queue(queue, wait_ms, messages.as_mut_ptr(), messages.len());
            if count > 0 {
                seen = Instant::now();
            } else if seen.elapsed() > ANSWER_MAX {
                bail!("{records} of {wanted} records, then none for {ANSWER_MAX:?}");
            }
            for message in &messages[..count.max(0) as usize] {
                if (**message).err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    bail!("after {records} of {wanted} records: {:?}", (**message).err);
                }
                bytes += (**message).len as u64;
                records += 1;
                rd::rd_kafka_message_destroy(*message);
            }
        }
        rd::rd_kafka_queue_destroy(queue);
    }
    println!("{{\"records\": {records}, \"bytes\": {bytes}, \"read_s\": {}}}", began.elapsed().as_secs_f64());
    Ok(())
}

fn count(address: &str, topic: &str) -> Result<()> {
    let ends = ends(&reader(address).create()?, topic)?;
    let records: i64 = ends.iter().map(|(begin, end)| end - begin).sum();
    println!("{{\"records\": {records}, \"partitions\": {}}}", ends.len());
    Ok(())
}

fn await_group(address: &str, topic: &str, group: &str) -> Result<()> {
    let consumer: BaseConsumer = client(address).set("group.id", group).create()?;
    let ends = ends(&consumer, topic)?;
    let mut all = TopicPartitionList::new();
    all.add_partition_range(topic, 0, ends.len() as i32 - 1);
    let began = Instant::now();
    let mut answered = began;
    loop {
        let open = match consumer.committed_offsets(all.clone(), ANSWER_MAX) {
            Ok(committed) => {
                answered = Instant::now();
                open(topic, &ends, &committed)
            }
            // The coordinator of a new group may not be there yet.
            Err(_) if answered.elapsed() < ANSWER_MAX => ends.len(),
            Err(error) => bail!("group {group}: {error}"),
        };
        if open == 0 {
            return Ok(());
        }
        if began.elapsed() > AWAIT_MAX {
            bail!("group {group} has not committed the end of {open} partitions after {AWAIT_MAX:?}");
        }
        sleep(AWAIT_EVERY);
    }
}

/// How many partitions have no commit of their end.
fn open(topic: &str, ends: &[(i64, i64)], committed: &TopicPartitionList) -> usize {
    let at = |partition: usize| committed.find_partition(topic, partition as i32).map(|found| found.offset());
    let done = |partition, end| matches!(at(partition), Some(Offset::Offset(at)) if at >= end);
    ends.iter().enumerate().filter(|&(partition, &(begin, end))| begin < end && !done(partition, end)).count()
}

/// Where each partition begins and ends. A broker that has just started knows that its partitions have no leader yet.
fn ends(consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i64, i64)>> {
    let began = Instant::now();
    let ask = || {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER_MAX)?;
        let partitions = metadata.topics().first().map_or(0, |found| found.partitions().len());
        (0..partitions as i32).map(|one| consumer.fetch_watermarks(topic, one, ANSWER_MAX)).collect()
    };
    loop {
        match ask() {
            Err(error) if began.elapsed() > ANSWER_MAX => bail!("topic {topic}: {error}"),
            Err::<_, KafkaError>(_) => sleep(AWAIT_EVERY),
            Ok(ends) => return Ok(ends),
        }
    }
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("group.id", "none");
    config
}

/// What hydrant sets for a few partitions, with its usual memory, that the cost of reading depends on.
fn reader(address: &str) -> ClientConfig {
    let mut config = client(address);
    config.set("check.crcs", "true").set("fetch.message.max.bytes", "1048576").set("fetch.max.bytes", "16777216");
    config.set("queued.max.messages.kbytes", "2048");
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error");
    config.set("isolation.level", "read_committed");
    config
}
