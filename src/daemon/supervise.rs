//! One pipeline's task: starts the revision that is wanted, runs it, switches to the next, drains it, and lets it go.
//!
//! ```text
//!            .--- cannot start: waits, tries again; or back to the revision before ---.
//!            v                                                                       |
//!  Run(n) -> start -> run ----> sources ended: done         Run(n+1) -> cut, or drain if it leaves a stream
//!                      '------> fault: stopped              Gone     -> drain, mark, forget
//!                                                           Stop     -> at once
//! ```
//! What it is told may change at any time: a drain becomes a cut when the file is back, and everything becomes a stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{PipelineSpec, SourceSpec};
use crate::error::{Blame, Fault};
use crate::pipeline::{self, Leave, Leaving, Way};
use crate::position::Position;
use crate::spool::Stream;
use crate::status::view::State;

use super::build::{self, KnownSinks};
use super::fleet::{Fleet, Goal, Pending, Pipeline, Wanted};

/// The first pause after a pipeline could not start; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_secs(30);

/// Runs a pipeline until it is gone or the process ends.
pub async fn supervise(fleet: Arc<Fleet>, pipeline: Arc<Pipeline>, goal: watch::Receiver<Goal>) {
    let name = pipeline.name.clone();
    Supervisor { fleet, pipeline, goal, known: KnownSinks::new(), good: None, started: false }.run().await;
    tracing::debug!(pipeline = name, "its task has ended");
}

struct Supervisor {
    fleet: Arc<Fleet>,
    pipeline: Arc<Pipeline>,
    goal: watch::Receiver<Goal>,
    known: KnownSinks,
    /// The last revision that has run.
    good: Option<Arc<Wanted>>,
    /// Whether one has run in this process.
    started: bool,
}

/// How a run has ended.
enum Ended {
    /// It was told to make room for something else.
    Left,
    /// All that was owed is delivered.
    Drained,
    /// Its sources have ended, and all is delivered.
    Done,
    /// A fault.
    Stopped,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            let goal = self.goal.borrow_and_update().clone();
            match goal {
                Goal::Stop => break,
                Goal::Wait => {}
                Goal::Run(wanted) => {
                    let ended = self.run_one(wanted.clone(), Leave::Stay).await;
                    if self.goes_on(&wanted, ended).await {
                        continue;
                    }
                }
                Goal::Gone => {
                    if self.drain().await {
                        break;
                    }
                    continue;
                }
            }
            if !self.goal.has_changed().unwrap_or(false) && self.goal.changed().await.is_err() {
                break;
            }
        }
    }

    /// After a run; answers whether there is something else to do already.
    async fn goes_on(&mut self, wanted: &Wanted, ended: Ended) -> bool {
        if let (Ended::Drained, Some(stream)) = (&ended, wanted.stream()) {
            let next = self.goal.borrow().clone();
            if matches!(&next, Goal::Run(next) if next.stream() != Some(stream)) {
                self.leave(wanted, true).await;
            }
        }
        if let Goal::Run(next) = self.goal.borrow().clone()
            && !matches!(ended, Ended::Drained)
            && wanted.stream().is_some()
            && next.stream() != wanted.stream()
        {
            self.leave(wanted, false).await;
        }
        self.goal.has_changed().unwrap_or(false)
    }

    /// Starts a revision and runs it; `leave`: what it is told from the beginning.
    async fn run_one(&mut self, wanted: Arc<Wanted>, leave: Leave) -> Ended {
        let Some((wanted, way)) = self.start(wanted, leave).await else { return Ended::Stopped };
        let way = Arc::new(way);
        let PipelineSpec { name, .. } = &wanted.spec;
        tracing::info!(
            pipeline = name,
            sink = way.recipe.sink,
            state = %self.fleet.settings.state.display(),
            revision = wanted.number,
            hash = wanted.hash,
            "running"
        );
        let leaving = Leaving::new();
        leaving.tell(leave);
        let mut owed = self.owed(&wanted, leave);
        let state = if leave == Leave::Drain { State::Draining } else { State::Running };
        self.pipeline.tell(|told| {
            (told.state, told.why) = (state, None);
            told.way = Some(way.clone());
            told.settled = told.settled.max(wanted.seq);
        });
        let mut running = tokio::spawn(pipeline::run(way.clone(), leaving.clone()));
        let ended = loop {
            tokio::select! {
                ended = &mut running => break pipeline::finished(ended),
                Ok(()) = self.goal.changed() => {
                    let goal = self.goal.borrow_and_update().clone();
                    let leave = self.leave_for(&wanted, &goal);
                    if leave == Leave::Drain {
                        owed = owed.or_else(|| self.owed(&wanted, leave));
                        self.say_draining(&goal);
                    }
                    leaving.tell(leave);
                    // Read again by who comes next: nothing has been done about it but to tell.
                    self.goal.mark_changed();
                    if leaving.is(Leave::Cut) {
                        break pipeline::finished((&mut running).await);
                    }
                    self.goal.mark_unchanged();
                }
            }
        };
        self.good = Some(wanted.clone());
        way.progress.leave();
        match ended {
            Err(fault) => {
                self.stopped(&wanted, fault);
                Ended::Stopped
            }
            Ok(()) if leaving.is(Leave::Cut) => Ended::Left,
            Ok(()) if leaving.is(Leave::Drain) => {
                self.goal.mark_changed();
                if self.is_drained(&way, &wanted, owed) { Ended::Drained } else { Ended::Left }
            }
            Ok(()) => {
                self.pipeline.tell(|told| told.state = State::Done);
                Ended::Done
            }
        }
    }
}
