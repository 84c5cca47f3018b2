//! JSON to Arrow columns: a schema-directed decoder that builds the declared columns straight from the bytes.
//!
//! The promise: a record becomes exactly one row, or it is rejected with its reason and leaves no trace in its
//! neighbours; no value is ever changed silently.
//!
//! - A record is one JSON object (RFC 8259), with white space around it at most, up to [`RECORD_BYTES_MAX`] and
//!   [`DEPTH_MAX`] deep. All of it is checked, also what no column asks for.
//! - A key finds the column of that key, or else one that is alike ([`Matching`]). Of several keys that find one column
//!   the last wins, in maps too, and each has to fit. A field that is missing or `null` is null.
//! - Whole numbers are exact (`1.0` and `1e3` are whole, `1.5` and what is out of range is rejected); so are decimals.
//!   Floats are the nearest. A string that spells a number or a boolean exactly as JSON does is taken for one.
//! - Dates and times: see `time.rs`, or as the column's `format` says. Binary: see `BinaryText`.
//! - Fields that the schema does not know, also within structs, are kept, dropped, or a reason to reject ([`OnUnknown`]).

mod cells;
mod column;
mod dictionary;
mod flaw;
mod keys;
mod map;
mod number;
mod rest;
mod scan;
mod time;
mod usual;
mod value;
mod whole;
mod wide;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::bail;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use flaw::{MALFORMED_DATA, PARSE_ERROR};
pub use keys::Matching;
pub use scan::DEPTH_MAX;
pub use whole::whole_value;

use super::schema::{Data, Schema, Type};
use crate::error::Reason;
use column::{Members, Node, Values};
use flaw::{Flaw, Found};
use rest::Leavings;
use scan::Scanner;
use value::{Cursor, object};

/// The largest record, in bytes. Firehose's own limit is 1,000 KiB; other sources carry more.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Cells that the elements and entries of one record may take, or one for each of its bytes if these are more: `{}` takes a
/// cell in every column of its struct.
pub const RECORD_CELLS_MAX: usize = 4 << 20;
/// Bytes of rejected records of which something may stay while there is no row.
const REJECTED_BYTES_MAX: usize = 4 << 20;
/// The column that keeps the fields the schema does not know.
pub const REST_COLUMN: &str = "_rest";

/// What becomes of a field that the schema does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// It stands, byte for byte, in the JSON object of the column `_rest`, at its place within structs and lists.
    #[default]
    Keep,
    /// It is left out.
    Drop,
    /// Its record is rejected.
    Reject,
}

/// Columns that records are decoded into.
pub struct Decoder {
    arrow: SchemaRef,
    columns: Members,
    /// Cells that a row of nulls takes.
    row_cells: usize,
    rest: Option<Node>,
    on_unknown: OnUnknown,
    exact: bool,
    rows: usize,
    json_bytes: usize,
    cells: usize,
    rejected_bytes: usize,
    scratch: Vec<u8>,
    rest_text: Vec<u8>,
    leavings: Leavings,
}

impl Decoder {
    /// A decoder without rows; `arrow` is what [`arrow_schema`] gives for the same schema.
    pub fn new(schema: &Schema, arrow: SchemaRef, on_unknown: OnUnknown, matching: Matching) -> Decoder {
        let rest = Data { kind: Type::Json, nullable: true };
        let columns = Members::new(schema.columns(), &[], matching);
        Decoder {
            arrow,
            row_cells: columns.cells(),
            columns,
            rest: (on_unknown == OnUnknown::Keep).then(|| Node::new(&rest, &[], matching)),
            on_unknown,
            exact: schema.is_exact(),
            rows: 0,
            json_bytes: 0,
            cells: 0,
            rejected_bytes: 0,
            scratch: Vec::new(),
            rest_text: Vec::new(),
            leavings: Leavings::default(),
        }
    }

    /// Adds a record as a row, or says why it is none; the columns are then as they were.
    pub fn push(&mut self, record: &[u8]) -> Result<(), Reason> {
        if self.rows == 0 {
            self.columns.nodes.iter_mut().chain(&mut self.rest).for_each(Node::reuse);
        }
        match self.row(record) {
            Ok(cells) => self.cells += cells,
            Err(flaw) => {
                self.columns.truncate(self.rows);
                self.rejected_bytes += record.len();
                if self.rows == 0 && self.rejected_bytes > REJECTED_BYTES_MAX {
                    // Dictionaries keep the texts of rejected rows until a batch ends.
                    drop(self.finish());
                }
                return Err(flaw.reason(record));
            }
        }
        self.rows += 1;
        self.json_bytes += record.len();
        Ok(())
    }

    /// Rows since the last batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Cells that a row of nulls takes.
    pub fn row_cells(&self) -> usize {
        self.row_cells
    }

    /// Bytes of the records of these rows.
    pub fn json_bytes(&self) -> usize {
        self.json_bytes
    }

    /// Cells that these rows take, nulls counted, without the elements that are plain values, and a cell for each byte of
    /// what was rejected since the last batch, of which something may stay until the next: a batch should end before
    /// they are too many. 0 without rows.
    pub fn cells(&self) -> usize {
        if self.rows == 0 { 0 } else { self.cells + self.rejected_bytes }
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let nodes = self.columns.nodes.iter().chain(&self.rest);
        nodes.map(Node::memory).sum::<usize>() + self.scratch.capacity() + self.rest_text.capacity()
    }

    /// The rows as a batch; the decoder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        let mut arrays = self.columns.finish();
        arrays.extend(self.rest.as_mut().map(Node::finish));
        self.rows = 0;
        self.json_bytes = 0;
        self.cells = 0;
        self.rejected_bytes = 0;
        RecordBatch::try_new(self.arrow.clone(), arrays).expect("columns are of their schema and of one length")
    }

    /// Reads a record as the next row, and says how many cells that took.
    fn row(&mut self, record: &[u8]) -> Found<usize> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(Box::new(Flaw::Malformed {
                at: RECORD_BYTES_MAX,
                what: "expected a record of at most 64 MiB",
            }));
        }
        self.rest_text.clear();
        self.leavings.clear();
        let mut cursor = Cursor {
            scan: Scanner::new(record),
            scratch: &mut self.scratch,
            rest: &mut self.rest_text,
            unknown: 0,
            on_unknown: self.on_unknown,
            exact: self.exact,
            leavings: &mut self.leavings,
            cells: 0,
            cells_max: RECORD_CELLS_MAX.max(record.len()),
            superseded: BTreeMap::new(),
        };
        if cursor.scan.token() != b'{' {
            return Err(not_one_object(cursor.scan, "expected an object"));
        }
        object(&mut cursor, &mut self.columns, self.rows, 1)?;
        cursor.scan.token();
        if !cursor.scan.at_end() {
            return Err(not_one_object(cursor.scan, "expected the end of the record"));
        }
        let (unknown, cells) = (cursor.unknown > 0, self.row_cells + cursor.cells);
        if let Some(rest) = &mut self.rest {
            self.leavings.tidy(&mut self.rest_text);
            push_rest(rest, unknown.then_some(&self.rest_text));
        }
        Ok(cells)
    }
}

/// The Arrow schema that a decoder builds: the declared columns, and `_rest` if unknown fields are kept. An error if a column has the name of the one that keeps the rest.
pub fn arrow_schema(schema: &Schema, on_unknown: OnUnknown) -> anyhow::Result<SchemaRef> {
    if on_unknown != OnUnknown::Keep {
        return Ok(schema.arrow());
    }
    if let Some(taken) = schema.columns().iter().find(|column| column.name.eq_ignore_ascii_case(REST_COLUMN)) {
        bail!(
            "column {}: `on_unknown: keep` keeps unknown fields in a column of this name\nhint: rename it, or choose `on_unknown: drop`",
            taken.name
        );
    }
    let mut fields: Vec<_> = schema.arrow().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(REST_COLUMN, DataType::Utf8, true)));
    Ok(Arc::new(arrow_schema::Schema::new(fields)))
}

fn push_rest(rest: &mut Node, text: Option<&Vec<u8>>) {
    match (text, &mut rest.values) {
        (Some(text), Values::Bytes(texts)) => {
            texts.data.extend_from_slice(text);
            texts.push_end();
            rest.push_valid();
        }
        _ => rest.push_null(),
    }
}

/// What stands here is no object, or is too much behind one; if it is no JSON value either, it is malformed.
#[cold]
fn not_one_object(mut scan: Scanner, expected: &'static str) -> Box<Flaw> {
    let at = scan.at;
    match scan.at_end() || scan.skip(0).is_ok() {
        true => Box::new(Flaw::NotOneObject { at }),
        false => Box::new(Flaw::Malformed { at, what: expected }),
    }
}
