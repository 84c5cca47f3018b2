//! `wasi:clocks`, `wasi:random`, `wasi:cli` and `wasi:filesystem`, as far as they harm nobody.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use wasmtime::component::{ComponentType, LinkerInstance, Lower, Resource};
use wasmtime::{Result, StoreContextMut, bail, ensure, format_err};

use super::super::State;
use super::io::{InputStream, OutputStream};
use super::{STDERR, STDOUT};

/// Random bytes that a guest may ask for at once.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// A file or folder, of which there are none.
pub struct Descriptor;

/// A terminal to read from, of which there are none.
pub struct TerminalInput;

/// A terminal to write to, of which there are none.
pub struct TerminalOutput;

#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Context<'a> = StoreContextMut<'a, State>;
type Pairs = Vec<(String, String)>;

/// Defines a function of these interfaces, if it is one that is granted.
pub fn define(to: &mut LinkerInstance<State>, interface: &str, name: &str) -> Result<bool> {
    match (interface, name) {
        ("wasi:clocks/wall-clock", "now") => to.func_wrap(name, |_: Context, ()| Ok((today()?,))),
        ("wasi:clocks/wall-clock", "resolution") => {
            to.func_wrap(name, |_: Context, ()| Ok((Datetime { seconds: 0, nanoseconds: 1 },)))
        }
        ("wasi:clocks/monotonic-clock", "now") => to.func_wrap(name, |_: Context, ()| Ok((now_ns(),))),
        ("wasi:clocks/monotonic-clock", "resolution") => to.func_wrap(name, |_: Context, ()| Ok((1_u64,))),
        ("wasi:clocks/monotonic-clock", "subscribe-duration") => {
            to.func_wrap(name, |mut context: Context, (ns,): (u64,)| Ok((context.data_mut().wasi.timers.add(ns)?,)))
        }
        ("wasi:clocks/monotonic-clock", "subscribe-instant") => {
            to.func_wrap(name, |mut context: Context, (at,): (u64,)| {
                Ok((context.data_mut().wasi.timers.add(at.saturating_sub(now_ns()))?,))
            })
        }
        ("wasi:random/random", "get-random-bytes") | ("wasi:random/insecure", "get-insecure-random-bytes") => {
            to.func_wrap(name, |_: Context, (bytes,): (u64,)| Ok((random_bytes(bytes)?,)))
        }
        ("wasi:random/random", "get-random-u64") | ("wasi:random/insecure", "get-insecure-random-u64") => {
            to.func_wrap(name, |_: Context, ()| Ok((random_u64()?,)))
        }
        ("wasi:random/insecure-seed", "insecure-seed") => {
            to.func_wrap(name, |_: Context, ()| Ok(((random_u64()?, random_u64()?),)))
        }
        ("wasi:cli/environment", "get-environment") => to.func_wrap(name, |_: Context, ()| Ok((Pairs::new(),))),
        ("wasi:cli/environment", "get-arguments") => to.func_wrap(name, |_: Context, ()| Ok((Vec::<String>::new(),))),
        ("wasi:cli/environment", "initial-cwd") => to.func_wrap(name, |_: Context, ()| Ok((None::<String>,))),
        ("wasi:cli/exit", "exit") => to.func_wrap(name, |_: Context, (status,): (std::result::Result<(), ()>,)| {
            exited(u32::from(status.is_err()))
        }),
        ("wasi:cli/exit", "exit-with-code") => to.func_wrap(name, |_: Context, (code,): (u8,)| exited(code.into())),
        ("wasi:cli/stdin", "get-stdin") => {
            to.func_wrap(name, |_: Context, ()| Ok((Resource::<InputStream>::new_own(0),)))
        }
        ("wasi:cli/stdout", "get-stdout") => {
            to.func_wrap(name, |_: Context, ()| Ok((Resource::<OutputStream>::new_own(STDOUT),)))
        }
        ("wasi:cli/stderr", "get-stderr") => {
            to.func_wrap(name, |_: Context, ()| Ok((Resource::<OutputStream>::new_own(STDERR),)))
        }
        ("wasi:cli/terminal-stdin", "get-terminal-stdin") => {
            to.func_wrap(name, |_: Context, ()| Ok((None::<Resource<TerminalInput>>,)))
        }
        ("wasi:cli/terminal-stdout", "get-terminal-stdout") | ("wasi:cli/terminal-stderr", "get-terminal-stderr") => {
            to.func_wrap(name, |_: Context, ()| Ok((None::<Resource<TerminalOutput>>,)))
        }
        ("wasi:filesystem/preopens", "get-directories") => {
            to.func_wrap(name, |_: Context, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),)))
        }
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn today() -> Result<Datetime> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Datetime { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() })
}

/// Nanoseconds since the Unix epoch.
pub fn today_ns() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

/// Nanoseconds since the first guest asked.
pub fn now_ns() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let since = ORIGIN.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn random_bytes(bytes: u64) -> Result<Vec<u8>> {
    ensure!(bytes <= RANDOM_BYTES_MAX, "asks for {bytes} random bytes at once; {RANDOM_BYTES_MAX} are allowed");
    let mut random = vec![0; usize::try_from(bytes)?];
    fill(&mut random)?;
    Ok(random)
}

/// Eight random bytes.
pub fn random_u64() -> Result<u64> {
    let mut random = [0; 8];
    fill(&mut random)?;
    Ok(u64::from_le_bytes(random))
}

fn fill(random: &mut [u8]) -> Result<()> {
    getrandom::fill(random).map_err(|error| format_err!("no randomness: {error}"))
}

/// A guest that ends itself traps.
pub fn exited(code: u32) -> Result<()> {
    bail!("the guest ended itself with exit code {code}")
}
