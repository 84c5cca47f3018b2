//! The binary, `docs/metrics.md`, the dashboard and the alerts name the same metrics.

use std::collections::{BTreeMap, BTreeSet};

use hydrant::metrics::{GroupNow, Metrics, PartitionNow};
use hydrant::position::Shard;

use crate::support::daemon::{Home, http, pipeline, until};

const DOCUMENT: &str = include_str!("../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../packaging/grafana/hydrant.json");
const ALERTS: &str = include_str!("../../packaging/prometheus/alerts.yaml");

/// By name: type and labels.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// The rows of the document's table.
fn documented() -> Families {
    let mut families = Families::new();
    for row in DOCUMENT.lines().filter(|line| line.starts_with("| `hydrant_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        let name = cells[1].trim_matches('`').to_owned();
        assert!(cells[4].len() > 10, "{name} says nothing");
        assert_eq!(families.insert(name, (cells[2].to_owned(), labels)), None, "{row} is there twice");
    }
    families
}

/// What a page of `/metrics` shows, counters with their `_total`.
fn shown(page: &str) -> Families {
    let mut families = Families::new();
    for line in page.lines() {
        if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            families.insert(format!("{family}{suffix}"), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let series = line.split(['{', ' ']).next().unwrap();
            let of_histogram = ["_bucket", "_count", "_sum"].iter().find_map(|end| series.strip_suffix(end));
            let family = families.get_mut(series);
            let (_, labels) = match family {
                Some(family) => family,
                None => families.get_mut(of_histogram.unwrap()).unwrap(),
            };
            let within =
                line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
            let names = within.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
            labels.extend(names.filter(|name| name != "le"));
        }
    }
    families
}

#[test]
fn the_binary_shows_what_the_document_names_and_nothing_else() {
    let home = Home::new();
    let rows = "parquet: { schema: { id: int64 } }";
    home.write("clicks.yaml", pipeline("firehose: { stream: clicks }", rows, "200ms", "url: ./out"));
    let daemon = home.start("clicks.yaml");
    daemon.put_lines("clicks", &["{\"id\":1}", "no JSON"]);
    daemon.delivers("clicks", 2);
    let shown = shown(&daemon.metrics());
    let (kafka, others): (Families, Families) = documented().into_iter().partition(is_of_kafka);
    assert_eq!(shown, others);
    assert_eq!(kafka.len(), 12);
    daemon.stop();
}

fn is_of_kafka((name, _): &(String, (String, BTreeSet<String>))) -> bool {
    name.starts_with("hydrant_kafka_")
}

#[test]
fn a_kafka_source_shows_what_the_document_names_and_nothing_else() {
    let metrics = Metrics::new();
    let kafka = metrics.pipeline("orders").kafka();
    let shard = Shard::new("k1a2b3c4dp3s001122334455").unwrap();
    let (topic, committed, end) = ("orders".into(), Some(7), Some(9));
    let owned = vec![PartitionNow { topic, partition: 3, shard, committed, read: 8, end, paused: false }];
    let (group, member) = ("lake".to_owned(), "hydrant-1".to_owned());
    kafka.show(GroupNow { group, member, protocol: "consumer", owned, members: Vec::new() });
    kafka.found("records_gone");
    let of_kafka = |families: Families| families.into_iter().filter(is_of_kafka);
    assert_eq!(of_kafka(shown(&metrics.render())).collect::<Families>(), of_kafka(documented()).collect());
}

#[test]
fn a_pipeline_that_is_gone_has_no_metrics_however_often_one_looks() {
    let home = Home::new();
    let rows = "parquet: { schema: { id: int64 } }";
    for name in ["gone", "stays"] {
        let source = format!("firehose: {{ stream: {name} }}");
        home.write(&format!("pipelines/{name}.yaml"), pipeline(&source, rows, "200ms", &format!("url: ./{name}")));
    }
    let daemon = home.start("pipelines");
    for name in ["gone", "stays"] {
        daemon.put_batch(name, &["{\"id\":1}", "no JSON"]);
        daemon.delivers(name, 2);
    }
    assert!(daemon.metrics().matches("\"gone\"").count() > 15);
    std::fs::remove_file(home.path("pipelines/gone.yaml")).unwrap();
    until("it is gone", || {
        let (status, view) = http(daemon.admin(), "GET /api/status", "", b"");
        assert_eq!(status, 200);
        (!view.contains("\"name\":\"gone\",\"file\"") && !daemon.metrics().contains("\"gone\"")).then_some(())
    });
    assert!(daemon.metrics().matches("\"stays\"").count() > 15);
    daemon.stop();
}

/// The names of metrics in a text: what begins with `hydrant_`, as PromQL would read it.
fn named(text: &str) -> BTreeSet<String> {
    let after = text.match_indices("hydrant_").map(|(at, _)| &text[at..]);
    after
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap())
        .map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned())
        .collect()
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_documented_metrics_only() {
    let documented: BTreeSet<String> = documented().into_keys().collect();
    for (what, text, at_least) in [("dashboard", DASHBOARD, 25), ("alerts", ALERTS, 14)] {
        let named = named(text);
        let unknown: Vec<_> = named.difference(&documented).collect();
        assert!(unknown.is_empty(), "the {what} asks for {unknown:?}");
        assert!(named.len() >= at_least, "the {what} asks for {named:?} only");
    }
}

#[test]
fn the_document_tells_of_every_alert() {
    let alerts: Vec<&str> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), 14);
    for alert in alerts {
        assert!(DOCUMENT.contains(alert), "{alert} is not in docs/metrics.md");
    }
}
