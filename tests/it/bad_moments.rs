//! Bad moments of a real machine: clocks that jump, disks that fill up, folders that are not there, very many pipelines.
//!
//! Ports and state folders that are taken: `daemon_start.rs`. A store that is down beside one that is not: `daemon.rs`.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Home, files, http, pipeline, until};

const LINES: &str = "lines: {}";

fn text(ids: std::ops::Range<u64>) -> Vec<String> {
    ids.map(|id| format!("line-{id}")).collect()
}

/// All lines below a folder of objects, each of which must be there once.
fn delivered(folder: &Path) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for object in files(folder) {
        for line in fs::read_to_string(&object).unwrap().lines() {
            assert!(seen.insert(line.to_owned()), "{line} is there twice, the second time in {}", object.display());
        }
    }
    seen
}

#[test]
fn a_pipelines_folder_that_is_not_there_or_cannot_be_read_is_named() {
    let home = Home::new();
    std::os::unix::fs::symlink("loop", home.path("loop")).unwrap();
    for (path, why) in [
        ("missing", "there is no such file or folder"),
        ("loop", "cannot be read: Too many levels of symbolic links (os error 40)"),
    ] {
        let ended = home.run(&format!("run {path} --state state --admin 127.0.0.1:0"));
        assert_eq!((ended.code, ended.stderr.as_str()), (78, format!("{path}: {why}\n\n1 problem\n").as_str()));
    }
    assert!(!home.path("state").exists(), "refused before anything was made");
}

/// A clock that the story turns.
struct Clock {
    shim: PathBuf,
    shift: PathBuf,
}

impl Clock {
    fn new(home: &Home) -> Clock {
        let clock = Clock { shim: home.path("clock.so"), shift: home.path("shift") };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/clock.c");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&clock.shim).arg(source).status();
        assert!(compiled.unwrap().success(), "the C compiler that Rust links with");
        fs::write(&clock.shift, 0i64.to_ne_bytes()).unwrap();
        clock
    }

    /// From now on the wall clock is off by so many seconds; in place, as the daemon has mapped it.
    fn turn(&self, seconds: i64) {
        OpenOptions::new().write(true).open(&self.shift).unwrap().write_all(&seconds.to_ne_bytes()).unwrap();
    }
}

/// One record by PutRecord as an SDK sends it, under this invocation id; answers its `RecordId`.
fn put_once(daemon: &Daemon, data: &str, invocation: &str) -> String {
    let call =
        json!({"DeliveryStreamName": "clicks", "Record": {"Data": base64_simd::STANDARD.encode_to_string(data)}});
    let headers = format!(
        "X-Amz-Target: Firehose_20150804.PutRecord\r\nContent-Type: application/x-amz-json-1.1\r\n\
         amz-sdk-invocation-id: {invocation}\r\n"
    );
    let (status, answer) = http(daemon.data(), "POST /", &headers, call.to_string().as_bytes());
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["RecordId"].as_str().unwrap().to_owned()
}

#[test]
fn a_clock_that_jumps_doubles_nothing_and_holds_up_nothing() {
    const DAY: i64 = 24 * 3600;
    let home = Home::new();
    home.write("clicks.yaml", pipeline("firehose: { stream: clicks }", LINES, "200ms", "url: ./out"));
    let clock = Clock::new(&home);
    let (shim, shift) = (clock.shim.display().to_string(), clock.shift.display().to_string());
    let turned = [("LD_PRELOAD", shim.as_str()), ("CLOCK_SHIFT", shift.as_str())];
    let mut daemon = home.start_through("clicks.yaml", &turned, &[]);
    let mut sent = 0;
    // The year 2036, back to yesterday, then hour by hour further back than the window of known calls is long.
    for seconds in [0, -DAY, 3650 * DAY, -DAY, -DAY - 3600, -DAY - 7200] {
        clock.turn(seconds);
        let id = put_once(&daemon, &format!("line-{sent}"), &format!("call-{sent}"));
        assert_eq!(put_once(&daemon, &format!("line-{sent}"), &format!("call-{sent}")), id, "a retry is recognised");
        daemon.put_lines("clicks", &text(sent + 1..sent + 20));
        sent += 20;
        daemon.delivers("clicks", sent);
        let age = || daemon.metric("hydrant_oldest_undelivered_seconds{pipeline=\"clicks\"}");
        until("nothing is behind", || (age() == 0.0).then_some(()));
        assert_eq!(daemon.healthz().0, 200);
    }
    // And while nobody looks: the next life begins a year before the last one.
    daemon.kill();
    clock.turn(-365 * DAY);
    daemon = home.start_through("clicks.yaml", &turned, &[]);
    daemon.put_lines("clicks", &text(sent..sent + 20));
    daemon.delivers("clicks", 20);
    daemon.stop();
    assert_eq!(delivered(&home.path("out")), text(0..sent + 20).into_iter().collect());
}

/// Fills the disk below `folder` to its last byte; answers the file that does.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("ballast");
    let mut ballast = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    for block in [1 << 20, 4096, 1] {
        let zeros = vec![0; block];
        let error = loop {
            if let Err(error) = ballast.write_all(&zeros) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
    path
}

#[test]
fn a_disk_that_fills_up_and_is_freed_again_loses_and_doubles_nothing() {
    let home = Home::new();
    home.write("clicks.yaml", pipeline("http: { stream: clicks }", LINES, "3s", "url: ./out"));
    fs::create_dir(home.path("state")).unwrap();
    // A disk of its own for the state, for which one need not be root.
    let mounted = "mount -t tmpfs -o size=400m tmpfs state && exec \"$@\"";
    let through = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh"];
    let tried = Command::new(through[0]).args(&through[1..]).arg("true").current_dir(home.path(".")).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        // Past the harness, which keeps to itself what passing stories print.
        let not_run =
            "NOT RUN: a_disk_that_fills_up_and_is_freed_again: this machine lets nobody mount a tmpfs of his own\n";
        std::io::stderr().write_all(not_run.as_bytes()).unwrap();
        return;
    }
    let daemon = home.start_through("clicks.yaml", &[], &through);
    let state = PathBuf::from(format!("/proc/{}/root{}", daemon.pid(), home.path("state").display()));
    assert!(state.join("LOCK").exists(), "the daemon sees another disk there");
    let (mut accepted, mut sent) = (BTreeSet::new(), 0);
    let mut put = || {
        let records = text(sent..sent + 10);
        sent += 10;
        let (status, answer) = http(daemon.data(), "POST /streams/clicks/records", "", records.join("\n").as_bytes());
        assert!(status == 200 || status == 503, "{status} {answer}");
        if status == 200 {
            accepted.extend(records);
        }
        status
    };
    assert_eq!(put(), 200);
    let ballast = fill(&state);
    until("producers are throttled", || (put() == 503).then_some(()));
    // Its interval ends while there is no byte left to promise it with.
    daemon.hears("the disk is full", |line| line["pipeline"] == "clicks");
    fs::remove_file(ballast).unwrap();
    until("producers are let in again", || (put() == 200).then_some(()));
    daemon.delivers("clicks", accepted.len() as u64);
    assert_eq!(daemon.healthz(), (200, "ok\n".into()));
    daemon.stop();
    assert_eq!(delivered(&home.path("out")), accepted);
}

#[test]
fn five_hundred_pipelines_in_one_folder_start_and_deliver() {
    const STREAMS: usize = 50;
    const PIPELINES_PER_STREAM: usize = 10;
    let home = Home::in_memory();
    let names: Vec<(String, String)> = (0..STREAMS * PIPELINES_PER_STREAM)
        .map(|number| (format!("p{number:03}"), format!("s{:02}", number % STREAMS)))
        .collect();
    for (name, stream) in &names {
        let text = pipeline(&format!("http: {{ stream: {stream} }}"), LINES, "200ms", &format!("url: ./out/{name}"));
        home.write(&format!("pipelines/{name}.yaml"), text);
    }
    let daemon = home.start("pipelines");
    let files_open = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    // A segment of each stream and its successor; the checkpoint of each pipeline; sockets, pipes and the runtime.
    let files_max = 2 * STREAMS + names.len() + 50;
    assert!(files_open() <= files_max, "{} files are open", files_open());
    for stream in 0..STREAMS {
        daemon.put_lines(&format!("s{stream:02}"), &text(0..5));
    }
    for (name, _) in &names {
        daemon.delivers(name, 5);
    }
    assert!(files_open() <= files_max, "{} files are open when all is delivered", files_open());
    assert_eq!(daemon.healthz(), (200, "ok\n".into()));
    daemon.stop();
    for (name, _) in &names {
        assert_eq!(delivered(&home.path(&format!("out/{name}"))), text(0..5).into_iter().collect(), "{name}");
    }
}
