//! What one record may cost: time, memory, depth. Beyond it the program is left, wherever it is.
//!
//! A jq program can run for ever within one output (`last(range(1e18))`), so looking at a clock between outputs is not
//! enough. The interpreter asks us for its table of terms at every term that it runs, and works on our values only: both
//! count here, and what is too much unwinds to [`within`], past every `try` of the program.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;
use std::time::Instant;

use crate::units::{Interval, Size};

/// Deepest nesting of a value, as serde_json has it: recursion over values fits every stack.
pub const DEPTH_MAX: u8 = 128;

/// Bytes of stack for calls of the interpreter.
const STACK_BYTES_MAX: usize = 1 << 20;

/// The least stack that is counted with: what threads have if nothing is said.
const STACK_BYTES_MIN: usize = 2 << 20;

/// Stack that is reserved for a step: a step makes a node at most of one of the interpreter's lists, whose drop calls
/// itself. The test `the_longest_list_fits_the_stack` has 29 bytes for it, and holds a factor of 2.
const DROP_BYTES: usize = 256;

/// Stack for what calls the interpreter and what it calls.
const STACK_BYTES_BESIDE: usize = 512 << 10;

/// Suspended calls at a time, of about half a kilobyte each.
pub const CONTEXTS_MAX: u32 = 100_000;

/// The clock is looked at once in so many steps.
const STEPS_PER_LOOK: u32 = 1024;

/// Bytes that are gone through in about the time of a step.
const WORK_OF_STEP: usize = 256;

/// What a program may use for one record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub time_max: Interval,
    /// All values that were ever made count: more than what is alive at a time.
    pub memory_max: Size,
}

impl Limits {
    /// So long, and no more memory than is sane.
    pub fn of_time(time_max: Interval) -> Limits {
        Limits { time_max, memory_max: Size::from_mib(256) }
    }
}

/// Why a program was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Time,
    Memory,
    /// This many.
    Steps(usize),
    /// Too many suspended at a time.
    Calls,
    Recursion,
    Depth,
    /// Not a limit: the interpreter panicked.
    Panic,
}

struct Meter {
    /// Whether there are limits now.
    on: Cell<bool>,
    steps: Cell<u32>,
    deadline: Cell<Option<Instant>>,
    bytes: Cell<u64>,
    contexts: Cell<u32>,
    nodes: Cell<usize>,
    stack_end: Cell<usize>,
    stack_bytes: Cell<usize>,
}

thread_local! {
    static METER: Meter = const {
        Meter {
            on: Cell::new(false),
            steps: Cell::new(0),
            deadline: Cell::new(None),
            bytes: Cell::new(0),
            contexts: Cell::new(0),
            nodes: Cell::new(0),
            stack_end: Cell::new(0),
            stack_bytes: Cell::new(STACK_BYTES_MIN),
        }
    };
}

/// How large the stack of this thread is: a program may take as many steps as it bears.
pub fn stack_is(bytes: usize) {
    METER.with(|meter| meter.stack_bytes.set(bytes));
}

fn nodes_max(meter: &Meter) -> usize {
    meter.stack_bytes.get().saturating_sub(STACK_BYTES_MAX + STACK_BYTES_BESIDE) / DROP_BYTES
}

/// Keeps panics within limits off standard error, for this process: each is told of its record.
pub fn keep_panics_silent() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !METER.try_with(|meter| meter.on.get()).unwrap_or(false) {
                told(panic);
            }
        }));
    });
}

/// Runs `work` on this thread within limits. Values made by it must not be used after it.
pub fn within<T>(limits: Limits, work: impl FnOnce() -> T) -> Result<T, Limit> {
    METER.with(|meter| {
        meter.steps.set(STEPS_PER_LOOK);
        meter.deadline.set(Instant::now().checked_add(limits.time_max.duration()));
        meter.bytes.set(limits.memory_max.bytes());
        meter.contexts.set(0);
        meter.nodes.set(nodes_max(meter));
        meter.stack_end.set(stack_here().saturating_sub(STACK_BYTES_MAX));
        meter.on.set(true);
    });
    let done = catch_unwind(AssertUnwindSafe(work));
    METER.with(|meter| meter.on.set(false));
    done.map_err(|panic| panic.downcast_ref::<Limit>().copied().unwrap_or(Limit::Panic))
}

/// A step of work.
pub fn step() {
    work(0);
}

/// Work on so many bytes or values.
pub fn work(amount: usize) {
    METER.with(|meter| {
        if !meter.on.get() {
            return;
        }
        if stack_here() < meter.stack_end.get() {
            stop(meter, Limit::Recursion);
        }
        let steps = u32::try_from(1 + amount / WORK_OF_STEP).unwrap_or(u32::MAX);
        if let Some(left) = meter.steps.get().checked_sub(steps) {
            return meter.steps.set(left);
        }
        meter.steps.set(STEPS_PER_LOOK);
        if meter.deadline.get().is_some_and(|deadline| Instant::now() >= deadline) {
            stop(meter, Limit::Time);
        }
    });
}

/// Bytes that a value is about to take.
pub fn charge(bytes: usize) {
    step();
    METER.with(|meter| match meter.bytes.get().checked_sub(bytes as u64) {
        Some(left) => meter.bytes.set(left),
        None if meter.on.get() => stop(meter, Limit::Memory),
        None => {}
    });
}

/// Bytes that are left.
pub fn bytes_left() -> usize {
    METER.with(|meter| usize::try_from(meter.bytes.get()).unwrap_or(usize::MAX))
}

/// The depth of what holds values up to this deep.
pub fn deeper(depth: u8) -> u8 {
    if depth >= DEPTH_MAX {
        METER.with(|meter| stop(meter, Limit::Depth));
    }
    depth + 1
}

/// A suspended call more. Before the interpreter puts a node on one of its lists, it comes here.
pub fn enter() {
    METER.with(|meter| {
        meter.contexts.set(meter.contexts.get() + 1);
        if meter.contexts.get() > CONTEXTS_MAX && meter.on.get() {
            stop(meter, Limit::Calls);
        }
    });
    node();
}

/// A node more, perhaps, of a list whose drop calls itself for each.
pub fn node() {
    METER.with(|meter| match meter.nodes.get().checked_sub(1) {
        Some(left) => meter.nodes.set(left),
        None if meter.on.get() => stop(meter, Limit::Steps(nodes_max(meter))),
        None => {}
    });
}

/// A suspended call less.
pub fn leave() {
    METER.with(|meter| meter.contexts.set(meter.contexts.get().saturating_sub(1)));
}

/// Unwinds without a word on standard error. What is dropped on the way is not limited any more.
fn stop(meter: &Meter, limit: Limit) -> ! {
    meter.on.set(false);
    let limit: Box<dyn Any + Send> = Box::new(limit);
    resume_unwind(limit)
}

/// About where the stack ends now; it grows down on all that we run on.
#[inline(always)]
fn stack_here() -> usize {
    let here = 0u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}
