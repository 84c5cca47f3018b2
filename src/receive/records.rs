//! From a body to records: lines, or JSON documents with the elements of arrays, each with its exact bytes.

use std::fmt;
use std::ops::Range;

use super::json::{JsonError, Scanner};
use crate::record::{Span, of_line};

/// Bytes of one record at the HTTP door, more than any Firehose producer may send. Standard input has its own limit.
pub const RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Records of one request at the HTTP door; their list costs 16 bytes each.
pub const RECORDS_MAX: usize = 1_000_000;

/// Why a body is not records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitError {
    /// Not JSON.
    Json(JsonError),
    /// Not UTF-8 from this byte on, where JSON was announced.
    NotUtf8 { at: usize },
    /// A record (counted from 1) exceeds [`RECORD_BYTES_MAX`].
    RecordTooLarge { number: usize, bytes: usize },
    /// More than [`RECORDS_MAX`].
    TooMany,
}

impl SplitError {
    /// One line for the client; `body` is what was split.
    pub fn in_body<'a>(&'a self, body: &'a [u8]) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| match self {
            SplitError::Json(error) => write!(f, "invalid JSON: {}", error.in_text(body)),
            SplitError::NotUtf8 { at } => write!(f, "invalid JSON: not UTF-8 at byte {at}"),
            SplitError::RecordTooLarge { number, bytes } => {
                write!(f, "record {number} is too large: {bytes} bytes, at most {RECORD_BYTES_MAX}")
            }
            SplitError::TooMany => write!(f, "too many records in one request: at most {RECORDS_MAX}"),
        })
    }
}

/// The lines of `body` without their ends (`\n` or `\r\n`); empty ones are skipped, the last needs no end.
pub fn lines(body: &[u8]) -> Result<Vec<Span>, SplitError> {
    let mut spans = Vec::new();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
        if let Some(record) = body.get(start..end).and_then(of_line) {
            push(&mut spans, start..start + record.len())?;
        }
        start = end + 1;
    }
    Ok(spans)
}

/// The JSON documents of `body`, one after another with or without white space between; an array gives its elements.
pub fn documents(body: &[u8]) -> Result<Vec<Span>, SplitError> {
    if let Err(error) = simdutf8::compat::from_utf8(body) {
        return Err(SplitError::NotUtf8 { at: error.valid_up_to() });
    }
    let mut spans = Vec::new();
    let mut scanner = Scanner::new(body);
    while let Some(first) = scanner.peek() {
        if first != b'[' {
            push(&mut spans, scanner.value()?)?;
            continue;
        }
        scanner.take(b'[');
        if scanner.take(b']') {
            continue;
        }
        loop {
            push(&mut spans, scanner.value()?)?;
            if scanner.take(b']') {
                break;
            }
            scanner.expect(b',', "expected `,` or `]`")?;
        }
    }
    Ok(spans)
}

impl From<JsonError> for SplitError {
    fn from(error: JsonError) -> SplitError {
        SplitError::Json(error)
    }
}

fn push(spans: &mut Vec<Span>, range: Range<usize>) -> Result<(), SplitError> {
    if range.len() > RECORD_BYTES_MAX {
        return Err(SplitError::RecordTooLarge { number: spans.len() + 1, bytes: range.len() });
    }
    let (Ok(start), Ok(end)) = (u32::try_from(range.start), u32::try_from(range.end)) else {
        return Err(SplitError::TooMany);
    };
    if spans.len() == RECORDS_MAX {
        return Err(SplitError::TooMany);
    }
    spans.push(Span { start, end });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str, spans: Vec<Span>) -> Vec<&str> {
        spans.iter().map(|span| &body[span.start as usize..span.end as usize]).collect()
    }

    #[test]
    fn lines_end_with_lf_or_crlf_or_the_body() {
        let body = "{\"a\":1}\r\n\n\r\n {\"b\":2} \nlast";
        assert_eq!(texts(body, lines(body.as_bytes()).unwrap()), ["{\"a\":1}", " {\"b\":2} ", "last"]);
        assert_eq!(lines(b""), Ok(vec![]));
        assert_eq!(lines(b"\r\n\n"), Ok(vec![]));
        assert_eq!(lines(b"x\r"), Ok(vec![Span { start: 0, end: 1 }]));
        assert_eq!(lines(b"\n\r"), Ok(vec![]));
    }

    #[test]
    fn lines_need_not_be_text() {
        assert_eq!(lines(b"\xff\x00\n\xfe").unwrap().len(), 2);
    }

    #[test]
    fn elements_of_an_array_keep_their_exact_bytes() {
        let body = "[ {\"a\" : 1.0} ,\n\"x\",3, [4 ,5] ]\n";
        assert_eq!(texts(body, documents(body.as_bytes()).unwrap()), ["{\"a\" : 1.0}", "\"x\"", "3", "[4 ,5]"]);
        assert_eq!(documents(b" [ ] "), Ok(vec![]));
    }

    #[test]
    fn documents_may_follow_one_another() {
        let body = "{\"a\":1}{\"b\":2}\n{\n\"c\":3}[4,5]";
        assert_eq!(
            texts(body, documents(body.as_bytes()).unwrap()),
            ["{\"a\":1}", "{\"b\":2}", "{\n\"c\":3}", "4", "5"]
        );
    }

    #[test]
    fn a_broken_document_says_where() {
        let error = |body: &[u8]| documents(body).unwrap_err().in_body(body).to_string();
        assert_eq!(error(b"[1 2]"), "invalid JSON: expected `,` or `]` at line 1 column 4 (byte 3)");
        assert_eq!(error(b"[1"), "invalid JSON: the text ends too early at line 1 column 3 (byte 2)");
        assert_eq!(error(b"[\"\xff\"]"), "invalid JSON: not UTF-8 at byte 2");
        assert_eq!(error(b"{} x"), "invalid JSON: expected a value at line 1 column 4 (byte 3)");
    }

    #[test]
    fn a_record_has_a_largest_size() {
        let fits = vec![b'x'; RECORD_BYTES_MAX];
        assert_eq!(lines(&fits).map(|spans| spans.len()), Ok(1));
        let over = [b"a\n", &*fits, b"x"].concat();
        let error = lines(&over).unwrap_err();
        assert_eq!(error.in_body(&over).to_string(), "record 2 is too large: 10485761 bytes, at most 10485760");
    }

    #[test]
    fn a_body_has_a_largest_number_of_records() {
        assert_eq!(lines(&b"1\n".repeat(RECORDS_MAX)).map(|spans| spans.len()), Ok(RECORDS_MAX));
        assert_eq!(lines(&b"1\n".repeat(RECORDS_MAX + 1)), Err(SplitError::TooMany));
    }
}
