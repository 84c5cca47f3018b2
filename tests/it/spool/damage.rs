//! What the spool makes of a disk that forgot, tore or changed bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use futures::future::join_all;
use hydrant::error::{Blame, Fault};
use hydrant::spool::{OnCorruption, Options, Stream};
use proptest::prelude::*;

use super::disk::MemDisk;
use super::{DIR, all, append, append_once, numbered, open, open_with, options, reader, rest};

const SKIP: OnCorruption = OnCorruption::Skip;

/// One segment of four groups, the third of two requests; the last group begins with record 5.
async fn four_groups() -> (MemDisk, PathBuf, Vec<(u64, String)>) {
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    append(&stream, &["first", ""]).await.unwrap();
    append_once(&stream, 1, "second").await.unwrap();
    let both = join_all([append(&stream, &["third"]), append(&stream, &["of two"])]).await;
    assert!(both.iter().all(Result::is_ok));
    append(&stream, &["fourth"]).await.unwrap();
    let path = disk.names(".log").remove(0);
    (disk.killed(), path, numbered(&["first", "", "second", "third", "of two", "fourth"]))
}

/// Records before this number are known to be durable by the hint of the last group.
const KNOWN: usize = 5;

async fn try_open(disk: &MemDisk, options: &Options) -> Result<Stream, Fault> {
    let ground = disk.ground(500, &Arc::new(AtomicI64::new(1000)));
    Stream::open(&ground, Path::new(DIR), "clicks", options).await
}

/// Reads all, or gives the fault that stood in the way.
async fn try_all(stream: &Stream) -> Result<Vec<(u64, String)>, Fault> {
    let mut reader = reader(stream, "all", None).await;
    let mut records = Vec::new();
    while reader.position() < reader.tail() {
        let before = reader.position();
        let Some(read) = reader.next().await? else { break };
        assert!(read.end > before, "a read moves on");
        let first = read.end.as_u64().unwrap() - read.batch.len() as u64;
        let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
        records.extend((first..).zip(read.batch.payloads().map(text)));
    }
    Ok(records)
}

#[tokio::test]
async fn every_flipped_byte_is_told_or_touches_only_what_was_not_known_to_be_durable() {
    let (disk, path, expected) = four_groups().await;
    let (mut told, mut cut) = (0, 0);
    for at in 0..disk.bytes(&path).len() {
        let disk = disk.killed();
        disk.tamper(&path, |bytes| bytes[at] ^= 0x10);
        match try_open(&disk, &options()).await {
            Err(fault) => {
                assert_eq!(fault.blame, Blame::Disk);
                assert!(format!("{:#}", fault.error).contains(".log"), "{:#}", fault.error);
                told += 1;
            }
            Ok(stream) => {
                let read = all(&stream).await;
                assert!(read.len() >= KNOWN && expected.starts_with(&read), "byte {at}: {read:?}");
                cut += 1;
            }
        }
        let skipping = Options { on_corruption: SKIP, ..options() };
        let stream = try_open(&disk, &skipping).await.unwrap();
        let read = try_all(&stream).await.unwrap();
        assert!(read.iter().all(|record| expected.contains(record)), "byte {at}: {read:?}");
        let lost = expected[..KNOWN].iter().filter(|record| !read.contains(record)).count();
        assert!(lost == 0 || disk.quarantined() > 0, "byte {at}: {lost} records lost in silence");
        let next = append(&stream, &["next"]).await.unwrap().first;
        assert!(next >= KNOWN as u64, "byte {at}: number {next} was given out before");
        // The decision stands: the next start does not stop at the same damage.
        let again = try_open(&disk.killed(), &options()).await.unwrap();
        let mut read = read;
        read.push((next, "next".to_owned()));
        assert_eq!(try_all(&again).await.unwrap(), read, "byte {at}");
    }
    assert!(told > 200 && cut > 50, "{told} told, {cut} cut");
}

#[tokio::test]
async fn a_file_cut_at_any_byte_gives_a_prefix_or_a_fault_where_more_is_known_to_be_durable() {
    let (disk, path, expected) = four_groups().await;
    let len = disk.bytes(&path).len();
    for known_durable in [0, 3, 6] {
        let options = Options { known_durable, ..options() };
        for cut in 0..len {
            let disk = disk.killed();
            disk.tamper(&path, |bytes| bytes.truncate(cut));
            match try_open(&disk, &options).await {
                Err(fault) => assert!(known_durable > 0 || cut < 64, "cut at {cut}: {fault}"),
                Ok(stream) => {
                    let read = all(&stream).await;
                    assert!(expected.starts_with(&read) && read.len() as u64 >= known_durable, "cut at {cut}");
                }
            }
        }
        let stream = try_open(&disk.killed(), &options).await.unwrap();
        assert_eq!(all(&stream).await, expected);
    }
}

#[tokio::test]
async fn the_last_group_is_copied_before_anyone_reads_it() {
    let (disk, path, expected) = four_groups().await;
    let stream = open(&disk).await;
    // The group was only in the dead process's page cache, and the power goes now.
    disk.tamper(&path, |bytes| {
        let last = bytes.windows(6).rposition(|window| window == b"fourth").unwrap();
        bytes[last - 68..].fill(0);
    });
    assert_eq!(all(&stream).await, expected);
    assert_eq!(all(&open(&disk.killed()).await).await, expected);
}

#[tokio::test]
async fn starts_without_traffic_leave_no_pile_of_segments() {
    let (disk, _, expected) = four_groups().await;
    let mut disk = disk;
    for _ in 0..5 {
        assert_eq!(all(&open(&disk).await).await, expected);
        disk = disk.killed();
    }
    assert_eq!(disk.names(".log").len(), 2, "the old one, and the one that holds the last group");
}

#[tokio::test]
async fn damage_in_a_closed_segment_is_found_when_it_is_read() {
    let disk = MemDisk::new();
    let small = Options { segment_bytes: 400, ..options() };
    let stream = open_with(&disk, &small).await;
    let payloads: Vec<String> = (0..20).map(|n| format!("record {n:04}")).collect();
    for payload in &payloads {
        append(&stream, &[payload]).await.unwrap();
    }
    let expected = numbered(&payloads.iter().map(String::as_str).collect::<Vec<_>>());
    let closed = disk.names(".log").swap_remove(1);
    // Behind the frames of a segment made in advance lie zeros that nobody looks at.
    let len = disk.bytes(&closed).iter().rposition(|byte| *byte != 0).unwrap();
    for at in (0..len).step_by(3) {
        let disk = disk.killed();
        disk.tamper(&closed, |bytes| bytes[at] ^= 1);
        let fault = match try_open(&disk, &small).await {
            Err(fault) => fault,
            Ok(stream) => {
                let fault = try_all(&stream).await.unwrap_err();
                assert_eq!(stream.failed().await.blame, Blame::Disk);
                fault
            }
        };
        let text = format!("{:#}", fault.error);
        let name = closed.file_name().unwrap().to_string_lossy().into_owned();
        assert!(fault.blame == Blame::Disk && text.contains(&name) && text.contains("are lost"), "{text}");

        let stream = try_open(&disk, &Options { on_corruption: SKIP, ..small.clone() }).await.unwrap();
        let read = try_all(&stream).await.unwrap();
        assert!(read.len() < 20 && read.len() >= 15 && read.iter().all(|record| expected.contains(record)));
        assert!(disk.quarantined() > 0);
        // Released, the damaged file is kept for whoever wants to look.
        let source = stream.source("all");
        let upto = stream.stats().durable.into();
        hydrant::source::Source::release(&source, stream.shard(), &upto).await.unwrap();
        let kept = disk.names(".log").len();
        assert!(kept == 1 && disk.quarantined() >= 2, "{kept} segments, {} in quarantine", disk.quarantined());
    }
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_can_still_be_read_and_drained() {
    let (disk, _, expected) = four_groups().await;
    disk.set_room(0);
    let stream = open(&disk).await;
    let mut reader = reader(&stream, "r", None).await;
    assert_eq!(rest(&mut *reader).await, expected[..KNOWN], "the rest may not be durable yet");
    assert!(append(&stream, &["more"]).await.is_err());
    disk.set_room(u64::MAX);
    append(&stream, &["more"]).await.unwrap();
    assert_eq!(rest(&mut *reader).await, [expected[KNOWN].clone(), (6, "more".to_owned())]);
}

#[tokio::test]
async fn a_spool_older_than_its_checkpoint_does_not_give_out_numbers_twice() {
    let (disk, _, _) = four_groups().await;
    let ahead = Options { known_durable: 9, ..options() };
    let fault = try_open(&disk, &ahead).await.err().unwrap();
    assert!(format!("{:#}", fault.error).contains("records 6..9"), "{:#}", fault.error);
    let stream = open(&disk).await;
    let from = hydrant::position::Position::from(9);
    let source = stream.source("r");
    let opened = hydrant::source::Source::open(&source, stream.shard(), Some(&from)).await;
    assert_eq!(opened.err().unwrap().blame, Blame::Disk);
    assert_eq!(stream.failed().await.blame, Blame::Disk);
}

#[tokio::test]
async fn a_group_that_was_read_in_part_was_durable_as_a_whole() {
    let disk = MemDisk::new();
    let stream = open(&disk).await;
    join_all([append(&stream, &["one"]), append(&stream, &["two"])]).await;
    let path = disk.names(".log").remove(0);
    let disk = disk.killed();
    disk.tamper(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let torn = open(&disk.killed()).await;
    assert_eq!(all(&torn).await, [], "nobody is known to have read it");
    let known = Options { known_durable: 1, ..options() };
    let fault = try_open(&disk, &known).await.err().unwrap();
    assert!(format!("{:#}", fault.error).contains("records 1..2"), "{:#}", fault.error);
    let stream = try_open(&disk, &Options { on_corruption: SKIP, ..known }).await.unwrap();
    assert_eq!(try_all(&stream).await.unwrap(), numbered(&["one"]));
    assert_eq!(append(&stream, &["three"]).await.unwrap().first, 2);
}

#[tokio::test]
async fn the_numbers_of_a_lost_segment_are_not_given_out_again_if_that_start_dies_too() {
    let (disk, path, _) = four_groups().await;
    disk.tamper(&path, |bytes| bytes[20] ^= 1);
    drop(try_open(&disk, &Options { on_corruption: SKIP, ..options() }).await.unwrap());
    // The gap was recorded, the new segment was not yet born.
    disk.lose(&disk.names(".log").remove(0));
    let stream = open(&disk).await;
    assert!(append(&stream, &["next"]).await.unwrap().first > KNOWN as u64);
    assert_eq!(all(&stream).await.len(), 1);
}

#[tokio::test]
async fn a_lost_identity_or_a_foreign_segment_is_never_taken_for_ours() {
    let (disk, path, _) = four_groups().await;
    let identity = Path::new(DIR).join("identity");
    for at in 0..disk.bytes(&identity).len() {
        let disk = disk.killed();
        disk.tamper(&identity, |bytes| bytes[at] ^= 1);
        assert!(try_open(&disk, &Options { on_corruption: SKIP, ..options() }).await.is_err());
    }
    let other = MemDisk::new();
    drop(try_open(&other, &options()).await.unwrap());
    let ours = other.names(".log").remove(0);
    let foreign = disk.bytes(&path);
    other.tamper(&ours, |bytes| *bytes = foreign);
    let fault = try_open(&other, &Options { on_corruption: SKIP, ..options() }).await.err().unwrap();
    assert!(format!("{:#}", fault.error).contains("segment of another stream"), "{:#}", fault.error);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Bytes torn out, zeroed or overwritten at random: never a panic or a hang, and what is read is what was written.
    #[test]
    fn wild_damage_never_panics_and_never_invents_records(
        wounds in proptest::collection::vec((0usize..700, 1usize..80, any::<u8>()), 1..5),
        cut in 64usize..1000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (disk, path, expected) = four_groups().await;
            disk.tamper(&path, |bytes| {
                for (start, len, with) in &wounds {
                    let end = (start + len).min(bytes.len());
                    bytes[(*start).min(end)..end].fill(*with);
                }
                bytes.truncate(cut);
            });
            for policy in [OnCorruption::Stop, SKIP] {
                let options = Options { on_corruption: policy, ..options() };
                if let Ok(stream) = try_open(&disk.killed(), &options).await
                    && let Ok(read) = try_all(&stream).await
                {
                    assert!(read.iter().all(|record| expected.contains(record)), "{read:?}");
                } else {
                    assert_eq!(policy, OnCorruption::Stop);
                }
            }
        });
    }
}
