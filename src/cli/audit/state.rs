//! What a state folder says about a pipeline, read without changing anything while its owner may be at work.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint;
use crate::disk::ReadOnlyDisk;
use crate::error::Fault;
use crate::ground::Ground;
use crate::outbox::Outbox;
use crate::position::{Position, Shard};

/// Looks at an outbox whose owner keeps promises meanwhile.
const LOOKS_MAX: u32 = 20;

/// What is promised of a range and not yet known to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    pub start: Position,
    pub end: Position,
    /// Names below the sink's root.
    pub objects: Vec<String>,
    pub sink: String,
}

/// What a pipeline has on our disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfState {
    /// By shard: up to where everything is delivered.
    pub checkpoint: BTreeMap<Shard, Position>,
    /// By shard, in order.
    pub promises: BTreeMap<Shard, Vec<Promise>>,
}

impl OfState {
    /// Up to where records of the shard were promised at any time.
    pub fn promised(&self, shard: &Shard) -> Option<&Position> {
        let last = self.promises.get(shard).and_then(|promises| promises.last()).map(|promise| &promise.end);
        last.max(self.checkpoint.get(shard))
    }
}

/// Where a pipeline's way keeps checkpoint and outbox, and where its replays do.
fn folders(state: &Path, pipeline: &str) -> [PathBuf; 3] {
    let replays = state.join("replays").join(pipeline);
    [state.join("pipelines").join(pipeline), replays.join("errors"), replays.join("records")]
}

/// What `state` says of a pipeline now. Blocking.
///
/// Outboxes are read before checkpoints: a promise that is gone from the first is passed by the second.
pub fn look(state: &Path, pipeline: &str) -> Result<OfState, Fault> {
    let ground = Ground { disk: Arc::new(ReadOnlyDisk), ..Ground::real() };
    let mut found = OfState::default();
    let folders = folders(state, pipeline);
    for folder in &folders {
        let outbox = Outbox::peek(&ground, &folder.join("outbox"));
        for (shard, chunks) in patiently(|| outbox.pending())?.unwrap_or_default() {
            let promise = |sealed: &crate::outbox::Sealed| Promise {
                start: sealed.range().start.clone(),
                end: sealed.range().end.clone(),
                objects: sealed.objects().iter().map(|object| object.name.clone()).collect(),
                sink: sealed.sink().to_owned(),
            };
            found.promises.insert(shard, chunks.iter().map(promise).collect());
        }
    }
    for folder in &folders {
        found.checkpoint.extend(patiently(|| checkpoint::peek(&ReadOnlyDisk, folder))?.unwrap_or_default());
    }
    Ok(found)
}

/// Looks again when something vanished under the look; `None`: there is nothing.
fn patiently<T>(look: impl Fn() -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    let vanished = |fault: &Fault| {
        let mut causes = fault.error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        causes.any(|error| error.kind() == io::ErrorKind::NotFound)
    };
    for _ in 0..LOOKS_MAX {
        match look() {
            Err(fault) if vanished(&fault) => {}
            other => return other.map(Some),
        }
    }
    Ok(None)
}
