//! Columns under construction: vectors and bitmaps that grow by a cell and can be cut back to an earlier row.
//!
//! Arrow's own builders only grow. These are cut back when a record is rejected half-way, or when a key comes twice:
//! every column keeps, for each of its rows, where the row ends in what it holds, and nothing behind the last row counts.

use std::mem::take;
use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, StringArray, StructArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, TimeUnit};

use super::cells::Cells;
use super::dictionary::Dictionary;
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
    /// Cells that a null takes: one, and those of the fields inside.
    pub cells: usize,
    /// How dates and times are written; empty where they tell it themselves.
    pub formats: Box<[TimeFormat]>,
}

/// The cells of a column, by how they lie in memory.
pub enum Values {
    Bool(Bits),
    I8(Cells<i8>),
    I16(Cells<i16>),
    I32(Cells<i32>),
    I64(Cells<i64>),
    U8(Cells<u8>),
    U16(Cells<u16>),
    U32(Cells<u32>),
    U64(Cells<u64>),
    F32(Cells<f32>),
    F64(Cells<f64>),
    I128(Cells<i128>),
    I256(Cells<i256>),
    Bytes(Texts),
    Dictionary(Box<Dictionary>),
    List { ends: Ends, element: Box<Node> },
    Map { ends: Ends, keys: Texts, value: Box<Node> },
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
            Type::Int { signed: true, bits: 8 } => Values::I8(Cells::default()),
            Type::Int { signed: true, bits: 16 } => Values::I16(Cells::default()),
            Type::Int { signed: true, bits: 32 } | Type::Date => Values::I32(Cells::default()),
            Type::Int { signed: true, .. } | Type::Timestamp(..) => Values::I64(Cells::default()),
            Type::Int { signed: false, bits: 8 } => Values::U8(Cells::default()),
            Type::Int { signed: false, bits: 16 } => Values::U16(Cells::default()),
            Type::Int { signed: false, bits: 32 } => Values::U32(Cells::default()),
            Type::Int { signed: false, .. } => Values::U64(Cells::default()),
            Type::Float32 => Values::F32(Cells::default()),
            Type::Float64 => Values::F64(Cells::default()),
            Type::Time(_) if matches!(data.kind.arrow(), DataType::Time32(_)) => Values::I32(Cells::default()),
            Type::Time(_) => Values::I64(Cells::default()),
            Type::Decimal { precision: ..=38, .. } => Values::I128(Cells::default()),
            Type::Decimal { .. } => Values::I256(Cells::default()),
            Type::String | Type::Json | Type::Binary(_) => Values::Bytes(Texts::default()),
            Type::Dictionary => Values::Dictionary(Box::default()),
            Type::List(element) => Values::List { ends: Ends::default(), element: node(element) },
            Type::Map(value) => Values::Map { ends: Ends::default(), keys: Texts::default(), value: node(value) },
            Type::Struct(columns) => Values::Struct(Box::new(Members::new(columns, formats, matching))),
        };
        let has_structs = match &values {
            Values::List { element, .. } => element.has_structs,
            Values::Map { value, .. } => value.has_structs,
            Values::Struct(_) => true,
            _ => false,
        };
        let cells = match &values {
            Values::Struct(members) => 1 + members.cells(),
            _ => 1,
        };
        let (arrow, valid) = (data.kind.arrow(), Validity::default());
        Node { data: data.clone(), arrow, valid, values, has_structs, cells, formats: formats.into() }
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
            Values::Dictionary(dictionary) => dictionary.push_null(),
            Values::List { ends, element } => ends.push(element.len()),
            Values::Map { ends, keys, .. } => ends.push(keys.len()),
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
            Values::Dictionary(dictionary) => dictionary.truncate(rows),
            Values::List { ends, element } => {
                ends.truncate(rows);
                element.truncate(ends.last());
            },
            Values::Map { ends, keys, value } => {
                ends.truncate(rows);
                keys.truncate(ends.last());
                value.truncate(ends.last());
            },
            Values::Struct(members) => members.truncate(rows),
        }
        self.valid.truncate(rows);
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let values = match_values! { &self.values,
            cells => cells.memory(),
            Values::Bool(bits) => bits.words.memory(),
            Values::Bytes(texts) => texts.memory(),
            Values::Dictionary(dictionary) => dictionary.memory(),
            Values::List { ends, element } => ends.memory() + element.memory(),
            Values::Map { ends, keys, value } => ends.memory() + keys.memory() + value.memory(),
            Values::Struct(members) => members.nodes.iter().map(Node::memory).sum(),
        };
        values + self.valid.bits.as_ref().map_or(0, |bits| bits.words.memory())
    }

    /// Makes room for as many rows as the last batch had; to be called before its first row.
    pub fn reuse(&mut self) {
        match_values! { &mut self.values,
            cells => cells.reuse(),
            Values::Bool(bits) => bits.words.reuse(),
            Values::Bytes(texts) => texts.reuse(),
            Values::Dictionary(dictionary) => dictionary.reuse(),
            Values::List { ends, element } => {
                ends.reuse();
                element.reuse();
            },
            Values::Map { ends, keys, value } => {
                ends.reuse();
                keys.reuse();
                value.reuse();
            },
            Values::Struct(members) => members.nodes.iter_mut().for_each(Node::reuse),
        }
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
                Arc::new(ListArray::new(field.clone(), ends.finish(), element.finish(), nulls))
            }
            Values::Map { ends, keys, value } => {
                let DataType::Map(entries, _) = arrow else { unreachable!("a map's Arrow type is Map") };
                let DataType::Struct(pair) = entries.data_type() else { unreachable!("a map's entries are structs") };
                let pairs = StructArray::new(pair.clone(), vec![keys.finish_strings(None), value.finish()], None);
                Arc::new(MapArray::new(entries.clone(), ends.finish(), pairs, nulls, false))
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

    /// Cells that a row of nulls takes.
    pub fn cells(&self) -> usize {
        self.nodes.iter().map(|node| node.cells).sum()
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
    words: Cells<u64>,
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
        BooleanBuffer::new(self.words.lend(), 0, take(&mut self.len))
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
    let mut bits = Bits { words: Cells::default(), len: valid_before + 64 };
    bits.words.resize(bits.len.div_ceil(64), u64::MAX);
    bits.truncate(valid_before);
    bits.push(false);
    bits
}

/// Where each row ends in what it is made of, and a zero before the first.
#[derive(Default)]
pub struct Ends(Cells<i32>);

impl Ends {
    /// How many rows there are.
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// Ends a row at `end`.
    #[inline(always)]
    pub fn push(&mut self, end: usize) {
        if self.0.is_empty() {
            self.0.push(0);
        }
        self.0.push(offset(end));
    }

    /// Where the last row ends.
    #[inline(always)]
    fn last(&self) -> usize {
        self.0.last().map_or(0, |end| *end as usize)
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len + 1);
    }

    fn reuse(&mut self) {
        self.0.reuse();
    }

    fn memory(&self) -> usize {
        self.0.memory()
    }

    fn finish(&mut self) -> OffsetBuffer<i32> {
        if self.0.is_empty() {
            self.0.push(0);
        }
        let len = self.0.len();
        OffsetBuffer::new(ScalarBuffer::new(self.0.lend(), 0, len))
    }
}

/// Texts or bytes one behind the other, and where each ends.
#[derive(Default)]
pub struct Texts {
    ends: Ends,
    /// What is behind the last end belongs to no row yet.
    pub data: Cells<u8>,
}

impl Texts {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text `index`.
    pub fn get(&self, index: usize) -> &[u8] {
        &self.data[self.ends.0[index] as usize..self.ends.0[index + 1] as usize]
    }

    /// Ends a text: all data behind the one before.
    #[inline]
    pub fn push_end(&mut self) {
        self.ends.push(self.data.len());
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
        self.ends.truncate(len);
        self.data.truncate(self.ends.last());
    }

    fn reuse(&mut self) {
        self.ends.reuse();
        self.data.reuse();
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.ends.memory() + self.data.memory()
    }

    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        (self.ends.finish(), self.data.lend())
    }

    /// Panics if it is not UTF-8, which every record was checked for.
    pub fn finish_strings(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (ends, data) = self.finish();
        Arc::new(StringArray::new(ends, data, nulls))
    }
}

fn fixed<T: ArrowPrimitiveType>(cells: &mut Cells<T::Native>, nulls: Option<NullBuffer>, arrow: &DataType) -> ArrayRef {
    let len = cells.len();
    let values = ScalarBuffer::new(cells.lend(), 0, len);
    Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(arrow.clone()))
}

/// As Arrow's offsets are. Records and batches are far too small for 2 GiB of anything (`RECORD_BYTES_MAX`).
#[inline]
pub fn offset(len: usize) -> i32 {
    i32::try_from(len).expect("a batch of rows stays far below 2 GiB")
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
