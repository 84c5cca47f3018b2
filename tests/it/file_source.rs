//! Stories of what is in files: line ends, long lines, compressed and damaged ones, too many of them.

use std::fs;
use std::io::Write;
use std::time::Duration;

use hydrant::error::Blame;
use hydrant::ground::Ground;
use hydrant::source::Source;
use hydrant::source::file::{FileSource, Options, Pace, Start};

use crate::file_house::{Follower, HURRY, House, Log};
use crate::source_contract::{file_options, gzip};

#[tokio::test]
async fn two_files_that_begin_alike_are_two_shards() {
    let house = House::new();
    let header = "#".repeat(1500);
    house.append("a.log", format!("{header}\na\n"));
    house.append("b.log", format!("{header}\nb\n"));
    let all = house.read(&house.options("*.log")).await;
    assert_eq!(all, [[header.as_str(), "a"], [header.as_str(), "b"]]);
}

#[tokio::test]
async fn a_writer_of_single_bytes_makes_whole_records() {
    let house = House::new();
    let mut writer = house.append("app.log", "");
    let source = house.open(&house.options("app.log"), false);
    let shard = source.next_shard().await.unwrap().unwrap();
    let mut reader = source.open(&shard, None).await.unwrap();
    let mut records = vec![];
    for byte in "one\r\n\ntwo und zw\u{f6}lf\nthree\n".bytes() {
        writer.write_all(&[byte]).unwrap();
        if byte == b'\n' {
            let read = reader.next().await.unwrap().unwrap();
            assert_eq!(read.end.as_u64(), Some(writer.metadata().unwrap().len()));
            records.extend(read.batch.payloads().map(|payload| String::from_utf8(payload.to_vec()).unwrap()));
        } else {
            let early = tokio::time::timeout(Duration::from_millis(5), reader.next()).await;
            assert!(early.is_err(), "part of a line was handed out: {early:?}");
        }
    }
    assert_eq!(records, ["one", "two und zw\u{f6}lf", "three"]);
}

#[tokio::test]
async fn line_ends_of_both_kinds_empty_lines_and_a_missing_last_newline() {
    let house = House::new();
    house.append("a.log", "1\r\n\r\n\n2\n\u{e9} \r 3\r\nlast");
    house.append("b.log", "");
    house.append("c.log", "\n\n\n");
    assert_eq!(house.read(&house.options("*.log")).await, [vec!["1", "2", "\u{e9} \r 3", "last"], vec![], vec![]]);
}

#[tokio::test]
async fn a_line_that_is_too_long_is_passed_over_and_counted_and_its_neighbours_come() {
    let house = House::new();
    house.append("app.log", format!("before\n{}\nafter\n{}", "x".repeat(5 << 20), "y".repeat(2000)));
    let options = Options { line_bytes_max: 1000, ..house.options("app.log") };
    let source = house.open(&options, true);
    let shard = source.next_shard().await.unwrap().unwrap();
    let mut reader = source.open(&shard, None).await.unwrap();
    let (mut records, mut ends) = (vec![], vec![0]);
    while let Some(read) = reader.next().await.unwrap() {
        assert!(read.batch.memory() < 2 << 20);
        records.extend(read.batch.payloads().map(<[u8]>::to_vec));
        ends.push(read.end.as_u64().unwrap());
    }
    assert_eq!(records, [b"before".to_vec(), b"after".to_vec()]);
    assert_eq!(source.lines_too_long(), 2);
    assert!(ends.is_sorted_by(|a, b| a < b));
    assert_eq!(*ends.last().unwrap(), fs::metadata(house.path("app.log")).unwrap().len());
}

#[tokio::test]
async fn start_at_the_end_passes_over_what_was_there_first_and_nothing_else() {
    let house = House::new();
    house.append("a.log", "old\nold too\nhalf ");
    house.append("old.log.gz", gzip(b"packed\n"));
    let options = Options { start: Start::End, ..house.options("*.log*") };
    let follow = |from| Follower { source: house.open(&options, false), logs: vec![], from };
    let mut follower = follow(vec![]);
    house.append("a.log", "a line\nnew\n");
    house.append("b.log", "all of it\nis new\n");
    follower.until_records(&[&["half a line", "new"], &["all of it", "is new"]]).await;
    drop(follower);
    house.append("c.log", "came while no process ran\n");
    let mut follower = follow(vec![]);
    let expected: [&[&str]; 3] = [&["half a line", "new"], &["all of it", "is new"], &["came while no process ran"]];
    follower.until_records(&expected).await;
}

#[tokio::test]
async fn a_damaged_compressed_file_names_its_place_and_stops_no_other() {
    let house = House::new();
    let lines: String = (0..200_000).map(|n| format!("{n} {}\n", n * 7919 % 1_000_003)).collect();
    let good = gzip(lines.as_bytes());
    house.append("a.gz", &good[..good.len() / 2]);
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 0xff;
    house.append("b.gz", &bad);
    house.append("c.gz", "no gzip at all");
    house.append("d.gz", &good);
    house.append("e.gz", "");
    let source = house.open(&house.options("*.gz"), true);
    let mut told = vec![];
    while let Some(shard) = source.next_shard().await.unwrap() {
        let mut reader = source.open(&shard, None).await.unwrap();
        let mut text = String::new();
        let fault = loop {
            match reader.next().await {
                Ok(Some(read)) => read.batch.payloads().for_each(|line| {
                    text.push_str(str::from_utf8(line).unwrap());
                    text.push('\n');
                }),
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
        };
        let Some(fault) = fault else {
            assert!(text == lines);
            told.push("whole".to_owned());
            continue;
        };
        assert_eq!(fault.blame, Blame::Source);
        assert!(reader.next().await.is_err(), "a damaged file does not become an ended one");
        let message = fault.to_string();
        assert!(message.starts_with("file ") && message.contains("(at unpacked byte "), "{message}");
        let name = message.split(": ").next().unwrap().rsplit('/').next().unwrap();
        told.push(format!("{name}: {}", message.split(": ").nth(1).unwrap().split(" (at").next().unwrap()));
        // Only whole lines that are really in the file, from its beginning.
        assert!(name == "b.gz" || lines.starts_with(&text), "{name}");
    }
    assert_eq!(
        told,
        [
            "a.gz: compressed data is cut off (still being written?)",
            "b.gz: compressed data is damaged",
            "c.gz: compressed data is damaged",
            "whole",
        ]
    );
}

#[tokio::test]
async fn a_compressed_file_that_was_still_being_written_comes_whole_in_the_end() {
    let house = House::new();
    let lines: Vec<String> = (0..50_000).map(|n| format!("{n} {}", n * 7919 % 1_000_003)).collect();
    let packed = gzip((lines.join("\n") + "\n").as_bytes());
    let mut writer = house.append("app.log.gz", &packed[..packed.len() / 2]);
    let source = house.open(&house.options("*.gz"), false);
    let shard = source.next_shard().await.unwrap().unwrap();
    let mut reader = source.open(&shard, None).await.unwrap();
    let mut records = vec![];
    let mut faults = 0;
    loop {
        match reader.next().await {
            Ok(Some(read)) => {
                records.extend(read.batch.payloads().map(|line| String::from_utf8(line.to_vec()).unwrap()))
            }
            Ok(None) => break,
            Err(_) => {
                faults += 1;
                if faults == 1 {
                    writer.write_all(&packed[packed.len() / 2..]).unwrap();
                }
                let from = reader.position();
                reader = source.open(&shard, Some(&from)).await.unwrap();
            }
        }
    }
    assert_eq!(faults, 1);
    assert!(records == lines, "{} of {}", records.len(), lines.len());
}

#[tokio::test]
async fn thousands_of_files_are_read_with_a_few_of_them_open() {
    let house = House::new();
    for n in 0..3000 {
        fs::write(house.path(&format!("{n:04}.log")), format!("{n}\n")).unwrap();
    }
    let source = house.open(&house.options("*.log"), true);
    for n in 0..3000 {
        let shard = source.next_shard().await.unwrap().unwrap();
        let mut reader = source.open(&shard, None).await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap().batch.payload(0), n.to_string().as_bytes());
        assert!(reader.next().await.unwrap().is_none());
        assert_eq!(source.files_held(), 0, "let go at its end, although the reader lives");
    }
    assert!(source.next_shard().await.unwrap().is_none());
}

#[tokio::test]
async fn idle_files_above_the_limit_are_let_go_and_come_back_when_they_grow() {
    let house = House::new();
    for n in 0..60 {
        house.append(&format!("{n:02}.log"), "first\n");
    }
    let pace = Pace { files_held_max: 10, ..HURRY };
    let state = house.dir.path().join("state");
    let source = FileSource::open_at_pace(&Ground::real(), &state, &house.options("*.log"), false, pace).unwrap();
    let mut follower = Follower { source, logs: vec![], from: vec![] };
    follower.until(|logs| logs.len() == 60 && logs.iter().all(|log| log.records.len() == 1)).await;
    while follower.source.files_held() > 10 {
        let idle = tokio::time::timeout(Duration::from_millis(5), follower.step()).await;
        assert!(idle.is_err(), "nothing more to read");
    }
    for n in 0..60 {
        if n % 2 == 0 {
            fs::rename(house.path(&format!("{n:02}.log")), house.path(&format!("{n:02}.old"))).unwrap();
            house.append(&format!("{n:02}.old"), "second\n");
        } else {
            house.append(&format!("{n:02}.log"), "second\n");
        }
    }
    follower.until(|logs| logs.iter().all(|log| log.records == ["first", "second"])).await;
    follower.until(|logs| logs.iter().filter(|log| log.ended).count() == 30).await;
}

#[tokio::test]
async fn a_wrong_configuration_says_what_and_where() {
    let house = House::new();
    house.append("app.log", "1\n");
    let told = |options: Options, bounded| {
        let state = house.dir.path().join("state");
        let fault = FileSource::open(&Ground::real(), &state, &options, bounded).err().unwrap();
        assert_eq!(fault.blame, Blame::Config);
        fault.to_string().replace(house.path("").to_str().unwrap(), "/log/")
    };
    assert_eq!(told(house.options("*.txt"), true), "file source: no file matches `/log/*.txt`");
    let options = Options { follow: false, ..house.options("nothing") };
    assert_eq!(told(options, false), "file source: no file matches `/log/nothing`");
    assert!(told(house.options("[a"), true).starts_with("file source: `/log/[a` is not a glob: "));
    assert_eq!(told(file_options(vec![]), true), "file source: path is an empty list");
    let options = Options { line_bytes_max: 0, ..house.options("*.log") };
    assert_eq!(told(options, true), "file source: line_bytes_max is 0, it may be 1 to 67108864 bytes");
}

#[tokio::test]
async fn excluded_and_hidden_files_and_folders_are_left_alone() {
    let house = House::new();
    house.append("a.log", "a\n");
    house.append(".b.log", "b\n");
    house.append("c.log.1", "c\n");
    fs::create_dir(house.path("d.log")).unwrap();
    house.append("d.log/e.log", "e\n");
    let options = Options { exclude: vec!["*.1".into()], ..house.options("*") };
    assert_eq!(house.read(&options).await, [["a"]]);
}

#[tokio::test]
async fn a_bounded_run_ends_although_someone_writes_on_and_the_next_one_goes_on_there() {
    let house = House::new();
    let mut writer = house.append("app.log", "1\n2\nhal");
    let options = house.options("app.log");
    let source = house.open(&options, true);
    let shard = source.next_shard().await.unwrap().unwrap();
    let reader = source.open(&shard, None).await.unwrap();
    let mut log = Log { shard, records: vec![], ended: false, reader };
    let mut later = ["f\n", "more\n", "more\n"].iter();
    let reader = loop {
        match log.reader.next().await.unwrap() {
            Some(read) => log.keep(read),
            None => break log.reader,
        }
        writer.write_all(later.next().unwrap_or(&"").as_bytes()).unwrap();
    };
    assert!(log.records.starts_with(&["1", "2", "half"].map(str::to_owned)), "{:?}", log.records);
    let from = vec![(log.shard, reader.position())];
    let mut again = Follower { source: house.open(&options, true), logs: vec![], from };
    let shard = again.source.next_shard().await.unwrap().unwrap();
    again.open(shard).await;
    while let Some(read) = again.logs[0].reader.next().await.unwrap() {
        again.logs[0].keep(read);
    }
    let all: String =
        [log.records, again.logs.swap_remove(0).records].concat().iter().map(|r| format!("{r}\n")).collect();
    assert_eq!(all, fs::read_to_string(house.path("app.log")).unwrap());
}
