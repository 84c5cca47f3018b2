//! What librdkafka tells a client: it calls from polls, and what it says waits until the client hears it.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;

use super::ledger::{Answer, Part};
use super::shared::Shared;
use super::stats::Stats;
use super::words::{is_failure, saying};

/// What librdkafka tells the client; it is called from polls.
pub struct Context {
    told: Mutex<VecDeque<Event>>,
    /// There is something to poll, or was told.
    pub ready: Arc<Notify>,
    shared: Arc<Shared>,
    /// It is on its way out: rebalances are answered at once.
    pub leaving: AtomicBool,
    /// What is wrong, as the log said it last: errors that come later know only that no broker is left.
    said: Mutex<String>,
}

/// What a client was told.
pub enum Event {
    Assigned(Vec<Part>),
    Revoked {
        parts: Vec<Part>,
        lost: bool,
    },
    Committed(BTreeMap<Part, (Answer, Option<RDKafkaErrorCode>)>),
    /// A commit may have come through, or may yet.
    Doubt(RDKafkaErrorCode),
    Stats(Stats),
    Trouble(KafkaError, String),
}

impl Context {
    /// Nothing was told yet.
    pub fn new(shared: &Arc<Shared>) -> Context {
        let (shared, said) = (shared.clone(), Mutex::default());
        Context { told: Mutex::default(), ready: Arc::default(), shared, leaving: AtomicBool::new(false), said }
    }

    /// Tells the client.
    pub fn tell(&self, event: Event) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.ready.notify_one();
    }

    /// Whether it was told of a rebalance that it has not heard of.
    pub fn has_rebalance(&self) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().any(|event| matches!(event, Event::Assigned(_) | Event::Revoked { .. }))
    }

    /// What it was told, the oldest first.
    pub fn next(&self) -> Option<Event> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let pipeline = self.shared.pipeline.as_str();
        if facility == "ERROR" {
            // What a partition's own queue has met, such as that its topic is gone, comes nowhere else.
            let error = KafkaError::Global(RDKafkaErrorCode::UnknownPartition);
            return self.tell(Event::Trouble(error, saying(message).to_owned()));
        }
        match level {
            level if is_failure(level, facility) => {
                tracing::debug!(pipeline, facility, "librdkafka: {message}");
                saying(message).clone_into(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
            }
            _ => tracing::trace!(pipeline, facility, "librdkafka: {message}"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        if let Ok(stats) = serde_json::from_slice(statistics) {
            self.tell(Event::Stats(stats));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let said = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.said.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            _ => String::new(),
        };
        let reason = if said.is_empty() { reason.to_owned() } else { said };
        self.tell(Event::Trouble(error, reason));
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.shared.options.tokens().ok_or("no source of tokens is configured")?.token()
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, parts: &mut TopicPartitionList) {
        let owned = parts_of(parts);
        if self.leaving.load(Ordering::Acquire) {
            let _ = match what {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => consumer.incremental_assign(parts),
                _ => consumer.incremental_unassign(parts),
            };
            return;
        }
        self.tell(match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Event::Assigned(owned),
            _ => Event::Revoked { parts: owned, lost: consumer.assignment_lost() },
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let of_all = result.err().and_then(|error| error.rdkafka_error_code());
        if let Some(code) = of_all.filter(|code| may_still_come(*code)) {
            return self.tell(Event::Doubt(code));
        }
        let answers = offsets.elements().into_iter().map(|element| {
            let part = part_of(element.topic(), element.partition());
            let of_one = element.error().err().and_then(|error| error.rdkafka_error_code());
            (part, (answer(of_one.or(of_all)), of_one.or(of_all)))
        });
        self.tell(Event::Committed(answers.collect()));
    }
}

/// What the answer to a commit means. (It is with the ledger that one which may still come through is told again only by
/// another member: see [`may_still_come`].)
fn answer(error: Option<RDKafkaErrorCode>) -> Answer {
    match error {
        None | Some(RDKafkaErrorCode::NoError) => Answer::Done,
        Some(
            RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::StaleMemberEpoch
            | RDKafkaErrorCode::FencedMemberEpoch
            | RDKafkaErrorCode::FencedInstanceId,
        ) => Answer::Fenced,
        Some(_) => Answer::Unknown,
    }
}

/// Whether a commit that was answered so may still be on its way to the coordinator, and change what is told after it.
fn may_still_come(error: RDKafkaErrorCode) -> bool {
    matches!(
        error,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NetworkException
            // It waited in vain to be sent again.
            | RDKafkaErrorCode::WaitingForCoordinator
    )
}

fn part_of(topic: &str, partition: i32) -> Part {
    Part { topic: topic.into(), partition }
}

fn parts_of(list: &TopicPartitionList) -> Vec<Part> {
    list.elements().iter().map(|element| part_of(element.topic(), element.partition())).collect()
}
