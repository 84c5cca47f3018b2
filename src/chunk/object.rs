//! One object of an open chunk: records that wait for it, and its encoder once encoding has begun.

use std::io;
use std::sync::Arc;

use crate::encode::{About, Encoder, Format};
use crate::outbox::{Draft, DraftObject};
use crate::record::{Batch, BatchBuilder};
use crate::transform::Rejected;

use super::parked::{Lot, Parked};

/// An object that can still grow.
pub struct Open {
    /// The record-level part of its prefix.
    pub partition: Arc<str>,
    pub oldest_arrival_ms: i64,
    /// Records that are not encoded yet. Always older than those that are encoded after them.
    pub lot: Lot,
    pub encoding: Option<Encoding>,
    /// Whether much comes for it: then records are encoded as they come, and do not wait.
    pub hot: bool,
    /// Rows of the batch at hand that are to be encoded.
    pub rows: Vec<u32>,
}

/// An object whose encoding has begun.
pub struct Encoding {
    pub object: DraftObject,
    pub encoder: Box<dyn Encoder>,
    /// Payload bytes given to the encoder.
    pub raw_bytes: u64,
    /// What the encoder held when it was last asked.
    pub memory: usize,
}

/// An object that is complete.
pub struct Closed {
    pub object: DraftObject,
    pub partition: Arc<str>,
    pub oldest_arrival_ms: i64,
    pub rows: u64,
}

impl Open {
    /// An object without records.
    pub fn new(partition: Arc<str>, oldest_arrival_ms: i64, hot: bool) -> Open {
        Open { partition, oldest_arrival_ms, lot: Lot::default(), encoding: None, hot, rows: Vec::new() }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.encoding.is_none() && self.lot.is_empty() && self.rows.is_empty()
    }

    /// Encoded bytes, about, if it were complete now.
    pub fn size(&self, ratio: Ratio) -> u64 {
        self.encoding.as_ref().map_or(0, |encoding| encoding.encoder.size()) + ratio.encoded(self.lot.bytes())
    }

    /// Its encoder, opened if there was none.
    pub fn encoding(&mut self, draft: &mut Draft, format: &dyn Format) -> &mut Encoding {
        self.encoding.get_or_insert_with(|| Encoding {
            object: draft.object(),
            encoder: format.encoder(),
            raw_bytes: 0,
            memory: 0,
        })
    }
}

impl Encoding {
    /// Encodes rows of a batch, and gives those that cannot be.
    pub fn push(&mut self, batch: &Batch, rows: &[u32], draft: &mut Draft) -> io::Result<Vec<Rejected>> {
        let refused = self.encoder.push(batch, rows, &mut draft.writer(self.object))?;
        self.raw_bytes += rows.iter().map(|row| batch.payload(*row as usize).len() as u64).sum::<u64>();
        self.memory = self.encoder.memory();
        Ok(rejected(batch, refused))
    }

    /// Writes out what the encoder holds, because memory is short.
    pub fn flush(&mut self, draft: &mut Draft) -> io::Result<()> {
        self.encoder.flush(&mut draft.writer(self.object))?;
        self.memory = self.encoder.memory();
        Ok(())
    }
}

/// Records encoded to a whole object in memory, for those too small to stream.
pub struct Small {
    pub bytes: Vec<u8>,
    pub rows: u64,
    pub rejected: Vec<Rejected>,
    /// Of the format that encoded it.
    pub version: u64,
}

impl Small {
    /// Encodes a lot. CPU work and reads of the file.
    pub fn encode(format: &dyn Format, about: &About, parked: &Parked, lot: &Lot) -> io::Result<Small> {
        let mut reading = lot.reading();
        Small::of_batches(format, about, || parked.next(&mut reading))
    }

    /// Encodes what was rejected once more.
    pub fn encode_again(format: &dyn Format, about: &About, rejected: &[Rejected]) -> io::Result<Small> {
        let mut batch = Some(batch_of(rejected));
        Small::of_batches(format, about, || Ok(batch.take()))
    }

    fn of_batches(
        format: &dyn Format,
        about: &About,
        mut next: impl FnMut() -> io::Result<Option<Batch>>,
    ) -> io::Result<Small> {
        let (mut encoder, mut bytes, mut set_aside) = (format.encoder(), Vec::new(), Vec::new());
        while let Some(batch) = next()? {
            let rows: Vec<u32> = (0..batch.len() as u32).collect();
            set_aside.extend(rejected(&batch, encoder.push(&batch, &rows, &mut bytes)?));
        }
        let (rows, version) = (encoder.rows(), encoder.version());
        if rows > 0 {
            encoder.finish(about, &mut bytes)?;
        }
        Ok(Small { bytes, rows, rejected: set_aside, version })
    }
}

fn rejected(batch: &Batch, refused: Vec<(u32, crate::error::Reason)>) -> Vec<Rejected> {
    let whole = |(row, reason): (u32, _)| {
        let row = row as usize;
        Rejected::new(batch.share(row), batch.arrival_ms(row), reason)
    };
    refused.into_iter().map(whole).collect()
}

/// What was rejected, as a batch.
pub fn batch_of(rejected: &[Rejected]) -> Batch {
    let mut again = BatchBuilder::default();
    rejected.iter().for_each(|rejected| again.push(&rejected.payload, rejected.arrival_ms));
    again.finish()
}

/// How large records become by encoding, as last seen in this chunk.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    raw_bytes: u64,
    encoded_bytes: u64,
}

impl Ratio {
    /// What JSON usually becomes.
    pub const USUAL: Ratio = Ratio { raw_bytes: 5, encoded_bytes: 1 };

    /// Looks at an object.
    pub fn learn(&mut self, raw_bytes: u64, encoded_bytes: u64) {
        if raw_bytes > 0 {
            *self = Ratio { raw_bytes, encoded_bytes };
        }
    }

    /// What this many raw bytes become, about.
    pub fn encoded(self, raw_bytes: u64) -> u64 {
        let encoded = u128::from(raw_bytes) * u128::from(self.encoded_bytes) / u128::from(self.raw_bytes);
        u64::try_from(encoded).unwrap_or(u64::MAX)
    }
}
