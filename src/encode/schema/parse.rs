//! Parses type texts such as `list<struct<sku:string not null, price:decimal(12,2)>>`.

use std::fmt;
use std::sync::Arc;

use super::{BinaryText, Column, Data, TYPE_DEPTH_MAX, Type, Unit, Zone, check_name, distinct};
use crate::nearest::nearest;

/// Every name a type can begin with, for "did you mean"; of equally near ones the first is meant.
const NAMES: [&str; 26] = [
    "string",
    "json",
    "dictionary",
    "bool",
    "int",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "long",
    "float",
    "float32",
    "float64",
    "double",
    "date",
    "time",
    "timestamp",
    "decimal",
    "binary",
    "list",
    "map",
    "struct",
];

/// What others call our types (SQL, Hive, Glue, Arrow, JSON Schema).
const FOREIGN: [(&str, &str); 20] = [
    ("varchar", "string"),
    ("char", "string"),
    ("text", "string"),
    ("str", "string"),
    ("utf8", "string"),
    ("tinyint", "int8"),
    ("smallint", "int16"),
    ("integer", "int32"),
    ("bigint", "int64"),
    ("boolean", "bool"),
    ("real", "float32"),
    ("number", "float64"),
    ("numeric", "decimal(p,s)"),
    ("datetime", "timestamp(ms)"),
    ("timestamptz", "timestamp(us)"),
    ("array", "list<T>"),
    ("object", "struct<name:T>"),
    ("record", "struct<name:T>"),
    ("bytes", "binary"),
    ("variant", "json"),
];

/// A type as a regular expression has it: one of the names, perhaps with something in brackets, perhaps `not null`.
pub fn pattern() -> String {
    format!("^\\s*({})\\s*([(<].*[)>])?\\s*(not\\s+null)?\\s*$", NAMES.join("|"))
}

/// Types as people write them, for editors.
pub const EXAMPLES: [&str; 8] =
    ["string", "int64", "float64", "bool", "timestamp(ms)", "date", "decimal(12,2)", "list<string>"];

/// Why a text is not a type, and where: `unknown type decimel at offset 0 of "decimel(12,2)"`, and on a second line after
/// `hint: ` what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeError {
    message: String,
    hint: Option<String>,
    offset: usize,
    text: String,
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {} of {:?}", self.message, self.offset, self.text)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TypeError {}

pub(super) fn parse(text: &str) -> Result<Data, TypeError> {
    let mut parser = Parser { text, at: 0 };
    let data = parser.data(1)?;
    match parser.peek() {
        None => Ok(data),
        Some('!') => Err(parser.error("expected the end", Some("a required column is written `not null`".into()))),
        Some(_) => Err(parser.error("expected the end, or `not null`", None)),
    }
}

/// A field name as a struct's type text needs it: in quotes unless it is a plain word.
pub(super) fn quoted(name: &str) -> String {
    match name.chars().all(is_word) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn data(&mut self, depth: usize) -> Result<Data, TypeError> {
        if depth > TYPE_DEPTH_MAX {
            return Err(self.error(&format!("types nest at most {TYPE_DEPTH_MAX} deep"), None));
        }
        let kind = self.kind(depth)?;
        let before = self.at;
        match self.word() {
            "" => Ok(Data { kind, nullable: true }),
            "not" if self.word() == "null" => Ok(Data { kind, nullable: false }),
            _ => {
                self.at = before;
                self.peek();
                Err(self.error("expected `not null`", None))
            }
        }
    }

    fn kind(&mut self, depth: usize) -> Result<Type, TypeError> {
        self.peek();
        let start = self.at;
        let name = self.word();
        let int = |signed, bits| Ok(Type::Int { signed, bits });
        match name {
            "string" => Ok(Type::String),
            "json" => Ok(Type::Json),
            "bool" => Ok(Type::Bool),
            "int8" => int(true, 8),
            "int16" => int(true, 16),
            "int32" | "int" => int(true, 32),
            "int64" | "long" => int(true, 64),
            "uint8" => int(false, 8),
            "uint16" => int(false, 16),
            "uint32" => int(false, 32),
            "uint64" => int(false, 64),
            "float32" | "float" => Ok(Type::Float32),
            "float64" | "double" => Ok(Type::Float64),
            "date" => Ok(Type::Date),
            "time" => self.time(),
            "timestamp" => self.timestamp(),
            "decimal" => self.decimal(),
            "binary" => self.binary(),
            "dictionary" => {
                self.expect('<')?;
                self.string("a dictionary holds strings: expected `string`")?;
                self.expect('>')?;
                Ok(Type::Dictionary)
            }
            "list" => {
                self.expect('<')?;
                let element = self.data(depth + 1)?;
                self.expect('>')?;
                Ok(Type::List(Box::new(element)))
            }
            "map" => {
                self.expect('<')?;
                self.string("the keys of a map are strings: expected `string`")?;
                self.expect(',')?;
                let value = self.data(depth + 1)?;
                self.expect('>')?;
                Ok(Type::Map(Box::new(value)))
            }
            "struct" => self.structure(depth),
            "" => Err(self.error("expected a type such as `string`, `int64` or `list<string>`", None)),
            unknown => {
                self.at = start;
                Err(self.error(&format!("unknown type {unknown}"), Some(hint(unknown))))
            }
        }
    }

    fn structure(&mut self, depth: usize) -> Result<Type, TypeError> {
        self.expect('<')?;
        let mut columns = Vec::new();
        loop {
            self.peek();
            let start = self.at;
            let name = self.name()?;
            check_name(&name).map_err(|why| Parser { text: self.text, at: start }.error(&why, None))?;
            self.expect(':')?;
            columns.push(Column { name, key: None, data: self.data(depth + 1)?, formats: Vec::new() });
            distinct(&columns).map_err(|why| Parser { text: self.text, at: start }.error(&why, None))?;
            match self.peek() {
                Some(',') => self.at += 1,
                _ => break,
            }
        }
        self.expect('>')?;
        Ok(Type::Struct(columns))
    }

    /// A field's name: a word, or in double quotes with `\"` and `\\`.
    fn name(&mut self) -> Result<String, TypeError> {
        if self.peek() != Some('"') {
            return match self.word() {
                "" => Err(self.error("expected a field name", None)),
                word => Ok(word.to_owned()),
            };
        }
        let mut name = String::new();
        let mut chars = self.text[self.at + 1..].char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += 1 + offset + 1;
                    return Ok(name);
                }
                '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
                plain => name.push(plain),
            }
        }
        Err(self.error("expected a closing quote", None))
    }

    fn time(&mut self) -> Result<Type, TypeError> {
        self.expect('(')?;
        let unit = self.unit(&[Unit::Milli, Unit::Micro, Unit::Nano])?;
        self.expect(')')?;
        Ok(Type::Time(unit))
    }

    fn timestamp(&mut self) -> Result<Type, TypeError> {
        self.expect('(')?;
        let unit = self.unit(&[Unit::Second, Unit::Milli, Unit::Micro, Unit::Nano])?;
        let zone = match self.peek() {
            Some(',') => {
                self.at += 1;
                self.zone()?
            }
            _ => Some(Arc::from("UTC")),
        };
        self.expect(')')?;
        Ok(Type::Timestamp(unit, zone))
    }

    /// `none`, a name of the IANA data base, or an offset `+hh:mm`, as Arrow writes zones.
    fn zone(&mut self) -> Result<Zone, TypeError> {
        self.peek();
        let rest = &self.text[self.at..];
        let name = rest[..rest.find(')').unwrap_or(rest.len())].trim_end();
        if name == "none" {
            self.at += name.len();
            return Ok(None);
        }
        if !is_offset(name) && jiff::tz::TimeZone::get(name).is_err() {
            let hint = "write a name such as `Europe/Berlin`, an offset such as `+02:00`, or `none`".to_owned();
            return Err(self.error(&format!("unknown time zone {name:?}"), Some(hint)));
        }
        self.at += name.len();
        Ok(Some(name.into()))
    }

    fn unit(&mut self, allowed: &[Unit]) -> Result<Unit, TypeError> {
        self.peek();
        let start = self.at;
        let word = self.word();
        if let Some(unit) = allowed.iter().find(|unit| unit.as_str() == word) {
            return Ok(*unit);
        }
        self.at = start;
        let names: Vec<_> = allowed.iter().map(|unit| unit.as_str()).collect();
        Err(self.error(&format!("expected a unit, one of {}", names.join(", ")), None))
    }

    fn decimal(&mut self) -> Result<Type, TypeError> {
        self.expect('(')?;
        let precision = self.number(1, 76, "a precision")?;
        self.expect(',')?;
        let scale = self.number(0, precision, "a scale")?;
        self.expect(')')?;
        Ok(Type::Decimal { precision, scale })
    }

    fn number(&mut self, least: u8, most: u8, what: &str) -> Result<u8, TypeError> {
        self.peek();
        let start = self.at;
        let number = self.word().parse::<u8>().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| {
            self.at = start;
            self.error(&format!("expected {what} from {least} to {most}"), None)
        })
    }

    fn binary(&mut self) -> Result<Type, TypeError> {
        if self.peek() != Some('(') {
            return Ok(Type::Binary(BinaryText::Base64));
        }
        self.at += 1;
        self.peek();
        let start = self.at;
        let text = match self.word() {
            "base64" => BinaryText::Base64,
            "hex" => BinaryText::Hex,
            "utf8" => BinaryText::Utf8,
            _ => {
                self.at = start;
                return Err(self.error("expected how bytes are written, one of base64, hex, utf8", None));
            }
        };
        self.expect(')')?;
        Ok(Type::Binary(text))
    }

    fn string(&mut self, otherwise: &str) -> Result<(), TypeError> {
        self.peek();
        let start = self.at;
        if self.word() == "string" {
            return Ok(());
        }
        self.at = start;
        Err(self.error(otherwise, None))
    }

    fn expect(&mut self, wanted: char) -> Result<(), TypeError> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            return Ok(());
        }
        Err(self.error(&format!("expected `{wanted}`"), None))
    }

    /// The next character that is not a blank, without taking it.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    /// Takes a word, or nothing.
    fn word(&mut self) -> &'a str {
        self.peek();
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn error(&self, message: &str, hint: Option<String>) -> TypeError {
        TypeError { message: message.to_owned(), hint, offset: self.at, text: self.text.to_owned() }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_offset(zone: &str) -> bool {
    let two = |text: Option<&str>, most: u8| {
        text.filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|text| text.parse::<u8>().ok())
            .is_some_and(|number| number <= most)
    };
    zone.len() == 6
        && zone.starts_with(['+', '-'])
        && two(zone.get(1..3), 23)
        && zone.get(3..4) == Some(":")
        && two(zone.get(4..6), 59)
}

/// What to write for a name that no type has.
fn hint(unknown: &str) -> String {
    let lower = unknown.to_ascii_lowercase();
    let ours = FOREIGN.iter().find(|(foreign, _)| *foreign == lower).map(|(_, ours)| *ours);
    match ours.or_else(|| nearest(unknown, NAMES)) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the types are {}", NAMES.map(|name| format!("`{name}`")).join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_one_canonical_text_that_reads_back() {
        for (written, canonical) in [
            ("string", "string"),
            (" string  not  null ", "string not null"),
            ("int", "int32"),
            ("long", "int64"),
            ("float", "float32"),
            ("double", "float64"),
            ("uint8", "uint8"),
            ("bool", "bool"),
            ("date", "date"),
            ("time(us)", "time(us)"),
            ("timestamp(ms)", "timestamp(ms)"),
            ("timestamp( us , UTC )", "timestamp(us)"),
            ("timestamp(us, none)", "timestamp(us, none)"),
            ("timestamp(s,Europe/Berlin)", "timestamp(s, Europe/Berlin)"),
            ("timestamp(ns, +02:00)", "timestamp(ns, +02:00)"),
            ("decimal( 76 , 10 )", "decimal(76,10)"),
            ("binary", "binary"),
            ("binary(base64)", "binary"),
            ("binary(hex)", "binary(hex)"),
            ("dictionary<string>", "dictionary<string>"),
            ("json", "json"),
            ("map<string , list<int not null>>", "map<string,list<int32 not null>>"),
            ("struct<a: int, \"b c\": string not null> not null", "struct<a:int32, \"b c\":string not null> not null"),
        ] {
            let data = parse(written).unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!(data.to_string(), canonical);
            assert_eq!(parse(canonical).unwrap(), data);
        }
    }

    #[test]
    fn a_wrong_type_names_the_place_and_the_nearest_right_word() {
        for (written, message) in [
            ("strng", "unknown type strng at offset 0 of \"strng\"\nhint: did you mean `string`?"),
            ("list<bigint>", "unknown type bigint at offset 5 of \"list<bigint>\"\nhint: did you mean `int64`?"),
            ("STRING", "unknown type STRING at offset 0 of \"STRING\"\nhint: did you mean `string`?"),
            ("intt", "unknown type intt at offset 0 of \"intt\"\nhint: did you mean `int`?"),
            ("", "expected a type such as `string`, `int64` or `list<string>` at offset 0 of \"\""),
            ("string!", "expected the end at offset 6 of \"string!\"\nhint: a required column is written `not null`"),
            ("string nul", "expected `not null` at offset 7 of \"string nul\""),
            ("decimal(77,2)", "expected a precision from 1 to 76 at offset 8 of \"decimal(77,2)\""),
            ("decimal(4,5)", "expected a scale from 0 to 4 at offset 10 of \"decimal(4,5)\""),
            ("decimal(4)", "expected `,` at offset 9 of \"decimal(4)\""),
            ("time(s)", "expected a unit, one of ms, us, ns at offset 5 of \"time(s)\""),
            ("list<string", "expected `>` at offset 11 of \"list<string\""),
            ("map<int,int>", "the keys of a map are strings: expected `string` at offset 4 of \"map<int,int>\""),
            ("struct<a:int, a:int>", "column a is there twice at offset 14 of \"struct<a:int, a:int>\""),
            ("struct<>", "expected a field name at offset 7 of \"struct<>\""),
        ] {
            assert_eq!(parse(written).unwrap_err().to_string(), message);
        }
        let zone = parse("timestamp(ms, Europe/Berlim)").unwrap_err().to_string();
        assert!(zone.starts_with("unknown time zone \"Europe/Berlim\" at offset 14"), "{zone}");
    }

    #[test]
    fn a_type_bomb_is_refused_before_the_stack_ends() {
        let bomb = "list<".repeat(100_000);
        assert!(parse(&bomb).unwrap_err().to_string().starts_with("types nest at most 16 deep at offset 80"));
    }
}
