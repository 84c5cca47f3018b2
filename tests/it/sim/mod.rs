//! A simulated world: a disk and a store that share one fate, so that a process can die at every durable effect.
//!
//! A test makes a [`World`], runs a life on [`World::ground`] and [`World::store`] until it is done or
//! [`Fate::until_dead`] says that it died, drops everything of that life (its runtime too), and goes on with
//! [`World::restart`]. At the end [`oracle::Oracle`] says whether the promise was kept. Nothing here reads a clock, a
//! thread's name or a hash map: the same seed gives the same [`Fate::trace`], as long as the life itself runs on one
//! thread.

pub mod content;
pub mod disk;
pub mod fate;
pub mod oracle;
pub mod store;
mod tests;
mod tests_store;

use std::sync::{Arc, Mutex};

use hydrant::ground::{Clock, Ground, Random};

use disk::SimDisk;
use fate::{Death, Doom, Effect, Fate, Rng};
use store::FaultyStore;

/// 2026-01-01T00:00:00Z in Unix milliseconds: where simulated clocks begin.
const CLOCK_START_MS: i64 = 1_767_225_600_000;
/// The farthest jump of a simulated clock, in milliseconds: ten years.
const CLOCK_JUMP_MS_MAX: u64 = 10 * 365 * 86_400_000;

/// What outlives the process, as the current life sees it.
pub struct World {
    pub fate: Fate,
    pub disk: SimDisk,
    pub store: FaultyStore,
}

impl World {
    /// An empty disk and an empty store.
    pub fn new(fate: Fate) -> World {
        World { disk: SimDisk::new(&fate), store: FaultyStore::new(&fate), fate }
    }

    /// Ends this life, as fate did or else by a kill, and begins the next, which ends as `doom` says.
    pub fn restart(&mut self, doom: Option<Doom>) {
        let death = self.fate.death().unwrap_or(Death::Kill);
        self.fate = self.fate.next_life(doom);
        self.disk = self.disk.restart(death, &self.fate);
        self.store = self.store.restart(&self.fate);
    }

    /// The ground of this life.
    pub fn ground(&self) -> Ground {
        ground(&self.disk, self.fate.seed())
    }
}

/// A ground over `disk` whose clock and randomness come from `seed` and differ from life to life.
///
/// The clock moves by up to 20 ms at each look, and jumps either way at [`fate::Rates::clock_jump`].
pub fn ground(disk: &SimDisk, seed: u64) -> Ground {
    let fate = disk.fate().clone();
    let life = u64::from(fate.life());
    let rng = Mutex::new((Rng::new(seed ^ (life << 48), "clock"), CLOCK_START_MS + life as i64 * 3_600_000));
    let clock = Clock::new(move || {
        let (rng, now_ms) = &mut *rng.lock().unwrap();
        *now_ms += rng.below(20) as i64;
        if rng.chance(fate.rates().clock_jump) {
            let range_ms = [3_600_000, 86_400_000, CLOCK_JUMP_MS_MAX][rng.below(3) as usize];
            let jump_ms = rng.below(2 * range_ms + 1) as i64 - range_ms as i64;
            *now_ms = (*now_ms + jump_ms).max(0);
            fate.note(Effect { offset: *now_ms as u64, ..Effect::at("the clock jumps", "wall clock".into()) });
        }
        *now_ms
    });
    let rng = Mutex::new(Rng::new(seed ^ (life << 48), "random"));
    let random = Random::new(move || rng.lock().unwrap().next());
    Ground { disk: Arc::new(disk.clone()), clock, random }
}
