//! Sources: replayable logs with positions.
//!
//! A source gives out shards (ordered logs); a reader reads one shard from a position; release tells the source what it
//! may forget. No acknowledgement travels with a record. `tests/it/source_contract.rs` runs over every source.

pub mod demo;
pub mod file;
pub mod gather;
pub mod kafka;
pub mod replay;
mod texts;

use async_trait::async_trait;

use crate::error::Fault;
use crate::outbox::{Outbox, Sealed};
use crate::position::{Position, Shard, ShardRange};
use crate::record::Batch;
use crate::sink::ObjectSink;

/// A set of replayable logs.
#[async_trait]
pub trait Source: Send + Sync {
    /// The next shard that this pipeline is to read; each is given out once per process. `None`: no more will come.
    ///
    /// Cancel-safe. A shard's identity is durable before it is returned, so that a restart gives the same log the
    /// same shard.
    async fn next_shard(&self) -> Result<Option<Shard>, Fault>;

    /// Opens a shard that `next_shard` returned, at `from`, or where this source starts when nothing of the shard was
    /// ever delivered (`None`). Reading again from the same position gives the same records.
    async fn open(&self, shard: &Shard, from: Option<&Position>) -> Result<Box<dyn Reader>, Fault>;

    /// What the numbers count that its positions are.
    fn unit(&self) -> Unit {
        Unit::Records
    }

    /// All before `upto` is delivered and the checkpoint says so durably: the source may forget it.
    /// Doing it twice is doing it once; a position below an earlier one changes nothing.
    async fn release(&self, shard: &Shard, upto: &Position) -> Result<(), Fault>;

    /// Where in `sink` a copy of a whole promise is to lie before it is claimed, for whoever may own its shard after us. From
    /// here on the source sees to it that the copy goes when nobody needs it. `None`: the log is ours alone.
    fn begin_copy(&self, _range: &ShardRange, _sink: &ObjectSink) -> Option<String> {
        None
    }

    /// A promise whose copy lies in its sink is about to be kept: others are told so, durably, so that its objects are put by
    /// one of us, all of them, under these names. Returns when they are told, tries for as long as that takes. Doing it twice
    /// is doing it once. Cancel-safe.
    async fn claim(&self, _promise: &Sealed) -> Result<(), Fault> {
        Ok(())
    }

    /// The next promise that a former owner of the shard has left, perhaps half-kept, taken into `outbox` from `sink`. It is
    /// to be kept and released before this is asked again; `None`: nothing is left, the shard can be read.
    async fn inherit(&self, _shard: &Shard, _outbox: &Outbox, _sink: &ObjectSink) -> Result<Option<Sealed>, Fault> {
        Ok(None)
    }

    /// Waits until the shard is another's: then nothing more of it is read, promised or put. Cancel-safe. A log that is
    /// ours alone is never lost.
    async fn lost(&self, _shard: &Shard) {
        std::future::pending().await
    }

    /// Nothing of it is read, promised or put any more: what others wait for is given back. Takes a few seconds at the most.
    async fn leave(&self) {}

    /// Bytes that were read since it was opened, and bytes that there are to read, as far as known: of a source that ends
    /// and whose records lie in files.
    fn read_of(&self) -> Option<(u64, u64)> {
        None
    }
}

/// What positions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Records,
    Bytes,
}

/// What one read gave: records, and where the next read begins.
#[derive(Debug, Clone)]
pub struct Read {
    /// May be empty where the log has a gap.
    pub batch: Batch,
    /// The position behind the last record of `batch`.
    pub end: Position,
}

/// Reads one shard in order.
#[async_trait]
pub trait Reader: Send {
    /// Where the next read begins.
    fn position(&self) -> Position;

    /// The end of what can be read now, as far as known: for lag.
    fn tail(&self) -> Position;

    /// Up to where records were acknowledged to those who handed them over, as of now: a reader that goes for good reads so
    /// far. `None`: the log is not ours, and keeps what is not read.
    fn owed(&self) -> Option<Position> {
        None
    }

    /// The next records (about 1 MiB at the most, but always whole records), as soon as there is one.
    /// `None`: the shard has ended for good.
    ///
    /// Cancel-safe: a cancelled read has not moved the position.
    async fn next(&mut self) -> Result<Option<Read>, Fault>;
}
