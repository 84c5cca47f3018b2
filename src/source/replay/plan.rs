//! What a replay of error objects is going to read, and what replays have read: small files of the state folder.
//!
//! ```text
//! plan   crc32c of the rest, 8 hex digits, '\n', JSON: the shard, and each object with its length
//! done   crc32c of the rest, 8 hex digits, '\n', then 17 bytes an object: 16 of its name's SHA-256, and its classes
//! ```
//! The objects of a plan one behind the other are one log for ever: an error object has a name that no other ever gets, is
//! created whole and never written again, and the plan is born whole before the first of it is read. A position is a byte of
//! that log. A plan goes when all of it is delivered and stands in `done`, where an object costs 17 bytes.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::line::Classes;
use crate::disk::{Disk, born_whole, read_all};
use crate::error::{Blame, Fault};
use crate::position::Shard;

const ENTRY_BYTES: usize = 17;
const CRC_BYTES: usize = 9;

/// One error object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Below the sink's root.
    pub name: String,
    pub bytes: u64,
    /// When the store got it, in Unix milliseconds: the arrival of records whose line does not tell theirs.
    pub modified_ms: i64,
    /// Lines of other classes are left alone.
    pub classes: Classes,
}

/// A replay under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub shard: String,
    pub objects: Vec<Planned>,
}

impl Plan {
    /// The shard that it is read as.
    pub fn shard(&self) -> Option<Shard> {
        Shard::new(&self.shard)
    }

    /// Where the log ends, in bytes.
    pub fn end(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes).sum()
    }
}

/// Error objects that were replayed, by a hash of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done(Vec<([u8; 16], Classes)>);

impl Done {
    /// Reads the list; there may be none.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Done, Fault> {
        let Some(bytes) = read_checked(disk, dir, "done")? else { return Ok(Done::default()) };
        let entry = |entry: &[u8; ENTRY_BYTES]| {
            let (hash, [classes]) = entry.split_first_chunk().map(|(hash, rest)| (*hash, [rest[0]]))?;
            Some((hash, Classes(classes)))
        };
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        Ok(Done(entries.iter().filter_map(entry).collect()))
    }

    /// Which classes of an object's lines were replayed.
    pub fn of(&self, name: &str) -> Classes {
        let found = self.0.binary_search_by_key(&hash(name), |(hash, _)| *hash);
        found.ok().and_then(|at| self.0.get(at)).map_or(Classes(0), |(_, classes)| *classes)
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds objects. Twice is once.
    pub fn add<'p>(&mut self, objects: impl Iterator<Item = &'p Planned>) {
        self.0.extend(objects.map(|object| (hash(&object.name), object.classes)));
        self.0.sort_unstable_by_key(|(hash, _)| *hash);
        self.0.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1.0 |= later.1.0;
            }
            same
        });
    }

    /// Writes the list, whole.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), Fault> {
        let bytes: Vec<u8> =
            self.0.iter().flat_map(|(hash, classes)| hash.iter().copied().chain([classes.0])).collect();
        write_checked(disk, dir, "done", &bytes)
    }
}

fn hash(name: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Sha256::digest(name.as_bytes())[..16]);
    short
}

/// Writes `dir/name` behind its checksum: there whole or not at all.
pub fn write_checked(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    let mut whole = format!("{:08x}\n", crc32c::crc32c(bytes)).into_bytes();
    whole.extend_from_slice(bytes);
    born_whole(disk, dir, name, &whole)
        .map_err(|error| Fault::of_io(error).context(format!("{}", dir.join(name).display())))
}

/// Reads back what [`write_checked`] wrote; `None`: there is nothing.
pub fn read_checked(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    let path = dir.join(name);
    let mut bytes = match read_all(disk, &path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| Fault::disk(error).context(format!("{}", path.display())))?,
    };
    let (head, rest) = bytes.split_at(bytes.len().min(CRC_BYTES));
    if head != format!("{:08x}\n", crc32c::crc32c(rest)).as_bytes() {
        let hint = "hint: without it records would be delivered twice; restore the file from a copy";
        return Err(Fault::new(Blame::Disk, format!("{}: damaged\n{hint}", path.display())));
    }
    Ok(Some(bytes.split_off(CRC_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn planned(name: &str, classes: u8) -> Planned {
        Planned { name: name.into(), bytes: 1, modified_ms: 0, classes: Classes(classes) }
    }

    #[test]
    fn what_was_replayed_is_remembered_by_class_and_a_damaged_list_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut done = Done::default();
        done.add([planned("a", 1), planned("b", 7)].iter());
        for _ in 0..2 {
            done.add([planned("a", 2)].iter());
        }
        done.write(&RealDisk, dir.path()).unwrap();
        let mut read = Done::read(&RealDisk, dir.path()).unwrap();
        assert_eq!((read.of("a"), read.of("b"), read.of("c")), (Classes(3), Classes(7), Classes(0)));
        assert_eq!(read, done);
        read.add([].iter());
        assert_eq!(read.len(), 2);
        let path = dir.path().join("done");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Done::read(&RealDisk, dir.path()).unwrap_err().blame, Blame::Disk);
    }
}
