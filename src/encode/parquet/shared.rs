//! What the encoders of a format share: the layout, the choices made from the data, and idle decoders.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use arrow_array::RecordBatch;
use parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use parquet::basic::Compression as Codec;
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;

use super::choice::{SAMPLE_ROWS, SAMPLE_ROWS_MIN, choose};
use super::layout::{Choice, Layout, rows_max};
use super::learned::Learned;
use super::options::Options;
use super::pipe::Pipe;
use super::rows::Waiting;
use crate::encode::json::{Decoder, Matching};

/// A file of fewer rows is written without dictionaries, whatever was chosen: they cost more to set up than they give.
const SMALL_ROWS: u64 = 256;
/// A file of less JSON is not compressed: its footer is larger than its pages, and a compressor costs more to set up than
/// such pages to write.
const TINY_JSON_BYTES: u64 = 16 << 10;
/// Bytes of JSON after which the choices are made anew, since data changes.
const CHOOSE_AGAIN_JSON_BYTES: u64 = 4 << 30;
/// Bytes that idle decoders may hold.
const IDLE_DECODERS_BYTES_MAX: usize = 4 << 20;

/// A row group's bytes of JSON unless told.
const JSON_BYTES_MAX: u64 = 256 << 20;
/// The same where they are held decoded, to be sorted.
const SORTED_JSON_BYTES_MAX: u64 = 64 << 20;

/// What the encoders of a format share.
pub struct Shared {
    pub options: Options,
    pub layout: Layout,
    pub json_bytes_max: u64,
    pub learned: Learned,
    /// Bytes of a file without rows.
    pub empty_bytes: u64,
    metadata: Vec<(String, String)>,
    tiny: WriterPropertiesPtr,
    small: WriterPropertiesPtr,
    chosen: Mutex<Chosen>,
    idle: Mutex<Vec<Decoder>>,
}

/// The choices that are in force.
struct Chosen {
    properties: WriterPropertiesPtr,
    /// Rows that they were made from; 0: none were made.
    rows: usize,
    /// Bytes of JSON of files that were begun since, as far as they were known.
    json_bytes: u64,
}

impl Shared {
    /// An error says which option is wrong, or which column cannot be stored.
    pub fn new(options: &Options, metadata: &[(String, String)]) -> anyhow::Result<Shared> {
        options.check()?;
        let layout = Layout::new(options)?;
        let usual = if options.sort_by.is_empty() { JSON_BYTES_MAX } else { SORTED_JSON_BYTES_MAX };
        let json_bytes_max = options.row_group.json_bytes_max.unwrap_or(usual);
        let properties = |choices: &[Choice], rows| Arc::new(layout.properties(options, metadata, choices, rows));
        let small = layout.small_choices();
        let tiny = small.iter().map(|choice| Choice { codec: Codec::UNCOMPRESSED, ..*choice }).collect::<Vec<_>>();
        let (tiny, small) = (properties(&tiny, SMALL_ROWS), properties(&small, SMALL_ROWS));
        let unknown = properties(&layout.unknown_choices(), rows_max(options.row_group.rows_max, json_bytes_max));
        let mut shared = Shared {
            options: options.clone(),
            json_bytes_max,
            learned: Learned::new(layout.leaves.len()),
            empty_bytes: 0,
            metadata: metadata.to_vec(),
            tiny,
            small,
            chosen: Mutex::new(Chosen { properties: unknown, rows: 0, json_bytes: 0 }),
            idle: Mutex::default(),
            layout,
        };
        let mut empty = shared.open(shared.small.clone())?;
        let columns = ArrowRowGroupWriterFactory::new(&empty, shared.layout.arrow.clone()).create_column_writers(0);
        columns.context("parquet: cannot store this schema")?;
        empty.finish()?;
        shared.empty_bytes = empty.bytes_written() as u64;
        Ok(shared)
    }

    /// A new file, whose first rows wait.
    pub fn file(&self, first: &Waiting) -> io::Result<SerializedFileWriter<Pipe>> {
        let properties = match first.rows() {
            ..SMALL_ROWS if first.json_bytes() < TINY_JSON_BYTES => self.tiny.clone(),
            ..SMALL_ROWS => self.small.clone(),
            _ => self.properties(first)?,
        };
        self.open(properties).map_err(io::Error::other)
    }

    fn open(&self, properties: WriterPropertiesPtr) -> parquet::errors::Result<SerializedFileWriter<Pipe>> {
        SerializedFileWriter::new(Pipe::default(), self.layout.root.clone(), properties)
    }

    /// The properties in force; these rows decide them if there are none yet, or they were made of few or long ago.
    fn properties(&self, first: &Waiting) -> io::Result<WriterPropertiesPtr> {
        let rows = usize::try_from(first.rows()).unwrap_or(usize::MAX).min(SAMPLE_ROWS);
        {
            let mut chosen = lock(&self.chosen);
            let more = rows >= SAMPLE_ROWS_MIN && rows / 4 >= chosen.rows.min(SAMPLE_ROWS / 4 + 1);
            let again = rows >= SAMPLE_ROWS && chosen.json_bytes >= CHOOSE_AGAIN_JSON_BYTES;
            if !more && !again {
                return Ok(chosen.properties.clone());
            }
            // Others go on with what there is, and do not try the same.
            chosen.rows = rows;
            chosen.json_bytes = 0;
        }
        let batches: Vec<RecordBatch> = first.batches().cloned().collect();
        let rows_max = rows_max(self.options.row_group.rows_max, self.json_bytes_max);
        let properties = |choices: &[Choice]| self.layout.properties(&self.options, &self.metadata, choices, rows_max);
        let old = self.options.old_encodings();
        let choices = choose(&self.layout, &batches, first.json_bytes(), old, &properties, &self.learned)?;
        let properties = Arc::new(properties(&choices));
        lock(&self.chosen).properties = properties.clone();
        Ok(properties)
    }

    /// Says that this many bytes of JSON were written with the choices in force.
    pub fn wrote(&self, json_bytes: u64) {
        lock(&self.chosen).json_bytes += json_bytes;
    }

    /// A decoder without rows.
    pub fn decoder(&self) -> Decoder {
        let idle = lock(&self.idle).pop();
        idle.unwrap_or_else(|| {
            let Options { schema, on_unknown, case_insensitive, dots_to_underscores, .. } = &self.options;
            let matching = Matching { case_insensitive: *case_insensitive, dots_to_underscores: *dots_to_underscores };
            Decoder::new(schema, self.layout.arrow.clone(), *on_unknown, matching)
        })
    }

    /// Keeps a decoder for others, unless idle ones would hold too much memory.
    pub fn keep(&self, decoder: Decoder) {
        let mut idle = lock(&self.idle);
        let held: usize = idle.iter().map(Decoder::memory).sum();
        if decoder.rows() == 0 && held + decoder.memory() <= IDLE_DECODERS_BYTES_MAX {
            idle.push(decoder);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
