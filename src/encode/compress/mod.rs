//! Compression of whole blocks: each block becomes a unit of its own, and units one behind the other are one valid file.
//!
//! ```text
//! gzip           member member ...                        RFC 1952: readers take concatenated members as one file
//! zstd           frame frame ...                          RFC 8878, likewise
//! snappy         "\xff\x06\0\0sNaPpY" chunk chunk ...     framing_format.txt: type u8, length u24 LE, masked crc32c, data
//! hadoop_snappy  block block ...                          raw length u32 BE, compressed length u32 BE, raw snappy
//! ```
//!
//! Whole-buffer compression beats every streaming one in speed and in size (`DECISIONS.md`, "Text formats"),
//! and blocks can be made at the same time on cores that are idle ([`Blocks`]).

mod blocks;
mod codec;

use std::borrow::Cow;
use std::fmt;

pub use blocks::{BLOCK_BYTES, BLOCKS_TOGETHER_MAX, Blocks, Compressors, Frame, append_long};
pub use codec::{Codec, HADOOP_BLOCK_BYTES};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use serde_json::{Map, Value, json};

use crate::nearest::nearest;

/// The level of gzip and deflate unless told: smaller than zlib's 6, and for two thirds of what libdeflate's own 6 takes
/// (`DECISIONS.md`, "Text formats").
pub const DEFLATE_LEVEL: i32 = 5;

/// What text is compressed with: lines, JSON arrays, CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    None,
    /// Level 0 to 12 of libdeflate; [`DEFLATE_LEVEL`] unless told.
    Gzip(i32),
    /// Level 1 to 22; 3 unless told.
    Zstd(i32),
    /// The official framing format.
    Snappy,
    /// Hadoop's block framing.
    HadoopSnappy,
}

impl Compression {
    /// The file extension that tells the truth; empty for none.
    pub fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip(_) => ".gz",
            Compression::Zstd(_) => ".zst",
            Compression::Snappy => ".sz",
            Compression::HadoopSnappy => ".snappy",
        }
    }

    /// How its blocks are stored.
    pub fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Gzip(level) => Codec::Gzip(level),
            Compression::Zstd(level) => Codec::Zstd(level),
            Compression::Snappy => Codec::Snappy,
            Compression::HadoopSnappy => Codec::HadoopSnappy,
        }
    }
}

impl JsonSchema for Compression {
    fn schema_name() -> Cow<'static, str> {
        "TextCompression".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(&["none", "gzip", "zstd", "snappy", "hadoop_snappy"], &[("gzip", 0, 12), ("zstd", 1, 22)])
    }
}

/// The schema of a compression: one of these names, or one of those with levels as a map: name, least and largest level.
pub(super) fn schema(names: &[&str], levels: &[(&str, i32, i32)]) -> Schema {
    let level = |(name, least, most): &(&str, i32, i32)| {
        let description = format!("Level {least} to {most}.");
        let level = json!({ "type": "integer", "minimum": least, "maximum": most, "description": description });
        ((*name).to_owned(), level)
    };
    let properties: Map<String, Value> = levels.iter().map(level).collect();
    json_schema!({ "anyOf": [
        { "type": "string", "enum": names },
        {
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1
        }
    ] })
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
        let written = Written::read(deserializer, "one of none, gzip, zstd, snappy, hadoop_snappy")?;
        match written.name.as_str() {
            "none" => written.plain(Compression::None),
            "gzip" => written.level(DEFLATE_LEVEL, 0, 12).map(Compression::Gzip),
            "zstd" => written.level(3, 1, 22).map(Compression::Zstd),
            "snappy" => written.plain(Compression::Snappy),
            "hadoop_snappy" => written.plain(Compression::HadoopSnappy),
            _ => Err(written.unknown(&["none", "gzip", "zstd", "snappy", "hadoop_snappy"])),
        }
        .map_err(D::Error::custom)
    }
}

/// A compression as it is written: `zstd`, or with a level `{ zstd: 9 }`.
pub(super) struct Written {
    pub name: String,
    level: Option<i32>,
}

impl Written {
    /// Reads the text or the map; `expected` is for the error.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D, expected: &'static str) -> Result<Written, D::Error> {
        deserializer.deserialize_any(WrittenVisitor(expected))
    }

    /// A compression that has no level.
    pub fn plain<T>(&self, compression: T) -> Result<T, String> {
        match self.level {
            None => Ok(compression),
            Some(_) => Err(format!("compression {} has no level: write `compression: {}`", self.name, self.name)),
        }
    }

    /// The level, from `least` to `most`, `usual` unless told.
    pub fn level(&self, usual: i32, least: i32, most: i32) -> Result<i32, String> {
        match self.level.unwrap_or(usual) {
            level if (least..=most).contains(&level) => Ok(level),
            level => Err(format!("compression {}: a level from {least} to {most}, not {level}", self.name)),
        }
    }

    /// The error for a name that is none of `names`.
    pub fn unknown(&self, names: &[&str]) -> String {
        let hint = nearest(&self.name, names.iter().copied()).map(|name| format!("\nhint: did you mean `{name}`?"));
        let (found, hint) = (&self.name, hint.unwrap_or_default());
        format!("unknown compression `{found}`, expected one of {}{hint}", names.join(", "))
    }
}

struct WrittenVisitor(&'static str);

impl<'de> Visitor<'de> for WrittenVisitor {
    type Value = Written;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a compression, {}, or with a level such as {{ zstd: 9 }}", self.0)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Written, E> {
        Ok(Written { name: name.to_owned(), level: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Written, A::Error> {
        let Some((name, level)) = map.next_entry::<String, i32>()? else {
            return Err(A::Error::invalid_length(0, &self));
        };
        match map.next_key::<String>()? {
            None => Ok(Written { name, level: Some(level) }),
            Some(second) => Err(A::Error::custom(format!("one compression, not both {name} and {second}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compression_is_written_by_name_or_with_a_level() {
        let read = |yaml: &str| serde_saphyr::from_str::<Compression>(yaml).map_err(|error| error.to_string());
        assert_eq!(read("none").unwrap(), Compression::None);
        assert_eq!(read("gzip").unwrap(), Compression::Gzip(DEFLATE_LEVEL));
        assert_eq!(read("{ zstd: 19 }").unwrap(), Compression::Zstd(19));
        assert_eq!(read("hadoop_snappy").unwrap(), Compression::HadoopSnappy);
        assert!(read("{ zstd: 23 }").unwrap_err().contains("compression zstd: a level from 1 to 22, not 23"));
        assert!(read("{ snappy: 1 }").unwrap_err().contains("compression snappy has no level"));
        assert!(read("gzipp").unwrap_err().contains("unknown compression `gzipp`, expected one of none, gzip"));
        assert!(read("{ gzip: 1, zstd: 2 }").unwrap_err().contains("not both gzip and zstd"));
        assert!(read("{}").is_err());
    }
}
