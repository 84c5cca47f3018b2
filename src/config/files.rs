//! Which files are pipelines: those that were named, and those in folders that were named.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{Place, Problems, Written};
use super::yaml::FILE_BYTES_MAX;
use crate::inputs::Reads;
use crate::naming::{PIPELINE_BYTES_MAX, is_pipeline_name};

/// A folder may hold this many pipelines.
const PIPELINES_MAX: usize = 10_000;

/// The name that hydrant's own settings have: in a folder of pipelines it is not one.
pub const SETTINGS_FILE: &str = "hydrant.yaml";

/// What follows the name of a pipeline in the name of the file with its test cases.
const TEST_CASES: [&str; 2] = [".test.yaml", ".test.yml"];

/// What lies at the paths that were named.
#[derive(Debug, Default)]
pub struct Found {
    /// The pipelines by name and file, each once: files as they were named, those of folders sorted by name. A name that
    /// two files have stands for neither.
    pub files: Vec<(String, PathBuf)>,
    /// What is wrong, by the path or the name that it is wrong with.
    pub problems: Vec<(String, Problems)>,
    /// Folders that hold no pipeline, as warnings: who watches them waits for the first.
    pub empty: Problems,
    /// What works and had better be written otherwise.
    pub warnings: Problems,
    /// Paths that cannot be looked at now, and names that stand for two files.
    unknown: (Vec<PathBuf>, BTreeSet<String>),
}

impl Found {
    /// Whether a pipeline that was found at `path` before has been removed. Not so if its folder cannot be read now, or
    /// if its name has become that of two files: then nobody knows.
    pub fn is_removed(&self, name: &str, path: &Path) -> bool {
        let (paths, names) = &self.unknown;
        let is_there = self.files.iter().any(|(other, _)| other == name);
        let is_unknown = names.contains(name) || paths.iter().any(|unknown| path.starts_with(unknown));
        !is_there && !is_unknown && std::fs::read_dir(folder_of(path)).is_ok()
    }
}

/// The pipeline files that `paths` name. Files as they are; of folders all `*.yaml` and `*.yml` that do not begin with a
/// dot and hold neither settings nor test cases. Warns of settings that lie in a folder and are not `settings_file`,
/// which was read.
pub(super) fn find(paths: &[PathBuf], settings_file: Option<&Path>) -> Found {
    let mut found = Found::default();
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        match std::fs::metadata(path)
            .and_then(|metadata| if metadata.is_dir() { in_folder(path).map(Some) } else { Ok(None) })
        {
            Ok(None) => files.push(path.clone()),
            Ok(Some(of_folder)) if of_folder.is_empty() => {
                let hint = Some("a pipeline is a file `NAME.yaml` or `NAME.yml`".into());
                found.empty.push(place(path), "warning: no pipelines yet: the folder holds none", hint);
                warn_of_unread(&path.join(SETTINGS_FILE), settings_file, &mut found.warnings);
            }
            Ok(Some(of_folder)) if of_folder.len() > PIPELINES_MAX => {
                found.wrong(path, format!("the folder holds {} pipelines, more than {PIPELINES_MAX}", of_folder.len()));
                found.unknown.0.push(path.clone());
            }
            Ok(Some(of_folder)) => {
                files.extend(of_folder);
                warn_of_unread(&path.join(SETTINGS_FILE), settings_file, &mut found.warnings);
            }
            Err(error) => {
                found.wrong(path, cannot_read(&error));
                // A file that is gone from a folder that is there has been removed.
                if error.kind() != io::ErrorKind::NotFound || !folder_of(path).is_dir() {
                    found.unknown.0.push(path.clone());
                }
            }
        }
    }
    let mut named: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut order = Vec::new();
    for file in files {
        match name_of(&file) {
            Ok(name) => {
                let of_name = named.entry(name.clone()).or_default();
                if of_name.is_empty() {
                    order.push(name);
                }
                if !of_name.iter().any(|other| same_file(other, &file)) {
                    of_name.push(file);
                }
            }
            Err(problems) => found.problems.push((file.display().to_string(), problems)),
        }
    }
    for name in order {
        match named.remove(&name).unwrap_or_default().as_slice() {
            [only] => found.files.push((name, only.clone())),
            several => found.twice(name, several),
        }
    }
    found
}

impl Found {
    fn wrong(&mut self, path: &Path, message: String) {
        let mut problems = Problems::new();
        problems.push(place(path), message, None);
        self.problems.push((path.display().to_string(), problems));
    }

    fn twice(&mut self, name: String, files: &[PathBuf]) {
        let mut problems = Problems::new();
        let mut files = files.iter();
        let first = files.next().map(|first| first.display().to_string()).unwrap_or_default();
        for file in files {
            let message = format!("the pipeline `{name}` is there twice, first as {first}");
            let hint = Some("a pipeline is named after its file: rename one of them".into());
            problems.push(place(file), message, hint);
        }
        self.unknown.1.insert(name.clone());
        self.problems.push((name, problems));
    }
}

fn place(path: &Path) -> Place {
    Place::file(path.display().to_string())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        let other = name.starts_with('.') || name == SETTINGS_FILE || holds_test_cases(&name);
        if yaml && !other && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn warn_of_unread(settings: &Path, settings_file: Option<&Path>, warnings: &mut Problems) {
    if settings.is_file() && !settings_file.is_some_and(|read| same_file(read, settings)) {
        let place = Place::file(settings.display().to_string());
        warnings.push(place, "warning: not read, as it is no pipeline", Some("pass it with `--config`".into()));
    }
}

/// The name of a pipeline: its file's, without the extension.
fn name_of(file: &Path) -> Result<String, Problems> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let whole = file.file_name().unwrap_or_default().to_string_lossy();
    let (message, hint) = if holds_test_cases(&whole) {
        let message = "a file with this name holds the test cases of a pipeline, and is none".to_owned();
        (message, format!("try them with `hydrant test {}`", file.display()))
    } else if is_pipeline_name(&stem) {
        return Ok(stem.into_owned());
    } else {
        let chars = format!("1 to {PIPELINE_BYTES_MAX} of `a-z A-Z 0-9 _ . -`, first a letter or digit");
        let message = format!("`{}` is no name for a pipeline", super::tree::shown(&stem));
        (message, format!("a pipeline is named after its file: {chars}"))
    };
    let mut problems = Problems::new();
    problems.push(place(file), message, Some(hint));
    Err(problems)
}

/// Whether a file of this name holds test cases of a pipeline, for `hydrant test`.
fn holds_test_cases(name: &str) -> bool {
    TEST_CASES.iter().any(|ending| name.ends_with(ending))
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The text of a pipeline file, if it is one: at most [`FILE_BYTES_MAX`] bytes of UTF-8.
pub(super) fn read(path: &Path, reads: &Reads, problems: &mut Problems) -> Option<Arc<Written>> {
    let shown = path.display().to_string();
    match bytes_of(path, FILE_BYTES_MAX, reads) {
        Ok(bytes) => text(&shown, bytes, problems),
        Err(why) => {
            problems.push(Place::file(shown), why, None);
            None
        }
    }
}

/// The bytes of a file, at most so many, or why there are none.
pub(super) fn bytes_of(path: &Path, bytes_max: usize, reads: &Reads) -> Result<Vec<u8>, String> {
    let bytes = reads.read(path, bytes_max as u64).map_err(|error| cannot_read(&error))?;
    match bytes.len() > bytes_max {
        true => Err(format!("the file is longer than {bytes_max} bytes")),
        false => Ok(bytes),
    }
}

/// The text of a file, without a byte order mark; a problem if it is none.
pub(super) fn text(shown: &str, bytes: Vec<u8>, problems: &mut Problems) -> Option<Arc<Written>> {
    match String::from_utf8(bytes) {
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
            Some(Arc::new(Written::new(shown, text)))
        }
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let place = Place::of_span(Arc::new(Written::new(shown, text)), valid..valid + 1);
            problems.push(place, "the text is not valid UTF-8 from here on", Some("save the file as UTF-8".into()));
            None
        }
    }
}

fn cannot_read(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or folder".into(),
        io::ErrorKind::PermissionDenied => "cannot be read: permission denied".into(),
        io::ErrorKind::IsADirectory => "is a folder, where a file is expected".into(),
        _ => format!("cannot be read: {error}"),
    }
}
