//! `lines`: records as they are, one after the other, compressed in blocks of about a mebibyte.
//!
//! A record's bytes are written as they came, and a delimiter behind each. As with Firehose, a payload that itself
//! contains the delimiter is not changed, so it reads back as several lines; with `delimiter: none` nothing at all
//! stands between records. No record is ever rejected.

use std::io::{self, Write};

use anyhow::bail;
use serde::Deserialize;

use super::compress::{Compression, Compressors};
use super::{About, Encoder, Format};
use crate::error::Reason;
use crate::naming::{EXTENSION_BYTES_MAX, is_extension};
use crate::record::Batch;

/// Raw bytes that are gathered before they are compressed as one block.
pub const BLOCK_BYTES: usize = 1 << 20;

/// The options of `lines`, as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    pub compression: Compression,
    pub delimiter: Delimiter,
    /// In place of the one that follows from the other options, with its dot; as names have it ([`is_extension`]).
    pub extension: Option<String>,
}

/// What stands behind each record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delimiter {
    #[default]
    Newline,
    None,
}

/// Lines as they will run.
pub struct LinesFormat {
    compressors: Compressors,
    delimiter: Delimiter,
    extension: String,
}

impl LinesFormat {
    /// The format; an error if the extension is none.
    pub fn new(options: &Options) -> anyhow::Result<LinesFormat> {
        let extension = match &options.extension {
            Some(extension) => checked_extension(extension)?,
            None => {
                let content = if options.delimiter == Delimiter::Newline { ".ndjson" } else { ".bin" };
                format!("{content}{}", options.compression.extension())
            }
        };
        Ok(LinesFormat { compressors: Compressors::new(options.compression), delimiter: options.delimiter, extension })
    }
}

impl Format for LinesFormat {
    fn encoder(&self) -> Box<dyn Encoder> {
        Box::new(LinesEncoder {
            compressors: self.compressors.clone(),
            delimiter: self.delimiter,
            block: Vec::new(),
            packed: Vec::new(),
            rows: 0,
            raw_bytes: 0,
            written_bytes: 0,
        })
    }

    /// `.ndjson` and what compressed it; records without delimiter are `.bin`, as no reader can tell them apart.
    fn extension(&self) -> &str {
        &self.extension
    }
}

struct LinesEncoder {
    compressors: Compressors,
    delimiter: Delimiter,
    /// Raw lines that are not compressed yet.
    block: Vec<u8>,
    /// Where a block is compressed to.
    packed: Vec<u8>,
    rows: u64,
    /// Raw bytes of the blocks that are written.
    raw_bytes: u64,
    written_bytes: u64,
}

impl LinesEncoder {
    fn write_block(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.packed.clear();
        self.compressors.append(&self.block, self.written_bytes == 0, &mut self.packed)?;
        out.write_all(&self.packed)?;
        self.raw_bytes += self.block.len() as u64;
        self.written_bytes += self.packed.len() as u64;
        self.block.clear();
        self.block.shrink_to(2 * BLOCK_BYTES);
        Ok(())
    }
}

impl Encoder for LinesEncoder {
    fn push(&mut self, batch: &Batch, rows: &[u32], out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>> {
        for row in rows {
            self.block.extend_from_slice(batch.payload(*row as usize));
            if self.delimiter == Delimiter::Newline {
                self.block.push(b'\n');
            }
            self.rows += 1;
            if self.block.len() >= BLOCK_BYTES {
                self.write_block(out)?;
            }
        }
        Ok(Vec::new())
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    /// Held lines count as large as those before them became.
    fn size(&self) -> u64 {
        let held = self.block.len() as u64;
        let estimate = match self.raw_bytes {
            0 => held * self.compressors.compression().usual_percent() / 100,
            raw => (u128::from(held) * u128::from(self.written_bytes) / u128::from(raw)) as u64,
        };
        self.written_bytes + estimate
    }

    fn memory(&self) -> usize {
        self.block.capacity() + self.packed.capacity()
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.block.is_empty() {
            self.write_block(out)?;
        }
        (self.block, self.packed) = (Vec::new(), Vec::new());
        Ok(())
    }

    fn finish(mut self: Box<Self>, _about: &About, out: &mut dyn Write) -> io::Result<()> {
        if !self.block.is_empty() || self.written_bytes == 0 {
            self.write_block(out)?;
        }
        Ok(())
    }
}

fn checked_extension(extension: &str) -> anyhow::Result<String> {
    if !is_extension(extension) {
        bail!(
            "the extension `{extension}` cannot end a name\nhint: write words of `a-z 0-9 _`, each behind a dot, such as `.log.gz`; \
             at most {EXTENSION_BYTES_MAX} characters"
        );
    }
    Ok(extension.to_owned())
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
        assert_eq!(extension("extension: .log.gz").unwrap(), ".log.gz");
        for wrong in ["gz", ".", ".a/b", "..", ".a..b", ".my-LOG"] {
            assert!(extension(&format!("extension: \"{wrong}\"")).is_err(), "{wrong}");
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
