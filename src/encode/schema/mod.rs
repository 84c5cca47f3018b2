//! The schema language: column names and types as a pipeline file declares them, and the Arrow schema they stand for.
//!
//! ```yaml
//! event_time: timestamp(ms) not null                 # 1. a type is a text
//! userId: { type: string, key: user-id }             # 2. or a map: the JSON key differs from the column's name
//! seen: { type: timestamp(ms), format: epoch_s }     # and how a date or time is written (`format.rs`)
//! items: list<struct<sku:string, price:decimal(12,2)>>
//! ```
//!
//! | type | Arrow |
//! |---|---|
//! | `string`, `json`, `dictionary<string>` | Utf8, Utf8 (the value's JSON text), Dictionary(Int32, Utf8) |
//! | `bool`, `int8`..`int64`, `uint8`..`uint64`, `float32`, `float64` | the same (`int`, `long`, `float`, `double` are short for int32, int64, float32, float64) |
//! | `date`, `time(ms\|us\|ns)` | Date32, Time32 or Time64 |
//! | `timestamp(s\|ms\|us\|ns[, zone])` | Timestamp; zone `UTC` unless told, `none` for local time, or a name such as `Europe/Berlin`. Parquet has no seconds: `s` is stored in milliseconds, cut to whole seconds |
//! | `decimal(p,s)` | Decimal128 up to p = 38, Decimal256 up to 76 |
//! | `binary`, `binary(hex)`, `binary(utf8)` | Binary, written in JSON as base64, hex, or as it is |
//! | `list<T>`, `map<string,T>`, `struct<name:T, ..>` | List, Map, Struct; nested up to 16 deep |
//!
//! In place of columns may stand `{ file: NAME }` (see [`file`]), or `infer` (see [`infer`]).
//!
//! `not null` behind a type makes it required, also inside: `list<string not null>`. YAML reads `: ` in plain text as a
//! map, so a struct is written without the blank (`a:int`) or in quotes.

pub mod file;
mod format;
pub mod infer;
mod json_schema;
mod origin;
mod parse;

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, SchemaRef, TimeUnit};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

pub use format::TimeFormat;
pub(super) use format::{day, instant, time_of_day};
pub use origin::Origin;
pub use parse::TypeError;

/// The most columns of one schema.
pub const COLUMNS_MAX: usize = 10_000;
/// How deep types nest.
pub const TYPE_DEPTH_MAX: usize = 16;
/// The longest column name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The columns of a table, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    columns: Vec<Column>,
    origin: Origin,
    exact: bool,
}

impl Schema {
    /// A schema; an error if it has no columns, more than [`COLUMNS_MAX`], two of one name, or two that read one key.
    pub fn new(columns: Vec<Column>) -> Result<Schema, String> {
        if columns.is_empty() {
            return Err("a schema needs at least one column".into());
        }
        if columns.len() > COLUMNS_MAX {
            return Err(format!("a schema has at most {COLUMNS_MAX} columns, not {}", columns.len()));
        }
        distinct(&columns)?;
        Ok(Schema { columns, origin: Origin::Here, exact: false })
    }

    /// The schema, but its float64 columns refuse whole numbers that they would round: nobody declared that they may.
    pub fn exact(self) -> Schema {
        Schema { exact: true, ..self }
    }

    /// Whether it is [`Schema::exact`].
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Where the columns come from. Unless it is [`Origin::Here`] there are none yet: `config` and `daemon` replace such a
    /// schema by one with columns before anything asks for them.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The Arrow schema: one field per column.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(arrow_schema::Schema::new(fields(&self.columns)))
    }
}

/// A named column, or a named field of a struct.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    /// The JSON key it is read from, where that is not its name.
    pub key: Option<String>,
    pub data: Data,
    /// How its dates and times are written, tried in this order; if none are told, in the ways that tell themselves.
    pub formats: Vec<TimeFormat>,
}

impl Column {
    /// A column read from the key of its own name; an error says why the name or the type text is none.
    pub fn new(name: &str, type_text: &str) -> Result<Column, String> {
        check_name(name)?;
        let data = Data::parse(type_text).map_err(|error| format!("column {name}: {error}"))?;
        Ok(Column { name: name.into(), key: None, data, formats: Vec::new() })
    }

    /// A column of a type that is known, read from the key of its own name; an error says why the name is none.
    pub fn of(name: &str, data: Data) -> Result<Column, String> {
        check_name(name)?;
        Ok(Column { name: name.into(), key: None, data, formats: Vec::new() })
    }

    /// The JSON key that this column is read from.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.name)
    }

    /// The Arrow field.
    pub fn arrow(&self) -> Field {
        self.data.field(&self.name)
    }
}

/// A type and whether it may be null.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    pub kind: Type,
    pub nullable: bool,
}

impl Data {
    /// Parses a type text; the error names what was expected, the nearest right word, and the place.
    pub fn parse(text: &str) -> Result<Data, TypeError> {
        parse::parse(text)
    }

    fn field(&self, name: &str) -> Field {
        Field::new(name, self.kind.arrow(), self.nullable)
    }
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    String,
    /// Any JSON value but null, as its text.
    Json,
    /// Strings, each distinct one stored once.
    Dictionary,
    Bool,
    /// `bits` is 8, 16, 32 or 64.
    Int {
        signed: bool,
        bits: u8,
    },
    Float32,
    Float64,
    Date,
    /// Time of day in milli-, micro- or nanoseconds.
    Time(Unit),
    Timestamp(Unit, Zone),
    /// `1 <= precision <= 76`, `scale <= precision`.
    Decimal {
        precision: u8,
        scale: u8,
    },
    Binary(BinaryText),
    List(Box<Data>),
    /// String keys, and values of this type.
    Map(Box<Data>),
    Struct(Vec<Column>),
}

/// The unit that a time is stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Second,
    Milli,
    Micro,
    Nano,
}

impl Unit {
    /// Nanoseconds in one.
    pub fn nanos(self) -> i64 {
        match self {
            Unit::Second => 1_000_000_000,
            Unit::Milli => 1_000_000,
            Unit::Micro => 1_000,
            Unit::Nano => 1,
        }
    }

    fn arrow(self) -> TimeUnit {
        match self {
            Unit::Second | Unit::Milli => TimeUnit::Millisecond,
            Unit::Micro => TimeUnit::Microsecond,
            Unit::Nano => TimeUnit::Nanosecond,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Unit::Second => "s",
            Unit::Milli => "ms",
            Unit::Micro => "us",
            Unit::Nano => "ns",
        }
    }
}

/// The zone that a timestamp is shown in; `None` is local time, an instant only to those who know where.
pub type Zone = Option<Arc<str>>;

/// How bytes are written in JSON, which has only text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryText {
    Base64,
    Hex,
    Utf8,
}

impl Type {
    /// The Arrow type. Names inside lists and maps are those of the Parquet specification (`element`, `key_value`), so
    /// that every reader finds the standard layout.
    pub fn arrow(&self) -> DataType {
        match self {
            Type::String | Type::Json => DataType::Utf8,
            Type::Dictionary => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Type::Bool => DataType::Boolean,
            Type::Int { signed: true, bits: 8 } => DataType::Int8,
            Type::Int { signed: true, bits: 16 } => DataType::Int16,
            Type::Int { signed: true, bits: 32 } => DataType::Int32,
            Type::Int { signed: true, .. } => DataType::Int64,
            Type::Int { signed: false, bits: 8 } => DataType::UInt8,
            Type::Int { signed: false, bits: 16 } => DataType::UInt16,
            Type::Int { signed: false, bits: 32 } => DataType::UInt32,
            Type::Int { signed: false, .. } => DataType::UInt64,
            Type::Float32 => DataType::Float32,
            Type::Float64 => DataType::Float64,
            Type::Date => DataType::Date32,
            Type::Time(unit @ (Unit::Second | Unit::Milli)) => DataType::Time32(unit.arrow()),
            Type::Time(unit) => DataType::Time64(unit.arrow()),
            Type::Timestamp(unit, zone) => DataType::Timestamp(unit.arrow(), zone.clone()),
            Type::Decimal { precision, scale } if *precision <= 38 => DataType::Decimal128(*precision, *scale as i8),
            Type::Decimal { precision, scale } => DataType::Decimal256(*precision, *scale as i8),
            Type::Binary(_) => DataType::Binary,
            Type::List(element) => DataType::List(Arc::new(element.field("element"))),
            Type::Map(value) => DataType::Map(map_entries(value), false),
            Type::Struct(columns) => DataType::Struct(fields(columns)),
        }
    }
}

fn map_entries(value: &Data) -> FieldRef {
    let key = Field::new("key", DataType::Utf8, false);
    Arc::new(Field::new_struct("key_value", vec![key, value.field("value")], false))
}

fn fields(columns: &[Column]) -> Fields {
    columns.iter().map(Column::arrow).collect()
}

fn distinct(columns: &[Column]) -> Result<(), String> {
    let mut names = std::collections::HashSet::new();
    let mut keys = std::collections::HashSet::new();
    for column in columns {
        if !names.insert(column.name.as_str()) {
            return Err(format!("column {} is there twice", column.name));
        }
        if !keys.insert(column.key()) {
            return Err(format!("column {}: another column reads the key {:?} already", column.name, column.key()));
        }
    }
    Ok(())
}

pub(in crate::encode) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("a column name has 1 to {NAME_BYTES_MAX} bytes, not {}", name.len()));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(control) => Err(format!("column {name:?}: a name has no control characters, such as {control:?}")),
        None => Ok(()),
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind, if self.nullable { "" } else { " not null" })
    }
}

/// The type as it is written in a pipeline file, in its one canonical spelling.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::String => f.write_str("string"),
            Type::Json => f.write_str("json"),
            Type::Dictionary => f.write_str("dictionary<string>"),
            Type::Bool => f.write_str("bool"),
            Type::Int { signed, bits } => write!(f, "{}int{bits}", if *signed { "" } else { "u" }),
            Type::Float32 => f.write_str("float32"),
            Type::Float64 => f.write_str("float64"),
            Type::Date => f.write_str("date"),
            Type::Time(unit) => write!(f, "time({})", unit.as_str()),
            Type::Timestamp(unit, Some(zone)) if &**zone == "UTC" => write!(f, "timestamp({})", unit.as_str()),
            Type::Timestamp(unit, zone) => {
                write!(f, "timestamp({}, {})", unit.as_str(), zone.as_deref().unwrap_or("none"))
            }
            Type::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Type::Binary(BinaryText::Base64) => f.write_str("binary"),
            Type::Binary(BinaryText::Hex) => f.write_str("binary(hex)"),
            Type::Binary(BinaryText::Utf8) => f.write_str("binary(utf8)"),
            Type::List(element) => write!(f, "list<{element}>"),
            Type::Map(value) => write!(f, "map<string,{value}>"),
            Type::Struct(columns) => {
                f.write_str("struct<")?;
                for (index, column) in columns.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}:{}", parse::quoted(&column.name), column.data)?;
                }
                f.write_str(">")
            }
        }
    }
}

impl<'de> serde::Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Schema, D::Error> {
        deserializer.deserialize_any(SchemaVisitor)
    }
}

struct SchemaVisitor;

impl<'de> Visitor<'de> for SchemaVisitor {
    type Value = Schema;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of column names to types, such as `user_id: string`, or `infer`, or `{ file: NAME }`")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Schema, E> {
        Schema::new(Vec::new()).map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Schema, E> {
        Origin::of_word(word).map(|origin| Schema { columns: Vec::new(), origin, exact: false })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Schema, A::Error> {
        let mut columns = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if columns.is_empty() && origin::WORDS.contains(&name.as_str()) {
                match origin::read(&name, &mut map)? {
                    origin::Read::Column(column) => columns.push(column),
                    origin::Read::Origin(origin) => return Ok(Schema { columns, origin, exact: false }),
                }
                continue;
            }
            check_name(&name).map_err(A::Error::custom)?;
            columns.push(map.next_value_seed(ColumnSeed { name })?);
        }
        Schema::new(columns).map_err(A::Error::custom)
    }
}

/// Reads a column as written: a type text, or a map of `type`, `key` and `format`.
struct ColumnSeed {
    name: String,
}

impl<'de> DeserializeSeed<'de> for ColumnSeed {
    type Value = Column;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Column, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ColumnSeed {
    type Value = Column;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "for column {} a type such as `string`, or a map of `type`, `key` and `format`", self.name)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Column, E> {
        Column::new(&self.name, text).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Column, A::Error> {
        let (mut text, mut key, mut written) = (None, None, None);
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "type" => text = Some(map.next_value::<String>()?),
                "key" => key = Some(map.next_value::<String>()?),
                "format" => written = Some(map.next_value::<format::Written>()?),
                _ => return Err(A::Error::unknown_field(&field, &["type", "key", "format"])),
            }
        }
        let text = text.ok_or_else(|| A::Error::missing_field("type"))?;
        let column = Column::new(&self.name, &text).map_err(A::Error::custom)?;
        let texts = match written {
            None => Vec::new(),
            Some(format::Written::One(text)) => vec![text],
            Some(format::Written::Several(texts)) if !texts.is_empty() => texts,
            Some(_) => return Err(A::Error::custom(format!("column {}: an empty list of formats", self.name))),
        };
        let format = |text: &String| TimeFormat::new(text, &column.data);
        let formats = texts.iter().map(format).collect::<Result<_, _>>();
        let formats = formats.map_err(|error| A::Error::custom(format!("column {}: {error}", self.name)))?;
        Ok(Column { key, formats, ..column })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_written_as_a_map_of_types() {
        let yaml = "event_time: timestamp(ms) not null\nuser: { type: 'string', key: user-id }\nctx: struct<a:int, b:list<string>>\n";
        let schema: Schema = serde_saphyr::from_str(yaml).unwrap();
        let arrow = schema.arrow();
        assert_eq!(
            arrow.field(0),
            &Field::new("event_time", Type::Timestamp(Unit::Milli, Some("UTC".into())).arrow(), false)
        );
        assert_eq!(schema.columns()[1].key(), "user-id");
        assert_eq!(schema.columns()[2].data.to_string(), "struct<a:int32, b:list<string>>");
    }

    #[test]
    fn a_wrong_schema_says_what_and_where() {
        let error = |yaml: &str| serde_saphyr::from_str::<Schema>(yaml).unwrap_err().to_string();
        let message = error("ok: string\nprice: decimel(12,2)\n");
        assert!(message.contains("column price: unknown type decimel at offset 0 of \"decimel(12,2)\""), "{message}");
        assert!(message.contains("did you mean `decimal`?") && message.contains("line 2"), "{message}");
        assert!(error("a: { key: x }").contains("missing field `type`"));
        assert!(error("a: { type: int, kee: x }").contains("unknown field `kee`"));
        assert!(error("a: { type: date, format: epoch }").contains("column a: unknown format \"epoch\""));
        assert!(error("a: { type: date, format: [] }").contains("column a: an empty list of formats"));
        assert!(error("a: { type: int, key: b }\nb: int").contains("another column reads the key \"b\""));
        assert!(error("{}").contains("at least one column"));
        assert!(error("a: [int]").contains("for column a a type such as `string`"));
    }

    #[test]
    fn lists_and_maps_have_the_names_of_the_parquet_specification() {
        let data = Data::parse("map<string, list<int not null>>").unwrap();
        let shown = format!("{:?}", data.kind.arrow());
        for name in ["key_value", "\"key\"", "\"value\"", "\"element\""] {
            assert!(shown.contains(name), "{shown}");
        }
    }
}
