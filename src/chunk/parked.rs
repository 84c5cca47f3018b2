//! Parked records: those that wait until encoding them is worth it, by the object they go to.
//!
//! An open Parquet writer costs a megabyte and more, a parked record what it holds. Records lie one behind the other in
//! one arena, those of a lot linked to each other; when memory is short all of them go to one temporary file, lot by lot.
//!
//! ```text
//! arena   | next u32 | length u32 | arrival i64 | payload | ...      next: where the lot's next record lies
//! file    | length u32 | arrival i64 | payload | ...                 an extent is one lot's records, in order
//! ```
//! The file is no promise: it dies with its chunk, whose range is then read again. Its bytes are still checked when they
//! come back, because they go into one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{DiskFile, remove_if_there};
use crate::ground::Ground;
use crate::record::{Batch, Span};

/// Bytes before a payload in the arena, and in the file.
const ARENA_HEAD_BYTES: usize = 16;
const FILE_HEAD_BYTES: usize = 12;
/// The end of a lot's list: no record lies there, as the arena stays below it.
const NONE: u32 = u32::MAX;
/// Bytes that are gathered before they are written to the file.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes that the arena grows by, at least.
const GROW_BYTES_MIN: usize = 64 << 10;
/// Payload bytes of one batch given back; more only if one record has more.
const BATCH_BYTES: usize = 4 << 20;

/// The parked records of one chunk.
pub struct Parked {
    ground: Ground,
    path: PathBuf,
    arena: Vec<u8>,
    file: Option<Arc<dyn DiskFile>>,
    file_bytes: u64,
    extents: usize,
}

/// Which of the parked records go to one object.
#[derive(Debug)]
pub struct Lot {
    extents: Vec<Extent>,
    first: u32,
    last: u32,
    arena_bytes: u64,
    bytes: u64,
}

/// A piece of the file, at most [`BATCH_BYTES`] and one record long.
#[derive(Debug, Clone, Copy)]
struct Extent {
    offset: u64,
    len: u32,
    crc32c: u32,
}

/// How far a lot was read.
pub struct Reading<'l> {
    extents: std::slice::Iter<'l, Extent>,
    at: u32,
}

impl Default for Lot {
    fn default() -> Lot {
        Lot { extents: Vec::new(), first: NONE, last: NONE, arena_bytes: 0, bytes: 0 }
    }
}

impl Lot {
    /// Payload bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether no record is in it. One without payload is a record too.
    pub fn is_empty(&self) -> bool {
        self.extents.is_empty() && self.first == NONE
    }

    /// Payload bytes that are in memory.
    pub fn arena_bytes(&self) -> u64 {
        self.arena_bytes
    }

    /// Begins to read it, from its first record.
    pub fn reading(&self) -> Reading<'_> {
        Reading { extents: self.extents.iter(), at: self.first }
    }
}

impl Parked {
    /// Nothing is parked yet; `path` is where the file will be, if one is needed.
    pub fn new(ground: &Ground, path: PathBuf) -> Parked {
        Parked { ground: ground.clone(), path, arena: Vec::new(), file: None, file_bytes: 0, extents: 0 }
    }

    /// Bytes of memory held, also for knowing where the records in the file lie.
    pub fn memory(&self) -> usize {
        self.arena.capacity() + self.extents * size_of::<Extent>()
    }

    /// Bytes of the arena that are used.
    pub fn arena_bytes(&self) -> usize {
        self.arena.len()
    }

    /// Bytes on our disk.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Whether the arena can take a payload of this length: its records are found by 32 bits.
    pub fn fits(&self, payload_bytes: usize) -> bool {
        self.arena.len() + ARENA_HEAD_BYTES + payload_bytes < NONE as usize
    }

    /// Parks a record. Panics if it does not [`fit`](Self::fits).
    pub fn push(&mut self, lot: &mut Lot, payload: &[u8], arrival_ms: i64) {
        assert!(self.fits(payload.len()), "the arena is unloaded long before");
        let at = self.arena.len() as u32;
        let bytes = ARENA_HEAD_BYTES + payload.len();
        if self.arena.capacity() - self.arena.len() < bytes {
            // An eighth at a time: a large vector grows in place, and twice the room would stand empty.
            self.arena.reserve_exact(bytes.max(self.arena.len() / 8).max(GROW_BYTES_MIN));
        }
        self.arena.extend_from_slice(&NONE.to_le_bytes());
        self.arena.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.arena.extend_from_slice(&arrival_ms.to_le_bytes());
        self.arena.extend_from_slice(payload);
        match lot.last {
            NONE => lot.first = at,
            last => self.arena[last as usize..][..4].copy_from_slice(&at.to_le_bytes()),
        }
        lot.last = at;
        lot.arena_bytes += payload.len() as u64;
        lot.bytes += payload.len() as u64;
    }

    /// Writes the records of these lots to the file, and forgets the whole arena: `lots` are all that have records in it.
    /// Blocking. After an error the chunk is to be dropped.
    pub fn unload<'l>(&mut self, lots: impl Iterator<Item = &'l mut Lot>) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => {
                remove_if_there(&*self.ground.disk, &self.path)?;
                self.file.insert(self.ground.disk.create(&self.path)?).clone()
            }
        };
        let mut buffer = Vec::with_capacity(WRITE_BYTES);
        for lot in lots {
            let mut at = lot.first;
            while at != NONE {
                let start = buffer.len();
                while at != NONE && buffer.len() - start < BATCH_BYTES {
                    let (next, head_and_payload) = record(&self.arena, at);
                    buffer.extend_from_slice(head_and_payload);
                    at = next;
                }
                let bytes = &buffer[start..];
                let offset = self.file_bytes + start as u64;
                self.extents += 1;
                lot.extents.push(Extent { offset, len: bytes.len() as u32, crc32c: crc32c::crc32c(bytes) });
                if buffer.len() >= WRITE_BYTES {
                    file.write_at(&buffer, self.file_bytes)?;
                    self.file_bytes += buffer.len() as u64;
                    buffer.clear();
                }
            }
            (lot.first, lot.last, lot.arena_bytes) = (NONE, NONE, 0);
        }
        file.write_at(&buffer, self.file_bytes)?;
        self.file_bytes += buffer.len() as u64;
        self.arena.clear();
        Ok(())
    }

    /// Gives back memory that no record lies in.
    pub fn shrink(&mut self) {
        self.arena.shrink_to_fit();
    }

    /// The next records of a lot as a batch; `None` behind the last. Reads of the file block.
    pub fn next(&self, reading: &mut Reading) -> io::Result<Option<Batch>> {
        let mut bytes = Vec::new();
        while bytes.len() < BATCH_BYTES
            && let Some(extent) = reading.extents.next()
        {
            self.read(extent, &mut bytes)?;
        }
        while bytes.len() < BATCH_BYTES && reading.at != NONE {
            let (next, head_and_payload) = record(&self.arena, reading.at);
            bytes.extend_from_slice(head_and_payload);
            reading.at = next;
        }
        (!bytes.is_empty()).then(|| batch(bytes)).transpose()
    }

    /// Appends an extent to `bytes`.
    fn read(&self, extent: &Extent, bytes: &mut Vec<u8>) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let start = bytes.len();
        bytes.resize(start + extent.len as usize, 0);
        let room = &mut bytes[start..];
        if file.read_at(room, extent.offset)? != room.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if crc32c::crc32c(room) != extent.crc32c {
            let message = format!("{}: the disk changed bytes at {}", self.path.display(), extent.offset);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(())
    }
}

impl Drop for Parked {
    /// What is left behind is removed by the next start.
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = remove_if_there(&*self.ground.disk, &self.path);
        }
    }
}

/// The record at `at` of the arena as the file has it, and where the lot's next one lies.
fn record(arena: &[u8], at: u32) -> (u32, &[u8]) {
    let (next, rest) = arena[at as usize..].split_first_chunk::<4>().expect("a record has a head");
    let len = u32::from_le_bytes(*rest.first_chunk().expect("a record has a length"));
    (u32::from_le_bytes(*next), &rest[..FILE_HEAD_BYTES + len as usize])
}

/// The batch over records as the file has them.
fn batch(bytes: Vec<u8>) -> io::Result<Batch> {
    let (mut spans, mut arrivals) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        let head = bytes.get(at..at + FILE_HEAD_BYTES).ok_or(io::ErrorKind::UnexpectedEof)?;
        let (len, arrival_ms) = head.split_first_chunk::<4>().ok_or(io::ErrorKind::UnexpectedEof)?;
        arrivals.push(i64::from_le_bytes(arrival_ms.try_into().map_err(io::Error::other)?));
        let start = at + FILE_HEAD_BYTES;
        at = start + u32::from_le_bytes(*len) as usize;
        let bound = |at: usize| u32::try_from(at).map_err(io::Error::other);
        spans.push(Span { start: bound(start)?, end: bound(at)? });
    }
    Ok(Batch::new(bytes.into(), spans, arrivals))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_lot_comes_back_in_order(
            steps in prop::collection::vec((0usize..4, prop::collection::vec(any::<u8>(), 0..40), 0u8..12), 0..200),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut parked = Parked::new(&Ground::real(), dir.path().join("tmp-parked"));
            let mut lots: Vec<Lot> = (0..4).map(|_| Lot::default()).collect();
            let mut expected: Vec<Vec<(Vec<u8>, i64)>> = vec![Vec::new(); 4];
            for (index, (lot, payload, dice)) in steps.iter().enumerate() {
                parked.push(&mut lots[*lot], payload, index as i64 - 3);
                expected[*lot].push((payload.clone(), index as i64 - 3));
                if *dice == 0 {
                    parked.unload(lots.iter_mut()).unwrap();
                    prop_assert_eq!(parked.arena_bytes(), 0);
                }
            }
            for (lot, expected) in lots.iter().zip(&expected) {
                let mut found = Vec::new();
                let mut reading = lot.reading();
                while let Some(batch) = parked.next(&mut reading).unwrap() {
                    found.extend((0..batch.len()).map(|row| (batch.payload(row).to_vec(), batch.arrival_ms(row))));
                }
                prop_assert_eq!(&found, expected);
                prop_assert_eq!(lot.bytes(), expected.iter().map(|(payload, _)| payload.len() as u64).sum::<u64>());
            }
            drop(parked);
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file goes with the chunk");
        }
    }

    #[test]
    fn bytes_that_the_disk_changed_are_not_taken_for_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tmp-parked");
        let (mut parked, mut lot) = (Parked::new(&Ground::real(), path.clone()), Lot::default());
        parked.push(&mut lot, b"payload", 0);
        parked.unload(std::iter::once(&mut lot)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = parked.next(&mut lot.reading()).unwrap_err().to_string();
        assert!(error.contains("the disk changed bytes at 0"), "{error}");
    }
}
