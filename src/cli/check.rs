//! `hydrant check`: everything that can be known about pipelines without running them.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures::{StreamExt, stream};

use super::{Exit, complain, say};
use crate::config::{self, Environment, Flags, PipelineSpec, Problems, SourceSpec};
use crate::ground::Random;
use crate::sink::{self, Look, ObjectSink};
use crate::source::kafka;
use crate::transform::wasm::Modules;

/// How long a sink may take to create, read and remove an object.
const PROBE_TIME_MAX: Duration = Duration::from_secs(30);
/// Pipelines whose sinks and brokers are asked at a time.
const PIPELINES_AT_ONCE: usize = 8;

/// Arguments of `hydrant check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Opens no port and writes nothing, but with --connect an object in each sink, which it removes again; of \
                        Kafka it only reads, and joins no group. Secrets are looked up and never printed.\n\n\
                        Examples:\n  hydrant check pipelines/clickstream.yaml more-pipelines/\n  \
                        hydrant check --connect --config /etc/hydrant/hydrant.yaml /etc/hydrant/pipelines"
)]
pub struct Arguments {
    /// Pipeline files, and folders of them (`*.yaml`, `*.yml`)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Also check this file of daemon-wide settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also ask each sink whether it is there and lets us in: an object is created below `_hydrant/probe/`, and removed; and
    /// Kafka's brokers whether they let us in and have the topics
    #[arg(long)]
    connect: bool,
}

/// Checks, and prints one line per pipeline; or every problem, to standard error.
pub fn check(arguments: Arguments) -> Exit {
    let environment = Environment::of_process();
    let settings = arguments.config.clone().map(|file| {
        let flags = Flags { config: Some(file), ..Flags::default() };
        config::settings(flags, &environment)
    });
    let mut problems = Problems::new();
    let mut warnings = Problems::new();
    match settings {
        None => {}
        Some(Ok((_, of_settings))) => warnings.extend(of_settings),
        Some(Err(of_settings)) => problems.extend(of_settings),
    }
    let pipelines = match config::load(&arguments.paths, arguments.config.as_deref(), &environment, &Modules::default())
    {
        Ok(loaded) => {
            warnings.extend(loaded.warnings);
            loaded.pipelines
        }
        Err(of_pipelines) => {
            problems.extend(of_pipelines);
            Vec::new()
        }
    };
    if !problems.is_empty() {
        complain(problems);
        return Exit::Config;
    }
    if !warnings.is_empty() {
        complain(warnings);
    }
    if arguments.connect {
        return connect(&pipelines);
    }
    for pipeline in pipelines {
        say(pipeline);
    }
    Exit::Done
}

/// Asks each sink and the brokers, and prints one line per pipeline.
fn connect(pipelines: &[PipelineSpec]) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(error);
            return Exit::Failed;
        }
    };
    // In their order, some at a time.
    let asked = stream::iter(pipelines).map(ask_all).buffered(PIPELINES_AT_ONCE).collect::<Vec<_>>();
    let mut exit = Exit::Done;
    for (pipeline, (of_sink, of_brokers)) in pipelines.iter().zip(runtime.block_on(asked)) {
        let PipelineSpec { file, drawn, .. } = pipeline;
        let kafka::Seen { mut notes, warnings, wrong } = of_brokers;
        for warning in warnings {
            complain(format_args!("{file}: warning: {}: {warning}", drawn.source));
        }
        let mut wrong: Vec<String> = wrong.iter().map(|wrong| format!("{}: {wrong}", drawn.source)).collect();
        match of_sink {
            Ok(note) => notes.insert(0, note.to_owned()),
            Err(why) => wrong.push(format!("{}: {}", drawn.sink, why.trim_end())),
        }
        for wrong in &wrong {
            complain(format_args!("{file}: {wrong}"));
        }
        match wrong.is_empty() {
            true => say(format_args!("{pipeline}: {}", notes.join("; "))),
            false => exit = Exit::Config,
        }
    }
    exit
}

/// What a pipeline's sink answers, and Kafka's brokers, if its records come from there.
async fn ask_all(pipeline: &PipelineSpec) -> (Result<&'static str, String>, kafka::Seen) {
    let brokers = async {
        let SourceSpec::Kafka(options) = &pipeline.source else { return kafka::Seen::default() };
        let (options, name, interval) = (options.clone(), pipeline.name.clone(), pipeline.limits.interval);
        let looked = tokio::task::spawn_blocking(move || options.look(&name, interval)).await;
        looked.unwrap_or_else(|error| kafka::Seen { wrong: vec![error.to_string()], ..kafka::Seen::default() })
    };
    tokio::join!(ask(&pipeline.sink), brokers)
}

/// What a sink answers; an error if nothing can be put there.
async fn ask(options: &sink::Options) -> Result<&'static str, String> {
    let sink = ObjectSink::open(options, Random::real()).map_err(|fault| format!("{:#}", fault.error))?;
    // The look tells what is wrong in better words, and leaves nothing behind.
    if let Look::Wrong { message, hint } = sink.look().await {
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        return Err(format!("{message}{hint}"));
    }
    match tokio::time::timeout(PROBE_TIME_MAX, sink.probe()).await {
        Err(_) => Err(format!("no answer within {} s", PROBE_TIME_MAX.as_secs())),
        Ok(Ok(true)) => Ok("the sink takes objects"),
        Ok(Ok(false)) => Ok("the sink takes objects, and cannot refuse to overwrite: hydrant looks before each put"),
        Ok(Err(wrong)) => Err(wrong),
    }
}
