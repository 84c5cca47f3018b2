//! The assignment: the partitions that a client has told librdkafka are its own, and which of them are fetched.

use std::collections::BTreeSet;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::super::context::Context;
use super::super::ledger::Part;
use super::super::queue::Queue;

/// Where partitions stand of which nothing is fetched: a seek takes them elsewhere. Not a logical offset such as the end of a
/// log, which librdkafka 2.12 asks the broker for: what is answered after a seek it asks again, and goes there.
pub const BLIND_OFFSET: i64 = 0;

/// What a client answers rebalances with, and to.
pub struct Assignment {
    /// The only lasting reference to it: with that the member leaves the group.
    pub consumer: Arc<BaseConsumer<Context>>,
    assigned: BTreeSet<Part>,
    /// Those of which nothing is fetched; librdkafka remembers that also of those that go and come back.
    paused: BTreeSet<Part>,
    /// Those that librdkafka has given up as their offset was out of range: no seek wakes them, only another assignment.
    stopped: BTreeSet<Part>,
    refused: Option<KafkaError>,
}

impl Assignment {
    /// Nothing is ours.
    pub fn new(consumer: BaseConsumer<Context>) -> Assignment {
        let [assigned, paused, stopped] = [const { BTreeSet::new() }; 3];
        Assignment { consumer: Arc::new(consumer), assigned, paused, stopped, refused: None }
    }

    /// All partitions that are ours.
    pub fn all(&self) -> &BTreeSet<Part> {
        &self.assigned
    }

    /// Whether no seek wakes it.
    pub fn is_stopped(&self, part: &Part) -> bool {
        self.stopped.contains(part)
    }

    /// Why librdkafka did not take an answer to a rebalance, if it did not: it would wait for another one for ever.
    pub fn take_refused(&mut self) -> Option<KafkaError> {
        self.refused.take()
    }

    /// Answers that partitions have come, of which nothing is read as yet.
    pub fn assign_blind(&mut self, parts: &[Part]) {
        self.pause(parts);
        self.assign(&parts.iter().map(|part| (part, BLIND_OFFSET)).collect::<Vec<_>>());
    }

    /// Answers that partitions have come. All of them, as librdkafka wants the same ones back.
    pub fn assign(&mut self, parts: &[(&Part, i64)]) {
        let offsets = list(parts.iter().map(|(part, offset)| (*part, Offset::Offset(*offset))));
        if let Err(error) = self.consumer.incremental_assign(&offsets) {
            self.refused = Some(error);
        }
        self.assigned.extend(parts.iter().map(|(part, _)| (*part).clone()));
    }

    /// Answers that partitions have been given back.
    pub fn unassign(&mut self, parts: &[Part]) {
        if let Err(error) = self.consumer.incremental_unassign(&nowhere(parts)) {
            self.refused = Some(error);
        }
        self.assigned.retain(|part| !parts.contains(part));
        self.stopped.retain(|part| !parts.contains(part));
    }

    /// Fetches nothing of partitions, of which none may be read.
    pub fn pause(&mut self, parts: &[Part]) {
        // One that never had a queue cannot be paused.
        parts.iter().for_each(|part| drop(self.queue(part)));
        if let Err(error) = self.consumer.pause(&nowhere(parts)) {
            self.refused = Some(error);
        }
        self.paused.extend(parts.iter().cloned());
    }

    /// Partitions that rested are fetched when they are assigned: librdkafka remembers a pause of one that went and comes back.
    pub fn resume(&mut self, parts: &[(Part, i64)]) {
        let resting: Vec<&Part> = parts.iter().map(|(part, _)| part).filter(|part| self.paused.remove(*part)).collect();
        if let Err(error) = self.consumer.resume(&nowhere(resting)) {
            self.refused = Some(error);
        }
    }

    /// Those of these partitions of which nothing is fetched.
    pub fn resting<'p>(&self, parts: impl IntoIterator<Item = &'p Part>) -> TopicPartitionList {
        nowhere(parts.into_iter().filter(|part| self.paused.contains(*part)))
    }

    /// It is fetched again, somewhere else.
    pub fn has_sought(&mut self, part: &Part) {
        self.paused.remove(part);
    }

    /// librdkafka has given it up, or may have.
    pub fn stop(&mut self, part: Part) {
        self.stopped.insert(part);
    }

    /// Partitions that are ours are read on from there, whatever became of their queues. A rebalance that waits for its answer
    /// would take this for it.
    pub fn reseat(&mut self, to: &[(Part, i64)]) {
        if to.is_empty() {
            return;
        }
        self.unassign(&to.iter().map(|(part, _)| part.clone()).collect::<Vec<_>>());
        self.resume(to);
        self.assign(&to.iter().map(|(part, at)| (part, *at)).collect::<Vec<_>>());
    }

    /// The queue of a partition's own; before it is assigned, so that records which come go there from the first on.
    pub fn queue(&self, part: &Part) -> Option<Queue> {
        Queue::of(&self.consumer, part)
    }
}

/// Partitions with offsets, for librdkafka.
pub fn list<'p>(parts: impl IntoIterator<Item = (&'p Part, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (part, offset) in parts {
        let _ = list.add_partition_offset(&part.topic, part.partition, offset);
    }
    list
}

/// Partitions without.
pub fn nowhere<'p>(parts: impl IntoIterator<Item = &'p Part>) -> TopicPartitionList {
    list(parts.into_iter().map(|part| (part, Offset::Invalid)))
}
