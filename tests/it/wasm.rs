//! Modules at work: every outcome, every limit, whatever a hostile module does; and what changes while records flow.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::poll;
use hydrant::metrics::Metrics;
use hydrant::pipeline::Transforms;
use hydrant::record::{Batch, BatchBuilder};
use hydrant::transform::wasm::Modules;
use hydrant::transform::{Making, Options, Transform, Transformed, Wrong};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::daemon::{Home, files, pipeline, until};

const ACTS: &str = include_str!("wasm/acts.wat");
const SLEEPER: &str = include_str!("wasm/sleeper.wat");

/// A folder of modules.
struct Folder {
    folder: TempDir,
    modules: Modules,
}

impl Folder {
    /// With `acts.wasm` in it.
    fn new() -> Folder {
        let folder = Folder { folder: tempfile::tempdir().unwrap(), modules: Modules::default() };
        folder.put("acts.wasm", &compiled(ACTS));
        folder
    }

    /// Puts a file in its place, as whoever deploys it should.
    fn put(&self, name: &str, bytes: &[u8]) {
        let new = self.folder.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.folder.path().join(name)).unwrap();
    }

    fn make(&self, options: Value) -> Result<Arc<dyn Transform>, Wrong> {
        let options: Options = serde_json::from_value(json!({ "wasm": options })).unwrap();
        options.make(&Making { pipeline: "p", folder: self.folder.path(), modules: &self.modules })
    }

    fn acts(&self) -> Arc<dyn Transform> {
        self.make(json!({ "module": "acts.wasm", "time_max": "200ms", "memory_max": "4 MiB", "output_max": "1 MiB" })).unwrap()
    }
}

fn compiled(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

fn batch<T: AsRef<[u8]>>(records: impl IntoIterator<Item = T>) -> Batch {
    let mut batch = BatchBuilder::default();
    records.into_iter().for_each(|record| batch.push(record.as_ref(), 1000));
    batch.finish()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn apply(transform: &Arc<dyn Transform>, records: &[&str]) -> Transformed {
    run(transform.apply(batch(records))).unwrap()
}

fn texts(batch: &Batch) -> Vec<String> {
    batch.payloads().map(|payload| String::from_utf8_lossy(payload).into_owned()).collect()
}

/// Payload, code and reason of what was set aside.
fn aside(transformed: &Transformed) -> Vec<(String, &'static str, &str)> {
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    transformed.rejected.iter().map(|one| (text(&one.payload), one.reason.code, one.reason.message.as_str())).collect()
}

#[test]
fn a_record_goes_on_is_dropped_becomes_several_gets_a_key_or_is_refused() {
    let folder = Folder::new();
    let transformed = apply(&folder.acts(), &["a", "!d", "!mxy", "!kde", "!ewhy", "", "b"]);
    assert_eq!(texts(&transformed.batch), ["a", "xy", "xy", "!kde", "", "b"]);
    assert_eq!(aside(&transformed), [("!ewhy".to_owned(), "Wasm.Failed", "why")]);
    assert_eq!(transformed.dropped, 1);
    let keys = |row| transformed.batch.partition_keys(row).collect::<Vec<_>>();
    assert_eq!((keys(3), keys(0)), (vec![(&b"country"[..], &b"de"[..])], vec![]));
    assert!((0..6).all(|row| transformed.batch.arrival_ms(row) == 1000));
    let nothing = run(folder.acts().apply(Batch::default())).unwrap();
    assert!(nothing.batch.is_empty() && nothing.rejected.is_empty());
}

#[test]
fn whatever_one_record_does_its_neighbours_pass_and_it_has_its_reason() {
    let folder = Folder::new();
    let transform = folder.acts();
    let trap = "trap: wasm `unreachable` instruction executed";
    for (act, code, reason) in [
        ("!t", "Wasm.Trap", "trap: wasm `unreachable` instruction executed"),
        ("!l", "Wasm.TimeLimit", "time limit of 200ms exceeded"),
        ("!g", "Wasm.MemoryLimit", "memory limit of 4 MiB exceeded: it wanted"),
        ("!r", "Wasm.Trap", "stack limit of 512 KiB exceeded"),
        ("!b", "Wasm.OutputLimit", "output limit of 1 MiB for a part of a batch exceeded"),
        ("!B", "Wasm.OutputLimit", "output limit of 131072 records for a part of a batch exceeded: 131073"),
        ("!n", "Wasm.WrongAnswer", "0 answers for 1 records"),
        ("!p", "Wasm.WrongAnswer", "its answer cannot be read: list pointer/length out of bounds of memory"),
        ("!e\u{fffd}", "Wasm.WrongAnswer", "a reason or a partition key in its answer is not UTF-8: "),
    ] {
        let record = act.replace('\u{fffd}', "").into_bytes();
        let record = if act.len() > 2 { [&record, &b"\xff\xfe"[..]].concat() } else { record };
        let transformed = run(transform.apply(batch([&b"a"[..], b"b", &record, b"!mc", b"d"]))).unwrap();
        assert_eq!(texts(&transformed.batch), ["a", "b", "c", "c", "d"], "{act}");
        assert_eq!(transformed.rejected.len(), 1, "{act}");
        let rejected = &transformed.rejected[0];
        assert_eq!((&rejected.payload[..], rejected.reason.code), (&record[..], code), "{:?}", rejected.reason);
        assert!(rejected.reason.message.starts_with(reason), "{act}: {}", rejected.reason.message);
    }
    let _ = trap;
}
