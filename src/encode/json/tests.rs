//! What the decoder promises: the rules of `mod.rs`, and no trace of a rejected record in any kind of column.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float64Type, Int32Type, Int64Type, Time32MillisecondType, TimestampMicrosecondType,
    TimestampMillisecondType,
};
use arrow_array::{Array, RecordBatch};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const CASE: Matching = Matching { case_insensitive: true, dots_to_underscores: false };

fn decoder(schema: &str, on_unknown: OnUnknown) -> Decoder {
    let schema: Schema = serde_saphyr::from_str(schema).unwrap();
    Decoder::new(&schema, arrow_schema(&schema, on_unknown).unwrap(), on_unknown, CASE)
}

/// Rows and reasons of the records, in order.
fn decode(schema: &str, on_unknown: OnUnknown, records: &[&str]) -> (RecordBatch, Vec<Reason>) {
    let mut decoder = decoder(schema, on_unknown);
    let reasons = records.iter().filter_map(|record| decoder.push(record.as_bytes()).err()).collect();
    (decoder.finish(), reasons)
}

fn reason(schema: &str, record: &[u8]) -> (&'static str, String) {
    let mut decoder = decoder(schema, OnUnknown::Keep);
    let reason = decoder.push(record).expect_err("the record is rejected");
    assert_eq!(decoder.rows(), 0);
    (reason.code, reason.message)
}

/// An array's cell as JSON, for the types that the tests use.
fn cell(array: &dyn Array, row: usize) -> Value {
    use arrow_schema::DataType::*;
    if array.is_null(row) {
        return Value::Null;
    }
    let all = |array: &dyn Array| (0..array.len()).map(|row| cell(array, row)).collect::<Vec<_>>();
    match array.data_type() {
        Boolean => array.as_boolean().value(row).into(),
        Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        Utf8 => array.as_string::<i32>().value(row).into(),
        List(_) => all(&array.as_list::<i32>().value(row)).into(),
        Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            Value::Object(columns.map(|(field, column)| (field.name().clone(), cell(column, row))).collect())
        }
        Map(..) => {
            let pairs = array.as_map().value(row);
            let keys = pairs.column(0).as_string::<i32>();
            Value::Object((0..pairs.len()).map(|row| (keys.value(row).into(), cell(pairs.column(1), row))).collect())
        }
        other => panic!("no test shows {other}"),
    }
}

fn rows(batch: &RecordBatch) -> Vec<Value> {
    let row = |row| {
        let columns = batch.schema_ref().fields().iter().zip(batch.columns());
        Value::Object(columns.map(|(field, column)| (field.name().clone(), cell(column, row))).collect())
    };
    (0..batch.num_rows()).map(row).collect()
}

#[test]
fn a_rejected_record_says_which_column_wanted_what_and_what_stood_there() {
    let schema = "i: int32\nd: decimal(5,2)\nt: timestamp(ms)\nl: list<struct<x:int8>>\nm: map<string,bool>\nr: string not null\nb: binary\nh: binary(hex)\n";
    for (record, message) in [
        (r#"{"i":1.5}"#, "column i: expected int32, found number 1.5 (not a whole number)"),
        (r#"{"i":3000000000}"#, "column i: expected int32, found number 3000000000 (out of range)"),
        (r#"{"i":"oops"}"#, "column i: expected int32, found string \"oops\""),
        (r#"{"i":"7 "}"#, "column i: expected int32, found string \"7 \""),
        (r#"{"i":true}"#, "column i: expected int32, found boolean true"),
        (r#"{"i":{"a":[1]}}"#, "column i: expected int32, found object {\"a\":[1]}"),
        (r#"{"d":1000}"#, "column d: expected decimal(5,2), found number 1000 (out of range)"),
        (
            r#"{"d":0.125}"#,
            "column d: expected decimal(5,2), found number 0.125 (more digits behind the point than the column's scale)",
        ),
        (
            r#"{"t":"yesterday"}"#,
            "column t: expected timestamp(ms), found string \"yesterday\" (no RFC 3339 time that the column can hold)",
        ),
        (r#"{"l":[{"x":1},{"x":200}]}"#, "column l[1].x: expected int8, found number 200 (out of range)"),
        (r#"{"m":{"k":0}}"#, "column m[\"k\"]: expected bool, found number 0"),
        (r#"{"r":null}"#, "column r: expected string not null, found null"),
        (r#"{"i":1}"#, "column r: expected string not null, found no such field"),
        (r#"{"b":"?"}"#, "column b: expected binary, found string \"?\" (no base64)"),
        (r#"{"h":"abc"}"#, "column h: expected binary(hex), found string \"abc\" (no hex)"),
        (r#"[{"r":""}]"#, "byte 0: expected a record of one JSON object, found array [{\"r\":\"\"}]"),
        (" 7", "byte 1: expected a record of one JSON object, found number 7"),
        (r#"{"r":""} {"r":""}"#, "byte 9: expected a record of one JSON object, found object {\"r\":\"\"}"),
    ] {
        assert_eq!(reason(schema, record.as_bytes()), (MALFORMED_DATA, message.to_owned()), "{record}");
    }
    let long = format!("{{\"i\":\"{}\"}}", "ä\u{7f}".repeat(500));
    let message = reason(schema, long.as_bytes()).1;
    assert!(message.contains("ä\\u{7f}") && message.ends_with('…') && message.chars().count() < 300, "{message}");
}

#[test]
fn a_malformed_record_says_where() {
    let schema = "a: string\nl: list<int>\n";
    for (record, message) in [
        ("", "malformed JSON at byte 0: expected an object, found an empty record"),
        (" \n", "malformed JSON at byte 0: expected an object, found an empty record"),
        ("nope", "malformed JSON at byte 0: expected an object, found `n`"),
        ("{", "malformed JSON at byte 1: expected a string, found the end of the record"),
        (r#"{"a":"x"#, "malformed JSON at byte 7: expected a closing quote, found the end of the record"),
        (r#"{"a":"x",}"#, "malformed JSON at byte 9: expected a string, found `}`"),
        (r#"{"a":"x"}}"#, "malformed JSON at byte 9: expected the end of the record, found `}`"),
        (r#"{"a" "x"}"#, "malformed JSON at byte 5: expected `:`, found `\"`"),
        (r#"{"l":[1,]}"#, "malformed JSON at byte 8: expected a value, found `]`"),
        (r#"{"l":[01]}"#, "malformed JSON at byte 7: expected `,` or `]`, found `1`"),
        (r#"{"l":[1.]}"#, "malformed JSON at byte 8: expected a digit, found `]`"),
        (r#"{"u":[nul]}"#, "malformed JSON at byte 6: expected true, false or null, found `n`"),
        (r#"{"u":"\ud800"}"#, "malformed JSON at byte 6: expected an escape that stands for a character, found `\\`"),
        ("{\"a\":\"x\ny\"}", "malformed JSON at byte 7: expected no control character in a string, found byte 0x0a"),
        ("{\"a\":\0}", "malformed JSON at byte 5: expected a value, found byte 0x00"),
        (r#"{"a":NaN}"#, "malformed JSON at byte 5: expected a value, found `N`"),
    ] {
        assert_eq!(reason(schema, record.as_bytes()), (PARSE_ERROR, message.to_owned()), "{record}");
    }
    let invalid = b"{\"a\":\"\xff\"}";
    assert_eq!(reason(schema, invalid).1, "malformed JSON at byte 6: expected UTF-8, found byte 0xff");
}

#[test]
fn a_record_100000_deep_is_rejected_wherever_it_is_deep() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let objects = "{\"a\":".repeat(100_000);
    for schema in
        ["a: json", "a: list<list<json>>", "a: string", "b: string", "a: struct<a:json>", "a: map<string,json>"]
    {
        for value in [deep.as_str(), &deep[..100_000], &objects] {
            let (code, message) = reason(schema, format!("{{\"a\":{value}}}").as_bytes());
            assert!(code == PARSE_ERROR && message.contains("at most 128 levels"), "{schema}: {message}");
        }
        assert_eq!(reason(schema, objects.as_bytes()).0, PARSE_ERROR);
        reason(schema, deep.as_bytes());
    }
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(decoder("a: json", OnUnknown::Keep).push(nested(DEPTH_MAX - 1).as_bytes()).is_ok());
    assert!(decoder("a: json", OnUnknown::Keep).push(nested(DEPTH_MAX).as_bytes()).is_err());
}

#[test]
fn strings_keep_every_character() {
    let (batch, reasons) = decode(
        "s: string\nd: dictionary<string>",
        OnUnknown::Keep,
        &[r#"{"s":"a\u0000\ud83d\ude00\"\\\/\n","d":"x\ty"}"#, r#"{"s":"","d":""}"#, r#"{"s":"naïve 😀"}"#],
    );
    assert_eq!(reasons, []);
    let strings = batch.column(0).as_string::<i32>();
    assert_eq!(strings.iter().map(Option::unwrap).collect::<Vec<_>>(), ["a\0😀\"\\/\n", "", "naïve 😀"]);
    let dictionary = batch.column(1).as_dictionary::<Int32Type>().downcast_dict::<arrow_array::StringArray>().unwrap();
    assert_eq!(dictionary.into_iter().collect::<Vec<_>>(), [Some("x\ty"), Some(""), None]);
}

#[test]
fn numbers_and_booleans_are_taken_from_strings_that_spell_them() {
    let (batch, reasons) = decode(
        "i: int64\nf: float64\nb: bool",
        OnUnknown::Keep,
        &[
            r#"{"i":"9007199254740993","f":"-1e-3","b":"true"}"#,
            r#"{"i":1e3,"f":"0.1","b":false}"#,
            r#"{"i":-0,"f":-0.0}"#,
        ],
    );
    assert_eq!(reasons, []);
    assert_eq!(
        rows(&batch),
        [
            json!({"i": 9007199254740993i64, "f": -0.001, "b": true, "_rest": null}),
            json!({"i": 1000, "f": 0.1, "b": false, "_rest": null}),
            json!({"i": 0, "f": -0.0, "b": null, "_rest": null}),
        ]
    );
    assert!(batch.column(1).as_primitive::<Float64Type>().value(2).is_sign_negative());
    for wrong in [
        r#"{"f":"NaN"}"#,
        r#"{"f":"Infinity"}"#,
        r#"{"f":1e999}"#,
        r#"{"i":"+1"}"#,
        r#"{"i":"007"}"#,
        r#"{"b":"True"}"#,
        r#"{"b":1}"#,
    ] {
        assert_eq!(reason("i: int64\nf: float64\nb: bool", wrong.as_bytes()).0, MALFORMED_DATA, "{wrong}");
    }
}

#[test]
fn of_equal_keys_the_last_wins_and_each_has_to_fit() {
    let schema = "a: int64\nl: list<int64>\no: struct<x:int64>\nm: map<string,int64>";
    let (batch, reasons) = decode(
        schema,
        OnUnknown::Drop,
        &[
            r#"{"a":1,"l":[1,2,3],"o":{"x":1,"x":2},"m":{"k":1,"j":2,"k":3},"A":4,"l":[5],"o":{},"m":{"z":1,"z":2,"z":9}}"#,
            r#"{"a":1,"l":[2],"o":null,"m":{},"a":null}"#,
            r#"{"a":"x","a":1}"#,
        ],
    );
    assert_eq!(rows(&batch)[0], json!({"a": 4, "l": [5], "o": {"x": null}, "m": {"z": 9}}));
    assert_eq!(rows(&batch)[1], json!({"a": null, "l": [2], "o": null, "m": {}}));
    assert_eq!(reasons.len(), 1);
    let pairs: Vec<_> = (0..40).map(|k| format!("\"k{}\":{k}", k % 20)).collect();
    let (batch, _) = decode(schema, OnUnknown::Drop, &[&format!("{{\"m\":{{{}}}}}", pairs.join(","))]);
    let map = &rows(&batch)[0]["m"];
    assert!((0..20).all(|k| map[format!("k{k}")] == json!(k + 20)), "{map}");
    assert_eq!(batch.column(3).as_map().value(0).len(), 20);
}

#[test]
fn unknown_fields_are_kept_byte_for_byte_at_their_place() {
    let schema = "id: int64\nctx: struct<a:int64>\nitems: list<struct<s:string>>\nby: map<string,struct<n:int64>>";
    let record = r#" { "new" : 1.50e0 ,"id":1,"ctx":{"b":"\u0041","a":1}, "items":[{"s":"x"},{"t": [1, 2]},null],"by":{"k":{"n":1},"j":{"o":{}}},"New":"ä"} "#;
    let (batch, _) = decode(schema, OnUnknown::Keep, &[record, r#"{"id":2,"ctx":{"a":2},"items":[{}],"by":{}}"#, "{}"]);
    let rest = batch.column(4).as_string::<i32>();
    let expected =
        r#"{"new" : 1.50e0,"ctx":{"b":"\u0041"},"items":[{},{"t": [1, 2]},null],"by":{"j":{"o":{}}},"New":"ä"}"#;
    assert_eq!(rest.iter().collect::<Vec<_>>(), [Some(expected), None, None]);

    let (batch, reasons) = decode(schema, OnUnknown::Drop, &[record]);
    assert_eq!((batch.num_columns(), batch.num_rows(), reasons.len()), (4, 1, 0));
    let (batch, reasons) = decode(schema, OnUnknown::Reject, &[record, r#"{"id":3}"#, r#"{"ctx":{"z":0}}"#]);
    assert_eq!(batch.num_rows(), 1);
    let messages: Vec<_> = reasons.iter().map(|reason| reason.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "field new: expected a field that the schema declares, found number 1.50e0",
            "field ctx.z: expected a field that the schema declares, found number 0",
        ]
    );
    let clash: Schema = serde_saphyr::from_str("_REST: string").unwrap();
    assert!(arrow_schema(&clash, OnUnknown::Keep).unwrap_err().to_string().starts_with("column _REST"));
}

#[test]
fn a_superseded_member_leaves_no_unknown_fields() {
    let schema =
        "id: int64\nctx: struct<a:int64, in:struct<b:int64>>\nl: list<struct<x:int64>>\nm: map<string,struct<n:int64>>";
    let cases = [
        (r#"{"ctx":{"a":1,"new":1},"ctx":{"a":2}}"#, None),
        (r#"{"ctx":{"new":1},"ctx":null}"#, None),
        (r#"{"ctx":{"new":1},"CTX":{"x":"{,"}}"#, Some(r#"{"CTX":{"x":"{,"}}"#)),
        (r#"{"ctx":{"new":1},"y":2,"ctx":{}}"#, Some(r#"{"y":2}"#)),
        (r#"{"y":2,"ctx":{"new":1},"ctx":{},"z":"\u0000"}"#, Some(r#"{"y":2,"z":"\u0000"}"#)),
        (
            r#"{"ctx":{"p":1},"l":[{"q":1}],"l":[],"ctx":{"in":{}},"s":3,"m":{"k":{"o":1}}}"#,
            Some(r#"{"s":3,"m":{"k":{"o":1}}}"#),
        ),
        (r#"{"ctx":{"in":{"u":1},"v":2,"in":{"b":1}},"w":3}"#, Some(r#"{"ctx":{"v":2},"w":3}"#)),
        (r#"{"ctx":{"in":{"u":1},"in":{"b":1}}}"#, None),
        (r#"{"l":[{"a":1},{}],"l":[{},{"b":1}],"l":[{},{"c":1}]}"#, Some(r#"{"l":[{},{"c":1}]}"#)),
        (r#"{"m":{"k":{"o":1},"k":{"n":1},"j":{"p":{}}},"m":{"k":{"o":1},"k":{"n":1}}}"#, None),
    ];
    let (batch, reasons) = decode(schema, OnUnknown::Keep, &cases.map(|(record, _)| record));
    assert_eq!(reasons, []);
    for (row, (record, expected)) in cases.iter().enumerate() {
        assert_eq!(cell(batch.column(4), row).as_str(), *expected, "{record}");
    }
}

#[test]
fn maps_in_maps_with_repeated_keys_are_read_in_time() {
    // Were each map read twice with all inside it, the list would be read 2^14 times, and this would hang.
    let (depth, elements) = (14, 200_000);
    let (mut schema, mut value) = ("list<int64>".to_owned(), format!("[{}7]", "7,".repeat(elements - 1)));
    for _ in 0..depth {
        schema = format!("map<string,{schema}>");
        value = format!(r#"{{"a":null,"k":null,"k":{value}}}"#);
    }
    let (batch, reasons) = decode(&format!("m: '{schema}'"), OnUnknown::Keep, &[&format!("{{\"m\":{value}}}")]);
    assert_eq!(reasons, []);
    let mut there = &rows(&batch)[0]["m"];
    for _ in 0..depth {
        assert_eq!(there.as_object().map(Map::len), Some(2));
        there = &there["k"];
    }
    assert_eq!(there.as_array().map(Vec::len), Some(elements));
}

#[test]
fn elements_of_missing_fields_are_bounded() {
    let fields: Vec<_> = (0..255).map(|field| format!("f{field}:int64")).collect();
    let schema = format!("l: 'list<struct<{0}>>'\nm: 'map<string,struct<{0}>>'\ni: list<int64>", fields.join(","));
    let most = RECORD_CELLS_MAX / 256;
    let list = |count: usize| format!("{{\"l\":[{}]}}", vec!["{}"; count].join(","));
    let map = |count: usize| {
        let entries: Vec<_> = (0..count).map(|key| format!("\"{key}\":null")).collect();
        format!("{{\"m\":{{{}}}}}", entries.join(","))
    };
    for (column, fits, beyond) in [("l", list(most), list(most + 1)), ("m", map(most), map(most + 1))] {
        let mut decoder = decoder(&schema, OnUnknown::Keep);
        decoder.push(fits.as_bytes()).unwrap();
        assert!(decoder.cells() >= RECORD_CELLS_MAX, "the batch should end");
        decoder.finish();
        assert_eq!(decoder.cells(), 0);
        let message = decoder.push(beyond.as_bytes()).unwrap_err().message;
        assert!(
            message.starts_with(&format!(
                "column {column}: expected a record whose lists and maps take at most 4194304 cells"
            )),
            "{message}"
        );
    }
    // Plain values are as many as their JSON tells.
    let numbers = format!("{{\"i\":[{}]}}", vec!["1"; RECORD_CELLS_MAX + 1].join(","));
    decoder(&schema, OnUnknown::Keep).push(numbers.as_bytes()).unwrap();
}

#[test]
fn what_rejected_records_leave_in_dictionaries_does_not_gather() {
    let rejected = |text: usize| format!("{{\"d\":\"{text:0>65000}\",\"i\":\"x\"}}");
    let mut decoder = decoder("d: dictionary<string>\ni: int64", OnUnknown::Keep);
    for text in 0..500 {
        decoder.push(rejected(text).as_bytes()).unwrap_err();
    }
    assert!(decoder.memory() < 32 << 20, "{} bytes", decoder.memory());
    // With rows, it is the owner who ends the batch.
    assert_eq!(decoder.cells(), 0);
    decoder.push(b"{\"d\":\"kept\",\"i\":1}").unwrap();
    (0..80).for_each(|text| drop(decoder.push(rejected(text).as_bytes()).unwrap_err()));
    assert!(decoder.cells() > 5_000_000, "{}", decoder.cells());
    let batch = decoder.finish();
    let dictionary = batch.column(0).as_dictionary::<Int32Type>().downcast_dict::<arrow_array::StringArray>().unwrap();
    assert_eq!(dictionary.into_iter().collect::<Vec<_>>(), [Some("kept")]);
}

#[test]
fn a_column_says_how_its_times_are_written() {
    let schema = "
        s: { type: timestamp(ms), format: epoch_s }
        n: { type: timestamp(us), format: [epoch_ns, rfc3339] }
        l: { type: 'list<timestamp(ms)>', format: '%d/%b/%Y:%H:%M:%S %z' }
        d: { type: date, format: ['%Y%m%d', epoch_ms] }
        t: { type: time(ms), format: '%I:%M %p' }
        o: { type: 'struct<x:timestamp(ms)>', format: epoch_us }";
    let (batch, reasons) = decode(
        schema,
        OnUnknown::Drop,
        &[
            r#"{"s":100000000000.5,"n":-1,"l":["20/Nov/2026:13:34:56 +0100",null],"d":20261120,"t":"01:02 PM","o":{"x":1500}}"#,
            r#"{"s":"-0.0001","n":"2026-11-20T12:34:56.789Z","l":[],"d":"1763632923123","t":null,"o":{"x":"-1"}}"#,
            r#"{"s":"2026-11-20T12:34:56Z"}"#,
            r#"{"n":"2026-11-20"}"#,
            r#"{"l":["20/Nov/2026:13:34:56 +0100",0]}"#,
            r#"{"d":"2026-11-20"}"#,
            r#"{"t":43200}"#,
            r#"{"o":{"x":true}}"#,
        ],
    );
    assert_eq!(batch.num_rows(), 2);
    let units = |array: &dyn Array| match array.data_type() {
        arrow_schema::DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().values().to_vec()
        }
        _ => array.as_primitive::<TimestampMillisecondType>().values().to_vec(),
    };
    assert_eq!(units(batch.column(0)), [100_000_000_000_500, -1]);
    assert_eq!(units(batch.column(1)), [-1, 1_795_178_096_789_000]);
    assert_eq!(units(batch.column(2).as_list::<i32>().values()), [1_795_178_096_000, 0]);
    assert_eq!(batch.column(3).as_primitive::<Date32Type>().values()[..], [20_777, 20_412]);
    assert_eq!(batch.column(4).as_primitive::<Time32MillisecondType>().value(0), 46_920_000);
    assert_eq!(units(batch.column(5).as_struct().column(0)), [1, -1]);
    let messages: Vec<_> = reasons.into_iter().map(|reason| reason.message).collect();
    assert_eq!(
        messages,
        [
            "column s: expected timestamp(ms), found string \"2026-11-20T12:34:56Z\" (not as the column's format says)",
            "column n: expected timestamp(us), found string \"2026-11-20\" (not as the column's format says)",
            "column l[1]: expected timestamp(ms), found number 0 (not as the column's format says)",
            "column d: expected date, found string \"2026-11-20\" (not as the column's format says)",
            "column t: expected time(ms), found number 43200 (not as the column's format says)",
            "column o.x: expected timestamp(ms), found boolean true",
        ]
    );
}

#[test]
fn required_fields_of_a_null_struct_are_not_missed() {
    let schema = "o: struct<a:int64 not null, l:list<string not null> not null>\nn: struct<a:int64>";
    let (batch, reasons) = decode(
        schema,
        OnUnknown::Drop,
        &[r#"{"o":null}"#, r#"{"o":{"a":1,"l":["x"]}}"#, r#"{"o":{"a":1}}"#, r#"{"o":{"a":1,"l":[null]}}"#],
    );
    assert_eq!(rows(&batch), [json!({"o": null, "n": null}), json!({"o": {"a": 1, "l": ["x"]}, "n": null})]);
    assert_eq!(reasons[0].message, "column o.l: expected list<string not null> not null, found no such field");
    assert_eq!(reasons[1].message, "column o.l[0]: expected string not null, found null");
}

/// Every kind of column, with values that fit, and one that does not.
const KINDS: [(&str, [&str; 3], &str); 24] = [
    ("bool", ["true", "false", "null"], "1"),
    ("int8", ["-128", "127", "null"], "128"),
    ("int16", ["-32768", "1", "null"], "32768"),
    ("int32", ["-2147483648", "1", "null"], "2147483648"),
    ("int64", ["-9223372036854775808", "9223372036854775807", "null"], "9223372036854775808"),
    ("uint8", ["255", "0", "null"], "-1"),
    ("uint16", ["65535", "0", "null"], "65536"),
    ("uint32", ["4294967295", "0", "null"], "4294967296"),
    ("uint64", ["18446744073709551615", "0", "null"], "18446744073709551616"),
    ("float32", ["1.5", "-0.0", "null"], "1e39"),
    ("float64", ["1.5", "-0.0", "null"], "1e309"),
    ("date", ["\"2026-11-20\"", "0", "null"], "\"2026-02-30\""),
    ("time(ms)", ["\"10:00:00\"", "1", "null"], "86400000"),
    ("time(ns)", ["\"10:00:00.000000001\"", "1", "null"], "-1"),
    ("timestamp(us)", ["\"2026-11-20T10:00:00Z\"", "1", "null"], "\"2026-11-20\""),
    ("decimal(4,2)", ["99.99", "-1", "null"], "100"),
    ("decimal(60,2)", ["-123456789012345678901234567890123456789012345678901234567.89", "0", "null"], "0.001"),
    ("string", ["\"a\\n\"", "\"\"", "null"], "[\"half\"]"),
    ("dictionary<string>", ["\"a\"", "\"\"", "null"], "7"),
    ("json", ["{\"a\" : [1]}", "\"\"", "null"], "[}"),
    ("binary(hex)", ["\"00ff\"", "\"\"", "null"], "\"00f!\""),
    ("list<list<string>>", ["[[\"a\",null],[],null]", "[]", "null"], "[[\"half\"],[\"a\",1]]"),
    ("map<string,list<int64>>", ["{\"a\":[1,2],\"b\":null}", "{}", "null"], "{\"half\":[1,2],\"b\":[3,\"x\"]}"),
    (
        "struct<a:string, b:list<int64>, c:struct<d:bool>>",
        ["{\"a\":\"x\",\"b\":[1],\"c\":{\"d\":true}}", "{}", "null"],
        "{\"a\":\"half\",\"b\":[1,2],\"c\":{\"d\":0}}",
    ),
];

#[test]
fn a_rejected_record_leaves_its_neighbours_exact_in_every_kind_of_column() {
    let schema: String = KINDS.iter().enumerate().map(|(i, (kind, ..))| format!("c{i}: '{kind}'\n")).collect();
    let record = |row: usize, bad: Option<usize>| {
        let field = |(i, (_, values, wrong)): (usize, &(&str, [&str; 3], &str))| {
            format!("\"c{i}\":{}", if bad == Some(i) { wrong } else { values[row % 3] })
        };
        format!("{{{},\"u\":{row}}}", KINDS.iter().enumerate().map(field).collect::<Vec<_>>().join(","))
    };
    let (mut clean, mut disturbed) = (decoder(&schema, OnUnknown::Keep), decoder(&schema, OnUnknown::Keep));
    for row in 0..150 {
        clean.push(record(row, None).as_bytes()).unwrap();
        for (bad, (kind, ..)) in KINDS.iter().enumerate() {
            let reason = disturbed.push(record(row + bad, Some(bad)).as_bytes()).expect_err(kind);
            assert!(reason.message.contains(&format!("column c{bad}")) || reason.code == PARSE_ERROR, "{reason:?}");
        }
        // All columns have a cell of the row by then.
        disturbed.push((record(row + 1, None) + "x").as_bytes()).unwrap_err();
        disturbed.push(record(row, None).as_bytes()).unwrap();
    }
    let (clean, disturbed) = (clean.finish(), disturbed.finish());
    for (column, (kind, ..)) in KINDS.iter().enumerate() {
        // Dictionaries are equal when their rows are, whatever else they know.
        assert_eq!(clean.column(column), disturbed.column(column), "{kind}");
    }
    assert_eq!(clean.num_rows(), 150);
    assert_eq!(clean.column(KINDS.len()), disturbed.column(KINDS.len()));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |value| value.is_finite()).prop_map(Value::from),
        "\\PC{0,12}|[\\x00-\\x7f]{0,20}|-?[0-9]{1,20}|true|null".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        let keys = "i|f|s|b|l|o|m|x|y|I|Ox|\\PC{0,4}";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn any_record() -> impl Strategy<Value = Map<String, Value>> {
    let keys = "i|f|s|b|l|o|m|x|\\PC{0,4}";
    prop::collection::vec((keys, any_json()), 0..9).prop_map(|pairs| pairs.into_iter().collect())
}

/// What a plain reading of the rules makes of a value, or `None` if it is rejected.
fn model(kind: &Type, value: &Value) -> Option<Value> {
    match (kind, value) {
        (_, Value::Null) => Some(Value::Null),
        (Type::Bool, Value::Bool(_)) | (Type::String, Value::String(_)) => Some(value.clone()),
        (Type::Bool, Value::String(text)) => text.parse::<bool>().ok().map(Value::from),
        (Type::Int { .. }, Value::Number(number)) => match number.as_f64() {
            _ if number.is_i64() => Some(value.clone()),
            Some(float) if number.is_f64() && float.fract() == 0.0 => {
                Some((format!("{float}").parse::<i64>().ok()?).into())
            }
            _ => None,
        },
        (Type::Int { .. } | Type::Float64, Value::String(text)) => {
            serde_json::from_str::<serde_json::Number>(text).ok().filter(|_| text.trim() == text)?;
            match kind {
                Type::Float64 => Some(text.parse::<f64>().ok()?.into()),
                _ => Some(text.parse::<i64>().ok()?.into()),
            }
        }
        (Type::Float64, Value::Number(number)) => Some(number.to_string().parse::<f64>().ok()?.into()),
        (Type::List(element), Value::Array(values)) => {
            Some(Value::Array(values.iter().map(|value| model(&element.kind, value)).collect::<Option<_>>()?))
        }
        (Type::Map(inner), Value::Object(pairs)) => {
            let pair = |(key, value): (&String, &Value)| Some((key.clone(), model(&inner.kind, value)?));
            Some(Value::Object(pairs.iter().map(pair).collect::<Option<_>>()?))
        }
        (Type::Struct(columns), Value::Object(pairs)) => model_object(columns, pairs),
        _ => None,
    }
}

fn model_object(columns: &[crate::encode::schema::Column], pairs: &Map<String, Value>) -> Option<Value> {
    let field = |column: &crate::encode::schema::Column| {
        let value = pairs.get(&column.name).unwrap_or(&Value::Null);
        Some((column.name.clone(), model(&column.data.kind, value)?))
    };
    Some(Value::Object(columns.iter().map(field).collect::<Option<_>>()?))
}

const STRUCTURE: &[u8] = b"{}[]\",:\\0123456789.eE+-u \n\x00tfn";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn typed_columns_hold_what_a_plain_reading_of_serde_json_holds(records in prop::collection::vec((any_record(), any::<bool>()), 1..6)) {
        let yaml = "i: int64\nf: float64\ns: string\nb: bool\nl: list<int64>\no: struct<x:string,y:list<bool>>\nm: map<string,float64>";
        let schema: Schema = serde_saphyr::from_str(yaml).unwrap();
        let arrow = arrow_schema(&schema, OnUnknown::Drop).unwrap();
        let mut decoder = Decoder::new(&schema, arrow, OnUnknown::Drop, Matching::default());
        let mut expected = Vec::new();
        for (record, pretty) in &records {
            let text = if *pretty { serde_json::to_vec_pretty(record) } else { serde_json::to_vec(record) }.unwrap();
            let model = model_object(schema.columns(), record);
            prop_assert_eq!(decoder.push(&text).is_ok(), model.is_some(), "{}", String::from_utf8_lossy(&text));
            expected.extend(model);
        }
        prop_assert_eq!(rows(&decoder.finish()), expected);
    }

    #[test]
    fn what_serde_json_refuses_is_refused_and_nothing_else(
        record in any_record(), pretty in any::<bool>(), damage in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, any::<u8>()), 0..3)
    ) {
        let mut text = if pretty { serde_json::to_vec_pretty(&record) } else { serde_json::to_vec(&record) }.unwrap();
        for (place, how, byte) in damage {
            let at = place.index(text.len().max(1)).min(text.len().saturating_sub(1));
            // Bytes of structure do the most damage.
            let byte = if byte < 128 { STRUCTURE[byte as usize % STRUCTURE.len()] } else { byte };
            match how {
                0 if !text.is_empty() => drop(text.remove(at)),
                1 => text.insert(at, byte),
                _ => if let Some(there) = text.get_mut(at) { *there = byte },
            }
        }
        let schema: Schema = serde_saphyr::from_str("i: json\no: json").unwrap();
        let arrow = arrow_schema(&schema, OnUnknown::Keep).unwrap();
        let mut decoder = Decoder::new(&schema, arrow, OnUnknown::Keep, Matching::default());
        let ours = decoder.push(&text);
        let theirs = serde_json::from_slice::<Map<String, Value>>(&text);
        if theirs.as_ref().is_err_and(|error| error.to_string().contains("number out of range")) {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&text);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}: {:?} and {:?}", shown, ours, theirs);
        if let Ok(mut fields) = theirs {
            let batch = decoder.finish();
            let kept = |column: usize| match cell(batch.column(column), 0) {
                Value::String(text) => serde_json::from_str(&text).unwrap(),
                null => null,
            };
            prop_assert_eq!(fields.remove("i").unwrap_or_default(), kept(0));
            prop_assert_eq!(fields.remove("o").unwrap_or_default(), kept(1));
            let rest = if fields.is_empty() { Value::Null } else { Value::Object(fields) };
            prop_assert_eq!(rest, kept(2), "{}", shown);
        }
    }
}
