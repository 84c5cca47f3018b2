//! What came out: every object in the store, decoded, and the verdict over all ids.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::feed::{Feed, Request};
use crate::hand::{Presence, SOMETIMES, STILL, was_there};
use crate::record;

/// Pipelines that are there all the time: those that read the stream, and the one that follows the file.
const ALWAYS: [&str; 2] = ["clicks", STILL];
const FILE: &str = "app";

/// Details printed of one kind of failure.
const DETAILS_MAX: usize = 10;

/// How often each id was delivered.
#[derive(Default)]
pub struct Delivered {
    objects: HashSet<PathBuf>,
    /// By pipeline: the first folder of the store.
    times: HashMap<String, HashMap<u64, u32>>,
    wrong: Vec<String>,
    /// Uploads that a kill has cut short; `LocalFileSystem` never lists them as objects.
    unfinished: usize,
}

impl Delivered {
    /// Reads the objects below `folder` that were not read yet; an object never changes.
    pub fn scan(&mut self, folder_of_all: &Path) {
        let (mut folders, mut files) = (vec![folder_of_all.to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of the store").flatten() {
                let path = entry.path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        let (unfinished, objects): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| is_unfinished(path));
        self.unfinished = unfinished.len();
        for path in objects {
            if self.objects.insert(path.clone()) {
                match ids(&path) {
                    Ok(ids) => self.add(folder_of_all, &path, &ids),
                    Err(error) => self.wrong.push(format!("{}: {error}", path.display())),
                }
            }
        }
    }

    /// Records that a pipeline owes, and has not delivered yet.
    pub fn missing(&self, feed: &Feed, presences: &[Presence]) -> u64 {
        let requests = feed.all();
        let undelivered = |(pipeline, id): &(&str, u64)| !self.has(pipeline, *id);
        owed(&requests, feed.file_lines(), presences).filter(undelivered).count() as u64
    }

    /// The counts, or everything that is wrong.
    pub fn verdict(self, feed: &Feed, presences: &[Presence]) -> Result<String, String> {
        let (requests, lines) = (feed.all(), feed.file_lines());
        let missing: Vec<String> = owed(&requests, lines, presences)
            .filter(|(pipeline, id)| !self.has(pipeline, *id))
            .map(|(pipeline, id)| format!("{id} in {pipeline}"))
            .collect();
        let (mut answered, mut unanswered, mut kept, mut halves) = (0, 0, 0, Vec::new());
        for request in &requests {
            if request.answered.is_some() {
                answered += request.records;
                continue;
            }
            unanswered += 1;
            for pipeline in ALWAYS {
                let there = request.ids().filter(|id| self.has(pipeline, *id)).count() as u64;
                kept += u64::from(there > 0 && pipeline == STILL);
                if there != 0 && there != request.records {
                    halves.push(format!(
                        "{there} of the {} records from {} in {pipeline}",
                        request.records, request.first
                    ));
                }
            }
        }
        let sent: HashSet<u64> = requests.iter().flat_map(Request::ids).collect();
        let in_file = record::id(record::FILE, 0)..record::id(record::FILE, lines);
        let (mut twice, mut foreign) = (Vec::new(), Vec::new());
        for (pipeline, times) in &self.times {
            for (id, times) in times {
                if *times > 1 {
                    twice.push(format!("{id} in {pipeline}"));
                }
                let ours = if pipeline == FILE { in_file.contains(id) } else { sent.contains(id) };
                if !ours {
                    foreign.push(format!("{id} in {pipeline}"));
                }
            }
        }
        let nothing = answered == 0 || lines == 0;
        let problems = [
            list("missing", &missing),
            list("twice", &twice),
            list("half an unanswered request", &halves),
            list("never sent", &foreign),
            list("wrong objects", &self.wrong),
            nothing.then(|| "nothing went through: this run proves nothing".to_owned()),
        ];
        let problems: Vec<String> = problems.into_iter().flatten().collect();
        if !problems.is_empty() {
            return Err(problems.join("\n"));
        }
        let sometimes = owed(&requests, 0, presences).filter(|(pipeline, _)| *pipeline == SOMETIMES).count();
        Ok(format!(
            "{answered} records answered ({sometimes} owed by the pipeline that came and went), {unanswered} requests \
             unanswered ({kept} of them stored), {lines} file lines, {} objects ({} uploads cut short)",
            self.objects.len(),
            self.unfinished
        ))
    }

    fn has(&self, pipeline: &str, id: u64) -> bool {
        self.times.get(pipeline).is_some_and(|times| times.contains_key(&id))
    }

    fn add(&mut self, folder: &Path, path: &Path, ids: &[u64]) {
        let below = path.strip_prefix(folder).unwrap_or(path).components().next();
        let pipeline = below.map(|name| name.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let mut last: HashMap<u64, u64> = HashMap::new();
        for &id in ids {
            *self.times.entry(pipeline.clone()).or_default().entry(id).or_default() += 1;
            if last.insert(record::writer(id), id).is_some_and(|before| before >= id) {
                self.wrong.push(format!("{}: {id} is out of order", path.display()));
            }
        }
        if ids.is_empty() {
            self.wrong.push(format!("{}: no records", path.display()));
        }
    }
}

/// What was acknowledged, by the pipeline that owes it: those that were there all the time owe all.
fn owed<'a>(
    requests: &'a [Request],
    file_lines: u64,
    presences: &'a [Presence],
) -> impl Iterator<Item = (&'static str, u64)> + 'a {
    let of_request = |request: &'a Request| {
        let answered = request.answered?;
        let sometimes = was_there(presences, request.sent, answered).then_some(SOMETIMES);
        Some(ALWAYS.into_iter().chain(sometimes).flat_map(|pipeline| request.ids().map(move |id| (pipeline, id))))
    };
    let lines = (0..file_lines).map(|number| (FILE, record::id(record::FILE, number)));
    requests.iter().filter_map(of_request).flatten().chain(lines)
}

fn list<T: std::fmt::Debug>(what: &str, all: &[T]) -> Option<String> {
    let some = &all[..all.len().min(DETAILS_MAX)];
    (!all.is_empty()).then(|| format!("{}: {what}, such as {some:?}", all.len()))
}

/// Named `object#1`: a temporary file of `LocalFileSystem`.
fn is_unfinished(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.rsplit_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The ids in an object, each record checked byte for byte.
fn ids(path: &Path) -> Result<Vec<u64>, String> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => ids_of_lines(path),
        Some("parquet") => ids_of_parquet(path).map_err(|error| error.to_string()),
        _ => Err("not an object of ours".to_owned()),
    }
}

fn ids_of_lines(path: &Path) -> Result<Vec<u64>, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    MultiGzDecoder::new(file).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let whole = text.strip_suffix('\n').ok_or("its last line has no end")?;
    whole.split('\n').map(|line| record::parse(line).ok_or_else(|| format!("not a record of ours: {line}"))).collect()
}

fn ids_of_parquet(path: &Path) -> Result<Vec<u64>, Box<dyn std::error::Error>> {
    let mut ids = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no column {name}"));
        let (id, pad) = (column("id")?.as_primitive::<Int64Type>(), column("pad")?.as_string::<i32>());
        for (id, pad) in id.iter().zip(pad) {
            let id = u64::try_from(id.ok_or("a null id")?)?;
            if pad != Some(record::pad(id).as_str()) {
                return Err(format!("the pad of {id} is {pad:?}").into());
            }
            ids.push(id);
        }
    }
    Ok(ids)
}
