//! How fast JSON becomes columns, and a Parquet file, beside `serde_json::Value` on the same bytes in the same run.
//!
//! `cargo bench --bench decode`. The ratios are the result; the megabytes per second depend on the machine and the hour.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use hydrant::encode::json::{Decoder, OnUnknown, arrow_schema};
use hydrant::encode::schema::Schema;
use hydrant::encode::{About, Format, parquet};
use hydrant::position::{Position, Shard, ShardRange};
use hydrant::record::{Batch, BatchBuilder};

const RECORDS: usize = 60_000;
const ROUNDS: usize = 7;
const SCHEMA: &str = "
event_id: string
event_time: timestamp(ms)
user_id: long
session: string
event: dictionary<string>
url: string
referrer: string
country: dictionary<string>
device: dictionary<string>
price: decimal(12,2)
quantity: int
score: double
logged_in: bool
tags: list<string>
ctx: struct<ip:string,width:int,height:int>
";

fn main() {
    let batch = clickstream();
    let bytes = batch.payload_bytes() as f64;
    println!("clickstream: {} records of {:.0} bytes", batch.len(), bytes / batch.len() as f64);
    let schema: Schema = serde_saphyr::from_str(SCHEMA).expect("the schema is right");

    let check = best(|| assert!(batch.payloads().all(|record| simdutf8::basic::from_utf8(black_box(record)).is_ok())));
    let value = best(|| {
        let parse = |record| serde_json::from_slice::<serde_json::Value>(record).expect("records are JSON");
        batch.payloads().for_each(|record| drop(black_box(parse(record))));
    });
    let mut rows: Vec<(String, Duration)> =
        vec![("UTF-8 check alone".into(), check), ("serde_json::Value".into(), value)];
    for on_unknown in [OnUnknown::Drop, OnUnknown::Keep] {
        let arrow = arrow_schema(&schema, on_unknown).expect("no clash");
        let mut decoder = Decoder::new(&schema, arrow, on_unknown, true);
        let all = best(|| decode(&mut decoder, &batch));
        rows.push((format!("columns, all declared ({on_unknown:?})"), all));
    }
    let few: Schema =
        serde_saphyr::from_str("user_id: long\nevent_time: timestamp(ms)\nprice: decimal(12,2)").expect("right");
    let arrow = arrow_schema(&few, OnUnknown::Drop).expect("no clash");
    let mut decoder = Decoder::new(&few, arrow, OnUnknown::Drop, true);
    rows.push(("columns, 3 of 15 declared".into(), best(|| decode(&mut decoder, &batch))));
    for compression in ["none", "snappy", "zstd"] {
        let yaml = format!("compression: {compression}\nschema:{}", SCHEMA.replace('\n', "\n  "));
        let options: parquet::Options = serde_saphyr::from_str(&yaml).expect("the options are right");
        let format = parquet::ParquetFormat::new(&options).expect("the schema can be stored");
        let mut size = 0;
        let took = best(|| size = encode(&format, &batch));
        rows.push((format!("Parquet, {compression} ({:.1} : 1)", bytes / size as f64), took));
    }
    println!("{:<34} {:>8} {:>10} {:>16}", "", "MB/s", "s per GB", "x serde_json");
    for (name, took) in rows {
        let seconds = took.as_secs_f64();
        let (rate, ratio) = (bytes / seconds / 1e6, value.as_secs_f64() / seconds);
        println!("{name:<34} {rate:>8.0} {:>10.2} {ratio:>16.2}", 1e3 / rate);
    }
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

/// The shortest of some rounds: what the machine can do when nobody disturbs it.
fn best(mut work: impl FnMut()) -> Duration {
    let round = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

fn clickstream() -> Batch {
    let mut seed = 42u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut builder = BatchBuilder::with_capacity(RECORDS, RECORDS * 400);
    let mut record = String::new();
    for row in 0..RECORDS as u64 {
        record.clear();
        let event = ["page_view", "click", "add_to_cart", "purchase"][random(4) as usize];
        let country = ["DE", "FR", "US", "BR", "JP", "IN"][random(6) as usize];
        let device = ["mobile", "desktop", "tablet"][random(3) as usize];
        let _ = write!(
            record,
            "{{\"event_id\":\"{:016x}\",\"event_time\":\"2026-11-20T{:02}:{:02}:{:02}.{:03}Z\",\"user_id\":{},\"session\":\"s-{:08x}\",\
             \"event\":\"{event}\",\"url\":\"https://shop.example.com/p/{}?ref={}\",\"referrer\":{},\"country\":\"{country}\",\
             \"device\":\"{device}\",\"price\":{}.{:02},\"quantity\":{},\"score\":{:.6},\"logged_in\":{},\"tags\":[\"t{}\",\"t{}\"],\
             \"ctx\":{{\"ip\":\"10.{}.{}.{}\",\"width\":{},\"height\":{}}}}}",
            random(u64::MAX),
            row / 3600 % 24,
            row / 60 % 60,
            row % 60,
            random(1000),
            random(5_000_000),
            random(1 << 32),
            random(20_000),
            random(100),
            if random(3) == 0 { "null" } else { "\"https://www.google.com/\"" },
            random(500),
            random(100),
            1 + random(5),
            random(1_000_000) as f64 / 1e6,
            random(2) == 0,
            random(50),
            random(50),
            random(256),
            random(256),
            random(256),
            320 + random(2000),
            480 + random(1200),
        );
        builder.push(record.as_bytes(), 0);
    }
    builder.finish()
}
