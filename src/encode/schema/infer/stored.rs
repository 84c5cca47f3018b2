//! Columns as a format can store them: not every format takes every name and type.
//!
//! A column that was there before keeps its name, and stays as it was if it cannot be stored grown. A new one becomes JSON
//! if its type cannot be stored, and gets a plain name if its own cannot be, or is taken; its key stays (`user-id` is
//! read into `user_id`). Which name it gets depends on the columns only, and a version writes it down.

use std::collections::HashSet;

use crate::encode::json::REST_COLUMN;
use crate::encode::schema::{Column, Data, NAME_BYTES_MAX, Type};

/// The columns that can be stored, in their order; `old` are the first of them, as they were. One that cannot be stored
/// at all is left out, and its fields stay unknown.
pub fn storable(columns: Vec<Column>, old: &[Column], fits: impl Fn(&[Column]) -> bool) -> Vec<Column> {
    if fits(&columns) {
        return columns;
    }
    let one = |column: &Column| fits(std::slice::from_ref(column));
    let mut taken: HashSet<String> = columns.iter().map(|column| column.name.to_ascii_lowercase()).collect();
    taken.insert(REST_COLUMN.into());
    let mut stored: Vec<Column> = Vec::with_capacity(columns.len());
    let mut names: HashSet<String> = HashSet::with_capacity(columns.len());
    for (at, column) in columns.into_iter().enumerate() {
        let found = match old.get(at) {
            Some(before) => Some(if one(&column) { column } else { before.clone() }),
            None => {
                let json =
                    |column: &Column| Column { data: Data { kind: Type::Json, nullable: true }, ..column.clone() };
                let own = [json(&column), column.clone()].into_iter().rev();
                let found = own.filter(|column| !names.contains(&column.name)).find(one);
                found.or_else(|| {
                    let renamed = renamed(column, &mut taken);
                    [json(&renamed), renamed].into_iter().rev().find(one)
                })
            }
        };
        if let Some(column) = found {
            names.insert(column.name.clone());
            stored.push(column);
        }
    }
    stored
}

/// The column with a name that every format takes and no other column has, which is then taken.
fn renamed(column: Column, taken: &mut HashSet<String>) -> Column {
    let mut name: String = column
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(NAME_BYTES_MAX - 16)
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    let numbered = |count: usize| if count == 1 { name.clone() } else { format!("{name}_{count}") };
    let free = (1..).map(numbered).find(|name| taken.insert(name.to_ascii_lowercase()));
    let key = Some(column.key().to_owned());
    Column { name: free.unwrap_or(name), key, ..column }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::schema::Schema;

    fn stored(columns: &[(&str, &str)], old: &[Column]) -> Vec<(String, String, String)> {
        let new = columns.iter().map(|(name, kind)| Column::new(name, kind).unwrap());
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let fits = |columns: &[Column]| {
            let right =
                |column: &Column| plain(&column.name) && column.data.kind != Type::Date && column.name != "_rest";
            Schema::new(columns.to_vec()).is_ok() && columns.iter().all(right)
        };
        let stored = storable(old.iter().cloned().chain(new).collect(), old, fits);
        assert!(Schema::new(stored.clone()).is_ok(), "{stored:?}");
        stored.iter().map(|c| (c.name.clone(), c.key().to_owned(), c.data.to_string())).collect()
    }

    fn of(columns: &[(&str, &str)]) -> Vec<String> {
        let shown = |(name, key, kind)| {
            if name == key { format!("{name}: {kind}") } else { format!("{name} <- {key}: {kind}") }
        };
        stored(columns, &[]).into_iter().map(shown).collect()
    }

    #[test]
    fn a_column_gets_a_name_that_is_its_own_and_keeps_its_key() {
        assert_eq!(of(&[("a", "int64"), ("day", "date")]), ["a: int64", "day: json"]);
        assert_eq!(
            of(&[("user-id", "int64"), ("User_Id", "int64"), ("user id", "date"), ("-rest", "bool"), ("ü", "bool")]),
            [
                "user_id_2 <- user-id: int64",
                "User_Id: int64",
                "user_id_3 <- user id: json",
                "_rest_2 <- -rest: bool",
                "_ <- ü: bool"
            ]
        );
    }

    #[test]
    fn a_column_that_was_there_keeps_its_name_and_a_new_one_of_that_name_gets_another() {
        let old = [Column { key: Some("user-id".into()), ..Column::new("user_id", "int64").unwrap() }];
        let columns = stored(&[("user_id", "string")], &old);
        assert_eq!(columns[0].0, "user_id");
        assert_eq!(columns[1], ("user_id_2".to_owned(), "user_id".to_owned(), "string".to_owned()));
    }
}
