//! The spool: the durable log that receivers append to, and a source that pipelines read.

use std::path::Path;

use crate::error::Fault;
use crate::ground::Ground;
use crate::position::Shard;
use crate::record::Batch;

/// What a receiver hands over: the records of one request, which become durable together or not at all.
#[derive(Debug)]
pub struct Append {
    /// Not empty.
    pub records: Batch,
    /// Set when the producer marks its retries: the same key within the window is stored once.
    pub once: Option<OnceKey>,
}

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

/// One named spool: receivers append, pipelines read, each at its own position. Cheap to clone.
#[derive(Clone)]
pub struct Stream {}

impl Stream {
    /// Opens or creates the stream `name` in folder `dir`, recovering what a dead process left; starts its writer.
    pub async fn open(_ground: &Ground, _dir: &Path, _name: &str, _options: &Options) -> Result<Stream, Fault> {
        todo!("the spool helper")
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        todo!("the spool helper")
    }

    /// The one shard of this stream.
    pub fn shard(&self) -> &Shard {
        todo!("the spool helper")
    }

    /// Appends the records of one request; answers after they are durable.
    ///
    /// Cancelled, the records are appended or not; a retry with the same key finds out.
    pub async fn append(&self, _append: Append) -> Result<Appended, AppendError> {
        todo!("the spool helper")
    }

    /// No more appends will come (standard input at its end): readers end behind the last record.
    pub fn end(&self) {
        todo!("the spool helper")
    }

    /// Refuses further appends and finishes the group commit under way.
    pub async fn stop(&self) {
        todo!("the spool helper")
    }
}

/// Limits of a spool.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// Bytes of all segments of the stream, above which appends answer `Full`.
    pub spool_bytes_max: u64,
    /// Free bytes on the disk below which appends answer `Full`, so that delivering what is there can go on.
    pub free_bytes_min: u64,
    /// How long a producer's retries are recognised, in milliseconds.
    pub once_window_ms: u64,
}
