//! The checkpoint: per shard, up to where everything is delivered without a gap.
//!
//! It is written whole into one of two files in turn, so that one of them is always good, and in place, so that it
//! works on a full disk. A file is text that an operator can read:
//!
//! ```text
//! hydrant checkpoint 1 generation 00000000000000000042 bytes 0000000031 crc32c 9f3a6c01
//! 7f3a9c21d4e0 18211
//! b07d11c09a55 90377 (then zeros up to the length of the file)
//! ```

mod drained;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};

use crate::disk::{Disk, born_whole, read_all};
use crate::error::Fault;
use crate::ground::Ground;
use crate::position::{Position, Shard, ShardRange};

pub use drained::{drained, mark_drained, unmark_drained};

const SLOTS: [&str; 2] = ["checkpoint.a", "checkpoint.b"];
/// A slot is created with this many bytes and doubles before it gets tight.
const SLOT_BYTES: usize = 64 << 10;

/// The checkpoint of one pipeline. Cheap to clone. `K` is what the caller wants back when a range is passed.
pub struct Checkpoint<K>(Arc<Mutex<Inside<K>>>);

impl<K> Clone for Checkpoint<K> {
    fn clone(&self) -> Checkpoint<K> {
        Checkpoint(self.0.clone())
    }
}

struct Inside<K> {
    ground: Ground,
    dir: Arc<Path>,
    generation: u64,
    /// A failed write leaves the disk in doubt; nothing is written after it.
    failed: bool,
    shards: BTreeMap<Shard, Position>,
    /// Delivered, but something before is not: by shard and start.
    ahead: HashMap<Shard, BTreeMap<Position, (ShardRange, K)>>,
}

impl<K> Checkpoint<K> {
    /// Reads the newest good checkpoint in `dir`, or begins an empty one. What was read is written once more before it
    /// is relied on, since the process that wrote it may have died before its sync. Blocking.
    pub fn open(ground: &Ground, dir: &Path) -> Result<Checkpoint<K>, Fault> {
        let disk = &*ground.disk;
        let read =
            disk.create_dir(dir).and_then(|()| disk.sync_dir(dir)).map_err(Into::into).and_then(|()| read(disk, dir));
        let read = read.with_context(|| format!("checkpoint in {}", dir.display()));
        let (generation, shards) = read.map_err(Fault::disk)?;
        let (ground, dir) = (ground.clone(), dir.into());
        let mut inside = Inside { ground, dir, generation, failed: false, shards, ahead: HashMap::new() };
        inside.write()?;
        Ok(Checkpoint(Arc::new(Mutex::new(inside))))
    }

    /// Up to where the shard is delivered without a gap; `None` if nothing of it ever was.
    pub fn of(&self, shard: &Shard) -> Option<Position> {
        self.inside().shards.get(shard).cloned()
    }

    /// Says where a shard that has no checkpoint yet begins. Must precede the first [`Checkpoint::advance`] of it.
    pub fn begin(&self, shard: &Shard, start: &Position) {
        self.inside().shards.entry(shard.clone()).or_insert_with(|| start.clone());
    }

    /// Forgets a shard that a group gave to another node; answers what was delivered of it behind a gap. What is still on its
    /// way counts no more.
    pub fn forget(&self, shard: &Shard) -> Vec<(ShardRange, K)> {
        let mut inside = self.inside();
        inside.shards.remove(shard);
        inside.ahead.remove(shard).map(|ahead| ahead.into_values().collect()).unwrap_or_default()
    }

    /// Notes that a range is delivered. If that extends the unbroken run, the checkpoint moves durably, and the ranges
    /// that it has now passed come back in order; those already passed before come back at once. Blocking.
    pub fn advance(&self, range: &ShardRange, kept: K) -> Result<Vec<(ShardRange, K)>, Fault> {
        let mut inside = self.inside();
        let here = inside.shards.get(&range.shard).cloned();
        if here.is_none() && range.shard.is_session() {
            return Ok(Vec::new());
        }
        let mut here = here.unwrap_or_else(|| panic!("{range} is advanced before its shard has begun"));
        if range.end <= here {
            return Ok(vec![(range.clone(), kept)]);
        }
        assert!(range.start >= here, "{range} is delivered in part: the checkpoint is at {here}");
        let ahead = inside.ahead.entry(range.shard.clone()).or_default();
        ahead.insert(range.start.clone(), (range.clone(), kept));
        let mut passed = Vec::new();
        while let Some((range, kept)) = ahead.remove(&here) {
            here = range.end.clone();
            passed.push((range, kept));
        }
        if !passed.is_empty() {
            inside.shards.insert(range.shard.clone(), here);
            // The group keeps the positions of what it shares.
            if !range.shard.is_session() {
                inside.write()?;
            }
        }
        Ok(passed)
    }

    /// Goes on at `upto` without what lies before it: its source has it no more. Durable. Blocking.
    pub fn pass_over(&self, shard: &Shard, upto: &Position) -> Result<(), Fault> {
        let mut inside = self.inside();
        assert!(!inside.ahead.contains_key(shard), "nothing of {shard} is on its way");
        inside.shards.insert(shard.clone(), upto.clone());
        inside.write()
    }

    /// All shards that something was delivered of, with their positions.
    pub fn all(&self) -> BTreeMap<Shard, Position> {
        self.inside().shards.clone()
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newest good checkpoint in `dir` as it is now; nothing is written, and its owner may be at work. It may be one behind
/// what the owner has written. Blocking.
pub fn peek(disk: &dyn Disk, dir: &Path) -> Result<BTreeMap<Shard, Position>, Fault> {
    let read = read(disk, dir).with_context(|| format!("checkpoint in {}", dir.display()));
    read.map(|(_, shards)| shards).map_err(Fault::disk)
}

impl<K> Inside<K> {
    fn write(&mut self) -> Result<(), Fault> {
        if self.failed {
            return Err(Fault::disk(io::Error::other("checkpoint: an earlier write failed; restart")));
        }
        self.failed = true;
        self.generation += 1;
        let text = render(self.generation, &self.shards);
        let slot = SLOTS[usize::try_from(self.generation % 2).unwrap_or(0)];
        write_slot(&*self.ground.disk, &self.dir, slot, text.as_bytes())
            .with_context(|| format!("checkpoint {}", self.dir.join(slot).display()))
            .map_err(Fault::disk)?;
        self.failed = false;
        Ok(())
    }
}

/// Overwrites the slot in place where it has room; otherwise a larger one is born whole.
fn write_slot(disk: &dyn Disk, dir: &Path, slot: &str, text: &[u8]) -> io::Result<()> {
    let file = match disk.open(&dir.join(slot)) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let room = match &file {
        Some(file) => usize::try_from(file.len()?).map_err(io::Error::other)?,
        None => 0,
    };
    if text.len() * 2 > room {
        let mut larger = text.to_vec();
        larger.resize((text.len() * 4).max(SLOT_BYTES), 0);
        match born_whole(disk, dir, slot, &larger) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && text.len() <= room => {}
            other => return other,
        }
    }
    match file {
        Some(file) => file.write_durably_at(text, 0),
        None => Err(io::ErrorKind::StorageFull.into()),
    }
}

fn render(generation: u64, shards: &BTreeMap<Shard, Position>) -> String {
    let ours = shards.iter().filter(|(shard, _)| !shard.is_session());
    let body: String = ours.map(|(shard, position)| format!("{shard} {position}\n")).collect();
    let len = body.len();
    let crc = checksum(generation, &body);
    format!("hydrant checkpoint 1 generation {generation:020} bytes {len:010} crc32c {crc:08x}\n{body}")
}

fn checksum(generation: u64, body: &str) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&generation.to_le_bytes()), body.as_bytes())
}

type Positions = BTreeMap<Shard, Position>;

fn read(disk: &dyn Disk, dir: &Path) -> anyhow::Result<(u64, Positions)> {
    let mut newest: Option<(u64, Positions)> = None;
    let mut bad = Vec::new();
    for slot in SLOTS {
        let bytes = match read_all(disk, &dir.join(slot)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.with_context(|| slot)?,
        };
        match parse(&bytes) {
            Some(found) if newest.as_ref().is_none_or(|(generation, _)| found.0 > *generation) => newest = Some(found),
            Some(_) => {}
            None => bad.push(slot),
        }
    }
    if newest.is_none() && !bad.is_empty() {
        bail!(
            "{} cannot be trusted, and there is no other\nhint: without it records would be delivered twice; restore the \
             folder from a copy, or remove it to deliver everything that the source still holds once more",
            bad.join(" and ")
        );
    }
    Ok(newest.unwrap_or_default())
}

fn parse(bytes: &[u8]) -> Option<(u64, Positions)> {
    let line_end = bytes.iter().take(128).position(|&b| b == b'\n')?;
    let head = std::str::from_utf8(&bytes[..line_end]).ok()?;
    let rest = head.strip_prefix("hydrant checkpoint 1 generation ")?;
    let (generation, rest) = rest.split_once(" bytes ")?;
    let (len, crc) = rest.split_once(" crc32c ")?;
    let generation: u64 = generation.parse().ok()?;
    let len: usize = len.parse().ok()?;
    let body = std::str::from_utf8(bytes.get(line_end + 1..(line_end + 1).checked_add(len)?)?).ok()?;
    if u32::from_str_radix(crc, 16).ok()? != checksum(generation, body) {
        return None;
    }
    let line = |line: &str| {
        let (shard, position) = line.split_once(' ')?;
        Some((Shard::new(shard)?, Position::parse(position)?))
    };
    Some((generation, body.lines().map(line).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> Shard {
        Shard::new("7f3a").unwrap()
    }

    fn range(start: u64, end: u64) -> ShardRange {
        ShardRange { shard: shard(), start: start.into(), end: end.into() }
    }

    fn passed(ranges: Vec<(ShardRange, &'static str)>) -> Vec<&'static str> {
        ranges.into_iter().map(|(_, kept)| kept).collect()
    }

    #[test]
    fn it_passes_only_an_unbroken_run() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(&Ground::real(), dir.path()).unwrap();
        checkpoint.begin(&shard(), &0.into());
        assert!(checkpoint.advance(&range(10, 20), "b").unwrap().is_empty());
        assert!(checkpoint.advance(&range(20, 30), "c").unwrap().is_empty());
        assert_eq!(checkpoint.of(&shard()), Some(0.into()));
        assert_eq!(passed(checkpoint.advance(&range(0, 10), "a").unwrap()), ["a", "b", "c"]);
        assert_eq!(checkpoint.of(&shard()), Some(30.into()));
        assert_eq!(passed(checkpoint.advance(&range(10, 20), "again").unwrap()), ["again"]);
    }

    #[test]
    fn it_is_the_newest_good_one_after_a_restart_whichever_file_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Checkpoint::<()>::open(&Ground::real(), dir.path());
        let checkpoint = open().unwrap();
        checkpoint.begin(&shard(), &0.into());
        checkpoint.advance(&range(0, 10), ()).unwrap();
        checkpoint.advance(&range(10, 20), ()).unwrap();
        let newest = SLOTS.map(|slot| dir.path().join(slot)).into_iter();
        let newest = newest.max_by_key(|path| parse(&std::fs::read(path).unwrap()).unwrap().0).unwrap();
        assert_eq!(open().unwrap().of(&shard()), Some(20.into()));
        let mut torn = std::fs::read(&newest).unwrap();
        torn[60] ^= 1;
        std::fs::write(&newest, torn).unwrap();
        assert_eq!(open().unwrap().of(&shard()), Some(20.into()), "opening had written it once more");
        for slot in SLOTS {
            std::fs::write(dir.path().join(slot), b"rubbish").unwrap();
        }
        let fault = open().err().expect("rubbish is refused");
        assert!(format!("{:#}", fault.error).contains("checkpoint.a and checkpoint.b cannot be trusted"), "{fault}");
    }

    #[test]
    fn what_a_group_shares_is_counted_and_not_written_and_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(&Ground::real(), dir.path()).unwrap();
        let session = Shard::new("k1a2b3c4dp0s7d2a90b4e1f0").unwrap();
        let range = |start: u64, end: u64| ShardRange { shard: session.clone(), start: start.into(), end: end.into() };
        checkpoint.begin(&session, &5.into());
        assert_eq!(passed(checkpoint.advance(&range(5, 9), "a").unwrap()), ["a"]);
        assert!(checkpoint.advance(&range(12, 20), "c").unwrap().is_empty());
        checkpoint.begin(&shard(), &0.into());
        checkpoint.advance(&self::range(0, 1), "ours").unwrap();
        assert_eq!(peek(&*Ground::real().disk, dir.path()).unwrap().into_keys().collect::<Vec<_>>(), [shard()]);
        assert_eq!(passed(checkpoint.forget(&session)), ["c"]);
        assert!(checkpoint.advance(&range(9, 12), "late").unwrap().is_empty(), "it is another's");
    }

    #[test]
    fn it_grows_with_the_number_of_shards() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(&Ground::real(), dir.path()).unwrap();
        let shards: Vec<_> = (0..5000).map(|n| Shard::new(&format!("{n:016x}")).unwrap()).collect();
        for shard in &shards {
            checkpoint.begin(shard, &7.into());
        }
        checkpoint.advance(&ShardRange { shard: shards[0].clone(), start: 7.into(), end: 8.into() }, ()).unwrap();
        let again = Checkpoint::<()>::open(&Ground::real(), dir.path()).unwrap();
        assert_eq!(again.of(&shards[4999]), Some(7.into()));
    }
}
