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
mod assignment;
mod commits;
mod rebalance;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::{Instant, sleep_until, timeout};

use crate::cpu::off_thread;
use crate::metrics::Commit;

use super::context::{Context, Event};
use super::ledger::Answer;
use super::options::Speaks;
use super::policy::Cut;
use super::queue::cut_at;
use super::shared::Shared;
use super::stats::AheadMax;
use super::watch::Watch;
use asked::Asked;
use assignment::Assignment;
use rebalance::Step;

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

/// One member of the group.
struct Client {
    shared: Arc<Shared>,
    context: Arc<Context>,
    assignment: Assignment,
    life: Life,
    /// How much it fetches ahead of one partition.
    ahead_max: AheadMax,
    steps: VecDeque<Step>,
    /// The number of the question that the first step waits for.
    waits_for: Option<u64>,
    questions: u64,
    asked: FuturesUnordered<BoxFuture<'static, Asked>>,
    /// Queues are being taken elsewhere: one such order at a time, so that an old one never undoes a new one.
    seeking: bool,
    watch: Watch,
    /// Nobody knows whether a commit is still on its way; only another member's commits cannot be overtaken by it.
    doubt: Option<RDKafkaErrorCode>,
    /// Nothing is told before the commit on its way is answered, as a step waits for that.
    holds_commits: bool,
    commit_not_before: Instant,
    ask_not_before: Instant,
    copies_not_before: Instant,
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
                    shared.report.say(&error, &reason);
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
        let memory = (shared.memory_bytes, life.partitions);
        let config = shared.options.client_config(&shared.pipeline, life.speaks, memory);
        let (ahead_max, topics) = (AheadMax::of(&config)?, shared.options.subscription());
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
            assignment: Assignment::new(consumer),
            ahead_max,
            life,
            steps: VecDeque::new(),
            waits_for: None,
            questions: 0,
            asked: FuturesUnordered::new(),
            seeking: false,
            watch: Watch::new(now),
            doubt: None,
            holds_commits: false,
            commit_not_before: now,
            ask_not_before: now,
            copies_not_before: now,
        })
    }

    /// Works until it is left, or until librdkafka says that it can no more.
    async fn live(mut self) -> Ended {
        let ended = loop {
            if self.shared.leaving.is_cancelled() {
                break Ended::Left;
            }
            if let Some((code, reason)) = self.assignment.consumer.client().fatal_error() {
                break Ended::Fault(KafkaError::MessageConsumptionFatal(code), reason);
            }
            if let Some(error) = self.assignment.take_refused() {
                break Ended::Fault(error, String::new());
            }
            if self.assignment.all().len() > self.life.partitions {
                break Ended::Crowded(self.assignment.all().len());
            }
            self.poll();
            while let Some(event) = self.context.next() {
                self.hear(event);
            }
            if let Some(code) = self.doubt {
                self.shared.metrics.committed(Commit::Failed);
                self.shared.ledger().answered(|_| Answer::Unknown);
                break Ended::Fault(KafkaError::ConsumerCommit(code), String::new());
            }
            self.hear_sessions();
            self.seek();
            for question in self.watch.due(&self.shared, &self.assignment.consumer, Instant::now()) {
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
                () = self.shared.wake_client.notified() => {}
                () = sleep_until(Instant::now() + TICK) => {}
            }
        };
        self.end().await;
        ended
    }

    /// Serves librdkafka's events. Records do not come here: each partition has a queue of its own.
    fn poll(&self) {
        // An event that was served looks like an empty queue: only the second time it is one.
        let mut empty = 0;
        while empty < 2 {
            match self.assignment.consumer.poll(Duration::ZERO) {
                None => empty += 1,
                Some(Ok(_)) => empty = 0,
                Some(Err(error)) => self.context.tell(Event::Trouble(error, String::new())),
            }
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Assigned(parts) => self.hear_assigned(parts),
            Event::Revoked { parts, lost } => self.hear_revoked(parts, lost),
            Event::Committed(answers) => self.hear_answers(&answers),
            Event::Doubt(code) => self.doubt = Some(code),
            Event::Stats(stats) => self.shared.show(&stats, self.life.speaks, self.ahead_max),
            Event::Trouble(error, reason) => self.shared.report.say(&error, &reason),
        }
    }

    /// What the queues of partitions complained of.
    fn hear_sessions(&mut self) {
        for session in self.shared.all_sessions() {
            for (part, error, said) in session.take_faults() {
                let out = matches!(
                    error.rdkafka_error_code(),
                    Some(
                        RDKafkaErrorCode::AutoOffsetReset
                            | RDKafkaErrorCode::OffsetOutOfRange
                            | RDKafkaErrorCode::LogTruncation
                    )
                );
                if out {
                    self.assignment.stop(part.clone());
                    if let (Some(end), Some(read)) = (cut_at(&said), session.offset(&part)) {
                        self.shared.know_cut(&part, Cut { read, end });
                    }
                    self.ask_bounds(part, session.clone(), Duration::ZERO);
                } else {
                    self.shared.report.say(&error, &format!("{}/{}", part.topic, part.partition));
                }
            }
        }
    }

    /// Leaves the group, so that others need not wait for a time-out.
    async fn end(mut self) {
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
        if self.doubt.is_none() {
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
                Step::Assign(parts) => self.assignment.assign_blind(&parts),
                Step::Revoke { parts, .. } => self.assignment.unassign(&parts),
                Step::TakeUpAnew(_) => {}
            }
        }
        self.shared.lose_all();
        let Client { assignment, asked, .. } = self;
        drop(asked);
        let _ = timeout(CLOSE_TIMEOUT, off_thread(move || drop(assignment))).await;
    }
}
