//! Compression of whole blocks: each block becomes a unit of its own, and units one behind the other are one valid file.
//!
//! ```text
//! gzip           member member ...                        RFC 1952: readers take concatenated members as one file
//! zstd           frame frame ...                          RFC 8878, likewise
//! snappy         "\xff\x06\0\0sNaPpY" chunk chunk ...     framing_format.txt: type u8, length u24 LE, masked crc32c, data
//! hadoop_snappy  block block ...                          raw length u32 BE, compressed length u32 BE, raw snappy
//! ```
//!
//! Whole-buffer compression beats every streaming one in speed and in size (`DECISIONS.md`, "Compression in blocks").

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::nearest::nearest;

/// Raw bytes in one block of `hadoop_snappy`: the buffer of Hadoop's own decompressor (`io.compression.codec.snappy.buffersize`).
pub const HADOOP_BLOCK_BYTES: usize = 256 << 10;
/// Raw bytes in one chunk of framed Snappy, as its specification limits them.
const SNAPPY_CHUNK_BYTES: usize = 65_536;
const SNAPPY_IDENTIFIER: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// What lines are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    None,
    /// Level 0 to 12 of libdeflate; 6 unless told.
    Gzip(i32),
    /// Level 1 to 22; 3 unless told.
    Zstd(i32),
    /// The official framing format.
    Snappy,
    /// Hadoop's block framing.
    HadoopSnappy,
}

impl Compression {
    /// The file extension that tells the truth; empty for none.
    pub fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip(_) => ".gz",
            Compression::Zstd(_) => ".zst",
            Compression::Snappy => ".sz",
            Compression::HadoopSnappy => ".snappy",
        }
    }

    /// How large JSON lines become, in per cent, before the first block has told.
    pub fn usual_percent(self) -> u64 {
        match self {
            Compression::None => 100,
            Compression::Gzip(_) | Compression::Zstd(_) => 21,
            Compression::Snappy | Compression::HadoopSnappy => 36,
        }
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
        let written = Written::read(deserializer, "one of none, gzip, zstd, snappy, hadoop_snappy")?;
        match written.name.as_str() {
            "none" => written.plain(Compression::None),
            "gzip" => written.level(6, 0, 12).map(Compression::Gzip),
            "zstd" => written.level(3, 1, 22).map(Compression::Zstd),
            "snappy" => written.plain(Compression::Snappy),
            "hadoop_snappy" => written.plain(Compression::HadoopSnappy),
            _ => Err(written.unknown(&["none", "gzip", "zstd", "snappy", "hadoop_snappy"])),
        }
        .map_err(D::Error::custom)
    }
}

/// A compression as it is written: `zstd`, or with a level `{ zstd: 9 }`.
pub(super) struct Written {
    pub name: String,
    level: Option<i32>,
}

impl Written {
    /// Reads the text or the map; `expected` is for the error.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D, expected: &'static str) -> Result<Written, D::Error> {
        deserializer.deserialize_any(WrittenVisitor(expected))
    }

    /// A compression that has no level.
    pub fn plain<T>(&self, compression: T) -> Result<T, String> {
        match self.level {
            None => Ok(compression),
            Some(_) => Err(format!("compression {} has no level: write `compression: {}`", self.name, self.name)),
        }
    }

    /// The level, from `least` to `most`, `usual` unless told.
    pub fn level(&self, usual: i32, least: i32, most: i32) -> Result<i32, String> {
        match self.level.unwrap_or(usual) {
            level if (least..=most).contains(&level) => Ok(level),
            level => Err(format!("compression {}: a level from {least} to {most}, not {level}", self.name)),
        }
    }

    /// The error for a name that is none of `names`.
    pub fn unknown(&self, names: &[&str]) -> String {
        let hint = nearest(&self.name, names.iter().copied()).map(|name| format!("\nhint: did you mean `{name}`?"));
        let (found, hint) = (&self.name, hint.unwrap_or_default());
        format!("unknown compression `{found}`, expected one of {}{hint}", names.join(", "))
    }
}

struct WrittenVisitor(&'static str);

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a compression, {}, or with a level such as {{ zstd: 9 }}", self.0)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Written, E> {
        Ok(Written { name: name.to_owned(), level: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
        let Some((name, level)) = map.next_entry::<String, i32>()? else {
            return Err(A::Error::invalid_length(0, &self));
        };
        match map.next_key::<String>()? {
            None => Ok(Written { name, level: Some(level) }),
            Some(second) => Err(A::Error::custom(format!("one compression, not both {name} and {second}"))),
        }
    }
}

/// Compressors of one kind, shared by all encoders of a format: an encoder that waits for records holds none.
#[derive(Clone)]
pub struct Compressors {
    compression: Compression,
    idle: Arc<Mutex<Vec<Compressor>>>,
}

impl Compressors {
    /// None yet; as many will be made as are used at once.
    pub fn new(compression: Compression) -> Compressors {
        Compressors { compression, idle: Arc::default() }
    }

    /// What they compress with.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Appends `block`, compressed, to `out`. `first` says that nothing of the object was written yet: some formats
    /// begin with a mark, and an empty object of them is not an empty file.
    ///
    /// Blocking; a compressor is reused if one is idle. An error is the codec's own, and means a bug or no memory.
    pub fn append(&self, block: &[u8], first: bool, out: &mut Vec<u8>) -> io::Result<()> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor = match idle {
            Some(compressor) => compressor,
            None => Compressor::new(self.compression)?,
        };
        compressor.append(block, first, out)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
        Ok(())
    }
}

enum Compressor {
    None,
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
    Snappy(snap::raw::Encoder),
    HadoopSnappy(snap::raw::Encoder),
}

impl Compressor {
    fn new(compression: Compression) -> io::Result<Compressor> {
        Ok(match compression {
            Compression::None => Compressor::None,
            Compression::Gzip(level) => {
                let level = libdeflater::CompressionLvl::new(level)
                    .map_err(|_| io::Error::other(format!("libdeflate has no level {level}")))?;
                Compressor::Gzip(libdeflater::Compressor::new(level))
            }
            Compression::Zstd(level) => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.include_checksum(true)?;
                Compressor::Zstd(compressor)
            }
            Compression::Snappy => Compressor::Snappy(snap::raw::Encoder::new()),
            Compression::HadoopSnappy => Compressor::HadoopSnappy(snap::raw::Encoder::new()),
        })
    }

    fn append(&mut self, block: &[u8], first: bool, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Compressor::None => out.extend_from_slice(block),
            Compressor::Gzip(gzip) => {
                let bound = gzip.gzip_compress_bound(block.len());
                grown(out, bound, |room| gzip.gzip_compress(block, room).map_err(io::Error::other))?;
            }
            Compressor::Zstd(zstd) => {
                let bound = zstd::zstd_safe::compress_bound(block.len());
                grown(out, bound, |room| zstd.compress_to_buffer(block, room))?;
            }
            Compressor::Snappy(snappy) => {
                if first {
                    out.extend_from_slice(SNAPPY_IDENTIFIER);
                }
                for chunk in block.chunks(SNAPPY_CHUNK_BYTES) {
                    snappy_chunk(snappy, chunk, out)?;
                }
            }
            Compressor::HadoopSnappy(snappy) => {
                for chunk in block.chunks(HADOOP_BLOCK_BYTES) {
                    let head = out.len();
                    out.extend_from_slice(&u32_of(chunk.len())?.to_be_bytes());
                    out.extend_from_slice(&[0; 4]);
                    let bound = snap::raw::max_compress_len(chunk.len());
                    let len = grown(out, bound, |room| Ok(snappy.compress(chunk, room)?))?;
                    out[head + 4..head + 8].copy_from_slice(&u32_of(len)?.to_be_bytes());
                }
            }
        }
        Ok(())
    }
}

/// One chunk of framed Snappy: compressed (type 0), or as it is (type 1) where that is not larger.
fn snappy_chunk(snappy: &mut snap::raw::Encoder, chunk: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let crc = crc32c::crc32c(chunk);
    let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    let head = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&masked.to_le_bytes());
    let bound = snap::raw::max_compress_len(chunk.len());
    let mut len = grown(out, bound, |room| Ok(snappy.compress(chunk, room)?))?;
    if len >= chunk.len() {
        out.truncate(head + 8);
        out.extend_from_slice(chunk);
        out[head] = 1;
        len = chunk.len();
    }
    let len = u32_of(len + 4)?.to_le_bytes();
    out[head + 1..head + 4].copy_from_slice(&len[..3]);
    Ok(())
}

/// Grows `out` by at most `bound` bytes, as many as `fill` says it has filled.
fn grown(out: &mut Vec<u8>, bound: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
    let start = out.len();
    out.resize(start + bound, 0);
    let filled = fill(&mut out[start..])?;
    assert!(filled <= bound, "a compressor fills what it was given");
    out.truncate(start + filled);
    Ok(filled)
}

fn u32_of(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compression_is_written_by_name_or_with_a_level() {
        let read = |yaml: &str| serde_saphyr::from_str::<Compression>(yaml).map_err(|error| error.to_string());
        assert_eq!(read("none").unwrap(), Compression::None);
        assert_eq!(read("gzip").unwrap(), Compression::Gzip(6));
        assert_eq!(read("{ zstd: 19 }").unwrap(), Compression::Zstd(19));
        assert_eq!(read("hadoop_snappy").unwrap(), Compression::HadoopSnappy);
        assert!(read("{ zstd: 23 }").unwrap_err().contains("compression zstd: a level from 1 to 22, not 23"));
        assert!(read("{ snappy: 1 }").unwrap_err().contains("compression snappy has no level"));
        assert!(read("gzipp").unwrap_err().contains("unknown compression `gzipp`, expected one of none, gzip"));
        assert!(read("{ gzip: 1, zstd: 2 }").unwrap_err().contains("not both gzip and zstd"));
        assert!(read("{}").is_err());
    }
}
