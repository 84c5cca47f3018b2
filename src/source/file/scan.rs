//! A scan: which files the globs match now, and which shard each of them is.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirEntryExt, FileExt};
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::Start;
use super::identity::{Fingerprint, Identity, read_head};
use super::input::Packing;
use super::registry::{Registry, Standing};
use crate::error::{Blame, Fault};

/// The most files that the globs of one source may match.
pub const FILES_MAX: usize = 100_000;

/// As a shell has it: `*` stops at `/` and does not match hidden files (rsync's unfinished ones are hidden).
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The globs of one source.
pub struct Globs {
    patterns: Vec<String>,
    exclude: Vec<Pattern>,
}

/// What the globs match at one time.
#[derive(Default)]
struct Listing {
    /// Regular files, sorted by path.
    files: Vec<(PathBuf, Metadata)>,
    /// Patterns that match no file.
    unmatched: Vec<String>,
    /// A folder or file could not be looked at: that a file is missing here means nothing.
    incomplete: bool,
}

/// What a scan remembers from one time to the next.
pub struct Scanner {
    globs: Globs,
    start: Start,
    /// Paths that could not be read, to warn once.
    unreadable: HashSet<PathBuf>,
}

impl Globs {
    /// Checks the patterns; a pattern of `exclude` without `/` is held against the file's name alone. Blame: config.
    pub fn new(path: &[String], exclude: &[String]) -> Result<Globs, Fault> {
        let parse = |text: &String| {
            Pattern::new(text).map_err(|error| {
                Fault::new(
                    Blame::Config,
                    format!("file source: `{text}` is not a glob: {} at {}", error.msg, error.pos),
                )
            })
        };
        if path.is_empty() {
            return Err(Fault::new(Blame::Config, "file source: path is an empty list"));
        }
        for text in path {
            parse(text)?;
        }
        Ok(Globs { patterns: path.to_vec(), exclude: exclude.iter().map(parse).collect::<Result<_, _>>()? })
    }

    fn list(&self) -> Listing {
        let mut listing = Listing::default();
        for pattern in &self.patterns {
            let before = listing.files.len();
            // A pattern was checked by `new`.
            let Ok(paths) = glob::glob_with(pattern, MATCHING) else { continue };
            for path in paths {
                match path.map_err(io::Error::from).and_then(|path| Ok((fs::metadata(&path)?, path))) {
                    Ok((metadata, path)) if metadata.is_file() && !self.excludes(&path) => {
                        listing.files.push((path, metadata));
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        listing.incomplete = true;
                        tracing::warn!(%pattern, error = %error, "file source: cannot look everywhere");
                    }
                }
            }
            if listing.files.len() == before {
                listing.unmatched.push(pattern.clone());
            }
        }
        listing.files.sort_by(|a, b| a.0.cmp(&b.0));
        listing.files.dedup_by(|a, b| a.0 == b.0);
        listing
    }

    fn matches(&self, path: &Path) -> bool {
        let parsed = self.patterns.iter().filter_map(|text| Pattern::new(text).ok());
        !self.excludes(path) && parsed.into_iter().any(|pattern| pattern.matches_path_with(path, MATCHING))
    }

    fn excludes(&self, path: &Path) -> bool {
        self.exclude.iter().any(|pattern| match (pattern.as_str().contains('/'), path.file_name()) {
            (false, Some(name)) => pattern.matches_path(Path::new(name)),
            _ => pattern.matches_path(path),
        })
    }
}

impl Scanner {
    /// A scanner that begins unknown files of the very first scan at `start`, and later ones at their beginning.
    pub fn new(globs: Globs, start: Start) -> Scanner {
        Scanner { globs, start, unreadable: HashSet::new() }
    }

    /// Scans once: new shards are durable and in `registry.fresh` on return. Blocks.
    ///
    /// `must_match`: a pattern without a file is a fault of the configuration, not a file yet to come.
    pub fn scan(&mut self, registry: &mut Registry, must_match: bool) -> Result<(), Fault> {
        let listing = self.globs.list();
        match listing.unmatched.first() {
            Some(pattern) if must_match => {
                return Err(Fault::new(Blame::Config, format!("file source: no file matches `{pattern}`")));
            }
            Some(pattern) if registry.is_new => tracing::info!(%pattern, "file source: no file matches yet"),
            _ => {}
        }
        if listing.files.len() > FILES_MAX {
            let found = listing.files.len();
            return Err(Fault::new(
                Blame::Source,
                format!("file source: the globs match {found} files, more than {FILES_MAX}; narrow them"),
            ));
        }
        let mut seen = HashSet::with_capacity(listing.files.len());
        for (path, metadata) in &listing.files {
            if metadata.len() == 0 && Packing::of(path, &[]) != Packing::None {
                // Someone is about to write it; of its own it has no records.
                continue;
            }
            match self.recognise(registry, path, metadata, &seen) {
                Ok(key) => {
                    seen.insert(key);
                    self.unreadable.remove(path);
                }
                Err(error) => {
                    seen.extend(registry.find(&Identity::of(metadata)));
                    if self.unreadable.insert(path.clone()) {
                        tracing::warn!(path = %path.display(), %error, "file source: unreadable, tried again later");
                    }
                }
            }
        }
        self.unreadable.retain(|path| path.exists());
        for key in &seen {
            if let Some(entry) = registry.entry(*key) {
                entry.standing.set(Standing::Listed);
                entry.sought = false;
            }
        }
        if !listing.incomplete {
            self.seek_missing(registry, &seen);
        }
        match registry.forget_oldest_missing() {
            0 => {}
            count => tracing::warn!(count, "file source: forgot the oldest of too many missing files"),
        }
        // The order of paths, so that every run gives the same order.
        let mut order = Vec::new();
        for key in seen {
            order.extend(registry.entry(key).filter(|entry| !entry.given).map(|entry| (entry.path.clone(), key)));
        }
        order.sort();
        registry.save()?;
        order.into_iter().for_each(|(_, key)| registry.give(key));
        Ok(())
    }

    /// Which entry the file at `path` is: a known one, or a new one. Of several paths to one file the first counts.
    fn recognise(
        &self,
        registry: &mut Registry,
        path: &Path,
        metadata: &Metadata,
        seen: &HashSet<u64>,
    ) -> io::Result<u64> {
        let known = registry.find(&Identity::of(metadata));
        if let Some(key) = known.filter(|key| seen.contains(key)) {
            return Ok(key);
        }
        if let Some((key, entry)) = known.and_then(|key| Some((key, registry.entry(key)?)))
            && entry.is_unchanged(metadata)
        {
            let identity = entry.identity;
            registry.seen_at(key, path, identity, &[]);
            return Ok(key);
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let identity = Identity::of(&metadata);
        let head = read_head(&file)?;
        let found = registry.find(&identity);
        let same = found.filter(|key| registry.entry(*key).is_some_and(|entry| entry.is(&identity, &head)));
        let key = match same.or_else(|| registry.find_elsewhere(&identity, &head)) {
            Some(key) => {
                registry.seen_at(key, path, identity, &head);
                key
            }
            None => {
                if found.is_some() {
                    tracing::warn!(path = %path.display(), "file source: truncated or replaced; read as a new file");
                }
                let start = match self.start {
                    Start::End if registry.is_new => end_of_file(&file, path, &head, metadata.len())?,
                    _ => Some(0),
                };
                registry.insert(identity, &head, start, path.to_owned())
            }
        };
        if let Some(entry) = registry.entry(key) {
            entry.looked_at(&metadata);
        }
        Ok(key)
    }

    /// Marks entries that no glob matches, and looks once for each of them in its folder by its inode: a file that was
    /// rotated while no process ran still has an end to read.
    fn seek_missing(&self, registry: &mut Registry, seen: &HashSet<u64>) {
        let mut folders: HashMap<PathBuf, HashMap<u64, PathBuf>> = HashMap::new();
        for key in registry.keys() {
            let Some(entry) = registry.entry(key).filter(|_| !seen.contains(&key)) else { continue };
            entry.standing.set(Standing::Unlisted);
            if std::mem::replace(&mut entry.sought, true) {
                continue;
            }
            let Some(folder) = entry.path.parent() else { continue };
            let inodes = folders.entry(folder.to_owned()).or_insert_with(|| inodes_of(folder));
            let Some(path) = inodes.get(&entry.identity.ino).cloned() else { continue };
            let looked = File::open(&path).and_then(|file| Ok((Identity::of(&file.metadata()?), read_head(&file)?)));
            if let Ok((identity, head)) = looked
                && entry.is(&identity, &head)
            {
                if self.globs.matches(&path) {
                    // Renamed while the globs were being listed.
                    entry.standing.set(Standing::Listed);
                    entry.sought = false;
                }
                tracing::info!(from = %entry.path.display(), to = %path.display(), "file source: renamed, read to its end");
                registry.seen_at(key, &path, identity, &head);
                registry.give(key);
            }
        }
    }
}

/// The files of a folder by inode; none if it cannot be read.
pub fn inodes_of(folder: &Path) -> HashMap<u64, PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return HashMap::new() };
    entries.flatten().map(|entry| (entry.ino(), entry.path())).collect()
}

/// Behind the last whole line of a file, for `start: end`; `None` for a compressed file, which is old as a whole.
fn end_of_file(file: &File, path: &Path, head: &[u8], size: u64) -> io::Result<Option<u64>> {
    if Packing::of(path, head) != Packing::None {
        return Ok(None);
    }
    let mut block = [0; 64 * Fingerprint::BYTES_MAX];
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(newline) = memchr::memrchr(b'\n', part) {
            return Ok(Some(start + newline as u64 + 1));
        }
        end = start;
    }
    Ok(Some(0))
}
