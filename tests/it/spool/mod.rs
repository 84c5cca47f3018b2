//! The spool by its public face: append, read, release, restart.

mod damage;
mod disk;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use futures::future::join_all;
use hydrant::disk::RealDisk;
use hydrant::error::Blame;
use hydrant::ground::Ground;
use hydrant::position::Position;
use hydrant::record::BatchBuilder;
use hydrant::source::{Reader, Source};
use hydrant::spool::{Append, AppendError, Appended, OnceKey, Options, Stream, shard_of};

use disk::MemDisk;

const DIR: &str = "state/spool/clicks";

fn options() -> Options {
    Options { segment_bytes: 1 << 20, spool_bytes_max: 64 << 20, free_bytes_min: 0, ..Options::default() }
}

async fn open_with(disk: &MemDisk, options: &Options) -> Stream {
    let ground = disk.ground(disk.syncs(), &Arc::new(AtomicI64::new(1000)));
    Stream::open(&ground, Path::new(DIR), "clicks", options).await.unwrap()
}

async fn open(disk: &MemDisk) -> Stream {
    open_with(disk, &options()).await
}

fn request(payloads: &[&str], arrival_ms: i64) -> Append {
    let mut records = BatchBuilder::default();
    payloads.iter().for_each(|payload| records.push(payload.as_bytes(), arrival_ms));
    Append { records: records.finish(), once: None }
}

async fn append(stream: &Stream, payloads: &[&str]) -> Result<Appended, AppendError> {
    stream.append(request(payloads, 1000)).await
}

async fn append_once(stream: &Stream, key: u8, payload: &str) -> Result<Appended, AppendError> {
    stream.append(Append { once: Some(OnceKey([key; 16])), ..request(&[payload], 1000) }).await
}

async fn reader(stream: &Stream, name: &str, from: Option<u64>) -> Box<dyn Reader> {
    let source = stream.source(name);
    source.open(stream.shard(), from.map(Position::from).as_ref()).await.unwrap()
}

/// All that can be read now, with record numbers.
async fn rest(reader: &mut dyn Reader) -> Vec<(u64, String)> {
    let mut records = Vec::new();
    while reader.position() < reader.tail() {
        let read = reader.next().await.unwrap().unwrap();
        let first = read.end.as_u64().unwrap() - read.batch.len() as u64;
        let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
        records.extend((first..).zip(read.batch.payloads().map(text)));
    }
    records
}

async fn all(stream: &Stream) -> Vec<(u64, String)> {
    rest(&mut *reader(stream, "all", None).await).await
}

fn numbered(payloads: &[&str]) -> Vec<(u64, String)> {
    (0..).zip(payloads.iter().map(|payload| payload.to_string())).collect()
}

#[tokio::test]
async fn records_come_back_in_order_whoever_wrote_them() {
    let disk = MemDisk::new();
    for payloads in [&["a", "", "c"][..], &["d"], &["e", "f"]] {
        let stream = open(&disk).await;
        append(&stream, payloads).await.unwrap();
        stream.stop().await;
    }
    let stream = open(&disk.killed()).await;
    assert_eq!(all(&stream).await, numbered(&["a", "", "c", "d", "e", "f"]));
    assert_eq!(append(&stream, &["g"]).await, Ok(Appended { first: 6, count: 1 }));
}

#[tokio::test]
async fn a_group_answers_nobody_and_shows_nothing_before_it_is_durable() {
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    let (seen, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (seen_, answered_, stream_) = (seen.clone(), answered.clone(), stream.clone());
    disk.on_write(move || {
        assert_eq!(answered_.load(Ordering::Relaxed), 0, "answered before the disk had it");
        assert_eq!(stream_.stats().durable, 0, "readable before the disk had it");
        seen_.fetch_add(1, Ordering::Relaxed);
    });
    let calls = ["a", "b", "c"].map(async |payload| {
        append(&stream, &[payload]).await.unwrap();
        answered.fetch_add(1, Ordering::Relaxed);
    });
    join_all(calls).await;
    assert_eq!(seen.load(Ordering::Relaxed), 1, "three requests, one disk operation");
    assert_eq!((stream.stats().group_commits, stream.stats().durable), (1, 3));
}

#[tokio::test]
async fn a_full_disk_refuses_the_group_and_what_was_half_written_never_comes_back() {
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    append(&stream, &["kept"]).await.unwrap();
    // Room for the first request of the group and half of the second, but not for a new segment.
    disk.set_room(110);
    let refused = join_all([append(&stream, &["lost one"]), append(&stream, &["lost two"])]).await;
    assert_eq!(refused, [Err(AppendError::Full), Err(AppendError::Full)]);
    assert_eq!(append(&stream, &["still full"]).await, Err(AppendError::Full));
    // A death now finds the half-written group as it lies there.
    assert_eq!(all(&open(&disk.killed()).await).await, numbered(&["kept"]));
    disk.set_room(u64::MAX);
    assert_eq!(append(&stream, &["room again"]).await, Ok(Appended { first: 1, count: 1 }));
    assert_eq!(all(&stream).await, numbered(&["kept", "room again"]));
    assert_eq!(all(&open(&disk.killed()).await).await, numbered(&["kept", "room again"]));
}

#[tokio::test]
async fn a_spool_above_its_quota_refuses_until_its_reader_releases() {
    let disk = MemDisk::new();
    let stream = open_with(&disk, &Options { spool_bytes_max: 8192, ..options() }).await;
    let source = stream.source("only");
    let text = "x".repeat(500);
    let mut count = 0;
    while append(&stream, &[&text]).await.is_ok() {
        count += 1;
    }
    assert!(stream.stats().bytes <= 8192 && count > 5);
    source.release(stream.shard(), &Position::from(count)).await.unwrap();
    assert_eq!(append(&stream, &[&text]).await, Ok(Appended { first: count, count: 1 }));
}

#[tokio::test]
async fn one_request_that_fills_the_quota_goes_when_it_is_delivered() {
    let disk = MemDisk::new();
    let stream = open_with(&disk, &Options { spool_bytes_max: 8192, ..options() }).await;
    let source = stream.source("only");
    let text = "x".repeat(6000);
    for first in 0..3 {
        assert_eq!(append(&stream, &[&text]).await, Ok(Appended { first, count: 1 }));
        assert_eq!(append(&stream, &[&text]).await, Err(AppendError::Full));
        source.release(stream.shard(), &Position::from(first + 1)).await.unwrap();
    }
}

#[tokio::test]
async fn after_a_failed_sync_nobody_is_answered_and_the_file_is_left_alone() {
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    append(&stream, &["kept"]).await.unwrap();
    disk.fail_next(ErrorKind::Other);
    assert!(matches!(append(&stream, &["unknown"]).await, Err(AppendError::Stopped(_))));
    let syncs = disk.syncs();
    assert!(matches!(append(&stream, &["after"]).await, Err(AppendError::Stopped(_))));
    assert_eq!(disk.syncs(), syncs, "never again on this file");
    assert_eq!(stream.failed().await.blame, Blame::Disk);
    assert_eq!(all(&stream).await, numbered(&["kept"]), "what is durable can still be delivered");
}

#[tokio::test]
async fn segments_go_when_the_slowest_reader_has_released_them_and_the_active_one_never() {
    let disk = MemDisk::new();
    let options = Options { segment_bytes: 600, ..options() };
    let stream = open_with(&disk, &options).await;
    let (fast, slow) = (stream.source("fast"), stream.source("slow"));
    for _ in 0..20 {
        append(&stream, &["0123456789"]).await.unwrap();
    }
    let before = disk.names(".log").len();
    assert!(before > 3);
    let release = async |source: &dyn Source, upto: u64| {
        source.release(stream.shard(), &Position::from(upto)).await.unwrap();
    };
    release(&fast, 20).await;
    assert_eq!(disk.names(".log").len(), before, "the slow reader still needs them");
    release(&slow, 10).await;
    let oldest = stream.stats().oldest;
    assert!(oldest > 0 && oldest <= 10);
    release(&slow, 20).await;
    release(&slow, 20).await;
    assert_eq!(disk.names(".log").len(), 1);
    let mut late = slow.open(stream.shard(), Some(&Position::from(3))).await.unwrap();
    let fault = late.next().await.unwrap_err();
    assert_eq!(fault.blame, Blame::Source);
    let oldest = stream.stats().oldest;
    assert!(fault.to_string().contains(&format!("records 3..{oldest} are gone")), "{fault}");
    // Numbers go on where they were, although their records are gone.
    let stream = open_with(&disk.killed(), &options).await;
    assert_eq!(append(&stream, &["next"]).await.unwrap().first, 20);
}

#[tokio::test]
async fn a_retry_gets_the_answer_of_its_original_also_after_a_restart() {
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    append(&stream, &["before"]).await.unwrap();
    let original = append_once(&stream, 1, "call").await.unwrap();
    assert_eq!(append_once(&stream, 1, "call").await, Ok(original));
    let twins = join_all([append_once(&stream, 2, "twin"), append_once(&stream, 2, "twin")]).await;
    assert_eq!(twins[0], twins[1]);
    for _ in 0..3 {
        let stream = open(&disk.killed()).await;
        assert_eq!(append_once(&stream, 1, "call").await, Ok(original));
        assert_eq!(all(&stream).await, numbered(&["before", "call", "twin"]));
    }
    assert_eq!(stream.stats().durable, 3);
}

#[tokio::test]
async fn a_call_is_remembered_after_its_records_were_delivered_and_forgotten_when_its_time_is_over() {
    let disk = MemDisk::new();
    let now_ms = Arc::new(AtomicI64::new(1000));
    let options = Options { segment_bytes: 300, ..options() };
    let dir = Path::new(DIR);
    let stream = Stream::open(&disk.ground(1, &now_ms), dir, "clicks", &options).await.unwrap();
    let source = stream.source("only");
    let original = append_once(&stream, 1, "call").await.unwrap();
    for _ in 0..10 {
        append(&stream, &["0123456789"]).await.unwrap();
    }
    source.release(stream.shard(), &Position::from(11)).await.unwrap();
    let stream = Stream::open(&disk.killed().ground(2, &now_ms), dir, "clicks", &options).await.unwrap();
    assert_eq!(append_once(&stream, 1, "call").await, Ok(original));
    now_ms.store(1000 + options.once_window_ms as i64, Ordering::Relaxed);
    let stream = Stream::open(&disk.killed().ground(3, &now_ms), dir, "clicks", &options).await.unwrap();
    assert_eq!(append_once(&stream, 1, "call").await, Ok(Appended { first: 11, count: 1 }));
    stream.source("only").release(stream.shard(), &Position::from(11)).await.unwrap();
    assert!(stream.stats().oldest > 0, "nothing holds the old segments any more");
}

#[tokio::test]
async fn the_key_of_a_refused_call_is_forgotten() {
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    disk.set_room(10);
    assert_eq!(append_once(&stream, 1, "call").await, Err(AppendError::Full));
    disk.set_room(u64::MAX);
    assert_eq!(append_once(&stream, 1, "call").await, Ok(Appended { first: 0, count: 1 }));
    assert_eq!(all(&stream).await, numbered(&["call"]));
}

#[tokio::test]
async fn a_clock_that_jumped_ahead_and_was_mended_dates_only_what_came_in_between() {
    const IN_2036_MS: i64 = 2_082_758_400_000;
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    let call = |key, arrival_ms| Append { once: Some(OnceKey([key; 16])), ..request(&["x"], arrival_ms) };
    let mut answers = Vec::new();
    for (key, arrival_ms) in [(1, 1000), (2, IN_2036_MS), (3, IN_2036_MS - 9_000), (4, 1000), (5, 900)] {
        answers.push(stream.append(call(key, arrival_ms)).await.unwrap());
    }
    drop(stream);
    let stream = open(&open_and_drop(&disk).await).await;
    for (key, answer) in (1..).zip(answers) {
        assert_eq!(stream.append(call(key, 1000)).await, Ok(answer), "call {key} was remembered");
    }
    stream.append(request(&["y"], 1000)).await.unwrap();
    assert_eq!(arrivals(&stream).await, [1000, IN_2036_MS, IN_2036_MS, 1000, 1000, 1000]);
}

async fn arrivals(stream: &Stream) -> Vec<i64> {
    let mut reader = reader(stream, "r", None).await;
    let mut arrivals = Vec::new();
    while reader.position() < reader.tail() {
        let batch = reader.next().await.unwrap().unwrap().batch;
        arrivals.extend((0..batch.len()).map(|index| batch.arrival_ms(index)));
    }
    arrivals
}

#[tokio::test]
async fn arrivals_do_not_go_back_a_little_not_even_over_a_restart() {
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    stream.append(request(&["a", "b"], 5000)).await.unwrap();
    stream.append(request(&["c"], 4000)).await.unwrap();
    drop(stream);
    let stream = open(&open_and_drop(&disk).await).await;
    stream.append(request(&["d"], 3000)).await.unwrap();
    stream.append(request(&["e"], 6000)).await.unwrap();
    assert_eq!(arrivals(&stream).await, [5000, 5000, 5000, 5000, 6000]);
}

async fn open_and_drop(disk: &MemDisk) -> MemDisk {
    drop(open(disk).await);
    disk.killed()
}

#[tokio::test]
async fn a_reader_opens_in_mid_frame_reads_huge_frames_whole_and_ends() {
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    let huge = "h".repeat(3 << 20);
    append(&stream, &["a", "b", "c"]).await.unwrap();
    append(&stream, &[&huge, "behind"]).await.unwrap();
    append(&stream, &["last"]).await.unwrap();
    let expected = numbered(&["a", "b", "c", &huge, "behind", "last"]);
    for from in 0..=6 {
        let mut reader = reader(&stream, "r", Some(from)).await;
        assert_eq!(rest(&mut *reader).await, expected[from as usize..]);
    }
    let mut reader = reader(&stream, "r", Some(6)).await;
    // A cancelled read has not moved; the next append wakes it.
    assert!(futures::poll!(reader.next()).is_pending());
    append(&stream, &["more"]).await.unwrap();
    assert_eq!(rest(&mut *reader).await, [(6, "more".to_owned())]);
    stream.end();
    assert!(reader.next().await.unwrap().is_none());
    stream.stop().await;
    assert!(matches!(append(&stream, &["late"]).await, Err(AppendError::Stopped(_))));
}

#[tokio::test]
async fn a_reader_that_begins_within_a_group_in_memory_gets_the_rest_of_it() {
    let stream = open(&MemDisk::new()).await;
    drop(reader(&stream, "keeps", None).await);
    let calls = [&["a", "b"][..], &["c", "d"], &["e"]].map(async |payloads| append(&stream, payloads).await.unwrap());
    join_all(calls).await;
    assert_eq!(stream.stats().group_commits, 1, "three frames in one group");
    let expected = numbered(&["a", "b", "c", "d", "e"]);
    for from in [4, 3, 2, 1, 0] {
        stream.source("keeps").release(stream.shard(), &Position::from(0)).await.unwrap();
        assert_eq!(rest(&mut *reader(&stream, "keeps", Some(from)).await).await, expected[from as usize..]);
    }
}

#[tokio::test]
async fn a_busy_stream_rolls_into_segments_made_in_advance_and_loses_nothing() {
    let disk = MemDisk::new();
    let stream = open_with(&disk, &Options { segment_bytes: 16 << 10, ..options() }).await;
    let payloads: Vec<String> = (0..400).map(|n| format!("{n:0300}")).collect();
    for payload in &payloads {
        append(&stream, &[payload]).await.unwrap();
    }
    let expected = numbered(&payloads.iter().map(String::as_str).collect::<Vec<_>>());
    let zeros = disk.names(".log").iter().filter(|path| disk.bytes(path).ends_with(&[0; 8])).count();
    assert!(zeros > 2, "segments were made in advance");
    assert_eq!(all(&stream).await, expected);
    let files: u64 = disk.names("").iter().map(|path| disk.bytes(path).len() as u64).sum();
    assert!(stream.stats().bytes <= files, "{} of {files}", stream.stats().bytes);
    assert_eq!(all(&open(&disk.killed()).await).await, expected);
}

#[tokio::test]
async fn another_folder_is_another_log() {
    let (one, two) = (MemDisk::new(), MemDisk::new());
    let stream = open(&one).await;
    two.set_room(u64::MAX);
    let ground = two.ground(77, &Arc::new(AtomicI64::new(0)));
    let other = Stream::open(&ground, Path::new(DIR), "clicks", &options()).await.unwrap();
    assert_ne!(stream.shard(), other.shard());
    assert_eq!(open(&one.killed()).await.shard(), stream.shard());
    assert_eq!(shard_of(&ground, Path::new(DIR)).unwrap().as_ref(), Some(other.shard()));
    assert!(shard_of(&ground, Path::new("elsewhere")).unwrap().is_none());
    assert!(stream.source("r").open(other.shard(), None).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_producers_on_a_real_disk_with_two_threads() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 256 << 10, ..options() };
    let open = async || Stream::open(&Ground::real(), dir.path(), "clicks", &options).await.unwrap();
    let stream = open().await;
    assert!(RealDisk.list_names(dir.path()).contains(&"identity".to_owned()));
    let producers = (0..16).map(|producer| {
        let stream = stream.clone();
        tokio::spawn(async move {
            for n in 0..40 {
                append(&stream, &[&format!("{producer} {n} {}", "x".repeat(2000))]).await.unwrap();
            }
        })
    });
    join_all(producers).await.into_iter().for_each(|done| done.unwrap());
    let read = all(&stream).await;
    stream.stop().await;
    assert_eq!(read.len(), 640);
    for producer in 0..16 {
        let mine = read.iter().filter_map(|(_, text)| text.strip_prefix(&format!("{producer} ")));
        assert!(mine.enumerate().all(|(n, text)| text.starts_with(&format!("{n} "))), "in the order of the answers");
    }
    assert_eq!(all(&open().await).await, read);
}

trait ListNames {
    fn list_names(&self, dir: &Path) -> Vec<String>;
}

impl ListNames for RealDisk {
    fn list_names(&self, dir: &Path) -> Vec<String> {
        hydrant::disk::Disk::list(self, dir).unwrap().into_iter().map(|(name, _)| name).collect()
    }
}

#[tokio::test]
async fn retries_that_might_come_never_make_producers_wait() {
    let disk = MemDisk::new();
    let options = Options { segment_bytes: 4 << 10, spool_bytes_max: 16 << 10, ..options() };
    let stream = open_with(&disk, &options).await;
    let source = stream.source("only");
    for key in 0..200 {
        let appended = append_once(&stream, key, &"x".repeat(500)).await.expect("what is delivered makes room");
        source.release(stream.shard(), &Position::from(appended.first + 1)).await.unwrap();
    }
    assert!(stream.stats().bytes <= options.spool_bytes_max);
    assert!(stream.stats().oldest > 100, "what only retries would need went first");
    let again = append_once(&stream, 0, &"x".repeat(500)).await.unwrap();
    assert_eq!(again.first, 0, "this process still knows the call");
}
