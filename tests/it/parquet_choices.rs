//! What a Parquet file becomes of its data and its options: encodings, order, filters, row groups; and what it says of its
//! size before it is written.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::*;
use hydrant::encode::json::{Decoder, Matching, OnUnknown, arrow_schema};
use hydrant::encode::schema::Schema;
use hydrant::encode::{Encoder, Format, Options};
use hydrant::record::Batch;
use parquet::basic::{Compression, Encoding};
use parquet::bloom_filter::Sbbf;
use parquet::data_type::ByteArray;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::ReadOptionsBuilder;

use crate::parquet::{about, batch, encode, read};

const SCHEMA: &str = "{ at: timestamp(us), id: string, count: long, small: int, kind: string, path: string, price: 'decimal(12,2)',
    wide: 'decimal(30,2)', score: double, ratio: float, yes: bool, tags: list<string>, day: date, raw: binary(hex), un: uint64,
    ctx: 'struct<ip:string,items:list<struct<n:int,t:string>>>', labels: 'map<string,long>', word: dictionary<string>, none: string }";

/// Records in which every column has its own character, the same for the same seed.
fn records(count: u64, seed: u64) -> Vec<String> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let record = |row: u64| {
        let mut json = format!("{{\"at\":{}.{:06}", 1_763_600_000 + row, random(1_000_000));
        let _ = write!(json, ",\"id\":\"{:016x}{:016x}\",\"count\":{}", random(u64::MAX), random(u64::MAX), row * 3);
        let _ = write!(json, ",\"small\":{}", random(5));
        let _ = write!(json, ",\"kind\":\"{}\"", ["view", "click", "order"][random(3) as usize]);
        let _ = write!(json, ",\"path\":\"https://shop.example.com/products/{:07}/\"", row * 2);
        let _ = write!(json, ",\"price\":{}.{:02},\"wide\":-{}.5", random(400), random(100), random(u64::MAX));
        let _ = write!(json, ",\"score\":{},\"ratio\":{}.5", 1.0 + random(1 << 40) as f64 / 1e13, random(9));
        let _ = write!(json, ",\"yes\":{},\"day\":{},\"raw\":\"{:04x}\"", random(9) == 0, 20_000 + row / 500, row);
        if random(10) > 0 {
            let _ = write!(json, ",\"un\":{},\"word\":\"w{}\"", u64::MAX - random(1000), random(40));
            let _ =
                write!(json, ",\"tags\":[{}]", ["", "\"a\"", "null,\"b\"", "\"a\",\"a\",\"c\""][random(4) as usize]);
            let _ = write!(json, ",\"labels\":{{\"k{}\":{},\"x\":null}}", random(3), random(100));
            let items = ["null", "[]", "[{\"n\":1},null]", "[{\"n\":2,\"t\":\"x\"}]"][random(4) as usize];
            let _ = write!(json, ",\"ctx\":{{\"ip\":\"10.0.{}.{}\",\"items\":{items}}}", random(4), random(256));
        }
        json.push('}');
        json
    };
    (0..count).map(record).collect()
}

fn batch_of(records: &[String]) -> Batch {
    batch(records.iter().map(String::as_str))
}

fn expected(batch: &Batch) -> RecordBatch {
    let schema: Schema = serde_saphyr::from_str(SCHEMA).unwrap();
    let arrow = arrow_schema(&schema, OnUnknown::Drop).unwrap();
    let mut decoder =
        Decoder::new(&schema, arrow, OnUnknown::Drop, Matching { case_insensitive: true, dots_to_underscores: false });
    batch.payloads().for_each(|record| decoder.push(record).unwrap());
    decoder.finish()
}

fn format(more: &str) -> std::sync::Arc<dyn Format> {
    let yaml = format!("parquet: {{ schema: {SCHEMA}, on_unknown: drop{more} }}");
    serde_saphyr::from_str::<Options>(&yaml).unwrap().build().unwrap()
}

fn file(more: &str, batch: &Batch) -> bytes::Bytes {
    let (file, rejected) = encode(&format!("parquet: {{ schema: {SCHEMA}, on_unknown: drop{more} }}"), batch, 900);
    assert_eq!(rejected, []);
    file
}

/// The encodings of a leaf in the first row group, without those of levels.
fn encodings(metadata: &ParquetMetaData, leaf: &str) -> BTreeSet<String> {
    let columns = metadata.row_group(0).columns();
    let column = columns.iter().find(|column| column.column_path().string() == leaf).unwrap();
    let levels = |encoding: &Encoding| *encoding == Encoding::RLE && leaf != "yes";
    column.encodings().filter(|encoding| !levels(encoding)).map(|encoding| encoding.to_string()).collect()
}

#[test]
fn whatever_is_chosen_all_values_come_back() {
    let batch = batch_of(&records(4000, 1));
    let expected = expected(&batch);
    for version in ["1", "2"] {
        for encodings in ["auto", "plain_dictionary"] {
            for compression in ["none", "snappy", "gzip", "lz4", "zstd", "{ zstd: 12 }"] {
                let more = format!(", writer_version: {version}, encodings: {encodings}, compression: {compression}");
                let (batches, _) = read(&file(&more, &batch));
                assert_eq!(batches.len(), 1);
                for (index, field) in expected.schema().fields().iter().enumerate() {
                    assert_eq!(batches[0].column(index), expected.column(index), "{}: {more}", field.name());
                }
            }
        }
    }
}

#[test]
fn encodings_fit_the_data() {
    let batch = batch_of(&records(6000, 2));
    let (_, metadata) = read(&file("", &batch));
    let is = |leaf: &str, encoding: &str| {
        let found = encodings(&metadata, leaf);
        assert!(found.contains(encoding), "{leaf}: {found:?}");
    };
    is("count", "DELTA_BINARY_PACKED");
    is("at", "DELTA_BINARY_PACKED");
    is("id", "DELTA_LENGTH_BYTE_ARRAY");
    is("kind", "RLE_DICTIONARY");
    is("path", "DELTA_BYTE_ARRAY");
    is("score", "BYTE_STREAM_SPLIT");
    is("ratio", "RLE_DICTIONARY");
    is("yes", "RLE");
    let codec = |leaf: usize| metadata.row_group(0).column(leaf).compression();
    assert!(matches!(codec(1), Compression::ZSTD(_)), "hexadecimal digits can be compressed");
    let (auto, plain) = (file("", &batch).len(), file(", encodings: plain_dictionary", &batch).len());
    assert!(auto < plain, "{auto} bytes, and {plain} with plain and dictionary only");
}

#[test]
fn old_readers_get_only_what_they_know() {
    let batch = batch_of(&records(3000, 3));
    for (more, version) in [(", writer_version: 1", 1), (", encodings: plain_dictionary", 2)] {
        let (_, metadata) = read(&file(more, &batch));
        assert_eq!(metadata.file_metadata().version(), version);
        for column in metadata.row_group(0).columns() {
            let known = [Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY, Encoding::PLAIN_DICTIONARY];
            let encodings: Vec<_> = column.encodings().collect();
            assert!(
                encodings.iter().all(|encoding| known.contains(encoding)),
                "{}: {encodings:?}",
                column.column_path()
            );
        }
        let found = encodings(&metadata, "kind");
        assert!(found.contains("RLE_DICTIONARY"), "{found:?}");
    }
}

#[test]
fn rows_are_sorted_within_each_row_group() {
    let batch = batch_of(&records(5000, 4));
    let more =
        ", sort_by: [small, { column: word, descending: true, nulls_first: true }], row_group: { rows_max: 2000 }";
    let (batches, metadata) = read(&file(more, &batch));
    let groups: Vec<_> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [2000, 2000, 1000]);
    let sorting = |column_idx, descending, nulls_first| SortingColumn { column_idx, descending, nulls_first };
    let word = metadata.row_group(0).columns().iter().position(|c| c.column_path().string() == "word").unwrap() as i32;
    let promised = metadata.row_group(1).sorting_columns().unwrap();
    assert_eq!(promised, &vec![sorting(3, false, false), sorting(word, true, true)]);

    let came = expected(&batch);
    let keys = |batch: &RecordBatch, range: std::ops::Range<usize>| -> Vec<(i32, Option<String>, i64)> {
        let small = batch.column_by_name("small").unwrap().as_primitive::<Int32Type>();
        let words = batch.column_by_name("word").unwrap().as_dictionary::<Int32Type>();
        let word = |row: usize| {
            let words = words.downcast_dict::<StringArray>().unwrap();
            words.is_valid(row).then(|| words.value(row).to_owned())
        };
        let count = batch.column_by_name("count").unwrap().as_primitive::<Int64Type>();
        range.map(|row| (small.value(row), word(row), count.value(row))).collect()
    };
    for range in [0..2000, 2000..4000, 4000..5000] {
        let mut sorted = keys(&came, range.clone());
        // The highest word first, and none before all; rows that are equal as they came.
        sorted.sort_by(|a, b| {
            let words = match (&a.1, &b.1) {
                (Some(a), Some(b)) => b.cmp(a),
                (a, b) => a.is_some().cmp(&b.is_some()),
            };
            a.0.cmp(&b.0).then(words)
        });
        assert_eq!(keys(&batches[0], range), sorted);
    }
}

#[test]
fn bloom_filters_find_what_is_there_and_hardly_what_is_not() {
    let records = records(3000, 5);
    for (more, rows) in [(", bloom_filters: [id, ctx.ip]", 3000), (", bloom_filters: [id, ctx.ip]", 20)] {
        let batch = batch_of(&records[..rows]);
        let file = file(more, &batch);
        let options = ReaderProperties::builder().set_read_bloom_filter(true).build();
        let options = ReadOptionsBuilder::new().with_reader_properties(options).build();
        let reader = SerializedFileReader::new_with_options(file, options).unwrap();
        let group = reader.get_row_group(0).unwrap();
        let leaf = |name: &str| {
            group.metadata().columns().iter().position(|column| column.column_path().string() == name).unwrap()
        };
        let filter: &Sbbf = group.get_column_bloom_filter(leaf("id")).unwrap();
        let came = expected(&batch);
        let ids = came.column_by_name("id").unwrap().as_string::<i32>();
        assert!(ids.iter().flatten().all(|id| filter.check(&ByteArray::from(id))));
        let wrong = (0..10_000).filter(|n| filter.check(&ByteArray::from(format!("{n:032}").as_str()))).count();
        assert!(wrong < 300, "{wrong} of 10,000 are taken for there");
        assert!(
            group.get_column_bloom_filter(leaf("ctx.ip")).unwrap().check(&ByteArray::from("10.0.0.0")) || rows < 100
        );
        assert!(group.get_column_bloom_filter(leaf("kind")).is_none());
    }
}

#[test]
fn a_row_group_ends_when_its_encoded_bytes_are_enough() {
    let batch = batch_of(&records(60_000, 6));
    let file = file(", compression: none, row_group: { bytes_max: 1 MiB }", &batch);
    let (_, metadata) = read(&file);
    let groups = metadata.row_groups();
    assert!(groups.len() > 2, "{} of {} bytes", groups.len(), file.len());
    assert_eq!(groups.iter().map(|group| group.num_rows()).sum::<i64>(), 60_000);
}

#[test]
fn many_rows_at_once_keep_their_order_and_those_refused_their_numbers() {
    let mut records = records(12_000, 7);
    let wrong = [0, 17, 2999, 6000, 6001, 11_999];
    wrong.iter().for_each(|row| records[*row] = format!("wrong {row}"));
    let batch = batch_of(&records);
    assert!(batch.payload_bytes() > 4 << 20, "enough for several cores: {}", batch.payload_bytes());
    let mut encoder = format("").encoder();
    let (mut out, rows) = (Vec::new(), (0..12_000).collect::<Vec<u32>>());
    let rejected = encoder.push(&batch, &rows, &mut out).unwrap();
    assert_eq!(rejected.iter().map(|(row, _)| *row as usize).collect::<Vec<_>>(), wrong);
    assert_eq!(encoder.rows(), 12_000 - wrong.len() as u64);
    encoder.finish(&about(), &mut out).unwrap();
    let (batches, _) = read(&out.into());
    let counts = batches[0].column_by_name("count").unwrap().as_primitive::<Int64Type>();
    let right: Vec<i64> = (0..12_000).filter(|row| !wrong.contains(&(*row as usize))).map(|row| row * 3).collect();
    assert_eq!(counts.values(), &right);
}

#[test]
fn size_is_told_within_a_tenth_at_any_time() {
    let batch = batch_of(&records(40_000, 8));
    let format = format("");
    let sizes = |rows: u32| {
        let mut encoder = format.encoder();
        let mut out = Vec::new();
        for chunk in (0..rows).collect::<Vec<u32>>().chunks(1500) {
            encoder.push(&batch, chunk, &mut out).unwrap();
        }
        let told = encoder.size();
        encoder.finish(&about(), &mut out).unwrap();
        (told as f64, out.len() as f64)
    };
    // The first object of each size may be told wrongly, and while encodings are still being chosen; the format learns.
    for round in 0..3 {
        for rows in [20, 100, 1000, 9000, 18_000, 25_000, 40_000] {
            let (told, is) = sizes(rows);
            assert!(round < 2 || (told / is - 1.0).abs() < 0.1, "{rows} rows: told {told}, is {is}");
        }
    }
}

#[test]
fn an_encoder_that_was_flushed_holds_next_to_nothing() {
    let batch = batch_of(&records(20_000, 9));
    let mut encoder: Box<dyn Encoder> = format("").encoder();
    assert_eq!(encoder.memory(), 0, "before the first row");
    let mut out = Vec::new();
    for chunk in (0..20_000).collect::<Vec<u32>>().chunks(1000) {
        encoder.push(&batch, chunk, &mut out).unwrap();
    }
    let held = encoder.memory();
    assert!(held > 1 << 20, "rows are held: {held}");
    encoder.flush(&mut out).unwrap();
    assert!(encoder.memory() < 64 << 10, "holds {}", encoder.memory());
    encoder.push(&batch, &[0, 1], &mut out).unwrap();
    encoder.finish(&about(), &mut out).unwrap();
    let (_, metadata) = read(&out.into());
    let groups: Vec<_> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [20_000, 2]);
}
