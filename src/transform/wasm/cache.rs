//! What was compiled, kept in a folder, so that the next start takes milliseconds.
//!
//! A file is native code that will run in this process: it is taken only from our own folder (mode 0700), and only if it
//! is whole and says what it is. One that is damaged or foreign counts as absent, and is written anew.
//!
//! ```text
//! NAME.compiled = | "hydmod 1" 8 | key, SHA-256 32 | XXH3-128 of the code, LE 16 | code .. |
//! key  = module's bytes, hydrant's version, contract and adapter, wasmtime's version and settings, CPU
//! NAME = the key in hexadecimal
//! ```

use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use twox_hash::XxHash3_128;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::disk::{Disk, RealDisk, born_whole, read_all};

use super::contract::WIT;
use super::module::Hash;
use super::wasi::preview1;

const MAGIC: &[u8; 8] = b"hydmod 1";
const HEAD_BYTES: usize = 8 + 32 + 16;
const SUFFIX: &str = ".compiled";

/// Files kept, at most.
const FILES_MAX: usize = 64;

/// Bytes kept, at most; a module of Python has 32 MB.
const FOLDER_BYTES_MAX: u64 = 2 << 30;

/// A folder of compiled modules.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// Whether someone was told that it cannot be used.
    has_warned: AtomicBool,
}

impl Cache {
    /// In this folder, which is made when there is something to keep.
    pub fn new(folder: PathBuf) -> Cache {
        Cache { folder, has_warned: AtomicBool::new(false) }
    }

    /// What was kept for this module, if it is there and whole.
    pub fn load(&self, engine: &Engine, module: Hash) -> Option<Component> {
        let key = key(engine, module);
        let path = self.folder.join(name(&key));
        if !is_ours_alone(&fs::metadata(&self.folder).ok()?) {
            self.warn("others may write into it");
            return None;
        }
        let bytes = read_all(&RealDisk, &path).ok()?;
        let Some(code) = whole(&bytes, &key) else {
            tracing::warn!(path = %path.display(), "a compiled module is damaged: it is compiled again");
            return None;
        };
        // SAFETY: the checksum and the key say that these are the bytes that `Component::serialize` gave under the same
        // version, settings and CPU (wasmtime checks the first two again), in a folder that only we may write.
        match unsafe { Component::deserialize(engine, code) } {
            Ok(component) => {
                touch(&path);
                Some(component)
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(path = %path.display(), error, "a compiled module is of no use: it is compiled again");
                None
            }
        }
    }

    /// Keeps a component, and forgets the oldest of too many. That it cannot be kept is told once, and no fault.
    pub fn keep(&self, engine: &Engine, module: Hash, component: &Component) {
        let kept = component.serialize().map_err(io::Error::other).and_then(|code| {
            RealDisk.create_dir(&self.folder)?;
            let key = key(engine, module);
            born_whole(&RealDisk, &self.folder, &name(&key), &file(&key, &code))?;
            self.forget_oldest()
        });
        if let Err(error) = kept {
            self.warn(&error.to_string());
        }
    }

    fn warn(&self, error: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            let folder = self.folder.display();
            tracing::warn!(%folder, error, "compiled modules cannot be kept: each start compiles them again");
        }
    }

    /// Removes what is too much, and what a process left that died while it wrote.
    fn forget_oldest(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for (name, bytes) in RealDisk.list(&self.folder)? {
            let path = self.folder.join(&name);
            if name.starts_with("tmp-") {
                RealDisk.remove(&path)?;
            } else if name.ends_with(SUFFIX) {
                let used = fs::metadata(&path)?.modified()?;
                files.push((used, bytes, path));
            }
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        let mut count = files.len();
        for (_, its, path) in files {
            if count <= FILES_MAX && bytes <= FOLDER_BYTES_MAX {
                break;
            }
            RealDisk.remove(&path)?;
            (count, bytes) = (count - 1, bytes - its);
        }
        Ok(())
    }
}

/// Whether nobody but us (and root, who may anything) may put a file into this folder.
fn is_ours_alone(folder: &Metadata) -> bool {
    folder.uid() == rustix::process::geteuid().as_raw() && folder.mode() & 0o022 == 0
}

type Key = [u8; 32];

fn key(engine: &Engine, module: Hash) -> Key {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    let mut key = Sha256::new();
    key.update(module.as_bytes());
    key.update(settings.finish().to_le_bytes());
    key.update(env!("CARGO_PKG_VERSION"));
    key.update(WIT);
    key.update(preview1::ADAPTER);
    key.finalize().into()
}

fn name(key: &Key) -> String {
    format!("{}{SUFFIX}", Hash::from(*key))
}

/// Marks as used now, for [`Cache::forget_oldest`]. A file system that cannot is no fault.
fn touch(path: &Path) {
    let _ = File::options().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

fn file(key: &Key, code: &[u8]) -> Vec<u8> {
    let checksum = XxHash3_128::oneshot(code).to_le_bytes();
    let file = [&MAGIC[..], key, &checksum, code].concat();
    assert_eq!(file.len(), HEAD_BYTES + code.len(), "the head is as drawn above");
    file
}

/// The code of a file that is whole, and of this key.
fn whole<'a>(file: &'a [u8], key: &Key) -> Option<&'a [u8]> {
    let (head, code) = file.split_at_checked(HEAD_BYTES)?;
    let expected = [&MAGIC[..], key, &XxHash3_128::oneshot(code).to_le_bytes()].concat();
    (head == expected).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_anywhere_and_a_foreign_key_are_noticed() {
        let (key, code) = ([7; 32], b"native code");
        let written = file(&key, code);
        assert_eq!(whole(&written, &key), Some(&code[..]));
        assert_eq!(whole(&written, &[8; 32]), None);
        assert_eq!(whole(&written[..written.len() - 1], &key), None);
        assert_eq!(whole(&[], &key), None);
        for place in 0..written.len() {
            let mut damaged = written.clone();
            damaged[place] ^= 1;
            assert_eq!(whole(&damaged, &key), None, "byte {place}");
        }
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_and_so_does_what_was_left_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for number in 0..FILES_MAX + 3 {
            let file = File::create(path(&format!("{number:03}{SUFFIX}"))).unwrap();
            let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 - number as u64);
            file.set_modified(used).unwrap();
        }
        fs::write(path("tmp-1.compiled"), "half").unwrap();
        fs::write(path("notes.txt"), "not ours").unwrap();
        Cache::new(folder.path().into()).forget_oldest().unwrap();
        let left: Vec<_> = RealDisk.list(folder.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(left.len(), FILES_MAX + 1);
        assert!(left.contains(&format!("000{SUFFIX}")) && left.contains(&"notes.txt".to_owned()));
        assert!(!left.contains(&format!("{:03}{SUFFIX}", FILES_MAX + 2)));
    }
}
