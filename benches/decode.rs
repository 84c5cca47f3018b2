//! How fast JSON becomes columns, and a Parquet file, beside `serde_json::Value` and `memcpy` on the same bytes in the same
//! run.
//!
//! `cargo bench --bench decode`. The ratios are the result; the megabytes per second depend on the machine and the hour.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hydrant::encode::json::{Decoder, Matching, OnUnknown, arrow_schema};
use hydrant::encode::schema::Schema;
use hydrant::encode::{About, Format, parquet};
use hydrant::position::{Position, Shard, ShardRange};
use hydrant::record::Batch;

#[path = "records.rs"]
mod records;

const ROUNDS: usize = 9;
const MATCHING: Matching = Matching { case_insensitive: true, dots_to_underscores: false };

fn main() {
    for set in records::sets() {
        let bytes = set.batch.payload_bytes() as f64;
        println!("{}: {} records of {:.0} bytes", set.name, set.batch.len(), bytes / set.batch.len() as f64);
        let rows = measure(&set);
        let value = rows.iter().find(|(name, _)| name == VALUE).map(|(_, took)| took.as_secs_f64()).unwrap_or(f64::NAN);
        let memcpy = rows[0].1.as_secs_f64();
        println!("{:<34} {:>8} {:>10} {:>14} {:>10}", "", "MB/s", "s per GB", "x serde_json", "/ memcpy");
        for (name, took) in rows {
            let seconds = took.as_secs_f64();
            let rate = bytes / seconds / 1e6;
            println!(
                "{name:<34} {rate:>8.0} {:>10.2} {:>14.2} {:>10.1}",
                1e3 / rate,
                value / seconds,
                seconds / memcpy
            );
        }
        println!();
    }
}

const VALUE: &str = "serde_json::Value";

/// The first row is `memcpy`.
fn measure(set: &records::Set) -> Vec<(String, Duration)> {
    let batch = &set.batch;
    let mut copy: Vec<u8> = Vec::with_capacity(batch.payload_bytes() as usize);
    let copied = best(|| {
        copy.clear();
        batch.payloads().for_each(|record| copy.extend_from_slice(black_box(record)));
    });
    let value = best(|| {
        let parse = |record| serde_json::from_slice::<serde_json::Value>(record).expect("records are JSON");
        batch.payloads().for_each(|record| drop(black_box(parse(record))));
    });
    let mut rows = vec![("memcpy of each record".to_owned(), copied), (VALUE.to_owned(), value)];
    for (name, schema, on_unknown) in [
        ("columns, all declared (drop)", set.schema, OnUnknown::Drop),
        ("columns, all declared (keep)", set.schema, OnUnknown::Keep),
        ("columns, three declared (drop)", set.few, OnUnknown::Drop),
    ] {
        let schema: Schema = serde_saphyr::from_str(schema).expect("the schema is right");
        let arrow = arrow_schema(&schema, on_unknown).expect("no clash");
        let mut decoder = Decoder::new(&schema, arrow, on_unknown, MATCHING);
        rows.push((name.to_owned(), best(|| decode(&mut decoder, batch))));
    }
    for compression in ["none", "snappy", "zstd"] {
        let yaml = format!("compression: {compression}\nschema:{}", set.schema.replace('\n', "\n  "));
        let options: parquet::Options = serde_saphyr::from_str(&yaml).expect("the options are right");
        let format = parquet::ParquetFormat::new(&options).expect("the schema can be stored");
        let mut size = 0;
        let took = best(|| size = encode(&format, batch));
        let ratio = batch.payload_bytes() as f64 / size as f64;
        rows.push((format!("Parquet, {compression} ({ratio:.1} : 1)"), took));
    }
    rows
}

fn decode(decoder: &mut Decoder, batch: &Batch) {
    for record in batch.payloads() {
        decoder.push(record).expect("records fit the schema");
        if decoder.rows() == parquet::BATCH_ROWS_MAX {
            black_box(decoder.finish());
        }
    }
    black_box(decoder.finish());
}

fn encode(format: &dyn Format, batch: &Batch) -> usize {
    let (mut encoder, mut out) = (format.encoder(), Vec::new());
    let rows: Vec<u32> = (0..batch.len() as u32).collect();
    assert!(encoder.push(batch, &rows, &mut out).expect("memory takes all").is_empty());
    let shard = Shard::new("7f").expect("a shard's name");
    let range = ShardRange { shard, start: Position::from(0), end: Position::from(rows.len() as u64) };
    encoder.finish(&About { pipeline: "bench", range: &range }, &mut out).expect("memory takes all");
    out.len()
}

/// The CPU time of the quickest of some rounds: what the machine can do when nobody disturbs it.
fn best(mut work: impl FnMut()) -> Duration {
    let began = Instant::now();
    let round = |_| {
        let start = thread_time(began);
        work();
        thread_time(began) - start
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

/// What this thread has used of a core, or on systems that do not say, the time since the bench `began`.
fn thread_time(began: Instant) -> Duration {
    let used = std::fs::read_to_string("/proc/thread-self/schedstat");
    let nanos = used.ok().and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| began.elapsed(), Duration::from_nanos)
}
