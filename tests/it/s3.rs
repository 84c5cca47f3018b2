//! Puts to a real S3 server, over HTTP with signatures.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hydrant::ground::Random;
use hydrant::sink::{ObjectSink, Options, Put, PutError, Text, Trouble, Upload};
use tokio::sync::mpsc;

use crate::support::s3::{Buckets, S3Server, free_address, options_at};
use crate::support::sink::{no_trouble, put};

const NAME: &str = "dt=2026-11-20/city=München/a%2Fb/p-7f-0000000000000000-0000000000000010.parquet";

fn open(options: &Options) -> ObjectSink {
    ObjectSink::open(options, Random::real()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_is_stored_once_and_found_again() {
    let buckets = Buckets::new();
    let lake = buckets.create("lake");
    let server = S3Server::start(&buckets).await;
    let sink = open(&server.options("lake/a b"));
    assert_eq!(put(&sink, NAME, b"body", no_trouble).await.unwrap(), Put::Stored);
    assert_eq!(put(&sink, NAME, b"body", no_trouble).await.unwrap(), Put::AlreadyThere);
    assert_eq!(std::fs::read(lake.join("a b").join(NAME)).unwrap(), b"body", "under its name, not encoded again");
    assert_eq!(sink.location("x"), "s3://lake/a b/x");
    assert_eq!(sink.probe().await, Ok(true), "this server keeps what is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_object_is_left_alone() {
    let buckets = Buckets::new();
    let object = buckets.create("lake").join("x/name.parquet");
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::write(&object, "somebody's").unwrap();
    let server = S3Server::start(&buckets).await;
    for multipart_above in [1 << 20, 1] {
        let sink = open(&Options { multipart_above, ..server.options("lake") });
        let error = put(&sink, "x/name.parquet", b"0123456789", no_trouble).await.unwrap_err();
        assert!(matches!(error, PutError::Foreign { .. }), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("s3://lake/x/name.parquet: a foreign object has this name (10 bytes with CRC-32C "),
            "{error}"
        );
    }
    assert_eq!(std::fs::read(&object).unwrap(), b"somebody's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_object_goes_up_in_parts() {
    let buckets = Buckets::new();
    let lake = buckets.create("lake");
    let server = S3Server::start(&buckets).await;
    let sink = open(&Options { multipart_above: 6 << 20, part_size: 5 << 20, ..server.options("lake") });
    let body: Vec<u8> = (0..26_000_003u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(put(&sink, "large", &body, no_trouble).await.unwrap(), Put::Stored);
    assert!(std::fs::read(lake.join("large")).unwrap() == body);
    assert_eq!(put(&sink, "large", &body, no_trouble).await.unwrap(), Put::AlreadyThere);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_waited_for() {
    let buckets = Arc::new(Buckets::new());
    buckets.create("lake");
    let address = free_address().await;
    let sink = open(&options_at(address, "lake"));
    let (down, mut first) = mpsc::unbounded_channel();
    let starter = tokio::spawn({
        let buckets = buckets.clone();
        async move {
            let trouble: Trouble = first.recv().await.unwrap();
            (S3Server::start_at(address, &buckets).await, trouble)
        }
    });
    let tell = |trouble: &Trouble| drop(down.send(trouble.clone()));
    assert_eq!(put(&sink, "x", b"body", tell).await.unwrap(), Put::Stored);
    let (_server, trouble) = starter.await.unwrap();
    assert!(trouble.message.starts_with("s3://lake/x: no connection: "), "{trouble:?}");
    assert!(!trouble.message.contains("http://"), "no address with secrets in it: {trouble:?}");
    assert_eq!(trouble.attempt, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_said_and_waited_out() {
    let buckets = Buckets::new();
    buckets.create("lake");
    let server = S3Server::start(&buckets).await;
    let mut options = server.options("lake");
    options.options.insert("secret_access_key".into(), Text("wrong".into()));
    let sink = open(&options);
    let (tell, mut told) = mpsc::unbounded_channel();
    let told = tokio::select! {
        stored = put(&sink, "y", b"body", move |trouble| drop(tell.send(trouble.clone()))) => panic!("{stored:?}"),
        trouble = told.recv() => trouble.unwrap(),
    };
    assert!(told.message.contains("access denied: 403 Forbidden, SignatureDoesNotMatch"), "{told:?}");
    assert!(told.hint.unwrap().contains("credentials") && !told.message.contains("wrong"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_an_upload_that_failed_are_taken_back() {
    let buckets = Buckets::new();
    let lake = buckets.create("lake");
    let server = S3Server::start(&buckets).await;
    let part_size: u64 = 5 << 20;
    let sink = open(&Options { multipart_above: part_size, part_size, ..server.options("lake") });
    let len = 7 * part_size;
    let gone = |offset, len| match offset < 6 * part_size {
        true => Ok(Bytes::from(vec![0; len])),
        false => Err(io::Error::other("disk gone")),
    };
    let upload = Upload { name: "x", len, crc32c: 0, read: &gone };
    let error = sink.put(&upload, &no_trouble).await.unwrap_err();
    assert_eq!(error.to_string(), "outbox: disk gone");
    let parts = std::fs::read_dir(buckets.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let parts: Vec<_> = parts.filter(|name| name.to_string_lossy().starts_with(".upload_id")).collect();
    assert!(parts.is_empty(), "{parts:?}");
    assert!(!lake.join("x").exists());
}
