//! Object stores: local folders, S3 and what speaks it, Google, Azure.
//!
//! ```text
//!   create ---- stored ---------------------------------------------> Stored
//!     |  '---- refused (401, 403, 404) ---------------.
//!     '------- ambiguous (exists, 409, 412, time-out, |
//!              connection lost, 5xx) --> look there   |
//!                 same length and CRC ----------------|-------------> AlreadyThere
//!                 nothing there, or cannot look ------+--> wait, create again
//!                 something else -----------------------------------> Foreign, untouched
//! ```
//! The promise: when `put` answers well, the object is there, durably, with the sealed bytes, and was never another;
//! nothing foreign was overwritten or removed. It tries for ever, and says so each time.

mod list;
mod look;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::object_store::local::LocalFileSystem;
use ::object_store::path::Path;
use ::object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use anyhow::{Context, anyhow};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use crate::budget::{Budget, Uploading};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::ground::Random;
use crate::naming::OWN_FOLDER;

use super::local::LocalRoot;
use super::options::{Options, Place};
use super::trouble::{self, Meaning};
use super::{Put, PutError, Trouble, Upload};

pub use list::{Listed, ListedKind};
pub use look::Look;

/// First wait between two attempts.
const BACKOFF_BASE: Duration = Duration::from_millis(200);

/// Longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Parts of one object under way at once.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// Bytes of one piece of a body.
const PIECE_BYTES: u64 = 1 << 20;

/// Bytes read back with one request.
const READ_BACK_BYTES: u64 = 16 << 20;

/// A root in a store. Cheap to clone; puts may run at the same time.
///
/// Memory of one put: the body of one request (at most `multipart_above`), or four parts.
#[derive(Clone)]
pub struct ObjectSink {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// The root as an operator wrote it.
    shown: String,
    local: Option<LocalRoot>,
    random: Random,
    multipart_above: u64,
    part_bytes: u64,
    budget: Option<Budget>,
    /// The store said that it cannot create without overwriting; from then on we look first.
    cannot_create: AtomicBool,
}

/// What lies under a name.
enum There {
    Nothing,
    Same,
    Other(String),
}

/// Why one attempt ended.
enum Setback {
    /// For good.
    End(PutError),
    /// Until the next.
    Store(Error),
    /// Until the next, in words of our own.
    Said(String),
    /// Not at all: the next attempt goes another way, at once.
    Again,
}

impl From<Error> for Setback {
    fn from(error: Error) -> Setback {
        Setback::Store(error)
    }
}

impl ObjectSink {
    /// Opens the place that the options name; makes a local folder, durably. Asks no store anything.
    pub fn open(options: &Options, random: Random) -> Result<ObjectSink, Fault> {
        let place = options.place().map_err(|error| Fault { blame: Blame::Config, error: anyhow!(error) })?;
        let mut shared = match place {
            Place::Cloud { store, root, shown } => Shared::new(store, root, shown, random),
            Place::Local(path) => {
                let unusable = || format!("sink folder {}", path.display());
                let root = off_async(|| LocalRoot::create(&path)).with_context(unusable).map_err(Fault::sink)?;
                let store =
                    LocalFileSystem::new_with_prefix(root.path()).with_context(unusable).map_err(Fault::sink)?;
                let shown =
                    options.url.strip_prefix("file://").unwrap_or(&options.url).trim_end_matches('/').to_string();
                let store = Arc::new(store.with_fsync(true));
                Shared { local: Some(root), ..Shared::new(store, Path::ROOT, shown, random) }
            }
        };
        shared.multipart_above = options.multipart_above;
        shared.part_bytes = options.part_size;
        Ok(ObjectSink { shared: Arc::new(shared) })
    }

    /// A sink over any store, below `root` (tests; a store that can die).
    pub fn over(store: Arc<dyn ObjectStore>, root: Path, random: Random) -> ObjectSink {
        let shown = store.to_string();
        ObjectSink { shared: Arc::new(Shared::new(store, root, shown, random)) }
    }

    /// The same sink with other limits: bytes above which an object goes up in parts, and bytes of a part.
    pub fn with_parts(self, multipart_above: u64, part_bytes: u64) -> ObjectSink {
        assert!(part_bytes > 0, "a part holds something");
        let shared = Arc::into_inner(self.shared).map(|shared| Shared { multipart_above, part_bytes, ..shared });
        ObjectSink { shared: Arc::new(shared.expect("limits are set before the sink is shared")) }
    }

    /// Where an object lies, for people.
    pub fn location(&self, name: &str) -> String {
        format!("{}/{name}", self.shared.shown)
    }

    /// The same sink, whose attempts wait for room in the budget.
    pub fn within(self, budget: &Budget) -> ObjectSink {
        let budget = Some(budget.clone());
        let shared = Arc::into_inner(self.shared).map(|shared| Shared { budget, ..shared });
        ObjectSink { shared: Arc::new(shared.expect("the budget is set before the sink is shared")) }
    }

    /// Stores an object under its name, or finds that it is there; tries for ever, calling `trouble` after each
    /// attempt that failed. An error is final.
    ///
    /// Cancel-safe: dropped at any point it leaves nothing that a repeat does not finish.
    pub async fn put(&self, upload: &Upload<'_>, trouble: &(dyn Fn(&Trouble) + Send + Sync)) -> Result<Put, PutError> {
        let path = self.shared.path(upload.name)?;
        let began = Instant::now();
        let mut attempt = 0u32;
        loop {
            // Only for the attempt: a store that is down must not keep room from others while we wait.
            let room = self.shared.room(upload.len).await;
            let attempted = self.shared.attempt(&path, upload).await;
            drop(room);
            let setback = match attempted {
                Ok(put) => return Ok(put),
                Err(setback) => setback,
            };
            let (answer, hint) = match setback {
                Setback::End(error) => return Err(error),
                Setback::Store(error) => trouble::in_words(&error),
                Setback::Said(answer) => (answer, None),
                Setback::Again => continue,
            };
            attempt = attempt.saturating_add(1);
            let message = format!("{}: {answer}", self.location(upload.name));
            let next = self.shared.backoff(attempt);
            trouble(&Trouble { attempt, since: began.elapsed(), next, message, hint });
            tokio::time::sleep(next).await;
        }
    }

    /// Removes an object of ours that no reader sees; one that is not there is no error. What is wrong comes in words.
    pub async fn remove(&self, name: &str) -> Result<(), String> {
        let path = self.shared.path(name).map_err(|error| error.to_string())?;
        match self.shared.store.delete(&path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(format!("{}: {}", self.location(name), trouble::in_words(&error).0)),
        }
    }

    /// Removes what a killed put of this name left beside it in a local folder; says how many files that were. Other
    /// stores show nothing half-done. Only while no put of this name is under way.
    pub fn sweep(&self, name: &str) -> io::Result<usize> {
        match &self.shared.local {
            Some(local) => off_async(|| local.sweep(name)),
            None => Ok(0),
        }
    }

    /// Asks the store whether creating keeps what is there, with an object of its own; for `check --connect`.
    ///
    /// `Ok(false)`: the store overwrites, or cannot create at all.
    pub async fn probe(&self) -> Result<bool, String> {
        let name = format!("{OWN_FOLDER}probe/{:016x}{:016x}", self.shared.random.u64(), self.shared.random.u64());
        let path = self.shared.path(&name).map_err(|error| error.to_string())?;
        let words = |error: Error| format!("{}: {}", self.location(&name), trouble::in_words(&error).0);
        match self.shared.create(&path, Bytes::from_static(b"first").into()).await {
            Err(error) if trouble::meaning(&error) == Meaning::CannotCreate => return Ok(false),
            other => other.map_err(words)?,
        }
        let second = self.shared.create(&path, Bytes::from_static(b"second").into()).await;
        let kept = self.shared.store.get(&path).await.map_err(words)?.bytes().await.map_err(words)?;
        self.shared.store.delete(&path).await.map_err(words)?;
        Ok(second.is_err() && kept.as_ref() == b"first")
    }
}

impl Shared {
    fn new(store: Arc<dyn ObjectStore>, root: Path, shown: String, random: Random) -> Shared {
        Shared {
            store,
            root,
            shown,
            local: None,
            random,
            multipart_above: 64 << 20,
            part_bytes: 16 << 20,
            budget: None,
            cannot_create: AtomicBool::new(false),
        }
    }

    /// Room for the bytes that one attempt holds in memory.
    async fn room(&self, len: u64) -> Option<Uploading> {
        let parts = self.part_bytes.saturating_mul(PARTS_IN_FLIGHT_MAX as u64);
        let bytes = if len > self.multipart_above { parts } else { len };
        Some(self.budget.as_ref()?.upload(usize::try_from(bytes).unwrap_or(usize::MAX)).await)
    }

    /// The name below the root, as it is: a name that the store would change is refused.
    fn path(&self, name: &str) -> Result<Path, PutError> {
        let refused = |error: String| PutError::Name { name: name.to_string(), error };
        let full = if self.root.is_root() { name.to_string() } else { format!("{}/{name}", self.root) };
        let path = Path::parse(&full).map_err(|error| refused(error.to_string()))?;
        match path.as_ref() == full && !name.is_empty() {
            true => Ok(path),
            false => Err(refused("begins or ends with `/`, or is empty".to_string())),
        }
    }

    async fn attempt(&self, path: &Path, upload: &Upload<'_>) -> Result<Put, Setback> {
        if let Some(local) = &self.local {
            off_async(|| local.make_folders(upload.name)).map_err(local_error)?;
        }
        let in_parts = upload.len > self.multipart_above;
        if in_parts || self.cannot_create.load(Ordering::Relaxed) {
            match self.look(path, upload).await? {
                There::Same => return self.found(upload),
                There::Other(found) => return Err(self.foreign(upload, found)),
                There::Nothing => {}
            }
        }
        let stored =
            if in_parts { self.put_in_parts(path, upload).await } else { self.put_at_once(path, upload).await };
        let error = match stored {
            Ok(()) => return Ok(Put::Stored),
            Err(Setback::Store(error)) => error,
            Err(setback) => return Err(setback),
        };
        match trouble::meaning(&error) {
            Meaning::Refused => Err(Setback::Store(error)),
            Meaning::Name => {
                Err(Setback::End(PutError::Name { name: upload.name.to_string(), error: error.to_string() }))
            }
            Meaning::CannotCreate if self.cannot_create.swap(true, Ordering::Relaxed) => Err(Setback::Store(error)),
            Meaning::CannotCreate => {
                tracing::warn!(store = %self.shown, "the store cannot create without overwriting: looking before each put instead");
                Err(Setback::Again)
            }
            Meaning::Ambiguous => match self.look(path, upload).await {
                Ok(There::Same) => self.found(upload),
                Ok(There::Other(found)) => Err(self.foreign(upload, found)),
                // Not there, or not to be seen: creating again will tell.
                Ok(There::Nothing) | Err(Setback::Store(_)) => Err(Setback::Store(error)),
                Err(setback) => Err(setback),
            },
        }
    }

    async fn put_at_once(&self, path: &Path, upload: &Upload<'_>) -> Result<(), Setback> {
        let mut crc = 0;
        let body = read_pieces(upload, 0, upload.len, &mut crc)?;
        check_crc(upload, crc)?;
        match self.cannot_create.load(Ordering::Relaxed) {
            true => self.store.put(path, body).await.map(|_| ())?,
            false => self.create(path, body).await?,
        }
        Ok(())
    }

    async fn create(&self, path: &Path, body: PutPayload) -> Result<(), Error> {
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store.put_opts(path, body, create).await.map(|_| ())
    }

    /// Several requests; completing them overwrites, so that the caller has looked before.
    async fn put_in_parts(&self, path: &Path, upload: &Upload<'_>) -> Result<(), Setback> {
        let mut parts = Parts(Some(self.store.put_multipart(path).await?));
        match self.send_parts(&mut parts, upload).await {
            Ok(()) => {}
            Err(setback) => {
                parts.abort().await;
                return Err(setback);
            }
        }
        match self.store.head(path).await {
            Ok(meta) if meta.size == upload.len => Ok(()),
            Ok(meta) => {
                Err(self.foreign(upload, format!("{} bytes where {} were sent in parts", meta.size, upload.len)))
            }
            Err(error) => Err(Setback::Store(error)),
        }
    }

    async fn send_parts(&self, parts: &mut Parts, upload: &Upload<'_>) -> Result<(), Setback> {
        let Some(multipart) = parts.0.as_mut() else { return Ok(()) };
        let (mut crc, mut offset) = (0, 0);
        let mut under_way = FuturesUnordered::new();
        let mut failed: Option<Setback> = None;
        while offset < upload.len && failed.is_none() {
            let len = self.part_bytes.min(upload.len - offset);
            match read_pieces(upload, offset, len, &mut crc) {
                Ok(part) => under_way.push(multipart.put_part(part)),
                Err(setback) => failed = Some(setback),
            }
            offset += len;
            if under_way.len() == PARTS_IN_FLIGHT_MAX {
                failed = under_way.next().await.and_then(Result::err).map(Setback::from).or(failed);
            }
        }
        // All of them end before the upload is given up: a part that arrives after that would stay behind.
        while let Some(sent) = under_way.next().await {
            failed = failed.or(sent.err().map(Setback::from));
        }
        if let Some(setback) = failed {
            return Err(setback);
        }
        check_crc(upload, crc)?;
        multipart.complete().await?;
        parts.0 = None;
        Ok(())
    }

    /// Reads back what lies under the name, as far as is needed to tell.
    async fn look(&self, path: &Path, upload: &Upload<'_>) -> Result<There, Setback> {
        let size = match self.store.head(path).await {
            Ok(meta) => meta.size,
            Err(Error::NotFound { .. }) => return Ok(There::Nothing),
            Err(error) => return Err(Setback::Store(error)),
        };
        if size != upload.len {
            return Ok(There::Other(format!("{size} bytes, not {}", upload.len)));
        }
        let (mut crc, mut offset) = (0, 0);
        while offset < size {
            let end = size.min(offset + READ_BACK_BYTES);
            let range = GetOptions { range: Some(GetRange::Bounded(offset..end)), ..GetOptions::default() };
            let mut body = self.store.get_opts(path, range).await?.into_stream();
            let mut got = 0;
            while let Some(piece) = body.next().await.transpose()? {
                crc = crc32c::crc32c_append(crc, &piece);
                got += piece.len() as u64;
            }
            if got != end - offset {
                return Err(Setback::Said(format!("reading back gave {got} bytes of {}", end - offset)));
            }
            offset = end;
        }
        match crc == upload.crc32c {
            true => Ok(There::Same),
            false => Ok(There::Other(format!("{size} bytes with CRC-32C {crc:08x}, not {:08x}", upload.crc32c))),
        }
    }

    fn found(&self, upload: &Upload<'_>) -> Result<Put, Setback> {
        if let Some(local) = &self.local {
            off_async(|| local.sync_object(upload.name)).map_err(local_error)?;
        }
        Ok(Put::AlreadyThere)
    }

    fn foreign(&self, upload: &Upload<'_>, found: String) -> Setback {
        Setback::End(PutError::Foreign { location: format!("{}/{}", self.shown, upload.name), found })
    }

    /// Doubles with each attempt up to the longest, of which between half and all is waited.
    fn backoff(&self, attempt: u32) -> Duration {
        let whole = BACKOFF_BASE
            .saturating_mul(1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX))
            .min(BACKOFF_MAX);
        let half_ms = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        Duration::from_millis(half_ms + self.random.u64() % (half_ms + 1))
    }
}

/// A multipart upload that is aborted if it is dropped before it is complete (as far as the runtime still runs).
struct Parts(Option<Box<dyn MultipartUpload>>);

impl Parts {
    fn abort(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let multipart = self.0.take();
        async move {
            if let Some(mut multipart) = multipart
                && let Err(error) = multipart.abort().await
            {
                // A lifecycle rule of the bucket clears what stays behind.
                tracing::debug!(%error, "a multipart upload could not be aborted");
            }
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if self.0.is_some()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(self.abort());
        }
    }
}

/// Reads `len` bytes at `offset` in pieces, and goes on with their checksum.
fn read_pieces(upload: &Upload<'_>, mut offset: u64, len: u64, crc: &mut u32) -> Result<PutPayload, Setback> {
    let end = offset + len;
    let mut pieces = Vec::new();
    off_async(|| {
        while offset < end {
            let wanted = PIECE_BYTES.min(end - offset) as usize;
            let piece = (upload.read)(offset, wanted)?;
            if piece.len() != wanted {
                let message = format!("{}: {} bytes at {offset}, not {wanted}", upload.name, piece.len());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
            *crc = crc32c::crc32c_append(*crc, &piece);
            offset += wanted as u64;
            pieces.push(piece);
        }
        Ok(pieces.into_iter().collect())
    })
    .map_err(|error| Setback::End(PutError::Disk(error)))
}

/// That we send what was sealed.
fn check_crc(upload: &Upload<'_>, crc: u32) -> Result<(), Setback> {
    if crc == upload.crc32c {
        return Ok(());
    }
    let message = format!("{}: CRC-32C {crc:08x} where {:08x} was sealed", upload.name, upload.crc32c);
    Err(Setback::End(PutError::Disk(io::Error::new(io::ErrorKind::InvalidData, message))))
}

fn local_error(error: io::Error) -> Setback {
    Setback::Store(Error::Generic { store: "LocalFileSystem", source: Box::new(error) })
}

#[cfg(test)]
mod tests;
