//! Watches the files of pipelines: the folders that they lie in, as editors and deployments replace files.
//!
//! The promise: what has changed is told within a moment where the kernel tells us, and within seconds where it does not
//! (network file systems, the limit of watches reached, a queue that ran over). On the way to a file each folder is watched
//! that holds a symbolic link, so that a link that is pointed elsewhere is a change (Kubernetes swaps `..data`):
//!
//! ```text
//! /etc/pipelines/x.yaml -> ..data/x.yaml     /etc/pipelines: x.yaml, ..data, *.yaml if it was named
//! /etc/pipelines/..data -> ..2026_11/        /etc/pipelines/..2026_11: x.yaml
//! ```
//! It tells only that something may have changed: what has, is known by who reads ([`crate::inputs`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Who writes several files is given this long between two of them, and so long in all.
const QUIET: Duration = Duration::from_millis(100);
const QUIET_MAX: Duration = Duration::from_secs(1);

/// How often files are looked at though nothing was told, and how often where nothing can be told.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const LOOK_INTERVAL_BLIND: Duration = Duration::from_secs(2);

/// As many links on the way to a file are followed as Linux does.
const LINKS_MAX: usize = 40;

/// Watches files and folders.
pub struct Watch {
    named: Vec<PathBuf>,
    /// `None`: the kernel gives us no watch.
    watcher: Option<RecommendedWatcher>,
    ear: Arc<Ear>,
    /// Folders that are watched, as they were then.
    watched: BTreeMap<PathBuf, Identity>,
    /// When something was told for the first time, and for the last time, since the last answer.
    told: Option<(Instant, Instant)>,
    look_at: Instant,
    look_interval: Duration,
    has_complained: bool,
}

/// What is told by the watcher's thread.
#[derive(Default)]
struct Ear {
    woken: Notify,
    overflowed: AtomicBool,
    wanted: RwLock<Wanted>,
}

/// By folder, the names in it that matter.
type Wanted = BTreeMap<PathBuf, Names>;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Names {
    these: BTreeSet<OsString>,
    /// The folder was named: its pipelines come and go.
    pipelines: bool,
}

/// A folder that is removed and made again has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Watch {
    /// Of these files and folders. Never fails: what cannot be watched is looked at.
    pub fn new(paths: &[PathBuf]) -> Watch {
        let ear = Arc::new(Ear::default());
        let hears = ear.clone();
        let watcher = notify::recommended_watcher(move |event| hears.hear(event));
        let mut watch = Watch {
            named: paths.to_vec(),
            watcher: None,
            ear,
            watched: BTreeMap::new(),
            told: None,
            look_at: Instant::now() + LOOK_INTERVAL,
            look_interval: LOOK_INTERVAL,
            has_complained: false,
        };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.complain(&error.to_string()),
        }
        watch.watch(std::iter::empty());
        watch
    }

    /// And of these files: all that was read for pipelines. Those named before and not now are watched no more. To be called
    /// after each change: folders come and go, and links lead elsewhere. Blocks for a few system calls.
    pub fn watch<'p>(&mut self, inputs: impl Iterator<Item = &'p Path>) {
        let mut way = Way::default();
        for path in &self.named {
            let end = way.follow(path);
            if fs::metadata(&end).is_ok_and(|end| end.is_dir()) {
                way.wanted.entry(end).or_default().pipelines = true;
            }
        }
        inputs.for_each(|path| drop(way.follow(path)));
        let Way { wanted, .. } = way;
        let identities: BTreeMap<PathBuf, Identity> =
            wanted.keys().filter_map(|f| Some((f.clone(), identity(f)?))).collect();
        *self.ear.wanted.write().unwrap_or_else(PoisonError::into_inner) = wanted;
        let mut watched = std::mem::take(&mut self.watched);
        // First those that are gone: the kernel knows a folder by its identity, and one that was renamed has kept it.
        watched.retain(|folder, as_it_was| {
            let stays = identities.get(folder) == Some(as_it_was);
            if !stays && let Some(watcher) = &mut self.watcher {
                // The watch of a folder that was removed went with it.
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        self.watched = watched;
        for (folder, identity) in identities {
            if self.watched.contains_key(&folder) {
                continue;
            }
            let Some(watcher) = &mut self.watcher else { return };
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder, identity);
                    // What changed before it was watched was not told.
                    self.ear.woken.notify_one();
                }
                // It has gone again: a look will tell.
                Err(_) if !folder.exists() => {}
                Err(error) => self.complain(&format!("{}: {error}", folder.display())),
            }
        }
    }

    /// Something may have changed, and has been quiet for 100 ms (or not, for 1 s); also every few seconds. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            match self.told {
                None => tokio::select! {
                    () = self.ear.woken.notified() => self.told = Some((Instant::now(), Instant::now())),
                    () = sleep_until(self.look_at) => break,
                },
                Some((first, last)) => tokio::select! {
                    () = self.ear.woken.notified() => self.told = Some((first, Instant::now())),
                    () = sleep_until((last + QUIET).min(first + QUIET_MAX)) => break,
                },
            }
        }
        self.told = None;
        self.look_at = Instant::now() + self.look_interval;
        if self.ear.overflowed.load(Ordering::Relaxed) {
            self.complain("more has changed at once than the kernel keeps");
        }
    }

    /// Says once that not all is watched.
    fn complain(&mut self, error: &str) {
        self.look_interval = self.look_interval.min(LOOK_INTERVAL_BLIND);
        if !std::mem::replace(&mut self.has_complained, true) {
            let seconds = LOOK_INTERVAL_BLIND.as_secs();
            tracing::warn!(error, "not all files can be watched: they are looked at every {seconds} s instead");
        }
    }
}

impl Ear {
    fn hear(&self, event: notify::Result<Event>) {
        let Ok(event) = event else { return self.woken.notify_one() };
        if event.need_rescan() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        if event.need_rescan() || matters(&event, &wanted) {
            self.woken.notify_one();
        }
    }
}

/// Whether an event is about a file that matters, and more than that it was opened or read: we do that ourselves.
fn matters(event: &Event, wanted: &Wanted) -> bool {
    let is_access = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
    !is_access
        && event.paths.iter().any(|path| {
            wanted.contains_key(path)
                || path.parent().zip(path.file_name()).is_some_and(|(folder, name)| {
                    wanted
                        .get(folder)
                        .is_some_and(|names| names.these.contains(name) || names.pipelines && is_yaml(name))
                })
        })
}

fn is_yaml(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn identity(folder: &Path) -> Option<Identity> {
    let metadata = fs::metadata(folder).ok().filter(fs::Metadata::is_dir)?;
    Some(Identity { device: metadata.dev(), inode: metadata.ino() })
}

/// The ways to files, and what is to be watched on them.
#[derive(Default)]
struct Way {
    wanted: Wanted,
    /// Where folders lead to that have been walked.
    known: HashMap<PathBuf, PathBuf>,
}

impl Way {
    /// Where a path leads to in the end: in a folder without links that matters from now on, as do those with links before.
    /// Where the way ends early, the last folder that is there matters.
    fn follow(&mut self, path: &Path) -> PathBuf {
        let Ok(path) = std::path::absolute(path) else { return path.to_owned() };
        self.walk(&path, true, LINKS_MAX)
    }

    fn walk(&mut self, path: &Path, is_last: bool, links_max: usize) -> PathBuf {
        let (folder, name) = match (path.parent(), path.components().next_back()) {
            (Some(folder), Some(Component::Normal(name))) => (folder, name),
            (Some(folder), Some(Component::ParentDir)) => {
                let mut folder = self.walk(folder, false, links_max);
                folder.pop();
                return folder;
            }
            _ => return path.to_owned(),
        };
        if let Some(end) = self.known.get(path).filter(|_| !is_last) {
            return end.clone();
        }
        let folder = self.walk(folder, false, links_max);
        let here = folder.join(name);
        let link = fs::read_link(&here).ok().filter(|_| links_max > 0);
        let is_missing = || !here.exists() && folder.is_dir();
        if is_last || link.is_some() || is_missing() {
            self.wanted.entry(folder.clone()).or_default().these.insert(name.to_owned());
        }
        let end = match link {
            Some(link) => self.walk(&folder.join(link), is_last, links_max - 1),
            None => here,
        };
        if !is_last {
            self.known.insert(path.to_owned(), end.clone());
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Tells only what it was told: nothing is found by looking.
    fn watch(paths: &[&Path]) -> Watch {
        let mut watch = Watch::new(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>());
        assert!(!watch.has_complained);
        watch.look_interval = Duration::from_secs(3600);
        watch.look_at = Instant::now() + watch.look_interval;
        watch
    }

    /// Waits until it tells; what was told before counts too.
    async fn tells(watch: &mut Watch) {
        tokio::time::timeout(Duration::from_secs(60), watch.changed()).await.expect("it was never told");
    }

    /// Forgets what was told so far: what a first look or this very test has caused.
    async fn calm(watch: &mut Watch, folder: &Path) {
        // A mark of ours comes behind all that was told before it.
        fs::write(folder.join("mark.yaml"), "").unwrap();
        tells(watch).await;
    }

    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().canonicalize().unwrap();
        (home, path)
    }

    #[tokio::test]
    async fn what_is_written_renamed_over_or_removed_is_told() {
        let (_home, home) = home();
        let folder = home.join("p");
        fs::create_dir(&folder).unwrap();
        let mut watch = watch(&[&folder]);
        calm(&mut watch, &folder).await;
        fs::write(folder.join("x.yaml"), "a").unwrap();
        tells(&mut watch).await;
        fs::write(folder.join("x.yaml~"), "b").unwrap();
        fs::rename(folder.join("x.yaml~"), folder.join("x.yaml")).unwrap();
        tells(&mut watch).await;
        fs::remove_file(folder.join("x.yaml")).unwrap();
        tells(&mut watch).await;
    }

    #[tokio::test]
    async fn a_link_that_is_pointed_elsewhere_is_told() {
        let (_home, home) = home();
        for version in ["..1", "..2"] {
            fs::create_dir(home.join(version)).unwrap();
            fs::write(home.join(version).join("x.json"), version).unwrap();
        }
        symlink("..1", home.join("..data")).unwrap();
        symlink("..data/x.json", home.join("x.json")).unwrap();
        let (elsewhere, x) = (tempfile::tempdir().unwrap(), home.join("x.json"));
        let mut watch = watch(&[elsewhere.path()]);
        watch.watch(std::iter::once(x.as_path()));
        assert!(watch.watched.contains_key(&home.join("..1")), "{:?}", watch.watched);
        calm(&mut watch, &elsewhere.path().canonicalize().unwrap()).await;
        symlink("..2", home.join("..tmp")).unwrap();
        fs::rename(home.join("..tmp"), home.join("..data")).unwrap();
        tells(&mut watch).await;
        watch.watch(std::iter::once(x.as_path()));
        assert!(watch.watched.contains_key(&home.join("..2")) && !watch.watched.contains_key(&home.join("..1")));
    }

    #[tokio::test]
    async fn a_folder_that_vanishes_and_comes_back_is_watched_again() {
        let (_home, home) = home();
        let folder = home.join("p");
        fs::create_dir(&folder).unwrap();
        let mut watch = watch(&[&folder]);
        calm(&mut watch, &folder).await;
        for round in 0..2 {
            fs::rename(&folder, home.join(format!("old-{round}"))).unwrap();
            tells(&mut watch).await;
            watch.watch(std::iter::empty());
            fs::create_dir(&folder).unwrap();
            tells(&mut watch).await;
            watch.watch(std::iter::empty());
            calm(&mut watch, &folder).await;
            fs::write(folder.join("x.yaml"), "").unwrap();
            tells(&mut watch).await;
        }
    }

    #[test]
    fn what_others_do_in_the_same_folders_wakes_nobody() {
        let (_home, home) = home();
        fs::create_dir(home.join("p")).unwrap();
        let mut way = Way::default();
        let named = way.follow(&home.join("p"));
        way.wanted.entry(named).or_default().pipelines = true;
        way.follow(&home.join("p/schema.json"));
        way.follow(&home.join("none/here/x.wasm"));
        let told = |kind: EventKind, path: &str| matters(&Event::new(kind).add_path(home.join(path)), &way.wanted);
        let changed = EventKind::Modify(notify::event::ModifyKind::Any);
        for path in ["p", "p/x.yaml", "p/x.yml", "p/schema.json", "none"] {
            assert!(told(changed, path), "{path}");
            assert!(told(EventKind::Access(AccessKind::Close(AccessMode::Write)), path), "{path}");
            assert!(!told(EventKind::Access(AccessKind::Open(AccessMode::Any)), path), "{path}");
        }
        for path in ["p/.x.yaml.swp", "p/4913", "q", "q/x.yaml", "p/x/y.yaml", "x.yaml"] {
            assert!(!told(changed, path), "{path}");
        }
    }

    #[tokio::test]
    async fn what_was_told_is_told_though_nobody_waited_for_long() {
        let (_home, home) = home();
        let mut watch = watch(&[&home]);
        calm(&mut watch, &home).await;
        fs::write(home.join("x.yaml"), "a").unwrap();
        // Whoever waits for other things as well drops this future at each of them.
        while tokio::time::timeout(Duration::from_millis(1), watch.changed()).await.is_err() {}
    }

    #[test]
    fn links_that_lead_in_a_circle_end() {
        let (_home, home) = home();
        symlink("b", home.join("a")).unwrap();
        symlink("a", home.join("b")).unwrap();
        let mut way = Way::default();
        way.follow(&home.join("a/x.yaml"));
        assert!(way.wanted.contains_key(&home));
    }
}
