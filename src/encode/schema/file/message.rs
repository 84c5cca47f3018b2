//! Parquet's message text, as its tools and Arrow print schemas: `message m { required int64 id; optional binary n (STRING); }`.
//!
//! The parquet crate reads it too, but tells no place, forgives a missing end, and recurses as deep as the text does.
//! A field that is `required` is `not null`; `repeated` ones and the groups of lists and maps, old layouts too, are lists and
//! maps. `int96` is `timestamp(ns)`, `UUID` and `ENUM` are strings, and bare `binary` is base64 in the records.

use std::ops::Range;

use super::{ANY, Column, Data, Type, Wrong, may_nest, push};
use crate::encode::schema::{BinaryText, Unit, Zone};

/// The columns of a message.
pub fn columns(text: &str, wrongs: &mut Vec<Wrong>) -> Vec<Column> {
    let mut parser = Parser { text, at: 0 };
    let fields = match parser.message() {
        Ok(fields) => fields,
        Err(wrong) => {
            wrongs.push(*wrong);
            return Vec::new();
        }
    };
    structure(&fields, 0, wrongs)
}

/// A field as written.
struct Field<'t> {
    repetition: &'t str,
    /// In lower case; `group` for groups.
    kind: String,
    name: &'t str,
    span: Range<usize>,
    /// What stands in brackets behind the name, in upper case: `DECIMAL`, `9`, `2`.
    logical: Vec<String>,
    fields: Vec<Field<'t>>,
}

fn structure(fields: &[Field], depth: usize, wrongs: &mut Vec<Wrong>) -> Vec<Column> {
    let mut columns = Vec::new();
    for field in fields {
        let data = data(field, depth + 1, wrongs);
        push(&mut columns, field.name, &field.span, data, wrongs);
    }
    columns
}

fn data(field: &Field, depth: usize, wrongs: &mut Vec<Wrong>) -> Data {
    if !may_nest(depth, &field.span, wrongs) {
        return ANY;
    }
    if field.repetition == "repeated" {
        let element = Data { kind: kind(field, depth + 1, wrongs), nullable: false };
        return Data { kind: Type::List(Box::new(element)), nullable: false };
    }
    Data { kind: kind(field, depth, wrongs), nullable: field.repetition == "optional" }
}

fn kind(field: &Field, depth: usize, wrongs: &mut Vec<Wrong>) -> Type {
    if field.kind == "group" {
        return group(field, depth, wrongs);
    }
    match primitive(field) {
        Some(kind) => kind,
        None => {
            let as_what = format!("{} ({})", field.kind, field.logical.join(","));
            wrongs.push(Wrong::new(field.span.clone(), format!("column {}: no {as_what} can be stored", field.name)));
            ANY.kind
        }
    }
}

fn primitive(field: &Field) -> Option<Type> {
    let int = |signed, bits| Some(Type::Int { signed, bits });
    let logical: Vec<&str> = field.logical.iter().map(String::as_str).collect();
    let bytes = field.kind == "binary" || field.kind == "fixed_len_byte_array";
    match (field.kind.as_str(), logical.as_slice()) {
        ("boolean", []) => Some(Type::Bool),
        ("int32", []) => int(true, 32),
        ("int64", []) => int(true, 64),
        ("int96", []) => Some(Type::Timestamp(Unit::Nano, Some("UTC".into()))),
        ("float", []) => Some(Type::Float32),
        ("double", []) => Some(Type::Float64),
        ("int32" | "int64", ["INTEGER" | "INT", bits, signed]) => {
            let bits = bits.parse().ok().filter(|bits| matches!(bits, 8 | 16 | 32 | 64))?;
            int(*signed == "TRUE", bits)
        }
        ("int32", ["INT_8"]) => int(true, 8),
        ("int32", ["INT_16"]) => int(true, 16),
        ("int32", ["INT_32"]) => int(true, 32),
        ("int64", ["INT_64"]) => int(true, 64),
        ("int32", ["UINT_8"]) => int(false, 8),
        ("int32", ["UINT_16"]) => int(false, 16),
        ("int32", ["UINT_32"]) => int(false, 32),
        ("int64", ["UINT_64"]) => int(false, 64),
        ("int32", ["DATE"]) => Some(Type::Date),
        ("int32", ["TIME_MILLIS"]) => Some(Type::Time(Unit::Milli)),
        ("int64", ["TIME_MICROS"]) => Some(Type::Time(Unit::Micro)),
        ("int32" | "int64", ["TIME", of, _]) => unit(of).map(Type::Time),
        ("int64", ["TIMESTAMP_MILLIS"]) => Some(Type::Timestamp(Unit::Milli, zone("TRUE"))),
        ("int64", ["TIMESTAMP_MICROS"]) => Some(Type::Timestamp(Unit::Micro, zone("TRUE"))),
        ("int64", ["TIMESTAMP", of, adjusted]) => Some(Type::Timestamp(unit(of)?, zone(adjusted))),
        ("int32" | "int64" | "binary" | "fixed_len_byte_array", ["DECIMAL", precision, scale @ ..]) => {
            let precision = precision.parse().ok().filter(|precision| (1..=76).contains(precision))?;
            let scale = scale.first().map_or(Ok(0), |scale| scale.parse()).ok().filter(|scale| *scale <= precision)?;
            Some(Type::Decimal { precision, scale })
        }
        ("binary", ["STRING" | "UTF8" | "ENUM"]) => Some(Type::String),
        ("fixed_len_byte_array", ["UUID"]) => Some(Type::String),
        ("fixed_len_byte_array", ["FLOAT16"]) => Some(Type::Float32),
        ("binary", ["JSON"]) => Some(Type::Json),
        (_, []) if bytes => Some(Type::Binary(BinaryText::Base64)),
        _ => None,
    }
}

fn unit(word: &str) -> Option<Unit> {
    match word {
        "MILLIS" => Some(Unit::Milli),
        "MICROS" => Some(Unit::Micro),
        "NANOS" => Some(Unit::Nano),
        _ => None,
    }
}

fn zone(adjusted: &str) -> Zone {
    (adjusted == "TRUE").then(|| "UTC".into())
}

fn group(field: &Field, depth: usize, wrongs: &mut Vec<Wrong>) -> Type {
    match (field.logical.first().map(String::as_str), field.fields.as_slice()) {
        (Some("LIST"), [repeated]) if repeated.repetition == "repeated" => {
            // The rules for old layouts, from the specification (LogicalTypes.md, "Lists").
            let inner = match repeated.fields.as_slice() {
                [one] if repeated.name != "array" && repeated.name != format!("{}_tuple", field.name) => {
                    data(one, depth + 1, wrongs)
                }
                _ => Data { kind: kind(repeated, depth + 1, wrongs), nullable: false },
            };
            Type::List(Box::new(inner))
        }
        (Some("MAP" | "MAP_KEY_VALUE"), [entries]) if entries.repetition == "repeated" => {
            match entries.fields.as_slice() {
                [key, value] if kind(key, depth + 1, wrongs) == Type::String => {
                    Type::Map(Box::new(data(value, depth + 1, wrongs)))
                }
                _ => {
                    let message = format!("column {}: expected a map of strings to values", field.name);
                    wrongs.push(Wrong::new(field.span.clone(), message).hint("the keys of a map in JSON are strings"));
                    ANY.kind
                }
            }
        }
        (None, [_, ..]) => Type::Struct(structure(&field.fields, depth, wrongs)),
        (None, []) => {
            wrongs.push(Wrong::new(field.span.clone(), format!("group {} has no fields", field.name)));
            ANY.kind
        }
        (Some(logical), _) => {
            let message = format!("group {} is no {logical}", field.name);
            wrongs.push(Wrong::new(field.span.clone(), message).hint("a group is a LIST, a MAP, or says nothing"));
            ANY.kind
        }
    }
}

/// How deep groups are read; what is too deep for a type is told by name.
const GROUPS_DEEP_MAX: usize = 64;

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

type Parsed<T> = Result<T, Box<Wrong>>;

impl<'t> Parser<'t> {
    fn message(&mut self) -> Parsed<Vec<Field<'t>>> {
        self.expect("message")?;
        self.word()?;
        let fields = self.fields(0)?;
        match self.token() {
            "" => Ok(fields),
            _ => Err(self.expected("expected the end of the schema")),
        }
    }

    fn fields(&mut self, depth: usize) -> Parsed<Vec<Field<'t>>> {
        self.expect("{")?;
        if depth > GROUPS_DEEP_MAX {
            return Err(self.expected("groups nest too deep"));
        }
        let mut fields = Vec::new();
        while self.token() != "}" {
            fields.push(self.field(depth)?);
        }
        self.expect("}")?;
        Ok(fields)
    }

    fn field(&mut self, depth: usize) -> Parsed<Field<'t>> {
        let repetition = self.token();
        let Some(repetition) =
            ["required", "optional", "repeated"].into_iter().find(|word| word.eq_ignore_ascii_case(repetition))
        else {
            return Err(self.expected("expected `required`, `optional` or `repeated`"));
        };
        self.word()?;
        let kind_at = self.at;
        let kind = self.word()?.to_ascii_lowercase();
        let kind = if kind == "byte_array" { "binary".to_owned() } else { kind };
        const KINDS: [&str; 9] =
            ["boolean", "int32", "int64", "int96", "float", "double", "binary", "fixed_len_byte_array", "group"];
        if !KINDS.contains(&kind.as_str()) {
            self.at = kind_at;
            self.token();
            let hint = format!("the types of Parquet are {}", KINDS.join(", "));
            let wrong = self.expected(&format!("unknown type {kind}"));
            return Err(Box::new(wrong.hint(hint)));
        }
        if kind == "fixed_len_byte_array" {
            self.brackets()?;
        }
        self.token();
        let start = self.at;
        let name = self.word()?;
        let span = start..self.at;
        let logical = if self.token() == "(" { self.brackets()? } else { Vec::new() };
        if self.token() == "=" {
            self.expect("=")?;
            self.word()?;
        }
        let fields = match kind.as_str() {
            "group" => self.fields(depth + 1)?,
            _ => {
                self.expect(";")?;
                Vec::new()
            }
        };
        Ok(Field { repetition, kind, name, span, logical, fields })
    }

    /// The words in brackets, `(DECIMAL(9,2))` as `DECIMAL`, `9`, `2`.
    fn brackets(&mut self) -> Parsed<Vec<String>> {
        self.expect("(")?;
        let mut words = Vec::new();
        let mut open = 1;
        while open > 0 {
            match self.token() {
                "(" => open += 1,
                ")" => open -= 1,
                "" | ";" | "{" | "}" | "=" => return Err(self.expected("expected `)`")),
                "," => {}
                word => words.push(word.to_ascii_uppercase()),
            }
            self.at += self.token().len();
        }
        Ok(words)
    }

    /// The next token, without taking it; empty at the end.
    fn token(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        let rest = &self.text[self.at..];
        let special = |c: char| matches!(c, ';' | '{' | '}' | '(' | ')' | '=' | ',');
        match rest.chars().next() {
            Some(first) if special(first) => &rest[..1],
            _ => &rest[..rest.find(|c: char| special(c) || c.is_whitespace()).unwrap_or(rest.len())],
        }
    }

    /// Takes a token that is a word.
    fn word(&mut self) -> Parsed<&'t str> {
        let token = self.token();
        if token.is_empty() || matches!(token, ";" | "{" | "}" | "(" | ")" | "=" | ",") {
            return Err(self.expected("expected a name"));
        }
        self.at += token.len();
        Ok(token)
    }

    fn expect(&mut self, wanted: &str) -> Parsed<()> {
        let token = self.token();
        if token != wanted {
            return Err(self.expected(&format!("expected `{wanted}`")));
        }
        self.at += token.len();
        Ok(())
    }

    fn expected(&mut self, message: &str) -> Box<Wrong> {
        let token = self.token();
        let found = if token.is_empty() { "the end".to_owned() } else { format!("`{token}`") };
        Box::new(Wrong::new(self.at..self.at + token.len(), format!("{message}, found {found}")))
    }
}

#[cfg(test)]
mod tests {
    use parquet::arrow::ArrowSchemaConverter;
    use parquet::schema::printer::print_schema;

    use crate::encode::schema::file::{read, testing::*};
    use crate::encode::schema::{Column, Schema};

    #[test]
    fn a_message_is_read_as_it_is_meant() {
        let text = "message click {
            required int64 id = 1;
            optional binary name (STRING);
            OPTIONAL INT32 day (DATE);
            required int64 at (TIMESTAMP(MICROS,false));
            optional int64 old (TIMESTAMP_MILLIS);
            optional fixed_len_byte_array(16) price (DECIMAL(38,10));
            optional fixed_len_byte_array(16) u (UUID);
            optional int96 ancient;
            optional binary raw;
            repeated int32 bare;
            optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }
            optional group old_tags (LIST) { repeated binary array (UTF8); }
            required group labels (MAP) { repeated group key_value { required binary key (STRING); optional double value; } }
            optional group device { required binary os (ENUM); }
        }";
        let expected = [
            "id: int64 not null",
            "name: string",
            "day: date",
            "at: timestamp(us, none) not null",
            "old: timestamp(ms)",
            "price: decimal(38,10)",
            "u: string",
            "ancient: timestamp(ns)",
            "raw: binary",
            "bare: list<int32 not null> not null",
            "tags: list<string>",
            "old_tags: list<string not null>",
            "labels: map<string,float64> not null",
            "device: struct<os:string not null>",
        ];
        assert_eq!(columns(text), expected);
    }

    #[test]
    fn what_the_parquet_crate_prints_of_our_schema_reads_back_as_our_schema() {
        let types = [
            "bool",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "float32",
            "float64",
            "string not null",
            "date",
            "time(ms)",
            "time(us)",
            "timestamp(ms)",
            "timestamp(us, none)",
            "timestamp(ns)",
            "decimal(9,2)",
            "decimal(18,0)",
            "decimal(38,10)",
            "decimal(76,4)",
            "binary",
            "list<int64 not null>",
            "map<string,list<float64>>",
            "struct<a:int32, b:list<struct<c:string not null>>> not null",
        ];
        let column = |(at, text): (usize, &&str)| Column::new(&format!("c{at}"), text).unwrap();
        let schema = Schema::new(types.iter().enumerate().map(column).collect()).unwrap();
        let descriptor = ArrowSchemaConverter::new().convert(&schema.arrow()).unwrap();
        let mut printed = Vec::new();
        print_schema(&mut printed, descriptor.root_schema());
        assert_eq!(read(std::str::from_utf8(&printed).unwrap()).unwrap(), schema);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, at, message) in [
            ("message m { required int64 id }", "}", "expected `;`, found `}`"),
            ("message m { required int64 id;", "", "expected `required`, `optional` or `repeated`, found the end"),
            (
                "message m { needed int64 id; }",
                "needed",
                "expected `required`, `optional` or `repeated`, found `needed`",
            ),
            ("message m { required long id; }", "long", "unknown type long, found `long`"),
            ("message m { required int64; }", ";", "expected a name, found `;`"),
            ("message { }", "{", "expected a name, found `{`"),
            ("message m { required int64 a; } x", "x", "expected the end of the schema, found `x`"),
            ("message m { required int64 a (STRING); }", "a", "column a: no int64 (STRING) can be stored"),
            (
                "message m { required binary a (DECIMAL(99,2)); }",
                "a",
                "column a: no binary (DECIMAL,99,2) can be stored",
            ),
            ("message m { required group a { } }", "a", "group a has no fields"),
            ("message m { required group a (LIST) { required int32 x; } }", "a", "group a is no LIST"),
            ("message m { required int32 a; required int32 a; }", "a", "column a is there twice"),
            (
                "message m { required group a (MAP) { repeated group kv { required int32 k; required int32 v; } } }",
                "a",
                "column a: expected a map of strings to values",
            ),
            ("message m { }", "m", "a schema needs at least one column"),
        ] {
            assert_eq!(wrongs(text), [(at.to_owned(), message.to_owned())], "{text}");
        }
        let deep = format!("message m {{ {} ", "required group a {".repeat(100_000));
        assert!(wrongs(&deep)[0].1.starts_with("groups nest too deep"));
    }
}
