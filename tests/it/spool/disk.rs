//! A disk in memory with little room, a bad sector or an error to come: what the spool's own stories need.
//!
//! It knows no crash; `killed` is simply a copy of what was written.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hydrant::disk::{Disk, DiskFile};
use hydrant::ground::{Clock, Ground, Random};

type Bytes = Arc<Mutex<Vec<u8>>>;
type Hook = Arc<dyn Fn() + Send + Sync>;

/// A cheap handle to one disk.
#[derive(Clone)]
pub struct MemDisk(Arc<Mutex<State>>);

struct State {
    files: BTreeMap<PathBuf, Bytes>,
    /// Bytes by which files may still grow.
    room: u64,
    /// Once: the next durable write or sync fails so.
    failure: Option<ErrorKind>,
    /// Called inside every durable write, before it takes place.
    on_write: Option<Hook>,
    /// Durable writes and syncs of files so far.
    syncs: u64,
}

impl MemDisk {
    pub fn new() -> MemDisk {
        let state = State { files: BTreeMap::new(), room: u64::MAX, failure: None, on_write: None, syncs: 0 };
        MemDisk(Arc::new(Mutex::new(state)))
    }

    /// What another process would find if this one died now.
    pub fn killed(&self) -> MemDisk {
        let disk = MemDisk::new();
        let files = self.with(|state| state.files.clone());
        let copy = |bytes: Bytes| Arc::new(Mutex::new(bytes.lock().unwrap().clone()));
        disk.with(|state| state.files = files.into_iter().map(|(path, bytes)| (path, copy(bytes))).collect());
        disk
    }

    pub fn set_room(&self, room: u64) {
        self.with(|state| state.room = room);
    }

    pub fn fail_next(&self, kind: ErrorKind) {
        self.with(|state| state.failure = Some(kind));
    }

    pub fn on_write(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.with(|state| state.on_write = Some(Arc::new(hook)));
    }

    pub fn syncs(&self) -> u64 {
        self.with(|state| state.syncs)
    }

    /// Names of all files with this ending, by age.
    pub fn names(&self, ending: &str) -> Vec<PathBuf> {
        self.with(|state| {
            let names = state.files.keys().filter(|path| path.to_string_lossy().ends_with(ending));
            names.filter(|path| !path.to_string_lossy().contains("quarantine")).cloned().collect()
        })
    }

    /// Takes a file away behind everybody's back.
    pub fn lose(&self, path: &Path) {
        self.with(|state| state.files.remove(path));
    }

    pub fn quarantined(&self) -> usize {
        self.with(|state| state.files.keys().filter(|path| path.to_string_lossy().contains("quarantine")).count())
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        self.with(|state| state.files[path].lock().unwrap().clone())
    }

    /// Changes a file behind everybody's back.
    pub fn tamper(&self, path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
        self.with(|state| with(&mut state.files[path].lock().unwrap()));
    }

    /// A ground over this disk; randomness from `seed`, and a clock that shows what `now_ms` holds.
    pub fn ground(&self, seed: u64, now_ms: &Arc<AtomicI64>) -> Ground {
        let (state, now_ms) = (AtomicU64::new(seed), now_ms.clone());
        let next = move || state.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ground {
            disk: Arc::new(self.clone()),
            clock: Clock::new(move || now_ms.load(Ordering::Relaxed)),
            random: Random::new(next),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }
}

fn found<T>(there: Option<T>) -> io::Result<T> {
    there.ok_or_else(|| ErrorKind::NotFound.into())
}

impl Disk for MemDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.with(|state| {
            if state.files.contains_key(path) {
                return Err(io::Error::from(ErrorKind::AlreadyExists));
            }
            state.files.insert(path.to_owned(), Bytes::default());
            Ok(())
        })?;
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let bytes = found(self.with(|state| state.files.get(path).cloned()))?;
        Ok(Arc::new(MemFile { disk: self.clone(), bytes }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|state| {
            let bytes = found(state.files.remove(from))?;
            state.files.insert(to.to_owned(), bytes);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        found(self.with(|state| state.files.remove(path))).map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.with(|state| {
            let here = state.files.iter().filter(|(path, _)| path.parent() == Some(dir));
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            Ok(here.map(|(path, bytes)| (name(path), bytes.lock().unwrap().len() as u64)).collect())
        })
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

struct MemFile {
    disk: MemDisk,
    bytes: Bytes,
}

impl DiskFile for MemFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let start = (offset as usize).min(bytes.len());
        let read = buffer.len().min(bytes.len() - start);
        buffer[..read].copy_from_slice(&bytes[start..start + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut file = self.bytes.lock().unwrap();
        let (start, len) = (offset as usize, file.len());
        let grows = (start + bytes.len()).saturating_sub(len) as u64;
        let short = self.disk.with(|state| {
            let short = grows.saturating_sub(state.room);
            state.room -= grows - short;
            short as usize
        });
        let written = bytes.len() - short.min(bytes.len());
        file.resize(len.max(start + written), 0);
        file[start..start + written].copy_from_slice(&bytes[..written]);
        if short > 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let (hook, failure) = self.disk.with(|state| {
            state.syncs += 1;
            (state.on_write.clone(), state.failure.take())
        });
        if let Some(hook) = hook {
            hook();
        }
        failure.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
}
