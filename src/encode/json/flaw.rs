//! Why a record is no row: what is malformed and where, or which column wanted what and what stood there.

use super::scan::Scanner;
use crate::error::{Reason, RejectedBy};

/// The most characters of a value that a message shows.
pub const SHOWN_CHARS_MAX: usize = 60;

/// A step that may find a flaw. Boxed, so that success costs a register.
pub type Found<T> = Result<T, Box<Flaw>>;

/// What is wrong with a record.
#[derive(Debug)]
pub enum Flaw {
    /// It is not JSON from this byte on.
    Malformed { at: usize, what: &'static str },
    /// It is not one object.
    NotOneObject { at: usize },
    /// The value at this byte does not fit its column.
    Conflict { at: usize, path: String, expected: String, why: &'static str },
    /// A required column has no value.
    Missing { path: String, expected: String },
    /// Elements and entries take more cells than a record may.
    TooManyCells { path: String, most: usize },
    /// A key that no column has, under `on_unknown: reject`.
    Unknown { at: usize, path: String },
}

impl Flaw {
    /// The same flaw, in the member or element `step` of what holds it (`[3]` for an element).
    pub fn within(mut self: Box<Self>, step: &str) -> Box<Flaw> {
        if let Flaw::Conflict { path, .. }
        | Flaw::Missing { path, .. }
        | Flaw::TooManyCells { path, .. }
        | Flaw::Unknown { path, .. } = &mut *self
        {
            let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            *path = format!("{step}{dot}{path}");
        }
        self
    }

    /// The reason as it stands in the error object; the codes are Firehose's.
    pub fn reason(self, record: &[u8]) -> Reason {
        let shown = |at: usize| shown(record, at);
        let malformed = |at: usize, what: &str| {
            let there = match record.get(at) {
                None => "the end of the record".to_owned(),
                Some(byte) if byte.is_ascii_graphic() => format!("`{}`", char::from(*byte)),
                Some(byte) => format!("byte 0x{byte:02x}"),
            };
            format!("malformed JSON at byte {at}: {what}, found {there}")
        };
        let (code, message) = match self {
            Flaw::Malformed { at, what } => (PARSE_ERROR, malformed(at, what)),
            Flaw::NotOneObject { .. } if record.trim_ascii().is_empty() => {
                (PARSE_ERROR, "malformed JSON at byte 0: expected an object, found an empty record".to_owned())
            }
            Flaw::NotOneObject { at } => {
                (MALFORMED_DATA, format!("byte {at}: expected a record of one JSON object, found {}", shown(at)))
            }
            Flaw::Conflict { at, path, expected, why } => {
                let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
                (MALFORMED_DATA, format!("column {path}: expected {expected}, found {}{why}", shown(at)))
            }
            Flaw::Missing { path, expected } => {
                (MALFORMED_DATA, format!("column {path}: expected {expected} not null, found no such field"))
            }
            Flaw::TooManyCells { path, most } => (
                MALFORMED_DATA,
                format!(
                    "column {path}: expected a record whose lists and maps take at most {most} cells, found more (a field that is missing takes one too)"
                ),
            ),
            Flaw::Unknown { at, path } => (
                MALFORMED_DATA,
                format!("field {}: expected a field that the schema declares, found {}", cut(&path), shown(at)),
            ),
        };
        Reason { by: RejectedBy::Format, code, message }
    }
}

/// Firehose's code for what is not JSON.
pub const PARSE_ERROR: &str = "DataFormatConversion.ParseError";
/// Firehose's code for JSON that does not fit the schema.
pub const MALFORMED_DATA: &str = "DataFormatConversion.MalformedData";

/// The value at `at`, with its kind, shortened and without control characters: `string "oops"`.
fn shown(record: &[u8], at: usize) -> String {
    let mut scanner = Scanner::new(record);
    scanner.at = at;
    let value = match scanner.skip(0) {
        Ok(value) => value,
        Err(_) => record.get(at..).unwrap_or_default(),
    };
    let kind = match value.first() {
        Some(b'{') => "object ",
        Some(b'[') => "array ",
        Some(b'"') => "string ",
        Some(b'-' | b'0'..=b'9') => "number ",
        Some(b't' | b'f') => "boolean ",
        _ => "",
    };
    let end = value.len().min(4 * (SHOWN_CHARS_MAX + 1));
    format!("{kind}{}", cut(&String::from_utf8_lossy(&value[..end])))
}

fn cut(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}
