//! What `hydrant audit` proves and what it finds, over folders and over S3, with and without a state folder.

use std::fs;
use std::path::{Path, PathBuf};

use hydrant::naming::ObjectName;
use serde_json::Value;

use crate::support::daemon::{Ended, Home, bucket, files, pipeline, until};
use crate::support::s3::{Buckets, S3Server};

/// Two prefixes, several chunks.
const DEMO: &str =
    "source: { demo: { rate: 0, records: 20000 } }\nformat: { lines: {} }\nbuffer: { size: 64 KiB, interval: 1h }\n";

fn demo(home: &Home, sink: &str) {
    home.write("demo.yaml", format!("{DEMO}sink: {{ object_store: {{ {sink} }} }}\n"));
    let ended = home.run("run demo.yaml --once --state state");
    assert_eq!(ended.code, 0, "{ended:?}");
}

fn objects(home: &Home) -> Vec<PathBuf> {
    let objects = files(&home.path("out"));
    assert!(objects.len() > 4, "several chunks: {objects:?}");
    objects
}

fn says(ended: &Ended, code: i32, words: &str) {
    assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains(words), "{words}\n{}", ended.stdout);
}

/// Start and end as they stand in a file's name.
fn range(path: &Path) -> (u64, u64) {
    let name = ObjectName::parse(path.file_name().unwrap().to_str().unwrap()).unwrap();
    (name.range.start.as_u64().unwrap(), name.range.end.as_u64().unwrap())
}

fn renamed(path: &Path, from: u64, to: u64) -> PathBuf {
    let name = path.file_name().unwrap().to_str().unwrap();
    let name = name.replacen(&format!("-{from:016}-"), &format!("-{to:016}-"), 1);
    path.with_file_name(name)
}

#[test]
fn what_was_delivered_whole_is_proved_and_a_missing_or_doubled_object_is_found() {
    let home = Home::new();
    demo(&home, "url: ./out, prefix: \"country={country}/\"");
    let whole = home.run("audit --pipeline demo.yaml --state state");
    says(&whole, 0, "proved: no gap, no overlap, no empty object");
    says(&home.run("audit ./out"), 0, ", 20000 positions covered");
    let state = files(&home.path("state"));

    // All objects of one chunk in the middle, then one of several of a chunk.
    let objects = objects(&home);
    let mut starts: Vec<_> = objects.iter().map(|path| range(path)).collect();
    starts.sort();
    starts.dedup();
    let (start, end) = starts[starts.len() / 2];
    let of_chunk: Vec<_> = objects.iter().filter(|path| range(path) == (start, end)).collect();
    let kept: Vec<_> = of_chunk.iter().map(|path| (path, fs::read(path).unwrap())).collect();
    of_chunk.iter().for_each(|path| fs::remove_file(path).unwrap());
    let gap = format!("FINDING gap: {start}..{end}: ");
    says(&home.run("audit ./out"), 1, &format!("{gap}dropped by transforms, or missing"));
    says(&home.run("audit --pipeline demo.yaml --state state"), 1, &format!("{gap}the checkpoint has passed it"));
    says(&home.run("audit ./out --dropped-ok"), 0, &format!("note: gap: {start}..{end}"));
    kept.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());

    // The last chunk: only the state folder knows that there was one.
    let (start, end) = *starts.last().unwrap();
    let of_chunk: Vec<_> = objects.iter().filter(|path| range(path) == (start, end)).collect();
    let last: Vec<_> = of_chunk.iter().map(|path| (path, fs::read(path).unwrap())).collect();
    of_chunk.iter().for_each(|path| fs::remove_file(path).unwrap());
    says(&home.run("audit ./out"), 0, "proved");
    says(&home.run("audit ./out --state state"), 1, &format!("gap: {start}..{end}: the checkpoint has passed it"));
    last.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());

    // The same records under another range, then under the same range elsewhere, which is what prefixes do.
    let is_first_part = |path: &&PathBuf| !path.to_str().unwrap().contains("-p0");
    let object = objects.iter().find(|path| range(path).0 > 0 && is_first_part(path)).unwrap();
    let (start, end) = range(object);
    let doubled = renamed(object, start, start + 1);
    fs::copy(object, &doubled).unwrap();
    says(&home.run("audit ./out"), 1, &format!("overlap: {start}..{end} and {}..{end} share records", start + 1));
    fs::remove_file(&doubled).unwrap();
    fs::create_dir(home.path("out/country=xx")).unwrap();
    let elsewhere = home.path("out/country=xx").join(object.file_name().unwrap());
    fs::copy(object, &elsewhere).unwrap();
    says(&home.run("audit ./out"), 0, "proved");

    // Nothing in it, unfinished, not ours.
    fs::write(&elsewhere, "").unwrap();
    fs::write(format!("{}#1", object.display()), "half").unwrap();
    fs::write(home.path("out/notes.txt"), "x").unwrap();
    let found = home.run("audit ./out");
    says(&found, 1, "FINDING empty object: country=xx/demo-");
    says(&found, 1, "not named as ours: 1 (not judged): notes.txt");
    says(&found, 1, "unfinished: 1 (not judged): country=");
    assert_eq!(files(&home.path("state")), state, "an audit writes nothing");
}

#[test]
fn the_document_is_for_programs_and_wrong_usage_is_told_from_a_finding() {
    let home = Home::new();
    demo(&home, "url: ./out");
    let document: Value = serde_json::from_str(&home.run("audit ./out --only demo --json").stdout).unwrap();
    assert_eq!(document["proved"], true);
    assert_eq!(document["shards"][0]["covered"], 20000);
    assert_eq!(document["shards"][0]["findings"].as_array().unwrap().len(), 0);
    says(&home.run("audit ./out --only other"), 1, "nothing to prove");
    for (wrong, code) in [
        ("audit ./nowhere", 78),
        ("audit ftp://lake", 78),
        ("audit --pipeline missing.yaml", 78),
        ("audit ./out --state ./out", 78),
        ("audit", 2),
    ] {
        let ended = home.run(wrong);
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{wrong}: {}", ended.stderr);
    }
    assert!(!home.path("nowhere").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_listed_page_by_page_with_the_options_of_the_pipeline() {
    let buckets = Buckets::new();
    let lake = buckets.create("lake");
    let server = S3Server::start(&buckets).await;
    let home = Home::new();
    demo(&home, &format!("{}, prefix: \"{{arrival:%Y}}/{{country}}/\"", bucket(server.address, "lake/a b")));
    says(&home.run("audit --pipeline demo.yaml --state state"), 0, "audit of s3://lake/a b: ");
    let objects: Vec<_> = files(&lake);
    let (start, end) = objects.iter().map(|path| range(path)).max().unwrap();
    objects.iter().filter(|path| range(path) == (start, end)).for_each(|path| fs::remove_file(path).unwrap());
    let found = home.run("audit --pipeline demo.yaml --state state");
    assert_eq!(found.code, 1, "{}", found.stdout);
    // More than one page of a thousand.
    let many = lake.join("a b/many");
    fs::create_dir(&many).unwrap();
    for n in 0..2_500u64 {
        fs::write(many.join(format!("m-7f-{:016}-{:016}.log", n * 10, n * 10 + 10)), "x").unwrap();
    }
    says(&home.run("audit --pipeline demo.yaml"), 0, "of other pipelines: 2500 objects");
    fs::copy(home.path("demo.yaml"), home.path("m.yaml")).unwrap();
    says(&home.run("audit --pipeline m.yaml"), 0, "0..25000 in 2500 ranges, 25000 positions covered");
}

#[test]
fn a_daemon_at_work_and_one_that_was_killed_are_proved_as_well() {
    let home = Home::new();
    home.write("in.yaml", pipeline("http: { stream: in }", "lines: {}", "200ms", "url: ./out"));
    let mut sent = 0;
    for _ in 0..4 {
        let daemon = home.start("in.yaml --anonymous");
        for _ in 0..5 {
            daemon.put_lines("in", &(sent..sent + 50).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>());
            sent += 50;
            says(
                &home.run("audit --pipeline in.yaml --state state --json"),
                i32::from(files(&home.path("out")).is_empty()),
                "",
            );
        }
        daemon.kill();
    }
    let daemon = home.start("in.yaml --anonymous");
    let delivered = format!("position=\"delivered\"}} {sent}.0");
    until("all is delivered", || daemon.metrics().contains(&delivered).then_some(()));
    says(&home.run("audit --pipeline in.yaml --state state"), 0, &format!("0..{sent} in"));
    daemon.stop();
    says(&home.run("audit ./out --state state"), 0, &format!("{sent} positions covered, checkpoint {sent}"));
    // A state folder that is older than the store would deliver again under other ranges.
    fs::copy(home.path("state/pipelines/in/checkpoint.a"), home.path("kept.a")).unwrap();
    fs::copy(home.path("state/pipelines/in/checkpoint.b"), home.path("kept.b")).unwrap();
    let daemon = home.start("in.yaml --anonymous");
    daemon.put_lines("in", &["{}"]);
    daemon.delivers("in", 1);
    daemon.stop();
    fs::copy(home.path("kept.a"), home.path("state/pipelines/in/checkpoint.a")).unwrap();
    fs::copy(home.path("kept.b"), home.path("state/pipelines/in/checkpoint.b")).unwrap();
    says(&home.run("audit ./out --state state"), 1, "FINDING beyond the state folder");
}
