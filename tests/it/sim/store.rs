//! FaultyStore: an object store in memory that answers wrongly in all the ways that real ones do, and remembers everything.
//!
//! It is consistent and it honours [`PutMode::Create`] atomically. What it does not do is tell the truth: an error may
//! stand for a put that had its effect, "already exists" for an object that does not exist, and a put that was under
//! way when its process died, or whose caller gave up, may take effect much later. Each put (part, completion, copy,
//! delete) is one effect of [`Fate`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::fate::{Effect, Fate, Rng, Share, Verdict};

/// The longest wait of a slow put, in milliseconds of tokio's clock.
const SLOW_MS_MAX: u64 = 60_000;
/// The latest that a late put lands, in effects after its caller's end.
const LATE_EFFECTS_MAX: u64 = 60;

/// One life's client of the store. Cheap to clone; dead for ever when the life of its fate is over.
#[derive(Clone)]
pub struct FaultyStore {
    fate: Fate,
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    objects: BTreeMap<Path, Object>,
    /// Puts whose answer is not there yet: if their caller ends they may land late.
    under_way: BTreeMap<u64, Put>,
    late: Vec<(u64, Put)>,
    put_next: u64,
    etag_next: u64,
    history: History,
}

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    etag: u64,
}

#[derive(Clone)]
struct Put {
    path: Path,
    bytes: Bytes,
    create: bool,
}

/// What happened to each name, over all lives.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// How often an object came into being under this name: at most once, if all is well.
    pub created: BTreeMap<Path, u32>,
    /// Puts over an object with the same bytes (completions of multipart uploads cannot do better).
    pub repeated: BTreeMap<Path, u32>,
    /// Puts over an object with other bytes: never, if all is well.
    pub changed: BTreeMap<Path, u32>,
    /// Removed objects: never, if all is well.
    pub deleted: BTreeMap<Path, u32>,
    /// Puts that landed after their caller's end.
    pub late: u32,
}

impl FaultyStore {
    /// An empty store.
    pub fn new(fate: &Fate) -> FaultyStore {
        let state = State {
            rng: Rng::new(fate.seed(), "store"),
            objects: BTreeMap::new(),
            under_way: BTreeMap::new(),
            late: Vec::new(),
            put_next: 0,
            etag_next: 0,
            history: History::default(),
        };
        FaultyStore { fate: fate.clone(), state: Arc::new(Mutex::new(state)) }
    }

    /// The store as the next life meets it.
    pub fn restart(&self, next: &Fate) -> FaultyStore {
        assert!(self.fate.dead(), "a store is restarted after its client's life has ended");
        let mut state = self.state();
        let under_way: Vec<u64> = state.under_way.keys().copied().collect();
        for put in under_way {
            state.abandon(put, next);
        }
        drop(state);
        FaultyStore { fate: next.clone(), state: self.state.clone() }
    }

    /// Lets every late put land now.
    pub fn settle(&self) {
        self.state().land(&self.fate, u64::MAX);
    }

    /// All objects, for the oracle: no fault, no effect.
    pub fn objects(&self) -> BTreeMap<Path, Bytes> {
        self.state().objects.iter().map(|(path, object)| (path.clone(), object.bytes.clone())).collect()
    }

    /// What happened to each name.
    pub fn history(&self) -> History {
        self.state().history.clone()
    }

    /// Puts a foreign object there, behind everybody's back.
    pub fn plant(&self, path: &Path, bytes: Bytes) {
        let mut state = self.state();
        let etag = state.etag();
        state.objects.insert(path.clone(), Object { bytes, etag });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The state, after late puts that are due have landed; an error for the dead.
    fn alive(&self) -> Result<MutexGuard<'_, State>> {
        if self.fate.dead() {
            return Err(failed("the simulated process is dead"));
        }
        let now = self.fate.effects_total();
        let mut state = self.state();
        state.land(&self.fate, now);
        Ok(state)
    }

    fn fails_to_read(&self, state: &mut State) -> Result<()> {
        if state.rng.chance(self.fate.rates().read_error) { Err(failed("503, slow down (read)")) } else { Ok(()) }
    }

    /// One put with one effect, through all faults. `under_way` is where it waits for its effect.
    fn put_now(&self, under_way: &UnderWay, put: &Put, mode: &PutMode) -> Result<PutResult> {
        let mut state = self.alive()?;
        let rates = self.fate.rates();
        let place: Arc<str> = put.path.as_ref().into();
        let refused = |what, answer| {
            self.fate.note(Effect::at(what, place.clone()));
            Err(answer)
        };
        if state.rng.chance(rates.put_error_before) {
            under_way.done(&mut state);
            return refused("put refused, 503", failed("503, slow down"));
        }
        if *mode == PutMode::Create && state.rng.chance(rates.put_false_conflict) && !state.has(&put.path) {
            under_way.done(&mut state);
            return refused("put refused, 409 though absent", exists(&put.path));
        }
        match self.fate.effect(Effect::bytes("put", place.clone(), 0, &put.bytes)) {
            Verdict::Go => under_way.done(&mut state),
            Verdict::Die(Share::All) => {
                under_way.done(&mut state);
                let _ = state.put(put, mode);
                return Err(failed("the simulated process is dead"));
            }
            Verdict::Die(Share::Nothing) => {
                under_way.done(&mut state);
                return Err(failed("the simulated process is dead"));
            }
            Verdict::Die(Share::Part) | Verdict::Dead => return Err(failed("the simulated process is dead")),
        }
        let answer = state.put(put, mode);
        if state.rng.chance(rates.put_error_after) {
            return refused("put answered with a time-out", failed("timed out"));
        }
        if *mode == PutMode::Create && state.rng.chance(rates.put_own_conflict) {
            return refused("put answered 412 after its own retry", exists(&put.path));
        }
        answer
    }

    fn begin(&self, put: &Put) -> UnderWay {
        let mut state = self.state();
        let number = state.put_next;
        state.put_next += 1;
        state.under_way.insert(number, put.clone());
        UnderWay { store: self.clone(), number }
    }

    fn effect(&self, what: &'static str, path: &Path, bytes: &[u8]) -> Result<bool> {
        match self.fate.effect(Effect::bytes(what, path.as_ref().into(), 0, bytes)) {
            Verdict::Go => Ok(true),
            Verdict::Die(Share::All) => Ok(false),
            _ => Err(failed("the simulated process is dead")),
        }
    }

    fn answer<T>(&self, value: T) -> Result<T> {
        if self.fate.dead() { Err(failed("the simulated process is dead")) } else { Ok(value) }
    }

    fn delete_now(&self, path: Path) -> Result<Path> {
        let mut state = self.alive()?;
        self.effect("delete", &path, &[])?;
        if state.objects.remove(&path).is_some() {
            *state.history.deleted.entry(path.clone()).or_default() += 1;
        }
        self.answer(path)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let put = Put { path: location.clone(), bytes: payload.into(), create: opts.mode == PutMode::Create };
        drop(self.alive()?);
        let under_way = self.begin(&put);
        let slow_ms = {
            let rng = &mut self.state().rng;
            if rng.chance(self.fate.rates().put_slow) { 1 + rng.below(SLOW_MS_MAX) } else { 0 }
        };
        if slow_ms > 0 {
            tokio::time::sleep(Duration::from_millis(slow_ms)).await;
        }
        self.put_now(&under_way, &put, &opts.mode)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let mut state = self.alive()?;
        self.fails_to_read(&mut state)?;
        Ok(Box::new(Upload { store: self.clone(), path: location.clone(), parts: Arc::default(), part_next: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut state = self.alive()?;
        self.fails_to_read(&mut state)?;
        let object = state.objects.get(location).cloned().ok_or_else(|| absent(location))?;
        let meta = object.meta(location);
        options.check_preconditions(&meta)?;
        let range = match options.range {
            Some(range) => range.as_range(meta.size).map_err(|error| failed(&error.to_string()))?,
            None => 0..meta.size,
        };
        let bytes = object.bytes.slice(range.start as usize..range.end as usize);
        let mut parts = vec![Ok(bytes.clone())];
        if !options.head && !bytes.is_empty() && state.rng.chance(self.fate.rates().read_error) {
            let half = state.rng.below(bytes.len() as u64) as usize;
            parts = vec![Ok(bytes.slice(..half)), Err(failed("connection reset"))];
        }
        let payload = GetResultPayload::Stream(stream::iter(parts).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default(), extensions: Default::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations.map(move |path| store.delete_now(path?)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.alive().and_then(|mut state| {
            self.fails_to_read(&mut state)?;
            let inside = |path: &Path| prefix.is_none_or(|prefix| path != prefix && path.prefix_matches(prefix));
            let found = state.objects.iter().filter(|(path, _)| inside(path));
            Ok(found.map(|(path, object)| Ok(object.meta(path))).collect::<Vec<_>>())
        });
        stream::iter(listed.unwrap_or_else(|error| vec![Err(error)])).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut state = self.alive()?;
        self.fails_to_read(&mut state)?;
        let root = Path::default();
        let prefix = prefix.unwrap_or(&root);
        let (mut objects, mut folders) = (Vec::new(), BTreeSet::new());
        for (path, object) in &state.objects {
            let Some(mut rest) = path.prefix_match(prefix) else { continue };
            match (rest.next(), rest.next()) {
                (Some(folder), Some(_)) => {
                    folders.insert(prefix.clone().join(folder));
                }
                (Some(_), None) => objects.push(object.meta(path)),
                (None, _) => {}
            }
        }
        Ok(ListResult { common_prefixes: folders.into_iter().collect(), objects, extensions: Default::default() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mut state = self.alive()?;
        let bytes = state.objects.get(from).ok_or_else(|| absent(from))?.bytes.clone();
        let create = matches!(options.mode, CopyMode::Create);
        self.effect("copy", to, &bytes)?;
        let mode = if create { PutMode::Create } else { PutMode::Overwrite };
        let copied = state.put(&Put { path: to.clone(), bytes, create }, &mode).map(drop);
        self.answer(()).and(copied)
    }
}

impl State {
    fn has(&self, path: &Path) -> bool {
        self.objects.contains_key(path)
    }

    fn etag(&mut self) -> u64 {
        self.etag_next += 1;
        self.etag_next
    }

    fn put(&mut self, put: &Put, mode: &PutMode) -> Result<PutResult> {
        let there = self.objects.get(&put.path);
        match mode {
            PutMode::Create if there.is_some() => return Err(exists(&put.path)),
            PutMode::Update(version) if there.map(|o| quoted(o.etag)) != version.e_tag => {
                return Err(Error::Precondition { path: put.path.to_string(), source: "another version".into() });
            }
            _ => {}
        }
        let counter = match there {
            None => &mut self.history.created,
            Some(object) if object.bytes == put.bytes => &mut self.history.repeated,
            Some(_) => &mut self.history.changed,
        };
        *counter.entry(put.path.clone()).or_default() += 1;
        let etag = self.etag();
        self.objects.insert(put.path.clone(), Object { bytes: put.bytes.clone(), etag });
        Ok(PutResult { e_tag: Some(quoted(etag)), version: None, extensions: Default::default() })
    }

    /// The caller of a put that is under way has ended: it may have gone out on the wire, or not.
    fn abandon(&mut self, number: u64, fate: &Fate) {
        let Some(put) = self.under_way.remove(&number) else { return };
        if self.rng.chance(fate.rates().put_late) {
            let due = fate.effects_total() + self.rng.below(LATE_EFFECTS_MAX + 1);
            self.late.push((due, put));
        }
    }

    /// Late puts that are due by `now` (in effects of all lives) take effect.
    fn land(&mut self, fate: &Fate, now: u64) {
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|(due, _)| *due <= now);
        self.late = late;
        let due: Vec<(u64, Put)> = due;
        for (_, put) in due {
            fate.note(Effect::bytes("a late put lands", put.path.as_ref().into(), 0, &put.bytes));
            let mode = if put.create { PutMode::Create } else { PutMode::Overwrite };
            let _ = self.put(&put, &mode);
            self.history.late += 1;
        }
    }
}

impl Object {
    fn meta(&self, path: &Path) -> ObjectMeta {
        ObjectMeta {
            location: path.clone(),
            last_modified: Default::default(),
            size: self.bytes.len() as u64,
            e_tag: Some(quoted(self.etag)),
            version: None,
        }
    }
}

/// A put that waits for its effect; dropped before, the put is abandoned.
struct UnderWay {
    store: FaultyStore,
    number: u64,
}

impl UnderWay {
    fn done(&self, state: &mut State) {
        state.under_way.remove(&self.number);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // A poisoned lock means that a test is failing already: let it tell why.
        // The puts of a dead process are abandoned by `restart`, in an order that does not depend on whose task is dropped
        // first.
        if let Ok(mut state) = self.store.state.lock()
            && !self.store.fate.dead()
        {
            state.abandon(self.number, &self.store.fate);
        }
    }
}

/// A multipart upload: parts and completion are effects; completion replaces what is there, as object_store's does.
struct Upload {
    store: FaultyStore,
    path: Path,
    parts: Arc<Mutex<BTreeMap<usize, Bytes>>>,
    part_next: usize,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upload of {}", self.path)
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, path, parts, index) = (self.store.clone(), self.path.clone(), self.parts.clone(), self.part_next);
        self.part_next += 1;
        Box::pin(async move {
            let mut state = store.alive()?;
            if state.rng.chance(store.fate.rates().put_error_before) {
                return Err(failed("503, slow down (part)"));
            }
            let bytes = Bytes::from(data);
            store.effect("put part", &path, &bytes)?;
            parts.lock().unwrap().insert(index, bytes);
            store.answer(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = self.parts.lock().unwrap().clone();
        if parts.len() != self.part_next {
            return Err(failed("a part is missing"));
        }
        let bytes = parts.into_values().flatten().collect::<Vec<u8>>().into();
        let payload = PutPayload::from_bytes(bytes);
        self.store.put_opts(&self.path, payload, PutMode::Overwrite.into()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.lock().unwrap().clear();
        self.store.alive().map(drop)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn quoted(etag: u64) -> String {
    format!("\"{etag}\"")
}

fn failed(why: &str) -> Error {
    Error::Generic { store: "FaultyStore", source: why.into() }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "412, at least one precondition did not hold".into() }
}

fn absent(path: &Path) -> Error {
    Error::NotFound { path: path.to_string(), source: "404, no such key".into() }
}
