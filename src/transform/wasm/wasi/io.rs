//! `wasi:io` and what waits: streams that lead to the log, and timers that end with the call at the latest.

use std::thread;
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentType, LinkerInstance, Lower, Resource, WasmList};
use wasmtime::{Result, StoreContextMut, ensure, format_err};

use super::super::{Limits, State};

/// Bytes that a guest may write at once. WASI lets `blocking-write-and-flush` take 4096 at most; we take as much as
/// `check-write` gives.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Timers that an instance may have at once.
const TIMERS_MAX: usize = 1024;

/// Standard input, which has ended.
pub struct InputStream;

/// Standard output or error, by its number in POSIX.
pub struct OutputStream;

/// Of which there are none.
pub struct IoError;

/// What can be waited for: nothing (`READY`), or a timer.
pub struct Pollable;

const READY: u32 = 0;

/// Timers of an instance by the number of their pollable, less one.
#[derive(Default)]
pub struct Timers(Vec<Option<Due>>);

/// When; `Never` is farther than the clock can say.
#[derive(Clone, Copy)]
enum Due {
    At(Instant),
    Never,
}

impl Timers {
    /// Something that is ready in so many nanoseconds.
    pub fn add(&mut self, nanoseconds: u64) -> Result<Resource<Pollable>> {
        let due = Instant::now().checked_add(Duration::from_nanos(nanoseconds)).map_or(Due::Never, Due::At);
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        ensure!(free < TIMERS_MAX, "more than {TIMERS_MAX} timers at once");
        if free == self.0.len() {
            self.0.push(None);
        }
        if let Some(place) = self.0.get_mut(free) {
            *place = Some(due);
        }
        Ok(Resource::new_own(free as u32 + 1))
    }

    /// Forgets one.
    pub fn remove(&mut self, number: u32) {
        if let Some(place) = number.checked_sub(1).and_then(|place| self.0.get_mut(place as usize)) {
            *place = None;
        }
    }

    /// When this is ready, if it is not yet.
    fn due(&self, pollable: &Resource<Pollable>) -> Result<Option<Due>> {
        let Some(place) = pollable.rep().checked_sub(READY + 1) else { return Ok(None) };
        let due = self.0.get(place as usize).copied().flatten().ok_or_else(|| format_err!("no such timer"))?;
        Ok(Some(due).filter(|due| !due.is_past()))
    }
}

impl Due {
    fn is_past(self) -> bool {
        matches!(self, Due::At(due) if due <= Instant::now())
    }
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum StreamError {
    #[expect(dead_code, reason = "part of the type; nothing here fails")]
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

type Outcome<T> = std::result::Result<T, StreamError>;
type Context<'a> = StoreContextMut<'a, State>;

/// Defines a function of `wasi:io`, if it is one.
pub fn define(to: &mut LinkerInstance<State>, interface: &str, name: &str) -> Result<bool> {
    match (interface, name) {
        ("wasi:io/poll", "[method]pollable.ready") => {
            to.func_wrap(name, |context: Context, (pollable,): (Resource<Pollable>,)| {
                Ok((context.data().wasi.timers.due(&pollable)?.is_none(),))
            })
        }
        ("wasi:io/poll", "[method]pollable.block") => {
            to.func_wrap(name, |context: Context, (pollable,): (Resource<Pollable>,)| wait(&context, &[pollable]))
        }
        ("wasi:io/poll", "poll") => to.func_wrap(name, |context: Context, (all,): (Vec<Resource<Pollable>>,)| {
            ensure!(!all.is_empty(), "polls nothing");
            wait(&context, &all)?;
            Ok((ready(&context, &all)?,))
        }),
        ("wasi:io/streams", "[method]input-stream.read" | "[method]input-stream.blocking-read") => {
            to.func_wrap(name, |_: Context, _: (Resource<InputStream>, u64)| Ok((closed::<Vec<u8>>(),)))
        }
        ("wasi:io/streams", "[method]input-stream.skip" | "[method]input-stream.blocking-skip") => {
            to.func_wrap(name, |_: Context, _: (Resource<InputStream>, u64)| Ok((closed::<u64>(),)))
        }
        ("wasi:io/streams", "[method]input-stream.subscribe") => {
            to.func_wrap(name, |_: Context, _: (Resource<InputStream>,)| Ok((Resource::<Pollable>::new_own(READY),)))
        }
        ("wasi:io/streams", "[method]output-stream.subscribe") => {
            to.func_wrap(name, |_: Context, _: (Resource<OutputStream>,)| Ok((Resource::<Pollable>::new_own(READY),)))
        }
        ("wasi:io/streams", "[method]output-stream.check-write") => to
            .func_wrap(name, |_: Context, _: (Resource<OutputStream>,)| {
                Ok((Outcome::<u64>::Ok(WRITE_BYTES_MAX as u64),))
            }),
        ("wasi:io/streams", "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush") => {
            to.func_wrap(name, write)
        }
        (
            "wasi:io/streams",
            "[method]output-stream.write-zeroes" | "[method]output-stream.blocking-write-zeroes-and-flush",
        ) => to.func_wrap(name, |_: Context, _: (Resource<OutputStream>, u64)| Ok((Outcome::Ok(()),))),
        ("wasi:io/streams", "[method]output-stream.flush" | "[method]output-stream.blocking-flush") => {
            to.func_wrap(name, |_: Context, _: (Resource<OutputStream>,)| Ok((Outcome::Ok(()),)))
        }
        ("wasi:io/streams", "[method]output-stream.splice" | "[method]output-stream.blocking-splice") => to
            .func_wrap(name, |_: Context, _: (Resource<OutputStream>, Resource<InputStream>, u64)| {
                Ok((closed::<u64>(),))
            }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn closed<T>() -> Outcome<T> {
    Err(StreamError::Closed)
}

fn write(mut context: Context, (stream, bytes): (Resource<OutputStream>, WasmList<u8>)) -> Result<(Outcome<()>,)> {
    ensure!(bytes.len() <= WRITE_BYTES_MAX, "writes {} bytes at once; {WRITE_BYTES_MAX} are allowed", bytes.len());
    let bytes = bytes.as_le_slice(&context).to_vec();
    context.data_mut().wasi.write(stream.rep(), &bytes)?;
    Ok((Ok(()),))
}

/// Waits until one of them is ready. One that takes longer than the call may ends the call.
fn wait(context: &Context, all: &[Resource<Pollable>]) -> Result<()> {
    let State { wasi, limits, .. } = context.data();
    let mut earliest: Option<Instant> = None;
    for pollable in all {
        match wasi.timers.due(pollable)? {
            None => return Ok(()),
            Some(Due::At(due)) => earliest = Some(earliest.map_or(due, |other| other.min(due))),
            Some(Due::Never) => {}
        }
    }
    sleep_until(earliest, limits)
}

/// Sleeps until then, or for ever: no longer than the call may take, which then ends.
pub fn sleep_until(due: Option<Instant>, limits: &Limits) -> Result<()> {
    let in_time = due.filter(|due| *due <= limits.deadline);
    let until = in_time.unwrap_or(limits.deadline);
    thread::sleep(until.saturating_duration_since(Instant::now()));
    if in_time.is_some() { Ok(()) } else { Err(limits.time_is_up()) }
}

/// Which of them are ready, by their place.
fn ready(context: &Context, all: &[Resource<Pollable>]) -> Result<Vec<u32>> {
    let timers = &context.data().wasi.timers;
    let mut ready = Vec::new();
    for (place, pollable) in all.iter().enumerate() {
        if timers.due(pollable)?.is_none() {
            ready.push(place as u32);
        }
    }
    Ok(ready)
}
