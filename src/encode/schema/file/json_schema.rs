//! JSON Schema (drafts 4 to 2020-12): the properties of an object become the columns.
//!
//! | JSON Schema | ours |
//! |---|---|
//! | `required`, and not `null` among its types | `not null` |
//! | `integer`, `number` | `int64`, `float64`; OpenAPI's `format` `int32`, `float` narrows them |
//! | `string` | `string`; `format` `date-time` is `timestamp(us)`, `date` is `date` (`time` stays text: it has an offset) |
//! | `contentEncoding` `base64`, `base16` | `binary`, `binary(hex)` |
//! | `boolean`, `enum`, `const` | `bool`, and the type of the values |
//! | `array` with one `items` | `list` |
//! | `object` with `properties`; with only `additionalProperties` of a type | `struct`, `map` |
//! | `oneOf`, `anyOf`, `type` with several choices | their type, if all but `null` agree |
//! | everything else: choices that differ, tuples, free objects, a type within itself | `json` |

use super::tree::{Node, Value};
use super::{ANY, Column, Data, Type, Wrong, may_hold, may_nest, push};
use crate::encode::schema::{BinaryText, Unit};

/// How many references may lead to each other.
const REFS_MAX: usize = 32;

/// The columns of an object.
pub fn columns(root: &Node, wrongs: &mut Vec<Wrong>) -> Vec<Column> {
    let before = wrongs.len();
    let data = JsonSchema { root, wrongs, refs: Vec::new(), types: 0 }.data(root, 0);
    match data.kind {
        Type::Struct(columns) => columns,
        _ => {
            if wrongs.len() == before {
                let hint = "the columns of a table are the `properties` of the object that a record is";
                wrongs.push(Wrong::new(root.head(), "expected an object with `properties`").hint(hint));
            }
            Vec::new()
        }
    }
}

struct JsonSchema<'t, 'w> {
    root: &'t Node,
    wrongs: &'w mut Vec<Wrong>,
    /// The nodes that references led through to where we are.
    refs: Vec<*const Node>,
    /// Types so far.
    types: usize,
}

impl<'t> JsonSchema<'t, '_> {
    /// The type of a schema, and whether it takes null.
    fn data(&mut self, node: &'t Node, depth: usize) -> Data {
        self.types += 1;
        let span = node.head();
        if !may_nest(depth, &span, self.wrongs) || !may_hold(self.types, &span, self.wrongs) {
            return ANY;
        }
        match &node.value {
            Value::Map(_) => {}
            Value::Bool(_) => return ANY,
            _ => return self.wrong(node, "expected a schema, which is a map", None),
        }
        let data = if let Some(to) = node.get("$ref") {
            self.reference(to, depth)
        } else if let Some(choices) = node.get("oneOf").or(node.get("anyOf")).and_then(Node::items) {
            self.choices(choices, depth)
        } else if let Some([one]) = node.get("allOf").and_then(Node::items) {
            self.data(one, depth)
        } else if let Some(values) = node.get("enum").and_then(Node::items) {
            of_values(values.iter())
        } else if let Some(value) = node.get("const") {
            of_values(std::iter::once(value))
        } else {
            self.typed(node, depth)
        };
        Data { nullable: data.nullable || node.says("nullable"), ..data }
    }

    fn reference(&mut self, to: &'t Node, depth: usize) -> Data {
        let Some(pointer) = to.text().and_then(|text| text.strip_prefix('#')) else {
            let hint = "only references within the file are followed: `#/$defs/name`";
            return self.wrong(to, "a reference to elsewhere", Some(hint));
        };
        let mut node = self.root;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let item = step.parse::<usize>().ok().and_then(|at| node.items()?.get(at));
            match node.get(&step).or(item) {
                Some(found) => node = found,
                None => return self.wrong(to, &format!("the reference leads nowhere: no `{step}`"), None),
            }
        }
        if self.refs.len() >= REFS_MAX || self.refs.contains(&std::ptr::from_ref(node)) {
            return ANY;
        }
        self.refs.push(node);
        let data = self.data(node, depth);
        self.refs.pop();
        data
    }

    fn choices(&mut self, choices: &'t [Node], depth: usize) -> Data {
        let is_null = |choice: &&Node| choice.text_of("type") == Some("null");
        let nullable = choices.iter().any(|choice| is_null(&choice));
        let mut found: Option<Data> = None;
        for choice in choices.iter().filter(|choice| !is_null(choice)) {
            let data = self.data(choice, depth);
            found = Some(match found {
                Some(so_far) if so_far.kind == data.kind => Data { nullable: so_far.nullable || data.nullable, ..data },
                Some(so_far) => Data { kind: Type::Json, nullable: so_far.nullable || data.nullable },
                None => data,
            });
        }
        match found {
            Some(data) => Data { nullable: data.nullable || nullable, ..data },
            None => ANY,
        }
    }

    fn typed(&mut self, node: &'t Node, depth: usize) -> Data {
        let words: Vec<&str> = match node.get("type").map(|of| &of.value) {
            Some(Value::Text(word)) => vec![word],
            Some(Value::List(words)) => words.iter().filter_map(Node::text).collect(),
            _ if node.get("properties").is_some() => vec!["object"],
            _ => return ANY,
        };
        let nullable = words.contains(&"null");
        let others: Vec<&str> = words.into_iter().filter(|word| *word != "null").collect();
        let kind = match others.as_slice() {
            ["integer"] if node.text_of("format") == Some("int32") => Type::Int { signed: true, bits: 32 },
            ["integer"] => Type::Int { signed: true, bits: 64 },
            ["number"] if node.text_of("format") == Some("float") => Type::Float32,
            ["number"] | ["integer", "number"] | ["number", "integer"] => Type::Float64,
            ["boolean"] => Type::Bool,
            ["string"] => string(node),
            ["array"] => match node.get("items") {
                Some(items) if items.items().is_none() && node.get("prefixItems").is_none() => {
                    Type::List(Box::new(self.element(items, depth)))
                }
                None if node.get("prefixItems").is_none() => Type::List(Box::new(ANY)),
                _ => Type::Json,
            },
            ["object"] => self.object(node, depth),
            [] if nullable => Type::Json,
            [word] => {
                let hint = "the types are string, number, integer, boolean, array, object, null";
                let of = node.get("type").unwrap_or(node);
                self.wrong(of, &format!("unknown type {word}"), Some(hint)).kind
            }
            _ => Type::Json,
        };
        Data { kind, nullable }
    }

    fn object(&mut self, node: &'t Node, depth: usize) -> Type {
        let properties = node.get("properties").map(Node::members).unwrap_or_default();
        if properties.is_empty() {
            return match node.get("additionalProperties") {
                Some(values) if matches!(values.value, Value::Map(_)) => {
                    Type::Map(Box::new(self.element(values, depth)))
                }
                _ => Type::Json,
            };
        }
        let required: Vec<&str> =
            node.get("required").and_then(Node::items).unwrap_or_default().iter().filter_map(Node::text).collect();
        let mut columns = Vec::new();
        for property in properties {
            let data = self.data(&property.node, depth + 1);
            let nullable = data.nullable || !required.contains(&property.key.as_str());
            push(&mut columns, &property.key, &property.key_span, Data { nullable, ..data }, self.wrongs);
        }
        Type::Struct(columns)
    }

    /// An element of a list or map: any value includes null.
    fn element(&mut self, node: &'t Node, depth: usize) -> Data {
        self.data(node, depth + 1)
    }

    fn wrong(&mut self, node: &Node, message: &str, hint: Option<&str>) -> Data {
        let wrong = Wrong::new(node.head(), message);
        self.wrongs.push(Wrong { hint: hint.map(str::to_owned), ..wrong });
        ANY
    }
}

fn string(node: &Node) -> Type {
    match (node.text_of("format"), node.text_of("contentEncoding")) {
        (_, Some("base64")) => Type::Binary(BinaryText::Base64),
        (_, Some("base16")) => Type::Binary(BinaryText::Hex),
        (Some("date-time"), _) => Type::Timestamp(Unit::Micro, Some("UTC".into())),
        (Some("date"), _) => Type::Date,
        _ => Type::String,
    }
}

/// The type of values that are listed one by one.
fn of_values<'n>(values: impl Iterator<Item = &'n Node>) -> Data {
    let mut data: Option<Type> = None;
    let mut nullable = false;
    for value in values {
        let kind = match &value.value {
            Value::Null => {
                nullable = true;
                continue;
            }
            Value::Bool(_) => Type::Bool,
            Value::Number(text) if text.parse::<i64>().is_ok() => Type::Int { signed: true, bits: 64 },
            Value::Number(_) => Type::Float64,
            Value::Text(_) => Type::String,
            Value::List(_) | Value::Map(_) => Type::Json,
        };
        data = Some(match data {
            Some(so_far) if so_far != kind => Type::Json,
            _ => kind,
        });
    }
    Data { kind: data.unwrap_or(Type::Json), nullable }
}

#[cfg(test)]
mod tests {
    use crate::encode::schema::file::testing::*;

    /// The type of a lone property.
    fn of(schema: &str) -> String {
        let columns = columns(&format!(r#"{{"type":"object","properties":{{"c":{schema}}},"required":["c"]}}"#));
        columns[0].strip_prefix("c: ").unwrap().to_owned()
    }

    #[test]
    fn every_type_of_json_schema_means_what_it_meant() {
        for (schema, ours) in [
            (r#"{"type":"integer"}"#, "int64 not null"),
            (r#"{"type":"integer","format":"int32"}"#, "int32 not null"),
            (r#"{"type":["number","null"]}"#, "float64"),
            (r#"{"type":["integer","number"]}"#, "float64 not null"),
            (r#"{"type":["integer","string"]}"#, "json not null"),
            (r#"{"type":"boolean","nullable":true}"#, "bool"),
            (r#"{"type":"string","format":"date-time"}"#, "timestamp(us) not null"),
            (r#"{"type":["string","null"],"format":"date"}"#, "date"),
            (r#"{"type":"string","format":"time"}"#, "string not null"),
            (r#"{"type":"string","format":"email"}"#, "string not null"),
            (r#"{"type":"string","contentEncoding":"base64"}"#, "binary not null"),
            (r#"{"enum":["a","b",null]}"#, "string"),
            (r#"{"enum":[1,2]}"#, "int64 not null"),
            (r#"{"enum":[1,"a"]}"#, "json not null"),
            (r#"{"const":"click"}"#, "string not null"),
            (r#"{"type":"array","items":{"type":"string"}}"#, "list<string not null> not null"),
            (r#"{"type":"array","items":{"type":["string","null"]}}"#, "list<string> not null"),
            (r#"{"type":"array"}"#, "list<json> not null"),
            (r#"{"type":"array","prefixItems":[{"type":"string"}]}"#, "json not null"),
            (r#"{"type":"array","items":[{"type":"string"}]}"#, "json not null"),
            (r#"{"type":"object"}"#, "json not null"),
            (r#"{"type":"object","additionalProperties":{"type":"integer"}}"#, "map<string,int64 not null> not null"),
            (
                r#"{"properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"]}"#,
                "struct<a:int64 not null, b:string> not null",
            ),
            (r#"{"oneOf":[{"type":"null"},{"type":"integer"}]}"#, "int64"),
            (r#"{"anyOf":[{"type":"string"},{"type":"string","maxLength":3}]}"#, "string not null"),
            (r#"{"anyOf":[{"type":"string"},{"type":"integer"}]}"#, "json not null"),
            (r#"{"allOf":[{"type":"integer"}]}"#, "int64 not null"),
            ("true", "json"),
            ("{}", "json"),
        ] {
            assert_eq!(of(schema), ours, "{schema}");
        }
    }

    #[test]
    fn references_are_followed_within_the_file_and_a_type_within_itself_is_json() {
        let schema = r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$ref":"#/$defs/node","$defs":{
            "node":{"type":"object","properties":{"id":{"$ref":"#/$defs/id"},"next":{"$ref":"#/$defs/node"},
                "a/b":{"$ref":"#/definitions/a~1b"}},"required":["id","next"]},
            "id":{"type":"integer"}},"definitions":{"a/b":{"type":"string"}}}"##;
        assert_eq!(columns(schema), ["id: int64 not null", "next: json", "a/b: string"]);
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once_with_its_place() {
        let schema = r##"{"properties":{"a":{"type":"int"},"b":{"$ref":"other.json#/x"},"c":{"$ref":"#/$defs/no"},
            "d":7,"e":{"type":"array","items":{"type":"str"}},"":{"type":"string"}}}"##;
        let expected = [
            ("\"int\"", "unknown type int"),
            ("\"other.json#/x\"", "a reference to elsewhere"),
            ("\"#/$defs/no\"", "the reference leads nowhere: no `$defs`"),
            ("7", "expected a schema, which is a map"),
            ("\"str\"", "unknown type str"),
            ("\"\"", "a column name has 1 to 255 bytes, not 0"),
        ];
        assert_eq!(wrongs(schema), expected.map(|(at, what)| (at.to_owned(), what.to_owned())));
        let no_object = r#"{"$schema":"x","type":"array"}"#;
        assert_eq!(wrongs(no_object), [("{".into(), "expected an object with `properties`".into())]);
        let wide = |of: &str| {
            let properties: Vec<_> = (0..50).map(|n| format!(r#""p{n}":{{"$ref":"{of}"}}"#)).collect();
            format!(r#"{{"properties":{{{}}}}}"#, properties.join(","))
        };
        let defs: Vec<_> = (0..8).map(|n| format!(r#""d{n}":{}"#, wide(&format!("#/$defs/d{}", n + 1)))).collect();
        let bomb = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{},"d8":{{"type":"string"}}}}}}"##, defs.join(","));
        assert_eq!(wrongs(&bomb)[0].1, "a schema has at most 100000 types");
        let through_itself = r##"{"$ref":"#"}"##;
        assert_eq!(wrongs(through_itself)[0].1, "expected an object with `properties`");
    }
}
