//! Puts against stores that answer as stores do on a bad day.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;

use ::object_store::memory::InMemory;
use ::object_store::{
    CopyOptions, GetResult, ListResult, ObjectMeta, PutMultipartOptions, PutResult, Result as StoreResult,
};
use async_trait::async_trait;
use futures::stream::BoxStream;

use super::*;

const NAME: &str = "dt=2026-11-20/p-7f-0000000000000000-0000000000000010.parquet";

/// What the store does with the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// As asked.
    Normal,
    /// Nothing, and answers with this.
    Refuse(Answer),
    /// As asked, and then answers with this.
    AfterEffect(Answer),
    /// Never answers.
    Hang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Exists,
    Precondition,
    ServerError,
    TimedOut,
    Forbidden,
    NoBucket,
    NotImplemented,
}

impl Answer {
    fn error(self) -> Error {
        let path = "p".to_string();
        match self {
            Answer::Exists => Error::AlreadyExists { path, source: "409 Conflict".into() },
            Answer::Precondition => Error::Precondition { path, source: "412".into() },
            Answer::ServerError => Error::Generic { store: "S3", source: "503 Slow Down".into() },
            Answer::TimedOut => {
                Error::Generic { store: "S3", source: Box::new(io::Error::from(io::ErrorKind::TimedOut)) }
            }
            Answer::Forbidden => Error::PermissionDenied { path, source: "403".into() },
            Answer::NoBucket => Error::NotFound { path, source: "404".into() },
            Answer::NotImplemented => {
                Error::NotImplemented { operation: "create".into(), implementer: "old store".into() }
            }
        }
    }
}

/// An in-memory store that follows a script, one act per put (and one per look), and counts.
#[derive(Debug, Default)]
struct Scripted {
    inner: InMemory,
    puts: Mutex<VecDeque<Act>>,
    looks: Mutex<VecDeque<Act>>,
    /// Requests in order: `create`, `overwrite`, `head`, `get`, `parts`.
    log: Mutex<Vec<&'static str>>,
}

impl fmt::Display for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scripted")
    }
}

impl Scripted {
    fn new(puts: &[Act]) -> Arc<Scripted> {
        Arc::new(Scripted { puts: Mutex::new(puts.iter().copied().collect()), ..Scripted::default() })
    }

    fn log(&self) -> Vec<&'static str> {
        self.log.lock().unwrap().clone()
    }

    async fn act(&self, script: &Mutex<VecDeque<Act>>) -> StoreResult<Option<Answer>> {
        let act = script.lock().unwrap().pop_front().unwrap_or(Act::Normal);
        match act {
            Act::Normal => Ok(None),
            Act::Refuse(answer) => Err(answer.error()),
            Act::AfterEffect(answer) => Ok(Some(answer)),
            Act::Hang => std::future::pending().await,
        }
    }

    async fn bytes(&self) -> Bytes {
        self.inner.get(&Path::from(NAME)).await.unwrap().bytes().await.unwrap()
    }
}

#[async_trait]
impl ObjectStore for Scripted {
    async fn put_opts(&self, path: &Path, body: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.log.lock().unwrap().push(if options.mode == PutMode::Create { "create" } else { "overwrite" });
        let after = self.act(&self.puts).await?;
        let put = self.inner.put_opts(path, body, options).await;
        after.map_or(put, |answer| Err(answer.error()))
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.log.lock().unwrap().push("parts");
        self.act(&self.puts).await?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.log.lock().unwrap().push(if options.head { "head" } else { "get" });
        self.act(&self.looks).await?;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn sink(store: &Arc<Scripted>) -> ObjectSink {
    ObjectSink::over(store.clone(), Path::ROOT, Random::new(|| 7))
}

/// Puts `body` and gives what came of it, with the troubles on the way.
async fn put(sink: &ObjectSink, body: &[u8]) -> (Result<Put, PutError>, Vec<Trouble>) {
    let troubles = Mutex::new(Vec::new());
    let read = |offset: u64, len: usize| Ok(Bytes::copy_from_slice(&body[offset as usize..offset as usize + len]));
    let upload = Upload { name: NAME, len: body.len() as u64, crc32c: crc32c::crc32c(body), read: &read };
    let put = sink.put(&upload, &|trouble| troubles.lock().unwrap().push(trouble.clone())).await;
    (put, troubles.into_inner().unwrap())
}

#[tokio::test(start_paused = true)]
async fn every_ambiguous_answer_is_looked_into() {
    use Answer::*;
    for answer in [Exists, Precondition, ServerError, TimedOut] {
        let store = Scripted::new(&[Act::AfterEffect(answer)]);
        let (stored, troubles) = put(&sink(&store), b"0123456789").await;
        assert_eq!(stored.unwrap(), Put::AlreadyThere, "{answer:?} after the effect: it is ours");
        assert!(troubles.is_empty());
        assert_eq!(store.log(), ["create", "head", "get"]);

        let store = Scripted::new(&[Act::Refuse(answer), Act::Refuse(answer)]);
        let (stored, troubles) = put(&sink(&store), b"0123456789").await;
        assert_eq!(stored.unwrap(), Put::Stored, "{answer:?} without effect: again");
        assert_eq!(troubles.len(), 2);
        assert_eq!(store.log(), ["create", "head", "create", "head", "create"]);
        assert_eq!(store.bytes().await, b"0123456789".as_slice());
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_by_a_dead_process_is_found_and_not_repeated() {
    let store = Scripted::new(&[]);
    assert_eq!(put(&sink(&store), b"0123456789").await.0.unwrap(), Put::Stored);
    assert_eq!(put(&sink(&store), b"0123456789").await.0.unwrap(), Put::AlreadyThere);
    assert_eq!(put(&sink(&Scripted::new(&[])), b"").await.0.unwrap(), Put::Stored, "an empty object is one");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_object_stops_the_put_and_stays() {
    for (foreign, found) in [("other", "5 bytes, not 10"), ("012345678X", "10 bytes with CRC-32C")] {
        for multipart_above in [1 << 20, 1] {
            let store = Scripted::new(&[]);
            store.inner.put(&Path::from(NAME), foreign.into()).await.unwrap();
            let (stored, troubles) = put(&sink(&store).with_parts(multipart_above, 4), b"0123456789").await;
            let Err(PutError::Foreign { location, found: what }) = stored else { panic!("{stored:?}") };
            assert!(what.starts_with(found) && location.ends_with(NAME), "{location} {what}");
            assert!(troubles.is_empty());
            assert_eq!(store.bytes().await, foreign.as_bytes(), "untouched");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_must_mend_is_tried_until_it_is_mended() {
    let store =
        Scripted::new(&[Act::Refuse(Answer::Forbidden), Act::Refuse(Answer::NoBucket), Act::Refuse(Answer::Forbidden)]);
    let began = Instant::now();
    let (stored, troubles) = put(&sink(&store), b"0123456789").await;
    assert_eq!(stored.unwrap(), Put::Stored);
    let said: Vec<_> =
        troubles.iter().map(|trouble| (trouble.attempt, trouble.message.rsplit(": ").nth(1).unwrap())).collect();
    assert_eq!(said, [(1, "access denied"), (2, "not found"), (3, "access denied")]);
    assert!(troubles[0].hint.unwrap().contains("credentials") && troubles[1].hint.unwrap().contains("bucket"));
    assert_eq!(store.log(), ["create"; 4], "a refusal is not ambiguous: nothing to look for");
    let waited: Duration = troubles.iter().map(|trouble| trouble.next).sum();
    assert_eq!(began.elapsed(), waited);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_a_day_is_waited_for_with_capped_steps() {
    let store = Scripted::new(&vec![Act::Refuse(Answer::ServerError); 3000]);
    let (stored, troubles) = put(&sink(&store), b"0123456789").await;
    assert_eq!(stored.unwrap(), Put::Stored);
    assert_eq!(troubles.len(), 3000);
    assert!(troubles.iter().all(|trouble| trouble.next <= BACKOFF_MAX && trouble.next >= BACKOFF_BASE / 2));
    assert!(troubles.last().unwrap().since > Duration::from_secs(12 * 3600));
    assert!(troubles.last().unwrap().next >= BACKOFF_MAX / 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_look_creating_again_tells() {
    let store = Scripted::new(&[Act::Refuse(Answer::ServerError), Act::AfterEffect(Answer::ServerError)]);
    store.looks.lock().unwrap().extend([Act::Refuse(Answer::Forbidden), Act::Refuse(Answer::Forbidden)]);
    let (stored, troubles) = put(&sink(&store), b"0123456789").await;
    assert_eq!(stored.unwrap(), Put::AlreadyThere);
    assert_eq!(troubles.len(), 2);
    assert_eq!(store.log(), ["create", "head", "create", "head", "create", "head", "get"]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_put_is_finished_by_its_repeat() {
    for act in [Act::Hang, Act::AfterEffect(Answer::TimedOut)] {
        let store = Scripted::new(&[act]);
        store.looks.lock().unwrap().push_back(Act::Hang);
        let sink = sink(&store);
        let dropped = tokio::time::timeout(Duration::from_secs(5), put(&sink, b"0123456789")).await;
        assert!(dropped.is_err());
        store.looks.lock().unwrap().clear();
        assert!(put(&sink, b"0123456789").await.0.is_ok());
        assert_eq!(store.bytes().await, b"0123456789".as_slice());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_create_is_looked_at_before_each_put() {
    let store = Scripted::new(&[Act::Refuse(Answer::NotImplemented)]);
    let sink = sink(&store);
    let (stored, troubles) = put(&sink, b"0123456789").await;
    assert_eq!(stored.unwrap(), Put::Stored);
    assert!(troubles.is_empty());
    assert_eq!(store.log(), ["create", "head", "overwrite"]);
    assert_eq!(put(&sink, b"0123456789").await.0.unwrap(), Put::AlreadyThere);
    assert!(matches!(put(&sink, b"something!").await.0, Err(PutError::Foreign { .. })));
    assert_eq!(store.log().iter().filter(|request| **request == "overwrite").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn large_objects_go_up_in_parts() {
    let body: Vec<u8> = (0..1_000_003u32).map(|n| (n % 251) as u8).collect();
    for len in [1_000_003, 1_000_000, 500_000] {
        let store = Scripted::new(&[Act::Refuse(Answer::ServerError)]);
        let sink = sink(&store).with_parts(100_000, 100_000);
        let (stored, troubles) = put(&sink, &body[..len]).await;
        assert_eq!((stored.unwrap(), troubles.len()), (Put::Stored, 1));
        assert_eq!(store.log(), ["head", "parts", "head", "head", "parts", "head"]);
        assert_eq!(store.bytes().await, &body[..len]);
        assert_eq!(put(&sink, &body[..len]).await.0.unwrap(), Put::AlreadyThere);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_not_those_sealed_never_leave() {
    for multipart_above in [1 << 20, 1] {
        let store = Scripted::new(&[]);
        let sink = sink(&store).with_parts(multipart_above, 4);
        let good = |_, len: usize| Ok(Bytes::from(vec![b'x'; len]));
        let short = |_, len: usize| Ok(Bytes::from(vec![b'x'; len - 1]));
        let broken = |_, _| Err(io::Error::other("disk gone"));
        let reads: [&(dyn Fn(u64, usize) -> io::Result<Bytes> + Send + Sync); 3] = [&good, &short, &broken];
        for (read, expected) in reads.into_iter().zip(["was sealed", "bytes at 0, not", "disk gone"]) {
            let upload = Upload { name: NAME, len: 10, crc32c: 1, read };
            let error = sink.put(&upload, &|trouble| panic!("{trouble:?}")).await.unwrap_err();
            assert!(matches!(error, PutError::Disk(_)) && error.to_string().contains(expected), "{error}");
        }
        assert!(store.inner.get(&Path::from(NAME)).await.is_err(), "nothing is there");
    }
}

#[tokio::test]
async fn names_are_taken_as_they_are_or_refused() {
    let store = Arc::new(InMemory::new());
    let sink = ObjectSink::over(store.clone(), Path::from("root"), Random::new(|| 7));
    let read = |_, _| Ok(Bytes::from_static(b"x"));
    for (name, fits) in [
        ("a%2Fb/x", true),
        ("k=München/x", true),
        ("/a", false),
        ("a/", false),
        ("", false),
        ("a//b", false),
        ("../x", false),
        ("a\n", false),
    ] {
        let upload = Upload { name, len: 1, crc32c: crc32c::crc32c(b"x"), read: &read };
        let stored = sink.put(&upload, &|trouble| panic!("{trouble:?}")).await;
        assert_eq!(stored.is_ok(), fits, "{name:?}: {stored:?}");
        if fits {
            let path = Path::parse(format!("root/{name}")).unwrap();
            assert!(store.head(&path).await.is_ok(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_store_that_overwrites_is_found_out() {
    assert_eq!(sink(&Scripted::new(&[])).probe().await, Ok(true));
    assert_eq!(sink(&Scripted::new(&[Act::Refuse(Answer::NotImplemented)])).probe().await, Ok(false));
    let error = sink(&Scripted::new(&[Act::Refuse(Answer::Forbidden)])).probe().await.unwrap_err();
    assert!(error.ends_with("access denied: 403"), "{error}");
}

#[test]
fn a_local_folder_is_opened_with_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let sink = ObjectSink::open(&Options::at(dir.path().to_str().unwrap()), Random::new(|| 7)).unwrap();
    assert!(format!("{:?}", sink.shared.store).contains("fsync: true"), "{:?}", sink.shared.store);
}
