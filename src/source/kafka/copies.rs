//! Handover copies that lie in a store: each goes when its plan is settled, or when the group knows nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use crate::position::{Position, Shard, ShardRange};
use crate::sink::ObjectSink;

use super::context::Context;
use super::ledger::Part;
use super::plan::{Told, copy_name, is_of_one_partition};
use super::session::Session;
use super::shared::Shared;
use super::start::committed;

/// How long brokers may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// The copies that this node has made, and those that it has inherited.
pub struct Copies {
    pipeline: String,
    /// By shard and end.
    lying: Mutex<BTreeMap<(Shard, Position), Copy>>,
    orphans: Mutex<Vec<Orphan>>,
}

/// A copy that may be nobody's: somebody needs it if the group knows its plan, else nobody does.
pub struct Orphan {
    pub name: String,
    pub sink: ObjectSink,
    /// The partitions that its plan is of, as far as we know.
    pub parts: Vec<Part>,
}

struct Copy {
    name: String,
    sink: ObjectSink,
    /// The session that is to own its partitions when it is settled: else another node may need it.
    of: Arc<Session>,
}

impl Copy {
    fn orphan(self) -> Orphan {
        Orphan { name: self.name, sink: self.sink, parts: self.of.parts.clone() }
    }
}

impl Copies {
    /// Of a pipeline; there are none.
    pub fn new(pipeline: &str) -> Copies {
        Copies { pipeline: pipeline.to_owned(), lying: Mutex::default(), orphans: Mutex::default() }
    }

    /// The copy of a range lies in a store, or is about to: it is to be removed when its plan is settled.
    pub fn keep(&self, range: &ShardRange, sink: &ObjectSink, of: &Arc<Session>) {
        let name = copy_name(&self.pipeline, range);
        let copy = Copy { name, sink: sink.clone(), of: of.clone() };
        self.lying().insert((range.shard.clone(), range.end.clone()), copy);
        if of.is_lost() {
            self.lose(of);
        }
    }

    /// Of a session that is lost: those that it has made may be nobody's; what it had inherited the next owner looks after.
    pub fn lose(&self, session: &Session) {
        let mut lying = self.lying();
        let of_it = lying.extract_if(.., |_, copy| copy.of.shard == session.shard);
        let made = of_it.filter(|((shard, _), _)| *shard == session.shard);
        let orphans: Vec<Orphan> = made.map(|(_, copy)| copy.orphan()).collect();
        drop(lying);
        self.put_back_orphans(orphans);
    }

    /// The group knows that all of a shard before `upto` is delivered. Answers the copies that nobody needs any more, with
    /// the sinks that they lie in. `owns`: whether a partition is ours, as this shard; it may not change meanwhile.
    pub fn settle(
        &self,
        shard: &Shard,
        upto: &Position,
        owns: impl Fn(&Part, &Shard) -> bool,
    ) -> Vec<(String, ObjectSink)> {
        let mut lying = self.lying();
        let settled: Vec<_> = lying.extract_if(.., |(of, end), _| of == shard && end <= upto).collect();
        drop(lying);
        // What was lost meanwhile is settled by others, who may need the copy for it. So may other heirs of one that another
        // had merged: we know only our own partitions of it.
        let ours = |copy: &Copy| {
            (copy.of.shard == *shard || is_of_one_partition(shard))
                && copy.of.parts.iter().all(|part| owns(part, &copy.of.shard))
        };
        let (ours, others): (Vec<_>, Vec<_>) = settled.into_iter().partition(|(_, copy)| ours(copy));
        self.put_back_orphans(others.into_iter().map(|(_, copy)| copy.orphan()));
        ours.into_iter().map(|(_, copy)| (copy.name, copy.sink)).collect()
    }

    /// Copies that may be nobody's.
    pub fn take_orphans(&self) -> Vec<Orphan> {
        std::mem::take(&mut self.orphans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// These may be nobody's: the group is to be asked.
    pub fn put_back_orphans(&self, orphans: impl IntoIterator<Item = Orphan>) {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).extend(orphans);
    }

    /// Removes a copy that nobody needs any more.
    pub async fn remove(&self, name: &str, sink: &ObjectSink) {
        if let Err(error) = sink.remove(name).await {
            tracing::warn!(pipeline = self.pipeline, "kafka: a handover copy stays behind: {error}");
        }
    }

    fn lying(&self) -> MutexGuard<'_, BTreeMap<(Shard, Position), Copy>> {
        self.lying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of all copies that committed metadata speaks of, be it of a topic that is read or of `also`; `None`: some of it
/// cannot be read. Blocking.
pub fn needed(
    shared: &Shared,
    consumer: &BaseConsumer<Context>,
    also: impl IntoIterator<Item = Part>,
) -> Result<Option<BTreeSet<String>>, KafkaError> {
    let all = consumer.fetch_metadata(None, ASK_TIMEOUT)?;
    let mut parts: BTreeSet<Part> = also.into_iter().collect();
    for topic in all.topics().iter().filter(|topic| shared.options.is_subscribed(topic.name())) {
        if topic.error().is_some() {
            // It comes without its partitions, whose plans would not be seen.
            return Ok(None);
        }
        let name: Arc<str> = topic.name().into();
        parts.extend(topic.partitions().iter().map(|one| Part { topic: name.clone(), partition: one.id() }));
    }
    let parts: Vec<Part> = parts.into_iter().collect();
    let mut names = BTreeSet::new();
    for (_, committed) in committed(consumer, &parts, ASK_TIMEOUT)? {
        let Ok(committed) = committed else { return Ok(None) };
        let Some((offset, metadata)) = committed else { continue };
        let Ok(told) = Told::parse(offset, &metadata, &shared.mark) else { return Ok(None) };
        names.extend(told.plans.into_iter().map(|plan| copy_name(&shared.pipeline, &plan.range())));
    }
    Ok(Some(names))
}
