//! A record as one JSON value of any kind: checked as the decoder checks, and taken as it stands.

use super::RECORD_BYTES_MAX;
use super::flaw::Flaw;
use super::scan::Scanner;
use crate::error::Reason;

/// The one JSON value that `record` is, without the white space around it; or why it is none.
pub fn whole_value(record: &[u8]) -> Result<&[u8], Reason> {
    let malformed = |at, what| Box::new(Flaw::Malformed { at, what }).reason(record);
    if record.len() > RECORD_BYTES_MAX {
        return Err(malformed(RECORD_BYTES_MAX, "expected a record of at most 64 MiB"));
    }
    if simdutf8::basic::from_utf8(record).is_err() {
        let at = std::str::from_utf8(record).map_or_else(|error| error.valid_up_to(), |_| 0);
        return Err(malformed(at, "expected UTF-8"));
    }
    let mut scan = Scanner::new(record);
    let value = scan.skip(0).map_err(|flaw| flaw.reason(record))?;
    scan.token();
    match scan.at_end() {
        true => Ok(value),
        false => Err(malformed(scan.at, "expected the end of the record")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_of_any_kind_is_taken_as_it_stands() {
        for value in ["{}", "[1, {\"a\" : null}]", "\"é\\n\"", "-1.50e+3", "true", "null"] {
            let record = format!(" \t{value}\r\n");
            assert_eq!(whole_value(record.as_bytes()).unwrap(), value.as_bytes());
        }
    }

    #[test]
    fn what_is_not_one_value_is_refused_with_its_place() {
        let why = |record: &[u8]| whole_value(record).unwrap_err().message;
        assert!(why(b"{} {}").contains("at byte 3: expected the end of the record"));
        assert!(why(b"").contains("at byte 0: expected a value"));
        assert!(why(b"{\"a\":1").contains("at byte 6"));
        assert!(why(b"\"\xff\"").contains("at byte 1: expected UTF-8"));
        assert!(why(&[b'['; 1000]).contains("128 levels"));
    }
}
