//! The bodies of PutRecord and PutRecordBatch: from base64 in JSON to one batch, in one pass and one buffer.
//!
//! The scan knows the schema: it looks only for `DeliveryStreamName`, `Records` or `Record`, and `Data`; other members are
//! stepped over, as AWS does. Each payload is decoded to where it stays. Limits: PutRecordBatch in the Firehose API
//! reference.
//!
//! ```text
//! {"DeliveryStreamName":"clicks","Records":[{"Data":"aGVsbG8="},{"Data":"d29ybGQ="},...]}
//!                                                    └─► hello world   one buffer, a span per record
//! ```

use base64_simd::STANDARD;

use super::aws::{AwsError, Violations};
use super::json::{JsonError, Scanner};
use crate::record::{Batch, Span};

/// Records of one PutRecordBatch.
pub const RECORDS_MAX: usize = 500;

/// Bytes of one record, decoded: 1,000 KiB.
pub const RECORD_BYTES_MAX: usize = 1_024_000;

/// Bytes of all records of one call, decoded.
pub const RECORDS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Characters of a stream's name.
const NAME_LEN_MAX: usize = 64;

/// How much of a wrong value an error repeats, in characters.
const SHOWN_LEN_MAX: usize = 256;

/// Which of the two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `Record: {Data}`
    One,
    /// `Records: [{Data}, ...]`
    Batch,
}

/// A call whose every constraint holds.
#[derive(Debug)]
pub struct Put {
    pub stream: String,
    /// One to [`RECORDS_MAX`] records.
    pub records: Batch,
}

impl Put {
    /// Parses and checks a body, in AWS's order: form, then constraints (all that are violated), then the size of all.
    pub fn parse(body: &[u8], shape: Shape, arrival_ms: i64) -> Result<Put, AwsError> {
        if simdutf8::basic::from_utf8(body).is_err() {
            return Err(AwsError::serialization("the body is not UTF-8"));
        }
        let mut members = Members::default();
        members.parse(body, shape)?;
        let Members { stream, data, spans, count, bytes, mut violations, .. } = members;

        let mut all = Violations::default();
        check_stream_name(stream.as_deref(), &mut all);
        match (shape, count) {
            (Shape::One, None) => all.add("null", "record", "Member must not be null"),
            (Shape::Batch, None) => all.add("null", "records", "Member must not be null"),
            (Shape::Batch, Some(0)) => {
                all.add("'[]'", "records", "Member must have length greater than or equal to 1");
            }
            (_, Some(count)) if count > RECORDS_MAX => {
                all.add("'[…]'", "records", "Member must have length less than or equal to 500");
            }
            _ => {}
        }
        violations.drain(..).for_each(|(value, at, constraint)| all.add(&value, &at, constraint));
        all.check()?;
        if bytes > RECORDS_BYTES_MAX {
            return Err(AwsError::new("InvalidArgumentException", "Records size exceeds 4 MB limit"));
        }
        let arrivals = vec![arrival_ms; spans.len()];
        Ok(Put { stream: stream.unwrap_or_default(), records: Batch::new(data.into(), spans, arrivals) })
    }
}

/// Checks a stream's name as AWS does: not null, `[a-zA-Z0-9_.-]+`, 1 to 64 characters.
pub fn check_stream_name(name: Option<&str>, violations: &mut Violations) {
    let at = "deliveryStreamName";
    let Some(name) = name else {
        return violations.add("null", at, "Member must not be null");
    };
    let shown = if name.len() > SHOWN_LEN_MAX {
        format!("'{}...'", name.chars().take(SHOWN_LEN_MAX).collect::<String>())
    } else {
        format!("'{name}'")
    };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        violations.add(&shown, at, "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+");
    }
    if name.is_empty() {
        violations.add(&shown, at, "Member must have length greater than or equal to 1");
    }
    if name.chars().count() > NAME_LEN_MAX {
        violations.add(&shown, at, "Member must have length less than or equal to 64");
    }
}

/// What the scan has found so far.
#[derive(Default)]
struct Members {
    stream: Option<String>,
    data: Vec<u8>,
    spans: Vec<Span>,
    /// Records seen, also those past the limit; `None`: the member is missing or null.
    count: Option<usize>,
    /// Payload bytes seen, also those not decoded as they exceed a limit.
    bytes: usize,
    /// Value, place, constraint.
    violations: Vec<(String, String, &'static str)>,
}

impl Members {
    fn parse(&mut self, body: &[u8], shape: Shape) -> Result<(), AwsError> {
        let mut scanner = Scanner::new(body);
        scanner.expect(b'{', "expected `{`")?;
        let mut more = !scanner.take(b'}');
        while more {
            let key = scanner.text()?;
            scanner.expect(b':', "expected `:`")?;
            match (key.decode().as_deref(), shape) {
                (Some(b"DeliveryStreamName"), _) => self.stream = string(&mut scanner, "deliveryStreamName")?,
                (Some(b"Records"), Shape::Batch) => self.records(&mut scanner, body.len())?,
                (Some(b"Record"), Shape::One) => {
                    self.restart(body.len());
                    let null = !self.record(&mut scanner, shape, 1)?;
                    self.count = (!null).then_some(1);
                }
                _ => {
                    scanner.value()?;
                }
            }
            more = next(&mut scanner, b'}', "expected `,` or `}`")?;
        }
        match scanner.peek() {
            None => Ok(()),
            Some(_) => Err(scanner.wrong("expected the end of the body").into()),
        }
    }

    /// Of a member that comes twice the last counts, as in most JSON parsers.
    fn restart(&mut self, body_bytes: usize) {
        self.data = Vec::with_capacity((body_bytes / 4 * 3).min(RECORDS_BYTES_MAX));
        (self.spans, self.violations, self.count, self.bytes) = (Vec::new(), Vec::new(), None, 0);
    }

    fn records(&mut self, scanner: &mut Scanner<'_>, body_bytes: usize) -> Result<(), AwsError> {
        self.restart(body_bytes);
        if null(scanner)? {
            return Ok(());
        }
        if !scanner.take(b'[') {
            return Err(wrong_type(scanner, "records", "a list"));
        }
        let mut count = 0;
        let mut more = !scanner.take(b']');
        while more {
            count += 1;
            if count > RECORDS_MAX {
                scanner.value()?; // only counted
            } else if !self.record(scanner, Shape::Batch, count)? {
                self.violate("null", format!("records.{count}.member"), "Member must not be null");
            }
            more = next(scanner, b']', "expected `,` or `]`")?;
        }
        self.count = Some(count);
        Ok(())
    }

    /// One `{"Data": "..."}`; `false` if it is null.
    fn record(&mut self, scanner: &mut Scanner<'_>, shape: Shape, number: usize) -> Result<bool, AwsError> {
        if null(scanner)? {
            return Ok(false);
        }
        if !scanner.take(b'{') {
            let at = if shape == Shape::One { "record".to_owned() } else { format!("records.{number}.member") };
            return Err(wrong_type(scanner, &at, "a structure"));
        }
        let at = || match shape {
            Shape::One => "record.data".to_owned(),
            Shape::Batch => format!("records.{number}.member.data"),
        };
        let mut found = false;
        let mut more = !scanner.take(b'}');
        while more {
            let key = scanner.text()?;
            scanner.expect(b':', "expected `:`")?;
            if key.decode().as_deref() != Some(b"Data".as_slice()) {
                scanner.value()?;
            } else if found {
                return Err(AwsError::serialization(format!("{} comes twice", at())));
            } else if !null(scanner)? {
                if scanner.peek() != Some(b'"') {
                    return Err(wrong_type(scanner, &at(), "a base64 string"));
                }
                let text = scanner.text()?;
                let base64 = text.decode().ok_or_else(|| not_base64(&at()))?;
                self.payload(&base64, at)?;
                found = true;
            }
            more = next(scanner, b'}', "expected `,` or `}`")?;
        }
        if !found {
            self.violate("null", at(), "Member must not be null");
        }
        Ok(true)
    }

    /// Decodes one payload to its place, unless a limit is passed: then it is only measured.
    fn payload(&mut self, base64: &[u8], at: impl Fn() -> String) -> Result<(), AwsError> {
        let bytes = STANDARD.decoded_length(base64).map_err(|_| not_base64(&at()))?;
        self.bytes += bytes;
        if bytes > RECORD_BYTES_MAX {
            let value = format!("'java.nio.HeapByteBuffer[pos=0 lim={bytes} cap={bytes}]'");
            self.violate(&value, at(), "Member must have length less than or equal to 1024000");
            return Ok(());
        }
        if self.bytes > RECORDS_BYTES_MAX {
            return Ok(());
        }
        let start = self.data.len();
        STANDARD.decode_append(base64, &mut self.data).map_err(|_| not_base64(&at()))?;
        let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(self.data.len())) else {
            return Err(AwsError::serialization("the body is too large"));
        };
        self.spans.push(Span { start, end });
        Ok(())
    }

    fn violate(&mut self, value: &str, at: String, constraint: &'static str) {
        self.violations.push((value.to_owned(), at, constraint));
    }
}

/// Behind a member or element: whether another follows.
fn next(scanner: &mut Scanner<'_>, close: u8, what: &'static str) -> Result<bool, AwsError> {
    if scanner.take(close) {
        return Ok(false);
    }
    scanner.expect(b',', what)?;
    Ok(true)
}

fn null(scanner: &mut Scanner<'_>) -> Result<bool, AwsError> {
    let null = scanner.peek() == Some(b'n');
    if null {
        scanner.value()?;
    }
    Ok(null)
}

fn string(scanner: &mut Scanner<'_>, at: &str) -> Result<Option<String>, AwsError> {
    if null(scanner)? {
        return Ok(None);
    }
    if scanner.peek() != Some(b'"') {
        return Err(wrong_type(scanner, at, "a string"));
    }
    let decoded = scanner.text()?.decode().and_then(|text| String::from_utf8(text.into_owned()).ok());
    match decoded {
        Some(text) => Ok(Some(text)),
        None => Err(AwsError::serialization(format!("{at} has a wrong escape"))),
    }
}

/// Something else stands where `expected` should; or nothing does.
fn wrong_type(scanner: &mut Scanner<'_>, at: &str, expected: &str) -> AwsError {
    match scanner.value() {
        Ok(_) => AwsError::serialization(format!("{at} is not {expected}")),
        Err(error) => error.into(),
    }
}

fn not_base64(at: &str) -> AwsError {
    AwsError::serialization(format!("{at} is not valid base64"))
}

impl From<JsonError> for AwsError {
    fn from(error: JsonError) -> AwsError {
        AwsError::serialization(format!("invalid JSON: {} at byte {}", error.what, error.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> Result<Put, AwsError> {
        Put::parse(body.as_bytes(), Shape::One, 7)
    }

    fn batch(body: &str) -> Result<Put, AwsError> {
        Put::parse(body.as_bytes(), Shape::Batch, 7)
    }

    /// A PutRecordBatch of payloads of these sizes.
    fn sized(sizes: &[usize]) -> Result<Put, AwsError> {
        let records: Vec<String> = sizes
            .iter()
            .map(|size| format!("{{\"Data\":\"{}\"}}", STANDARD.encode_to_string(vec![b'x'; *size])))
            .collect();
        batch(&format!("{{\"DeliveryStreamName\":\"s\",\"Records\":[{}]}}", records.join(",")))
    }

    fn error(result: Result<Put, AwsError>) -> String {
        let AwsError { kind, message, .. } = result.expect_err("refused");
        format!("{kind}: {message}")
    }

    #[test]
    fn records_are_decoded_in_order_into_one_buffer() {
        let put = batch(
            r#" { "Other":[{"x":[1]},null], "Records" : [ {"Data":"aGVsbG8="} , {"x":{"Data":1},"Data":""},
            {"Data":"\/\/8\u003d"} ],"DeliveryStreamName":"a.b\u002dC_1" } "#,
        )
        .unwrap();
        assert_eq!(put.stream, "a.b-C_1");
        let payloads: Vec<&[u8]> = put.records.payloads().collect();
        assert_eq!(payloads, [b"hello".as_slice(), b"", b"\xff\xff"]);
        assert_eq!(put.records.arrival_ms(2), 7);
        let put = one(r#"{"DeliveryStreamName":"s","Record":{"Data":"aGVsbG8="}}"#).unwrap();
        assert_eq!(put.records.payloads().collect::<Vec<_>>(), [b"hello"]);
    }

    #[test]
    fn limits_hold_to_the_byte() {
        assert_eq!(sized(&[RECORD_BYTES_MAX]).unwrap().records.payload_bytes(), 1_024_000);
        assert_eq!(
            error(sized(&[1, RECORD_BYTES_MAX + 1, 2, 1_045_710])),
            "ValidationException: 2 validation errors detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1024001 \
             cap=1024001]' at 'records.2.member.data' failed to satisfy constraint: Member must have length less than or \
             equal to 1024000; Value 'java.nio.HeapByteBuffer[pos=0 lim=1045710 cap=1045710]' at \
             'records.4.member.data' failed to satisfy constraint: Member must have length less than or equal to 1024000"
        );
        let full = [1_000_000, 1_000_000, 1_000_000, 1_000_000, 194_304];
        assert_eq!(sized(&full).unwrap().records.payload_bytes(), 4 * 1024 * 1024);
        let over = [1_000_000, 1_000_000, 1_000_000, 1_000_000, 194_305];
        assert_eq!(error(sized(&over)), "InvalidArgumentException: Records size exceeds 4 MB limit");
        assert_eq!(sized(&[3; RECORDS_MAX]).unwrap().records.len(), 500);
        assert_eq!(
            error(sized(&[3; RECORDS_MAX + 1])),
            "ValidationException: 1 validation error detected: Value '[…]' at 'records' failed to satisfy constraint: \
             Member must have length less than or equal to 500"
        );
        let oversize = STANDARD.encode_to_string(vec![0; RECORD_BYTES_MAX + 1]);
        assert_eq!(
            error(one(&format!("{{\"DeliveryStreamName\":\"s\",\"Record\":{{\"Data\":\"{oversize}\"}}}}"))),
            "ValidationException: 1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1024001 \
             cap=1024001]' at 'record.data' failed to satisfy constraint: Member must have length less than or equal to \
             1024000"
        );
    }

    #[test]
    fn missing_members_are_violations() {
        let violation = |text: &str| format!("ValidationException: {text}");
        assert_eq!(
            error(batch("{}")),
            violation(
                "2 validation errors detected: Value null at 'deliveryStreamName' failed to satisfy constraint: Member must \
                 not be null; Value null at 'records' failed to satisfy constraint: Member must not be null"
            )
        );
        assert_eq!(
            error(batch(r#"{"DeliveryStreamName":"s","Records":[]}"#)),
            violation(
                "1 validation error detected: Value '[]' at 'records' failed to satisfy constraint: Member must have length \
                 greater than or equal to 1"
            )
        );
        assert_eq!(
            error(batch(r#"{"DeliveryStreamName":"s","Records":[{"Data":"YQ=="},{},null]}"#)),
            violation(
                "2 validation errors detected: Value null at 'records.2.member.data' failed to satisfy constraint: Member \
                 must not be null; Value null at 'records.3.member' failed to satisfy constraint: Member must not be null"
            )
        );
        assert_eq!(
            error(one(r#"{"DeliveryStreamName":"s","Record":{"Data":null}}"#)),
            violation(
                "1 validation error detected: Value null at 'record.data' failed to satisfy constraint: Member must not be \
                 null"
            )
        );
        assert_eq!(
            error(one(r#"{"DeliveryStreamName":"s","Record":null}"#)),
            violation(
                "1 validation error detected: Value null at 'record' failed to satisfy constraint: Member must not be null"
            )
        );
    }

    #[test]
    fn a_stream_name_is_1_to_64_plain_characters() {
        let named = |name: &str| one(&format!(r#"{{"DeliveryStreamName":"{name}","Record":{{"Data":""}}}}"#));
        assert!(named(&"n".repeat(64)).is_ok());
        let prefix = "ValidationException: 1 validation error detected: Value";
        let length = "Member must have length less than or equal to 64";
        let name = "n".repeat(65);
        assert_eq!(
            error(named(&name)),
            format!("{prefix} '{name}' at 'deliveryStreamName' failed to satisfy constraint: {length}")
        );
        let pattern = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+";
        assert_eq!(
            error(named("a b")),
            format!("{prefix} 'a b' at 'deliveryStreamName' failed to satisfy constraint: {pattern}")
        );
        assert_eq!(
            error(named("")),
            format!(
                "ValidationException: 2 validation errors detected: Value '' at 'deliveryStreamName' failed to satisfy \
                 constraint: {pattern}; Value '' at 'deliveryStreamName' failed to satisfy constraint: Member must have \
                 length greater than or equal to 1"
            )
        );
    }

    #[test]
    fn what_is_not_of_the_right_form_is_a_serialization_error() {
        for (body, message) in [
            ("", "invalid JSON: the text ends too early at byte 0"),
            ("[]", "invalid JSON: expected `{` at byte 0"),
            (r#"{"Records":[{"Data":"YQ=="}"#, "invalid JSON: the text ends too early at byte 27"),
            (r#"{"Records":[{"Data":"YQ"#, "invalid JSON: the text ends too early at byte 23"),
            (r#"{"Records":[{"Data":"YQ=="} {}]}"#, "invalid JSON: expected `,` or `]` at byte 28"),
            (r#"{} x"#, "invalid JSON: expected the end of the body at byte 3"),
            (r#"{"Records":[{"Data":"YQ="}]}"#, "records.1.member.data is not valid base64"),
            (r#"{"Records":[{"Data":""},{"Data":"Y!=="}]}"#, "records.2.member.data is not valid base64"),
            (r#"{"Records":[{"Data":"YQ==\n"}]}"#, "records.1.member.data is not valid base64"),
            (r#"{"Records":[{"Data":"_-8="}]}"#, "records.1.member.data is not valid base64"),
            (r#"{"Records":[{"Data":1}]}"#, "records.1.member.data is not a base64 string"),
            (r#"{"Records":[1]}"#, "records.1.member is not a structure"),
            (r#"{"Records":{}}"#, "records is not a list"),
            (r#"{"DeliveryStreamName":1}"#, "deliveryStreamName is not a string"),
            (r#"{"Records":[{"Data":"","Data":""}]}"#, "records.1.member.data comes twice"),
        ] {
            assert_eq!(error(batch(body)), format!("SerializationException: {message}"), "{body}");
        }
        let not_utf8 = Put::parse(b"{\"\xff\":1}", Shape::One, 0);
        assert_eq!(error(not_utf8), "SerializationException: the body is not UTF-8");
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert_eq!(error(batch(&deep)), "SerializationException: invalid JSON: nesting deeper than 128 at byte 133");
    }

    #[test]
    fn every_truncation_is_refused_and_none_panics() {
        let body = r#"{"DeliveryStreamName":"s","x":[{"y":"\u0041"},-1.5e3,true],"Records":[{"Data":"\/w=="}]}"#;
        assert!(batch(body).is_ok());
        for len in 0..body.len() {
            assert!(batch(&body[..len]).is_err(), "{}", &body[..len]);
        }
    }
}
