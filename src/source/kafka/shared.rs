//! What the source, its readers and its client share: the ledger, the sessions, and what is said of them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::OAuthToken;
use rdkafka::error::KafkaError;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::error::Fault;
use crate::ground::Ground;
use crate::live::InTrouble;
use crate::metrics::{GroupNow, KafkaMetrics, MemberNow, PartitionNow};
use crate::position::{Position, Shard, ShardRange};
use crate::sink::{self, ObjectSink};

use super::begun::Begun;
use super::describe::TopicNow;
use super::ledger::{Ledger, Part};
use super::options::{Isolation, OnLost, Options, Speaks};
use super::plan::{Plan, SinkMark, Told, TopicId, copy_name, is_of_one_partition};
use super::policy::Found;
use super::session::{Opening, Session};
use super::start::Unasked;
use super::stats::Stats;
use super::words::{in_words_with, is_echo};

/// What all of them know.
pub struct Shared {
    pub pipeline: String,
    pub options: Options,
    pub mark: SinkMark,
    pub ground: Ground,
    pub metrics: KafkaMetrics,
    /// What the group has begun, as the sink remembers it.
    pub begun: Begun,
    /// How long chunks are open.
    pub interval: Duration,
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
    seeks: Mutex<Vec<Seek>>,
    /// Handover copies that lie in a store: by shard and end.
    copies: Mutex<BTreeMap<(Shard, Position), HandoverCopy>>,
    orphans: Mutex<Vec<Orphan>>,
    /// As which member the group knows us, and all of its members.
    group: Mutex<(String, Vec<MemberNow>)>,
    trouble: InTrouble,
}

#[derive(Default)]
struct Sessions {
    of_shard: BTreeMap<Shard, Arc<Session>>,
    of_part: BTreeMap<Part, Shard>,
    /// The ids of their topics, where brokers give some.
    topics: BTreeMap<Part, TopicId>,
    /// Partitions that are not read, and why.
    halted: BTreeMap<Part, Found>,
    /// Those whose offsets are looked at twice, with where the log was found to end if it was too short.
    suspects: BTreeMap<Part, Option<i64>>,
    /// What was said of partitions last.
    said: BTreeMap<Part, Found>,
}

/// Where the queue of a session's partition is to be taken.
pub struct Seek {
    pub session: Arc<Session>,
    pub part: Part,
    pub offset: i64,
}

/// A handover copy that may be nobody's: somebody needs it if the group knows its plan, else nobody does.
#[derive(Clone)]
pub struct Orphan {
    pub name: String,
    pub sink: ObjectSink,
    /// The partitions that its plan is of, as far as we know.
    pub parts: Vec<Part>,
    /// It may be of others too: of a merged shard an heir knows only its own.
    pub may_be_of_any: bool,
    shard: Shard,
    end: Position,
}

impl Orphan {
    /// Whether it is the copy of this plan.
    pub fn is_of(&self, plan: &Plan) -> bool {
        plan.shard == self.shard && plan.end == self.end
    }
}

/// A handover copy.
struct HandoverCopy {
    name: String,
    sink: ObjectSink,
    /// The session that is to own its partitions when it is settled: else another node may need it.
    of: Arc<Session>,
}

impl HandoverCopy {
    fn is_merged_by_another(&self, shard: &Shard) -> bool {
        *shard != self.of.shard && !is_of_one_partition(shard)
    }

    fn orphan(self, shard: Shard, end: Position) -> Orphan {
        let may_be_of_any = self.is_merged_by_another(&shard);
        Orphan { name: self.name, sink: self.sink, parts: self.of.parts.clone(), may_be_of_any, shard, end }
    }
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
        Shared {
            pipeline: pipeline.to_owned(),
            options: options.clone(),
            mark: SinkMark::of(sink_url),
            ground: ground.clone(),
            metrics,
            begun: Begun::new(&options.group_of(pipeline), sink),
            interval,
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
            orphans: Mutex::default(),
            group: Mutex::default(),
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
    pub fn take_up(&self, told: Vec<(Part, Option<Told>)>, openings: Vec<Opening>) {
        let offsets: BTreeMap<Part, i64> =
            openings.iter().map(|opening| (opening.part.clone(), opening.offset)).collect();
        let groups = match self.options.merge {
            true => vec![openings],
            false => openings.into_iter().map(|opening| vec![opening]).collect(),
        };
        let mut new = Vec::with_capacity(groups.len());
        for openings in groups.into_iter().filter(|openings| !openings.is_empty()) {
            let shard = self.new_shard(&openings);
            let of = (self.options.merge, self.options.tombstones);
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
                sessions.suspects.remove(part);
                sessions.said.remove(part);
            }
            ledger.begin(&session.shard, &session.begin());
            sessions.of_shard.insert(session.shard.clone(), session.clone());
            let _ = self.given.send(session.shard.clone());
        }
        drop((ledger, sessions));
        self.answered.notify_waiters();
        self.news.notify_one();
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
        self.begun.begin(&parts, &|trouble| self.say_of_sink(trouble)).await
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
            self.answered.notify_waiters();
            return Vec::new();
        };
        session.parts.iter().for_each(|part| self.ledger().lost(part));
        session.lose();
        self.orphan_copies(&session);
        self.answered.notify_waiters();
        session.parts.iter().filter(|other| *other != part).cloned().collect()
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

    fn copies(&self) -> MutexGuard<'_, BTreeMap<(Shard, Position), HandoverCopy>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handover copy of a range lies in a store, or is about to: it is to be removed when its plan is settled.
    pub fn keep_copy(&self, range: &ShardRange, sink: &ObjectSink, of: &Arc<Session>) {
        let name = copy_name(&self.pipeline, &range.shard, &range.start, &range.end);
        let copy = HandoverCopy { name, sink: sink.clone(), of: of.clone() };
        self.copies().insert((range.shard.clone(), range.end.clone()), copy);
        if of.is_lost() {
            self.orphan_copies(of);
        }
    }

    /// Copies of a lost session: those that it has made may be nobody's; what it had inherited the next owner looks after.
    fn orphan_copies(&self, session: &Session) {
        let mut copies = self.copies();
        let of_it = copies.extract_if(.., |_, copy| copy.of.shard == session.shard);
        let made = of_it.filter(|((shard, _), _)| *shard == session.shard);
        let orphans: Vec<Orphan> = made.map(|((shard, end), copy)| copy.orphan(shard, end)).collect();
        drop(copies);
        self.put_back_orphans(orphans);
    }

    /// Handover copies that may be nobody's.
    pub fn take_orphans(&self) -> Vec<Orphan> {
        std::mem::take(&mut self.orphans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// These may be nobody's: the group is to be asked.
    pub fn put_back_orphans(&self, orphans: Vec<Orphan>) {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).extend(orphans);
    }

    /// Removes a handover copy that nobody needs any more.
    pub async fn remove_copy(&self, name: &str, sink: &ObjectSink) {
        if let Err(error) = sink.remove(name).await {
            tracing::warn!(pipeline = self.pipeline, "kafka: a handover copy stays behind: {error}");
        }
    }

    /// Asks the client to take queues there. Their sessions read nothing until it has.
    pub fn seek(&self, to: impl IntoIterator<Item = Seek>) {
        self.seeks.lock().unwrap_or_else(PoisonError::into_inner).extend(to);
        self.news.notify_one();
    }

    /// What was asked for by [`Shared::seek`].
    pub fn wanted_seeks(&self) -> Vec<Seek> {
        std::mem::take(&mut self.seeks.lock().unwrap_or_else(PoisonError::into_inner))
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
        let settled = |(of, end): &(Shard, Position)| of == shard && end <= upto;
        let mut copies = self.copies();
        let copies: Vec<_> = copies.extract_if(.., |key, _| settled(key)).collect();
        // What was lost meanwhile is settled by others, who may need the copy for it; so may other heirs.
        let ours = |copy: &HandoverCopy| {
            !copy.is_merged_by_another(shard) && copy.of.parts.iter().all(|part| ledger.owns(part, &copy.of.shard))
        };
        let (ours, others): (Vec<_>, Vec<_>) = copies.into_iter().partition(|(_, copy)| ours(copy));
        drop(ledger);
        self.put_back_orphans(others.into_iter().map(|((shard, end), copy)| copy.orphan(shard, end)).collect());
        if let Some(session) = self.session(shard) {
            session.delivered(upto);
        }
        Some(ours.into_iter().map(|(_, copy)| (copy.name, copy.sink)).collect())
    }

    /// Something is wrong with the brokers; librdkafka goes on trying.
    pub fn say(&self, error: &KafkaError, reason: &str) {
        let now_ms = self.ground.clock.now_ms();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if is_echo(error, reason) && logged.is_told(now_ms) {
            return;
        }
        let (message, hint) = in_words_with(error, reason);
        self.trouble.again(&message, hint, now_ms, None);
        if let Some(again) = logged.is_due(&message, now_ms) {
            tracing::warn!(pipeline = self.pipeline, again = (again > 0).then_some(again), hint, "kafka: {message}");
        }
    }

    /// The brokers answer as they should.
    pub fn well(&self) {
        if self.sessions().halted.is_empty() {
            self.trouble.over();
        }
    }

    /// The sink does not take what is to be remembered of the group.
    pub fn say_of_sink(&self, trouble: &sink::Trouble) {
        self.trouble.again(&trouble.message, trouble.hint, self.ground.clock.now_ms(), None);
        tracing::warn!(pipeline = self.pipeline, hint = trouble.hint, "kafka: {}", trouble.message);
    }

    /// The sink, or brokers, did not say where partitions stand; they are asked again.
    pub fn say_unasked(&self, why: &Unasked) {
        match why {
            Unasked::Brokers(error) => self.say(error, ""),
            Unasked::Sink(fault) => {
                let message = format!("whether the group has begun: {fault}");
                self.trouble.again(&message, None, self.ground.clock.now_ms(), None);
                tracing::warn!(pipeline = self.pipeline, "kafka: {message}");
            }
        }
    }

    /// Something is not as it was left, and the policy goes on.
    pub fn found(&self, part: &Part, found: &Found) {
        let Part { topic, partition } = part;
        let (pipeline, message) = (self.pipeline.as_str(), found.in_words(&self.mark));
        self.metrics.found(found.label());
        self.metrics.lost(found.lost());
        match found.is_usual() {
            true => tracing::info!(pipeline, "kafka: {topic}/{partition}: {message}"),
            false => tracing::error!(pipeline, "kafka: {topic}/{partition}: {message}; it goes on"),
        }
    }

    /// Nothing more is read of a partition until somebody decides.
    pub fn halt(&self, part: &Part, found: Found) {
        let Part { topic, partition } = part;
        let (message, hint) = (format!("{topic}/{partition}: {}", found.in_words(&self.mark)), found.hint());
        let is_new = {
            let mut sessions = self.sessions();
            sessions.halted.insert(part.clone(), found.clone());
            sessions.suspects.entry(part.clone()).or_default();
            sessions.said.insert(part.clone(), found.clone()).as_ref() != Some(&found)
        };
        self.metrics.halted(self.halted().len());
        if is_new {
            self.metrics.found(found.label());
            tracing::error!(pipeline = self.pipeline, hint, "kafka: {message}; nothing more is read of it");
        }
        self.trouble.again(&message, Some(hint), self.ground.clock.now_ms(), None);
    }

    /// The topics of partitions that are ours.
    pub fn owned_topics(&self) -> BTreeSet<Arc<str>> {
        let sessions = self.sessions();
        sessions.of_part.keys().chain(sessions.halted.keys()).map(|part| part.topic.clone()).collect()
    }

    /// Partitions that are not read.
    pub fn halted(&self) -> Vec<Part> {
        self.sessions().halted.keys().cloned().collect()
    }

    /// Whether a partition's offset is to be held against the log, and where that was found to end.
    pub fn suspect(&self, part: &Part) -> Option<Option<i64>> {
        self.sessions().suspects.get(part).copied()
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

    /// The offset that is to be read next is not there any more, or may be another record; the broker has `first..end`.
    /// Answers where to go on now.
    pub fn out_of_range(&self, part: &Part, (first, end): (i64, i64)) -> Option<i64> {
        let session = self.session_of(part)?;
        let index = session.parts.iter().position(|other| other == part)?;
        let at = *session.offsets().get(index)?;
        if (first..=end).contains(&at) {
            let (pipeline, Part { topic, partition }) = (self.pipeline.as_str(), part);
            tracing::warn!(pipeline, "kafka: {topic}/{partition}: offset {at} was not in the log, and is there again");
            return Some(at);
        }
        let found = if at < first { Found::Gone { at, first } } else { Found::Truncated { at, end } };
        match (&found, self.options.on_lost) {
            (Found::Gone { .. }, OnLost::GoOn) => {
                self.found(part, &found);
                session.jump(part, first);
                return Some(first);
            }
            (Found::Truncated { .. }, _) => {
                // Positions of a shard do not go back: it is taken up anew once what was read of it is delivered.
                self.sessions().suspects.insert(part.clone(), Some(end));
                self.halt(part, found);
            }
            _ => self.halt(part, found),
        }
        None
    }

    /// As which member the group knows us, and who is in it.
    pub fn know_group(&self, member: String, members: Vec<MemberNow>) {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = (member, members);
    }

    /// Shows what is ours, and how far it is.
    pub fn show(&self, stats: &Stats, speaks: Speaks) {
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
                    paused: known.is_some_and(|known| known.fetchq_size >= self.queue_bytes()),
                });
            }
        }
        let protocol = match speaks {
            Speaks::Classic => "classic",
            Speaks::Consumer => "consumer",
        };
        let group = self.options.group_of(&self.pipeline).into_owned();
        let (member, members) = self.group.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.metrics.show(GroupNow { group, member, protocol, owned, members });
    }

    /// Bytes that librdkafka fetches ahead of one partition.
    pub fn queue_bytes(&self) -> u64 {
        1 << 20
    }
}
