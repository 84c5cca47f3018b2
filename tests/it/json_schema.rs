//! The JSON Schemas say what the reader says: what loads, validates, and what is wrong does not.

use std::fs;
use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use hydrant::cli::test::cases_schema;
use hydrant::config::{Environment, load_text, pipeline_schema, settings_schema};
use serde_json::Value;

/// A pipeline that is right; tests replace parts of it.
const RIGHT: &str = "\
source:
  firehose: { stream: clickstream }
transforms: []
format:
  lines: {}
buffer: { size: 128 MiB, interval: 60s }
sink:
  object_store: { url: ./data/lake }
";

/// What may stand in the place of a part, and is right.
const RIGHTS: [(&str, &str); 41] = [
    ("firehose: { stream: clickstream }", "demo: {}"),
    ("firehose: { stream: clickstream }", "demo:"),
    ("firehose: { stream: clickstream }", "demo: { rate: 0, records: 10, seed: 7 }"),
    ("firehose: { stream: clickstream }", "demo:\n    rate: ${RATE}"),
    ("firehose: { stream: clickstream }", "stdin: {}"),
    ("firehose: { stream: clickstream }", "http: { stream: 2026 }"),
    ("firehose: { stream: clickstream }", "kafka: { brokers: b1, topics: orders }"),
    (
        "firehose: { stream: clickstream }",
        "kafka:\n    brokers: [b1:9092]\n    topics: [a, ^b-.*]\n    start: latest\n    protocol: classic\n    tls: true\n    merge: ${YES}",
    ),
    (
        "firehose: { stream: clickstream }",
        "kafka: { brokers: [b1:9092], topics: a, start: 2026-01-01T00:00:00Z, on_lost: go_on, tombstones: keep, tls: { verify_hostname: false } }",
    ),
    (
        "firehose: { stream: clickstream }",
        "kafka: { brokers: b1, topics: a, sasl: { scram_sha_512: { username: a, password: \"env:SECRET\" } }, client: { fetch.max.bytes: 16777216 } }",
    ),
    (
        "firehose: { stream: clickstream }",
        "kafka: { brokers: b1, topics: a, sasl: { aws_msk_iam: { region: eu-central-1 } }, isolation: read_uncommitted, instance: n1 }",
    ),
    ("firehose: { stream: clickstream }", "file: { path: \"/var/log/*.log\" }"),
    (
        "firehose: { stream: clickstream }",
        "file:\n    path: [a, b]\n    exclude: [c]\n    start: end\n    follow: ${YES}\n    line_bytes_max: 2 MiB",
    ),
    ("transforms: []", "transforms: [{ filter: .a }, { filter: { expression: .a, time_max: 2s } }]"),
    ("transforms: []", "transforms: [{ jq: .a }, { jq: { program: \".a\", output_max: 1 MiB } }]"),
    ("transforms: []", "transforms: [{ metadata_extraction: { query: \"{a: .a}\", parsing_engine: JQ-1.6 } }]"),
    (
        "transforms: []",
        "transforms: [{ lambda: { function: redact, region: eu-central-1, on_unreachable: reject, buffer: { size: 1 MiB, interval: 0s } } }]",
    ),
    (
        "transforms: []",
        "transforms: [{ lambda: { function: redact, region: eu-central-1, access_key_id: a, secret_access_key: \"env:SECRET\", retries: 0 } }]",
    ),
    ("lines: {}", "lines:"),
    ("lines: {}", "lines: { compression: gzip, delimiter: none, extension: .log.gz }"),
    ("lines: {}", "lines: { compression: { zstd: 9 }, delimiter: { text: \"||\" } }"),
    ("lines: {}", "lines: { compression: \"${GZIP}\" }"),
    ("lines: {}", "json_array: { compression: hadoop_snappy }"),
    (
        "lines: {}",
        "csv: { schema: { id: int64, name: string not null }, header: false, delimiter: \";\", line_end: crlf }",
    ),
    ("lines: {}", "avro: { schema: { id: int }, compression: { deflate: 9 } }"),
    ("lines: {}", "parquet: { schema: infer }"),
    ("lines: {}", "parquet: { schema: { infer: { sample_records: 10 } } }"),
    ("lines: {}", "parquet: { schema: { file: string, infer: long } }"),
    ("lines: {}", "parquet: { schema: { at: { type: timestamp(ms), key: \"@t\", format: epoch_s } } }"),
    ("lines: {}", "parquet: { schema: { at: { type: timestamp(ms), format: [rfc3339, \"%d/%b/%Y\"] } } }"),
    (
        "lines: {}",
        "parquet: { schema: { a: \"struct<x: int, y: list<string>>\", b: \"map<string,json>\", c: \"decimal(12, 2) not null\" } }",
    ),
    (
        "lines: {}",
        "parquet: { schema: { a: int }, row_group: { rows_max: 5, bytes_max: 64 MiB }, writer_version: 1, sort_by: [{ column: a, descending: true }] }",
    ),
    (
        "lines: {}",
        "parquet: { schema: { a: string }, page_bytes: 1048576, encodings: plain_dictionary, bloom_filters: [a], on_unknown: drop }",
    ),
    ("size: 128 MiB", "size: 1048576"),
    ("buffer: { size: 128 MiB, interval: 60s }", "buffer:\n  size: ${SIZE}"),
    ("interval: 60s", "interval: 1h aligned"),
    ("interval: 60s", "interval: 1m 30s"),
    (
        "url: ./data/lake",
        "url: s3://lake/x, options: { allow_http: true, region: eu-central-1, access_key_id: a, secret_access_key: \"env:SECRET\" }",
    ),
    (
        "url: ./data/lake",
        "url: ./x, partition_keys: { id: .a.b }, prefix: \"!{partitionKeyFromQuery:id}/\", time_zone: Europe/Berlin",
    ),
    ("url: ./data/lake", "url: ./x, partition_keys: \"{id: .a.b}\", multipart_above: 8 MiB, part_size: 5 MiB"),
    ("transforms: []", "spool: { size: 1 GiB, once_window: 0s }\nerrors: { prefix: \"e/{reason}/\" }"),
];

/// What may not stand there, whoever reads it.
const WRONGS: [(&str, &str); 36] = [
    ("firehose: { stream: clickstream }", "fire: { stream: clickstream }"),
    ("firehose: { stream: clickstream }", "{}"),
    ("firehose: { stream: clickstream }", "demo: {}\n  stdin: {}"),
    ("firehose: { stream: clickstream }", "firehose: {}"),
    ("firehose: { stream: clickstream }", "firehose:"),
    ("firehose: { stream: clickstream }", "demo: { rate: fast }"),
    ("firehose: { stream: clickstream }", "demo: { rate: -1 }"),
    ("firehose: { stream: clickstream }", "demo: { rates: 1 }"),
    ("firehose: { stream: clickstream }", "kafka: { brokers: b1 }"),
    ("firehose: { stream: clickstream }", "kafka: { brokers: b1, topics: a, start: yesterday }"),
    ("firehose: { stream: clickstream }", "kafka: { brokers: b1, topics: a, tls: { cas: x } }"),
    ("firehose: { stream: clickstream }", "kafka: { brokers: b1, topics: a, sasl: { plain: { username: a } } }"),
    ("firehose: { stream: clickstream }", "kafka: { brokers: b1, topics: a, client: { group.id: x } }"),
    ("firehose: { stream: clickstream }", "kafka: { brokers: b1, topics: a, protocol: eager }"),
    ("firehose: { stream: clickstream }", "file: { path: { a: b } }"),
    ("firehose: { stream: clickstream }", "file: { path: a, start: middle }"),
    ("firehose: { stream: clickstream }", "file: { path: a, follow: maybe }"),
    ("transforms: []", "transforms: { jq: . }"),
    ("transforms: []", "transforms: [jq]"),
    ("transforms: []", "transforms: [{ jq: ., filter: . }]"),
    ("transforms: []", "transforms: [{ jq: { time_max: 1s } }]"),
    ("transforms: []", "transforms: [{ metadata_extraction: { query: ., parsing_engine: JQ-1.7 } }]"),
    ("transforms: []", "transforms: [{ lambda: { function: redact, region: x, retries: 301 } }]"),
    ("lines: {}", "lines: { compression: lzma }"),
    ("lines: {}", "lines: { compression: { gzip: 13 } }"),
    ("lines: {}", "lines: { compression: { gzip: 1, zstd: 1 } }"),
    ("lines: {}", "parquet: {}"),
    ("lines: {}", "parquet: { schema: { a: strin } }"),
    ("lines: {}", "parquet: { schema: { a: { key: b } } }"),
    ("lines: {}", "parquet: { schema: { a: int }, writer_version: 3 }"),
    ("lines: {}", "csv: { schema: { a: int }, delimiter: \"||\" }"),
    ("size: 128 MiB", "size: 128 MiBs"),
    ("size: 128 MiB", "size: 60s"),
    ("interval: 60s", "interval: 60"),
    ("interval: 60s", "interval: 1h aligne"),
    ("url: ./data/lake", "urls: ./data/lake"),
];

/// A schema that can be asked.
struct Asked {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Asked {
    fn of(schema: Value) -> Asked {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", schema).unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Asked { schemas, index }
    }

    fn wrong(&self, yaml: &str) -> Option<String> {
        let value: Value = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}: {yaml}"));
        self.schemas.validate(&value, self.index).err().map(|error| format!("{error:#}"))
    }
}

fn environment() -> Environment {
    Environment::of([("RATE", "5"), ("YES", "true"), ("GZIP", "gzip"), ("SIZE", "1 MiB"), ("SECRET", "hush")])
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(end));
    files.sort();
    assert!(!files.is_empty(), "{folder} holds no *{end}");
    files
}

#[test]
fn the_schemas_in_docs_are_those_that_the_command_prints() {
    for (name, schema) in [("pipeline", pipeline_schema()), ("settings", settings_schema()), ("cases", cases_schema())]
    {
        crate::support::kept::is_kept(&format!("docs/{name}.schema.json"), &format!("{schema:#}\n"));
    }
}

#[test]
fn every_pipeline_that_lies_here_validates() {
    let (pipeline, cases) = (Asked::of(pipeline_schema()), Asked::of(cases_schema()));
    for path in files("pipelines", ".yaml") {
        let text = fs::read_to_string(&path).unwrap();
        let asked = if path.to_string_lossy().ends_with(".test.yaml") { &cases } else { &pipeline };
        assert_eq!(asked.wrong(&text), None, "{}", path.display());
    }
}

#[test]
fn every_pipeline_in_the_documentation_validates() {
    let asked = Asked::of(pipeline_schema());
    let mut seen = 0;
    for path in files("docs", ".md").into_iter().chain([root().join("README.md")]) {
        let text = fs::read_to_string(&path).unwrap();
        // Blocks of code, and files within them as shells write them.
        let blocks = text.split("```").skip(1).step_by(2).flat_map(|block| block.split("EOF"));
        for block in blocks.filter_map(|block| block.find("source:").map(|at| &block[at..])) {
            // Modules and files that it speaks of are not here.
            let is_pipeline = |value: Value| ["source", "format", "sink"].iter().all(|key| value.get(key).is_some());
            if serde_saphyr::from_str::<Value>(block).is_ok_and(is_pipeline) {
                seen += 1;
                assert_eq!(asked.wrong(block), None, "{}: {block}", path.display());
            }
        }
    }
    assert!(seen > 0, "no example is a pipeline");
}

#[test]
fn what_loads_validates() {
    let asked = Asked::of(pipeline_schema());
    for (part, replaced) in RIGHTS {
        assert!(RIGHT.contains(part), "{part}");
        let text = RIGHT.replacen(part, replaced, 1);
        let loaded = load_text("x", "x.yaml", &text, &environment());
        assert!(loaded.is_ok(), "{text}\n{}", loaded.unwrap_err());
        assert_eq!(asked.wrong(&text), None, "{text}");
    }
}

#[test]
fn what_is_wrong_does_not() {
    let asked = Asked::of(pipeline_schema());
    assert_eq!(asked.wrong(RIGHT), None);
    for (part, replaced) in WRONGS {
        assert!(RIGHT.contains(part), "{part}");
        let text = RIGHT.replacen(part, replaced, 1);
        assert!(load_text("x", "x.yaml", &text, &environment()).is_err(), "loads: {text}");
        assert!(asked.wrong(&text).is_some(), "validates: {text}");
    }
}

#[test]
fn settings_are_known_as_well() {
    let asked = Asked::of(settings_schema());
    let right = "state: /var/lib/hydrant\nlisten: 0.0.0.0:4573\nmemory: 1 GiB\ncredentials:\n  \
                 - { access_key_id: a, secret_access_key: \"env:SECRET\", streams: [x] }\nlog: json\non_corruption: skip\n";
    assert_eq!(asked.wrong(right), None);
    for wrong in ["memroy: 1 GiB", "memory: much", "log: xml", "credentials: [{ access_key_id: a }]"] {
        assert!(asked.wrong(wrong).is_some(), "validates: {wrong}");
    }
}
