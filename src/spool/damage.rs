//! Damage: durable records that the disk no longer gives back, and what is written down about them.
//!
//! A gap that was accepted (`OnCorruption::Skip`) stands as one small file in `quarantine/`, named
//! `gap-<start>-<end>`; readers go over it from then on, under either policy. A damaged segment moves to
//! `quarantine/` instead of being removed once every reader has released it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, born_whole, remove_if_there};
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::spool::OnCorruption;

/// The folder, inside the stream's, where damaged files and the records of gaps go.
pub const QUARANTINE: &str = "quarantine";

/// Records `start..end` are lost; the damage begins at byte `offset` of `file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub offset: u64,
    pub start: u64,
    /// At the least: what lay behind the last durable number that we know of cannot be counted.
    pub end: u64,
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, offset, start, end, what } = self;
        let count = end - start;
        write!(f, "{}: {what} at byte {offset}: records {start}..{end} (at least {count}) are lost", file.display())
    }
}

impl Damage {
    /// Accepts the gap durably, or stops, as the policy says.
    pub fn settle(&self, ground: &Ground, dir: &Path, policy: OnCorruption) -> Result<(), Fault> {
        if policy == OnCorruption::Stop {
            let hint = "restore the file from a copy, or accept the loss with `on_corruption: skip`";
            return Err(Fault::new(Blame::Disk, format!("{self}\nhint: {hint}")));
        }
        let quarantine = dir.join(QUARANTINE);
        let text = format!("{self}\nfound at {} (unix ms)\n", ground.clock.now_ms());
        ground
            .disk
            .create_dir(&quarantine)
            .and_then(|()| born_whole(&*ground.disk, &quarantine, &gap_name(self.start, self.end), text.as_bytes()))
            .map_err(|error| Fault::disk(error).context(format!("{}: record a gap", quarantine.display())))?;
        tracing::error!(damage = %self, "spool: gap accepted");
        Ok(())
    }
}

fn gap_name(start: u64, end: u64) -> String {
    format!("gap-{start:020}-{end:020}")
}

/// Reads which gaps were accepted, as `(start, end)` in order; removes what a dead process left half-made.
pub fn accepted_gaps(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let quarantine = dir.join(QUARANTINE);
    let files = match disk.list(&quarantine) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut gaps = Vec::new();
    for (name, _) in files {
        if name.starts_with("tmp-") {
            remove_if_there(disk, &quarantine.join(name))?;
        } else if let Some((start, end)) = name.strip_prefix("gap-").and_then(|rest| rest.split_once('-'))
            && let (Ok(start), Ok(end)) = (start.parse(), end.parse())
        {
            gaps.push((start, end));
        }
    }
    gaps.sort_unstable();
    Ok(gaps)
}

/// Moves a segment into `quarantine/`, durably.
pub fn move_away(disk: &dyn Disk, dir: &Path, name: &str) -> io::Result<()> {
    let quarantine = dir.join(QUARANTINE);
    disk.create_dir(&quarantine)?;
    disk.rename(&dir.join(name), &quarantine.join(name))?;
    disk.sync_dir(&quarantine)?;
    disk.sync_dir(dir)
}
