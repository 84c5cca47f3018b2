//! Transforms without code: what becomes of records, one transform after the other, and through the whole daemon.

use std::fs;
use std::sync::Arc;

use hydrant::error::RejectedBy;
use hydrant::inputs::Reads;
use hydrant::metrics::Metrics;
use hydrant::pipeline::Transforms;
use hydrant::record::{Batch, BatchBuilder};
use hydrant::transform::wasm::Modules;
use hydrant::transform::{Making, Options, Transform, Transformed};

use crate::support::daemon::{Home, pipeline};
use crate::support::transform::through;

fn make(yaml: &str) -> Arc<dyn Transform> {
    let options: Options = serde_saphyr::from_str(yaml).unwrap();
    let modules = Modules::default();
    let making = Making { pipeline: "x", folder: "".as_ref(), modules: &modules, reads: &Reads::new() };
    options.make(&making).map_err(|wrong| format!("{wrong:?}")).unwrap()
}

fn batch<'r>(records: impl IntoIterator<Item = &'r str>) -> Batch {
    let mut builder = BatchBuilder::default();
    builder.set_topic(&"orders".into(), 0);
    for (row, record) in records.into_iter().enumerate() {
        builder.push_known(record.as_bytes(), row as i64, (Some(b"key"), row as u64), []);
    }
    builder.finish()
}

fn apply(transform: &dyn Transform, batch: Batch) -> Transformed {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut all, mut batches, mut left) = (Transformed::default(), Vec::new(), batch);
    while !left.is_empty() {
        let done = runtime.block_on(transform.apply(left)).unwrap();
        batches.push(done.batch);
        all.rejected.extend(done.rejected);
        all.dropped += done.dropped;
        left = done.left;
    }
    Transformed { batch: Batch::join(batches), ..all }
}

fn texts(batch: &Batch) -> Vec<&str> {
    batch.payloads().map(|payload| std::str::from_utf8(payload).unwrap()).collect()
}

fn reasons(transformed: &Transformed) -> Vec<(&str, &str)> {
    transformed.rejected.iter().map(|one| (one.reason.code, one.reason.message.as_str())).collect()
}

#[test]
fn jq_drops_keeps_splits_and_sets_aside_in_order() {
    let jq = make(
        "jq: 'if .n == 0 then empty elif .n == 2 then .n, \"two\" elif .n == 3 then error(\"no three\") else {n, t: $arrival} end'",
    );
    let records = ["{\"n\": 0}", "{\"n\": 1}", "{\"n\": 2}", "{\"n\": 3}", "oops", "{\"n\": 5}"];
    let done = apply(&*jq, batch(records));
    assert_eq!(texts(&done.batch), ["{\"n\":1,\"t\":1}", "2", "\"two\"", "{\"n\":5,\"t\":5}"]);
    assert_eq!((0..4).map(|row| done.batch.arrival_ms(row)).collect::<Vec<_>>(), [1, 2, 2, 5], "arrival stays");
    assert!((0..4).all(|row| done.batch.key(row) == Some(b"key")), "and the key");
    assert_eq!(done.dropped, 1);
    let not_json = "the record is not JSON: expected a value at byte 0";
    assert_eq!(reasons(&done), [("Jq.Failed", "no three"), ("Jq.Failed", not_json)]);
    assert!(done.rejected.iter().all(|one| one.reason.by == RejectedBy::Transform));
    let whole: Vec<_> = done.rejected.iter().map(|one| (&one.payload[..], one.arrival_ms)).collect();
    assert_eq!(whole, [(&b"{\"n\": 3}"[..], 3), (b"oops", 4)], "whole, as they came");
}

#[test]
fn an_output_that_is_too_long_sets_its_record_aside_alone() {
    let jq = make("jq: { program: 'range(.)', output_max: 1 KiB }");
    let done = apply(&*jq, batch(["2", "1000000", "1"]));
    assert_eq!(texts(&done.batch), ["0", "1", "0"]);
    assert_eq!(reasons(&done), [("Jq.Failed", "the record becomes longer than 1024 bytes")]);
    let jq = make("jq: { program: '. * 1000', output_max: 1 KiB }");
    let done = apply(&*jq, batch(["\"abc\"", "1"]));
    assert_eq!((texts(&done.batch), done.rejected.len()), (vec!["1000"], 1));
}

#[test]
fn one_poisonous_record_stops_no_other() {
    let jq = make(
        "jq: { program: 'if . == 500 then last(range(1e18)) elif . == 600 then [repeat(1)] elif . == 700 then (def f: 1 + f; f) else . end', time_max: 100ms }",
    );
    let records: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let done = apply(&*jq, batch(records.iter().map(String::as_str)));
    assert_eq!(done.rejected.len(), 3);
    let expected = records.iter().map(String::as_str).filter(|n| !["500", "600", "700"].contains(n));
    assert_eq!(texts(&done.batch), expected.collect::<Vec<_>>());
    assert_eq!(done.rejected[0].reason.message, "the program takes longer than 100ms");
}

#[test]
fn outputs_count_what_they_take_over_from_their_record() {
    let jq = make("jq: { program: '.[]', output_max: 1 MiB }");
    let key = vec![b'k'; 16 << 10];
    let mut builder = BatchBuilder::default();
    builder.set_topic(&"orders".into(), 0);
    for record in ["[1, 2]", &serde_json::to_string(&vec![0; 1000]).unwrap()] {
        builder.push_known(record.as_bytes(), 0, (Some(&key[..]), 0), []);
    }
    let done = apply(&*jq, builder.finish());
    assert_eq!(texts(&done.batch), ["1", "2"]);
    assert_eq!(reasons(&done), [("Jq.Failed", "the record becomes longer than 1048576 bytes")]);
}

#[test]
fn a_batch_that_takes_long_is_handed_on_in_pieces() {
    let endless = "if . == 0 then . else last(range(1e18)) end, time_max: 600ms }";
    for options in [format!("jq: {{ program: {endless}"), format!("filter: {{ expression: {endless}")] {
        let transform = make(&options);
        let records = ["1", "1", "1", "0"];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let first = runtime.block_on(transform.apply(batch(records))).unwrap();
        assert!((1..4).contains(&first.left.len()), "{} are left", first.left.len());
        assert_eq!(first.batch.len() + first.rejected.len() + first.left.len(), 4);
        let done = apply(&*transform, batch(records));
        assert_eq!((texts(&done.batch), done.rejected.len()), (vec!["0"], 3));
    }
}

#[test]
fn a_filter_keeps_records_byte_for_byte() {
    let filter = make("filter: .level != \"debug\"");
    let records = [
        " {\"level\" : \"info\"} ",
        "{\"level\":\"debug\"}",
        "{\"price\":1.10}",
        "no",
        "{\"level\":\"info\",\"a\":1e2}",
    ];
    let done = apply(&*filter, batch(records));
    assert_eq!(texts(&done.batch), [records[0], records[2], records[4]]);
    assert_eq!((done.batch.arrival_ms(2), done.dropped), (4, 1));
    let not_json = "the record is not JSON: expected a value at byte 0";
    assert_eq!(reasons(&done), [("Filter.Failed", not_json)]);
    let read = batch(["1", "2"]);
    let before = read.payload(0).as_ptr();
    let done = apply(&*make("filter: ."), read);
    assert_eq!(done.batch.payload(0).as_ptr(), before, "nothing is copied");
}

#[test]
fn a_filter_is_true_if_any_output_is() {
    for (expression, record, kept) in [
        (".", "0", true),
        (".", "\"\"", true),
        (".", "null", false),
        (".", "false", false),
        ("empty", "1", false),
        (".tags[] == \"b\"", "{\"tags\":[\"a\",\"b\",\"c\"]}", true),
        (".tags[] == \"x\"", "{\"tags\":[\"a\"]}", false),
        (".a.b.c > 1", "{}", false),
        (".a.b.c | not", "{}", true),
        ("has(\"a\") and (.a | length) > 2 or .b", "{\"a\":\"xyz\"}", true),
        ("$key == \"key\" and $offset == 0", "1", true),
    ] {
        let done = apply(&*make(&format!("filter: '{expression}'")), batch([record]));
        assert_eq!(done.batch.len(), usize::from(kept), "{expression} of {record}");
        assert_eq!(done.dropped, u64::from(!kept));
    }
}

#[test]
fn a_query_gives_keys_and_leaves_the_record_as_it_is() {
    let query = "metadata_extraction: { query: '{customer: .c, day: (.ts|strftime(\"%Y-%m-%d\")), n: .n, b: (.n > 1)}', parsing_engine: JQ-1.6 }";
    let records = [
        " {\"c\":\"a/b\",\"ts\":1700000000,\"n\":1.50}",
        "{\"ts\":1700000000,\"n\":1}",
        "{\"c\":\"\",\"ts\":0,\"n\":1}",
        "{\"c\":{},\"ts\":0,\"n\":1}",
        "{\"c\":[],\"ts\":0,\"n\":1}",
        "plain",
        "{\"c\":true,\"ts\":0,\"n\":12345678901234567890}",
    ];
    let done = apply(&*make(query), batch(records));
    assert_eq!(texts(&done.batch), [records[0], records[6]]);
    let keys = |row: usize| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        done.batch
            .partition_keys(row)
            .map(|(name, value)| format!("{}={}", text(name), text(value)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(keys(0), "customer=a/b day=2023-11-14 n=1.5 b=true");
    assert_eq!(keys(1), "customer=true day=1970-01-01 n=12345678901234567890 b=true");
    let code = "DynamicPartitioning.MetadataExtractionFailed";
    assert_eq!(
        reasons(&done),
        [
            (code, "partition key `customer` is null or missing"),
            (code, "partition key `customer` is an empty text"),
            (code, "partition key `customer` is an object"),
            (code, "partition key `customer` is an array"),
            (code, "Non JSON record provided: expected a value at byte 0"),
        ]
    );
    assert!(done.rejected.iter().all(|one| one.reason.by == RejectedBy::Prefix));
}

#[test]
fn a_query_gives_one_object_of_at_most_fifty_keys() {
    for (query, words) in [
        (".a", "the query gives no object: 1"),
        ("{a}, {a}", "the query has several outputs"),
        ("empty", "the query has no output"),
        ("[range(51) | {(tostring): 1}] | add", "51 partition keys are more than 50"),
        ("{a: (\"x\" * 20000)}", "the partition keys are longer than 16384 bytes"),
        ("{a: nan}", "partition key `a` is a number out of range"),
        ("error(\"none\")", "none"),
    ] {
        let done = apply(&*make(&format!("metadata_extraction: {{ query: '{query}' }}")), batch(["{\"a\":1}"]));
        assert_eq!(reasons(&done), [("DynamicPartitioning.MetadataExtractionFailed", words)], "{query}");
    }
    let fifty = "[range(50) | {(tostring): 1}] | add";
    let done = apply(&*make(&format!("metadata_extraction: {{ query: '{fifty}' }}")), batch(["1"]));
    assert_eq!(done.batch.partition_keys(0).count(), 50);
}

#[test]
fn transforms_follow_one_another() {
    let chain = [
        "filter: .level != \"debug\"",
        "metadata_extraction: { query: '{c: .c, t: \"first\"}' }",
        "jq: '.items[] | {id: .}'",
        "filter: .id > 1",
        "metadata_extraction: { query: '{t: \"last\", id}' }",
    ];
    let metrics = Metrics::new();
    let transforms = Transforms::new("x", chain.iter().map(|yaml| make(yaml)).collect(), &metrics.pipeline("x"));
    let records = [
        "{\"level\":\"debug\",\"items\":[7]}",
        "{\"c\":\"de\",\"items\":[1,2,3]}",
        "{\"items\":[4]}",
        "{\"c\":\"at\",\"items\":[]}",
        "{\"c\":\"at\",\"items\":5}",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let done = runtime.block_on(through(&transforms, batch(records))).unwrap();
    assert_eq!(texts(&done.batch), ["{\"id\":2}", "{\"id\":3}"]);
    let keys: Vec<_> = done.batch.partition_keys(0).collect();
    assert_eq!(keys, [(&b"c"[..], &b"de"[..]), (b"t", b"first"), (b"t", b"last"), (b"id", b"2")]);
    assert_eq!(done.dropped, 3, "one by level, one without items, one by id");
    let codes: Vec<_> = done.rejected.iter().map(|one| one.reason.code).collect();
    assert_eq!(codes, ["DynamicPartitioning.MetadataExtractionFailed", "Jq.Failed"]);
}

/// Names and contents of the objects of a pipeline of lines with these transforms and this prefix, sorted.
fn objects(transforms: &str, sink: &str, records: &str) -> Vec<(String, String)> {
    let home = Home::new();
    home.write("in.ndjson", records);
    let written =
        pipeline("file: { path: in.ndjson, follow: false }", "lines: {}", "1s", &format!("url: ./out, {sink}"));
    home.write("x.yaml", format!("{written}transforms: {transforms}\n"));
    let ended = home.run("run x.yaml --once --state state");
    assert_eq!(ended.code, 0, "{ended:?}");
    let out = home.path("out");
    let read = |path: &std::path::PathBuf| {
        let name = path.strip_prefix(&out).unwrap().parent().unwrap().to_string_lossy().into_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    home.files("out").keys().filter(|path| !path.to_string_lossy().contains("_hydrant")).map(read).collect()
}

#[test]
fn partition_keys_reach_the_names_of_objects() {
    let records = "{\"c\":\"de\",\"n\":1}\n{\"c\":\"../x\",\"n\":2}\n{\"c\":\"de\",\"n\":1}\n{\"n\":3}\n";
    let made = objects(
        "[{ metadata_extraction: { query: \"{c: .c}\" } }, { jq: \"{n}\" }]",
        "prefix: \"c=!{partitionKeyFromQuery:c}/n={n}/\"",
        records,
    );
    let (good, errors): (Vec<_>, Vec<_>) = made.into_iter().partition(|(name, _)| name.starts_with("c="));
    let expected = [("c=%2E.%2Fx/n=2", "{\"n\":2}\n"), ("c=de/n=1", "{\"n\":1}\n{\"n\":1}\n")];
    assert_eq!(good, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    let [(name, text)] = errors.as_slice() else { panic!("one object of errors: {errors:?}") };
    assert!(name.starts_with("errors/metadata-extraction-failed/dt="), "{name}");
    assert!(text.contains("partition key `c` is null or missing"), "{text}");
}

#[test]
fn a_pipeline_of_filters_and_jq_says_what_it_left_out() {
    let made = objects(
        "[{ filter: \".n != 2\" }, { jq: \"if .n == 3 then error(\\\"three\\\") else .n, .n end\" }]",
        "prefix: \"all/\"",
        "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n",
    );
    assert_eq!(made[0], ("all".to_owned(), "1\n1\n".to_owned()));
    assert!(made[1].0.starts_with("errors/processing-failed/"), "{}", made[1].0);
    assert!(made[1].1.contains("Jq.Failed") && made[1].1.contains("three"), "{}", made[1].1);
}

proptest::proptest! {
    #[test]
    fn a_filter_keeps_every_record_that_is_json(records in proptest::collection::vec("(\\{\"a\": ?[1-9]{1,30}(\\.[0-9]{1,9})?\\}|\\[ *true, *\"é?\" *\\]| -0|\"[a-zé]{0,9}\")[ \t\r\n]{0,2}", 0..300)) {
        let read = batch(records.iter().map(String::as_str));
        let done = apply(&*make("filter: (., true)"), read);
        proptest::prop_assert_eq!(texts(&done.batch), records);
    }
}
