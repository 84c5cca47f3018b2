//! The bodies of PutRecord and PutRecordBatch: from base64 in JSON to one batch, in one pass and one buffer.
//!
//! The scan knows the schema: it looks only for `DeliveryStreamName`, `Records` or `Record`, and `Data`; other members are
//! stepped over, as AWS does. Each payload is decoded to where it stays. Limits: `spec/firehose.md` 1.1.
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
                self.payload(&base64, &at)?;
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
