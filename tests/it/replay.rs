//! What `hydrant replay` does, through the real binary: by a daemon and alone, across kills, with what others have written.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use serde_json::json;

use crate::support::daemon::{Daemon, Ended, Home, files, pipeline, until};

const STRICT: &str = "parquet: { schema: { id: int64, name: int64 } }";
const PLAIN: &str = "lines: {}";
const IN: &str = "http: { stream: in }";
const OUT: &str = "url: ./out";

fn write(home: &Home, format: &str) {
    home.write("x.yaml", pipeline(IN, format, "100ms", OUT));
}

fn rows(ids: std::ops::Range<u64>) -> Vec<String> {
    ids.map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}")).collect()
}

/// Objects of records, as opposed to those of errors.
fn objects(home: &Home) -> Vec<PathBuf> {
    let errors = home.path("out/errors");
    files(&home.path("out")).into_iter().filter(|path| !path.starts_with(&errors)).collect()
}

/// How often each line is there.
fn lines(home: &Home) -> BTreeMap<String, u32> {
    let mut times = BTreeMap::new();
    for path in objects(home) {
        fs::read_to_string(&path).unwrap().lines().for_each(|line| *times.entry(line.to_owned()).or_default() += 1);
    }
    times
}

fn once(lines: &[String]) -> BTreeMap<String, u32> {
    lines.iter().map(|line| (line.clone(), 1)).collect()
}

fn says(ended: &Ended, code: i32, words: &str) {
    assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains(words) || ended.stderr.contains(words), "{words}\n{ended:?}");
}

fn by(daemon: &Daemon, home: &Home, arguments: &str) -> Ended {
    home.run(&format!("replay x.yaml {arguments} --admin {}", daemon.admin()))
}

/// Sends records that a wrong schema refuses, and mends it: the daemon of the mended pipeline.
fn refused_and_mended(home: &Home, records: &[String]) -> Daemon {
    write(home, STRICT);
    let daemon = home.start("x.yaml --anonymous");
    records.chunks(1000).for_each(|records| daemon.put_lines("in", records));
    daemon.delivers("x", records.len() as u64);
    daemon.stop();
    assert_eq!(objects(home), Vec::<PathBuf>::new());
    write(home, PLAIN);
    home.start("x.yaml --anonymous")
}

#[test]
fn records_that_a_wrong_schema_refused_are_there_once_when_it_is_mended() {
    let home = Home::new();
    let records = rows(0..500);
    let daemon = refused_and_mended(&home, &records);
    says(&by(&daemon, &home, "--errors --dry-run"), 0, "would replay 500 records");
    says(&by(&daemon, &home, "--errors --reason processing-failed"), 0, "500 lines left alone");
    assert!(lines(&home).is_empty());
    let replayed = by(&daemon, &home, "--errors --reason format-conversion-failed");
    says(&replayed, 0, "replayed 500 records: 500 rows delivered, 0 rejected again, 0 dropped");
    says(&replayed, 0, "format-conversion-failed: 500");
    assert_eq!(lines(&home), once(&records));
    assert!(objects(&home).iter().all(|path| path.to_str().unwrap().contains("/x-replay")));
    says(&by(&daemon, &home, "--errors"), 0, "nothing left to replay");
    says(&home.run(&format!("replay y.yaml --errors --admin {}", daemon.admin())), 78, "no pipeline y runs here");
    says(&home.run("replay x.yaml --errors --state state"), 78, "in use by process");
    // Under its own name, and without a trace in the pipeline's.
    assert_eq!(daemon.metric("hydrant_records_out_total{pipeline=\"x:replay\"}"), 500.0);
    let counted = || daemon.metrics().contains("pipeline=\"x:replay\"");
    fs::remove_file(home.path("x.yaml")).unwrap();
    until("its numbers went with its pipeline", || (!counted()).then_some(()));
    daemon.stop();
    write(&home, PLAIN);
    says(&home.run("replay x.yaml --errors --state state"), 0, "nothing left to replay");
    assert_eq!(lines(&home), once(&records));
    says(&home.run("audit --pipeline x.yaml --state state"), 0, "proved");
}

#[test]
fn a_daemon_killed_in_the_middle_of_a_replay_and_asked_again_delivers_each_record_once() {
    let home = Home::new();
    let records = rows(0..20_000);
    let mut daemon = refused_and_mended(&home, &records);
    for life in 0..4 {
        let admin = daemon.admin();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| home.run(&format!("replay x.yaml --errors --admin {admin}")));
            // As early as there is a plan, or when something of it is delivered.
            let plan = home.path("state/replays/x/errors/plan");
            until("it has begun", || (plan.exists() || asked.is_finished()).then_some(()));
            if life % 2 == 1 {
                until("something is there", || (!objects(&home).is_empty() || asked.is_finished()).then_some(()));
            }
            daemon.kill();
            asked.join().unwrap();
        });
        daemon = home.start("x.yaml --anonymous");
    }
    assert_eq!(by(&daemon, &home, "--errors").code, 0);
    says(&by(&daemon, &home, "--errors"), 0, "nothing left to replay");
    assert!(lines(&home) == once(&records));
    daemon.stop();
    says(&home.run("audit --pipeline x.yaml --state state"), 0, "proved");
}

#[test]
fn records_refused_once_more_can_be_told_and_replayed_once_more() {
    let home = Home::new();
    let records = rows(0..10);
    refused_and_mended(&home, &records).stop();
    write(&home, "parquet: { schema: { id: bool } }");
    says(
        &home.run("replay x.yaml --errors --state state"),
        0,
        "replayed 10 records: 0 rows delivered, 10 rejected again",
    );
    says(&home.run("replay x.yaml --errors --not-replayed --state state"), 0, "nothing left to replay");
    write(&home, PLAIN);
    says(&home.run("replay x.yaml --errors --state state"), 0, "replayed 10 records: 10 rows delivered");
    says(&home.run("replay x.yaml --errors --state state"), 0, "nothing left to replay");
    assert_eq!(lines(&home), once(&records));
}

#[test]
fn a_part_of_a_stream_is_delivered_a_second_time_and_not_a_third() {
    let home = Home::new();
    write(&home, PLAIN);
    let records = rows(0..30);
    let daemon = home.start("x.yaml --anonymous");
    daemon.put_lines("in", &records);
    daemon.delivers("x", 30);
    let mut expected = once(&records);
    let mut twice = |range: std::ops::Range<usize>| {
        records[range].iter().for_each(|line| *expected.get_mut(line).unwrap() += 1);
        expected.clone()
    };
    says(&by(&daemon, &home, "--from 10 --to 20 --dry-run"), 0, "would replay 10 records");
    says(&by(&daemon, &home, "--from 10 --to 20"), 0, "replayed 10 records: 10 rows delivered");
    assert_eq!(lines(&home), twice(10..20));
    says(&by(&daemon, &home, "--from 10 --to 20"), 0, "nothing left to replay");
    says(&by(&daemon, &home, "--from 5 --to 22"), 0, "replayed 7 records");
    twice(5..10);
    assert_eq!(lines(&home), twice(20..22));
    says(&by(&daemon, &home, "--from 10 --to 20 --again"), 0, "replayed 10 records");
    assert_eq!(lines(&home), twice(10..20));
    says(&by(&daemon, &home, "--since 2h"), 0, "replayed 13 records");
    twice(0..5);
    assert_eq!(lines(&home), twice(22..30));
    says(&by(&daemon, &home, "--since 2h"), 0, "nothing left to replay");
    says(
        &by(&daemon, &home, "--from 10 --to 40"),
        78,
        "records 10..40 are not all there: stream in holds records 0..30",
    );
    daemon.stop();
    // Without a daemon nobody else's records go.
    says(&home.run("replay x.yaml --from 0 --to 3 --again --state state"), 0, "replayed 3 records: 3 rows delivered");
    assert_eq!(lines(&home), twice(0..3));
    says(&home.run("audit ./out --state state"), 0, "proved");
    let daemon = home.start("x.yaml --anonymous");
    daemon.put_lines("in", &["last"]);
    daemon.delivers("x", 1);
    daemon.stop();
}

#[test]
fn lines_of_others_are_records_and_lines_that_are_none_are_set_aside_with_their_place() {
    let home = Home::new();
    home.write("x.yaml", pipeline(IN, PLAIN, "100ms", "url: ./out, prefix: \"{arrival:%Y}/\""));
    let daemon = home.start("x.yaml --anonymous");
    let line = |text: &str| {
        let raw = base64_simd::STANDARD.encode_to_string(text);
        json!({"attemptsMade": 4, "arrivalTimestamp": 1_577_880_000_000i64, "errorCode": "400", "rawData": raw, "esIndexName": "i"})
            .to_string()
    };
    let gigantic = "x".repeat((32 << 20) + 5);
    let text = format!(
        "{}\nno json\r\n\r\n{{\"rawData\":\"%%%\"}}\n{gigantic}\n{}",
        line("first"),
        line("last, without an end")
    );
    home.write("out/errors/old/delivery-1-2020-01-01-uuid", text);
    home.write("out/errors/old/delivery-2.gz", "packed");
    let replayed = by(&daemon, &home, "--errors --prefix errors/old/");
    says(&replayed, 1, "replayed 5 records: 2 rows delivered, 3 rejected again");
    says(&replayed, 1, "3 lines that cannot be read");
    says(&replayed, 1, "note: 1 objects are packed and are not read");
    assert_eq!(lines(&home), once(&["first".to_owned(), "last, without an end".to_owned()]));
    assert!(objects(&home).iter().all(|path| path.starts_with(home.path("out/2020"))), "as they arrived");
    let aside = files(&home.path("out/errors/processing-failed"));
    let said: String = aside.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let at = line("first").len() + 1;
    for words in [
        format!("out/errors/old/delivery-1-2020-01-01-uuid at byte {at}: no line of an error object"),
        format!("at byte {}: `rawData` is no base64", at + "no json\r\n\r\n".len()),
        "a line of more than 33554432 bytes".to_owned(),
    ] {
        assert!(said.contains(&words), "{words}\n{said}");
    }
    says(&by(&daemon, &home, "--errors --prefix errors/old/"), 0, "nothing left to replay");
    // What is no record does not become one: neither now nor later.
    says(&by(&daemon, &home, "--errors"), 0, "3 lines left alone");
    says(&by(&daemon, &home, "--errors"), 0, "nothing left to replay");
    assert_eq!(lines(&home).len(), 2);
    daemon.stop();
}

#[test]
fn an_error_object_that_went_or_was_replaced_after_it_was_planned_costs_no_other_a_record() {
    let home = Home::new();
    write(&home, STRICT);
    let daemon = home.start("x.yaml --anonymous");
    let records = rows(0..20);
    for (part, rows) in records.chunks(10).zip([10, 20]) {
        daemon.put_lines("in", part);
        daemon.delivers("x", rows);
    }
    daemon.stop();
    write(&home, PLAIN);
    let objects = files(&home.path("out/errors"));
    let bytes = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let planned = |name: &str, bytes: u64| json!({"name": name, "bytes": bytes, "modified_ms": 0, "classes": 7});
    let below = |path: &PathBuf| path.strip_prefix(home.path("out")).unwrap().to_str().unwrap().to_owned();
    let [first, second] = objects.as_slice() else { panic!("{objects:?}") };
    // As if a call had died behind its plan, and the world had changed since.
    let longer = bytes(first) + 3_000_000;
    let objects = [
        planned("errors/gone.ndjson", 5),
        planned(&below(first), longer),
        planned(&below(second), bytes(second)),
        planned("errors/gone-too.ndjson", 2_000_000),
    ];
    let plan = json!({"shard": "replay0123456789ab", "objects": objects}).to_string();
    home.write("state/replays/x/errors/plan", format!("{:08x}\n{plan}", crc32c::crc32c(plan.as_bytes())));
    let replayed = home.run("replay x.yaml --errors --state state");
    says(&replayed, 1, "an earlier replay is not finished: going on with it");
    says(&replayed, 1, "3 error objects that are not there any more, or not as they were");
    // The one that is there and was another one is replayed as it is now, by the same call.
    assert_eq!(lines(&home), once(&records));
    says(&home.run("replay x.yaml --errors --state state"), 0, "nothing left to replay");
    says(&home.run("audit --pipeline x.yaml --state state"), 0, "proved");
}

/// Asks the daemon for a replay of error objects; whoever drops what this returns goes away.
fn ask(daemon: &Daemon) -> TcpStream {
    let body = json!({"pipeline": "x", "what": {"errors": {}}}).to_string();
    let mut connection = TcpStream::connect(daemon.admin()).unwrap();
    let (address, length) = (daemon.admin(), body.len());
    let head = format!(
        "POST /api/replay HTTP/1.1\r\nHost: {address}\r\nx-hydrant: 1\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection
}

#[test]
fn a_replay_whose_sink_takes_nothing_waits_alone_and_ends_with_who_asked_or_with_the_daemon() {
    let home = Home::new();
    let records = rows(0..100);
    refused_and_mended(&home, &records).stop();
    let out = |folder: &str| format!("url: ./out, prefix: \"{folder}/\"");
    home.write("x.yaml", pipeline(IN, PLAIN, "100ms", &out("blocked")));
    // Where a folder is to be.
    home.write("out/blocked", "");
    let daemon = home.start("x.yaml --anonymous");
    let promised = || !files(&home.path("state/replays/x/errors/outbox")).is_empty();
    let asked = ask(&daemon);
    until("it is promised", || promised().then_some(()));
    says(&by(&daemon, &home, "--errors"), 78, "pipeline x is being replayed already");
    // The pipeline changes meanwhile: what is promised stays as it is.
    home.write("x.yaml", pipeline(IN, PLAIN, "100ms", &out("free")));
    daemon.runs("x", 2);
    drop(asked);
    let asked = until("it has ended", || {
        let mut asked = ask(&daemon);
        let mut answer = [0; 4096];
        let read = asked.read(&mut answer).unwrap();
        let mut said = String::from_utf8_lossy(&answer[..read]).into_owned();
        while !said.contains("goes_on") && !said.contains("failed") {
            let read = asked.read(&mut answer).unwrap();
            said += &String::from_utf8_lossy(&answer[..read]);
        }
        said.contains("goes_on").then_some(asked)
    });
    // It leaves nothing at work in the state folder.
    daemon.stop();
    drop(asked);
    fs::remove_file(home.path("out/blocked")).unwrap();
    says(&home.run("replay x.yaml --errors --state state"), 0, "an earlier replay is not finished: going on with it");
    says(&home.run("replay x.yaml --errors --state state"), 0, "nothing left to replay");
    assert_eq!(lines(&home), once(&records));
    says(&home.run("audit --pipeline x.yaml --state state"), 0, "proved");
}

#[test]
fn wrong_usage_is_told_and_changes_nothing() {
    let home = Home::new();
    write(&home, PLAIN);
    for (arguments, code, words) in [
        ("replay x.yaml", 2, "what is to be replayed?"),
        ("replay x.yaml --errors --since yesterday", 2, "--since: expected `2h` or `2026-11-20T08:00:00Z`"),
        ("replay x.yaml --errors --from 3", 2, "cannot be used with"),
        ("replay x.yaml --errors --state nowhere", 78, "pipeline x has never run on it"),
        ("replay missing.yaml --errors --state nowhere", 78, "missing.yaml"),
        ("replay x.yaml --errors --admin 127.0.0.1:1", 1, "no daemon answers at 127.0.0.1:1"),
    ] {
        says(&home.run(arguments), code, words);
    }
    assert!(!home.path("nowhere").exists());
}
