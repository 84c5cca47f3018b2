//! Watches the files of pipelines: the folders that they lie in, as editors and deployments replace files.

use std::path::{Path, PathBuf};

/// Watches.
pub struct Watch;

impl Watch {
    /// Of these files and folders.
    pub fn new(_paths: &[PathBuf]) -> Watch {
        Watch
    }

    /// And of these files: all inputs of all pipelines; those named before and not now are watched no more.
    pub fn watch<'p>(&mut self, _inputs: impl Iterator<Item = &'p Path>) {}

    /// Something may have changed, and has been quiet for 100 ms (1 s at the most); also every few seconds. Cancel-safe.
    pub async fn changed(&mut self) {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
}
