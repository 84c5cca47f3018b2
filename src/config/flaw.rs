//! What a type finds wrong with a node, before it is put into words for people (see [`super::read`]).

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::tree::{NodeId, shown};

/// What went wrong, and at which node.
#[derive(Debug)]
pub(super) struct Error {
    pub at: Option<At>,
    pub what: What,
}

/// A node, or the key of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub node: NodeId,
    pub key: bool,
}

/// What went wrong.
#[derive(Debug)]
pub(super) enum What {
    UnknownKey {
        found: String,
        expected: &'static [&'static str],
    },
    MissingKey {
        key: String,
    },
    /// No, an unknown, or more than one of the words of the choice `of` (the name of a Rust enum).
    WrongChoice {
        found: Vec<String>,
        expected: &'static [&'static str],
        of: &'static str,
    },
    /// What stands there is of another type; the node says what it is.
    WrongType {
        expected: String,
    },
    /// The type's own words.
    Custom(String),
}

impl Error {
    /// An error that has no place yet: the innermost node that it passes becomes it.
    pub fn new(what: What) -> Error {
        Error { at: None, what }
    }

    /// Names a node in an error that names none.
    pub fn or_at(mut self, node: NodeId, key: bool) -> Error {
        self.at.get_or_insert(At { node, key });
        self
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error::new(What::Custom(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error::new(What::WrongType { expected: in_words(expected) })
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error::new(What::WrongType { expected: in_words(expected) })
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Error {
        Error::new(What::WrongChoice { found: vec![found.to_owned()], expected, of: "" })
    }

    fn unknown_field(found: &str, expected: &'static [&'static str]) -> Error {
        Error::new(What::UnknownKey { found: found.to_owned(), expected })
    }

    fn missing_field(key: &'static str) -> Error {
        Error::new(What::MissingKey { key: key.to_owned() })
    }
}

/// What serde's own types expect, in words for people.
pub(super) fn in_words(expected: &dyn Expected) -> String {
    let words = expected.to_string();
    let range = |max: u64| format!("a whole number from 0 to {max}");
    match words.as_str() {
        "a string" | "string" | "a character" => "a text".into(),
        "a boolean" => "`true` or `false`".into(),
        "u8" => range(u8::MAX.into()),
        "u16" => range(u16::MAX.into()),
        "u32" => range(u32::MAX.into()),
        "u64" | "usize" => range(u64::MAX),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a sequence" => "a list".into(),
        _ => words,
    }
}

/// `` `a`, `b`, `c` ``
pub(super) fn listed(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| format!("`{}`", shown(word.as_ref()))).collect::<Vec<_>>().join(", ")
}
