//! `transform.yaml`: how the transform in a folder is built, and where its module lies then.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::Ended;
use crate::cli::Exit;
use crate::config;

/// The file's name in the folder.
pub const MANIFEST: &str = "transform.yaml";

/// What it says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What to do before the first build.
    #[serde(default)]
    pub setup: Option<Setup>,
    /// The command that builds, for `sh`, in the folder.
    pub build: String,
    /// The module that it leaves, relative to the folder.
    pub module: String,
    /// The `config` that tests run with.
    #[serde(default)]
    pub config: Option<Value>,
}

/// A command that is run once.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// If this is there, relative to the folder, all is done.
    pub makes: String,
    /// The command, for `sh`, in the folder.
    pub run: String,
}

impl Manifest {
    /// That of a folder.
    pub fn of(folder: &Path) -> Result<Manifest, Ended> {
        let path = folder.join(MANIFEST);
        if !path.exists() {
            let words = format!("{}: no {MANIFEST}, so this is no folder of a transform", folder.display());
            return Err(Ended::failed(words).hint("`hydrant transform new NAME --lang LANGUAGE` writes one"));
        }
        config::file(&path).map_err(|problems| Ended { exit: Exit::Config, words: problems.to_string() })
    }

    /// Where the module lies, once built.
    pub fn module(&self, folder: &Path) -> PathBuf {
        folder.join(&self.module)
    }
}
