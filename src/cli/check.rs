//! `hydrant check`: everything that can be known about pipelines without running them.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, complain, say};
use crate::config::{self, Environment, Flags, Problems};
use crate::transform::wasm::Modules;

/// Arguments of `hydrant check`.
#[derive(Debug, Args)]
#[command(after_help = "Opens no port and writes nothing. Secrets are looked up and never printed.\n\n\
                        Example:\n  hydrant check pipelines/clickstream.yaml more-pipelines/")]
pub struct Arguments {
    /// Pipeline files, and folders of them (`*.yaml`, `*.yml`)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Also check this file of daemon-wide settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    for pipeline in pipelines {
        say(pipeline);
    }
    Exit::Done
}
