//! Loads pipelines one by one, so that one file's fault is not another's; `run`, `check` and a reload all go this way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, Found};
use super::problem::{Problems, Written};
use super::streams::agree_on_streams;
use super::tree::Tree;
use super::{Environment, OnStream, PipelineSpec, environment, plan, read, warn_of_literal_secrets, written, yaml};
use crate::inputs::{Inputs, Reads};
use crate::transform::wasm::Modules;

/// What files are loaded with. Blocks on reading them; opens no socket and writes nothing, but what `modules` keeps.
pub struct Loader {
    environment: Environment,
    modules: Modules,
    settings_file: Option<PathBuf>,
}

/// One pipeline's file as it was when it was read.
#[derive(Debug)]
pub struct Revision {
    /// The pipeline's.
    pub name: String,
    /// Its file, as it was named or found.
    pub path: PathBuf,
    /// All that was read for it.
    pub inputs: Inputs,
    /// What will run, or what is wrong.
    pub spec: Result<PipelineSpec, Problems>,
    /// What works and had better be written otherwise.
    pub warnings: Problems,
}

impl Loader {
    /// `settings_file` was passed as such, so that it may lie among the pipelines.
    pub fn new(environment: Environment, modules: Modules, settings_file: Option<PathBuf>) -> Loader {
        Loader { environment, modules, settings_file }
    }

    /// Which files are pipelines now.
    pub fn find(&self, paths: &[PathBuf]) -> Found {
        files::find(paths, self.settings_file.as_deref())
    }

    /// One file as it is now. Never fails: what is wrong is in [`Revision::spec`].
    pub fn load(&self, name: &str, path: &Path) -> Revision {
        let reads = Reads::new();
        let (mut problems, mut warnings) = (Problems::new(), Problems::new());
        let spec = files::read(path, &reads, &mut problems)
            .and_then(|written| self.pipeline(name, written, &reads, &mut problems, &mut warnings));
        let spec = problems.or(spec);
        Revision { name: name.to_owned(), path: path.to_owned(), inputs: reads.finish(), spec, warnings }
    }

    /// All pipelines of these paths, none with problems, and warnings; else everything that is wrong with all of them. A
    /// folder that holds none is worth a warning.
    pub fn load_all(&self, paths: &[PathBuf]) -> Result<(Vec<Revision>, Problems), Problems> {
        let Found { files, problems: with_paths, empty, mut warnings, .. } = self.find(paths);
        warnings.extend(empty);
        let mut problems = Problems::new();
        with_paths.into_iter().for_each(|(_, with_path)| problems.extend(with_path));
        let mut revisions: Vec<Revision> = files.iter().map(|(name, path)| self.load(name, path)).collect();
        for revision in &mut revisions {
            warnings.extend(std::mem::take(&mut revision.warnings));
        }
        let on_streams = revisions.iter().map(|Revision { name, spec, .. }| OnStream {
            name,
            runs: None,
            wants: spec.as_ref().ok(),
        });
        let disagreeing = agree_on_streams(&on_streams.collect::<Vec<_>>());
        disagreeing.into_iter().for_each(|(_, with_stream)| problems.extend(with_stream));
        for revision in &revisions {
            problems.extend(revision.spec.as_ref().err().cloned().unwrap_or_default());
        }
        problems.or(Some((revisions, warnings)))
    }

    pub(super) fn pipeline(
        &self,
        name: &str,
        written: Arc<Written>,
        reads: &Reads,
        problems: &mut Problems,
        warnings: &mut Problems,
    ) -> Option<PipelineSpec> {
        let mut tree: Tree = yaml::parse(written, problems)?;
        environment::resolve(&mut tree, &self.environment, problems);
        let reading = read::read(&mut tree, &self.environment, reads, written::LATER, problems);
        warn_of_literal_secrets(reading.literal_secrets, warnings);
        plan::assemble(name, reading.value?, &tree, (&self.modules, reads), problems, warnings)
    }
}
