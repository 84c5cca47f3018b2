//! What hydrant gives its own adapter of `wasi_snapshot_preview1` (preview1.wat): the same clock, randomness and log.

use std::time::{Duration, Instant};

use wasmtime::component::{LinkerInstance, WasmList};
use wasmtime::{Result, StoreContextMut};

use super::super::State;
use super::{io, system};

/// What the adapter imports, as WIT.
pub const WIT: &str = include_str!("../preview1.wit");

/// The name of that, without its version.
pub const HOST: &str = "hydrant:preview1/host";

/// The adapter: preview1.wat as binary.
pub const ADAPTER: &[u8] = include_bytes!("../preview1.wasm");

/// Bytes copied at once of what a guest writes; the clock is looked at before each.
const COPIED_BYTES: usize = 64 << 10;

type Context<'a> = StoreContextMut<'a, State>;

/// Defines a function of that interface, if it is one.
pub fn define(to: &mut LinkerInstance<State>, interface: &str, name: &str) -> Result<bool> {
    match (interface, name) {
        (HOST, "write") => to.func_wrap(name, write),
        (HOST, "random") => to.func_wrap(name, |_: Context, ()| Ok((system::random_u64()?,))),
        (HOST, "now") => to.func_wrap(name, |_: Context, (monotonic,): (bool,)| {
            Ok((if monotonic { system::now_ns() } else { system::today_ns()? },))
        }),
        (HOST, "sleep") => to.func_wrap(name, sleep),
        (HOST, "exit") => to.func_wrap(name, |_: Context, (code,): (u32,)| system::exited(code)),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn write(mut context: Context, (stream, bytes): (u32, WasmList<u8>)) -> Result<()> {
    for start in (0..bytes.len()).step_by(COPIED_BYTES) {
        context.data().limits.check_time()?;
        let rest = bytes.as_le_slice(&context).get(start..).unwrap_or_default();
        let piece = rest.get(..COPIED_BYTES).unwrap_or(rest).to_vec();
        context.data_mut().wasi.write(stream, &piece)?;
    }
    Ok(())
}

fn sleep(context: Context, (nanoseconds,): (u64,)) -> Result<()> {
    io::sleep_until(Instant::now().checked_add(Duration::from_nanos(nanoseconds)), &context.data().limits)
}
