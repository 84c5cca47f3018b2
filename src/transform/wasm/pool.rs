//! The instances of a transform: made when they are needed, kept while they are good.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::guest::{Guest, NoStart};
use super::{Limits, Log, Module, State};
use crate::cpu;
use crate::error::{Blame, Fault};
use crate::units::{Interval, Size};

/// An instance that nothing was given for so long is let go.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// What each instance is made of and held to.
#[derive(Debug, Clone)]
pub struct Mould {
    pub module: Module,
    pub log: Log,
    /// As `init` is given it.
    pub config: String,
    pub memory_max: Size,
    pub time_max: Interval,
    pub output_max: Size,
}

/// Instances of one module with one configuration.
pub struct Pool {
    mould: Mould,
    /// The one used last lies on top, and with it what it has in caches; at most one for each core.
    idle: Mutex<Vec<(Guest, Instant)>>,
}

impl Pool {
    /// With a first instance: if that cannot be had, there is no pool.
    pub fn new(mould: Mould) -> Result<Pool, NoStart> {
        let first = start(&mould)?;
        Ok(Pool { mould, idle: Mutex::new(vec![(first, Instant::now())]) })
    }

    /// What its instances are made of.
    pub fn mould(&self) -> &Mould {
        &self.mould
    }

    /// An idle instance, or a new one.
    pub fn take(&self) -> Result<Guest, Fault> {
        let idle = self.idle().pop();
        match idle {
            Some((guest, _)) => Ok(guest),
            None => self.fresh(),
        }
    }

    /// An instance that has seen no record. A module whose `init` went well once and fails now is no record's fault.
    pub fn fresh(&self) -> Result<Guest, Fault> {
        start(&self.mould).map_err(|no_start| match no_start {
            NoStart::Refused(why) => Fault::new(Blame::Transform, format!("init: {why}")),
            NoStart::Failed(failure) => Fault::new(Blame::Transform, format!("init: {}", failure.message)),
            NoStart::Fault(fault) => fault,
        })
    }

    /// Puts back an instance whose call went well.
    pub fn give_back(&self, guest: Guest) {
        if guest.is_worn() {
            return;
        }
        let mut idle = self.idle();
        if idle.len() < cpu::cores() {
            idle.push((guest, Instant::now()));
        }
    }

    /// Lets go what has been idle for long.
    pub fn let_go_idle(&self) {
        let old = |(_, since): &(Guest, Instant)| since.elapsed() > IDLE_TIME_MAX;
        let mut idle = self.idle();
        let young = idle.iter().position(|guest| !old(guest)).unwrap_or(idle.len());
        let gone: Vec<_> = idle.drain(..young).collect();
        drop(idle);
        drop(gone);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Guest, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(mould: &Mould) -> Result<Guest, NoStart> {
    let memory_bytes_max = usize::try_from(mould.memory_max.bytes()).unwrap_or(usize::MAX);
    let limits = Limits::new(memory_bytes_max, mould.time_max.duration());
    Guest::start(&mould.module, State::new(mould.log.clone(), limits), &mould.config, mould.output_max)
}
