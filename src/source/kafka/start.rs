//! Where partitions stand: what the group has committed of them, and where those begin of which it knows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// How long those questions may take each that come after that: one partition without a leader is not to cost all the others
/// their time.
const LATE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long all of these may take; what is left then is asked the next time.
const LATE_MAX: Duration = Duration::from_secs(5);

/// Where a partition stands.
#[derive(Debug)]
pub struct Standing {
    pub part: Part,
    /// The topic's id, where brokers give one.
    pub topic: Option<TopicId>,
    /// What the group has of it, as it is to be followed; `None`: nothing.
    pub told: Result<Option<Told>, Hindrance>,
    /// Where it begins, if nothing is told.
    pub start: i64,
    /// What was not as it was left, and is to be said when it is taken up.
    pub found: Option<Found>,
}

/// Why a partition is not read.
#[derive(Debug)]
pub enum Hindrance {
    /// The policy says so.
    Found(Found),
    /// Brokers did not say where it stands; they are to be asked again.
    Brokers(KafkaError),
}

/// Who has not answered at all.
#[derive(Debug)]
pub enum Unanswered {
    Brokers(KafkaError),
    Sink(Fault),
}

/// The committed offset of a partition and its metadata, if any; or why a coordinator does not say.
type Committed = Result<Option<(i64, String)>, KafkaError>;

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
        if !topics.is_empty() {
            known.begun.set_cluster(describe::cluster_id(&asker, ASK_TIMEOUT));
        }
        Ok((committed, topics))
    })
    .await
    .map_err(Unanswered::Brokers)?;
    let begun = remembered(&shared, &committed, &topics).await.map_err(Unanswered::Sink)?;
    Ok(off_thread(move || {
        let at_the_latest = Instant::now() + ASK_TIMEOUT;
        let stand = |(part, committed): (Part, Committed)| {
            let ask = Ask { shared: &shared, consumer: &consumer, at_the_latest };
            let stands = match (committed, topics.get(&part.topic)) {
                (Err(error), _) => Err(error),
                // Whether it is the same one cannot be told.
                (_, None) => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)),
                (Ok(committed), Some(topic)) => {
                    let of = begun.get(&part.topic);
                    let memory = of.map_or(Memory::Nothing, |of| of.of(topic.id.as_ref(), part.partition));
                    ask.stand(&part, (topic.id.clone(), memory), committed)
                }
            };
            stands.unwrap_or_else(|error| {
                let told = Err(Hindrance::Brokers(error));
                Standing { part, topic: None, told, start: 0, found: None }
            })
        };
        committed.into_iter().map(stand).collect()
    })
    .await)
}

/// What the sink remembers of topics, after which it also remembers that the group has come to them.
async fn remembered(
    shared: &Shared,
    committed: &[(Part, Committed)],
    topics: &BTreeMap<Arc<str>, TopicNow>,
) -> Result<BTreeMap<Arc<str>, OfTopic>, Fault> {
    let mut begun = BTreeMap::new();
    for (topic, now) in topics {
        let is_known = |committed: &Committed| !matches!(committed, Ok(None));
        let all_known = committed.iter().all(|(part, committed)| part.topic != *topic || is_known(committed));
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

/// Whom is asked about single partitions, and until when: those that come later have [`LATE_TIMEOUT`] each.
struct Ask<'a> {
    shared: &'a Shared,
    consumer: &'a BaseConsumer<Context>,
    at_the_latest: Instant,
}

impl Ask<'_> {
    /// Decides where one partition stands. Blocking.
    fn stand(
        &self,
        part: &Part,
        (topic, memory): (Option<TopicId>, Memory),
        committed: Option<(i64, String)>,
    ) -> Result<Standing, KafkaError> {
        let doubt = self.shared.doubt(part);
        let bounds = match &doubt {
            Some(_) => Some(self.bounds(part)?),
            None => None,
        };
        let known = Known {
            committed: committed.as_ref().map(|(offset, metadata)| (*offset, metadata.as_str())),
            topic: topic.as_ref(),
            memory,
            bounds,
            cut: doubt.flatten(),
        };
        let policy = (self.shared.options.start, self.shared.options.on_lost);
        let (told, start, found) = match judge(&known, policy, &self.shared.mark) {
            Verdict::Halt(found) => (Err(Hindrance::Found(found)), 0, None),
            Verdict::ReadOn(told, found) => (Ok(Some(told)), 0, found),
            Verdict::Begin(from, plans, found) => {
                let at = match from {
                    From::At(at) => at,
                    From::Start(start) => self.begins(part, start)?,
                };
                // When these are delivered it stands there, and nowhere in the log that they are from.
                let plans: Vec<Plan> = plans.into_iter().map(|plan| Plan { offset: at, ..plan }).collect();
                (Ok((!plans.is_empty()).then_some(Told { offset: at, plans })), at, found)
            }
        };
        Ok(Standing { part: part.clone(), topic, told, start, found })
    }

    fn begins(&self, part: &Part, start: Start) -> Result<i64, KafkaError> {
        match start {
            Start::Earliest => self.bounds(part).map(|(first, _)| first),
            Start::Latest => self.bounds(part).map(|(_, end)| end),
            Start::At(at) => {
                let mut times = TopicPartitionList::new();
                times.add_partition_offset(&part.topic, part.partition, Offset::Offset(at.as_millisecond()))?;
                let found = self.consumer.offsets_for_times(times, self.timeout()?)?;
                match found.find_partition(&part.topic, part.partition).map(|element| element.offset()) {
                    Some(Offset::Offset(offset)) => Ok(offset),
                    // Nothing is as young.
                    _ => self.bounds(part).map(|(_, end)| end),
                }
            }
        }
    }

    /// The first offset that the broker has of a partition, and the end.
    fn bounds(&self, part: &Part) -> Result<(i64, i64), KafkaError> {
        self.consumer.fetch_watermarks(&part.topic, part.partition, self.timeout()?)
    }

    fn timeout(&self) -> Result<Duration, KafkaError> {
        let now = Instant::now();
        match now < self.at_the_latest + LATE_MAX {
            true => Ok(self.at_the_latest.saturating_duration_since(now).max(LATE_TIMEOUT)),
            false => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut)),
        }
    }
}

/// What the group has committed of these partitions. Blocking.
pub fn committed(
    consumer: &BaseConsumer<Context>,
    parts: &[Part],
    timeout: Duration,
) -> Result<Vec<(Part, Committed)>, KafkaError> {
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
            Offset::Offset(offset) => Some((offset, describe::metadata(&answer, &part.topic, part.partition))),
            _ => None,
        })
    };
    Ok(parts.iter().map(|part| (part.clone(), of(part))).collect())
}
