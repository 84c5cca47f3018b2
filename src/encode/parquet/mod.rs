//! `parquet`: JSON records as the rows of a Parquet file.
//!
//! Rows gather in a decoder's columns, go in batches to the writers of the open row group, one for each leaf, which encode
//! them page by page, and a row group that is full goes out. Memory is one row group, encoded, and a batch, however large
//! the object becomes. With `sort_by` the rows of a row group are held decoded until it is full.
//!
//! ```text
//! PAR1 | row group | row group ... | page indexes | footer: schema, where everything lies | footer length | PAR1
//! ```
//!
//! Encoders of a format share what is costly to make or to know: idle decoders, the encodings chosen from the data, and
//! what earlier rows became. Cores that are idle decode and encode with the one that pushes.

mod choice;
mod group;
mod layout;
mod learned;
mod options;
mod pipe;
mod rows;
mod shared;
mod sort;

use std::io::{self, Write};
use std::mem::take;
use std::sync::Arc;

use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;

pub use options::{Compression, Encodings, Options, RowGroup, SortBy, Version};
pub use rows::{BATCH_JSON_BYTES_MAX, BATCH_ROWS_MAX};

use super::{About, Encoder, Format};
use crate::error::Reason;
use crate::record::Batch;
use group::Group;
use pipe::Pipe;
use rows::Waiting;
use shared::Shared;

/// Bytes of JSON whose rows are encoded together: enough for several cores, and still in their caches.
const ENCODE_JSON_BYTES: u64 = 8 << 20;
/// What the writer keeps for each leaf of a row group that is out, in bytes: where it lies, and its page indexes.
const KEPT_BYTES_PER_LEAF: usize = 1024;

/// Parquet as it will run.
pub struct ParquetFormat(Arc<Shared>);

impl ParquetFormat {
    /// The format; an error if a column collides with `_rest`, or the writer cannot store the schema.
    pub fn new(options: &Options) -> anyhow::Result<ParquetFormat> {
        ParquetFormat::with_metadata(options, &[])
    }

    /// The same, with pairs of key and value in every file's footer.
    pub fn with_metadata(options: &Options, metadata: &[(String, String)]) -> anyhow::Result<ParquetFormat> {
        Shared::new(options, metadata).map(Arc::new).map(ParquetFormat)
    }
}

impl Format for ParquetFormat {
    fn encoder(&self) -> Box<dyn Encoder> {
        let shared = self.0.clone();
        Box::new(ParquetEncoder {
            waiting: Waiting::default(),
            file: None,
            group: None,
            rows: 0,
            encoded_json_bytes: 0,
            shared,
        })
    }

    fn extension(&self) -> &str {
        ".parquet"
    }
}

/// One object. It has no file before its first rows are encoded, and no row group between two.
struct ParquetEncoder {
    shared: Arc<Shared>,
    waiting: Waiting,
    file: Option<SerializedFileWriter<Pipe>>,
    group: Option<Group>,
    rows: u64,
    /// JSON bytes of all rows that were handed to a row group.
    encoded_json_bytes: u64,
}

impl ParquetEncoder {
    /// Encodes the rows that wait, unless they have to be sorted and the row group is not full.
    fn encode(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.waiting.end_batch();
        let (row_group, json_bytes_max) = (self.shared.options.row_group, self.shared.json_bytes_max);
        if !self.shared.layout.sort_by.is_empty() {
            while self.waiting.json_bytes() >= json_bytes_max
                || self.waiting.rows() >= row_group.rows_max
                || self.waiting.are_heavy()
            {
                self.end_row_group(out)?;
            }
            return Ok(());
        }
        while self.waiting.rows() > 0 {
            self.hand_over(out)?;
            let full = self.group.as_ref().is_some_and(|group| {
                group.json_bytes >= json_bytes_max
                    || group.rows >= row_group.rows_max
                    || group.paged_bytes() >= row_group.bytes_max
            });
            if full {
                self.end_row_group(out)?;
            }
        }
        Ok(())
    }

    /// Gives rows that wait to the row group, as many as it takes.
    fn hand_over(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.open_file(out)?;
        let (Some(file), layout) = (&mut self.file, &self.shared.layout) else { return Ok(()) };
        let group = match &mut self.group {
            Some(group) => group,
            none => none.insert(Group::open(file, layout)?),
        };
        let room = self.shared.options.row_group.rows_max - group.rows;
        let (batches, json_bytes) = self.waiting.take(room);
        self.encoded_json_bytes += json_bytes;
        match layout.sort_by.is_empty() {
            true => group.write(layout, &group::Rows::AsTheyCame(&batches), json_bytes),
            false => {
                let order = sort::order(&batches, &layout.sort_by)?;
                group.write(layout, &group::Rows::Ordered(&batches, &order), json_bytes)
            }
        }
    }

    fn open_file(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.file.is_none() {
            let file = self.shared.file(&self.waiting)?;
            file.inner().drain(out)?;
            self.file = Some(file);
        }
        Ok(())
    }

    /// Writes the row group out, with the rows that wait, if there are any.
    fn end_row_group(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.waiting.end_batch();
        while self.waiting.rows() > 0 && self.group.as_ref().is_none_or(|group| group.rows == 0) {
            self.hand_over(out)?;
        }
        if let (Some(group), Some(file)) = (self.group.take(), &mut self.file) {
            group.close(file, &self.shared.learned, out)?;
            file.flush()?;
            file.inner().drain(out)?;
        }
        Ok(())
    }

    /// Bytes of the object without what waits and without the footer.
    fn encoded_size(&self) -> u64 {
        let written = self.file.as_ref().map_or(0, |file| file.bytes_written() as u64);
        written + self.group.as_ref().map_or(0, |group| group.size(&self.shared.learned))
    }

    /// Chunks of leaves in the object, the open row group's included.
    fn chunks(&self) -> u64 {
        let groups = self.file.as_ref().map_or(0, |file| file.flushed_row_groups().len());
        let open = usize::from(self.group.is_some() || self.waiting.rows() > 0);
        ((groups + open) * self.shared.layout.leaves.len()) as u64
    }
}

impl Encoder for ParquetEncoder {
    fn push(&mut self, batch: &Batch, rows: &[u32], out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>> {
        let mut rejected = Vec::new();
        let mut rest = rows;
        while !rest.is_empty() {
            let room = match (&self.group, self.shared.layout.sort_by.is_empty()) {
                (Some(group), true) => self.shared.options.row_group.rows_max - group.rows,
                _ => self.shared.options.row_group.rows_max,
            };
            let before = self.waiting.rows();
            rest = self.waiting.decode(&self.shared, batch, rest, room, &mut rejected);
            self.rows += self.waiting.rows() - before;
            let heavy = self.waiting.are_heavy();
            if heavy || self.waiting.rows() >= room || self.waiting.json_bytes() >= ENCODE_JSON_BYTES {
                self.encode(out)?;
            }
        }
        Ok(rejected)
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows that wait count as large as those before them became, in this object or else in earlier ones.
    fn size(&self) -> u64 {
        let encoded = self.encoded_size();
        let waiting = self.waiting.json_bytes();
        let estimate = match self.encoded_json_bytes {
            0 => self.shared.learned.rows_become(waiting),
            json => (u128::from(waiting) * u128::from(encoded) / u128::from(json)) as u64,
        };
        encoded + estimate + self.shared.empty_bytes + self.shared.learned.footer(self.chunks())
    }

    fn memory(&self) -> usize {
        let kept = self.file.as_ref().map_or(0, |file| file.flushed_row_groups().len() + 1);
        self.waiting.memory()
            + self.group.as_ref().map_or(0, Group::memory)
            + kept * self.shared.layout.leaves.len() * KEPT_BYTES_PER_LEAF
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.encode(out)?;
        self.end_row_group(out)?;
        self.waiting.rest(&self.shared);
        Ok(())
    }

    fn finish(mut self: Box<Self>, about: &About, out: &mut dyn Write) -> io::Result<()> {
        self.encode(out)?;
        self.end_row_group(out)?;
        take(&mut self.waiting).rest(&self.shared);
        self.open_file(out)?;
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let facts = [
            ("hydrant.pipeline", about.pipeline.to_owned()),
            ("hydrant.shard", about.range.shard.to_string()),
            ("hydrant.range", about.range.to_string()),
        ];
        for (key, value) in facts {
            file.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let (before, chunks) = (file.bytes_written() as u64, self.chunks());
        file.finish().map_err(io::Error::other)?;
        let footer = (file.bytes_written() as u64 - before).saturating_sub(self.shared.empty_bytes);
        self.shared.learned.footer_became(chunks, footer);
        self.shared.wrote(self.encoded_json_bytes);
        file.inner().drain(out)
    }
}
