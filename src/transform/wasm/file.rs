//! A module's file: read whole, and looked at for changes.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{MODULE_BYTES_MAX, Unfit};

/// A file that a module is read from.
#[derive(Debug)]
pub struct ModuleFile {
    path: PathBuf,
    seen: Mutex<Option<Seen>>,
}

/// What tells one content of a file from another, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    File { device: u64, inode: u64, len: u64, modified: (i64, i64), changed: (i64, i64) },
    No(io::ErrorKind),
}

impl ModuleFile {
    /// Not yet looked at.
    pub fn new(path: PathBuf) -> ModuleFile {
        ModuleFile { path, seen: Mutex::default() }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its last name, for people.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Whether it is another one than at the last look; looks.
    pub fn has_changed(&self) -> bool {
        let now = Seen::of(fs::metadata(&self.path));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.replace(now) != Some(now)
    }

    /// Counts as changed at the next look: what went wrong with it was the machine's fault, and may not be so then.
    pub fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Its bytes; one that is too large is not read. Looked at before it is read: what is written to it while it is read
    /// is a change after it.
    pub fn read(&self) -> Result<Vec<u8>, Unfit> {
        self.has_changed();
        let unread = |error: io::Error| {
            self.forget();
            Unfit::new(format!("cannot be read: {error}"))
        };
        self.check()?;
        let file = File::open(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => self.unfit(&error),
            _ => unread(error),
        })?;
        let len = file.metadata().map_err(unread)?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(len.min(MODULE_BYTES_MAX)).unwrap_or(0));
        file.take(MODULE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
        match bytes.len() as u64 > MODULE_BYTES_MAX {
            true => Err(Unfit::too_large(len.max(bytes.len() as u64))),
            false => Ok(bytes),
        }
    }

    /// Whether it can be opened: a pipe would wait for a writer.
    fn check(&self) -> Result<(), Unfit> {
        let metadata = fs::metadata(&self.path).map_err(|error| self.unfit(&error))?;
        if !metadata.is_file() {
            return Err(Unfit::new(format!("{} is not a file", self.path.display())));
        }
        match metadata.len() > MODULE_BYTES_MAX {
            true => Err(Unfit::too_large(metadata.len())),
            false => Ok(()),
        }
    }

    fn unfit(&self, error: &io::Error) -> Unfit {
        let unfit = Unfit::new(format!("{}: {error}", self.path.display()));
        match error.kind() {
            io::ErrorKind::NotFound => unfit.hint("the path is relative to the folder of the pipeline file"),
            _ => unfit,
        }
    }
}

impl Seen {
    fn of(looked: io::Result<Metadata>) -> Seen {
        match looked {
            Ok(file) => Seen::File {
                device: file.dev(),
                inode: file.ino(),
                len: file.len(),
                modified: (file.mtime(), file.mtime_nsec()),
                changed: (file.ctime(), file.ctime_nsec()),
            },
            Err(error) => Seen::No(error.kind()),
        }
    }
}
