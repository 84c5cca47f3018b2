//! `hydrant transform test`: sample records through a module, by the code that pipelines use.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::manifest::Manifest;
use super::show::{SAID_SO, bytes, duration, lines};
use super::{Ended, Loaded, diff, load};
use crate::cli::{Exit, log, say};
use crate::config::{Environment, Log};
use crate::error::Fault;
use crate::record::{BatchBuilder, of_line};
use crate::transform::{Transform, Transformed};

/// Bytes of a file of sample records, at most.
const RECORDS_BYTES_MAX: u64 = 64 << 20;
/// Records of a batch whose time is taken; what a pipeline gives a module at once.
const TIMED_RECORDS: usize = 500;
/// How long time is taken.
const TIMED: Duration = Duration::from_millis(300);

/// Arguments of `hydrant transform test`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder of a transform, or a module
    #[arg(value_name = "DIR|MODULE.wasm", default_value = ".")]
    what: PathBuf,
    /// Sample records, one a line [default: records.ndjson beside the module or in the folder]
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    /// What `init` is given: JSON, or @FILE [default: `config` in transform.yaml]
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
    /// Write what becomes of them to the file of expectations, RECORDS.expected, instead of comparing
    #[arg(long)]
    bless: bool,
}

/// Shows what becomes of each record, and whether that is as expected.
pub fn test(arguments: Arguments) -> Result<Exit, Ended> {
    // Guests may speak.
    log::start(&Log { level: None, format: None }, &Environment::of_process(), None).map_err(Ended::failed)?;
    let Subject { module, records, config } = Subject::of(&arguments)?;
    let expected = records.with_extension("expected");
    if expected == records {
        let ended = Ended::failed(format!("{}: a file of expectations, not of records", records.display()));
        return Err(Ended { exit: Exit::Usage, ..ended });
    }
    let samples = sample(&records)?;
    let loaded = load(&module, config.as_ref())?;
    let runtime = Runtime::new().map_err(|error| Ended::failed(format!("cannot start threads: {error}")))?;
    let run = Run::of(&*loaded.transform, &samples, &runtime)?;
    say(run.lines.trim_end());
    say(format_args!("\n{}", run.totals()));
    say(performance(&loaded, &run, &samples, &runtime)?);
    judge(&expected, &run.lines, arguments.bless)
}

/// What is tested, with what.
struct Subject {
    module: PathBuf,
    records: PathBuf,
    config: Option<Value>,
}

impl Subject {
    fn of(arguments: &Arguments) -> Result<Subject, Ended> {
        let what = &arguments.what;
        let (module, folder, config) = match what.is_dir() {
            false => (what.clone(), what.parent().unwrap_or(Path::new("")), None),
            true => {
                let manifest = Manifest::of(what)?;
                (manifest.module(what), what.as_path(), manifest.config)
            }
        };
        if !module.is_file() {
            let ended = Ended::failed(format!("{}: no such file", module.display()));
            return Err(match what.is_dir() {
                true => ended.hint(&format!("build it first: hydrant transform build {}", what.display())),
                false => ended,
            });
        }
        let config = match &arguments.config {
            None => config,
            Some(text) => Some(given_config(text)?),
        };
        let records = arguments.records.clone().unwrap_or_else(|| folder.join("records.ndjson"));
        Ok(Subject { module, records, config })
    }
}

/// The `config` of a command line: JSON, or a file of it. As in a pipeline file, what is no text is given to `init` as JSON.
fn given_config(given: &str) -> Result<Value, Ended> {
    let (text, shown) = match given.strip_prefix('@') {
        None => (given.to_owned(), "--config"),
        Some(path) => match fs::read_to_string(path) {
            Ok(text) => (text, path),
            Err(error) => return Err(Ended::failed(format!("{path}: {error}"))),
        },
    };
    serde_json::from_str(&text).map_err(|error| {
        let ended = Ended::failed(format!("{shown}: not JSON: {error}"));
        Ended { exit: Exit::Usage, ..ended.hint("a text stands in double quotes: --config '\"text\"'") }
    })
}

/// Records of a file, by the rule of lines.
fn sample(path: &Path) -> Result<Vec<Vec<u8>>, Ended> {
    let failed = |why: String| Ended::failed(format!("{}: {why}", path.display()));
    let mut data = Vec::new();
    let read = File::open(path).and_then(|file| file.take(RECORDS_BYTES_MAX + 1).read_to_end(&mut data));
    if let Err(error) = read {
        return Err(match error.kind() {
            io::ErrorKind::NotFound => failed("no such file".into()).hint("sample records: --records FILE, one a line"),
            _ => failed(error.to_string()),
        });
    }
    if data.len() as u64 > RECORDS_BYTES_MAX {
        return Err(failed(format!("larger than {}", bytes(RECORDS_BYTES_MAX))));
    }
    let samples: Vec<_> = data.split(|byte| *byte == b'\n').filter_map(of_line).map(<[u8]>::to_vec).collect();
    match samples.is_empty() {
        true => Err(failed("no records".into()).hint("each line is one")),
        false => Ok(samples),
    }
}

/// What became of the samples.
#[derive(Default)]
struct Run {
    lines: String,
    records: usize,
    dropped: u64,
    failed: usize,
    outputs: usize,
    /// Whether a record failed that the transform itself has not set aside: such take long.
    broke: bool,
}

impl Run {
    /// Gives the transform one record at a time, so that it is known what becomes of which.
    fn of(transform: &dyn Transform, samples: &[Vec<u8>], runtime: &Runtime) -> Result<Run, Ended> {
        let mut run = Run { records: samples.len(), ..Run::default() };
        for (index, sample) in samples.iter().enumerate() {
            let became = apply(transform, [sample].into_iter(), runtime)?;
            run.lines.push_str(&lines(index + 1, &became));
            run.dropped += became.dropped;
            run.failed += became.rejected.len();
            run.outputs += became.batch.len();
            run.broke |= became.rejected.iter().any(|rejected| rejected.reason.code != SAID_SO);
        }
        Ok(run)
    }

    fn totals(&self) -> String {
        let count = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        format!(
            "{}: {} out, {} dropped, {} failed",
            count(self.records, "record"),
            self.outputs,
            self.dropped,
            self.failed
        )
    }
}

fn apply<'s>(
    transform: &dyn Transform,
    samples: impl Iterator<Item = &'s Vec<u8>>,
    runtime: &Runtime,
) -> Result<Transformed, Ended> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
    let mut batch = BatchBuilder::default();
    samples.for_each(|sample| batch.push(sample, now));
    let applied = runtime.block_on(transform.apply(batch.finish()));
    applied.map_err(|Fault { error, .. }| Ended::failed(format!("{}: {error:#}", transform.shown())))
}

/// One line of numbers about the module.
fn performance(loaded: &Loaded, run: &Run, samples: &[Vec<u8>], runtime: &Runtime) -> Result<String, Ended> {
    let mut line = format!("module {}, loaded in {}", bytes(loaded.module_bytes), duration(loaded.took));
    if !run.broke {
        let (mut records, began) = (0, Instant::now());
        while records == 0 || began.elapsed() < TIMED {
            apply(&*loaded.transform, samples.iter().cycle().take(TIMED_RECORDS), runtime)?;
            records += TIMED_RECORDS as u32;
        }
        line = format!("{} per record, {TIMED_RECORDS} at a time; {line}", duration(began.elapsed() / records));
    }
    if let Some(most) = loaded.transform.memory_bytes() {
        line = format!("{line}; memory {}", bytes(most));
    }
    Ok(line)
}

/// Compares with what is expected, or writes it.
fn judge(path: &Path, became: &str, bless: bool) -> Result<Exit, Ended> {
    let shown = path.display();
    if bless {
        fs::write(path, became).map_err(|error| Ended::failed(format!("{shown}: {error}")))?;
        say(format_args!("written to {shown}: expected from now on"));
        return Ok(Exit::Done);
    }
    let expected = match fs::read_to_string(path) {
        Ok(expected) => expected,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            say(format_args!("nothing to compare with: --bless writes {shown}"));
            return Ok(Exit::Done);
        }
        Err(error) => return Err(Ended::failed(format!("{shown}: {error}"))),
    };
    match diff::between(&expected, became) {
        None => {
            say(format_args!("as expected in {shown}"));
            Ok(Exit::Done)
        }
        Some(differences) => {
            let words = format!("not as expected in {shown} (- expected, + became):\n{}", differences.trim_end());
            Err(Ended::failed(words).hint("if this is right, --bless makes it what is expected"))
        }
    }
}
