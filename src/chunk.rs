//! A chunk: the records of one range on their way into objects, and what cuts it.
//!
//! Each record is routed to the object of its prefix. Where much comes for a prefix (it is *hot*), and where there is only one,
//! records are encoded at once; elsewhere they are parked, and encoded when they make a whole object or the chunk is cut. What
//! cannot be routed or encoded becomes a line of an error object of the same chunk.
//!
//! An object that reaches its size cuts the chunk, unless that would make small objects of other prefixes: then it is
//! closed, and its prefix begins another one. So in quiet times only the interval makes small objects; [`Cut`] lists what else
//! does. Any cut is a correct cut.

mod limits;
mod object;
mod parked;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tokio::time::Instant;

use crate::budget::{Budget, Held};
use crate::cpu::spread;
use crate::encode::{About, Format};
use crate::error::{Reason, RejectedBy};
use crate::ground::Ground;
use crate::live::{self, OpenChunk};
use crate::metrics::PipelineMetrics;
use crate::naming::{ErrorPrefix, ObjectName, Prefix, Scratch};
use crate::outbox::{Draft, DraftObject, Named, Outbox, Sealed};
use crate::position::{Position, Shard, ShardRange};
use crate::record::Batch;
use crate::rejected;
use crate::transform::{Rejected, Transformed};

pub use limits::{Cut, Limits};
use object::{Closed, Open, Ratio, Small};
use parked::{Lot, Parked};

/// How chunks of a pipeline are made, as configured.
pub struct Recipe {
    pub pipeline: String,
    pub format: Arc<dyn Format>,
    pub prefix: Prefix,
    pub error_prefix: ErrorPrefix,
    /// The sink's URL without secrets.
    pub sink: String,
    pub limits: Limits,
}

/// Prefixes that one chunk may have open. (Firehose gives 5,000 at the most.) That many cut it; further ones in the same
/// batch are set aside.
pub const PREFIXES_MAX: usize = 100_000;

/// Objects that one chunk may have closed; that many cut it. With those that are open, and what one batch closes, their
/// names stay below what a promise's index may hold.
pub const CLOSED_MAX: usize = 50_000;

/// Bytes of one chunk on our disk, encoded and parked; more cuts it.
pub const CHUNK_BYTES_MAX: u64 = 4 << 30;

/// An object below this part of its size is a small one.
const SMALL_PART: u64 = 4;
/// Of the parked bytes, what has to be for one object to make it hot; so many can be.
const ACTIVE_OBJECTS_MAX: usize = 32;
/// What an encoder holds to be worth a flush, in bytes.
const FLUSH_BYTES_MIN: usize = 256 << 10;
/// About what it costs to know an open object, in bytes of memory.
const OPEN_BYTES: usize = 384;
/// Raw bytes that are encoded for one object by one core in memory; a larger one streams.
const SMALL_RAW_BYTES: u64 = 8 << 20;
/// An object of parked records is encoded in about so many steps.
const STEPS_PER_OBJECT: u64 = 16;
/// Raw bytes from which on an object that is not complete tells how large others become.
const RATIO_RAW_BYTES_MIN: u64 = 256 << 10;
/// Raw bytes of one step of cores, and of a core's part of it, when small objects are encoded.
const STEP_RAW_BYTES: u64 = 32 << 20;
const PART_RAW_BYTES: u64 = 1 << 20;

/// An open chunk.
pub struct Chunk {
    recipe: Arc<Recipe>,
    ground: Ground,
    metrics: PipelineMetrics,
    seen: OpenChunk,
    shard: Shard,
    draft: Draft,
    end: Position,
    deadline: Instant,
    /// When the oldest of its records arrived, as far as they have not been dropped.
    oldest_ms: i64,
    /// Encoded bytes, about, of the largest object that waits.
    parked_bytes: u64,
    held: Held,
    arena_bytes_max: usize,
    partitions: HashMap<Arc<str>, usize>,
    open: Vec<Open>,
    /// Objects that records may go to at once: hot, or begun.
    active: Vec<usize>,
    parked: Parked,
    closed: Vec<Closed>,
    ratio: Ratio,
    errors: HashMap<String, ErrorObject>,
    due: Option<Cut>,
    scratch: Scratch,
    error_lines: rejected::Lines,
    line: Vec<u8>,
}

struct ErrorObject {
    object: DraftObject,
    prefix: String,
    rows: u64,
}

impl Chunk {
    /// Opens a chunk of `shard` that starts at `start`. Blocking.
    pub fn open(
        recipe: &Arc<Recipe>,
        outbox: &Outbox,
        ground: &Ground,
        budget: &Budget,
        metrics: &PipelineMetrics,
        (shard, start): (&Shard, &Position),
    ) -> io::Result<Chunk> {
        let draft = outbox.draft(shard, start)?;
        Ok(Chunk {
            recipe: recipe.clone(),
            ground: ground.clone(),
            metrics: metrics.clone(),
            seen: metrics.live.opens(shard),
            shard: shard.clone(),
            parked: Parked::new(ground, draft.path_beside()),
            draft,
            end: start.clone(),
            deadline: Instant::now() + recipe.limits.open_for(ground.clock.now_ms()),
            oldest_ms: ground.clock.now_ms(),
            parked_bytes: 0,
            held: budget.hold(),
            arena_bytes_max: budget.encoder_bytes() / 2,
            partitions: HashMap::new(),
            open: Vec::new(),
            active: Vec::new(),
            closed: Vec::new(),
            ratio: Ratio::USUAL,
            errors: HashMap::new(),
            due: None,
            scratch: Scratch::default(),
            error_lines: rejected::Lines::new(&recipe.pipeline, shard),
            line: Vec::new(),
        })
    }

    /// Adds what became of the records before `end`. CPU work and writes of finished bytes. After an error the chunk
    /// is to be dropped and its range read again.
    pub fn push(&mut self, transformed: Transformed, end: Position) -> io::Result<()> {
        assert!(end >= self.end, "a chunk grows at its end");
        self.end = end;
        self.metrics.dropped.inc_by(transformed.dropped);
        let arrivals = transformed.rejected.iter().map(|rejected| rejected.arrival_ms);
        self.oldest_ms = arrivals.chain(transformed.batch.oldest_ms()).fold(self.oldest_ms, i64::min);
        for rejected in transformed.rejected {
            self.reject(&rejected)?;
        }
        self.learn(&transformed.batch)?;
        self.route(&transformed.batch)?;
        self.encode(&transformed.batch)?;
        self.keep_within_memory()?;
        self.show();
        Ok(())
    }

    fn show(&self) {
        let now_ms = self.ground.clock.now_ms();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let begun = self.active.iter().map(|at| self.open[*at].size(self.ratio)).max().unwrap_or(0);
        self.seen.show(live::Open {
            bytes: begun.max(self.parked_bytes),
            bytes_max: self.recipe.limits.size_bytes,
            oldest_ms: self.oldest_ms,
            cut_at_ms: now_ms.saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)),
        });
    }

    /// Lets the format look at records, and ends objects of a version that is not its newest.
    fn learn(&mut self, batch: &Batch) -> io::Result<()> {
        self.recipe.format.learn(batch)?;
        let newest = self.recipe.format.version();
        for at in self.active.clone() {
            if self.open[at].encoding.as_ref().is_some_and(|encoding| encoding.encoder.version() < newest) {
                self.close(at)?;
            }
        }
        Ok(())
    }

    /// Sorts the records of a batch to the objects of their prefixes.
    fn route(&mut self, batch: &Batch) -> io::Result<()> {
        let rows = u32::try_from(batch.len()).map_err(io::Error::other)?;
        let recipe = self.recipe.clone();
        if !recipe.prefix.is_per_record() && rows > 0 {
            let at = self.object_of("", batch.arrival_ms(0));
            if self.open[at].is_empty() {
                self.open[at].oldest_arrival_ms = batch.arrival_ms(0);
            }
            self.open[at].rows.extend(0..rows);
            return Ok(());
        }
        let mut partition = String::new();
        let mut last = usize::MAX;
        for row in 0..rows {
            partition.clear();
            let (payload, arrival_ms) = (batch.payload(row as usize), batch.arrival_ms(row as usize));
            let keys = batch.partition_keys(row as usize);
            if let Err(reason) = recipe.prefix.partition(payload, arrival_ms, keys, &mut self.scratch, &mut partition) {
                self.reject(&Rejected::new(batch.share(row as usize), arrival_ms, reason))?;
                continue;
            }
            if self.open.get(last).is_none_or(|open| *open.partition != *partition) {
                if self.open.len() >= PREFIXES_MAX && !self.partitions.contains_key(&*partition) {
                    let reason = too_many_prefixes();
                    self.reject(&Rejected::new(batch.share(row as usize), arrival_ms, reason))?;
                    continue;
                }
                last = self.object_of(&partition, arrival_ms);
            }
            let open = &mut self.open[last];
            if open.is_empty() {
                open.oldest_arrival_ms = arrival_ms;
            }
            match open.hot || open.encoding.is_some() || !open.rows.is_empty() {
                true => open.rows.push(row),
                false => self.park(last, payload, arrival_ms)?,
            }
        }
        Ok(())
    }

    fn object_of(&mut self, partition: &str, oldest_arrival_ms: i64) -> usize {
        if let Some(at) = self.partitions.get(partition) {
            return *at;
        }
        let (at, partition): (_, Arc<str>) = (self.open.len(), partition.into());
        let hot = !self.recipe.prefix.is_per_record();
        self.partitions.insert(partition.clone(), at);
        self.open.push(Open::new(partition, oldest_arrival_ms, hot));
        if hot {
            self.active.push(at);
        }
        at
    }

    fn park(&mut self, at: usize, payload: &[u8], arrival_ms: i64) -> io::Result<()> {
        if !self.parked.fits(payload.len()) {
            self.unload()?;
        }
        self.parked.push(&mut self.open[at].lot, payload, arrival_ms);
        let bytes = self.ratio.encoded(self.open[at].lot.bytes());
        self.parked_bytes = self.parked_bytes.max(bytes);
        if bytes >= self.recipe.limits.size_bytes {
            self.encode_parked(at)?;
            self.parked_bytes = 0;
        }
        Ok(())
    }

    /// Feeds the objects being made their rows of the batch.
    fn encode(&mut self, batch: &Batch) -> io::Result<()> {
        for at in self.active.clone() {
            let mut rows = std::mem::take(&mut self.open[at].rows);
            if !rows.is_empty() {
                let is_full = self.encode_rows(at, batch, &rows)?;
                rows.clear();
                self.open[at].rows = rows;
                if is_full {
                    self.full(at)?;
                }
            }
        }
        Ok(())
    }

    /// Encodes rows, and answers whether the object has reached its size.
    fn encode_rows(&mut self, at: usize, batch: &Batch, rows: &[u32]) -> io::Result<bool> {
        let mut rejected = self.encode_once(at, batch, rows)?;
        let version = |chunk: &Chunk| chunk.open[at].encoding.as_ref().map(|encoding| encoding.encoder.version());
        let refused_by = version(self);
        if !rejected.is_empty() {
            self.learn(&Batch::default())?;
        }
        if !rejected.is_empty() && refused_by != version(self) {
            // They have taught the format something: a new object may take them.
            let again = object::batch_of(&rejected);
            let rows: Vec<u32> = (0..again.len() as u32).collect();
            rejected = self.encode_once(at, &again, &rows)?;
        }
        for rejected in rejected {
            self.reject(&rejected)?;
        }
        let size = self.open[at].encoding.as_ref().map_or(0, |encoding| encoding.encoder.size());
        Ok(size >= self.recipe.limits.size_bytes)
    }

    fn encode_once(&mut self, at: usize, batch: &Batch, rows: &[u32]) -> io::Result<Vec<Rejected>> {
        if !self.active.contains(&at) {
            self.active.push(at);
        }
        let encoding = self.open[at].encoding(&mut self.draft, &*self.recipe.format);
        let rejected = encoding.push(batch, rows, &mut self.draft)?;
        if encoding.raw_bytes >= RATIO_RAW_BYTES_MIN {
            self.ratio.learn(encoding.raw_bytes, encoding.encoder.size());
        }
        Ok(rejected)
    }

    /// Encodes what is parked for an object, in steps, so that none grows far beyond its size.
    fn encode_parked(&mut self, at: usize) -> io::Result<()> {
        let lot = std::mem::take(&mut self.open[at].lot);
        let size_bytes = self.recipe.limits.size_bytes;
        let mut reading = lot.reading();
        let mut is_full = false;
        while let Some(batch) = self.parked.next(&mut reading)? {
            let rows: Vec<u32> = (0..batch.len() as u32).collect();
            for rows in
                runs(&rows, (size_bytes / STEPS_PER_OBJECT).max(1), |row| batch.payload(*row as usize).len() as u64)
            {
                if is_full {
                    self.close(at)?;
                }
                is_full = self.encode_rows(at, &batch, rows)?;
            }
        }
        // Nearly its size is its size: the next look would come too late.
        match self.open[at].size(self.ratio) >= size_bytes - size_bytes / STEPS_PER_OBJECT {
            true => self.full(at),
            false => Ok(()),
        }
    }

    /// An object has reached its size.
    fn full(&mut self, at: usize) -> io::Result<()> {
        let small = |open: &Open| open.size(self.ratio) < self.recipe.limits.size_bytes / SMALL_PART;
        let mut others = self.open.iter().enumerate().filter(|(other, open)| *other != at && !open.is_empty());
        if others.any(|(_, open)| small(open)) {
            return self.close(at);
        }
        self.due = Some(Cut::Size);
        Ok(())
    }

    /// Ends an object whose encoding has begun; its prefix begins another one with its next record.
    fn close(&mut self, at: usize) -> io::Result<()> {
        let open = &mut self.open[at];
        if !open.hot && open.rows.is_empty() {
            self.active.retain(|hot| *hot != at);
        }
        let Some(encoding) = open.encoding.take() else { return Ok(()) };
        let range = ShardRange { shard: self.shard.clone(), start: self.draft.start().clone(), end: self.end.clone() };
        let about = About { pipeline: &self.recipe.pipeline, range: &range };
        let (rows, size) = (encoding.encoder.rows(), encoding.encoder.size());
        if size >= self.recipe.limits.size_bytes / 2 {
            self.ratio.learn(encoding.raw_bytes, size);
        }
        encoding.encoder.finish(&about, &mut self.draft.writer(encoding.object))?;
        if rows > 0 {
            let (partition, oldest_arrival_ms) = (open.partition.clone(), open.oldest_arrival_ms);
            self.closed.push(Closed { object: encoding.object, partition, oldest_arrival_ms, rows });
        }
        Ok(())
    }

    /// Sees to it that the chunk holds no more memory than it may: parked records and row groups go to our disk. If that
    /// does not help, it is to be cut.
    fn keep_within_memory(&mut self) -> io::Result<()> {
        self.held.set(self.memory());
        if self.parked.arena_bytes() >= self.arena_bytes_max
            || self.held.is_too_much() && self.parked.arena_bytes() >= self.memory() / 2
        {
            self.unload()?;
            self.held.set(self.memory());
            if self.held.is_too_much() {
                self.parked.shrink();
                self.held.set(self.memory());
            }
        }
        while self.held.is_too_much() {
            let encodings = self.open.iter_mut().filter_map(|open| open.encoding.as_mut());
            match encodings.max_by_key(|encoding| encoding.memory).filter(|encoding| encoding.memory >= FLUSH_BYTES_MIN)
            {
                Some(largest) => {
                    let before = largest.memory;
                    largest.flush(&mut self.draft)?;
                    if largest.memory > before / 2 {
                        self.due.get_or_insert(Cut::Memory);
                        break;
                    }
                }
                None => {
                    self.due.get_or_insert(Cut::Memory);
                    break;
                }
            }
            self.held.set(self.memory());
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        let encoding = |at: &usize| self.open[*at].encoding.as_ref().map_or(0, |encoding| encoding.memory);
        self.parked.memory() + self.active.iter().map(encoding).sum::<usize>() + self.open.len() * OPEN_BYTES
    }

    /// Empties the arena: what comes for few prefixes is encoded, from now on at once, and the rest goes to the file.
    fn unload(&mut self) -> io::Result<()> {
        let least = (self.parked.arena_bytes() / ACTIVE_OBJECTS_MAX) as u64;
        for at in 0..self.open.len() {
            if self.open[at].lot.arena_bytes() >= least && self.active.len() < ACTIVE_OBJECTS_MAX {
                self.open[at].hot = true;
                self.encode_parked(at)?;
            }
        }
        self.parked.unload(self.open.iter_mut().map(|open| &mut open.lot))
    }

    /// Sets one record aside, whole, with its reason.
    fn reject(&mut self, rejected: &Rejected) -> io::Result<()> {
        let Rejected { arrival_ms, reason: Reason { by, .. }, .. } = *rejected;
        let now_ms = self.ground.clock.now_ms();
        self.metrics.rejected(&rejected.reason, &rejected.payload, now_ms);
        self.metrics.live.taps().reject(&rejected.reason, &rejected.payload, rejected.arrival_ms);
        let prefix = &self.recipe.error_prefix;
        let mut partition = String::new();
        prefix.partition(by, arrival_ms, &mut self.scratch, &mut partition);
        let errors = self.errors.entry(partition).or_insert_with_key(|partition| ErrorObject {
            object: self.draft.object(),
            prefix: prefix.resolve(partition, arrival_ms, &self.ground.random),
            rows: 0,
        });
        errors.rows += 1;
        self.line.clear();
        self.error_lines.append(rejected, now_ms, &mut self.line);
        io::Write::write_all(&mut self.draft.writer(errors.object), &self.line)
    }

    /// Whether it should be cut now, and why.
    pub fn due(&self) -> Option<Cut> {
        if let Some(cut) = self.due {
            Some(cut)
        } else if self.bytes() >= CHUNK_BYTES_MAX {
            Some(Cut::Size)
        } else if self.open.len() >= PREFIXES_MAX || self.closed.len() >= CLOSED_MAX {
            Some(Cut::Memory)
        } else if Instant::now() >= self.deadline {
            Some(Cut::Interval)
        } else {
            None
        }
    }

    /// When it should be cut at the latest.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Bytes that it takes on our disk so far, and those in memory that have to go there.
    pub fn bytes(&self) -> u64 {
        let encoding = |at: &usize| self.open[*at].encoding.as_ref().map_or(0, |encoding| encoding.memory as u64);
        let held = self.parked.arena_bytes() as u64 + self.active.iter().map(encoding).sum::<u64>();
        self.draft.bytes() + self.parked.file_bytes() + held
    }

    /// Finishes the objects, so that they lie on our disk and no longer in memory. CPU work and writes.
    pub fn finish(mut self) -> io::Result<Finished> {
        for at in 0..self.open.len() {
            assert!(self.open[at].rows.is_empty(), "every row of a batch was encoded or parked");
            if self.open[at].lot.bytes() > SMALL_RAW_BYTES {
                self.encode_parked(at)?;
            }
            self.close(at)?;
        }
        self.encode_small()?;
        let mut named = Vec::with_capacity(self.closed.len() + self.errors.len());
        for Closed { object, partition, oldest_arrival_ms, rows } in self.closed {
            let prefix = self.recipe.prefix.resolve(&partition, oldest_arrival_ms, &self.ground.random);
            named.push((object, prefix, self.recipe.format.extension(), rows));
        }
        for errors in self.errors.into_values() {
            named.push((errors.object, errors.prefix, rejected::EXTENSION, errors.rows));
        }
        named.sort_by(|a, b| (&a.1, a.2).cmp(&(&b.1, b.2)));
        let range = ShardRange { shard: self.shard, start: self.draft.start().clone(), end: self.end };
        let mut part = 0;
        let mut objects: Vec<Named> = Vec::with_capacity(named.len());
        let mut previous: Option<(String, &str)> = None;
        for (object, prefix, extension, rows) in named {
            let same = previous.as_ref().is_some_and(|(p, e)| *p == prefix && *e == extension);
            part = if same { part + 1 } else { 0 };
            let name = ObjectName {
                prefix: prefix.clone(),
                pipeline: self.recipe.pipeline.clone(),
                range: range.clone(),
                part,
                extension: extension.to_owned(),
            };
            objects.push(Named { object, name: name.to_string(), rows });
            previous = Some((prefix, extension));
        }
        Ok(Finished { draft: self.draft, end: range.end, sink: self.recipe.sink.clone(), objects })
    }

    /// Encodes the objects for which all records are still parked, on as many cores as are idle.
    fn encode_small(&mut self) -> io::Result<()> {
        let recipe = self.recipe.clone();
        let range = ShardRange { shard: self.shard.clone(), start: self.draft.start().clone(), end: self.end.clone() };
        let about = About { pipeline: &recipe.pipeline, range: &range };
        let lots = self.open.iter_mut().enumerate().filter(|(_, open)| !open.is_empty());
        let lots: Vec<(usize, Lot)> = lots.map(|(at, open)| (at, std::mem::take(&mut open.lot))).collect();
        for step in runs(&lots, STEP_RAW_BYTES, |(_, lot)| lot.bytes()) {
            let mut parts: Vec<_> = runs(step, PART_RAW_BYTES, |(_, lot)| lot.bytes())
                .map(|part| (part, Vec::with_capacity(part.len())))
                .collect();
            let parked = &self.parked;
            spread(parts.iter_mut(), |(part, made)| {
                made.extend(part.iter().map(|(_, lot)| Small::encode(&*recipe.format, &about, parked, lot)));
            });
            for ((at, _), small) in parts.into_iter().flat_map(|(part, made)| part.iter().zip(made)) {
                let small = small?;
                let refused_by = small.version;
                let mut rejected = self.add_small(*at, small)?;
                if !rejected.is_empty() {
                    recipe.format.learn(&Batch::default())?;
                }
                if !rejected.is_empty() && refused_by < recipe.format.version() {
                    let again = Small::encode_again(&*recipe.format, &about, &rejected)?;
                    rejected = self.add_small(*at, again)?;
                }
                for rejected in rejected {
                    self.reject(&rejected)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a whole object, if it has rows, and gives what was rejected.
    fn add_small(&mut self, at: usize, small: Small) -> io::Result<Vec<Rejected>> {
        let Small { bytes, rows, rejected, .. } = small;
        if rows > 0 {
            let object = self.draft.object();
            io::Write::write_all(&mut self.draft.writer(object), &bytes)?;
            let Open { partition, oldest_arrival_ms, .. } = &self.open[at];
            let (partition, oldest_arrival_ms) = (partition.clone(), *oldest_arrival_ms);
            self.closed.push(Closed { object, partition, oldest_arrival_ms, rows });
        }
        Ok(rejected)
    }
}

/// Cuts a list into runs of at least `weight_min` each, but for the last.
fn runs<T>(mut items: &[T], weight_min: u64, weight: impl Fn(&T) -> u64) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut sum = 0;
        let full = items.iter().position(|item| {
            sum += weight(item);
            sum >= weight_min
        });
        let (run, rest) = items.split_at(full.map_or(items.len(), |at| at + 1));
        items = rest;
        (!run.is_empty()).then_some(run)
    })
}

fn too_many_prefixes() -> Reason {
    let message = format!("more than {PREFIXES_MAX} prefixes at once");
    Reason { by: RejectedBy::Prefix, code: "DynamicPartitioning.ActivePartitionsLimitExceeded", message }
}

/// A chunk whose objects are complete, but not promised yet.
pub struct Finished {
    draft: Draft,
    end: Position,
    sink: String,
    objects: Vec<Named>,
}

impl Finished {
    /// Bytes that its promise takes on our disk.
    pub fn bytes(&self) -> u64 {
        self.draft.bytes()
    }

    /// Promises the objects: when this returns, they will be delivered. Syncs.
    pub fn seal(self) -> io::Result<Sealed> {
        self.draft.seal(&self.end, &self.sink, self.objects)
    }
}
