//! `wasm`: a transform written by the user, as a WebAssembly component or core module.
//!
//! ```text
//! file -> module (compiled, linked) -> instances (pool) <- parts of a batch, on idle cores -> answers, in order
//! ```
//! The promise: whatever a module does, each record is answered once: with what it became, or set aside with a reason that
//! names what was wrong. Nothing that a guest does costs more than its limits, and nobody else waits for it.

mod cache;
mod contract;
mod file;
mod guest;
mod lift;
mod limits;
mod log;
mod module;
mod parts;
mod pool;
mod state;
mod wasi;
mod weight;
mod wrap;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{Answers, Making, Transform, Transformed, Wrong};
use crate::cpu::{cores, off_async, spread};
use crate::error::Fault;
use crate::record::Batch;
use crate::units::{Interval, Size};

use file::ModuleFile;
use guest::{Ended, FAILED, NoStart};
use lift::Lifted;
use parts::{FailedWhole, Guests, Kept, Part, Tried};
use pool::{Mould, Pool};

pub use limits::Limits;
pub use log::{Level, Log};
pub use module::{Exports, Hash, MODULE_BYTES_MAX, Module, Modules, Unfit};
pub use state::State;
pub use wasi::Wasi;

/// Bounds of `memory_max`; 32 bits address 4 GiB.
const MEMORY_MAX_MIN: Size = Size::from_mib(1);
const MEMORY_MAX_MAX: Size = Size::from_gib(4);
/// Bounds of `time_max`; the clock ticks every 10 ms.
const TIME_MAX_MIN: Interval = Interval::from_millis(50);
const TIME_MAX_MAX: Interval = Interval::from_secs(300);
/// Bounds of `output_max`.
const OUTPUT_MAX_MIN: Size = Size::from_mib(1);
const OUTPUT_MAX_MAX: Size = Size::from_mib(512);
/// Bytes of answers that are made one batch of, at most, however many cores they came from: a batch addresses 4 GiB.
const COLLECTED_BYTES_MAX: usize = 2 << 30;
const _: () = assert!(OUTPUT_MAX_MAX.bytes() as usize * 2 < COLLECTED_BYTES_MAX, "one call's always fit");

/// After so long, tries are begun no more before the pipeline had its chance to stop.
const WAVE_TIME_MAX: Duration = Duration::from_millis(100);

/// Options, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The module's file, relative to the folder of the pipeline file.
    pub module: String,
    /// Given to the module's `init`: a text as it is, anything else as JSON.
    #[serde(default)]
    pub config: Option<serde_json::Value>,
    /// What the linear memories of one instance may have together.
    #[serde(default = "default_memory_max")]
    #[schemars(extend("x-bounds" = format!("{MEMORY_MAX_MIN} to {MEMORY_MAX_MAX}")))]
    pub memory_max: Size,
    /// How long a call may take; a part of a batch has at most 500 records.
    #[serde(default = "default_time_max")]
    #[schemars(extend("x-bounds" = format!("{TIME_MAX_MIN} to {TIME_MAX_MAX}")))]
    pub time_max: Interval,
    /// What a part of a batch may become; after so much, what is left of a batch waits until that has gone on.
    #[serde(default = "default_output_max")]
    #[schemars(extend("x-bounds" = format!("{OUTPUT_MAX_MIN} to {OUTPUT_MAX_MAX}")))]
    pub output_max: Size,
}

fn default_memory_max() -> Size {
    Size::from_mib(256)
}

fn default_time_max() -> Interval {
    Interval::from_secs(10)
}

fn default_output_max() -> Size {
    Size::from_mib(64)
}

impl Options {
    /// The transform, with its first instance.
    pub fn make(&self, making: &Making) -> Result<Arc<dyn Transform>, Wrong> {
        within("memory_max", self.memory_max, MEMORY_MAX_MIN, MEMORY_MAX_MAX)?;
        within("time_max", self.time_max, TIME_MAX_MIN, TIME_MAX_MAX)?;
        within("output_max", self.output_max, OUTPUT_MAX_MIN, OUTPUT_MAX_MAX)?;
        let file = ModuleFile::new(making.folder.join(&self.module));
        let look = making.reads.look(file.path(), MODULE_BYTES_MAX);
        let bytes = file.read().map_err(wrong_module)?;
        look.found(&bytes);
        let module = making.modules.load(&bytes).map_err(wrong_module)?;
        Ok(Arc::new(Wasm::new(self, making.pipeline, file.name(), module)?))
    }

    /// What `init` is given.
    fn config_text(&self) -> String {
        match &self.config {
            None => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }
}

fn within<T: PartialOrd + std::fmt::Display>(key: &'static str, value: T, min: T, max: T) -> Result<(), Wrong> {
    match value < min || value > max {
        true => Err(Wrong::new(key, format!("expected {min} to {max}, found {value}"))),
        false => Ok(()),
    }
}

fn wrong_module(Unfit { message, hint }: Unfit) -> Wrong {
    Wrong { hint, ..Wrong::new("module", message) }
}

/// The transform.
struct Wasm {
    /// Its file's last name.
    name: String,
    time_max: Interval,
    output_max: Size,
    pool: Pool,
    /// Batches at work on instances, one for each core: a pipeline with many shards needs no more memory than that.
    at_work: Semaphore,
    failed_whole: FailedWhole,
}

impl Wasm {
    fn new(options: &Options, pipeline: &str, name: String, module: Module) -> Result<Wasm, Wrong> {
        let &Options { memory_max, time_max, output_max, .. } = options;
        let (config, log) = (options.config_text(), Log::new(pipeline, &name));
        let mould = Mould { module, log, config, memory_max, time_max, output_max };
        let pool = Pool::new(mould).map_err(|no_start| match no_start {
            NoStart::Refused(why) => Wrong::new("config", format!("refused by `init` of {name}: {why}")),
            NoStart::Failed(failure) => Wrong::new("module", format!("does not start: {}", failure.message)),
            NoStart::Fault(fault) => Wrong::new("module", format!("cannot be started here: {:#}", fault.error)),
        })?;
        let at_work = Semaphore::new(cores());
        Ok(Wasm { name, time_max, output_max, pool, at_work, failed_whole: FailedWhole::default() })
    }

    /// Makes tries until all parts are done or enough is kept, or for [`WAVE_TIME_MAX`]; a try begun is waited for.
    fn wave(&self, batch: &Batch, parts: &mut [Part], kept: &Kept) -> Result<(), Fault> {
        let until = Instant::now() + WAVE_TIME_MAX;
        let fault = Mutex::new(None);
        let slot = || fault.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<&mut Part> = parts.iter_mut().filter(|part| part.may_go_on(kept)).collect();
        spread(open, |part| {
            while part.may_go_on(kept) && Instant::now() < until && slot().is_none() {
                if let Err(fault) = part.step(&On { pool: &self.pool, batch }, &self.failed_whole, kept) {
                    slot().get_or_insert(fault);
                }
            }
        });
        fault.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Answers of the first rows of all, as one; the rows from the first without an answer on are left.
    fn collect(&self, batch: &Batch, parts: Vec<Part>) -> Transformed {
        let mut answers = Answers::with_room_for(batch);
        let (mut next, mut bytes) = (0, 0);
        for done in parts.into_iter().flat_map(Part::done) {
            bytes += done.outcome.as_ref().map_or(0, |answered| answered.bytes);
            if done.rows.start != next || bytes > COLLECTED_BYTES_MAX {
                break;
            }
            next = done.rows.end;
            match done.outcome {
                Ok(answered) => put(&mut answers, batch, done.rows, &answered.answers),
                Err(failure) => {
                    done.rows.for_each(|row| answers.fail(batch, row, failure.code, &failure.message));
                }
            }
        }
        let transformed = answers.finish();
        match next < batch.len() {
            true => Transformed {
                left: batch.select(&(next as u32..batch.len() as u32).collect::<Vec<_>>()),
                ..transformed
            },
            false => transformed,
        }
    }
}

fn put(answers: &mut Answers, batch: &Batch, rows: Range<usize>, of_rows: &Lifted) {
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for (row, outputs) in rows.zip(of_rows.iter()) {
        match outputs {
            Ok(outputs) if outputs.is_empty() => answers.drop_one(),
            Ok(outputs) => outputs.for_each(|output| {
                let (data, given) = of_rows.output(output);
                keys.clear();
                keys.extend(given.iter().map(|(name, value)| (name.as_str(), value.as_str())));
                answers.push(batch, row, data, &keys);
            }),
            Err(why) => answers.fail(batch, row, FAILED, why),
        }
    }
}

/// Guests for the parts of one batch.
struct On<'a> {
    pool: &'a Pool,
    batch: &'a Batch,
}

impl Guests for On<'_> {
    fn call(&self, rows: Range<usize>, time: Interval, fresh: bool) -> Result<Tried, Fault> {
        let mut guest = if fresh { self.pool.fresh()? } else { self.pool.take()? };
        let fresh = guest.is_fresh();
        let began = Instant::now();
        let processed = guest.process(self.batch, rows, time, self.pool.mould().output_max);
        let took = began.elapsed();
        let outcome = match processed {
            Ok(answered) => {
                self.pool.give_back(guest);
                Ok(answered)
            }
            Err(Ended::Failed(failure)) => Err(failure),
            Err(Ended::Fault(fault)) => return Err(fault),
        };
        Ok(Tried { outcome, fresh, took })
    }
}

#[async_trait]
impl Transform for Wasm {
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let Wasm { time_max, output_max, .. } = self;
        let mut parts = parts::split(&batch, *time_max);
        let kept = Kept::new(usize::try_from(output_max.bytes()).unwrap_or(usize::MAX));
        loop {
            {
                let _at_work = self.at_work.acquire().await;
                off_async(|| self.wave(&batch, &mut parts, &kept)).map_err(|fault| fault.context(self.shown()))?;
            }
            let is_enough = kept.is_enough() && parts.first().is_some_and(Part::has_begun);
            if is_enough || parts.iter().all(Part::is_done) {
                return Ok(off_async(|| self.collect(&batch, parts)));
            }
            // Here a stop gets through to us.
            tokio::task::yield_now().await;
        }
    }

    fn let_go_idle(&self) {
        self.pool.let_go_idle();
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.pool.memory_bytes() as u64)
    }

    fn shown(&self) -> String {
        format!("wasm {}", self.name)
    }
}
