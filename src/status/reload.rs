//! What became of a reload, for who asked for it.

use serde::{Deserialize, Serialize};

/// The answer of `POST /api/reload`: after it, each pipeline runs what its file says, or `refused` says why not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Names of pipelines that started, changed, drain or run on as they were.
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub unchanged: Vec<String>,
    pub refused: Vec<Refused>,
    /// What works and had better be written otherwise, as `hydrant check` says it.
    pub warnings: String,
}

/// A file that was not taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// The pipeline, or the path that no pipeline could be found at.
    pub name: String,
    /// File, line, column, reason and hint, as `hydrant check` says it.
    pub problems: String,
}

impl Reloaded {
    /// Whether everything was taken.
    pub fn is_good(&self) -> bool {
        self.refused.is_empty()
    }
}
