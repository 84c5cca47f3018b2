//! `hydrant transform`: help for those who write transforms in WebAssembly.

mod build;
pub mod diff;
mod manifest;
mod new;
mod show;
mod templates;
mod test;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Exit, complain};
use crate::config::Environment;
use crate::inputs::Reads;
use crate::transform::wasm::{self, Modules};
use crate::transform::{Making, Transform};

/// Arguments of `hydrant transform`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a folder with a small transform that builds, as a place to start
    #[command(
        after_help = "Example:\n  hydrant transform new redact --lang rust\n  hydrant transform build redact\n  \
                            hydrant transform test redact"
    )]
    New(new::Arguments),
    /// Build the transform in a folder, by the command in its transform.yaml
    #[command(after_help = "Tools and packages that the build needs come from their registries, into the folder.\n\n\
                            Example:\n  hydrant transform build redact")]
    Build {
        /// The folder that `hydrant transform new` has written
        #[arg(value_name = "DIR", default_value = ".")]
        folder: PathBuf,
    },
    /// Run sample records through a transform, and show what becomes of each
    #[command(
        after_help = "Each line of records.ndjson is a record. If records.expected lies beside it, what becomes of them must be \
                            that:\nelse the exit code is 1.\n\n\
                            Examples:\n  hydrant transform test redact\n  \
                            hydrant transform test redact --bless\n  \
                            hydrant transform test redact.wasm --records mine.ndjson --config '{\"fields\": [\"email\"]}'"
    )]
    Test(test::Arguments),
}

/// Does it; what went wrong goes to standard error.
pub fn transform(arguments: Arguments) -> Exit {
    let done = match arguments.command {
        Command::New(arguments) => new::new(arguments),
        Command::Build { folder } => build::build(&folder),
        Command::Test(arguments) => test::test(arguments),
    };
    done.unwrap_or_else(|Ended { exit, words }| {
        complain(words);
        exit
    })
}

/// A command that ended early, and what it says.
#[derive(Debug)]
struct Ended {
    exit: Exit,
    words: String,
}

impl Ended {
    /// Failed, with these words.
    fn failed(words: impl Into<String>) -> Ended {
        Ended { exit: Exit::Failed, words: words.into() }
    }

    /// And what to do.
    fn hint(self, hint: &str) -> Ended {
        Ended { words: format!("{}\nhint: {hint}", self.words), ..self }
    }
}

/// A module as a pipeline loads it, ready for records.
struct Loaded {
    transform: Arc<dyn Transform>,
    module_bytes: u64,
    /// Compiling, unless that was done before, starting and `init` together.
    took: Duration,
}

/// Loads a module by the code that pipelines use.
fn load(module: &Path, config: Option<&Value>) -> Result<Loaded, Ended> {
    let shown = module.display();
    let failed = |why: String| Ended::failed(format!("{shown}: {why}"));
    let module_bytes = std::fs::metadata(module).map_err(|error| failed(error.to_string()))?.len();
    let options = json!({ "module": module, "config": config });
    let options: wasm::Options = serde_json::from_value(options).map_err(|error| failed(error.to_string()))?;
    let modules = Modules::new(cache(&Environment::of_process()));
    let began = Instant::now();
    let making = Making { pipeline: "test", folder: Path::new(""), modules: &modules, reads: &Reads::new() };
    let made = options.make(&making).map_err(|wrong| {
        let ended = failed(wrong.message);
        match wrong.hint {
            Some(hint) => ended.hint(&hint),
            None => ended,
        }
    });
    made.map(|transform| Loaded { transform, module_bytes, took: began.elapsed() })
}

/// The user's own folder for compiled modules: a module of Python takes ten seconds.
fn cache(environment: &Environment) -> Option<PathBuf> {
    let folder = |name| environment.get(name).ok().filter(|path| path.starts_with('/')).map(PathBuf::from);
    let caches = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(caches.join("hydrant/modules"))
}
