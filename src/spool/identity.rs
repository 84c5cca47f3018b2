//! A stream's identity: a random number made with its folder, from which the shard id is.
//!
//! The file `identity` is one line, `hydrant spool 1 <12 hex digits> <crc-32c of all before, 8 hex digits>`. A folder that
//! was lost and made again is another log, so that its record numbers, which start at 0 again, name other objects.

use std::io;
use std::path::Path;

use crate::disk::{Disk, born_whole, read_all};
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::position::Shard;

/// The file's name.
pub const NAME: &str = "identity";

/// Reads the incarnation of the stream in `dir`; `None`: there is no stream yet.
pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<u64>, Fault> {
    let path = dir.join(NAME);
    let bytes = match read_all(disk, &path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| Fault::disk(error).context(format!("{}: read", path.display())))?,
    };
    let digits = bytes.strip_prefix(PREFIX.as_bytes()).and_then(|rest| rest.get(..12));
    let incarnation = digits
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .filter(|incarnation| line(*incarnation).as_bytes() == bytes);
    match incarnation {
        Some(incarnation) => Ok(Some(incarnation)),
        None => Err(Fault::new(Blame::Disk, format!("{}: damaged\nhint: restore it from a copy", path.display()))),
    }
}

/// Makes and stores a new incarnation, durably.
pub fn create(ground: &Ground, dir: &Path) -> Result<u64, Fault> {
    let incarnation = ground.random.u64() & INCARNATION_MAX;
    born_whole(&*ground.disk, dir, NAME, line(incarnation).as_bytes())
        .map_err(|error| Fault::disk(error).context(format!("{}: create", dir.join(NAME).display())))?;
    Ok(incarnation)
}

/// The shard id of an incarnation.
pub fn shard(incarnation: u64) -> Shard {
    Shard::new(&format!("{incarnation:012x}")).expect("hex digits are a shard id")
}

/// 48 bits: with a million streams in one bucket, two alike are less likely than one in 500.
const INCARNATION_MAX: u64 = (1 << 48) - 1;

const PREFIX: &str = "hydrant spool 1 ";

fn line(incarnation: u64) -> String {
    let text = format!("{PREFIX}{incarnation:012x} ");
    let crc = crc32c::crc32c(text.as_bytes());
    format!("{text}{crc:08x}\n")
}
