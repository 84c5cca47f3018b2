//! What is replayed, as sources: error objects, and a part of a log that is still there.
//!
//! A replay reads through shards of its own, whose ids begin with `replay` (no other source's do), so that the names of what
//! it makes cannot meet those of the originals, and say what they are.

mod errors;
mod line;
mod part;
mod plan;

use crate::ground::Random;
use crate::position::Shard;

pub use errors::{ErrorSource, Sight, what_is_wrong};
pub use line::{Class, Classes, LINE_BYTES_MAX, Line, UNREADABLE, read_line};
pub use part::PartSource;
pub use plan::{Done, Plan, Planned, read_checked, write_checked};

/// What the ids of shards of replays begin with.
pub const SHARD_PREFIX: &str = "replay";

/// The id of a new replay's shard: 48 random bits, as a spool's.
pub fn new_shard(random: &Random) -> Shard {
    let id = format!("{SHARD_PREFIX}{:012x}", random.u64() & ((1 << 48) - 1));
    Shard::new(&id).expect("letters and hex digits are a shard id")
}
