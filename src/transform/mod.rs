//! Transforms: change, split, drop or reject records between source and format.

mod answers;
pub mod filter;
mod jaq;
pub mod jq;
pub mod lambda;
pub mod metadata_extraction;
pub mod wasm;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Fault, Reason};
use crate::inputs::Reads;
use crate::naming::GivenKeys;
use crate::record::Batch;
use crate::source::gather::Gather;

pub use answers::Answers;

/// Records that a transform is given at once, at most; one that gathers is given any number.
pub const RECORDS_MAX: usize = 4096;

/// Payload bytes that a transform is given at once, at most, unless one record has more.
pub const BYTES_MAX: u64 = 1 << 20;

/// Changes records. Several shards may call it at once.
#[async_trait]
pub trait Transform: Send + Sync {
    /// Takes a batch, and gives what became of each record, in order. It may stop before the end where much has come of
    /// the first records, so that memory is bounded: what is left is given to it again. Need not be deterministic. A
    /// record at fault is set aside with its reason; a fault is one that is nobody's record's, and they are read again.
    ///
    /// May be cancelled: then it is given the batch again. CPU work is done in [`crate::cpu::off_async`].
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault>;

    /// Lets go what it has kept ready and nobody has used for long.
    fn let_go_idle(&self) {}

    /// The most memory that a part of it (an instance of a module) has had so far, if it has such.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// How records are to be gathered before they come to it; `None`: as they are read.
    fn gather(&self) -> Option<Gather> {
        None
    }

    /// What it is, in a few words for people: `wasm redact.wasm`, `jq`.
    fn shown(&self) -> String;
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Transformed {
    /// What goes on: a record may have become none, one or several. Each keeps the arrival time of its origin.
    pub batch: Batch,
    /// Set aside, whole.
    pub rejected: Vec<Rejected>,
    /// How many were left out by choice.
    pub dropped: u64,
    /// The last records of the batch, at least one less than there were: nothing has become of them yet.
    pub left: Batch,
}

/// A record set aside whole, with its reason.
#[derive(Debug, Clone)]
pub struct Rejected {
    pub payload: Bytes,
    pub arrival_ms: i64,
    pub reason: Reason,
    /// Of which calls this came, if a function was called.
    pub invoked: Option<Invoked>,
}

/// The calls of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoked {
    /// How often it was called with the record.
    pub attempts: u32,
    /// Its ARN.
    pub function: Arc<str>,
}

impl Rejected {
    /// A record that no function was called for.
    pub fn new(payload: Bytes, arrival_ms: i64, reason: Reason) -> Rejected {
        Rejected { payload, arrival_ms, reason, invoked: None }
    }
}

/// The choice of a transform and its options, as written: `jq: ..` or `wasm: {..}`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Options {
    /// Keeps records for which a jq expression is true, as they are; drops the others.
    Filter(filter::Options),
    /// Each record becomes the outputs of a jq program: none, one or several.
    Jq(jq::Options),
    /// Firehose's processor of this name: a jq query gives records partition keys for the prefix.
    MetadataExtraction(metadata_extraction::Options),
    /// A transform of your own, in WebAssembly: see [transforms](transforms.md).
    Wasm(wasm::Options),
    /// A function that was written for Firehose, over the Lambda Invoke API.
    Lambda(Box<lambda::Options>),
}

/// What options are made into a transform with.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    pub pipeline: &'a str,
    /// What paths are relative to: the folder of the pipeline file.
    pub folder: &'a Path,
    pub modules: &'a wasm::Modules,
    /// Told of every file that is read.
    pub reads: &'a Reads,
}

/// Which option is wrong, how, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The option's key below the transform's word, such as `module`; empty for the transform itself.
    pub key: &'static str,
    /// The byte of its text at which the fault lies, if that is known.
    pub offset: Option<usize>,
    pub message: String,
    pub hint: Option<String>,
}

impl Options {
    /// The word it is chosen by.
    pub fn word(&self) -> &'static str {
        match self {
            Options::Wasm(_) => "wasm",
            Options::Jq(_) => "jq",
            Options::Filter(_) => "filter",
            Options::MetadataExtraction(_) => "metadata_extraction",
            Options::Lambda(_) => "lambda",
        }
    }

    /// The transform, ready to run: programs and modules are compiled and started once. Blocks; opens no socket.
    pub fn make(&self, making: &Making) -> Result<Arc<dyn Transform>, Wrong> {
        match self {
            Options::Wasm(options) => options.make(making),
            Options::Jq(options) => options.make(),
            Options::Filter(options) => options.make(),
            Options::MetadataExtraction(options) => options.make(),
            Options::Lambda(options) => options.make(making),
        }
    }

    /// The partition keys that it gives records, as far as that is known without records.
    pub fn given_keys(&self) -> GivenKeys {
        match self {
            Options::MetadataExtraction(options) => options.given_keys(),
            Options::Wasm(_) | Options::Lambda(_) => GivenKeys { any: true, ..GivenKeys::default() },
            Options::Jq(_) | Options::Filter(_) => GivenKeys::default(),
        }
    }
}

impl Wrong {
    /// What is wrong with the option of this key.
    pub fn new(key: &'static str, message: impl Into<String>) -> Wrong {
        Wrong { key, offset: None, message: message.into(), hint: None }
    }

    /// At which byte of its text.
    pub fn at(self, offset: usize) -> Wrong {
        Wrong { offset: Some(offset), ..self }
    }

    /// And what to do.
    pub fn hint(self, hint: impl Into<String>) -> Wrong {
        Wrong { hint: Some(hint.into()), ..self }
    }
}
