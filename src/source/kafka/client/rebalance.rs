//! Rebalances, one step after the other: what comes is taken up where the group says that it stands, what is to go is given
//! back when no commit is on its way.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use tokio::time::Instant;

use super::super::ledger::Part;
use super::super::plan::Told;
use super::super::session::Opening;
use super::super::shared::Seek;
use super::super::start::{Hindrance, Standing};
use super::assignment::BLIND_OFFSET;
use super::{AGAIN_PAUSE, Client};

/// How long what is planned may still be delivered when partitions are to be given back.
const GIVE_BACK_GRACE: Duration = Duration::from_secs(5);

/// What is to be done about the assignment, one after the other.
pub enum Step {
    /// Partitions came: where they stand is asked, then they are taken up.
    Assign(Vec<Part>),
    /// They are still ours, but what we knew of them counts no more.
    TakeUpAnew(BTreeSet<Part>),
    /// They are to be given back, at the latest then.
    Revoke { parts: Vec<Part>, at_the_latest: Instant },
}

impl Client {
    /// Partitions have come.
    pub fn hear_assigned(&mut self, parts: Vec<Part>) {
        self.shared.metrics.rebalanced();
        tracing::debug!(pipeline = self.shared.pipeline, ?parts, "kafka: assigned");
        self.watch.rebalanced(Instant::now());
        match self.shared.options.merge {
            false => self.steps.push_back(Step::Assign(parts)),
            true => {
                self.assignment.assign_blind(&parts);
                self.take_up_anew(self.assignment.all().clone());
            }
        }
    }

    /// Partitions are to be given back; `lost`: another may have them already.
    pub fn hear_revoked(&mut self, parts: Vec<Part>, lost: bool) {
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

    /// These are read no more as they were; what else was merged with them is taken up anew.
    fn lose<'p>(&mut self, parts: impl Iterator<Item = &'p Part>) {
        let others: BTreeSet<Part> = parts.flat_map(|part| self.shared.lose(part)).collect();
        if !others.is_empty() {
            self.steps.push_back(Step::TakeUpAnew(others));
        }
    }

    /// These are read no more as they were, nor what was merged with them: all that is still ours is taken up anew.
    pub fn take_up_anew(&mut self, mut parts: BTreeSet<Part>) {
        let others: Vec<Part> = parts.iter().flat_map(|part| self.shared.lose(part)).collect();
        parts.extend(others);
        for step in &mut self.steps {
            if let Step::TakeUpAnew(earlier) = step {
                earlier.retain(|part| !parts.contains(part));
            }
        }
        self.steps.push_back(Step::TakeUpAnew(parts));
    }

    /// Goes on with what is to be done, as far as it can: first what is to be given back, as others wait for that.
    pub fn step(&mut self) {
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
                Step::TakeUpAnew(parts) => {
                    parts.iter().filter(|part| self.assignment.all().contains(*part)).cloned().collect()
                }
                Step::Revoke { .. } => return,
            };
            if parts.is_empty() {
                // One of nothing wants its answer too, or librdkafka waits for ever.
                if is_new {
                    self.assignment.assign_blind(&[]);
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
        // librdkafka wants each assignment answered, before what it then takes back.
        self.answer_blind(at);
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
        self.assignment.unassign(&parts);
        parts.iter().for_each(|part| self.shared.forget(part));
        self.steps.remove(at);
        true
    }

    /// Answers assignments that wait among the first steps; they are taken up later.
    fn answer_blind(&mut self, steps: usize) {
        for step in self.steps.iter_mut().take(steps) {
            if let Step::Assign(parts) = step {
                self.assignment.assign_blind(parts);
                *step = Step::TakeUpAnew(std::mem::take(parts).into_iter().collect());
            }
        }
    }

    /// The first step is done, or is not to be done any more: an answer to what it has asked is heard no more.
    fn step_done(&mut self) -> Option<Step> {
        self.waits_for = None;
        self.steps.pop_front()
    }

    /// Partitions are taken up where the group says that they stand.
    /// Those of which brokers have not told it are asked again.
    pub fn take_up(&mut self, mut standing: Vec<Standing>) {
        if standing.iter().any(|standing| self.assignment.is_stopped(&standing.part)) && !self.may_reseat() {
            // It is asked again. What waits behind it would wait for it, and it for that.
            self.answer_blind(self.steps.len());
            self.waits_for = None;
            self.ask_not_before = Instant::now() + AGAIN_PAUSE;
            return;
        }
        let Some(step) = self.step_done() else { return };
        let is_new = matches!(step, Step::Assign(_));
        if !is_new {
            // One that was given back meanwhile is not taken up again.
            standing.retain(|standing| self.assignment.all().contains(&standing.part));
        }
        let (mut openings, mut not_read) = (Vec::with_capacity(standing.len()), Vec::new());
        let mut unanswered = BTreeSet::new();
        for Standing { part, topic, told, start, found } in standing {
            match told {
                Ok(told) => {
                    found.iter().for_each(|found| self.shared.report.found(&part, found));
                    self.shared.identify(&part, topic);
                    let offset = told.as_ref().map_or(start, Told::read_on);
                    let seeking = !is_new && !self.assignment.is_stopped(&part);
                    if let Some(queue) = self.assignment.queue(&part) {
                        openings.push(Opening { part, told, offset, queue, seeking });
                    }
                }
                Err(Hindrance::Found(found)) => {
                    self.shared.halt(&part, found);
                    not_read.push(part);
                }
                Err(Hindrance::Brokers(error)) => {
                    self.shared.report.say(&error, &format!("{}/{}", part.topic, part.partition));
                    unanswered.insert(part.clone());
                    not_read.push(part);
                }
            }
        }
        if !unanswered.is_empty() {
            self.ask_not_before = Instant::now() + AGAIN_PAUSE;
            self.steps.push_back(Step::TakeUpAnew(unanswered));
        }
        let begins: Vec<(Part, i64)> = openings.iter().map(|opening| (opening.part.clone(), opening.offset)).collect();
        if is_new {
            self.assignment.resume(&begins);
            self.assignment.pause(&not_read);
            let read = begins.iter().map(|(part, offset)| (part, *offset));
            self.assignment.assign(&read.chain(not_read.iter().map(|part| (part, BLIND_OFFSET))).collect::<Vec<_>>());
            return self.shared.take_up(openings);
        }
        self.assignment.pause(&not_read);
        let (stopped, others): (Vec<_>, Vec<_>) =
            begins.into_iter().partition(|(part, _)| self.assignment.is_stopped(part));
        self.reseat(&stopped);
        self.shared.take_up(openings);
        self.shared.seek(others.into_iter().filter_map(|(part, offset)| {
            let session = self.shared.session_of(&part)?;
            Some(Seek { session, part, offset })
        }));
    }

    /// Partitions that are ours are read on from there, whatever became of their queues. Only if [`Client::may_reseat`].
    pub fn reseat(&mut self, to: &[(Part, i64)]) {
        self.assignment.reseat(to);
        self.poll();
        if !to.is_empty() && self.context.has_rebalance() {
            // It came in between, and may have taken that for its answer: we may read what is another's by now.
            self.doubt = Some(RDKafkaErrorCode::RebalanceInProgress);
        }
    }

    /// Whether partitions can be assigned anew: not while a rebalance waits for its answer, which that would be taken for.
    pub fn may_reseat(&self) -> bool {
        self.poll();
        !self.context.has_rebalance() && self.steps.iter().all(|step| matches!(step, Step::TakeUpAnew(_)))
    }
}
