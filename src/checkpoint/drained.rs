//! The mark of a pipeline that was drained: nothing that was acknowledged to it is undelivered, so nothing is kept for it.
//!
//! The file `drained` lies beside the checkpoint and is born whole, a line per shard: `7f3a9c21d4e0 18211`. It is written
//! after all is delivered and before the source is told to forget the pipeline, and goes before the pipeline reads again.
//! A line counts only while the checkpoint stands where it says; a mark that cannot be read counts for nothing, since to
//! keep too much is no loss.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::disk::{Disk, born_whole, read_all, remove_if_there};
use crate::error::Fault;
use crate::position::{Position, Shard};

const NAME: &str = "drained";
const FIRST_LINE: &str = "hydrant drained 1";

/// The shards that the pipeline with state in `dir` was drained of, and up to where; `None`: it has no mark. Blocking.
pub fn drained(disk: &dyn Disk, dir: &Path) -> Result<Option<BTreeMap<Shard, Position>>, Fault> {
    match read_all(disk, &dir.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(dir, error)),
        Ok(bytes) => Ok(str::from_utf8(&bytes).ok().and_then(parse)),
    }
}

/// Marks it as drained of these shards too, durably. Blocking.
pub fn mark_drained(disk: &dyn Disk, dir: &Path, shards: &BTreeMap<Shard, Position>) -> Result<(), Fault> {
    let mut all = drained(disk, dir)?.unwrap_or_default();
    all.extend(shards.clone());
    write(disk, dir, &all)
}

/// It is to read this shard again: from now on the shard is kept for it, durably. Twice is once. Blocking.
pub fn unmark_drained(disk: &dyn Disk, dir: &Path, shard: &Shard) -> Result<(), Fault> {
    let Some(mut all) = drained(disk, dir)? else { return Ok(()) };
    let was_there = all.remove(shard).is_some();
    if all.is_empty() {
        let gone = remove_if_there(disk, &dir.join(NAME)).and_then(|()| disk.sync_dir(dir));
        return gone.map_err(|error| at(dir, error));
    }
    if was_there { write(disk, dir, &all) } else { Ok(()) }
}

fn write(disk: &dyn Disk, dir: &Path, shards: &BTreeMap<Shard, Position>) -> Result<(), Fault> {
    let lines: String = shards.iter().map(|(shard, position)| format!("{shard} {position}\n")).collect();
    let written = born_whole(disk, dir, NAME, format!("{FIRST_LINE}\n{lines}").as_bytes());
    written.map_err(|error| at(dir, error))
}

fn parse(text: &str) -> Option<BTreeMap<Shard, Position>> {
    let lines = text.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?.lines();
    lines
        .map(|line| line.split_once(' ').and_then(|(shard, at)| Some((Shard::new(shard)?, Position::parse(at)?))))
        .collect()
}

fn at(dir: &Path, error: io::Error) -> Fault {
    Fault::of_io(error).context(format!("{}", dir.join(NAME).display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_mark_names_its_shards_and_goes_with_the_last_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let shard = |name: &str| Shard::new(name).unwrap();
        let marked = || drained(&RealDisk, dir).unwrap();
        assert_eq!(marked(), None);
        mark_drained(&RealDisk, dir, &BTreeMap::from([(shard("a"), 7.into())])).unwrap();
        mark_drained(&RealDisk, dir, &BTreeMap::from([(shard("b"), 9.into())])).unwrap();
        assert_eq!(marked().unwrap(), BTreeMap::from([(shard("a"), 7.into()), (shard("b"), 9.into())]));
        unmark_drained(&RealDisk, dir, &shard("c")).unwrap();
        unmark_drained(&RealDisk, dir, &shard("a")).unwrap();
        assert_eq!(marked().unwrap().len(), 1);
        for _ in 0..2 {
            unmark_drained(&RealDisk, dir, &shard("b")).unwrap();
            assert_eq!(marked(), None);
        }
        std::fs::write(dir.join(NAME), "rubbish").unwrap();
        assert_eq!(marked(), None, "what cannot be read marks nothing");
    }
}
