//! Fate: counts every durable effect, decides at which one the process dies, and how often what else goes wrong.
//!
//! All of a simulated world shares one fate, so effect `n` means the same moment to the disk and to the store. Whoever
//! is about to have an effect asks first ([`Fate::effect`]). A handle belongs to one life of the process: when that life
//! ends, by death or by [`Fate::next_life`], everything that holds the handle can do nothing more, for ever.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// Effects that a failing seed prints, in number.
const STORY_EFFECTS: usize = 40;

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// SIGKILL: the operating system lives, and with it all that was written and not yet synced.
    Kill,
    /// Everything that was not synced is at the mercy of chance.
    PowerLoss,
}

/// How much of the fatal effect still happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    Nothing,
    Part,
    All,
}

impl Share {
    /// For tests that try all of them.
    pub const EACH: [Share; 3] = [Share::Nothing, Share::Part, Share::All];
}

/// The end of one life: at its `at`-th effect (from 1), in this way, with this share of it done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doom {
    pub at: u64,
    pub death: Death,
    pub share: Share,
}

/// How often things go wrong, each in 1000 occasions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// A sync fails, half of the data is gone and the next sync succeeds.
    pub sync_error: u32,
    /// A create, or a write that makes a file longer, finds the disk full; the write is cut short.
    pub disk_full: u32,
    /// The store refuses a put, which has no effect.
    pub put_error_before: u32,
    /// The answer to a put that had its effect is an error.
    pub put_error_after: u32,
    /// "Already exists" for what does not (S3's 409 on concurrent conditional writes).
    pub put_false_conflict: u32,
    /// "Already exists" because the client's own retry met its first attempt.
    pub put_own_conflict: u32,
    /// A put waits for up to a minute of tokio's time.
    pub put_slow: u32,
    /// A put that was under way when its process died, or that was cancelled, takes effect later.
    pub put_late: u32,
    /// A get or a list fails, or a body breaks off.
    pub read_error: u32,
    /// The wall clock jumps, either way, by up to ten years.
    pub clock_jump: u32,
}

impl Rates {
    /// Nothing goes wrong.
    pub const NONE: Rates = Rates {
        sync_error: 0,
        disk_full: 0,
        put_error_before: 0,
        put_error_after: 0,
        put_false_conflict: 0,
        put_own_conflict: 0,
        put_slow: 0,
        put_late: 0,
        read_error: 0,
        clock_jump: 0,
    };

    /// A bad day: all of it goes wrong, the disk seldom (each time costs a life), the store often.
    pub const BAD_DAY: Rates = Rates {
        sync_error: 5,
        disk_full: 5,
        put_error_before: 100,
        put_error_after: 100,
        put_false_conflict: 50,
        put_own_conflict: 50,
        put_slow: 100,
        put_late: 500,
        read_error: 100,
        clock_jump: 50,
    };
}

/// What whoever asked must do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Have the effect.
    Go,
    /// Have this share of it, then answer with an error.
    Die(Share),
    /// Have no effect, answer with an error.
    Dead,
}

/// What is about to happen, in words and numbers: for the trace.
#[derive(Debug, Clone)]
pub struct Effect {
    pub what: &'static str,
    pub place: Arc<str>,
    /// First byte and number of bytes, where that means something.
    pub offset: u64,
    pub len: u64,
    /// Checksum of the bytes, so that two traces differ when the bytes do.
    pub sum: u32,
}

impl Effect {
    /// An effect without bytes.
    pub fn at(what: &'static str, place: Arc<str>) -> Effect {
        Effect { what, place, offset: 0, len: 0, sum: 0 }
    }

    /// An effect with bytes.
    pub fn bytes(what: &'static str, place: Arc<str>, offset: u64, bytes: &[u8]) -> Effect {
        Effect { what, place, offset, len: bytes.len() as u64, sum: crc32c::crc32c(bytes) }
    }
}

/// One life's view of the shared fate. Cheap to clone.
#[derive(Clone)]
pub struct Fate {
    life: u32,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    died: Notify,
}

struct State {
    seed: u64,
    rng: Rng,
    rates: Rates,
    life: u32,
    dead: bool,
    doom: Option<Doom>,
    /// Effects of this life, and of all lives.
    effects: u64,
    effects_total: u64,
    trace: u64,
    last: VecDeque<Line>,
}

/// One line of the story: an effect with its number, the fatal one with its doom, or a note.
struct Line {
    number: Option<u64>,
    life: u32,
    doom: Option<Doom>,
    effect: Effect,
}

impl Fate {
    /// Never dies and nothing goes wrong.
    pub fn gentle(seed: u64) -> Fate {
        Fate::new(seed, Rates::NONE, None)
    }

    /// Dies at effect `n` (from 1); nothing else goes wrong.
    pub fn die_at(n: u64, death: Death, share: Share) -> Fate {
        Fate::new(n, Rates::NONE, Some(Doom { at: n, death, share }))
    }

    /// Immortal at first, with faults; lives that end are drawn with [`Fate::draw_doom`].
    pub fn seeded(seed: u64, rates: Rates) -> Fate {
        Fate::new(seed, rates, None)
    }

    /// All of it chosen.
    pub fn new(seed: u64, rates: Rates, doom: Option<Doom>) -> Fate {
        let state = State {
            seed,
            rng: Rng::new(seed, "fate"),
            rates,
            life: 0,
            dead: false,
            doom,
            effects: 0,
            effects_total: 0,
            trace: 0,
            last: VecDeque::with_capacity(STORY_EFFECTS),
        };
        Fate { life: 0, shared: Arc::new(Shared { state: Mutex::new(state), died: Notify::new() }) }
    }

    /// Ends this life, if it has not ended, and begins the next, which ends as `doom` says.
    pub fn next_life(&self, doom: Option<Doom>) -> Fate {
        let mut state = self.state();
        state.life += 1;
        state.dead = false;
        state.doom = doom;
        state.effects = 0;
        let life = state.life;
        drop(state);
        self.shared.died.notify_waiters();
        Fate { life, shared: self.shared.clone() }
    }

    /// Draws an end within the next `effects_max` effects; early ends are as likely as late ones.
    pub fn draw_doom(&self, effects_max: u64) -> Doom {
        let rng = &mut self.state().rng;
        let span = 1 + rng.below(effects_max);
        let at = 1 + rng.below(span);
        let death = if rng.below(2) == 0 { Death::Kill } else { Death::PowerLoss };
        let share = Share::EACH[rng.below(3) as usize];
        Doom { at, death, share }
    }

    /// Makes the end of this life known after it began.
    pub fn set_doom(&self, doom: Option<Doom>) {
        self.state().doom = doom;
    }

    /// How often things go wrong now.
    pub fn rates(&self) -> Rates {
        self.state().rates
    }

    /// Changes how often things go wrong: `Rates::NONE` before asking for progress.
    pub fn set_rates(&self, rates: Rates) {
        self.state().rates = rates;
    }

    /// The seed it began with.
    pub fn seed(&self) -> u64 {
        self.state().seed
    }

    /// Number of this life, from 0.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Effects of the current life.
    pub fn effects(&self) -> u64 {
        self.state().effects
    }

    /// Effects of all lives.
    pub fn effects_total(&self) -> u64 {
        self.state().effects_total
    }

    /// Whether the life that this handle belongs to is over.
    pub fn dead(&self) -> bool {
        let state = self.state();
        state.dead || state.life != self.life
    }

    /// How the current life ended, if it was by doom.
    pub fn death(&self) -> Option<Death> {
        let state = self.state();
        state.doom.filter(|_| state.dead).map(|doom| doom.death)
    }

    /// Ends the life between two effects, unless it has ended.
    pub fn end(&self) {
        let mut state = self.state();
        if !state.dead && state.life == self.life {
            state.dead = true;
            state.doom = Some(Doom { at: state.effects, death: Death::Kill, share: Share::Nothing });
        }
    }

    /// Waits until the life that this handle belongs to is over. Cancel-safe.
    pub async fn until_dead(&self) {
        loop {
            let died = self.shared.died.notified();
            if self.dead() {
                return;
            }
            died.await;
        }
    }

    /// Asks whether `effect` may happen, and counts it.
    pub fn effect(&self, effect: Effect) -> Verdict {
        let mut state = self.state();
        if state.dead || state.life != self.life {
            return Verdict::Dead;
        }
        state.effects += 1;
        state.effects_total += 1;
        let doom = state.doom.filter(|doom| doom.at == state.effects);
        let number = Some(state.effects_total);
        state.remember(number, doom, effect);
        let Some(doom) = doom else { return Verdict::Go };
        state.dead = true;
        drop(state);
        self.shared.died.notify_waiters();
        Verdict::Die(doom.share)
    }

    /// Puts something into the trace that is no effect of the process: a fault, a late upload, a restart.
    pub fn note(&self, effect: Effect) {
        self.state().remember(None, None, effect);
    }

    /// A hash of all that happened, in order: equal for equal seeds.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// The seed and the last effects in words.
    pub fn story(&self) -> String {
        let state = self.state();
        let mut story = format!(
            "seed {}, life {}, {} effects in all, dies by {:?}; the last of them:\n",
            state.seed, state.life, state.effects_total, state.doom
        );
        for Line { number, life, doom, effect } in &state.last {
            let number = number.map_or("note".into(), |number| format!("#{number}"));
            let _ = write!(story, "  life {life} {number:>5}  {} {}", effect.what, effect.place);
            if effect.len > 0 {
                let _ = write!(story, " at {}, {} bytes, crc {:08x}", effect.offset, effect.len, effect.sum);
            }
            if let Some(doom) = doom {
                let _ = write!(story, " <- {:?}, {:?} of it done", doom.death, doom.share);
            }
            story.push('\n');
        }
        story
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl State {
    fn remember(&mut self, number: Option<u64>, doom: Option<Doom>, effect: Effect) {
        let words = [
            u64::from(crc32c::crc32c(effect.what.as_bytes())),
            u64::from(crc32c::crc32c(effect.place.as_bytes())),
            effect.offset,
            effect.len,
            u64::from(effect.sum),
            u64::from(self.life),
            doom.map_or(0, |doom| 1 + 3 * doom.death as u64 + doom.share as u64),
        ];
        self.trace = words.iter().fold(self.trace, |trace, word| mix(trace ^ mix(*word)));
        if self.last.len() == STORY_EFFECTS {
            self.last.pop_front();
        }
        self.last.push_back(Line { number, life: self.life, doom, effect });
    }
}

/// Splitmix64: small, seeded, and good enough to choose faults.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The generator of one subsystem, independent of the others' with the same seed.
    pub fn new(seed: u64, subsystem: &str) -> Rng {
        Rng(mix(seed) ^ mix(u64::from(crc32c::crc32c(subsystem.as_bytes())) << 17))
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`; 0 when the bound is.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True in `rate` of 1000 cases.
    pub fn chance(&mut self, rate: u32) -> bool {
        rate > 0 && self.below(1000) < u64::from(rate)
    }

    /// True in half of the cases.
    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// The finaliser of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
