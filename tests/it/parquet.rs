//! Parquet files as a reader finds them: every type, nulls at every level, and the same rows whatever the options.

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{NullBuffer, i256};
use arrow_schema::{DataType, Field};
use hydrant::encode::{About, Options};
use hydrant::error::{Reason, RejectedBy};
use hydrant::position::{Position, Shard, ShardRange};
use hydrant::record::{Batch, BatchBuilder};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;

pub fn about() -> About<'static> {
    static RANGE: LazyLock<ShardRange> = LazyLock::new(|| ShardRange {
        shard: Shard::new("7f").unwrap(),
        start: Position::from(0),
        end: Position::from(9),
    });
    About { pipeline: "click", range: &RANGE }
}

pub fn batch<'r>(records: impl IntoIterator<Item = &'r str>) -> Batch {
    let mut builder = BatchBuilder::default();
    records.into_iter().for_each(|record| builder.push(record.as_bytes(), 0));
    builder.finish()
}

/// One object of these records, in pushes of `rows_per_push`, and the rows it refused.
pub fn encode(yaml: &str, batch: &Batch, rows_per_push: usize) -> (bytes::Bytes, Vec<(u32, Reason)>) {
    let options: Options = serde_saphyr::from_str(yaml).unwrap();
    let mut encoder = options.build().unwrap().encoder();
    let (mut out, mut rejected) = (Vec::new(), Vec::new());
    let rows: Vec<u32> = (0..batch.len() as u32).collect();
    for rows in rows.chunks(rows_per_push) {
        rejected.extend(encoder.push(batch, rows, &mut out).unwrap());
        assert!(encoder.size() >= out.len() as u64, "what is written is part of the size");
    }
    assert_eq!(encoder.rows() as usize + rejected.len(), batch.len());
    encoder.finish(&about(), &mut out).unwrap();
    (out.into(), rejected)
}

pub fn read(file: &bytes::Bytes) -> (Vec<RecordBatch>, Arc<ParquetMetaData>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let metadata = builder.metadata().clone();
    (builder.with_batch_size(1 << 20).build().unwrap().map(Result::unwrap).collect(), metadata)
}

/// The column of a file whose only column has this type, in every compression.
fn column(kind: &str, values: &[&str]) -> ArrayRef {
    let records: Vec<_> = values.iter().map(|value| format!("{{\"c\":{value}}}")).collect();
    let batch = batch(records.iter().map(String::as_str));
    let arrays: Vec<_> = ["none", "snappy", "gzip", "lz4", "zstd", "{ zstd: 9 }"]
        .map(|compression| {
            let yaml =
                format!("parquet: {{ schema: {{ c: '{kind}' }}, on_unknown: drop, compression: {compression} }}");
            let (file, rejected) = encode(&yaml, &batch, 100);
            assert_eq!(rejected, []);
            read(&file).0[0].column(0).clone()
        })
        .to_vec();
    assert!(arrays.windows(2).all(|pair| *pair[0] == *pair[1]), "{kind}: all compressions hold the same");
    arrays[0].clone()
}

#[test]
fn every_primitive_type_comes_back_as_it_went_in() {
    let check = |kind: &str, values: &[&str], expected: ArrayRef| {
        assert_eq!(&column(kind, values), &expected, "{kind}");
    };
    check("bool", &["true", "null", "false"], Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])));
    check("int8", &["-128", "null", "127"], Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)])));
    check(
        "int16",
        &["-32768", "null", "32767"],
        Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)])),
    );
    check("int", &["-2147483648", "null"], Arc::new(Int32Array::from(vec![Some(i32::MIN), None])));
    check(
        "long",
        &["-9223372036854775808", "null", "9223372036854775807"],
        Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
    );
    check("uint8", &["255", "null"], Arc::new(UInt8Array::from(vec![Some(u8::MAX), None])));
    check("uint16", &["65535", "null"], Arc::new(UInt16Array::from(vec![Some(u16::MAX), None])));
    check("uint32", &["4294967295", "null"], Arc::new(UInt32Array::from(vec![Some(u32::MAX), None])));
    check("uint64", &["18446744073709551615", "null"], Arc::new(UInt64Array::from(vec![Some(u64::MAX), None])));
    check(
        "float",
        &["3.4028235e38", "null", "-0.0"],
        Arc::new(Float32Array::from(vec![Some(f32::MAX), None, Some(-0.0)])),
    );
    check("double", &["5e-324", "null", "0.1"], Arc::new(Float64Array::from(vec![Some(5e-324), None, Some(0.1)])));
    check("string", &["\"\"", "null", "\"\\u0000ä\""], Arc::new(StringArray::from(vec![Some(""), None, Some("\0ä")])));
    check(
        "json",
        &["{\"a\": 1.0}", "null", "\"x\""],
        Arc::new(StringArray::from(vec![Some("{\"a\": 1.0}"), None, Some("\"x\"")])),
    );
    check(
        "binary",
        &["\"AP8=\"", "null", "\"\""],
        Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None, Some(b"")])),
    );
    check("binary(hex)", &["\"00fF\"", "null"], Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None])));
    check("binary(utf8)", &["\"ä\"", "null"], Arc::new(BinaryArray::from(vec![Some("ä".as_bytes()), None])));
    check("date", &["\"1970-01-02\"", "null", "-1"], Arc::new(Date32Array::from(vec![Some(1), None, Some(-1)])));
    check("time(ms)", &["\"00:00:01.5\"", "null"], Arc::new(Time32MillisecondArray::from(vec![Some(1500), None])));
    check("time(us)", &["\"00:00:01.5\"", "null"], Arc::new(Time64MicrosecondArray::from(vec![Some(1_500_000), None])));
    check(
        "time(ns)",
        &["\"00:00:01.5\"", "7"],
        Arc::new(Time64NanosecondArray::from(vec![Some(1_500_000_000), Some(7)])),
    );
    let dictionary: DictionaryArray<Int32Type> =
        [Some("a"), None, Some("b"), Some("a"), Some("")].into_iter().collect();
    check("dictionary<string>", &["\"a\"", "null", "\"b\"", "\"a\"", "\"\""], Arc::new(dictionary));
}

#[test]
fn timestamps_keep_their_instant_their_unit_and_their_zone() {
    let values = ["\"1970-01-01T01:00:01.234567899+01:00\"", "null", "1", "-0.0005"];
    let millis = |zone: Option<&str>| {
        TimestampMillisecondArray::from(vec![Some(1234), None, Some(1000), Some(-1)]).with_timezone_opt(zone)
    };
    for (kind, zone) in [
        ("timestamp(ms)", Some("UTC")),
        ("timestamp(ms, Europe/Berlin)", Some("Europe/Berlin")),
        ("timestamp(ms, none)", None),
        ("timestamp(ms, -03:30)", Some("-03:30")),
    ] {
        assert_eq!(&*column(kind, &values), &millis(zone) as &dyn Array, "{kind}");
    }
    let micros =
        TimestampMicrosecondArray::from(vec![Some(1_234_567), None, Some(1_000_000), Some(-500)]).with_timezone("UTC");
    assert_eq!(&*column("timestamp(us)", &values), &micros as &dyn Array);
    let nanos = TimestampNanosecondArray::from(vec![Some(1_234_567_899), None, Some(1_000_000_000), Some(-500_000)])
        .with_timezone("UTC");
    assert_eq!(&*column("timestamp(ns)", &values), &nanos as &dyn Array);
    let seconds = TimestampMillisecondArray::from(vec![Some(1000), None, Some(1000), Some(-1000)]).with_timezone("UTC");
    assert_eq!(&*column("timestamp(s)", &values), &seconds as &dyn Array);
}

#[test]
fn a_timestamp_with_a_zone_is_an_instant_to_every_reader_and_one_without_is_not() {
    let yaml = "parquet: { schema: { a: timestamp(us), b: 'timestamp(us, none)', c: 'timestamp(s, Asia/Tokyo)' } }";
    let (file, _) = encode(yaml, &batch(["{}"]), 1);
    let (_, metadata) = read(&file);
    let logical =
        |column: usize| format!("{:?}", metadata.file_metadata().schema_descr().column(column).logical_type_ref());
    assert!(logical(0).contains("is_adjusted_to_u_t_c: true") && logical(0).contains("MICROS"), "{}", logical(0));
    assert!(logical(1).contains("is_adjusted_to_u_t_c: false"), "{}", logical(1));
    assert!(logical(2).contains("is_adjusted_to_u_t_c: true") && logical(2).contains("MILLIS"), "{}", logical(2));
}

#[test]
fn decimals_are_exact_up_to_76_digits() {
    for precision in [4u8, 9, 10, 18, 19, 38] {
        let nines = "9".repeat(precision as usize);
        let text = format!("{}.{}", &nines[2..], &nines[..2]);
        let values = [text.as_str(), "null", &format!("-{text}"), "0.1", "\"1.50\"", "12e-1"];
        let value: i128 = nines.parse().unwrap();
        let expected = Decimal128Array::from(vec![Some(value), None, Some(-value), Some(10), Some(150), Some(120)])
            .with_precision_and_scale(precision, 2)
            .unwrap();
        assert_eq!(&*column(&format!("decimal({precision},2)"), &values), &expected as &dyn Array, "{precision}");
    }
    for precision in [39u8, 50, 76] {
        let nines = "9".repeat(precision as usize);
        let text = format!("{}.{}", &nines[20..], &nines[..20]);
        let value = i256::from_string(&nines).unwrap();
        let expected = Decimal256Array::from(vec![Some(value), None, Some(value.wrapping_neg()), Some(i256::ZERO)])
            .with_precision_and_scale(precision, 20)
            .unwrap();
        let values = [text.as_str(), "null", &format!("-{text}"), "-0"];
        assert_eq!(&*column(&format!("decimal({precision},20)"), &values), &expected as &dyn Array, "{precision}");
    }
}

#[test]
fn lists_maps_and_structs_have_nulls_at_every_level() {
    let lists = column("list<list<string>>", &["[[\"a\",null],null,[]]", "null", "[]", "[[\"\"]]"]);
    let element = Field::new("element", DataType::Utf8, true);
    let inner = ListBuilder::new(StringBuilder::new()).with_field(element.clone());
    let outer = Field::new("element", DataType::List(Arc::new(element)), true);
    let mut expected = ListBuilder::new(inner).with_field(outer);
    expected.values().values().append_value("a");
    expected.values().values().append_null();
    expected.values().append(true);
    expected.values().append(false);
    expected.values().append(true);
    expected.append(true);
    expected.append(false);
    expected.append(true);
    expected.values().values().append_value("");
    expected.values().append(true);
    expected.append(true);
    assert_eq!(&*lists, &expected.finish() as &dyn Array);

    let maps = column("map<string,int>", &["{\"k\":1,\"\":null}", "null", "{}"]);
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut expected = MapBuilder::new(Some(names), StringBuilder::new(), Int32Builder::new());
    expected.keys().append_value("k");
    expected.values().append_value(1);
    expected.keys().append_value("");
    expected.values().append_null();
    expected.append(true).unwrap();
    expected.append(false).unwrap();
    expected.append(true).unwrap();
    assert_eq!(&*maps, &expected.finish() as &dyn Array);

    let structs = column(
        "struct<a:int, b:struct<c:string not null>>",
        &["{\"a\":1,\"b\":{\"c\":\"x\"}}", "null", "{\"b\":null}", "{}"],
    );
    let structs = structs.as_struct();
    assert_eq!(structs.nulls().unwrap(), &NullBuffer::from(vec![true, false, true, true]));
    assert_eq!(structs.column(0).as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None, None, None]);
    let inner = structs.column(1).as_struct();
    assert_eq!((0..4).map(|row| inner.is_null(row)).collect::<Vec<_>>(), [false, true, true, true]);
    assert_eq!(inner.column(0).as_string::<i32>().value(0), "x");
}

#[test]
fn a_bad_record_is_set_aside_alone() {
    let yaml = "parquet: { schema: { id: int not null, tags: list<string> } }";
    let records =
        ["{\"id\":1,\"tags\":[\"a\"]}", "{\"id\":2,\"tags\":[\"b\",7]}", "{\"id\":", "{\"id\":4,\"extra\":true}", ""];
    let (file, rejected) = encode(yaml, &batch(records), 2);
    let codes: Vec<_> = rejected.iter().map(|(row, reason)| (*row, reason.by, reason.code)).collect();
    assert_eq!(
        codes,
        [
            (1, RejectedBy::Format, "DataFormatConversion.MalformedData"),
            (2, RejectedBy::Format, "DataFormatConversion.ParseError"),
            (4, RejectedBy::Format, "DataFormatConversion.ParseError"),
        ]
    );
    assert_eq!(rejected[0].1.message, "column tags[1]: expected string, found number 7");
    let (batches, _) = read(&file);
    assert_eq!(batches[0].column(0).as_primitive::<Int32Type>().values(), &[1, 4]);
    assert_eq!(
        batches[0].column_by_name("_rest").unwrap().as_string::<i32>().iter().collect::<Vec<_>>(),
        [None, Some("{\"extra\":true}")]
    );
}

#[test]
fn an_object_without_rows_is_still_a_file_with_its_schema() {
    let yaml = "parquet: { schema: { a: int, b: 'list<struct<c:string>>' } }";
    for records in [&[][..], &["nonsense"]] {
        let (file, rejected) = encode(yaml, &batch(records.iter().copied()), 1);
        assert_eq!(rejected.len(), records.len());
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
        assert_eq!(
            builder.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(),
            ["a", "b", "_rest"]
        );
        assert_eq!(builder.metadata().file_metadata().num_rows(), 0);
    }
}

#[test]
fn row_groups_go_out_as_they_are_full_and_together_are_the_file() {
    let records: Vec<_> =
        (0..5000).map(|row| format!("{{\"id\":{row},\"name\":\"n{}\"}}", row * 7919 % 5000)).collect();
    let batch = batch(records.iter().map(String::as_str));
    let yaml = "parquet: { schema: { id: long, name: string }, row_group: { rows_max: 1000 } }";
    let options: Options = serde_saphyr::from_str(yaml).unwrap();
    let mut encoder = options.build().unwrap().encoder();
    let (mut parts, rows) = (Vec::new(), (0..5000).collect::<Vec<u32>>());
    for rows in rows.chunks(700) {
        let mut part = Vec::new();
        encoder.push(&batch, rows, &mut part).unwrap();
        parts.push(part);
    }
    assert!(parts.iter().filter(|part| part.len() > 1000).count() >= 4, "bytes go out long before the end");
    let mut last = Vec::new();
    let (size, held) = (encoder.size(), encoder.memory());
    encoder.finish(&about(), &mut last).unwrap();
    parts.push(last);
    let file: bytes::Bytes = parts.concat().into();
    assert!((0.5..1.5).contains(&(size as f64 / file.len() as f64)), "estimated {size}, is {}", file.len());
    assert!(held < 4 << 20, "holds {held}");

    let (batches, metadata) = read(&file);
    let groups: Vec<_> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [1000; 5]);
    let ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(ids, (0..5000).collect::<Vec<_>>());
}

#[test]
fn a_file_tells_who_made_it_and_where_its_pages_are() {
    let records: Vec<_> = (0..1000).map(|row| format!("{{\"a\":{}}}", row * row)).collect();
    let (file, _) = encode("parquet: { schema: { a: int } }", &batch(records.iter().map(String::as_str)), 300);
    let (_, metadata) = read(&file);
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    let told = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone()).unwrap();
    assert_eq!(told("hydrant.pipeline"), "click");
    assert_eq!(told("hydrant.shard"), "7f");
    assert_eq!(told("hydrant.range"), about().range.to_string());
    assert_eq!(
        metadata.file_metadata().created_by().unwrap(),
        format!("hydrant version {}", env!("CARGO_PKG_VERSION"))
    );
    let column = metadata.row_group(0).column(0);
    assert!(
        column.statistics().is_some()
            && column.column_index_offset().is_some()
            && column.offset_index_offset().is_some()
    );
    assert_eq!(column.compression(), parquet::basic::Compression::ZSTD(Default::default()));
}

#[test]
fn wrong_options_say_what_is_wrong() {
    let error = |yaml: &str| match serde_saphyr::from_str::<Options>(yaml) {
        Ok(options) => options.build().err().map(|error| format!("{error:#}")).unwrap_or_default(),
        Err(error) => error.to_string(),
    };
    for (yaml, message) in [
        ("parquet: { schema: { a: intt } }", "did you mean `int`?"),
        (
            "parquet: { schema: { a: int }, compression: brotli }",
            "unknown compression `brotli`, expected one of zstd, snappy, gzip, lz4, none",
        ),
        ("parquet: { schema: { a: int }, compresion: zstd }", "compresion"),
        ("parquet: {}", "schema"),
        ("parquet: { schema: { _rest: string } }", "column _rest"),
        ("parquet: { schema: { a: int }, row_group: { rows_max: 0 } }", "row_group: at least"),
        ("parquet: { schema: { a: int }, row_group: { bytes_max: 1 KiB } }", "row_group: at least"),
        ("parquet: { schema: { a: int }, page_bytes: 1 KiB }", "page_bytes: from 8192 to"),
        ("parquet: { schema: { a: int }, writer_version: 3 }", "writer_version: 1 or 2, not 3"),
        ("parquet: { schema: { a: int }, encodings: plain }", "plain_dictionary"),
        (
            "parquet: { schema: { user_id: int }, bloom_filters: [user_di] }",
            "bloom_filters: the schema has no column `user_di`\nhint: did you mean `user_id`?",
        ),
        ("parquet: { schema: { ctx: 'struct<ip:string>' }, bloom_filters: [ctx.pi] }", "did you mean `ctx.ip`?"),
        ("parquet: { schema: { a: bool }, bloom_filters: [a] }", "`a` is a boolean"),
        (
            "parquet: { schema: { event_time: int }, sort_by: [event_tme] }",
            "sort_by: the schema has no column `event_tme`\nhint: did you mean `event_time`?",
        ),
        ("parquet: { schema: { a: list<int> }, sort_by: [a] }", "has no order"),
        ("parquet: { schema: { a: int }, sort_by: [a, { column: a, descending: true }] }", "`a` comes twice"),
        ("parquet: { schema: { a: int }, sort_by: [{ column: a, desc: true }] }", "desc"),
        ("lines: { delimiter: tab }", "tab"),
        ("csv: {}", "csv"),
    ] {
        assert!(error(yaml).contains(message), "{yaml}: {}", error(yaml));
    }
}
