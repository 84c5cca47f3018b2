//! `wasm`: a transform written by the user, as a WebAssembly component or core module.

mod contract;
mod limits;
mod log;
mod module;
mod state;
mod wasi;
mod wrap;

use std::sync::Arc;

use serde::Deserialize;

use super::{Making, Transform, Wrong};

pub use limits::Limits;
pub use log::{Level, Log};
pub use module::{Exports, Hash, MODULE_BYTES_MAX, Module, Modules, Unfit};
pub use state::State;
pub use wasi::Wasi;

/// Options, as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The module's file, relative to the folder of the pipeline file.
    pub module: String,
    /// Given to the module's `init`: a text as it is, anything else as JSON.
    #[serde(default)]
    pub config: Option<serde_json::Value>,
}

impl Options {
    /// The transform.
    pub fn make(&self, _making: &Making) -> Result<Arc<dyn Transform>, Wrong> {
        Err(Wrong::new("module", "not built yet"))
    }
}
