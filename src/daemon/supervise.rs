//! One pipeline's task: starts the revision that is wanted, runs it, switches to the next, drains it, and lets it go.
//!
//! ```text
//!            .--- cannot start: waits and tries again, or goes back to the revision before ---.
//!            v                                                                               |
//!  Run(n) -> start -> run ----> sources ended: done         Run(n+1) -> cut, or drain if it leaves its stream
//!                      '------> fault: stopped              Gone     -> drain, mark, forget
//!                                                           Stop     -> at once
//! ```
//! What it is told may change at any time: a drain becomes a cut when the file is back, and everything a stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::checkpoint;
use crate::cpu::{off_async, off_thread};
use crate::error::{Blame, Fault};
use crate::pipeline::{self, Leave, Leaving, Way};
use crate::position::Position;
use crate::status::view::{RevisionView, State};

use super::build::{self, KnownSinks};
use super::fleet::{Fleet, Goal, Pending, Pipeline, Wanted, What};

/// The first pause after a pipeline could not start or go; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(30);

/// Keeps a pipeline going until it is gone or the process ends.
pub async fn supervise(fleet: Arc<Fleet>, pipeline: Arc<Pipeline>, goal: watch::Receiver<Goal>) {
    let known = KnownSinks::new();
    Supervisor { fleet, pipeline, goal, known, wanted: None, good: None, last: None }.run().await;
}

struct Supervisor {
    fleet: Arc<Fleet>,
    pipeline: Arc<Pipeline>,
    goal: watch::Receiver<Goal>,
    known: KnownSinks,
    /// What was wanted last, whether it could start or not.
    wanted: Option<Arc<Wanted>>,
    /// What ran last, and how that ended.
    good: Option<Arc<Wanted>>,
    last: Option<Ended>,
}

/// How a run has ended.
#[derive(Debug, Clone, PartialEq)]
enum Ended {
    /// For something else.
    Left,
    /// All that was owed is delivered: of its stream up to here.
    Drained(Option<Position>),
    /// By a fault.
    Stopped,
}

impl Supervisor {
    async fn run(&mut self) {
        let mut done = 0;
        loop {
            let goal = self.goal.borrow_and_update().clone();
            if goal.order == done {
                if self.goal.changed().await.is_err() {
                    return;
                }
                continue;
            }
            match &goal.what {
                What::Wait => {}
                What::Stop => return,
                What::Run(next) => {
                    if self.leave_stream_for(next).await {
                        self.wanted = Some(next.clone());
                        self.last = Some(self.run_one(next.clone(), goal.order, Leave::Stay).await);
                    }
                }
                What::Gone => {
                    if self.go(goal.order).await {
                        return;
                    }
                }
            }
            done = goal.order;
        }
    }

    /// Starts a revision and runs it until it ends or gives way to another goal; `leave`: what it is told at once.
    async fn run_one(&mut self, wanted: Arc<Wanted>, order: u64, leave: Leave) -> Ended {
        let Some((wanted, way)) = self.start(wanted, order, leave).await else { return Ended::Left };
        let way = Arc::new(way);
        self.wanted = Some(wanted.clone());
        self.say_running(&wanted, &way, leave);
        let leaving = Leaving::new();
        let mut owed = None;
        if leave == Leave::Drain {
            owed = Some(self.durable_end(&wanted));
            leaving.tell(leave);
        }
        self.pipeline.settle(order, |_| {});
        let mut running = tokio::spawn(pipeline::run(way.clone(), leaving.clone()));
        let ended = loop {
            tokio::select! {
                ended = &mut running => break pipeline::finished(ended),
                Ok(()) = self.goal.changed() => {
                    let goal = self.goal.borrow_and_update().clone();
                    let leave = leave_for(&wanted, &goal.what);
                    if leave == Leave::Drain && owed.is_none() {
                        owed = Some(self.durable_end(&wanted));
                        self.say_draining(&goal);
                    }
                    leaving.tell(leave);
                }
            }
        };
        self.good = Some(wanted.clone());
        let ended = match ended {
            // What one file says, or a promise that was made by what it said before, ends one pipeline.
            Err(Fault { blame: Blame::Config, error }) if !self.fleet.settings.once => {
                self.say_stopped(order, Fault { blame: Blame::Sink, error })
            }
            Err(fault) => self.say_stopped(order, fault),
            Ok(()) if leaving.is(Leave::Cut) => Ended::Left,
            Ok(()) => self.judge_drained(&way, &wanted, owed.flatten(), leaving.is(Leave::Drain)),
        };
        if ended != Ended::Stopped {
            way.progress.leave();
        }
        ended
    }

    /// The way of a revision, for as long as it takes to build; `None`: something else is wanted by now. One that cannot
    /// start gives way to the one that ran before it.
    async fn start(&mut self, mut wanted: Arc<Wanted>, order: u64, leave: Leave) -> Option<(Arc<Wanted>, Way)> {
        let mut pause = PAUSE_FIRST;
        let name = self.pipeline.name.clone();
        if self.fleet.house.works(&name) {
            self.fleet.streams.look_again(&name);
        }
        loop {
            let fault = match self.build(&wanted, order, leave).await {
                Ok(way) => return Some((wanted, way)),
                Err(fault) => fault,
            };
            let error = format!("{:#}", fault.error);
            let at_start = wanted.at_start && self.good.is_none() && !self.fleet.house.is_ready();
            let ends = matches!(fault.blame, Blame::Disk | Blame::Bug) || at_start && fault.ends_process();
            if ends || self.fleet.settings.once {
                self.say_stopped(order, fault);
                return None;
            }
            let before = self.good.take_if(|good| good.hash != wanted.hash && leave == Leave::Stay);
            if let Some(before) = before {
                tracing::error!(pipeline = name, error, "the new revision cannot start: the one before it runs on");
                let pending = Pending {
                    hash: wanted.hash.clone(),
                    since_ms: self.fleet.house.ground.clock.now_ms(),
                    problems: format!("{}: it cannot start: {error}\n", wanted.spec.file),
                    is_tried_again: false,
                };
                self.pipeline.settle(order, |told| told.pending = Some(pending));
                self.fleet.streams.unwant(order, &name, before.stream()).await;
                (wanted, pause) = (before, PAUSE_FIRST);
                continue;
            }
            let pause_ms = pause.as_millis();
            tracing::error!(pipeline = name, error, pause_ms, "the pipeline cannot start: trying again");
            self.pipeline.settle(order, |told| {
                told.state = if leave == Leave::Drain { State::Draining } else { State::Waiting };
                told.why = Some(error);
            });
            self.fleet.changed();
            if tokio::time::timeout(pause, self.goal.changed()).await.is_ok() {
                self.goal.mark_changed();
                return None;
            }
            pause = (pause * 2).min(PAUSE_LONGEST);
        }
    }

    async fn build(&mut self, wanted: &Arc<Wanted>, order: u64, leave: Leave) -> Result<Way, Fault> {
        let Fleet { house, settings, streams, starts, .. } = &*self.fleet;
        let _one_of_few = starts.acquire().await;
        // Who only finishes what is owed takes no more.
        let order = (leave == Leave::Stay).then_some(order);
        let stream = streams.want_to_read(order, &wanted.spec, || self.fleet.names()).await?;
        streams.settle().await;
        let (house, settings, of, known) =
            (house.clone(), settings.clone(), wanted.clone(), std::mem::take(&mut self.known));
        let (way, known) = off_thread(move || {
            let mut known = known;
            let way = build::whole_way(&house, &settings, &of.spec, stream.as_ref(), &mut known);
            (way, known)
        })
        .await;
        self.known = known;
        let way = way?;
        streams.reads(&self.pipeline.name, wanted.stream()).await?;
        Ok(Way { sweeps: self.good.is_none(), ..way })
    }

    /// Before a revision runs that reads another stream than the one before it: that one is left, drained or not. `false`:
    /// it is wanted again.
    async fn leave_stream_for(&mut self, next: &Wanted) -> bool {
        let Some(before) = self.wanted.clone().filter(|before| before.stream() != next.stream()) else { return true };
        let drained = match &self.last {
            Some(Ended::Drained(position)) => position.clone(),
            _ => None,
        };
        self.leave_stream(&before, drained.as_ref()).await
    }

    async fn leave_stream(&mut self, of: &Wanted, drained: Option<&Position>) -> bool {
        let Some(stream) = of.stream() else { return true };
        let name = self.pipeline.name.clone();
        self.fleet.house.replaying.leave_stream(&name).await;
        if drained.is_none() {
            tracing::warn!(pipeline = name, stream, "left before all was delivered: its undelivered records are kept");
        }
        let mut pause = PAUSE_FIRST;
        loop {
            match self.fleet.streams.leave(&name, stream, drained).await {
                Ok(left) => return left,
                Err(fault) if fault.ends_process() => {
                    self.fleet.report(fault);
                    return false;
                }
                Err(fault) => {
                    tracing::warn!(pipeline = name, stream, error = format!("{:#}", fault.error), "not left yet");
                    if tokio::time::timeout(pause, self.goal.changed()).await.is_ok() {
                        self.goal.mark_changed();
                        return false;
                    }
                    pause = (pause * 2).min(PAUSE_LONGEST);
                }
            }
        }
    }

    /// Its file is gone: drains what has run, and goes. `false`: something else is wanted by now.
    async fn go(&mut self, order: u64) -> bool {
        let name = self.pipeline.name.clone();
        if let Some(wanted) = self.wanted.clone() {
            self.say_draining(&self.goal.borrow().clone());
            if !matches!(self.last, Some(Ended::Drained(_))) {
                self.last = Some(self.run_one(wanted.clone(), order, Leave::Drain).await);
            }
            let drained = match self.last.clone() {
                Some(Ended::Drained(position)) => Some(position),
                Some(Ended::Stopped) => None,
                _ => return false,
            };
            if !self.leave_stream(&wanted, drained.as_ref().and_then(Option::as_ref)).await {
                return false;
            }
            if let Some(None) = &drained
                && let Err(fault) = self.mark_whole(&wanted)
            {
                tracing::warn!(pipeline = name, error = format!("{:#}", fault.error), "not marked as drained");
            }
            match drained {
                Some(_) => tracing::info!(pipeline = name, "drained: all is delivered, and nothing is kept for it"),
                None => tracing::warn!(pipeline = name, "gone before all was delivered: the rest is kept"),
            }
        }
        self.fleet.depart(&name, order).await
    }

    /// Of sources that are not ours: where it stands is where it may stay.
    fn mark_whole(&self, wanted: &Wanted) -> Result<(), Fault> {
        let dir = super::kept::folder(&self.fleet.settings, &wanted.spec.name);
        let shards = off_async(|| checkpoint::peek(&*self.fleet.house.ground.disk, &dir))?;
        self.fleet.streams.mark(&wanted.spec.name, &shards)
    }

    /// Up to where its stream is durable now, if it reads one.
    fn durable_end(&self, wanted: &Wanted) -> Option<Position> {
        Some(self.fleet.streams.get(wanted.stream()?)?.stats().durable.into())
    }

    /// After a run that ended well: whether all that was owed is delivered indeed.
    fn judge_drained(&self, way: &Way, wanted: &Wanted, owed: Option<Position>, was_told: bool) -> Ended {
        let stream = wanted.stream().and_then(|stream| self.fleet.streams.get(stream));
        let at = stream.and_then(|stream| way.checkpoint.of(stream.shard()));
        let is_empty = match off_async(|| way.outbox.pending()) {
            Ok(pending) => pending.is_empty(),
            Err(fault) => {
                self.fleet.report(fault);
                false
            }
        };
        if !is_empty || at < owed {
            let (at, owed) = (at.map(|at| at.to_string()), owed.map(|owed| owed.to_string()));
            tracing::error!(pipeline = way.name, at, owed, "it has ended before all was delivered");
            return Ended::Stopped;
        }
        if !was_told {
            self.pipeline.tell(|told| (told.state, told.way) = (State::Done, None));
            self.fleet.changed();
        }
        Ended::Drained(at)
    }

    fn say_running(&self, wanted: &Arc<Wanted>, way: &Arc<Way>, leave: Leave) {
        let state = self.fleet.settings.state.display();
        let (sink, revision, hash) = (&way.recipe.sink, wanted.number, &wanted.hash);
        tracing::info!(pipeline = way.name, sink, %state, revision, hash, "running");
        let since_ms = self.fleet.house.ground.clock.now_ms();
        self.pipeline.tell(|told| {
            told.state = if leave == Leave::Drain { State::Draining } else { State::Running };
            told.why = None;
            (told.way, told.wanted) = (Some(way.clone()), Some(wanted.clone()));
            told.revision = RevisionView { number: wanted.number, hash: wanted.hash.clone(), since_ms };
            if told.pending.as_ref().is_some_and(|pending| pending.hash == wanted.hash) {
                told.pending = None;
            }
        });
        self.fleet.changed();
    }

    fn say_draining(&self, goal: &Goal) {
        let why = match goal.what {
            What::Gone => "its file is gone: what was acknowledged is being delivered",
            _ => "the new revision reads another stream: what was acknowledged of this one is delivered first",
        };
        if self.pipeline.told().why.as_deref() != Some(why) {
            tracing::info!(pipeline = self.pipeline.name, "draining: {why}");
        }
        self.pipeline.settle(goal.order, |told| (told.state, told.why) = (State::Draining, Some(why.to_owned())));
        self.fleet.changed();
    }

    fn say_stopped(&self, order: u64, fault: Fault) -> Ended {
        let error = format!("{:#}", fault.error);
        tracing::error!(pipeline = self.pipeline.name, error, "the pipeline has stopped");
        // First, as whoever sees that it has stopped asks why.
        self.fleet.report(fault);
        self.pipeline.settle(order, |told| (told.state, told.why) = (State::Stopped, Some(error)));
        self.fleet.changed();
        Ended::Stopped
    }
}

/// How a revision is to be left for this goal.
fn leave_for(wanted: &Wanted, goal: &What) -> Leave {
    match goal {
        What::Wait => Leave::Stay,
        What::Stop => Leave::Stop,
        What::Gone => Leave::Drain,
        What::Run(next) if wanted.stream().is_some() && wanted.stream() != next.stream() => Leave::Drain,
        What::Run(_) => Leave::Cut,
    }
}
