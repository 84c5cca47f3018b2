//! What the source, its readers and its client share: the ledger, the sessions, and what is said of them.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;
use rdkafka::error::KafkaError;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::ground::Ground;
use crate::live::InTrouble;
use crate::metrics::{GroupNow, KafkaMetrics, PartitionNow};
use crate::position::{Position, Shard, ShardRange};
use crate::sink::ObjectSink;

use super::ledger::{Ledger, Part};
use super::options::{Isolation, OnLost, Options, Speaks};
use super::plan::{SinkMark, Told, Unreadable, copy_name};
use super::session::{Opening, Session};
use super::stats::Stats;
use super::words::{in_words_with, is_echo};

/// What all of them know.
pub struct Shared {
    pub pipeline: String,
    pub options: Options,
    pub mark: SinkMark,
    pub ground: Ground,
    pub metrics: KafkaMetrics,
    /// Bytes that may lie fetched and unread.
    pub memory_bytes: usize,
    pub given: mpsc::UnboundedSender<Shard>,
    /// The client has something to do.
    pub news: Arc<Notify>,
    /// The ledger has changed.
    pub answered: Notify,
    /// The source is left.
    pub leaving: CancellationToken,
    logged: Mutex<super::words::Logged>,
    ledger: Mutex<Ledger>,
    sessions: Mutex<Sessions>,
    /// Where queues of partitions are to be taken.
    seeks: Mutex<Vec<(Part, i64)>>,
    /// Handover copies that lie in a store: by shard and end.
    copies: Mutex<BTreeMap<(Shard, Position), HandoverCopy>>,
    trouble: InTrouble,
}

#[derive(Default)]
struct Sessions {
    of_shard: BTreeMap<Shard, Arc<Session>>,
    of_part: BTreeMap<Part, Shard>,
    /// Partitions that are not read, and why.
    halted: BTreeMap<Part, String>,
}

/// A handover copy.
struct HandoverCopy {
    name: String,
    sink: ObjectSink,
    /// The session that is to own its partitions when it is settled: else another node may need it.
    of: Arc<Session>,
}

impl Shared {
    /// Nothing is known yet.
    pub fn new(
        pipeline: &str,
        options: &Options,
        sink_url: &str,
        ground: &Ground,
        memory_bytes: usize,
        (metrics, trouble): (KafkaMetrics, InTrouble),
        given: mpsc::UnboundedSender<Shard>,
    ) -> Shared {
        Shared {
            pipeline: pipeline.to_owned(),
            options: options.clone(),
            mark: SinkMark::of(sink_url),
            ground: ground.clone(),
            metrics,
            memory_bytes,
            given,
            news: Arc::default(),
            answered: Notify::new(),
            leaving: CancellationToken::new(),
            logged: Mutex::default(),
            ledger: Mutex::default(),
            sessions: Mutex::default(),
            seeks: Mutex::default(),
            copies: Mutex::default(),
            trouble,
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

    /// Partitions are ours, with what the group knows of them: gives out the shards that they are read as. One shard for
    /// each, or one for all if they are merged.
    ///
    /// `seeking`: nothing is read of them before [`Shared::sought`].
    pub fn take_up(&self, told: Vec<(Part, Option<Told>)>, openings: Vec<Opening>, seeking: bool) {
        let offsets: BTreeMap<Part, i64> =
            openings.iter().map(|opening| (opening.part.clone(), opening.offset)).collect();
        let groups = match self.options.merge {
            true => vec![openings],
            false => openings.into_iter().map(|opening| vec![opening]).collect(),
        };
        let mut new = Vec::with_capacity(groups.len());
        for openings in groups.into_iter().filter(|openings| !openings.is_empty()) {
            let shard = self.new_shard(&openings);
            let of = (self.options.merge, self.options.tombstones, seeking);
            new.push(Arc::new(Session::new(
                shard,
                openings,
                of,
                (self.metrics.clone(), self.ground.clock.clone(), self.news.clone()),
            )));
        }
        let mut told: BTreeMap<Part, Option<Told>> = told.into_iter().collect();
        let mut ledger = self.ledger();
        let mut sessions = self.sessions();
        for session in new {
            for part in &session.parts {
                let start = offsets.get(part).copied().unwrap_or_default();
                ledger.assigned(part.clone(), session.shard.clone(), told.remove(part).flatten(), start);
                sessions.of_part.insert(part.clone(), session.shard.clone());
                sessions.halted.remove(part);
            }
            ledger.begin(&session.shard, &session.begin());
            sessions.of_shard.insert(session.shard.clone(), session.clone());
            let _ = self.given.send(session.shard.clone());
        }
        drop((ledger, sessions));
        self.answered.notify_waiters();
        self.news.notify_one();
    }

    /// `k`, digits of the topic, `p` and the partition (`m`: several), `s` and 48 random bits: no two owners make the same.
    fn new_shard(&self, openings: &[Opening]) -> Shard {
        let random = self.ground.random.u64() & ((1 << 48) - 1);
        let id = match openings {
            [one] if !self.options.merge => {
                let topic = Sha256::digest(one.part.topic.as_bytes());
                let topic: String = topic.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
                format!("k{topic}p{}s{random:012x}", one.part.partition)
            }
            _ => format!("kms{random:012x}"),
        };
        Shard::new(&id).expect("letters and digits are a shard id")
    }

    /// A partition is not ours any more, or not as it was: its session ends. Answers what else was merged into that.
    pub fn lose(&self, part: &Part) -> Vec<Part> {
        let session = {
            let mut sessions = self.sessions();
            sessions.halted.remove(part);
            let shard = sessions.of_part.remove(part);
            shard.and_then(|shard| sessions.of_shard.remove(&shard))
        };
        self.ledger().lost(part);
        if let Some(session) = session {
            session.lose();
            self.copies().retain(|_, copy| copy.of.shard != session.shard);
            self.answered.notify_waiters();
            return session.parts.iter().filter(|other| *other != part).cloned().collect();
        }
        self.answered.notify_waiters();
        Vec::new()
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
    }

    fn copies(&self) -> MutexGuard<'_, BTreeMap<(Shard, Position), HandoverCopy>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handover copy of a range lies in a store, to be removed when its plan is settled.
    pub fn keep_copy(&self, range: &ShardRange, sink: &ObjectSink, of: &Arc<Session>) {
        let name = copy_name(&self.pipeline, &range.shard, &range.start, &range.end);
        let copy = HandoverCopy { name, sink: sink.clone(), of: of.clone() };
        self.copies().insert((range.shard.clone(), range.end.clone()), copy);
    }

    /// Asks the client to take queues there. Their sessions read nothing until it has.
    pub fn seek(&self, to: Vec<(Part, i64)>) {
        self.seeks.lock().unwrap_or_else(PoisonError::into_inner).extend(to);
        self.news.notify_one();
    }

    /// What was asked for by [`Shared::seek`].
    pub fn wanted_seeks(&self) -> Vec<(Part, i64)> {
        std::mem::take(&mut self.seeks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The queue of a partition is where it was asked to be.
    pub fn sought(&self, part: &Part) {
        let shard = self.sessions().of_part.get(part).cloned();
        if let Some(session) = shard.and_then(|shard| self.session(&shard)) {
            session.sought(part);
        }
    }

    /// A token for brokers that want one.
    pub fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        self.options.tokens().ok_or("no source of tokens is configured")?.token()
    }

    /// The configuration of a client that shares the memory between so many partitions.
    pub fn config(&self, speaks: Speaks, partitions: usize) -> ClientConfig {
        self.options.client_config(&self.pipeline, speaks, (self.memory_bytes, partitions))
    }

    /// All of a shard before `upto` is delivered. `None`: the group does not know yet. Else the copies that nobody needs any
    /// more, with the sinks that they lie in.
    pub fn settle(&self, shard: &Shard, upto: &Position) -> Option<Vec<(String, ObjectSink)>> {
        let mut ledger = self.ledger();
        if !ledger.settle(shard, upto) {
            return None;
        }
        let mut copies = self.copies();
        let settled = |(of, end): &(Shard, Position)| of == shard && end <= upto;
        let keys: Vec<_> = copies.keys().filter(|key| settled(key)).cloned().collect();
        let copies = keys.iter().filter_map(|key| copies.remove(key));
        // What was lost meanwhile is settled by others, who may need the copy for it.
        let ours = |copy: &HandoverCopy| copy.of.parts.iter().all(|part| ledger.owns(part, &copy.of.shard));
        Some(copies.filter(ours).map(|copy| (copy.name, copy.sink)).collect())
    }

    /// Something is wrong with the brokers; librdkafka goes on trying.
    pub fn say(&self, error: &KafkaError, reason: &str) {
        if is_echo(error, reason) {
            return;
        }
        let (message, hint) = in_words_with(error, reason);
        let now_ms = self.ground.clock.now_ms();
        self.trouble.again(&message, hint, now_ms, None);
        let due = self.logged.lock().unwrap_or_else(PoisonError::into_inner).is_due(&message, now_ms);
        if let Some(again) = due {
            tracing::warn!(pipeline = self.pipeline, again = (again > 0).then_some(again), hint, "kafka: {message}");
        }
    }

    /// The brokers answer as they should.
    pub fn well(&self) {
        if self.sessions().halted.is_empty() {
            self.trouble.over();
        }
    }

    /// Nothing more is read of a partition until somebody decides.
    fn halt(&self, part: &Part, message: &str, hint: &str) {
        let Part { topic, partition } = part;
        let message = format!("{topic}/{partition}: {message}");
        if self.sessions().halted.insert(part.clone(), message.clone()).as_ref() != Some(&message) {
            tracing::error!(pipeline = self.pipeline, hint, "kafka: {message}; nothing more is read of it");
        }
        self.trouble.again(&message, Some(hint), self.ground.clock.now_ms(), None);
    }

    /// What a former owner has left cannot be followed.
    pub fn cannot_follow(&self, part: &Part, why: &Unreadable) {
        match why {
            Unreadable::Text(text) => {
                let message = format!("the group's metadata is of another version of hydrant, or damaged: `{text}`");
                self.halt(part, &message, "let the version that wrote it finish, or reset the group's offsets");
            }
            Unreadable::OtherSink(mark) => {
                let message = format!("a former owner was delivering to another sink ({mark}, ours is {})", self.mark);
                let hint =
                    "put that sink's url back until it is done, or reset the group's offsets to deliver once more";
                self.halt(part, &message, hint);
            }
        }
    }

    /// The offset that is to be read next is not there any more; the broker has `first..end`. Answers where to go on.
    pub fn out_of_range(&self, part: &Part, first: i64, end: i64) -> Option<i64> {
        let shard = self.sessions().of_part.get(part).cloned()?;
        let session = self.session(&shard)?;
        let index = session.parts.iter().position(|other| other == part)?;
        let at = *session.offsets().get(index)?;
        if (first..=end).contains(&at) {
            // It is there again.
            return Some(at);
        }
        let (message, lost) = match at < first {
            true => (format!("offsets {at} to {first} are gone before they were read"), first - at),
            false => (format!("offset {at} is to be read next, and the log ends at {end}"), 0),
        };
        match self.options.on_lost {
            OnLost::Stop => {
                let hint = "`on_lost: go_on` goes on with the oldest record there is";
                self.halt(part, &message, hint);
                None
            }
            OnLost::GoOn => {
                let Part { topic, partition } = part;
                self.metrics.lost(u64::try_from(lost).unwrap_or(0));
                tracing::error!(
                    pipeline = self.pipeline,
                    "kafka: {topic}/{partition}: {message}; it goes on at {first}"
                );
                if at < first {
                    session.jump(part, first);
                    Some(first)
                } else {
                    None
                }
            }
        }
    }

    /// Shows what is ours, and how far it is.
    pub fn show(&self, stats: &Stats, speaks: Speaks) {
        if stats.is_connected() {
            self.well();
        }
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
                    paused: known.is_some_and(|known| known.fetchq_size >= self.queue_bytes()),
                });
            }
        }
        let protocol = match speaks {
            Speaks::Classic => "classic",
            Speaks::Consumer => "consumer",
        };
        let group = self.options.group_of(&self.pipeline).into_owned();
        let members = Vec::new();
        self.metrics.show(GroupNow { group, member: String::new(), protocol, owned, members });
    }

    /// Bytes that librdkafka fetches ahead of one partition.
    pub fn queue_bytes(&self) -> u64 {
        1 << 20
    }
}
