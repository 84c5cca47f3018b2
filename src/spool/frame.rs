//! A frame: the records of one request as they lie in a segment.
//!
//! ```text
//!  0 head_crc  4 body_crc  8 body_bytes 12 count   16 first        24 arrival_ms
//! 32 durable  40 group_left            44 flags   48 once (16)
//! 64 ends: count x u32, each the end of a payload, counted from the first payload's start
//!    payloads, one behind the other; zeros up to a multiple of 8
//! ```
//! All numbers are little-endian. Both checksums are CRC-32C that start from the segment's salt; `head_crc` covers bytes
//! 4..64 and `body_crc` all behind byte 64 with its padding. So neither zeros nor what another file left on the disk is a
//! frame, a length can be trusted before its body is read, and a look for the next frame behind damage stays linear.
//!
//! A *group* is what one disk operation wrote. `group_left` counts the group's bytes behind this frame and `durable` says
//! below which record number all was durable before the group was written: the number of the group's first record. At
//! recovery a group is there whole or not at all, so a write that the disk cut short can never come back to life.

use std::ops::Range;

use crate::record::{Batch, Span};
use crate::spool::OnceKey;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 64;

/// The largest frame, in bytes: it bounds what a reader or the recovery ever allocates for one.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Frames begin at multiples of this many bytes.
pub const ALIGNMENT: usize = 8;

/// Set in `flags` when `once` holds a key.
const HAS_ONCE: u32 = 1;

/// Makes the checksums of one segment its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub u64);

impl Salt {
    fn head(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0 as u32, bytes)
    }

    fn body(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append((self.0 >> 32) as u32, bytes)
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Number of the first record.
    pub first: u64,
    /// Records, at least one.
    pub count: u32,
    /// Bytes of the ends and payloads, without padding.
    pub body_bytes: u32,
    /// When the request arrived, Unix milliseconds; never less than in the frame before.
    pub arrival_ms: i64,
    /// All records below this number were durable before this frame's group was written.
    pub durable: u64,
    /// Bytes of the group behind this frame; 0 in its last frame.
    pub group_left: u32,
    /// The producer's mark of this call, if it gave one.
    pub once: Option<OnceKey>,
    pub(super) body_crc: u32,
}

impl Frame {
    /// The header at the start of `bytes`, if there is an intact one.
    pub fn parse(bytes: &[u8], salt: Salt) -> Option<Frame> {
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let (body_bytes, count, flags) = (u32_at(8), u32_at(12), u32_at(44));
        // The cheap questions first: a scan behind damage asks at every multiple of 8.
        let fits = flags <= HAS_ONCE
            && count > 0
            && u64::from(count) * 4 <= u64::from(body_bytes)
            && body_bytes as usize <= FRAME_BYTES_MAX - HEADER_BYTES;
        if !fits || salt.head(&head[4..]) != u32_at(0) {
            return None;
        }
        let first = u64_at(16);
        first.checked_add(u64::from(count))?;
        let key = OnceKey(*head.last_chunk::<16>()?);
        Some(Frame {
            first,
            count,
            body_bytes,
            arrival_ms: u64_at(24) as i64,
            durable: u64_at(32),
            group_left: u32_at(40),
            once: (flags & HAS_ONCE != 0).then_some(key),
            body_crc: u32_at(4),
        })
    }

    /// The number behind the last record.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Bytes of the whole frame in the file, header and padding included.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + (self.body_bytes as usize).next_multiple_of(ALIGNMENT)
    }

    /// Whether `frame` (exactly [`Frame::bytes`] long) holds this header's body unharmed.
    pub fn is_whole(&self, frame: &[u8], salt: Salt) -> bool {
        frame.len() == self.bytes() && salt.body(&frame[HEADER_BYTES..]) == self.body_crc
    }

    /// Appends to `spans` where the payloads of records from number `from` on lie, when `frame` lies at `at` in a larger
    /// buffer. `None`, and nothing appended: the ends contradict each other.
    pub fn spans(&self, frame: &[u8], at: usize, from: u64, spans: &mut Vec<Span>) -> Option<Range<u64>> {
        let table = self.count as usize * 4;
        let body = frame.get(HEADER_BYTES..HEADER_BYTES + self.body_bytes as usize)?;
        let payload_bytes = (body.len() - table) as u32;
        let origin = u32::try_from(at + HEADER_BYTES + table).ok()?;
        let (kept, mut start) = (spans.len(), 0);
        for (number, end) in (self.first..).zip(body[..table].as_chunks::<4>().0) {
            let end = u32::from_le_bytes(*end);
            if end < start || end > payload_bytes {
                spans.truncate(kept);
                return None;
            }
            if number >= from {
                spans.push(Span { start: origin + start, end: origin + end });
            }
            start = end;
        }
        if start != payload_bytes {
            spans.truncate(kept);
            return None;
        }
        Some(from.clamp(self.first, self.end())..self.end())
    }
}

/// Bytes of the frame that would hold `records`.
pub fn bytes_of(records: &Batch) -> usize {
    let body = records.len() * 4 + records.payload_bytes() as usize;
    HEADER_BYTES + body.next_multiple_of(ALIGNMENT)
}

/// What a frame's header says beyond its records.
#[derive(Debug, Clone, Copy)]
pub struct Heading {
    pub first: u64,
    pub arrival_ms: i64,
    pub durable: u64,
    pub group_left: u32,
    pub once: Option<OnceKey>,
}

/// Appends the frame of `records` to `into`: one copy and one checksum of the payloads.
pub fn encode(into: &mut Vec<u8>, salt: Salt, heading: Heading, records: &Batch) {
    let start = into.len();
    into.resize(start + HEADER_BYTES, 0);
    let mut end = 0u32;
    for payload in records.payloads() {
        end += payload.len() as u32;
        into.extend_from_slice(&end.to_le_bytes());
    }
    for payload in records.payloads() {
        into.extend_from_slice(payload);
    }
    let body_bytes = into.len() - start - HEADER_BYTES;
    assert!(body_bytes <= FRAME_BYTES_MAX - HEADER_BYTES, "append bounds its requests");
    into.resize(start + HEADER_BYTES + body_bytes.next_multiple_of(ALIGNMENT), 0);
    let frame = Frame {
        first: heading.first,
        count: records.len() as u32,
        body_bytes: body_bytes as u32,
        arrival_ms: heading.arrival_ms,
        durable: heading.durable,
        group_left: heading.group_left,
        once: heading.once,
        body_crc: 0,
    };
    write_header(&mut into[start..], salt, frame);
}

/// Writes `frame`'s header over the first bytes of `bytes`, which hold its body, with the checksums of `salt`.
///
/// Recovery uses it to move an intact frame into another segment.
pub fn write_header(bytes: &mut [u8], salt: Salt, frame: Frame) {
    let (head, body) = bytes.split_at_mut(HEADER_BYTES);
    head[4..8].copy_from_slice(&salt.body(body).to_le_bytes());
    head[8..12].copy_from_slice(&frame.body_bytes.to_le_bytes());
    head[12..16].copy_from_slice(&frame.count.to_le_bytes());
    head[16..24].copy_from_slice(&frame.first.to_le_bytes());
    head[24..32].copy_from_slice(&frame.arrival_ms.to_le_bytes());
    head[32..40].copy_from_slice(&frame.durable.to_le_bytes());
    head[40..44].copy_from_slice(&frame.group_left.to_le_bytes());
    let flags = if frame.once.is_some() { HAS_ONCE } else { 0 };
    head[44..48].copy_from_slice(&flags.to_le_bytes());
    head[48..].copy_from_slice(&frame.once.unwrap_or(OnceKey([0; 16])).0);
    let crc = salt.head(&head[4..]);
    head[..4].copy_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::BatchBuilder;

    const SALT: Salt = Salt(0x0123_4567_89ab_cdef);

    fn batch(payloads: &[&[u8]]) -> Batch {
        let mut builder = BatchBuilder::default();
        payloads.iter().for_each(|payload| builder.push(payload, 7));
        builder.finish()
    }

    fn encoded(payloads: &[&[u8]]) -> Vec<u8> {
        let heading = Heading { first: 40, arrival_ms: -5, durable: 38, group_left: 16, once: Some(OnceKey([9; 16])) };
        let mut bytes = Vec::new();
        encode(&mut bytes, SALT, heading, &batch(payloads));
        bytes
    }

    #[test]
    fn a_frame_comes_back_as_it_went_in() {
        let payloads: [&[u8]; 4] = [b"one", b"", b"three", b"\0\xff"];
        let bytes = encoded(&payloads);
        assert_eq!(bytes.len(), bytes_of(&batch(&payloads)));
        let frame = Frame::parse(&bytes, SALT).unwrap();
        assert!(frame.is_whole(&bytes, SALT));
        assert_eq!((frame.first, frame.end(), frame.durable, frame.group_left), (40, 44, 38, 16));
        assert_eq!((frame.arrival_ms, frame.once), (-5, Some(OnceKey([9; 16]))));
        let mut spans = Vec::new();
        assert_eq!(frame.spans(&bytes, 0, 41, &mut spans), Some(41..44));
        let read: Vec<&[u8]> = spans.iter().map(|s| &bytes[s.start as usize..s.end as usize]).collect();
        assert_eq!(read, payloads[1..]);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let whole = encoded(&[b"first", b"second record"]);
        let intact = |bytes: &[u8]| Frame::parse(bytes, SALT).is_some_and(|frame| frame.is_whole(bytes, SALT));
        assert!(intact(&whole));
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!intact(&bytes), "bit {bit}");
        }
        assert!((0..whole.len()).all(|len| !intact(&whole[..len])));
    }

    #[test]
    fn zeros_and_frames_of_another_segment_are_no_frames() {
        assert_eq!(Frame::parse(&[0; 128], SALT), None);
        assert_eq!(Frame::parse(&[0; 128], Salt(0)), None);
        assert_eq!(Frame::parse(&encoded(&[b"stale"]), Salt(SALT.0 ^ 1)), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), salt: u64) {
            prop_assert_eq!(Frame::parse(&bytes, Salt(salt)), None);
        }
    }
}
