//! What a transform costs, beside the same function in native Rust on the same records in the same run, through hydrant's
//! own host with all limits on.
//!
//! `cargo bench --bench transforms`, or with `-- --json FILE` for what the tables show. The ratios are the result; the nanoseconds are
//! CPU time of all threads and depend on the machine and the hour.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};

use hydrant::inputs::Reads;
use hydrant::record::{Batch, BatchBuilder};
use hydrant::transform::wasm::Modules;
use hydrant::transform::{Making, Options, Transform};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

#[path = "../transforms/bench/src/work.rs"]
mod work;

use work::{Became, Work};

const RECORDS: usize = 40_000;
const RECORDS_PER_BATCH: usize = 500;
const ROUNDS: usize = 9;
const REDACT: &str = "transforms/redact/redact.wasm";
const BENCH: &str = "transforms/bench/bench.wasm";

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let measured: Vec<_> =
        [200, 1024].into_iter().flat_map(|bytes| throughput(&runtime, folder.path(), bytes)).collect();
    starts(folder.path());
    let mut args = env::args().skip_while(|arg| arg != "--json").skip(1);
    if let Some(path) = args.next() {
        fs::write(path, json!(measured).to_string()).expect("the file can be written");
    }
}

/// What is done to records, by a module and natively.
struct Row {
    name: &'static str,
    module: &'static str,
    config: Value,
    native: &'static str,
}

fn rows() -> Vec<Row> {
    let redact = json!({ "fields": ["email", "user.ip"] });
    let hash = json!({ "fields": ["email", "user.ip"], "hash": "a key of enough bytes" });
    vec![
        Row { name: "identity", module: BENCH, config: json!("identity"), native: "identity" },
        Row { name: "redact, shipped", module: REDACT, config: redact, native: "redact" },
        Row { name: "redact, shipped, hash", module: REDACT, config: hash, native: "redact" },
        Row { name: "redact, serde_json", module: BENCH, config: json!("redact"), native: "redact" },
        Row { name: "parse-drop-add", module: BENCH, config: json!("parse-drop-add"), native: "parse-drop-add" },
    ]
}

/// One table: ways take turns in each round, and the best round of each counts.
fn throughput(runtime: &Runtime, folder: &Path, bytes: usize) -> Vec<Value> {
    let batches = batches(bytes);
    let mean = batches.iter().map(Batch::payload_bytes).sum::<u64>() as f64 / RECORDS as f64;
    let rows = rows();
    let made: Vec<_> = rows.iter().map(|row| made(folder, Path::new(row.module), &row.config)).collect();
    let mut best = vec![(f64::INFINITY, f64::INFINITY); rows.len()];
    for _ in 0..ROUNDS {
        for ((row, transform), (native, ours)) in rows.iter().zip(&made).zip(&mut best) {
            let work = work::of(row.native).expect("it is there");
            *native = native.min(cpu_ns(|| batches.iter().for_each(|batch| drop(black_box(natively(work, batch))))));
            *ours = ours.min(cpu_ns(|| runtime.block_on(apply(transform, &batches))));
        }
    }
    println!("{RECORDS} records of {mean:.0} bytes in batches of {RECORDS_PER_BATCH}, CPU time");
    println!("{:<24} {:>10} {:>8} {:>12} {:>8} {:>10}", "", "ns/record", "MB/s", "native ns", "MB/s", "x native");
    let print = |(row, (native, ours)): (&Row, (f64, f64))| {
        let (native, ours) = (native / RECORDS as f64, ours / RECORDS as f64);
        let rate = |ns: f64| mean / ns * 1e3;
        let ratio = ours / native;
        println!(
            "{:<24} {ours:>10.0} {:>8.0} {native:>12.0} {:>8.0} {ratio:>10.2}",
            row.name,
            rate(ours),
            rate(native)
        );
        json!({ "name": row.name, "bytes": bytes, "ns": ours, "native_ns": native, "x_native": ratio })
    };
    let measured = rows.iter().zip(best).map(print).collect();
    println!();
    measured
}

async fn apply(transform: &Arc<dyn Transform>, batches: &[Batch]) {
    for batch in batches {
        let became = transform.apply(batch.clone()).await.expect("no fault");
        assert!(became.rejected.is_empty(), "{:?}", became.rejected[0].reason);
        black_box(became);
    }
}

/// What a transform built into hydrant would do.
fn natively(work: Work, batch: &Batch) -> Batch {
    let mut out = BatchBuilder::with_capacity(batch.len(), batch.payload_bytes() as usize);
    for (row, payload) in batch.payloads().enumerate() {
        match work(payload.to_vec(), batch.arrival_ms(row) as u64) {
            Ok(Became::Record(data)) => out.push_from(batch, row, &data, &[]),
            Ok(Became::Nothing) => {}
            Err(error) => panic!("{error}"),
        }
    }
    out.finish()
}

/// How long it takes until a module can be used.
fn starts(folder: &Path) {
    println!("until a module can be used, ms (best of {ROUNDS}; wall)");
    println!("{:<24} {:>8} {:>10} {:>10}", "", "KB", "compiled", "cached");
    for (name, config) in [
        ("redact", json!({ "fields": ["email"] })),
        ("enrich", json!({ "field": "country", "into": "region", "table": { "DE": "EMEA" } })),
        ("split", json!({ "field": "items" })),
        ("parse", json!(null)),
        ("bench", json!("identity")),
    ] {
        let path = PathBuf::from(format!("transforms/{name}/{name}.wasm"));
        let bytes = fs::metadata(&path).expect("it is there").len();
        let (mut compiled, mut cached) = (f64::INFINITY, f64::INFINITY);
        for round in 0..ROUNDS.min(3) {
            let cache = folder.join(format!("{name}-{round}"));
            compiled = compiled.min(wall_ms(|| drop(made(&cache, &path, &config))));
            for _ in 0..ROUNDS {
                cached = cached.min(wall_ms(|| drop(made(&cache, &path, &config))));
            }
        }
        println!("{name:<24} {:>8.0} {compiled:>10.1} {cached:>10.1}", bytes as f64 / 1e3);
    }
    println!();
}

/// The module with its config, and what was compiled in this folder.
fn made(cache: &Path, module: &Path, config: &Value) -> Arc<dyn Transform> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wasm = json!({ "module": folder.join(module) });
    if !config.is_null() {
        wasm["config"] = config.clone();
    }
    let options: Options = serde_json::from_value(json!({ "wasm": wasm })).expect("the options are right");
    let modules = Modules::new(Some(cache.to_owned()));
    options
        .make(&Making { pipeline: "bench", folder, modules: &modules, reads: &Reads::new() })
        .expect("the module is right")
}

/// Records of about this many bytes; every tenth one has the level `debug`.
fn batches(bytes: usize) -> Vec<Batch> {
    let mut number = 0_u64;
    let mut batch = || {
        let mut builder = BatchBuilder::with_capacity(RECORDS_PER_BATCH, RECORDS_PER_BATCH * bytes);
        for _ in 0..RECORDS_PER_BATCH {
            number += 1;
            builder.push(record(number, bytes).as_bytes(), 1_763_632_923_000 + number as i64);
        }
        builder.finish()
    };
    (0..RECORDS / RECORDS_PER_BATCH).map(|_| batch()).collect()
}

fn record(number: u64, bytes: usize) -> String {
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let level = if number.is_multiple_of(10) { "debug" } else { "info" };
    let mut text = format!(
        "{{\"id\":\"{random:016x}\",\"level\":\"{level}\",\"email\":\"user{}@example.com\",\"user\":{{\"id\":{},\"ip\":\"10.{}.{}.7\"}},\
         \"amount\":{}.{:02},\"ok\":true",
        random % 100_000,
        random % 4711,
        random >> 8 & 255,
        random >> 16 & 255,
        random % 500,
        random % 97,
    );
    for item in 0..(bytes - 200) / 110 {
        text += &format!(
            ",\"item_{item}\":{{\"sku\":\"sku-{:08x}\",\"count\":{},\"price\":{}.5}}",
            random >> 32,
            1 + item,
            random % 97
        );
    }
    text += ",\"message\":\"";
    while text.len() + 8 < bytes {
        text += "a word ";
    }
    text + "\"}"
}

fn wall_ms(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// CPU time of the whole process, helpers that have ended included.
fn cpu_ns(work: impl FnOnce()) -> f64 {
    let start = process_cpu_ns();
    work();
    process_cpu_ns() - start
}

fn process_cpu_ns() -> f64 {
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }
    /// Of Linux, on 64 bits.
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: POSIX: writes one timespec, to where we point.
    let code = unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(code, 0, "a process has CPU time");
    time.seconds as f64 * 1e9 + time.nanoseconds as f64
}
