//! `parquet`: JSON records as the rows of a Parquet file.
//!
//! Rows gather in the decoder's columns, go in batches to the writer, which encodes them page by page, and a row group
//! that is full goes out. Memory is one row group, encoded, and one batch, however large the object becomes.
//!
//! ```text
//! PAR1 | row group | row group ... | page indexes | footer: schema, where everything lies | footer length | PAR1
//! ```

use std::io::{self, Write};

use anyhow::{Context, ensure};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::compress::Written;
use super::json::{Decoder, Matching, OnUnknown, arrow_schema};
use super::schema::Schema;
use super::{About, Encoder, Format};
use crate::error::Reason;
use crate::record::Batch;

/// Rows that gather in the decoder before they are encoded together.
pub const BATCH_ROWS_MAX: usize = 16_384;
/// Bytes of JSON that gather in the decoder before they are encoded together.
pub const BATCH_JSON_BYTES_MAX: usize = 8 << 20;
/// How large a row of JSON becomes, in per cent, before the first batch has told.
const USUAL_PERCENT: u64 = 16;
/// The least limit of a row group: below, the footer grows faster than the data.
const ROW_GROUP_BYTES_MIN: u64 = 1 << 20;

/// The options of `parquet`, as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    pub schema: Schema,
    #[serde(default)]
    pub compression: Compression,
    #[serde(default)]
    pub on_unknown: OnUnknown,
    /// Whether a key also finds the column that differs by ASCII case only, as Firehose does.
    #[serde(default = "yes")]
    pub case_insensitive: bool,
    /// Whether a key with dots also finds the column with underscores in their places, as the OpenX SerDe has it.
    #[serde(default)]
    pub dots_to_underscores: bool,
    #[serde(default)]
    pub row_group: RowGroup,
}

fn yes() -> bool {
    true
}

/// When a row group ends, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RowGroup {
    /// Bytes of the JSON in it. What is held in memory is that much encoded: a fifth or less.
    #[serde(deserialize_with = "crate::units::bytes")]
    pub json_bytes_max: u64,
    pub rows_max: u64,
}

impl Default for RowGroup {
    fn default() -> RowGroup {
        RowGroup { json_bytes_max: 256 << 20, rows_max: 1 << 20 }
    }
}

/// What pages are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Snappy,
    /// Level 1 to 9; 6 unless told.
    Gzip(i32),
    /// Raw blocks (`LZ4_RAW`), not Hadoop's framing, which the format has deprecated.
    Lz4,
    /// Level 1 to 22; 3 unless told.
    Zstd(i32),
}

impl Default for Compression {
    fn default() -> Compression {
        Compression::Zstd(3)
    }
}

impl Compression {
    fn codec(self) -> anyhow::Result<Codec> {
        Ok(match self {
            Compression::None => Codec::UNCOMPRESSED,
            Compression::Snappy => Codec::SNAPPY,
            Compression::Gzip(level) => Codec::GZIP(GzipLevel::try_new(level.unsigned_abs())?),
            Compression::Lz4 => Codec::LZ4_RAW,
            Compression::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(level)?),
        })
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
        let written = Written::read(deserializer, "one of zstd, snappy, gzip, lz4, none")?;
        match written.name.as_str() {
            "none" => written.plain(Compression::None),
            "snappy" => written.plain(Compression::Snappy),
            "gzip" => written.level(6, 1, 9).map(Compression::Gzip),
            "lz4" => written.plain(Compression::Lz4),
            "zstd" => written.level(3, 1, 22).map(Compression::Zstd),
            _ => Err(written.unknown(&["zstd", "snappy", "gzip", "lz4", "none"])),
        }
        .map_err(D::Error::custom)
    }
}

/// Parquet as it will run.
pub struct ParquetFormat {
    options: Options,
    properties: WriterProperties,
}

impl ParquetFormat {
    /// The format; an error if a column collides with `_rest`, or the writer cannot store the schema.
    pub fn new(options: &Options) -> anyhow::Result<ParquetFormat> {
        ParquetFormat::with_metadata(options, &[])
    }

    /// The same, with pairs of key and value in every file's footer.
    pub fn with_metadata(options: &Options, metadata: &[(String, String)]) -> anyhow::Result<ParquetFormat> {
        ensure!(
            options.row_group.json_bytes_max >= ROW_GROUP_BYTES_MIN && options.row_group.rows_max > 0,
            "row_group: at least {ROW_GROUP_BYTES_MIN} bytes and one row, not {} and {}",
            options.row_group.json_bytes_max,
            options.row_group.rows_max
        );
        let metadata = metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let properties = WriterProperties::builder()
            .set_compression(options.compression.codec()?)
            .set_created_by(format!("hydrant version {}", env!("CARGO_PKG_VERSION")))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_key_value_metadata(Some(metadata))
            // This encoder ends row groups itself, by what went in.
            .set_max_row_group_row_count(None)
            .build();
        let format = ParquetFormat { options: options.clone(), properties };
        format.writer().context("parquet: cannot store this schema")?;
        Ok(format)
    }

    fn writer(&self) -> anyhow::Result<(Decoder, ArrowWriter<Vec<u8>>)> {
        let Options { schema, on_unknown, case_insensitive, dots_to_underscores, .. } = &self.options;
        let matching = Matching { case_insensitive: *case_insensitive, dots_to_underscores: *dots_to_underscores };
        let arrow = arrow_schema(schema, *on_unknown)?;
        let options = ArrowWriterOptions::new().with_properties(self.properties.clone());
        let writer = ArrowWriter::try_new_with_options(Vec::new(), arrow.clone(), options)?;
        Ok((Decoder::new(schema, arrow, *on_unknown, matching), writer))
    }
}

impl Format for ParquetFormat {
    fn encoder(&self) -> Box<dyn Encoder> {
        let (decoder, writer) = self.writer().expect("the same schema was stored when the format was made");
        Box::new(ParquetEncoder {
            decoder,
            writer,
            row_group: self.options.row_group,
            rows: 0,
            encoded_json_bytes: 0,
            group_json_bytes: 0,
        })
    }

    fn extension(&self) -> &str {
        ".parquet"
    }
}

struct ParquetEncoder {
    decoder: Decoder,
    writer: ArrowWriter<Vec<u8>>,
    row_group: RowGroup,
    rows: u64,
    /// JSON bytes of all rows that the writer has.
    encoded_json_bytes: u64,
    /// JSON bytes of those in the open row group.
    group_json_bytes: u64,
}

impl ParquetEncoder {
    /// Hands the decoder's rows to the writer, and ends the row group if it is full.
    fn encode(&mut self) -> io::Result<()> {
        if self.decoder.rows() == 0 {
            return Ok(());
        }
        let json_bytes = self.decoder.json_bytes() as u64;
        self.writer.write(&self.decoder.finish()).map_err(io::Error::other)?;
        self.encoded_json_bytes += json_bytes;
        self.group_json_bytes += json_bytes;
        let full = self.group_json_bytes >= self.row_group.json_bytes_max
            || self.writer.in_progress_rows() as u64 >= self.row_group.rows_max
            || self.writer.memory_size() as u64 >= self.row_group.json_bytes_max;
        if full {
            self.writer.flush().map_err(io::Error::other)?;
            self.group_json_bytes = 0;
        }
        Ok(())
    }

    /// Whether the decoder's rows should be encoded; never more than the row group still takes.
    fn batch_is_full(&self) -> bool {
        let rows = self.decoder.rows();
        rows >= BATCH_ROWS_MAX
            || self.decoder.json_bytes() >= BATCH_JSON_BYTES_MAX
            || (self.writer.in_progress_rows() + rows) as u64 >= self.row_group.rows_max
    }

    /// Gives the bytes that the writer has finished to `out`.
    fn drain(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.writer.sync()?;
        let finished = self.writer.inner_mut();
        out.write_all(finished)?;
        finished.clear();
        // A row group comes at once and is large; what held it is not needed until the next one.
        finished.shrink_to(1 << 20);
        Ok(())
    }
}

impl Encoder for ParquetEncoder {
    fn push(&mut self, batch: &Batch, rows: &[u32], out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>> {
        let mut rejected = Vec::new();
        for row in rows {
            match self.decoder.push(batch.payload(*row as usize)) {
                Ok(()) => self.rows += 1,
                Err(reason) => rejected.push((*row, reason)),
            }
            if self.batch_is_full() {
                self.encode()?;
                self.drain(out)?;
            }
        }
        Ok(rejected)
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows that wait in the decoder count as large as those before them became.
    fn size(&self) -> u64 {
        let encoded = (self.writer.bytes_written() + self.writer.in_progress_size()) as u64;
        let waiting = self.decoder.json_bytes() as u64;
        let estimate = match self.encoded_json_bytes {
            0 => waiting * USUAL_PERCENT / 100,
            json => (u128::from(waiting) * u128::from(encoded) / u128::from(json)) as u64,
        };
        encoded + estimate
    }

    fn memory(&self) -> usize {
        self.writer.memory_size() + self.writer.inner().capacity() + self.decoder.memory()
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.encode()?;
        self.writer.flush().map_err(io::Error::other)?;
        self.group_json_bytes = 0;
        self.drain(out)
    }

    fn finish(mut self: Box<Self>, about: &About, out: &mut dyn Write) -> io::Result<()> {
        self.encode()?;
        self.drain(out)?;
        let facts = [("hydrant.pipeline", about.pipeline.to_owned()), ("hydrant.range", about.range.to_string())];
        for (key, value) in facts {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        self.writer.finish().map_err(io::Error::other)?;
        self.drain(out)
    }
}
