//! What a client asks the brokers beside its loop, one thread for each question, and what it does with the answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use tokio::time::{Instant, sleep};

use crate::cpu::off_thread;

use super::super::copies::{Orphan, needed};
use super::super::ledger::Part;
use super::super::session::Session;
use super::super::shared::Seek;
use super::super::start::{self, Standing, Unanswered};
use super::super::watch::Watched;
use super::assignment::list;
use super::{AGAIN_PAUSE, Client};

/// How long a question to the brokers may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause before copies are asked about again: that is a question about all partitions.
const COPIES_PAUSE: Duration = Duration::from_secs(5);

/// What was asked, and is answered now.
pub enum Asked {
    /// With the number of the question: one that is out of date is heard no more.
    Standing(u64, Result<Vec<Standing>, Unanswered>),
    /// Reading was taken up elsewhere; the answer says whether it was.
    Sought(Vec<Seek>, Result<(), KafkaError>),
    /// What the broker still has of a partition that a session reads: its first offset and its last.
    Bounds(Part, Arc<Session>, Result<(i64, i64), KafkaError>),
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
        let ask = start::ask(self.shared.clone(), self.assignment.consumer.clone(), parts);
        self.asked.push(Box::pin(async move { Asked::Standing(number, ask.await) }));
    }

    /// Asks what the broker has of a partition, after a pause, for the session that reads it.
    pub fn ask_bounds(&mut self, part: Part, session: Arc<Session>, pause: Duration) {
        let consumer = self.assignment.consumer.clone();
        self.asked.push(Box::pin(async move {
            sleep(pause).await;
            let ask = move || {
                let bounds = consumer.fetch_watermarks(&part.topic, part.partition, ASK_TIMEOUT);
                Asked::Bounds(part, session, bounds)
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
        let consumer = self.assignment.consumer.clone();
        let to = list(wanted.iter().map(|seek| (&seek.part, Offset::Offset(seek.offset))));
        let resting = self.assignment.resting(wanted.iter().map(|seek| &seek.part));
        let seek = off_thread(move || {
            let done = consumer.seek_partitions(to, ASK_TIMEOUT)?;
            done.elements().iter().try_for_each(|element| element.error())?;
            consumer.resume(&resting)
        });
        self.asked.push(Box::pin(async move { Asked::Sought(wanted, seek.await) }));
    }

    /// Removes handover copies that nobody will ask for: those that the group knows no plan of. It is asked when nothing of
    /// ours is on its way to it.
    pub fn look_after_copies(&mut self) {
        if Instant::now() < self.copies_not_before || self.shared.ledger().is_on_its_way() {
            return;
        }
        if self.assignment.all().is_empty() {
            // As long as the group has not given this member anything, it may still hear of a plan from the member before.
            return;
        }
        let mut orphans = self.shared.copies.take_orphans();
        if orphans.is_empty() {
            return;
        }
        let (shared, consumer) = (self.shared.clone(), self.assignment.consumer.clone());
        let ask = off_thread(move || {
            let parts = orphans.iter().flat_map(|orphan| orphan.parts.clone());
            match needed(&shared, &consumer, parts) {
                Ok(Some(needed)) => {
                    orphans.retain(|orphan| !needed.contains(&orphan.name));
                    Asked::Copies(orphans, vec![])
                }
                // They are left to the sweep, which will see it too.
                Ok(None) => Asked::Done,
                Err(_) => Asked::Copies(vec![], orphans),
            }
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
                        self.shared.report.say_unanswered(&why);
                        self.ask_not_before = Instant::now() + AGAIN_PAUSE;
                    }
                }
            }
            Asked::Sought(seeks, Err(error)) => {
                self.seeking = false;
                self.shared.report.say(&error, "");
                // Wherever they stand now: from what the group knows, by another assignment.
                let ours = seeks.into_iter().filter(|seek| !seek.session.is_lost());
                let ours: BTreeSet<Part> = ours.map(|seek| seek.part).collect();
                ours.iter().for_each(|part| self.assignment.stop(part.clone()));
                self.take_up_anew(ours);
                self.ask_not_before = Instant::now() + AGAIN_PAUSE;
            }
            Asked::Sought(seeks, Ok(())) => {
                self.seeking = false;
                for Seek { session, part, offset } in seeks {
                    self.assignment.has_sought(&part);
                    session.sought(&part, offset);
                }
            }
            // Whoever reads it now has asked for itself.
            Asked::Bounds(_, session, _) if session.is_lost() => {}
            Asked::Bounds(part, session, Ok(_)) if !self.may_reseat() => self.ask_bounds(part, session, AGAIN_PAUSE),
            Asked::Bounds(part, session, Ok(bounds)) => {
                if let Some(offset) = self.shared.out_of_range(&part, bounds) {
                    self.reseat(&[(part.clone(), offset)]);
                    session.sought(&part, offset);
                }
            }
            Asked::Bounds(part, session, Err(error)) => {
                self.shared.report.say(&error, &format!("{}/{}", part.topic, part.partition));
                self.ask_bounds(part, session, AGAIN_PAUSE);
            }
            Asked::Copies(nobodys, again) => {
                if !again.is_empty() {
                    self.copies_not_before = Instant::now() + COPIES_PAUSE;
                    self.shared.copies.put_back_orphans(again);
                }
                let shared = self.shared.clone();
                self.asked.push(Box::pin(async move {
                    for orphan in nobodys {
                        shared.copies.remove(&orphan.name, &orphan.sink).await;
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
