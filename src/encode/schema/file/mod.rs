//! Schemas from files that others keep: Parquet message text, JSON Schema, Avro, and the JSON of an AWS Glue table.
//!
//! What a file is, its content tells, not its name. The promise: what is read means in our types what it meant in theirs,
//! or is [`Type::Json`], which holds every value as it was written; what is neither is an error with its place.

mod avro;
mod glue;
mod json_schema;
mod message;
mod tree;

use std::ops::Range;

use super::{Column, Data, Schema, TYPE_DEPTH_MAX, Type};
use tree::{Node, Value};

/// The largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// The most types of one schema, counting those within: a name may stand for many, which stand for many.
pub const TYPES_MAX: usize = 100_000;

/// Something that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Which bytes; all of it if nothing can be said.
    pub span: Range<usize>,
    /// Lower case, the thing first.
    pub message: String,
    pub hint: Option<String>,
}

impl Wrong {
    fn new(span: Range<usize>, message: impl Into<String>) -> Wrong {
        Wrong { span, message: message.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Wrong {
        Wrong { hint: Some(hint.into()), ..self }
    }
}

/// The schema that a file describes, or everything that is wrong with it.
pub fn read(text: &str) -> Result<Schema, Vec<Wrong>> {
    let mut wrongs = Vec::new();
    let columns = match text.trim_start().chars().next() {
        Some('{' | '[') => match tree::parse(text) {
            Ok(root) => of_json(&root, &mut wrongs),
            Err(wrong) => return Err(vec![wrong]),
        },
        _ if text.trim_start().starts_with("message") => message::columns(text, &mut wrongs),
        _ => return Err(vec![unknown(0..text.len().min(1))]),
    };
    if !wrongs.is_empty() {
        return Err(wrongs);
    }
    Schema::new(columns).map_err(|why| vec![Wrong::new(0..text.len().min(1), why)])
}

fn of_json(root: &Node, wrongs: &mut Vec<Wrong>) -> Vec<Column> {
    if root.get("Table").or(root.get("StorageDescriptor")).is_some() {
        return glue::columns(root, wrongs);
    }
    let is = |key: &str, word: &str| root.get(key).is_some_and(|node| node.text() == Some(word));
    if is("type", "record") || root.get("fields").is_some() {
        return avro::columns(root, wrongs);
    }
    if ["properties", "$ref", "$schema", "$defs", "definitions"].iter().any(|key| root.get(key).is_some()) {
        return json_schema::columns(root, wrongs);
    }
    wrongs.push(match &root.value {
        Value::List(_) => unknown(root.head()).hint("of a list of Avro types, keep the record in a file of its own"),
        _ => unknown(root.head()),
    });
    Vec::new()
}

fn unknown(span: Range<usize>) -> Wrong {
    Wrong::new(span, "expected a schema, found something else").hint(
        "these are known: Parquet message text (`message m {`), JSON Schema (`properties`), an Avro record (`fields`), \
         the output of `aws glue get-table` (`Table`)",
    )
}

/// Whether types may nest this deep (the type of a column is 1); says so where they may not.
fn may_nest(depth: usize, span: &Range<usize>, wrongs: &mut Vec<Wrong>) -> bool {
    let may = depth <= TYPE_DEPTH_MAX;
    if !may {
        wrongs.push(Wrong::new(span.clone(), format!("types nest at most {TYPE_DEPTH_MAX} deep")));
    }
    may
}

/// Whether so many types may be in one schema; says so where it becomes too many.
fn may_hold(types: usize, span: &Range<usize>, wrongs: &mut Vec<Wrong>) -> bool {
    let may = types <= TYPES_MAX;
    if !may && !wrongs.iter().any(|wrong| wrong.message.starts_with("a schema has at most")) {
        wrongs.push(Wrong::new(span.clone(), format!("a schema has at most {TYPES_MAX} types")));
    }
    may
}

/// How many types a type is made of, and how deep they nest; 1 and 1 for a plain one.
fn extent(kind: &Type) -> (usize, usize) {
    let of = |inner: &Data| extent(&inner.kind);
    let (types, depth) = match kind {
        Type::List(inner) | Type::Map(inner) => of(inner),
        Type::Struct(columns) => {
            columns.iter().map(|column| of(&column.data)).fold((0, 0), |all, one| (all.0 + one.0, all.1.max(one.1)))
        }
        _ => (0, 0),
    };
    (types + 1, depth + 1)
}

/// Adds a column, or says why it cannot be one.
fn push(columns: &mut Vec<Column>, name: &str, span: &Range<usize>, data: Data, wrongs: &mut Vec<Wrong>) {
    if columns.iter().any(|column| column.name == name) {
        return wrongs.push(Wrong::new(span.clone(), format!("column {name} is there twice")));
    }
    match Column::of(name, data) {
        Ok(column) => columns.push(column),
        Err(why) => wrongs.push(Wrong::new(span.clone(), why)),
    }
}

/// Any value, or none: what stands in for a type that is wrong, and is the type of what has no other.
const ANY: Data = Data { kind: Type::Json, nullable: true };

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// The columns of a right file, as a pipeline file would have them.
    pub fn columns(text: &str) -> Vec<String> {
        let schema = read(text).unwrap_or_else(|wrongs| panic!("{wrongs:?}"));
        schema.columns().iter().map(|column| format!("{}: {}", column.name, column.data)).collect()
    }

    /// What is wrong with a file: the text at each place, and the words.
    pub fn wrongs(text: &str) -> Vec<(String, String)> {
        let wrongs = read(text).expect_err("it is wrong");
        wrongs.into_iter().map(|wrong| (text[wrong.span].to_owned(), wrong.message)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[test]
    fn what_is_no_schema_is_told_what_is_one() {
        for text in ["", "id,name\n", "{\"a\": 1}", "[{\"type\": \"record\"}]", "[]"] {
            let wrongs = read(text).unwrap_err();
            assert_eq!(wrongs.len(), 1, "{text}");
            assert_eq!(wrongs[0].message, "expected a schema, found something else", "{text}");
            assert!(wrongs[0].hint.is_some());
        }
    }

    #[test]
    fn no_json_is_told_where_it_ends_to_be_json() {
        let text = "{\"type\": \"record\",\n  \"fields\": [}";
        assert_eq!(wrongs(text), [("}".into(), "malformed JSON: expected value".into())]);
        assert_eq!(wrongs("{\"a\": ")[0].1, "malformed JSON: EOF while parsing a value");
        let deep = format!("{{\"properties\":{}", "[".repeat(100_000));
        assert_eq!(wrongs(&deep)[0].1, "malformed JSON: recursion limit exceeded");
    }
}
