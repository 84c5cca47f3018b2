//! `hydrant explain`: what a pipeline will do, told before it does it.

use serde_json::Value;

use crate::support::daemon::{Ended, Home};

const PIPELINE: &str = "\
source: { firehose: { stream: clicks } }
transforms:
  - filter: .level != \"debug\"
format:
  parquet:
    schema: { at: timestamp(ms), user: string not null, price: \"decimal(12,2)\" }
buffer: { size: 128 MiB, interval: 10s }
sink:
  object_store:
    url: ./lake
    prefix: \"user={user}/\"
    options: {}
";

const RECORDS: &str = "\
{\"at\":\"2026-11-20T12:00:00Z\",\"user\":\"a\",\"price\":1}
{\"at\":\"2026-11-20T12:00:01Z\",\"user\":\"a\",\"level\":\"debug\"}
{\"at\":\"2026-11-20T12:00:02Z\",\"user\":\"b\",\"price\":\"much\"}
{\"at\":\"2026-11-20T12:00:03Z\",\"user\":\"b\",\"more\":true}
";

fn home() -> Home {
    let home = Home::new();
    home.write("clicks.yaml", PIPELINE);
    home.write("records.ndjson", RECORDS);
    home
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn a_sample_shows_objects_rejects_and_an_hour() {
    let home = home();
    let told = json(&home.run("explain clicks.yaml --sample records.ndjson --rate 100/s --json"));
    let sample = &told["sample"];
    assert_eq!(sample["records"], 4);
    assert_eq!((&sample["dropped"], &sample["transforms"][0]["records_out"]), (&1.into(), &3.into()));
    let prefixes: Vec<&str> =
        sample["prefixes"].as_array().unwrap().iter().map(|one| one["prefix"].as_str().unwrap()).collect();
    assert_eq!(prefixes, ["user=a/", "user=b/"]);
    let object = sample["prefixes"][0]["object"].as_str().unwrap();
    assert!(object.starts_with("user=a/clicks-sample-") && object.ends_with(".parquet"), "{object}");
    assert_eq!(sample["rejected"][0]["code"], "DataFormatConversion.MalformedData");
    assert!(sample["rejected"][0]["message"].as_str().unwrap().contains("column price"));
    let columns = told["columns"].as_array().unwrap();
    assert_eq!(columns[1]["parquet"], "REQUIRED BYTE_ARRAY (STRING)");
    assert_eq!(columns.last().unwrap()["name"], "_rest");
    // Two prefixes, each with a record in nearly every chunk of ten seconds.
    assert_eq!(told["estimate"]["objects_per_hour"].as_f64().unwrap().round(), 720.0);
    assert_eq!(told["estimate"]["puts_per_hour"], told["estimate"]["objects_per_hour"]);
    let warnings = told["warnings"].to_string();
    assert!(warnings.contains("the interval of 10s ends them long before 128 MiB"), "{warnings}");
}

#[test]
fn what_was_not_written_is_told_as_it_will_be() {
    let told = json(&home().run("explain clicks.yaml --json"));
    let value = |key: &str| told["keys"].as_array().unwrap().iter().find(|one| one["key"] == key).cloned().unwrap();
    assert_eq!(value("buffer.interval")["default"], false);
    assert_eq!((&value("spool.size")["value"], &value("spool.size")["default"]), (&"10 GiB".into(), &true.into()));
    assert_eq!(value("errors.prefix")["value"], "errors/{reason}/dt={arrival:%Y-%m-%d}/");
    assert!(told["sample"].is_null() && told["estimate"].is_null());
}

#[test]
fn it_reads_well() {
    let ended = home().run_fed("explain clicks.yaml --sample - --rate 1MiB/s", RECORDS.as_bytes());
    assert_eq!(ended.code, 0, "{ended:?}");
    let told = &ended.stdout;
    let way = "clicks (clicks.yaml)\n\n  firehose clicks\n  -> filter\n  -> parquet\n  -> ./lake\n";
    assert!(told.starts_with(way), "{told}");
    for line in [
        "  128 MiB encoded, or 10s after the first record of its chunk; whichever comes first\n",
        "  buffer.size                         128 MiB\n",
        "Sample: 4 records of standard input, ",
        "  filter: 4 in, 3 out, 1 dropped, 0 set aside\n",
        "         1 record   format-conversion-failed DataFormatConversion.MalformedData\n",
        "  disk      10 GiB  spool of the stream `clicks`; above, producers are told to slow down\n",
    ] {
        assert!(told.contains(line), "not there: {line}\n{told}");
    }
}

#[test]
fn an_inferred_schema_is_shown_and_goes_on_from_the_state() {
    let home = home();
    let columns = "schema: { at: timestamp(ms), user: string not null, price: \"decimal(12,2)\" }";
    home.write("clicks.yaml", PIPELINE.replace(columns, "schema: infer"));
    let told = json(&home.run("explain clicks.yaml --json"));
    assert!(told["schema"].as_str().unwrap().starts_with("learned from the first records"), "{told}");
    let told = json(&home.run("explain clicks.yaml --sample records.ndjson --json"));
    assert!(told["schema"].as_str().unwrap().contains("v1.json would be locked"), "{told}");
    assert!(told["columns"].to_string().contains("\"user\""), "{told}");
    let v1 = "{\"format\":1,\"version\":1,\"changed\":[],\"columns\":{\"user\":\"string\"}}\n";
    home.write("state/pipelines/clicks/schema/v1.json", v1);
    let told = json(&home.run("explain clicks.yaml --sample records.ndjson --state state --json"));
    assert_eq!(told["schema"], "v1.json of the state folder");
    let files: Vec<_> = home.files("state").into_iter().collect();
    assert_eq!(files, [(home.path("state/pipelines/clicks/schema/v1.json"), v1.len() as u64)], "it was changed");
}

#[test]
fn many_prefixes_are_warned_of() {
    let home = home();
    let many: String = (0..300).map(|user| format!("{{\"user\":\"u{user}\"}}\n")).collect();
    let ended = home.run_fed("explain clicks.yaml --sample -", many.as_bytes());
    assert!(ended.stdout.contains("300 prefixes for 300 records"), "{ended:?}");
    assert!(ended.stdout.contains("1000 records in a second: say what comes with --rate"), "{ended:?}");
}

#[test]
fn what_is_wrong_is_said() {
    let home = home();
    for (arguments, code, said) in [
        ("explain clicks.yaml --rate much", 2, "expected a rate such as `5000/s` or `10MiB/s`"),
        ("explain clicks.yaml --sample none.ndjson", 1, "none.ndjson: No such file"),
        ("explain none.yaml", 78, "none.yaml: there is no such file or folder"),
        (".", 2, "unrecognized subcommand"),
    ] {
        let ended = home.run(arguments);
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
    home.write("clicks.yaml", PIPELINE.replace("parquet", "parkett"));
    let ended = home.run("explain clicks.yaml");
    assert_eq!(ended.code, 78);
    assert!(ended.stderr.contains("clicks.yaml:5:3: "), "{ended:?}");
}
