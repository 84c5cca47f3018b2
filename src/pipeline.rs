//! READ THIS FIRST: a record's whole way, on one page.
//!
//! ```text
//! source -> read -> transform -> chunk (route, encode) -> seal: the promise -> put -> checkpoint -> release
//!           \_______________ fill ___________________________/  \______________ keep _______________/
//! ```
//! [`fill`] turns a shard into promises and never waits for the sink, except when the outbox is full. [`keep`] keeps one
//! promise, and doing it twice is doing it once: it is also what a start does with the promises of a dead process.
//! Three rules hold the protocol up, and `tests/it/model.rs` and `tests/sabotage` break them to see that they matter:
//! read on from the end of the last promise, not from the checkpoint; remove a promise only after the checkpoint has
//! durably passed it; the checkpoint is the unbroken run of delivered ranges, never the highest one.
//!
//! Where nodes share a source, a copy of the promise and a claim to it come before its objects ([`Way::hand_over`]), and a
//! new owner first keeps what the former one has left ([`take_over`]).

mod leave;
mod transforms;
mod waiting;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::budget::Budget;
use crate::checkpoint::Checkpoint;
use crate::chunk::{Chunk, Cut, Recipe};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::live::Delivered;
use crate::metrics::{PipelineMetrics, Progress};
use crate::outbox::{Outbox, Sealed};
use crate::position::{Position, Shard};
use crate::sink::{ObjectSink, Upload};
use crate::source::Source;

pub use leave::{Leave, Leaving};
use transforms::Piece;
pub use transforms::Transforms;
use waiting::{Blocked, Leaver, Next, Pause};
pub use waiting::{OutboxRoom, Room, outbox_bytes_max};

/// Objects of one promise that are put at the same time.
const PUTS_AT_ONCE: usize = 16;
/// How long promises already uploading may go on after a stop or a cut; what remains goes out at the next start.
const GRACE: Duration = Duration::from_secs(5);
/// How long open chunks may take to be ended and promised at a cut; what remains is read again by the next revision.
const CUT_TIME_MAX: Duration = Duration::from_secs(3);

/// A pipeline as it runs: its stations, in the order of the data.
pub struct Way {
    pub name: String,
    pub source: Box<dyn Source>,
    pub transforms: Transforms,
    pub recipe: Arc<Recipe>,
    pub outbox: Outbox,
    /// By URL: the sink of the recipe, and those that older promises were made to.
    pub sinks: BTreeMap<String, ObjectSink>,
    pub checkpoint: Checkpoint<Promised>,
    pub room: OutboxRoom,
    /// Whether what a dead process left half-done in a folder is removed: only the first revision of a process may, as an
    /// upload that a cut has called off may still be at work there.
    pub sweeps: bool,
    pub ground: Ground,
    pub budget: Budget,
    pub metrics: PipelineMetrics,
    pub progress: Progress,
}

/// A promise, with the room that it takes in the outbox.
pub type Promised = (Sealed, Room);

type Tasks = JoinSet<Result<(), Fault>>;
type Promises = mpsc::UnboundedSender<Promised>;
/// Where shards with promises are to be read on: behind the last of them.
type ReadOn = BTreeMap<Shard, Position>;

/// Runs a pipeline until its source has ended and everything is delivered, or until it is told to leave. A fault ends it;
/// the next process, or the next revision, goes on where it was. When this returns, nothing of it is at work any more.
pub async fn run(way: Arc<Way>, leaving: Leaving) -> Result<(), Fault> {
    let (mut filling, mut keeping) = (JoinSet::new(), JoinSet::new());
    let ended = read_and_keep(&way, &leaving, &mut filling, &mut keeping).await;
    filling.shutdown().await;
    keeping.shutdown().await;
    way.source.leave().await;
    ended
}

async fn read_and_keep(
    way: &Arc<Way>,
    leaving: &Leaving,
    filling: &mut Tasks,
    keeping: &mut Tasks,
) -> Result<(), Fault> {
    let (promises, mut promised) = mpsc::unbounded_channel();
    let read_on = resume(way, &promises)?;
    let mut reading = std::pin::pin!(read(way, read_on, promises, leaving, filling));
    let mut reading_ended = false;
    while !(reading_ended && (leaving.is(Leave::Cut) || promised.is_empty() && keeping.is_empty())) {
        tokio::select! {
            biased;
            () = leaving.until(Leave::Cut), if reading_ended => {}
            Some(done) = keeping.join_next() => finished(done)?,
            Some((sealed, room)) = promised.recv() => {
                keeping.spawn(keep(way.clone(), sealed, room));
            }
            ended = &mut reading, if !reading_ended => {
                ended?;
                reading_ended = true;
            }
        }
    }
    let uploading = async {
        while let Some(done) = keeping.join_next().await {
            finished(done)?;
        }
        Ok(())
    };
    // A sink that takes nothing would only keep the next revision waiting.
    let in_vain = way.metrics.blocked.get() > 0 && !leaving.is(Leave::Stop);
    let grace = if in_vain { Duration::ZERO } else { GRACE };
    tokio::time::timeout(grace, uploading).await.unwrap_or(Ok(()))
}

/// Reads every shard of the source, each in its own task, until all have ended or the way is left.
async fn read(
    way: &Arc<Way>,
    read_on: ReadOn,
    promises: Promises,
    leaving: &Leaving,
    filling: &mut Tasks,
) -> Result<(), Fault> {
    let mut shards = std::pin::pin!(stream::try_unfold(Pause::default(), |pause| next_shard(way, leaving, pause)));
    let mut all_known = false;
    while !(leaving.is(Leave::Cut) || all_known && filling.is_empty()) {
        tokio::select! {
            biased;
            () = leaving.until(Leave::Cut) => {}
            Some(done) = filling.join_next() => finished(done)?,
            shard = shards.try_next(), if !all_known => match shard? {
                Some(shard) => {
                    let from = read_on.get(&shard).cloned().or_else(|| way.checkpoint.of(&shard));
                    filling.spawn(fill(way.clone(), shard, from, promises.clone(), leaving.clone()));
                }
                None => all_known = true,
            },
            // What is not known by now is owed to nobody.
            () = leaving.until(Leave::Drain), if !all_known => all_known = true,
        }
    }
    let cutting = async {
        while let Some(done) = filling.join_next().await {
            finished(done)?;
        }
        Ok(())
    };
    let cut = tokio::select! {
        biased;
        () = leaving.until(Leave::Stop) => Ok(()),
        cut = tokio::time::timeout(CUT_TIME_MAX, cutting) => cut.unwrap_or(Ok(())),
    };
    filling.shutdown().await;
    cut
}

/// The next shard, for as long as it takes to ask for it.
async fn next_shard(way: &Way, leaving: &Leaving, mut pause: Pause) -> Result<Option<(Shard, Pause)>, Fault> {
    loop {
        match way.source.next_shard().await {
            Err(fault) if fault.time_may_mend() => pause.after(way, None, &fault, leaving).await,
            shard => return Ok(shard?.map(|shard| (shard, Pause::default()))),
        }
    }
}

/// Takes up the promises of a dead process; answers where each of their shards is to be read on.
fn resume(way: &Way, promises: &Promises) -> Result<ReadOn, Fault> {
    let mut read_on = ReadOn::new();
    for (shard, chunks) in off_async(|| way.outbox.pending())? {
        if shard.is_session() {
            // What was planned of it the group knows, and the store has it.
            chunks.iter().try_for_each(|sealed| off_async(|| way.outbox.remove(sealed.range())))?;
            continue;
        }
        for sealed in chunks {
            let range = sealed.range();
            way.checkpoint.begin(&shard, &range.start);
            let delivered = way.checkpoint.of(&shard).unwrap_or_else(|| range.start.clone());
            if range.end <= delivered {
                off_async(|| way.outbox.remove(range))?;
                continue;
            }
            let promised = read_on.get(&shard).unwrap_or(&delivered).clone();
            if range.start > promised {
                return Err(Fault::new(
                    Blame::Disk,
                    format!("outbox: the promise of {shard} from {promised} is missing"),
                ));
            }
            let end = range.end.clone();
            let sink = way.sink_of(&sealed)?;
            for object in sealed.objects().iter().filter(|_| way.sweeps) {
                let _ = sink.sweep(&object.name);
            }
            way.progress.begin(&shard, &delivered, &end);
            way.progress.update(&shard, |at| (at.read, at.sealed) = (end.clone(), end.clone()));
            read_on.insert(shard.clone(), end);
            let room = way.room.take_over(sealed.file_bytes());
            let _ = promises.send((sealed, room));
        }
    }
    Ok(read_on)
}

/// Reads a shard for as long as it is ours.
async fn fill(
    way: Arc<Way>,
    shard: Shard,
    from: Option<Position>,
    promises: Promises,
    leaving: Leaving,
) -> Result<(), Fault> {
    tokio::select! {
        biased;
        () = way.source.lost(&shard) => way.forget(&shard),
        filled = fill_all(&way, &shard, from, &promises, &leaving) => filled,
    }
}

/// Reads a shard from `from` to its end, chunk by chunk, and promises each chunk.
async fn fill_all(
    way: &Way,
    shard: &Shard,
    mut from: Option<Position>,
    promises: &Promises,
    leaving: &Leaving,
) -> Result<(), Fault> {
    let mut pause = Pause::default();
    while !leaving.is(Leave::Cut) {
        match fill_from(way, shard, &mut from, promises, &mut pause, leaving).await {
            Err(fault) if fault.time_may_mend() => pause.after(way, Some(shard), &fault, leaving).await,
            ended => return ended,
        }
    }
    Ok(())
}

async fn fill_from(
    way: &Way,
    shard: &Shard,
    from: &mut Option<Position>,
    promises: &Promises,
    pause: &mut Pause,
    leaving: &Leaving,
) -> Result<(), Fault> {
    take_over(way, shard).await?;
    let opened = way.source.open(shard, from.as_ref()).await?;
    let reader = way.transforms.reader(opened, &way.budget, pause.is_after_fault());
    let mut reader = Leaver::new(reader, leaving);
    let mut at = from.insert(reader.position()).clone();
    way.checkpoint.begin(shard, &at);
    way.progress.begin(shard, &at, &at);
    if let Some(delivered) = way.checkpoint.of(shard) {
        // The process that moved the checkpoint may not have lived to say so.
        way.source.release(shard, &delivered).await?;
    }
    while let Next::Piece(first) = reader.next().await? {
        pause.reads();
        let mut chunk = off_async(|| way.chunk(shard, &at)).map_err(Fault::of_io)?;
        let (cut, fault) = fill_chunk(way, shard, &mut reader, *first, &mut chunk, pause.chunk_bytes_max()).await?;
        if cut == Cut::Reload && leaving.is(Leave::Stop) {
            // Read again at the next start: a stop makes no small objects.
            return Ok(());
        }
        let finished = off_async(|| chunk.finish()).map_err(Fault::of_io)?;
        let Some(room) = way.room.wait_or_leave(finished.bytes(), leaving, &way.metrics).await else { return Ok(()) };
        let sealed = off_async(|| finished.seal()).map_err(Fault::of_io)?;
        at = from.insert(sealed.range().end.clone()).clone();
        way.progress.update(shard, |positions| positions.sealed = at.clone());
        way.metrics.cut(cut.as_str());
        let _ = promises.send((sealed, room));
        match fault {
            Some(fault) => return Err(fault),
            None => pause.over(),
        }
    }
    way.progress.end(shard);
    Ok(())
}

/// Keeps the promises that former owners of a shard have left.
async fn take_over(way: &Way, shard: &Shard) -> Result<(), Fault> {
    while let Some(sealed) = way.source.inherit(shard, &way.outbox, way.sink()?).await? {
        // Read through its open file: the store has it for whoever comes after us, and nothing stays if we are cut off here.
        off_async(|| way.outbox.remove(sealed.range()))?;
        way.put_all(&sealed).await?;
        way.source.release(&sealed.range().shard, &sealed.range().end).await?;
    }
    Ok(())
}

/// Reads, transforms and encodes until something cuts the chunk; answers what, and the fault if it was that.
async fn fill_chunk(
    way: &Way,
    shard: &Shard,
    reader: &mut Leaver<'_>,
    first: Piece,
    chunk: &mut Chunk,
    bytes_max: u64,
) -> Result<(Cut, Option<Fault>), Fault> {
    let mut piece = first;
    loop {
        let Piece { transformed, end, is_last } = piece;
        off_async(|| chunk.push(transformed, end.clone())).map_err(Fault::of_io)?;
        if !is_last {
            piece = reader.rest().await?.ok_or_else(half_a_read)?;
            continue;
        }
        way.progress.update(shard, |positions| (positions.read, positions.tail) = (end, reader.tail()));
        if let Some(cut) = chunk.due() {
            return Ok((cut, None));
        }
        if chunk.bytes() >= bytes_max {
            return Ok((Cut::Space, None));
        }
        tokio::select! {
            biased;
            next = reader.next() => match next {
                Ok(Next::Piece(next)) => piece = *next,
                Ok(Next::End) => return Ok((Cut::End, None)),
                Ok(Next::Leave) => return Ok((Cut::Reload, None)),
                // What was good goes out; the fault comes again behind it.
                Err(fault) => return Ok((Cut::Fault, Some(fault))),
            },
            () = tokio::time::sleep_until(chunk.deadline()) => return Ok((Cut::Interval, None)),
        }
    }
}

/// Keeps one promise, for as long as its shard is ours.
async fn keep(way: Arc<Way>, sealed: Sealed, room: Room) -> Result<(), Fault> {
    let range = sealed.range().clone();
    tokio::select! {
        biased;
        () = way.source.lost(&range.shard) => {
            off_async(|| way.outbox.remove(&range))?;
            way.forget(&range.shard)
        }
        kept = deliver(&way, sealed, room) => kept,
    }
}

/// Puts the objects of a promise, moves the checkpoint, removes the promise, tells the source.
async fn deliver(way: &Way, sealed: Sealed, room: Room) -> Result<(), Fault> {
    way.hand_over(&sealed).await?;
    way.put_all(&sealed).await?;
    let range = sealed.range().clone();
    let passed = off_async(|| {
        let passed = way.checkpoint.advance(&range, (sealed, room))?;
        for (range, _) in &passed {
            way.outbox.remove(range)?;
        }
        if way.checkpoint.of(&range.shard).is_none() {
            // It was lost while its last object was put.
            way.outbox.remove(&range)?;
        }
        Ok::<_, Fault>(passed)
    })?;
    let Some((last, _)) = passed.last() else { return Ok(()) };
    way.progress.update(&last.shard, |at| at.delivered = last.end.clone().max(at.delivered.clone()));
    way.source.release(&last.shard, &last.end).await?;
    way.progress.update(&last.shard, |at| at.released = last.end.clone().max(at.released.clone()));
    Ok(())
}

impl Way {
    fn chunk(&self, shard: &Shard, start: &Position) -> io::Result<Chunk> {
        Chunk::open(&self.recipe, &self.outbox, &self.ground, &self.budget, &self.metrics, (shard, start))
    }

    /// A shard is another's now: nothing of it is counted or kept any more.
    fn forget(&self, shard: &Shard) -> Result<(), Fault> {
        self.progress.lose(shard);
        self.checkpoint.forget(shard).iter().try_for_each(|(range, _)| off_async(|| self.outbox.remove(range)))
    }

    /// The sink of new chunks.
    fn sink(&self) -> Result<&ObjectSink, Fault> {
        let lost = || Fault::new(Blame::Bug, format!("sink {} is not open", self.recipe.sink));
        self.sinks.get(&self.recipe.sink).ok_or_else(lost)
    }

    fn sink_of(&self, sealed: &Sealed) -> Result<&ObjectSink, Fault> {
        let lost = || Fault::new(Blame::Sink, format!("{} was promised to {}", sealed.range(), sealed.sink()));
        self.sinks.get(sealed.sink()).ok_or_else(lost)
    }

    /// Before anything of it is to be seen: whoever may own the shard after us can complete what we begin.
    async fn hand_over(&self, sealed: &Sealed) -> Result<(), Fault> {
        let sink = self.sink_of(sealed)?;
        let Some(copy) = self.source.begin_copy(sealed.range(), sink) else { return Ok(()) };
        let read = |offset, len| off_async(|| sealed.read_file(offset, len));
        let crc32c = off_async(|| sealed.file_crc32c()).map_err(Fault::of_io)?;
        let upload = Upload { name: &copy, len: sealed.file_bytes(), crc32c, read: &read };
        let blocked = Blocked::new(&self.name, &self.metrics, &self.ground.clock);
        sink.put(&upload, &|trouble| blocked.again(trouble)).await?;
        self.source.claim(sealed).await
    }

    /// Puts all objects of a promise, for as long as it takes.
    async fn put_all(&self, sealed: &Sealed) -> Result<(), Fault> {
        let puts = (0..sealed.objects().len()).map(|object| self.put(sealed, object));
        stream::iter(puts).buffer_unordered(PUTS_AT_ONCE).try_collect::<()>().await?;
        self.say_delivered(sealed);
        Ok(())
    }

    /// Puts one object, for as long as it takes.
    async fn put(&self, sealed: &Sealed, object: usize) -> Result<(), Fault> {
        let object = &sealed.objects()[object];
        let sink = self.sink_of(sealed)?;
        let read = |offset, len| off_async(|| sealed.read(object, offset, len));
        let upload = Upload { name: &object.name, len: object.len, crc32c: object.crc32c, read: &read };
        let blocked = Blocked::new(&self.name, &self.metrics, &self.ground.clock);
        sink.put(&upload, &|trouble| blocked.again(trouble)).await?;
        let (at, rows, bytes) = (sink.location(&object.name), object.rows, object.len);
        tracing::debug!(pipeline = self.name, rows, bytes, object = at, "delivered");
        self.metrics.delivered(Delivered { object: at, rows, bytes, at_ms: self.ground.clock.now_ms() });
        Ok(())
    }

    /// One line for a kept promise: how much, and where its first object is.
    fn say_delivered(&self, sealed: &Sealed) {
        let (objects, first) = (sealed.objects(), sealed.objects().first());
        let rows: u64 = objects.iter().map(|object| object.rows).sum();
        let bytes: u64 = objects.iter().map(|object| object.len).sum();
        let location = |name: &str| self.sinks.get(sealed.sink()).map(|sink| sink.location(name));
        let first = first.and_then(|object| location(&object.name));
        tracing::info!(pipeline = self.name, rows, bytes, objects = objects.len(), first, "delivered");
    }
}

fn half_a_read() -> Fault {
    Fault::new(Blame::Bug, "a read has ended before its last piece")
}

/// A task's own result; a panic is a bug's fault.
pub fn finished(done: Result<Result<(), Fault>, JoinError>) -> Result<(), Fault> {
    match done {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => Ok(()),
        Err(panic) => Err(Fault { blame: Blame::Bug, error: panic.into() }),
    }
}
