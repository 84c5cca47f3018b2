//! Modules: from bytes to components that can be started.

use std::path::PathBuf;

/// Compiles modules. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Modules {
    _cache: Option<PathBuf>,
}

impl Modules {
    /// Keeps what was compiled in this folder, if one is given: by the content of the module.
    pub fn new(cache: Option<PathBuf>) -> Modules {
        Modules { _cache: cache }
    }
}
