//! Kafka as a source of one node, through the real binary and librdkafka's mock cluster.

use std::fs;

use rdkafka::types::RDKafkaRespErr::{self, *};

use crate::support::daemon::{Home, pipeline, until};
use crate::support::kafka::{Kafka, Lake, name, rows};

#[test]
fn what_is_in_a_topic_is_delivered_once_over_restarts() {
    let (home, lake, kafka) = (Home::new(), Lake::new(), Kafka::new("orders", 3));
    lake.write(&home, &kafka, "");
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..500);
    let daemon = home.start("x.yaml");
    lake.holds_once(&all);
    kafka.put_rows(&mut all, 500..600);
    lake.holds_once(&all);
    daemon.stop();
    kafka.put_rows(&mut all, 600..700);
    let daemon = home.start("x.yaml");
    lake.holds_once(&all);
    daemon.kill();
    kafka.put_rows(&mut all, 700..800);
    let daemon = home.start("x.yaml");
    lake.holds_once(&all);
    daemon.stop();
}

/// Commits that are answered so librdkafka may send again by itself, once it has found the coordinator.
const REPEATED_BY_LIBRDKAFKA: [RDKafkaRespErr; 3] = [
    RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
    RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
];

/// Commits that are answered so, `times` times, in the middle of reading.
fn commits_fail(options: &str, cases: &[(RDKafkaRespErr, usize)]) {
    let (home, lake, kafka) = (Home::new(), Lake::new(), Kafka::new("orders", 2));
    lake.write(&home, &kafka, options);
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..20);
    let daemon = home.start("x.yaml");
    lake.holds_once(&all);
    let commits =
        |outcome| daemon.metric(&format!("hydrant_kafka_commits_total{{pipeline=\"x\",outcome=\"{outcome}\"}}"));
    let heard = || commits("fenced") + commits("failed");
    for (case, (error, times)) in cases.iter().enumerate() {
        println!("{} x {times}", name(*error));
        let before = heard();
        let from = 20 + 40 * case as u64;
        let errors = vec![*error; *times];
        // What meets the plan of a chunk, and what meets its end.
        let answers = [errors.clone(), [vec![RD_KAFKA_RESP_ERR_NO_ERROR], errors].concat()];
        for (answers, from) in answers.iter().zip([from, from + 20]) {
            kafka.refuse_commits(answers);
            kafka.put_rows(&mut all, from..from + 20);
            lake.holds_once(&all);
        }
        kafka.cluster.clear_request_errors(rdkafka::types::RDKafkaApiKey::OffsetCommit);
        let is_heard = heard() > before || REPEATED_BY_LIBRDKAFKA.contains(error);
        assert!(is_heard, "no commit was answered {}", name(*error));
    }
    daemon.stop();
}

const CLASSIC: &str = ", protocol: classic, client: { session.timeout.ms: 6000, heartbeat.interval.ms: 300 }";

#[test]
fn commits_that_are_refused_lose_nothing_and_leave_no_copy_behind() {
    commits_fail(CLASSIC, &[(RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, 1), (RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, 1)]);
}

#[test]
fn commits_that_have_to_be_told_again_lose_nothing_and_leave_no_copy_behind() {
    let cases = [
        (RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, 2),
        (RD_KAFKA_RESP_ERR_NOT_COORDINATOR, 2),
        (RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, 2),
        (RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, 4),
    ];
    commits_fail(CLASSIC, &cases);
}

#[test]
fn commits_that_may_have_come_through_lose_nothing_and_leave_no_copy_behind() {
    commits_fail(CLASSIC, &[(RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, 4)]);
}

#[test]
fn commits_of_an_old_epoch_lose_nothing_and_leave_no_copy_behind() {
    commits_fail(", protocol: consumer", &[(RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH, 1)]);
}

#[test]
fn a_commit_that_is_not_taken_for_good_is_said_and_told_again() {
    let (home, lake, kafka) = (Home::new(), Lake::new(), Kafka::new("orders", 1));
    lake.write(&home, &kafka, CLASSIC);
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..20);
    kafka.refuse_commits(&[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3]);
    let daemon = home.start("x.yaml");
    let says = |line: &serde_json::Value| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|message| message.contains("orders/0: "))
    };
    daemon.hears("kafka: ", says);
    lake.holds_once(&all);
    daemon.stop();
}

#[test]
fn a_partition_without_a_leader_holds_up_no_other() {
    let (home, lake, kafka) = (Home::new(), Lake::new(), Kafka::new("orders", 3));
    lake.write(&home, &kafka, CLASSIC);
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..20);
    kafka.cluster.partition_leader("orders", 1, None).unwrap();
    let daemon = home.start("x.yaml");
    let others: Vec<String> = [0, 2].into_iter().flat_map(|partition| rows(partition, 0..20)).collect();
    until("the others are read", || others.iter().all(|row| lake.lines().get(row) == Some(&1)).then_some(()));
    kafka.cluster.partition_leader("orders", 1, Some(1)).unwrap();
    lake.holds_once(&all);
    daemon.stop();
}

#[test]
fn a_broker_that_goes_and_comes_loses_nothing() {
    let (home, lake, kafka) = (Home::new(), Lake::new(), Kafka::new("orders", 2));
    lake.write(&home, &kafka, CLASSIC);
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..50);
    let daemon = home.start("x.yaml");
    lake.holds_once(&all);
    kafka.put_rows(&mut all, 50..100);
    kafka.cluster.broker_down(1).unwrap();
    daemon.hears("kafka: ", |line| line["level"] == "WARN");
    kafka.cluster.broker_up(1).unwrap();
    lake.holds_once(&all);
    kafka.put_rows(&mut all, 100..150);
    lake.holds_once(&all);
    // It leaves as well while nobody answers.
    kafka.cluster.broker_down(1).unwrap();
    daemon.stop();
}

#[test]
fn a_reload_amid_reading_loses_nothing() {
    let (home, lake, kafka) = (Home::new(), Lake::new(), Kafka::new("orders", 3));
    lake.write(&home, &kafka, "");
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..50);
    let daemon = home.start("x.yaml");
    lake.holds_once(&all);
    for round in 1..=4 {
        kafka.put_rows(&mut all, round * 50..round * 50 + 25);
        lake.write_with(&home, &kafka, "", &format!("{}ms", 100 + round));
        let (status, became) = daemon.reload();
        assert_eq!(status, 200, "{became}");
        kafka.put_rows(&mut all, round * 50 + 25..round * 50 + 50);
    }
    lake.holds_once(&all);
    daemon.stop();
}

#[test]
fn keys_headers_and_topics_are_there_and_tombstones_are_not() {
    let (home, kafka) = (Home::new(), Kafka::new("orders", 1));
    kafka.cluster.create_topic("clicks", 1, 1).unwrap();
    let source = format!("kafka: {{ brokers: \"{}\", topics: [orders, clicks], group: g }}", kafka.brokers());
    let text = pipeline(&source, "lines: {}", "100ms", "url: ./out, prefix: \"{topic}/\"");
    let program = "{topic: $topic, at: [$partition, $offset], key: $key, header: $headers[0].value, was: .}";
    home.write("x.yaml", format!("{text}transforms: [ {{ jq: '{program}' }} ]\n"));
    for topic in ["orders", "clicks"] {
        kafka.put_known(topic, "a", Some("1"), ("trace", "t1"));
        kafka.put_known(topic, "a", None, ("trace", "t2"));
        kafka.put_known(topic, "b", Some("2"), ("trace", "t3"));
    }
    let daemon = home.start("x.yaml");
    daemon.delivers("x", 4);
    for topic in ["orders", "clicks"] {
        let paths = home.files(&format!("out/{topic}"));
        let text: String = paths.keys().map(|path| fs::read_to_string(path).unwrap()).collect();
        let row = |offset: u32, key: &str, header: &str, was: u32| {
            format!(
                "{{\"topic\":\"{topic}\",\"at\":[0,{offset}],\"key\":\"{key}\",\"header\":\"{header}\",\"was\":{was}}}\n"
            )
        };
        assert_eq!(text, row(0, "a", "t1", 1) + &row(2, "b", "t3", 2));
    }
    until("tombstones are counted", || {
        (daemon.metric("hydrant_kafka_tombstones_total{pipeline=\"x\"}") == 2.0).then_some(())
    });
    daemon.stop();
}

#[test]
fn latest_is_where_a_partition_ended_when_it_was_first_seen() {
    let (home, lake, kafka) = (Home::new(), Lake::new(), Kafka::new("orders", 1));
    lake.write(&home, &kafka, ", start: latest");
    kafka.put("orders", 0, &rows(0, 0..10));
    let daemon = home.start("x.yaml");
    until("the group knows where it begins", || {
        (daemon.metric("hydrant_kafka_commits_total{pipeline=\"x\",outcome=\"done\"}") > 0.0).then_some(())
    });
    daemon.kill();
    // Nothing was read, and yet this was not there when it was first seen.
    let new = rows(0, 10..20);
    kafka.put("orders", 0, &new);
    let daemon = home.start("x.yaml");
    lake.holds_once(&new);
    daemon.stop();
}

/// A partition of the mock cluster keeps 5 MiB.
#[test]
fn a_log_that_was_cut_off_behind_a_node_is_read_on_where_it_begins_and_what_is_gone_is_counted() {
    let (home, lake, kafka) = (Home::new(), Lake::new(), Kafka::new("orders", 1));
    lake.write(&home, &kafka, ", on_lost: go_on, protocol: classic");
    let large = |ids: std::ops::Range<u64>| -> Vec<String> {
        ids.map(|id| format!("{{\"id\":{id},\"fill\":\"{}\"}}", "x".repeat(200_000))).collect()
    };
    kafka.put("orders", 0, &large(0..3));
    let daemon = home.start("x.yaml");
    lake.holds_once(&large(0..3));
    daemon.stop();
    let late = large(3..60);
    kafka.put("orders", 0, &late);
    let daemon = home.start("x.yaml");
    until("the last one is there", || lake.lines().contains_key(&late[56]).then_some(()));
    let new = large(60..63);
    kafka.put("orders", 0, &new);
    until("it reads on", || lake.lines().contains_key(&new[2]).then_some(()));
    let (lines, lost) = (lake.lines(), daemon.metric("hydrant_kafka_lost_total{pipeline=\"x\"}"));
    assert!(lost > 0.0 && lines.values().all(|times| *times == 1), "{lost} are lost");
    assert_eq!(lines.len() as f64 + lost, 63.0, "each is there, or counted");
    daemon.stop();
}
