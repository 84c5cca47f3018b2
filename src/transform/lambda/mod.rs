//! `lambda`: an AWS Lambda function written for Firehose.

use std::sync::Arc;

use serde::Deserialize;

use super::{Making, Transform, Wrong};

/// Options, as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Name or ARN of the function.
    pub function: String,
}

impl Options {
    /// The transform.
    pub fn make(&self, _making: &Making) -> Result<Arc<dyn Transform>, Wrong> {
        Err(Wrong::new("", "not built yet"))
    }
}
