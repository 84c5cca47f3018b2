//! `json_array`: one JSON array per object, with a record on each line.
//!
//! ```text
//! [{"id":1},
//! {"id":2}]
//! ```
//!
//! A record is one JSON value of any kind, and stands in the array byte for byte, without the white space around it.
//! What is none is rejected alone. An object without records is the empty array.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Deserialize;

use super::compress::{BLOCK_BYTES, Blocks, Compression, Compressors, Frame};
use super::json::whole_value;
use super::{About, Encoder, Format, extension_or};
use crate::error::Reason;
use crate::record::Batch;

/// The options of `json_array`, as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// What the text is compressed with: a name, or one with a level as `{ gzip: 9 }`.
    pub compression: Compression,
    /// In place of `.json`, `.json.gz` and so on, with its dot; as `.txt.gz`.
    pub extension: Option<String>,
}

/// JSON arrays as they will run.
pub struct JsonArrayFormat {
    compressors: Compressors,
    extension: String,
}

impl JsonArrayFormat {
    /// The format; an error if the extension is none.
    pub fn new(options: &Options) -> anyhow::Result<JsonArrayFormat> {
        Ok(JsonArrayFormat {
            compressors: Compressors::new(options.compression.codec(), BLOCK_BYTES),
            extension: extension_or(&options.extension, ".json", options.compression)?,
        })
    }
}

impl Format for JsonArrayFormat {
    fn encoder(&self) -> Box<dyn Encoder> {
        Box::new(JsonArrayEncoder { blocks: Blocks::new(&self.compressors, Frame::Bare), rows: 0 })
    }

    fn extension(&self) -> &str {
        &self.extension
    }
}

struct JsonArrayEncoder {
    blocks: Blocks,
    rows: u64,
}

impl Encoder for JsonArrayEncoder {
    fn push(&mut self, batch: &Batch, rows: &[u32], out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>> {
        let mut rejected = Vec::new();
        for row in rows {
            match whole_value(batch.payload(*row as usize)) {
                Ok(value) => {
                    let block = self.blocks.open();
                    block.extend_from_slice(if self.rows == 0 { b"[" } else { b",\n" });
                    block.extend_from_slice(value);
                    self.rows += 1;
                    self.blocks.end_record(out)?;
                }
                Err(reason) => rejected.push((*row, reason)),
            }
        }
        Ok(rejected)
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn size(&self) -> u64 {
        self.blocks.size(0)
    }

    fn memory(&self) -> usize {
        self.blocks.memory()
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.blocks.flush(out)
    }

    fn finish(mut self: Box<Self>, _about: &About, out: &mut dyn Write) -> io::Result<()> {
        let end: &[u8] = if self.rows == 0 { b"[]\n" } else { b"]\n" };
        self.blocks.open().extend_from_slice(end);
        self.blocks.finish(out)
    }
}
