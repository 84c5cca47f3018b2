//! Formats: from records to the bytes of an object.
//!
//! An encoder makes one object. It is fed rows of batches, writes finished bytes out as they come, and gives back the rows
//! that cannot be part of the object, each with its reason; neighbours are not disturbed.

pub mod avro;
mod cells;
mod columns;
pub mod compress;
pub mod csv;
pub mod json;
pub mod json_array;
pub mod lines;
pub mod parquet;
pub mod schema;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use schemars::JsonSchema;
use serde::Deserialize;

use self::compress::Compression;
use self::json::OnUnknown;
use self::schema::{Origin, Schema, infer::Inferring};
use crate::disk::Disk;
use crate::error::{Fault, Reason};
use crate::naming::{EXTENSION_BYTES_MAX, is_extension};
use crate::position::ShardRange;
use crate::record::Batch;

/// Whose records an object holds; formats that can carry it say so inside the object.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub pipeline: &'a str,
    /// Of the chunk: the object holds those of its records that have the object's prefix.
    pub range: &'a ShardRange,
}

/// Makes the bytes of one object.
pub trait Encoder: Send {
    /// Appends the rows of `batch` that `rows` lists (ascending), except those it returns as rejected. Bytes that are
    /// finished go to `out`; bytes once written are never revised. An error is one of `out`, and ends the chunk.
    fn push(&mut self, batch: &Batch, rows: &[u32], out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>>;

    /// Which version of the format it encodes with; `u64::MAX` if that is not settled yet, but will be the newest.
    fn version(&self) -> u64 {
        0
    }

    /// Rows that are in the object so far.
    fn rows(&self) -> u64;

    /// Bytes of the object if it were finished now: written ones plus an estimate of those held.
    fn size(&self) -> u64;

    /// Bytes of memory held now.
    fn memory(&self) -> usize;

    /// Writes out what is held, as far as the format allows without ending the object, because memory is short. The
    /// object may become larger by it.
    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Writes the rest to `out`.
    fn finish(self: Box<Self>, about: &About, out: &mut dyn Write) -> io::Result<()>;
}

/// A format as it will run: makes encoders.
pub trait Format: Send + Sync {
    /// An encoder for a new object.
    fn encoder(&self) -> Box<dyn Encoder>;

    /// Looks at records before they are encoded, and learns from them and from what encoders rejected since; the batch
    /// may be empty. What was learned is durable then, and [`Format::version`] says whether it changed the format.
    fn learn(&self, _batch: &Batch) -> io::Result<()> {
        Ok(())
    }

    /// Which version new encoders are of; it only grows. An object whose encoder is of an older one should be finished
    /// before more records come to it, and what that encoder rejected a new one may take.
    fn version(&self) -> u64 {
        0
    }

    /// The file extension that tells the truth, with its dot: `.parquet`, `.ndjson.gz`.
    fn extension(&self) -> &str;
}

/// The choice of a format and its options, as written: `lines: {..}` or `parquet: {..}`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Options {
    /// Records as they are, one after the other.
    Lines(lines::Options),
    /// One JSON array per object, with a record on each line.
    JsonArray(json_array::Options),
    /// CSV by a schema.
    Csv(Box<csv::Options>),
    /// Avro object container files by a schema.
    Avro(Box<avro::Options>),
    /// Apache Parquet by a schema.
    Parquet(Box<parquet::Options>),
}

impl Options {
    /// The format as configured. An error is one of the configuration: which option, and what was expected.
    pub fn spec(&mut self) -> anyhow::Result<FormatSpec> {
        let origin = self.columnar().map(|columnar| columnar.schema.origin().clone());
        match origin {
            Some(Origin::Infer(infer)) => Ok(FormatSpec::Infers(Box::new(Inferring::new(self, &infer)?))),
            _ => Ok(FormatSpec::Ready(self.build()?)),
        }
    }

    /// What formats with columns have in common; `None` of those without.
    pub fn columnar(&mut self) -> Option<Columnar<'_>> {
        let (schema, on_unknown, case_insensitive) = match self {
            Options::Lines(_) | Options::JsonArray(_) => return None,
            Options::Csv(options) => (&mut options.schema, options.on_unknown, options.case_insensitive),
            Options::Avro(options) => (&mut options.schema, options.on_unknown, options.case_insensitive),
            Options::Parquet(options) => (&mut options.schema, options.on_unknown, options.case_insensitive),
        };
        Some(Columnar { schema, on_unknown, case_insensitive })
    }

    /// The format as it will run; its schema has columns. An error is one of the configuration: which option, and what was expected.
    pub fn build(&self) -> anyhow::Result<Arc<dyn Format>> {
        match self {
            Options::Lines(options) => Ok(Arc::new(lines::LinesFormat::new(options)?)),
            Options::JsonArray(options) => Ok(Arc::new(json_array::JsonArrayFormat::new(options)?)),
            Options::Csv(options) => Ok(Arc::new(csv::CsvFormat::new(options)?)),
            Options::Avro(options) => Ok(Arc::new(avro::AvroFormat::new(options)?)),
            Options::Parquet(options) => Ok(Arc::new(parquet::ParquetFormat::new(options)?)),
        }
    }

    /// The word that chooses it.
    pub fn word(&self) -> &'static str {
        match self {
            Options::Lines(_) => "lines",
            Options::JsonArray(_) => "json_array",
            Options::Csv(_) => "csv",
            Options::Avro(_) => "avro",
            Options::Parquet(_) => "parquet",
        }
    }

    /// What its text is compressed with; `None` for formats that compress within.
    pub fn compression(&self) -> Option<Compression> {
        match self {
            Options::Lines(options) => Some(options.compression),
            Options::JsonArray(options) => Some(options.compression),
            Options::Csv(options) => Some(options.compression),
            Options::Avro(_) | Options::Parquet(_) => None,
        }
    }
}

/// The extension as written, or else that of the content and of what compressed it. An error if what is written cannot
/// end a name.
fn extension_or(written: &Option<String>, content: &str, compression: Compression) -> anyhow::Result<String> {
    match written {
        None => Ok(format!("{content}{}", compression.extension())),
        Some(written) if is_extension(written) => Ok(written.clone()),
        Some(written) => bail!(
            "the extension `{written}` cannot end a name\nhint: write words of `a-z 0-9 _`, each behind a dot, such as `.log.gz`; \
             at most {EXTENSION_BYTES_MAX} characters"
        ),
    }
}

fn yes() -> bool {
    true
}

/// What formats with columns have in common.
pub struct Columnar<'o> {
    pub schema: &'o mut Schema,
    pub on_unknown: OnUnknown,
    pub case_insensitive: bool,
}

/// A format as configured.
#[derive(Clone)]
pub enum FormatSpec {
    Ready(Arc<dyn Format>),
    /// It learns its schema, and needs a folder to keep it in.
    Infers(Box<Inferring>),
}

impl FormatSpec {
    /// The format as it will run; `dir` is made if it is needed. Blocking.
    pub fn open(self, disk: &Arc<dyn Disk>, dir: &Path, pipeline: &str) -> Result<Arc<dyn Format>, Fault> {
        match self {
            FormatSpec::Ready(format) => Ok(format),
            FormatSpec::Infers(inferring) => inferring.open(disk.clone(), dir, pipeline),
        }
    }
}
