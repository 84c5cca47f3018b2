//! Where partitions stand: what the group has committed of them, and where those begin of which it knows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::cpu::off_thread;
use crate::error::Fault;

use super::begun::{Memory, OfTopic};
use super::context::Context;
use super::describe::{self, TopicNow};
use super::ledger::Part;
use super::options::Start;
use super::plan::{Plan, Told, TopicId};
use super::policy::{Found, From, Known, Verdict, judge};
use super::shared::Shared;

/// How long a question to the brokers may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a partition stands.
#[derive(Debug)]
pub struct Standing {
    pub part: Part,
    /// The topic's id, where brokers give one.
    pub topic: Option<TopicId>,
    /// What the group has of it, as it is to be followed; `None`: nothing. Or why it is not read.
    pub told: Result<Option<Told>, Found>,
    /// Where it begins, if nothing is told.
    pub start: i64,
    /// What was not as it was left, and is to be said when it is taken up.
    pub found: Option<Found>,
}

/// Who has not answered.
#[derive(Debug)]
pub enum Unanswered {
    Brokers(KafkaError),
    Sink(Fault),
}

/// By partition: the committed offset and its metadata, if any.
type Committed = Vec<(Part, Option<(i64, String)>)>;

/// Asks where these partitions stand: brokers what is committed, the sink what the group has begun; and decides by the
/// policy what is to be done with each.
pub async fn ask(
    shared: Arc<Shared>,
    consumer: Arc<BaseConsumer<Context>>,
    parts: Vec<Part>,
) -> Result<Vec<Standing>, Unanswered> {
    let names: Vec<Arc<str>> =
        parts.iter().map(|part| part.topic.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let (asker, known) = (consumer.clone(), shared.clone());
    let (committed, topics) = off_thread(move || {
        let committed = committed(&asker, &parts, ASK_TIMEOUT)?;
        let topics = describe::topics(&asker, &names, ASK_TIMEOUT)?;
        match names.iter().all(|name| topics.contains_key(name)) {
            true => {
                known.begun.set_cluster(describe::cluster_id(&asker, ASK_TIMEOUT));
                Ok((committed, topics))
            }
            // Whether it is the same one cannot be told.
            false => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)),
        }
    })
    .await
    .map_err(Unanswered::Brokers)?;
    let begun = remembered(&shared, &committed, &topics).await.map_err(Unanswered::Sink)?;
    let asker = shared.clone();
    off_thread(move || {
        let stand = |(part, committed): (Part, Option<(i64, String)>)| {
            let topic = topics.get(&part.topic).and_then(|topic| topic.id.clone());
            let memory = begun.get(&part.topic).map_or(Memory::Nothing, |of| of.of(topic.as_ref(), part.partition));
            stand(&asker, &consumer, (part, topic, memory), committed)
        };
        committed.into_iter().map(stand).collect::<Result<_, KafkaError>>()
    })
    .await
    .map_err(Unanswered::Brokers)
}

/// What the sink remembers of topics, after which it also remembers that the group has come to them.
async fn remembered(
    shared: &Shared,
    committed: &Committed,
    topics: &BTreeMap<Arc<str>, TopicNow>,
) -> Result<BTreeMap<Arc<str>, OfTopic>, Fault> {
    let mut begun = BTreeMap::new();
    for (topic, now) in topics {
        let all_known = committed.iter().all(|(part, committed)| part.topic != *topic || committed.is_some());
        let of = match shared.begun.of(topic).filter(|_| all_known) {
            Some(of) => of,
            None => match shared.begun.look(topic).await {
                Ok(of) => of,
                // It decides nothing now; what is begun is remembered before it is read.
                Err(_) if all_known => continue,
                Err(fault) => return Err(fault),
            },
        };
        if !of.has_come(now.id.as_ref()) {
            shared.begun.come_to(topic, now, &|trouble| shared.report.say_of_sink(trouble)).await?;
        }
        begun.insert(topic.clone(), of);
    }
    Ok(begun)
}

/// Decides where one partition stands. Blocking.
fn stand(
    shared: &Shared,
    consumer: &BaseConsumer<Context>,
    (part, topic, memory): (Part, Option<TopicId>, Memory),
    committed: Option<(i64, String)>,
) -> Result<Standing, KafkaError> {
    let doubt = shared.doubt(&part);
    let bounds = match &doubt {
        Some(_) => Some(consumer.fetch_watermarks(&part.topic, part.partition, ASK_TIMEOUT)?),
        None => None,
    };
    let known = Known {
        committed: committed.as_ref().map(|(offset, metadata)| (*offset, metadata.as_str())),
        topic: topic.as_ref(),
        memory,
        bounds,
        truncated_to: doubt.flatten(),
    };
    let policy = (shared.options.start, shared.options.on_lost);
    let (told, start, found) = match judge(&known, policy, &shared.mark) {
        Verdict::Halt(found) => (Err(found), 0, None),
        Verdict::ReadOn(told, found) => (Ok(Some(told)), 0, found),
        Verdict::Begin(from, plans, found) => {
            let at = match from {
                From::At(at) => at,
                From::Start(start) => begins(consumer, &part, start, ASK_TIMEOUT)?,
            };
            // When these are delivered it stands there, and nowhere in the log that they are from.
            let plans: Vec<Plan> = plans.into_iter().map(|plan| Plan { offset: at, ..plan }).collect();
            (Ok((!plans.is_empty()).then_some(Told { offset: at, plans })), at, found)
        }
    };
    Ok(Standing { part, topic, told, start, found })
}

/// What the group has committed of these partitions. Blocking.
pub fn committed(consumer: &BaseConsumer<Context>, parts: &[Part], timeout: Duration) -> Result<Committed, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(parts.len());
    for part in parts {
        list.add_partition(&part.topic, part.partition);
    }
    let answer = consumer.committed_offsets(list, timeout)?;
    let of = |part: &Part| {
        // One that is left out is not one of which nothing is committed.
        let missing = || KafkaError::OffsetFetch(RDKafkaErrorCode::BadMessage);
        let element = answer.find_partition(&part.topic, part.partition).ok_or_else(missing)?;
        element.error()?;
        Ok(match element.offset() {
            Offset::Offset(offset) => {
                (part.clone(), Some((offset, describe::metadata(&answer, &part.topic, part.partition))))
            }
            _ => (part.clone(), None),
        })
    };
    parts.iter().map(of).collect()
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
