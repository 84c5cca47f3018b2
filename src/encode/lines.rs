//! `lines`: records as they are, one after the other, compressed in blocks of about a mebibyte.
//!
//! A record's bytes are written as they came, and a delimiter behind each. As with Firehose, a payload that itself
//! contains the delimiter is not changed, so it reads back as several lines; with `delimiter: none` nothing at all
//! stands between records. No record is ever rejected.

use std::io::{self, Write};
use std::sync::Arc;

use anyhow::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compress::{BLOCK_BYTES, Blocks, Compression, Compressors, Frame};
use super::{About, Encoder, Format, extension_or};
use crate::error::Reason;
use crate::record::Batch;

/// The longest delimiter, in bytes.
pub const DELIMITER_BYTES_MAX: usize = 16;

/// The options of `lines`, as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// What the text is compressed with: a name, or one with a level as `{ gzip: 9 }`.
    pub compression: Compression,
    /// What stands behind each record.
    pub delimiter: Delimiter,
    /// In place of `.ndjson`, `.ndjson.gz` and so on, with its dot; as `.log.gz`.
    pub extension: Option<String>,
}

/// What stands behind each record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delimiter {
    /// A line end, `\n`.
    #[default]
    Newline,
    /// Nothing: records lie side by side, as with Firehose.
    None,
    /// This text, of 1 to 16 bytes.
    Text(String),
}

impl Delimiter {
    fn as_str(&self) -> &str {
        match self {
            Delimiter::Newline => "\n",
            Delimiter::None => "",
            Delimiter::Text(text) => text,
        }
    }

    /// Lines end in `\n` or `\r\n`; nobody knows where a record ends that has nothing behind it.
    fn extension(&self) -> &'static str {
        match self.as_str() {
            "\n" | "\r\n" => ".ndjson",
            "" => ".bin",
            _ => ".txt",
        }
    }
}

/// Lines as they will run.
pub struct LinesFormat {
    compressors: Compressors,
    delimiter: Arc<str>,
    extension: String,
}

impl LinesFormat {
    /// The format; an error if the extension or the delimiter is none.
    pub fn new(options: &Options) -> anyhow::Result<LinesFormat> {
        if let Delimiter::Text(text) = &options.delimiter {
            ensure!(
                (1..=DELIMITER_BYTES_MAX).contains(&text.len()),
                "a delimiter has 1 to {DELIMITER_BYTES_MAX} bytes, not {}\nhint: for no delimiter write `delimiter: none`",
                text.len()
            );
        }
        Ok(LinesFormat {
            compressors: Compressors::new(options.compression.codec(), BLOCK_BYTES),
            delimiter: options.delimiter.as_str().into(),
            extension: extension_or(&options.extension, options.delimiter.extension(), options.compression)?,
        })
    }
}

impl Format for LinesFormat {
    fn encoder(&self) -> Box<dyn Encoder> {
        let blocks = Blocks::new(&self.compressors, Frame::Bare);
        Box::new(LinesEncoder { blocks, delimiter: self.delimiter.clone(), rows: 0 })
    }

    fn extension(&self) -> &str {
        &self.extension
    }
}

struct LinesEncoder {
    blocks: Blocks,
    delimiter: Arc<str>,
    rows: u64,
}

impl Encoder for LinesEncoder {
    fn push(&mut self, batch: &Batch, rows: &[u32], out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>> {
        for row in rows {
            let block = self.blocks.open();
            block.extend_from_slice(batch.payload(*row as usize));
            block.extend_from_slice(self.delimiter.as_bytes());
            self.rows += 1;
            self.blocks.end_record(out)?;
        }
        Ok(Vec::new())
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

    fn finish(self: Box<Self>, _about: &About, out: &mut dyn Write) -> io::Result<()> {
        self.blocks.finish(out)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::LazyLock;

    use super::*;
    use crate::position::{Position, Shard, ShardRange};
    use crate::record::BatchBuilder;

    /// 2.9 MB of lines that compress like JSON, with one record larger than a block.
    fn batch() -> Batch {
        let mut builder = BatchBuilder::default();
        for row in 0..40_000u64 {
            let noise = row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            builder.push(format!("{{\"id\":{row},\"user\":\"u{noise:x}\",\"page\":\"/a\"}}").as_bytes(), 0);
        }
        builder.push(&vec![b'x'; BLOCK_BYTES + 7], 0);
        builder.push(b"", 0);
        builder.push(b"two\nlines", 0);
        builder.finish()
    }

    fn about() -> About<'static> {
        static RANGE: LazyLock<ShardRange> = LazyLock::new(|| ShardRange {
            shard: Shard::new("7f").unwrap(),
            start: Position::from(0),
            end: Position::from(9),
        });
        About { pipeline: "click", range: &RANGE }
    }

    fn raw(batch: &Batch) -> Vec<u8> {
        batch.payloads().flat_map(|payload| [payload, b"\n"].concat()).collect()
    }

    fn encode(yaml: &str, batch: &Batch) -> Vec<u8> {
        let format = LinesFormat::new(&serde_saphyr::from_str(yaml).unwrap()).unwrap();
        let (mut encoder, mut out) = (format.encoder(), Vec::new());
        let rows: Vec<u32> = (0..batch.len() as u32).collect();
        for rows in rows.chunks(777) {
            assert!(encoder.push(batch, rows, &mut out).unwrap().is_empty());
        }
        assert_eq!(encoder.rows(), batch.len() as u64);
        let estimate = encoder.size() as f64;
        encoder.finish(&about(), &mut out).unwrap();
        if batch.len() > 1 {
            assert!((0.9..1.1).contains(&(estimate / out.len() as f64)), "{yaml}: {estimate} for {}", out.len());
        }
        out
    }

    fn hadoop_read(mut bytes: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        while !bytes.is_empty() {
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
            let (raw_len, len) = (number(bytes), number(&bytes[4..]));
            assert!(raw_len <= 256 << 10);
            let block = snap::raw::Decoder::new().decompress_vec(&bytes[8..8 + len]).unwrap();
            assert_eq!(block.len(), raw_len);
            raw.extend(block);
            bytes = &bytes[8 + len..];
        }
        raw
    }

    fn read(compression: &str, bytes: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        match compression {
            "none" => raw = bytes.to_vec(),
            "gzip" => drop(flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut raw).unwrap()),
            "zstd" => raw = zstd::stream::decode_all(bytes).unwrap(),
            "snappy" => drop(snap::read::FrameDecoder::new(bytes).read_to_end(&mut raw).unwrap()),
            _ => raw = hadoop_read(bytes),
        }
        raw
    }

    #[test]
    fn every_compression_is_read_back_by_another_implementation() {
        let batch = batch();
        for compression in ["none", "gzip", "zstd", "snappy", "hadoop_snappy"] {
            let out = encode(&format!("compression: {compression}"), &batch);
            assert!(read(compression, &out) == raw(&batch), "{compression} reads back");
            assert_eq!(out.len() < raw(&batch).len() / 2, compression != "none", "{compression} compresses");
        }
    }

    #[test]
    fn bytes_that_do_not_compress_are_stored_as_they_are() {
        let mut seed = 7u64;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        let mut builder = BatchBuilder::default();
        builder.push(&noise, 0);
        let batch = builder.finish();
        for compression in ["gzip", "zstd", "snappy", "hadoop_snappy"] {
            let out = encode(&format!("{{compression: {compression}, delimiter: none}}"), &batch);
            assert!(read(compression, &out) == noise, "{compression} reads back");
            assert!(out.len() < noise.len() + noise.len() / 500, "{compression}: {} bytes", out.len());
        }
    }

    #[test]
    fn an_object_without_records_is_still_a_valid_file() {
        for compression in ["none", "gzip", "zstd", "snappy", "hadoop_snappy"] {
            let out = encode(&format!("compression: {compression}"), &Batch::default());
            assert_eq!(read(compression, &out), b"", "{compression}");
        }
    }

    #[test]
    fn the_extension_tells_the_truth() {
        let extension = |yaml: &str| {
            LinesFormat::new(&serde_saphyr::from_str(yaml).unwrap()).map(|format| format.extension().to_owned())
        };
        assert_eq!(extension("{}").unwrap(), ".ndjson");
        assert_eq!(extension("compression: gzip").unwrap(), ".ndjson.gz");
        assert_eq!(extension("compression: { zstd: 1 }").unwrap(), ".ndjson.zst");
        assert_eq!(extension("compression: snappy").unwrap(), ".ndjson.sz");
        assert_eq!(extension("compression: hadoop_snappy").unwrap(), ".ndjson.snappy");
        assert_eq!(extension("{ compression: gzip, delimiter: none }").unwrap(), ".bin.gz");
        assert_eq!(extension(r#"delimiter: { text: "\r\n" }"#).unwrap(), ".ndjson");
        assert_eq!(extension("{ compression: zstd, delimiter: { text: '|' } }").unwrap(), ".txt.zst");
        assert_eq!(extension("extension: .log.gz").unwrap(), ".log.gz");
        for wrong in ["gz", ".", ".a/b", "..", ".a..b", ".my-LOG"] {
            assert!(extension(&format!("extension: \"{wrong}\"")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_delimiter_is_any_short_text() {
        let mut builder = BatchBuilder::default();
        ["a", "", "b|c"].iter().for_each(|record| builder.push(record.as_bytes(), 0));
        let batch = builder.finish();
        assert_eq!(encode(r#"delimiter: { text: "\r\n" }"#, &batch), b"a\r\n\r\nb|c\r\n");
        assert_eq!(encode("delimiter: { text: \" ; \" }", &batch), b"a ;  ; b|c ; ");
        assert_eq!(encode("delimiter: none", &batch), b"ab|c");
        for wrong in ["", "12345678901234567"] {
            let options = Options { delimiter: Delimiter::Text(wrong.into()), ..Options::default() };
            let error = LinesFormat::new(&options).err().unwrap().to_string();
            assert!(error.contains("a delimiter has 1 to 16 bytes") && error.contains("delimiter: none"), "{error}");
        }
    }

    #[test]
    fn an_encoder_that_waits_holds_little_more_than_its_lines() {
        let format = LinesFormat::new(&serde_saphyr::from_str("compression: gzip").unwrap()).unwrap();
        let (mut encoder, mut out) = (format.encoder(), Vec::new());
        let mut builder = BatchBuilder::default();
        builder.push(b"{}", 0);
        encoder.push(&builder.finish(), &[0], &mut out).unwrap();
        assert!(encoder.memory() < 1024 && out.is_empty());
    }
}
