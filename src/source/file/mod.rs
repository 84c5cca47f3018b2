//! The file source: every file that a glob matches is a shard, its lines are the records, its bytes the positions.
//!
//! A file is known by what it is, not by its name (`identity`), and the registry makes that durable before a shard is
//! given out: a restart, a rename or a hard link reads no line twice. What happens to a file while it is followed:
//!
//! - **Renamed** (logrotate's default): read on through the open file to its end; once no glob matches it and it was
//!   quiet for [`Pace::quiet_ms`], its last line is handed out with or without a newline, and the shard ends. Renamed
//!   while no process ran: found by its inode, in the same folder.
//! - **Truncated in place** (copytruncate): a new shard from byte 0. What was written after our last look and before the
//!   truncation is lost, as is a truncation after which the file grows past our position, under the same first KiB,
//!   within one look ([`Pace::poll_ms`]): prefer renaming.
//! - **Compressed** by the rotation: another file, so keep `*.gz` out of the globs or `exclude` it.
//! - **Deleted** before it was opened: its records are gone; while open, it is read to its end.
//!
//! Compressed files (gzip, zstd; several members or frames) are read once, as long as they are when opened; positions
//! are those of the unpacked bytes. A cut-off one is a fault of the source, tried again: it may still be being written.
//! `bounded`: one scan, and every file up to its size when opened (or the end of the line that was amid then). A final line
//! without a newline is a record then; what is later added to it is one of its own.
//!
//! Limits: `scan::FILES_MAX` files, `Registry::MISSING_MAX` missing ones remembered, [`Pace::files_held_max`] files
//! held open while idle, one block and one line of memory per reader that has something to read.

mod identity;
mod input;
mod lines;
mod reader;
mod registry;
mod registry_text;
mod scan;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::reader::FileReader;
use self::registry::Registry;
use self::scan::{Globs, Scanner};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::ground::{Clock, Ground};
use crate::position::{Position, Shard};
use crate::source::texts::{OneOrMany, one_or_many};
use crate::source::{Reader, Source, Unit};

/// What a user writes under `file:`.
#[derive(Debug, Clone, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// A glob or a list of globs; `*` stops at `/` and does not match hidden files, `**` goes through folders.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany", extend("examples" = ["/var/log/app/*.log"]))]
    pub path: Vec<String>,
    /// A glob or a list of globs of files to leave alone; one without `/` is held against the name alone.
    #[serde(default, deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub exclude: Vec<String>,
    /// Where reading begins in files that are there when the pipeline runs for the first time.
    #[serde(default)]
    pub start: Start,
    /// Whether to wait for more lines and files (`true`), or to end (`false`).
    #[serde(default = "follow_default")]
    pub follow: bool,
    /// The longest record in bytes; a longer line is passed over, counted and logged.
    #[serde(default = "line_bytes_max_default", deserialize_with = "crate::units::bytes")]
    #[schemars(with = "crate::units::Size")]
    #[schemars(extend("x-bounds" = format!("1 B to {}", crate::units::Size::from_bytes(FileSource::LINE_BYTES_MAX))))]
    pub line_bytes_max: u64,
}

impl Options {
    /// All that can be known without looking for files. Blame: config.
    pub fn check(&self) -> Result<(), Fault> {
        let line_bytes_max = self.line_bytes_max;
        if !(1..=FileSource::LINE_BYTES_MAX).contains(&line_bytes_max) {
            let most = FileSource::LINE_BYTES_MAX;
            let message = format!("file source: line_bytes_max is {line_bytes_max}, it may be 1 to {most} bytes");
            return Err(Fault::new(Blame::Config, message));
        }
        Globs::new(&self.path, &self.exclude).map(drop)
    }
}

/// Where reading begins in files that are there when the pipeline runs for the first time. All later ones begin at
/// their beginning.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the first line.
    #[default]
    Beginning,
    /// Behind the last whole line; compressed files are left out. A file that could not be read then counts as new.
    End,
}

/// How often the source looks, and how many files it holds; tests are in more of a hurry.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two scans of the globs, in milliseconds.
    pub scan_ms: u64,
    /// Between two looks at a file that had nothing new, in milliseconds.
    pub poll_ms: u64,
    /// How long a file that no glob matches any more must not grow before it counts as ended, in milliseconds: a
    /// writer that was told to reopen its log may need a moment.
    pub quiet_ms: u64,
    /// Above this many open files, one that is idle is closed until it grows. Closed, it may be written and deleted
    /// between two looks unseen. Half of the usual limit of 1024 open files, which sockets share.
    pub files_held_max: usize,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { scan_ms: 1000, poll_ms: 200, quiet_ms: 10_000, files_held_max: 512 }
    }
}

/// The files that some globs match, as shards.
pub struct FileSource {
    shared: Arc<Shared>,
    scanner: Mutex<Scanner>,
    next_scan: tokio::sync::Mutex<Instant>,
}

/// What the source and its readers share.
struct Shared {
    registry: Mutex<Registry>,
    clock: Clock,
    pace: Pace,
    bounded: bool,
    line_bytes_max: usize,
    /// Files open now.
    held: Arc<AtomicUsize>,
    lines_too_long: AtomicU64,
    /// Bounded: bytes of files as they lie on the disk, since the source was opened.
    read_bytes: AtomicU64,
    known_bytes: AtomicU64,
}

impl FileSource {
    /// The largest `line_bytes_max`: 64 MiB.
    pub const LINE_BYTES_MAX: u64 = 64 << 20;

    /// Opens the source with its durable state in folder `dir`, and scans for the first time. Blocks.
    ///
    /// `bounded` (or `follow: false`): ends with the files that are there now; then a glob without a file is a fault.
    /// Blame: config, disk (the registry), source.
    pub fn open(ground: &Ground, dir: &Path, options: &Options, bounded: bool) -> Result<FileSource, Fault> {
        FileSource::open_at_pace(ground, dir, options, bounded, Pace::default())
    }

    /// The same, at another pace.
    pub fn open_at_pace(
        ground: &Ground,
        dir: &Path,
        options: &Options,
        bounded: bool,
        pace: Pace,
    ) -> Result<FileSource, Fault> {
        options.check()?;
        let bounded = bounded || !options.follow;
        let mut scanner = Scanner::new(Globs::new(&options.path, &options.exclude)?, options.start);
        let mut registry = Registry::open(ground, dir)?;
        scanner.scan(&mut registry, bounded)?;
        let shared = Shared {
            registry: Mutex::new(registry),
            clock: ground.clock.clone(),
            pace,
            bounded,
            line_bytes_max: options.line_bytes_max as usize,
            held: Arc::default(),
            lines_too_long: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            known_bytes: AtomicU64::new(0),
        };
        let next_scan = Instant::now() + Duration::from_millis(pace.scan_ms);
        Ok(FileSource {
            shared: Arc::new(shared),
            scanner: Mutex::new(scanner),
            next_scan: tokio::sync::Mutex::new(next_scan),
        })
    }

    /// Lines that were passed over because they are longer than `line_bytes_max`, since the start of the process.
    pub fn lines_too_long(&self) -> u64 {
        self.shared.lines_too_long.load(Ordering::Relaxed)
    }

    /// Files open now.
    pub fn files_held(&self) -> usize {
        self.shared.held.load(Ordering::Relaxed)
    }

    fn scan(&self) -> Result<(), Fault> {
        let mut scanner = self.scanner.lock().unwrap_or_else(PoisonError::into_inner);
        scanner.scan(&mut self.shared.registry(), false)
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for FileSource {
    /// Scans about every second while it waits: someone has to wait here for rotations to be seen.
    async fn next_shard(&self) -> Result<Option<Shard>, Fault> {
        loop {
            if let Some(shard) = self.shared.registry().fresh.pop_front() {
                return Ok(Some(shard));
            }
            if self.shared.bounded {
                return Ok(None);
            }
            let mut next_scan = self.next_scan.lock().await;
            tokio::time::sleep_until(*next_scan).await;
            let began = Instant::now();
            let scanned = off_async(|| self.scan());
            // Many thousands of files take their time: then scan for a tenth of it at the most.
            *next_scan = Instant::now() + Duration::from_millis(self.shared.pace.scan_ms).max(began.elapsed() * 9);
            scanned?;
        }
    }

    async fn open(&self, shard: &Shard, from: Option<&Position>) -> Result<Box<dyn Reader>, Fault> {
        let from = from.map(|position| offset(shard, position)).transpose()?;
        let reader = off_async(|| FileReader::open(&self.shared, shard, from))?;
        Ok(Box::new(reader))
    }

    fn unit(&self) -> Unit {
        Unit::Bytes
    }

    async fn release(&self, shard: &Shard, upto: &Position) -> Result<(), Fault> {
        let upto = offset(shard, upto)?;
        off_async(|| self.shared.registry().released(shard, upto));
        Ok(())
    }

    fn read_of(&self) -> Option<(u64, u64)> {
        let Shared { read_bytes, known_bytes, bounded, .. } = &*self.shared;
        bounded.then(|| (read_bytes.load(Ordering::Relaxed), known_bytes.load(Ordering::Relaxed)))
    }
}

fn offset(shard: &Shard, position: &Position) -> Result<u64, Fault> {
    let bug = || Fault::new(Blame::Bug, format!("file shard {shard}: {position} is not a byte offset"));
    position.as_u64().ok_or_else(bug)
}

fn follow_default() -> bool {
    true
}

fn line_bytes_max_default() -> u64 {
    1 << 20
}
