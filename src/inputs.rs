//! Inputs: the files that something was made of, each with what was in it when it was read.
//!
//! The promise: a file counts as changed if and only if reading it again would give something else. Its size and times
//! are a hint that it need not be read again, and are trusted only once they are old: a file that is replaced by another
//! of the same length, within what a file system's clock can tell apart, is seen. So is one that could not be read and
//! now can.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// How old a file's times must be to be a hint: FAT knows only every second one, and clocks of file servers differ.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// Digits of the hash that are shown.
const HASH_DIGITS: usize = 16;

/// What was read, for good.
#[derive(Debug)]
pub struct Inputs {
    files: Vec<Input>,
    hash: String,
}

/// What is being read: a list that grows while something is made. Each file is to be looked at before it is read.
#[derive(Debug, Default)]
pub struct Reads(RefCell<Vec<Input>>);

/// A file that is about to be read; dropped as it is, it stands for one that could not be.
#[derive(Debug)]
pub struct Look<'r> {
    reads: &'r Reads,
    path: PathBuf,
    seen: Seen,
    content: Content,
    bytes_max: u64,
}

#[derive(Debug)]
struct Input {
    path: PathBuf,
    content: Content,
    /// Bytes that are read of it at most, and one more.
    bytes_max: u64,
    /// It was read twice, and was not the same.
    torn: bool,
    /// How it looked at the last look; the content is known to be as it was then.
    settled: Mutex<Option<Seen>>,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Bytes([u8; 32]),
    /// Nothing, for a reason that a look tells.
    Nothing(Seen),
    /// Nothing, for a reason that may pass without a sign.
    Failed(Seen),
}

/// What a look tells of a file, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    File {
        device: u64,
        inode: u64,
        len: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
    /// A pipe or device: nothing that can be read again.
    Other,
    No(io::ErrorKind),
}

impl Inputs {
    /// The first 16 hexadecimal digits of the SHA-256 over the contents of all, in the order in which they were read.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The files, each once, in the order in which they were read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|input| input.path.as_path())
    }

    /// Whether one of them would read differently now. Blocks; reads only what may have changed.
    pub fn have_changed(&self) -> bool {
        let now = SystemTime::now();
        self.files.iter().any(|input| input.has_changed(now))
    }
}

impl Reads {
    /// Nothing yet.
    pub fn new() -> Reads {
        Reads::default()
    }

    /// To be called before `path` is read, of which `bytes_max` bytes are used at most.
    pub fn look(&self, path: &Path, bytes_max: u64) -> Look<'_> {
        let seen = Seen::of(path);
        Look { reads: self, path: path.to_owned(), seen, content: Content::Nothing(seen), bytes_max }
    }

    /// Reads a file: all of it, or one byte more than `bytes_max`.
    pub fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let look = self.look(path, bytes_max);
        let read = read(path, bytes_max);
        match &read {
            Ok(bytes) => look.found(bytes),
            Err(error) => look.failed(error),
        }
        read
    }

    /// All that was read.
    pub fn finish(self) -> Inputs {
        let files = self.0.into_inner();
        let mut all = Sha256::new();
        for input in &files {
            match input.content {
                Content::Bytes(hash) => all.update([&[1], hash.as_slice()].concat()),
                Content::Nothing(_) | Content::Failed(_) => all.update([0]),
            }
        }
        let hash = all.finalize().iter().take(HASH_DIGITS / 2).fold(String::new(), |mut digits, byte| {
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        Inputs { files, hash }
    }
}

impl Look<'_> {
    /// It was read, and these bytes were in it.
    pub fn found(mut self, bytes: &[u8]) {
        self.content = Content::Bytes(Sha256::digest(bytes).into());
    }

    /// It could not be read.
    pub fn failed(mut self, error: &io::Error) {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
        if !matches!(error.kind(), NotFound | PermissionDenied | IsADirectory | NotADirectory) {
            self.content = Content::Failed(self.seen);
        }
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let mut files = self.reads.0.borrow_mut();
        match files.iter_mut().find(|input| input.path == self.path) {
            Some(input) => input.torn |= input.content != self.content,
            None => files.push(Input {
                path: std::mem::take(&mut self.path),
                content: self.content,
                bytes_max: self.bytes_max,
                torn: false,
                settled: Mutex::new(None),
            }),
        }
    }
}

impl Input {
    fn has_changed(&self, now: SystemTime) -> bool {
        let seen = Seen::of(&self.path);
        let hash = match self.content {
            _ if self.torn => return true,
            Content::Nothing(then) => return seen != then,
            Content::Failed(then) => return seen != then || read(&self.path, self.bytes_max).is_ok(),
            Content::Bytes(hash) => hash,
        };
        match seen {
            Seen::No(_) => return true,
            Seen::Other => return false,
            Seen::File { .. } => {}
        }
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if *settled == Some(seen) {
            return false;
        }
        let same = read(&self.path, self.bytes_max).is_ok_and(|bytes| Sha256::digest(bytes).as_slice() == hash);
        // What is written after this look has later times than those seen, which are the past already.
        *settled = (same && seen.is_old(now)).then_some(seen);
        !same
    }
}

impl Seen {
    fn of(path: &Path) -> Seen {
        match fs::metadata(path) {
            Ok(file) if file.is_file() || file.is_dir() => Seen::File {
                device: file.dev(),
                inode: file.ino(),
                len: file.len(),
                modified: (file.mtime(), file.mtime_nsec()),
                changed: (file.ctime(), file.ctime_nsec()),
            },
            Ok(_) => Seen::Other,
            Err(error) => Seen::No(error.kind()),
        }
    }

    fn is_old(&self, now: SystemTime) -> bool {
        let Seen::File { modified, changed, .. } = *self else { return false };
        let (seconds, nanos) = modified.max(changed);
        let at = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        let age = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().checked_sub(at);
        age.is_some_and(|age| age >= SETTLED_AFTER)
    }
}

fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(paths: &[&Path]) -> Inputs {
        let reads = Reads::new();
        for path in paths {
            let _ = reads.read(path, 100);
        }
        reads.finish()
    }

    fn long_ago(path: &Path, times: &str) {
        // The time of change is the kernel's, and stays new; so only modification is set back.
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(times.parse().unwrap());
        File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn only_other_bytes_are_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "aaaa").unwrap();
        let first = inputs(&[&path]);
        assert!(!first.have_changed());
        long_ago(&path, "1000");
        assert!(!first.have_changed(), "touched, and the same");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "bbbb").unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert!(first.have_changed(), "of equal length and time");
        let second = inputs(&[&path]);
        assert_ne!(first.hash(), second.hash());
        fs::write(folder.path().join("y"), "aaaa").unwrap();
        fs::rename(folder.path().join("y"), &path).unwrap();
        assert!(second.have_changed(), "renamed over");
        assert!(!first.have_changed(), "and back to what it was");
        assert_eq!(inputs(&[&path]).hash(), first.hash());
    }

    #[test]
    fn times_are_a_hint_only_when_they_are_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "aaaa").unwrap();
        let inputs = inputs(&[&path]);
        let input = &inputs.files[0];
        let settled = |input: &Input| input.settled.lock().unwrap().is_some();
        assert!(!input.has_changed(SystemTime::now()));
        assert!(!settled(input), "it could be written again in the same tick of the clock");
        assert!(!input.has_changed(SystemTime::now() + SETTLED_AFTER * 2));
        assert!(settled(input));
        fs::write(&path, "bbbb").unwrap();
        assert!(input.has_changed(SystemTime::now()), "new times are no hint");
    }

    #[test]
    fn what_cannot_be_read_is_an_input_too() {
        let folder = tempfile::tempdir().unwrap();
        let (path, beside) = (folder.path().join("x"), folder.path().join("y"));
        let absent = inputs(&[&path]);
        assert!(!absent.have_changed());
        assert_eq!(absent.files().collect::<Vec<_>>(), [&path]);
        fs::write(&path, "").unwrap();
        assert!(absent.have_changed(), "it is there now");
        let empty = inputs(&[&path]);
        assert_ne!(empty.hash(), absent.hash());
        fs::remove_file(&path).unwrap();
        assert!(empty.have_changed(), "it is gone");
        fs::create_dir(&beside).unwrap();
        let not_a_file = inputs(&[&beside]);
        assert!(!not_a_file.have_changed());
        fs::remove_dir(&beside).unwrap();
        fs::write(&beside, "x").unwrap();
        assert!(not_a_file.have_changed());
    }

    #[test]
    fn a_file_that_was_read_twice_counts_once_unless_it_changed_between() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "a").unwrap();
        let twice = inputs(&[&path, &path]);
        assert_eq!((twice.files().count(), twice.have_changed()), (1, false));
        let reads = Reads::new();
        reads.read(&path, 100).unwrap();
        fs::write(&path, "b").unwrap();
        reads.read(&path, 100).unwrap();
        assert!(reads.finish().have_changed());
    }

    #[test]
    fn bytes_behind_the_limit_are_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "a".repeat(101)).unwrap();
        let inputs = inputs(&[&path]);
        fs::write(&path, "a".repeat(200)).unwrap();
        assert!(!inputs.have_changed(), "too long as before");
    }
}
