//! `csv`: declared columns as comma-separated values (RFC 4180), with a line of names first.
//!
//! ```text
//! id,name,tags,_rest
//! 1,"says ""hi""","[""a"",""b""]",
//! 2,"",[],"{""new"":1}"
//! ```
//!
//! - Null is the text of `null_text`, nothing unless told, and never in quotes. A value that is spelled like it stands in
//!   quotes, so that the empty string and null differ.
//! - A field is in quotes if it holds the delimiter, a quote (which is doubled) or a line end, and only then.
//! - Lists, maps and structs are JSON in one field; all else is spelled as in `cells.rs`.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, ensure};
use arrow_array::{Array, ArrayRef};
use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::cells::Cell;
use super::columns::{Columns, RowEncoder, Spelling};
use super::compress::{BLOCK_BYTES, Blocks, Compression, Compressors, Frame};
use super::json::{Matching, OnUnknown};
use super::schema::{Column, Schema};
use super::{Encoder, Format, extension_or, yes};

/// The longest text for null, in bytes.
pub const NULL_BYTES_MAX: usize = 16;

/// The options of `csv`, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The columns, as `name: type`; or `{ file: NAME }`, a schema file beside the pipeline; or `infer`, from the records.
    pub schema: Schema,
    /// What becomes of fields that the schema does not know.
    #[serde(default)]
    pub on_unknown: OnUnknown,
    /// Whether a key also finds the column that differs by ASCII case only, as with Firehose: `User_ID` finds `user_id`.
    #[serde(default = "yes")]
    pub case_insensitive: bool,
    /// Whether a key with dots also finds the column with underscores in their places, as the OpenX SerDe has
    /// it: `user.id` finds `user_id`.
    #[serde(default)]
    pub dots_to_underscores: bool,
    /// What the text is compressed with: a name, or one with a level as `{ gzip: 9 }`.
    #[serde(default)]
    pub compression: Compression,
    /// Whether the first line of an object names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// One ASCII character between fields.
    #[serde(default = "comma", deserialize_with = "sign")]
    #[schemars(with = "Sign", extend("default" = char::from(comma())))]
    pub delimiter: u8,
    /// One ASCII character around fields that need it.
    #[serde(default = "quote", deserialize_with = "sign")]
    #[schemars(with = "Sign", extend("default" = char::from(quote())))]
    pub quote: u8,
    /// How null is written; at most 16 bytes.
    #[serde(default)]
    pub null_text: String,
    /// What ends a line.
    #[serde(default)]
    pub line_end: LineEnd,
    /// In place of `.csv`, `.csv.gz` and so on, with its dot; as `.txt.gz`.
    #[serde(default)]
    pub extension: Option<String>,
}

fn comma() -> u8 {
    b','
}

fn quote() -> u8 {
    b'"'
}

/// One ASCII character, as the schema of pipelines has it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is a schema only")]
struct Sign(#[schemars(regex(pattern = "^[\\x00-\\x7F]$"))] String);

/// A character that can stand between or around fields.
fn sign<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_bytes() {
        [byte @ 0..0x80] if !b"\r\n".contains(byte) => Ok(*byte),
        _ => Err(D::Error::custom(format!(
            "one ASCII character that ends no line, such as `,`, `;` or a tab, not {text:?}"
        ))),
    }
}

/// What ends a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineEnd {
    /// `\n`
    #[default]
    Lf,
    /// `\r\n`, as RFC 4180 has it.
    Crlf,
}

/// CSV as it will run.
pub struct CsvFormat {
    columns: Columns,
    style: Arc<Style>,
    compressors: Compressors,
    extension: String,
}

impl CsvFormat {
    /// The format; an error if an option cannot be, or what is written could not be read back.
    pub fn new(options: &Options) -> anyhow::Result<CsvFormat> {
        let Options { schema, on_unknown, case_insensitive, dots_to_underscores, .. } = options;
        let matching = Matching { case_insensitive: *case_insensitive, dots_to_underscores: *dots_to_underscores };
        let columns = Columns::new(schema, *on_unknown, matching)?;
        let all = columns.all();
        let style = Style::new(options, &all)?;
        ensure!(
            all.len() > 1 || !all.iter().all(|column| column.data.nullable) || !options.null_text.is_empty(),
            "null in the only column would be an empty line, which readers pass over\nhint: set `null_text`, as in `null_text: '\\N'`, \
             or declare the column `not null`"
        );
        let content = if options.delimiter == b'\t' { ".tsv" } else { ".csv" };
        Ok(CsvFormat {
            columns,
            style: Arc::new(style),
            compressors: Compressors::new(options.compression.codec(), BLOCK_BYTES),
            extension: extension_or(&options.extension, content, options.compression)?,
        })
    }
}

impl Format for CsvFormat {
    fn encoder(&self) -> Box<dyn Encoder> {
        let blocks = Blocks::new(&self.compressors, Frame::Bare);
        Box::new(RowEncoder::new(&self.columns, Lines { style: self.style.clone() }, blocks))
    }

    fn extension(&self) -> &str {
        &self.extension
    }
}

/// How lines are written.
struct Style {
    cells: Vec<Cell>,
    /// The line of names, or nothing.
    head: Vec<u8>,
    delimiter: u8,
    quote: u8,
    null: Vec<u8>,
    line_end: &'static [u8],
}

impl Style {
    fn new(options: &Options, columns: &[Column]) -> anyhow::Result<Style> {
        let (delimiter, quote) = (options.delimiter, options.quote);
        ensure!(delimiter != quote, "the delimiter and the quote are both {:?}", char::from(quote));
        let null = options.null_text.as_bytes();
        ensure!(
            null.len() <= NULL_BYTES_MAX,
            "the text for null has at most {NULL_BYTES_MAX} bytes, not {}",
            null.len()
        );
        ensure!(
            !null.iter().any(|byte| [delimiter, quote, b'\r', b'\n'].contains(byte)),
            "the text for null, {:?}, holds the delimiter, a quote or a line end, but never stands in quotes",
            options.null_text
        );
        let cell = |column: &Column| Cell::new(&column.data).with_context(|| format!("column {}", column.name));
        let mut style = Style {
            cells: columns.iter().map(cell).collect::<anyhow::Result<_>>()?,
            head: Vec::new(),
            delimiter,
            quote,
            null: null.to_vec(),
            line_end: if options.line_end == LineEnd::Lf { b"\n" } else { b"\r\n" },
        };
        if options.header {
            let mut head = Vec::new();
            for (index, column) in columns.iter().enumerate() {
                style.begin_field(index, &mut head);
                let start = head.len();
                head.extend_from_slice(column.name.as_bytes());
                style.end_field(start, &mut head);
            }
            head.extend_from_slice(style.line_end);
            style.head = head;
        }
        Ok(style)
    }

    fn begin_field(&self, index: usize, out: &mut Vec<u8>) {
        if index > 0 {
            out.push(self.delimiter);
        }
    }

    /// Puts the field that begins at `start` into quotes if it needs them.
    fn end_field(&self, start: usize, out: &mut Vec<u8>) {
        let field = &out[start..];
        let special = memchr::memchr3(self.delimiter, self.quote, b'\n', field).is_some()
            || memchr::memchr(b'\r', field).is_some();
        if !special && field != self.null {
            return;
        }
        let quotes = memchr::memchr_iter(self.quote, field).count();
        let (mut from, mut to) = (out.len(), out.len() + quotes + 2);
        out.resize(to, self.quote);
        // From behind, each byte to its place: what is behind the gap is never read again.
        to -= 1;
        while from > start {
            from -= 1;
            to -= 1;
            out[to] = out[from];
            if out[to] == self.quote {
                to -= 1;
                out[to] = self.quote;
            }
        }
        out[start] = self.quote;
        let end = out.len() - 1;
        out[end] = self.quote;
    }
}

/// The lines of one object.
struct Lines {
    style: Arc<Style>,
}

impl Spelling for Lines {
    const USUAL_PERCENT: u64 = 60;

    fn begin(&self, blocks: &mut Blocks, _out: &mut dyn Write) -> io::Result<()> {
        blocks.open().extend_from_slice(&self.style.head);
        Ok(())
    }

    fn row(&self, columns: &[ArrayRef], row: usize, out: &mut Vec<u8>) {
        let style = &*self.style;
        for (index, (cell, column)) in style.cells.iter().zip(columns).enumerate() {
            style.begin_field(index, out);
            if column.is_null(row) {
                out.extend_from_slice(&style.null);
            } else {
                let start = out.len();
                cell.text(column, row, out);
                style.end_field(start, out);
            }
        }
        out.extend_from_slice(style.line_end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(yaml: &str) -> anyhow::Result<Style> {
        let options: Options = serde_saphyr::from_str(&format!("schema: {{ a: string, b: string }}\n{yaml}"))?;
        Style::new(&options, options.schema.columns())
    }

    #[test]
    fn a_field_is_in_quotes_only_where_it_needs_them() {
        let field = |yaml: &str, text: &str| {
            let mut out = b"before,".to_vec();
            out.extend_from_slice(text.as_bytes());
            style(yaml).unwrap().end_field(7, &mut out);
            String::from_utf8(out.split_off(7)).unwrap()
        };
        for plain in ["x", "two words", "é;|'", "\\"] {
            assert_eq!(field("", plain), plain);
        }
        assert_eq!(field("", ""), "\"\"", "the empty string is not null");
        assert_eq!(field("", "a,b"), "\"a,b\"");
        assert_eq!(field("", "\""), "\"\"\"\"");
        assert_eq!(field("", "\"a\" and \"b\""), "\"\"\"a\"\" and \"\"b\"\"\"");
        assert_eq!(field("", "x\ry"), "\"x\ry\"");
        assert_eq!(field("null_text: '\\N'", ""), "");
        assert_eq!(field("null_text: '\\N'", "\\N"), "\"\\N\"");
        assert_eq!(field("delimiter: '|'", "a,b"), "a,b");
        assert_eq!(field("quote: \"'\"", "it's"), "'it''s'");
    }

    #[test]
    fn options_that_cannot_be_read_back_are_refused() {
        let error = |yaml: &str| style(yaml).err().unwrap().to_string();
        for wrong in [",,", "", "é", "\\n"] {
            assert!(
                error(&format!("delimiter: \"{wrong}\"")).contains("one ASCII character that ends no line"),
                "{wrong}"
            );
        }
        assert!(error("quote: ','").contains("the delimiter and the quote are both ','"));
        assert!(error("null_text: 'a,b'").contains("holds the delimiter"));
        assert!(error("null_text: '12345678901234567'").contains("at most 16 bytes"));
        let only = serde_saphyr::from_str("{ schema: { a: string }, on_unknown: drop }").unwrap();
        assert!(CsvFormat::new(&only).err().unwrap().to_string().contains("an empty line"));
    }
}
