//! Declared columns, for formats that write row after row (`csv`, `avro`): records become columns, a thousand at a time,
//! and each row is spelled into the open block.
//!
//! The keys `schema`, `on_unknown`, `case_insensitive` and `dots_to_underscores` mean what they mean for `parquet`.

use std::io::{self, Write};

use arrow_array::ArrayRef;
use arrow_schema::SchemaRef;

use super::compress::Blocks;
use super::json::{Decoder, Matching, OnUnknown, REST_COLUMN, arrow_schema};
use super::schema::{Column, Schema};
use super::{About, Encoder};
use crate::error::Reason;
use crate::record::Batch;

/// Rows that gather in the decoder before they are spelled.
const BATCH_ROWS_MAX: usize = 1024;
/// Bytes of JSON that gather in the decoder before they are spelled: what then lies in columns fits the processor's cache.
const BATCH_JSON_BYTES_MAX: usize = 256 << 10;
/// Cells that gather in the decoder before they are spelled, where most fields of the schema are missing.
const BATCH_CELLS_MAX: usize = 256 << 10;

/// Columns, and how records are read into them.
#[derive(Clone)]
pub struct Columns {
    schema: Schema,
    arrow: SchemaRef,
    on_unknown: OnUnknown,
    matching: Matching,
}

impl Columns {
    /// An error if a column has the name of the one that keeps the rest.
    pub fn new(schema: &Schema, on_unknown: OnUnknown, matching: Matching) -> anyhow::Result<Columns> {
        let arrow = arrow_schema(schema, on_unknown)?;
        Ok(Columns { schema: schema.clone(), arrow, on_unknown, matching })
    }

    /// All of them, with the one that keeps the rest.
    pub fn all(&self) -> Vec<Column> {
        let mut all = self.schema.columns().to_vec();
        if self.on_unknown == OnUnknown::Keep {
            all.push(Column::new(REST_COLUMN, "json").expect("the name and the type are right"));
        }
        all
    }

    fn decoder(&self) -> Decoder {
        Decoder::new(&self.schema, self.arrow.clone(), self.on_unknown, self.matching)
    }
}

/// How a format writes its rows.
pub trait Spelling: Send {
    /// How large a row becomes before compression, in per cent of its JSON, before the first rows have told.
    const USUAL_PERCENT: u64;

    /// Writes what stands before the first row.
    fn begin(&self, blocks: &mut Blocks, out: &mut dyn Write) -> io::Result<()>;

    /// Appends row `row` of `columns`.
    fn row(&self, columns: &[ArrayRef], row: usize, out: &mut Vec<u8>);
}

/// Makes one object of rows.
pub struct RowEncoder<S: Spelling> {
    columns: Columns,
    decoder: Decoder,
    spelling: S,
    blocks: Blocks,
    begun: bool,
    rows: u64,
    /// Bytes of the JSON of rows that are spelled, and of what they became.
    json_bytes: u64,
    spelled_bytes: u64,
}

impl<S: Spelling> RowEncoder<S> {
    /// Without rows.
    pub fn new(columns: &Columns, spelling: S, blocks: Blocks) -> RowEncoder<S> {
        RowEncoder {
            columns: columns.clone(),
            decoder: columns.decoder(),
            spelling,
            blocks,
            begun: false,
            rows: 0,
            json_bytes: 0,
            spelled_bytes: 0,
        }
    }

    fn spell(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            self.spelling.begin(&mut self.blocks, out)?;
        }
        self.json_bytes += self.decoder.json_bytes() as u64;
        let batch = self.decoder.finish();
        for row in 0..batch.num_rows() {
            let block = self.blocks.open();
            let before = block.len();
            self.spelling.row(batch.columns(), row, block);
            self.spelled_bytes += (block.len() - before) as u64;
            self.blocks.end_record(out)?;
        }
        Ok(())
    }
}

impl<S: Spelling> Encoder for RowEncoder<S> {
    fn push(&mut self, batch: &Batch, rows: &[u32], out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>> {
        let mut rejected = Vec::new();
        for row in rows {
            match self.decoder.push(batch.payload(*row as usize)) {
                Ok(()) => self.rows += 1,
                Err(reason) => rejected.push((*row, reason)),
            }
            let decoder = &self.decoder;
            let full = decoder.rows() >= BATCH_ROWS_MAX || decoder.json_bytes() >= BATCH_JSON_BYTES_MAX;
            if full || decoder.cells() >= BATCH_CELLS_MAX {
                self.spell(out)?;
            }
        }
        Ok(rejected)
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows that wait in the decoder count as large as those before them became.
    fn size(&self) -> u64 {
        let waiting = self.decoder.json_bytes() as u64;
        let spelled = match self.json_bytes {
            0 => waiting * S::USUAL_PERCENT / 100,
            json => (u128::from(waiting) * u128::from(self.spelled_bytes) / u128::from(json)) as u64,
        };
        self.blocks.size(spelled)
    }

    fn memory(&self) -> usize {
        self.blocks.memory() + self.decoder.memory()
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.spell(out)?;
        // A decoder keeps its room for the next rows.
        self.decoder = self.columns.decoder();
        self.blocks.flush(out)
    }

    fn finish(mut self: Box<Self>, _about: &About, out: &mut dyn Write) -> io::Result<()> {
        self.spell(out)?;
        self.blocks.finish(out)
    }
}
