//! Stories of files that are rotated, truncated, replaced and deleted under a reader.

use std::fs;
use std::io::Write;
use std::time::Duration;

use hydrant::error::Blame;
use hydrant::ground::Ground;
use hydrant::source::Source;
use hydrant::source::file::{FileSource, Pace};

use crate::file_house::{Follower, HURRY, House};

#[tokio::test]
async fn rename_rotation_under_a_writer_loses_nothing_and_repeats_nothing() {
    let house = House::new();
    let mut writer = house.append("app.log", "1\n2\n");
    let mut follower = house.follow("app.log");
    follower.until_records(&[&["1", "2"]]).await;
    fs::rename(house.path("app.log"), house.path("app.log.1")).unwrap();
    writer.write_all(b"3 after the rename\n4 without a newl").unwrap();
    house.append("app.log", "5 in the new file\n");
    follower.until(|logs| logs.len() == 2).await;
    writer.write_all(b"ine").unwrap();
    follower.until(|logs| logs[0].ended && logs[1].records.len() == 1).await;
    assert_eq!(follower.logs[0].records, ["1", "2", "3 after the rename", "4 without a newline"]);
    assert_eq!(follower.logs[1].records, ["5 in the new file"]);
    assert_eq!(follower.source.files_held(), 1, "the rotated file was let go");
}

#[tokio::test]
async fn a_rotated_file_is_not_ended_while_its_writer_may_still_write() {
    let house = House::new();
    let mut writer = house.append("app.log", "1\n");
    let patient = Pace { quiet_ms: 3_600_000, ..HURRY };
    let state = house.dir.path().join("state");
    let options = house.options("app.log");
    let source = FileSource::open_at_pace(&Ground::real(), &state, &options, false, patient).unwrap();
    let mut follower = Follower { source, logs: vec![], from: vec![] };
    follower.until_records(&[&["1"]]).await;
    writer.write_all(b"half ").unwrap();
    fs::rename(house.path("app.log"), house.path("app.log.1")).unwrap();
    house.append("app.log", "2\n");
    follower.until_records(&[&["1"], &["2"]]).await;
    let early = tokio::time::timeout(Duration::from_millis(50), follower.logs[0].reader.next()).await;
    assert!(early.is_err(), "ended while it is waited for: {early:?}");
    writer.write_all(b"and half\n").unwrap();
    follower.until_records(&[&["1", "half and half"], &["2"]]).await;
}

#[tokio::test]
async fn a_glob_that_also_matches_the_rotated_names_reads_no_file_twice() {
    let house = House::new();
    house.append("app.log", "a\n");
    let mut follower = house.follow("app.log*");
    for (round, line) in ["b", "c", "d"].iter().enumerate() {
        follower.until(|logs| logs.len() == round + 1 && logs[round].records.len() == 1).await;
        for old in (0..=round).rev() {
            let from = if old == 0 { "app.log".to_owned() } else { format!("app.log.{old}") };
            fs::rename(house.path(&from), house.path(&format!("app.log.{}", old + 1))).unwrap();
        }
        fs::hard_link(house.path("app.log.1"), house.path(&format!("app.log.link{round}"))).unwrap();
        house.append("app.log", format!("{line}\n"));
    }
    follower.until_records(&[&["a"], &["b"], &["c"], &["d"]]).await;
    house.append("app.log.3", "late\n");
    follower.until_records(&[&["a", "late"], &["b"], &["c"], &["d"]]).await;
    let mut follower = follower.restart(&house, "app.log*");
    house.append("app.log", "e\n");
    follower.until(|logs| logs.len() == 4 && logs.iter().any(|log| log.records == ["e"])).await;
    assert_eq!(follower.logs.iter().map(|log| log.records.len()).sum::<usize>(), 1, "nothing again after a restart");
}

#[tokio::test]
async fn a_file_rotated_while_no_process_ran_is_read_to_its_end() {
    let house = House::new();
    house.append("app.log", "1\n");
    let mut follower = house.follow("app.log");
    follower.until_records(&[&["1"]]).await;
    let old = follower.logs[0].shard.clone();
    house.append("app.log", "2\n3");
    fs::rename(house.path("app.log"), house.path("app-2026-11-20.log")).unwrap();
    house.append("app.log", "4\n");
    let mut follower = follower.restart(&house, "app.log");
    follower.until(|logs| logs.len() == 2 && logs.iter().any(|log| log.ended)).await;
    follower.until(|logs| logs.iter().all(|log| !log.records.is_empty())).await;
    let rotated = follower.logs.iter().position(|log| log.shard == old).unwrap();
    assert_eq!(follower.logs[rotated].records, ["2", "3"]);
    assert_eq!(follower.logs[1 - rotated].records, ["4"]);
}

#[tokio::test]
async fn a_deleted_file_is_read_to_its_end_and_forgotten_when_delivered() {
    let house = House::new();
    let mut writer = house.append("app.log", "1\n");
    let mut follower = house.follow("*.log");
    follower.until_records(&[&["1"]]).await;
    writer.write_all(b"2\n").unwrap();
    fs::remove_file(house.path("app.log")).unwrap();
    follower.until(|logs| logs[0].ended).await;
    assert_eq!(follower.logs[0].records, ["1", "2"]);
    let log = &follower.logs[0];
    assert!(house.registry().contains(log.shard.as_str()));
    follower.source.release(&log.shard, &log.reader.position()).await.unwrap();
    house.append("next.log", "3\n");
    follower.until_records(&[&["1", "2"], &["3"]]).await;
    assert!(!house.registry().contains(follower.logs[0].shard.as_str()), "{}", house.registry());
}

#[tokio::test]
async fn copytruncate_begins_a_new_shard_that_is_durable_before_it_is_given() {
    let house = House::new();
    let mut writer = house.append("app.log", "1\n2\n");
    let mut follower = house.follow("app.log");
    follower.until_records(&[&["1", "2"]]).await;
    fs::copy(house.path("app.log"), house.path("app.log.1")).unwrap();
    writer.set_len(0).unwrap();
    writer.write_all(b"3\n").unwrap();
    follower.until_records(&[&["1", "2"], &["3"]]).await;
    follower.until(|logs| logs[0].ended).await;
    assert_ne!(follower.logs[0].shard, follower.logs[1].shard);
    assert!(house.registry().contains(follower.logs[1].shard.as_str()));
    assert!(!house.registry().contains(follower.logs[0].shard.as_str()));
    let mut follower = follower.restart(&house, "app.log");
    writer.write_all(b"4\n").unwrap();
    follower.until_records(&[&["4"]]).await;
}

#[tokio::test]
async fn a_file_rewritten_past_our_position_between_two_looks_is_a_new_shard() {
    let house = House::new();
    let mut writer = house.append("app.log", "1\n2\n");
    let mut follower = house.follow("app.log");
    follower.until_records(&[&["1", "2"]]).await;
    writer.set_len(0).unwrap();
    writer.write_all(b"three\nfour\nfive\n").unwrap();
    follower.until_records(&[&["1", "2"], &["three", "four", "five"]]).await;
    follower.until(|logs| logs[0].ended).await;
}

#[tokio::test]
async fn a_file_cut_off_while_no_process_ran_is_a_new_shard_although_it_begins_the_same() {
    let house = House::new();
    let header = format!("#{}\n", "h".repeat(2000));
    let writer = house.append("app.log", format!("{header}1\n2\n"));
    let mut follower = house.follow("app.log");
    follower.until_records(&[&[header.trim_end(), "1", "2"]]).await;
    writer.set_len(header.len() as u64).unwrap();
    let mut follower = follower.restart(&house, "app.log");
    follower.until_records(&[&[], &[header.trim_end()]]).await;
    follower.until(|logs| logs[0].ended).await;
}

#[tokio::test]
async fn a_reused_inode_with_another_content_is_another_shard() {
    let house = House::new();
    house.append("app.log", "first life\n");
    let mut follower = house.follow("app.log");
    follower.until_records(&[&["first life"]]).await;
    let first = follower.logs[0].shard.clone();
    // As a file system does that hands out the inode again: same device, same inode, longer, another beginning.
    fs::write(house.path("app.log"), "second life, and longer\n").unwrap();
    let mut follower = follower.restart(&house, "app.log");
    follower.until_records(&[&["second life, and longer"]]).await;
    assert_ne!(follower.logs[0].shard, first);
}

#[tokio::test]
async fn a_growing_fingerprint_keeps_its_shard_over_restarts() {
    let house = House::new();
    house.append("app.log", "");
    let mut follower = house.follow("app.log");
    let mut shard = None;
    for round in 0..30 {
        let line = format!("{round:0>100}");
        house.append("app.log", format!("{line}\n"));
        follower.until_records(&[&[&line]]).await;
        let known = house.registry().lines().nth(1).unwrap().split(' ').nth(4).unwrap().to_owned();
        assert_eq!(known, ((round + 1) * 101).min(1024).to_string(), "durable before the record is handed out");
        assert_eq!(*shard.get_or_insert(follower.logs[0].shard.clone()), follower.logs[0].shard);
        follower = follower.restart(&house, "app.log");
    }
}

#[tokio::test]
async fn a_registry_that_cannot_be_written_gives_out_no_shard() {
    let house = House::new();
    let source = house.open(&house.options("*.log"), false);
    fs::remove_dir_all(house.dir.path().join("state")).unwrap();
    house.append("app.log", "1\n");
    let fault = source.next_shard().await.unwrap_err();
    assert_eq!(fault.blame, Blame::Disk);
    fs::create_dir(house.dir.path().join("state")).unwrap();
    let shard = source.next_shard().await.unwrap().unwrap();
    assert!(house.registry().contains(shard.as_str()));
}
