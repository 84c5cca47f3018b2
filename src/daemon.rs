//! (being written)

use crate::config::{PipelineSpec, Settings};
use crate::error::{Blame, Fault};

/// Runs the pipelines until it is told to stop, or with `once` until all is delivered.
pub async fn run(_settings: Settings, _pipelines: Vec<PipelineSpec>) -> Result<(), Fault> {
    Err(Fault::new(Blame::Bug, "the daemon is being written"))
}
