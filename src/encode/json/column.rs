//! Columns under construction: vectors and bitmaps that grow by a cell and can be cut back to an earlier row.
//!
//! Arrow's own builders only grow. These are cut back when a record is rejected half-way, or when a key comes twice:
//! every column keeps, for each of its rows, where the row ends in what it holds, and nothing behind the last row counts.

use std::collections::HashMap;
use std::mem::take;
use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, ListArray, MapArray, PrimitiveArray, StringArray, StructArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, TimeUnit};

use super::keys::{Keys, Matching};
use super::scan::{byte_at, copy_plain};
use crate::encode::schema::{Column, Data, TimeFormat, Type};

/// One column, or what is inside one.
pub struct Node {
    pub data: Data,
    arrow: DataType,
    valid: Validity,
    pub values: Values,
    /// Whether there are structs inside, and so unknown fields to keep.
    pub has_structs: bool,
    /// How dates and times are written; empty where they tell it themselves.
    pub formats: Box<[TimeFormat]>,
}

/// The cells of a column, by how they lie in memory.
pub enum Values {
    Bool(Bits),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I128(Vec<i128>),
    I256(Vec<i256>),
    Bytes(Texts),
    Dictionary(Box<Dictionary>),
    List { ends: Vec<i32>, element: Box<Node> },
    Map { ends: Vec<i32>, keys: Texts, value: Box<Node> },
    Struct(Box<Members>),
}

/// Does the same to whichever vector of fixed-width cells it is, and other things to the rest.
macro_rules! match_values {
    ($values:expr, $cells:ident => $fixed:expr, $($pattern:pat => $other:expr),+ $(,)?) => {
        match $values {
            Values::I8($cells) => $fixed,
            Values::I16($cells) => $fixed,
            Values::I32($cells) => $fixed,
            Values::I64($cells) => $fixed,
            Values::U8($cells) => $fixed,
            Values::U16($cells) => $fixed,
            Values::U32($cells) => $fixed,
            Values::U64($cells) => $fixed,
            Values::F32($cells) => $fixed,
            Values::F64($cells) => $fixed,
            Values::I128($cells) => $fixed,
            Values::I256($cells) => $fixed,
            $($pattern => $other),+
        }
    };
}

impl Node {
    /// An empty column.
    pub fn new(data: &Data, formats: &[TimeFormat], matching: Matching) -> Node {
        let node = |data: &Data| Box::new(Node::new(data, formats, matching));
        let values = match &data.kind {
            Type::Bool => Values::Bool(Bits::default()),
            Type::Int { signed: true, bits: 8 } => Values::I8(Vec::new()),
            Type::Int { signed: true, bits: 16 } => Values::I16(Vec::new()),
            Type::Int { signed: true, bits: 32 } | Type::Date => Values::I32(Vec::new()),
            Type::Int { signed: true, .. } | Type::Timestamp(..) => Values::I64(Vec::new()),
            Type::Int { signed: false, bits: 8 } => Values::U8(Vec::new()),
            Type::Int { signed: false, bits: 16 } => Values::U16(Vec::new()),
            Type::Int { signed: false, bits: 32 } => Values::U32(Vec::new()),
            Type::Int { signed: false, .. } => Values::U64(Vec::new()),
            Type::Float32 => Values::F32(Vec::new()),
            Type::Float64 => Values::F64(Vec::new()),
            Type::Time(_) if matches!(data.kind.arrow(), DataType::Time32(_)) => Values::I32(Vec::new()),
            Type::Time(_) => Values::I64(Vec::new()),
            Type::Decimal { precision: ..=38, .. } => Values::I128(Vec::new()),
            Type::Decimal { .. } => Values::I256(Vec::new()),
            Type::String | Type::Json | Type::Binary(_) => Values::Bytes(Texts::default()),
            Type::Dictionary => Values::Dictionary(Box::default()),
            Type::List(element) => Values::List { ends: vec![0], element: node(element) },
            Type::Map(value) => Values::Map { ends: vec![0], keys: Texts::default(), value: node(value) },
            Type::Struct(columns) => Values::Struct(Box::new(Members::new(columns, formats, matching))),
        };
        let has_structs = match &values {
            Values::List { element, .. } => element.has_structs,
            Values::Map { value, .. } => value.has_structs,
            Values::Struct(_) => true,
            _ => false,
        };
        let arrow = data.kind.arrow();
        Node { data: data.clone(), arrow, valid: Validity::default(), values, has_structs, formats: formats.into() }
    }

    /// Rows so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.valid.len
    }

    /// Says that the cell just added to `values` is a row.
    #[inline]
    pub fn push_valid(&mut self) {
        self.valid.push(true);
    }

    /// Adds a null, also where the column is required: its parent may be null itself.
    pub fn push_null(&mut self) {
        let row = self.len();
        match_values! { &mut self.values,
            cells => cells.push(Default::default()),
            Values::Bool(bits) => bits.push(false),
            Values::Bytes(texts) => texts.push_end(),
            Values::Dictionary(dictionary) => dictionary.keys.push(0),
            Values::List { ends, element } => ends.push(offset(element.len())),
            Values::Map { ends, keys, .. } => ends.push(offset(keys.len())),
            Values::Struct(members) => members.fill(row),
        }
        self.valid.push(false);
    }

    /// Cuts back to `rows` whole rows; also takes away a row that was begun and not ended.
    pub fn truncate(&mut self, rows: usize) {
        match_values! { &mut self.values,
            cells => cells.truncate(rows),
            Values::Bool(bits) => bits.truncate(rows),
            Values::Bytes(texts) => texts.truncate(rows),
            Values::Dictionary(dictionary) => dictionary.keys.truncate(rows),
            Values::List { ends, element } => {
                ends.truncate(rows + 1);
                element.truncate(ends[rows] as usize);
            },
            Values::Map { ends, keys, value } => {
                ends.truncate(rows + 1);
                keys.truncate(ends[rows] as usize);
                value.truncate(ends[rows] as usize);
            },
            Values::Struct(members) => members.truncate(rows),
        }
        self.valid.truncate(rows);
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let values = match_values! { &self.values,
            cells => size_of_val(cells.as_slice()) + (cells.capacity() - cells.len()) * cell_bytes(cells),
            Values::Bool(bits) => bits.words.capacity() * 8,
            Values::Bytes(texts) => texts.memory(),
            Values::Dictionary(dictionary) => dictionary.memory(),
            Values::List { ends, element } => ends.capacity() * 4 + element.memory(),
            Values::Map { ends, keys, value } => ends.capacity() * 4 + keys.memory() + value.memory(),
            Values::Struct(members) => members.nodes.iter().map(Node::memory).sum(),
        };
        values + self.valid.bits.as_ref().map_or(0, |bits| bits.words.capacity() * 8)
    }

    /// The rows as an Arrow array; the column is empty afterwards.
    pub fn finish(&mut self) -> ArrayRef {
        let nulls = self.valid.finish();
        let arrow = &self.arrow;
        match &mut self.values {
            Values::Bool(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::I8(cells) => fixed::<Int8Type>(cells, nulls, arrow),
            Values::I16(cells) => fixed::<Int16Type>(cells, nulls, arrow),
            Values::I32(cells) => match arrow {
                DataType::Date32 => fixed::<Date32Type>(cells, nulls, arrow),
                DataType::Time32(_) => fixed::<Time32MillisecondType>(cells, nulls, arrow),
                _ => fixed::<Int32Type>(cells, nulls, arrow),
            },
            Values::I64(cells) => match arrow {
                DataType::Time64(TimeUnit::Microsecond) => fixed::<Time64MicrosecondType>(cells, nulls, arrow),
                DataType::Time64(_) => fixed::<Time64NanosecondType>(cells, nulls, arrow),
                DataType::Timestamp(TimeUnit::Millisecond, _) => fixed::<TimestampMillisecondType>(cells, nulls, arrow),
                DataType::Timestamp(TimeUnit::Microsecond, _) => fixed::<TimestampMicrosecondType>(cells, nulls, arrow),
                DataType::Timestamp(..) => fixed::<TimestampNanosecondType>(cells, nulls, arrow),
                _ => fixed::<Int64Type>(cells, nulls, arrow),
            },
            Values::U8(cells) => fixed::<UInt8Type>(cells, nulls, arrow),
            Values::U16(cells) => fixed::<UInt16Type>(cells, nulls, arrow),
            Values::U32(cells) => fixed::<UInt32Type>(cells, nulls, arrow),
            Values::U64(cells) => fixed::<UInt64Type>(cells, nulls, arrow),
            Values::F32(cells) => fixed::<Float32Type>(cells, nulls, arrow),
            Values::F64(cells) => fixed::<Float64Type>(cells, nulls, arrow),
            Values::I128(cells) => fixed::<Decimal128Type>(cells, nulls, arrow),
            Values::I256(cells) => fixed::<Decimal256Type>(cells, nulls, arrow),
            Values::Bytes(texts) if *arrow == DataType::Binary => {
                let (ends, data) = texts.finish();
                Arc::new(BinaryArray::new(ends, data, nulls))
            }
            Values::Bytes(texts) => texts.finish_strings(nulls),
            Values::Dictionary(dictionary) => dictionary.finish(nulls),
            Values::List { ends, element } => {
                let DataType::List(field) = arrow else { unreachable!("a list's Arrow type is List") };
                Arc::new(ListArray::new(field.clone(), finish_ends(ends), element.finish(), nulls))
            }
            Values::Map { ends, keys, value } => {
                let DataType::Map(entries, _) = arrow else { unreachable!("a map's Arrow type is Map") };
                let DataType::Struct(pair) = entries.data_type() else { unreachable!("a map's entries are structs") };
                let pairs = StructArray::new(pair.clone(), vec![keys.finish_strings(None), value.finish()], None);
                Arc::new(MapArray::new(entries.clone(), finish_ends(ends), pairs, nulls, false))
            }
            Values::Struct(members) => {
                let DataType::Struct(fields) = arrow else { unreachable!("a struct's Arrow type is Struct") };
                Arc::new(StructArray::new(fields.clone(), members.finish(), nulls))
            }
        }
    }
}

/// The columns of a table, or the fields of a struct.
pub struct Members {
    pub keys: Keys,
    pub names: Vec<Box<str>>,
    pub nodes: Vec<Node>,
}

impl Members {
    /// Empty columns; `formats` are for those that have none of their own.
    pub fn new(columns: &[Column], formats: &[TimeFormat], matching: Matching) -> Members {
        let node = |column: &Column| {
            let formats = if column.formats.is_empty() { formats } else { &column.formats };
            Node::new(&column.data, formats, matching)
        };
        Members {
            keys: Keys::new(columns.iter().map(Column::key), matching),
            names: columns.iter().map(|column| column.name.as_str().into()).collect(),
            nodes: columns.iter().map(node).collect(),
        }
    }

    /// Adds a null to each column that has no more than `row` rows.
    pub fn fill(&mut self, row: usize) {
        for node in self.nodes.iter_mut().filter(|node| node.len() == row) {
            node.push_null();
        }
    }

    /// Cuts every column back.
    pub fn truncate(&mut self, rows: usize) {
        for node in &mut self.nodes {
            node.truncate(rows);
        }
    }

    /// All columns as arrays; they are empty afterwards.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.nodes.iter_mut().map(Node::finish).collect()
    }
}

/// Bits in words, the first lowest.
#[derive(Default)]
pub struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// Adds a bit.
    #[inline]
    pub fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        if let Some(word) = self.words.last_mut() {
            *word |= u64::from(bit) << (self.len % 64);
        }
        self.len += 1;
    }

    fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.len = len;
        self.words.truncate(len.div_ceil(64));
        if let Some(word) = self.words.last_mut().filter(|_| !len.is_multiple_of(64)) {
            *word &= (1 << (len % 64)) - 1;
        }
    }

    fn finish(&mut self) -> BooleanBuffer {
        let words = renew(&mut self.words);
        BooleanBuffer::new(Buffer::from_vec(words), 0, take(&mut self.len))
    }
}

/// Which rows are not null; no bitmap before the first null.
#[derive(Default)]
struct Validity {
    len: usize,
    bits: Option<Bits>,
}

impl Validity {
    #[inline]
    fn push(&mut self, valid: bool) {
        match &mut self.bits {
            Some(bits) => bits.push(valid),
            None if valid => {}
            None => self.bits = Some(first_null(self.len)),
        }
        self.len += 1;
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if let Some(bits) = &mut self.bits {
            bits.truncate(len);
        }
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        self.len = 0;
        let nulls = NullBuffer::new(take(&mut self.bits)?.finish());
        (nulls.null_count() > 0).then_some(nulls)
    }
}

#[cold]
fn first_null(valid_before: usize) -> Bits {
    let mut bits = Bits { words: vec![u64::MAX; valid_before.div_ceil(64) + 1], len: valid_before + 64 };
    bits.truncate(valid_before);
    bits.push(false);
    bits
}

/// Texts or bytes one behind the other, and where each ends.
pub struct Texts {
    ends: Vec<i32>,
    /// What is behind the last end belongs to no row yet.
    pub data: Vec<u8>,
}

impl Default for Texts {
    fn default() -> Texts {
        Texts { ends: vec![0], data: Vec::new() }
    }
}

impl Texts {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// The text `index`.
    pub fn get(&self, index: usize) -> &[u8] {
        &self.data[self.ends[index] as usize..self.ends[index + 1] as usize]
    }

    /// Ends a text: all data behind the one before.
    #[inline]
    pub fn push_end(&mut self) {
        self.ends.push(offset(self.data.len()));
    }

    /// Adds the text that begins at `at` if it is ASCII without escapes, and gives the place of its closing quote. If it
    /// is not, there may be a part of it behind the last text.
    #[inline(always)]
    pub fn push_plain(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let (end, ascii) = copy_plain(bytes, at, &mut self.data);
        if !ascii || byte_at(bytes, end) != b'"' {
            return None;
        }
        self.push_end();
        Some(end)
    }

    /// Cuts back to `len` texts, and takes away data that belongs to none.
    pub fn truncate(&mut self, len: usize) {
        self.ends.truncate(len + 1);
        if let Some(end) = self.ends.last() {
            self.data.truncate(*end as usize);
        }
    }

    fn memory(&self) -> usize {
        self.ends.capacity() * 4 + self.data.capacity()
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let data = renew(&mut self.data);
        (finish_ends(&mut self.ends), Buffer::from_vec(data))
    }

    /// Panics if it is not UTF-8, which every record was checked for.
    fn finish_strings(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (ends, data) = self.finish();
        Arc::new(StringArray::new(ends, data, nulls))
    }
}

/// Texts of which each distinct one is kept once. One that only rejected rows used stays, and harms nobody.
#[derive(Default)]
pub struct Dictionary {
    keys: Vec<i32>,
    /// By a hash that records cannot be written against; it is asked for what `recent` does not know.
    known: HashMap<Box<[u8]>, i32>,
    distinct: Texts,
    /// By a quick hash of the text, the key of the last text that had it, plus one.
    recent: Box<Recent>,
}

/// How many texts the quick way remembers.
const RECENT: usize = 256;
struct Recent([i32; RECENT]);

impl Default for Recent {
    fn default() -> Recent {
        Recent([0; RECENT])
    }
}

impl Dictionary {
    /// Adds a row.
    #[inline]
    pub fn push(&mut self, text: &[u8]) {
        let slot = quick_hash(text);
        let recent = self.recent.0[slot] - 1;
        if recent >= 0 && self.distinct.get(recent as usize) == text {
            return self.keys.push(recent);
        }
        let key = self.key(text);
        self.recent.0[slot] = key + 1;
        self.keys.push(key);
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

    fn memory(&self) -> usize {
        let known = self.known.capacity() * size_of::<(Box<[u8]>, i32)>() + self.distinct.data.len();
        self.keys.capacity() * 4 + known + self.distinct.memory() + size_of::<Recent>()
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        self.known.clear();
        *self.recent = Recent::default();
        let arrow = DataType::Int32;
        if self.distinct.len() == 0 {
            // All rows are null, with key 0, which must exist.
            self.distinct.push_end();
        }
        let keys =
            PrimitiveArray::<Int32Type>::new(ScalarBuffer::from(renew(&mut self.keys)), nulls).with_data_type(arrow);
        Arc::new(DictionaryArray::new(keys, self.distinct.finish_strings(None)))
    }
}

/// Of the length and the first and last bytes, eight of each if there are.
#[inline(always)]
fn quick_hash(text: &[u8]) -> usize {
    let long = || Some((u64::from_le_bytes(*text.first_chunk()?), u64::from_le_bytes(*text.last_chunk()?)));
    let half = || Some((u32::from_le_bytes(*text.first_chunk()?), u32::from_le_bytes(*text.last_chunk()?)));
    let (first, last) = match (text.len(), long(), half()) {
        (8.., Some(words), _) => words,
        (_, _, Some((first, last))) => (first.into(), last.into()),
        _ => (u64::from(text.first().copied().unwrap_or(0)), u64::from(text.last().copied().unwrap_or(0))),
    };
    let mixed = (first ^ last.rotate_left(29) ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as usize % RECENT
}

/// Takes what is there, and makes room for as much and an eighth: the next batch is mostly like the last.
fn renew<T>(cells: &mut Vec<T>) -> Vec<T> {
    let room = cells.len() + cells.len() / 8;
    std::mem::replace(cells, Vec::with_capacity(room))
}

fn fixed<T: ArrowPrimitiveType>(cells: &mut Vec<T::Native>, nulls: Option<NullBuffer>, arrow: &DataType) -> ArrayRef {
    let done = renew(cells);
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(done), nulls).with_data_type(arrow.clone()))
}

fn finish_ends(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let done = renew(ends);
    ends.push(0);
    OffsetBuffer::new(ScalarBuffer::from(done))
}

/// As Arrow's offsets are. Records and batches are far too small for 2 GiB of anything (`RECORD_BYTES_MAX`).
#[inline]
pub fn offset(len: usize) -> i32 {
    i32::try_from(len).expect("a batch of rows stays far below 2 GiB")
}

fn cell_bytes<T>(_: &[T]) -> usize {
    size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_can_be_cut_back_at_every_length() {
        for len in 0..200 {
            for kept in 0..=len {
                let mut validity = Validity::default();
                (0..len).for_each(|row| validity.push(row % 3 != 1));
                validity.truncate(kept);
                (0..70).for_each(|row| validity.push(row % 2 == 0));
                let nulls = validity.finish().unwrap();
                assert_eq!(nulls.len(), kept + 70);
                assert!((0..kept).all(|row| nulls.is_valid(row) == (row % 3 != 1)), "{len} cut to {kept}");
                assert!((0..70).all(|row| nulls.is_valid(kept + row) == (row % 2 == 0)), "{len} cut to {kept}");
            }
        }
    }
}
