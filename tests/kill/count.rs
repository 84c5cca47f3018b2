//! What came out: every object in the store, decoded, and the verdict over all ids.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::feed::Feed;
use crate::record;

/// Details printed of one kind of failure.
const DETAILS_MAX: usize = 10;

/// How often each id was delivered.
#[derive(Default)]
pub struct Delivered {
    objects: HashSet<PathBuf>,
    times: HashMap<u64, u32>,
    wrong: Vec<String>,
    /// Uploads that a kill has cut short; `LocalFileSystem` never lists them as objects.
    unfinished: usize,
}

impl Delivered {
    /// Reads the objects below `folder` that were not read yet; an object never changes.
    pub fn scan(&mut self, folder: &Path) {
        let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
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
                    Ok(ids) => self.add(&path, &ids),
                    Err(error) => self.wrong.push(format!("{}: {error}", path.display())),
                }
            }
        }
    }

    /// Records that were answered, or stand in the file, and are not delivered yet.
    pub fn missing(&self, feed: &Feed) -> u64 {
        let answered = feed.all().into_iter().filter(|request| request.answered);
        let file = record::id(record::FILE, 0);
        let lines = file..file + feed.file_lines();
        let ids = answered.flat_map(|request| request.first..request.first + request.records).chain(lines);
        ids.filter(|id| !self.times.contains_key(id)).count() as u64
    }

    /// The counts, or everything that is wrong.
    pub fn verdict(mut self, feed: &Feed) -> Result<String, String> {
        let (mut answered, mut unanswered, mut kept) = (0, 0, 0);
        let mut missing = Vec::new();
        let mut halves = Vec::new();
        let twice: Vec<u64> = self.times.iter().filter(|(_, times)| **times > 1).map(|(id, _)| *id).collect();
        for request in feed.all() {
            let ids = request.first..request.first + request.records;
            let there = ids.clone().filter(|id| self.times.remove(id).is_some()).count() as u64;
            if request.answered {
                answered += request.records;
                if there < request.records {
                    missing.push(format!(
                        "{} of the {} records from {}",
                        request.records - there,
                        request.records,
                        request.first
                    ));
                }
            } else {
                (unanswered, kept) = (unanswered + 1, kept + u64::from(there > 0));
                if there != 0 && there != request.records {
                    halves.push(format!("{there} of the {} records from {}", request.records, request.first));
                }
            }
        }
        let lines = feed.file_lines();
        for id in (0..lines).map(|number| record::id(record::FILE, number)) {
            if self.times.remove(&id).is_none() {
                missing.push(format!("line {} of the file", id - record::id(record::FILE, 0)));
            }
        }
        // Whatever no request and no line accounts for.
        let foreign: Vec<&u64> = self.times.keys().collect();
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
        Ok(format!(
            "{answered} records answered, {unanswered} requests unanswered ({kept} of them stored), {lines} file lines, \
             {} objects ({} uploads cut short)",
            self.objects.len(),
            self.unfinished
        ))
    }

    fn add(&mut self, path: &Path, ids: &[u64]) {
        let mut last: HashMap<u64, u64> = HashMap::new();
        for &id in ids {
            *self.times.entry(id).or_default() += 1;
            if last.insert(record::writer(id), id).is_some_and(|before| before >= id) {
                self.wrong.push(format!("{}: {id} is out of order", path.display()));
            }
        }
        if ids.is_empty() {
            self.wrong.push(format!("{}: no records", path.display()));
        }
    }
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
