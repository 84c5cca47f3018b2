//! A chunk: the records of one range on their way into objects, and what cuts it.
//!
//! Each record is routed to the object of its prefix and encoded there at once; what cannot be routed or encoded
//! becomes a line of an error object of the same chunk. Any cut is a correct cut.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::budget::{Budget, Held};
use crate::encode::{About, Encoder, Format};
use crate::error::{Reason, RejectedBy};
use crate::ground::Ground;
use crate::metrics::PipelineMetrics;
use crate::naming::{ErrorPrefix, ObjectName, Prefix, Scratch};
use crate::outbox::{Draft, DraftObject, Named, Outbox, Sealed};
use crate::position::{Position, Shard, ShardRange};
use crate::record::Batch;
use crate::rejected;
use crate::transform::{Rejected, Transformed};

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

/// What ends a chunk: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Encoded bytes of its largest object.
    pub size_bytes: u64,
    /// Time since its first record.
    pub interval: Duration,
}

/// Prefixes that one chunk may have open, as many as Firehose gives at the most. That many cut it; further ones in the
/// same batch are set aside.
pub const PREFIXES_MAX: usize = 5_000;

/// Bytes of all objects of one chunk; more cuts it.
pub const CHUNK_BYTES_MAX: u64 = 1 << 30;

/// What ended a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// An object has reached its size.
    Size,
    /// The first record has waited long enough.
    Interval,
    /// Memory is short, or too many prefixes are open.
    Memory,
    /// The disk was full, and a smaller chunk may fit.
    Space,
    /// The source failed behind it.
    Fault,
    /// The shard has ended.
    End,
}

impl Cut {
    /// The cause in a word, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Cut::Size => "size",
            Cut::Interval => "interval",
            Cut::Memory => "memory",
            Cut::Space => "space",
            Cut::Fault => "fault",
            Cut::End => "end",
        }
    }
}

/// An open chunk.
pub struct Chunk {
    recipe: Arc<Recipe>,
    ground: Ground,
    metrics: PipelineMetrics,
    shard: Shard,
    draft: Draft,
    end: Position,
    deadline: Instant,
    held: Held,
    objects: HashMap<String, usize>,
    open: Vec<OpenObject>,
    errors: HashMap<String, ErrorObject>,
    largest_bytes: u64,
    scratch: Scratch,
    error_lines: rejected::Lines,
    line: Vec<u8>,
}

struct OpenObject {
    object: DraftObject,
    /// The record-level part of its prefix.
    partition: String,
    prefix: String,
    encoder: Box<dyn Encoder>,
    /// Rows of the batch at hand that belong here.
    rows: Vec<u32>,
    memory: usize,
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
        Ok(Chunk {
            recipe: recipe.clone(),
            ground: ground.clone(),
            metrics: metrics.clone(),
            shard: shard.clone(),
            draft: outbox.draft(shard, start)?,
            end: start.clone(),
            deadline: Instant::now() + recipe.limits.interval,
            held: budget.hold(),
            objects: HashMap::new(),
            open: Vec::new(),
            errors: HashMap::new(),
            largest_bytes: 0,
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
        for rejected in transformed.rejected {
            self.reject(&rejected)?;
        }
        self.route(&transformed.batch)?;
        self.encode(&transformed.batch)
    }

    /// Sorts the rows of a batch to the objects of their prefixes.
    fn route(&mut self, batch: &Batch) -> io::Result<()> {
        let rows = u32::try_from(batch.len()).map_err(io::Error::other)?;
        let recipe = self.recipe.clone();
        if !recipe.prefix.is_per_record() && rows > 0 {
            let at = self.object_of("", batch.arrival_ms(0));
            self.open[at].rows.extend(0..rows);
            return Ok(());
        }
        let mut partition = String::new();
        let mut last = usize::MAX;
        for row in 0..rows {
            partition.clear();
            let (payload, arrival_ms) = (batch.payload(row as usize), batch.arrival_ms(row as usize));
            if let Err(reason) = recipe.prefix.partition(payload, arrival_ms, &mut self.scratch, &mut partition) {
                self.reject(&Rejected { payload: batch.share(row as usize), arrival_ms, reason })?;
                continue;
            }
            if self.open.get(last).is_none_or(|open| open.partition != partition) {
                if self.open.len() >= PREFIXES_MAX && !self.objects.contains_key(&partition) {
                    let reason = too_many_prefixes();
                    self.reject(&Rejected { payload: batch.share(row as usize), arrival_ms, reason })?;
                    continue;
                }
                last = self.object_of(&partition, arrival_ms);
            }
            self.open[last].rows.push(row);
        }
        Ok(())
    }

    fn object_of(&mut self, partition: &str, oldest_arrival_ms: i64) -> usize {
        if let Some(at) = self.objects.get(partition) {
            return *at;
        }
        let prefix = self.recipe.prefix.resolve(partition, oldest_arrival_ms, &self.ground.random);
        let (object, encoder) = (self.draft.object(), self.recipe.format.encoder());
        let partition = partition.to_owned();
        self.objects.insert(partition.clone(), self.open.len());
        self.open.push(OpenObject { object, partition, prefix, encoder, rows: Vec::new(), memory: 0 });
        self.open.len() - 1
    }

    /// Feeds each object its rows of the batch.
    fn encode(&mut self, batch: &Batch) -> io::Result<()> {
        let mut rejected = Vec::new();
        let mut memory = 0;
        for open in &mut self.open {
            if !open.rows.is_empty() {
                let mut out = self.draft.writer(open.object);
                rejected.append(&mut open.encoder.push(batch, &open.rows, &mut out)?);
                open.rows.clear();
                open.memory = open.encoder.memory();
                self.largest_bytes = self.largest_bytes.max(open.encoder.size());
            }
            memory += open.memory;
        }
        self.held.set(memory);
        for (row, reason) in rejected {
            let row = row as usize;
            self.reject(&Rejected { payload: batch.share(row), arrival_ms: batch.arrival_ms(row), reason })?;
        }
        Ok(())
    }

    /// Sets one record aside, whole, with its reason.
    fn reject(&mut self, rejected: &Rejected) -> io::Result<()> {
        let Rejected { arrival_ms, reason: Reason { by, .. }, .. } = *rejected;
        self.metrics.rejected(by.as_str(), 1);
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
        self.error_lines.append(rejected, self.ground.clock.now_ms(), &mut self.line);
        io::Write::write_all(&mut self.draft.writer(errors.object), &self.line)
    }

    /// Whether it should be cut now, and why.
    pub fn due(&self) -> Option<Cut> {
        if self.largest_bytes >= self.recipe.limits.size_bytes || self.draft.bytes() >= CHUNK_BYTES_MAX {
            Some(Cut::Size)
        } else if self.held.is_too_much() || self.open.len() >= PREFIXES_MAX {
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

    /// Bytes that it takes on our disk so far.
    pub fn bytes(&self) -> u64 {
        self.draft.bytes()
    }

    /// Finishes the objects, so that they lie on our disk and no longer in memory. CPU work and writes.
    pub fn finish(mut self) -> io::Result<Finished> {
        let mut named = Vec::with_capacity(self.open.len() + self.errors.len());
        let range = ShardRange { shard: self.shard, start: self.draft.start().clone(), end: self.end };
        let about = About { pipeline: &self.recipe.pipeline, range: &range };
        for open in self.open {
            let rows = open.encoder.rows();
            open.encoder.finish(&about, &mut self.draft.writer(open.object))?;
            if rows > 0 {
                named.push((open.object, open.prefix, self.recipe.format.extension(), rows));
            }
        }
        for errors in self.errors.into_values() {
            named.push((errors.object, errors.prefix, rejected::EXTENSION, errors.rows));
        }
        named.sort_by(|a, b| (&a.1, a.2).cmp(&(&b.1, b.2)));
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
