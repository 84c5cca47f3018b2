//! A segment: one file of a stream's log, named `<base>-<id>.log` after its first record's number.
//!
//! ```text
//!  0 "HYDSPOOL"  8 version u32  12 crc u32  16 incarnation  24 id  32 base  40 salt  48 arrival_ms  56 zero
//! 64 frames, one behind the other; then zeros (a pre-created segment) or nothing
//! ```
//! The promise of a segment: its name appears with its header durable (the file is born whole), and all records below
//! `base` were durable before that. So frames at or beyond the next segment's base count for nothing, and a header that
//! cannot be read is damage, never a torn write. A file is written by the process that created it and by no other.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::DiskFile;
use crate::spool::frame::{ALIGNMENT, Frame, HEADER_BYTES as FRAME_HEADER_BYTES, Salt};

/// Bytes of a segment's header.
pub const HEADER_BYTES: u64 = 64;

/// Bytes that a scan reads at once.
const SCAN_STEP_BYTES: usize = 1 << 20;

/// Bytes that are read at once when only headers matter: most frames are larger.
const HOP_STEP_BYTES: usize = 16 << 10;

/// Zeros are looked for in pieces of this size first: comparing memory is fast.
const PAGE_BYTES: usize = 4096;

const MAGIC: &[u8; 8] = b"HYDSPOOL";
const VERSION: u32 = 1;

/// What stands at the start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The stream's identity: a file of another stream is not taken for ours.
    pub incarnation: u64,
    /// Greater than that of every older segment.
    pub id: u64,
    /// Number of the first record; all below was durable before this file had its name.
    pub base: u64,
    pub salt: Salt,
    /// The arrival of the last record below `base`.
    pub arrival_ms: i64,
}

/// Why a header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    Damaged,
    /// Whole, but of another version of the format.
    OtherVersion,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.base.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.salt.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.arrival_ms.to_le_bytes());
        let crc = crc_of(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header, or says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Header, Unreadable> {
        let bytes: &[u8; HEADER_BYTES as usize] = bytes.first_chunk().ok_or(Unreadable::Damaged)?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if &bytes[..8] != MAGIC || crc_of(bytes) != u32_at(12) {
            return Err(Unreadable::Damaged);
        }
        if u32_at(8) != VERSION {
            return Err(Unreadable::OtherVersion);
        }
        Ok(Header {
            incarnation: u64_at(16),
            id: u64_at(24),
            base: u64_at(32),
            salt: Salt(u64_at(40)),
            arrival_ms: u64_at(48) as i64,
        })
    }
}

fn crc_of(header: &[u8; HEADER_BYTES as usize]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// A segment's file name: sorted by name is sorted by age.
pub fn name_of(base: u64, id: u64) -> String {
    format!("{base:020}-{id:010}.log")
}

/// Base and id out of a segment's file name; `None`: not a segment's name.
pub fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (base, id) = name.strip_suffix(".log")?.split_once('-')?;
    let (base, id) = (base.parse().ok()?, id.parse().ok()?);
    (name == name_of(base, id)).then_some((base, id))
}

/// A segment as the readers know it.
#[derive(Debug)]
pub struct Segment {
    pub base: u64,
    pub id: u64,
    pub salt: Salt,
    pub name: String,
    /// Bytes from the start of the file that may hold durable frames: grows in the active segment.
    pub readable: AtomicU64,
    /// Bytes the file takes on the disk.
    pub on_disk: AtomicU64,
}

impl Segment {
    /// A segment whose file has `on_disk` bytes, of which `readable` may hold frames.
    pub fn new(header: &Header, readable: u64, on_disk: u64) -> Segment {
        Segment {
            base: header.base,
            id: header.id,
            salt: header.salt,
            name: name_of(header.base, header.id),
            readable: AtomicU64::new(readable),
            on_disk: AtomicU64::new(on_disk),
        }
    }

    /// Bytes from the start of the file that may hold durable frames.
    pub fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }
}

/// Walks over the frames of one file through a window of it, whatever the bytes say: memory is bounded by the largest
/// frame, time by the file's length.
pub struct Scan<'a> {
    file: &'a dyn DiskFile,
    salt: Salt,
    /// Bytes behind this offset do not exist for the scan.
    limit: u64,
    /// Bytes to read at once, at the least.
    step_bytes: usize,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Scan<'a> {
    /// A scan of the first `limit` bytes of `file`, all of it.
    pub fn new(file: &'a dyn DiskFile, salt: Salt, limit: u64) -> Scan<'a> {
        Scan { file, salt, limit, step_bytes: SCAN_STEP_BYTES, window: Vec::new(), window_at: 0 }
    }

    /// The same, for someone who hops from header to header.
    pub fn of_headers(file: &'a dyn DiskFile, salt: Salt, limit: u64) -> Scan<'a> {
        Scan { step_bytes: HOP_STEP_BYTES, ..Scan::new(file, salt, limit) }
    }

    /// The intact header at `offset` whose body lies within the limit; its body may be damaged.
    pub fn header(&mut self, offset: u64) -> io::Result<Option<Frame>> {
        let (salt, limit) = (self.salt, self.limit);
        let frame = Frame::parse(self.bytes(offset, FRAME_HEADER_BYTES)?, salt);
        Ok(frame.filter(|frame| offset.saturating_add(frame.bytes() as u64) <= limit))
    }

    /// The whole frame at `offset`, if there is one.
    pub fn frame(&mut self, offset: u64) -> io::Result<Option<Frame>> {
        let Some(frame) = self.header(offset)? else { return Ok(None) };
        let salt = self.salt;
        let whole = frame.is_whole(self.bytes(offset, frame.bytes())?, salt);
        Ok(whole.then_some(frame))
    }

    /// The first intact header at or behind `offset` that `wanted` says yes to, with its offset; its body may be damaged.
    pub fn find(&mut self, offset: u64, mut wanted: impl FnMut(&Frame) -> bool) -> io::Result<Option<(u64, Frame)>> {
        let mut at = offset.next_multiple_of(ALIGNMENT as u64);
        while self.bytes(at, ALIGNMENT)?.len() == ALIGNMENT {
            // Zeros are no frame and are most of what lies behind the end of a pre-created segment.
            let ahead = &self.window[(at - self.window_at) as usize..];
            let pages = ahead.as_chunks::<PAGE_BYTES>().0.iter().take_while(|page| **page == [0; PAGE_BYTES]).count();
            let words = ahead[pages * PAGE_BYTES..].as_chunks::<ALIGNMENT>().0;
            let words = words.iter().take_while(|word| **word == [0; ALIGNMENT]).count();
            let zeros = pages * PAGE_BYTES + words * ALIGNMENT;
            if zeros > 0 {
                at += zeros as u64;
                continue;
            }
            match self.header(at)? {
                Some(frame) if wanted(&frame) => return Ok(Some((at, frame))),
                // An intact header's length can be trusted.
                Some(frame) => at += frame.bytes() as u64,
                None => at += ALIGNMENT as u64,
            }
        }
        Ok(None)
    }

    /// Up to `len` bytes at `offset`; fewer only at the limit or the end of the file.
    pub fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let len = self.limit.saturating_sub(offset).min(len as u64) as usize;
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + len as u64 > window_end {
            let read = self.limit.saturating_sub(offset).min(self.step_bytes.max(len) as u64) as usize;
            self.window.resize(read, 0);
            self.window_at = offset;
            let got = self.file.read_at(&mut self.window, offset)?;
            self.window.truncate(got);
        }
        let start = ((offset - self.window_at) as usize).min(self.window.len());
        Ok(&self.window[start..(start + len).min(self.window.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_age_and_come_back() {
        assert_eq!(parse_name(&name_of(17, 3)), Some((17, 3)));
        assert!(name_of(9, 10) < name_of(10, 2));
        for wrong in ["17-3.log", "00000000000000000017-0000000003.tmp", "tmp-next", "", "-.log"] {
            assert_eq!(parse_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let header = Header { incarnation: 1, id: 2, base: 3, salt: Salt(4), arrival_ms: -5 };
        let bytes = header.encode();
        assert_eq!(Header::parse(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::parse(&bytes).is_err(), "bit {bit}");
        }
        assert!(Header::parse(&bytes[..63]).is_err());
    }
}
