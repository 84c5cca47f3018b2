//! The options of `parquet`, as written, and the checks that need nothing but them.

use std::borrow::Cow;
use std::fmt;

use anyhow::ensure;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterVersion;
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize};

use crate::encode::compress::{self, Written};
use crate::encode::json::OnUnknown;
use crate::encode::schema::Schema;
use crate::encode::yes;
use crate::units::Size;

/// The least limit of a row group: below, the footer grows faster than the data.
const ROW_GROUP_BYTES_MIN: u64 = 1 << 20;
const PAGE_BYTES_MIN: u64 = 8 << 10;
const PAGE_BYTES_MAX: u64 = 64 << 20;

/// The options of `parquet`, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The columns, as `name: type`; or `{ file: NAME }`, a schema file beside the pipeline; or `infer`, from the records.
    pub schema: Schema,
    /// What pages are compressed with: a name, or one with a level as `{ zstd: 9 }`.
    #[serde(default)]
    pub compression: Compression,
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
    /// When a row group ends, whichever comes first.
    #[serde(default)]
    pub row_group: RowGroup,
    /// Which encodings a column may have.
    #[serde(default)]
    pub encodings: Encodings,
    /// Version of the format: 2, or 1 for old readers (Spark before 3.3, Snowflake, Hive 2).
    #[serde(default, deserialize_with = "writer_version")]
    #[schemars(with = "u64", range(min = 1, max = 2), extend("default" = 2))]
    pub writer_version: Version,
    /// Bytes of a page before it is compressed; a page ends at 20,000 rows at the latest.
    #[serde(default = "page_bytes", deserialize_with = "crate::units::bytes")]
    #[schemars(with = "Size")]
    #[schemars(extend("x-bounds" = format!("{} to {}", Size::from_bytes(PAGE_BYTES_MIN), Size::from_bytes(PAGE_BYTES_MAX))))]
    pub page_bytes: u64,
    /// Columns, or fields of structs as `ctx.ip`, that get a bloom filter in every row group.
    #[serde(default)]
    pub bloom_filters: Vec<String>,
    /// By what the rows of a row group are sorted, the first column first.
    #[serde(default)]
    pub sort_by: Vec<SortBy>,
}

fn page_bytes() -> u64 {
    1 << 20
}

impl Options {
    /// Says which limit is out of range.
    pub fn check(&self) -> anyhow::Result<()> {
        let RowGroup { json_bytes_max, rows_max, bytes_max } = self.row_group;
        let json_bytes_max = json_bytes_max.unwrap_or(ROW_GROUP_BYTES_MIN);
        ensure!(
            json_bytes_max.min(bytes_max) >= ROW_GROUP_BYTES_MIN && rows_max > 0,
            "row_group: at least {ROW_GROUP_BYTES_MIN} bytes and one row, not {} and {rows_max}",
            json_bytes_max.min(bytes_max)
        );
        ensure!(
            (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&self.page_bytes),
            "page_bytes: from {PAGE_BYTES_MIN} to {PAGE_BYTES_MAX} bytes, not {}",
            self.page_bytes
        );
        Ok(())
    }

    /// Whether only what readers of the first version of the format know may be written.
    pub fn old_encodings(&self) -> bool {
        self.encodings == Encodings::PlainDictionary || self.writer_version == Version::One
    }
}

/// When a row group ends, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RowGroup {
    /// Bytes of the JSON in it; 256 MiB unless told, and 64 MiB with `sort_by`, which holds them decoded.
    #[serde(deserialize_with = "some_bytes")]
    #[schemars(with = "Option<Size>")]
    #[schemars(extend("x-bounds" = format!("at least {}", Size::from_bytes(ROW_GROUP_BYTES_MIN))))]
    pub json_bytes_max: Option<u64>,
    /// Bytes of it encoded, as they are held in memory until it ends.
    #[serde(deserialize_with = "crate::units::bytes")]
    #[schemars(with = "Size")]
    #[schemars(extend("x-bounds" = format!("at least {}", Size::from_bytes(ROW_GROUP_BYTES_MIN))))]
    pub bytes_max: u64,
    /// Rows of it.
    #[schemars(range(min = 1))]
    pub rows_max: u64,
}

impl Default for RowGroup {
    fn default() -> RowGroup {
        RowGroup { json_bytes_max: None, bytes_max: 128 << 20, rows_max: 1 << 20 }
    }
}

fn some_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    crate::units::bytes(deserializer).map(Some)
}

/// Which encodings a column may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encodings {
    /// The best for the data: dictionary, delta, byte stream split or plain.
    #[default]
    Auto,
    /// The better of plain and dictionary, for readers that know no others.
    PlainDictionary,
}

/// The version of the format: how pages are laid out, and what a reader has to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// Data pages v1, plain and dictionary: every reader.
    One,
    /// Data pages v2 and all encodings: DuckDB, Arrow, Spark from 3.3, Trino, Athena engine 3, ClickHouse, Polars.
    #[default]
    Two,
}

impl Version {
    /// As the writer calls it.
    pub fn writer(self) -> WriterVersion {
        match self {
            Version::One => WriterVersion::PARQUET_1_0,
            Version::Two => WriterVersion::PARQUET_2_0,
        }
    }
}

fn writer_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    match u64::deserialize(deserializer)? {
        1 => Ok(Version::One),
        2 => Ok(Version::Two),
        other => Err(D::Error::custom(format!("writer_version: 1 or 2, not {other}"))),
    }
}

/// A column that rows are sorted by: its name, or a map with the direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortBy {
    pub column: String,
    pub descending: bool,
    pub nulls_first: bool,
}

impl<'de> Deserialize<'de> for SortBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SortBy, D::Error> {
        deserializer.deserialize_any(SortByVisitor)
    }
}

/// The map form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenSort {
    /// The column.
    column: String,
    /// From large to small.
    #[serde(default)]
    descending: bool,
    /// Rows without a value come first.
    #[serde(default)]
    nulls_first: bool,
}

impl JsonSchema for SortBy {
    fn schema_name() -> Cow<'static, str> {
        "SortBy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        let map = generator.subschema_for::<WrittenSort>();
        json_schema!({ "anyOf": [{ "type": "string" }, map] })
    }
}

struct SortByVisitor;

impl<'de> Visitor<'de> for SortByVisitor {
    type Value = SortBy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column, or { column: .., descending: true, nulls_first: true }")
    }

    fn visit_str<E>(self, column: &str) -> Result<SortBy, E> {
        Ok(SortBy { column: column.into(), descending: false, nulls_first: false })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SortBy, A::Error> {
        let WrittenSort { column, descending, nulls_first } =
            WrittenSort::deserialize(MapAccessDeserializer::new(map))?;
        Ok(SortBy { column, descending, nulls_first })
    }
}

/// What pages are compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    Snappy,
    /// Level 1 to 9; 6 unless told.
    Gzip(i32),
    /// Raw blocks (`LZ4_RAW`), not Hadoop's framing, which the format has deprecated.
    Lz4,
    /// Level 1 to 22; 3 unless told.
    Zstd(i32),
}

impl Default for Compression {
    fn default() -> Compression {
        Compression::Zstd(3)
    }
}

impl Compression {
    /// As the writer calls it; an error if the level is out of range.
    pub fn codec(self) -> anyhow::Result<Codec> {
        Ok(match self {
            Compression::None => Codec::UNCOMPRESSED,
            Compression::Snappy => Codec::SNAPPY,
            Compression::Gzip(level) => Codec::GZIP(GzipLevel::try_new(level.unsigned_abs())?),
            Compression::Lz4 => Codec::LZ4_RAW,
            Compression::Zstd(level) => Codec::ZSTD(ZstdLevel::try_new(level)?),
        })
    }
}

impl JsonSchema for Compression {
    fn schema_name() -> Cow<'static, str> {
        "ParquetCompression".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        compress::schema(&["zstd", "snappy", "gzip", "lz4", "none"], &[("gzip", 1, 9), ("zstd", 1, 22)])
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
        let written = Written::read(deserializer, "one of zstd, snappy, gzip, lz4, none")?;
        match written.name.as_str() {
            "none" => written.plain(Compression::None),
            "snappy" => written.plain(Compression::Snappy),
            "gzip" => written.level(6, 1, 9).map(Compression::Gzip),
            "lz4" => written.plain(Compression::Lz4),
            "zstd" => written.level(3, 1, 22).map(Compression::Zstd),
            _ => Err(written.unknown(&["zstd", "snappy", "gzip", "lz4", "none"])),
        }
        .map_err(D::Error::custom)
    }
}
