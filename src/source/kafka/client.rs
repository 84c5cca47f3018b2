//! The client: one member of the group for as long as it lives. It alone answers rebalances and commits.
//!
//! ```text
//! assigned --> committed offsets, metadata --> ledger, session --> incremental_assign --> its shard is given out
//! revoked  --> nothing new is claimed, 5 s for what is --> session lost --> no commit on its way --> incremental_unassign
//! fenced   --> session lost --> as if assigned anew, if it is still ours
//! ```
//! The promise: while a partition is ours, nobody else has it. A rebalance is answered only when no commit is on its way,
//! since librdkafka sends one that waits for a coordinator under the member's *next* generation.

mod asked;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rdkafka::bindings;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, sleep_until, timeout};

use crate::cpu::off_thread;
use crate::metrics::Commit;

use super::context::{Context, Event};
use super::ledger::{Answer, Part};
use super::options::Speaks;
use super::session::Opening;
use super::shared::Shared;
use super::start::Standing;
use super::watch::Watch;
use asked::Asked;

/// How long what is planned may still be delivered when partitions are to be given back.
const GIVE_BACK_GRACE: Duration = Duration::from_secs(5);
/// The pause before something is asked or told again.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);
/// The loop looks at everything so often, whatever it was told.
const TICK: Duration = Duration::from_millis(500);
/// The pause before a client that has ended is followed by the next.
const NEXT_LIFE_PAUSE: Duration = Duration::from_secs(2);
/// Partitions that share the memory at first; more make the client begin anew with less for each.
const PARTITIONS_EXPECTED: usize = 16;
/// How long the end may wait for a commit on its way, and again for what was asked.
const END_GRACE: Duration = Duration::from_secs(2);
/// How long the end waits until the member is gone; it goes in any case, and the next life is another member.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be done about the assignment, one after the other.
enum Step {
    /// Partitions came: where they stand is asked, then they are taken up.
    Assign(Vec<Part>),
    /// They are still ours, but what we knew of them counts no more.
    TakeUpAnew(BTreeSet<Part>),
    /// They are to be given back, at the latest then.
    Revoke { parts: Vec<Part>, at_the_latest: Instant },
}

/// One member of the group.
struct Client {
    shared: Arc<Shared>,
    context: Arc<Context>,
    consumer: Arc<BaseConsumer<Context>>,
    life: Life,
    steps: VecDeque<Step>,
    /// The number of the question that the first step waits for.
    waits_for: Option<u64>,
    questions: u64,
    asked: FuturesUnordered<BoxFuture<'static, Asked>>,
    /// Queues are being taken elsewhere: one such order at a time, so that an old one never undoes a new one.
    seeking: bool,
    watch: Watch,
    /// Whom it answers to, by partition.
    assigned: BTreeSet<Part>,
    /// librdkafka did not take our answer to a rebalance: it would wait for another one for ever.
    refused: Option<KafkaError>,
    /// Nothing is told before the commit on its way is answered, as a step waits for that.
    holds_commits: bool,
    commit_not_before: Instant,
    ask_not_before: Instant,
}

/// Is a member of the group, one life after the other, until the source is left.
pub async fn run(shared: Arc<Shared>) {
    let mut speaks = shared.options.speaks().iter().copied().cycle();
    let mut life = Life { speaks: speaks.next().unwrap_or(Speaks::Classic), partitions: PARTITIONS_EXPECTED };
    while !shared.leaving.is_cancelled() {
        let ended = match Client::new(&shared, life).await {
            Ok(client) => client.live().await,
            Err(error) => Ended::Fault(error, String::new()),
        };
        match ended {
            Ended::Left => {}
            Ended::Crowded(partitions) => life.partitions = partitions.next_power_of_two(),
            Ended::Fault(error, reason) => {
                let unknown = [RDKafkaErrorCode::UnsupportedVersion, RDKafkaErrorCode::UnsupportedFeature];
                if shared.options.speaks().len() > 1
                    && error.rdkafka_error_code().is_some_and(|code| unknown.contains(&code))
                {
                    tracing::info!(
                        pipeline = shared.pipeline,
                        "kafka: the brokers know only the classic protocol of groups"
                    );
                    life.speaks = speaks.next().unwrap_or(Speaks::Classic);
                } else {
                    shared.say(&error, &reason);
                    let _ = timeout(NEXT_LIFE_PAUSE, shared.leaving.cancelled()).await;
                }
            }
        }
    }
}

/// With what a client begins.
#[derive(Clone, Copy)]
struct Life {
    speaks: Speaks,
    /// Partitions that share the memory.
    partitions: usize,
}

/// Why a client has ended.
enum Ended {
    /// The source is left.
    Left,
    /// So many partitions are ours that each may fetch less ahead.
    Crowded(usize),
    Fault(KafkaError, String),
}

impl Client {
    async fn new(shared: &Arc<Shared>, life: Life) -> Result<Client, KafkaError> {
        let context = Context::new(shared);
        let ready = context.ready.clone();
        let (config, topics) = (shared.config(life.speaks, life.partitions), shared.options.subscription());
        let consumer = off_thread(move || {
            let mut consumer = BaseConsumer::from_config_and_context(&config, context)?;
            consumer.set_nonempty_callback(move || ready.notify_one());
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            consumer.subscribe(&topics)?;
            Ok::<_, KafkaError>(consumer)
        })
        .await?;
        let now = Instant::now();
        Ok(Client {
            shared: shared.clone(),
            context: consumer.context().clone(),
            consumer: Arc::new(consumer),
            life,
            steps: VecDeque::new(),
            waits_for: None,
            questions: 0,
            asked: FuturesUnordered::new(),
            seeking: false,
            watch: Watch::new(now),
            assigned: BTreeSet::new(),
            refused: None,
            holds_commits: false,
            commit_not_before: now,
            ask_not_before: now,
        })
    }

    /// Works until it is left, or until librdkafka says that it can no more.
    async fn live(mut self) -> Ended {
        let mut in_doubt = false;
        let ended = loop {
            if self.shared.leaving.is_cancelled() {
                break Ended::Left;
            }
            if let Some((code, reason)) = self.consumer.client().fatal_error() {
                break Ended::Fault(KafkaError::MessageConsumptionFatal(code), reason);
            }
            if let Some(error) = self.refused.take() {
                break Ended::Fault(error, String::new());
            }
            if self.assigned.len() > self.life.partitions {
                break Ended::Crowded(self.assigned.len());
            }
            self.poll();
            let mut doubt = None;
            while let Some(event) = self.context.next() {
                match event {
                    Event::Doubt(code) => doubt = Some(code),
                    event => self.hear(event),
                }
            }
            if let Some(code) = doubt {
                // Only another member's commits cannot be overtaken by it.
                self.shared.metrics.committed(Commit::Failed);
                self.shared.ledger().answered(|_| Answer::Unknown);
                in_doubt = true;
                break Ended::Fault(KafkaError::ConsumerCommit(code), String::new());
            }
            self.hear_sessions();
            self.seek();
            for question in self.watch.due(&self.shared, &self.consumer, Instant::now()) {
                self.asked.push(Box::pin(async move { Asked::Watched(question.await) }));
            }
            self.step();
            self.look_after_copies();
            self.commit();
            tokio::select! {
                biased;
                () = self.shared.leaving.cancelled() => {}
                Some(answer) = self.asked.next() => self.answered(answer),
                () = self.context.ready.notified() => {}
                () = self.shared.news.notified() => {}
                () = sleep_until(Instant::now() + TICK) => {}
            }
        };
        self.end(in_doubt).await;
        ended
    }

    /// Serves librdkafka's events. Records do not come here: each partition has a queue of its own.
    fn poll(&self) {
        // An event that was served looks like an empty queue: only the second time it is one.
        let mut empty = 0;
        while empty < 2 {
            match self.consumer.poll(Duration::ZERO) {
                None => empty += 1,
                Some(Ok(_)) => empty = 0,
                Some(Err(error)) => self.context.tell(Event::Trouble(error, String::new())),
            }
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Assigned(parts) => {
                self.shared.metrics.rebalanced();
                tracing::debug!(pipeline = self.shared.pipeline, ?parts, "kafka: assigned");
                self.watch.rebalanced(Instant::now());
                match self.shared.options.merge {
                    false => self.steps.push_back(Step::Assign(parts)),
                    true => {
                        self.assign_blind(&parts);
                        self.take_up_anew(self.assigned.clone());
                    }
                }
            }
            Event::Revoked { parts, lost } => {
                self.shared.metrics.rebalanced();
                tracing::debug!(pipeline = self.shared.pipeline, ?parts, lost, "kafka: to be given back");
                self.watch.rebalanced(Instant::now());
                parts.iter().for_each(|part| self.shared.ledger().leave(part));
                let at_the_latest = Instant::now() + GIVE_BACK_GRACE;
                self.steps.push_back(Step::Revoke { parts: parts.clone(), at_the_latest });
                if lost {
                    self.lose(parts.iter());
                }
            }
            Event::Committed(answers) => self.hear_answers(&answers),
            Event::Doubt(_) => {}
            Event::Stats(stats) => self.shared.show(&stats, self.life.speaks),
            Event::Trouble(error, reason) => self.shared.say(&error, &reason),
        }
    }

    fn hear_answers(&mut self, answers: &BTreeMap<Part, Answer>) {
        let of = |part: &Part| answers.get(part).copied().unwrap_or(Answer::Unknown);
        self.shared.ledger().answered(of);
        let of_any = |wanted| answers.values().any(|answer| *answer == wanted);
        for (answer, what) in
            [(Answer::Done, Commit::Done), (Answer::Unknown, Commit::Failed), (Answer::Fenced, Commit::Fenced)]
        {
            if of_any(answer) {
                self.shared.metrics.committed(what);
            }
        }
        if of_any(Answer::Unknown) {
            self.commit_not_before = Instant::now() + AGAIN_PAUSE;
        } else {
            self.shared.well();
        }
        let fenced: BTreeSet<Part> =
            answers.iter().filter(|(_, answer)| **answer == Answer::Fenced).map(|(part, _)| part.clone()).collect();
        if !fenced.is_empty() {
            tracing::debug!(pipeline = self.shared.pipeline, ?fenced, "kafka: fenced");
            self.take_up_anew(fenced);
        }
        self.shared.answered.notify_waiters();
    }

    /// These are read no more as they were; what else was merged with them is taken up anew.
    fn lose<'p>(&mut self, parts: impl Iterator<Item = &'p Part>) {
        let others: BTreeSet<Part> = parts.flat_map(|part| self.shared.lose(part)).collect();
        if !others.is_empty() {
            self.steps.push_back(Step::TakeUpAnew(others));
        }
    }

    /// These are read no more as they were, nor what was merged with them: all that is still ours is taken up anew.
    fn take_up_anew(&mut self, mut parts: BTreeSet<Part>) {
        let others: Vec<Part> = parts.iter().flat_map(|part| self.shared.lose(part)).collect();
        parts.extend(others);
        for step in &mut self.steps {
            if let Step::TakeUpAnew(earlier) = step {
                earlier.retain(|part| !parts.contains(part));
            }
        }
        self.steps.push_back(Step::TakeUpAnew(parts));
    }

    /// Answers that partitions have come before it is known where they stand: nothing is read of them.
    fn assign_blind(&mut self, parts: &[Part]) {
        self.assign(&parts.iter().map(|part| (part.clone(), Offset::End)).collect::<Vec<_>>());
    }

    /// Answers that partitions have come. All of them, as librdkafka wants the same ones back.
    fn assign(&mut self, parts: &[(Part, Offset)]) {
        if let Err(error) = self.consumer.incremental_assign(&list(parts.iter().map(|(part, at)| (part, *at)))) {
            self.refused = Some(error);
        }
        self.assigned.extend(parts.iter().map(|(part, _)| part.clone()));
    }

    /// Answers that partitions have been given back.
    /// Partitions that are ours are read on from there, whatever became of their queues: librdkafka does not seek one that it
    /// has given up, as it does when an offset is out of range.
    fn reseat(&mut self, to: &[(Part, i64)]) {
        self.unassign(&to.iter().map(|(part, _)| part.clone()).collect::<Vec<_>>());
        self.assign(&to.iter().map(|(part, at)| (part.clone(), Offset::Offset(*at))).collect::<Vec<_>>());
    }

    fn unassign(&mut self, parts: &[Part]) {
        if let Err(error) = self.consumer.incremental_unassign(&list(parts.iter().map(|part| (part, Offset::Invalid))))
        {
            self.refused = Some(error);
        }
        self.assigned.retain(|part| !parts.contains(part));
    }

    /// What the queues of partitions complained of.
    fn hear_sessions(&mut self) {
        for session in self.shared.all_sessions() {
            for (part, error) in session.take_faults() {
                let out = matches!(
                    error.rdkafka_error_code(),
                    Some(
                        RDKafkaErrorCode::AutoOffsetReset
                            | RDKafkaErrorCode::OffsetOutOfRange
                            | RDKafkaErrorCode::LogTruncation
                    )
                );
                if out {
                    self.ask_bounds(part, Duration::ZERO);
                } else {
                    self.shared.say(&error, &format!("{}/{}", part.topic, part.partition));
                }
            }
        }
    }

    /// Goes on with what is to be done, as far as it can: first what is to be given back, as others wait for that.
    fn step(&mut self) {
        self.holds_commits = false;
        if self.seeking {
            // A queue on its way elsewhere would get there as another owner's.
            return;
        }
        while let Some(at) = self.steps.iter().position(|step| matches!(step, Step::Revoke { .. })) {
            // What an answer that comes now was asked for may be gone; what stays is asked for again.
            self.waits_for = None;
            if !self.give_back(at) {
                return;
            }
        }
        while let Some(step) = self.steps.front() {
            let is_new = matches!(step, Step::Assign(_));
            let parts: Vec<Part> = match step {
                Step::Assign(parts) => parts.clone(),
                Step::TakeUpAnew(parts) => parts.iter().filter(|part| self.assigned.contains(*part)).cloned().collect(),
                Step::Revoke { .. } => return,
            };
            if parts.is_empty() {
                // One of nothing wants its answer too, or librdkafka waits for ever.
                if is_new {
                    self.assign_blind(&[]);
                }
                self.step_done();
                continue;
            }
            if !is_new {
                // An earlier step may have taken them up: where they stand is asked when nobody tells it any more.
                self.lose(parts.iter());
                self.holds_commits = self.shared.ledger().is_on_its_way();
            }
            if !self.holds_commits {
                self.ask_standing(parts);
            }
            return;
        }
    }

    /// Gives back what the step at `at` says; `false`: it has to wait.
    fn give_back(&mut self, at: usize) -> bool {
        for index in 0..at {
            // librdkafka wants each assignment answered, before what it then takes back.
            if let Some(Step::Assign(parts)) = self.steps.get(index) {
                let parts = parts.clone();
                self.assign_blind(&parts);
                self.steps[index] = Step::TakeUpAnew(parts.into_iter().collect());
            }
        }
        let Some(Step::Revoke { parts, at_the_latest }) = self.steps.get(at) else { return true };
        let (parts, at_the_latest) = (parts.clone(), *at_the_latest);
        let busy = parts.iter().any(|part| self.shared.ledger().has_plans(part));
        if busy && Instant::now() < at_the_latest {
            return false;
        }
        self.lose(parts.iter());
        self.holds_commits = self.shared.ledger().is_on_its_way();
        if self.holds_commits {
            return false;
        }
        self.unassign(&parts);
        self.steps.remove(at);
        true
    }

    /// The first step is done, or is not to be done any more: an answer to what it has asked is heard no more.
    fn step_done(&mut self) -> Option<Step> {
        self.waits_for = None;
        self.steps.pop_front()
    }

    /// Partitions are taken up where the group says that they stand.
    fn take_up(&mut self, mut standing: Vec<Standing>) {
        let Some(step) = self.step_done() else { return };
        let is_new = matches!(step, Step::Assign(_));
        if !is_new {
            // One that was given back meanwhile is not taken up again.
            standing.retain(|standing| self.assigned.contains(&standing.part));
        }
        let mut told_of = Vec::with_capacity(standing.len());
        let mut not_read = Vec::new();
        for Standing { part, topic, told, start, found } in standing {
            match told {
                Ok(told) => {
                    let at =
                        told.as_ref().map_or(start, |told| told.plans.last().map_or(told.offset, |plan| plan.offset));
                    found.iter().for_each(|found| self.shared.found(&part, found));
                    self.shared.identify(&part, topic);
                    told_of.push((part, told, at));
                }
                Err(found) => {
                    self.shared.halt(&part, found);
                    not_read.push(part);
                }
            }
        }
        let openings: Vec<Opening> = told_of
            .iter()
            .filter_map(|(part, _, offset)| {
                // Before it is assigned: records that come go there from the first on.
                let queue = self.consumer.split_partition_queue(&part.topic, part.partition)?;
                Some(Opening { part: part.clone(), offset: *offset, queue })
            })
            .collect();
        let begins: Vec<(Part, i64)> = told_of.iter().map(|(part, _, offset)| (part.clone(), *offset)).collect();
        if is_new {
            let read = begins.iter().map(|(part, offset)| (part.clone(), Offset::Offset(*offset)));
            let not_read = not_read.iter().map(|part| (part.clone(), Offset::End));
            self.assign(&read.chain(not_read).collect::<Vec<_>>());
        } else {
            self.reseat(&begins);
        }
        // What cannot be followed now may have come back by the next time: librdkafka remembers a pause.
        let _ = self.consumer.resume(&list(begins.iter().map(|(part, _)| (part, Offset::Invalid))));
        let _ = self.consumer.pause(&list(not_read.iter().map(|part| (part, Offset::Invalid))));
        self.shared.take_up(told_of.into_iter().map(|(part, told, _)| (part, told)).collect(), openings);
    }

    /// Tells the group what is new, if nothing is on its way.
    fn commit(&mut self) {
        if self.holds_commits || Instant::now() < self.commit_not_before {
            return;
        }
        let Some(news) = self.shared.ledger().next_commit() else { return };
        let mut list = TopicPartitionList::with_capacity(news.len());
        for (part, told) in &news {
            let _ = list.add_partition_offset(&part.topic, part.partition, Offset::Offset(told.offset));
            if let Some(mut element) = list.find_partition(&part.topic, part.partition) {
                element.set_metadata(told.metadata(&self.shared.mark, self.shared.topic_of(part).as_ref()));
            }
        }
        if let Err(error) = send(&self.consumer, &list) {
            self.shared.say(&error, "");
            self.hear_answers(&news.into_iter().map(|(part, _)| (part, Answer::Unknown)).collect());
        }
    }

    /// Leaves the group, so that others need not wait for a time-out.
    async fn end(mut self, in_doubt: bool) {
        self.shared.lose_sessions();
        let settled = async {
            loop {
                self.poll();
                while let Some(event) = self.context.next() {
                    match event {
                        Event::Committed(answers) => self.hear_answers(&answers),
                        Event::Doubt(_) => return,
                        Event::Assigned(parts) => self.steps.push_back(Step::Assign(parts)),
                        Event::Revoked { parts, .. } => {
                            self.steps.push_back(Step::Revoke { parts, at_the_latest: Instant::now() });
                        }
                        Event::Stats(_) | Event::Trouble(..) => {}
                    }
                }
                if !self.shared.ledger().is_on_its_way() {
                    return;
                }
                let _ = timeout(TICK, self.context.ready.notified()).await;
            }
        };
        let _ = timeout(END_GRACE, settled).await;
        if !in_doubt {
            self.look_after_copies();
        }
        let all_answered = async {
            // Whoever still asks keeps the consumer, and so the member, alive.
            while let Some(answer) = self.asked.next().await {
                if let Asked::Copies(..) = answer {
                    self.answered(answer);
                }
            }
        };
        let _ = timeout(END_GRACE, all_answered).await;
        self.context.leaving.store(true, Ordering::Release);
        // Closing waits for the answer to every rebalance that was heard.
        for step in std::mem::take(&mut self.steps) {
            match step {
                Step::Assign(parts) => self.assign_blind(&parts),
                Step::Revoke { parts, .. } => self.unassign(&parts),
                Step::TakeUpAnew(_) => {}
            }
        }
        self.shared.lose_all();
        let Client { consumer, asked, .. } = self;
        drop(asked);
        let _ = timeout(CLOSE_TIMEOUT, off_thread(move || drop(consumer))).await;
    }
}

/// Sends a commit; what became of each partition comes as an event to [`Context::commit_callback`], which it does not when
/// rdkafka sends it.
fn send(consumer: &BaseConsumer<Context>, offsets: &TopicPartitionList) -> Result<(), KafkaError> {
    let client = consumer.client().native_ptr();
    // SAFETY: the consumer outlives the call, which copies the offsets; the queue is a reference that is given back.
    let error = unsafe {
        let queue = bindings::rd_kafka_queue_get_consumer(client);
        let error = bindings::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, std::ptr::null_mut());
        bindings::rd_kafka_queue_destroy(queue);
        error
    };
    match RDKafkaErrorCode::from(error) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(KafkaError::ConsumerCommit(code)),
    }
}

fn list<'p>(parts: impl Iterator<Item = (&'p Part, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (part, offset) in parts {
        let _ = list.add_partition_offset(&part.topic, part.partition, offset);
    }
    list
}
