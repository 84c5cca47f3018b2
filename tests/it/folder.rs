//! Puts into a local folder: names that records chose, leftovers, links.

use std::fs;
use std::path::{Path, PathBuf};

use hydrant::error::Blame;
use hydrant::ground::Random;
use hydrant::naming::{ObjectName, PartitionKeys, Prefix, Scratch, TimeZone};
use hydrant::position::{Position, Shard, ShardRange};
use hydrant::record::Pairs;
use hydrant::sink::{ObjectSink, Options, Put, PutError, Trouble};

use crate::support::sink::{no_trouble, put};

fn open(folder: &Path) -> ObjectSink {
    ObjectSink::open(&Options::at(folder.to_str().unwrap()), Random::real()).unwrap()
}

/// All files below, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_becomes_a_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("not/yet/there");
    let sink = open(&folder);
    assert_eq!(put(&sink, "a/b/name.parquet", b"body", no_trouble).await.unwrap(), Put::Stored);
    assert_eq!(put(&sink, "a/b/name.parquet", b"body", no_trouble).await.unwrap(), Put::AlreadyThere);
    assert_eq!(files(&folder), [folder.join("a/b/name.parquet")], "and nothing beside it");
    let error = put(&sink, "a/b/name.parquet", b"else", no_trouble).await.unwrap_err();
    assert!(matches!(error, PutError::Foreign { .. }), "{error}");
    assert_eq!(fs::read(folder.join("a/b/name.parquet")).unwrap(), b"body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_put_left_is_no_hindrance_and_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let sink = open(dir.path());
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/name.parquet#1"), "bo").unwrap();
    assert_eq!(put(&sink, "a/name.parquet", b"body", no_trouble).await.unwrap(), Put::Stored);
    assert_eq!(sink.sweep("a/name.parquet").unwrap(), 1);
    assert_eq!(files(dir.path()), [dir.path().join("a/name.parquet")]);
    assert_eq!(sink.sweep("a/name.parquet").unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_names_a_file_outside_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("sink");
    let sink = open(&folder);
    let prefix = Prefix::parse("v={v}/{v}/", &TimeZone::UTC, &PartitionKeys::default()).unwrap();
    let nasty = [
        "../",
        "../../etc",
        "..",
        ".",
        "%2e%2e",
        "%2E%2E/",
        "a\0b",
        "..\\..\\x",
        "\u{2024}\u{2024}/",
        "\u{ff0e}\u{ff0e}\u{ff0f}",
        "line\nend",
        "x#1",
        "#1",
        "a/b",
        "/etc/passwd",
        "~",
        "C:\\x",
        "con",
        "_hydrant",
        "a\u{202e}b",
        " ",
        "\u{7f}",
        &"x".repeat(300),
        &"€".repeat(300),
        &"/".repeat(10_000),
    ];
    let range =
        |end: u64| ShardRange { shard: Shard::new("7f").unwrap(), start: Position::from(0), end: Position::from(end) };
    for (index, value) in nasty.iter().enumerate() {
        let payload = serde_json::json!({ "v": value }).to_string();
        let mut partition = String::new();
        prefix.partition(payload.as_bytes(), 0, Pairs::default(), &mut Scratch::default(), &mut partition).unwrap();
        let name = ObjectName {
            prefix: prefix.resolve(&partition, 0, &Random::real()),
            pipeline: "click-stream".into(),
            range: range(index as u64 + 1),
            part: 0,
            extension: ".parquet".into(),
        };
        let stored = put(&sink, &name.to_string(), value.as_bytes(), no_trouble).await;
        assert_eq!(stored.unwrap(), Put::Stored, "{value:?} made {name}");
        let path = folder.join(name.to_string());
        assert_eq!(fs::read(&path).unwrap(), value.as_bytes(), "under its own name");
        assert_eq!(path.strip_prefix(&folder).unwrap().components().count(), 3, "two folders deep: {name}");
    }
    assert_eq!(files(dir.path()).len(), nasty.len());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside the sink's folder");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_planted_in_the_folder_is_not_followed() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sink = open(dir.path());
    let link = dir.path().join("dt=1");
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();
    let mend = |trouble: &Trouble| {
        assert!(trouble.message.ends_with("dt=1 is a symbolic link"), "{trouble:?}");
        fs::remove_file(&link).unwrap();
    };
    assert_eq!(put(&sink, "dt=1/name", b"body", mend).await.unwrap(), Put::Stored);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let options = Options::at(dir.path().join("file/data").to_str().unwrap());
    let Err(fault) = ObjectSink::open(&options, Random::real()) else { panic!("a file is no folder") };
    assert_eq!(fault.blame, Blame::Sink);
    assert!(format!("{:#}", fault.error).contains("file/data: "), "{:#}", fault.error);
}
