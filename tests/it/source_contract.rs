//! What every source promises, as one suite that runs over each of them.
//!
//! Another source joins with one [`Case`] and one test that hands it to [`keeps_the_contract`].

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use futures::FutureExt;
use hydrant::budget::Budget;
use hydrant::error::Fault;
use hydrant::ground::Ground;
use hydrant::position::{Position, Shard};
use hydrant::record::BatchBuilder;
use hydrant::source::demo::{self, DemoSource};
use hydrant::source::file::{self, FileSource};
use hydrant::source::gather::Gather;
use hydrant::source::{Reader, Source};
use hydrant::spool::{self, Append, Stream};
use tempfile::TempDir;

/// A source with known content that ends.
#[async_trait]
pub trait Case: Sync {
    /// Opens the source; called again, it is the same one after a restart.
    async fn open(&self) -> Box<dyn Source>;

    /// The records of each shard, in the order in which the shards are given out. Enough for several reads each.
    async fn expected(&self) -> Vec<Vec<Vec<u8>>>;
}

/// Runs the suite.
pub async fn keeps_the_contract(case: &dyn Case) {
    let expected = case.expected().await;
    let shards = gives_each_shard_once_and_the_same_after_a_restart(case, expected.len()).await;
    for (shard, records) in shards.iter().zip(&expected) {
        let ends = reads_all_in_order_and_ends(case, shard, records).await;
        reads_the_same_again_from_every_position(case, shard, records, &ends).await;
        loses_nothing_to_cancelled_reads(case, shard, records).await;
        release_twice_is_release_once(case, shard, records, &ends).await;
    }
}

async fn gives_each_shard_once_and_the_same_after_a_restart(case: &dyn Case, count: usize) -> Vec<Shard> {
    let mut runs = Vec::new();
    for _ in 0..3 {
        let shards = all_shards(&*case.open().await).await;
        let mut distinct = shards.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!((shards.len(), distinct.len()), (count, count), "each shard once");
        runs.push(shards);
    }
    assert!(runs.iter().all(|run| *run == runs[0]), "a restart gives the same shards: {runs:?}");
    runs.swap_remove(0)
}

/// Answers the position behind each read, with the number of records before it.
async fn reads_all_in_order_and_ends(case: &dyn Case, shard: &Shard, records: &[Vec<u8>]) -> Vec<(Position, usize)> {
    let (_source, mut reader) = open(case, shard, None).await;
    let mut ends = vec![(reader.position(), 0)];
    let mut all = Vec::new();
    while let Some(read) = reader.next().await.unwrap() {
        let before = &ends.last().unwrap().0;
        assert!(read.end > *before, "positions ascend strictly: {} after {before}", read.end);
        assert_eq!(reader.position(), read.end);
        assert!(reader.tail() >= read.end, "the tail is not before the position");
        let times: Vec<i64> = (0..read.batch.len()).map(|index| read.batch.arrival_ms(index)).collect();
        assert!(times.is_sorted() && times.iter().all(|ms| *ms > 1_500_000_000_000), "arrival times are times");
        all.extend(read.batch.payloads().map(<[u8]>::to_vec));
        ends.push((read.end, all.len()));
    }
    assert!(all == *records, "all records in order: {} of {}", all.len(), records.len());
    assert!(ends.len() > 3, "the case is large enough to be read in several steps");
    assert!(reader.next().await.unwrap().is_none(), "the end stays the end");
    ends
}

async fn reads_the_same_again_from_every_position(
    case: &dyn Case,
    shard: &Shard,
    records: &[Vec<u8>],
    ends: &[(Position, usize)],
) {
    for (position, before) in ends {
        let (_source, mut reader) = open(case, shard, Some(position)).await;
        assert_eq!(reader.position(), *position);
        let rest = all_records(&mut *reader).await;
        assert!(rest == records[*before..], "from {position}: {} of {}", rest.len(), records.len() - before);
    }
}

async fn loses_nothing_to_cancelled_reads(case: &dyn Case, shard: &Shard, records: &[Vec<u8>]) {
    let (_source, mut reader) = open(case, shard, None).await;
    let mut all = Vec::new();
    loop {
        let position = reader.position();
        let read = match reader.next().now_or_never() {
            Some(read) => read,
            None => {
                assert_eq!(reader.position(), position, "a cancelled read has not moved the position");
                reader.next().await
            }
        };
        let Some(read) = read.unwrap() else { break };
        all.extend(read.batch.payloads().map(<[u8]>::to_vec));
    }
    assert!(all == *records, "nothing lost, nothing twice: {} of {}", all.len(), records.len());
}

async fn release_twice_is_release_once(
    case: &dyn Case,
    shard: &Shard,
    records: &[Vec<u8>],
    ends: &[(Position, usize)],
) {
    let (source, mut reader) = open(case, shard, None).await;
    let (position, before) = &ends[1];
    let mut all = Vec::new();
    while reader.position() < *position {
        let read = reader.next().await.unwrap().unwrap();
        all.extend(read.batch.payloads().map(<[u8]>::to_vec));
    }
    source.release(shard, position).await.unwrap();
    source.release(shard, position).await.unwrap();
    all.extend(all_records(&mut *reader).await);
    assert!(all == *records, "an open reader reads on: {} of {}", all.len(), records.len());
    drop((source, reader));
    let (_source, mut reader) = open(case, shard, Some(position)).await;
    assert!(all_records(&mut *reader).await == records[*before..], "what was not released is there");
}

async fn open(case: &dyn Case, shard: &Shard, from: Option<&Position>) -> (Box<dyn Source>, Box<dyn Reader>) {
    let source = case.open().await;
    assert!(all_shards(&*source).await.contains(shard));
    let reader = source.open(shard, from).await.unwrap();
    (source, reader)
}

async fn all_shards(source: &dyn Source) -> Vec<Shard> {
    let mut shards = Vec::new();
    while let Some(shard) = source.next_shard().await.unwrap() {
        shards.push(shard);
    }
    shards
}

async fn all_records(reader: &mut dyn Reader) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(read) = reader.next().await.unwrap() {
        records.extend(read.batch.payloads().map(<[u8]>::to_vec));
    }
    records
}

/// Two files in some packing.
struct Files {
    dir: TempDir,
    contents: Vec<Vec<Vec<u8>>>,
}

impl Files {
    fn new(extension: &str, pack: impl Fn(&[u8]) -> Vec<u8>) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let mut contents = Vec::new();
        for name in ["a", "b"] {
            let line = |n: u32| format!("{name} {n} {}", "x".repeat((n as usize * 37) % 700)).into_bytes();
            let lines: Vec<Vec<u8>> = (0..12_000).map(line).collect();
            let mut text = lines.join(&b'\n');
            text.push(b'\n');
            fs::write(dir.path().join(format!("{name}{extension}")), pack(&text)).unwrap();
            contents.push(lines);
        }
        Files { dir, contents }
    }
}

#[async_trait]
impl Case for Files {
    async fn open(&self) -> Box<dyn Source> {
        let options = file_options(vec![self.dir.path().join("?.*")]);
        Box::new(FileSource::open(&Ground::real(), &self.dir.path().join("state"), &options, true).unwrap())
    }

    async fn expected(&self) -> Vec<Vec<Vec<u8>>> {
        self.contents.clone()
    }
}

/// File options that follow these globs from the beginning.
pub fn file_options(globs: Vec<PathBuf>) -> file::Options {
    file::Options {
        path: globs.iter().map(|glob| glob.to_str().unwrap().to_owned()).collect(),
        exclude: vec![],
        start: file::Start::Beginning,
        follow: true,
        line_bytes_max: 1 << 20,
    }
}

/// A gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Packs in three pieces, which need not end with lines: several gzip members, several zstd frames.
fn in_pieces(pack: impl Fn(&[u8]) -> Vec<u8>) -> impl Fn(&[u8]) -> Vec<u8> {
    move |bytes| bytes.chunks(bytes.len() / 3 + 1).flat_map(&pack).collect()
}

struct Demo {
    dir: TempDir,
}

#[async_trait]
impl Case for Demo {
    async fn open(&self) -> Box<dyn Source> {
        let options = demo::Options { rate: 0, records: Some(20_000), seed: 7 };
        Box::new(DemoSource::open(&Ground::real(), self.dir.path(), &options, true).unwrap())
    }

    /// Only the source knows: its first reading is the word that all others must keep, and repeats no record.
    async fn expected(&self) -> Vec<Vec<Vec<u8>>> {
        let source = self.open().await;
        let shard = source.next_shard().await.unwrap().unwrap();
        let records = all_records(&mut *source.open(&shard, None).await.unwrap()).await;
        let distinct: std::collections::HashSet<&Vec<u8>> = records.iter().collect();
        assert_eq!((records.len(), distinct.len()), (20_000, 20_000));
        vec![records]
    }
}

/// A stream that was fed and is told that no more will come; the spool has several segments.
struct Spooled {
    dir: TempDir,
    records: Vec<Vec<u8>>,
}

impl Spooled {
    async fn fed() -> Spooled {
        let mut spooled = Spooled { dir: tempfile::tempdir().unwrap(), records: Vec::new() };
        let stream = spooled.stream().await;
        for request in 0..60u32 {
            let mut records: Vec<Vec<u8>> = (0..150u32)
                .map(|n| format!("{request} {n} {}", "x".repeat((n as usize * 37) % 700)).into_bytes())
                .collect();
            records.push(Vec::new());
            if request == 30 {
                records.push(vec![b'y'; 3 << 20]); // larger than a read, and than a segment
            }
            append(&stream, &records).await;
            spooled.records.extend(records);
        }
        stream.stop().await;
        spooled
    }

    async fn stream(&self) -> Stream {
        let options = spool::Options { segment_bytes: 2 << 20, free_bytes_min: 0, ..spool::Options::default() };
        Stream::open(&Ground::real(), &self.dir.path().join("stream"), "clicks", &options).await.unwrap()
    }
}

async fn append(stream: &Stream, records: &[Vec<u8>]) {
    let mut batch = BatchBuilder::default();
    let now_ms = Ground::real().clock.now_ms();
    records.iter().for_each(|record| batch.push(record, now_ms));
    stream.append(Append { records: batch.finish(), once: None }).await.unwrap();
}

#[async_trait]
impl Case for Spooled {
    async fn open(&self) -> Box<dyn Source> {
        let stream = self.stream().await;
        stream.end();
        // Its writer is gone before another process of this test may open the folder.
        stream.stop().await;
        Box::new(stream.source("case"))
    }

    async fn expected(&self) -> Vec<Vec<Vec<u8>>> {
        vec![self.records.clone()]
    }
}

/// Another case, read by readers that gather.
struct Gathered<C> {
    case: C,
    gather: Gather,
}

struct GatheredSource {
    source: Box<dyn Source>,
    gather: Gather,
}

#[async_trait]
impl<C: Case> Case for Gathered<C> {
    async fn open(&self) -> Box<dyn Source> {
        Box::new(GatheredSource { source: self.case.open().await, gather: self.gather })
    }

    async fn expected(&self) -> Vec<Vec<Vec<u8>>> {
        self.case.expected().await
    }
}

#[async_trait]
impl Source for GatheredSource {
    async fn next_shard(&self) -> Result<Option<Shard>, Fault> {
        self.source.next_shard().await
    }

    async fn open(&self, shard: &Shard, from: Option<&Position>) -> Result<Box<dyn Reader>, Fault> {
        Ok(self.gather.reader(self.source.open(shard, from).await?, Budget::new(usize::MAX).hold(), false))
    }

    async fn release(&self, shard: &Shard, upto: &Position) -> Result<(), Fault> {
        self.source.release(shard, upto).await
    }
}

/// Several reads become one, and there are several of those; the interval is longer than any story.
const GATHER: Gather =
    Gather { size_bytes: 1 << 20, size_bytes_most: 1_300_000, interval: std::time::Duration::from_secs(3600) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gathers_keeps_the_contract() {
    keeps_the_contract(&Gathered { case: Spooled::fed().await, gather: GATHER }).await;
    keeps_the_contract(&Gathered { case: Demo { dir: tempfile::tempdir().unwrap() }, gather: GATHER }).await;
    let each_read = Gather { size_bytes: 1, size_bytes_most: 1, ..GATHER };
    keeps_the_contract(&Gathered { case: Files::new(".log", <[u8]>::to_vec), gather: each_read }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_spool_keeps_the_contract() {
    keeps_the_contract(&Spooled::fed().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_only_when_it_is_told_to() {
    let spooled = Spooled { dir: tempfile::tempdir().unwrap(), records: Vec::new() };
    let stream = spooled.stream().await;
    let mut reader = stream.source("case").open(stream.shard(), None).await.unwrap();
    let records = [b"one".to_vec(), b"two".to_vec()];
    for round in 1..=2 {
        assert!(reader.next().now_or_never().is_none(), "it waits for more");
        append(&stream, &records).await;
        let read = reader.next().await.unwrap().unwrap();
        assert_eq!(read.batch.payloads().map(<[u8]>::to_vec).collect::<Vec<_>>(), records);
        assert_eq!(read.end, Position::from(2 * round));
    }
    assert!(reader.next().now_or_never().is_none());
    stream.end();
    assert!(reader.next().await.unwrap().is_none(), "it has ended");
}

#[tokio::test]
async fn plain_files_keep_the_contract() {
    keeps_the_contract(&Files::new(".log", <[u8]>::to_vec)).await;
}

#[tokio::test]
async fn gzip_files_keep_the_contract() {
    keeps_the_contract(&Files::new(".log.gz", in_pieces(gzip))).await;
}

#[tokio::test]
async fn zstd_files_keep_the_contract() {
    keeps_the_contract(&Files::new(".zst", in_pieces(|bytes| zstd::encode_all(bytes, 1).unwrap()))).await;
}

#[tokio::test]
async fn the_demo_keeps_the_contract() {
    keeps_the_contract(&Demo { dir: tempfile::tempdir().unwrap() }).await;
}

#[tokio::test]
async fn the_demo_reads_on_from_any_record() {
    let demo = Demo { dir: tempfile::tempdir().unwrap() };
    let records = demo.expected().await.swap_remove(0);
    let shard = all_shards(&*demo.open().await).await.swap_remove(0);
    for from in [1, 1234, 19_999, 20_000] {
        let (_source, mut reader) = open(&demo, &shard, Some(&Position::from(from))).await;
        assert!(all_records(&mut *reader).await == records[from as usize..], "from {from}");
    }
}

#[tokio::test]
async fn the_demo_in_a_new_folder_is_another_log_with_the_same_kind_of_records() {
    let (one, other) = (Demo { dir: tempfile::tempdir().unwrap() }, Demo { dir: tempfile::tempdir().unwrap() });
    let shards = [all_shards(&*one.open().await).await, all_shards(&*other.open().await).await];
    assert_ne!(shards[0], shards[1]);
    let endless = demo::Options { rate: 10, records: None, seed: 7 };
    let fault = DemoSource::open(&Ground::real(), one.dir.path(), &endless, true).err().unwrap();
    assert_eq!(fault.to_string(), "demo source: it would never end: give the number of `records`");
}

#[tokio::test]
async fn a_demo_is_never_faster_than_its_rate() {
    let dir = tempfile::tempdir().unwrap();
    let options = demo::Options { rate: 500, records: Some(100), seed: 1 };
    let source = DemoSource::open(&Ground::real(), dir.path(), &options, true).unwrap();
    let shard = source.next_shard().await.unwrap().unwrap();
    let began = tokio::time::Instant::now();
    let mut reader = source.open(&shard, None).await.unwrap();
    assert_eq!(all_records(&mut *reader).await.len(), 100);
    // The last record is due 99 / 500 seconds after the first: never earlier, however fast or slow the machine.
    assert!(began.elapsed().as_millis() >= 198, "{:?}", began.elapsed());
}
