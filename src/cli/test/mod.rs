//! `hydrant test`: the cases beside a pipeline, through its own transforms, prefix and encoder.

mod cases;
mod judge;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::dry::{self, How};
use super::paint::plain;
use super::{Exit, complain, say};
use crate::config::{self, Environment, Loader, PipelineSpec, Place, Problems};
use crate::transform::wasm::Modules;

use cases::{Case, Cases, time};

/// What the file of cases of `NAME.yaml` is called.
const CASES: [&str; 2] = ["test.yaml", "test.yml"];

/// Arguments of `hydrant test`.
#[derive(Debug, Args)]
#[command(after_help = "The cases of NAME.yaml stand in NAME.test.yaml beside it:\n\n  \
                        cases:\n    - name: a click goes to the folder of its day\n      input:\n        \
                        - { event_time: 2026-11-20T12:00:00Z, user_id: u1, country: DE }\n      output:\n        \
                        dt=2026-11-20/country=DE/:\n          - { event_time: 2026-11-20T12:00:00.000Z, user_id: u1, country: DE }\n    \
                        - name: what is no JSON is set aside\n      input: [\"no JSON\"]\n      rejects:\n        \
                        - { reason: format-conversion-failed }\n\n\
                        The clock stands still at `now`. Nothing is delivered and no port is opened.\n\n\
                        Example:\n  hydrant test pipelines/")]
pub struct Arguments {
    /// Pipeline files, their files of cases, and folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Call the functions of `lambda` transforms; without it records go by them
    #[arg(long)]
    invoke: bool,
}

/// The JSON Schema of a file of cases.
pub fn cases_schema() -> Value {
    config::schema_of::<Cases>("Cases of a pipeline of hydrant")
}

/// Runs the cases: one line each, and what differs.
pub fn test(arguments: Arguments) -> Exit {
    let mut problems = Problems::new();
    let files: Vec<PathBuf> = arguments.paths.iter().flat_map(|path| files_of(path, &mut problems)).collect();
    let loader = Loader::new(Environment::of_process(), Modules::default(), None);
    let mut ready = Vec::new();
    for file in files {
        match Ready::load(&loader, &file) {
            Ok(one) => ready.push(one),
            Err(with_file) => problems.extend(with_file),
        }
    }
    if !problems.is_empty() {
        complain(problems);
        return Exit::Config;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(error);
            return Exit::Failed;
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for one in &ready {
        for (number, case) in one.cases.cases.iter().enumerate() {
            match runtime.block_on(one.run(case, arguments.invoke)) {
                Ok(()) => {
                    passed += 1;
                    say(format_args!("ok      {}: {}", one.spec.name, case.name));
                }
                Err(differences) => {
                    failed += 1;
                    let line = config::line_of(&one.text, &format!("cases.{number}")).unwrap_or(1);
                    say(format_args!("FAILED  {}: {}", one.spec.name, case.name));
                    say(format_args!("        {}:{line}", one.file.display()));
                    differences.lines().for_each(|line| say(plain(format!("  {line}").trim_end())));
                }
            }
        }
    }
    say(format_args!("\n{passed} passed, {failed} failed"));
    if failed > 0 { Exit::Failed } else { Exit::Done }
}

/// The files of cases that a path names.
fn files_of(path: &Path, problems: &mut Problems) -> Vec<PathBuf> {
    let shown = path.display().to_string();
    let mut wrong = |message: &str, hint: &str| {
        problems.push(Place::file(&shown), message, Some(hint.to_owned()));
        Vec::new()
    };
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
        let mut found: Vec<PathBuf> = entries.unwrap_or_default();
        found.retain(|path| is_cases(path));
        found.sort();
        return match found.is_empty() {
            true => wrong("the folder holds no cases", "the cases of NAME.yaml stand in NAME.test.yaml beside it"),
            false => found,
        };
    }
    if is_cases(path) {
        return vec![path.to_owned()];
    }
    match CASES.iter().map(|extension| path.with_extension(extension)).find(|cases| cases.exists()) {
        Some(cases) => vec![cases],
        None if path.exists() => {
            let cases = path.with_extension(CASES[0]);
            wrong("the pipeline has no cases", &format!("write them into {}", cases.display()))
        }
        None => wrong("there is no such file or folder", "pass a pipeline, its file of cases, or a folder of them"),
    }
}

fn is_cases(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    CASES.iter().any(|extension| name.ends_with(&format!(".{extension}"))) && !name.starts_with('.')
}

/// The pipeline of a file of cases: the file beside it, `NAME.yaml` or `NAME.yml`.
fn pipeline_of(cases: &Path) -> Option<(String, PathBuf)> {
    let stem = cases.with_extension("");
    ["yaml", "yml"].iter().map(|extension| stem.with_extension(extension)).find(|path| path.exists()).map(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name, path)
    })
}

/// Cases and their pipeline.
struct Ready {
    file: PathBuf,
    text: String,
    cases: Cases,
    spec: PipelineSpec,
}

impl Ready {
    fn load(loader: &Loader, file: &Path) -> Result<Ready, Problems> {
        let mut problems = Problems::new();
        let Some((name, pipeline)) = pipeline_of(file) else {
            let hint = "they lie beside the pipeline: NAME.test.yaml beside NAME.yaml".to_owned();
            problems.push(Place::file(file.display().to_string()), "there is no pipeline to these cases", Some(hint));
            return Err(problems);
        };
        let spec = loader.load(&name, &pipeline).spec;
        let cases = config::file::<Cases>(file);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        match (spec, cases) {
            (Ok(spec), Ok(cases)) if !cases.cases.is_empty() => Ok(Ready { file: file.to_owned(), text, cases, spec }),
            (Ok(_), Ok(_)) => {
                problems.push(Place::file(file.display().to_string()), "`cases` is an empty list", None);
                Err(problems)
            }
            (spec, cases) => {
                problems.extend(spec.err().unwrap_or_default());
                problems.extend(cases.err().unwrap_or_default());
                Err(problems)
            }
        }
    }

    /// What differs from what is expected, if anything does.
    async fn run(&self, case: &Case, invoke: bool) -> Result<(), String> {
        let now_ms = time(case.now.as_deref().unwrap_or(&self.cases.now)).map_err(|wrong| format!("now: {wrong}"))?;
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let records = case.records(folder, now_ms).map_err(|wrong| format!("input: {wrong}"))?;
        let how = How { now_ms, invoke, versions: None };
        let dry = dry::run(&self.spec, records, &how).await.map_err(|fault| format!("{:#}", fault.error))?;
        match judge::differences(case, &dry, &self.spec) {
            differences if differences.is_empty() => Ok(()),
            differences => Err(differences.join("\n")),
        }
    }
}
