//! Schemas as users meet them: from files, inferred, grown; and what becomes of values that do not fit.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use hydrant::config::{Environment, load};
use hydrant::disk::{Disk, RealDisk};
use hydrant::encode::schema::infer::{LOOK_EVERY, NEW_FIELD_SIGHTINGS};
use hydrant::encode::{About, Encoder, Format, Options};
use hydrant::error::Reason;
use hydrant::position::{Position, Shard, ShardRange};
use hydrant::record::{Batch, BatchBuilder};
use hydrant::transform::wasm::Modules;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, Home, files, pipeline, until};

fn batch<'r>(records: impl IntoIterator<Item = &'r str>) -> Batch {
    let mut builder = BatchBuilder::default();
    records.into_iter().for_each(|record| builder.push(record.as_bytes(), 0));
    builder.finish()
}

fn times(count: usize, record: &str) -> Batch {
    batch(std::iter::repeat_n(record, count))
}

fn about() -> About<'static> {
    static RANGE: LazyLock<ShardRange> = LazyLock::new(|| ShardRange {
        shard: Shard::new("7f").unwrap(),
        start: Position::from(0),
        end: Position::from(9),
    });
    About { pipeline: "click", range: &RANGE }
}

/// A format with its folder, as a pipeline has it.
fn open(yaml: &str, dir: &Path) -> Arc<dyn Format> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut options: Options = serde_saphyr::from_str(yaml).unwrap();
    options.spec().unwrap().open(&disk, dir, "click").unwrap_or_else(|fault| panic!("{:#}", fault.error))
}

/// Whether the format is of another version behind this batch.
fn learns(format: &dyn Format, batch: &Batch) -> bool {
    let before = format.version();
    format.learn(batch).unwrap();
    format.version() > before
}

/// An object under way.
struct Object {
    encoder: Box<dyn Encoder>,
    bytes: Vec<u8>,
}

impl Object {
    fn of(format: &dyn Format) -> Object {
        Object { encoder: format.encoder(), bytes: Vec::new() }
    }

    fn push(&mut self, batch: &Batch) -> Vec<(u32, Reason)> {
        let rows: Vec<u32> = (0..batch.len() as u32).collect();
        self.encoder.push(batch, &rows, &mut self.bytes).unwrap()
    }

    fn finish(mut self) -> RecordBatch {
        self.encoder.finish(&about(), &mut self.bytes).unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(self.bytes)).unwrap();
        let schema = builder.schema().clone();
        let mut batches: Vec<_> = builder.with_batch_size(1 << 20).build().unwrap().map(Result::unwrap).collect();
        assert!(batches.len() <= 1, "a story's object is one batch");
        batches.pop().unwrap_or_else(|| RecordBatch::new_empty(schema))
    }
}

fn names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|field| field.name().clone()).collect()
}

/// `column: type` for each column of a version on the disk.
fn version(dir: &Path, version: u32) -> Vec<String> {
    let text = fs::read_to_string(dir.join(format!("v{version}.json"))).unwrap();
    let columns = text.split("\"columns\": {\n").nth(1).unwrap().split("\n  }").next().unwrap();
    columns.lines().map(|line| line.trim().trim_end_matches(',').replace('"', "")).collect()
}

fn versions(dir: &Path) -> usize {
    files(dir).len()
}

/// Records of one batch with a new field, so that it becomes a column.
const OFTEN: usize = LOOK_EVERY * NEW_FIELD_SIGHTINGS as usize;

const INFER: &str = "parquet: { schema: { infer: { sample_records: 4 } } }";

#[test]
fn the_first_records_are_held_and_become_the_schema_of_all() {
    let home = tempfile::tempdir().unwrap();
    let format = open(INFER, home.path());
    let (mut a, mut b) = (Object::of(&*format), Object::of(&*format));
    assert!(!learns(&*format, &times(1, "{}")));
    let first = batch([
        r#"{"id":1,"at":"2026-11-20T10:00:00Z","name":"x","none":null}"#,
        "no json",
        r#"{"id":2,"tags":["a"],"ctx":{"n":1.5}}"#,
    ]);
    let rejected = a.push(&first);
    assert_eq!(rejected.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1], "what is no record is known at once");
    b.push(&times(1, r#"{"id":3,"mixed":1}"#));
    assert_eq!((versions(home.path()), a.encoder.rows(), b.encoder.rows()), (0, 2, 1), "nothing is locked yet");
    assert_eq!(b.push(&batch([r#"{"id":4,"mixed":"a"}"#, r#"{"id":5,"late":true}"#])), []);
    let expected = [
        "id: int64",
        "at: timestamp(us)",
        "name: string",
        "tags: list<string>",
        "ctx: struct<n:float64>",
        "mixed: json",
    ];
    assert_eq!(version(home.path(), 1), expected);
    let (a, b) = (a.finish(), b.finish());
    assert_eq!(a.schema().fields(), b.schema().fields(), "one schema for all objects");
    assert_eq!(names(&a), ["id", "at", "name", "tags", "ctx", "mixed", "_rest"]);
    assert_eq!(a.column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
    let rest = |batch: &RecordBatch| {
        let column = batch.column_by_name("_rest").unwrap().as_string::<i32>().clone();
        column.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(rest(&a), [Some("{\"none\":null}".to_owned()), None]);
    assert_eq!(rest(&b), [None, None, Some("{\"late\":true}".to_owned())]);
    assert_eq!(b.column(5).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("1"), Some("\"a\""), None]);
}

#[test]
fn a_cut_ends_the_sample_and_an_object_of_nothing_locks_nothing() {
    let home = tempfile::tempdir().unwrap();
    let format = open("parquet: { schema: infer }", home.path());
    let mut nothing = Object::of(&*format);
    assert_eq!(nothing.push(&batch(["[]", "{}"])).len(), 2, "what has no fields says nothing of columns");
    nothing.encoder.flush(&mut Vec::new()).unwrap();
    nothing.encoder.finish(&about(), &mut nothing.bytes).unwrap();
    assert_eq!((nothing.bytes.len(), versions(home.path())), (0, 0));
    let mut one = Object::of(&*format);
    one.push(&times(1, r#"{"only":null}"#));
    assert_eq!(names(&one.finish()), ["only", "_rest"]);
    assert_eq!(version(home.path(), 1), ["only: json"]);
}

#[test]
fn a_schema_only_grows_and_each_object_has_one_version() {
    let home = tempfile::tempdir().unwrap();
    let format = open(INFER, home.path());
    let mut old = Object::of(&*format);
    old.push(&times(4, r#"{"id":1,"price":5,"ctx":{"a":1}}"#));
    let grown = times(OFTEN, r#"{"id":2,"price":5.5,"ctx":{"a":1,"b":[true]},"plan":"pro"}"#);
    assert!(learns(&*format, &grown));
    assert!(old.encoder.version() < format.version(), "open objects are to be finished first");
    assert!(!learns(&*format, &grown), "that is known now");
    let expected = ["id: int64", "price: float64", "ctx: struct<a:int64, b:list<bool>>", "plan: string"];
    assert_eq!(version(home.path(), 2), expected);
    let mut new = Object::of(&*format);
    assert_eq!(new.push(&grown), []);
    let (old, new) = (old.finish(), new.finish());
    assert_eq!(names(&old), ["id", "price", "ctx", "_rest"]);
    assert_eq!(names(&new), ["id", "price", "ctx", "plan", "_rest"]);
    assert_eq!(new.column(1).as_primitive::<Float64Type>().value(OFTEN - 1), 5.5);
    assert_eq!(new.column_by_name("_rest").unwrap().null_count(), OFTEN);

    // The next process goes on with the version that was locked, whatever comes first.
    let format = open(INFER, home.path());
    let mut again = Object::of(&*format);
    let rejected = again.push(&batch([r#"{"id":"one"}"#, r#"{"id":7,"new":1}"#]));
    assert_eq!(rejected[0].1.message, "column id: expected int64, found string \"one\"");
    assert_eq!(again.finish().schema().fields(), new.schema().fields());
    assert_eq!(versions(home.path()), 2);
}

#[test]
fn a_column_that_turns_out_to_have_fractions_is_learned_from_what_was_rejected() {
    let home = tempfile::tempdir().unwrap();
    let format = open(INFER, home.path());
    let [mut first, mut other, mut third] = [(); 3].map(|()| Object::of(&*format));
    assert_eq!((format.version(), first.encoder.version()), (0, u64::MAX), "it will be of the newest");
    first.push(&times(4, r#"{"n":1}"#));
    other.push(&times(1, r#"{"n":1}"#));
    third.push(&times(1, r#"{"n":1}"#));
    // The third record is none of those that are looked at before they are encoded.
    let records = batch([r#"{"n":2}"#, r#"{"n":3}"#, r#"{"n":4.5}"#]);
    assert!(!learns(&*format, &records));
    assert_eq!(first.push(&records)[0].1.message, "column n: expected int64, found number 4.5 (not a whole number)");
    assert!(learns(&*format, &Batch::default()), "the encoder told");
    let mut new = Object::of(&*format);
    assert_eq!(new.push(&records), []);
    // Objects of other shards are still of the old version, which each of them sees by itself.
    assert_eq!((other.push(&records).len(), third.push(&records).len()), (1, 1));
    assert!(!learns(&*format, &Batch::default()));
    let now = format.version();
    assert_eq!([&first, &other, &third, &new].map(|object| object.encoder.version() < now), [true, true, true, false]);
    assert_eq!(versions(home.path()), 2);
}

#[test]
fn with_drop_and_reject_nothing_new_is_let_in() {
    for (on_unknown, refused) in [("drop", 0), ("reject", OFTEN)] {
        let home = tempfile::tempdir().unwrap();
        let yaml = INFER.replace(" } } }", &format!(" }} }}, on_unknown: {on_unknown} }}"));
        let format = open(&yaml, home.path());
        let mut object = Object::of(&*format);
        object.push(&batch([r#"{"id":1,"none":null,"empty":[]}"#, r#"{"id":2}"#, r#"{"id":3}"#, r#"{"id":4}"#]));
        assert_eq!(version(home.path(), 1), ["id: int64", "none: json", "empty: json"]);
        let new = times(OFTEN, r#"{"id":5,"plan":"pro"}"#);
        assert!(!learns(&*format, &new));
        assert_eq!(object.push(&new).len(), refused, "{on_unknown}");
        assert!(learns(&*format, &times(1, r#"{"id":0.5}"#)), "a float is no new field");
        assert_eq!(version(home.path(), 2)[0], "id: float64");
    }
}

#[test]
fn ids_as_keys_do_not_become_columns() {
    let home = tempfile::tempdir().unwrap();
    let format = open("parquet: { schema: infer }", home.path());
    let mut object = Object::of(&*format);
    let records: Vec<_> = (0..2000).map(|id| format!("{{\"user-{id}\":{id},\"by\":{{\"id-{id}\":1}}}}")).collect();
    assert_eq!(object.push(&batch(records.iter().map(String::as_str))), []);
    let columns = version(home.path(), 1);
    assert_eq!(columns.len(), 1000, "no more columns than a table should have");
    assert!(columns.contains(&"by: map<string,int64>".to_owned()));
    let rows = object.finish();
    assert_eq!(rows.num_rows(), 2000);
    let rest = rows.column_by_name("_rest").unwrap().as_string::<i32>();
    assert_eq!(rest.value(1999), "{\"user-1999\":1999}");
}

#[test]
fn names_and_types_that_a_format_cannot_store_become_plain_names_and_json() {
    let home = tempfile::tempdir().unwrap();
    let format = open("avro: { schema: { infer: { sample_records: 2 } } }", home.path());
    let mut object = Object::of(&*format);
    let records = times(2, r#"{"id":1,"user-id":2,"ctx":{"a b":3},"geo":{"x":1}}"#);
    assert_eq!(object.push(&records), []);
    let expected = ["id: int64", "user_id: {key:user-id,type:int64}", "ctx: json", "geo: struct<x:int64>"];
    assert_eq!(version(home.path(), 1), expected);
    let new = times(OFTEN, r#"{"id":1,"user_id":"x","geo":{"x":1.5,"no good":3}}"#);
    assert!(learns(&*format, &new));
    let expected = [&expected[..3], &["geo: struct<x:float64>", "user_id_2: {key:user_id,type:string}"]].concat();
    assert_eq!(version(home.path(), 2), expected, "what cannot grow by a field grows otherwise");

    let format = open("avro: { schema: infer }", home.path());
    let mut again = Object::of(&*format);
    assert_eq!(again.push(&batch([r#"{"user-id":2,"user_id":"x"}"#, r#"{"user-id":"x"}"#])).len(), 1);
}

#[test]
fn no_first_records_are_in_the_way_for_ever() {
    let records = [r#"{"user-id":1}"#, r#"{"id":1,"user-id":2}"#, r#"{"-":1,"_":{"a b":[1]}}"#, r#"{"_REST_":1}"#];
    for (format, more) in [("avro", ""), ("parquet", ""), ("csv", ", null_text: '-'")] {
        for on_unknown in ["keep", "drop", "reject"] {
            for record in records {
                let home = tempfile::tempdir().unwrap();
                let format =
                    open(&format!("{format}: {{ schema: infer, on_unknown: {on_unknown}{more} }}"), home.path());
                let mut object = Object::of(&*format);
                assert_eq!(object.push(&times(3, record)), []);
                object.encoder.flush(&mut object.bytes).unwrap();
                assert_eq!(object.encoder.rows(), 3, "{record}");
                assert_eq!(object.push(&times(3, record)), [], "{record}");
                assert!(
                    version(home.path(), 1).len()
                        >= serde_json::from_str::<Value>(record).unwrap().as_object().unwrap().len()
                );
            }
        }
    }
}

#[test]
fn a_whole_number_that_a_float_would_round_is_set_aside() {
    let home = tempfile::tempdir().unwrap();
    for format in ["parquet", "avro"] {
        let home = home.path().join(format);
        let format = open(&format!("{format}: {{ schema: infer }}"), &home);
        let mut object = Object::of(&*format);
        object.push(&times(4, r#"{"id":7}"#));
        object.encoder.flush(&mut object.bytes).unwrap();
        // The next process has not seen what the column holds.
        let format = open(&format!("{}: {{ schema: infer }}", home.file_name().unwrap().to_str().unwrap()), &home);
        assert!(learns(&*format, &times(1, r#"{"id":0.5}"#)));
        let mut object = Object::of(&*format);
        let records = batch([
            r#"{"id":1152921504606846977}"#,
            r#"{"id":1152921504606846976}"#,
            r#"{"id":-9007199254740993}"#,
            r#"{"id":"9007199254740993"}"#,
            r#"{"id":9007199254740992}"#,
            r#"{"id":0.12345678901234567890}"#,
            r#"{"id":100000000000000000000000000000000000000000000000000000001}"#,
            r#"{"id":1e300}"#,
        ]);
        let rejected = object.push(&records);
        assert_eq!(rejected.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 2, 3, 6]);
        assert_eq!(
            rejected[0].1.message,
            "column id: expected float64, found number 1152921504606846977 (more digits than a float64 holds)"
        );
    }
    let declared = open("parquet: { schema: { id: float64 } }", home.path());
    assert_eq!(
        Object::of(&*declared).push(&times(1, r#"{"id":9007199254740993}"#)),
        [],
        "the nearest is what was asked for"
    );
}

#[test]
fn records_that_are_parked_before_they_are_encoded_are_part_of_the_sample() {
    let home = tempfile::tempdir().unwrap();
    let format = open("parquet: { schema: infer }", home.path());
    assert!(!learns(&*format, &batch([r#"{"id":1}"#, r#"{"id":2.5,"a":"x"}"#, "no json"])));
    let mut first = Object::of(&*format);
    first.push(&times(1, r#"{"id":1}"#));
    first.finish();
    assert_eq!(version(home.path(), 1), ["id: float64", "a: string"]);
}

#[test]
fn a_version_that_was_damaged_or_is_of_a_newer_hydrant_stops_the_pipeline() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("v3.json"), "{\"format\": 9}").unwrap();
    let mut options: Options = serde_saphyr::from_str(INFER).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let fault = options.spec().unwrap().open(&disk, home.path(), "click").err().unwrap();
    let said = format!("{:#}", fault.error);
    assert!(
        said.contains("v3.json") && said.contains("written by a newer hydrant: expected format 1, found 9"),
        "{said}"
    );
}

/// A JSON value of any kind, nested a little.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5i64..5).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(Value::from),
        "[a-z\"\\\\é\u{0}]{0,3}".prop_map(Value::from),
        Just(json!("2026-11-20T10:00:00Z")),
        Just(json!("2026-02-30T10:00:00.5+01:00")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abAB. ]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_sampled_fits_what_was_inferred_from_it(
        records in prop::collection::vec(prop::collection::btree_map("[abcABC_ ]{0,2}", values(), 1..4), 1..8),
        on_unknown in prop::sample::select(vec!["keep", "drop", "reject"]),
    ) {
        let home = tempfile::tempdir().unwrap();
        let format = open(&format!("parquet: {{ schema: infer, on_unknown: {on_unknown}, compression: none }}"), home.path());
        let texts: Vec<_> = records.iter().map(|record| json!(record).to_string()).collect();
        let mut object = Object::of(&*format);
        let rejected = object.push(&batch(texts.iter().map(String::as_str)));
        let held = object.encoder.rows() as usize;
        prop_assert_eq!(held + rejected.len(), records.len());
        // Only names that cannot be columns are a reason, and only where nothing else can be done with them.
        prop_assert!(rejected.iter().all(|(_, reason)| reason.message.contains("can be columns")), "{:?}", rejected);
        if held > 0 {
            prop_assert_eq!(object.finish().num_rows(), held);
        }
    }
}

#[test]
fn a_value_becomes_a_value_or_its_record_is_set_aside_but_never_null() {
    let types = [
        "string",
        "json",
        "dictionary<string>",
        "bool",
        "int8",
        "int64",
        "uint64",
        "float32",
        "float64",
        "date",
        "time(us)",
        "timestamp(ms)",
        "timestamp(ns, none)",
        "decimal(9,2)",
        "decimal(60,2)",
        "binary",
        "binary(hex)",
        "binary(utf8)",
        "list<int64>",
        "map<string,int64>",
        "struct<a:int64>",
        "list<struct<a:int64>>",
    ];
    let values = [
        "true",
        "1",
        "-1",
        "1.5",
        "300",
        "1e30",
        "1e400",
        "99999999999999999999",
        "\"\"",
        "\"a\"",
        "\"1\"",
        "\"true\"",
        "\"2026-11-20\"",
        "\"2026-11-20T10:00:00Z\"",
        "\"10:00:00\"",
        "[]",
        "[1]",
        "[\"a\"]",
        "[[1]]",
        "{}",
        "{\"a\":1}",
        "{\"a\":\"x\"}",
        "{\"b\":1}",
        "[{\"a\":1}]",
        "[{\"a\":[]}]",
    ];
    let (mut accepted, mut refused) = (0, 0);
    for kind in types {
        for on_unknown in ["keep", "drop", "reject"] {
            let yaml = format!("parquet: {{ schema: {{ c: '{kind}' }}, on_unknown: {on_unknown}, compression: none }}");
            let mut options: Options = serde_saphyr::from_str(&yaml).unwrap();
            let disk: Arc<dyn Disk> = Arc::new(RealDisk);
            let format = options.spec().unwrap().open(&disk, Path::new("unused"), "x").unwrap();
            let records: Vec<_> = values.iter().map(|value| format!("{{\"c\":{value}}}")).collect();
            let mut object = Object::of(&*format);
            let rejected = object.push(&batch(records.iter().map(String::as_str)));
            for (row, reason) in &rejected {
                let value = values[*row as usize];
                let (words, within) = (&reason.message, reason.message.starts_with("field c"));
                assert!(words.starts_with("column c") || within, "{kind} {value}: {words}");
                assert!(words.contains("expected ") && words.contains("found "), "{kind} {value}: {words}");
            }
            let rows = object.finish();
            assert_eq!(rows.column(0).null_count(), 0, "{kind} with {on_unknown}");
            accepted += rows.num_rows();
            refused += rejected.len();
        }
    }
    assert!(accepted > 300 && refused > 1000, "{accepted} and {refused}");
}

/// Loads a pipeline whose schema lies in this file, and gives the Arrow names or what is wrong.
fn with_file(name: &str, text: &str) -> Result<(), String> {
    let home = tempfile::tempdir().unwrap();
    let schema = "{ file: \"schemas/NAME\" }".replace("NAME", name);
    let yaml = pipeline("demo: {}", &format!("parquet: {{ schema: {schema} }}"), "60s", "url: ./out");
    fs::create_dir_all(home.path().join("p/schemas")).unwrap();
    fs::write(home.path().join("p/x.yaml"), yaml).unwrap();
    if !text.is_empty() {
        fs::write(home.path().join("p/schemas").join(name), text).unwrap();
    }
    let loaded = load(&[home.path().join("p/x.yaml")], None, &Environment::of([]), &Modules::default());
    loaded.map(drop).map_err(|problems| problems.to_string().replace(home.path().to_str().unwrap(), "HOME"))
}

#[test]
fn a_schema_file_lies_beside_the_pipeline_and_is_read_when_that_is_checked() {
    for (name, text) in [
        ("m.parquet.txt", "message m { required int64 id; optional binary name (STRING); }"),
        ("s.json", r#"{"type":"object","properties":{"id":{"type":"integer"}}}"#),
        ("e.avsc", r#"{"type":"record","name":"e","fields":[{"name":"id","type":"long"}]}"#),
        ("t.json", r#"{"Table":{"StorageDescriptor":{"Columns":[{"Name":"id","Type":"bigint"}]}}}"#),
    ] {
        assert_eq!(with_file(name, text), Ok(()), "{name}");
    }
}

#[test]
fn what_is_wrong_with_a_schema_file_is_told_with_its_line() {
    let avro = "{\n  \"type\": \"record\", \"name\": \"e\",\n  \"fields\": [\n    {\"name\": \"id\", \"type\": \"lnog\"},\n    {\"name\": \"p\", \"type\": {\"type\": \"array\"}}\n  ]\n}\n";
    let expected = "\
HOME/p/schemas/e.avsc:4:27: unknown type lnog
  4 |     {\"name\": \"id\", \"type\": \"lnog\"},
    |                            ^^^^^^
  hint: a name is defined before it is used; the types of Avro are null, boolean, int, long, float, double, bytes, string, record, enum, array, map, fixed

HOME/p/schemas/e.avsc:5:26: missing key `items`
  5 |     {\"name\": \"p\", \"type\": {\"type\": \"array\"}}
    |                           ^
  hint: an array says of what

2 problems";
    assert_eq!(
        with_file("e.avsc", avro).unwrap_err(),
        expected.replace(":5:26:", ":5:27:").replace(":4:27:", ":4:28:")
    );
    let hive = r#"{"Table":{"StorageDescriptor":{"Columns":[{"Name":"m","Type":"map<int,string>"}]}}}"#;
    assert!(with_file("t.json", hive).unwrap_err().contains("t.json:1:67: the keys of a map in JSON are strings"));
    let absent = with_file("none.avsc", "").unwrap_err();
    assert!(
        absent.contains("`format.parquet.schema.file`: `HOME/p/schemas/none.avsc`: there is no such file"),
        "{absent}"
    );
    assert!(absent.contains("x.yaml:2:") && absent.contains("hint: the path is relative to the folder of this file"));
    let json = with_file("s.json", "{\"properties\": {\n").unwrap_err();
    assert!(json.contains("s.json:2:") && json.contains("malformed JSON: EOF while parsing an object"), "{json}");
    assert!(with_file("x.sql", "CREATE TABLE x").unwrap_err().contains("hint: these are known: Parquet message text"));
    let long = with_file("big.json", &" ".repeat(5 << 20)).unwrap_err();
    assert!(long.contains("the file is longer than 4194304 bytes"), "{long}");
}

#[test]
fn a_pipeline_infers_grows_and_goes_on_after_a_restart() {
    let home = Home::new();
    let infer = "parquet: { schema: { infer: { sample_records: 50 } } }";
    home.write("x.yaml", pipeline("http: { stream: clicks }", infer, "200ms", "url: ./out"));
    let daemon = home.start("x.yaml");
    let record = |id: usize, more: &str| format!("{{\"id\":{id},\"n\":1,\"price\":{id}{more}}}");
    daemon.put_lines("clicks", &(0..100).map(|id| record(id, "")).collect::<Vec<_>>());
    daemon.delivers("x", 100);
    daemon.kill();
    // Not by counting what is said: the promise of the process that was killed may be kept twice.
    let delivered = |daemon: &Daemon, records: f64| {
        until("all is delivered", || (daemon.positions("x")[1] >= records).then_some(()));
    };

    let daemon = home.start("x.yaml");
    daemon.put_lines("clicks", &(100..3100).map(|id| record(id, ".5,\"plan\":\"pro\"")).collect::<Vec<_>>());
    let grown =
        |line: &Value| line["changed"].as_str().is_some_and(|changed| changed.contains("new column plan: string"));
    daemon.hears("the schema has a new version", grown);
    delivered(&daemon, 3100.0);
    daemon.put_lines("clicks", &(3100..3200).map(|id| record(id, ",\"plan\":\"free\"")).collect::<Vec<_>>());
    delivered(&daemon, 3200.0);
    daemon.put_lines("clicks", &[record(3200, ",\"plan\":7")]);
    delivered(&daemon, 3201.0);
    // Of one batch the first record is looked at before it is encoded: the last of these is rejected at first.
    daemon.put_lines("clicks", &["{\"n\":2,\"price\":2}", "{\"n\":3,\"price\":3}", "{\"n\":4.5,\"price\":4}"]);
    delivered(&daemon, 3204.0);
    daemon.stop();

    let (mut rows, mut plans, mut in_rest, mut free) = (0, 0, 0, 0);
    let mut types = std::collections::BTreeMap::new();
    for path in files(&home.path("out")).iter().filter(|path| path.extension().is_some_and(|kind| kind == "parquet")) {
        let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
        for field in builder.schema().fields() {
            types.entry(field.name().clone()).or_insert_with(Vec::new).push(field.data_type().to_string());
        }
        for batch in builder.build().unwrap().map(Result::unwrap) {
            rows += batch.num_rows();
            assert_eq!(batch.column_by_name("price").unwrap().null_count(), 0);
            if let Some(plan) = batch.column_by_name("plan") {
                plans += plan.len() - plan.null_count();
                free += plan.as_string::<i32>().iter().filter(|plan| *plan == Some("free")).count();
            }
            let rest = batch.column_by_name("_rest").unwrap().as_string::<i32>();
            in_rest += rest.iter().filter(|rest| *rest == Some("{\"plan\":\"pro\"}")).count();
        }
    }
    assert_eq!((rows, plans + in_rest), (3203, 3100), "every record is there, with every value");
    assert!(plans > 100 && free == 100, "{plans} in the column, {in_rest} from before it in `_rest`");
    for (name, mut kinds) in types {
        kinds.sort();
        kinds.dedup();
        let expected: &[&str] = match name.as_str() {
            "id" => &["Int64"],
            // The one change of type there is: a file before it has whole numbers.
            "price" | "n" => &["Float64", "Int64"],
            _ => &["Utf8"],
        };
        assert_eq!(kinds, expected, "{name}");
    }
    let aside = files(&home.path("out/errors"));
    let aside: String = aside.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(aside.contains("column plan: expected string, found number 7"), "{aside}");
    assert_eq!(aside.lines().count(), 1, "{aside}");
}

#[test]
fn what_the_command_prints_is_a_schema_that_takes_the_records() {
    let home = Home::new();
    let records = "{\"id\":1,\"at\":\"2026-11-20T10:00:00Z\",\"a b\":{\"x\":[1.5]}}\r\n\n{\"id\":2,\"n\":\"7\"}\n";
    home.write("records.ndjson", records);
    let printed = home.run("schema infer records.ndjson");
    let expected = "schema:\n  id: int64\n  at: timestamp(us)\n  a b: struct<x:list<float64>>\n  n: string\n";
    assert_eq!((printed.code, printed.stdout.as_str()), (0, expected), "{printed:?}");
    assert_eq!(home.run_fed("schema infer -", records.as_bytes()).stdout, expected);
    let format = format!(
        "parquet: {{ {} }}",
        expected.trim().replace("schema:", "schema: {").replace("\n  ", ", ").replace("{,", "{") + " }"
    );
    home.write("x.yaml", pipeline("file: { path: records.ndjson }", &format, "60s", "url: ./out"));
    let run = home.run("run --once x.yaml");
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stderr.contains("delivered") && files(&home.path("out/errors")).is_empty(), "{run:?}");

    let wrong = home.run_fed("schema infer -", b"{\"id\":1}\n{\"id\":");
    assert_eq!(wrong.code, 78);
    assert!(wrong.stderr.starts_with("-: record 2: malformed JSON at byte 6"), "{wrong:?}");
    home.write(
        "events.avsc",
        "{\"type\":\"record\",\"name\":\"e\",\"fields\":[\n{\"name\":\"id\",\"type\":\"long\"}]}",
    );
    assert_eq!(home.run("schema show events.avsc").stdout, "schema:\n  id: int64 not null\n");
    home.write("events.avsc", "{\"type\":\"record\",\"name\":\"e\",\"fields\":[\n{\"name\":\"id\",\"type\":\"log\"}]}");
    let wrong = home.run("schema show events.avsc");
    assert_eq!(
        (wrong.code, wrong.stderr.starts_with("events.avsc: line 2: unknown type log\n  hint: ")),
        (78, true),
        "{wrong:?}"
    );
}

#[test]
fn a_schema_written_wrong_is_told_its_place_and_how_to_write_it() {
    let wrong = |schema: &str| {
        let yaml = format!(
            "source: {{ demo: {{}} }}\nformat:\n  parquet:\n    schema: {schema}\nsink: {{ object_store: {{ url: ./out }} }}\n"
        );
        hydrant::config::load_text("x", "x.yaml", &yaml, &Environment::of([])).unwrap_err().to_string()
    };
    for (schema, place, message, hint) in [
        (
            "infr",
            "4:13",
            "expected columns such as `user_id: string`, or `infer`, or `{ file: NAME }`, found `infr`",
            "did you mean `infer`?",
        ),
        ("events.avsc", "4:13", "found `events.avsc`", "a file is written `{ file: events.avsc }`"),
        ("{ file: strng }", "4:21", "column file: unknown type strng", "did you mean `string`?"),
        ("{ file: e.avsc, id: int }", "4:5", "`file` stands alone, found also `id`", ""),
        ("{ infer: { sample_record: 9 } }", "4:24", "unknown key `sample_record`", "did you mean `sample_records`?"),
        ("{ infer: { sample_records: 0 } }", "3:3", "schema.infer.sample_records: expected 1 to 100000, found 0", ""),
        ("{ infer: { sample_records: many } }", "4:40", "expected a whole number", ""),
        (
            "[int]",
            "4:5",
            "expected a map of column names to types, such as `user_id: string`, or `infer`, or `{ file: NAME }`, found a list",
            "",
        ),
        ("", "4:5", "a schema needs at least one column", ""),
    ] {
        let said = wrong(schema);
        assert!(said.starts_with(&format!("x.yaml:{place}: ")), "{schema}: {said}");
        assert!(
            said.contains(message) && said.contains(&format!("hint: {hint}")) != hint.is_empty(),
            "{schema}: {said}"
        );
    }
}
