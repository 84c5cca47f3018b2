//! Reloads: what files say now against what runs, one pass after the other.
//!
//! A pass finds the files, loads those that have changed, and judges each for itself: does it parse, does it agree with
//! others about its stream, does its sink answer, can its stream be opened. What fails there is refused, and nobody is told
//! anything; all others are told at once, and a pass ends when they have switched. Passes are asked for by the watch, by
//! SIGHUP and over the API; who stops waiting changes nothing. A sink that takes long to answer holds up nobody but its own
//! pipeline, and who waits to be told about it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::{FedBy, Inputs, Loader, OnStream, PipelineSpec, Problems, Revision, agree_on_streams};
use crate::cpu::{give_way, off_async};
use crate::error::Fault;
use crate::inputs::Reads;
use crate::sink::{Look, ObjectSink};
use crate::status::reload::{Refused, Reloaded};
use crate::status::view::State;

use super::fleet::{Fleet, Pending, Pipeline, Wanted, What};
use super::notify;
use super::watch::Watch;

/// How often revisions are tried again that time may mend, and idle things are let go.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// How long a pass waits for pipelines to switch; they go on switching behind it.
const SWITCH_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a pass waits for sinks to answer before it goes on with the others.
const LOOK_TIME_MAX: Duration = Duration::from_secs(1);
/// Bytes of a settings file that are looked at.
const SETTINGS_BYTES_MAX: u64 = 16 << 20;

/// Who asks for a pass, and waits for what becomes of it.
pub type Request = oneshot::Sender<Reloaded>;

/// Knows the files.
pub struct Reloader {
    fleet: Arc<Fleet>,
    loader: Loader,
    paths: Vec<PathBuf>,
    files: BTreeMap<String, Filed>,
    settings_file: Option<(PathBuf, Inputs)>,
    /// What was last said to be wrong with paths.
    said: Vec<Refused>,
    /// Looks at sinks under way, and by pipeline the hash of the revision that is looked at for it.
    looks: JoinSet<Looked>,
    looking: BTreeMap<String, String>,
    /// What came of those that are over, by pipeline.
    looked: BTreeMap<String, Looked>,
    /// By pipeline: the hash of a revision whose sink has said no, or nothing.
    unreachable: BTreeMap<String, String>,
}

/// Whether the sink and the source of a revision can be had; with a warning if that is not clear.
struct Looked {
    name: String,
    hash: String,
    found: Result<Option<String>, String>,
}

/// A pipeline's file.
struct Filed {
    /// As it was read last.
    revision: Revision,
    number: u64,
    /// What was taken last.
    taken: Option<Arc<Wanted>>,
}

impl Reloader {
    /// Starts the pipelines of these revisions, which are right; returns when each runs or is known not to. A fault of a
    /// configuration or of our disk ends the process.
    pub async fn start(
        fleet: Arc<Fleet>,
        loader: Loader,
        paths: Vec<PathBuf>,
        settings_file: Option<PathBuf>,
        revisions: Vec<Revision>,
    ) -> Result<Reloader, Fault> {
        let settings_file = settings_file.map(|path| {
            let inputs = off_async(|| settings_inputs(&path));
            (path, inputs)
        });
        let names: BTreeSet<String> = revisions.iter().map(|revision| revision.name.clone()).collect();
        let mut reloader = Reloader {
            fleet,
            loader,
            paths,
            files: BTreeMap::new(),
            settings_file,
            said: Vec::new(),
            looks: JoinSet::new(),
            looking: BTreeMap::new(),
            looked: BTreeMap::new(),
            unreachable: BTreeMap::new(),
        };
        let specs: Vec<&PipelineSpec> = revisions.iter().filter_map(|revision| revision.spec.as_ref().ok()).collect();
        for wanted in reloader.fleet.streams.want(&specs, &names).await {
            wanted?;
        }
        for revision in revisions {
            let taken = wanted(&revision, 1, true);
            reloader.files.insert(revision.name.clone(), Filed { revision, number: 1, taken });
        }
        reloader.fleet.streams.settle().await;
        let mut ordered = Vec::new();
        for (name, Filed { taken, .. }) in &reloader.files {
            if let Some(taken) = taken {
                let order = reloader.fleet.next_order();
                let what = What::Run(taken.clone());
                ordered.push((reloader.fleet.order(order, name, &taken.spec.file, what), order));
            }
        }
        for (pipeline, order) in ordered {
            pipeline.settled(order).await;
        }
        reloader.fleet.look_at_the_absent();
        Ok(reloader)
    }

    /// Serves whoever asks, until nobody can ask any more.
    pub async fn serve(mut self, mut watch: Watch, mut hang_ups: Signal, mut asked: mpsc::Receiver<Request>) {
        let mut again = tokio::time::interval_at(Instant::now() + TRY_AGAIN, TRY_AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.watch(&mut watch);
        loop {
            let mut waiting = Vec::new();
            let by_hand = tokio::select! {
                request = asked.recv() => match request {
                    Some(request) => {
                        waiting.push(request);
                        true
                    }
                    None => return,
                },
                _ = hang_ups.recv() => {
                    tracing::info!("SIGHUP: looking at the files");
                    true
                }
                () = watch.changed() => false,
                _ = again.tick() => {
                    self.fleet.let_go_idle();
                    // Streams that were lent may be closed by now.
                    self.fleet.streams.settle().await;
                    if !self.look_again().await {
                        continue;
                    }
                    false
                }
                Some(looked) = self.looks.join_next() => {
                    self.take_in(looked);
                    false
                }
            };
            while let Ok(request) = asked.try_recv() {
                waiting.push(request);
            }
            if by_hand {
                notify::reloading();
            }
            let reloaded = self.pass(by_hand).await;
            if by_hand {
                notify::ready();
            }
            self.watch(&mut watch);
            for request in waiting {
                // Who has gone does not want to know.
                let _ = request.send(reloaded.clone());
            }
        }
    }

    fn watch(&self, watch: &mut Watch) {
        let inputs = self.files.values().flat_map(|filed| filed.revision.inputs.files());
        watch.watch(inputs.chain(self.settings_file.iter().map(|(path, _)| path.as_path())));
    }

    /// Brings the fleet in line with the files. `by_hand`: what has stopped is started again.
    async fn pass(&mut self, by_hand: bool) -> Reloaded {
        let mut reloaded = Reloaded::default();
        let mut warnings = Problems::new();
        let found = off_async(|| self.loader.find(&self.paths));
        warnings.extend(found.warnings.clone());
        warnings.extend(found.empty.clone());
        for (name, problems) in &found.problems {
            let gone = self.files.iter().any(|(known, filed)| {
                filed.revision.path == Path::new(name) && found.is_removed(known, &filed.revision.path)
            });
            if !gone {
                reloaded.refused.push(Refused { name: name.clone(), problems: problems.to_string() });
            }
        }
        for Refused { name, problems } in reloaded.refused.iter().filter(|refused| !self.said.contains(refused)) {
            tracing::error!(path = name, "what ran before runs on: {}", problems.trim_end());
        }
        self.said.clone_from(&reloaded.refused);
        let removed =
            |(name, filed): (&String, &Filed)| found.is_removed(name, &filed.revision.path).then(|| name.clone());
        let removed: Vec<String> = self.files.iter().filter_map(removed).collect();

        let mut candidates = self.load(&found.files, by_hand, &mut warnings, &mut reloaded);
        self.refuse_disagreeing(&mut candidates, &removed);
        let late = self.prepare(&mut candidates, by_hand, &mut reloaded).await;
        let unchanged = reloaded.unchanged.clone();
        let mut ordered = self.switch(candidates, &removed, &mut reloaded).await;
        ordered.extend(self.start_again(&unchanged, by_hand).await);
        if by_hand {
            let late = self.wait_for(late, &mut reloaded).await;
            ordered.extend(self.switch(late, &[], &mut reloaded).await);
        }
        // What nobody has asked for is of a file that has changed or gone.
        self.looked.clear();

        let settled = async {
            for (pipeline, order) in &ordered {
                pipeline.settled(*order).await;
            }
        };
        if tokio::time::timeout(SWITCH_TIME_MAX, settled).await.is_err() {
            tracing::warn!("not all pipelines have switched yet; they go on");
        }
        self.tell(&mut reloaded);
        if !warnings.is_empty() {
            reloaded.warnings = format!("{warnings}\n{}", reloaded.warnings);
        }
        self.look_at_the_settings(&mut reloaded);
        if !(reloaded.added.is_empty() && removed.is_empty()) {
            self.fleet.look_at_the_absent();
        }
        if !(reloaded.added.is_empty() && reloaded.changed.is_empty() && removed.is_empty()) || by_hand {
            let Reloaded { added, changed, removed, unchanged, refused, .. } = &reloaded;
            let (added, changed, removed) = (added.len(), changed.len(), removed.len());
            tracing::info!(added, changed, removed, unchanged = unchanged.len(), refused = refused.len(), "reloaded");
        }
        reloaded
    }

    /// Loads files that have changed, and those that were refused and may be right by now; answers those that are to run.
    fn load(
        &mut self,
        files: &[(String, PathBuf)],
        by_hand: bool,
        warnings: &mut Problems,
        reloaded: &mut Reloaded,
    ) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (name, path) in files {
            let known = self.files.get(name).filter(|known| known.revision.path == *path);
            let is_new = |known: &Filed| {
                // What was wrong may have been for want of memory or time.
                by_hand && known.revision.spec.is_err() || off_async(|| known.revision.inputs.have_changed())
            };
            if known.is_none_or(is_new) {
                // Modules may have to be compiled: pipelines that run come first.
                let revision = off_async(|| give_way(|| self.loader.load(name, path)));
                if !revision.warnings.is_empty() {
                    tracing::warn!(pipeline = name, "{}", revision.warnings.to_string().trim_end());
                }
                match self.files.get_mut(name) {
                    Some(filed) => filed.revision = revision,
                    None => {
                        self.files.insert(name.clone(), Filed { revision, number: 0, taken: None });
                    }
                }
            }
            let Some(filed) = self.files.get(name) else { continue };
            let hash = filed.revision.inputs.hash();
            let is_taken = filed.taken.as_ref().is_some_and(|taken| taken.hash == hash);
            match &filed.revision.spec {
                _ if is_taken => reloaded.unchanged.push(name.clone()),
                Err(problems) => self.refuse(name, hash, problems.to_string(), false),
                Ok(spec) => {
                    warnings.extend(filed.revision.warnings.clone());
                    let (name, hash, spec) = (name.clone(), hash.to_owned(), spec.clone());
                    candidates.push(Candidate { name, hash, spec, refused: None });
                }
            }
        }
        candidates
    }

    /// Refuses those that say something else about a stream than others that read it.
    fn refuse_disagreeing(&self, candidates: &mut [Candidate], removed: &[String]) {
        let running: Vec<(String, Option<Arc<Wanted>>)> = self
            .files
            .iter()
            .filter(|(name, _)| !removed.contains(name))
            .map(|(name, filed)| (name.clone(), filed.taken.clone()))
            .collect();
        let wants = |name: &str| candidates.iter().find(|of| of.name == name).map(|candidate| &candidate.spec);
        let on_streams: Vec<OnStream<'_>> = running
            .iter()
            .map(|(name, taken)| OnStream {
                name,
                runs: taken.as_ref().and_then(|taken| taken.spec.stream()),
                wants: wants(name),
            })
            .collect();
        for (name, problems) in agree_on_streams(&on_streams) {
            if let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.name == name) {
                candidate.refused = Some(problems.to_string());
            }
        }
    }

    /// All that can fail before anybody is told anything: the sinks, which may take their time, and then the streams.
    /// Answers those whose sink has not answered yet.
    async fn prepare(
        &mut self,
        candidates: &mut Vec<Candidate>,
        by_hand: bool,
        reloaded: &mut Reloaded,
    ) -> Vec<Candidate> {
        for candidate in candidates.iter_mut().filter(|candidate| candidate.refused.is_none()) {
            let told = self.fleet.pipeline(&candidate.name).map(|pipeline| pipeline.told());
            let pending = told.and_then(|told| told.pending).filter(|pending| pending.hash == candidate.hash);
            let is_looked = self.looked.get(&candidate.name).is_some_and(|looked| looked.hash == candidate.hash);
            match pending {
                // It is looked at again at its own times.
                Some(pending)
                    if !by_hand && !is_looked && self.unreachable.get(&candidate.name) == Some(&candidate.hash) =>
                {
                    candidate.refused = Some(pending.problems);
                }
                _ if !is_looked => self.begin_look(&candidate.name, &candidate.hash, &candidate.spec).await,
                _ => {}
            }
        }
        self.await_looks(candidates, LOOK_TIME_MAX).await;
        let is_late = |candidate: &mut Candidate| {
            candidate.refused.is_none() && self.looking.get(&candidate.name) == Some(&candidate.hash)
        };
        let late = candidates.extract_if(.., is_late).collect();
        self.judge(candidates, reloaded).await;
        late
    }

    /// Waits for sinks that take their time, for as long as that may be.
    async fn wait_for(&mut self, mut late: Vec<Candidate>, reloaded: &mut Reloaded) -> Vec<Candidate> {
        self.await_looks(&late, SWITCH_TIME_MAX).await;
        self.judge(&mut late, reloaded).await;
        late
    }

    /// Refuses those whose sink or stream cannot be had.
    async fn judge(&mut self, candidates: &mut [Candidate], reloaded: &mut Reloaded) {
        for candidate in candidates.iter_mut().filter(|candidate| candidate.refused.is_none()) {
            let file = &candidate.spec.file;
            match self.looked.remove(&candidate.name).map(|looked| looked.found) {
                Some(Ok(None)) => {}
                Some(Ok(Some(warning))) => reloaded.warnings += &format!("{file}: warning: {warning}\n"),
                Some(Err(problem)) => candidate.refused = Some(problem),
                None => candidate.refused = Some(format!("{file}: `sink.object_store`: it has not answered yet\n")),
            }
            match candidate.refused {
                Some(_) => _ = self.unreachable.insert(candidate.name.clone(), candidate.hash.clone()),
                None => _ = self.unreachable.remove(&candidate.name),
            }
        }
        let names: BTreeSet<String> = self.files.keys().cloned().chain(self.fleet.names()).collect();
        let mut right: Vec<&mut Candidate> =
            candidates.iter_mut().filter(|candidate| candidate.refused.is_none()).collect();
        let specs: Vec<&PipelineSpec> = right.iter().map(|candidate| &candidate.spec).collect();
        let answers = self.fleet.streams.want(&specs, &names).await;
        for (candidate, answer) in right.iter_mut().zip(answers) {
            if let Err(fault) = answer {
                candidate.refused = Some(format!("{}: {:#}\n", candidate.spec.file, fault.error));
            }
        }
    }

    /// Looks again for those that were refused and that time may mend; answers whether something is known at once.
    async fn look_again(&mut self) -> bool {
        for pipeline in self.fleet.pipelines() {
            let Some(pending) = pipeline.told().pending.filter(|pending| pending.is_tried_again) else { continue };
            let Some(filed) = self.files.get(&pipeline.name) else { continue };
            if let (Ok(spec), true) = (&filed.revision.spec, filed.revision.inputs.hash() == pending.hash) {
                let spec = spec.clone();
                self.begin_look(&pipeline.name, &pending.hash, &spec).await;
            }
        }
        !self.looked.is_empty()
    }

    /// Begins to look at the sink of a revision, unless that is under way. What needs no waiting is known at once.
    async fn begin_look(&mut self, name: &str, hash: &str, spec: &PipelineSpec) {
        if self.looking.get(name).is_some_and(|looking| looking == hash) {
            return;
        }
        let taken = self.files.get(name).and_then(|filed| filed.taken.clone());
        let found = look(self.fleet.clone(), spec.clone(), taken);
        let (name, hash) = (name.to_owned(), hash.to_owned());
        self.looking.insert(name.clone(), hash.clone());
        let mut looking = Box::pin(async move { Looked { name, hash, found: found.await } });
        match futures::poll!(looking.as_mut()) {
            Poll::Ready(looked) => self.take_in(Ok(looked)),
            Poll::Pending => _ = self.looks.spawn(looking),
        }
    }

    fn take_in(&mut self, looked: Result<Looked, JoinError>) {
        match looked {
            Ok(looked) if self.looking.get(&looked.name) == Some(&looked.hash) => {
                self.looking.remove(&looked.name);
                self.looked.insert(looked.name.clone(), looked);
            }
            // The file has changed since.
            Ok(_) => {}
            Err(panic) => {
                tracing::error!(%panic, "a look at a sink was not finished");
                self.looking.clear();
            }
        }
    }

    async fn await_looks(&mut self, candidates: &[Candidate], time_max: Duration) {
        let until = Instant::now() + time_max;
        while candidates.iter().any(|of| of.refused.is_none() && self.looking.get(&of.name) == Some(&of.hash)) {
            match tokio::time::timeout_at(until, self.looks.join_next()).await {
                Ok(Some(looked)) => self.take_in(looked),
                Ok(None) => self.looking.clear(),
                Err(_) => return,
            }
        }
    }

    /// Tells all that are to change, at once; answers whom to wait for.
    async fn switch(
        &mut self,
        candidates: Vec<Candidate>,
        removed: &[String],
        reloaded: &mut Reloaded,
    ) -> Vec<Ordered> {
        let mut goals = Vec::new();
        for Candidate { name, hash, spec, refused } in candidates {
            if let Some(problems) = refused {
                self.refuse(&name, &hash, problems, true);
                continue;
            }
            let Some(filed) = self.files.get_mut(&name) else { continue };
            match filed.taken {
                Some(_) => reloaded.changed.push(name.clone()),
                None => reloaded.added.push(name.clone()),
            }
            filed.number += 1;
            let taken = Arc::new(Wanted { number: filed.number, hash, spec, at_start: false });
            filed.taken = Some(taken.clone());
            goals.push((name, taken));
        }
        // New doors are open before old ones close: a file that was renamed reads the same stream.
        self.fleet.streams.settle().await;
        for name in removed {
            self.unreachable.remove(name);
            if let Some(filed) = self.files.remove(name) {
                reloaded.removed.push(name.clone());
                let order = self.fleet.next_order();
                self.fleet.streams.unwant(order, name, None).await;
                self.fleet.order(order, name, &filed.revision.path.display().to_string(), What::Gone);
            }
        }
        let mut ordered = Vec::new();
        for (name, taken) in goals {
            ordered.push(self.run(&name, taken).await);
        }
        ordered
    }

    /// Of those that have not changed, starts what has stopped again, if that was asked for by hand.
    async fn start_again(&mut self, unchanged: &[String], by_hand: bool) -> Vec<Ordered> {
        let mut ordered = Vec::new();
        for name in unchanged {
            self.looked.remove(name);
            let (Some(filed), Some(pipeline)) = (self.files.get(name), self.fleet.pipeline(name)) else { continue };
            let (Some(taken), told) = (filed.taken.clone(), pipeline.told()) else { continue };
            let fell_back = told.pending.as_ref().is_some_and(|pending| pending.hash == taken.hash);
            if by_hand && (told.state == State::Stopped || fell_back) {
                ordered.push(self.run(name, taken).await);
            } else if !fell_back && told.pending.is_some() {
                pipeline.tell(|told| told.pending = None);
            }
        }
        ordered
    }

    async fn run(&self, name: &str, taken: Arc<Wanted>) -> Ordered {
        let order = self.fleet.next_order();
        self.fleet.streams.unwant(order, name, taken.stream()).await;
        if let Some(pipeline) = self.fleet.pipeline(name) {
            pipeline.tell(|told| told.pending = None);
        }
        (self.fleet.order(order, name, &taken.spec.file, What::Run(taken.clone())), order)
    }

    /// What became of it: who is refused, or cannot start.
    fn tell(&self, reloaded: &mut Reloaded) {
        for (name, filed) in &self.files {
            let Some(told) = self.fleet.pipeline(name).map(|pipeline| pipeline.told()) else { continue };
            let file = filed.revision.path.display();
            let problems = match (&told.pending, told.state, &told.why) {
                (Some(pending), ..) => pending.problems.clone(),
                (None, State::Waiting, Some(why)) => format!("{file}: it cannot start and is tried again: {why}\n"),
                (None, State::Stopped, Some(why)) => format!("{file}: it has stopped: {why}\n"),
                _ => continue,
            };
            for taken in [&mut reloaded.added, &mut reloaded.changed, &mut reloaded.unchanged] {
                taken.retain(|taken| taken != name);
            }
            reloaded.refused.push(Refused { name: name.clone(), problems });
        }
    }

    fn refuse(&self, name: &str, hash: &str, problems: String, is_tried_again: bool) {
        let file = self.files.get(name).map(|filed| filed.revision.path.display().to_string()).unwrap_or_default();
        let pipeline = match self.fleet.pipeline(name) {
            Some(pipeline) => pipeline,
            None => self.fleet.order(self.fleet.next_order(), name, &file, What::Wait),
        };
        let known = pipeline.told().pending.filter(|pending| pending.hash == hash);
        if known.as_ref().is_none_or(|known| known.problems != problems) {
            tracing::error!(pipeline = name, file, "refused, what ran before runs on: {}", problems.trim_end());
        }
        let now_ms = self.fleet.house.ground.clock.now_ms();
        let since_ms = known.map_or(now_ms, |known| known.since_ms);
        let pending = Pending { hash: hash.to_owned(), since_ms, problems, is_tried_again };
        pipeline.tell(|told| told.pending = Some(pending));
    }

    fn look_at_the_settings(&mut self, reloaded: &mut Reloaded) {
        if let Some((path, inputs)) = &mut self.settings_file
            && off_async(|| inputs.have_changed())
        {
            let file = path.display().to_string();
            tracing::warn!(file, "changed: it counts from the next start of hydrant");
            reloaded.warnings += &format!("{file}: warning: changed: it counts from the next start of hydrant\n");
            *inputs = off_async(|| settings_inputs(path));
        }
    }
}

/// Who was told, and what to wait for.
type Ordered = (Arc<Pipeline>, u64);

/// Whether its sink and its source can be had; `Ok` with a warning if that is not clear.
async fn look(fleet: Arc<Fleet>, spec: PipelineSpec, taken: Option<Arc<Wanted>>) -> Result<Option<String>, String> {
    let feeds = |spec: &PipelineSpec| spec.stream().is_some_and(|stream| stream.fed_by == FedBy::Stdin);
    if feeds(&spec) != taken.as_ref().is_some_and(|taken| feeds(&taken.spec)) {
        let hint = "hint: standard input belongs to who reads it when the process starts: restart hydrant";
        return Err(format!("{}: `source.stdin` cannot come or go while hydrant runs\n{hint}\n", spec.file));
    }
    let sink = off_async(|| ObjectSink::open(&spec.sink, fleet.house.ground.random.clone()));
    let sink = sink.map_err(|fault| format!("{}: `sink.object_store`: {:#}\n", spec.file, fault.error))?;
    let store = |spec: &PipelineSpec| (spec.sink.url.clone(), spec.sink.options.clone());
    if taken.is_none_or(|taken| store(&taken.spec) == store(&spec)) {
        return Ok(None);
    }
    match sink.look().await {
        Look::Reached => Ok(None),
        Look::Unclear { message } => Ok(Some(format!("`sink.object_store`: {message}"))),
        Look::Wrong { message, hint } => {
            let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
            Err(format!("{}: `sink.object_store`: {message}\n{hint}", spec.file))
        }
    }
}

/// A file that is to run as it is.
struct Candidate {
    name: String,
    hash: String,
    spec: PipelineSpec,
    refused: Option<String>,
}

fn wanted(revision: &Revision, number: u64, at_start: bool) -> Option<Arc<Wanted>> {
    let spec = revision.spec.as_ref().ok()?.clone();
    Some(Arc::new(Wanted { number, hash: revision.inputs.hash().to_owned(), spec, at_start }))
}

fn settings_inputs(path: &Path) -> Inputs {
    let reads = Reads::new();
    // One that cannot be read now is changed when it can.
    let _ = reads.read(path, SETTINGS_BYTES_MAX);
    reads.finish()
}
