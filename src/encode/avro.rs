//! `avro`: declared columns in an Avro object container file (Avro 1.12).
//!
//! ```text
//! "Obj\x01" | avro.schema, avro.codec | mark | block | mark | block | mark ...
//! block = count of records, length in bytes (longs) | records, compressed
//! ```
//!
//! | type | Avro |
//! |---|---|
//! | `string`, `json`, `dictionary<string>` | string |
//! | `bool`, `float32`, `float64`, `binary` | boolean, float, double, bytes |
//! | `int8` to `int32`, `uint8`, `uint16` | int |
//! | `int64`, `uint32` | long |
//! | `date`, `time(ms\|us)` | date, time-millis, time-micros |
//! | `timestamp(s\|ms\|us\|ns)` | timestamp-millis, -micros, -nanos; local-timestamp-... if it has no zone |
//! | `decimal(p,s)` | bytes, decimal |
//! | `list`, `map`, `struct` | array, map, record |
//!
//! What may be null is a union with null, which is its default. Avro has no place for `uint64` and `time(ns)`: they are
//! refused rather than cut.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::cells::{span, value};
use super::columns::{Columns, RowEncoder, Spelling};
use super::compress::{self, Blocks, Codec, Compressors, DEFLATE_LEVEL, Frame, Written, append_long};
use super::json::{Matching, OnUnknown};
use super::schema::{Column, Data, Schema, Type, Unit};
use super::{Encoder, Format, yes};

/// Bytes of records in a block before it is compressed: a reader holds one whole, and may begin at any.
pub const AVRO_BLOCK_BYTES: usize = 256 << 10;
/// The name of the record that a row is.
const RECORD: &str = "Record";

/// The options of `avro`, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The columns, as `name: type`; or `{ file: NAME }`, a schema file beside the pipeline; or `infer`, from the records.
    pub schema: Schema,
    /// What becomes of fields that the schema does not know.
    #[serde(default)]
    pub on_unknown: OnUnknown,
    /// Whether a key also finds the column that differs by ASCII case only, as with Firehose: `User_ID` finds `user_id`.
    #[serde(default = "yes")]
    pub case_insensitive: bool,
    /// Whether a key with dots also finds the column with underscores in their places, as the OpenX SerDe has
    /// it: `user.id` finds `user_id`.
    #[serde(default)]
    pub dots_to_underscores: bool,
    /// What blocks are compressed with: a name, or one with a level as `{ zstd: 9 }`.
    #[serde(default)]
    pub compression: Compression,
}

/// What blocks are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    /// Level 0 to 12 of libdeflate; 6 unless told. The specification demands it of every reader.
    Deflate(i32),
    Snappy,
    /// Level 1 to 22; 3 unless told.
    Zstd(i32),
}

impl Default for Compression {
    fn default() -> Compression {
        Compression::Deflate(DEFLATE_LEVEL)
    }
}

impl Compression {
    fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Deflate(level) => Codec::Deflate(level),
            Compression::Snappy => Codec::SnappyCrc,
            Compression::Zstd(level) => Codec::Zstd(level),
        }
    }

    /// Its name in the file.
    fn as_str(self) -> &'static str {
        match self {
            Compression::None => "null",
            Compression::Deflate(_) => "deflate",
            Compression::Snappy => "snappy",
            Compression::Zstd(_) => "zstandard",
        }
    }
}

impl JsonSchema for Compression {
    fn schema_name() -> Cow<'static, str> {
        "AvroCompression".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        compress::schema(&["deflate", "snappy", "zstd", "none"], &[("deflate", 0, 12), ("zstd", 1, 22)])
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
        let written = Written::read(deserializer, "one of deflate, snappy, zstd, none")?;
        match written.name.as_str() {
            "none" => written.plain(Compression::None),
            "deflate" => written.level(DEFLATE_LEVEL, 0, 12).map(Compression::Deflate),
            "snappy" => written.plain(Compression::Snappy),
            "zstd" => written.level(3, 1, 22).map(Compression::Zstd),
            _ => Err(written.unknown(&["deflate", "snappy", "zstd", "none"])),
        }
        .map_err(D::Error::custom)
    }
}

/// Avro as it will run.
pub struct AvroFormat {
    columns: Columns,
    shape: Arc<Shape>,
    compressors: Compressors,
    /// Marks are made from this and a count.
    seed: [u8; 32],
    objects: AtomicU64,
}

struct Shape {
    columns: Vec<Column>,
    /// Up to the mark.
    head: Vec<u8>,
}

impl AvroFormat {
    /// The format; an error if Avro has no place for a column's name or type.
    pub fn new(options: &Options) -> anyhow::Result<AvroFormat> {
        let Options { schema, on_unknown, case_insensitive, dots_to_underscores, compression } = options;
        let matching = Matching { case_insensitive: *case_insensitive, dots_to_underscores: *dots_to_underscores };
        let columns = Columns::new(schema, *on_unknown, matching)?;
        let all = columns.all();
        let avro_schema = record(&all, RECORD)?.to_string();
        let mut head = b"Obj\x01".to_vec();
        let metadata = [("avro.schema", avro_schema.as_str()), ("avro.codec", compression.as_str())];
        append_long(metadata.len() as i64, &mut head);
        for (key, value) in metadata {
            append_bytes(key.as_bytes(), &mut head);
            append_bytes(value.as_bytes(), &mut head);
        }
        append_long(0, &mut head);
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("avro: no random bytes for the marks between blocks")?;
        Ok(AvroFormat {
            columns,
            shape: Arc::new(Shape { columns: all, head }),
            compressors: Compressors::new(compression.codec(), AVRO_BLOCK_BYTES),
            seed,
            objects: AtomicU64::new(0),
        })
    }
}

impl Format for AvroFormat {
    fn encoder(&self) -> Box<dyn Encoder> {
        let count = self.objects.fetch_add(1, Ordering::Relaxed);
        let digest = Sha256::new().chain_update(self.seed).chain_update(count.to_le_bytes()).finalize();
        let mark = *digest.first_chunk().expect("a digest is longer than a mark");
        let blocks = Blocks::new(&self.compressors, Frame::Counted(mark));
        Box::new(RowEncoder::new(&self.columns, Datums { shape: self.shape.clone(), mark }, blocks))
    }

    fn extension(&self) -> &str {
        ".avro"
    }
}

/// The records of one object.
struct Datums {
    shape: Arc<Shape>,
    mark: [u8; 16],
}

impl Spelling for Datums {
    const USUAL_PERCENT: u64 = 50;

    fn begin(&self, blocks: &mut Blocks, out: &mut dyn Write) -> io::Result<()> {
        blocks.write_head(&self.shape.head, out)?;
        blocks.write_head(&self.mark, out)
    }

    fn row(&self, columns: &[ArrayRef], row: usize, out: &mut Vec<u8>) {
        fields(&self.shape.columns, columns, row, out);
    }
}

/// The schema of a record. Those within have its name as their namespace, so that no two share a name.
fn record(columns: &[Column], name: &str) -> anyhow::Result<Value> {
    let field = |column: &Column| field(column, name).with_context(|| format!("column {}", column.name));
    let fields: Vec<Value> = columns.iter().map(field).collect::<anyhow::Result<_>>()?;
    Ok(json!({ "type": "record", "name": name, "fields": fields }))
}

fn field(column: &Column, record: &str) -> anyhow::Result<Value> {
    let Column { name, data, .. } = column;
    ensure!(
        is_name(name),
        "no name for Avro, which has only letters, digits and `_`, and no digit first\n\
         hint: give it another one, as in `{}: {{ type: {}, key: {:?} }}`",
        as_name(name),
        data,
        column.key()
    );
    let mut field = json!({ "name": name, "type": union(data, &format!("{record}.{name}"))? });
    if data.nullable {
        field["default"] = Value::Null;
    }
    Ok(field)
}

fn union(data: &Data, path: &str) -> anyhow::Result<Value> {
    let kind = kind(&data.kind, path)?;
    Ok(if data.nullable { json!(["null", kind]) } else { kind })
}

fn kind(kind: &Type, path: &str) -> anyhow::Result<Value> {
    let logical = |kind: &str, logical: String| json!({ "type": kind, "logicalType": logical });
    Ok(match kind {
        Type::String | Type::Json | Type::Dictionary => json!("string"),
        Type::Bool => json!("boolean"),
        Type::Int { signed: false, bits: 64 } => {
            bail!("Avro has no whole numbers above 9223372036854775807\nhint: declare it int64, or decimal(20,0)")
        }
        Type::Int { signed: true, bits: 64 } | Type::Int { signed: false, bits: 32 } => json!("long"),
        Type::Int { .. } => json!("int"),
        Type::Float32 => json!("float"),
        Type::Float64 => json!("double"),
        Type::Date => logical("int", "date".into()),
        Type::Time(Unit::Second | Unit::Milli) => logical("int", "time-millis".into()),
        Type::Time(Unit::Micro) => logical("long", "time-micros".into()),
        Type::Time(Unit::Nano) => bail!("Avro has no times of day in nanoseconds\nhint: declare it time(us)"),
        Type::Timestamp(unit, zone) => {
            let local = if zone.is_some() { "" } else { "local-" };
            let unit = match unit {
                Unit::Second | Unit::Milli => "millis",
                Unit::Micro => "micros",
                Unit::Nano => "nanos",
            };
            logical("long", format!("{local}timestamp-{unit}"))
        }
        Type::Decimal { precision, scale } => {
            json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
        }
        Type::Binary(_) => json!("bytes"),
        Type::List(element) => json!({ "type": "array", "items": union(element, path)? }),
        Type::Map(value) => json!({ "type": "map", "values": union(value, path)? }),
        Type::Struct(columns) => record(columns, path)?,
    })
}

/// Whether Avro takes it for a name ("Names" of its specification).
fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A name like it that Avro takes.
fn as_name(name: &str) -> String {
    let digit_first = if name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("{digit_first}{}", name.chars().map(plain).collect::<String>())
}

fn append_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    append_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// Appends the fields of a record: a branch of its union, where it may be null, and the value.
fn fields(columns: &[Column], arrays: &[ArrayRef], row: usize, out: &mut Vec<u8>) {
    for (column, array) in columns.iter().zip(arrays) {
        branch(&column.data, array, row, out);
    }
}

fn branch(data: &Data, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    if data.nullable {
        let there = array.is_valid(row);
        append_long(there.into(), out);
        if !there {
            return;
        }
    }
    datum(&data.kind, array, row, out);
}

fn datum(kind: &Type, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    match kind {
        Type::String | Type::Json => append_bytes(array.as_string::<i32>().value(row).as_bytes(), out),
        Type::Dictionary => {
            let dictionary = array.as_dictionary::<Int32Type>();
            let key = dictionary.keys().value(row) as usize;
            append_bytes(dictionary.values().as_string::<i32>().value(key).as_bytes(), out);
        }
        Type::Bool => out.push(array.as_boolean().value(row).into()),
        Type::Int { signed, bits } => append_long(int(*signed, *bits, array, row), out),
        Type::Float32 => out.extend_from_slice(&value::<Float32Type>(array, row).to_le_bytes()),
        Type::Float64 => out.extend_from_slice(&value::<Float64Type>(array, row).to_le_bytes()),
        Type::Date => append_long(value::<Date32Type>(array, row).into(), out),
        Type::Time(Unit::Second | Unit::Milli) => append_long(value::<Time32MillisecondType>(array, row).into(), out),
        Type::Time(_) => append_long(value::<Time64MicrosecondType>(array, row), out),
        Type::Timestamp(Unit::Second | Unit::Milli, _) => {
            append_long(value::<TimestampMillisecondType>(array, row), out);
        }
        Type::Timestamp(Unit::Micro, _) => append_long(value::<TimestampMicrosecondType>(array, row), out),
        Type::Timestamp(Unit::Nano, _) => append_long(value::<TimestampNanosecondType>(array, row), out),
        Type::Decimal { precision: 0..=38, .. } => {
            append_bytes(shortest(&value::<Decimal128Type>(array, row).to_be_bytes()), out);
        }
        Type::Decimal { .. } => append_bytes(shortest(&value::<Decimal256Type>(array, row).to_be_bytes()), out),
        Type::Binary(_) => append_bytes(array.as_binary::<i32>().value(row), out),
        Type::List(element) => {
            let list = array.as_list::<i32>();
            let elements = span(list.value_offsets(), row);
            counted(elements.len(), out, |out| elements.for_each(|at| branch(element, list.values(), at, out)));
        }
        Type::Map(inside) => {
            let map = array.as_map();
            let keys = map.keys().as_string::<i32>();
            let entries = span(map.value_offsets(), row);
            counted(entries.len(), out, |out| {
                for at in entries {
                    append_bytes(keys.value(at).as_bytes(), out);
                    branch(inside, map.values(), at, out);
                }
            });
        }
        Type::Struct(columns) => fields(columns, array.as_struct().columns(), row, out),
    }
}

fn int(signed: bool, bits: u8, array: &dyn Array, row: usize) -> i64 {
    match (signed, bits) {
        (true, 8) => value::<Int8Type>(array, row).into(),
        (true, 16) => value::<Int16Type>(array, row).into(),
        (true, 32) => value::<Int32Type>(array, row).into(),
        (true, _) => value::<Int64Type>(array, row),
        (false, 8) => value::<UInt8Type>(array, row).into(),
        (false, 16) => value::<UInt16Type>(array, row).into(),
        (false, 32) => value::<UInt32Type>(array, row).into(),
        (false, _) => unreachable!("uint64 was refused when the format was made"),
    }
}

/// Elements of an array or a map: one block of all of them, and one of none.
fn counted(count: usize, out: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>)) {
    if count > 0 {
        append_long(count as i64, out);
        append(out);
    }
    append_long(0, out);
}

/// The same number in as few bytes as hold it and its sign (two's complement, big endian).
fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [0x00, 0x00..=0x7f, ..] | [0xff, 0x80..=0xff, ..] = bytes {
        bytes = &bytes[1..];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_are_those_of_the_specification() {
        for (value, expected) in [(0, &[0x00][..]), (-1, &[0x01]), (1, &[0x02]), (-64, &[0x7f]), (64, &[0x80, 0x01])] {
            let mut out = Vec::new();
            append_long(value, &mut out);
            assert_eq!(out, expected, "{value}");
        }
        let mut out = Vec::new();
        append_long(i64::MIN, &mut out);
        assert_eq!(out, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn decimals_are_as_short_as_their_sign_allows() {
        for (value, expected) in [
            (0i128, &[0x00][..]),
            (127, &[0x7f]),
            (128, &[0x00, 0x80]),
            (-1, &[0xff]),
            (-128, &[0x80]),
            (-129, &[0xff, 0x7f]),
        ] {
            assert_eq!(shortest(&value.to_be_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn what_avro_has_no_place_for_is_refused_with_a_way_out() {
        let error = |yaml: &str| {
            let options = serde_saphyr::from_str(&format!("schema: {{ {yaml} }}")).unwrap();
            format!("{:#}", AvroFormat::new(&options).err().unwrap())
        };
        let message = error("user-id: long");
        assert!(message.contains("column user-id: no name for Avro"), "{message}");
        assert!(message.contains("user_id: { type: int64, key: \"user-id\" }"), "{message}");
        let message = error("a: 'struct<1st:int>'");
        assert!(message.contains("column a: column 1st: no name") && message.contains("`_1st:"), "{message}");
        assert!(error("n: uint64").contains("column n: Avro has no whole numbers above"));
        assert!(error("t: time(ns)").contains("declare it time(us)"));
    }
}
