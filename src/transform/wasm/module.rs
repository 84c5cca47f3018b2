//! Modules: from the bytes of a file to something that can be started.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, ComponentExportIndex, Func, InstancePre, Linker};
use wasmtime::{Config, Engine, Store};

use crate::units::Size;

use super::cache::Cache;
use super::{State, contract, wasi, weight, wrap};

/// Bytes of a module, at most; one of Python has 18 MB.
pub const MODULE_BYTES_MAX: u64 = 64 << 20;

/// From this size on, someone who waits for it to be compiled is told.
const LARGE_BYTES: usize = 4 << 20;

/// Stack of a guest, in bytes.
pub const STACK_BYTES_MAX: usize = 512 << 10;

/// Handles of resources (streams, timers, its own) that a guest may have at once: they are memory of ours, not its own.
const HANDLES_MAX: usize = 4096;

/// Compiles modules, and shares what it compiled. Cheap to clone.
#[derive(Clone, Default)]
pub struct Modules(Arc<Shelf>);

#[derive(Default)]
struct Shelf {
    cache: Option<Cache>,
    /// Those in use.
    loaded: Mutex<HashMap<Hash, Weak<Loaded>>>,
    /// Held while one is compiled: what several pipelines use is compiled once.
    compiling: Mutex<()>,
}

/// A module that can be started. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Loaded>);

struct Loaded {
    ready: InstancePre<State>,
    init: ComponentExportIndex,
    process: ComponentExportIndex,
    hash: Hash,
}

/// The functions of an instance.
#[derive(Clone, Copy)]
pub struct Exports {
    pub init: Func,
    pub process: Func,
}

/// Why a file cannot be a transform: reads on after its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub message: String,
    pub hint: Option<String>,
}

/// The SHA-256 of a module's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Modules {
    /// Keeps what was compiled in this folder, if one is given: by the content of the module.
    pub fn new(cache: Option<PathBuf>) -> Modules {
        Modules(Arc::new(Shelf { cache: cache.map(Cache::new), ..Shelf::default() }))
    }

    /// What these bytes are, compiled and linked. Blocks: up to some ten seconds for a large module that is new.
    pub fn load(&self, bytes: &[u8]) -> Result<Module, Unfit> {
        if bytes.len() as u64 > MODULE_BYTES_MAX {
            return Err(Unfit::too_large(bytes.len() as u64));
        }
        let hash = Hash::of(bytes);
        if let Some(module) = self.0.in_use(hash) {
            return Ok(module);
        }
        let engine = engine()?;
        if let Some(component) = self.0.cache.as_ref().and_then(|cache| cache.load(engine, hash)) {
            return Ok(self.0.share(link(engine, &component, hash)?));
        }
        let _one_at_a_time = self.0.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = self.0.in_use(hash) {
            return Ok(module);
        }
        let component = wrap::component(bytes)?;
        weight::check(&component)?;
        let component = compile(engine, &component)?;
        let loaded = link(engine, &component, hash)?;
        if let Some(cache) = &self.0.cache {
            cache.keep(engine, hash, &component);
        }
        Ok(self.0.share(loaded))
    }
}

impl Shelf {
    fn in_use(&self, hash: Hash) -> Option<Module> {
        self.loaded().get(&hash).and_then(Weak::upgrade).map(Module)
    }

    fn share(&self, loaded: Loaded) -> Module {
        let (hash, loaded) = (loaded.hash, Arc::new(loaded));
        let mut all = self.loaded();
        all.retain(|_, module| module.strong_count() > 0);
        all.insert(hash, Arc::downgrade(&loaded));
        Module(loaded)
    }

    fn loaded(&self) -> MutexGuard<'_, HashMap<Hash, Weak<Loaded>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Module {
    /// Starts an instance: runs what it does before `init`, within the limits of the state. Its epoch deadline is one tick,
    /// and [`super::Limits::at_tick`] decides at each.
    pub fn instantiate(&self, state: State) -> wasmtime::Result<(Store<State>, Exports)> {
        let mut store = Store::new(self.engine(), state);
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_callback(|context| context.data().limits.at_tick());
        store.set_epoch_deadline(1);
        store.set_max_component_handles(HANDLES_MAX);
        let instance = self.0.ready.instantiate(&mut store)?;
        let function = |store: &mut Store<State>, index| {
            instance.get_func(store, index).ok_or_else(|| wasmtime::format_err!("the export is no function"))
        };
        let init = function(&mut store, self.0.init)?;
        let process = function(&mut store, self.0.process)?;
        Ok((store, Exports { init, process }))
    }

    /// The engine of all modules.
    pub fn engine(&self) -> &Engine {
        self.0.ready.engine()
    }

    /// The hash of the bytes it was made of.
    pub fn hash(&self) -> Hash {
        self.0.hash
    }
}

impl Unfit {
    /// Reads on after the name of the file.
    pub fn new(message: impl Into<String>) -> Unfit {
        Unfit { message: message.into(), hint: None }
    }

    /// And what to do.
    pub fn hint(self, hint: impl Into<String>) -> Unfit {
        Unfit { hint: Some(hint.into()), ..self }
    }

    /// It is larger than [`MODULE_BYTES_MAX`].
    pub fn too_large(bytes: u64) -> Unfit {
        let (is, max) = (Size::from_bytes(bytes), Size::from_bytes(MODULE_BYTES_MAX));
        Unfit::new(format!("is {is} large; the limit is {max}"))
            .hint("build it optimised and without debug information")
    }
}

impl Hash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Hash {
        Hash(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Modules").field("cache", &self.0.cache).finish_non_exhaustive()
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.0.hash).finish()
    }
}

/// The engine of this process.
fn engine() -> Result<&'static Engine, Unfit> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    let made = ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.epoch_interruption(true).max_wasm_stack(STACK_BYTES_MAX);
        Engine::new(&config).map_err(|error| format!("{error:#}"))
    });
    made.as_ref().map_err(|error| Unfit::new(format!("cannot run here: {error}")))
}

/// Compiles. Somebody waits for it, unless the caller gives way to others.
fn compile(engine: &Engine, component: &[u8]) -> Result<Component, Unfit> {
    if component.len() >= LARGE_BYTES {
        let megabytes = component.len() / 1_000_000;
        tracing::info!("a module of {megabytes} MB is compiled, which takes some seconds");
    }
    Component::new(engine, component).map_err(|error| Unfit::new(format!("cannot be compiled: {error:#}")))
}

fn link(engine: &Engine, component: &Component, hash: Hash) -> Result<Loaded, Unfit> {
    let (init, process) = contract::exports(engine, component)?;
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker, component)?;
    let ready =
        linker.instantiate_pre(component).map_err(|error| Unfit::new(format!("cannot be linked: {error:#}")))?;
    Ok(Loaded { ready, init, process, hash })
}
