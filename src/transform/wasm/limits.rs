//! What an instance may use: memory, and time.

use std::time::{Duration, Instant};

use wasmtime::{ResourceLimiter, Result, Trap, UpdateDeadline, bail};

use crate::units::Size;

/// Elements of a table, at most.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;

/// What an instance may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Of its linear memory.
    pub memory_bytes_max: usize,
    /// When the call that is under way ends. To be set before each.
    pub deadline: Instant,
}

impl Limits {
    /// So much memory, and so much time from now.
    pub fn new(memory_bytes_max: usize, time_max: Duration) -> Limits {
        Limits { memory_bytes_max, deadline: Instant::now() + time_max }
    }

    /// What becomes of a call at a tick of the clock.
    pub fn at_tick(&self) -> Result<UpdateDeadline> {
        if Instant::now() < self.deadline { Ok(UpdateDeadline::Continue(1)) } else { Err(self.time_is_up()) }
    }

    /// The error of a call that has reached its deadline.
    pub fn time_is_up(&self) -> wasmtime::Error {
        Trap::Interrupt.into()
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        if desired > self.memory_bytes_max {
            bail!("memory limit of {} exceeded", Size::from_bytes(self.memory_bytes_max as u64));
        }
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            bail!("table limit of {TABLE_ELEMENTS_MAX} elements exceeded");
        }
        Ok(true)
    }
}
