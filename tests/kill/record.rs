//! The test's records: every byte of one follows from its id, so a delivered record proves itself.

use std::fmt::Write;

/// A small generator of repeatable numbers (splitmix64).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A generator of its own for a thread.
    pub fn fork(&mut self) -> Rng {
        Rng(self.next())
    }

    /// Uniform enough in `0..limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Who wrote a record (a client's number, or [`FILE`]) and its place in the order of that writer.
pub fn id(writer: u64, number: u64) -> u64 {
    writer << 40 | number
}

/// The writer of `id`.
pub fn writer(id: u64) -> u64 {
    id >> 40
}

/// The writer number of the followed file.
pub const FILE: u64 = 1000;

/// What fills the record of `id` up: 0 to 299 letters.
pub fn pad(id: u64) -> String {
    let mut rng = Rng::new(id);
    let len = rng.below(300);
    (0..len).map(|_| char::from(b'a' + (rng.next() % 26) as u8)).collect()
}

/// Appends the record of `id`, without a line end.
pub fn append(out: &mut String, id: u64) {
    let _ = write!(out, "{{\"id\":{id},\"pad\":\"{}\"}}", pad(id));
}

/// The id of a delivered record, if it is byte for byte one of ours.
pub fn parse(line: &str) -> Option<u64> {
    let digits = line.strip_prefix("{\"id\":")?.split(',').next()?;
    let id = digits.parse().ok()?;
    let mut expected = String::new();
    append(&mut expected, id);
    (expected == line).then_some(id)
}
