//! What lies in a store: a listing that goes on where it was interrupted, and objects read in pieces. Nothing is written.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ::object_store::local::LocalFileSystem;
use ::object_store::path::Path;
use ::object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use anyhow::anyhow;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::{ObjectSink, Shared};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::ground::Random;
use crate::sink::local::LocalRoot;
use crate::sink::options::{Options, Place};
use crate::sink::trouble;

/// How often a listing that breaks off is taken up again without an object in between.
const LISTING_ATTEMPTS_MAX: u32 = 5;

/// The pause before that, times the number of the attempt.
const LISTING_PAUSE: Duration = Duration::from_millis(500);

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Below the sink's root.
    pub name: String,
    pub bytes: u64,
    /// When the store got it, in Unix milliseconds.
    pub modified_ms: i64,
    pub kind: ListedKind,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedKind {
    Object,
    /// `name#1` in a local folder: what a killed put has left, or one under way has not finished.
    Leftover,
    /// In a local folder: neither a file nor a folder, such as a symbolic link, which is not followed.
    Other,
}

/// Hears of each entry; an error ends the listing.
pub type Hearing<'a> = dyn FnMut(Listed) -> Result<(), Fault> + Send + 'a;

impl ObjectSink {
    /// Opens a place only to look at it: unlike [`ObjectSink::open`] it makes no folder, and one that is not there is the
    /// configuration's fault. Asks no store anything.
    pub fn open_to_read(options: &Options, random: Random) -> Result<ObjectSink, Fault> {
        let place = options.place().map_err(|error| Fault { blame: Blame::Config, error: anyhow!(error) })?;
        let shared = match place {
            Place::Cloud { store, root, shown } => Shared::new(store, root, shown, random),
            Place::Local(path) => {
                let unusable = |error: io::Error| Fault::new(Blame::Config, format!("{}: {error}", path.display()));
                let root = off_async(|| LocalRoot::existing(&path)).map_err(unusable)?;
                let store = LocalFileSystem::new_with_prefix(root.path())
                    .map_err(|error| Fault::new(Blame::Config, trouble::in_words(&error).0))?;
                let shown =
                    options.url.strip_prefix("file://").unwrap_or(&options.url).trim_end_matches('/').to_owned();
                Shared { local: Some(root), ..Shared::new(Arc::new(store), Path::ROOT, shown, random) }
            }
        };
        Ok(ObjectSink { shared: Arc::new(shared) })
    }

    /// Tells `hear` of everything below the sink's root whose name begins with `under`. Objects of one folder come one
    /// behind the other, in the order of their names (where the store lists so, as all but S3 Express do). Memory: one page.
    ///
    /// A fault is the sink's, or what `hear` said.
    pub async fn list(&self, under: &str, hear: &mut Hearing<'_>) -> Result<(), Fault> {
        match &self.shared.local {
            Some(local) => off_async(|| walk(local.path(), "", under, hear)),
            None => self.list_store(under, hear).await,
        }
    }

    async fn list_store(&self, under: &str, hear: &mut Hearing<'_>) -> Result<(), Fault> {
        let Shared { store, root, .. } = &*self.shared;
        let folder = under.rsplit_once('/').map_or("", |(folder, _)| folder);
        let below = match (root.as_ref(), folder) {
            (root, "") => root.to_owned(),
            ("", folder) => folder.to_owned(),
            (root, folder) => format!("{root}/{folder}"),
        };
        let below = Path::parse(&below).map_err(|error| Fault::new(Blame::Config, format!("{under}: {error}")))?;
        let skipped = if root.is_root() { 0 } else { root.as_ref().len() + 1 };
        let (mut last, mut attempt): (Option<Path>, u32) = (None, 0);
        loop {
            let mut listing = match &last {
                Some(last) => store.list_with_offset(Some(&below), last),
                None => store.list(Some(&below)),
            };
            let error = loop {
                let ObjectMeta { location, size, last_modified, .. } = match listing.next().await {
                    None => return Ok(()),
                    Some(Err(error)) => break error,
                    Some(Ok(meta)) => meta,
                };
                attempt = 0;
                let name = location.as_ref().get(skipped..).unwrap_or_default();
                if name.starts_with(under) {
                    let modified_ms = last_modified.timestamp_millis();
                    hear(Listed { name: name.to_owned(), bytes: size, modified_ms, kind: ListedKind::Object })?;
                }
                last = Some(location);
            };
            attempt += 1;
            let refused = matches!(trouble::meaning(&error), trouble::Meaning::Refused | trouble::Meaning::Name);
            if refused || attempt >= LISTING_ATTEMPTS_MAX {
                return Err(self.unreadable(under, &error));
            }
            tokio::time::sleep(LISTING_PAUSE * attempt).await;
        }
    }

    /// Reads these bytes of an object of `whole` bytes, which must lie within it; `None`: there is no such object, or it has
    /// another length by now. A fault is the source's: trying again may mend it.
    pub async fn read(&self, name: &str, whole: u64, range: Range<u64>) -> Result<Option<Bytes>, Fault> {
        let path = self.shared.path(name).map_err(Fault::from)?;
        let wanted = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let failed = |error: &Error| Fault { blame: Blame::Source, ..self.unreadable(name, error) };
        let mut body = match self.shared.store.get_opts(&path, options).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            Ok(got) if got.meta.size != whole => return Ok(None),
            Ok(got) => got.into_stream(),
            Err(error) => match self.shared.store.head(&path).await {
                Err(Error::NotFound { .. }) => return Ok(None),
                // Stores refuse to read what lies behind the end.
                Ok(meta) if meta.size != whole => return Ok(None),
                _ => return Err(failed(&error)),
            },
        };
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(|error| failed(&error))?);
        }
        match bytes.len() == wanted {
            true => Ok(Some(bytes.freeze())),
            false => Err(Fault::new(
                Blame::Source,
                format!("{}: {} bytes where {wanted} should be", self.location(name), bytes.len()),
            )),
        }
    }

    fn unreadable(&self, name: &str, error: &Error) -> Fault {
        let (answer, hint) = trouble::in_words(error);
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        Fault::new(Blame::Sink, format!("{}: {answer}{hint}", self.location(name)))
    }
}

/// A folder and those in it, each in the order of its names. `at` is the folder's name below the root, with `/` at its end.
fn walk(root: &FsPath, at: &str, under: &str, hear: &mut Hearing<'_>) -> Result<(), Fault> {
    let folder = root.join(at);
    let failed = |error: io::Error| Fault::new(Blame::Sink, format!("{}: {error}", folder.display()));
    let mut entries = match fs::read_dir(&folder) {
        // Empty folders go, and a daemon may be at work.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?,
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{at}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            let inside = format!("{name}/");
            if inside.starts_with(under) || under.starts_with(&inside) {
                walk(root, &inside, under, hear)?;
            }
            continue;
        }
        if !name.starts_with(under) {
            continue;
        }
        let about = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            about => about.map_err(failed)?,
        };
        let modified = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_ms = modified.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0);
        let kind = match () {
            () if !kind.is_file() => ListedKind::Other,
            () if is_leftover(&name) => ListedKind::Leftover,
            () => ListedKind::Object,
        };
        hear(Listed { name, bytes: about.len(), modified_ms, kind })?;
    }
    Ok(())
}

/// Whether object_store calls an unfinished file so.
fn is_leftover(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn names(sink: &ObjectSink, under: &str) -> Vec<(String, ListedKind)> {
        let mut names = Vec::new();
        let mut hear = |listed: Listed| {
            names.push((listed.name, listed.kind));
            Ok(())
        };
        sink.list(under, &mut hear).await.unwrap();
        names
    }

    #[tokio::test]
    async fn a_folder_is_listed_with_what_object_store_hides() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("b/2", "two"), ("b/1", "one"), ("b/1#3", "x"), ("c/1", ""), ("a", "é")] {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("/", dir.path().join("b/root")).unwrap();
        let sink = ObjectSink::open_to_read(&Options::at(dir.path().to_str().unwrap()), Random::real()).unwrap();
        use ListedKind::{Leftover, Object, Other};
        let all =
            [("a", Object), ("b/1", Object), ("b/1#3", Leftover), ("b/2", Object), ("b/root", Other), ("c/1", Object)];
        assert_eq!(names(&sink, "").await, all.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(names(&sink, "b/1").await.len(), 2);
        assert_eq!(names(&sink, "x/").await.len(), 0);
        assert_eq!(sink.read("b/1", 3, 1..3).await.unwrap().unwrap(), "ne");
        for other in [(4, 1..4), (2_000_000, 1_000_000..2_000_000), (2, 0..1)] {
            assert_eq!(sink.read("b/1", other.0, other.1).await.unwrap(), None, "another one by now");
        }
        assert_eq!(sink.read("b/3", 1, 0..1).await.unwrap(), None);
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let fault = ObjectSink::open_to_read(&Options::at(missing.to_str().unwrap()), Random::real()).err().unwrap();
        assert_eq!(fault.blame, Blame::Config);
        assert!(!missing.exists());
    }
}
