//! A guest: one instance of a module, and calls of its two functions.
//!
//! Types are those of `transforms/hydrant.wit`. Records are lowered from where they lie in their batch; answers are lifted
//! into memory of ours, since the guest frees them before the call returns. What ends a call otherwise is either the
//! guest's [`Failure`], with a code and a reason for the records, or a fault of the machine.

use std::fmt::{self, Write};
use std::ops::Range;

use wasmtime::component::{ComponentType, Lower};
use wasmtime::{Engine, FrameInfo, Store, Trap, WasmBacktrace};

use super::lift::{Lifted, TooManyOutputs};
use super::limits::{Exceeded, Ticking, is_of_the_system};
use super::module::STACK_BYTES_MAX;
use super::{Exports, Module, State};
use crate::error::{Blame, Fault};
use crate::record::Batch;
use crate::units::{Interval, Size};

/// Error codes of records set aside. The guest said that it failed.
pub const FAILED: &str = "Wasm.Failed";
/// It ended in a trap.
pub const TRAP: &str = "Wasm.Trap";
/// It took too long.
pub const TIME_LIMIT: &str = "Wasm.TimeLimit";
/// It wanted too much memory.
pub const MEMORY_LIMIT: &str = "Wasm.MemoryLimit";
/// It answered with too much.
pub const OUTPUT_LIMIT: &str = "Wasm.OutputLimit";
/// It answered with what is no answer.
pub const WRONG_ANSWER: &str = "Wasm.WrongAnswer";

/// A reason is cut here.
const REASON_BYTES_MAX: usize = 1 << 10;
/// The name of a function of a backtrace is cut here.
const NAME_BYTES_MAX: usize = 200;
/// Functions of a trap's backtrace that are named.
const FRAMES_SHOWN: usize = 3;

/// A record on its way in.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Event<'b> {
    data: &'b [u8],
    #[component(name = "arrival-ms")]
    arrival_ms: u64,
    key: Option<&'b [u8]>,
    origin: Option<EventOrigin<'b>>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct EventOrigin<'b> {
    topic: &'b str,
    partition: u32,
    offset: u64,
    headers: Vec<(&'b str, &'b [u8])>,
}

/// What became of the records of a part, one answer each.
#[derive(Debug)]
pub struct Answered {
    pub answers: Lifted,
    /// Bytes of memory that they take, with what outputs inherit of their records.
    pub bytes: usize,
}

/// Why a guest has no answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// An error code: [`TRAP`] and others.
    pub code: &'static str,
    pub message: String,
}

/// Why a call has no result.
#[derive(Debug)]
pub enum Ended {
    Failed(Failure),
    /// Nobody's record is at fault.
    Fault(Fault),
}

/// Why an instance did not start.
#[derive(Debug)]
pub enum NoStart {
    /// What `init` said.
    Refused(String),
    Failed(Failure),
    Fault(Fault),
}

/// One instance, after its `init`.
pub struct Guest {
    store: Store<State>,
    exports: Exports,
    engine: Engine,
    used: bool,
}

impl Guest {
    /// Makes an instance and calls its `init`. The limits of `state` hold for both together.
    pub fn start(module: &Module, state: State, config: &str, output_max: Size) -> Result<Guest, NoStart> {
        let ended = |error, stderr: &str| match ended(error, output_max, stderr) {
            Ended::Failed(failure) => NoStart::Failed(failure),
            Ended::Fault(fault) => NoStart::Fault(fault),
        };
        let _ticking = Ticking::begin(module.engine()).map_err(|error| NoStart::Fault(no_room(error.into())))?;
        let (mut store, exports) = module.instantiate(state).map_err(|error| {
            // What is not the guest's own doing was not there to be had.
            let guests = error.is::<Trap>() || error.is::<Exceeded>() || error.is::<WasmBacktrace>();
            match guests && !is_of_the_system(&error) {
                true => ended(error, ""),
                false => NoStart::Fault(no_room(error)),
            }
        })?;
        // Each byte of an answer takes one.
        store.set_hostcall_fuel(usize::try_from(output_max.bytes()).unwrap_or(usize::MAX));
        let init = exports.init.typed::<(&str,), (Result<(), String>,)>(&store);
        match init.and_then(|init| init.call(&mut store, (config,))) {
            Ok((Ok(()),)) => Ok(Guest { store, exports, engine: module.engine().clone(), used: false }),
            Ok((Err(why),)) => Err(NoStart::Refused(shortened(&why))),
            Err(error) => Err(ended(error, &store.data().wasi.stderr_tail())),
        }
    }

    /// Gives these records to `process`, which may take this long and answer with so much.
    pub fn process(
        &mut self,
        batch: &Batch,
        rows: Range<usize>,
        time: Interval,
        output_max: Size,
    ) -> Result<Answered, Ended> {
        let _ticking = Ticking::begin(&self.engine).map_err(|error| Ended::Fault(no_room(error.into())))?;
        self.used = true;
        self.store.data_mut().limits.set_time(time.duration());
        let events: Vec<Event> = rows.clone().map(|row| event(batch, row)).collect();
        let process = self.exports.process.typed::<(&[Event],), (Lifted,)>(&self.store);
        match process.and_then(|process| process.call(&mut self.store, (&events,))) {
            Ok((answers,)) => judge(answers, batch, rows, output_max).map_err(Ended::Failed),
            Err(error) => Err(ended(error, output_max, &self.store.data().wasi.stderr_tail())),
        }
    }

    /// Whether no record was given to it yet: what fails then is not the doing of records before.
    pub fn is_fresh(&self) -> bool {
        !self.used
    }

    /// Bytes of its linear memories now, which never shrink.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().limits.memory_bytes()
    }

    /// Whether its memory has grown so far that a new one is better.
    pub fn is_worn(&self) -> bool {
        let limits = &self.store.data().limits;
        self.memory_bytes() as u64 > limits.memory_max().bytes() / 2
    }
}

fn event(batch: &Batch, row: usize) -> Event<'_> {
    let origin = batch.origin(row).map(|origin| EventOrigin {
        topic: origin.topic,
        partition: origin.partition,
        offset: origin.offset,
        // Kafka's names are UTF-8; another log's may not be, and a string must.
        headers: origin.headers.map(|(name, value)| (str::from_utf8(name).unwrap_or("\u{fffd}"), value)).collect(),
    });
    let arrival_ms = u64::try_from(batch.arrival_ms(row)).unwrap_or(0);
    Event { data: batch.payload(row), arrival_ms, key: batch.key(row), origin }
}

/// Whether there is an answer for each record, and not too much in all.
fn judge(answers: Lifted, batch: &Batch, rows: Range<usize>, output_max: Size) -> Result<Answered, Failure> {
    if answers.len() != rows.len() {
        let message = format!("{} answers for {} records", answers.len(), rows.len());
        return Err(Failure { code: WRONG_ANSWER, message });
    }
    let several = |(outputs, row): (Result<Range<usize>, &str>, usize)| match outputs.map(|outputs| outputs.len()) {
        Ok(outputs) if outputs > 1 => outputs * inherited_bytes(batch, row),
        _ => 0,
    };
    let bytes = answers.bytes() + answers.iter().zip(rows).map(several).sum::<usize>();
    match bytes as u64 > output_max.bytes() {
        true => Err(too_much_output(output_max)),
        false => Ok(Answered { bytes: bytes + answers.other_bytes(), answers }),
    }
}

/// Bytes that each output of a record takes over: key, headers, earlier partition keys.
fn inherited_bytes(batch: &Batch, row: usize) -> usize {
    let of_pairs = |pairs: crate::record::Pairs| pairs.map(|(name, value)| name.len() + value.len() + 8).sum::<usize>();
    let headers = batch.origin(row).map_or(0, |origin| of_pairs(origin.headers));
    batch.key(row).map_or(0, <[u8]>::len) + headers + of_pairs(batch.partition_keys(row))
}

/// What a call that has no result ended with. `stderr` is the end of what the guest wrote there.
fn ended(error: wasmtime::Error, output_max: Size, stderr: &str) -> Ended {
    if is_of_the_system(&error) {
        return Ended::Fault(no_room(error));
    }
    let failure = failure(&error, output_max);
    let failure = Failure { message: shortened(&failure.message), ..failure };
    let stderr = stderr.trim();
    match stderr.is_empty() {
        true => Ended::Failed(failure),
        false => Ended::Failed(Failure { message: format!("{}; stderr: {stderr}", failure.message), ..failure }),
    }
}

fn failure(error: &wasmtime::Error, output_max: Size) -> Failure {
    let root = error.root_cause().to_string();
    if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
        let code = match exceeded {
            Exceeded::Time { .. } => TIME_LIMIT,
            Exceeded::Memory { .. } | Exceeded::Tables => MEMORY_LIMIT,
        };
        return Failure { code, message: exceeded.to_string() };
    }
    if error.is::<TooManyOutputs>() {
        return Failure { code: OUTPUT_LIMIT, message: root };
    }
    // wasmtime has no type for it.
    if root.contains("fuel allocated for hostcalls") {
        return too_much_output(output_max);
    }
    let place = error.downcast_ref::<WasmBacktrace>().map(in_functions).unwrap_or_default();
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => {
            let max = Size::from_bytes(STACK_BYTES_MAX as u64);
            Failure { code: TRAP, message: format!("stack limit of {max} exceeded{place}") }
        }
        Some(trap) => {
            let trap = trap.to_string();
            Failure { code: TRAP, message: format!("{}{place}", trap.trim_start_matches("wasm ")) }
        }
        // Something that it called refused.
        None if error.is::<WasmBacktrace>() => Failure { code: TRAP, message: format!("{root}{place}") },
        None if error.is::<std::str::Utf8Error>() => {
            let message = format!("a reason or a partition key in its answer is not UTF-8: {root}");
            Failure { code: WRONG_ANSWER, message }
        }
        None => Failure { code: WRONG_ANSWER, message: format!("its answer cannot be read: {root}") },
    }
}

fn too_much_output(output_max: Size) -> Failure {
    let message = format!("output limit of {output_max} for a part of a batch exceeded");
    Failure { code: OUTPUT_LIMIT, message }
}

/// The innermost functions of a backtrace: ` in parse < process`; nothing if they have no names.
fn in_functions(backtrace: &WasmBacktrace) -> String {
    let names = backtrace.frames().iter().filter_map(FrameInfo::func_name).filter(|name| !name.starts_with('<'));
    let names: Vec<String> = names.take(FRAMES_SHOWN).map(demangled).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(" in {}", names.join(" < ")),
    }
}

/// A function's name as its source has it, if that was Rust; other names as they are. The guest chose it: a few bytes may
/// stand for gigabytes (wasmtime's own feature for it, with C++, writes them all), so it is written until it is too long.
fn demangled(name: &str) -> String {
    struct Short(String);
    impl Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = text.floor_char_boundary(NAME_BYTES_MAX - self.0.len());
            self.0.push_str(&text[..room]);
            if room < text.len() { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut short = Short(String::new());
    let name = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
    // An error is that it is too long, and then its beginning will do.
    let _ = write!(short, "{:#}", rustc_demangle::demangle(name));
    short.0
}

/// Of a guest's own words as many as fit on a line of an error object.
pub fn shortened(words: &str) -> String {
    match words.len() <= REASON_BYTES_MAX {
        true => words.to_owned(),
        false => format!("{}…", &words[..words.floor_char_boundary(REASON_BYTES_MAX)]),
    }
}

fn no_room(error: wasmtime::Error) -> Fault {
    // Without the backtrace, whose names are the guest's.
    let why = if error.is::<WasmBacktrace>() { error.root_cause().to_string() } else { format!("{error:#}") };
    Fault::new(Blame::Transform, format!("the machine has no room for the module: {}", shortened(&why)))
}
