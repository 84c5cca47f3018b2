//! `hydrant audit`: proves from names and sizes that the ranges of every shard tile, without a gap and without an overlap.
//!
//! What it can tell: records delivered twice under other ranges, ranges that nothing covers, objects without a byte, parts that
//! are missing in front of others. What it cannot: whether an object of the right name and a wrong content is there, or that
//! one of several prefixes of a chunk is gone while another is there. A chunk of which transforms dropped every record leaves
//! no object, so a gap may be right; `--dropped-ok` says that it is.

mod ranges;
mod report;
mod state;
mod survey;

use std::path::{Path, PathBuf};

use clap::Args;

use super::paint::{plain, plain_json};
use super::{Exit, complain, say};
use crate::config::{self, Environment};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::ground::Random;
use crate::sink::{ObjectSink, Options};
use crate::transform::wasm::Modules;

use report::{Report, States};
use survey::Survey;

/// Arguments of `hydrant audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Writes nothing, anywhere; a daemon may run meanwhile. Exit codes: 0 proved, 1 a finding, or the store \
                        cannot be listed, 78 wrong configuration.\n\n\
                        Examples:\n  hydrant audit --pipeline pipelines/clickstream.yaml --state /var/lib/hydrant\n  \
                        hydrant audit s3://lake/clickstream/"
)]
pub struct Arguments {
    /// Where the objects are: a URL as a sink has it, or a folder; credentials come from the environment
    #[arg(value_name = "URL", required_unless_present = "pipeline", conflicts_with = "pipeline")]
    url: Option<String>,
    /// Take the place, its options and the pipeline's name from this pipeline file
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// Look only at the objects of this pipeline
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Compare with checkpoint and outbox in this state folder (only reads; its daemon may run)
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Gaps are no findings: transforms drop records
    #[arg(long)]
    dropped_ok: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Lists, judges and prints.
pub fn audit(arguments: Arguments) -> Exit {
    let (options, of_file) = match place(&arguments) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format!("the threads cannot be started: {error}"));
            return Exit::Failed;
        }
    };
    let judged =
        runtime.block_on(judge(&options, of_file.or(arguments.only), arguments.state.as_deref(), arguments.dropped_ok));
    match judged {
        Ok(report) => {
            match arguments.json {
                true => say(plain_json(&serde_json::to_string_pretty(&report).unwrap_or_default())),
                false => say(plain(&report.to_string())),
            }
            if report.proved { Exit::Done } else { Exit::Failed }
        }
        Err(fault) => {
            complain(format!("{:#}", fault.error));
            if fault.blame == Blame::Config { Exit::Config } else { Exit::Failed }
        }
    }
}

/// Where to look, and at which pipeline if a file says so.
fn place(arguments: &Arguments) -> Result<(Options, Option<String>), Exit> {
    let Some(file) = &arguments.pipeline else {
        return Ok((Options::at(arguments.url.clone().unwrap_or_default()), None));
    };
    let loaded = config::load(std::slice::from_ref(file), None, &Environment::of_process(), &Modules::default());
    let pipelines = match loaded {
        Ok(loaded) => loaded.pipelines,
        Err(problems) => {
            complain(problems);
            return Err(Exit::Config);
        }
    };
    match <[_; 1]>::try_from(pipelines) {
        Ok([spec]) => Ok((spec.sink, Some(spec.name))),
        Err(several) => {
            complain(format!("{}: {} pipelines where one is wanted", file.display(), several.len()));
            Err(Exit::Config)
        }
    }
}

async fn judge(
    options: &Options,
    only: Option<String>,
    state: Option<&Path>,
    dropped_ok: bool,
) -> Result<Report, Fault> {
    let sink = ObjectSink::open_to_read(options, Random::real())?;
    if let Some(state) = state.filter(|state| !state.join("pipelines").is_dir()) {
        return Err(Fault::new(Blame::Config, format!("{}: no state folder: it has no `pipelines`", state.display())));
    }
    // What the checkpoint has passed before the listing must lie in it.
    let before = match state {
        Some(state) => looks(state, only.as_deref())?,
        None => Vec::new(),
    };
    let mut survey = Survey::of(only);
    sink.list("", &mut |listed| survey.see(listed)).await?;
    let survey = survey.finish();
    let (mut states, mut absent) = (Vec::new(), Vec::new());
    for (pipeline, before) in before {
        // A folder of a pipeline that writes elsewhere says nothing about this place.
        let here = survey.shards.keys().any(|(of, _)| *of == pipeline) || survey.is_only(&pipeline);
        if let (true, Some(state)) = (here, state) {
            let after = off_async(|| state::look(state, &pipeline))?;
            states.push((pipeline, States { before, after }));
        } else if before.checkpoint.values().any(|at| *at > 0.into()) {
            absent.push(pipeline);
        }
    }
    let url = sink.location("");
    let mut report = Report::of(url.trim_end_matches('/').to_owned(), survey, &states, dropped_ok);
    if !absent.is_empty() {
        let names = absent.join(", ");
        report.notes.push(format!("nothing lies here of what the state folder has delivered for {names}: not judged"));
    }
    Ok(report)
}

fn looks(state: &Path, only: Option<&str>) -> Result<Vec<(String, state::OfState)>, Fault> {
    let names = match only {
        Some(only) => vec![only.to_owned()],
        None => {
            let entries = std::fs::read_dir(state.join("pipelines")).map_err(Fault::disk)?;
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<std::io::Result<_>>().map_err(Fault::disk)?
        }
    };
    names.into_iter().map(|name| Ok((name.clone(), off_async(|| state::look(state, &name))?))).collect()
}
