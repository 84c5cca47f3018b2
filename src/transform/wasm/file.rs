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
    File { inode: u64, len: u64, modified: (i64, i64) },
    No(io::ErrorKind),
}

impl ModuleFile {
    /// Not yet looked at.
    pub fn new(path: PathBuf) -> ModuleFile {
        ModuleFile { path, seen: Mutex::default() }
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

    /// Its bytes; one that is too large is not read. Looked at before it is read: what is written to it while it is read
    /// is a change after it.
    pub fn read(&self) -> Result<Vec<u8>, Unfit> {
        self.has_changed();
        let unread = |error: io::Error| Unfit::new(format!("cannot be read: {error}"));
        let file = open(&self.path)?;
        let len = file.metadata().map_err(unread)?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(len.min(MODULE_BYTES_MAX)).unwrap_or(0));
        file.take(MODULE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unread)?;
        match bytes.len() as u64 > MODULE_BYTES_MAX {
            true => Err(Unfit::too_large(len.max(bytes.len() as u64))),
            false => Ok(bytes),
        }
    }
}

fn open(path: &Path) -> Result<File, Unfit> {
    // Before it is opened: a pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(|error| {
        let unfit = Unfit::new(format!("{}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::NotFound => unfit.hint("the path is relative to the folder of the pipeline file"),
            _ => unfit,
        }
    })?;
    if !metadata.is_file() {
        return Err(Unfit::new(format!("{} is not a file", path.display())));
    }
    if metadata.len() > MODULE_BYTES_MAX {
        return Err(Unfit::too_large(metadata.len()));
    }
    File::open(path).map_err(|error| Unfit::new(format!("{}: {error}", path.display())))
}

impl Seen {
    fn of(looked: io::Result<Metadata>) -> Seen {
        match looked {
            Ok(file) => Seen::File { inode: file.ino(), len: file.len(), modified: (file.mtime(), file.mtime_nsec()) },
            Err(error) => Seen::No(error.kind()),
        }
    }
}
