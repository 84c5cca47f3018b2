//! A column of texts of which few are distinct.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, PrimitiveArray};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::DataType;

use super::cells::Cells;
use super::column::{Texts, offset};
use super::scan::byte_at;
use super::wide;

/// Texts of which each distinct one is kept once. One that only rejected rows used stays, and harms nobody.
#[derive(Default)]
pub struct Dictionary {
    keys: Cells<i32>,
    /// By a hash that records cannot be written against; it is asked for what `recent` does not know.
    known: HashMap<Box<[u8]>, i32>,
    distinct: Texts,
    /// By a quick hash, the last text that had it.
    recent: Recent,
}

/// How many short texts the quick way remembers.
const RECENT: usize = 256;

/// Short texts with zeros behind, and the key of each.
struct Recent(Vec<(u128, i32)>);

impl Default for Recent {
    fn default() -> Recent {
        Recent(vec![(u128::MAX, 0); RECENT])
    }
}

impl Dictionary {
    /// Adds a row.
    pub fn push(&mut self, text: &[u8]) {
        let key = self.key(text);
        self.keys.push(key);
    }

    /// Adds the text that begins at `at` if it is ASCII without escapes and shorter than a block, as texts of which few
    /// are distinct mostly are, and gives the place of its closing quote.
    #[inline(always)]
    pub fn push_short(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let block = wide::load(bytes, at);
        let special = block.special();
        let len = special.trailing_zeros() as usize;
        if special == 0 || block.high() & wide::first(len) != 0 || byte_at(bytes, at + len) != b'"' {
            return None;
        }
        // A text has no control characters, so that zeros behind it make it no other.
        let text = u128::from_le_bytes(block.bytes()) & ((1 << (8 * len)) - 1);
        let mixed = (text as u64 ^ (text >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = (mixed >> 56) as usize % RECENT;
        let (known, mut key) = self.recent.0[slot];
        if known != text {
            key = self.key(&bytes[at..at + len]);
            self.recent.0[slot] = (text, key);
        }
        self.keys.push(key);
        Some(at + len)
    }

    fn key(&mut self, text: &[u8]) -> i32 {
        if let Some(key) = self.known.get(text) {
            return *key;
        }
        let key = offset(self.distinct.len());
        self.distinct.data.extend_from_slice(text);
        self.distinct.push_end();
        self.known.insert(text.into(), key);
        key
    }

    /// Adds a null, whose key means nothing.
    pub fn push_null(&mut self) {
        self.keys.push(0);
    }

    /// Cuts back to `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        self.keys.truncate(rows);
    }

    /// Makes room as the last batch needed.
    pub fn reuse(&mut self) {
        self.keys.reuse();
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let known = self.known.capacity() * size_of::<(Box<[u8]>, i32)>() + self.distinct.data.len();
        self.keys.memory() + known + self.distinct.memory() + RECENT * size_of::<(u128, i32)>()
    }

    /// The rows as an array; there are none afterwards.
    pub fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        self.known.clear();
        self.recent.0.fill((u128::MAX, 0));
        let arrow = DataType::Int32;
        if self.distinct.len() == 0 {
            // All rows are null, with key 0, which must exist.
            self.distinct.push_end();
        }
        let len = self.keys.len();
        let keys = ScalarBuffer::new(self.keys.lend(), 0, len);
        let keys = PrimitiveArray::<Int32Type>::new(keys, nulls).with_data_type(arrow);
        Arc::new(DictionaryArray::new(keys, self.distinct.finish_strings(None)))
    }
}
