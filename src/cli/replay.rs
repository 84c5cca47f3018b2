//! `hydrant replay`: asks the daemon to replay, or does it alone, and says how it goes.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::client::{Daemon, Unanswered};
use super::paint::plain;
use super::{Exit, complain, log, say};
use crate::config::{self, Environment, Flags, Settings};
use crate::daemon::replay;
use crate::ground::Clock;
use crate::source::replay::Class;
use crate::status::replay::{Ask, Errors, Records, Said, Summary, What};
use crate::transform::wasm::Modules;
use crate::units::Interval;

/// Arguments of `hydrant replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each record is delivered once, however often this is called or killed: a second call goes on, or says that \
                        nothing is left. Records go through the pipeline as it is now, with their original time of arrival. \
                        Exit codes: 0 all is delivered, 1 not, or some lines could not be read, 78 what was asked for \
                        cannot be.\n\n\
                        Examples:\n  hydrant replay pipelines/clickstream.yaml --errors --dry-run\n  \
                        hydrant replay pipelines/clickstream.yaml --errors --reason format-conversion-failed\n  \
                        hydrant replay pipelines/clickstream.yaml --since 2h"
)]
pub struct Arguments {
    /// The pipeline's file
    #[arg(value_name = "PIPELINE_FILE")]
    pipeline: PathBuf,
    /// Replay the records of error objects, as far as they were not before
    #[arg(long, conflicts_with_all = ["from", "to", "again"])]
    errors: bool,
    /// Of the error objects: those whose names below the sink's URL begin so, Firehose's own too [default: as the pipeline's
    /// error prefix begins]
    #[arg(long, requires = "errors", value_name = "PREFIX")]
    prefix: Option<String>,
    /// Of the error objects: records set aside for this reason [default: any]
    #[arg(long, requires = "errors", value_name = "REASON", value_enum)]
    reason: Vec<Reason>,
    /// Of the error objects: not those that a replay has made
    #[arg(long, requires = "errors")]
    not_replayed: bool,
    /// Error objects that the store got since then, or records that arrived since then: `2h`, or a time such as
    /// `2026-11-20T08:00:00Z`
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    since: Option<String>,
    /// Error objects that the store got before that
    #[arg(long, requires = "errors", value_name = "TIME")]
    until: Option<String>,
    /// Replay the records of the pipeline's stream from this number on, as far as it still holds them
    #[arg(long, value_name = "NUMBER")]
    from: Option<u64>,
    /// Only up to this number, which is not among them [default: the end of now]
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    /// Records that were replayed before, once more
    #[arg(long)]
    again: bool,
    /// Only say what would be replayed
    #[arg(long)]
    dry_run: bool,
    /// Do it without a daemon, in this state folder; one that runs on it is to be stopped first
    #[arg(long, value_name = "DIR", conflicts_with = "admin")]
    state: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Firehose's names.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Reason {
    #[value(name = "processing-failed")]
    Processing,
    #[value(name = "format-conversion-failed")]
    FormatConversion,
    #[value(name = "metadata-extraction-failed")]
    MetadataExtraction,
}

impl From<Reason> for Class {
    fn from(reason: Reason) -> Class {
        match reason {
            Reason::Processing => Class::ProcessingFailed,
            Reason::FormatConversion => Class::FormatConversionFailed,
            Reason::MetadataExtraction => Class::MetadataExtractionFailed,
        }
    }
}

/// Replays, and prints what happened.
pub fn replay(arguments: Arguments) -> Exit {
    let ask = match ask(&arguments) {
        Ok(ask) => ask,
        Err(wrong) => {
            complain(wrong);
            return Exit::Usage;
        }
    };
    match &arguments.state {
        Some(state) => alone(&arguments.pipeline, state, &ask),
        None => by_daemon(&arguments.daemon, &ask).unwrap_or_else(|why| {
            complain(why);
            complain("hint: without a daemon, name its state folder with --state");
            Exit::Failed
        }),
    }
}

fn ask(arguments: &Arguments) -> Result<Ask, String> {
    let Arguments { errors, prefix, reason, not_replayed, since, until, from, to, again, dry_run, .. } = arguments;
    let name = arguments.pipeline.file_stem().and_then(|name| name.to_str());
    let pipeline = name.ok_or_else(|| format!("{}: no pipeline file", arguments.pipeline.display()))?.to_owned();
    let since_ms = since.as_deref().map(moment).transpose().map_err(|wrong| format!("--since: {wrong}"))?;
    let until_ms = until.as_deref().map(moment).transpose().map_err(|wrong| format!("--until: {wrong}"))?;
    let what = match errors {
        true => What::Errors(Errors {
            prefix: prefix.clone(),
            since_ms,
            until_ms,
            reasons: reason.iter().map(|reason| (*reason).into()).collect(),
            not_replayed: *not_replayed,
        }),
        false if from.is_none() && since.is_none() => {
            return Err("what is to be replayed? Say --errors, --from NUMBER or --since TIME".to_owned());
        }
        false => What::Records(Records { from: *from, since_ms, to: *to, again: *again }),
    };
    Ok(Ask { pipeline, what, dry_run: *dry_run })
}

/// `2h` ago, or a time; in Unix milliseconds.
fn moment(text: &str) -> Result<i64, String> {
    if let Ok(ago) = text.parse::<Interval>() {
        return Ok(Clock::real().now_ms().saturating_sub(i64::try_from(ago.millis()).unwrap_or(i64::MAX)));
    }
    let expected = || format!("expected `2h` or `2026-11-20T08:00:00Z`, found `{text}`");
    Ok(text.parse::<Timestamp>().map_err(|_| expected())?.as_millisecond())
}

fn by_daemon(daemon: &Daemon, ask: &Ask) -> Result<Exit, Unanswered> {
    let mut telling = Telling::new(ask.dry_run);
    let body = serde_json::to_vec(ask).unwrap_or_default();
    let refused = daemon.client()?.post_for_lines("/api/replay", body, |line| {
        match serde_json::from_slice(line) {
            Ok(said) => telling.tell(&said),
            Err(error) => complain(format!("what the daemon says cannot be read: {error}")),
        }
        ControlFlow::Continue(())
    })?;
    match refused {
        Some(answer) => Err(answer.refused()),
        None => Ok(telling.exit()),
    }
}

fn alone(file: &Path, state: &Path, ask: &Ask) -> Exit {
    let environment = Environment::of_process();
    let flags = Flags { state: Some(state.to_owned()), ..Flags::default() };
    let settings: Settings = match config::settings(flags, &environment) {
        Ok((settings, _)) => settings,
        Err(problems) => {
            complain(problems);
            return Exit::Config;
        }
    };
    let loaded = config::load(&[file.to_owned()], None, &environment, &Modules::new(Some(state.join("modules"))));
    let spec = match loaded.map(|loaded| <[_; 1]>::try_from(loaded.pipelines)) {
        Ok(Ok([spec])) => spec,
        Ok(Err(several)) => {
            complain(format!("{}: {} pipelines where one is wanted", file.display(), several.len()));
            return Exit::Config;
        }
        Err(problems) => {
            complain(problems);
            return Exit::Config;
        }
    };
    if let Err(why) = log::start(&settings.log, &environment, None) {
        complain(why);
        return Exit::Usage;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format!("the threads cannot be started: {error}"));
            return Exit::Failed;
        }
    };
    let mut telling = Telling::new(ask.dry_run);
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let (saying, mut hearing) = mpsc::unbounded_channel();
        let (ask, stopped, settings) = (ask.clone(), stop.clone(), Arc::new(settings));
        tokio::spawn(async move { replay::alone(&settings, spec, &ask, &saying, stopped).await });
        loop {
            tokio::select! {
                said = hearing.recv() => match said {
                    Some(said) => telling.tell(&said),
                    None => return,
                },
                Ok(()) = tokio::signal::ctrl_c() => stop.cancel(),
            }
        }
    });
    telling.exit()
}

/// Prints what is said: progress to standard error, the end to standard output.
struct Telling {
    dry_run: bool,
    planned: u64,
    exit: Option<Exit>,
}

impl Telling {
    fn new(dry_run: bool) -> Telling {
        Telling { dry_run, planned: 0, exit: None }
    }

    fn tell(&mut self, said: &Said) {
        match said {
            Said::GoesOn => complain("an earlier replay is not finished: going on with it"),
            Said::Planned { objects: 0, amount } => complain(format!("{amount} records to replay")),
            Said::Planned { objects, amount } => complain(format!("{objects} error objects to replay, {amount} bytes")),
            Said::Progress { done, amount } if self.planned != *done => {
                self.planned = *done;
                complain(format!("delivered {done} of {amount}"));
            }
            Said::Progress { .. } => {}
            Said::Note { text } => complain(format!("note: {}", plain(text))),
            Said::Failed { message, config } => {
                complain(plain(message));
                self.exit = Some(if *config { Exit::Config } else { Exit::Failed });
            }
            Said::Ended(summary) => {
                say(words(summary, self.dry_run));
                let whole = !summary.stopped && summary.gone == 0 && summary.unreadable == 0;
                self.exit = Some(if whole || self.dry_run { Exit::Done } else { Exit::Failed });
            }
        }
    }

    fn exit(self) -> Exit {
        self.exit.unwrap_or_else(|| {
            complain("the daemon broke off; the same command goes on where it was");
            Exit::Failed
        })
    }
}

fn words(summary: &Summary, dry_run: bool) -> String {
    let Summary { records, delivered, rejected, dropped, objects, error_objects, .. } = summary;
    let mut text = match dry_run {
        _ if summary.nothing_left => "nothing left to replay".to_owned(),
        true => format!("would replay {records} records"),
        false => format!(
            "replayed {records} records: {delivered} rows delivered, {rejected} rejected again, {dropped} dropped, \
             {objects} objects"
        ),
    };
    if *error_objects > 0 {
        text.push_str(&format!(", from {error_objects} error objects"));
    }
    for (reason, count) in &summary.by_reason {
        text.push_str(&format!("\n  {reason}: {count}"));
    }
    let mut tell = |count: u64, what: &str| {
        if count > 0 {
            text.push_str(&format!("\n  {count} {what}"));
        }
    };
    tell(summary.unreadable, "lines that cannot be read: set aside in error objects, with the place of each");
    tell(summary.left_alone, "lines left alone: set aside for another reason, or unreadable before");
    tell(summary.gone, "error objects that are not there any more, or not as they were");
    if summary.stopped {
        text.push_str("\nstopped before the end: the same command goes on");
    }
    text
}
