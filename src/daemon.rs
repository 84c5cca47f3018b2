//! The daemon: starts what is configured, keeps it in line with its files, stops it in order.
//!
//! Start: lock the state folder, open the streams with their doors, then what each pipeline has kept, and run. While it
//! runs, files that change start, switch and drain their own pipelines ([`reload`]), and nothing else. Stop: doors first,
//! then the group commits under way, then the pipelines, which keep what they are uploading for a few seconds.

mod build;
mod fleet;
mod kept;
mod lock;
mod notify;
mod reload;
pub mod replay;
mod streams;
mod supervise;
mod view;
mod watch;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::config::{FedBy, Loader, Revision, Settings};
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::metrics::Metrics;
use crate::receive;
use crate::status::view::DoorsView;
use crate::status::{self, Admin};
use crate::units::Size;

use fleet::Fleet;
use lock::StateLock;
use reload::Reloader;
use streams::Streams;
use watch::Watch;

/// How long a stop may take in all.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);
/// Requests for a reload that may wait for the one before; further ones wait outside.
const REQUESTS_MAX: usize = 64;

/// What is to run, and where it was found.
pub struct Found {
    pub loader: Loader,
    /// Files and folders, as named.
    pub paths: Vec<PathBuf>,
    /// The file that the settings came from.
    pub settings_file: Option<PathBuf>,
    /// All pipelines of the paths, none with problems.
    pub revisions: Vec<Revision>,
}

/// What every part of the house uses.
#[derive(Clone)]
struct House {
    ground: Ground,
    budget: Budget,
    metrics: Metrics,
    /// What is wrong with the house itself and stays so, for `/healthz`.
    ills: Arc<Mutex<Vec<String>>>,
    /// Pipelines that are at work on their state.
    at_work: Arc<Mutex<BTreeSet<String>>>,
    /// Once they are open.
    doors: Arc<OnceLock<DoorsView>>,
    /// Whether all pipelines of the start run, or are known not to, and their doors are open.
    ready: Arc<AtomicBool>,
    replaying: replay::Replaying,
}

impl House {
    fn new(settings: &Settings) -> House {
        House {
            ground: Ground::real(),
            budget: Budget::new(usize::try_from(settings.memory_budget_bytes).unwrap_or(usize::MAX)),
            metrics: Metrics::new(),
            ills: Arc::default(),
            at_work: Arc::default(),
            doors: Arc::default(),
            ready: Arc::default(),
            replaying: replay::Replaying::default(),
        }
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn ail(&self, what: String) {
        lock(&self.ills).push(what);
    }

    /// A pipeline is at work on its state from now on; answers whether it was not.
    fn works(&self, pipeline: &str) -> bool {
        lock(&self.at_work).insert(pipeline.to_owned())
    }

    fn rests(&self, pipeline: &str) {
        lock(&self.at_work).remove(pipeline);
    }

    fn at_work(&self) -> BTreeSet<String> {
        lock(&self.at_work).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the pipelines until a signal, or, with `--once`, until all have ended and everything is delivered.
///
/// `onlooker` is called once, when the house stands.
pub async fn run(settings: Settings, found: Found, onlooker: impl FnOnce(Arc<dyn Admin>)) -> Result<(), Fault> {
    let (began, once) = (Instant::now(), settings.once);
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    let hang_ups = listen(SignalKind::hangup())?;
    open_files_as_many_as_allowed();
    let _lock = StateLock::take(&settings.state)?;
    let (house, settings) = (House::new(&settings), Arc::new(settings));
    let (faults, mut faulty) = mpsc::unbounded_channel();
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let streams = Streams::new(&house, &settings, faults.clone(), stop.clone());
    let fleet = Arc::new(Fleet::new(house.clone(), settings.clone(), streams, faults));
    let standing: Arc<dyn Admin> = Arc::new(view::Standing::new(&fleet, requests));
    onlooker(standing.clone());
    if !once {
        serve_admin(&settings, standing.clone(), &stop).await?;
    }
    let Found { loader, paths, settings_file, revisions } = found;
    let stdin = stdin_of(&revisions);
    let watch = Watch::new(&paths);
    let reloader = Reloader::start(fleet.clone(), loader, paths, settings_file, revisions).await?;
    let mut feeding = JoinSet::new();
    if let Some(stream) = stdin.and_then(|name| fleet.streams.get(&name)) {
        let (clock, stop) = (house.ground.clock.clone(), stop.clone());
        feeding.spawn(async move {
            let fed = receive::stdin::run(tokio::io::stdin(), &stream, &clock, stop).await;
            fed.map_err(|error| {
                stream.end();
                Fault::new(Blame::Source, error.to_string())
            })
        });
    }
    let mut failed = faulty.try_recv().ok();
    if !failed.as_ref().is_some_and(Fault::ends_process) {
        house.ready.store(true, Ordering::Release);
        let ready_ms = began.elapsed().as_millis();
        tracing::info!(ready_ms, memory = %Size::from_bytes(settings.memory_budget_bytes), "ready");
        notify::ready();
    }
    if !once {
        let (stop, serving) = (stop.clone(), reloader.serve(watch, hang_ups, asked));
        tokio::spawn(async move { stop.run_until_cancelled(serving).await });
    }
    let mut heart = notify::Heart::of_systemd();

    while !failed.as_ref().is_some_and(Fault::ends_process) {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(fault) = faulty.recv() => failed = most_severe(failed, fault),
            () = heart.due() => heart.beat(standing.clone()),
            Some(Ok(fed)) = feeding.join_next() => match fed {
                Ok(summary) => tracing::info!(summary.records, summary.too_long, "standard input has ended"),
                Err(fault) => {
                    tracing::error!("{:#}: given up", fault.error);
                    house.ail(format!("{:#}", fault.error));
                    failed = most_severe(failed, fault);
                }
            },
            () = fleet.all_ended(), if once && (feeding.is_empty() || failed.is_some()) => break,
        }
    }
    while let Ok(fault) = faulty.try_recv() {
        failed = most_severe(failed, fault);
    }
    let interrupted = stop.is_cancelled();
    notify::stopping();
    stop.cancel();
    shut_down(&fleet, feeding).await;
    match failed {
        Some(fault) if once || fault.ends_process() => Err(fault),
        None if once && interrupted => {
            Err(Fault::new(Blame::Source, "stopped before everything was delivered; the next start goes on"))
        }
        _ => Ok(()),
    }
}

/// The first fault, unless a later one ends the process.
fn most_severe(known: Option<Fault>, fault: Fault) -> Option<Fault> {
    match known {
        Some(known) if known.ends_process() || !fault.ends_process() => Some(known),
        _ => Some(fault),
    }
}

async fn serve_admin(settings: &Settings, admin: Arc<dyn Admin>, stop: &CancellationToken) -> Result<(), Fault> {
    let listener = bind(settings.admin, "--admin").await?;
    let address = listener.local_addr().unwrap_or(settings.admin);
    tracing::info!(%address, "serving the status page, /healthz and /metrics");
    // Nobody waits for it to end: a scrape that is never sent whole must not hold up a stop.
    tokio::spawn(status::serve(listener, status::routes(admin), settings.admin_anonymous, stop.clone()));
    Ok(())
}

/// The stream that standard input feeds: one at the most.
fn stdin_of(revisions: &[Revision]) -> Option<String> {
    let mut streams = revisions.iter().filter_map(|revision| revision.spec.as_ref().ok()?.stream());
    streams.find(|stream| stream.fed_by == FedBy::Stdin).map(|stream| stream.name.clone())
}

/// Doors first, then the group commits under way; the pipelines meanwhile, with what they are uploading.
async fn shut_down(fleet: &Arc<Fleet>, mut feeding: JoinSet<Result<receive::stdin::Summary, Fault>>) {
    let quiet = async {
        let closed = async {
            fleet.streams.served().await;
            while feeding.join_next().await.is_some() {}
            fleet.streams.stop().await;
        };
        tokio::join!(closed, fleet.stop(), fleet.house.replaying.stop());
    };
    if tokio::time::timeout(STOP_TIME_MAX, quiet).await.is_err() {
        tracing::warn!("not everything stopped in time; the next start goes on where it was");
    }
}

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, Fault> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = format!("{address}: {error}\nhint: choose another address with {flag}, such as {flag} 127.0.0.1:0");
        Fault::new(Blame::Config, hint)
    })
}

/// Each connection, followed file, open chunk and promise holds a file; systemd and shells allow more than they give.
fn open_files_as_many_as_allowed() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Fault> {
    signal(kind).map_err(|error| Fault { blame: Blame::Bug, error: error.into() })
}

/// The first signal stops in order, the second at once.
fn stop_on_signals(stop: &CancellationToken) -> Result<(), Fault> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if stop.is_cancelled() {
                tracing::warn!("{name} again: leaving at once; the next start goes on where it was");
                std::process::exit(1);
            }
            tracing::info!("{name}: stopping");
            stop.cancel();
        }
    });
    Ok(())
}
