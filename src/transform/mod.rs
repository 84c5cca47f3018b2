//! Transforms: change, drop or reject records between source and format.

use bytes::Bytes;

use crate::error::Reason;
use crate::record::Batch;

/// Changes records. Runs off the async threads; several shards may call it at once.
pub trait Transform: Send + Sync {
    /// Takes a batch, and gives what became of each record, in order. Need not be deterministic.
    fn apply(&self, batch: &Batch) -> Transformed;
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Transformed {
    /// What goes on: a record may have become none, one or several. Each keeps the arrival time of its origin.
    pub batch: Batch,
    /// Set aside, whole.
    pub rejected: Vec<Rejected>,
    /// How many were left out by choice.
    pub dropped: u64,
}

/// A record set aside whole, with its reason.
#[derive(Debug, Clone)]
pub struct Rejected {
    pub payload: Bytes,
    pub arrival_ms: i64,
    pub reason: Reason,
}
