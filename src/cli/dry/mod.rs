//! A dry run: records in memory through the transforms, the prefix and the encoder of a pipeline, by the code that pipelines
//! use, into objects that nobody delivers.
//!
//! The promise: nothing outside a folder for temporary files is written, no socket is opened (but by functions, if they
//! are to be called), and with a fixed clock and fixed randomness the same comes out each time.

mod arrow;
mod rows;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::budget::Budget;
use crate::chunk::{Chunk, Cut, Limits, Recipe};
use crate::config::{PipelineSpec, SourceSpec};
use crate::encode::Format;
use crate::error::{Blame, Fault};
use crate::ground::{Clock, Ground, Random};
use crate::metrics::Metrics;
use crate::naming::{ErrorPrefix, ObjectName, TimeZone};
use crate::outbox::{Outbox, Sealed};
use crate::position::{Position, Shard};
use crate::record::Batch;
use crate::source::Source;
use crate::source::demo::{self, DemoSource};
use crate::transform::{self, Rejected, Transform, Transformed};

pub use arrow::columns;

/// How long all of it may take: a transform that waits for somebody would wait for ever.
const TIME_MAX: Duration = Duration::from_secs(120);
/// Bytes of memory that its encoders may take.
const MEMORY_BYTES: usize = 512 << 20;
/// Records are given to a chunk in pieces of this, as a source gives them.
const PIECE_BYTES: u64 = 1 << 20;
/// The shard that records come from.
const SHARD: &str = "sample";
/// Error objects are known by this, and named anew.
const ERRORS: &str = "hydrant-dry-run-errors/{reason}/";
/// Wall-clock time does not cut a dry run.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What became of records.
#[derive(Debug, Default)]
pub struct Dry {
    /// By name.
    pub objects: Vec<Object>,
    /// Transforms first.
    pub rejected: Vec<Reject>,
    pub dropped: u64,
    /// One for each transform.
    pub stages: Vec<Stage>,
    /// The versions of an inferred schema that lie in the folder then: file names and texts, the newest last.
    pub learned: Vec<(String, String)>,
}

/// An object that would be delivered.
#[derive(Debug)]
pub struct Object {
    /// Below the sink's url.
    pub name: String,
    /// The part of the name that the prefix made.
    pub prefix: String,
    pub rows: u64,
    pub bytes: Bytes,
}

/// A record that would be set aside: a line of an error object.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Such as `format-conversion-failed`.
    pub reason: String,
    /// Such as `DataFormatConversion.ParseError`.
    pub code: String,
    pub message: String,
    pub record: Bytes,
}

/// What a transform did.
#[derive(Debug)]
pub struct Stage {
    pub shown: String,
    pub records_in: usize,
    pub records_out: usize,
    pub dropped: u64,
    pub rejected: usize,
    /// A function that was not to be called: records went by it.
    pub skipped: bool,
}

/// How it is run.
#[derive(Debug, Clone)]
pub struct How {
    /// The time of the clock, in Unix milliseconds.
    pub now_ms: i64,
    /// Whether functions are called.
    pub invoke: bool,
    /// A folder of schema versions to begin with; it is copied, and stays as it is.
    pub versions: Option<PathBuf>,
}

/// Runs records through a pipeline.
pub async fn run(spec: &PipelineSpec, records: Batch, how: &How) -> Result<Dry, Fault> {
    let run = Run::new(spec, how)?;
    let done = tokio::time::timeout(TIME_MAX, run.all(spec, records, how.invoke)).await;
    let late = || Fault::new(Blame::Config, format!("no end after {} s: a transform waits", TIME_MAX.as_secs()));
    done.unwrap_or_else(|_| Err(late()))
}

/// The bytes of an object without records, which hold its schema if the format has one; nothing if it is yet to be learned.
pub fn empty_object(spec: &PipelineSpec) -> Result<Vec<u8>, Fault> {
    let crate::encode::FormatSpec::Ready(format) = &spec.format else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let range = crate::position::ShardRange { shard: shard(), start: 0.into(), end: 0.into() };
    let about = crate::encode::About { pipeline: &spec.name, range: &range };
    format.encoder().finish(&about, &mut bytes).map_err(Fault::of_io)?;
    Ok(bytes)
}

/// So many records of the demo source, which needs no sample of its own.
pub async fn demo_records(spec: &PipelineSpec, records: u64, now_ms: i64) -> Result<Option<Batch>, Fault> {
    let SourceSpec::Demo(options) = &spec.source else { return Ok(None) };
    let folder = Folder::new().map_err(Fault::disk)?;
    let options = demo::Options { rate: 0, records: Some(records), ..options.clone() };
    let source = DemoSource::open(&fixed_ground(now_ms), &folder.0, &options, true)?;
    let mut batches = Vec::new();
    if let Some(shard) = source.next_shard().await? {
        let mut reader = source.open(&shard, None).await?;
        while let Some(read) = reader.next().await? {
            batches.push(read.batch);
        }
    }
    Ok(Some(Batch::join(batches)))
}

/// The machine's disk, with a clock that stands still and numbers in a row for randomness.
fn fixed_ground(now_ms: i64) -> Ground {
    let drawn = std::sync::atomic::AtomicU64::new(0);
    // A step of SplitMix64: numbers in a row would make names that look alike.
    let random = Random::new(move || {
        let n = drawn.fetch_add(1, std::sync::atomic::Ordering::Relaxed).wrapping_add(1);
        let z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    });
    Ground { clock: Clock::new(move || now_ms), random, ..Ground::real() }
}

fn shard() -> Shard {
    Shard::new(SHARD).unwrap_or_else(|| unreachable!("it is one"))
}

/// A folder for temporary files, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Folder> {
        let folder = std::env::temp_dir().join(format!("hydrant-dry-{:016x}", Random::real().u64()));
        crate::disk::make_folder(&folder, 0o700)?;
        Ok(Folder(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Run {
    folder: Folder,
    ground: Ground,
    outbox: Outbox,
    recipe: Arc<Recipe>,
    format: Arc<dyn Format>,
}

impl Run {
    fn new(spec: &PipelineSpec, how: &How) -> Result<Run, Fault> {
        let folder = Folder::new().map_err(Fault::disk)?;
        let ground = fixed_ground(how.now_ms);
        let versions = folder.0.join("schema");
        if let Some(from) = &how.versions {
            copy_files(from, &versions).map_err(Fault::disk)?;
        }
        let outbox = Outbox::open(&ground, &folder.0.join("outbox"))?;
        let format = spec.format.clone().open(&ground.disk, &versions, &spec.name)?;
        let error_prefix =
            ErrorPrefix::parse(ERRORS, &TimeZone::UTC).map_err(|error| Fault::new(Blame::Bug, error.message))?;
        let recipe = Recipe {
            pipeline: spec.name.clone(),
            format: format.clone(),
            prefix: spec.prefix.clone(),
            error_prefix,
            sink: spec.sink.url.clone(),
            limits: Limits { interval: INTERVAL, aligned: None, ..spec.limits.clone() },
        };
        Ok(Run { folder, ground, outbox, recipe: Arc::new(recipe), format })
    }

    async fn all(&self, spec: &PipelineSpec, records: Batch, invoke: bool) -> Result<Dry, Fault> {
        let mut dry = Dry::default();
        let mut transformed = Transformed { batch: records, ..Transformed::default() };
        for transform in &spec.transforms {
            let stage = through(&**transform, &mut transformed, invoke).await?;
            dry.stages.push(stage);
        }
        dry.dropped = transformed.dropped;
        self.encode(transformed, &mut dry).map_err(Fault::of_io)?;
        dry.objects.sort_by(|a, b| a.name.cmp(&b.name));
        dry.learned = versions(&self.folder.0.join("schema")).map_err(Fault::disk)?;
        Ok(dry)
    }

    fn encode(&self, transformed: Transformed, dry: &mut Dry) -> io::Result<()> {
        let (budget, metrics) = (Budget::new(MEMORY_BYTES), Metrics::new().pipeline(&self.recipe.pipeline));
        let shard = shard();
        let mut at = 0_u64;
        let open = |at: u64| {
            let from = (&shard, &Position::from(at));
            Chunk::open(&self.recipe, &self.outbox, &self.ground, &budget, &metrics, from)
        };
        let mut chunk = None;
        let mut rejected: Vec<Rejected> = transformed.rejected;
        for batch in transformed.batch.pieces(usize::MAX, PIECE_BYTES) {
            if batch.is_empty() && rejected.is_empty() {
                continue;
            }
            let mut filling = match chunk.take() {
                Some(chunk) => chunk,
                None => open(at)?,
            };
            // Where nothing comes out, what is set aside still moves the position.
            at += batch.len().max(1) as u64;
            let piece = Transformed { batch, rejected: std::mem::take(&mut rejected), ..Transformed::default() };
            filling.push(piece, at.into())?;
            match filling.due().is_some_and(|cut| cut != Cut::Interval) {
                true => self.keep(filling.finish()?.seal()?, dry)?,
                false => chunk = Some(filling),
            }
        }
        match chunk {
            Some(last) => self.keep(last.finish()?.seal()?, dry),
            None => Ok(()),
        }
    }

    /// Takes the objects of a chunk over.
    fn keep(&self, sealed: Sealed, dry: &mut Dry) -> io::Result<()> {
        for object in sealed.objects() {
            let bytes = sealed.read(object, 0, usize::try_from(object.len).unwrap_or(usize::MAX))?;
            if let Some((reason, _)) = object.name.strip_prefix(errors_folder()).and_then(|rest| rest.split_once('/')) {
                dry.rejected.extend(rows::rejects(reason, &bytes)?);
                continue;
            }
            let name = ObjectName { prefix: String::new(), ..self.parsed(&object.name) };
            let prefix = object.name.strip_suffix(&name.to_string()).unwrap_or_default().to_owned();
            dry.objects.push(Object { name: object.name.clone(), prefix, rows: object.rows, bytes });
        }
        Ok(())
    }

    /// A name in its parts, with the pipeline's own name: a prefix may end without `/`.
    fn parsed(&self, name: &str) -> ObjectName {
        let parsed = ObjectName::parse(name).unwrap_or_else(|| unreachable!("we have made the name {name}"));
        ObjectName { pipeline: self.recipe.pipeline.clone(), extension: self.format.extension().to_owned(), ..parsed }
    }
}

fn errors_folder() -> &'static str {
    ERRORS.split('{').next().unwrap_or_default()
}

/// Takes records through a transform, as the pipeline does: in pieces, and what it leaves again.
async fn through(transform: &dyn Transform, records: &mut Transformed, invoke: bool) -> Result<Stage, Fault> {
    let batch = std::mem::take(&mut records.batch);
    let is_function = transform.gather().is_some();
    let mut stage = Stage {
        shown: transform.shown(),
        records_in: batch.len(),
        records_out: batch.len(),
        dropped: 0,
        rejected: 0,
        skipped: is_function && !invoke,
    };
    if stage.skipped {
        records.batch = batch;
        return Ok(stage);
    }
    let mut out = Vec::new();
    for mut piece in batch.pieces(transform::RECORDS_MAX, transform::BYTES_MAX) {
        while !piece.is_empty() {
            let Transformed { batch, rejected, dropped, left } = transform.apply(piece).await?;
            stage.dropped += dropped;
            stage.rejected += rejected.len();
            records.rejected.extend(rejected);
            out.push(batch);
            piece = left;
        }
    }
    records.dropped += stage.dropped;
    records.batch = Batch::join(out);
    stage.records_out = records.batch.len();
    Ok(stage)
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    crate::disk::make_folder(to, 0o700)?;
    let entries = match std::fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The schema versions in a folder, the newest last; none if there is no folder.
pub fn versions(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix('v').and_then(|rest| rest.strip_suffix(".json")?.parse::<u32>().ok());
        if let Some(number) = number {
            found.push((number, name, std::fs::read_to_string(entry.path())?));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name, text)| (name, text)).collect())
}

/// The columns of a schema version.
#[derive(Debug, Deserialize)]
pub struct Version {
    pub columns: crate::encode::schema::Schema,
}
