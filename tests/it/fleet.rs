//! Pipelines that come, change and go while the daemon runs.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::support::daemon::{Daemon, Home, bucket, files, http, pipeline, until};
use crate::support::s3::{Buckets, S3Server, free_address};

const LINES: &str = "lines: {}";
const SOON: &str = "200ms";
/// Only a cut ends such a chunk.
const LATE: &str = "1h";

fn reload(daemon: &Daemon) -> (u16, Value) {
    let (status, answer) = http(daemon.admin(), "POST /api/reload", "x-hydrant: 1\r\n", b"");
    (status, serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}")))
}

fn view(daemon: &Daemon) -> Value {
    let (status, answer) = http(daemon.admin(), "GET /api/status", "", b"");
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

fn of<'v>(view: &'v Value, pipeline: &str) -> &'v Value {
    let all = view["pipelines"].as_array().unwrap();
    all.iter().find(|of| of["name"] == pipeline).unwrap_or(&Value::Null)
}

/// Each line that was delivered below a folder, with how often.
fn lines(home: &Home, folder: &str) -> BTreeMap<String, u32> {
    let mut lines = BTreeMap::new();
    for file in files(&home.path(folder)) {
        for line in fs::read_to_string(file).unwrap().lines() {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
    }
    lines
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn each_once(range: std::ops::Range<u32>) -> BTreeMap<String, u32> {
    range.map(|n| (n.to_string(), 1)).collect()
}

fn of_stream(stream: &str, interval: &str, sink: &str) -> String {
    pipeline(&format!("firehose: {{ stream: {stream} }}"), LINES, interval, sink)
}

#[test]
fn a_changed_prefix_takes_effect_with_the_next_record_and_nothing_is_lost_or_doubled() {
    let home = Home::new();
    home.write("pipelines/x.yaml", of_stream("s", LATE, "url: ./out, prefix: \"a/\""));
    let daemon = home.start("pipelines");
    daemon.put_batch("s", &numbers(0..10));
    home.write("pipelines/x.yaml", of_stream("s", LATE, "url: ./out, prefix: \"b/\""));
    let (status, reloaded) = reload(&daemon);
    assert_eq!(status, 200, "{reloaded}");
    daemon.put_batch("s", &numbers(10..20));
    home.write("pipelines/x.yaml", of_stream("s", LATE, "url: ./out, prefix: \"c/\""));
    assert_eq!(reload(&daemon).0, 200);
    daemon.delivers("x", 20);
    assert_eq!(lines(&home, "out/a"), each_once(0..10));
    assert_eq!(lines(&home, "out/b"), each_once(10..20));
    assert_eq!(of(&view(&daemon), "x")["revision"]["number"], 3);
    assert!(daemon.metrics().contains("reason=\"reload\""));
    daemon.stop();
}

#[test]
fn a_broken_file_leaves_the_old_revision_running_and_is_taken_when_it_is_mended() {
    let home = Home::new();
    home.write("pipelines/x.yaml", of_stream("s", SOON, "url: ./out, prefix: \"a/\""));
    let daemon = home.start("pipelines");
    home.write("pipelines/x.yaml", "source: { firehose: { steam: s } }\n");
    let (status, reloaded) = reload(&daemon);
    assert_eq!(status, 422, "{reloaded}");
    let problems = reloaded["refused"][0]["problems"].as_str().unwrap();
    assert!(problems.contains("x.yaml:1:") && problems.contains("steam"), "{problems}");
    daemon.put_batch("s", &numbers(0..5));
    daemon.delivers("x", 5);
    let seen = view(&daemon);
    assert_eq!(of(&seen, "x")["state"], "running");
    assert_eq!(of(&seen, "x")["pending"]["problems"], problems);
    assert_eq!(daemon.healthz().0, 200, "the old one runs");
    home.write("pipelines/x.yaml", of_stream("s", SOON, "url: ./out, prefix: \"b/\""));
    until("the mended one runs", || (of(&view(&daemon), "x")["revision"]["number"] == 2).then_some(()));
    assert_eq!(of(&view(&daemon), "x")["pending"], Value::Null);
    daemon.put_batch("s", &numbers(5..10));
    daemon.delivers("x", 10);
    assert_eq!(lines(&home, "out/b"), each_once(5..10));
    daemon.stop();
}

#[test]
fn a_removed_pipeline_delivers_what_was_acked_and_one_that_is_added_starts() {
    let home = Home::new();
    home.write("pipelines/x.yaml", of_stream("s", LATE, "url: ./out"));
    home.write("pipelines/y.yaml", of_stream("t", SOON, "url: ./other"));
    let daemon = home.start("pipelines");
    daemon.put_batch("s", &numbers(0..10));
    daemon.put_batch("t", &numbers(0..3));
    until("y has told its stream", || (daemon.positions("y") == [3.0; 5]).then_some(()));
    home.write("pipelines/z.yaml", of_stream("u", SOON, "url: ./third"));
    fs::remove_file(home.path("pipelines/x.yaml")).unwrap();
    let (status, reloaded) = reload(&daemon);
    assert_eq!(status, 200, "{reloaded}");
    daemon.hears("drained", |line| line["pipeline"] == "x");
    assert_eq!(lines(&home, "out"), each_once(0..10));
    until("it is gone", || of(&view(&daemon), "x").is_null().then_some(()));
    assert!(!daemon.metrics().contains("pipeline=\"x\"") && !daemon.metrics().contains("stream=\"s\""));
    let seen = view(&daemon);
    let left = &seen["without_file"][0];
    assert_eq!((&left["name"], &left["drained"], &left["promised"]), (&"x".into(), &true.into(), &0.into()), "{left}");
    assert_eq!(left["holds"], Value::Array(Vec::new()));
    let call = "X-Amz-Target: Firehose_20150804.PutRecord\r\nContent-Type: application/x-amz-json-1.1\r\n";
    let body = b"{\"DeliveryStreamName\":\"s\",\"Record\":{\"Data\":\"YQ==\"}}";
    let (status, answer) = http(daemon.data(), "POST /", call, body);
    assert!(status == 400 && answer.contains("ResourceNotFoundException"), "{status} {answer}");
    assert_eq!(daemon.positions("y"), [3.0; 5]);
    daemon.put_batch("u", &numbers(0..4));
    daemon.delivers("z", 4);
    // It comes back, and reads on behind what it has delivered.
    home.write("pipelines/x.yaml", of_stream("s", SOON, "url: ./out"));
    assert_eq!(reload(&daemon).0, 200);
    daemon.put_batch("s", &numbers(10..15));
    daemon.delivers("x", 15);
    assert_eq!(lines(&home, "out"), each_once(0..15));
    assert!(home.files("state/pipelines/x").keys().all(|path| !path.ends_with("drained")));
    daemon.stop();
}

#[test]
fn what_came_while_a_drained_pipeline_was_away_does_not_hold_it_up() {
    let home = Home::new();
    home.write("pipelines/x.yaml", of_stream("s", SOON, "url: ./out"));
    home.write("pipelines/y.yaml", of_stream("s", SOON, "url: ./other") + "spool: { size: 16 MiB, once_window: 0s }\n");
    home.write("pipelines/x.yaml", of_stream("s", SOON, "url: ./out") + "spool: { size: 16 MiB, once_window: 0s }\n");
    let daemon = home.start("pipelines");
    daemon.put_batch("s", &numbers(0..5));
    daemon.delivers("x", 5);
    fs::remove_file(home.path("pipelines/x.yaml")).unwrap();
    assert_eq!(reload(&daemon).0, 200);
    daemon.hears("drained", |line| line["pipeline"] == "x");
    // More than one segment, so that the first goes.
    let large: Vec<String> = (0..3).map(|n| n.to_string().repeat(900_000)).collect();
    for round in 1..=4 {
        daemon.put_batch("s", &large);
        daemon.delivers("y", 5 + 3 * round);
    }
    home.write("pipelines/x.yaml", of_stream("s", SOON, "url: ./back") + "spool: { size: 16 MiB, once_window: 0s }\n");
    assert_eq!(reload(&daemon).0, 200);
    let said = daemon.hears("back after it was drained", |line| line["pipeline"] == "x");
    assert!(said["records"].as_u64().unwrap() > 0, "{said}");
    daemon.put_batch("s", &["after"]);
    until("it reads on", || lines(&home, "back").contains_key("after").then_some(()));
    daemon.stop();
}

#[test]
fn a_pipeline_that_goes_to_another_stream_delivers_the_old_one_first() {
    let home = Home::new();
    home.write("pipelines/x.yaml", of_stream("s", LATE, "url: ./out"));
    let daemon = home.start("pipelines");
    daemon.put_batch("s", &numbers(0..10));
    home.write("pipelines/x.yaml", of_stream("t", SOON, "url: ./out"));
    assert_eq!(reload(&daemon).0, 200);
    daemon.put_batch("t", &numbers(10..20));
    daemon.delivers("x", 20);
    assert_eq!(lines(&home, "out"), each_once(0..20));
    until("the old stream is closed", || (view(&daemon)["streams"].as_array().unwrap().len() == 1).then_some(()));
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_are_put_right_unblock_what_was_promised_and_wrong_ones_are_refused() {
    let (home, buckets, address) = (Home::new(), Buckets::new(), free_address().await);
    let there = buckets.create("lake");
    let _server = S3Server::start_at(address, &buckets).await;
    let right = bucket(address, "lake/in/");
    let wrong = right.replace("env:LAKE_SECRET", "not-it");
    let file = |sink: &str| of_stream("s", SOON, sink);
    home.write("pipelines/x.yaml", file(&wrong));
    let daemon = home.start("pipelines");
    daemon.put_batch("s", &numbers(0..10));
    daemon.hears("the sink refuses an object", |_| true);
    let other = right.replace("env:LAKE_SECRET", "nor-that");
    home.write("pipelines/x.yaml", file(&other));
    let (status, reloaded) = reload(&daemon);
    assert_eq!(status, 422, "{reloaded}");
    home.write("pipelines/x.yaml", file(&right));
    let (status, reloaded) = reload(&daemon);
    assert_eq!(status, 200, "{reloaded}");
    daemon.delivers("x", 10);
    daemon.put_batch("s", &numbers(10..15));
    daemon.delivers("x", 15);
    daemon.stop();
    assert_eq!(files(&there).len(), 2);
}

#[test]
fn the_size_of_a_spool_is_changed_while_it_is_open() {
    let home = Home::new();
    let sized = |size: &str| of_stream("s", SOON, "url: ./out") + &format!("spool: {{ size: {size} }}\n");
    home.write("pipelines/x.yaml", sized("16 MiB"));
    home.write("pipelines/y.yaml", sized("16 MiB"));
    let daemon = home.start("pipelines");
    let size = || view(&daemon)["streams"][0]["bytes_max"].as_u64().unwrap();
    assert_eq!(size(), 16 << 20);
    home.write("pipelines/x.yaml", sized("64 MiB"));
    let (status, reloaded) = reload(&daemon);
    assert_eq!((status, size()), (422, 16 << 20), "one alone waits for the other: {reloaded}");
    home.write("pipelines/y.yaml", sized("64 MiB"));
    let (status, reloaded) = reload(&daemon);
    assert_eq!((status, size()), (200, 64 << 20), "{reloaded}");
    daemon.put_batch("s", &numbers(0..3));
    daemon.delivers("x", 3);
    daemon.delivers("y", 3);
    daemon.stop();
}

#[test]
fn a_folder_that_is_gone_changes_nothing() {
    let home = Home::new();
    home.write("pipelines/x.yaml", of_stream("s", SOON, "url: ./out"));
    let daemon = home.start("pipelines");
    fs::rename(home.path("pipelines"), home.path("elsewhere")).unwrap();
    let (status, reloaded) = reload(&daemon);
    assert_eq!(status, 422, "{reloaded}");
    daemon.put_batch("s", &numbers(0..3));
    daemon.delivers("x", 3);
    fs::rename(home.path("elsewhere"), home.path("pipelines")).unwrap();
    assert_eq!(reload(&daemon).0, 200);
    daemon.stop();
}

#[test]
fn a_pipeline_that_could_never_start_takes_no_more_when_it_is_removed_and_goes_once_it_has_delivered() {
    let home = Home::new();
    home.write("pipelines/x.yaml", of_stream("s", SOON, "url: ./out"));
    home.write("out", "a file where its folder is to be");
    let daemon = home.start("pipelines");
    daemon.put_batch("s", &numbers(0..10));
    fs::remove_file(home.path("pipelines/x.yaml")).unwrap();
    daemon.hang_up();
    until("it drains", || (of(&view(&daemon), "x")["state"] == "draining").then_some(()));
    let refused = || http(daemon.data(), "POST /streams/s/records", "", b"11").0 == 404;
    until("its door is closed", || refused().then_some(()));
    fs::remove_file(home.path("out")).unwrap();
    until("it is gone", || of(&view(&daemon), "x").is_null().then_some(()));
    assert_eq!(lines(&home, "out"), each_once(0..10));
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_comes_back_to_its_stream_before_it_has_left_it_holds_nothing_of_the_other() {
    let (home, buckets, address) = (Home::new(), Buckets::new(), free_address().await);
    buckets.create("lake");
    let _server = S3Server::start_at(address, &buckets).await;
    let right = bucket(address, "lake/in/");
    let wrong = right.replace("env:LAKE_SECRET", "not-it");
    home.write("pipelines/x.yaml", of_stream("s", SOON, &wrong));
    let daemon = home.start("pipelines");
    daemon.put_batch("s", &numbers(0..10));
    daemon.hears("the sink refuses an object", |_| true);
    home.write("pipelines/x.yaml", of_stream("t", SOON, &wrong));
    assert_eq!(reload(&daemon).0, 200);
    assert_eq!((of(&view(&daemon), "x")["state"].as_str(), streams(&daemon)), (Some("draining"), 2));
    home.write("pipelines/x.yaml", of_stream("s", SOON, &right));
    assert_eq!(reload(&daemon).0, 200);
    daemon.put_batch("s", &numbers(10..15));
    daemon.delivers("x", 15);
    until("the other stream is closed", || (streams(&daemon) == 1).then_some(()));
    daemon.stop();
}

fn streams(daemon: &Daemon) -> usize {
    view(daemon)["streams"].as_array().unwrap().len()
}

#[test]
fn a_sink_that_does_not_answer_holds_up_nobody_else() {
    let home = Home::new();
    home.write("pipelines/x.yaml", of_stream("s", SOON, "url: ./x"));
    home.write("pipelines/y.yaml", of_stream("t", SOON, "url: ./y"));
    let daemon = home.start("pipelines");
    // Calls wait in its backlog.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.write("pipelines/x.yaml", of_stream("s", SOON, &bucket(silent.local_addr().unwrap(), "lake/in/")));
    home.write("pipelines/y.yaml", of_stream("t", SOON, "url: ./y, prefix: \"new/\""));
    let asking = std::thread::scope(|scope| {
        let asked = scope.spawn(|| reload(&daemon));
        let seen = until("the other runs its new revision", || {
            let seen = view(&daemon);
            (of(&seen, "y")["revision"]["number"] == 2).then_some(seen)
        });
        assert!(of(&seen, "x")["pending"].is_null(), "nothing is known of its sink yet: {seen}");
        asked.join().unwrap()
    });
    assert_eq!(asking.0, 422, "{}", asking.1);
    assert_eq!(asking.1["changed"], serde_json::json!(["y"]));
    daemon.stop();
}
