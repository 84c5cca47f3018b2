//! What a local folder needs beside object_store: durable folders, no symbolic links below the root, no leftovers.
//!
//! object_store's `LocalFileSystem` writes `name#1`, syncs it, links it to `name`, and syncs the folder. A process that
//! dies between the last two leaves a name that the next one finds and believes, and that a power cut may still undo;
//! so does one that dies between making a folder and syncing its parent. The promise here: before a put every folder
//! is made and synced by this process, and what is found already there is synced before it is believed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::disk::make_folder;

/// Most folders remembered as durable; then they are synced again.
const FOLDERS_MAX: usize = 4096;

/// The root folder of a local sink. All calls block.
#[derive(Debug)]
pub struct LocalRoot {
    root: PathBuf,
    durable: Mutex<HashSet<PathBuf>>,
}

impl LocalRoot {
    /// Makes the folder, durably, with its parents. The root itself may be reached through symbolic links.
    pub fn create(root: &Path) -> io::Result<LocalRoot> {
        make_folder(root, 0o777)?;
        Ok(LocalRoot { root: fs::canonicalize(root)?, durable: Mutex::default() })
    }

    /// The folder as it is, to be read only.
    pub fn existing(root: &Path) -> io::Result<LocalRoot> {
        let root = fs::canonicalize(root)?;
        match root.is_dir() {
            true => Ok(LocalRoot { root, durable: Mutex::default() }),
            false => Err(crate::disk::not_a_folder(&root)),
        }
    }

    /// Where the folder lies, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Makes the folders above object `name`, durably. A symbolic link among them is an error: it might lead out.
    pub fn make_folders(&self, name: &str) -> io::Result<()> {
        let Some((folders, _)) = name.rsplit_once('/') else { return Ok(()) };
        let mut parent = self.root.clone();
        for folder in folders.split('/') {
            let path = parent.join(folder);
            if !self.is_known(&path) {
                make_entry(&path)?;
                sync_folder(&parent)?;
                self.remember(path.clone());
            }
            parent = path;
        }
        Ok(())
    }

    /// Makes an object that was found durable, in case the process that stored it did not live to do so.
    pub fn sync_object(&self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        File::open(&path)?.sync_all()?;
        sync_folder(path.parent().unwrap_or(&self.root))
    }

    /// Removes what a killed put of `name` left beside it (`name#1`, ...); says how many files that were.
    ///
    /// Only while no put of this name is under way.
    pub fn sweep(&self, name: &str) -> io::Result<usize> {
        let path = self.root.join(name);
        let (Some(folder), Some(file)) = (path.parent(), path.file_name().and_then(|file| file.to_str())) else {
            return Ok(0);
        };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry?;
            let beside = entry.file_name();
            let digits =
                beside.to_str().and_then(|beside| beside.strip_prefix(file)).and_then(|rest| rest.strip_prefix('#'));
            if digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn is_known(&self, path: &Path) -> bool {
        self.durable.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).contains(path)
    }

    fn remember(&self, path: PathBuf) {
        let mut durable = self.durable.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if durable.len() >= FOLDERS_MAX {
            durable.clear();
        }
        durable.insert(path);
    }
}

fn make_entry(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_dir() {
        return Ok(());
    }
    let what = if kind.is_symlink() { "is a symbolic link" } else { "is not a folder" };
    Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} {what}", path.display())))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_a_killed_put_are_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = LocalRoot::create(&dir.path().join("a/b")).unwrap();
        assert_eq!(root.sweep("x/name.parquet").unwrap(), 0, "no folder, no leftovers");
        root.make_folders("x/name.parquet").unwrap();
        let folder = root.path().join("x");
        for file in
            ["name.parquet#1", "name.parquet#22", "name.parquet", "name.parquet#", "name.parquet#1a", "other.parquet#1"]
        {
            fs::write(folder.join(file), "x").unwrap();
        }
        assert_eq!(root.sweep("x/name.parquet").unwrap(), 2);
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["name.parquet", "name.parquet#", "name.parquet#1a", "other.parquet#1"]);
    }

    #[test]
    fn a_planted_link_does_not_lead_out() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = LocalRoot::create(dir.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("dt=1")).unwrap();
        let error = root.make_folders("dt=1/sub/name").unwrap_err();
        assert!(error.to_string().ends_with("dt=1 is a symbolic link"), "{error}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
