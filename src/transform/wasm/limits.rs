//! What a guest may take: memory, tables, time. Each limit has its name and its number when it is exceeded.
//!
//! Time is wall time until a deadline. A guest's code looks at the engine's epoch in every loop and call; [`Ticking`] moves
//! it on every [`TICK`] for as long as a call is under way, and the guest's next look ends it if its deadline is past.

use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use wasmtime::{Engine, ResourceLimiter, UpdateDeadline};

use crate::units::{Interval, Size};

/// How often guests look at the clock.
const TICK: Duration = Duration::from_millis(10);

/// Elements of all tables of one instance. CPython has 8 thousand, Go 5 thousand.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;
/// Core instances, tables and memories that one component may be made of; those of ordinary tools have under ten.
pub const PARTS_MAX: usize = 100;

/// What one instance may take, and has taken.
#[derive(Debug)]
pub struct Limits {
    memory_max: Size,
    memory_bytes: usize,
    table_elements: usize,
    /// When the call under way has to be over; a host function that waits, waits no longer.
    pub deadline: Instant,
    time_max: Duration,
}

/// A limit that was exceeded: what a call of the guest ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// All linear memories of the instance together would have been so large.
    Memory { max: Size, wanted: Size },
    /// All tables of the instance together.
    Tables,
    /// A call had so much time.
    Time { max: Interval },
}

impl std::error::Error for Exceeded {}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exceeded::Memory { max, wanted } => write!(f, "memory limit of {max} exceeded: it wanted {wanted}"),
            Exceeded::Tables => write!(f, "table limit of {TABLE_ELEMENTS_MAX} elements exceeded"),
            Exceeded::Time { max } => write!(f, "time limit of {max} exceeded"),
        }
    }
}

/// The machine has no memory for a guest: nobody's record is at fault.
#[derive(Debug)]
pub struct HostShort(pub wasmtime::Error);

impl std::error::Error for HostShort {}

impl fmt::Display for HostShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the machine has no memory for a module: {:#}", self.0)
    }
}

impl Limits {
    /// So much memory, and so much time from now.
    pub fn new(memory_bytes_max: usize, time_max: Duration) -> Limits {
        let memory_max = Size::from_bytes(memory_bytes_max as u64);
        Limits { memory_max, memory_bytes: 0, table_elements: 0, deadline: Instant::now() + time_max, time_max }
    }

    /// A call begins, and has so much time.
    pub fn set_time(&mut self, time_max: Duration) {
        self.deadline = Instant::now() + time_max;
        self.time_max = time_max;
    }

    /// What becomes of a call at a tick of the clock.
    pub fn at_tick(&self) -> wasmtime::Result<UpdateDeadline> {
        self.check_time().map(|()| UpdateDeadline::Continue(1))
    }

    /// Whether the call may go on; for a host function that takes long.
    pub fn check_time(&self) -> wasmtime::Result<()> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(self.time_is_up()) }
    }

    /// The error of a call that has reached its deadline.
    pub fn time_is_up(&self) -> wasmtime::Error {
        let max = Interval::from_millis(u64::try_from(self.time_max.as_millis()).unwrap_or(u64::MAX));
        Exceeded::Time { max }.into()
    }

    /// Bytes of all linear memories.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The most that they may have.
    pub fn memory_max(&self) -> Size {
        self.memory_max
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // It fails by the module's own choice, which its code may expect.
            return Ok(true);
        }
        let wanted = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if wanted as u64 > self.memory_max.bytes() {
            return Err(Exceeded::Memory { max: self.memory_max, wanted: Size::from_bytes(wanted as u64) }.into());
        }
        self.memory_bytes = wanted;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        match is_of_the_system(&error) {
            true => Err(HostShort(error).into()),
            false => Ok(()),
        }
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(true);
        }
        let wanted = self.table_elements.saturating_add(desired.saturating_sub(current));
        if wanted > TABLE_ELEMENTS_MAX {
            return Err(Exceeded::Tables.into());
        }
        self.table_elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

/// Whether the kernel refused something, as against the guest or a limit of ours.
pub fn is_of_the_system(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<std::io::Error>()
            || cause.is::<rustix::io::Errno>()
            || cause.is::<HostShort>()
            || cause.is::<wasmtime::OutOfMemory>()
    })
}

/// A call of a guest, under way for as long as this lives: its engine's epoch moves on.
pub struct Ticking(Engine);

/// Engines with calls under way, and how many those are.
struct Ticker {
    calls: Vec<(Engine, usize)>,
    /// Whether there is a thread, and whether it waits for a call.
    thread: bool,
    parked: bool,
}

static TICKER: Mutex<Ticker> = Mutex::new(Ticker { calls: Vec::new(), thread: false, parked: false });
static CALLED: Condvar = Condvar::new();

impl Ticking {
    /// A call begins. An error is the kernel's, that has no thread for us.
    pub fn begin(engine: &Engine) -> std::io::Result<Ticking> {
        let mut ticker = ticker();
        if !ticker.thread {
            thread::Builder::new().name("epoch".into()).spawn(tick)?;
            ticker.thread = true;
        }
        match ticker.calls.iter_mut().find(|(known, _)| Engine::same(known, engine)) {
            Some((_, calls)) => *calls += 1,
            None => ticker.calls.push((engine.clone(), 1)),
        }
        if std::mem::take(&mut ticker.parked) {
            CALLED.notify_one();
        }
        Ok(Ticking(engine.clone()))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        let calls = &mut ticker().calls;
        if let Some(index) = calls.iter().position(|(known, _)| Engine::same(known, &self.0)) {
            calls[index].1 -= 1;
            if calls[index].1 == 0 {
                calls.swap_remove(index);
            }
        }
    }
}

fn ticker() -> MutexGuard<'static, Ticker> {
    TICKER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One thread for the process; it sleeps while no guest runs.
fn tick() {
    loop {
        thread::sleep(TICK);
        let mut ticker = ticker();
        ticker.calls.iter().for_each(|(engine, _)| engine.increment_epoch());
        ticker.parked = ticker.calls.is_empty();
        drop(CALLED.wait_while(ticker, |ticker| ticker.parked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_of_an_instance_share_one_limit() {
        let mut limits = Limits::new(1 << 20, Duration::from_secs(10));
        let (half, three) = (512 << 10, 768 << 10);
        assert!(limits.memory_growing(0, half, None).unwrap());
        let error = limits.memory_growing(0, three, None).unwrap_err();
        assert_eq!(error.to_string(), "memory limit of 1 MiB exceeded: it wanted 1280 KiB");
        assert!(limits.memory_growing(0, three, Some(half)).unwrap(), "the module's own maximum refuses this");
        assert!(limits.memory_growing(0, half, None).unwrap());
        assert_eq!(limits.memory_bytes(), 1 << 20);
        assert!(limits.memory_growing(half, half + 1, None).is_err());
    }

    #[test]
    fn a_refusal_of_the_kernel_is_nobodys_fault() {
        let mut limits = Limits::new(1 << 20, Duration::from_secs(10));
        let refused = wasmtime::Error::new(rustix::io::Errno::NOMEM).context("mmap failed");
        let error = limits.memory_grow_failed(refused).unwrap_err();
        assert!(is_of_the_system(&error), "{error:?}");
        limits.memory_grow_failed(wasmtime::Error::msg("beyond its own maximum")).unwrap();
        assert!(!is_of_the_system(&Exceeded::Tables.into()));
    }
}
