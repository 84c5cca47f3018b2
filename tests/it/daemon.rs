//! Whole ways through the real binary: records in at a door, objects out, across restarts, kills and stores that are down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::support::daemon::{Home, bucket, files, pipeline, until};
use crate::support::s3::{Buckets, S3Server, free_address};

const ROWS: &str = "parquet: { schema: { id: int64, name: string } }";
const GZIP: &str = "lines: { compression: gzip }";
const PLAIN: &str = "lines: {}";

/// No chunk of a story becomes this old.
const LONG: &str = "1h";
const SOON: &str = "200ms";

fn rows(ids: std::ops::Range<i64>) -> Vec<String> {
    ids.map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}")).collect()
}

fn batches(folder: &Path) -> Vec<RecordBatch> {
    let objects = files(folder).into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "parquet"));
    let reader = |path| ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    objects.flat_map(|path| reader(path).map(Result::unwrap)).collect()
}

/// The ids of all Parquet rows below a folder, in the order of the objects' names; each row checked as a whole.
fn ids(folder: &Path) -> Vec<i64> {
    let mut ids = Vec::new();
    for batch in batches(folder) {
        let (id, name) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
        for (id, name) in id.values().iter().zip(name) {
            assert_eq!(name, Some(format!("n{id}").as_str()));
            ids.push(*id);
        }
    }
    ids
}

/// The content of all objects of lines below a folder, in the order of their names.
fn lines(folder: &Path) -> String {
    let mut text = String::new();
    for path in files(folder) {
        let file = File::open(&path).unwrap();
        match path.extension().is_some_and(|kind| kind == "gz") {
            true => flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap(),
            false => { file }.read_to_string(&mut text).unwrap(),
        };
    }
    text
}

fn text(records: &[String]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

#[test]
fn the_quickstart_delivers_every_record_once_however_often_it_runs() {
    let home = Home::new();
    let quickstart = include_str!("../../pipelines/quickstart.yaml");
    let ending = quickstart.replace("demo: { rate: 20000 }", "demo: { rate: 0, records: 3000 }");
    assert_ne!(quickstart, ending, "the quickstart has another source now");
    home.write("pipelines/quickstart.yaml", ending);
    home.write("transforms/redact/redact.wasm", include_bytes!("../../transforms/redact/redact.wasm"));
    let first = home.run("run --once pipelines/quickstart.yaml");
    assert_eq!(first.code, 0, "{first:?}");
    let objects = home.files("data/clickstream");
    let again = home.run("run --once pipelines/quickstart.yaml");
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(home.files("data/clickstream"), objects, "nothing new");
    assert_eq!(again.stderr.matches("delivered").count(), 0, "{}", again.stderr);

    let mut seen = BTreeSet::new();
    for batch in batches(&home.path("data/clickstream")) {
        let column = batch.column_by_name("event_id").unwrap().as_string::<i32>();
        column.iter().for_each(|id| assert!(seen.insert(id.unwrap().to_owned()), "{id:?} is there twice"));
        let users = batch.column_by_name("user_id").unwrap().as_string::<i32>();
        let is_hash = |user: &str| user.len() == 32 && user.bytes().all(|digit| digit.is_ascii_hexdigit());
        users.iter().for_each(|user| assert!(is_hash(user.unwrap()), "{user:?} is no hash"));
    }
    assert_eq!(seen.len(), 3000);
}

#[test]
fn both_doors_lead_to_both_pipelines_of_a_stream() {
    let home = Home::new();
    home.write("pipelines/rows.yaml", pipeline("firehose: { stream: clicks }", ROWS, SOON, "url: ./rows"));
    home.write("pipelines/lines.yaml", pipeline("http: { stream: clicks }", GZIP, SOON, "url: ./lines"));
    let daemon = home.start("pipelines");
    daemon.put_batch("clicks", &rows(0..40));
    daemon.put_lines("clicks", &rows(40..100));
    daemon.delivers("rows", 100);
    daemon.delivers("lines", 100);
    daemon.stop();
    assert_eq!(ids(&home.path("rows")), (0..100).collect::<Vec<_>>());
    assert_eq!(lines(&home.path("lines")), text(&rows(0..100)));
}

#[test]
fn what_was_acked_and_not_delivered_goes_out_at_the_next_start() {
    let home = Home::new();
    let written = |interval| home.write("x.yaml", pipeline("firehose: { stream: clicks }", ROWS, interval, "url: ./x"));
    written(LONG);
    let daemon = home.start("x.yaml");
    daemon.put_batch("clicks", &rows(0..30));
    daemon.stop();
    let daemon = home.start("x.yaml");
    daemon.put_lines("clicks", &rows(30..50));
    daemon.kill();
    assert_eq!(ids(&home.path("x")), [] as [i64; 0]);
    written(SOON);
    let daemon = home.start("x.yaml");
    daemon.put_batch("clicks", &rows(50..60));
    daemon.delivers("x", 60);
    daemon.stop();
    assert_eq!(ids(&home.path("x")), (0..60).collect::<Vec<_>>());
}

#[test]
fn a_pipe_is_delivered_to_its_end() {
    let home = Home::new();
    home.write("stdin.yaml", pipeline("stdin: {}", PLAIN, LONG, "url: ./out"));
    for (input, all) in [("a\nb\n", "a\nb\n"), ("c\nlast", "a\nb\nc\nlast\n"), ("", "a\nb\nc\nlast\n")] {
        let ended = home.run_fed("run --once stdin.yaml", input.as_bytes());
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(lines(&home.path("out")), all);
    }
    assert_eq!(files(&home.path("out")).len(), 2, "one object for each pipe that held something");
}

#[test]
fn a_stop_does_not_wait_for_a_pipe_that_stays_open() {
    let home = Home::new();
    home.write("stdin.yaml", pipeline("stdin: {}", PLAIN, SOON, "url: ./out"));
    let mut daemon = home.start("stdin.yaml");
    daemon.feed("a\nb\nno end yet");
    daemon.delivers("stdin", 2);
    daemon.stop();
    assert_eq!(lines(&home.path("out")), "a\nb\n");
}

#[test]
fn a_standard_input_that_cannot_be_read_is_a_failure() {
    let home = Home::new();
    home.write("stdin.yaml", pipeline("stdin: {}", PLAIN, SOON, "url: ./out"));
    let ended = home.run_reading("run --once stdin.yaml", File::open(home.path(".")).unwrap());
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.ends_with("ERROR standard input: Is a directory (os error 21)\n"), "{ended:?}");
}

#[test]
fn files_are_read_once_packed_or_not() {
    let home = Home::new();
    home.write("in/a.log", "a1\na2\n");
    home.write("in/b.log.gz", crate::source_contract::gzip(b"b1\nb2\nb3"));
    home.write("files.yaml", pipeline("file: { path: [\"in/*.log\", \"in/*.gz\"] }", PLAIN, LONG, "url: ./out"));
    let delivered = || lines(&home.path("out")).lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let run = || {
        let ended = home.run("run --once files.yaml");
        assert_eq!(ended.code, 0, "{ended:?}");
        home.files("out")
    };
    let first = run();
    assert_eq!(delivered(), BTreeSet::from(["a1", "a2", "b1", "b2", "b3"].map(str::to_owned)));
    assert_eq!(lines(&home.path("out")).lines().count(), 5);
    assert_eq!(run(), first, "nothing new");
    home.write("in/a.log", "a1\na2\na3\n");
    let third = run();
    let new: Vec<_> = third.keys().filter(|path| !first.contains_key(*path)).collect();
    assert_eq!(new.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<Vec<_>>(), ["a3\n"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_out_of_reach_is_said_and_waited_for_and_troubles_nobody_else() {
    let (home, address) = (Home::new(), free_address().await);
    let lake = bucket(address, "lake/in/");
    home.write("pipelines/stuck.yaml", pipeline("http: { stream: far }", PLAIN, SOON, &lake));
    home.write("pipelines/well.yaml", pipeline("firehose: { stream: near }", ROWS, SOON, "url: ./near"));
    let daemon = home.start("pipelines");
    daemon.put_lines("far", &rows(0..10));
    let said = daemon.hears("the sink refuses an object: s3://lake/in/", |line| line["pipeline"] == "stuck");
    assert_eq!((&said["level"], &said["attempt"]), (&"WARN".into(), &1.into()));
    assert!(
        said["message"].as_str().unwrap().ends_with(": no connection: Connection refused (os error 111)"),
        "{said}"
    );
    assert_eq!(said["hint"], "is the endpoint right, and reachable from here?");
    let retries = "hydrant_put_retries_total{pipeline=\"stuck\"}";
    until("a second attempt fails", || (daemon.metric(retries) >= 2.0).then_some(()));
    assert_eq!(daemon.metric("hydrant_sink_blocked{pipeline=\"stuck\"}"), 1.0);
    assert_eq!(daemon.positions("stuck"), [0.0, 0.0, 10.0, 10.0, 10.0], "promised, and no more");

    daemon.put_lines("far", &rows(10..20));
    daemon.put_batch("near", &rows(0..10));
    daemon.delivers("well", 10);
    assert_eq!(daemon.healthz(), (200, "ok\n".into()));
    assert_eq!(daemon.metric("hydrant_sink_blocked{pipeline=\"well\"}"), 0.0);
    let log = daemon.log();
    assert!(!log.contains("Encountered transport error"), "the store's client does not speak for itself: {log}");
    daemon.stop();
    assert_eq!(ids(&home.path("near")), (0..10).collect::<Vec<_>>());

    let buckets = Buckets::new();
    let there = buckets.create("lake");
    let _server = S3Server::start_at(address, &buckets).await;
    let daemon = home.start("pipelines");
    daemon.delivers("stuck", 20);
    daemon.stop();
    assert_eq!(lines(&there), text(&rows(0..20)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_out_of_reach_takes_no_room_from_producers_and_other_pipelines() {
    let (home, address) = (Home::new(), free_address().await);
    home.write("pipelines/stuck.yaml", pipeline("http: { stream: far }", PLAIN, SOON, &bucket(address, "lake")));
    home.write("pipelines/well.yaml", pipeline("firehose: { stream: near }", ROWS, SOON, "url: ./near"));
    let daemon = home.start("pipelines --memory 64MiB");
    // 36 MB of promises that nobody takes, where 32 MiB may pass through memory.
    let record = "x".repeat(1_000_000);
    for promises in 1..=9 {
        daemon.put_lines("far", &[&record, &record, &record, &record]);
        let blocked = || daemon.metric("hydrant_sink_blocked{pipeline=\"stuck\"}") >= f64::from(promises);
        until("the promise waits for its bucket", || blocked().then_some(()));
    }
    daemon.put_batch("near", &rows(0..10));
    daemon.delivers("well", 10);
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_holds_each_record_once_after_kills_in_the_middle() {
    let (home, buckets) = (Home::new(), Buckets::new());
    let lake = buckets.create("lake");
    let server = S3Server::start(&buckets).await;
    let sink = format!("{}, prefix: \"kind={{kind}}/\"", bucket(server.address, "lake/rows"));
    let schema = "parquet: { schema: { id: int64, name: string }, on_unknown: drop }";
    home.write("x.yaml", pipeline("firehose: { stream: clicks }", schema, "100ms", &sink));
    let record = |id: i64| format!("{{\"id\":{id},\"name\":\"n{id}\",\"kind\":\"k{}\"}}", id % 3);
    let mut next = 0;
    for life in 0..4 {
        let daemon = home.start("x.yaml");
        for _ in 0..5 {
            daemon.put_batch("clicks", &(next..next + 20).map(record).collect::<Vec<_>>());
            next += 20;
        }
        // Killed just behind an ack, or while objects of one promise after the other go up.
        if life % 2 == 1 {
            daemon.hears("delivered", |_| true);
        }
        daemon.kill();
    }
    let daemon = home.start("x.yaml");
    let shard_read_to = || daemon.metrics().contains("position=\"delivered\"} 400.0").then_some(());
    until("all is delivered", shard_read_to);
    daemon.stop();
    let mut all = ids(&lake);
    all.sort();
    assert_eq!(all, (0..400).collect::<Vec<_>>());
    for kind in 0..3 {
        let of_kind = ids(&lake.join(format!("rows/kind=k{kind}")));
        assert!(of_kind.is_sorted() && of_kind.iter().all(|id| id % 3 == kind), "in order: {of_kind:?}");
    }
}

#[test]
fn bad_records_are_set_aside_byte_for_byte_and_the_good_ones_delivered() {
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let deep_field = [b"{\"id\":1,\"x\":", deep.as_slice(), b"}"].concat();
    let (parse, data) = ("DataFormatConversion.ParseError", "DataFormatConversion.MalformedData");
    let bad: [(&[u8], &str, &str); 7] = [
        (b"{\"id\":", parse, "malformed JSON at byte 6: expected a value, found the end of the record"),
        (b"\xff\xfe", parse, "malformed JSON at byte 0: expected an object, found byte 0xff"),
        (b"{\"name\":\"\xff\"}", parse, "malformed JSON at byte 9: expected UTF-8, found byte 0xff"),
        (&deep, parse, "malformed JSON at byte 0: expected an object, found `[`"),
        (
            &deep_field,
            parse,
            "malformed JSON at byte 139: expected at most 128 levels of objects and arrays, found `[`",
        ),
        (b"{\"id\":\"five\"}", data, "column id: expected int64, found string \"five\""),
        (b"[1]", data, "byte 0: expected a record of one JSON object, found array [1]"),
    ];
    let home = Home::new();
    let sink = "url: ./out, prefix: \"rows/\"";
    home.write(
        "x.yaml",
        pipeline("http: { stream: clicks }", ROWS, SOON, sink) + "errors: { prefix: \"bad/{reason}/\" }\n",
    );
    let daemon = home.start("x.yaml");
    let good = rows(0..8);
    let mixed: Vec<&[u8]> = (0..15).map(|n| if n % 2 == 0 { good[n / 2].as_bytes() } else { bad[n / 2].0 }).collect();
    daemon.put_lines("clicks", &mixed);
    daemon.delivers("x", 15);
    for (code, records) in [(parse, 5.0), (data, 2.0)] {
        let labels = format!("pipeline=\"x\",reason=\"format-conversion-failed\",code=\"{code}\"");
        assert_eq!(daemon.metric(&format!("hydrant_records_rejected_total{{{labels}}}")), records);
    }
    daemon.put_lines("clicks", &rows(8..9));
    daemon.delivers("x", 16);
    assert_eq!(daemon.healthz(), (200, "ok\n".into()));
    daemon.stop();
    assert_eq!(ids(&home.path("out/rows")), (0..9).collect::<Vec<_>>());
    let aside = lines(&home.path("out/bad/format-conversion-failed"));
    assert_eq!(aside.lines().count(), bad.len());
    for (line, (record, code, message)) in aside.lines().zip(bad) {
        let line: Value = serde_json::from_str(line).unwrap();
        let raw = base64_simd::STANDARD.decode_to_vec(line["rawData"].as_str().unwrap()).unwrap();
        assert!(raw == record, "byte for byte: {message}");
        assert_eq!((&line["lastErrorCode"], &line["lastErrorMessage"]), (&code.into(), &message.into()));
        assert_eq!((&line["pipeline"], &line["attemptsMade"]), (&"x".into(), &1.into()));
    }
}

#[test]
fn metrics_have_values_once_records_went_through_and_positions_their_order() {
    let home = Home::new();
    home.write("x.yaml", pipeline("http: { stream: clicks }", ROWS, SOON, "url: ./out"));
    let daemon = home.start("x.yaml");
    daemon.put_lines("clicks", &[rows(0..3), vec!["no json".into()]].concat());
    until("all is released", || daemon.metrics().contains("position=\"released\"} 4.0").then_some(()));
    assert_eq!(daemon.positions("x"), [4.0; 5]);
    assert_eq!(daemon.healthz(), (200, "ok\n".into()));
    let page = daemon.metrics();
    assert!(page.ends_with("# EOF\n"), "the end of an OpenMetrics page");

    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let served: BTreeMap<String, bool> = types
        .map(|(name, kind)| {
            let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            let labels = ["{", "_count{", " "].map(|labels| format!("\n{name}{labels}"));
            let has_series = labels.iter().any(|labels| page.contains(labels.as_str()));
            (name, has_series)
        })
        .collect();
    let silent: Vec<_> = served.iter().filter(|(_, has_series)| !**has_series).collect();
    assert!(silent.is_empty(), "without a value after records went through: {silent:?}");

    assert_eq!(daemon.metric("hydrant_records_in_total{pipeline=\"x\"}"), 4.0);
    assert_eq!(daemon.metric("hydrant_records_out_total{pipeline=\"x\"}"), 4.0);
    assert_eq!(daemon.metric("hydrant_objects_out_total{pipeline=\"x\"}"), 2.0);
    assert_eq!(daemon.metric("hydrant_spool_records{stream=\"clicks\"}"), 4.0);
    daemon.stop();
}
