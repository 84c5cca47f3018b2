//! SimDisk: a disk in memory that forgets, after a power loss, whatever nobody synced.
//!
//! A file has durable bytes, the writes since the last sync (in order), and the view of the running process, which is
//! both. A folder has the same three: durable entries, changes (in order), a view. Power loss keeps of the writes of a
//! file none, all, a prefix or random pieces, and of the changes of a folder a prefix. A kill keeps the view, and what was
//! pending stays pending: a later power loss may still take it.
//!
//! Stricter than most file systems, as POSIX allows: syncing a file does not sync its name, and a rename from one folder
//! to another is two changes that may be lost one by one. Kinder than none: metadata is never garbled, and a failed
//! sync of a folder leaves its changes pending, as the journal of a file system does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use hydrant::disk::{Disk, DiskFile};

use super::content::{Content, Keep};
use super::fate::{Death, Effect, Fate, Rng, Share, Verdict};

/// One life's view of the disk. Cheap to clone; dead for ever when the life of its fate is over.
#[derive(Clone)]
pub struct SimDisk {
    fate: Fate,
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    rng: Rng,
    files: BTreeMap<u64, File>,
    /// By full path, so that a folder stands before those in it.
    folders: BTreeMap<String, Folder>,
    file_next: u64,
    capacity_bytes: u64,
    used_bytes: u64,
}

#[derive(Clone)]
struct File {
    /// The name it was created under: for the trace.
    place: Arc<str>,
    /// Whether the view has a name for it, and so whether its bytes count as used.
    linked: bool,
    content: Content,
}

#[derive(Clone, Default)]
struct Folder {
    view: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
    pending: Vec<Change>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(u64),
    Folder,
}

#[derive(Clone)]
enum Change {
    Link(String, Entry),
    Unlink(String),
    Move(String, String, Entry),
}

impl SimDisk {
    /// An empty disk with room for everything.
    pub fn new(fate: &Fate) -> SimDisk {
        let state = State {
            rng: Rng::new(fate.seed(), "disk"),
            files: BTreeMap::new(),
            folders: BTreeMap::from([("/".to_string(), Folder::default())]),
            file_next: 0,
            capacity_bytes: u64::MAX,
            used_bytes: 0,
        };
        SimDisk { fate: fate.clone(), state: Arc::new(Mutex::new(state)) }
    }

    /// Bytes that fit in all; more than is used now or not.
    pub fn set_capacity_bytes(&self, capacity_bytes: u64) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// The fate of this life.
    pub fn fate(&self) -> &Fate {
        &self.fate
    }

    /// What the next life finds after this one ended by `death`; a clean exit is a kill at a quiet moment.
    pub fn restart(&self, death: Death, next: &Fate) -> SimDisk {
        assert!(self.fate.dead(), "a disk is restarted after its life has ended");
        let mut state = self.state();
        if death == Death::PowerLoss {
            state.lose_power();
        }
        state.forget_unreachable();
        drop(state);
        let what = if death == Death::PowerLoss { "restart after power loss" } else { "restart after kill" };
        next.note(Effect::at(what, "/".into()));
        SimDisk { fate: next.clone(), state: self.state.clone() }
    }

    /// An old copy of the whole disk, to be found by life `next`: a restored backup.
    pub fn copy_for(&self, next: &Fate) -> SimDisk {
        SimDisk { fate: next.clone(), state: Arc::new(Mutex::new(self.state().clone())) }
    }

    /// Changes the bytes of a file behind everybody's back, durably: bit rot.
    pub fn rot(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.file_at(path).expect("rot needs an existing file");
        state.files.get_mut(&file).expect("entries name files").content.rot(change);
        state.recount();
    }

    /// Whether someone may still act, and the state if so.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.fate.dead() { Err(dead()) } else { Ok(self.state()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Asks fate how much of an effect may happen; what the caller is told then is [`SimDisk::answer`].
    fn ask(&self, effect: Effect) -> io::Result<Share> {
        match self.fate.effect(effect) {
            Verdict::Go => Ok(Share::All),
            Verdict::Die(share) => Ok(share),
            Verdict::Dead => Err(dead()),
        }
    }

    /// The answer after an effect: none reaches a process that died in it.
    fn answer(&self) -> io::Result<()> {
        if self.fate.dead() { Err(dead()) } else { Ok(()) }
    }

    fn make_folder(&self, dir: &str) -> io::Result<()> {
        let parent = split(dir)?.0;
        if !self.alive()?.folders.contains_key(dir) {
            if parent != "/" {
                self.make_folder(parent)?;
            }
            let mut state = self.alive()?;
            let name = split(dir)?.1.to_string();
            if state.folder(parent)?.view.contains_key(&name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if self.ask(Effect::at("make folder", dir.into()))? != Share::Nothing {
                state.folder(parent)?.change(Change::Link(name, Entry::Folder));
                state.folders.insert(dir.to_string(), Folder::default());
            }
            self.answer()?;
        }
        self.sync_folder(parent)
    }

    fn sync_folder(&self, dir: &str) -> io::Result<()> {
        let mut state = self.alive()?;
        let state = &mut *state;
        let changes = state.folder(dir)?.pending.len();
        let fails = state.rng.chance(self.fate.rates().sync_error);
        let effect = if fails { "sync folder, which fails," } else { "sync folder" };
        let kept = match self.ask(Effect::at(effect, dir.into()))? {
            Share::Nothing => 0,
            Share::All if !fails => changes,
            _ => state.rng.below(changes as u64 + 1) as usize,
        };
        state.folder(dir)?.settle(kept);
        self.answer()?;
        if fails { Err(input_output()) } else { Ok(()) }
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (dir, name) = split(text(path)?)?;
        let mut state = self.alive()?;
        if state.folder(dir)?.view.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let place: Arc<str> = text(path)?.into();
        if state.used_bytes >= state.capacity_bytes || state.rng.chance(self.fate.rates().disk_full) {
            self.fate.note(Effect::at("the disk is full for create", place));
            return Err(full());
        }
        let number = state.file_next;
        if self.ask(Effect::at("create", place.clone()))? != Share::Nothing {
            state.file_next += 1;
            state.files.insert(number, File { place, linked: true, content: Content::default() });
            state.folder(dir)?.change(Change::Link(name.to_string(), Entry::File(number)));
        }
        self.answer()?;
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.alive()?.file_at(path)?;
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        let file = state.file_at(from)?;
        let ((from_dir, from_name), (to_dir, to_name)) = (split(text(from)?)?, split(text(to)?)?);
        let replaced = match state.folder(to_dir)?.view.get(to_name) {
            Some(Entry::Folder) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Entry::File(number)) => Some(*number),
            None => None,
        };
        let place = format!("{} to {}", text(from)?, text(to)?);
        if self.ask(Effect::at("rename", place.into()))? != Share::Nothing && replaced != Some(file) {
            if from_dir == to_dir {
                let change = Change::Move(from_name.to_string(), to_name.to_string(), Entry::File(file));
                state.folder(to_dir)?.change(change);
            } else {
                state.folder(to_dir)?.change(Change::Link(to_name.to_string(), Entry::File(file)));
                state.folder(from_dir)?.change(Change::Unlink(from_name.to_string()));
            }
            state.unlink(replaced);
        }
        self.answer()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.alive()?;
        let file = state.file_at(path)?;
        let (dir, name) = split(text(path)?)?;
        if self.ask(Effect::at("remove", text(path)?.into()))? != Share::Nothing {
            state.folder(dir)?.change(Change::Unlink(name.to_string()));
            state.unlink(Some(file));
        }
        self.answer()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let state = self.alive()?;
        let folder = state.folders.get(text(dir)?).ok_or(io::ErrorKind::NotFound)?;
        let files = folder.view.iter().filter_map(|(name, entry)| match entry {
            Entry::File(number) => Some((name.clone(), state.files[number].content.len())),
            Entry::Folder => None,
        });
        Ok(files.collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match text(dir)? {
            "/" => Ok(()),
            dir => self.make_folder(dir),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sync_folder(text(dir)?)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let mut state = self.alive()?;
        state.folder(text(dir)?)?;
        Ok(state.free_bytes())
    }
}

struct SimFile {
    disk: SimDisk,
    number: u64,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.alive()?;
        Ok(state.opened(self.number)?.content.read(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return self.disk.answer();
        }
        let mut state = self.disk.alive()?;
        let state = &mut *state;
        let file = state.opened(self.number)?;
        let (place, linked) = (file.place.clone(), file.linked);
        let growth = (offset + bytes.len() as u64).saturating_sub(file.content.len());
        let mut fits = bytes.len() as u64;
        if linked && growth > state.free_bytes() {
            fits = fits.saturating_sub(growth - state.free_bytes());
        }
        if growth > 0 && state.rng.chance(self.disk.fate.rates().disk_full) {
            fits = state.rng.below(fits + 1);
        }
        let whole = fits == bytes.len() as u64;
        let bytes = &bytes[..fits as usize];
        let what = if whole { "write" } else { "write, cut short by a full disk," };
        let share = self.disk.ask(Effect::bytes(what, place, offset, bytes))?;
        let keep = match share {
            Share::Nothing => Keep::Nothing,
            Share::Part => Keep::Prefix,
            Share::All => Keep::All,
        };
        let file = state.files.get_mut(&self.number).ok_or_else(gone)?;
        let before = file.content.len();
        file.content.write(bytes, offset, keep, &mut state.rng);
        if linked {
            state.used_bytes += file.content.len() - before;
        }
        self.disk.answer()?;
        if whole { Ok(()) } else { Err(full()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.alive()?;
        let state = &mut *state;
        let fails = state.rng.chance(self.disk.fate.rates().sync_error);
        let file = state.files.get_mut(&self.number).ok_or_else(gone)?;
        let what = if fails { "sync, which fails," } else { "sync" };
        match self.disk.ask(Effect::at(what, file.place.clone()))? {
            Share::Nothing => {}
            _ if fails => file.content.fail_sync(&mut state.rng),
            Share::Part => file.content.sync_in_part(&mut state.rng),
            Share::All => file.content.sync(),
        }
        self.disk.answer()?;
        if fails { Err(input_output()) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.alive()?.opened(self.number)?.content.len())
    }
}

impl State {
    fn folder(&mut self, dir: &str) -> io::Result<&mut Folder> {
        self.folders.get_mut(dir).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn opened(&self, number: u64) -> io::Result<&File> {
        self.files.get(&number).ok_or_else(gone)
    }

    fn file_at(&mut self, path: &Path) -> io::Result<u64> {
        let (dir, name) = split(text(path)?)?;
        match self.folder(dir)?.view.get(name) {
            Some(Entry::File(number)) => Ok(*number),
            Some(Entry::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes)
    }

    /// A name of the view is gone: the bytes are free (open handles still read and write them, as POSIX has it).
    fn unlink(&mut self, file: Option<u64>) {
        if let Some(file) = file.and_then(|number| self.files.get_mut(&number)) {
            file.linked = false;
            self.used_bytes -= file.content.len();
        }
    }

    fn lose_power(&mut self) {
        for folder in self.folders.values_mut() {
            let kept = self.rng.below(folder.pending.len() as u64 + 1) as usize;
            folder.settle(kept);
            folder.pending.clear();
            folder.view = folder.durable.clone();
        }
        let paths: Vec<String> = self.folders.keys().filter(|path| *path != "/").cloned().collect();
        for path in paths {
            let (parent, name) = split(&path).expect("paths were split before");
            let linked = self.folders.get(parent).is_some_and(|p| p.view.get(name) == Some(&Entry::Folder));
            if !linked {
                self.folders.remove(&path);
            }
        }
        for file in self.files.values_mut() {
            file.content.lose_power(&mut self.rng);
        }
    }

    /// No handle is open now: files without any name are gone, and what is used is counted anew.
    fn forget_unreachable(&mut self) {
        let mut named = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let file_of = |entry: &Entry| if let Entry::File(number) = entry { Some(*number) } else { None };
        for folder in self.folders.values() {
            seen.extend(folder.view.values().filter_map(file_of));
            named.extend(folder.durable.values().filter_map(file_of));
            named.extend(folder.pending.iter().filter_map(|change| match change {
                Change::Link(_, entry) | Change::Move(_, _, entry) => file_of(entry),
                Change::Unlink(_) => None,
            }));
        }
        self.files.retain(|number, _| named.contains(number) || seen.contains(number));
        for (number, file) in &mut self.files {
            file.linked = seen.contains(number);
        }
        self.recount();
    }

    fn recount(&mut self) {
        self.used_bytes = self.files.values().filter(|file| file.linked).map(|file| file.content.len()).sum();
    }
}

impl Folder {
    fn change(&mut self, change: Change) {
        apply(&mut self.view, &change);
        self.pending.push(change);
    }

    /// Makes the first `kept` changes durable; the others stay pending.
    fn settle(&mut self, kept: usize) {
        for change in self.pending.drain(..kept) {
            apply(&mut self.durable, &change);
        }
    }
}

fn apply(entries: &mut BTreeMap<String, Entry>, change: &Change) {
    match change {
        Change::Link(name, entry) => {
            entries.insert(name.clone(), *entry);
        }
        Change::Unlink(name) => {
            entries.remove(name);
        }
        Change::Move(from, to, entry) => {
            entries.remove(from);
            entries.insert(to.clone(), *entry);
        }
    }
}

/// The path as the tests write it: absolute, `/` between names.
fn text(path: &Path) -> io::Result<&str> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "the simulated disk takes absolute UTF-8 paths");
    path.to_str().filter(|text| text.starts_with('/') && (*text == "/" || !text.ends_with('/'))).ok_or_else(wrong)
}

/// Folder and name.
fn split(path: &str) -> io::Result<(&str, &str)> {
    match path.rsplit_once('/') {
        Some(("", name)) if !name.is_empty() => Ok(("/", name)),
        Some((dir, name)) if !name.is_empty() => Ok((dir, name)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn dead() -> io::Error {
    io::Error::other("the simulated process is dead")
}

fn gone() -> io::Error {
    io::Error::other("the simulated file is gone")
}

/// EIO.
fn input_output() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// ENOSPC.
fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}
