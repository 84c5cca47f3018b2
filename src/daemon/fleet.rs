//! The fleet: all pipelines of the daemon, each with the revision that it runs, the one that was refused, and a task of its
//! own ([`super::supervise`]). What files say comes from [`super::reload`]; here is what is so.
//!
//! Ill is what delivers nothing: a pipeline that has stopped or cannot start. A revision that was refused is no illness,
//! since the one before it runs; it is seen in the view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{PipelineSpec, Settings};
use crate::error::Fault;
use crate::pipeline::Way;
use crate::status::view::{LeftView, RevisionView, State};

use super::House;
use super::streams::Streams;
use super::supervise::supervise;

/// Pipelines that open what they have kept at the same time.
const STARTED_AT_ONCE: usize = 16;

/// All pipelines.
pub struct Fleet {
    pub house: House,
    pub settings: Arc<Settings>,
    pub streams: Streams,
    pipelines: Mutex<BTreeMap<String, Arc<Pipeline>>>,
    tasks: Mutex<JoinSet<()>>,
    faults: mpsc::UnboundedSender<Fault>,
    orders: AtomicU64,
    /// A permit for each pipeline that may open what it has kept.
    pub starts: Semaphore,
    /// Counts what has changed.
    changes: watch::Sender<u64>,
    without_file: Mutex<Vec<LeftView>>,
}

/// A pipeline: what it is to do, and what it does.
pub struct Pipeline {
    pub name: String,
    goal: watch::Sender<Goal>,
    told: watch::Sender<Told>,
}

/// What a pipeline is to do. Each goal has a greater number than those before.
#[derive(Clone)]
pub struct Goal {
    pub order: u64,
    pub what: What,
}

#[derive(Clone)]
pub enum What {
    /// Nothing yet: its file has never been right.
    Wait,
    Run(Arc<Wanted>),
    /// Its file is gone.
    Gone,
    /// The process ends.
    Stop,
}

/// A revision that was taken.
pub struct Wanted {
    /// From 1, since the start of the process.
    pub number: u64,
    pub hash: String,
    pub spec: PipelineSpec,
    /// It was there when the process started, and was taken as it was.
    pub at_start: bool,
}

impl Wanted {
    /// The stream that it reads, if it reads one.
    pub fn stream(&self) -> Option<&str> {
        self.spec.stream().map(|stream| stream.name.as_str())
    }
}

/// What is told of a pipeline.
#[derive(Clone)]
pub struct Told {
    pub file: String,
    pub state: State,
    pub why: Option<String>,
    pub revision: RevisionView,
    pub wanted: Option<Arc<Wanted>>,
    pub way: Option<Arc<Way>>,
    pub pending: Option<Pending>,
    /// The last goal that was reached or given up.
    pub settled: u64,
}

/// A revision that was refused.
#[derive(Debug, Clone)]
pub struct Pending {
    pub hash: String,
    pub since_ms: i64,
    pub problems: String,
    /// Whether time may mend it.
    pub is_tried_again: bool,
}

impl Pipeline {
    /// What is told of it now.
    pub fn told(&self) -> Told {
        self.told.borrow().clone()
    }

    /// Changes what is told of it.
    pub fn tell(&self, change: impl FnOnce(&mut Told)) {
        self.told.send_modify(change);
    }

    /// The same, and this goal is reached or given up.
    pub fn settle(&self, order: u64, change: impl FnOnce(&mut Told)) {
        self.tell(|told| {
            change(told);
            told.settled = told.settled.max(order);
        });
    }

    /// Waits until a goal is reached or given up, or is so no more. Cancel-safe.
    pub async fn settled(&self, order: u64) {
        let _ = self.told.subscribe().wait_for(|told| told.settled >= order).await;
    }
}

impl Fleet {
    /// No pipelines yet. Faults go to `faults`.
    pub fn new(house: House, settings: Arc<Settings>, streams: Streams, faults: mpsc::UnboundedSender<Fault>) -> Fleet {
        Fleet {
            house,
            settings,
            streams,
            pipelines: Mutex::default(),
            tasks: Mutex::default(),
            faults,
            orders: AtomicU64::new(0),
            starts: Semaphore::new(STARTED_AT_ONCE),
            changes: watch::Sender::new(0),
            without_file: Mutex::default(),
        }
    }

    /// All pipelines, by name.
    pub fn pipelines(&self) -> Vec<Arc<Pipeline>> {
        self.lock().values().cloned().collect()
    }

    /// The pipeline of this name.
    pub fn pipeline(&self, name: &str) -> Option<Arc<Pipeline>> {
        self.lock().get(name).cloned()
    }

    /// The names of all pipelines.
    pub fn names(&self) -> BTreeSet<String> {
        self.lock().keys().cloned().collect()
    }

    /// The number of the next goal.
    pub fn next_order(&self) -> u64 {
        1 + self.orders.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives a pipeline the goal of this number, and a task if it has none.
    pub fn order(self: &Arc<Fleet>, order: u64, name: &str, file: &str, what: What) -> Arc<Pipeline> {
        let mut pipelines = self.lock();
        let pipeline = pipelines.entry(name.to_owned()).or_insert_with(|| {
            let told = Told {
                file: file.to_owned(),
                state: State::Waiting,
                why: None,
                revision: RevisionView { number: 0, hash: String::new(), since_ms: 0 },
                wanted: None,
                way: None,
                pending: None,
                settled: 0,
            };
            let (goal, goals) = watch::channel(Goal { order: 0, what: What::Wait });
            let pipeline = Arc::new(Pipeline { name: name.to_owned(), goal, told: watch::Sender::new(told) });
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(supervise(self.clone(), pipeline.clone(), goals));
            pipeline
        });
        // A stop is for good.
        pipeline.goal.send_if_modified(|goal| {
            let goes_on = !matches!(goal.what, What::Stop);
            if goes_on {
                *goal = Goal { order, what };
            }
            goes_on
        });
        if pipeline.told.borrow().file != file {
            pipeline.tell(|told| told.file = file.to_owned());
        }
        pipeline.clone()
    }

    /// A pipeline has let go of everything, as goal `order` said: it is known no more. `false`: it has another goal by now.
    pub async fn depart(&self, name: &str, order: u64) -> bool {
        {
            let mut pipelines = self.lock();
            if pipelines.get(name).is_some_and(|pipeline| pipeline.goal.borrow().order != order) {
                return false;
            }
            pipelines.remove(name);
            self.house.metrics.forget_pipeline(name);
            self.house.metrics.forget_pipeline(&super::replay::label(name));
            self.house.rests(name);
            self.streams.look_again(name);
        }
        self.streams.gone(name).await;
        self.look_at_the_absent();
        self.changed();
        true
    }

    /// A fault that stopped a pipeline, or ends the process.
    pub fn report(&self, fault: Fault) {
        let _ = self.faults.send(fault);
    }

    /// Something is not as it was.
    pub fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until all pipelines are done or have stopped. Cancel-safe.
    pub async fn all_ended(&self) {
        let mut changes = self.changes.subscribe();
        let ended = |pipeline: &Arc<Pipeline>| matches!(pipeline.told.borrow().state, State::Done | State::Stopped);
        while !self.pipelines().iter().all(ended) {
            let _ = changes.changed().await;
        }
    }

    /// What is not as it should be, one sentence each.
    pub fn ills(&self) -> Vec<String> {
        let ill = |pipeline: Arc<Pipeline>| {
            let (name, told) = (&pipeline.name, pipeline.told());
            let what = match told.state {
                State::Stopped => "has stopped",
                State::Waiting => "cannot start",
                State::Running | State::Draining | State::Done => return None,
            };
            let why = told.why.or(told.pending.map(|pending| pending.problems))?;
            Some(format!("pipeline {name} {what}: {}", why.trim_end()))
        };
        self.pipelines().into_iter().filter_map(ill).collect()
    }

    /// Lets transforms go what they have kept ready for long.
    pub fn let_go_idle(&self) {
        for pipeline in self.pipelines() {
            if let Some(way) = pipeline.told().way {
                way.transforms.let_go_idle();
            }
        }
    }

    /// What pipelines without a file have left.
    pub fn without_file(&self) -> Vec<LeftView> {
        self.without_file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at that again.
    pub fn look_at_the_absent(&self) {
        let names = self.names();
        let left = crate::cpu::off_async(|| self.streams.left(&names));
        *self.without_file.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }

    /// Stops all pipelines, and waits for them.
    pub async fn stop(self: &Arc<Fleet>) {
        for pipeline in self.pipelines() {
            let order = self.next_order();
            pipeline.goal.send_replace(Goal { order, what: What::Stop });
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pipeline>>> {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
