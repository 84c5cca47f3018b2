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
mod json_schema;
mod loader;
mod plan;
mod problem;
mod read;
mod schema_file;
mod settings;
mod stand_in;
mod stations;
mod streams;
mod tree;
mod written;
mod yaml;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use environment::Environment;
pub use files::Found;
pub use json_schema::{pipeline_schema, schema_of, settings_schema};
pub use loader::{Loader, Revision};
pub use plan::{Drawn, FedBy, PipelineSpec, SourceSpec, StreamSpec};
pub use problem::{Place, Problem, Problems};
pub use settings::{ADMIN_DEFAULT, Credential, Flags, Log, LogFormat, MEMORY_DEFAULT, Settings, settings};
pub use streams::{OnStream, agree_on_streams};

pub use crate::inputs::Inputs;

use serde::de::DeserializeOwned;

use crate::inputs::Reads;
use crate::transform::wasm::Modules;
use problem::Written;

/// What was loaded at once.
#[derive(Debug)]
pub struct Loaded {
    /// In the order of the paths, folders sorted by name.
    pub pipelines: Vec<PipelineSpec>,
    /// What works and had better be written otherwise.
    pub warnings: Problems,
}

/// Loads the pipelines of files and folders; else everything that is wrong with all of them: [`Loader::load_all`].
pub fn load(
    paths: &[PathBuf],
    settings_file: Option<&Path>,
    environment: &Environment,
    modules: &Modules,
) -> Result<Loaded, Problems> {
    let loader = Loader::new(environment.clone(), modules.clone(), settings_file.map(Path::to_owned));
    let (revisions, warnings) = loader.load_all(paths)?;
    Ok(Loaded { pipelines: revisions.into_iter().filter_map(|revision| revision.spec.ok()).collect(), warnings })
}

/// Loads one pipeline from its text; `path` is for messages.
pub fn load_text(name: &str, path: &str, text: &str, environment: &Environment) -> Result<PipelineSpec, Problems> {
    let mut problems = Problems::new();
    let written = Arc::new(Written::new(path, text));
    let loader = Loader::new(environment.clone(), Modules::default(), None);
    let spec = loader.pipeline(name, written, &Reads::new(), &mut problems, &mut Problems::new());
    problems.or(spec)
}

/// Reads another YAML file, with the same care for what is wrong with it; `${NAME}` stands for itself. Blocks.
pub fn file<T: DeserializeOwned>(path: &Path) -> Result<T, Problems> {
    let (mut problems, reads) = (Problems::new(), Reads::new());
    let tree = files::read(path, &reads, &mut problems).and_then(|written| yaml::parse(written, &mut problems));
    let nothing = Environment::of([]);
    let value = tree.and_then(|mut tree| read::read(&mut tree, &nothing, &reads, &[], &mut problems).value);
    problems.or(value)
}

/// The line, counted from 1, on which something stands in a text of YAML, by its way such as `cases.0`.
pub fn line_of(text: &str, way: &str) -> Option<usize> {
    let tree = yaml::parse(Arc::new(Written::new("", text)), &mut Problems::new())?;
    tree.place(way).line()
}

fn warn_of_literal_secrets(places: Vec<Place>, warnings: &mut Problems) {
    for place in places {
        let hint = Some("write `env:NAME`, `file:/path` or `cred:name` (a systemd credential)".into());
        warnings.push(place, "warning: a secret stands in the file itself", hint);
    }
}
