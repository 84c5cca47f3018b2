//! `hydrant explain`: what a pipeline will do, before it does it.

mod estimate;
mod resolved;
mod shown;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::dry::{self, Dry, How};
use super::paint::{plain, plain_json};
use super::{Exit, complain, say};
use crate::config::{self, Environment, Loader, PipelineSpec, Place, Problems, Revision, SourceSpec};
use crate::encode::FormatSpec;
use crate::ground::Clock;
use crate::record::{Batch, BatchBuilder, of_line};
use crate::source::kafka::options::Start;
use crate::transform::wasm::Modules;

use estimate::{Estimate, Rate};
use resolved::Key;

/// Bytes of a sample, at most; what comes behind them is not looked at.
const SAMPLE_BYTES_MAX: u64 = 32 << 20;
/// Records of the demo source, which needs no sample.
const DEMO_RECORDS: u64 = 2000;
/// A sample on standard input that takes at least so long tells its rate.
const MEASURED_MIN: Duration = Duration::from_secs(2);

/// Arguments of `hydrant explain`.
#[derive(Debug, Args)]
#[command(after_help = "Nothing is delivered, no port is opened, and of a state folder nothing is changed.\n\n\
                        Examples:\n  hydrant explain pipelines/quickstart.yaml\n  \
                        hydrant explain pipelines/clickstream.yaml --sample records.ndjson --rate 5000/s\n  \
                        hydrant explain pipelines/app.yaml --sample - < app.log")]
pub struct Arguments {
    /// The pipeline's file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Records, one a line; `-` is standard input; at most 32 MiB are looked at
    #[arg(long, value_name = "RECORDS")]
    sample: Option<PathBuf>,
    /// What is expected to come: records as `5000/s`, or bytes as `10MiB/s`; also per `m` and `h`
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// The state folder: go on with the schema versions that the pipeline has learned there
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Call the functions of `lambda` transforms; without it records go by them
    #[arg(long)]
    invoke: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// All that is told.
#[derive(Debug, Serialize)]
struct Explained {
    name: String,
    file: String,
    way: Vec<String>,
    /// Of Kafka: what is read, and from where on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reads: Vec<Told>,
    /// Every key that counts, as written or as it is by default.
    keys: Vec<Key>,
    ends: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<Sample>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<Column>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimate: Option<Estimate>,
    limits: Vec<estimate::Most>,
    warnings: Vec<String>,
}

/// One thing about what is read, in words.
#[derive(Debug, Serialize)]
struct Told {
    of: &'static str,
    is: String,
}

/// What became of the sample.
#[derive(Debug, Serialize)]
struct Sample {
    from: String,
    records: usize,
    bytes: u64,
    transforms: Vec<Stage>,
    dropped: u64,
    prefixes: Vec<OfPrefix>,
    rejected: Vec<OfReason>,
}

#[derive(Debug, Serialize)]
struct Stage {
    transform: String,
    records_in: usize,
    records_out: usize,
    dropped: u64,
    rejected: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct OfPrefix {
    prefix: String,
    records: u64,
    bytes: u64,
    /// Of its first object.
    object: String,
}

#[derive(Debug, Serialize)]
struct OfReason {
    reason: String,
    code: String,
    records: usize,
    /// Of the first of them.
    message: String,
    record: String,
}

#[derive(Debug, Serialize)]
struct Column {
    name: String,
    parquet: String,
}

/// Explains, or says what is wrong.
pub fn explain(arguments: Arguments) -> Exit {
    match Explained::of(&arguments) {
        Ok(explained) => {
            match arguments.json {
                true => say(plain_json(&format!("{:#}", serde_json::json!(explained)))),
                false => say(plain(explained.to_string().trim_end())),
            }
            Exit::Done
        }
        Err((exit, words)) => {
            complain(words);
            exit
        }
    }
}

type Ended = (Exit, String);

/// The name of the pipeline of a file, and the file as it is.
fn load(file: &Path) -> Result<(PipelineSpec, Problems), Ended> {
    let loader = Loader::new(Environment::of_process(), Modules::default(), None);
    let wrong = |problems: Problems| (Exit::Config, problems.to_string());
    if file.is_dir() {
        let mut problems = Problems::new();
        let hint = Some("pass one pipeline: `hydrant explain pipelines/NAME.yaml`".to_owned());
        problems.push(Place::file(file.display().to_string()), "is a folder, where a file is expected", hint);
        return Err(wrong(problems));
    }
    let (revisions, warnings) = loader.load_all(std::slice::from_ref(&file.to_owned())).map_err(wrong)?;
    let spec = revisions.into_iter().find_map(|Revision { spec, .. }| spec.ok());
    spec.map(|spec| (spec, warnings)).ok_or_else(|| (Exit::Config, format!("{}: no pipeline", file.display())))
}

impl Explained {
    fn of(arguments: &Arguments) -> Result<Explained, Ended> {
        let (spec, of_file) = load(&arguments.file)?;
        let now_ms = Clock::real().now_ms();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| (Exit::Failed, error.to_string()))?;
        let failed = |fault: crate::error::Fault| (Exit::Failed, format!("{}: {:#}", spec.name, fault.error));
        let taken = match &arguments.sample {
            Some(path) => Some(Taken::of(path, now_ms)?),
            None => {
                let batch = runtime.block_on(dry::demo_records(&spec, DEMO_RECORDS, now_ms)).map_err(failed)?;
                batch.map(|batch| Taken { batch, from: "of the demo source".into(), took: Duration::ZERO })
            }
        };
        let versions = arguments.state.as_ref().map(|state| state.join("pipelines").join(&spec.name).join("schema"));
        let dry = match &taken {
            None => None,
            Some(taken) => {
                let how = How { now_ms, invoke: arguments.invoke, versions: versions.clone() };
                Some(runtime.block_on(dry::run(&spec, taken.batch.clone(), &how)).map_err(failed)?)
            }
        };
        let sample = taken.as_ref().zip(dry.as_ref()).map(|(taken, dry)| Sample::of(taken, dry));
        let (columns, schema) = columns(&spec, dry.as_ref(), versions.as_deref()).map_err(failed)?;
        let empty_bytes = dry::empty_object(&spec).map_err(failed)?.len() as u64;
        let rate = arguments.rate.or_else(|| measured(&spec, taken.as_ref()));
        let estimate = sample.as_ref().map(|sample| Estimate::of(&spec, sample, rate, empty_bytes));
        let mut warnings: Vec<String> = Vec::new();
        if !of_file.is_empty() {
            warnings.push(of_file.to_string());
        }
        warnings.extend(estimate::warnings(&spec, sample.as_ref(), estimate.as_ref()));
        let written: Value = config::file(&arguments.file).unwrap_or_default();
        Ok(Explained {
            name: spec.name.clone(),
            file: spec.file.clone(),
            way: way(&spec),
            reads: reads(&spec),
            keys: keys(&spec, &written),
            ends: ends(&spec),
            sample,
            columns,
            schema,
            estimate,
            limits: estimate::limits(&spec),
            warnings,
        })
    }
}

/// The keys; those of a spool only where there is one.
fn keys(spec: &PipelineSpec, written: &Value) -> Vec<Key> {
    let mut keys = resolved::keys(&config::pipeline_schema(), written);
    let has_spool = spec.stream().is_some();
    keys.retain(|key| has_spool || !key.key.starts_with("spool."));
    keys
}

fn way(spec: &PipelineSpec) -> Vec<String> {
    let mut way = vec![spec.drawn.source.clone()];
    way.extend(spec.transforms.iter().map(|transform| transform.shown()));
    way.push(spec.drawn.format.clone());
    way.push(spec.drawn.sink.clone());
    way
}

/// What is read of Kafka, by which group, from where on, and how many objects that comes to; how many partitions there are
/// only brokers know.
fn reads(spec: &PipelineSpec) -> Vec<Told> {
    let SourceSpec::Kafka(options) = &spec.source else { return Vec::new() };
    let name = match &options.group {
        Some(group) => group.clone(),
        None => format!("{}, after the pipeline's name", options.group_of(&spec.name)),
    };
    let start = match options.start {
        Start::Earliest => "the oldest record there is".to_owned(),
        Start::Latest => "what comes from now on".to_owned(),
        Start::At(time) => format!("the first record of {time} or later"),
    };
    let cuts = 3600.0 / spec.limits.interval.as_secs_f64().max(0.001);
    let cuts = shown::number(cuts);
    let objects = match options.merge {
        true => format!("up to {cuts} objects of each node and topic for each prefix, or more where much comes"),
        false => {
            format!(
                "up to {cuts} objects of each partition for each prefix, or more where much comes; `merge: true`: of each node and topic"
            )
        }
    };
    vec![
        Told { of: "brokers", is: options.bootstrap().replace(',', ", ") },
        Told { of: "topics", is: options.topics.join(", ") },
        Told {
            of: "group",
            is: format!("{name}; all nodes of it share the partitions, and it remembers what is delivered"),
        },
        Told {
            of: "start",
            is: format!("{start}, where the group knows nothing of a partition; else where it has come to"),
        },
        Told { of: "an hour", is: objects },
    ]
}

/// What ends an object, in words.
fn ends(spec: &PipelineSpec) -> Vec<String> {
    let size = crate::units::Size::from_bytes(spec.limits.size_bytes);
    let interval =
        crate::units::Interval::from_millis(u64::try_from(spec.limits.interval.as_millis()).unwrap_or(u64::MAX));
    let age = match &spec.limits.aligned {
        Some(zone) => format!("at each full {interval} by the clock of {}", zone.iana_name().unwrap_or("UTC")),
        None => format!("{interval} after the first record of its chunk"),
    };
    vec![
        format!("{size} encoded, or {age}; whichever comes first"),
        "a stop, a new revision of the file, the end of the source, or too little memory or disk".to_owned(),
    ]
}

/// The rate that is known without being told: of the demo source, or of a sample that came slowly.
fn measured(spec: &PipelineSpec, taken: Option<&Taken>) -> Option<Rate> {
    let taken = taken?;
    match &spec.source {
        SourceSpec::Demo(options) if options.rate > 0 => Some(Rate::Records(options.rate as f64)),
        _ if taken.took >= MEASURED_MIN => Some(Rate::Records(taken.batch.len() as f64 / taken.took.as_secs_f64())),
        _ => None,
    }
}

/// Records that were taken as the sample.
struct Taken {
    batch: Batch,
    from: String,
    /// How long they took to come.
    took: Duration,
}

impl Taken {
    fn of(path: &Path, now_ms: i64) -> Result<Taken, Ended> {
        let is_stdin = path == Path::new("-");
        let from = if is_stdin { "of standard input".to_owned() } else { format!("of {}", path.display()) };
        let failed = |error: io::Error| (Exit::Failed, format!("{}: {error}", path.display()));
        let began = Instant::now();
        let mut bytes = Vec::new();
        match is_stdin {
            true => io::stdin().lock().take(SAMPLE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?,
            false => {
                File::open(path).and_then(|file| file.take(SAMPLE_BYTES_MAX).read_to_end(&mut bytes)).map_err(failed)?
            }
        };
        let took = if is_stdin { began.elapsed() } else { Duration::ZERO };
        // A line that the limit cuts in the middle is not looked at.
        let is_cut = bytes.len() as u64 == SAMPLE_BYTES_MAX;
        let whole = if is_cut { memchr::memrchr(b'\n', &bytes).unwrap_or(0) } else { bytes.len() };
        let mut batch = BatchBuilder::default();
        let lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        lines.filter_map(of_line).for_each(|line| batch.push(line, now_ms));
        let batch = batch.finish();
        match batch.is_empty() {
            true => Err((Exit::Failed, format!("{}: no records\nhint: each line is one", path.display()))),
            false => Ok(Taken { batch, from, took }),
        }
    }
}

impl Sample {
    fn of(taken: &Taken, dry: &Dry) -> Sample {
        let mut prefixes: Vec<OfPrefix> = Vec::new();
        for object in &dry.objects {
            match prefixes.iter_mut().find(|known| known.prefix == object.prefix) {
                Some(known) => {
                    known.records += object.rows;
                    known.bytes += object.bytes.len() as u64;
                }
                None => prefixes.push(OfPrefix {
                    prefix: object.prefix.clone(),
                    records: object.rows,
                    bytes: object.bytes.len() as u64,
                    object: object.name.clone(),
                }),
            }
        }
        prefixes.sort_by(|a, b| b.records.cmp(&a.records).then_with(|| a.prefix.cmp(&b.prefix)));
        let mut rejected: Vec<OfReason> = Vec::new();
        for reject in &dry.rejected {
            match rejected.iter_mut().find(|known| known.reason == reject.reason && known.code == reject.code) {
                Some(known) => known.records += 1,
                None => rejected.push(OfReason {
                    reason: reject.reason.clone(),
                    code: reject.code.clone(),
                    records: 1,
                    message: reject.message.clone(),
                    record: String::from_utf8_lossy(&reject.record).chars().take(200).collect(),
                }),
            }
        }
        let stage = |stage: &dry::Stage| Stage {
            transform: stage.shown.clone(),
            records_in: stage.records_in,
            records_out: stage.records_out,
            dropped: stage.dropped,
            rejected: stage.rejected,
            note: stage.skipped.then_some("not called, as `--invoke` was not given: records went by it"),
        };
        Sample {
            from: taken.from.clone(),
            records: taken.batch.len(),
            bytes: taken.batch.payload_bytes(),
            transforms: dry.stages.iter().map(stage).collect(),
            dropped: dry.dropped,
            prefixes,
            rejected,
        }
    }
}

/// The columns that a Parquet object has, and where they come from if that is not the file itself.
fn columns(
    spec: &PipelineSpec,
    dry: Option<&Dry>,
    versions: Option<&Path>,
) -> Result<(Vec<Column>, Option<String>), crate::error::Fault> {
    let of_io = crate::error::Fault::of_io;
    let known = match versions {
        Some(folder) => dry::versions(folder).map_err(crate::error::Fault::disk)?,
        None => Vec::new(),
    };
    let infers = matches!(spec.format, FormatSpec::Infers(_));
    let now = dry.and_then(|dry| dry.learned.last()).or(known.last());
    let schema = match (infers, now, known.last()) {
        (false, ..) => None,
        (true, None, _) => Some("learned from the first records, then locked: give a --sample to see it".to_owned()),
        (true, Some((now, _)), None) => {
            Some(format!("learned from the sample: {now} would be locked in the state folder"))
        }
        (true, Some((now, _)), Some((old, _))) if now == old => Some(format!("{now} of the state folder")),
        (true, Some((now, _)), Some((old, _))) => Some(format!("{old} of the state folder would grow to {now}")),
    };
    let object = match dry.and_then(|dry| dry.objects.first()) {
        Some(object) => object.bytes.clone(),
        None => dry::empty_object(spec)?.into(),
    };
    if spec.drawn.format == "parquet" && !object.is_empty() {
        let columns = dry::columns(object).map_err(of_io)?;
        return Ok((columns.into_iter().map(|(name, parquet)| Column { name, parquet }).collect(), schema));
    }
    let learned = now.and_then(|(_, text)| serde_json::from_str::<dry::Version>(text).ok());
    let columns = learned.iter().flat_map(|version| version.columns.columns());
    let columns = columns.map(|column| Column { name: column.name.clone(), parquet: column.data.to_string() });
    Ok((columns.collect(), schema))
}
