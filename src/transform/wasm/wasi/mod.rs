//! What a module imports, as hydrant gives it: a clock, randomness and a log; the rest is there, and traps.
//!
//! Guests of Python, Go and JavaScript import all of WASI because their runtimes could use it. Each import of a component
//! is defined by its name as the component has it, so any 0.2.x links: a function that hydrant knows with what it does, any
//! other with a trap that names it.

mod io;
pub mod preview1;
mod system;

use std::collections::HashMap;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, ResourceType, WasmStr};
use wasmtime::{Result, StoreContextMut, bail};

use super::contract::{HOST, split_version};
use super::log::{Level, Lines, Log};
use super::{State, Unfit};

use io::{InputStream, IoError, OutputStream, Pollable, Timers};

/// The numbers of standard output and error, as in POSIX.
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// What WASI knows of an instance.
pub struct Wasi {
    stdout: Lines,
    stderr: Lines,
    timers: Timers,
}

impl Wasi {
    /// For a new instance, whose output goes to this log.
    pub fn new(log: &Log) -> Wasi {
        let (stdout, stderr) = (Lines::new(log, Level::Info), Lines::new(log, Level::Warn));
        Wasi { stdout, stderr, timers: Timers::default() }
    }

    fn write(&mut self, stream: u32, bytes: &[u8]) -> Result<()> {
        match stream {
            STDOUT => self.stdout.write(bytes),
            STDERR => self.stderr.write(bytes),
            _ => bail!("no stream {stream}"),
        }
        Ok(())
    }

    /// What it wrote last to its standard error, at most some 500 bytes: a traceback, for the reason of a trap.
    pub fn stderr_tail(&self) -> String {
        self.stderr.tail()
    }
}

/// Defines all that a component imports.
pub fn link(linker: &mut Linker<State>, component: &Component) -> Result<(), Unfit> {
    let broken = |error: wasmtime::Error| Unfit::new(format!("cannot be linked: {error:#}"));
    let (engine, ty) = (component.engine(), component.component_type());
    let mut resources = Resources::default();
    for (name, import) in ty.imports(engine) {
        let ComponentItem::ComponentInstance(instance) = &import.ty else {
            return Err(Unfit::new(format!("imports `{name}`, which is no interface")));
        };
        let mut to = linker.instance(name).map_err(broken)?;
        for (item, export) in instance.exports(engine) {
            match export.ty {
                ComponentItem::Resource(_) => resources.define(&mut to, item).map_err(broken)?,
                ComponentItem::ComponentFunc(_) => define(&mut to, name, item)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Defines one function.
fn define(to: &mut LinkerInstance<State>, import: &str, function: &str) -> Result<(), Unfit> {
    let (interface, version) = split_version(import);
    let defined = match interface {
        HOST if function == "log" => to.func_wrap(function, log).map(|()| true),
        preview1::HOST => preview1::define(to, interface, function),
        _ if interface.starts_with("hydrant:") => {
            return Err(Unfit::new(format!("imports `{import}` `{function}`; this hydrant gives `{HOST}` `log`"))
                .hint("build it against the hydrant.wit of this hydrant"));
        }
        _ if version.starts_with("0.2.") && !version.contains('-') => {
            io::define(to, interface, function).and_then(|done| Ok(done || system::define(to, interface, function)?))
        }
        _ => Ok(false),
    };
    let defined = defined.and_then(|done| if done { Ok(()) } else { refuse(to, format!("{import}#{function}")) });
    defined.map_err(|error| Unfit::new(format!("imports `{import}` `{function}`, which cannot be linked: {error:#}")))
}

/// Defines a function that traps, and says what it is.
fn refuse(to: &mut LinkerInstance<State>, full_name: String) -> Result<()> {
    let (_, name) = full_name.split_at(full_name.find('#').map_or(0, |at| at + 1));
    to.func_new(&name.to_owned(), move |_, _, _, _| {
        bail!("hydrant grants a transform no `{full_name}`: it has a clock, randomness and a log")
    })
}

fn log(context: StoreContextMut<State>, (level, message): (Level, WasmStr)) -> Result<()> {
    let message = message.to_str(&context)?;
    context.data().log.line(level, message.as_bytes());
    Ok(())
}

/// Types of resources by name: an interface that uses one of another has it by the same name.
#[derive(Default)]
struct Resources {
    refused: HashMap<String, u32>,
}

impl Resources {
    fn define(&mut self, to: &mut LinkerInstance<State>, name: &str) -> Result<()> {
        let ty = match name {
            "pollable" => {
                return to.resource(name, ResourceType::host::<Pollable>(), |mut context, rep| {
                    context.data_mut().wasi.timers.remove(rep);
                    Ok(())
                });
            }
            "input-stream" => ResourceType::host::<InputStream>(),
            "output-stream" => ResourceType::host::<OutputStream>(),
            "error" | "io-error" => ResourceType::host::<IoError>(),
            "descriptor" => ResourceType::host::<system::Descriptor>(),
            "terminal-input" => ResourceType::host::<system::TerminalInput>(),
            "terminal-output" => ResourceType::host::<system::TerminalOutput>(),
            _ => {
                let next = self.refused.len() as u32;
                ResourceType::host_dynamic(*self.refused.entry(name.to_owned()).or_insert(next))
            }
        };
        to.resource(name, ty, |_, _| Ok(()))
    }
}
