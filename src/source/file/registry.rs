//! The registry: which shard each file is, durable before anyone is told the shard.
//!
//! One text file (`registry_text`), born whole at every change, so that a crash leaves the old one or the new one. What
//! is known of this process only (was it given out, where did it end) is beside it in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::identity::{Fingerprint, Identity};
use super::registry_text::{parse, print};
use crate::disk;
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::position::Shard;

const NAME: &str = "registry";

/// How the last scan saw a file; its reader watches this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A glob matches it.
    Listed,
    /// No glob matches it any more: renamed or deleted. It ends once it is read and quiet.
    Unlisted,
    /// Its name or inode now holds another content, which is another shard.
    Replaced,
}

/// A standing, shared between the registry and a reader.
#[derive(Debug, Clone)]
pub struct SharedStanding(Arc<AtomicU8>);

impl SharedStanding {
    fn new(standing: Standing) -> SharedStanding {
        SharedStanding(Arc::new(AtomicU8::new(standing as u8)))
    }

    /// That of a file which nobody knows any more.
    pub fn replaced() -> SharedStanding {
        SharedStanding::new(Standing::Replaced)
    }

    /// The last scan's word.
    pub fn get(&self) -> Standing {
        match self.0.load(Ordering::Acquire) {
            0 => Standing::Listed,
            1 => Standing::Unlisted,
            _ => Standing::Replaced,
        }
    }

    /// Tells the reader.
    pub fn set(&self, standing: Standing) {
        self.0.store(standing as u8, Ordering::Release);
    }
}

/// One file, as one shard.
#[derive(Debug, Clone)]
pub struct Entry {
    pub shard: Shard,
    pub identity: Identity,
    pub fingerprint: Fingerprint,
    /// Where reading begins when nothing was delivered yet, in bytes; `None`: the file is not wanted at all.
    pub start: Option<u64>,
    /// Where it was last seen.
    pub path: PathBuf,
    pub standing: SharedStanding,
    /// Whether `next_shard` was, or soon is, given this shard in this process.
    pub given: bool,
    /// Whether it was looked for by its inode in its folder since no glob matches it.
    pub sought: bool,
    seen: Option<Seen>,
    ended: Option<End>,
    released: u64,
}

/// Size and times at the last look: while they stay, so does the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    size: u64,
    modified: (i64, i64),
}

#[derive(Debug, Clone, Copy)]
struct End {
    position: u64,
    deleted: bool,
}

impl Entry {
    /// A file that nobody gave out yet.
    pub fn new(shard: Shard, identity: Identity, fingerprint: Fingerprint, start: Option<u64>, path: PathBuf) -> Entry {
        Entry {
            shard,
            identity,
            fingerprint,
            start,
            path,
            standing: SharedStanding::new(Standing::Unlisted),
            given: false,
            sought: false,
            seen: None,
            ended: None,
            released: 0,
        }
    }

    /// Whether a file that has this identity and begins with `head` is this one.
    pub fn is(&self, identity: &Identity, head: &[u8]) -> bool {
        self.identity.agrees(identity) && self.fingerprint.matches(head)
    }

    /// Whether the file with this metadata is this one, unchanged since the last look.
    pub fn is_unchanged(&self, metadata: &Metadata) -> bool {
        self.seen == Some(Seen::of(metadata)) && self.identity.agrees(&Identity::of(metadata))
    }

    /// Remembers a look at the file, for `is_unchanged`.
    pub fn looked_at(&mut self, metadata: &Metadata) {
        self.seen = Some(Seen::of(metadata));
    }

    fn is_over(&self) -> bool {
        self.ended.is_some_and(|end| end.deleted && self.released >= end.position)
    }
}

impl Seen {
    fn of(metadata: &Metadata) -> Seen {
        Seen { size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// All files known, in order of first sight, and the shards waiting to be given out.
pub struct Registry {
    ground: Ground,
    dir: PathBuf,
    entries: BTreeMap<u64, Entry>,
    by_shard: HashMap<Shard, u64>,
    by_inode: HashMap<(u64, u64), u64>,
    next: u64,
    unsaved: bool,
    /// Whether no process ever finished a scan here.
    pub is_new: bool,
    /// Durable shards that `next_shard` gives out next.
    pub fresh: VecDeque<Shard>,
}

impl Registry {
    /// Entries of files that are in no glob and not being read; above it the oldest are forgotten, so that a file
    /// which comes back after that (a disk mounted again) would be a new shard.
    pub const MISSING_MAX: usize = 10_000;

    /// Reads the registry in folder `dir`, which is made if missing. Blocks.
    ///
    /// Blame: disk, also for a registry that is damaged: guessing would deliver files twice.
    pub fn open(ground: &Ground, dir: &Path) -> Result<Registry, Fault> {
        let disk = ground.disk.as_ref();
        let on_disk = |error: io::Error| at_registry(dir, error);
        disk.create_dir(dir).map_err(on_disk)?;
        // What is read here is relied on: the process that wrote it may have died before its sync.
        disk.sync_dir(dir).map_err(on_disk)?;
        disk::remove_if_there(disk, &dir.join(format!("tmp-{NAME}"))).map_err(on_disk)?;
        let mut registry = Registry {
            ground: ground.clone(),
            dir: dir.to_owned(),
            entries: BTreeMap::new(),
            by_shard: HashMap::new(),
            by_inode: HashMap::new(),
            next: 0,
            unsaved: false,
            is_new: false,
            fresh: VecDeque::new(),
        };
        match disk::read_all(disk, &dir.join(NAME)) {
            Ok(bytes) => {
                let entries = parse(&bytes).map_err(|what| {
                    Fault::new(Blame::Disk, format!("{}: {what}: the registry is damaged", dir.join(NAME).display()))
                })?;
                entries.into_iter().for_each(|entry| registry.add(entry));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => registry.is_new = true,
            Err(error) => return Err(on_disk(error)),
        }
        Ok(registry)
    }

    /// The key of the entry with this device and inode.
    pub fn find(&self, identity: &Identity) -> Option<u64> {
        self.by_inode.get(&(identity.dev, identity.ino)).copied()
    }

    /// The key of an entry that is the same file although its device has another number now.
    ///
    /// Only an entry that no path of this process claimed, and with a fingerprint, can be it.
    pub fn find_elsewhere(&self, identity: &Identity, head: &[u8]) -> Option<u64> {
        let is_it = |entry: &Entry| {
            !entry.given
                && entry.fingerprint.bytes > 0
                && entry.identity.agrees_elsewhere(identity)
                && entry.fingerprint.matches(head)
        };
        self.entries.iter().find(|(_, entry)| is_it(entry)).map(|(key, _)| *key)
    }

    /// The entry under a key.
    pub fn entry(&mut self, key: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&key)
    }

    /// The entry of a shard; `None` once it was replaced or forgotten.
    pub fn of_shard(&self, shard: &Shard) -> Option<&Entry> {
        self.entries.get(self.by_shard.get(shard)?)
    }

    /// The keys of all entries, in order of first sight.
    pub fn keys(&self) -> Vec<u64> {
        self.entries.keys().copied().collect()
    }

    /// A new shard for a file; one with the same device and inode is replaced by it. Not yet durable.
    pub fn insert(&mut self, identity: Identity, head: &[u8], start: Option<u64>, path: PathBuf) -> u64 {
        if let Some(key) = self.find(&identity) {
            self.remove(key, Standing::Replaced);
        }
        let mut id = self.ground.random.u64();
        let shard = loop {
            let shard = Shard::new(&format!("{id:016x}")).expect("hex digits make a shard id");
            if !self.by_shard.contains_key(&shard) {
                break shard;
            }
            id = id.wrapping_add(1);
        };
        self.unsaved = true;
        self.add(Entry::new(shard, identity, Fingerprint::of(head), start, path));
        self.next - 1
    }

    /// The file was seen at `path` with this identity and head: keeps what is new about it. Not yet durable.
    pub fn seen_at(&mut self, key: u64, path: &Path, identity: Identity, head: &[u8]) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.path != path {
            path.clone_into(&mut entry.path);
            self.unsaved = true;
        }
        let grown = Fingerprint::of(head);
        if grown.bytes > entry.fingerprint.bytes {
            entry.fingerprint = grown;
            self.unsaved = true;
        }
        if entry.identity != identity {
            self.by_inode.remove(&(entry.identity.dev, entry.identity.ino));
            self.by_inode.insert((identity.dev, identity.ino), key);
            entry.identity = identity;
            self.unsaved = true;
        }
    }

    /// The file of a shard now begins with `head`, more than is known: durable on return, so that records behind the
    /// known beginning are handed out only under a fingerprint that covers them. Blocks; readers that wait here
    /// together share one write.
    pub fn grown(&mut self, shard: &Shard, head: &[u8]) -> Result<(), Fault> {
        if let Some(entry) = self.by_shard.get(shard).and_then(|key| self.entries.get_mut(key)) {
            let grown = Fingerprint::of(head);
            if grown.bytes > entry.fingerprint.bytes {
                entry.fingerprint = grown;
                self.unsaved = true;
            }
        }
        self.save()
    }

    /// The file of a shard was truncated: its content from now on is a new shard, durable on return. Blocks.
    /// `None` if someone else saw it first.
    pub fn next_generation(&mut self, shard: &Shard, head: &[u8]) -> Result<Option<Shard>, Fault> {
        let Some(entry) = self.of_shard(shard) else { return Ok(None) };
        let (identity, path) = (entry.identity, entry.path.clone());
        let key = self.insert(identity, head, Some(0), path);
        self.save()?;
        self.give(key);
        Ok(self.entries.get(&key).map(|entry| entry.shard.clone()))
    }

    /// Lets `next_shard` give this shard out, unless it was or is not wanted. The caller saves before anyone else looks.
    pub fn give(&mut self, key: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if !entry.given && entry.start.is_some() {
            entry.given = true;
            self.fresh.push_back(entry.shard.clone());
        }
    }

    /// A reader came to the end of a shard; `deleted`: its file has no name any more.
    pub fn ended(&mut self, shard: &Shard, position: u64, deleted: bool) {
        self.change(shard, |entry| entry.ended = Some(End { position, deleted }));
    }

    /// All before `upto` is delivered. A file that is deleted and wholly delivered is forgotten, durably with the
    /// next change: until then its line is only a line too many.
    pub fn released(&mut self, shard: &Shard, upto: u64) {
        self.change(shard, |entry| entry.released = entry.released.max(upto));
    }

    /// Forgets the oldest missing files above [`Registry::MISSING_MAX`]; answers how many.
    pub fn forget_oldest_missing(&mut self) -> usize {
        let is_missing =
            |entry: &Entry| entry.standing.get() == Standing::Unlisted && (!entry.given || entry.ended.is_some());
        let missing: Vec<u64> =
            self.entries.iter().filter(|(_, entry)| is_missing(entry)).map(|(key, _)| *key).collect();
        let over = missing.len().saturating_sub(Registry::MISSING_MAX);
        missing.into_iter().take(over).for_each(|key| self.remove(key, Standing::Unlisted));
        over
    }

    /// Makes every change durable. Blocks. Blame: disk, or its space; then the changes wait for the next time.
    pub fn save(&mut self) -> Result<(), Fault> {
        if self.unsaved || self.is_new {
            let text = print(self.entries.values());
            disk::born_whole(self.ground.disk.as_ref(), &self.dir, NAME, text.as_bytes())
                .map_err(|error| at_registry(&self.dir, error))?;
            self.unsaved = false;
            self.is_new = false;
        }
        Ok(())
    }

    fn change(&mut self, shard: &Shard, change: impl FnOnce(&mut Entry)) {
        let Some(key) = self.by_shard.get(shard).copied() else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        change(entry);
        if entry.is_over() {
            let standing = entry.standing.get();
            self.remove(key, standing);
        }
    }

    fn add(&mut self, entry: Entry) {
        self.by_shard.insert(entry.shard.clone(), self.next);
        self.by_inode.insert((entry.identity.dev, entry.identity.ino), self.next);
        self.entries.insert(self.next, entry);
        self.next += 1;
    }

    fn remove(&mut self, key: u64, standing: Standing) {
        let Some(entry) = self.entries.remove(&key) else { return };
        entry.standing.set(standing);
        self.by_shard.remove(&entry.shard);
        let inode = (entry.identity.dev, entry.identity.ino);
        if self.by_inode.get(&inode) == Some(&key) {
            self.by_inode.remove(&inode);
        }
        self.unsaved = true;
    }
}

fn at_registry(dir: &Path, error: io::Error) -> Fault {
    Fault::of_io(error).context(format!("{}", dir.join(NAME).display()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn identity(ino: u64) -> Identity {
        Identity { dev: 1, ino, born_ns: Some(1000 + ino) }
    }

    #[test]
    fn the_registry_comes_back_as_it_was_with_any_path() {
        let dir = tempfile::tempdir().unwrap();
        let ground = Ground::real();
        let odd = PathBuf::from(OsString::from_vec(b"/a b/100%\n\xff\xc3\xa4.log".to_vec()));
        let mut registry = Registry::open(&ground, dir.path()).unwrap();
        assert!(registry.is_new);
        registry.insert(identity(1), b"first", Some(0), odd.clone());
        registry.insert(Identity { born_ns: None, ..identity(2) }, b"", None, "/b".into());
        registry.save().unwrap();
        let again = Registry::open(&ground, dir.path()).unwrap();
        assert!(!again.is_new);
        let known = |registry: &Registry| -> Vec<_> {
            let entries = registry.entries.values();
            entries.map(|e| (e.shard.clone(), e.identity, e.fingerprint, e.start, e.path.clone())).collect()
        };
        assert_eq!(known(&again), known(&registry));
        assert_eq!(again.entries[&0].path, odd);
    }

    #[test]
    fn a_damaged_registry_stops_the_source_and_is_never_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::open(&Ground::real(), dir.path()).unwrap();
        registry.insert(identity(1), b"head", Some(0), "/var/log/app.log".into());
        registry.save().unwrap();
        let path = dir.path().join(NAME);
        let good = std::fs::read(&path).unwrap();
        for index in 0..good.len() {
            for bad in [&good[..index], &[&good[..index], &[good[index] ^ 1], &good[index + 1..]].concat()] {
                std::fs::write(&path, bad).unwrap();
                let fault = Registry::open(&Ground::real(), dir.path()).err();
                assert_eq!(fault.map(|fault| fault.blame), Some(Blame::Disk), "byte {index}");
            }
        }
    }

    #[test]
    fn a_reused_inode_replaces_and_a_moved_device_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::open(&Ground::real(), dir.path()).unwrap();
        let old = registry.insert(identity(7), b"old content", Some(0), "/a".into());
        let shard = registry.entries[&old].shard.clone();
        let elsewhere = Identity { dev: 9, ..identity(7) };
        assert_eq!(registry.find(&elsewhere), None);
        assert_eq!(registry.find_elsewhere(&elsewhere, b"old content and more"), Some(old));
        assert_eq!(registry.find_elsewhere(&elsewhere, b"new content"), None);
        registry.seen_at(old, Path::new("/a"), elsewhere, b"old content and more");
        assert_eq!(registry.find(&elsewhere), Some(old));
        let standing = registry.entries[&old].standing.clone();
        registry.insert(elsewhere, b"new content", Some(0), "/a".into());
        assert_eq!(standing.get(), Standing::Replaced);
        assert!(registry.of_shard(&shard).is_none());
        assert_eq!(registry.entries.len(), 1);
    }

    #[test]
    fn missing_files_are_remembered_up_to_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::open(&Ground::real(), dir.path()).unwrap();
        let count = Registry::MISSING_MAX as u64 + 5;
        for ino in 0..count {
            registry.insert(identity(ino), b"x", Some(0), format!("/{ino}").into());
        }
        assert_eq!(registry.forget_oldest_missing(), 5);
        assert_eq!(registry.entries.len(), Registry::MISSING_MAX);
        assert!(registry.find(&identity(4)).is_none() && registry.find(&identity(5)).is_some());
    }

    #[test]
    fn a_deleted_file_is_forgotten_once_it_is_delivered_in_either_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::open(&Ground::real(), dir.path()).unwrap();
        for (ino, released_first) in [(1, true), (2, false)] {
            let key = registry.insert(identity(ino), b"x", Some(0), "/x".into());
            let shard = registry.entries[&key].shard.clone();
            registry.released(&shard, 99);
            if released_first {
                registry.released(&shard, 100);
            }
            registry.ended(&shard, 100, true);
            registry.released(&shard, 100);
            registry.released(&shard, 100);
            assert!(registry.of_shard(&shard).is_none());
        }
    }
}
