//! Configuration: from YAML as it is written to pipelines as they will run.
//!
//! ```text
//! files -> yaml -> tree -> environment -> read (serde) -> written::Pipeline -> plan -> PipelineSpec
//!                   '----- places for whatever is wrong, found in any of the steps -----'
//! ```
//! The promise: every problem is found at once, each with file, line and column, and what comes out has none. Relative
//! paths and globs in a pipeline are relative to the current folder, except that of a schema: it is part of what is
//! configured, and relative to the pipeline's file.

mod de;
mod environment;
mod files;
mod flaw;
mod plan;
mod problem;
mod read;
mod schema_file;
mod settings;
mod stand_in;
mod stations;
mod tree;
mod written;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use environment::Environment;
pub use plan::{Drawn, FedBy, PipelineSpec, SourceSpec, StreamSpec};
pub use problem::{Place, Problem, Problems};
pub use settings::{ADMIN_DEFAULT, Credential, Flags, Log, LogFormat, Settings, settings};

use serde::de::DeserializeOwned;

use crate::transform::wasm::Modules;
use problem::Written;
use tree::Tree;

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// In the order of the paths, folders sorted by name.
    pub pipelines: Vec<PipelineSpec>,
    /// What works and had better be written otherwise.
    pub warnings: Problems,
}

/// Loads the pipelines of files and folders; else everything that is wrong with all of them. `settings_file` was passed as
/// such, so that it may lie among them. Blocks on reading files; opens no socket and writes nothing.
pub fn load(
    paths: &[PathBuf],
    settings_file: Option<&Path>,
    environment: &Environment,
    modules: &Modules,
) -> Result<Loaded, Problems> {
    let (mut problems, mut warnings) = (Problems::new(), Problems::new());
    let mut loaded: Vec<(PipelineSpec, Tree)> = Vec::new();
    for (name, path) in files::find(paths, settings_file, &mut problems, &mut warnings) {
        // The limit of kept problems is per file.
        let mut of_file = Problems::new();
        let written = files::read(&path, &mut of_file);
        loaded.extend(
            written.and_then(|written| pipeline(&name, written, (environment, modules), &mut of_file, &mut warnings)),
        );
        problems.extend(of_file);
    }
    agree_on_streams(&loaded, &mut problems);
    let pipelines = loaded.into_iter().map(|(spec, _)| spec).collect();
    problems.or(Some(Loaded { pipelines, warnings }))
}

/// Loads one pipeline from its text; `path` is for messages.
pub fn load_text(name: &str, path: &str, text: &str, environment: &Environment) -> Result<PipelineSpec, Problems> {
    let mut problems = Problems::new();
    let written = Arc::new(Written::new(path, text));
    let with = (environment, &Modules::default());
    let loaded = pipeline(name, written, with, &mut problems, &mut Problems::new());
    problems.or(loaded.map(|(spec, _)| spec))
}

/// Reads another YAML file, with the same care for what is wrong with it; `${NAME}` stands for itself. Blocks.
pub fn file<T: DeserializeOwned>(path: &Path) -> Result<T, Problems> {
    let mut problems = Problems::new();
    let tree = files::read(path, &mut problems).and_then(|written| yaml::parse(written, &mut problems));
    let value = tree.and_then(|mut tree| read::read(&mut tree, &Environment::of([]), &[], &mut problems).value);
    problems.or(value)
}

fn pipeline(
    name: &str,
    written: Arc<Written>,
    (environment, modules): (&Environment, &Modules),
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Option<(PipelineSpec, Tree)> {
    let mut tree = yaml::parse(written, problems)?;
    environment::resolve(&mut tree, environment, problems);
    let reading = read::read(&mut tree, environment, written::LATER, problems);
    warn_of_literal_secrets(reading.literal_secrets, warnings);
    let spec = plan::assemble(name, reading.value?, &tree, modules, problems, warnings)?;
    Some((spec, tree))
}

fn warn_of_literal_secrets(places: Vec<Place>, warnings: &mut Problems) {
    for place in places {
        let hint = Some("write `env:NAME`, `file:/path` or `cred:name` (a systemd credential)".into());
        warnings.push(place, "warning: a secret stands in the file itself", hint);
    }
}

/// Pipelines that read the same stream share its spool, and so must say the same about it.
fn agree_on_streams(loaded: &[(PipelineSpec, Tree)], problems: &mut Problems) {
    let mut first_of: BTreeMap<&str, (&PipelineSpec, &StreamSpec)> = BTreeMap::new();
    for (spec, tree) in loaded {
        let SourceSpec::Stream(stream) = &spec.source else { continue };
        let (first_spec, first) = *first_of.entry(&stream.name).or_insert((spec, stream));
        let agrees = first.spool_bytes_max == stream.spool_bytes_max && first.once_window == stream.once_window;
        if !agrees && tree.is_sound(&["source"]) {
            let message = format!("the stream `{}` has another `spool` in pipeline `{}`", stream.name, first_spec.name);
            problems.push(tree.place_of_key(&["spool"]), message, Some("write the same in both".into()));
        }
        if (first.fed_by == FedBy::Stdin || stream.fed_by == FedBy::Stdin) && first.fed_by != stream.fed_by {
            let message = format!("the stream `{}` is fed by standard input already", stream.name);
            problems.push(tree.place_of_key(&["source"]), message, Some("rename the pipeline or the stream".into()));
        }
    }
}
