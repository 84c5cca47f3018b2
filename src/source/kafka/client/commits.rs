//! Commits: what is new in the ledger goes to the coordinator, one commit at a time, and what became of it is heard.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::metrics::Commit;

use super::super::context::Context;
use super::super::ledger::{Answer, Part};
use super::{AGAIN_PAUSE, Client};

/// They pass while coordinators and members change.
const PASSING: [RDKafkaErrorCode; 4] = [
    RDKafkaErrorCode::RebalanceInProgress,
    RDKafkaErrorCode::NotCoordinator,
    RDKafkaErrorCode::CoordinatorNotAvailable,
    RDKafkaErrorCode::CoordinatorLoadInProgress,
];

impl Client {
    /// Tells the group what is new, if nothing is on its way.
    pub fn commit(&mut self) {
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
        if let Err(error) = send(&self.assignment.consumer, &list) {
            self.shared.report.say(&error, "");
            self.hear_answers(&news.into_iter().map(|(part, _)| (part, (Answer::Unknown, None))).collect());
        }
    }

    /// Hears what became of the commit on its way; partitions that are fenced are taken up anew, if they are still ours.
    pub fn hear_answers(&mut self, answers: &BTreeMap<Part, (Answer, Option<RDKafkaErrorCode>)>) {
        let of = |part: &Part| answers.get(part).map_or(Answer::Unknown, |(answer, _)| *answer);
        self.shared.ledger().answered(of);
        let of_any = |wanted| answers.values().any(|(answer, _)| *answer == wanted);
        for (answer, what) in
            [(Answer::Done, Commit::Done), (Answer::Unknown, Commit::Failed), (Answer::Fenced, Commit::Fenced)]
        {
            if of_any(answer) {
                self.shared.metrics.committed(what);
            }
        }
        if of_any(Answer::Unknown) {
            self.commit_not_before = Instant::now() + AGAIN_PAUSE;
            self.say_refused(answers);
        } else {
            self.shared.well();
        }
        let fenced = answers.iter().filter(|(_, (answer, _))| *answer == Answer::Fenced);
        let fenced: BTreeSet<Part> = fenced.map(|(part, _)| part.clone()).collect();
        if !fenced.is_empty() {
            tracing::debug!(pipeline = self.shared.pipeline, ?fenced, "kafka: fenced");
            self.take_up_anew(fenced);
        }
        self.shared.ledger_changed.notify_waiters();
    }

    /// Says what coordinators do not take for reasons that do not pass by themselves.
    fn say_refused(&self, answers: &BTreeMap<Part, (Answer, Option<RDKafkaErrorCode>)>) {
        for (part, (answer, code)) in answers {
            if let (Answer::Unknown, Some(code)) = (answer, code)
                && !PASSING.contains(code)
            {
                let about = format!("{}/{}", part.topic, part.partition);
                self.shared.report.say(&KafkaError::ConsumerCommit(*code), &about);
            }
        }
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
