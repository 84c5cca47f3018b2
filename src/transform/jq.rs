//! `jq`.

use std::sync::Arc;

use serde::Deserialize;

use super::{Transform, Wrong};

/// A jq program.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Options(pub String);

impl Options {
    /// The transform.
    pub fn make(&self) -> Result<Arc<dyn Transform>, Wrong> {
        Err(Wrong::new("", "not built yet"))
    }
}
