//! What is known of a batch's records beside payload and arrival: by their source, and by transforms.
//!
//! ```text
//! text   | key | name length u32 | name | value length u32 | value | ...      what the rows point into
//! row    | key span | offset | span of headers | span of partition keys |       one per record
//! ```
//! A batch whose records have none of it has no such table.

use std::sync::Arc;

use super::Span;

/// Where a record comes from, as logs with topics know it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Origin<'b> {
    pub topic: &'b str,
    pub partition: u32,
    pub offset: u64,
    pub headers: Pairs<'b>,
}

/// Names and values, in the order in which they were given.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pairs<'b>(&'b [u8]);

impl<'b> Iterator for Pairs<'b> {
    type Item = (&'b [u8], &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = piece(self.0)?;
        let (value, rest) = piece(rest)?;
        self.0 = rest;
        Some((name, value))
    }
}

fn piece(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// The table.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    topic: Option<(Arc<str>, u32)>,
    text: Arc<Vec<u8>>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    key: Option<Span>,
    offset: u64,
    headers: Span,
    partition_keys: Span,
}

impl Known {
    /// A table in which nothing is known of the first `rows` records.
    pub fn of_nothing(rows: usize) -> Known {
        Known { rows: vec![Row::default(); rows], ..Known::default() }
    }

    pub fn memory(&self) -> usize {
        self.text.len() + self.rows.len() * size_of::<Row>()
    }

    pub fn set_topic(&mut self, topic: &Arc<str>, partition: u32) {
        self.topic = Some((topic.clone(), partition));
    }

    /// Adds a record of which nothing is known.
    pub fn push_nothing(&mut self) {
        self.rows.push(Row::default());
    }

    /// Adds a record as its source knows it.
    pub fn push<'h>(
        &mut self,
        key: Option<&[u8]>,
        offset: u64,
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
    ) {
        let key = key.map(|key| self.append(|text| text.extend_from_slice(key)));
        let headers = self.append(|text| headers.into_iter().for_each(|pair| push_pair(text, pair)));
        self.rows.push(Row { key, offset, headers, partition_keys: Span::default() });
    }

    /// Adds a record that comes from row `from` of `other`, with these partition keys more.
    pub fn push_from(&mut self, other: Option<(&Known, usize)>, keys: &[(&str, &str)]) {
        let Some((other, from)) = other else {
            let partition_keys = self.append(|text| keys.iter().for_each(|key| push_key(text, key)));
            return self.rows.push(Row { partition_keys, ..Row::default() });
        };
        if self.topic.is_none() {
            self.topic.clone_from(&other.topic);
        }
        let row = other.rows[from];
        let key = row.key.map(|key| {
            let bytes = &other.text[key.start as usize..key.end as usize];
            self.append(|text| text.extend_from_slice(bytes))
        });
        let headers = self.append(|text| text.extend_from_slice(other.piece(row.headers)));
        let partition_keys = self.append(|text| {
            text.extend_from_slice(other.piece(row.partition_keys));
            keys.iter().for_each(|key| push_key(text, key));
        });
        self.rows.push(Row { key, offset: row.offset, headers, partition_keys });
    }

    /// The same of these rows only.
    pub fn select(&self, rows: impl Iterator<Item = usize>) -> Known {
        Known { topic: self.topic.clone(), text: self.text.clone(), rows: rows.map(|row| self.rows[row]).collect() }
    }

    pub fn key(&self, row: usize) -> Option<&[u8]> {
        self.rows[row].key.map(|key| &self.text[key.start as usize..key.end as usize])
    }

    pub fn origin(&self, row: usize) -> Option<Origin<'_>> {
        let (topic, partition) = self.topic.as_ref()?;
        let row = &self.rows[row];
        Some(Origin { topic, partition: *partition, offset: row.offset, headers: Pairs(self.piece(row.headers)) })
    }

    pub fn partition_keys(&self, row: usize) -> Pairs<'_> {
        Pairs(self.piece(self.rows[row].partition_keys))
    }

    fn piece(&self, range: Span) -> &[u8] {
        &self.text[range.start as usize..range.end as usize]
    }

    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let bound = |at: usize| u32::try_from(at).expect("a batch stays far below 4 GiB");
        let start = bound(self.text.len());
        write(Arc::make_mut(&mut self.text));
        Span { start, end: bound(self.text.len()) }
    }
}

fn push_key(text: &mut Vec<u8>, (name, value): &(&str, &str)) {
    push_pair(text, (name.as_bytes(), value.as_bytes()));
}

fn push_pair(text: &mut Vec<u8>, (name, value): (&[u8], &[u8])) {
    for piece in [name, value] {
        text.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        text.extend_from_slice(piece);
    }
}
