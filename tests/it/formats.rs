//! JSON arrays, CSV and Avro as other readers find them: every type, every compression, and rejected records alone.

use std::io::Read;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use hydrant::encode::compress::append_long;
use hydrant::encode::{About, Options};
use hydrant::error::Reason;
use hydrant::position::{Position, Shard, ShardRange};
use hydrant::record::{Batch, BatchBuilder};
use serde_json::Value;

/// What one object became.
struct Made {
    object: Vec<u8>,
    rejected: Vec<(u32, Reason)>,
    memory_max: usize,
}

fn batch<'r>(records: impl IntoIterator<Item = &'r str>) -> Batch {
    let mut builder = BatchBuilder::default();
    records.into_iter().for_each(|record| builder.push(record.as_bytes(), 0));
    builder.finish()
}

/// One object of these records, in pushes of 333 rows; its size is known within a tenth before it ends.
fn make(yaml: &str, batch: &Batch) -> Made {
    static RANGE: LazyLock<ShardRange> = LazyLock::new(|| ShardRange {
        shard: Shard::new("7f").unwrap(),
        start: Position::from(0),
        end: Position::from(9),
    });
    let options: Options = serde_saphyr::from_str(yaml).unwrap();
    let format = options.build().unwrap();
    let mut encoder = format.encoder();
    let (mut object, mut rejected, mut memory_max) = (Vec::new(), Vec::new(), 0);
    let rows: Vec<u32> = (0..batch.len() as u32).collect();
    for rows in rows.chunks(333) {
        rejected.extend(encoder.push(batch, rows, &mut object).unwrap());
        assert!(encoder.size() >= object.len() as u64, "what is written is part of the size");
        memory_max = memory_max.max(encoder.memory());
    }
    assert_eq!(encoder.rows() as usize + rejected.len(), batch.len());
    let size = encoder.size() as f64;
    encoder.finish(&About { pipeline: "click", range: &RANGE }, &mut object).unwrap();
    if object.len() > 256 << 10 {
        assert!((0.9..1.1).contains(&(size / object.len() as f64)), "{yaml}: {size} for {}", object.len());
    }
    Made { object, rejected, memory_max }
}

fn unpacked(compression: &str, bytes: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    match compression {
        "gzip" => drop(flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut raw).unwrap()),
        "zstd" => raw = zstd::stream::decode_all(bytes).unwrap(),
        "snappy" => drop(snap::read::FrameDecoder::new(bytes).read_to_end(&mut raw).unwrap()),
        _ => raw = bytes.to_vec(),
    }
    raw
}

/// Clicks, 5 MB of them: some megabytes in each format.
fn clicks() -> Vec<String> {
    let click = |id: u64| {
        let noise = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "{{\"id\":{id},\"user\":\"u{noise:x}\",\"page\":\"/p/{}\",\"price\":{}.{:02},\"tags\":[\"a\",\"b{}\"],\"new\":{}}}",
            noise % 1000,
            noise % 89,
            noise % 97,
            noise % 5,
            noise % 3
        )
    };
    (0..50_000).map(click).collect()
}

const CLICK: &str = "{ id: long, user: string, page: string, price: 'decimal(12,2)', tags: 'list<string>' }";

/// Records of which every second one is no JSON object.
const MIXED: [&str; 10] = [
    "{\"id\":1}",
    "not json",
    "{\"id\":2,\"user\":\"ünï😀\\u0000\"}",
    "{\"id\":3",
    "{\"id\":4}",
    "",
    " {\"id\" : 5}\r\n",
    "{\"id\":6} {\"id\":7}",
    "{\"id\":8}",
    "{\"id\":\"\\ud800\"}",
];

#[test]
fn a_json_array_holds_each_record_as_it_came() {
    let clicks = clicks();
    let batch = batch(clicks.iter().map(String::as_str));
    for compression in ["none", "gzip", "zstd", "snappy"] {
        let made = make(&format!("json_array: {{ compression: {compression} }}"), &batch);
        let text = unpacked(compression, &made.object);
        assert!(text == format!("[{}]\n", clicks.join(",\n")).as_bytes(), "{compression}");
        assert_eq!(serde_json::from_slice::<Vec<Value>>(&text).unwrap().len(), clicks.len());
        assert!(made.memory_max < 48 << 20, "{}", made.memory_max);
    }
}

#[test]
fn a_json_array_takes_any_value_and_rejects_what_is_none_alone() {
    let made = make("json_array: {}", &batch(MIXED));
    let text = String::from_utf8(made.object).unwrap();
    assert_eq!(text, "[{\"id\":1},\n{\"id\":2,\"user\":\"ünï😀\\u0000\"},\n{\"id\":4},\n{\"id\" : 5},\n{\"id\":8}]\n",);
    assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap().len(), 5);
    let rows: Vec<u32> = made.rejected.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, [1, 3, 5, 7, 9]);
    assert!(made.rejected.iter().all(|(_, reason)| reason.code == "DataFormatConversion.ParseError"));
    let made = make("json_array: {}", &batch(["1", "\"two\"", "[3]", "null"]));
    assert_eq!(made.object, b"[1,\n\"two\",\n[3],\nnull]\n");
}

#[test]
fn objects_without_records_are_valid() {
    let nothing = Batch::default();
    for compression in ["none", "gzip", "zstd", "snappy"] {
        let array = make(&format!("json_array: {{ compression: {compression} }}"), &nothing).object;
        assert_eq!(unpacked(compression, &array), b"[]\n");
        let csv = format!("csv: {{ schema: {CLICK}, on_unknown: drop, compression: {compression} }}");
        assert_eq!(unpacked(compression, &make(&csv, &nothing).object), b"id,user,page,price,tags\n");
    }
    for compression in ["none", "deflate", "snappy", "zstd"] {
        let avro = format!("avro: {{ schema: {CLICK}, compression: {compression} }}");
        assert!(avro_batches(make(&avro, &nothing).object).is_empty());
    }
}

#[test]
fn a_record_of_many_blocks_goes_through_every_format() {
    let huge = "é".repeat(4 << 20);
    let records = ["{\"id\":1,\"user\":\"a\"}".to_owned(), format!("{{\"id\":2,\"user\":\"{huge}\"}}")];
    let batch = batch(records.iter().map(String::as_str));
    let text = unpacked("gzip", &make("json_array: { compression: gzip }", &batch).object);
    assert!(text == format!("[{}]\n", records.join(",\n")).as_bytes());
    let rows = csv_rows(",", &make("csv: { schema: { id: long, user: string } }", &batch).object);
    assert!(rows[2] == ["2", &huge, ""]);
    let batches = avro_batches(make("avro: { schema: { id: long, user: string } }", &batch).object);
    let users: Vec<_> = batches.iter().flat_map(|batch| batch.column(1).as_string::<i32>().iter()).collect();
    assert!(users == [Some("a"), Some(&huge)]);
}

fn csv_rows(delimiter: &str, text: &[u8]) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new();
    reader.has_headers(false).delimiter(delimiter.as_bytes()[0]);
    let records = reader.from_reader(text).into_records();
    records.map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

#[test]
fn csv_spells_every_type() {
    let record = r#"{"b":true,"i8":-128,"u64":18446744073709551615,"f32":0.1,"f64":1e300,"d":"2026-11-20","t":"01:02:03.5",
        "s":"2026-11-20T10:00:00Z","ms":"2026-11-20T10:00:00.25Z","tz":"2026-07-01T10:00:00Z","local":"2026-11-20T10:00:00",
        "dec":-0.05,"wide":1234567890123456789012345678901234567890.5,"bin":"3q0=","hex":"dead","dict":"x","json":{"a": [1, "ä"]},
        "list":["a\"b",null],"map":{"k":1.5},"st":{"x":"2026-11-20","y":null},"more":[1]}"#;
    let schema = "{ b: bool, i8: int8, u64: uint64, f32: float32, f64: float64, d: date, t: time(ms), s: timestamp(s), \
        ms: timestamp(ms), tz: 'timestamp(us, Europe/Berlin)', local: 'timestamp(ns, none)', dec: 'decimal(12,2)', \
        wide: 'decimal(45,3)', bin: binary, hex: binary(hex), dict: dictionary<string>, json: json, list: list<string>, \
        map: 'map<string,double>', st: 'struct<x:date,y:int>' }";
    let made = make(&format!("csv: {{ schema: {schema} }}"), &batch([record, "{}"]));
    assert_eq!(made.rejected, []);
    let rows = csv_rows(",", &made.object);
    let expected = [
        ("b", "true"),
        ("i8", "-128"),
        ("u64", "18446744073709551615"),
        ("f32", "0.1"),
        ("f64", "1e300"),
        ("d", "2026-11-20"),
        ("t", "01:02:03.500"),
        ("s", "2026-11-20T10:00:00Z"),
        ("ms", "2026-11-20T10:00:00.250Z"),
        ("tz", "2026-07-01T12:00:00.000000+02:00"),
        ("local", "2026-11-20T10:00:00.000000000"),
        ("dec", "-0.05"),
        ("wide", "1234567890123456789012345678901234567890.500"),
        ("bin", "3q0="),
        ("hex", "dead"),
        ("dict", "x"),
        ("json", "{\"a\": [1, \"ä\"]}"),
        ("list", "[\"a\\\"b\",null]"),
        ("map", "{\"k\":1.5}"),
        ("st", "{\"x\":\"2026-11-20\",\"y\":null}"),
        ("_rest", "{\"more\":[1]}"),
    ];
    assert_eq!(rows[0], expected.map(|(name, _)| name));
    assert_eq!(rows[1], expected.map(|(_, text)| text));
    assert_eq!(rows[2], [""; 21]);
}

#[test]
fn csv_is_written_as_its_reader_wants_it() {
    let records = batch([
        "{\"a\":\"\",\"b\":\"x;y\"}",
        "{\"b\":\"nil\"}",
        "{\"a\":\"two\\nlines\",\"b\":\"'\"}",
        "{\"a\":\"ünï😀\",\"b\":null}",
    ]);
    let schema = "schema: { a: string, b: string }, on_unknown: drop";
    let text =
        |options: &str| String::from_utf8(make(&format!("csv: {{ {schema}{options} }}"), &records).object).unwrap();
    assert_eq!(text(""), "a,b\n\"\",x;y\n,nil\n\"two\nlines\",'\nünï😀,\n");
    assert_eq!(
        text(", header: false, delimiter: ';', quote: \"'\", null_text: nil, line_end: crlf"),
        ";'x;y'\r\nnil;'nil'\r\n'two\nlines';''''\r\nünï😀;nil\r\n"
    );
}

#[test]
fn csv_comes_back_in_every_compression() {
    let clicks = clicks();
    let batch = batch(clicks.iter().map(String::as_str));
    for compression in ["none", "gzip", "zstd", "snappy"] {
        let made = make(&format!("csv: {{ schema: {CLICK}, compression: {compression}, delimiter: \"\\t\" }}"), &batch);
        let rows = csv_rows("\t", &unpacked(compression, &made.object));
        assert_eq!(rows.len(), clicks.len() + 1);
        for (row, click) in rows[1..].iter().zip(&clicks) {
            let click: Value = serde_json::from_str(click).unwrap();
            assert_eq!((&row[0], &row[1]), (&click["id"].to_string(), &click["user"].as_str().unwrap().to_owned()));
            assert_eq!((&row[4], &row[5]), (&click["tags"].to_string(), &format!("{{\"new\":{}}}", click["new"])));
        }
        assert!(made.memory_max < 48 << 20, "{}", made.memory_max);
    }
}

#[test]
fn rows_reject_what_does_not_fit_alone() {
    for format in ["csv", "avro"] {
        let made = make(&format!("{format}: {{ schema: {{ id: int, user: string }} }}"), &batch(MIXED));
        let rows: Vec<u32> = made.rejected.iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, [1, 3, 5, 7, 9], "{format}");
        let ids: Vec<i32> = match format {
            "csv" => csv_rows(",", &made.object)[1..].iter().map(|row| row[0].parse().unwrap()).collect(),
            _ => avro_batches(made.object)[0].column(0).as_primitive::<Int32Type>().values().to_vec(),
        };
        assert_eq!(ids, [1, 2, 4, 5, 8], "{format}");
    }
}

fn avro_batches(object: Vec<u8>) -> Vec<RecordBatch> {
    let object = without_deflate(object);
    let reader = arrow_avro::reader::ReaderBuilder::new().build(std::io::Cursor::new(object)).unwrap();
    reader.map(Result::unwrap).collect()
}

/// The same container without compression, if it was deflate: the reader would bring a second library for it.
fn without_deflate(object: Vec<u8>) -> Vec<u8> {
    let Some(codec) = memchr::memmem::find(&object, b"avro.codec\x0edeflate") else { return object };
    let mut plain = [&object[..codec], b"avro.codec\x08null\0"].concat();
    let (mark, mut rest) = object[codec + 19..].split_at(16);
    plain.extend_from_slice(mark);
    while !rest.is_empty() {
        let (count, bytes) = (long(&mut rest), long(&mut rest));
        let mut raw = Vec::new();
        flate2::read::DeflateDecoder::new(&rest[..bytes]).read_to_end(&mut raw).unwrap();
        append_long(count as i64, &mut plain);
        append_long(raw.len() as i64, &mut plain);
        plain.extend(raw);
        plain.extend_from_slice(mark);
        assert_eq!(&rest[bytes..bytes + 16], mark);
        rest = &rest[bytes + 16..];
    }
    plain
}

fn long(bytes: &mut &[u8]) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
    }
    value >> 1
}

/// The column of a file whose only column has this type, in every compression.
fn avro_column(kind: &str, values: &[&str]) -> ArrayRef {
    let records: Vec<_> = values.iter().map(|value| format!("{{\"c\":{value}}}")).collect();
    let batch = batch(records.iter().map(String::as_str));
    let columns = ["none", "deflate", "snappy", "zstd", "{ deflate: 12 }"].map(|compression| {
        let yaml = format!("avro: {{ schema: {{ c: '{kind}' }}, on_unknown: drop, compression: {compression} }}");
        let made = make(&yaml, &batch);
        assert_eq!(made.rejected, []);
        avro_batches(made.object)[0].column(0).clone()
    });
    assert!(columns.windows(2).all(|pair| *pair[0] == *pair[1]), "{kind}: all compressions hold the same");
    columns[0].clone()
}

#[test]
fn avro_holds_every_type() {
    let check = |kind: &str, values: &[&str], expected: ArrayRef| {
        assert_eq!(&avro_column(kind, values), &expected, "{kind}");
    };
    check("bool", &["true", "null"], Arc::new(BooleanArray::from(vec![Some(true), None])));
    for kind in ["int8", "int16", "int32"] {
        check(kind, &["-128", "null", "127"], Arc::new(Int32Array::from(vec![Some(-128), None, Some(127)])));
    }
    check("uint16", &["65535"], Arc::new(Int32Array::from(vec![Some(65535)])));
    check("uint32", &["4294967295"], Arc::new(Int64Array::from(vec![Some(4_294_967_295)])));
    let most = [i64::MIN.to_string(), i64::MAX.to_string()];
    check(
        "int64",
        &[&most[0], &most[1], "null"],
        Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None])),
    );
    check("float32", &["0.1", "null"], Arc::new(Float32Array::from(vec![Some(0.1), None])));
    check("float64", &["1e300", "-0.0"], Arc::new(Float64Array::from(vec![Some(1e300), Some(-0.0)])));
    check(
        "string",
        &["\"ünï😀\\u0000\"", "\"\"", "null"],
        Arc::new(StringArray::from(vec![Some("ünï😀\0"), Some(""), None])),
    );
    check("json", &["{\"a\": 1}"], Arc::new(StringArray::from(vec![Some("{\"a\": 1}")])));
    check(
        "dictionary<string>",
        &["\"a\"", "null", "\"a\""],
        Arc::new(StringArray::from(vec![Some("a"), None, Some("a")])),
    );
    check("binary(hex)", &["\"00ff\"", "\"\""], Arc::new(BinaryArray::from(vec![Some(&[0u8, 255][..]), Some(b"")])));
    check("date", &["\"1969-12-31\"", "null"], Arc::new(Date32Array::from(vec![Some(-1), None])));
    check("time(ms)", &["\"00:00:01.5\""], Arc::new(Time32MillisecondArray::from(vec![Some(1500)])));
    check("time(us)", &["\"00:00:01.5\""], Arc::new(Time64MicrosecondArray::from(vec![Some(1_500_000)])));
    let local = Arc::new(TimestampNanosecondArray::from(vec![Some(-1)]));
    check("timestamp(ns, none)", &["\"1969-12-31T23:59:59.999999999\""], local);
    let long_ago =
        Arc::new(Decimal128Array::from(vec![Some(-12_345), Some(0), None]).with_precision_and_scale(12, 2).unwrap());
    check("decimal(12,2)", &["-123.45", "0", "null"], long_ago);
    for (kind, milli) in [("timestamp(ms)", 1), ("timestamp(us, Europe/Berlin)", 1_000), ("timestamp(ns)", 1_000_000)] {
        let column = avro_column(kind, &["\"1970-01-01T00:00:00.007Z\"", "null"]);
        let units = arrow_array::make_array(
            column.to_data().into_builder().data_type(arrow_schema::DataType::Int64).build().unwrap(),
        );
        assert_eq!(units.as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(7 * milli), None]), "{kind}");
    }
}

#[test]
fn avro_nests_and_tells_null_at_every_level() {
    let list = avro_column("list<int>", &["[1,null]", "[]", "null", "[2]"]);
    let expected = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        Some(vec![]),
        None,
        Some(vec![Some(2)]),
    ]);
    assert_eq!(list.as_list::<i32>().iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    let map = avro_column("map<string,long>", &["{\"a\":1,\"b\":null}", "null", "{}"]);
    let map = map.as_map();
    assert_eq!(map.keys().as_string::<i32>(), &StringArray::from(vec!["a", "b"]));
    assert_eq!(map.values().as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(1), None]));
    assert_eq!((map.value_length(0), map.is_null(1), map.value_length(2)), (2, true, 0));
    // Two records of one name: each has its parent's name as its namespace.
    let kind = "struct<b_c:struct<d:int>,b:struct<c:struct<d:string>>>";
    let column =
        avro_column(kind, &["{\"b_c\":{\"d\":1},\"b\":{\"c\":{\"d\":\"x\"}}}", "null", "{\"b\":{\"c\":null}}"]);
    let outer = column.as_struct();
    assert!(outer.is_null(1) && outer.column(0).is_null(2) && outer.column(1).is_valid(2));
    assert_eq!(outer.column(0).as_struct().column(0).as_primitive::<Int32Type>().value(0), 1);
    let inner = outer.column(1).as_struct().column(0).as_struct().column(0);
    assert_eq!(inner.as_string::<i32>().value(0), "x");
}

#[test]
fn avro_comes_back_in_blocks_of_bounded_size() {
    let clicks = clicks();
    let batch = batch(clicks.iter().map(String::as_str));
    for compression in ["none", "deflate", "snappy", "zstd"] {
        let made = make(&format!("avro: {{ schema: {CLICK}, compression: {compression} }}"), &batch);
        let marks = memchr::memmem::find_iter(&made.object, &made.object[made.object.len() - 16..]).count();
        assert!(marks > 10, "{compression}: {marks} blocks");
        let ids = avro_batches(made.object)
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect::<Vec<_>>();
        assert_eq!(ids, (0..50_000).collect::<Vec<_>>(), "{compression}");
        assert!(made.memory_max < 16 << 20, "{}", made.memory_max);
    }
}
