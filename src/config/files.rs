//! Which files are pipelines: those that were named, and those in folders that were named.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{Place, Problems, Written};
use super::yaml::FILE_BYTES_MAX;
use crate::naming::{PIPELINE_BYTES_MAX, is_pipeline_name};

/// A folder may hold this many pipelines.
const PIPELINES_MAX: usize = 10_000;

/// The name that hydrant's own settings have: in a folder of pipelines it is not one.
pub const SETTINGS_FILE: &str = "hydrant.yaml";

/// The pipeline files that `paths` name, in order and each once, with their names. Files as they are; of folders all
/// `*.yaml` and `*.yml` that do not begin with a dot, sorted by name. Warns of settings that lie in a folder and are not
/// `settings_file`, which was read.
pub(super) fn find(
    paths: &[PathBuf],
    settings_file: Option<&Path>,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Vec<(String, PathBuf)> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        let shown = path.display().to_string();
        match std::fs::metadata(path)
            .and_then(|metadata| if metadata.is_dir() { in_folder(path).map(Some) } else { Ok(None) })
        {
            Ok(None) => files.push(path.clone()),
            Ok(Some(found)) if found.is_empty() => {
                let hint = Some("a pipeline is a file `NAME.yaml` or `NAME.yml`".into());
                problems.push(Place::file(shown), "the folder holds no pipeline", hint);
            }
            Ok(Some(found)) if found.len() > PIPELINES_MAX => {
                let message = format!("the folder holds {} pipelines, more than {PIPELINES_MAX}", found.len());
                problems.push(Place::file(shown), message, None);
            }
            Ok(Some(found)) => {
                files.extend(found);
                warn_of_unread(&path.join(SETTINGS_FILE), settings_file, warnings);
            }
            Err(error) => problems.push(Place::file(shown), cannot_read(&error), None),
        }
    }
    let mut named: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut pipelines = Vec::new();
    for file in files {
        let Some(name) = name_of(&file, problems) else { continue };
        match named.get(&name) {
            Some(first) if same_file(first, &file) => {}
            Some(first) => {
                let message = format!("the pipeline `{name}` is there twice, first as {}", first.display());
                let hint = Some("a pipeline is named after its file: rename one of them".into());
                problems.push(Place::file(file.display().to_string()), message, hint);
            }
            None => {
                named.insert(name.clone(), file.clone());
                pipelines.push((name, file));
            }
        }
    }
    pipelines
}

fn in_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !name.starts_with('.') && name != SETTINGS_FILE && !path.is_dir() {
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
fn name_of(file: &Path, problems: &mut Problems) -> Option<String> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    if is_pipeline_name(&stem) {
        return Some(stem.into_owned());
    }
    let message = format!("`{}` is no name for a pipeline", super::tree::shown(&stem));
    let hint = format!(
        "a pipeline is named after its file: 1 to {PIPELINE_BYTES_MAX} of `a-z A-Z 0-9 _ . -`, first a letter or digit"
    );
    problems.push(Place::file(file.display().to_string()), message, Some(hint));
    None
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The text of a pipeline file, if it is one: at most [`FILE_BYTES_MAX`] bytes of UTF-8.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Option<Arc<Written>> {
    let shown = path.display().to_string();
    match bytes_of(path, FILE_BYTES_MAX) {
        Ok(bytes) => text(&shown, bytes, problems),
        Err(why) => {
            problems.push(Place::file(shown), why, None);
            None
        }
    }
}

/// The bytes of a file, at most so many, or why there are none.
pub(super) fn bytes_of(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let limit = bytes_max as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(|error| cannot_read(&error))?;
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
