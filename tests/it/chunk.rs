//! Chunks with many prefixes: right-sized objects, bounded memory, and every record in one object, in order.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hydrant::budget::Budget;
use hydrant::chunk::{CLOSED_MAX, Chunk, Cut, Limits, Recipe};
use hydrant::encode::{About, Encoder, Format, Options};
use hydrant::error::{Reason, RejectedBy};
use hydrant::ground::Ground;
use hydrant::metrics::Metrics;
use hydrant::naming::{ErrorPrefix, ObjectName, PartitionKeys, Prefix, TimeZone};
use hydrant::outbox::{Outbox, Sealed};
use hydrant::position::{Position, Shard};
use hydrant::record::{Batch, BatchBuilder};
use hydrant::transform::Transformed;

/// What a chunk stands on, in a folder of its own.
struct House {
    dir: tempfile::TempDir,
    ground: Ground,
    outbox: Outbox,
    budget: Budget,
    recipe: Arc<Recipe>,
}

impl House {
    fn new(format: &str, prefix: &str, size_bytes: u64, budget_bytes: usize) -> House {
        let format: Options = serde_saphyr::from_str(format).unwrap();
        House::of(format.build().unwrap(), prefix, size_bytes, budget_bytes)
    }

    fn of(format: Arc<dyn Format>, prefix: &str, size_bytes: u64, budget_bytes: usize) -> House {
        let (dir, ground) = (tempfile::tempdir().unwrap(), Ground::real());
        let outbox = Outbox::open(&ground, dir.path()).unwrap();
        let keys = PartitionKeys::default();
        let recipe = Recipe {
            pipeline: "many".into(),
            format,
            prefix: Prefix::parse(prefix, &TimeZone::UTC, &keys).unwrap(),
            error_prefix: ErrorPrefix::parse("errors/{reason}/", &TimeZone::UTC).unwrap(),
            sink: "file:///nowhere".into(),
            limits: Limits { size_bytes, interval: Duration::from_secs(3600), aligned: None },
        };
        House { dir, ground, outbox, budget: Budget::new(budget_bytes), recipe: Arc::new(recipe) }
    }

    fn open(&self) -> Chunk {
        let metrics = Metrics::new().pipeline("many");
        let (shard, start) = (Shard::new("5ea1").unwrap(), Position::from(0));
        Chunk::open(&self.recipe, &self.outbox, &self.ground, &self.budget, &metrics, (&shard, &start)).unwrap()
    }
}

/// Records as they went in: for each prefix its numbers, in order.
type Expected = BTreeMap<u64, Vec<u64>>;

/// Batches of about 100 KB with `records` records over `prefixes` prefixes, prefix k as often as 1/k.
fn batches(records: u64, prefixes: u64, mut each: impl FnMut(Batch, Position)) -> Expected {
    let (mut expected, mut seed) = (Expected::new(), 9u64);
    let mut builder = BatchBuilder::default();
    for number in 0..records {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = (seed >> 11) as f64 / (1u64 << 53) as f64;
        let prefix = ((prefixes as f64).powf(dice) as u64).min(prefixes - 1);
        let noise = seed ^ (seed >> 29);
        let payload =
            format!("{{\"p\":{prefix},\"n\":{number},\"noise\":\"{noise:016x}\",\"same\":\"same same same\"}}");
        builder.push(payload.as_bytes(), 0);
        expected.entry(prefix).or_default().push(number);
        if number % 1500 == 1499 || number + 1 == records {
            each(std::mem::take(&mut builder).finish(), Position::from(number + 1));
        }
    }
    expected
}

/// The numbers in the objects, by prefix in the order of names, and the sizes of each prefix's objects.
fn delivered(sealed: &Sealed) -> (Expected, BTreeMap<u64, Vec<u64>>) {
    let (mut found, mut sizes) = (Expected::new(), BTreeMap::<u64, Vec<u64>>::new());
    let mut objects: Vec<_> = sealed.objects().iter().collect();
    objects.sort_by_key(|object| ObjectName::parse(&object.name).unwrap().part);
    for object in objects {
        let name = ObjectName::parse(&object.name).unwrap();
        let prefix = name.prefix.trim_start_matches("p=").trim_end_matches('/').parse().unwrap();
        let bytes = sealed.read(object, 0, object.len as usize).unwrap();
        let lines = match name.extension.as_str() {
            ".ndjson.zst" => zstd::stream::decode_all(&*bytes).unwrap(),
            _ => bytes.to_vec(),
        };
        let mut rows = 0;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!(value["p"].as_u64().unwrap(), prefix, "in the object of its prefix");
            found.entry(prefix).or_default().push(value["n"].as_u64().unwrap());
            rows += 1;
        }
        assert_eq!(object.rows, rows);
        sizes.entry(prefix).or_default().push(object.len);
    }
    (found, sizes)
}

fn push(chunk: &mut Chunk, batch: Batch, end: Position) {
    chunk.push(Transformed { batch, ..Transformed::default() }, end).unwrap();
}

#[test]
fn unequal_prefixes_make_objects_of_the_right_size_and_only_the_interval_makes_small_ones() {
    for format in ["lines: {}", "lines: { compression: zstd }"] {
        const SIZE: u64 = 64 << 10;
        let house = House::new(format, "p={p}/", SIZE, 64 << 20);
        let mut chunk = house.open();
        let expected = batches(300_000, 1000, |batch, end| {
            push(&mut chunk, batch, end);
            assert_eq!(chunk.due(), None, "{format}: a full object does not cut those that are small");
        });
        let sealed = chunk.finish().unwrap().seal().unwrap();
        let (found, sizes) = delivered(&sealed);
        assert_eq!(found, expected);
        let closed_by_size: Vec<u64> =
            sizes.values().flat_map(|of_prefix| &of_prefix[..of_prefix.len() - 1]).copied().collect();
        assert!(closed_by_size.len() > 10, "{}", closed_by_size.len());
        let right = |len: &&u64| (SIZE * 85 / 100..=SIZE * 115 / 100).contains(*len);
        let wrong: Vec<_> = closed_by_size.iter().filter(|len| !right(len)).collect();
        assert!(wrong.len() * 100 <= closed_by_size.len(), "{format}: {wrong:?} of {}", closed_by_size.len());
    }
}

#[test]
fn prefixes_that_are_equal_are_cut_when_the_first_is_full() {
    let house = House::new("lines: {}", "p={p}/", 100_000, 64 << 20);
    let mut chunk = house.open();
    let mut end = 0;
    while chunk.due().is_none() {
        let mut builder = BatchBuilder::default();
        (0..1000).for_each(|row| builder.push(format!("{{\"p\":{},\"n\":{row}}}", row % 3).as_bytes(), 0));
        end += 1000;
        push(&mut chunk, builder.finish(), Position::from(end));
    }
    assert_eq!(chunk.due(), Some(Cut::Size));
    let sealed = chunk.finish().unwrap().seal().unwrap();
    assert!(sealed.objects().iter().all(|object| object.len >= 25_000), "and no other one was small");
}

#[test]
fn tiny_objects_cut_a_chunk_before_its_index_is_too_large() {
    let house = House::new("lines: {}", "p={p}/", 60, 64 << 20);
    let mut chunk = house.open();
    let (mut end, mut small) = (0, BatchBuilder::default());
    small.push(b"{\"p\":2}", 0);
    push(&mut chunk, small.finish(), Position::from(1));
    while chunk.due().is_none() {
        let mut builder = BatchBuilder::default();
        (0..1000).for_each(|row| builder.push(format!("{{\"p\":1,\"n\":\"{row:060}\"}}").as_bytes(), 0));
        end += 1000;
        push(&mut chunk, builder.finish(), Position::from(end + 1));
        assert!(end <= 10 * CLOSED_MAX as u64, "never due");
    }
    assert_eq!(chunk.due(), Some(Cut::Memory));
    let sealed = chunk.finish().unwrap().seal().unwrap();
    assert!((CLOSED_MAX..CLOSED_MAX + 2000).contains(&sealed.objects().len()), "{}", sealed.objects().len());
}

#[test]
fn parked_records_go_to_the_disk_when_memory_is_short_and_come_back_once() {
    let house = House::new("lines: {}", "p={p}/", 1 << 30, 16 << 20);
    let mut chunk = house.open();
    let (mut most, mut parked) = (0, false);
    let expected = batches(400_000, 3000, |batch, end| {
        push(&mut chunk, batch, end);
        assert_eq!(chunk.due(), None);
        most = most.max(house.budget.in_use().encoders);
        parked |= std::fs::read_dir(house.dir.path()).unwrap().count() > 1;
    });
    assert!(parked, "32 MB did not fit");
    assert!(most <= 9 << 20, "held {most} of 8 MiB");
    let sealed = chunk.finish().unwrap().seal().unwrap();
    assert_eq!(delivered(&sealed).0, expected);
    let left: Vec<_> = std::fs::read_dir(house.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1, "only the promise is left: {left:?}");
}

#[test]
fn row_groups_go_to_the_disk_when_memory_is_short() {
    let yaml = "parquet: { compression: none, schema: { p: long, n: long, noise: string, same: string } }";
    let house = House::new(yaml, "all/", 1 << 30, 8 << 20);
    let mut chunk = house.open();
    let mut most = 0;
    batches(400_000, 3, |batch, end| {
        push(&mut chunk, batch, end);
        assert_eq!(chunk.due(), None);
        most = most.max(house.budget.in_use().encoders);
    });
    assert!(most <= 6 << 20, "held {most} of 4 MiB");
    let sealed = chunk.finish().unwrap().seal().unwrap();
    let [object] = sealed.objects() else { panic!("one object") };
    let bytes = sealed.read(object, 0, object.len as usize).unwrap();
    let file = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    assert_eq!(file.metadata().file_metadata().num_rows(), 400_000);
    assert!(file.metadata().num_row_groups() > 1);
}

#[test]
fn a_record_that_was_parked_and_cannot_be_encoded_is_set_aside_alone() {
    let yaml = "parquet: { schema: { p: long, n: long } }";
    let house = House::new(yaml, "p={p}/", 1 << 30, 64 << 20);
    let mut chunk = house.open();
    let mut builder = BatchBuilder::default();
    for (p, n) in [(1, "1"), (2, "2"), (1, "\"no number\""), (2, "3"), (3, "[]")] {
        builder.push(format!("{{\"p\":{p},\"n\":{n}}}").as_bytes(), 7);
    }
    push(&mut chunk, builder.finish(), Position::from(5));
    let sealed = chunk.finish().unwrap().seal().unwrap();
    let rows: BTreeMap<&str, u64> =
        sealed.objects().iter().map(|o| (o.name.split_once('/').unwrap().0, o.rows)).collect();
    assert_eq!(rows, BTreeMap::from([("errors", 2), ("p=1", 1), ("p=2", 2)]), "and p=3 has no object");
    let errors = sealed.objects().iter().find(|object| object.name.starts_with("errors/")).unwrap();
    let text = sealed.read(errors, 0, errors.len as usize).unwrap();
    let line = String::from_utf8(text.to_vec()).unwrap();
    assert!(line.contains("\"arrivalTimestamp\":7,") && line.contains("column n"), "{line}");
}

#[test]
fn a_record_without_payload_is_a_record() {
    for (format, line) in [("lines: {}", Some("\n")), ("parquet: { schema: { p: long } }", None)] {
        let house = House::new(format, "dt={arrival:%Y}/", 1 << 30, 64 << 20);
        let mut chunk = house.open();
        let mut builder = BatchBuilder::default();
        builder.push(b"", 0);
        push(&mut chunk, builder.finish(), Position::from(1));
        let sealed = chunk.finish().unwrap().seal().unwrap();
        let [object] = sealed.objects() else { panic!("one object, of the record or of the error") };
        let bytes = sealed.read(object, 0, object.len as usize).unwrap();
        assert_eq!(object.name.starts_with("errors/"), line.is_none());
        assert!(line.is_none_or(|line| bytes == line.as_bytes()));
    }
}

/// Lines whose first version takes no record with a `!`, and which learns to from the first it has refused.
#[derive(Default)]
struct Learner {
    version: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Format for Learner {
    fn encoder(&self) -> Box<dyn Encoder> {
        let version = self.version.load(Ordering::Relaxed);
        Box::new(LearnersLines { version, refused: self.refused.clone(), lines: Vec::new(), rows: 0 })
    }

    fn learn(&self, _batch: &Batch) -> io::Result<()> {
        self.version.store(self.refused.load(Ordering::Relaxed).min(1), Ordering::Relaxed);
        Ok(())
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    fn extension(&self) -> &str {
        ".ndjson"
    }
}

struct LearnersLines {
    version: u64,
    refused: Arc<AtomicU64>,
    lines: Vec<u8>,
    rows: u64,
}

impl Encoder for LearnersLines {
    fn push(&mut self, batch: &Batch, rows: &[u32], _out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>> {
        let mut refused = Vec::new();
        for row in rows {
            let payload = batch.payload(*row as usize);
            if self.version == 0 && payload.contains(&b'!') {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let reason = Reason { by: RejectedBy::Format, code: "Test.Old", message: String::new() };
                refused.push((*row, reason));
                continue;
            }
            self.lines.extend([payload, b"\n"].concat());
            self.rows += 1;
        }
        Ok(refused)
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn size(&self) -> u64 {
        self.lines.len() as u64
    }

    fn memory(&self) -> usize {
        self.lines.len()
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&std::mem::take(&mut self.lines))
    }

    fn finish(mut self: Box<Self>, _about: &About, out: &mut dyn Write) -> io::Result<()> {
        self.flush(out)
    }
}

#[test]
fn a_new_version_in_the_middle_of_a_batch_forgets_no_record_of_any_prefix() {
    let house = House::of(Arc::new(Learner::default()), "p={p}/", 20_000, 64 << 20);
    let mut chunk = house.open();
    let mut expected = Expected::new();
    let mut number = 0;
    let mut push_batch = |chunk: &mut Chunk, records: &[(u64, &str, usize)]| {
        let mut builder = BatchBuilder::default();
        for (prefix, mark, times) in records {
            for _ in 0..*times {
                builder.push(format!("{{\"p\":{prefix},\"n\":{number},\"mark\":\"{mark}\"}}").as_bytes(), 0);
                expected.entry(*prefix).or_default().push(number);
                number += 1;
            }
        }
        push(chunk, builder.finish(), Position::from(number));
    };
    // Small ones keep the chunk open; then prefix 1 is being made, has a row of a batch, and prefix 2 changes the version.
    push_batch(&mut chunk, &[(3, "", 1), (1, "", 3500)]);
    push_batch(&mut chunk, &[(1, "", 1), (2, "!", 3500), (1, "", 2), (4, "!", 1)]);
    push_batch(&mut chunk, &[(1, "", 1), (5, "!", 1)]);
    let sealed = chunk.finish().unwrap().seal().unwrap();
    assert!(sealed.objects().iter().all(|object| object.name.starts_with("p=")), "none was set aside");
    let (mut found, _) = delivered(&sealed);
    found.values_mut().for_each(|numbers| numbers.sort_unstable());
    assert_eq!(found, expected);
}
