//! The HTTP door: `POST /streams/{stream}/records` with lines or JSON, compressed or not.
//!
//! ```text
//! curl --data-binary @clicks.ndjson http://127.0.0.1:4573/streams/clicks/records      -> {"records": 3}
//! ```
//!
//! Lines (NDJSON, text) are taken as they are, whatever is in them. JSON is checked, as its records cannot be told
//! apart otherwise: the elements of arrays, or documents one after another. All of a request is appended or nothing.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::body::{self, BodyError, Encoding, Held};
use super::keys::{Auth, Caller, Key};
use super::records::{self, SplitError};
use super::sigv4::{AuthError, Claim};
use super::{Doors, Reply, aws, on_cpu, once};
use crate::record::{Batch, Span};
use crate::spool::{APPEND_BYTES_MAX, Append, AppendError};

/// The client's own name for a call, the same over its retries (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Seconds after which a producer that met a full spool should come again.
const RETRY_AFTER_S: &str = "1";

/// What a compressed body becomes, against what came: where the work on it is done depends on that.
const USUAL_RATIO: usize = 10;

/// Bytes that a record costs in a batch beside its payload.
const RECORD_LIST_BYTES: usize = size_of::<Span>() + size_of::<i64>();

/// Why a request is not taken.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: String,
    hint: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, error: error.into(), hint: None }
    }

    fn hint(self, hint: &'static str) -> Refusal {
        Refusal { hint: Some(hint), ..self }
    }
}

/// Answers a request that is not an AWS call.
pub async fn answer(doors: &Doors, head: &Parts, body: Incoming) -> Reply {
    match post(doors, head, body).await {
        Ok(count) => json(StatusCode::OK, format!("{{\"records\": {count}}}")),
        Err(Refusal { status, error: text, hint }) => error(status, &text, hint),
    }
}

/// An error as this door tells it.
pub fn error(status: StatusCode, error: &str, hint: Option<&str>) -> Reply {
    let hint = hint.map(|hint| format!(", \"hint\": {}", aws::quoted(hint))).unwrap_or_default();
    let mut reply = json(status, format!("{{\"error\": {}{hint}}}", aws::quoted(error)));
    let header = match status {
        StatusCode::SERVICE_UNAVAILABLE => Some(("retry-after", RETRY_AFTER_S)),
        StatusCode::UNAUTHORIZED => Some(("www-authenticate", "Basic realm=\"hydrant\"")),
        StatusCode::METHOD_NOT_ALLOWED => Some(("allow", "POST")),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Some(("accept-encoding", "gzip, zstd, identity")),
        _ => None,
    };
    if let Some((name, value)) = header {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}

fn json(status: StatusCode, text: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(text)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// All checks that need no body come before it is read.
async fn post(doors: &Doors, head: &Parts, body: Incoming) -> Result<usize, Refusal> {
    let name = stream_of(head)?;
    let encoding = encoding_of(head)?;
    let kind = Kind::of(head)?;
    let call = head.headers.get(IDEMPOTENCY_KEY).map(|value| value.as_bytes());
    if call.is_some_and(|call| call.is_empty() || call.len() > once::CALL_BYTES_MAX) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "header Idempotency-Key is not 1 to 256 characters"));
    }
    let proof = Proof::parse(doors, head)?;
    let caller = proof.caller();
    if !caller.may_use(name) {
        let error = format!("key {} may not write to stream {name}", caller.id());
        return Err(Refusal::new(StatusCode::FORBIDDEN, error));
    }
    let Some(stream) = doors.stream(name) else {
        let hint = "a stream is made by a pipeline whose source names it";
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("stream {name} not found")).hint(hint));
    };

    let mut held = Held::new(&doors.budget);
    let body = body::read(body, head.headers.contains_key("expect"), doors.limits(), &mut held).await?;
    let arrival_ms = doors.clock.now_ms();
    let inflated = if encoding == Encoding::Identity { 1 } else { USUAL_RATIO };
    let (records, once) = on_cpu(body.len() * inflated, || {
        if let Proof::Signed(claim, key) = &proof {
            claim.verify(head, key, &body)?;
        }
        let once = call.map(|call| once::once_key(caller.id(), call, head.uri.path(), &once::body_hash(&body)));
        let data = body::inflate(body, encoding, doors.limits(), &mut held)?;
        let spans = kind.split(&data)?;
        let append_bytes = spans.iter().map(|span| (span.end - span.start) as usize + 4).sum::<usize>();
        if append_bytes > APPEND_BYTES_MAX {
            let error = format!("records take {append_bytes} bytes, at most {APPEND_BYTES_MAX} in one request");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error).hint("send them in several requests"));
        }
        held.try_grow(data.len() + spans.len() * RECORD_LIST_BYTES)?;
        let arrivals = vec![arrival_ms; spans.len()];
        Ok::<_, Refusal>((Batch::new(data, spans, arrivals), once))
    })?;

    let count = records.len();
    if count == 0 {
        return Ok(0);
    }
    match stream.append(Append { records, once }).await {
        Ok(_) => Ok(count),
        Err(AppendError::Full) => {
            let error = format!("stream {name} is full");
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).hint("slow down and send the same again"))
        }
        // Why it is stopped is the operator's to know, and in the log.
        Err(AppendError::Stopped(_)) => {
            let error = format!("stream {name} takes no records at the moment");
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error).hint("send the same again"))
        }
    }
}

fn stream_of(head: &Parts) -> Result<&str, Refusal> {
    let path = head.uri.path();
    let name = path.strip_prefix("/streams/").and_then(|rest| rest.strip_suffix("/records"));
    let Some(name) = name.filter(|name| !name.is_empty() && !name.contains('/')) else {
        let hint = "records: POST /streams/{stream}/records; Firehose API: POST / with X-Amz-Target, from any AWS SDK";
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("path {path} not found")).hint(hint));
    };
    if head.method != Method::POST {
        let error = format!("method {} not allowed", head.method);
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error).hint("records come by POST"));
    }
    Ok(name)
}

fn encoding_of(head: &Parts) -> Result<Encoding, Refusal> {
    let mut values = head.headers.get_all(CONTENT_ENCODING).iter();
    let text = values.next().map_or(Ok(""), |value| value.to_str()).unwrap_or("?");
    match (Encoding::parse(text), values.next()) {
        (Some(encoding), None) => Ok(encoding),
        _ => {
            let error = format!("content encoding {text} is not supported");
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).hint("gzip, zstd or identity, and only one"))
        }
    }
}

/// How a body is cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lines,
    Json,
    /// JSON if it begins like an array or object, lines otherwise.
    Sniff,
}

impl Kind {
    fn of(head: &Parts) -> Result<Kind, Refusal> {
        let Some(value) = head.headers.get(CONTENT_TYPE) else { return Ok(Kind::Sniff) };
        let text = value.to_str().unwrap_or("?");
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/x-jsonlines"
            | "text/plain" => Ok(Kind::Lines),
            "application/json" => Ok(Kind::Json),
            // What `curl -d` says whatever it sends.
            "" | "application/x-www-form-urlencoded" => Ok(Kind::Sniff),
            json if json.ends_with("+json") => Ok(Kind::Json),
            _ => {
                let error = format!("content type {text} is not supported");
                let hint = "one of application/x-ndjson, application/json, text/plain, or none";
                Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).hint(hint))
            }
        }
    }

    fn split(self, data: &[u8]) -> Result<Vec<Span>, Refusal> {
        let json = match self {
            Kind::Lines => false,
            Kind::Json => true,
            Kind::Sniff => matches!(data.trim_ascii_start().first(), Some(b'[' | b'{')),
        };
        let split = if json { records::documents(data) } else { records::lines(data) };
        split.map_err(|error| {
            let status = match error {
                SplitError::Json(_) | SplitError::NotUtf8 { .. } => StatusCode::BAD_REQUEST,
                SplitError::RecordTooLarge { .. } | SplitError::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
            };
            Refusal::new(status, error.in_body(data).to_string())
        })
    }
}

/// How the caller proves who it is.
enum Proof<'a> {
    /// Everybody may call.
    NotNeeded,
    /// By a signature, to be verified with the body.
    Signed(Claim, &'a Key),
    /// By the secret itself.
    Secret(&'a Key),
}

impl<'a> Proof<'a> {
    fn parse(doors: &'a Doors, head: &Parts) -> Result<Proof<'a>, Refusal> {
        let auth = &doors.options.auth;
        let Auth::Keys(_) = auth else { return Ok(Proof::NotNeeded) };
        let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if let Some(basic) = authorization.strip_prefix("Basic ") {
            let decoded = base64_simd::STANDARD.decode_to_vec(basic.trim()).unwrap_or_default();
            let text = String::from_utf8(decoded).unwrap_or_default();
            let (id, secret) = text.split_once(':').unwrap_or_default();
            return match auth.key_by_secret(id, secret) {
                Some(key) => Ok(Proof::Secret(key)),
                None => Err(Refusal::new(StatusCode::UNAUTHORIZED, "wrong access key or secret")),
            };
        }
        if authorization.is_empty() {
            let hint = "HTTP Basic with access key and secret, or AWS Signature Version 4 for service firehose";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "no credentials in the request").hint(hint));
        }
        let claim = Claim::parse(head, aws::SERVICE, doors.clock.now_ms())?;
        let key = auth.key(&claim.key_id).ok_or_else(AuthError::unknown_key)?;
        Ok(Proof::Signed(claim, key))
    }

    fn caller(&self) -> Caller<'a> {
        match self {
            Proof::NotNeeded => Caller(None),
            Proof::Signed(_, key) | Proof::Secret(key) => Caller(Some(key)),
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, format!("{}: {}", error.kind, error.message))
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        let text = error.to_string();
        match error {
            BodyError::TooLarge { .. } | BodyError::InflatedTooLarge { .. } => {
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text).hint("send the records in several requests")
            }
            BodyError::Bomb => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text),
            BodyError::TooSlow => Refusal::new(StatusCode::REQUEST_TIMEOUT, text),
            BodyError::NoRoom => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).hint("slow down and send the same again")
            }
            BodyError::Broken(_) | BodyError::NotCompressed { .. } => Refusal::new(StatusCode::BAD_REQUEST, text),
        }
    }
}
