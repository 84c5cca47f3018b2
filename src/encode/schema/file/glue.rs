//! AWS Glue tables, as `aws glue get-table` prints them: the columns of the storage, with the types of Hive.
//!
//! Partition keys are no columns of the files: they are the prefix. All columns are nullable. A mapping of the OpenX SerDe
//! (`mapping.user_id: user-id`) is the key a column is read from. Hive's `timestamp` becomes `timestamp(us)`.

use std::ops::Range;

use super::tree::{Member, Node};
use super::{ANY, Column, Data, Type, Wrong, may_nest, push};
use crate::encode::schema::{BinaryText, Unit};

/// The columns of a table.
pub fn columns(root: &Node, wrongs: &mut Vec<Wrong>) -> Vec<Column> {
    let storage = root.get("Table").unwrap_or(root).get("StorageDescriptor");
    let Some(listed) = storage.and_then(|storage| storage.get("Columns")).and_then(Node::items) else {
        let hint = "the output of `aws glue get-table` has `Table.StorageDescriptor.Columns`";
        wrongs.push(Wrong::new(root.head(), "a table without columns").hint(hint));
        return Vec::new();
    };
    let mut columns = Vec::new();
    for column in listed {
        let (Some(name), Some(of)) = (column.get("Name"), column.get("Type")) else {
            wrongs.push(Wrong::new(column.head(), "a column without `Name` or `Type`"));
            continue;
        };
        let text = of.text().unwrap_or_default();
        // Where the text stands in the file as it is, a place within it can be told.
        let as_it_is = of.span.len() == text.len() + 2;
        let place = |at: usize| match as_it_is && at < text.len() {
            true => of.span.start + 1 + at..of.span.end - 1,
            false => of.span.clone(),
        };
        let kind = Hive { text, at: 0, place: &place, wrongs }.whole();
        push(&mut columns, name.text().unwrap_or_default(), &name.head(), Data { kind, nullable: true }, wrongs);
    }
    let parameters = storage.and_then(|storage| storage.get("SerdeInfo")?.get("Parameters"));
    for Member { key, node, .. } in parameters.map(Node::members).unwrap_or_default() {
        let column = columns.iter_mut().find(|column| key.strip_prefix("mapping.") == Some(&column.name));
        if let Some((column, key)) = column.zip(node.text()) {
            column.key = Some(key.to_owned());
        }
    }
    columns
}

/// Reads a type of Hive, such as `array<struct<sku:string,price:decimal(10,2)>>`.
struct Hive<'t, 'w> {
    text: &'t str,
    at: usize,
    /// The bytes of the file at a byte of the text.
    place: &'t dyn Fn(usize) -> Range<usize>,
    wrongs: &'w mut Vec<Wrong>,
}

/// What is wrong is noted, and this type with it.
type Noted<T> = Result<T, ()>;

impl Hive<'_, '_> {
    fn whole(mut self) -> Type {
        match self.kind(1) {
            Ok(kind) if self.peek().is_none() => kind,
            Ok(_) => {
                self.wrong("expected the end of the type", None);
                ANY.kind
            }
            Err(()) => ANY.kind,
        }
    }

    fn kind(&mut self, depth: usize) -> Noted<Type> {
        if !may_nest(depth, &(self.place)(self.at), self.wrongs) {
            return Err(());
        }
        self.peek();
        let start = self.at;
        let name = self.word(|c| c.is_alphanumeric() || c == '_').to_ascii_lowercase();
        let int = |bits| Ok(Type::Int { signed: true, bits });
        match name.as_str() {
            "string" => Ok(Type::String),
            "varchar" | "char" => self.numbers().map(|_| Type::String),
            "boolean" => Ok(Type::Bool),
            "tinyint" => int(8),
            "smallint" => int(16),
            "int" | "integer" => int(32),
            "bigint" => int(64),
            "float" | "real" => Ok(Type::Float32),
            "double" => Ok(Type::Float64),
            "date" => Ok(Type::Date),
            "timestamp" => Ok(Type::Timestamp(Unit::Micro, Some("UTC".into()))),
            "binary" => Ok(Type::Binary(BinaryText::Base64)),
            "decimal" | "numeric" => self.decimal(start),
            "array" => {
                self.expect('<')?;
                let element = self.nullable(depth)?;
                self.expect('>')?;
                Ok(Type::List(element))
            }
            "map" => {
                self.expect('<')?;
                let key = self.at;
                if self.kind(depth + 1)? != Type::String {
                    self.at = key;
                    return self.fail("the keys of a map in JSON are strings", Some("make it `map<string,..>`"));
                }
                self.expect(',')?;
                let value = self.nullable(depth)?;
                self.expect('>')?;
                Ok(Type::Map(value))
            }
            "struct" => self.structure(depth),
            _ => {
                self.at = start;
                let hint = "the types of Hive are string, varchar, char, boolean, tinyint, smallint, int, bigint, float, \
                            double, decimal, date, timestamp, binary, array, map, struct";
                self.fail(&format!("unknown type {name}"), Some(hint))
            }
        }
    }

    fn nullable(&mut self, depth: usize) -> Noted<Box<Data>> {
        Ok(Box::new(Data { kind: self.kind(depth + 1)?, nullable: true }))
    }

    fn structure(&mut self, depth: usize) -> Noted<Type> {
        self.expect('<')?;
        let mut columns = Vec::new();
        loop {
            self.peek();
            let start = self.at;
            let name = self.word(|c| !matches!(c, ':' | ',' | '<' | '>')).trim().to_owned();
            self.expect(':')?;
            let data = Data { kind: self.kind(depth + 1)?, nullable: true };
            let before = self.wrongs.len();
            push(&mut columns, &name, &(self.place)(start), data, self.wrongs);
            if self.wrongs.len() > before {
                return Err(());
            }
            match self.peek() {
                Some(',') => self.at += 1,
                _ => break,
            }
        }
        self.expect('>')?;
        Ok(Type::Struct(columns))
    }

    fn decimal(&mut self, start: usize) -> Noted<Type> {
        let numbers = self.numbers()?;
        let of = |at: usize, otherwise: u8| numbers.get(at).copied().unwrap_or(otherwise);
        let (precision, scale) = (of(0, 10), of(1, 0));
        if precision == 0 || precision > 76 || scale > precision {
            self.at = start;
            return self.fail("a decimal that cannot be stored", Some("a decimal has a precision from 1 to 38"));
        }
        Ok(Type::Decimal { precision, scale })
    }

    /// `(12,2)`, or nothing.
    fn numbers(&mut self) -> Noted<Vec<u8>> {
        let mut numbers = Vec::new();
        if self.peek() != Some('(') {
            return Ok(numbers);
        }
        loop {
            self.at += 1;
            self.peek();
            // A length, of a varchar, may be larger.
            match self.word(|c| c.is_ascii_digit()).parse::<u32>() {
                Ok(number) => numbers.push(u8::try_from(number).unwrap_or(u8::MAX)),
                Err(_) => return self.fail("expected a number", None),
            }
            match self.peek() {
                Some(',') => {}
                _ => break,
            }
        }
        self.expect(')')?;
        Ok(numbers)
    }

    fn expect(&mut self, wanted: char) -> Noted<()> {
        match self.peek() == Some(wanted) {
            true => {
                self.at += 1;
                Ok(())
            }
            false => self.fail(&format!("expected `{wanted}`"), None),
        }
    }

    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn word(&mut self, of: impl Fn(char) -> bool) -> &str {
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find(|c| !of(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn fail<T>(&mut self, message: &str, hint: Option<&str>) -> Noted<T> {
        self.wrong(message, hint);
        Err(())
    }

    fn wrong(&mut self, message: &str, hint: Option<&str>) {
        let wrong = Wrong::new((self.place)(self.at), message);
        self.wrongs.push(Wrong { hint: hint.map(str::to_owned), ..wrong });
    }
}

#[cfg(test)]
mod tests {
    use crate::encode::schema::file::{read, testing::*};

    fn table(columns: &[(&str, &str)]) -> String {
        let columns: Vec<_> =
            columns.iter().map(|(name, hive)| format!("{{\"Name\": \"{name}\", \"Type\": \"{hive}\"}}")).collect();
        format!(
            "{{\"Table\": {{\"Name\": \"clicks\", \"StorageDescriptor\": {{\"Columns\": [{}], \"SerdeInfo\": {{\"Parameters\": \
             {{\"mapping.user_id\": \"user-id\"}}}}}}, \"PartitionKeys\": [{{\"Name\": \"dt\", \"Type\": \"date\"}}]}}}}",
            columns.join(", ")
        )
    }

    #[test]
    fn every_type_of_hive_means_what_it_meant() {
        for (hive, ours) in [
            ("string", "string"),
            ("varchar(65535)", "string"),
            ("char(3)", "string"),
            ("BIGINT", "int64"),
            ("tinyint", "int8"),
            ("int", "int32"),
            ("boolean", "bool"),
            ("float", "float32"),
            ("double", "float64"),
            ("decimal", "decimal(10,0)"),
            ("decimal(10,2)", "decimal(10,2)"),
            ("decimal( 38 )", "decimal(38,0)"),
            ("date", "date"),
            ("timestamp", "timestamp(us)"),
            ("binary", "binary"),
            ("array<struct<sku:string,price:decimal(10,2)>>", "list<struct<sku:string, price:decimal(10,2)>>"),
            (
                "struct<a:int,b:array<string>,c d:map<string,double>>",
                "struct<a:int32, b:list<string>, \"c d\":map<string,float64>>",
            ),
        ] {
            assert_eq!(columns(&table(&[("c", hive)])), [format!("c: {ours}")], "{hive}");
        }
    }

    #[test]
    fn partition_keys_are_no_columns_and_mappings_are_keys() {
        let schema = read(&table(&[("user_id", "string"), ("n", "int")])).unwrap();
        let keys: Vec<_> = schema.columns().iter().map(|column| (column.name.as_str(), column.key())).collect();
        assert_eq!(keys, [("user_id", "user-id"), ("n", "n")]);
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once_with_its_place() {
        let text = table(&[
            ("a", "strin"),
            ("b", "array<map<int,int>>"),
            ("c", "struct<x:int,x:int>"),
            ("d", "decimal(10"),
            ("e", "decimal(99)"),
            ("f", "int int"),
            ("a", "int"),
        ]);
        let expected = [
            ("strin", "unknown type strin"),
            ("int,int>>", "the keys of a map in JSON are strings"),
            ("x:int>", "column x is there twice"),
            ("\"decimal(10\"", "expected `)`"),
            ("decimal(99)", "a decimal that cannot be stored"),
            ("int", "expected the end of the type"),
            ("\"a\"", "column a is there twice"),
        ];
        assert_eq!(wrongs(&text), expected.map(|(at, what)| (at.to_owned(), what.to_owned())));
        assert_eq!(wrongs("{\"Table\": {}}")[0].1, "a table without columns");
        let deep = format!("{}int{}", "array<".repeat(1000), ">".repeat(1000));
        assert_eq!(wrongs(&table(&[("c", &deep)]))[0].1, "types nest at most 16 deep");
    }
}
