//! AWS JSON 1.1: what all calls of AWS services have in common, from the target header to the error body.
//!
//! Source: Smithy's "AWS JSON 1.1 protocol" and the Firehose API reference. All errors are HTTP 400 but those that a
//! client should try again (500); each answer carries `x-amzn-RequestId`.

use std::fmt::Write;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::body::{self, BodyError, Held};
use super::firehose::{self, Operation};
use super::keys::{Auth, Caller, Key};
use super::sigv4::{AuthError, Claim};
use super::{Doors, Reply, on_cpu, once};

/// The header that names the operation.
pub const TARGET: &str = "x-amz-target";

/// The header that is the same over all retries of one call by an AWS SDK.
const INVOCATION: &str = "amz-sdk-invocation-id";

/// The service that signatures must be scoped to.
pub const SERVICE: &str = "firehose";

/// An error as AWS SDKs understand it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError {
    pub status: StatusCode,
    /// The exception's name.
    pub kind: &'static str,
    pub message: String,
}

impl AwsError {
    /// An error that is the caller's: 400.
    pub fn new(kind: &'static str, message: impl Into<String>) -> AwsError {
        AwsError { status: StatusCode::BAD_REQUEST, kind, message: message.into() }
    }

    /// The body is not what the operation takes.
    pub fn serialization(message: impl Into<String>) -> AwsError {
        AwsError::new("SerializationException", message)
    }

    /// An error that SDKs answer by trying again, up to three times in all: 500.
    pub fn unavailable(message: impl Into<String>) -> AwsError {
        AwsError { status: StatusCode::INTERNAL_SERVER_ERROR, ..AwsError::new("ServiceUnavailableException", message) }
    }

    /// What Firehose says to a producer that is too fast; here: the spool or the memory is full.
    pub fn slow_down() -> AwsError {
        AwsError::unavailable("Slow down.")
    }

    fn body(&self) -> String {
        let mut text = String::with_capacity(self.message.len() + 64);
        // Writing to a String cannot fail.
        let _ = write!(text, "{{\"__type\":\"{}\",\"message\":{}}}", self.kind, quoted(&self.message));
        text
    }
}

impl From<AuthError> for AwsError {
    fn from(error: AuthError) -> AwsError {
        AwsError::new(error.kind, error.message)
    }
}

impl From<BodyError> for AwsError {
    fn from(error: BodyError) -> AwsError {
        match error {
            BodyError::NoRoom => AwsError::slow_down(),
            BodyError::TooLarge { .. } => AwsError {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                ..AwsError::new("RequestEntityTooLargeException", error.to_string())
            },
            BodyError::TooSlow => AwsError {
                status: StatusCode::REQUEST_TIMEOUT,
                ..AwsError::new("RequestTimeoutException", error.to_string())
            },
            _ => AwsError::serialization(error.to_string()),
        }
    }
}

/// Collects violated constraints into the one `ValidationException` that AWS makes of them.
#[derive(Debug, Default)]
pub struct Violations {
    count: usize,
    text: String,
}

impl Violations {
    /// The value (as AWS prints it: in quotes, or `null`) of the member `at` violates `constraint`.
    pub fn add(&mut self, value: &str, at: &str, constraint: &str) {
        let separator = if self.count == 0 { "" } else { "; " };
        self.count += 1;
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{separator}Value {value} at '{at}' failed to satisfy constraint: {constraint}");
    }

    /// The error, if there is a violation.
    pub fn check(self) -> Result<(), AwsError> {
        let Violations { count, text } = self;
        let plural = if count == 1 { "" } else { "s" };
        match count {
            0 => Ok(()),
            _ => {
                let message = format!("{count} validation error{plural} detected: {text}");
                Err(AwsError::new("ValidationException", message))
            }
        }
    }
}

/// Answers one call.
pub async fn answer(doors: &Doors, head: &Parts, body: Incoming) -> Reply {
    let (status, text) = match call(doors, head, body).await {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (error.status, error.body()),
    };
    let mut reply = Response::new(Full::new(Bytes::from(text)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static("application/x-amz-json-1.1"));
    if let Ok(id) = request_id(doors).try_into() {
        headers.insert("x-amzn-requestid", id);
    }
    reply
}

async fn call(doors: &Doors, head: &Parts, body: Incoming) -> Result<String, AwsError> {
    let target = head.headers.get(TARGET).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = Operation::parse(target)
        .ok_or_else(|| AwsError::new("UnknownOperationException", "hydrant does not know this operation"))?;
    let claimed = claimed(doors, head)?;
    let invocation = head.headers.get(INVOCATION).map(|value| value.as_bytes());
    let invocation = invocation.filter(|id| (1..=once::CALL_BYTES_MAX).contains(&id.len()));

    let mut held = Held::new(&doors.budget);
    let body = body::read(body, head.headers.contains_key("expect"), doors.limits(), &mut held).await?;
    held.grow(body.len() + firehose::decoded_bytes(&body), doors.limits().budget_wait_max).await?;
    let arrival_ms = doors.clock.now_ms();
    let (caller, once, request) = on_cpu(body.len(), || {
        if let Some((claim, key)) = &claimed {
            claim.verify(head, key, &body)?;
        }
        let caller = Caller(claimed.as_ref().map(|(_, key)| *key));
        let once = invocation.map(|id| once::once_key(caller.id(), id, target, &once::body_hash(&body)));
        Ok::<_, AwsError>((caller, once, firehose::Request::parse(operation, &body, arrival_ms)?))
    })?;
    drop(body);
    firehose::perform(doors, caller, request, once).await
}

/// The caller's claim and the key that would prove it; `None` where everybody may call.
fn claimed<'a>(doors: &'a Doors, head: &Parts) -> Result<Option<(Claim, &'a Key)>, AuthError> {
    let Auth::Keys(_) = &doors.options.auth else { return Ok(None) };
    let claim = Claim::parse(head, SERVICE, doors.clock.now_ms())?;
    let key = doors.options.auth.key(&claim.key_id).ok_or_else(AuthError::unknown_key)?;
    Ok(Some((claim, key)))
}

/// A random id in the form of a UUID (version 4), as AWS has it.
fn request_id(doors: &Doors) -> String {
    let (high, low) = (doors.random.u64(), doors.random.u64());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

/// `text` as a JSON string.
pub fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}
