//! The spool: the durable log that receivers append to, and a source that pipelines read.
//!
//! ```text
//!  receivers -> append -> channel -> writer: group, encode, one durable write -> publish -> answers
//!                                                       |                          |
//!    <stream>/identity              who we are          v                          v
//!    <stream>/<base>-<id>.log       segments of frames ---------------------->  readers, each at its own position
//!    <stream>/tmp-*                 being made; removed at start
//!    <stream>/quarantine/           damaged segments and the gaps they left
//! ```
//! It promises: an answer is given after its records are durable; a record number names one record for ever; what was
//! read once does not vanish in a crash; damage is told, never skipped in silence; nothing goes that a reader needs.

mod damage;
mod frame;
mod identity;
mod log;
mod once;
mod prepare;
mod reader;
mod recent;
mod recover;
mod segment;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, RwLock, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cpu::{off_async, off_thread};
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::position::Shard;
use crate::record::Batch;
use log::Log;
pub use reader::{SpoolReader, SpoolSource};
use writer::Writer;

/// What a receiver hands over: the records of one request, which become durable together or not at all.
#[derive(Debug)]
pub struct Append {
    /// Not empty, and at most [`APPEND_BYTES_MAX`]. The first record's arrival counts for all.
    pub records: Batch,
    /// Set when the producer marks its retries: the same key within the window is stored once.
    pub once: Option<OnceKey>,
}

/// The most that one request may hold: payload bytes plus 4 per record. Receivers' own limits lie below.
pub const APPEND_BYTES_MAX: usize = frame::FRAME_BYTES_MAX - frame::HEADER_BYTES;

/// Names one call of one producer over its retries (a hash of access key, invocation id and body).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OnceKey(pub [u8; 16]);

/// Where the records lie: record numbers `first..first + count`, durable. A retry gets the answer of its original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub first: u64,
    pub count: u32,
}

/// Why nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendError {
    /// The quota or the disk is full: the producer should slow down and try again.
    Full,
    /// The stream takes no more: shutting down, or its disk failed (the text says which).
    Stopped(String),
}

/// Limits of a spool, and what its opener knows about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of one segment file (at most a quarter of `spool_bytes_max` is used); a larger request has one for itself.
    pub segment_bytes: u64,
    /// Bytes of all segments of the stream, above which appends answer `Full`.
    pub spool_bytes_max: u64,
    /// Free bytes on the disk below which appends answer `Full`, so that delivering what is there can go on.
    pub free_bytes_min: u64,
    /// How long a producer's retries are recognised, in milliseconds.
    pub once_window_ms: u64,
    /// All records below this number are known to be durable: the highest position in any checkpoint or outbox. If the
    /// log ends before, that is damage, not a torn tail.
    pub known_durable: u64,
    /// What to do about durable records that the disk does not give back.
    pub on_corruption: OnCorruption,
}

/// The limits of a stream that can change while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`Options::spool_bytes_max`].
    pub spool_bytes_max: u64,
    /// See [`Options::free_bytes_min`].
    pub free_bytes_min: u64,
    /// See [`Options::once_window_ms`]; of calls from now on.
    pub once_window_ms: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            spool_bytes_max: 16 << 30,
            free_bytes_min: 1 << 30,
            once_window_ms: 5 * 60 * 1000,
            known_durable: 0,
            on_corruption: OnCorruption::Stop,
        }
    }
}

/// What to do about durable records that the disk does not give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCorruption {
    /// Stop with a fault that says what is lost; the disk stays as it is.
    #[default]
    Stop,
    /// Record the gap in `quarantine/` and go on behind it.
    Skip,
}

/// Numbers of a stream for the metrics; cheap to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Bytes that the stream's files take.
    pub bytes: u64,
    /// Number of the oldest retained record.
    pub oldest: u64,
    /// All records below this number are durable.
    pub durable: u64,
    /// Groups made durable since the start.
    pub group_commits: u64,
    /// Requests answered with `Full` since the start.
    pub refused: u64,
}

/// One named spool: receivers append, pipelines read, each at its own position. Cheap to clone.
#[derive(Clone)]
pub struct Stream {
    log: Arc<Log>,
    requests: mpsc::Sender<Request>,
    stop: Arc<Notify>,
    /// Whether appends are taken; held by each of them until it is answered.
    gate: Arc<RwLock<bool>>,
    /// Becomes true when the writer is gone.
    done: watch::Receiver<bool>,
}

/// The shard of the stream in folder `dir`, if there is one: for looking up [`Options::known_durable`] before it is opened.
pub fn shard_of(ground: &Ground, dir: &Path) -> Result<Option<Shard>, Fault> {
    Ok(off_async(|| identity::read(&*ground.disk, dir))?.map(identity::shard))
}

impl Stream {
    /// Opens or creates the stream `name` in folder `dir`, recovering what a dead process left; starts its writer.
    ///
    /// On a full disk it opens too: what is durable can be read, appends answer `Full`. A fault is the disk's.
    pub async fn open(ground: &Ground, dir: &Path, name: &str, options: &Options) -> Result<Stream, Fault> {
        let (ground, dir, named, options) = (ground.clone(), dir.to_owned(), name.to_owned(), options.clone());
        let (log, writer) = off_thread(move || {
            let (log, start) = recover::recover(&ground, &dir, &named, &options)?;
            let writer = Writer::new(log.clone(), options.segment_bytes, start);
            Ok::<_, Fault>((log, writer))
        })
        .await
        .map_err(|fault| fault.context(format!("stream {name}")))?;
        if let Some((blame, reason)) = log.failed.borrow().clone() {
            return Err(Fault::new(blame, reason).context(format!("stream {name}")));
        }
        let (requests, received) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (done_sender, done) = watch::channel(false);
        let stop = Arc::new(Notify::new());
        let guard = Done { log: log.clone(), done: done_sender, finished: false };
        let shell = Shell { writer, stop: stop.clone(), preparing: None };
        tokio::spawn(shell.run(received, guard));
        Ok(Stream { log, requests, stop, gate: Arc::new(RwLock::new(true)), done })
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.log.name
    }

    /// The one shard of this stream.
    pub fn shard(&self) -> &Shard {
        &self.log.shard
    }

    /// Appends the records of one request; answers after they are durable.
    ///
    /// Cancelled, the records are appended or not; a retry with the same key finds out. Panics on a request without
    /// records or larger than [`APPEND_BYTES_MAX`]: receivers refuse both.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        assert!(!append.records.is_empty(), "a request has records");
        let bytes = frame::bytes_of(&append.records);
        assert!(bytes <= frame::FRAME_BYTES_MAX, "receivers bound their requests");
        let gate = self.gate.read().await;
        if !*gate {
            return Err(AppendError::Stopped(format!("stream {} is closed", self.name())));
        }
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request { append, bytes, answer }).await.is_err() {
            return Err(self.stopped());
        }
        let answer = answered.await.unwrap_or_else(|_| Err(self.stopped()));
        if matches!(answer, Err(AppendError::Full)) {
            self.log.refused.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Registers `reader` and gives the stream as it reads it. What it has not released stays, also while it is not
    /// running; the same name again is the same reader. A new reader starts at the oldest retained record.
    ///
    /// After a start nobody is registered: register all readers before the first of them releases.
    pub fn source(&self, reader: &str) -> SpoolSource {
        SpoolSource::new(self.log.clone(), reader)
    }

    /// Keeps the records from number `from` on for a reader that is not there now. Removes nothing.
    pub fn hold(&self, reader: &str, from: u64) {
        self.log.hold(reader, from);
    }

    /// Whether records are kept for this reader.
    pub fn has_reader(&self, reader: &str) -> bool {
        self.log.is_registered(reader)
    }

    /// Forgets a reader (its pipeline is gone): it holds nothing back any more.
    pub fn forget(&self, reader: &str) -> Result<(), Fault> {
        off_async(|| self.log.forget(reader))
    }

    /// No more appends will come (standard input at its end): readers end behind the last record.
    ///
    /// Call it after the last append was answered.
    pub fn end(&self) {
        self.log.end();
    }

    /// Takes no more appends (they are answered `Stopped`) until [`Stream::reopen`]. When this returns, those before it are
    /// answered: nothing that lies behind the durable end of now was ever acknowledged.
    pub async fn close(&self) {
        self.set_gate(false).await;
    }

    /// Takes appends again.
    pub async fn reopen(&self) {
        self.set_gate(true).await;
    }

    async fn set_gate(&self, open: bool) {
        // Writing waits for all appends under way, and others for that: not for nothing.
        let is_so = *self.gate.read().await == open;
        if !is_so {
            *self.gate.write().await = open;
        }
    }

    /// The limits of now.
    pub fn limits(&self) -> Limits {
        self.log.limits()
    }

    /// From now on these limits.
    pub fn set_limits(&self, limits: Limits) {
        self.log.set_limits(limits);
    }

    /// Refuses further appends and finishes the group commit under way, with the requests that already wait.
    pub async fn stop(&self) {
        self.stop.notify_one();
        // An error means that the writer's task is gone, which is as well.
        let _ = self.done.clone().wait_for(|done| *done).await;
    }

    /// Why the stream stopped for good: answers when its disk fails, after which nothing is acknowledged any more and the
    /// process should exit. Pends for ever while all is well. Cancel-safe.
    pub async fn failed(&self) -> Fault {
        let mut failed = self.log.failed.subscribe();
        let reason = failed.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some((blame, reason)) => Fault::new(blame, reason).context(format!("stream {}", self.name())),
            // The log, which this stream holds, owns the sender.
            None => std::future::pending().await,
        }
    }

    /// The stream's numbers.
    pub fn stats(&self) -> Stats {
        self.log.stats()
    }

    /// Calls `observe` with the time that each group commit waited for the disk. The first caller wins.
    pub fn on_sync(&self, observe: impl Fn(Duration) + Send + Sync + 'static) {
        let _ = self.log.on_sync.set(Box::new(observe));
    }

    fn stopped(&self) -> AppendError {
        let reason = match &*self.log.failed.borrow() {
            Some((_, reason)) => format!("stream {}: {reason}", self.name()),
            None => format!("stream {} is shutting down", self.name()),
        };
        AppendError::Stopped(reason)
    }
}

/// Requests that may wait for the writer; their bytes are bounded by the receivers' budget.
const REQUESTS_WAITING_MAX: usize = 1024;

/// A group takes no further request from here on, in bytes of frames and in requests.
const GROUP_BYTES_MAX: usize = 4 << 20;
const GROUP_REQUESTS_MAX: usize = 1024;

/// How often a stream without a segment (a full disk) tries to make one.
const RETRY: Duration = Duration::from_secs(1);

struct Request {
    append: Append,
    /// Of its frame.
    bytes: usize,
    answer: oneshot::Sender<Result<Appended, AppendError>>,
}

/// Tells the world that the writer is gone, and that it panicked if it did.
struct Done {
    log: Arc<Log>,
    done: watch::Sender<bool>,
    finished: bool,
}

impl Drop for Done {
    fn drop(&mut self) {
        if !self.finished && std::thread::panicking() {
            self.log.fail(Blame::Bug, "the writer panicked".to_owned());
        }
        self.done.send_replace(true);
    }
}

/// The task around the writer: gathers what waits, no longer, and hands out the answers.
struct Shell {
    writer: Writer,
    stop: Arc<Notify>,
    preparing: Option<JoinHandle<std::io::Result<prepare::Prepared>>>,
}

impl Shell {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut guard: Done) {
        let opened = Instant::now();
        let (mut group, mut answers) = (Vec::new(), Vec::new());
        let mut stopping = false;
        loop {
            let wake = self.next_wake(opened);
            let first = tokio::select! {
                biased;
                () = self.stop.notified(), if !stopping => {
                    // What already waits is still written; then `recv` ends.
                    stopping = true;
                    requests.close();
                    continue;
                }
                received = requests.recv() => received,
                () = tokio::time::sleep_until(wake.unwrap_or(opened)), if wake.is_some() => {
                    off_async(|| {
                        self.writer.begin();
                        self.writer.tidy(since(opened));
                    });
                    continue;
                }
            };
            let Some(first) = first else { break };
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(request) = next {
                let Request { append, bytes: frame_bytes, answer } = request;
                bytes += frame_bytes;
                group.push(append);
                answers.push(answer);
                let more = bytes < GROUP_BYTES_MAX && group.len() < GROUP_REQUESTS_MAX;
                next = if more { requests.try_recv().ok() } else { None };
            }
            self.take_prepared(&guard.log).await;
            let results = off_async(|| self.writer.commit(&group, since(opened)));
            group.clear();
            for (answer, result) in answers.drain(..).zip(results) {
                // Nobody waits any more where the append was cancelled.
                let _ = answer.send(result);
            }
        }
        if let Some(preparing) = self.preparing.take() {
            preparing.abort();
            // The folder may be opened again at once.
            let _ = preparing.await;
        }
        guard.finished = true;
    }

    /// When the writer has something to do without a request.
    fn next_wake(&self, opened: Instant) -> Option<Instant> {
        if self.writer.wants_segment() {
            return Some(Instant::now() + RETRY);
        }
        // Not for every single call that is over: once in a while is enough to free segments.
        let tidy = self.writer.next_tidy_ms()?;
        Some((opened + Duration::from_millis(tidy)).max(Instant::now() + RETRY))
    }

    /// Collects a segment created in advance, and starts to create one when traffic flows.
    async fn take_prepared(&mut self, log: &Log) {
        if let Some(preparing) = self.preparing.take_if(|preparing| preparing.is_finished()) {
            // It is finished, so this does not wait.
            match preparing.await {
                Ok(Ok(prepared)) => self.writer.offer(prepared),
                Ok(Err(error)) => tracing::debug!(stream = %log.name, %error, "spool: no segment in advance"),
                Err(panic) => tracing::error!(stream = %log.name, %panic, "spool: no segment in advance"),
            }
        }
        if self.preparing.is_none()
            && let Some(bytes) = self.writer.wants_prepared()
        {
            let (disk, dir) = (log.ground.disk.clone(), log.dir.clone());
            self.preparing = Some(tokio::spawn(prepare::prepare(disk, dir, bytes, log.limits().free_bytes_min)));
        }
    }
}

fn since(opened: Instant) -> u64 {
    opened.elapsed().as_millis() as u64
}
