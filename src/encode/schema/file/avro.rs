//! Avro schemas (`.avsc`, specification 1.12): a record's fields become the columns.
//!
//! | Avro | ours |
//! |---|---|
//! | `["null", T]` | T, nullable; everything else is `not null`, except a field with a `default`, which may be absent: it is null then, since defaults are not filled in |
//! | a union of several types, a record within itself | `json` |
//! | `int` `long` `float` `double` `boolean` `string` | `int32` `int64` `float32` `float64` `bool` `string` |
//! | `bytes`, `fixed` | `binary`: records carry it as base64 |
//! | `decimal`, `date`, `time-*`, `timestamp-*`, `local-timestamp-*` | the same; `local-` has no zone |
//! | `enum`, `uuid` | `string` |
//! | `array`, `map`, `record` | `list`, `map`, `struct` |

use std::collections::HashMap;

use super::tree::{Node, Value};
use super::{ANY, Column, Data, Type, Wrong, extent, may_hold, may_nest, push};
use crate::encode::schema::{BinaryText, Unit};

/// The columns of a record.
pub fn columns(root: &Node, wrongs: &mut Vec<Wrong>) -> Vec<Column> {
    if root.text_of("type") != Some("record") {
        let span = root.get("type").map_or(root.head(), Node::head);
        wrongs.push(Wrong::new(span, "expected an Avro record").hint("write `\"type\": \"record\"`"));
        return Vec::new();
    }
    match (Avro { named: HashMap::new(), types: 0, wrongs }).record(root, "", 0) {
        Type::Struct(columns) => columns,
        _ => Vec::new(),
    }
}

struct Avro<'w> {
    /// By full name; `None` while it is being defined.
    named: HashMap<String, Option<Type>>,
    /// Types so far.
    types: usize,
    wrongs: &'w mut Vec<Wrong>,
}

impl Avro<'_> {
    fn data(&mut self, node: &Node, namespace: &str, depth: usize) -> Data {
        if !may_nest(depth, &node.head(), self.wrongs) {
            return ANY;
        }
        match &node.value {
            Value::Text(name) => Data { kind: self.name(name, node, namespace, depth), nullable: false },
            Value::List(branches) => self.union(node, branches, namespace, depth),
            Value::Map(_) => Data { kind: self.definition(node, namespace, depth), nullable: false },
            _ => self.wrong(node, "expected an Avro type", "a type is a name, a list (a union) or a map with `type`"),
        }
    }

    fn union(&mut self, node: &Node, branches: &[Node], namespace: &str, depth: usize) -> Data {
        let is_null = |branch: &&Node| branch.text() == Some("null") || branch.text_of("type") == Some("null");
        let nullable = branches.iter().any(|branch| is_null(&branch));
        let others: Vec<&Node> = branches.iter().filter(|branch| !is_null(branch)).collect();
        match others.as_slice() {
            [] => self.wrong(node, "a union of nothing but null holds no value", "add a type to it"),
            [one] => Data { nullable, ..self.data(one, namespace, depth) },
            several => {
                // They may define names that are used later.
                several.iter().for_each(|branch| drop(self.data(branch, namespace, depth)));
                Data { kind: Type::Json, nullable }
            }
        }
    }

    fn name(&mut self, name: &str, node: &Node, namespace: &str, depth: usize) -> Type {
        if let Some(kind) = primitive(name) {
            return kind;
        }
        let known = self.named.get(&full_name(name, namespace)).or_else(|| self.named.get(name));
        match known {
            Some(Some(kind)) => {
                let (types, deep) = extent(kind);
                self.types += types;
                // What it nests too deep is told where it is used.
                let fits = may_nest(depth + deep - 1, &node.head(), self.wrongs)
                    && may_hold(self.types, &node.head(), self.wrongs);
                if fits { kind.clone() } else { ANY.kind }
            }
            Some(None) => Type::Json,
            None => {
                let hint = "a name is defined before it is used; the types of Avro are null, boolean, int, long, float, \
                            double, bytes, string, record, enum, array, map, fixed";
                self.wrong(node, &format!("unknown type {name}"), hint).kind
            }
        }
    }

    /// A map with `type`: a primitive, maybe with a logical type, or one of the complex types.
    fn definition(&mut self, node: &Node, namespace: &str, depth: usize) -> Type {
        let Some(of) = node.get("type") else {
            return self.wrong(node, "missing key `type`", "a type that is a map says what it is in `type`").kind;
        };
        let Some(word) = of.text() else { return self.data(of, namespace, depth).kind };
        if let Some(kind) = self.logical(node, word) {
            return kind;
        }
        let mut inner = |key: &str| match node.get(key) {
            Some(inner) => Box::new(self.data(inner, namespace, depth + 1)),
            None => Box::new(self.wrong(node, &format!("missing key `{key}`"), &format!("an {word} says of what"))),
        };
        match word {
            "array" => Type::List(inner("items")),
            "map" => Type::Map(inner("values")),
            "record" | "error" => self.record(node, namespace, depth),
            "enum" => self.define(node, namespace, Type::String),
            "fixed" => self.define(node, namespace, Type::Binary(BinaryText::Base64)),
            name => self.name(name, of, namespace, depth),
        }
    }

    fn logical(&mut self, node: &Node, word: &str) -> Option<Type> {
        let utc = || Some("UTC".into());
        Some(match (node.text_of("logicalType")?, word) {
            ("date", "int") => Type::Date,
            ("time-millis", "int") => Type::Time(Unit::Milli),
            ("time-micros", "long") => Type::Time(Unit::Micro),
            ("timestamp-millis", "long") => Type::Timestamp(Unit::Milli, utc()),
            ("timestamp-micros", "long") => Type::Timestamp(Unit::Micro, utc()),
            ("timestamp-nanos", "long") => Type::Timestamp(Unit::Nano, utc()),
            ("local-timestamp-millis", "long") => Type::Timestamp(Unit::Milli, None),
            ("local-timestamp-micros", "long") => Type::Timestamp(Unit::Micro, None),
            ("local-timestamp-nanos", "long") => Type::Timestamp(Unit::Nano, None),
            ("uuid", "string" | "fixed") => Type::String,
            ("decimal", "bytes" | "fixed") => {
                let scale = if node.get("scale").is_some() { node.number_of("scale") } else { Some(0) };
                match (node.number_of("precision"), scale) {
                    (Some(precision @ 1..=76), Some(scale)) if scale <= precision => Type::Decimal { precision, scale },
                    _ => {
                        let hint = "a decimal has a precision from 1 to 76, and a scale up to that";
                        self.wrong(node.get("precision").unwrap_or(node), "a decimal that cannot be stored", hint).kind
                    }
                }
            }
            // As the specification has it, a logical type that is not known, or is none of this type, is ignored.
            _ => return None,
        })
    }

    fn record(&mut self, node: &Node, namespace: &str, depth: usize) -> Type {
        let name = full_name(node.text_of("name").unwrap_or_default(), node.text_of("namespace").unwrap_or(namespace));
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        self.named.insert(name.clone(), None);
        let Some(fields) = node.get("fields").and_then(Node::items) else {
            return self.wrong(node, "missing key `fields`", "a record lists its fields in `fields`").kind;
        };
        let mut columns = Vec::new();
        for field in fields {
            let (Some(name), Some(of)) = (field.get("name"), field.get("type")) else {
                self.wrong(field, "a field without `name` or `type`", "a field is a map with both");
                continue;
            };
            let data = self.data(of, &namespace, depth + 1);
            let data = Data { nullable: data.nullable || field.get("default").is_some(), ..data };
            push(&mut columns, name.text().unwrap_or_default(), &name.head(), data, self.wrongs);
        }
        if columns.is_empty() && self.wrongs.is_empty() {
            return self.wrong(node, "a record without fields", "a record needs at least one field").kind;
        }
        let kind = Type::Struct(columns);
        self.named.insert(name, Some(kind.clone()));
        kind
    }

    fn define(&mut self, node: &Node, namespace: &str, kind: Type) -> Type {
        let namespace = node.text_of("namespace").unwrap_or(namespace);
        self.named.insert(full_name(node.text_of("name").unwrap_or_default(), namespace), Some(kind.clone()));
        kind
    }

    fn wrong(&mut self, node: &Node, message: &str, hint: &str) -> Data {
        self.wrongs.push(Wrong::new(node.head(), message).hint(hint));
        ANY
    }
}

fn primitive(name: &str) -> Option<Type> {
    let int = |bits| Type::Int { signed: true, bits };
    Some(match name {
        "boolean" => Type::Bool,
        "int" => int(32),
        "long" => int(64),
        "float" => Type::Float32,
        "double" => Type::Float64,
        "bytes" => Type::Binary(BinaryText::Base64),
        "string" => Type::String,
        _ => return None,
    })
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::encode::schema::file::testing::*;

    fn record(fields: &str) -> String {
        format!("{{\"type\":\"record\",\"name\":\"click\",\"namespace\":\"shop\",\"fields\":[{fields}]}}")
    }

    /// The type of a lone field.
    fn of(avro: &str) -> String {
        let columns = columns(&record(&format!("{{\"name\":\"c\",\"type\":{avro}}}")));
        columns[0].strip_prefix("c: ").unwrap().to_owned()
    }

    #[test]
    fn every_type_of_avro_means_what_it_meant() {
        for (avro, ours) in [
            (r#""boolean""#, "bool not null"),
            (r#""int""#, "int32 not null"),
            (r#"["null","long"]"#, "int64"),
            (r#"["double","null"]"#, "float64"),
            (r#"["string"]"#, "string not null"),
            (r#"["null","int","string"]"#, "json"),
            (r#"["int","string"]"#, "json not null"),
            (r#"{"type":"bytes"}"#, "binary not null"),
            (r#"{"type":"fixed","name":"md5","size":16}"#, "binary not null"),
            (r#"{"type":"enum","name":"suit","symbols":["A","B"]}"#, "string not null"),
            (r#"{"type":"array","items":["null","float"]}"#, "list<float32> not null"),
            (r#"{"type":"map","values":"long"}"#, "map<string,int64 not null> not null"),
            (r#"{"type":"int","logicalType":"date"}"#, "date not null"),
            (r#"{"type":"int","logicalType":"time-millis"}"#, "time(ms) not null"),
            (r#"{"type":"long","logicalType":"timestamp-millis"}"#, "timestamp(ms) not null"),
            (r#"["null",{"type":"long","logicalType":"timestamp-micros"}]"#, "timestamp(us)"),
            (r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, "timestamp(us, none) not null"),
            (r#"{"type":"string","logicalType":"uuid"}"#, "string not null"),
            (r#"{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}"#, "decimal(12,2) not null"),
            (
                r#"{"type":"fixed","name":"d","size":16,"logicalType":"decimal","precision":38}"#,
                "decimal(38,0) not null",
            ),
            (r#"{"type":"long","logicalType":"of-another-tool"}"#, "int64 not null"),
            (
                r#"{"type":"record","name":"pos","fields":[{"name":"x","type":"double"},{"name":"y","type":["null","double"],"default":null}]}"#,
                "struct<x:float64 not null, y:float64> not null",
            ),
        ] {
            assert_eq!(of(avro), ours, "{avro}");
        }
    }

    #[test]
    fn names_are_found_where_they_were_defined_and_a_record_within_itself_is_json() {
        let fields = r#"{"name":"from","type":{"type":"record","name":"place","fields":[{"name":"zip","type":"int"}]}},
            {"name":"to","type":["null","shop.place"]},{"name":"via","type":{"type":"array","items":"place"}},
            {"name":"parent","type":["null","click"]}"#;
        let expected = [
            "from: struct<zip:int32 not null> not null",
            "to: struct<zip:int32 not null>",
            "via: list<struct<zip:int32 not null> not null> not null",
            "parent: json",
        ];
        assert_eq!(columns(&record(fields)), expected);
    }

    #[test]
    fn a_field_with_a_default_may_be_absent() {
        assert_eq!(columns(&record(r#"{"name":"n","type":"int","default":0}"#)), ["n: int32"]);
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once_with_its_place() {
        let fields = r#"{"name":"a","type":"strng"},{"name":"b","type":{"type":"array"}},{"type":"int"},
            {"name":"c","type":{"type":"bytes","logicalType":"decimal","precision":99}},{"name":"d","type":["null"]},
            {"name":"e","type":"int"},{"name":"e","type":"int"},{"name":"","type":"int"}"#;
        let expected = [
            ("\"strng\"", "unknown type strng"),
            ("{", "missing key `items`"),
            ("{", "a field without `name` or `type`"),
            ("99", "a decimal that cannot be stored"),
            ("[", "a union of nothing but null holds no value"),
            ("\"e\"", "column e is there twice"),
            ("\"\"", "a column name has 1 to 255 bytes, not 0"),
        ];
        assert_eq!(wrongs(&record(fields)), expected.map(|(at, what)| (at.to_owned(), what.to_owned())));
        assert_eq!(wrongs(&record(""))[0].1, "a record without fields");
        assert_eq!(wrongs(r#"{"type":"enum","fields":[]}"#)[0], ("\"enum\"".into(), "expected an Avro record".into()));
        let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(40), "}".repeat(40));
        assert_eq!(wrongs(&record(&format!(r#"{{"name":"c","type":{deep}}}"#)))[0].1, "types nest at most 16 deep");
    }

    #[test]
    fn names_that_stand_for_many_are_no_bomb() {
        let record_of = |name: &str, of: &str, fields: usize| {
            let fields: Vec<_> = (0..fields).map(|n| format!(r#"{{"name":"f{n}","type":{of}}}"#)).collect();
            format!(r#"{{"type":"record","name":"{name}","fields":[{}]}}"#, fields.join(","))
        };
        let field = |n: usize, of: &str| format!(r#"{{"name":"c{n}","type":{of}}}"#);
        let wide = |n: usize| match n {
            0 => record_of("r0", "\"int\"", 20),
            n => record_of(&format!("r{n}"), &format!("\"r{}\"", n - 1), 20),
        };
        let fields: Vec<_> = (0..12).map(|n| field(n, &wide(n))).collect();
        let said = wrongs(&record(&fields.join(",")));
        assert_eq!(said, [("\"r2\"".to_owned(), "a schema has at most 100000 types".to_owned())]);
        let nested = |n: usize| match n {
            0 => record_of("r0", "\"int\"", 1),
            n => record_of(&format!("r{n}"), &format!("\"r{}\"", n - 1), 1),
        };
        let fields: Vec<_> = (0..20).map(|n| field(n, &nested(n))).collect();
        assert_eq!(wrongs(&record(&fields.join(",")))[0].1, "types nest at most 16 deep");
    }
}
