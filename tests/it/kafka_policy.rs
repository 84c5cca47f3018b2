//! What is done when a partition is not as the group left it: through the real binary and librdkafka's mock cluster.
//! (What the mock cannot do, such as topics that are made again, is in `tests/services/test_kafka.py`.)

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::daemon::{Daemon, Home, files, pipeline, until};
use crate::support::kafka::{Kafka, rows};

const OTHER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

fn write(home: &Home, kafka: &Kafka, group: &str, options: &str) {
    let source = format!("kafka: {{ brokers: \"{}\", topics: [orders], group: {group}{options} }}", kafka.brokers());
    home.write("x.yaml", pipeline(&source, "lines: {}", "100ms", "url: ./out"));
}

/// How often each line is there.
fn lines(home: &Home) -> BTreeMap<String, u32> {
    let mut times = BTreeMap::new();
    let of_readers = files(&home.path("out")).into_iter().filter(|path| !path.to_string_lossy().contains("/_hydrant/"));
    for path in of_readers {
        fs::read_to_string(&path).unwrap().lines().for_each(|line| *times.entry(line.to_owned()).or_default() += 1);
    }
    times
}

fn times<'l>(lines: impl IntoIterator<Item = &'l String>, times: u32) -> BTreeMap<String, u32> {
    lines.into_iter().map(|line| (line.clone(), times)).collect()
}

fn delivers(home: &Home, wanted: &BTreeMap<String, u32>) {
    until("all of it is there", || (lines(home) == *wanted).then_some(()));
}

/// Waits until the pipeline says so, at a level.
fn says(daemon: &Daemon, level: &str, words: &str) -> Value {
    daemon.hears("kafka: ", |line| {
        line["level"] == level && line["message"].as_str().is_some_and(|message| message.contains(words))
    })
}

fn found(daemon: &Daemon, what: &str) -> f64 {
    daemon.metric(&format!("hydrant_kafka_found_total{{pipeline=\"x\",what=\"{what}\"}}"))
}

fn halted(daemon: &Daemon) -> f64 {
    daemon.metric("hydrant_kafka_halted{pipeline=\"x\"}")
}

/// Where the sink remembers what a group has begun of the topic. There is one cluster.
fn memory(home: &Home, group: &str) -> String {
    let first = files(&home.path("out/_hydrant/groups/first")).remove(0);
    let below = first.strip_prefix(home.path("out/_hydrant/groups/first")).unwrap().to_string_lossy().into_owned();
    let (cluster, _) = below.split_once('/').unwrap();
    format!("out/_hydrant/groups/{group}/{cluster}/orders")
}

/// What the sink remembers of a group, by the names below the topic's folder.
fn remembered(home: &Home, group: &str) -> Vec<String> {
    let folder = home.path(&memory(home, group));
    files(&folder).iter().map(|path| path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned()).collect()
}

/// The id of the topic, of which a group has begun something.
fn topic_id(home: &Home, group: &str) -> String {
    remembered(home, group)[0].split_once('/').unwrap().0.to_owned()
}

fn remember(home: &Home, group: &str, id: &str, mark: &str) {
    home.write(&format!("{}/{id}/{mark}", memory(home, group)), "");
}

/// Delivers ten records of each partition as one group, so that the sink knows the topic; answers its id.
fn begin(home: &Home, kafka: &Kafka, partitions: i32) -> (Vec<String>, String) {
    let mut all = Vec::new();
    for partition in 0..partitions {
        kafka.put("orders", partition, &rows(partition, 0..10));
        all.extend(rows(partition, 0..10));
    }
    write(home, kafka, "first", "");
    let daemon = home.start("x.yaml");
    delivers(home, &times(&all, 1));
    daemon.stop();
    let id = topic_id(home, "first");
    (all, id)
}

#[test]
fn the_sink_remembers_what_a_group_has_begun_once() {
    let (home, kafka) = (Home::new(), Kafka::new("orders", 3));
    let (all, id) = begin(&home, &kafka, 3);
    assert_eq!(id.len(), 22, "{id}");
    let wanted: Vec<String> = ["began-with-3", "p0", "p1", "p2"].map(|mark| format!("{id}/{mark}")).to_vec();
    assert_eq!(remembered(&home, "first"), wanted);
    let daemon = home.start("x.yaml");
    kafka.put("orders", 1, &rows(1, 10..20));
    let mut wanted_lines = times(&all, 1);
    wanted_lines.extend(times(&rows(1, 10..20), 1));
    delivers(&home, &wanted_lines);
    daemon.stop();
    assert_eq!(remembered(&home, "first"), wanted);
}

#[test]
fn offsets_that_were_erased_stop_their_partitions_until_somebody_decides() {
    let (home, kafka) = (Home::new(), Kafka::new("orders", 2));
    let (all, id) = begin(&home, &kafka, 2);
    // As if they had expired: another group of which the sink remembers the same.
    for mark in ["began-with-2", "p0"] {
        remember(&home, "second", &id, mark);
    }
    write(&home, &kafka, "second", "");
    let daemon = home.start("x.yaml");
    let line = says(&daemon, "ERROR", "orders/0: the group's offset is gone");
    assert!(line["hint"].as_str().unwrap().contains("on_lost: go_on"), "{line}");
    let mut wanted = times(&all, 1);
    wanted.extend(times(&rows(1, 0..10), 2));
    delivers(&home, &wanted);
    assert_eq!((halted(&daemon), found(&daemon, "offset_erased")), (1.0, 1.0));
    write(&home, &kafka, "second", ", on_lost: go_on");
    daemon.reload();
    delivers(&home, &times(&all, 2));
    until("nothing is halted", || (halted(&daemon) == 0.0).then_some(()));
    daemon.stop();
}

#[test]
fn partitions_that_were_added_begin_with_their_oldest_record_whatever_start_says() {
    let (home, kafka) = (Home::new(), Kafka::new("orders", 3));
    let (all, id) = begin(&home, &kafka, 3);
    remember(&home, "second", &id, "began-with-1");
    write(&home, &kafka, "second", ", start: latest");
    let daemon = home.start("x.yaml");
    let mut wanted = times(&all, 2);
    wanted.extend(times(&rows(0, 0..10), 1));
    delivers(&home, &wanted);
    says(&daemon, "INFO", "orders/2: the partition was added");
    until("it knows where the first one begins", || {
        remembered(&home, "second").contains(&format!("{id}/p0")).then_some(())
    });
    kafka.put("orders", 0, &rows(0, 10..20));
    wanted.extend(times(&rows(0, 10..20), 1));
    delivers(&home, &wanted);
    assert_eq!(found(&daemon, "partition_added"), 2.0);
    daemon.stop();
}

#[test]
fn a_topic_that_was_made_again_is_read_from_its_beginning_and_offsets_of_the_old_one_are_not_followed() {
    let (home, kafka) = (Home::new(), Kafka::new("orders", 2));
    let (all, _) = begin(&home, &kafka, 2);
    // The broker kept an offset of the old topic for one partition, and erased the other's.
    remember(&home, "second", OTHER_ID, "p1");
    kafka.commit("second", "orders", 0, 7, &format!("hydrant1 sink=00000000 topic={OTHER_ID}"));
    write(&home, &kafka, "second", ", start: latest");
    let daemon = home.start("x.yaml");
    delivers(&home, &times(&all, 2));
    says(&daemon, "ERROR", "orders/0: the topic was deleted and made again (it was AAAA");
    says(&daemon, "ERROR", "orders/1: the topic was deleted and made again");
    assert_eq!(found(&daemon, "topic_made_again"), 2.0);
    daemon.stop();
    write(&home, &kafka, "second", ", start: latest");
    let daemon = home.start("x.yaml");
    kafka.put("orders", 0, &rows(0, 10..20));
    let mut wanted = times(&all, 2);
    wanted.extend(times(&rows(0, 10..20), 1));
    delivers(&home, &wanted);
    daemon.stop();
}

#[test]
fn an_offset_that_somebody_has_set_is_followed_and_said() {
    let (home, kafka) = (Home::new(), Kafka::new("orders", 1));
    let (all, _) = begin(&home, &kafka, 1);
    kafka.commit("second", "orders", 0, 4, "");
    write(&home, &kafka, "second", "");
    let daemon = home.start("x.yaml");
    let mut wanted = times(&all, 1);
    wanted.extend(times(&rows(0, 4..10), 2));
    delivers(&home, &wanted);
    says(&daemon, "INFO", "orders/0: offset 4 was not committed by hydrant, and is followed");
    daemon.stop();
}

#[test]
fn a_log_that_ends_before_what_was_delivered_stops_its_partition_or_goes_on_at_its_end() {
    let (home, kafka) = (Home::new(), Kafka::new("orders", 2));
    let (all, id) = begin(&home, &kafka, 2);
    kafka.commit("second", "orders", 0, 50, &format!("hydrant1 sink=00000000 topic={id}"));
    write(&home, &kafka, "second", "");
    let daemon = home.start("x.yaml");
    let line = says(&daemon, "ERROR", "orders/0: offset 50 is to be read next, and the log ends at 10");
    assert!(line["hint"].as_str().unwrap().contains("on_lost: go_on"), "{line}");
    let mut wanted = times(&all, 1);
    wanted.extend(times(&rows(1, 0..10), 2));
    delivers(&home, &wanted);
    assert_eq!(halted(&daemon), 1.0, "{}", daemon.log());
    write(&home, &kafka, "second", ", on_lost: go_on");
    daemon.reload();
    says(&daemon, "ERROR", "the log ends at 10: it was truncated; it goes on");
    kafka.put("orders", 0, &rows(0, 10..20));
    wanted.extend(times(&rows(0, 10..20), 1));
    delivers(&home, &wanted);
    daemon.stop();
}

#[test]
fn old_handover_copies_that_no_plan_names_are_removed_and_no_others() {
    let (home, kafka) = (Home::new(), Kafka::new("orders", 1));
    begin(&home, &kafka, 1);
    let object =
        files(&home.path("out")).into_iter().find(|path| !path.to_string_lossy().contains("/_hydrant/")).unwrap();
    let name = object.file_name().unwrap().to_string_lossy().into_owned();
    let at = name.find("p0s").unwrap();
    let mark = &name[at - 8..at];
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    let copy = |shard: &str, modified: Option<SystemTime>| {
        let name = format!("out/_hydrant/handover/x/{shard}-0000000000000000-0000000000000005.sealed");
        home.write(&name, "x");
        if let Some(modified) = modified {
            fs::File::options().write(true).open(home.path(&name)).unwrap().set_modified(modified).unwrap();
        }
        home.path(&name)
    };
    let young = copy(&format!("k{mark}p0s000000000002"), None);
    let of_others = copy("k00000000p0s000000000003", Some(two_days_ago));
    let nobodys = copy(&format!("k{mark}p0s000000000004"), Some(two_days_ago));
    let daemon = home.start("x.yaml");
    until("it is gone", || (!nobodys.exists()).then_some(()));
    assert!(young.exists() && of_others.exists());
    daemon.stop();
}
