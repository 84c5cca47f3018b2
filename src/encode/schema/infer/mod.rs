//! `schema: infer`: the schema is what the first records show; then it is locked, and only grows.
//!
//! ```text
//! sample: encoders hold their records ---> lock: v1.json, durable ---> look at some ---> grow: v2.json, durable ---> ..
//!         (until sample_records, or a cut)   encoders begin to encode      records        open objects are finished first
//! ```
//! The promise: a version is durable before anything is encoded with it; each holds what the one before held, in the same
//! order; a column never changes its type, except that `int64` may become `float64`. A value that does not fit its
//! column sets its record aside with the reason, it never becomes null.
//!
//! Fields that are no columns yet stand in `_rest` ([`OnUnknown::Keep`]), and become columns when they were seen in
//! [`NEW_FIELD_SIGHTINGS`] of the records that were looked at: the first of each batch and one of [`LOOK_EVERY`]. With
//! `drop` and `reject` there is nowhere to keep them, and no new fields are let in after the sample. A schema that grows
//! looks at few records, so that it costs next to nothing; records that an encoder rejects are looked at too.
//!
//! A name that the format cannot store gives way to a plain one, and a type to JSON (`stored.rs`).

mod check;
mod encoder;
mod grow;
mod look;
mod shape;
mod stored;
mod versions;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super as encode;
use super::{Column, Schema, Type};
use crate::disk::Disk;
use crate::encode::json::{MALFORMED_DATA, OnUnknown, REST_COLUMN};
use crate::encode::{Encoder, Format};
use crate::error::{Blame, Fault, Reason, RejectedBy};
use crate::record::{Batch, BatchBuilder};
use check::Check;
use encoder::{Sampling, Watching};
use grow::Growth;
use shape::{Fields, Limits};
use versions::Versions;

/// Bounds of `sample_records`.
pub const SAMPLE_RECORDS_MAX: u32 = 100_000;
/// Bytes of records after which a sample is complete, however few there are.
pub const SAMPLE_BYTES_MAX: usize = 16 << 20;
/// The most columns that are inferred; further fields are unknown ones.
pub const COLUMNS_MAX: usize = 1_000;
/// The most columns of a file, counting those within structs, lists and maps.
pub const LEAVES_MAX: usize = 4_000;
/// Bytes of the names and types of all columns, as text.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// In how many of the records looked at a field is seen before it becomes a column.
pub const NEW_FIELD_SIGHTINGS: u32 = 10;
/// One of so many records is looked at, once the schema is locked.
pub const LOOK_EVERY: usize = 128;
/// Of the records that one push rejects, so many are looked at.
const REJECTED_LOOKS_MAX: usize = 64;
/// Fields that are remembered at a time, wherever they are: some 200 bytes each.
const FIELDS_SEEN_MAX: usize = 50_000;
/// After so many looks all is forgotten that did not become a column.
const LOOKS_MAX: u32 = 1 << 16;

/// The options of `infer`, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The records that the schema is inferred from; fewer if the first chunk is cut before.
    #[schemars(range(min = 1, max = SAMPLE_RECORDS_MAX))]
    pub sample_records: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options { sample_records: 1000 }
    }
}

/// A format whose schema is to be inferred, before it has a folder.
#[derive(Clone)]
pub struct Inferring {
    options: encode::Options,
    sample_records: u32,
    /// How the format reads records.
    on_unknown: OnUnknown,
    case_insensitive: bool,
    extension: String,
}

impl Inferring {
    /// The format of these options, whose schema is `infer`; an error if they cannot run, whatever the schema turns out
    /// to be.
    pub fn new(options: &encode::Options, infer: &Options) -> anyhow::Result<Inferring> {
        ensure!(
            (1..=SAMPLE_RECORDS_MAX).contains(&infer.sample_records),
            "schema.infer.sample_records: expected 1 to {SAMPLE_RECORDS_MAX}, found {}",
            infer.sample_records
        );
        let mut options = options.clone();
        let columnar = options.columnar().context("schema: this format has no columns")?;
        let (on_unknown, case_insensitive) = (columnar.on_unknown, columnar.case_insensitive);
        let probe = Check::any_columns();
        let format = with(&options, &Schema::new(probe).map_err(anyhow::Error::msg)?)
            .context("with `schema: infer`, which knows no column in advance")?;
        let extension = format.extension().to_owned();
        Ok(Inferring { options, sample_records: infer.sample_records, on_unknown, case_insensitive, extension })
    }

    /// The format with its folder `dir`, made if need be: the newest version in it is taken up. Blocking. A fault names
    /// the file that cannot be read.
    pub fn open(self, disk: Arc<dyn Disk>, dir: &Path, pipeline: &str) -> Result<Arc<dyn Format>, Fault> {
        let (versions, newest) = Versions::open(disk, dir).map_err(|error| Fault { blame: Blame::Disk, error })?;
        let locked = match newest {
            Some((version, schema)) => {
                let format = with(&self.options, &schema).map_err(|error| Fault { blame: Blame::Config, error })?;
                Some(Arc::new(Locked { version, schema, format }))
            }
            None => None,
        };
        let notes = Notes::new(self.case_insensitive);
        let state = State { locked, notes, sample: BatchBuilder::default(), form: Check::of_form() };
        let pipeline = pipeline.to_owned();
        Ok(Arc::new(Inferred(Arc::new(Shared { of: self, pipeline, versions, state: Mutex::new(state) }))))
    }
}

/// The schema of these records, as `infer` would lock it.
pub fn of_records<'r>(records: impl Iterator<Item = &'r [u8]>) -> Result<Schema, String> {
    let mut notes = Notes::new(true);
    let (mut sample, mut form) = (BatchBuilder::default(), Check::of_form());
    for (at, record) in records.enumerate() {
        form.fits(record).map_err(|reason| format!("record {}: {}", at + 1, reason.message))?;
        notes.look(record, OnUnknown::Keep);
        sample.push(record, 0);
    }
    schema_of(&notes, &sample.finish(), OnUnknown::Keep, true)
}

fn with(options: &encode::Options, schema: &Schema) -> anyhow::Result<Arc<dyn Format>> {
    let mut options = options.clone();
    if let Some(columnar) = options.columnar() {
        *columnar.schema = schema.clone().exact();
    }
    options.build()
}

/// The schema that takes all records of a sample.
fn schema_of(notes: &Notes, sample: &Batch, on_unknown: OnUnknown, case_insensitive: bool) -> Result<Schema, String> {
    let mut columns = notes.columns.columns(on_unknown != OnUnknown::Keep);
    if columns.is_empty() {
        columns = notes.columns.columns(true);
    }
    grow::trim(&mut columns);
    check::relax(&mut columns, sample, case_insensitive);
    Schema::new(columns)
}

/// The format as it runs: encoders of the newest version.
struct Inferred(Arc<Shared>);

/// What the format shares with its encoders.
struct Shared {
    of: Inferring,
    pipeline: String,
    versions: Versions,
    state: Mutex<State>,
}

struct State {
    /// `None` while records are sampled.
    locked: Option<Arc<Locked>>,
    /// What was seen in the sample, or since.
    notes: Notes,
    /// The records of the sample.
    sample: BatchBuilder,
    form: Check,
}

/// A version of the schema, and the format that writes it.
struct Locked {
    version: u32,
    schema: Schema,
    format: Arc<dyn Format>,
}

/// What was seen.
struct Notes {
    columns: Fields,
    limits: Limits,
    looks: u32,
}

impl Notes {
    fn new(case_insensitive: bool) -> Notes {
        let limits = Limits { case_insensitive, room: FIELDS_SEEN_MAX, news: false };
        Notes { columns: Fields::default(), limits, looks: 0 }
    }

    /// Looks at a record that is one JSON object; `false`: it has a field that cannot become a column.
    fn look(&mut self, record: &[u8], on_unknown: OnUnknown) -> bool {
        self.looks += 1;
        let taken = |key: &str| on_unknown == OnUnknown::Keep && key.eq_ignore_ascii_case(REST_COLUMN);
        look::record(record, &mut self.columns, COLUMNS_MAX, taken, &mut self.limits)
    }

    /// Forgets what never became a column, when that is too much.
    fn forget(&mut self) {
        if self.looks >= LOOKS_MAX || self.limits.room == 0 {
            *self = Notes::new(self.limits.case_insensitive);
        }
    }
}

impl Format for Inferred {
    fn encoder(&self) -> Box<dyn Encoder> {
        let locked = self.0.state().locked.clone();
        match locked {
            Some(locked) => Box::new(Watching::new(self.0.clone(), &locked)),
            None => Box::new(Sampling::new(self.0.clone())),
        }
    }

    fn learn(&self, batch: &Batch) -> io::Result<()> {
        let mut state = self.0.state();
        let State { locked, notes, form, .. } = &mut *state;
        let Some(locked) = locked else {
            // Records may be parked, and come to encoders late: what is locked must not be what the first object holds.
            let room = (self.0.of.sample_records as usize).saturating_sub(notes.looks as usize);
            for record in batch.payloads().take(room) {
                if form.fits(record).is_ok() {
                    notes.look(record, self.0.of.on_unknown);
                }
            }
            return Ok(());
        };
        for row in (0..batch.len()).step_by(LOOK_EVERY) {
            let record = batch.payload(row);
            if form.fits(record).is_ok() {
                notes.look(record, self.0.of.on_unknown);
            }
        }
        let locked = locked.clone();
        self.0.grow(&mut state, &locked)
    }

    fn version(&self) -> u64 {
        self.0.state().locked.as_ref().map_or(0, |locked| locked.version.into())
    }

    fn extension(&self) -> &str {
        &self.0.of.extension
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a new version if what was seen since the last look asks for one.
    fn grow(&self, state: &mut State, locked: &Locked) -> io::Result<()> {
        if !state.notes.limits.news {
            state.notes.forget();
            return Ok(());
        }
        let growth =
            Growth { new_fields: self.of.on_unknown == OnUnknown::Keep, case_insensitive: self.of.case_insensitive };
        let old = locked.schema.columns();
        let (columns, changed) = growth.of(old, &state.notes.columns);
        // A struct whose new field cannot be stored may still have floats now.
        let old_grown = Growth { new_fields: false, ..growth }.of(old, &state.notes.columns).0;
        let columns = if changed.is_empty() { columns } else { self.storable(columns, &old_grown) };
        if !changed.is_empty() && columns != old {
            let schema = Schema::new(columns).map_err(io::Error::other)?;
            self.adopt(state, locked.version + 1, schema, &changed)?;
        }
        state.notes.limits.news = false;
        Ok(())
    }

    /// Takes a record into the sample, or says why it is set aside. To be called only while nothing is locked.
    fn sample(&self, state: &mut State, record: &[u8]) -> Result<(), Reason> {
        let wrong =
            |message: &str| Reason { by: RejectedBy::Format, code: MALFORMED_DATA, message: message.to_owned() };
        state.form.fits(record)?;
        let all = state.notes.look(record, self.of.on_unknown);
        if state.notes.columns.is_empty() {
            return Err(wrong(
                "expected an object with fields that can be columns, as the schema is inferred from them",
            ));
        }
        if !all && self.of.on_unknown == OnUnknown::Reject {
            return Err(wrong("expected fields that can be columns only: their names are texts of 1 to 255 bytes"));
        }
        state.sample.push(record, 0);
        Ok(())
    }

    fn sample_is_complete(&self, state: &State) -> bool {
        state.sample.len() >= self.of.sample_records as usize || state.sample.bytes() >= SAMPLE_BYTES_MAX
    }

    /// The newest version; the first one is made of the sample.
    fn lock(&self, state: &mut State) -> io::Result<Arc<Locked>> {
        if let Some(locked) = &state.locked {
            return Ok(locked.clone());
        }
        let sample = std::mem::take(&mut state.sample).finish();
        let columns = schema_of(&state.notes, &sample, self.of.on_unknown, self.of.case_insensitive)
            .map_or_else(|_| Vec::new(), |schema| schema.columns().to_vec());
        let mut columns = self.storable(columns, &[]);
        if columns.is_empty() {
            columns = Check::any_columns();
        }
        if !self.takes(&columns, &sample)? {
            columns.iter_mut().for_each(|column| column.data.kind = Type::Json);
        }
        let changed = ["inferred from the first records".to_owned()];
        // After an error the records come again; what was seen stays, as encoders of other shards still hold theirs.
        self.adopt(state, 1, Schema::new(columns).map_err(io::Error::other)?, &changed)
    }

    /// The columns as the format can store them; see [`stored::storable`].
    fn storable(&self, columns: Vec<Column>, old: &[Column]) -> Vec<Column> {
        stored::storable(columns, old, |columns| {
            Schema::new(columns.to_vec()).is_ok_and(|schema| with(&self.of.options, &schema).is_ok())
        })
    }

    /// Whether all records become rows of these columns. By the rules of inference they do; but records that cannot be
    /// rows of the schema that they are the sample of would be in the way for ever.
    fn takes(&self, columns: &[Column], records: &Batch) -> io::Result<bool> {
        let schema = Schema::new(columns.to_vec()).map_err(io::Error::other)?;
        let mut encoder = with(&self.of.options, &schema).map_err(io::Error::other)?.encoder();
        let rows: Vec<u32> = (0..u32::try_from(records.len()).map_err(io::Error::other)?).collect();
        Ok(encoder.push(records, &rows, &mut io::sink())?.is_empty())
    }

    /// Makes a version durable, then the one that encoders are made of.
    fn adopt(&self, state: &mut State, version: u32, schema: Schema, changed: &[String]) -> io::Result<Arc<Locked>> {
        let format = with(&self.of.options, &schema).map_err(io::Error::other)?;
        self.versions.write(version, &schema, changed)?;
        tracing::info!(pipeline = self.pipeline, version, changed = changed.join("; "), "the schema has a new version");
        let locked = Arc::new(Locked { version, schema, format });
        state.locked = Some(locked.clone());
        Ok(locked)
    }

    /// Looks at records that an encoder rejected: a new version may take their like.
    fn rejected(&self, batch: &Batch, rows: &[(u32, Reason)]) {
        let mut state = self.state();
        let State { locked: Some(_), notes, form, .. } = &mut *state else { return };
        for (row, _) in rows.iter().take(REJECTED_LOOKS_MAX) {
            let record = batch.payload(*row as usize);
            if form.fits(record).is_ok() {
                notes.look(record, self.of.on_unknown);
            }
        }
    }
}
