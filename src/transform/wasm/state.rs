//! What an instance has beside its own memory.

use super::{Limits, Log, Wasi};

/// The data of an instance's store.
pub struct State {
    pub log: Log,
    pub wasi: Wasi,
    pub limits: Limits,
}

impl State {
    /// For a new instance, which writes to this log and keeps these limits.
    pub fn new(log: Log, limits: Limits) -> State {
        State { wasi: Wasi::new(&log), log, limits }
    }
}
