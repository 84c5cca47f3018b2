//! Rows that are decoded and wait to be encoded.

use std::mem::take;

use arrow_array::RecordBatch;

use super::shared::Shared;
use crate::cpu::{idle_cores, spread};
use crate::encode::json::Decoder;
use crate::error::Reason;
use crate::record::Batch;

/// Rows that gather in a decoder before they become a batch.
pub const BATCH_ROWS_MAX: usize = 16_384;
/// Bytes of JSON that gather in a decoder before they become a batch.
pub const BATCH_JSON_BYTES_MAX: usize = 8 << 20;
/// Cells that gather in a decoder before they become a batch, where most fields of the schema are missing.
const BATCH_CELLS_MAX: usize = 4 << 20;
/// Batches are heavy from this many bytes of memory on, if they are also this many times their JSON.
const HEAVY_BYTES_MIN: usize = 256 << 20;
const HEAVY_TIMES_JSON: u64 = 8;
/// Bytes of JSON that are worth a core of their own.
const PART_JSON_BYTES_MIN: usize = 384 << 10;

/// Batches of decoded rows, in order, and a decoder with those behind them.
#[derive(Default)]
pub struct Waiting {
    batches: Vec<(RecordBatch, u64)>,
    batches_rows: u64,
    batches_json_bytes: u64,
    batches_memory: usize,
    decoder: Option<Decoder>,
}

impl Waiting {
    /// Rows that wait.
    pub fn rows(&self) -> u64 {
        self.batches_rows + self.decoder.as_ref().map_or(0, |decoder| decoder.rows() as u64)
    }

    /// Bytes of their JSON.
    pub fn json_bytes(&self) -> u64 {
        self.batches_json_bytes + self.decoder.as_ref().map_or(0, |decoder| decoder.json_bytes() as u64)
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.batches_memory + self.decoder.as_ref().map_or(0, Decoder::memory)
    }

    /// Whether the batches hold far more memory than their JSON tells, as rows of which most fields are missing do: they
    /// should wait no longer.
    pub fn are_heavy(&self) -> bool {
        self.batches_memory >= HEAVY_BYTES_MIN
            && self.batches_memory as u64 >= HEAVY_TIMES_JSON * self.batches_json_bytes
    }

    /// The batches, without what the decoder still holds.
    pub fn batches(&self) -> impl Iterator<Item = &RecordBatch> {
        self.batches.iter().map(|(batch, _)| batch)
    }

    /// Decodes these rows until `room` wait or a batch is full, adds those that cannot be rows to `rejected`, and returns
    /// the rows that are left. Many rows are shared out to idle cores.
    pub fn decode<'r>(
        &mut self,
        shared: &Shared,
        batch: &Batch,
        rows: &'r [u32],
        room: u64,
        rejected: &mut Vec<(u32, Reason)>,
    ) -> &'r [u32] {
        let bytes = rows.iter().map(|row| batch.payload(*row as usize).len()).sum::<usize>();
        let cores = (idle_cores() + 1).min(bytes / PART_JSON_BYTES_MIN);
        if cores > 1 && self.rows() + rows.len() as u64 <= room {
            return self.decode_side_by_side(shared, batch, rows, (cores, bytes.div_ceil(cores)), rejected);
        }
        let waiting = self.batches_rows;
        let decoder = self.decoder.get_or_insert_with(|| shared.decoder());
        for (index, row) in rows.iter().enumerate() {
            if let Err(reason) = decoder.push(batch.payload(*row as usize)) {
                rejected.push((*row, reason));
            }
            let full = decoder.rows() >= BATCH_ROWS_MAX
                || decoder.json_bytes() >= BATCH_JSON_BYTES_MAX
                || decoder.cells() >= BATCH_CELLS_MAX;
            if full || waiting + decoder.rows() as u64 >= room {
                self.end_batch();
                return &rows[index + 1..];
            }
        }
        &[]
    }

    /// In so many parts at most, each of so many bytes of JSON. Returns the rows behind the last part, or those from the
    /// first on that found its part full of cells.
    fn decode_side_by_side<'r>(
        &mut self,
        shared: &Shared,
        batch: &Batch,
        rows: &'r [u32],
        (parts_max, part_json_bytes): (usize, usize),
        rejected: &mut Vec<(u32, Reason)>,
    ) -> &'r [u32] {
        struct Part<'r> {
            rows: &'r [u32],
            done: usize,
            rejected: Vec<(u32, Reason)>,
            decoded: Option<(RecordBatch, u64)>,
        }
        self.end_batch();
        let row_cells = self.decoder.get_or_insert_with(|| shared.decoder()).row_cells();
        let part_rows = (BATCH_CELLS_MAX / row_cells.max(1)).max(1);
        let mut parts = Vec::new();
        let (mut begun, mut bytes) = (0, 0);
        for (index, row) in rows.iter().enumerate() {
            bytes += batch.payload(*row as usize).len();
            let part_ends = bytes >= part_json_bytes || index + 1 - begun == part_rows || index + 1 == rows.len();
            if part_ends && parts.len() < parts_max {
                parts.push(Part { rows: &rows[begun..=index], done: 0, rejected: Vec::new(), decoded: None });
                (begun, bytes) = (index + 1, 0);
            }
        }
        spread(&mut parts, |part| {
            let mut decoder = shared.decoder();
            for row in part.rows {
                if let Err(reason) = decoder.push(batch.payload(*row as usize)) {
                    part.rejected.push((*row, reason));
                }
                part.done += 1;
                if decoder.cells() >= BATCH_CELLS_MAX {
                    break;
                }
            }
            let json_bytes = decoder.json_bytes() as u64;
            part.decoded = (decoder.rows() > 0).then(|| (decoder.finish(), json_bytes));
            shared.keep(decoder);
        });
        let mut done = 0;
        for part in parts {
            rejected.extend(part.rejected);
            part.decoded.into_iter().for_each(|(batch, json_bytes)| self.add(batch, json_bytes));
            done += part.done;
            if part.done < part.rows.len() {
                // Rows stay in their order: what is behind is decoded again.
                break;
            }
        }
        &rows[done..]
    }

    /// Makes a batch of what the decoder holds.
    pub fn end_batch(&mut self) {
        if let Some(decoder) = self.decoder.as_mut().filter(|decoder| decoder.rows() > 0) {
            let json_bytes = decoder.json_bytes() as u64;
            let batch = decoder.finish();
            self.add(batch, json_bytes);
        }
    }

    fn add(&mut self, batch: RecordBatch, json_bytes: u64) {
        self.batches_rows += batch.num_rows() as u64;
        self.batches_json_bytes += json_bytes;
        self.batches_memory += batch.get_array_memory_size();
        self.batches.push((batch, json_bytes));
    }

    /// Takes the first batches, up to `room` rows, and the bytes of their JSON.
    pub fn take(&mut self, room: u64) -> (Vec<RecordBatch>, u64) {
        let all = Waiting { decoder: self.decoder.take(), ..take(self) };
        self.decoder = all.decoder;
        let (mut taken, mut rows, mut taken_json_bytes) = (Vec::new(), 0, 0);
        for (batch, json_bytes) in all.batches {
            let fit = (room - rows).min(batch.num_rows() as u64) as usize;
            if fit == batch.num_rows() {
                taken_json_bytes += json_bytes;
                rows += fit as u64;
                taken.push(batch);
                continue;
            }
            let fit_json_bytes = json_bytes * fit as u64 / batch.num_rows() as u64;
            self.add(batch.slice(fit, batch.num_rows() - fit), json_bytes - fit_json_bytes);
            if fit > 0 {
                taken_json_bytes += fit_json_bytes;
                rows += fit as u64;
                taken.push(batch.slice(0, fit));
            }
        }
        (taken, taken_json_bytes)
    }

    /// Gives the decoder back, which others may use until there are rows again.
    pub fn rest(&mut self, shared: &Shared) {
        self.decoder.take().into_iter().for_each(|decoder| shared.keep(decoder));
    }
}
