//! The ground that everything stands on and that tests replace: a disk, a wall clock, randomness.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::disk::{Disk, RealDisk};

/// A disk, a wall clock and randomness. Cheap to clone.
#[derive(Clone)]
pub struct Ground {
    pub disk: Arc<dyn Disk>,
    pub clock: Clock,
    pub random: Random,
}

impl Ground {
    /// The machine's own.
    pub fn real() -> Ground {
        Ground { disk: Arc::new(RealDisk), clock: Clock::real(), random: Random::real() }
    }
}

/// Wall-clock time, only for names and arrival times; waiting uses tokio's clock. It may jump either way.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// A clock that answers what `now_ms` answers (Unix milliseconds).
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now_ms))
    }

    /// The machine's clock.
    pub fn real() -> Clock {
        Clock::new(|| match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        })
    }

    /// Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

/// Randomness for identities, salts and jitter.
#[derive(Clone)]
pub struct Random(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Random {
    /// Draws from `next`.
    pub fn new(next: impl Fn() -> u64 + Send + Sync + 'static) -> Random {
        Random(Arc::new(next))
    }

    /// The operating system's randomness. Panics if the kernel has none, as nothing here may go on then.
    pub fn real() -> Random {
        Random::new(|| getrandom::u64().expect("the kernel gives randomness"))
    }

    /// 64 random bits.
    pub fn u64(&self) -> u64 {
        (self.0)()
    }
}
