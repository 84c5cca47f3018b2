//! The demo source: a seeded clickstream, so that a first pipeline needs nothing but itself.
//!
//! One shard; record `n` is a pure function of seed, `n` and the start time that was written down when the seed was first
//! used here, so reading again gives the same bytes. The shard id has a random incarnation made with that file:
//! a state folder that was lost begins another log, and cannot write over the objects of the old one.

mod clicks;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use self::clicks::Clicks;
use crate::cpu::off_async;
use crate::disk;
use crate::error::{Blame, Fault};
use crate::ground::{Clock, Ground};
use crate::position::{Position, Shard};
use crate::record::{Batch, Span};
use crate::source::{Read, Reader, Source};

/// What a user writes under `demo:`.
#[derive(Debug, Clone, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Records per second; 0: as fast as they are taken. Event times keep the spacing of the first start.
    #[serde(default = "rate_default")]
    pub rate: u64,
    /// Records in all; endless if not given.
    #[serde(default)]
    pub records: Option<u64>,
    /// Another seed, other records.
    #[serde(default = "seed_default")]
    pub seed: u64,
}

/// A clickstream as a source of one shard.
pub struct DemoSource {
    shard: Shard,
    clicks: Clicks,
    options: Options,
    clock: Clock,
    given: AtomicBool,
}

/// What is written down when a seed is first used: `hydrant demo 1 SHARD START_MS STEP_US CRC32C`.
struct Birth {
    shard: Shard,
    start_ms: i64,
    step_us: u64,
}

const FIRST_WORDS: &str = "hydrant demo 1";

/// Bytes of one batch at the most.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Records are handed out in steps of at least this, so that a rate of 100,000 per second is not as many wake-ups.
const STEP: Duration = Duration::from_millis(20);

/// A reader that was not asked for a while catches up this much and lets the rest be.
const CATCH_UP: Duration = Duration::from_secs(1);

impl DemoSource {
    /// Opens the demo with its durable state in folder `dir`. Blocks.
    ///
    /// `bounded`: the source must end, so `records` must be there. Blame: config, disk.
    pub fn open(ground: &Ground, dir: &Path, options: &Options, bounded: bool) -> Result<DemoSource, Fault> {
        if bounded && options.records.is_none() {
            let message = "demo source: it would never end: give the number of `records`";
            return Err(Fault::new(Blame::Config, message));
        }
        let name = format!("seed-{:016x}", options.seed);
        let at_birth = |fault: Fault| fault.context(dir.join(&name).display().to_string());
        let birth = Birth::read_or_make(ground, dir, &name, options).map_err(at_birth)?;
        Ok(DemoSource {
            clicks: Clicks::new(options.seed, birth.start_ms, birth.step_us),
            shard: birth.shard,
            options: options.clone(),
            clock: ground.clock.clone(),
            given: AtomicBool::new(false),
        })
    }
}

impl Birth {
    fn read_or_make(ground: &Ground, dir: &Path, name: &str, options: &Options) -> Result<Birth, Fault> {
        let disk = ground.disk.as_ref();
        disk.create_dir(dir).map_err(Fault::disk)?;
        // What is read here is relied on: the process that wrote it may have died before its sync.
        disk.sync_dir(dir).map_err(Fault::disk)?;
        match disk::read_all(disk, &dir.join(name)) {
            Ok(bytes) => {
                let birth = str::from_utf8(&bytes).ok().and_then(Birth::parse);
                birth.ok_or_else(|| Fault::new(Blame::Disk, "the file is damaged"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = format!("demo1s{:x}x{:016x}", options.seed, ground.random.u64());
                let birth = Birth {
                    shard: Shard::new(&id).expect("hex digits make a shard id"),
                    start_ms: ground.clock.now_ms(),
                    step_us: (1_000_000 / options.rate.max(1)).clamp(1, 1_000_000),
                };
                disk::born_whole(disk, dir, name, birth.print().as_bytes()).map_err(Fault::disk)?;
                Ok(birth)
            }
            Err(error) => Err(Fault::disk(error)),
        }
    }

    fn print(&self) -> String {
        let text = format!("{FIRST_WORDS} {} {} {}", self.shard, self.start_ms, self.step_us);
        format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
    }

    fn parse(text: &str) -> Option<Birth> {
        let mut words = text.strip_prefix(FIRST_WORDS)?.split_ascii_whitespace();
        let shard = Shard::new(words.next()?)?;
        let birth = Birth { shard, start_ms: words.next()?.parse().ok()?, step_us: words.next()?.parse().ok()? };
        (birth.print() == text).then_some(birth)
    }
}

#[async_trait]
impl Source for DemoSource {
    async fn next_shard(&self) -> Result<Option<Shard>, Fault> {
        Ok((!self.given.swap(true, Ordering::AcqRel)).then(|| self.shard.clone()))
    }

    async fn open(&self, shard: &Shard, from: Option<&Position>) -> Result<Box<dyn Reader>, Fault> {
        let number = from.map_or(Some(0), Position::as_u64).filter(|_| *shard == self.shard);
        let position =
            number.ok_or_else(|| Fault::new(Blame::Bug, format!("demo source: no shard {shard} at {from:?}")))?;
        let now = Instant::now();
        Ok(Box::new(DemoReader {
            clicks: self.clicks.clone(),
            options: self.options.clone(),
            clock: self.clock.clone(),
            position,
            began: now,
            handed_out: 0,
            next_at: now,
            arrival_ms: i64::MIN,
        }))
    }

    /// Nothing to forget.
    async fn release(&self, _shard: &Shard, _upto: &Position) -> Result<(), Fault> {
        Ok(())
    }
}

struct DemoReader {
    clicks: Clicks,
    options: Options,
    clock: Clock,
    position: u64,
    /// Since then `handed_out` records were handed out, `options.rate` per second.
    began: Instant,
    handed_out: u64,
    next_at: Instant,
    arrival_ms: i64,
}

impl DemoReader {
    /// How many records may be handed out now: by the rate, and by how many there are.
    fn due(&self) -> u64 {
        let left = self.options.records.map_or(u64::MAX, |records| records.saturating_sub(self.position));
        if self.options.rate == 0 {
            return left;
        }
        let so_far = self.began.elapsed().as_micros() * u128::from(self.options.rate) / 1_000_000;
        let so_far = u64::try_from(so_far).unwrap_or(u64::MAX);
        left.min(so_far.saturating_add(1).saturating_sub(self.handed_out))
    }

    /// Makes up to `count` records, at least one.
    fn make(&mut self, count: u64) -> Read {
        let records_most = usize::try_from(count).unwrap_or(usize::MAX).min(BATCH_BYTES_MAX / clicks::BYTES_TYPICAL);
        let mut data = Vec::with_capacity(BATCH_BYTES_MAX.min(records_most.saturating_add(1) * clicks::BYTES_MAX));
        let mut spans = Vec::with_capacity(records_most);
        while spans.len() < records_most && data.len() + clicks::BYTES_MAX <= BATCH_BYTES_MAX {
            let start = data.len();
            self.clicks.write(self.position + spans.len() as u64, &mut data);
            debug_assert!(data.len() - start <= clicks::BYTES_MAX);
            spans.push(Span { start: start as u32, end: data.len() as u32 });
        }
        let made = spans.len() as u64;
        self.arrival_ms = self.arrival_ms.max(self.clock.now_ms());
        let arrivals = vec![self.arrival_ms; spans.len()];
        self.position += made;
        self.keep_pace(made, made < count);
        Read { batch: Batch::new(data.into(), spans, arrivals), end: Position::from(self.position) }
    }

    /// Sets the time of the next records; `behind`: more are due already.
    fn keep_pace(&mut self, made: u64, behind: bool) {
        let rate = self.options.rate;
        if rate == 0 {
            return;
        }
        let now = Instant::now();
        self.handed_out += made;
        if behind {
            let oldest = now.checked_sub(CATCH_UP).unwrap_or(self.began);
            let scheduled = self.began + Duration::from_secs_f64(self.handed_out as f64 / rate as f64);
            if scheduled < oldest {
                (self.began, self.handed_out) = (oldest, 0);
            }
            return;
        }
        let scheduled = self.began + Duration::from_secs_f64(self.handed_out as f64 / rate as f64);
        self.next_at = scheduled.max(now + STEP);
    }
}

#[async_trait]
impl Reader for DemoReader {
    fn position(&self) -> Position {
        Position::from(self.position)
    }

    fn tail(&self) -> Position {
        match (self.options.rate, self.options.records) {
            (0, None) => self.position(),
            _ => Position::from(self.position.saturating_add(self.due())),
        }
    }

    async fn next(&mut self) -> Result<Option<Read>, Fault> {
        if self.options.records.is_some_and(|records| self.position >= records) {
            return Ok(None);
        }
        loop {
            tokio::time::sleep_until(self.next_at).await;
            match self.due() {
                0 => self.next_at = Instant::now() + STEP,
                due => return Ok(Some(off_async(|| self.make(due)))),
            }
        }
    }
}

fn rate_default() -> u64 {
    1000
}

fn seed_default() -> u64 {
    1
}
