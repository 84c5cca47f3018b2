//! Kafka: each partition of some topics is a log, and a group of nodes shares them.
//!
//! ```text
//! seal -> handover copy into the store -> plan: OffsetCommit(old offset, metadata + plan) -> objects -> OffsetCommit(end)
//! ```
//! The promise: a record is in one set of objects, whichever nodes come and go. What a node was delivering when it went is
//! delivered by the next owner from the handover copy, byte for byte; what it had not planned nobody has seen. The group's
//! coordinator is the one truth about positions: a node's own state may be lost.

mod begun;
mod check;
mod client;
mod context;
mod copies;
mod describe;
mod flood;

pub mod ledger;
mod look;
mod msk;
pub mod options;
pub mod plan;
mod policy;
mod properties;
mod queue;
mod report;
pub mod security;
mod session;
mod shared;
mod start;
mod stats;
mod sweep;
mod tokens;
mod watch;
mod words;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinHandle;

use crate::budget::Budget;
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::metrics::PipelineMetrics;
use crate::outbox::{Outbox, Sealed};
use crate::position::{Position, Shard, ShardRange};
use crate::sink::ObjectSink;
use crate::source::{Reader, Source};

pub use check::Flaw;
use ledger::Claim;
pub use look::Seen;
pub use options::Options;
use plan::{Plan, copy_name};
use session::{Session, SessionReader};
use shared::{Seek, Shared};

/// How long leaving the group may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(8);
/// Bytes of a handover copy that are fetched with one request.
const FETCH_BYTES: u64 = 8 << 20;
/// The part of the process's memory that may lie fetched and unread: one of so many.
const MEMORY_PART: usize = 8;

/// Topics of Kafka, as one member of a group reads them.
pub struct KafkaSource {
    shared: Arc<Shared>,
    given: AsyncMutex<mpsc::UnboundedReceiver<Shard>>,
    client: AsyncMutex<Option<JoinHandle<()>>>,
    /// One copy is fetched at a time: several partitions may inherit the same.
    fetching: AsyncMutex<()>,
}

impl KafkaSource {
    /// A member of the group that joins when its first shard is asked for. `interval`: how long chunks are open. `sink`
    /// remembers what the group has begun.
    pub fn open(
        of: (&str, &Options, Duration),
        sink: (&str, ObjectSink),
        ground: &Ground,
        budget: &Budget,
        metrics: &PipelineMetrics,
    ) -> KafkaSource {
        let (give, given) = mpsc::unbounded_channel();
        let memory_bytes = budget.bytes() / MEMORY_PART;
        let seen = (metrics.kafka(), metrics.live.reading());
        let shared = Shared::new(of, sink, ground, memory_bytes, seen, give);
        KafkaSource {
            shared: Arc::new(shared),
            given: AsyncMutex::new(given),
            client: AsyncMutex::default(),
            fetching: AsyncMutex::default(),
        }
    }

    /// The plan that is to be settled first of those that former owners have left to a shard's partitions.
    fn next_inherited(&self, session: &Session) -> Option<Plan> {
        let ledger = self.shared.ledger();
        let plans = session.parts.iter().filter_map(|part| ledger.inherited(part).into_iter().next());
        plans.min_by(|a, b| (&a.shard, &a.start).cmp(&(&b.shard, &b.start)))
    }

    /// Fetches a handover copy into the outbox.
    async fn fetch(&self, plan: &Plan, outbox: &Outbox, sink: &ObjectSink) -> Result<Sealed, Fault> {
        let _one_at_a_time = self.fetching.lock().await;
        let range = plan.range();
        let name = copy_name(&self.shared.pipeline, &range);
        let mut whole = None;
        sink.list(&name, &mut |listed| {
            whole = whole.or((listed.name == name).then_some(listed.bytes));
            Ok(())
        })
        .await
        .map_err(|fault| Fault { blame: Blame::Source, ..fault })?;
        let gone = || {
            let at = sink.location(&name);
            let hint = "without it what a former owner was delivering cannot be completed: bring it back, or reset the \
                        group's offsets to deliver from there once more";
            Fault::new(Blame::Source, format!("{at} is gone, which the group says is half delivered\nhint: {hint}"))
        };
        let whole = whole.ok_or_else(gone)?;
        let mut arriving = off_async(|| outbox.arriving(&range)).map_err(Fault::of_io)?;
        let mut at = 0;
        while at < whole {
            let to = whole.min(at + FETCH_BYTES);
            let bytes = sink.read(&name, whole, at..to).await?.ok_or_else(gone)?;
            off_async(|| arriving.append(&bytes)).map_err(Fault::of_io)?;
            at = to;
        }
        // One that is damaged in the store is no fault of our disk, nor of the other partitions.
        off_async(|| arriving.seal()).map_err(|fault| match fault.blame {
            Blame::Disk => Fault { blame: Blame::Source, ..fault },
            _ => fault,
        })
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn next_shard(&self) -> Result<Option<Shard>, Fault> {
        let mut client = self.client.lock().await;
        let client = client.get_or_insert_with(|| tokio::spawn(client::run(self.shared.clone())));
        let mut given = self.given.lock().await;
        tokio::select! {
            biased;
            shard = given.recv() => Ok(shard),
            // It lives until the source is left.
            Err(panic) = client => Err(Fault { blame: Blame::Bug, error: panic.into() }),
        }
    }

    async fn open(&self, shard: &Shard, from: Option<&Position>) -> Result<Box<dyn Reader>, Fault> {
        let Some(session) = self.shared.session(shard) else { return never().await };
        // What is to be read is settled when the group knows where it begins.
        loop {
            let changed = self.shared.ledger_changed.notified();
            if session.is_lost() {
                return never().await;
            }
            if self.shared.is_settled(&session) {
                break;
            }
            changed.await;
        }
        self.shared.begin(&session).await?;
        let at = from.cloned().unwrap_or_else(|| session.begin());
        if let Some(to) = session.rewind(&at)? {
            let to = to.into_iter().map(|(part, offset)| Seek { session: session.clone(), part, offset });
            self.shared.seek(to.collect::<Vec<_>>());
        }
        Ok(Box::new(SessionReader::new(session, at)))
    }

    async fn release(&self, shard: &Shard, upto: &Position) -> Result<(), Fault> {
        loop {
            let changed = self.shared.ledger_changed.notified();
            if let Some(copies) = self.shared.settle(shard, upto) {
                for (name, sink) in copies {
                    self.shared.copies.remove(&name, &sink).await;
                }
                return Ok(());
            }
            self.shared.wake_client.notify_one();
            changed.await;
        }
    }

    fn begin_copy(&self, range: &ShardRange, sink: &ObjectSink) -> Option<String> {
        if let Some(session) = self.shared.session(&range.shard) {
            self.shared.copies.keep(range, sink, &session);
        }
        Some(copy_name(&self.shared.pipeline, range))
    }

    async fn claim(&self, promise: &Sealed) -> Result<(), Fault> {
        let range = promise.range();
        let Some(session) = self.shared.session(&range.shard) else { return never().await };
        let unknown = || Fault::new(Blame::Bug, format!("{range} ends where no read did"));
        let ends = session.ends_of(range).ok_or_else(unknown)?;
        loop {
            let changed = self.shared.ledger_changed.notified();
            match self.shared.ledger().claim(range, &ends) {
                Claim::Granted => return Ok(()),
                Claim::Lost => break,
                Claim::Waits => self.shared.wake_client.notify_one(),
            }
            changed.await;
        }
        never().await
    }

    async fn inherit(&self, shard: &Shard, outbox: &Outbox, sink: &ObjectSink) -> Result<Option<Sealed>, Fault> {
        let Some(session) = self.shared.session(shard) else { return never().await };
        let Some(plan) = self.next_inherited(&session) else { return Ok(None) };
        let sealed = self.fetch(&plan, outbox, sink).await?;
        self.shared.copies.keep(sealed.range(), sink, &session);
        self.shared.metrics.took_over();
        let (plan, pipeline) = (sealed.range().to_string(), self.shared.pipeline.as_str());
        tracing::info!(pipeline, plan, "kafka: delivering what a former owner had planned");
        Ok(Some(sealed))
    }

    async fn lost(&self, shard: &Shard) {
        match self.shared.session(shard) {
            Some(session) => session.lost().await,
            None if shard.is_session() => {}
            None => std::future::pending().await,
        }
    }

    async fn leave(&self) {
        self.shared.leaving.cancel();
        let client = self.client.lock().await.take();
        if let Some(client) = client {
            let _ = tokio::time::timeout(LEAVE_TIMEOUT, client).await;
        }
    }
}

impl Drop for KafkaSource {
    /// A source that nobody has left is no member any more either: it would keep its partitions from others.
    fn drop(&mut self) {
        self.shared.leaving.cancel();
    }
}

/// Whoever waits for a shard that is lost is told so by [`Source::lost`].
async fn never<T>() -> T {
    std::future::pending().await
}
