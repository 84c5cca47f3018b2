//! `metadata_extraction`: Firehose's processor of this name.

use std::sync::Arc;

use serde::Deserialize;

use super::{Transform, Wrong};

/// Options, as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Firehose's `MetadataExtractionQuery`: `{customer: .customer_id, ..}`, in jq.
    pub query: String,
}

impl Options {
    /// The transform.
    pub fn make(&self) -> Result<Arc<dyn Transform>, Wrong> {
        Err(Wrong::new("", "not built yet"))
    }

    /// Names of the keys that it gives.
    pub fn names(&self) -> Vec<String> {
        Vec::new()
    }
}
