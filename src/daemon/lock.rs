//! The lock of the state folder: one process owns it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::disk::{Disk, RealDisk};
use crate::error::{Blame, Fault};

/// Held for as long as the process uses the folder; the kernel lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Creates the folder and locks it, or says which process has it.
    pub fn take(state: &Path) -> Result<StateLock, Fault> {
        let taken = lock(state).with_context(|| format!("state folder {}", state.display()));
        taken.map_err(|error| Fault { blame: Blame::Config, error })
    }
}

fn lock(state: &Path) -> anyhow::Result<StateLock> {
    RealDisk.create_dir(state).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory => {
            anyhow!("{error}\nhint: name a folder that can be written with --state DIR")
        }
        _ => error.into(),
    })?;
    let path = state.join("LOCK");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(
            |error| anyhow!("{}: {error}\nhint: name a folder that can be written with --state DIR", path.display()),
        )?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            file.read_to_string(&mut owner)?;
            let owner = match owner.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(anyhow!("in use by {owner}\nhint: stop that one, or name another folder with --state DIR"));
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    // For people only: on a full disk the lock holds without it.
    let _ = file.rewind().and_then(|()| writeln!(file, "{:<10}", std::process::id()));
    Ok(StateLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_and_told_who_has_the_folder() {
        let state = tempfile::tempdir().unwrap();
        let held = StateLock::take(state.path()).unwrap();
        let refused = StateLock::take(state.path()).unwrap_err();
        let in_use = format!("in use by process {}", std::process::id());
        assert!(format!("{:#}", refused.error).contains(&in_use), "{:#}", refused.error);
        drop(held);
        StateLock::take(state.path()).unwrap();
    }
}
