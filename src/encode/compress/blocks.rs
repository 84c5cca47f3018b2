//! Blocks on their way into an object: gathered, compressed on every core that is idle, written in order.
//!
//! ```text
//! records -> open block -> full blocks (as many as idle cores can take at once) -> compressed side by side -> out
//! ```
//!
//! The promise: an encoder that waits for records holds no more than the block it has begun. What is kept for the next
//! block, compressors and buffers, is kept once for all encoders of a format, and not at all while it has none.

use std::io::{self, Write};
use std::mem::{replace, take};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use super::codec::{Codec, Compressor, Packed};
use crate::cpu::spread;

/// Raw bytes that are gathered before they are compressed as one block (`DECISIONS.md`, "Text formats").
pub const BLOCK_BYTES: usize = 1 << 20;

/// Blocks that wait to be compressed at the same time, in all encoders of a format together.
pub const BLOCKS_TOGETHER_MAX: usize = 8;

/// Blocks wait only when this many times their bytes are written: what waits is estimated, and `size` is to stay right
/// also where records begin to compress better or worse than those before them.
const WAITING_SHARE_MIN: u64 = 8;

/// What stands around each block in the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Nothing: units of the codec follow each other.
    Bare,
    /// As in an Avro container: the count of records and the length, as Avro longs, before it, and this mark behind it.
    Counted([u8; 16]),
}

/// Compressors of one codec and buffers, shared by all encoders of a format.
#[derive(Clone)]
pub struct Compressors {
    codec: Codec,
    block_bytes: usize,
    together: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    idle: Mutex<Idle>,
    /// Full blocks that wait in encoders.
    waiting: AtomicUsize,
    encoders: AtomicUsize,
}

/// What no encoder uses now.
#[derive(Default)]
struct Idle {
    compressors: Vec<Compressor>,
    raw: Vec<Vec<u8>>,
    packed: Vec<Packed>,
}

impl Compressors {
    /// None yet; as many will be made as are used at once. Blocks have `block_bytes` raw bytes, and what is left of the
    /// last record.
    pub fn new(codec: Codec, block_bytes: usize) -> Compressors {
        let cores = available_parallelism().map_or(1, usize::from);
        // Two rounds for each core: the last block of a round leaves cores idle.
        let together = if codec == Codec::None || cores == 1 { 1 } else { (2 * cores).min(BLOCKS_TOGETHER_MAX) };
        Compressors { codec, block_bytes, together, shared: Arc::default() }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pack(&self, block: &mut Block) -> io::Result<()> {
        if self.codec == Codec::None {
            return Ok(());
        }
        let (compressor, packed) = {
            let mut idle = self.idle();
            (idle.compressors.pop(), idle.packed.pop())
        };
        let mut compressor = compressor.map_or_else(|| Compressor::new(self.codec), Ok)?;
        block.packed = packed.unwrap_or_default();
        compressor.append(&block.raw, &mut block.packed)?;
        self.idle().compressors.push(compressor);
        Ok(())
    }

    /// Takes the buffers of a block back. Those of a huge record are not kept.
    fn recycle(&self, mut block: Block) {
        let mut idle = self.idle();
        if block.raw.capacity() <= 2 * self.block_bytes && idle.raw.len() < self.together {
            block.raw.clear();
            idle.raw.push(block.raw);
        }
        if block.packed.capacity() <= 2 * self.block_bytes && idle.packed.len() < self.together {
            block.packed.clear();
            idle.packed.push(block.packed);
        }
    }

    /// Whether one more full block may wait for others.
    fn may_wait(&self) -> bool {
        let more = |waiting: usize| (waiting + 1 < self.together).then_some(waiting + 1);
        self.shared.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// An encoder's part of the buffers that are idle.
    fn part_of_idle(&self) -> usize {
        let idle = self.idle();
        let raw = idle.raw.iter().map(Vec::capacity).sum::<usize>();
        let packed = idle.packed.iter().map(Packed::capacity).sum::<usize>();
        (raw + packed) / self.shared.encoders.load(Ordering::Relaxed).max(1)
    }
}

/// The blocks of one object.
pub struct Blocks {
    compressors: Compressors,
    frame: Frame,
    open: Vec<u8>,
    open_records: u64,
    full: Vec<Block>,
    /// Of those in `full`, how many wait by leave of [`Compressors::may_wait`].
    waiting: usize,
    /// Raw bytes of the blocks that are written, and what they became.
    raw_bytes: u64,
    packed_bytes: u64,
    /// All bytes of the object so far.
    written_bytes: u64,
}

#[derive(Default)]
struct Block {
    raw: Vec<u8>,
    records: u64,
    packed: Packed,
    error: Option<io::Error>,
}

impl Blocks {
    /// No blocks yet.
    pub fn new(compressors: &Compressors, frame: Frame) -> Blocks {
        compressors.shared.encoders.fetch_add(1, Ordering::Relaxed);
        Blocks {
            compressors: compressors.clone(),
            frame,
            open: Vec::new(),
            open_records: 0,
            full: Vec::new(),
            waiting: 0,
            raw_bytes: 0,
            packed_bytes: 0,
            written_bytes: 0,
        }
    }

    /// The block that is open: a record is appended here, and then ended.
    #[inline]
    pub fn open(&mut self) -> &mut Vec<u8> {
        &mut self.open
    }

    /// Ends a record. A block that is full is compressed now, or soon, together with others. An error is one of `out`.
    #[inline]
    pub fn end_record(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.open_records += 1;
        if self.open.len() < self.compressors.block_bytes {
            return Ok(());
        }
        self.end_block();
        let waiting_bytes = (self.full.len() * self.compressors.block_bytes) as u64;
        if self.raw_bytes >= WAITING_SHARE_MIN * waiting_bytes && self.compressors.may_wait() {
            self.waiting += 1;
            return Ok(());
        }
        self.write_full(out)
    }

    /// Writes bytes as they are, before any block: a head.
    pub fn write_head(&mut self, head: &[u8], out: &mut dyn Write) -> io::Result<()> {
        assert!(self.raw_bytes == 0, "a head stands before the first block");
        out.write_all(head)?;
        self.written_bytes += head.len() as u64;
        Ok(())
    }

    /// Bytes of the object if it ended now with `more` raw bytes: what is not written counts as what was before.
    pub fn size(&self, more: u64) -> u64 {
        let held = self.full.iter().map(|block| block.raw.len()).sum::<usize>() + self.open.len();
        let held = held as u64 + more;
        let estimate = match self.raw_bytes {
            0 => held * self.compressors.codec.usual_percent() / 100,
            raw => (u128::from(held) * u128::from(self.packed_bytes) / u128::from(raw)) as u64,
        };
        self.written_bytes + estimate
    }

    /// Bytes of memory held, with this object's part of the idle buffers.
    pub fn memory(&self) -> usize {
        let full = self.full.iter().map(|block| block.raw.capacity()).sum::<usize>();
        self.open.capacity() + full + self.compressors.part_of_idle()
    }

    /// Compresses and writes all that is held.
    pub fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.open.is_empty() {
            self.end_block();
        }
        self.write_full(out)?;
        self.open = Vec::new();
        Ok(())
    }

    /// The same, and writes what makes an object without records a valid one.
    pub fn finish(mut self, out: &mut dyn Write) -> io::Result<()> {
        self.flush(out)?;
        if self.written_bytes == 0 {
            self.full.push(Block::default());
            self.write_full(out)?;
        }
        Ok(())
    }

    fn end_block(&mut self) {
        let next = self.compressors.idle().raw.pop().unwrap_or_default();
        let raw = replace(&mut self.open, next);
        self.full.push(Block { raw, records: take(&mut self.open_records), ..Block::default() });
    }

    fn write_full(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.compressors.shared.waiting.fetch_sub(take(&mut self.waiting), Ordering::Relaxed);
        let compressors = &self.compressors;
        spread(self.full.iter_mut(), |block| block.error = compressors.pack(block).err());
        for mut block in self.full.drain(..) {
            if let Some(error) = block.error.take() {
                return Err(error);
            }
            let plain = self.compressors.codec == Codec::None;
            let bytes = if plain { &block.raw[..] } else { block.packed.bytes() };
            let file_head = self.compressors.codec.file_head();
            if self.written_bytes == 0 && !file_head.is_empty() {
                out.write_all(file_head)?;
                self.written_bytes += file_head.len() as u64;
            }
            let frame_bytes = match self.frame {
                Frame::Bare => {
                    out.write_all(bytes)?;
                    0
                }
                Frame::Counted(mark) => {
                    let mut head = Vec::with_capacity(20);
                    append_long(block.records as i64, &mut head);
                    append_long(bytes.len() as i64, &mut head);
                    out.write_all(&head)?;
                    out.write_all(bytes)?;
                    out.write_all(&mark)?;
                    head.len() + mark.len()
                }
            };
            let packed = (bytes.len() + frame_bytes) as u64;
            self.raw_bytes += block.raw.len() as u64;
            self.packed_bytes += packed;
            self.written_bytes += packed;
            self.compressors.recycle(block);
        }
        Ok(())
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        let shared = &self.compressors.shared;
        shared.waiting.fetch_sub(self.waiting, Ordering::Relaxed);
        if shared.encoders.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Nobody is left to use them soon.
            *self.compressors.idle() = Idle::default();
        }
    }
}

/// Appends an Avro long: zigzag, seven bits a byte, the lowest first (Avro 1.12 specification, "Primitive Types").
#[inline]
pub fn append_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const SMALL_BLOCK_BYTES: usize = 8 << 10;

    fn record(number: u64) -> String {
        format!("{{\"id\":{number},\"user\":\"u{:x}\"}}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn push(blocks: &mut Blocks, number: u64, out: &mut Vec<u8>) {
        blocks.open().extend_from_slice(record(number).as_bytes());
        blocks.end_record(out).unwrap();
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut raw).unwrap();
        raw
    }

    #[test]
    fn blocks_that_are_made_together_stand_in_order() {
        let mut compressors = Compressors::new(Codec::Gzip(1), SMALL_BLOCK_BYTES);
        compressors.together = 5;
        let (mut blocks, mut out) = (Blocks::new(&compressors, Frame::Bare), Vec::new());
        let mut expected = String::new();
        for number in 0..20_000 {
            push(&mut blocks, number, &mut out);
            expected.push_str(&record(number));
            if number == 7_000 {
                blocks.flush(&mut out).unwrap();
                assert_eq!(unpacked(&out), expected.as_bytes(), "a flush leaves nothing behind");
            }
        }
        blocks.finish(&mut out).unwrap();
        assert_eq!(unpacked(&out), expected.as_bytes());
    }

    #[test]
    fn what_is_held_is_bounded_and_gone_with_the_last_encoder() {
        let mut compressors = Compressors::new(Codec::Gzip(1), SMALL_BLOCK_BYTES);
        compressors.together = 4;
        let mut encoders: Vec<_> = (0..10).map(|_| (Blocks::new(&compressors, Frame::Bare), Vec::new())).collect();
        let mut most = 0;
        for number in 0..20_000 {
            for (blocks, out) in &mut encoders {
                push(blocks, number, out);
            }
            most = most.max(encoders.iter().map(|(blocks, _)| blocks.memory()).sum());
            let waiting = encoders.iter().map(|(blocks, _)| blocks.full.len()).sum::<usize>();
            assert!(waiting < 4 && waiting == compressors.shared.waiting.load(Ordering::Relaxed));
        }
        // Vectors grow by doubling; ten open blocks, three that wait, and what is idle.
        assert!(most > 10 * SMALL_BLOCK_BYTES && most <= (10 + 3 + 2 * 4) * 2 * SMALL_BLOCK_BYTES, "{most}");
        let (last, _) = encoders.pop().unwrap();
        encoders.clear();
        assert!(last.memory() > 0 && !compressors.idle().compressors.is_empty());
        drop(last);
        let idle = compressors.idle();
        assert!(idle.compressors.is_empty() && idle.raw.is_empty() && idle.packed.is_empty());
        assert_eq!(compressors.shared.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_counted_frame_says_how_many_records_and_bytes_follow() {
        let compressors = Compressors::new(Codec::None, SMALL_BLOCK_BYTES);
        let (mut blocks, mut out) = (Blocks::new(&compressors, Frame::Counted([7; 16])), Vec::new());
        blocks.write_head(b"head", &mut out).unwrap();
        for record in [&b"ab"[..], b"c"] {
            blocks.open().extend_from_slice(record);
            blocks.end_record(&mut out).unwrap();
        }
        blocks.finish(&mut out).unwrap();
        assert_eq!(out, [&b"head\x04\x06abc"[..], &[7; 16]].concat());
    }

    #[test]
    fn buffers_of_a_huge_record_are_not_kept() {
        let compressors = Compressors::new(Codec::Gzip(1), SMALL_BLOCK_BYTES);
        let (mut blocks, mut out) = (Blocks::new(&compressors, Frame::Bare), Vec::new());
        blocks.open().resize(100 * SMALL_BLOCK_BYTES, b'x');
        blocks.end_record(&mut out).unwrap();
        assert_eq!(unpacked(&out).len(), 100 * SMALL_BLOCK_BYTES);
        assert!(blocks.memory() < SMALL_BLOCK_BYTES);
    }
}
