//! A module's file: read whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{MODULE_BYTES_MAX, Unfit};

/// A file that a module is read from.
#[derive(Debug)]
pub struct ModuleFile {
    path: PathBuf,
}

impl ModuleFile {
    /// The file at `path`.
    pub fn new(path: PathBuf) -> ModuleFile {
        ModuleFile { path }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its last name, for people.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Its bytes; one that is too large is not read.
    pub fn read(&self) -> Result<Vec<u8>, Unfit> {
        let unread = |error: io::Error| Unfit::new(format!("cannot be read: {error}"));
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
