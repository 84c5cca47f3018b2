//! One line of an error object: ours and Firehose's are the same.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Longest line that is read, in bytes: a record of 10 MiB in base64, with room to spare.
pub const LINE_BYTES_MAX: usize = 32 << 20;

/// The code of records that a replay itself set aside: lines that are none. Their `rawData` is not a record.
pub const UNREADABLE: &str = "Replay.UnreadableLine";

/// Why a record was set aside, as far as a line tells: Firehose's `error-output-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    ProcessingFailed,
    FormatConversionFailed,
    MetadataExtractionFailed,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 3] =
        [Class::ProcessingFailed, Class::FormatConversionFailed, Class::MetadataExtractionFailed];

    /// As Firehose calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::ProcessingFailed => "processing-failed",
            Class::FormatConversionFailed => "format-conversion-failed",
            Class::MetadataExtractionFailed => "metadata-extraction-failed",
        }
    }
}

/// A set of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes(pub u8);

impl Classes {
    pub const ALL: Classes = Classes(0b111);

    /// These; none given are all.
    pub fn of(classes: &[Class]) -> Classes {
        match classes {
            [] => Classes::ALL,
            some => Classes(some.iter().fold(0, |all, class| all | 1 << *class as u8)),
        }
    }

    pub fn has(self, class: Class) -> bool {
        self.0 & (1 << class as u8) != 0
    }

    /// Those of these that are not among `others`.
    pub fn without(self, others: Classes) -> Classes {
        Classes(self.0 & !others.0)
    }
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A record as it arrived.
    Record { class: Class, arrival_ms: Option<i64>, payload: Vec<u8> },
    /// A line that an earlier replay could not read: it is not one again.
    SetAsideByReplay,
    /// What is wrong with it.
    Unreadable(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(borrow)]
    raw_data: Option<Cow<'a, str>>,
    arrival_timestamp: Option<i64>,
    #[serde(borrow)]
    error_code: Option<Cow<'a, str>>,
    last_error_code: Option<serde::de::IgnoredAny>,
}

/// Reads a line without its end.
pub fn read_line(line: &[u8]) -> Line {
    let written: Written = match serde_json::from_slice(line) {
        Ok(written) => written,
        Err(error) => return Line::Unreadable(format!("no line of an error object: {error}")),
    };
    let code = written.error_code.as_deref().unwrap_or_default();
    if code == UNREADABLE {
        return Line::SetAsideByReplay;
    }
    let class = match () {
        () if written.last_error_code.is_some() => Class::FormatConversionFailed,
        () if code.starts_with("DynamicPartitioning.") => Class::MetadataExtractionFailed,
        () => Class::ProcessingFailed,
    };
    let Some(raw) = written.raw_data else { return Line::Unreadable("`rawData` is missing".to_owned()) };
    match base64_simd::STANDARD.decode_to_vec(raw.as_bytes()) {
        Ok(payload) => Line::Record { class, arrival_ms: written.arrival_timestamp, payload },
        Err(_) => Line::Unreadable("`rawData` is no base64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_firehose_and_ours_are_records_again() {
        let record = |class, arrival_ms| Line::Record { class, arrival_ms, payload: b"hello".to_vec() };
        for (line, expected) in [
            (
                r#"{"attemptsMade":4,"arrivalTimestamp":7,"errorCode":"Lambda.X","rawData":"aGVsbG8=","lambdaARN":"a"}"#,
                record(Class::ProcessingFailed, Some(7)),
            ),
            (
                r#"{"arrivalTimestamp":7,"lastErrorCode":"DataFormatConversion.ParseError","rawData":"aGVsbG8=","dataCatalogTable":{"a":[1]}}"#,
                record(Class::FormatConversionFailed, Some(7)),
            ),
            (
                r#"{"errorCode":"DynamicPartitioning.MetadataExtractionFailed","rawData":"aGVsbG8="}"#,
                record(Class::MetadataExtractionFailed, None),
            ),
            (r#"{"errorCode":"Replay.UnreadableLine","rawData":"aGVsbG8="}"#, Line::SetAsideByReplay),
        ] {
            assert_eq!(read_line(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_line_is_said_and_never_a_record() {
        for (line, words) in [
            ("", "no line of an error object: EOF"),
            ("hello", "no line of an error object: expected value"),
            ("{\"rawData\":\"aGVsbG8=\"} x", "no line of an error object: trailing"),
            ("{\"rawData\":\"a\",\"rawData\":\"b\"}", "no line of an error object: duplicate"),
            ("{\"errorCode\":\"x\"}", "`rawData` is missing"),
            ("{\"rawData\":\"aGVsbG8\"}", "`rawData` is no base64"),
            ("{\"rawData\":\"aGVs bG8=\"}", "`rawData` is no base64"),
            ("{\"rawData\":7}", "no line of an error object: invalid type"),
            ("{\"arrivalTimestamp\":\"7\",\"rawData\":\"\"}", "no line of an error object: invalid type"),
        ] {
            match read_line(line.as_bytes()) {
                Line::Unreadable(message) => assert!(message.starts_with(words), "{line}: {message}"),
                other => panic!("{line}: {other:?}"),
            }
        }
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert!(matches!(read_line(deep.as_bytes()), Line::Unreadable(_)));
    }
}
