//! Codecs: a block goes in, and its compressed bytes come out as a unit that can be read by itself.

use std::io;

/// Raw bytes in one block of `hadoop_snappy`: the buffer of Hadoop's own decompressor (`io.compression.codec.snappy.buffersize`).
pub const HADOOP_BLOCK_BYTES: usize = 256 << 10;
/// Raw bytes in one chunk of framed Snappy, as its specification limits them.
const SNAPPY_CHUNK_BYTES: usize = 65_536;
const SNAPPY_IDENTIFIER: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// How a block is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    /// A gzip member; level 0 to 12 of libdeflate.
    Gzip(i32),
    /// A zstd frame with its checksum; level 1 to 22.
    Zstd(i32),
    /// Chunks of the official framing format.
    Snappy,
    /// Blocks of Hadoop's framing.
    HadoopSnappy,
    /// Deflate without anything around it (RFC 1951), as Avro has it; level 0 to 12 of libdeflate.
    Deflate(i32),
    /// Snappy and the CRC-32 of the raw bytes, big endian, as Avro has it.
    SnappyCrc,
}

impl Codec {
    /// How large JSON lines become, in per cent, before the first block has told.
    pub fn usual_percent(self) -> u64 {
        match self {
            Codec::None => 100,
            Codec::Gzip(_) | Codec::Zstd(_) | Codec::Deflate(_) => 21,
            Codec::Snappy | Codec::HadoopSnappy | Codec::SnappyCrc => 36,
        }
    }

    /// What a file of such units begins with; an empty file of them has it too.
    pub fn file_head(self) -> &'static [u8] {
        match self {
            Codec::Snappy => SNAPPY_IDENTIFIER,
            _ => b"",
        }
    }
}

/// Compressed bytes, in a buffer that is zeroed once and then used again.
#[derive(Default)]
pub struct Packed {
    buffer: Vec<u8>,
    len: usize,
}

impl Packed {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Bytes of memory held.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Forgets the bytes.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends at most `bound` bytes, as many as `fill` says it has filled.
    fn fill(&mut self, bound: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let end = self.len + bound;
        if self.buffer.len() < end {
            self.buffer.reserve_exact(end - self.buffer.len());
            self.buffer.resize(end, 0);
        }
        let filled = fill(&mut self.buffer[self.len..end])?;
        assert!(filled <= bound, "a compressor fills what it was given");
        self.len += filled;
        Ok(filled)
    }

    fn append(&mut self, bytes: &[u8]) {
        self.buffer.truncate(self.len);
        self.buffer.extend_from_slice(bytes);
        self.len = self.buffer.len();
    }
}

/// What compresses block after block.
pub enum Compressor {
    None,
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
    Snappy(snap::raw::Encoder),
    HadoopSnappy(snap::raw::Encoder),
    Deflate(libdeflater::Compressor),
    SnappyCrc(snap::raw::Encoder),
}

impl Compressor {
    /// A compressor; an error means no memory, or a level that the codec does not have.
    pub fn new(codec: Codec) -> io::Result<Compressor> {
        let libdeflate = |level| match libdeflater::CompressionLvl::new(level) {
            Ok(level) => Ok(libdeflater::Compressor::new(level)),
            Err(_) => Err(io::Error::other(format!("libdeflate has no level {level}"))),
        };
        Ok(match codec {
            Codec::None => Compressor::None,
            Codec::Gzip(level) => Compressor::Gzip(libdeflate(level)?),
            Codec::Deflate(level) => Compressor::Deflate(libdeflate(level)?),
            Codec::Zstd(level) => {
                let mut compressor = zstd::bulk::Compressor::new(level)?;
                compressor.include_checksum(true)?;
                Compressor::Zstd(compressor)
            }
            Codec::Snappy => Compressor::Snappy(snap::raw::Encoder::new()),
            Codec::HadoopSnappy => Compressor::HadoopSnappy(snap::raw::Encoder::new()),
            Codec::SnappyCrc => Compressor::SnappyCrc(snap::raw::Encoder::new()),
        })
    }

    /// Appends `block`, compressed, to `out`. An error is the codec's own, and means a bug or no memory.
    pub fn append(&mut self, block: &[u8], out: &mut Packed) -> io::Result<()> {
        match self {
            Compressor::None => out.append(block),
            Compressor::Gzip(gzip) => {
                let bound = gzip.gzip_compress_bound(block.len());
                out.fill(bound, |room| gzip.gzip_compress(block, room).map_err(io::Error::other))?;
            }
            Compressor::Deflate(deflate) => {
                let bound = deflate.deflate_compress_bound(block.len());
                out.fill(bound, |room| deflate.deflate_compress(block, room).map_err(io::Error::other))?;
            }
            Compressor::Zstd(zstd) => {
                let bound = zstd::zstd_safe::compress_bound(block.len());
                out.fill(bound, |room| zstd.compress_to_buffer(block, room))?;
            }
            Compressor::Snappy(snappy) => {
                for chunk in block.chunks(SNAPPY_CHUNK_BYTES) {
                    snappy_chunk(snappy, chunk, out)?;
                }
            }
            Compressor::HadoopSnappy(snappy) => {
                for chunk in block.chunks(HADOOP_BLOCK_BYTES) {
                    let bound = 8 + snap::raw::max_compress_len(chunk.len());
                    out.fill(bound, |room| {
                        let len = snappy.compress(chunk, &mut room[8..])?;
                        room[..4].copy_from_slice(&u32_of(chunk.len())?.to_be_bytes());
                        room[4..8].copy_from_slice(&u32_of(len)?.to_be_bytes());
                        Ok(8 + len)
                    })?;
                }
            }
            Compressor::SnappyCrc(snappy) => {
                out.fill(snap::raw::max_compress_len(block.len()), |room| Ok(snappy.compress(block, room)?))?;
                out.append(&libdeflater::crc32(block).to_be_bytes());
            }
        }
        Ok(())
    }
}

/// One chunk of framed Snappy: compressed (type 0), or as it is (type 1) where that is not larger.
fn snappy_chunk(snappy: &mut snap::raw::Encoder, chunk: &[u8], out: &mut Packed) -> io::Result<()> {
    let crc = crc32c::crc32c(chunk);
    let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    out.fill(8 + snap::raw::max_compress_len(chunk.len()), |room| {
        let (head, data) = room.split_at_mut(8);
        let mut len = snappy.compress(chunk, data)?;
        let plain = len >= chunk.len();
        if plain {
            len = chunk.len();
            data[..len].copy_from_slice(chunk);
        }
        head[..4].copy_from_slice(&u32_of(len + 4)?.rotate_left(8).to_le_bytes());
        head[0] = u8::from(plain);
        head[4..].copy_from_slice(&masked.to_le_bytes());
        Ok(8 + len)
    })?;
    Ok(())
}

fn u32_of(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(io::Error::other)
}
