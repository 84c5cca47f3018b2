//! How a schema grows: a new column, a new field of a struct, whole numbers that turn out to have fractions. Nothing else.

use std::collections::HashMap;

use super::shape::{Fields, KEYS_MAX, Shape, kind};
use super::{COLUMNS_MAX, LEAVES_MAX, NEW_FIELD_SIGHTINGS, TEXT_BYTES_MAX};
use crate::encode::schema::{Column, Data, Type};

/// What may change.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    /// Whether fields that were seen often enough become columns.
    pub new_fields: bool,
    pub case_insensitive: bool,
}

impl Growth {
    /// The columns with what was seen since, and each change in words; no changes: nothing to do.
    pub fn of(self, columns: &[Column], seen: &Fields) -> (Vec<Column>, Vec<String>) {
        let mut changes = Vec::new();
        let mut room = LEAVES_MAX.saturating_sub(leaves(columns));
        let grown = self.columns(columns, seen, "", COLUMNS_MAX, &mut room, &mut changes);
        if self.new_fields && text_bytes(&grown) > TEXT_BYTES_MAX {
            return Growth { new_fields: false, ..self }.of(columns, seen);
        }
        (grown, changes)
    }

    fn columns(
        self,
        columns: &[Column],
        seen: &Fields,
        path: &str,
        most: usize,
        room: &mut usize,
        changes: &mut Vec<String>,
    ) -> Vec<Column> {
        let folded = |key: &str| if self.case_insensitive { key.to_ascii_lowercase() } else { key.to_owned() };
        let known: HashMap<String, usize> =
            columns.iter().enumerate().map(|(at, column)| (folded(column.key()), at)).collect();
        let mut grown = columns.to_vec();
        for (key, shape) in seen.iter() {
            let at = known.get(&folded(key));
            if let Some(column) = at.and_then(|at| grown.get_mut(*at)) {
                let path = format!("{path}{}", column.name);
                column.data = self.data(&column.data, shape, &path, room, changes);
            }
        }
        for (key, shape) in seen.iter().filter(|(_, shape)| shape.sightings >= NEW_FIELD_SIGHTINGS) {
            let new = self.new_fields && grown.len() < most && !known.contains_key(&folded(key));
            let column = shape.data(false).filter(|_| new).and_then(|data| Column::of(key, data).ok());
            let needs = column.as_ref().map_or(0, |column| leaves(std::slice::from_ref(column)));
            if let Some(column) = column.filter(|_| needs <= *room) {
                *room -= needs;
                changes.push(format!("new column {path}{}: {}", column.name, column.data));
                grown.push(column);
            }
        }
        grown
    }

    fn data(self, data: &Data, seen: &Shape, path: &str, room: &mut usize, changes: &mut Vec<String>) -> Data {
        let kind = match &data.kind {
            Type::Int { signed: true, bits: 64 } if seen.has(kind::FLOAT) && !seen.has(kind::BIG) => {
                changes.push(format!("column {path}: int64 is now float64"));
                Type::Float64
            }
            Type::Struct(columns) => match seen.structure() {
                Some(fields) => {
                    Type::Struct(self.columns(columns, fields, &format!("{path}."), KEYS_MAX, room, changes))
                }
                None => data.kind.clone(),
            },
            Type::List(element) => match seen.elements() {
                Some(elements) => {
                    Type::List(Box::new(self.data(element, elements, &format!("{path}[]"), room, changes)))
                }
                None => data.kind.clone(),
            },
            other => other.clone(),
        };
        Data { kind, nullable: data.nullable }
    }
}

/// The columns that a file has of these, counting those within.
pub fn leaves(columns: &[Column]) -> usize {
    fn of(kind: &Type) -> usize {
        match kind {
            Type::Struct(columns) => leaves(columns),
            Type::List(element) => of(&element.kind),
            Type::Map(value) => 1 + of(&value.kind),
            _ => 1,
        }
    }
    columns.iter().map(|column| of(&column.data.kind)).sum()
}

/// Bytes of the names and types of these columns, as text.
fn text_bytes(columns: &[Column]) -> usize {
    columns.iter().map(|column| column.name.len() + column.data.to_string().len()).sum()
}

/// Makes JSON of the largest columns until there are at most [`LEAVES_MAX`], and [`TEXT_BYTES_MAX`] of text.
pub fn trim(columns: &mut [Column]) {
    trim_to(columns, LEAVES_MAX, leaves);
    trim_to(columns, TEXT_BYTES_MAX, text_bytes);
}

fn trim_to(columns: &mut [Column], most: usize, size: impl Fn(&[Column]) -> usize) {
    let mut total = size(columns);
    let mut sizes: Vec<(usize, usize)> = columns.iter().map(|one| size(std::slice::from_ref(one))).zip(0..).collect();
    sizes.sort_unstable();
    for (bytes, at) in sizes.into_iter().rev() {
        if total <= most {
            return;
        }
        columns[at].data.kind = Type::Json;
        total = total - bytes + size(std::slice::from_ref(&columns[at]));
    }
}

#[cfg(test)]
mod tests {
    use super::super::look;
    use super::super::shape::Limits;
    use super::*;

    fn limits() -> Limits {
        Limits { case_insensitive: true, room: 100_000, news: false }
    }

    /// What a schema becomes when each of these records was seen so often.
    fn grown(schema: &[(&str, &str)], times: u32, records: &[&str]) -> (Vec<String>, Vec<String>) {
        let columns: Vec<_> = schema.iter().map(|(name, kind)| Column::new(name, kind).unwrap()).collect();
        let (mut seen, mut limits) = (Fields::default(), limits());
        for record in records {
            for _ in 0..times {
                look::record(record.as_bytes(), &mut seen, 1000, |_| false, &mut limits);
            }
        }
        let (grown, changes) = Growth { new_fields: true, case_insensitive: true }.of(&columns, &seen);
        (grown.iter().map(|column| format!("{}: {}", column.name, column.data)).collect(), changes)
    }

    #[test]
    fn a_field_that_is_seen_often_becomes_a_column_at_the_end() {
        let schema = [("id", "int64"), ("ctx", "struct<a:int64>")];
        let record = r#"{"plan":"pro","ID":7,"ctx":{"A":1,"b":[{"c":true}]},"no":null}"#;
        let (columns, changes) = grown(&schema, NEW_FIELD_SIGHTINGS, &[record]);
        assert_eq!(columns, ["id: int64", "ctx: struct<a:int64, b:list<struct<c:bool>>>", "plan: string"]);
        assert_eq!(changes, ["new column ctx.b: list<struct<c:bool>>", "new column plan: string"]);
        assert_eq!(grown(&schema, NEW_FIELD_SIGHTINGS - 1, &[record]).1, [] as [&str; 0]);
    }

    #[test]
    fn whole_numbers_become_floats_wherever_they_are_and_nothing_else_changes_its_type() {
        let schema = [
            ("n", "int64"),
            ("l", "list<struct<x:int64>>"),
            ("s", "string"),
            ("t", "timestamp(us)"),
            ("f", "float64"),
            ("j", "json"),
        ];
        let records = [
            r#"{"n":1.5,"l":[{"x":2.5}],"s":1,"t":"tomorrow","f":1,"j":{"new":1}}"#,
            r#"{"n":"text","l":7,"s":{"a":1},"t":true,"f":"x"}"#,
        ];
        let (columns, changes) = grown(&schema, 100, &records);
        let expected =
            ["n: float64", "l: list<struct<x:float64>>", "s: string", "t: timestamp(us)", "f: float64", "j: json"];
        assert_eq!(columns, expected);
        assert_eq!(changes, ["column n: int64 is now float64", "column l[].x: int64 is now float64"]);
    }

    #[test]
    fn whole_numbers_that_a_float_would_round_stay_whole() {
        let records = [r#"{"n":9007199254740993}"#, r#"{"n":0.5}"#];
        assert_eq!(grown(&[("n", "int64")], 1, &records).1, [] as [&str; 0]);
    }

    #[test]
    fn more_columns_than_a_file_should_have_become_json() {
        let text = format!("struct<{}>", (0..200).map(|n| format!("f{n}:int64")).collect::<Vec<_>>().join(","));
        let mut columns: Vec<_> = (0..30).map(|n| Column::new(&format!("c{n}"), &text).unwrap()).collect();
        columns.push(Column::new("small", "int64").unwrap());
        trim(&mut columns);
        assert!(leaves(&columns) <= LEAVES_MAX);
        assert_eq!(columns.last().unwrap().data.to_string(), "int64");
        assert!(columns.iter().any(|column| matches!(column.data.kind, Type::Struct(_))), "no more than needed");
    }

    #[test]
    fn names_too_long_for_a_version_become_json_and_do_not_grow() {
        let text = |fields: usize| {
            let fields: Vec<_> = (0..fields).map(|n| format!("{}{n:03}:int64", "n".repeat(200))).collect();
            (0..8)
                .fold(format!("struct<{}>", fields.join(",")), |text, _| format!("struct<{}:{text}>", "p".repeat(250)))
        };
        let mut columns: Vec<_> = (0..400).map(|n| Column::new(&format!("c{n}"), &text(50)).unwrap()).collect();
        columns.push(Column::new("small", "int64").unwrap());
        trim_to(&mut columns, TEXT_BYTES_MAX, text_bytes);
        assert!(text_bytes(&columns) <= TEXT_BYTES_MAX);
        assert_eq!(columns.last().unwrap().data.to_string(), "int64");
        assert!(columns.iter().any(|column| matches!(column.data.kind, Type::Struct(_))), "no more than needed");

        let (mut seen, mut limits) = (Fields::default(), limits());
        let record: Vec<_> = (0..100).map(|n| format!("\"{}{n:03}\":1", "k".repeat(250))).collect();
        let record = format!("{{\"small\":0.5,{}}}", record.join(","));
        for _ in 0..NEW_FIELD_SIGHTINGS {
            look::record(record.as_bytes(), &mut seen, 1000, |_| false, &mut limits);
        }
        let growth = Growth { new_fields: true, case_insensitive: true };
        assert_eq!(growth.of(&columns, &seen).1, ["column small: int64 is now float64"]);
    }
}
