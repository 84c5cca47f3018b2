//! What is asked again and again while a client lives: who is in the group, whether topics are still the same, whether
//! halted partitions can be read again, and which handover copies nobody needs.
//!
//! Nothing here is needed to deliver. Brokers and sinks that do not answer, or may not, only leave it unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::time::Instant;

use crate::cpu::off_thread;
use crate::metrics::MemberNow;

use super::context::Context;
use super::describe::{self, TopicNow};
use super::flood::flood;
use super::ledger::Part;
use super::options::Options;
use super::shared::Shared;
use super::start::{self, Standing};
use super::sweep;

/// The group and the topics are looked at so often.
const GROUP_INTERVAL: Duration = Duration::from_secs(15);
/// After partitions came or went, so soon.
const GROUP_SOON: Duration = Duration::from_secs(1);
/// Halted partitions are looked at so often: what was lost may be back, or somebody may have decided.
const HALTED_INTERVAL: Duration = Duration::from_secs(30);
/// One that waits only until what was read of it is delivered, so often.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Handover copies are swept so often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// The first time, after a client has begun.
const SWEEP_FIRST: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// When each is due. One question of a kind is under way at a time.
pub struct Watch {
    group_at: Option<Instant>,
    halted_at: Option<Instant>,
    sweep_at: Option<Instant>,
    has_halted: bool,
    has_warned: bool,
}

/// What was seen.
pub enum Watched {
    Group {
        member: String,
        members: Vec<MemberNow>,
        topics: BTreeMap<Arc<str>, TopicNow>,
        /// Topics that are named and cannot be read: by the newer protocol of groups nobody else says so.
        missing: Vec<(Arc<str>, KafkaError)>,
    },
    Halted(Vec<Standing>),
    Swept,
}

impl Watch {
    /// Everything is due soon.
    pub fn new(now: Instant) -> Watch {
        Watch {
            group_at: Some(now + GROUP_SOON),
            halted_at: Some(now),
            sweep_at: Some(now + SWEEP_FIRST),
            has_halted: false,
            has_warned: false,
        }
    }

    /// Partitions came or went.
    pub fn rebalanced(&mut self, now: Instant) {
        self.group_at = self.group_at.map(|at| at.min(now + GROUP_SOON));
    }

    /// The questions that are due.
    pub fn due(
        &mut self,
        shared: &Arc<Shared>,
        consumer: &Arc<BaseConsumer<Context>>,
        now: Instant,
    ) -> Vec<BoxFuture<'static, Watched>> {
        let mut questions: Vec<BoxFuture<'static, Watched>> = Vec::new();
        let is_due = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if is_due(&mut self.group_at) {
            questions.push(Box::pin(group(shared.clone(), consumer.clone())));
        }
        let halted = shared.halted();
        if !halted.is_empty() && !self.has_halted {
            self.halted_at = self.halted_at.map(|at| at.min(now + IDLE_INTERVAL));
        }
        self.has_halted = !halted.is_empty();
        if self.has_halted && is_due(&mut self.halted_at) {
            let ask = start::ask(shared.clone(), consumer.clone(), halted);
            questions.push(Box::pin(async move { Watched::Halted(ask.await.unwrap_or_default()) }));
        }
        if is_due(&mut self.sweep_at) {
            let sweep = sweep::sweep(shared.clone(), consumer.clone());
            questions.push(Box::pin(async move {
                sweep.await;
                Watched::Swept
            }));
        }
        questions
    }

    /// Answers the partitions that are to be taken up anew.
    pub fn hear(&mut self, shared: &Shared, watched: Watched, now: Instant) -> BTreeSet<Part> {
        match watched {
            Watched::Group { member, members, topics, missing } => {
                self.group_at = Some(now + GROUP_INTERVAL);
                missing.iter().for_each(|(topic, error)| shared.report.say(error, topic));
                shared.report.know_group(member, members);
                self.warn_of_flood(shared, &topics);
                shared.made_again(&topics).into_iter().collect()
            }
            Watched::Halted(standing) => {
                let may_be_read: BTreeSet<Part> =
                    standing.into_iter().filter(|one| one.told.is_ok()).map(|one| one.part).collect();
                let (idle, busy): (BTreeSet<Part>, BTreeSet<Part>) =
                    may_be_read.into_iter().partition(|part| shared.is_idle(part));
                self.halted_at = Some(now + if busy.is_empty() { HALTED_INTERVAL } else { IDLE_INTERVAL });
                idle
            }
            Watched::Swept => {
                self.sweep_at = Some(now + SWEEP_INTERVAL);
                BTreeSet::new()
            }
        }
    }

    /// Says once that partitions make a flood of small objects.
    fn warn_of_flood(&mut self, shared: &Shared, topics: &BTreeMap<Arc<str>, TopicNow>) {
        let partitions: usize = topics.values().map(|topic| usize::try_from(topic.partitions).unwrap_or(0)).sum();
        if let Some((warning, hint)) = flood(partitions, shared.interval, shared.options.merge)
            && !std::mem::replace(&mut self.has_warned, true)
        {
            tracing::warn!(pipeline = shared.pipeline, hint, "kafka: {warning}");
        }
    }
}

/// Who is in the group, and the topics that are read. What is not answered stays empty.
async fn group(shared: Arc<Shared>, consumer: Arc<BaseConsumer<Context>>) -> Watched {
    let names: BTreeSet<Arc<str>> = shared.owned_topics();
    off_thread(move || {
        let names: Vec<Arc<str>> = names.into_iter().collect();
        let group = shared.options.group_of(&shared.pipeline);
        Watched::Group {
            topics: describe::topics(&consumer, &names, ASK_TIMEOUT).unwrap_or_default(),
            members: describe::members(&consumer, &group, ASK_TIMEOUT).unwrap_or_default(),
            member: describe::member_id(&consumer),
            missing: missing(&shared.options, &names, &consumer),
        }
    })
    .await
}

/// Topics that are named and cannot be read, but for those of `read`.
fn missing(options: &Options, read: &[Arc<str>], consumer: &BaseConsumer<Context>) -> Vec<(Arc<str>, KafkaError)> {
    let mut missing = Vec::new();
    for topic in options.topics.iter().filter(|topic| !topic.starts_with('^')) {
        if read.iter().any(|read| **read == **topic) {
            continue;
        }
        // Brokers that do not answer say so elsewhere.
        let Ok(metadata) = consumer.fetch_metadata(Some(topic), ASK_TIMEOUT) else { break };
        if let Some(error) = metadata.topics().first().and_then(|topic| topic.error()) {
            missing.push((topic.as_str().into(), KafkaError::MetadataFetch(error.into())));
        }
    }
    missing
}
