//! What a user writes under `kafka:`.

use schemars::JsonSchema;
use serde::Deserialize;

/// What a user writes under `kafka:`.
#[derive(Debug, Clone, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The brokers to begin with, each as `host:port`.
    pub brokers: Vec<String>,
    /// Names of topics; one that begins with `^` is a regular expression.
    pub topics: Vec<String>,
    /// The consumer group.
    pub group: Option<String>,
}
