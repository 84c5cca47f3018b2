//! What the source, its readers and its client share: which partitions are ours, as which shards they are read, and what the
//! group knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::error::Fault;
use crate::ground::Ground;
use crate::live::InTrouble;
use crate::metrics::{KafkaMetrics, PartitionNow};
use crate::position::{Position, Shard};
use crate::sink::ObjectSink;

use super::begun::Begun;
use super::copies::Copies;
use super::describe::TopicNow;
use super::ledger::{Ledger, Part};
use super::options::{Isolation, OnLost, Options, Speaks};
use super::plan::{SinkMark, TopicId};
use super::policy::{Cut, Found};
use super::report::Report;
use super::session::{Opening, Session};
use super::stats::{AheadMax, Stats};

/// What all of them know.
pub struct Shared {
    pub pipeline: String,
    pub options: Options,
    pub mark: SinkMark,
    pub ground: Ground,
    pub metrics: KafkaMetrics,
    pub report: Report,
    pub copies: Copies,
    /// What the group has begun, as the sink remembers it.
    pub begun: Begun,
    /// How long chunks are open.
    pub interval: Duration,
    /// Bytes that may lie fetched and unread.
    pub memory_bytes: usize,
    pub given: mpsc::UnboundedSender<Shard>,
    /// The client has something to do.
    pub wake_client: Arc<Notify>,
    /// The ledger has changed.
    pub ledger_changed: Notify,
    /// The source is left.
    pub leaving: CancellationToken,
    ledger: Mutex<Ledger>,
    sessions: Mutex<Sessions>,
    /// Where queues of partitions are to be taken.
    seeks: Mutex<Vec<Seek>>,
}

#[derive(Default)]
struct Sessions {
    of_shard: BTreeMap<Shard, Arc<Session>>,
    of_part: BTreeMap<Part, Shard>,
    /// The ids of their topics, where brokers give some.
    topics: BTreeMap<Part, TopicId>,
    /// Partitions that are not read.
    halted: BTreeSet<Part>,
    /// Those whose offsets are held against the log.
    doubts: BTreeMap<Part, Doubt>,
}

/// A partition that was halted, until it is taken up.
#[derive(Default)]
struct Doubt {
    /// What was said of it last.
    said: Option<Found>,
    cut: Option<Cut>,
}

/// Where the queue of a session's partition is to be taken.
pub struct Seek {
    pub session: Arc<Session>,
    pub part: Part,
    pub offset: i64,
}

impl Shared {
    /// Nothing is known yet.
    pub fn new(
        (pipeline, options, interval): (&str, &Options, Duration),
        (sink_url, sink): (&str, ObjectSink),
        ground: &Ground,
        memory_bytes: usize,
        (metrics, trouble): (KafkaMetrics, InTrouble),
        given: mpsc::UnboundedSender<Shard>,
    ) -> Shared {
        let mark = SinkMark::of(sink_url);
        Shared {
            pipeline: pipeline.to_owned(),
            options: options.clone(),
            ground: ground.clone(),
            report: Report::new(pipeline, mark.clone(), ground.clock.clone(), metrics.clone(), trouble),
            copies: Copies::new(pipeline),
            mark,
            metrics,
            begun: Begun::new(&options.group_of(pipeline), sink),
            interval,
            memory_bytes,
            given,
            wake_client: Arc::default(),
            ledger_changed: Notify::new(),
            leaving: CancellationToken::new(),
            ledger: Mutex::default(),
            sessions: Mutex::default(),
            seeks: Mutex::default(),
        }
    }

    /// The ledger, for a moment.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of a shard, while it is ours.
    pub fn session(&self, shard: &Shard) -> Option<Arc<Session>> {
        self.sessions().of_shard.get(shard).cloned()
    }

    /// Whether the group knows where each of its partitions begins.
    pub fn is_settled(&self, session: &Session) -> bool {
        let ledger = self.ledger();
        session.parts.iter().all(|part| ledger.begins(part).is_some())
    }

    /// All sessions that are ours.
    pub fn all_sessions(&self) -> Vec<Arc<Session>> {
        self.sessions().of_shard.values().cloned().collect()
    }

    /// Partitions are ours: gives out the shards that they are read as. One for each, or for all of a topic if they are merged;
    /// not for several topics, as a coordinator may take what a commit says of one, and not of another.
    pub fn take_up(&self, openings: Vec<Opening>) {
        let mut groups: BTreeMap<(Arc<str>, Option<i32>), Vec<Opening>> = BTreeMap::new();
        for opening in openings {
            let Part { topic, partition } = opening.part.clone();
            groups.entry((topic, (!self.options.merge).then_some(partition))).or_default().push(opening);
        }
        for openings in groups.into_values() {
            let shard = self.new_shard(&openings);
            let (mut ledger, mut sessions) = (self.ledger(), self.sessions());
            for Opening { part, told, offset, .. } in &openings {
                ledger.assigned(part.clone(), shard.clone(), told.clone(), *offset);
                sessions.of_part.insert(part.clone(), shard.clone());
                sessions.halted.remove(part);
                sessions.doubts.remove(part);
            }
            let of = (self.options.merge, self.options.tombstones);
            let tell = (self.metrics.clone(), self.ground.clock.clone(), self.wake_client.clone());
            let session = Session::new(shard.clone(), openings, of, tell);
            ledger.begin(&shard, &session.begin());
            sessions.of_shard.insert(shard.clone(), Arc::new(session));
            let _ = self.given.send(shard);
        }
        self.ledger_changed.notify_waiters();
        self.wake_client.notify_one();
    }

    /// `k`, 8 digits of the topic, `p` and the partition (of several: digits of the first topic, `m`), `s` and 48 random bits:
    /// no two owners make the same.
    fn new_shard(&self, openings: &[Opening]) -> Shard {
        let random = self.ground.random.u64() & ((1 << 48) - 1);
        let of = |part: &Part| self.topic_mark(&part.topic, self.topic_of(part).as_ref());
        let id = match (openings, openings.iter().map(|one| &one.part).min()) {
            ([one], _) if !self.options.merge => {
                format!("k{}p{}s{random:012x}", of(&one.part), one.part.partition.unsigned_abs())
            }
            (_, Some(first)) => format!("k{}ms{random:012x}", of(first)),
            (_, None) => format!("kms{random:012x}"),
        };
        Shard::new(&id).expect("letters and digits are a shard id")
    }

    /// The session that a partition is read as, while it is ours.
    pub fn session_of(&self, part: &Part) -> Option<Arc<Session>> {
        let sessions = self.sessions();
        sessions.of_part.get(part).and_then(|shard| sessions.of_shard.get(shard)).cloned()
    }

    /// 8 digits that tell a topic, as this group reads it, from others: by its id, or its name where it has none.
    pub fn topic_mark(&self, topic: &str, id: Option<&TopicId>) -> String {
        let group = self.options.group_of(&self.pipeline);
        let hash = Sha256::digest(format!("{group}\0{}", id.map_or(topic, TopicId::as_str)));
        hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The id of a partition's topic, as it was when it was taken up; `None`: not known, or brokers give none.
    pub fn topic_of(&self, part: &Part) -> Option<TopicId> {
        self.sessions().topics.get(part).cloned()
    }

    /// A partition is about to be taken up, of a topic with this id.
    pub fn identify(&self, part: &Part, topic: Option<TopicId>) {
        let mut sessions = self.sessions();
        match topic {
            Some(topic) => drop(sessions.topics.insert(part.clone(), topic)),
            None => drop(sessions.topics.remove(part)),
        }
    }

    /// Where the partitions of a session begin is remembered from here on, after the group knows it.
    pub async fn begin(&self, session: &Session) -> Result<(), Fault> {
        let parts: Vec<_> = {
            let sessions = self.sessions();
            if !sessions.of_shard.contains_key(&session.shard) {
                return Ok(());
            }
            session.parts.iter().map(|part| (part.clone(), sessions.topics.get(part).cloned())).collect()
        };
        self.begun.begin(&parts, &|trouble| self.report.say_of_sink(trouble)).await
    }

    /// A partition is not ours any more, or not as it was: its session ends, for all that was merged into that. Answers what
    /// else that was; nothing of it is told to the group any more, as half a plan would be followed.
    pub fn lose(&self, part: &Part) -> Vec<Part> {
        let session = {
            let mut sessions = self.sessions();
            sessions.halted.remove(part);
            sessions.topics.remove(part);
            let shard = sessions.of_part.remove(part);
            let session = shard.and_then(|shard| sessions.of_shard.remove(&shard));
            for part in session.iter().flat_map(|session| &session.parts) {
                sessions.of_part.remove(part);
                sessions.topics.remove(part);
            }
            session
        };
        self.ledger().lost(part);
        let Some(session) = session else {
            self.ledger_changed.notify_waiters();
            return Vec::new();
        };
        session.parts.iter().for_each(|part| self.ledger().lost(part));
        session.lose();
        self.copies.lose(&session);
        self.ledger_changed.notify_waiters();
        session.parts.iter().filter(|other| *other != part).cloned().collect()
    }

    /// A partition has been given back: what was thought of it is the next owner's to find out.
    pub fn forget(&self, part: &Part) {
        let mut sessions = self.sessions();
        sessions.halted.remove(part);
        sessions.doubts.remove(part);
    }

    /// Nothing is read any more.
    pub fn lose_sessions(&self) {
        let parts: Vec<Part> = self.sessions().of_part.keys().cloned().collect();
        parts.iter().for_each(|part| drop(self.lose(part)));
    }

    /// Nothing is ours any more.
    pub fn lose_all(&self) {
        self.lose_sessions();
        *self.ledger() = Ledger::default();
        self.sessions().halted.clear();
        self.wanted_seeks();
    }

    /// Asks the client to take queues there. Their sessions read nothing until it has.
    pub fn seek(&self, to: impl IntoIterator<Item = Seek>) {
        self.seeks.lock().unwrap_or_else(PoisonError::into_inner).extend(to);
        self.wake_client.notify_one();
    }

    /// What was asked for by [`Shared::seek`].
    pub fn wanted_seeks(&self) -> Vec<Seek> {
        std::mem::take(&mut self.seeks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of a shard before `upto` is delivered. `None`: the group does not know yet. Else the copies that nobody needs any
    /// more, with the sinks that they lie in.
    pub fn settle(&self, shard: &Shard, upto: &Position) -> Option<Vec<(String, ObjectSink)>> {
        let mut ledger = self.ledger();
        if !ledger.settle(shard, upto) {
            return None;
        }
        let unneeded = self.copies.settle(shard, upto, |part, shard| ledger.owns(part, shard));
        drop(ledger);
        if let Some(session) = self.session(shard) {
            session.delivered(upto);
        }
        Some(unneeded)
    }

    /// The brokers answer as they should.
    pub fn well(&self) {
        if self.sessions().halted.is_empty() {
            self.report.well();
        }
    }

    /// Nothing more is read of a partition until somebody decides.
    pub fn halt(&self, part: &Part, found: Found) {
        let is_new = {
            let mut sessions = self.sessions();
            sessions.halted.insert(part.clone());
            let doubt = sessions.doubts.entry(part.clone()).or_default();
            doubt.said.replace(found.clone()).as_ref() != Some(&found)
        };
        self.metrics.halted(self.halted().len());
        self.report.halted(part, &found, is_new);
    }

    /// The topics of partitions that are ours.
    pub fn owned_topics(&self) -> BTreeSet<Arc<str>> {
        let sessions = self.sessions();
        sessions.of_part.keys().chain(&sessions.halted).map(|part| part.topic.clone()).collect()
    }

    /// Partitions that are not read.
    pub fn halted(&self) -> Vec<Part> {
        self.sessions().halted.iter().cloned().collect()
    }

    /// Whether a partition's offset is to be held against the log, and how that was cut.
    pub fn doubt(&self, part: &Part) -> Option<Option<Cut>> {
        self.sessions().doubts.get(part).map(|doubt| doubt.cut)
    }

    /// Whether nothing that was read of a partition is still to be delivered: it may be taken up anew without loss.
    pub fn is_idle(&self, part: &Part) -> bool {
        let Some(session) = self.session_of(part) else { return true };
        let Some(index) = session.parts.iter().position(|other| other == part) else { return true };
        // Of a merged one others are read on all the time.
        session.parts.len() > 1 || self.ledger().committed(part) == session.offsets().get(index).copied()
    }

    /// The topics of what is owned have these ids now. Answers partitions of those that were made again.
    pub fn made_again(&self, now: &BTreeMap<Arc<str>, TopicNow>) -> Vec<Part> {
        let sessions = self.sessions();
        let is_other = |(part, was): &(&Part, &TopicId)| {
            let id = now.get(&part.topic).and_then(|topic| topic.id.as_ref());
            id.is_some_and(|id| id != *was)
        };
        sessions.topics.iter().filter(is_other).map(|(part, _)| part.clone()).collect()
    }

    /// The log was cut. This is remembered for as long as we have the partition, whichever member we are.
    pub fn know_cut(&self, part: &Part, cut: Cut) {
        self.sessions().doubts.entry(part.clone()).or_default().cut = Some(cut);
    }

    /// The offset that is to be read next is not there any more, or may be another record; the broker has `first..end`.
    /// Answers where to go on now.
    pub fn out_of_range(&self, part: &Part, (first, end): (i64, i64)) -> Option<i64> {
        let session = self.session_of(part)?;
        let at = session.offset(part)?;
        // What was written since it was cut is not what was there, wherever it ends now.
        let cut = self.doubt(part).flatten().filter(|cut| cut.is_below(at));
        let cut = cut.map(|Cut { end, .. }| Found::Truncated { at, end });
        let Some(found) = cut.or_else(|| Found::outside(at, (first, end))) else {
            let (pipeline, Part { topic, partition }) = (self.pipeline.as_str(), part);
            tracing::warn!(pipeline, "kafka: {topic}/{partition}: offset {at} was not in the log, and is there again");
            return Some(at);
        };
        match (&found, self.options.on_lost) {
            (Found::Gone { .. }, OnLost::GoOn) => {
                self.report.found(part, &found);
                session.jump(part, first);
                return Some(first);
            }
            (Found::Truncated { end, .. }, _) => {
                // Positions of a shard do not go back: it is taken up anew once what was read of it is delivered.
                self.know_cut(part, Cut { read: at, end: *end });
                self.halt(part, found);
            }
            _ => self.halt(part, found),
        }
        None
    }

    /// Shows what is ours, and how far it is.
    pub fn show(&self, stats: &Stats, speaks: Speaks, ahead_max: AheadMax) {
        if stats.is_connected() {
            self.well();
        }
        self.metrics.halted(self.halted().len());
        let mut owned = Vec::new();
        for session in self.all_sessions() {
            let offsets = session.offsets();
            for (part, read) in session.parts.iter().zip(offsets) {
                let known = stats.of(&part.topic, part.partition);
                let end = known.map(|known| match self.options.isolation {
                    Isolation::ReadCommitted => known.ls_offset,
                    Isolation::ReadUncommitted => known.hi_offset,
                });
                let end = end.filter(|end| *end >= 0);
                if let Some(end) = end {
                    session.ends_at(part, end);
                }
                owned.push(PartitionNow {
                    topic: part.topic.clone(),
                    partition: part.partition,
                    shard: session.shard.clone(),
                    committed: self.ledger().committed(part),
                    read,
                    end,
                    paused: known.is_some_and(|known| known.is_full(ahead_max)),
                });
            }
        }
        self.report.show(self.options.group_of(&self.pipeline).into_owned(), speaks, owned);
    }
}
