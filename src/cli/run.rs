//! `hydrant run`: parses, and hands over to [`crate::daemon`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::progress::Progress;
use super::{Exit, complain, log};
use crate::config::{self, Environment, Flags, Loader, LogFormat, Place, Problems};
use crate::daemon;
use crate::error::Blame;
use crate::transform::wasm::Modules;
use crate::units::Size;

/// Arguments of `hydrant run`.
#[derive(Debug, Args)]
#[command(after_help = "Flags win over the file of --config.\n\n\
                        Example:\n  hydrant run pipelines/ --state /var/lib/hydrant --listen 127.0.0.1:4573")]
pub struct Arguments {
    /// Pipeline files, and folders of them (`*.yaml`, `*.yml`)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where spools, outboxes and checkpoints lie [default: $STATE_DIRECTORY, else ./data/state]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where data is received [default: 127.0.0.1:4573]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where the page, health and metrics are served, and commands are answered [default: 127.0.0.1:4574]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Stop when all sources have ended and all is delivered
    #[arg(long)]
    once: bool,
    /// Budget for bytes in flight, all pipelines together [default: 512 MiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Let anybody send who can reach the address
    #[arg(long)]
    anonymous: bool,
    /// A file of daemon-wide settings (hydrant.yaml): these flags, and credentials
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to log [default: json under systemd, else text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    log: Option<Format>,
    /// What to log, such as `debug` or `hydrant=debug` [default: $RUST_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// How long work may go on that nobody waits for any more.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(1);

/// Without a pipeline a daemon waits for the first; who does its work once would have done none, and think it done.
fn nothing_to_do(paths: &[PathBuf]) -> Problems {
    let mut problems = Problems::new();
    for path in paths {
        let hint = Some("a pipeline is a file `NAME.yaml` or `NAME.yml`; --once does not wait for one".to_owned());
        problems.push(Place::file(path.display().to_string()), "the folder holds no pipeline", hint);
    }
    problems
}

/// Runs until told to stop. The configuration is judged as a whole before anything starts.
pub fn run(arguments: Arguments) -> Exit {
    let environment = Environment::of_process();
    let Arguments { paths, state, listen, admin, once, memory, anonymous, config, log, log_level } = arguments;
    let log = log.map(|format| match format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    });
    let flags = Flags { config, state, listen, admin, memory, anonymous, once, log, log_level };
    let settings_file = flags.config.clone();
    let settings = config::settings(flags, &environment);
    let progress = if once { Progress::where_seen() } else { None };
    // Modules are compiled while pipelines are loaded, which a log tells.
    if let Ok((settings, _)) = &settings
        && let Err(why) = log::start(&settings.log, &environment, progress.as_ref().map(Progress::bars))
    {
        complain(why);
        return Exit::Usage;
    }
    let cache = settings.as_ref().ok().map(|(settings, _)| settings.state.join("modules"));
    let loader = Loader::new(environment.clone(), Modules::new(cache), settings_file.clone());
    let loaded = loader.load_all(&paths).and_then(|(revisions, warnings)| match once && revisions.is_empty() {
        true => Err(nothing_to_do(&paths)),
        false => Ok((revisions, warnings)),
    });
    let ((settings, mut warnings), (revisions, of_pipelines)) = match (settings, loaded) {
        (Ok(settings), Ok(loaded)) => (settings, loaded),
        (settings, loaded) => {
            let mut problems = Problems::new();
            problems.extend(settings.err().unwrap_or_default());
            problems.extend(loaded.err().unwrap_or_default());
            complain(problems);
            return Exit::Config;
        }
    };
    warnings.extend(of_pipelines);
    if !warnings.is_empty() {
        complain(warnings);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format!("the threads cannot be started: {error}"));
            return Exit::Failed;
        }
    };
    let mut bar = None;
    let onlooker = |admin| bar = progress.as_ref().map(|progress| progress.follow(admin));
    let found = daemon::Found { loader, paths, settings_file, revisions };
    let ended = runtime.block_on(daemon::run(settings, found, onlooker));
    if let Some(bar) = bar {
        bar.end();
    }
    // A read of a pipe that stays open cannot be called off, and would be waited for without end.
    runtime.shutdown_timeout(LEAVE_TIME_MAX);
    match ended {
        Ok(()) => Exit::Done,
        Err(fault) => {
            tracing::error!("{:#}", fault.error);
            match fault.blame {
                Blame::Config => Exit::Config,
                _ => Exit::Failed,
            }
        }
    }
}
