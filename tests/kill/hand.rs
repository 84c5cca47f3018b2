//! The hand that edits pipelines while they run: right, wrong, mended, added, removed, and with another module.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Client;
use crate::feed::Feed;
use crate::record::Rng;

/// A transform that lets the records of this test through, byte for byte.
const MODULE: &[u8] = include_bytes!("../../transforms/redact/redact.wasm");
/// So many modules take turns, so that most of them are compiled already.
const MODULES: u64 = 3;

/// Reads the stream, comes and goes.
pub const SOMETIMES: &str = "extra";
/// Reads the stream, and is never touched.
pub const STILL: &str = "still";

/// When [`SOMETIMES`] was known to be there.
#[derive(Debug, Clone, Copy)]
pub struct Presence {
    pub since: Instant,
    pub until: Option<Instant>,
}

/// What was done, and how long the answers took.
#[derive(Default)]
struct Done {
    valid: u32,
    broken: u32,
    mended: u32,
    added: u32,
    removed: u32,
    swapped: u32,
    cut_short: u32,
    took: Vec<Duration>,
}

pub struct Hand {
    folder: PathBuf,
    output: PathBuf,
    input: PathBuf,
    admin: u16,
    rng: Rng,
    version: u64,
    broken: BTreeSet<&'static str>,
    is_there: bool,
    presences: Vec<Presence>,
    done: Done,
}

impl Hand {
    /// Writes the first revision of everything that is there from the start.
    pub fn new(folder: &Path, input: PathBuf, output: PathBuf, admin: u16, rng: Rng) -> Hand {
        let mut hand = Hand {
            folder: folder.to_owned(),
            output,
            input,
            admin,
            rng,
            version: 0,
            broken: BTreeSet::new(),
            is_there: false,
            presences: Vec::new(),
            done: Done::default(),
        };
        hand.swap();
        for name in ["clicks", "app", STILL] {
            hand.write(name);
        }
        hand
    }

    pub fn presences(&self) -> &[Presence] {
        &self.presences
    }

    /// One change and one answered request to take it; an error if the answer is not what it must be.
    pub fn reload(&mut self) -> Result<(), String> {
        self.edit();
        self.ask()
    }

    /// One change and a request whose answer does not matter: the daemon is killed meanwhile.
    pub fn reload_and_die(&mut self) {
        self.edit();
        self.done.cut_short += 1;
        let _ = Client::new(self.admin).post("/api/reload", "x-hydrant: 1\r\n", "");
    }

    /// A daemon does not start on a file that is wrong.
    pub fn mend_all(&mut self) {
        for name in std::mem::take(&mut self.broken) {
            self.write(name);
        }
    }

    /// Everything is right and there.
    pub fn settle(&mut self) -> Result<(), String> {
        self.mend_all();
        if !self.is_there {
            self.is_there = true;
            self.write(SOMETIMES);
        }
        self.ask()
    }

    /// The pipeline that nobody touched runs what it ran at the start of this life.
    pub fn still_is_untouched(&self) -> Result<(), String> {
        let (_, body) = Client::new(self.admin).get("/api/status").map_err(|error| format!("/api/status: {error}"))?;
        let view: Value = serde_json::from_str(&body).map_err(|error| format!("/api/status: {error}"))?;
        let still = view["pipelines"].as_array().into_iter().flatten().find(|pipeline| pipeline["name"] == STILL);
        match still {
            Some(still) if still["revision"]["number"] == 1 && still["state"] == "running" => Ok(()),
            other => Err(format!("the pipeline that nobody touched is {other:?}")),
        }
    }

    /// In one line.
    pub fn summary(&self) -> String {
        let Done { valid, broken, mended, added, removed, swapped, cut_short, took } = &self.done;
        let mut took = took.clone();
        took.sort();
        let at = |part: usize| took.get(took.len() * part / 100).or(took.last()).map_or(0, Duration::as_millis);
        format!(
            "{} reloads ({valid} valid, {broken} broken, {mended} mended, {added} added, {removed} removed, {swapped} \
             modules swapped; {cut_short} killed under way; answered after {} ms, p99 {} ms)",
            valid + broken + mended + added + removed + swapped,
            at(50),
            at(99)
        )
    }

    fn edit(&mut self) {
        self.version += 1;
        let mut there = vec!["clicks", "app"];
        there.extend(self.is_there.then_some(SOMETIMES));
        let any = there[self.rng.below(there.len() as u64) as usize];
        match self.rng.below(10) {
            0..=3 => {
                self.done.valid += 1;
                self.broken.remove(any);
                self.write(any);
            }
            4 => {
                self.done.broken += 1;
                self.broken.insert(any);
                let text = self.text(any);
                let wrong = match self.rng.below(3) {
                    0 => text.replace("compression", "compresion"),
                    1 => text[..text.len() / 2].to_owned(),
                    _ => text.replace("redact.wasm", "absent.wasm").replace("id: int64", "id: int63"),
                };
                self.put(&format!("pipelines/{any}.yaml"), wrong.as_bytes());
            }
            5 if !self.broken.is_empty() => {
                self.done.mended += 1;
                self.mend_all();
            }
            5..=7 if self.is_there => {
                self.done.removed += 1;
                self.is_there = false;
                self.broken.remove(SOMETIMES);
                if let Some(last) = self.presences.last_mut() {
                    last.until.get_or_insert(Instant::now());
                }
                fs::remove_file(self.folder.join(format!("pipelines/{SOMETIMES}.yaml"))).expect("a pipeline to remove");
            }
            5..=7 => {
                self.done.added += 1;
                self.is_there = true;
                self.write(SOMETIMES);
            }
            _ => {
                self.done.swapped += 1;
                self.swap();
            }
        }
    }

    fn ask(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let answer = Client::new(self.admin).post("/api/reload", "x-hydrant: 1\r\n", "");
        let (status, body) = answer.map_err(|error| format!("a reload has no answer: {error}"))?;
        self.done.took.push(began.elapsed());
        let answer: Value =
            serde_json::from_str(&body).map_err(|error| format!("a reload answered {body}: {error}"))?;
        let refused: BTreeSet<&str> =
            answer["refused"].as_array().into_iter().flatten().filter_map(|of| of["name"].as_str()).collect();
        let expected = if self.broken.is_empty() { 200 } else { 422 };
        if status != expected || !refused.iter().copied().eq(self.broken.iter().copied()) {
            return Err(format!("a reload with {:?} broken answered {status} {body}", self.broken));
        }
        let named = |list: &str| answer[list].as_array().into_iter().flatten().any(|name| name == SOMETIMES);
        let runs = ["added", "changed", "unchanged"].into_iter().any(named);
        if self.is_there && runs && self.presences.last().is_none_or(|last| last.until.is_some()) {
            self.presences.push(Presence { since: Instant::now(), until: None });
        }
        Ok(())
    }

    /// Another module in the place of the one before: the same code, and a custom section of its own.
    fn swap(&mut self) {
        let name = [b'0' + (self.version % MODULES) as u8];
        let module = [MODULE, &[0, 2, 1], &name].concat();
        self.put("modules/redact.wasm", &module);
    }

    fn write(&mut self, name: &str) {
        let text = self.text(name);
        self.put(&format!("pipelines/{name}.yaml"), text.as_bytes());
    }

    /// By a rename, as editors do, or in place.
    fn put(&mut self, name: &str, bytes: &[u8]) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the test");
        if name.ends_with(".wasm") || self.rng.below(3) > 0 {
            let beside = path.with_extension("new");
            fs::write(&beside, bytes).expect("a file to write");
            fs::rename(beside, path).expect("a file to rename");
        } else {
            fs::write(path, bytes).expect("a file to write");
        }
    }

    fn text(&self, name: &str) -> String {
        let version = if name == STILL { 0 } else { self.version };
        let (out, input) = (self.output.display(), self.input.display());
        let size_kib = 32 + 32 * (version % 4);
        let prefix = format!("v{}/", version % 7);
        let module = "transforms: [wasm: { module: ../modules/redact.wasm, config: { fields: [nothing] } }]\n";
        let lines = format!("lines: {{ compression: {{ gzip: {} }} }}", 1 + version % 9);
        let parquet = ["zstd", "snappy", "none"][(version % 3) as usize];
        let (source, transforms, format) = match name {
            "app" => {
                let parquet = format!("parquet: {{ compression: {parquet}, schema: {{ id: int64, pad: string }} }}");
                (format!("file: {{ path: \"{input}/app.log*\" }}"), "", parquet)
            }
            STILL => ("http: { stream: clicks }".to_owned(), "", lines),
            _ => ("firehose: { stream: clicks }".to_owned(), module, lines),
        };
        format!(
            "source: {{ {source} }}\n{transforms}format: {{ {format} }}\n\
             buffer: {{ size: {size_kib} KiB, interval: 300ms }}\n\
             sink: {{ object_store: {{ url: \"file://{out}/{name}/\", prefix: \"{prefix}\" }} }}\n"
        )
    }
}

/// Whether a request was sent and answered while [`SOMETIMES`] was known to be there.
pub fn was_there(presences: &[Presence], sent: Instant, answered: Instant) -> bool {
    presences.iter().any(|of| sent >= of.since && of.until.is_none_or(|until| answered <= until))
}

/// Marks the time in which the daemon is up: whoever is refused then has found a fault.
pub struct Up<'f>(&'f Feed);

impl<'f> Up<'f> {
    pub fn begin(feed: &'f Feed) -> Up<'f> {
        feed.turn();
        Up(feed)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.turn();
    }
}
