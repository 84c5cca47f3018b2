//! The bytes of one simulated file: what is durable, what was written since, and what the process sees.

use super::fate::Rng;

/// Sizes at which a disk tears a write, in bytes: a sector, and less than one.
const PIECE_BYTES: [usize; 2] = [512, 16];

#[derive(Clone, Default)]
pub struct Content {
    view: Vec<u8>,
    durable: Vec<u8>,
    /// Writes that are not durable, oldest first.
    pending: Vec<Write>,
    /// Whether a failed sync left the view with bytes that no later sync will save.
    lying: bool,
}

#[derive(Clone)]
struct Write {
    offset: u64,
    bytes: Box<[u8]>,
}

/// How much of a write reaches the page cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Prefix,
    All,
}

impl Content {
    /// Length as the process sees it, in bytes.
    pub fn len(&self) -> u64 {
        self.view.len() as u64
    }

    /// Reads as the process sees it; returns the number of bytes.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let start = (offset as usize).min(self.view.len());
        let n = buffer.len().min(self.view.len() - start);
        buffer[..n].copy_from_slice(&self.view[start..start + n]);
        n
    }

    /// Writes into the view; the bytes become pending.
    pub fn write(&mut self, bytes: &[u8], offset: u64, keep: Keep, rng: &mut Rng) {
        let kept = match keep {
            Keep::Nothing => 0,
            Keep::Prefix => rng.below(bytes.len() as u64) as usize,
            Keep::All => bytes.len(),
        };
        if kept > 0 {
            let write = Write { offset, bytes: bytes[..kept].into() };
            put(&mut self.view, write.offset, &write.bytes);
            self.pending.push(write);
        }
    }

    /// Makes all that is pending durable.
    pub fn sync(&mut self) {
        for write in self.pending.drain(..) {
            put(&mut self.durable, write.offset, &write.bytes);
        }
    }

    /// The process died in the sync: some writes became durable, the next one in pieces; that one and the rest stay
    /// pending (so nothing older can come after something newer).
    pub fn sync_in_part(&mut self, rng: &mut Rng) {
        let whole = rng.below(self.pending.len() as u64) as usize;
        for write in self.pending.drain(..whole.min(self.pending.len())) {
            put(&mut self.durable, write.offset, &write.bytes);
        }
        if let Some(write) = self.pending.first() {
            put_pieces(&mut self.durable, write, rng);
        }
    }

    /// The sync failed: random pieces became durable, the others are lost although the process still sees them, and a
    /// later sync finds nothing to do (fsyncgate: LWN 752063; Rebello et al., "Can applications recover from fsync
    /// failures?", ATC 2020).
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        for write in std::mem::take(&mut self.pending) {
            put_pieces(&mut self.durable, &write, rng);
        }
        self.lying = true;
    }

    /// Of what was pending survive none, all, a prefix or random pieces, possibly with zeros in place of the rest.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        if self.pending.is_empty() && !self.lying {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        match rng.below(4) {
            0 => {}
            1 => pending.iter().for_each(|write| put(&mut self.durable, write.offset, &write.bytes)),
            2 => {
                let whole = rng.below(pending.len() as u64 + 1) as usize;
                pending[..whole].iter().for_each(|write| put(&mut self.durable, write.offset, &write.bytes));
                if let Some(write) = pending.get(whole) {
                    let n = rng.below(write.bytes.len() as u64) as usize;
                    put(&mut self.durable, write.offset, &write.bytes[..n]);
                }
            }
            _ => {
                pending.iter().for_each(|write| put_pieces(&mut self.durable, write, rng));
                if rng.coin() && self.durable.len() < self.view.len() {
                    self.durable.resize(self.view.len(), 0);
                }
            }
        }
        self.view = self.durable.clone();
        self.lying = false;
    }

    /// Changes the bytes durably, whatever they were.
    pub fn rot(&mut self, change: impl Fn(&mut Vec<u8>)) {
        self.sync();
        change(&mut self.view);
        self.durable = self.view.clone();
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, write: &[u8]) {
    if write.is_empty() {
        return;
    }
    let start = offset as usize;
    if start == bytes.len() {
        return bytes.extend_from_slice(write);
    }
    let end = start + write.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(write);
}

fn put_pieces(bytes: &mut Vec<u8>, write: &Write, rng: &mut Rng) {
    let piece_bytes = PIECE_BYTES[rng.below(2) as usize];
    for (index, piece) in write.bytes.chunks(piece_bytes).enumerate() {
        if rng.coin() {
            put(bytes, write.offset + (index * piece_bytes) as u64, piece);
        }
    }
}
