//! Replays: error objects, or a part of a stream, through the present way of a pipeline once more, each record once.
//!
//! ```text
//! <state>/replays/<pipeline>/errors/    done            error objects that were replayed, 17 bytes each
//!                            records/   done            ranges of streams that were replayed
//!                                 both: plan            what is being replayed: there until all of it is delivered
//!                                       checkpoint.*    as a pipeline's, of the plan's one shard
//!                                       outbox/         as a pipeline's
//!   plan born whole -> way over its source -> all delivered -> done born whole -> plan removed -> checkpoint removed
//! ```
//! The promise: what a plan names is delivered exactly once, whatever dies when; a plan that is there is finished before
//! another is made; and what stands in `done` is not planned again unless that is asked for. It is the protocol of every
//! pipeline, over a source that cannot change.

mod errors;
mod records;
mod start;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::checkpoint::Checkpoint;
use crate::chunk::Recipe;
use crate::cpu::off_async;
use crate::disk::remove_if_there;
use crate::error::{Blame, Fault, Reason, RejectedBy};
use crate::ground::Ground;
use crate::metrics::{Metrics, PipelineMetrics, Progress};
use crate::outbox::Outbox;
use crate::pipeline::{self, Leave, Leaving, OutboxRoom, Promised, Transforms, Way, outbox_bytes_max};
use crate::position::{Position, Shard};
use crate::record::{Batch, BatchBuilder};
use crate::sink::ObjectSink;
use crate::source::Source;
use crate::source::replay::{UNREADABLE, what_is_wrong};
use crate::spool::Stream;
use crate::status::replay::{Ask, Said, Saying, Summary, What};
use crate::transform::{Rejected, Transform, Transformed};

/// How often it is said how far a replay is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

pub use start::{Replaying, alone, opener};

const PLAN: &str = "plan";

/// Opens a sink of this URL.
pub type OpenSink = Box<dyn Fn(&str) -> Result<ObjectSink, Fault> + Send + Sync>;

/// What a replay needs of its pipeline.
pub struct Kit {
    pub ground: Ground,
    pub budget: Budget,
    pub metrics: Metrics,
    /// The state folder.
    pub state: PathBuf,
    /// The present one.
    pub recipe: Arc<Recipe>,
    /// The present ones.
    pub transforms: Vec<Arc<dyn Transform>>,
    pub open_sink: OpenSink,
    /// The stream of the pipeline, if it reads one.
    pub stream: Option<Stream>,
    /// Keeps that open.
    pub lent: Option<Arc<()>>,
    /// Whether the stream has readers beside this one, so that it may be told what this one no longer needs. Else nobody
    /// holds what others need.
    pub stream_is_read: bool,
    /// Whether what a dead process left half-done in a folder is removed: not, where uploads that this process has called off
    /// may still be at work there.
    pub sweeps: bool,
    /// Ends it early; the next one goes on.
    pub stop: CancellationToken,
}

/// The name that a replay is counted under: no pipeline can have it.
pub fn label(pipeline: &str) -> String {
    format!("{pipeline}:replay")
}

impl Kit {
    /// Does what was asked, and says so on the way: the last thing said is the end.
    pub async fn run(&self, ask: &Ask, saying: &Saying) {
        let done = match &ask.what {
            What::Errors(wanted) => self.errors(wanted, ask.dry_run, saying).await,
            What::Records(wanted) => self.records(wanted, ask.dry_run, saying).await,
        };
        say(
            saying,
            match done {
                Ok(summary) => Said::Ended(summary),
                Err(fault) => {
                    Said::Failed { message: format!("{:#}", fault.error), config: fault.blame == Blame::Config }
                }
            },
        );
    }

    fn pipeline(&self) -> &str {
        &self.recipe.pipeline
    }

    /// What needs no order to be ended in; `None`: it was told to stop before that was done.
    async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<Option<T>, Fault> {
        self.stop.run_until_cancelled(work).await.transpose()
    }

    /// The folder of one kind of replays, which is there when this returns.
    fn dir(&self, kind: &str) -> Result<PathBuf, Fault> {
        let dir = self.state.join("replays").join(self.pipeline()).join(kind);
        off_async(|| self.ground.disk.create_dir(&dir)).map_err(Fault::of_io)?;
        Ok(dir)
    }

    /// Runs a plan's source to its end at `end`; answers whether it was reached and all is delivered.
    async fn replay(
        &self,
        dir: &Path,
        source: Box<dyn Source>,
        (shard, end): (&Shard, u64),
        saying: &Saying,
        summary: &mut Summary,
    ) -> Result<bool, Fault> {
        let way = Arc::new(off_async(|| self.way(dir, source))?);
        let before = Counted::of(&way.metrics);
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        let leaving = Leaving::new();
        let mut running = std::pin::pin!(pipeline::run(way.clone(), leaving.clone()));
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                () = self.stop.cancelled(), if !leaving.is(Leave::Stop) => leaving.tell(Leave::Stop),
                _ = ticks.tick() => {
                    let done = way.checkpoint.of(shard).and_then(|at| at.as_u64()).unwrap_or(0);
                    say(saying, Said::Progress { done, amount: end });
                }
            }
        };
        Counted::of(&way.metrics).add_since(&before, summary);
        // Its shard never comes again.
        way.progress.leave();
        ended?;
        let delivered = way.checkpoint.of(shard).unwrap_or_else(|| Position::from(0));
        Ok(delivered >= end.into())
    }

    fn way(&self, dir: &Path, source: Box<dyn Source>) -> Result<Way, Fault> {
        let (checkpoint, outbox) = self.kept(dir)?;
        let mut sinks = BTreeMap::new();
        let pending = outbox.pending()?;
        let promised = pending.values().flatten().map(|sealed| sealed.sink().to_owned());
        for url in promised.chain([self.recipe.sink.clone()]) {
            if let Entry::Vacant(unknown) = sinks.entry(url) {
                let sink = (self.open_sink)(unknown.key())?;
                unknown.insert(sink.within(&self.budget));
            }
        }
        let name = label(self.pipeline());
        let metrics = self.metrics.pipeline(&name);
        let mut transforms: Vec<Arc<dyn Transform>> = vec![Arc::new(SetAside)];
        transforms.extend(self.transforms.iter().cloned());
        Ok(Way {
            transforms: Transforms::new(&name, transforms, &metrics),
            name,
            source,
            recipe: self.recipe.clone(),
            outbox,
            sinks,
            checkpoint,
            room: OutboxRoom::new(outbox_bytes_max(self.recipe.limits.size_bytes)),
            sweeps: self.sweeps,
            ground: self.ground.clone(),
            budget: self.budget.clone(),
            progress: Progress::new(&metrics),
            metrics,
        })
    }

    fn kept(&self, dir: &Path) -> Result<(Checkpoint<Promised>, Outbox), Fault> {
        Ok((Checkpoint::open(&self.ground, dir)?, Outbox::open(&self.ground, &dir.join("outbox"))?))
    }

    /// Removes the plan, and what only it needed. Before this, `done` says durably that it was delivered.
    fn end_plan(&self, dir: &Path) -> Result<(), Fault> {
        let disk = &*self.ground.disk;
        // Promises that come back after a power cut would be of a plan that is not there.
        disk.sync_dir(&dir.join("outbox")).map_err(Fault::disk)?;
        let removed = remove_if_there(disk, &dir.join(PLAN)).and_then(|()| disk.sync_dir(dir));
        removed.map_err(Fault::disk)?;
        self.forget_checkpoint(dir)
    }

    /// Removes what a plan that is gone has left. Promises without a plan are none of ours.
    fn forget_checkpoint(&self, dir: &Path) -> Result<(), Fault> {
        let outbox = Outbox::open(&self.ground, &dir.join("outbox"))?;
        if let Some(range) = outbox.pending()?.values().flatten().next().map(|sealed| sealed.range().clone()) {
            let message = format!("{}: promises {range}, and the plan of that replay is gone", dir.display());
            return Err(Fault::new(Blame::Disk, format!("{message}\nhint: restore the folder from a copy")));
        }
        let disk = &*self.ground.disk;
        for slot in ["checkpoint.a", "checkpoint.b"] {
            remove_if_there(disk, &dir.join(slot)).map_err(Fault::disk)?;
        }
        disk.sync_dir(dir).map_err(Fault::disk)
    }
}

/// Says something; nobody listening is no fault.
fn say(saying: &Saying, said: Said) {
    let _ = saying.send(said);
}

fn note(saying: &Saying, text: String) {
    say(saying, Said::Note { text });
}

/// What a way has counted.
struct Counted {
    records: u64,
    rows: u64,
    rejected: u64,
    dropped: u64,
    objects: u64,
}

impl Counted {
    fn of(metrics: &PipelineMetrics) -> Counted {
        Counted {
            records: metrics.records_in.get(),
            rows: metrics.records_out.get(),
            rejected: metrics.live.rejected_records(),
            dropped: metrics.dropped.get(),
            objects: metrics.objects_out.get(),
        }
    }

    fn add_since(&self, before: &Counted, summary: &mut Summary) {
        let rejected = self.rejected - before.rejected;
        summary.records += self.records - before.records;
        summary.rejected += rejected;
        summary.dropped += self.dropped - before.dropped;
        summary.objects += self.objects - before.objects;
        summary.delivered += (self.rows - before.rows).saturating_sub(rejected);
    }
}

/// Sets aside the lines that an error object should not have had, whole, with what is wrong.
struct SetAside;

#[async_trait]
impl Transform for SetAside {
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        if (0..batch.len()).all(|row| what_is_wrong(&batch, row).is_none()) {
            return Ok(Transformed { batch, ..Transformed::default() });
        }
        let mut records = BatchBuilder::default();
        let mut rejected = Vec::new();
        for row in 0..batch.len() {
            match what_is_wrong(&batch, row) {
                None => records.push(batch.payload(row), batch.arrival_ms(row)),
                Some(wrong) => {
                    let message = String::from_utf8_lossy(wrong).into_owned();
                    let reason = Reason { by: RejectedBy::Transform, code: UNREADABLE, message };
                    rejected.push(Rejected::new(batch.share(row), batch.arrival_ms(row), reason));
                }
            }
        }
        Ok(Transformed { batch: records.finish(), rejected, ..Transformed::default() })
    }

    fn shown(&self) -> String {
        "replay".to_owned()
    }
}
