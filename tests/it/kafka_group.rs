//! Several nodes share a topic of librdkafka's mock cluster, and come, go and freeze: nothing is lost, nothing twice.

use std::fs;

use rustix::process::Signal;

use crate::support::daemon::{Daemon, Home, until};
use crate::support::kafka::{Kafka, Lake, rows};

const CLASSIC: &str = ", protocol: classic, client: { session.timeout.ms: 4000, heartbeat.interval.ms: 300 }";
/// The session of the mock cluster is 30 seconds by this one.
const CONSUMER: &str = ", protocol: consumer";
/// What a node says that completes what another one had planned.
const TAKES_OVER: &str = "kafka: delivering what a former owner had planned";

fn times(daemon: &Daemon, what: &str) -> usize {
    daemon.log().matches(what).count()
}

/// Objects that it has tried to put in vain.
fn refused(daemon: &Daemon) -> usize {
    let is_first = |line: &&str| line.contains("the sink refuses an object") && line.contains("\"attempt\":1,");
    daemon.log().lines().filter(is_first).count()
}

/// A node that has planned rows of every partition and can put none of them.
fn stuck(home: &Home, lake: &Lake, partitions: usize) -> Daemon {
    lake.block();
    let daemon = home.start("x.yaml");
    until("it tries to put rows of every partition", || (refused(&daemon) >= partitions).then_some(()));
    daemon
}

fn dies_and_is_followed(options: &str) {
    let (one, other, lake, kafka) = (Home::new(), Home::new(), Lake::new(), Kafka::new("orders", 4));
    [&one, &other].into_iter().for_each(|home| lake.write(home, &kafka, options));
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..100);
    let first = stuck(&one, &lake, 4);
    first.kill();
    let second = other.start("x.yaml");
    until("it takes over all four", || (times(&second, TAKES_OVER) >= 4).then_some(()));
    lake.unblock();
    lake.holds_once(&all);
    kafka.put_rows(&mut all, 100..200);
    lake.holds_once(&all);
    second.stop();
}

#[test]
fn a_node_dies_and_the_other_delivers_what_it_had_planned() {
    dies_and_is_followed(CLASSIC);
}

#[test]
fn a_node_dies_and_the_other_delivers_what_it_had_planned_by_the_new_protocol() {
    dies_and_is_followed(CONSUMER);
}

fn shares(options: &str) {
    let (one, other, lake, kafka) = (Home::new(), Home::new(), Lake::new(), Kafka::new("orders", 4));
    [&one, &other].into_iter().for_each(|home| lake.write(home, &kafka, options));
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..100);
    let first = stuck(&one, &lake, 4);
    // What it is to give back it cannot deliver before.
    let second = other.start("x.yaml");
    until("it takes over two", || (times(&second, TAKES_OVER) >= 2).then_some(()));
    lake.unblock();
    lake.holds_once(&all);
    kafka.put_rows(&mut all, 100..200);
    lake.holds_once(&all);
    for daemon in [&first, &second] {
        until("each owns two", || (daemon.metric("hydrant_kafka_partitions{pipeline=\"x\"}") == 2.0).then_some(()));
    }
    first.stop();
    kafka.put_rows(&mut all, 200..300);
    lake.holds_once(&all);
    second.stop();
}

#[test]
fn a_node_comes_while_the_sink_takes_nothing_and_gets_what_was_planned() {
    shares(CLASSIC);
}

#[test]
fn a_node_comes_while_the_sink_takes_nothing_and_gets_what_was_planned_by_the_new_protocol() {
    shares(CONSUMER);
}

#[test]
fn a_node_that_was_frozen_past_its_session_does_no_harm() {
    let (one, other, lake, kafka) = (Home::new(), Home::new(), Lake::new(), Kafka::new("orders", 4));
    [&one, &other].into_iter().for_each(|home| lake.write(home, &kafka, CLASSIC));
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..100);
    let frozen = stuck(&one, &lake, 4);
    frozen.signal(Signal::STOP);
    let second = other.start("x.yaml");
    until("it takes over all four", || (times(&second, TAKES_OVER) >= 4).then_some(()));
    lake.unblock();
    lake.holds_once(&all);
    kafka.put_rows(&mut all, 100..200);
    frozen.signal(Signal::CONT);
    kafka.put_rows(&mut all, 200..300);
    lake.holds_once(&all);
    until("it is a member again", || (frozen.metric("hydrant_kafka_partitions{pipeline=\"x\"}") == 2.0).then_some(()));
    second.stop();
    kafka.put_rows(&mut all, 300..400);
    lake.holds_once(&all);
    frozen.stop();
}

#[test]
fn merged_partitions_come_and_go() {
    let homes = [Home::new(), Home::new()];
    let (lake, kafka) = (Lake::new(), Kafka::new("orders", 8));
    homes.iter().for_each(|home| lake.write(home, &kafka, &format!(", merge: true{CLASSIC}")));
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..20);
    let mut first = homes[0].start("x.yaml");
    lake.holds_once(&all);
    for round in 1..=3 {
        kafka.put_rows(&mut all, round * 100..round * 100 + 20);
        let second = homes[1].start("x.yaml");
        kafka.put_rows(&mut all, round * 100 + 20..round * 100 + 40);
        until("each owns four", || {
            let owns = |daemon: &Daemon| daemon.metric("hydrant_kafka_partitions{pipeline=\"x\"}");
            (owns(&first) == 4.0 && owns(&second) == 4.0).then_some(())
        });
        kafka.put_rows(&mut all, round * 100 + 40..round * 100 + 60);
        match round {
            1 => second.stop(),
            2 => second.kill(),
            _ => {
                first.kill();
                first = second;
            }
        }
        kafka.put_rows(&mut all, round * 100 + 60..round * 100 + 80);
        lake.holds_once(&all);
    }
    first.stop();
}

#[test]
fn without_its_handover_copy_a_partition_is_not_read_and_says_so() {
    let (home, lake, kafka) = (Home::new(), Lake::new(), Kafka::new("orders", 2));
    lake.write(&home, &kafka, CLASSIC);
    let mut all = Vec::new();
    kafka.put_rows(&mut all, 0..50);
    stuck(&home, &lake, 2).kill();
    lake.unblock();
    let copy = lake.copies().into_iter().find(|path| path.to_string_lossy().contains("p0s")).unwrap();
    let bytes = fs::read(&copy).unwrap();
    fs::remove_file(&copy).unwrap();
    let daemon = home.start("x.yaml");
    daemon.hears("the source cannot be read: trying again", |line| {
        line["error"].as_str().is_some_and(|error| error.contains("is gone, which the group says is half delivered"))
    });
    kafka.put_rows(&mut all, 50..100);
    until("the other one is delivered", || (lake.lines().len() == 100).then_some(()));
    assert!(lake.lines().keys().all(|row| rows(1, 0..100).contains(row)), "{:?}", lake.lines());
    fs::write(&copy, bytes).unwrap();
    lake.holds_once(&all);
    daemon.stop();
}

#[test]
fn plans_for_another_sink_are_not_followed_and_nothing_is_read_behind_them() {
    let (home, lake, wrong, kafka) = (Home::new(), Lake::new(), Lake::new(), Kafka::new("orders", 2));
    lake.write(&home, &kafka, CLASSIC);
    let first = rows(0, 0..50);
    kafka.put("orders", 0, &first);
    stuck(&home, &lake, 1).kill();
    lake.unblock();
    wrong.write(&home, &kafka, CLASSIC);
    let daemon = home.start("x.yaml");
    daemon.hears("kafka: orders/0", |line| line["message"].as_str().unwrap().contains("another sink"));
    kafka.put("orders", 0, &rows(0, 50..60));
    kafka.put("orders", 1, &rows(1, 0..60));
    wrong.holds_once(&rows(1, 0..60));
    // It gives the partition back although it never read it.
    daemon.stop();
    lake.write(&home, &kafka, CLASSIC);
    let daemon = home.start("x.yaml");
    lake.holds_once(&rows(0, 0..60));
    daemon.stop();
}
