//! What earlier rows became, from which the size of those not yet encoded is told.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How large rows of JSON become, in units of [`WHOLE`], before any have told.
const USUAL: u64 = WHOLE * 16 / 100;
/// The same for a leaf's values, encoded but not compressed.
const USUAL_LEAF: u64 = WHOLE * 60 / 100;
/// A ratio of one.
const WHOLE: u64 = 1 << 16;
/// Bytes that a leaf of a row group has in the footer and the page indexes, before any file has told.
const USUAL_FOOTER_BYTES_PER_LEAF: u64 = 150;

/// Ratios of what became of rows to what they were, shared by the encoders of a format. Nothing but estimates depends on
/// them, so that nobody waits for another.
pub struct Learned {
    /// Of each leaf: compressed to encoded bytes. 0: not known.
    leaves: Box<[AtomicU64]>,
    /// Of rows of 2^n to 2^(n+1) bytes of JSON: encoded to JSON bytes. 0: not known. Few rows compress worse.
    rows: [AtomicU64; 40],
    footer_bytes_per_leaf: AtomicU64,
}

impl Learned {
    /// Nothing learned yet.
    pub fn new(leaves: usize) -> Learned {
        Learned {
            leaves: (0..leaves).map(|_| AtomicU64::new(0)).collect(),
            rows: [const { AtomicU64::new(0) }; 40],
            footer_bytes_per_leaf: AtomicU64::new(USUAL_FOOTER_BYTES_PER_LEAF),
        }
    }

    /// A leaf's chunk of `raw` encoded bytes was compressed to this many.
    pub fn leaf_became(&self, leaf: usize, raw: u64, compressed: u64) {
        if let (Some(ratio), Some(became)) = (self.leaves.get(leaf), ratio(raw, compressed)) {
            ratio.store(became, Relaxed);
        }
    }

    /// Rows of this many bytes of JSON became a row group of so many.
    pub fn rows_became(&self, json_bytes: u64, bytes: u64) {
        if let (Some(rows), Some(became)) = (self.rows.get(class(json_bytes)), ratio(json_bytes, bytes)) {
            rows.store(became, Relaxed);
        }
    }

    /// The footer and page indexes of a file with so many chunks of leaves were this large.
    pub fn footer_became(&self, leaves: u64, bytes: u64) {
        if let Some(per_leaf) = bytes.checked_div(leaves) {
            self.footer_bytes_per_leaf.store(per_leaf, Relaxed);
        }
    }

    /// How many bytes `raw` encoded ones of a leaf become.
    pub fn compressed(&self, leaf: usize, raw: u64) -> u64 {
        let known = self.leaves.get(leaf).map(|ratio| ratio.load(Relaxed)).filter(|known| *known > 0);
        scale(raw, known.unwrap_or(USUAL_LEAF))
    }

    /// How many bytes rows of this many bytes of JSON become: as rows of about as many did.
    pub fn rows_become(&self, json_bytes: u64) -> u64 {
        let class = class(json_bytes);
        let known = |class: usize| self.rows.get(class).map(|ratio| ratio.load(Relaxed)).filter(|known| *known > 0);
        let near = |away: usize| known(class + away).or_else(|| known(class.checked_sub(away)?));
        let ratio = (0..self.rows.len()).find_map(near).unwrap_or(USUAL);
        scale(json_bytes, ratio)
    }

    /// How large the footer and page indexes of so many chunks of leaves are.
    pub fn footer(&self, leaves: u64) -> u64 {
        self.footer_bytes_per_leaf.load(Relaxed) * leaves
    }
}

fn class(json_bytes: u64) -> usize {
    json_bytes.max(1).ilog2() as usize
}

fn ratio(of: u64, became: u64) -> Option<u64> {
    (became * WHOLE).checked_div(of).map(|ratio| ratio.max(1))
}

fn scale(bytes: u64, ratio: u64) -> u64 {
    (u128::from(bytes) * u128::from(ratio) / u128::from(WHOLE)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rows_become_is_told_by_rows_of_about_as_many_bytes() {
        let learned = Learned::new(1);
        assert_eq!(learned.rows_become(1000), 159, "as is usual");
        learned.rows_became(1_000_000, 100_000);
        assert_eq!(learned.rows_become(10_000), 999, "the only ones there are");
        learned.rows_became(4_000, 2_000);
        assert_eq!(learned.rows_become(5_000), 2_500, "the nearest");
        assert_eq!(learned.rows_become(2_000_000), 199_981);
        learned.leaf_became(0, 1000, 250);
        assert_eq!(learned.compressed(0, 100), 25);
        learned.leaf_became(0, 0, 0);
        learned.rows_became(0, 0);
        assert_eq!(learned.compressed(0, 100), 25, "nothing tells nothing");
    }
}
