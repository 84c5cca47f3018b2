//! What is said of a source: in the log, as trouble, in metrics and on the status page.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rdkafka::error::KafkaError;

use crate::ground::Clock;
use crate::live::InTrouble;
use crate::metrics::{GroupNow, KafkaMetrics, MemberNow, PartitionNow};
use crate::sink;

use super::ledger::Part;
use super::options::Speaks;
use super::plan::SinkMark;
use super::policy::Found;
use super::start::Unanswered;
use super::words::{in_words_with, is_echo};

/// Where a source's words go.
pub struct Report {
    pipeline: String,
    mark: SinkMark,
    clock: Clock,
    metrics: KafkaMetrics,
    trouble: InTrouble,
    logged: Mutex<Logged>,
    /// As which member the group knows us, and all of its members.
    group: Mutex<(String, Vec<MemberNow>)>,
}

impl Report {
    /// Nothing was said yet. `mark`: of the sink.
    pub fn new(pipeline: &str, mark: SinkMark, clock: Clock, metrics: KafkaMetrics, trouble: InTrouble) -> Report {
        let (logged, group) = Default::default();
        Report { pipeline: pipeline.to_owned(), mark, clock, metrics, trouble, logged, group }
    }

    /// Something is wrong with the brokers; librdkafka goes on trying.
    pub fn say(&self, error: &KafkaError, reason: &str) {
        if is_echo(error, reason) && self.logged(|logged| logged.is_told(self.clock.now_ms())) {
            return;
        }
        let (message, hint) = in_words_with(error, reason);
        self.warn(&message, hint);
    }

    /// The sink does not take what is to be remembered of the group.
    pub fn say_of_sink(&self, trouble: &sink::Trouble) {
        self.warn(&trouble.message, trouble.hint);
    }

    /// The sink, or brokers, did not say where partitions stand; they are asked again.
    pub fn say_unanswered(&self, why: &Unanswered) {
        match why {
            Unanswered::Brokers(error) => self.say(error, ""),
            Unanswered::Sink(fault) => self.warn(&format!("whether the group has begun: {fault}"), None),
        }
    }

    /// Nothing is wrong any more.
    pub fn well(&self) {
        self.trouble.over();
    }

    /// Something is not as it was left, and the policy goes on.
    pub fn found(&self, part: &Part, found: &Found) {
        let Part { topic, partition } = part;
        let (pipeline, message) = (self.pipeline.as_str(), found.in_words(&self.mark));
        self.metrics.found(found.label());
        self.metrics.lost(found.records_gone());
        match found.is_usual() {
            true => tracing::info!(pipeline, "kafka: {topic}/{partition}: {message}"),
            false => tracing::error!(pipeline, "kafka: {topic}/{partition}: {message}; it goes on"),
        }
    }

    /// Nothing more is read of a partition until somebody decides; `is_new`: that was not said yet.
    pub fn halted(&self, part: &Part, found: &Found, is_new: bool) {
        let Part { topic, partition } = part;
        let (message, hint) = (format!("{topic}/{partition}: {}", found.in_words(&self.mark)), found.hint());
        if is_new {
            self.metrics.found(found.label());
            tracing::error!(pipeline = self.pipeline, hint, "kafka: {message}; nothing more is read of it");
        }
        self.trouble.again(&message, Some(hint), self.clock.now_ms(), None);
    }

    /// As which member the group knows us, and who is in it.
    pub fn know_group(&self, member: String, members: Vec<MemberNow>) {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = (member, members);
    }

    /// Shows what is ours of a group.
    pub fn show(&self, group: String, speaks: Speaks, owned: Vec<PartitionNow>) {
        let protocol = match speaks {
            Speaks::Classic => "classic",
            Speaks::Consumer => "consumer",
        };
        let (member, members) = self.group.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.metrics.show(GroupNow { group, member, protocol, owned, members });
    }

    fn warn(&self, message: &str, hint: Option<&'static str>) {
        let now_ms = self.clock.now_ms();
        self.trouble.again(message, hint, now_ms, None);
        if let Some(again) = self.logged(|logged| logged.is_due(message, now_ms)) {
            tracing::warn!(pipeline = self.pipeline, again = (again > 0).then_some(again), hint, "kafka: {message}");
        }
    }

    fn logged<T>(&self, look: impl FnOnce(&mut Logged) -> T) -> T {
        look(&mut self.logged.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// When which message was logged: while brokers are away the same few errors come many times a second, by turns.
#[derive(Debug, Default)]
struct Logged {
    messages: BTreeMap<String, Heard>,
    last_ms: Option<i64>,
}

#[derive(Debug)]
struct Heard {
    logged_ms: i64,
    /// How often it came since.
    again: u64,
}

/// A message is logged once in this time, in milliseconds.
const LOGGED_EVERY_MS: i64 = 60_000;
/// Messages that are remembered; while so many come, others are not logged.
const MESSAGES_MAX: usize = 32;

impl Logged {
    /// Whether a message that comes at `now_ms` (Unix milliseconds) is to be logged, and how often it was not since it was
    /// logged last.
    fn is_due(&mut self, message: &str, now_ms: i64) -> Option<u64> {
        let is_recent = |heard: &Heard| now_ms.saturating_sub(heard.logged_ms) < LOGGED_EVERY_MS;
        let again = match self.messages.get_mut(message) {
            Some(heard) if is_recent(heard) => {
                heard.again += 1;
                return None;
            }
            Some(heard) => heard.again,
            None => 0,
        };
        if !self.messages.contains_key(message) && self.messages.len() >= MESSAGES_MAX {
            self.messages.retain(|_, heard| is_recent(heard));
            if self.messages.len() >= MESSAGES_MAX {
                return None;
            }
        }
        self.last_ms = Some(now_ms);
        self.messages.insert(message.to_owned(), Heard { logged_ms: now_ms, again: 0 });
        Some(again)
    }

    /// Whether something was logged of late, be it what is said again once it is due.
    fn is_told(&self, now_ms: i64) -> bool {
        self.last_ms.is_some_and(|last_ms| now_ms.saturating_sub(last_ms) < 2 * LOGGED_EVERY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_come_by_turns_are_logged_once_a_minute_each() {
        let mut logged = Logged::default();
        assert!(!logged.is_told(1000));
        assert_eq!(logged.is_due("no broker answers", 1000), Some(0));
        assert!(logged.is_told(61_000) && !logged.is_told(121_000));
        assert_eq!(logged.is_due("none of the brokers can be reached", 1000), Some(0));
        for now_ms in 1000..1040 {
            assert_eq!(logged.is_due("no broker answers", now_ms), None);
            assert_eq!(logged.is_due("none of the brokers can be reached", now_ms), None);
        }
        assert_eq!(logged.is_due("no broker answers", 61_000), Some(40));
        assert_eq!(logged.is_due("no broker answers", 61_000), None);
        assert_eq!(logged.is_due("no broker answers", 121_000), Some(1));
    }

    #[test]
    fn messages_that_are_never_the_same_are_no_flood_either() {
        let mut logged = Logged::default();
        let due = (0..1000).filter(|number| logged.is_due(&format!("port {number}"), 0).is_some()).count();
        assert_eq!(due, MESSAGES_MAX);
        assert_eq!(logged.is_due("another", LOGGED_EVERY_MS), Some(0), "those of a minute ago are forgotten");
        assert_eq!(logged.messages.len(), 1);
    }
}
