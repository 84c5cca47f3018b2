//! The daemon: starts what is configured, keeps it going, stops it in order.
//!
//! Start: lock the state folder, open promises and checkpoints, then the streams they read, then the doors. Stop: doors
//! first, then the group commits under way, then the pipelines, which keep what they are uploading for a few seconds.

mod build;
mod lock;
mod notify;
pub mod replay;
mod view;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::config::{PipelineSpec, Settings};
use crate::error::{Blame, Fault};
use crate::ground::Ground;
use crate::metrics::Metrics;
use crate::pipeline::{self, Way};
use crate::receive;
use crate::spool::Stream;
use crate::status::{self, Admin};
use crate::units::Size;

use lock::StateLock;

/// How long a stop may take in all.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);

/// How often files that transforms were made of are looked at.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// What every part of the house uses.
#[derive(Clone)]
struct House {
    ground: Ground,
    budget: Budget,
    metrics: Metrics,
    /// What is not as it should be, for `/healthz`.
    ills: Arc<Mutex<Vec<String>>>,
}

impl House {
    fn ail(&self, what: String) {
        self.ills.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

/// Runs the pipelines until a signal, or, with `--once`, until all have ended and everything is delivered.
///
/// `onlooker` is called once, when it is known what runs.
pub async fn run(
    settings: Settings,
    specs: Vec<PipelineSpec>,
    onlooker: impl FnOnce(Arc<dyn Admin>),
) -> Result<(), Fault> {
    let began = Instant::now();
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    open_files_as_many_as_allowed();
    let _lock = StateLock::take(&settings.state)?;
    let house = House {
        ground: Ground::real(),
        budget: Budget::new(usize::try_from(settings.memory_budget_bytes).unwrap_or(usize::MAX)),
        metrics: Metrics::new(),
        ills: Arc::default(),
    };
    let began_ms = house.ground.clock.now_ms();
    let built = build::build(&house, &settings, specs).await?;

    let mut serving = JoinSet::new();
    if let Some(doors) = built.doors.clone() {
        receive::check_exposure(settings.listen, &settings.auth(), settings.anonymous)
            .map_err(|problem| Fault::new(Blame::Config, problem))?;
        let listener = bind(settings.listen, "--listen").await?;
        let address = listener.local_addr().unwrap_or(settings.listen);
        tracing::info!(%address, "receiving: the Firehose API, and POST /streams/{{stream}}/records");
        serving.spawn(receive::serve(listener, doors, stop.clone()));
    }
    let standing: Arc<dyn Admin> = Arc::new(view::Standing::new(&house, &built, began_ms, &settings.state));
    onlooker(standing.clone());
    if !settings.once {
        let listener = bind(settings.admin, "--admin").await?;
        let address = listener.local_addr().unwrap_or(settings.admin);
        tracing::info!(%address, "serving /healthz and /metrics");
        tokio::spawn(status::serve(listener, status::routes(standing.clone()), settings.admin_anonymous, stop.clone()));
    }
    let mut feeding = JoinSet::new();
    if let Some(stream) = built.stdin.clone() {
        let (clock, stop) = (house.ground.clock.clone(), stop.clone());
        feeding.spawn(async move {
            let fed = receive::stdin::run(tokio::io::stdin(), &stream, &clock, stop).await;
            fed.map_err(|error| {
                stream.end();
                Fault::new(Blame::Source, error.to_string())
            })
        });
    }
    let mut running = JoinSet::new();
    for (way, _) in built.ways.clone() {
        tracing::info!(pipeline = way.name, sink = way.recipe.sink, state = %settings.state.display(), "running");
        let (house, stop) = (house.clone(), stop.clone());
        running.spawn(async move {
            let name = way.name.clone();
            let ended = pipeline::run(way, stop).await;
            if let Err(fault) = &ended {
                tracing::error!(pipeline = name, error = format!("{:#}", fault.error), "the pipeline has stopped");
                house.ail(format!("pipeline {name} has stopped: {:#}", fault.error));
            }
            ended
        });
    }
    if !settings.once {
        for (way, _) in &built.ways {
            tokio::spawn(renew_transforms(way.clone()));
        }
    }
    let ready_ms = began.elapsed().as_millis();
    tracing::info!(ready_ms, memory = %Size::from_bytes(settings.memory_budget_bytes), "ready");
    notify::ready();

    let mut failed = None;
    while !(settings.once && running.is_empty() && (feeding.is_empty() || failed.is_some())) {
        tokio::select! {
            () = stop.cancelled() => break,
            fault = build::first_failure(&built.streams) => {
                failed = Some(fault);
                break;
            }
            Some(Ok(fed)) = feeding.join_next() => match fed {
                Ok(summary) => tracing::info!(summary.records, summary.too_long, "standard input has ended"),
                Err(fault) => {
                    tracing::error!("{:#}: given up", fault.error);
                    house.ail(format!("{:#}", fault.error));
                    failed = failed.or(Some(fault));
                }
            },
            Some(ended) = running.join_next() => match pipeline::finished(ended) {
                Ok(()) => {}
                // A foreign object: the other pipelines go on.
                Err(fault) if !fault.ends_process() => failed = failed.or(Some(fault)),
                Err(fault) => {
                    failed = Some(fault);
                    break;
                }
            },
        }
    }
    let interrupted = stop.is_cancelled();
    notify::stopping();
    stop.cancel();
    shut_down(&built.streams, serving, feeding, running).await;
    match failed {
        Some(fault) if settings.once || fault.ends_process() => Err(fault),
        None if settings.once && interrupted => {
            Err(Fault::new(Blame::Source, "stopped before everything was delivered; the next start goes on"))
        }
        _ => Ok(()),
    }
}

/// Looks for changed modules of a pipeline, for ever.
async fn renew_transforms(way: Arc<Way>) {
    loop {
        tokio::time::sleep(RENEW_INTERVAL).await;
        let renewing = way.clone();
        // Compiling takes seconds, and must not hold up whoever is in a hurry.
        if let Err(panic) = tokio::task::spawn_blocking(move || renewing.transforms.renew()).await {
            tracing::error!(pipeline = way.name, error = %panic, "changed modules cannot be looked at now");
        }
    }
}

/// Doors first, then the group commits under way, then the pipelines with what they are uploading.
async fn shut_down(
    streams: &[Stream],
    mut serving: JoinSet<()>,
    mut feeding: JoinSet<Result<receive::stdin::Summary, Fault>>,
    mut running: JoinSet<Result<(), Fault>>,
) {
    let quiet = async {
        while serving.join_next().await.is_some() {}
        while feeding.join_next().await.is_some() {}
        futures::future::join_all(streams.iter().map(Stream::stop)).await;
        while running.join_next().await.is_some() {}
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

/// The first signal stops in order, the second at once.
fn stop_on_signals(stop: &CancellationToken) -> Result<(), Fault> {
    let listen = |kind| signal(kind).map_err(|error| Fault { blame: Blame::Bug, error: error.into() });
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
