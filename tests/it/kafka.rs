//! Kafka as a source, through the real binary and librdkafka's mock cluster.

use std::collections::BTreeMap;
use std::fs;

use crate::support::daemon::{Home, files, pipeline, until};
use crate::support::kafka::Kafka;

fn write(home: &Home, kafka: &Kafka, options: &str) {
    let source = format!("kafka: {{ brokers: \"{}\", topics: [orders], group: g{options} }}", kafka.brokers());
    home.write("x.yaml", pipeline(&source, "lines: {}", "100ms", "url: ./out"));
}

fn rows(partition: i32, ids: std::ops::Range<u64>) -> Vec<String> {
    ids.map(|id| format!("{{\"partition\":{partition},\"id\":{id}}}")).collect()
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

fn once<'l>(lines: impl IntoIterator<Item = &'l String>) -> BTreeMap<String, u32> {
    lines.into_iter().map(|line| (line.clone(), 1)).collect()
}

#[test]
fn what_is_in_a_topic_is_delivered_once_over_restarts() {
    let (home, kafka) = (Home::new(), Kafka::new("orders", 3));
    write(&home, &kafka, "");
    let mut all: Vec<String> = Vec::new();
    let put = |all: &mut Vec<String>, ids: std::ops::Range<u64>| {
        for partition in 0..3 {
            let rows = rows(partition, ids.clone());
            kafka.put("orders", partition, &rows);
            all.extend(rows);
        }
    };
    put(&mut all, 0..500);
    let daemon = home.start("x.yaml");
    daemon.delivers("x", 1500);
    assert_eq!(lines(&home), once(&all));
    put(&mut all, 500..600);
    daemon.delivers("x", 1800);
    daemon.stop();
    put(&mut all, 600..700);
    let daemon = home.start("x.yaml");
    until("all of it is there", || (lines(&home) == once(&all)).then_some(()));
    daemon.kill();
    put(&mut all, 700..800);
    let daemon = home.start("x.yaml");
    until("all of it is there", || (lines(&home) == once(&all)).then_some(()));
    daemon.stop();
    let copies: Vec<_> =
        files(&home.path("out")).into_iter().filter(|path| path.to_string_lossy().contains("handover")).collect();
    assert!(copies.is_empty(), "{copies:?}");
}
