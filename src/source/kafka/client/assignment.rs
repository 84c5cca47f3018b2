//! What librdkafka fetches: the partitions that a client has said are its own, and those of them that rest.

use rdkafka::Offset;
use rdkafka::consumer::Consumer;

use super::super::ledger::Part;
use super::{Client, list};

/// Where partitions stand of which nothing is fetched: a seek takes them elsewhere. Not a logical offset such as the end of a
/// log, which librdkafka 2.12 asks the broker for: what is answered after a seek it asks again, and goes there.
pub const BLIND_OFFSET: i64 = 0;

impl Client {
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
        if let Err(error) = self.consumer.incremental_unassign(&list(parts.iter().map(|part| (part, Offset::Invalid))))
        {
            self.refused = Some(error);
        }
        self.assigned.retain(|part| !parts.contains(part));
        self.stopped.retain(|part| !parts.contains(part));
    }

    /// Fetches nothing of partitions, of which none may be read.
    pub fn pause(&mut self, parts: &[Part]) {
        // One that never had a queue cannot be paused.
        parts.iter().for_each(|part| drop(self.consumer.split_partition_queue(&part.topic, part.partition)));
        if let Err(error) = self.consumer.pause(&list(parts.iter().map(|part| (part, Offset::Invalid)))) {
            self.refused = Some(error);
        }
        self.paused.extend(parts.iter().cloned());
    }

    /// Partitions that rested are fetched when they are assigned: librdkafka remembers a pause of one that went and comes back.
    pub fn resume(&mut self, parts: &[(Part, i64)]) {
        let resting: Vec<&Part> = parts.iter().map(|(part, _)| part).filter(|part| self.paused.remove(*part)).collect();
        if let Err(error) = self.consumer.resume(&list(resting.into_iter().map(|part| (part, Offset::Invalid)))) {
            self.refused = Some(error);
        }
    }

    /// Whether partitions can be assigned anew: not while a rebalance waits for its answer, which that would be taken for.
    pub fn may_reseat(&self) -> bool {
        self.poll();
        !self.context.has_news() && self.steps.iter().all(|step| matches!(step, super::Step::TakeUpAnew(_)))
    }

    /// Partitions that are ours are read on from there, whatever became of their queues. Only if [`Client::may_reseat`].
    pub fn reseat(&mut self, to: &[(Part, i64)]) {
        if to.is_empty() {
            return;
        }
        self.unassign(&to.iter().map(|(part, _)| part.clone()).collect::<Vec<_>>());
        self.resume(to);
        self.assign(&to.iter().map(|(part, at)| (part, *at)).collect::<Vec<_>>());
    }
}
