//! `hydrant test`: cases beside a pipeline, and what is said when they fail.

use std::path::Path;

use crate::support::daemon::Home;

const PIPELINE: &str = "\
source: { firehose: { stream: clicks } }
transforms:
  - filter: .level != \"debug\"
  - jq: '.seen = $arrival'
format: FORMAT
sink: { object_store: { url: ./lake, prefix: \"day={arrival:%Y-%m-%d}/user={user}/\" } }
";

const CASES: &str = "\
now: 2026-11-20T12:00:00Z
cases:
  - name: records go to the folders of their users
    input:
      - { user: a, price: 1 }
      - { record: { user: b }, arrival: 2026-11-19T00:00:00Z }
      - { user: a, level: debug }
    output:
      day=2026-11-20/user=a/: [{ user: a, price: 1, seen: 1795176000000 }]
      day=2026-11-19/user=b/: [{ user: b, seen: 1795046400000 }]
    dropped: 1
    objects: [\"day=2026-11-20/user=a/clicks-*\", \"day=*/user=b/*\"]
  - name: what is no JSON is set aside
    input: [\"no JSON\"]
    rejects: [{ reason: processing-failed, code: Filter.Failed, record: no JSON }]
";

fn home(format: &str) -> Home {
    let home = Home::new();
    home.write("clicks.yaml", PIPELINE.replace("FORMAT", format));
    home.write("clicks.test.yaml", CASES);
    home
}

#[test]
fn cases_pass_in_every_format_that_is_read_back() {
    let columns = "{ user: string, price: int64, seen: int64 }";
    for format in [
        "{ lines: {} }".to_owned(),
        "{ lines: { compression: gzip } }".to_owned(),
        "{ lines: { compression: zstd } }".to_owned(),
        "{ lines: { compression: snappy } }".to_owned(),
        "{ lines: { compression: hadoop_snappy } }".to_owned(),
        "{ json_array: {} }".to_owned(),
        format!("{{ parquet: {{ schema: {columns} }} }}"),
        "{ parquet: { schema: infer } }".to_owned(),
    ] {
        let ended = home(&format).run("test clicks.yaml");
        assert_eq!(ended.code, 0, "{format}: {ended:?}");
        assert!(ended.stdout.ends_with("2 passed, 0 failed\n"), "{ended:?}");
    }
}

#[test]
fn rows_of_avro_are_not_compared_and_that_is_said() {
    let home = home("{ avro: { schema: { user: string } } }");
    let case = "cases:\n  - name: as it is\n    input: [{ user: a }]\n    objects: [\"*/user=a/clicks-*.avro\"]\n";
    home.write("clicks.test.yaml", case);
    let ended = home.run("test .");
    assert_eq!(ended.code, 0, "{ended:?}");
    home.write("clicks.test.yaml", format!("{case}    output: [{{ user: a }}]\n"));
    let ended = home.run("test .");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stdout.contains("objects of Avro are not read back here\n  hint: leave `output` out"), "{ended:?}");
}

#[test]
fn rows_of_csv_are_texts() {
    let home = home("{ csv: { schema: { user: string, price: int64 }, on_unknown: drop } }");
    home.write(
        "clicks.test.yaml",
        "cases:\n  - name: as text\n    input: [{ user: a, price: 1 }]\n    output: [\"user,price\", \"a,1\"]\n",
    );
    let ended = home.run("test .");
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn every_type_is_seen_as_its_readers_see_it() {
    let home = Home::new();
    home.write(
        "types.yaml",
        "source: { demo: {} }\nformat:\n  parquet:\n    schema:\n      t: timestamp(us)\n      l: timestamp(ms, none)\n      \
         d: date\n      c: time(ms)\n      p: \"decimal(5,2)\"\n      b: binary(hex)\n      k: dictionary<string>\n      \
         s: \"struct<a: int, f: float64>\"\n      i: list<bool>\n      m: \"map<string,int>\"\n      u: uint8\n\
         sink: { object_store: { url: ./lake, prefix: \"\" } }\n",
    );
    home.write(
        "types.test.yaml",
        "cases:\n  - name: all\n    input:\n      - { t: 2026-11-20T12:00:00.5Z, l: \"2026-11-20T12:00:00\", d: 2026-11-20, \
         c: \"12:34:56\", p: -0.05, b: ff00, k: x, s: { a: 1, f: 2 }, i: [true, null], m: { a: 1 }, u: 255 }\n    output:\n      \
         - { t: \"2026-11-20T12:00:00.500000Z\", l: \"2026-11-20T12:00:00.000\", d: \"2026-11-20\", c: \"12:34:56\", p: \"-0.05\", \
         b: /wA=, k: x, s: { a: 1, f: 2.0 }, i: [true, null], m: { a: 1 }, u: 255 }\n",
    );
    let ended = home.run("test types.yaml");
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn what_differs_is_shown_with_its_line() {
    let home = home("{ lines: {} }");
    home.write(
        "clicks.test.yaml",
        CASES
            .replace("price: 1, seen", "price: 2, seen")
            .replace("dropped: 1", "dropped: 2")
            .replace("/user=b/*", "/user=c/*")
            .replace("Filter.Failed", "Jq.Failed"),
    );
    let ended = home.run("test clicks.test.yaml");
    assert_eq!(ended.code, 1);
    for words in [
        "FAILED  clicks: records go to the folders of their users\n        clicks.test.yaml:3\n",
        "  - 2 day=2026-11-20/user=a/  {\"price\":2,\"seen\":1795176000000,\"user\":\"a\"}\n",
        "  + 2 day=2026-11-20/user=a/  {\"price\":1,\"seen\":1795176000000,\"user\":\"a\"}\n",
        "  dropped:\n  - 2\n  + 1\n",
        "  objects (- expected, + became):\n  - day=*/user=c/*\n  + day=2026-11-19/user=b/clicks-",
        "        clicks.test.yaml:13\n  rejects (- expected, + became):\n  - reason: processing-failed, code: Jq.Failed, record: \"no JSON\"\n",
        "  + processing-failed Filter.Failed: ",
        "\n0 passed, 2 failed\n",
    ] {
        assert!(ended.stdout.contains(words), "not there: {words}\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains("1 day=2026-11-19"), "what is as expected is not shown: {}", ended.stdout);
}

#[test]
fn the_line_is_that_of_the_case_whatever_its_records_are_called() {
    let home = home("{ lines: {} }");
    home.write(
        "clicks.test.yaml",
        "cases:\n  - name: right\n    input:\n      - name: of a record\n        user: a\n  - name: careless\n    input: [\"no JSON\"]\n",
    );
    let ended = home.run("test .");
    assert!(ended.stdout.contains("FAILED  clicks: careless\n        clicks.test.yaml:6\n"), "{ended:?}");
}

#[test]
fn a_record_that_is_set_aside_unexpectedly_fails_a_case() {
    let home = home("{ lines: {} }");
    home.write("clicks.test.yaml", "cases:\n  - name: careless\n    input: [\"no JSON\"]\n");
    let ended = home.run("test .");
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stdout.contains("+ processing-failed Filter.Failed: "), "{ended:?}");
}

#[test]
fn records_may_lie_in_a_file() {
    let home = home("{ lines: {} }");
    home.write("records.ndjson", "{\"user\":\"a\"}\n{\"user\":\"b\",\"level\":\"debug\"}\n");
    home.write(
        "clicks.test.yaml",
        "cases:\n  - name: of a file\n    input: { file: records.ndjson }\n    dropped: 1\n",
    );
    assert_eq!(home.run("test .").code, 0);
}

#[test]
fn wrong_files_are_wrong_configuration() {
    let home = home("{ lines: {} }");
    for (cases, said) in [
        ("cases: []\n", "clicks.test.yaml: `cases` is an empty list"),
        ("cases:\n  - { name: x, input: [], outputs: [] }\n", "clicks.test.yaml:2:27: unknown key `outputs`"),
        ("cases:\n  - { input: [] }\n", "clicks.test.yaml:2:5: missing key `name`"),
    ] {
        home.write("clicks.test.yaml", cases);
        let ended = home.run("test .");
        assert_eq!(ended.code, 78, "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
    home.write("alone.test.yaml", CASES);
    assert!(home.run("test alone.test.yaml").stderr.contains("there is no pipeline to these cases"));
    home.write("none/x.yaml", PIPELINE);
    let ended = home.run("test none none/x.yaml");
    assert_eq!(ended.code, 78);
    assert!(ended.stderr.contains("none: the folder holds no cases"), "{ended:?}");
    assert!(ended.stderr.contains("none/x.yaml: the pipeline has no cases"), "{ended:?}");
}

#[test]
fn the_cases_of_the_pipelines_that_lie_here_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let ended = Home::new().run(&format!("test {}", folder.display()));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("\nok ") || ended.stdout.starts_with("ok "), "{ended:?}");
}

#[test]
fn check_asks_the_sinks_if_told_to() {
    let home = home("{ lines: {} }");
    let ended = home.run("check --connect clicks.yaml");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "clicks: firehose clicks -> filter -> jq -> lines -> ./lake: the sink takes objects\n")
    );
    assert!(home.files("lake").is_empty(), "the probe is still there");
    home.write("lake-file", "");
    home.write("clicks.yaml", PIPELINE.replace("FORMAT", "{ lines: {} }").replace("./lake", "./lake-file"));
    let ended = home.run("check --connect clicks.yaml");
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.stderr.starts_with("clicks.yaml: ./lake-file: "), "{ended:?}");
}
