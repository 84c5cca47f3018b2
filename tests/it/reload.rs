//! Reloads as whoever edits pipelines sees them: every way in which files change, what is taken, what is refused and why.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::SystemTime;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::support::daemon::{Home, files, http, pipeline, until};

const PLAIN: &str = "lines: {}";
const SOON: &str = "200ms";
/// No chunk of a story becomes this old.
const LONG: &str = "1h";

fn records(ids: std::ops::Range<u32>) -> Vec<String> {
    ids.map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}")).collect()
}

fn text(records: &[String]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// All lines below a folder, in the order of the objects' names.
fn lines(folder: &Path) -> String {
    files(folder).into_iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// A pipeline of the stream `clicks` to a folder.
fn to(folder: &str) -> String {
    pipeline("http: { stream: clicks }", PLAIN, SOON, &format!("url: ./{folder}"))
}

/// How a file becomes another one.
type Replace = fn(&Home, &str, &str);

#[test]
fn a_file_that_is_edited_or_replaced_is_taken_and_the_next_record_goes_the_new_way() {
    let in_place: Replace = |home, name, text| home.write(name, text);
    let renamed_over: Replace = |home, name, text| {
        home.write("p/.x.yaml.swp", text);
        fs::rename(home.path("p/.x.yaml.swp"), home.path(name)).unwrap();
    };
    let removed_first: Replace = |home, name, text| {
        fs::rename(home.path(name), home.path("p/x.yaml~")).unwrap();
        home.write(name, text);
    };
    for replace in [in_place, renamed_over, removed_first] {
        let home = Home::new();
        home.write("p/x.yaml", to("a"));
        let daemon = home.start("p");
        daemon.put_lines("clicks", &records(0..10));
        daemon.delivers("x", 10);
        replace(&home, "p/x.yaml", &to("b"));
        until("the new revision runs", || (daemon.seen("x")["way"]["sink"] == "./b").then_some(()));
        daemon.put_lines("clicks", &records(10..20));
        daemon.delivers("x", 20);
        daemon.stop();
        assert_eq!(lines(&home.path("a")), text(&records(0..10)));
        assert_eq!(lines(&home.path("b")), text(&records(10..20)));
    }
}

#[test]
fn what_was_read_before_the_switch_goes_the_old_way_and_nothing_is_lost_or_doubled() {
    let home = Home::new();
    let written = |folder: &str| pipeline("http: { stream: clicks }", PLAIN, LONG, &format!("url: ./{folder}"));
    home.write("p/x.yaml", written("a"));
    let daemon = home.start("p");
    daemon.put_lines("clicks", &records(0..10));
    until("the records are in an open chunk", || (daemon.seen("x")["counts"]["records_in"] == 10).then_some(()));
    home.write("p/x.yaml", written("b"));
    assert_eq!(daemon.reload().0, 200);
    daemon.runs("x", 2);
    daemon.put_lines("clicks", &records(10..20));
    home.write("p/x.yaml", to("b"));
    daemon.delivers("x", 20);
    daemon.stop();
    assert_eq!(lines(&home.path("a")) + &lines(&home.path("b")), text(&records(0..20)));
}

#[test]
fn a_file_that_was_only_touched_or_written_again_is_no_new_revision() {
    let home = Home::new();
    home.write("p/x.yaml", to("a"));
    let daemon = home.start("p");
    File::options().append(true).open(home.path("p/x.yaml")).unwrap().set_modified(SystemTime::now()).unwrap();
    home.write("p/x.yaml", to("a"));
    home.write("p/x.test.yaml", "not for hydrant run: {");
    let (status, reloaded) = daemon.reload();
    assert_eq!((status, &reloaded["unchanged"]), (200, &json!(["x"])), "{reloaded}");
    assert_eq!(daemon.seen("x")["revision"]["number"], 1);
    daemon.stop();
}

#[test]
fn a_folder_that_kubernetes_swaps_is_taken() {
    let home = Home::new();
    home.write("p/..1/x.yaml", to("a"));
    home.write("p/..2/x.yaml", to("b"));
    symlink("..1", home.path("p/..data")).unwrap();
    symlink("..data/x.yaml", home.path("p/x.yaml")).unwrap();
    let daemon = home.start("p");
    symlink("..2", home.path("p/..data_tmp")).unwrap();
    fs::rename(home.path("p/..data_tmp"), home.path("p/..data")).unwrap();
    fs::remove_dir_all(home.path("p/..1")).unwrap();
    daemon.runs("x", 2);
    assert_eq!(daemon.seen("x")["way"]["sink"], "./b");
    daemon.stop();
}

#[test]
fn files_that_change_at_once_change_each_their_own_pipeline() {
    let home = Home::new();
    for name in ["a", "b", "c", "still"] {
        home.write(&format!("p/{name}.yaml"), to(name));
    }
    let daemon = home.start("p");
    for name in ["a", "b", "c"] {
        home.write(&format!("p/{name}.yaml"), to(&format!("{name}2")));
    }
    let (status, reloaded) = daemon.reload();
    assert_eq!(status, 200, "{reloaded}");
    for (name, number) in [("a", 2), ("b", 2), ("c", 2), ("still", 1)] {
        daemon.runs(name, number);
    }
    daemon.stop();
}

#[test]
fn another_module_in_the_same_file_is_a_change() {
    let home = Home::new();
    let transforms = "transforms: [wasm: { module: m.wasm, config: { fields: [name] } }]\n";
    home.write("p/x.yaml", to("out") + transforms);
    home.write("p/m.wasm", include_bytes!("../../transforms/redact/redact.wasm"));
    let daemon = home.start("p");
    daemon.put_lines("clicks", &records(0..40));
    daemon.delivers("x", 40);
    assert!(lines(&home.path("out")).contains("{\"id\":0,\"name\":\"***\"}"));
    home.write("p/new.wasm", wat::parse_str(include_str!("wasm/dice.wat")).unwrap());
    fs::rename(home.path("p/new.wasm"), home.path("p/m.wasm")).unwrap();
    daemon.runs("x", 2);
    daemon.put_lines("clicks", &records(40..80));
    daemon.delivers("x", 80);
    daemon.stop();
    assert!(lines(&home.path("out")).contains(",\"p\":\""), "the dice are thrown");
}

#[test]
fn a_schema_file_that_changes_is_a_change_and_what_is_wrong_in_it_is_told() {
    let home = Home::new();
    let format = "parquet: { schema: { file: row.schema } }";
    home.write("p/x.yaml", pipeline("http: { stream: clicks }", format, SOON, "url: ./out"));
    home.write("p/row.schema", "message row { required int64 id; }\n");
    let daemon = home.start("p");
    home.write("p/row.schema", "message row {\n  required int63 id;\n}\n");
    let (status, reloaded) = daemon.reload();
    assert_eq!(status, 422, "{reloaded}");
    let problems = reloaded["refused"][0]["problems"].as_str().unwrap();
    assert!(problems.contains("p/row.schema:2:"), "{problems}");
    home.write("p/row.schema", "message row { required int64 id; optional binary name (UTF8); }\n");
    daemon.runs("x", 2);
    daemon.put_lines("clicks", &records(0..10));
    daemon.delivers("x", 10);
    daemon.stop();
    let object = files(&home.path("out")).pop().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(object).unwrap()).unwrap();
    let columns: Vec<&String> = reader.schema().fields().iter().map(|column| column.name()).collect();
    assert_eq!(columns, ["id", "name", "_rest"]);
}

#[test]
fn a_broken_file_leaves_the_old_revision_running_and_is_taken_as_soon_as_it_is_mended() {
    let home = Home::new();
    home.write("p/x.yaml", to("a"));
    home.write("p/other.yaml", to("other"));
    let daemon = home.start("p");
    home.write("p/x.yaml", to("b").replace("lines", "linse"));
    home.write("p/other.yaml", to("other2"));
    let (status, reloaded) = daemon.reload();
    assert_eq!(status, 422, "{reloaded}");
    let refused = reloaded["refused"].as_array().unwrap();
    assert_eq!((refused.len(), &refused[0]["name"]), (1, &json!("x")), "{reloaded}");
    let problems = refused[0]["problems"].as_str().unwrap();
    assert!(problems.starts_with("p/x.yaml:2:") && problems.contains("did you mean `lines`?"), "{problems}");
    let seen = daemon.seen("x");
    assert_eq!((&seen["state"], &seen["revision"]["number"]), (&json!("running"), &json!(1)));
    assert_eq!(seen["pending"]["problems"], problems);
    daemon.runs("other", 2);
    daemon.put_lines("clicks", &records(0..10));
    daemon.delivers("x", 10);
    assert_eq!(daemon.healthz().0, 200, "the old one works");
    home.write("p/x.yaml", to("b"));
    daemon.runs("x", 2);
    assert_eq!(daemon.seen("x")["pending"], Value::Null);
    assert_eq!(daemon.reload().0, 200);
    daemon.stop();
    assert_eq!(lines(&home.path("a")), text(&records(0..10)));
}

#[test]
fn an_empty_folder_is_watched_until_there_is_a_pipeline_and_is_an_error_for_once() {
    let home = Home::new();
    fs::create_dir(home.path("p")).unwrap();
    let checked = home.run("check p");
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.stderr.starts_with("p: warning: no pipelines yet"), "{checked:?}");
    let once = home.run("run p --once --state state");
    assert_eq!(once.code, 78, "{once:?}");
    assert!(once.stderr.starts_with("p: the folder holds no pipeline"), "{once:?}");
    let daemon = home.start("p");
    assert!(daemon.log().contains("p: warning: no pipelines yet"), "{}", daemon.log());
    assert_eq!(daemon.healthz().0, 200);
    let (status, reloaded) = daemon.reload();
    assert_eq!(status, 200, "{reloaded}");
    home.write("p/x.yaml", to("x"));
    daemon.runs("x", 1);
    daemon.put_lines("clicks", &records(0..10));
    daemon.delivers("x", 10);
    fs::remove_file(home.path("p/x.yaml")).unwrap();
    until("x has gone", || daemon.seen("x").is_null().then_some(()));
    assert_eq!(daemon.healthz().0, 200);
    daemon.stop();
    assert_eq!(lines(&home.path("x")), text(&records(0..10)));
}

#[test]
fn who_asks_without_saying_that_he_means_it_reloads_nothing() {
    let home = Home::new();
    home.write("p/x.yaml", to("a"));
    let daemon = home.start("p");
    for headers in ["", "x-hydrant: 0\r\n", "x-hydrant: 1\r\nHost: evil.example\r\n"] {
        let (status, why) = http(daemon.admin(), "POST /api/reload", headers, b"");
        assert_eq!(status, 403, "{headers:?}: {why}");
    }
    assert_eq!(http(daemon.admin(), "GET /api/reload", "x-hydrant: 1\r\n", b"").0, 405);
    let log = daemon.log();
    assert!(!log.contains("\"reloaded\""), "{log}");
    assert_eq!(daemon.reload().0, 200);
    daemon.hears("reloaded", |_| true);
    daemon.stop();
}

#[test]
fn sighup_looks_at_the_files() {
    let home = Home::new();
    home.write("p/x.yaml", to("a"));
    let daemon = home.start("p");
    home.write("p/x.yaml", to("b"));
    daemon.hang_up();
    daemon.hears("SIGHUP", |_| true);
    daemon.runs("x", 2);
    daemon.stop();
}

#[test]
fn added_files_start_removed_ones_drain_and_renamed_ones_are_both() {
    let home = Home::new();
    home.write("p/a.yaml", to("a"));
    let daemon = home.start("p");
    home.write("p/b.yaml", to("b"));
    daemon.runs("b", 1);
    daemon.put_lines("clicks", &records(0..10));
    daemon.delivers("a", 10);
    daemon.delivers("b", 10);
    fs::remove_file(home.path("p/a.yaml")).unwrap();
    until("a has gone", || daemon.seen("a").is_null().then_some(()));
    daemon.put_lines("clicks", &records(10..20));
    daemon.delivers("b", 20);
    fs::rename(home.path("p/b.yaml"), home.path("p/c.yaml")).unwrap();
    daemon.runs("c", 1);
    until("b has gone", || daemon.seen("b").is_null().then_some(()));
    daemon.put_lines("clicks", &records(20..30));
    until("c delivers what came", || lines(&home.path("b")).ends_with(&text(&records(20..30))).then_some(()));
    daemon.stop();
    assert_eq!(lines(&home.path("a")), text(&records(0..10)));
}

#[test]
fn a_removed_pipeline_delivers_what_was_acked_and_goes_on_there_when_it_comes_back() {
    let home = Home::new();
    let waits = pipeline("http: { stream: clicks }", PLAIN, LONG, "url: ./x");
    home.write("p/x.yaml", &waits);
    home.write("p/still.yaml", to("still"));
    let daemon = home.start("p");
    daemon.put_lines("clicks", &records(0..10));
    fs::remove_file(home.path("p/x.yaml")).unwrap();
    daemon.delivers("x", 10);
    until("x has gone", || daemon.seen("x").is_null().then_some(()));
    home.write("p/x.yaml", to("x"));
    daemon.runs("x", 1);
    daemon.put_lines("clicks", &records(10..20));
    daemon.delivers("x", 20);
    daemon.delivers("still", 20);
    daemon.stop();
    for folder in ["x", "still"] {
        assert_eq!(lines(&home.path(folder)), text(&records(0..20)));
    }
}

#[test]
fn files_of_one_stream_that_disagree_for_a_moment_wait_for_each_other() {
    let home = Home::new();
    let written = |size: &str, folder: &str| format!("{}spool: {{ size: {size} }}\n", to(folder));
    for name in ["a", "b"] {
        home.write(&format!("p/{name}.yaml"), written("32 MiB", name));
    }
    let daemon = home.start("p");
    home.write("p/a.yaml", written("64 MiB", "a"));
    let (status, reloaded) = daemon.reload();
    assert_eq!(status, 422, "{reloaded}");
    let problems = reloaded["refused"][0]["problems"].as_str().unwrap();
    assert!(problems.contains("the stream `clicks` has another `spool` in pipeline `b`"), "{problems}");
    home.write("p/b.yaml", written("64 MiB", "b"));
    assert_eq!(daemon.reload().0, 200);
    daemon.runs("a", 2);
    daemon.runs("b", 2);
    daemon.stop();
}

#[test]
fn a_folder_that_cannot_be_found_for_a_while_removes_nothing() {
    let home = Home::new();
    home.write("p/x.yaml", to("a"));
    let daemon = home.start("p");
    fs::rename(home.path("p"), home.path("moved")).unwrap();
    let (status, reloaded) = daemon.reload();
    assert_eq!(status, 422, "{reloaded}");
    assert_eq!(daemon.seen("x")["state"], "running");
    fs::rename(home.path("moved"), home.path("p")).unwrap();
    home.write("p/x.yaml", to("b"));
    daemon.runs("x", 2);
    daemon.stop();
}
