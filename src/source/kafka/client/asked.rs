//! What a client asks the brokers beside its loop, one thread for each question, and what it does with the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::time::{Instant, sleep};

use crate::cpu::off_thread;

use super::super::context::Context;
use super::super::describe;
use super::super::ledger::Part;
use super::super::plan::{SinkMark, Told};
use super::super::shared::{Orphan, Seek};
use super::super::start::{self, Standing, Unasked};
use super::super::watch::Watched;
use super::{AGAIN_PAUSE, Client, list};

/// How long a question to the brokers may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// What was asked, and is answered now.
pub enum Asked {
    /// With the number of the question: one that is out of date is heard no more.
    Standing(u64, Result<Vec<Standing>, Unasked>),
    /// Reading was taken up elsewhere; the answer says whether it was.
    Sought(Vec<Seek>, Result<(), KafkaError>),
    /// What the broker still has of a partition: its first offset and its last.
    Bounds(Part, Result<(i64, i64), KafkaError>),
    /// Handover copies of which the group knows nothing, and those that it was not asked about.
    Copies(Vec<Orphan>, Vec<Orphan>),
    Watched(Watched),
    /// It answers nothing.
    Done,
}

impl Client {
    /// Asks where partitions stand, for the first step.
    pub fn ask_standing(&mut self, parts: Vec<Part>) {
        if self.waits_for.is_some() || Instant::now() < self.ask_not_before {
            return;
        }
        self.questions += 1;
        let number = self.questions;
        self.waits_for = Some(number);
        let ask = start::ask(self.shared.clone(), self.consumer.clone(), parts);
        self.asked.push(Box::pin(async move { Asked::Standing(number, ask.await) }));
    }

    /// Asks what the broker has of a partition, after a pause.
    pub fn ask_bounds(&mut self, part: Part, pause: Duration) {
        let consumer = self.consumer.clone();
        self.asked.push(Box::pin(async move {
            sleep(pause).await;
            let ask = move || {
                let bounds = consumer.fetch_watermarks(&part.topic, part.partition, ASK_TIMEOUT);
                Asked::Bounds(part, bounds)
            };
            off_thread(ask).await
        }));
    }

    /// Takes queues where sessions want them.
    pub fn seek(&mut self) {
        if self.seeking {
            return;
        }
        let mut wanted = self.shared.wanted_seeks();
        wanted.retain(|seek| !seek.session.is_lost());
        if wanted.is_empty() {
            return;
        }
        self.seeking = true;
        let consumer = self.consumer.clone();
        let to = list(wanted.iter().map(|seek| (&seek.part, Offset::Offset(seek.offset))));
        let paused = wanted.iter().map(|seek| &seek.part).filter(|part| self.paused.contains(*part));
        let paused = list(paused.map(|part| (part, Offset::Invalid)));
        let seek = off_thread(move || {
            let done = consumer.seek_partitions(to, ASK_TIMEOUT)?;
            done.elements().iter().try_for_each(|element| element.error())?;
            consumer.resume(&paused)
        });
        self.asked.push(Box::pin(async move { Asked::Sought(wanted, seek.await) }));
    }

    /// Removes handover copies that nobody will ask for: those that the group knows no plan of. It is asked when nothing of
    /// ours is on its way to it.
    pub fn look_after_copies(&mut self) {
        if Instant::now() < self.ask_not_before || self.shared.ledger().is_on_its_way() {
            return;
        }
        let orphans = self.shared.take_orphans();
        if orphans.is_empty() {
            return;
        }
        let (consumer, mark, topics) =
            (self.consumer.clone(), self.shared.mark.clone(), self.shared.options.topics.clone());
        let ask = off_thread(move || match nobodys(&consumer, &mark, &topics, &orphans) {
            Ok(nobodys) => Asked::Copies(nobodys, vec![]),
            Err(_) => Asked::Copies(vec![], orphans),
        });
        self.asked.push(Box::pin(ask));
    }

    /// Hears an answer.
    pub fn answered(&mut self, answer: Asked) {
        match answer {
            Asked::Standing(number, _) if self.waits_for != Some(number) => {}
            Asked::Standing(_, standing) => {
                self.waits_for = None;
                match standing {
                    Ok(standing) => self.take_up(standing),
                    Err(why) => {
                        self.shared.say_unasked(&why);
                        self.ask_not_before = Instant::now() + AGAIN_PAUSE;
                    }
                }
            }
            Asked::Sought(seeks, Err(error)) => {
                self.seeking = false;
                self.shared.say(&error, "");
                // Wherever they stand now: from what the group knows, by another assignment.
                let ours = seeks.into_iter().filter(|seek| !seek.session.is_lost());
                let ours: BTreeSet<Part> = ours.map(|seek| seek.part).collect();
                self.stopped.extend(ours.iter().cloned());
                self.take_up_anew(ours);
                self.ask_not_before = Instant::now() + AGAIN_PAUSE;
            }
            Asked::Sought(seeks, Ok(())) => {
                self.seeking = false;
                self.paused.retain(|part| !seeks.iter().any(|seek| seek.part == *part));
                seeks.iter().for_each(|seek| seek.session.sought(&seek.part, seek.offset));
            }
            Asked::Bounds(part, Ok(_)) if !self.may_reseat() => self.ask_bounds(part, AGAIN_PAUSE),
            Asked::Bounds(part, Ok((first, last))) => {
                if let Some(offset) = self.shared.out_of_range(&part, (first, last))
                    && let Some(session) = self.shared.session_of(&part)
                {
                    self.reseat(&[(part.clone(), offset)]);
                    session.sought(&part, offset);
                }
            }
            Asked::Bounds(part, Err(error)) => {
                self.shared.say(&error, &format!("{}/{}", part.topic, part.partition));
                if self.shared.session_of(&part).is_some() {
                    self.ask_bounds(part, AGAIN_PAUSE);
                }
            }
            Asked::Copies(nobodys, again) => {
                if !again.is_empty() {
                    self.ask_not_before = Instant::now() + AGAIN_PAUSE;
                    self.shared.put_back_orphans(again);
                }
                let shared = self.shared.clone();
                self.asked.push(Box::pin(async move {
                    for orphan in nobodys {
                        shared.remove_copy(&orphan.name, &orphan.sink).await;
                    }
                    Asked::Done
                }));
            }
            Asked::Watched(watched) => {
                let anew = self.watch.hear(&self.shared, watched, Instant::now());
                if !anew.is_empty() {
                    self.take_up_anew(anew);
                }
            }
            Asked::Done => {}
        }
    }
}

/// Those copies of whose plans no partition knows that they may be of.
fn nobodys(
    consumer: &BaseConsumer<Context>,
    mark: &SinkMark,
    topics: &[String],
    orphans: &[Orphan],
) -> Result<Vec<Orphan>, KafkaError> {
    let mut all = Vec::new();
    // Topics by pattern are not all known: what may be of any of them stays.
    let are_known = !topics.iter().any(|topic| topic.starts_with('^'));
    if are_known && orphans.iter().any(|orphan| orphan.may_be_of_any) {
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(topic), ASK_TIMEOUT)?;
            let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            all.extend(partitions.map(|partition| Part { topic: topic.as_str().into(), partition: partition.id() }));
        }
    }
    let parts_of = |orphan: &Orphan| if orphan.may_be_of_any { all.clone() } else { orphan.parts.clone() };
    let parts: BTreeSet<Part> = orphans.iter().flat_map(parts_of).collect();
    let committed = consumer.committed_offsets(list(parts.iter().map(|part| (part, Offset::Invalid))), ASK_TIMEOUT)?;
    let is_unknown = |orphan: &Orphan, part: &Part| {
        let Some(element) = committed.find_partition(&part.topic, part.partition) else { return false };
        let is_answered = element.error().is_ok();
        match element.offset() {
            Offset::Offset(offset) => {
                let told = Told::parse(offset, &describe::metadata(&committed, &part.topic, part.partition), mark);
                is_answered && told.is_ok_and(|told| !told.plans.iter().any(|plan| orphan.is_of(plan)))
            }
            _ => is_answered,
        }
    };
    let is_nobodys = |orphan: &&Orphan| {
        let parts = parts_of(orphan);
        !parts.is_empty() && parts.iter().all(|part| is_unknown(orphan, part))
    };
    Ok(orphans.iter().filter(is_nobodys).cloned().collect())
}
