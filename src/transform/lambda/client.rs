//! Calls a function: one signed request, one answer of limited size, and what it means when there is none.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use ::object_store::client::{HttpRequest, HttpRequestBody};
use bytes::{Bytes, BytesMut};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::http::Request;
use reqwest::redirect::Policy;
use serde_json::Value;
use url::{Host, Url};

use super::options::{Checked, Options};
use crate::cpu::off_async;
use crate::error::{innermost, said};
use crate::transform::Wrong;

/// Bytes of an answer at the most: what Lambda itself says when a function returns more.
const REPLY_BYTES_MAX: usize = 6_291_556;
/// Bytes of an error at the most.
pub const ERROR_BYTES_MAX: usize = 64 << 10;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection is given up when bytes of ours are not confirmed for so long, or probes of a silent one are not: so that a
/// function that thinks for minutes is told from a network that is gone.
const UNCONFIRMED_TIME_MAX: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES_MAX: u32 = 3;

/// The function's place in the API.
pub struct Client {
    http: reqwest::Client,
    url: Url,
    endpoint: String,
    signing: Option<Signing>,
}

struct Signing {
    credentials: AwsCredentialProvider,
    region: String,
}

/// Why a call came to nothing. Records that are set aside for it carry code and message, the log the detail.
#[derive(Debug)]
pub struct Failure {
    pub code: &'static str,
    pub message: Cow<'static, str>,
    pub detail: String,
    pub hint: Option<&'static str>,
    /// Whether it is one of size: a call with fewer records may go well.
    pub of_size: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The function ran and failed: it is called again.
    Function,
    /// It cannot be had now: it is called again.
    Unreachable,
    /// It cannot be had until somebody has changed something.
    Refused,
    /// Nothing would be different the next time.
    Final,
}

impl Client {
    /// A client of this function. Reads the environment for credentials if none are given; opens no socket.
    pub fn new(checked: &Checked, options: &Options) -> Result<Client, Wrong> {
        // Another part of the process may have said so already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = options.timeout.duration();
        let http = reqwest::Client::builder()
            .user_agent(concat!("hydrant/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .timeout(timeout)
            .connect_timeout(CONNECT_TIME_MAX.min(timeout / 2))
            .tcp_user_timeout(UNCONFIRMED_TIME_MAX)
            .tcp_keepalive(PROBE_INTERVAL)
            .tcp_keepalive_interval(PROBE_INTERVAL)
            .tcp_keepalive_retries(PROBES_MAX);
        // A proxy of the environment would look for the emulator on its own host.
        let http = if is_loopback(&checked.endpoint) { http.no_proxy() } else { http };
        let http =
            http.build().map_err(|error| Wrong::new("", format!("no client for https: {}", innermost(&error))))?;
        let mut url = checked.endpoint.clone();
        let endpoint = url.as_str().trim_end_matches('/').to_owned();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["2015-03-31", "functions", &checked.function.in_path(), "invocations"]);
        }
        if let Some(qualifier) = &checked.qualifier {
            url.query_pairs_mut().append_pair("Qualifier", qualifier);
        }
        let signing = match options.skip_signature {
            true => None,
            false => {
                let credentials = options.keys().provider().map_err(|error| Wrong::new("", error))?;
                Some(Signing { credentials, region: checked.region.clone() })
            }
        };
        Ok(Client { http, url, endpoint, signing })
    }

    /// Where the API is served, for messages.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Calls the function once and waits for its answer. `body` makes the request's, as CPU work.
    pub async fn invoke(&self, body: impl FnOnce() -> Vec<u8>) -> Result<Bytes, Failure> {
        let credential = match &self.signing {
            None => None,
            Some(signing) => {
                let credential = signing.credentials.get_credential().await.map_err(|error| {
                    let detail = format!("no credentials: {}", innermost(&error));
                    let hint =
                        "give `access_key_id` and `secret_access_key`, or `skip_signature: true` for an emulator";
                    Failure::refused("Lambda.InvokeAccessDenied", ACCESS_DENIED, detail).hint(hint)
                })?;
                Some((credential, signing.region.as_str()))
            }
        };
        let (headers, body) = off_async(|| self.sign(body().into(), credential))?;
        let sent = self.http.post(self.url.clone()).headers(headers).body(body).send().await;
        let mut answer = sent.map_err(|error| Failure::of_transport(&error))?;
        let status = answer.status();
        let header =
            |name: &str| answer.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let (function_error, error_type) = (header("x-amz-function-error"), header("x-amzn-errortype"));
        if !status.is_success() {
            // Half an error is an error as well.
            let body = read(&mut answer, ERROR_BYTES_MAX).await.ok().flatten().unwrap_or_default();
            return Err(Failure::of_status(status.as_u16(), error_type.as_deref(), &body));
        }
        let body = read(&mut answer, REPLY_BYTES_MAX).await.map_err(|error| Failure::of_transport(&error))?;
        let Some(body) = body else {
            let message = format!("its answer has more than {REPLY_BYTES_MAX} bytes");
            return Err(Failure::function(ANSWER_TOO_LARGE, &message));
        };
        match function_error {
            Some(_) => Err(Failure::of_function(&body)),
            None => Ok(body),
        }
    }

    fn sign(&self, body: Bytes, credential: Option<(Arc<AwsCredential>, &str)>) -> Result<(HeaderMap, Bytes), Failure> {
        let request = Request::post(self.url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header("x-amz-invocation-type", "RequestResponse")
            .body(HttpRequestBody::from(body.clone()));
        let broken = |error: &dyn fmt::Display| {
            Failure::refused(
                "Lambda.InvokeAccessDenied",
                ACCESS_DENIED,
                format!("the request cannot be signed: {error}"),
            )
        };
        let mut request: HttpRequest = request.map_err(|error| broken(&error))?;
        if let Some((credential, region)) = credential {
            // The signer takes for granted that they fit into headers.
            let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
            if !fits(&credential.key_id) || !credential.token.as_deref().is_none_or(fits) {
                return Err(broken(&"the access key id or the session token is not of plain ASCII"));
            }
            let signer = AwsAuthorizer::new(&credential, "lambda", region);
            signer.try_authorize(&mut request, None).map_err(|error| broken(&error))?;
        }
        Ok((request.into_parts().0.headers, body))
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A body of at most so many bytes; `None`: it has more.
async fn read(answer: &mut reqwest::Response, bytes_max: usize) -> Result<Option<Bytes>, reqwest::Error> {
    if answer.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Ok(None);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > bytes_max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// The given credentials, or what object_store finds in the environment, the container or the instance.
const ACCESS_DENIED: &str = "Access was denied. Ensure that the access policy allows access to the Lambda function.";

const INTERNAL: &str = "Lambda.InternalServerError";
const NOT_TAKEN: &str = "The Lambda service did not take the call.";
/// The error that Lambda itself makes of an answer of more than 6 MB.
const ANSWER_TOO_LARGE: &str = "Function.ResponseSizeTooLarge";

impl Failure {
    fn new(
        kind: Kind,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Failure {
        Failure { code, message: message.into(), detail: detail.into(), hint: None, of_size: false, kind }
    }

    fn refused(code: &'static str, message: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Failure {
        Failure::new(Kind::Refused, code, message, detail)
    }

    fn hint(self, hint: &'static str) -> Failure {
        Failure { hint: Some(hint), ..self }
    }

    /// Whether another call may go well soon.
    pub fn may_pass(&self) -> bool {
        matches!(self.kind, Kind::Function | Kind::Unreachable)
    }

    /// Whether it is no record's fault, and not the function's either: it cannot be had.
    pub fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::Refused)
    }

    /// The function ran and failed with this error.
    pub fn function(error_type: &str, message: &str) -> Failure {
        let detail = [error_type, message].map(said);
        let detail = detail.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(": ");
        let told = "The Lambda function was successfully invoked but it returned an error result.";
        let failure = Failure::new(Kind::Function, "Lambda.FunctionError", told, detail);
        Failure { of_size: error_type == ANSWER_TOO_LARGE, ..failure }
    }

    /// The answer is not what a function for Firehose answers.
    pub fn malformed(why: &str) -> Failure {
        let told = "There was an error parsing returned records from the Lambda function. Ensure that the returned \
                    records follow the status model required by Amazon Data Firehose.";
        Failure::new(Kind::Final, "Lambda.JsonProcessingException", told, format!("the answer: {}", said(why)))
    }

    /// A record, or all of them, do not fit into a request.
    pub fn too_large(detail: impl Into<String>) -> Failure {
        let told = format!(
            "The record does not fit into a request of at most {} bytes with its data in base64.",
            super::request::REQUEST_BYTES_MAX
        );
        Failure { of_size: true, ..Failure::new(Kind::Final, "Lambda.RequestTooLarge", told, detail) }
    }

    fn of_function(body: &[u8]) -> Failure {
        let error: Value = serde_json::from_slice(body).unwrap_or_default();
        let field = |name: &str| error[name].as_str().unwrap_or_default();
        match (field("errorType"), field("errorMessage")) {
            ("", "") => Failure::function("", &String::from_utf8_lossy(body)),
            (error_type, message) => Failure::function(error_type, message),
        }
    }

    fn of_transport(error: &reqwest::Error) -> Failure {
        if error.is_timeout() && !error.is_connect() && !is_of_system(error) {
            let told = "Amazon Data Firehose encountered Request did not complete before the request timeout \
                        configuration error when invoking the Lambda function.";
            return Failure::new(Kind::Function, "Lambda.FunctionRequestTimedOut", told, "no answer within `timeout`");
        }
        let what = if error.is_connect() { "no connection" } else { "the connection broke" };
        let told = "The Lambda function could not be reached.";
        let detail = format!("{what}: {}", innermost(error));
        let failure = Failure::new(Kind::Unreachable, "Lambda.TargetServerFailedToRespond", told, detail);
        if error.is_connect() { failure.hint("is the endpoint right, and reachable from here?") } else { failure }
    }

    /// An answer of the API that is not the function's.
    fn of_status(status: u16, error_type: Option<&str>, body: &[u8]) -> Failure {
        let body: Value = serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into());
        let field = |name: &str| body[name].as_str();
        if let (500.., Some(function_error), None) = (status, field("errorType"), error_type) {
            // AWS answers 200 and a header when a function fails; emulators do not.
            return Failure::function(function_error, field("errorMessage").unwrap_or_default());
        }
        // `ResourceNotFoundException:http://..` in the header, `ns#Code` in the body.
        let kind = error_type.or_else(|| field("__type")).or_else(|| field("Code")).unwrap_or_default();
        let kind = kind.split(':').next().unwrap_or_default();
        let kind = kind.rsplit('#').next().unwrap_or_default();
        let message = field("Message").or_else(|| field("message")).or(body.as_str()).unwrap_or_default();
        let mut detail = format!("HTTP {status}");
        for part in [said(kind), said(message)].iter().filter(|part| !part.is_empty()) {
            detail = format!("{detail}: {part}");
        }
        match (status, kind) {
            (_, "TooManyRequestsException" | "EC2ThrottledException") | (429, _) => Failure::new(
                Kind::Unreachable,
                "Lambda.InvokeLimitExceeded",
                "The Lambda concurrent execution limit is exceeded. Increase the concurrent execution limit.",
                detail,
            ),
            (413, _) | (_, "RequestTooLargeException") => Failure::too_large(detail),
            (404, _) => Failure::refused(
                "Lambda.ResourceNotFound",
                "The specified Lambda function does not exist. Use a different function that does exist.",
                detail,
            )
            .hint("is there such a function in this region, with this version or alias?"),
            (401 | 403, _) => Failure::refused("Lambda.InvokeAccessDenied", ACCESS_DENIED, detail)
                .hint("do the credentials allow lambda:InvokeFunction on it?"),
            (_, "InvalidSubnetIDException") => {
                Failure::refused("Lambda.InvalidSubnetIDException", message.to_owned(), detail)
            }
            (_, "InvalidSecurityGroupIDException") => {
                Failure::refused("Lambda.InvalidSecurityGroupIDException", message.to_owned(), detail)
            }
            (_, "SubnetIPAddressLimitReachedException") => {
                Failure::refused("Lambda.SubnetIPAddressLimitReachedException", message.to_owned(), detail)
            }
            (_, "ENILimitReachedException") => {
                Failure::refused("Lambda.ENILimitReachedException", message.to_owned(), detail)
            }
            (415, _) | (_, "InvalidRequestContentException" | "UnsupportedMediaTypeException") => {
                Failure::new(Kind::Final, INTERNAL, NOT_TAKEN, detail)
            }
            _ => Failure::new(Kind::Unreachable, INTERNAL, NOT_TAKEN, detail),
        }
    }
}

/// Whether the system says so, such as that bytes of ours were not confirmed: not our own patience is at its end.
fn is_of_system(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<io::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SAID_CHARS_MAX;

    fn failure(status: u16, error_type: &str, body: &str) -> Failure {
        Failure::of_status(status, Some(error_type).filter(|kind| !kind.is_empty()), body.as_bytes())
    }

    #[test]
    fn refusals_have_firehoses_names() {
        for (status, kind, body, code, may_pass) in [
            (
                404,
                "ResourceNotFoundException:http://internal/",
                "{\"Message\":\"no f\"}",
                "Lambda.ResourceNotFound",
                false,
            ),
            (403, "AccessDeniedException", "{\"Message\":\"no\"}", "Lambda.InvokeAccessDenied", false),
            (
                403,
                "",
                "{\"message\":\"The security token included in the request is invalid.\"}",
                "Lambda.InvokeAccessDenied",
                false,
            ),
            (429, "TooManyRequestsException", "{\"Reason\":\"x\"}", "Lambda.InvokeLimitExceeded", true),
            (429, "", "slow down", "Lambda.InvokeLimitExceeded", true),
            (502, "EC2ThrottledException", "", "Lambda.InvokeLimitExceeded", true),
            (502, "ENILimitReachedException", "{\"Message\":\"m\"}", "Lambda.ENILimitReachedException", false),
            (500, "ServiceException", "", "Lambda.InternalServerError", true),
            (503, "", "<html>", "Lambda.InternalServerError", true),
            (400, "", "", "Lambda.InternalServerError", true),
            (302, "", "", "Lambda.InternalServerError", true),
        ] {
            let failure = failure(status, kind, body);
            assert_eq!((failure.code, failure.may_pass()), (code, may_pass), "{status} {kind}");
            assert!(!failure.of_size);
            assert!(failure.is_unreachable(), "{status} {kind}: no record's fault");
        }
        let emulated = failure(500, "", "{\"errorType\":\"KeyError\",\"errorMessage\":\"'id'\"}");
        assert_eq!((emulated.code, emulated.is_unreachable()), ("Lambda.FunctionError", false), "as emulators have it");
        assert_eq!(failure(404, "A:http://x", "{\"Message\":\"no\\nf\"}").detail, "HTTP 404: A: no f");
        assert_eq!(failure(400, "", "{\"__type\":\"ns#B\"}").detail, "HTTP 400: B");
        assert_eq!(failure(503, "", "<html>").detail, "HTTP 503: <html>");
    }

    #[test]
    fn an_emulator_on_this_host_is_reached_without_a_proxy() {
        let is = |url: &str| is_loopback(&Url::parse(url).unwrap());
        assert!(is("http://localhost:8080") && is("http://127.0.0.9") && is("http://[::1]:8080/base"));
        assert!(!is("http://127.example.com") && !is("https://lambda.eu-central-1.amazonaws.com"));
    }

    #[test]
    fn what_would_be_the_same_again_is_final() {
        for (status, kind, code, of_size) in [
            (413, "", "Lambda.RequestTooLarge", true),
            (413, "RequestTooLargeException", "Lambda.RequestTooLarge", true),
            (415, "UnsupportedMediaTypeException", "Lambda.InternalServerError", false),
            (400, "InvalidRequestContentException", "Lambda.InternalServerError", false),
        ] {
            let failure = failure(status, kind, "{}");
            assert_eq!((failure.code, failure.of_size), (code, of_size), "{status} {kind}");
            assert!(!failure.may_pass() && !failure.is_unreachable(), "{status} {kind}");
        }
        assert!(Failure::of_function(b"{\"errorType\":\"Function.ResponseSizeTooLarge\"}").of_size);
        assert!(!Failure::of_function(b"{\"errorType\":\"KeyError\"}").of_size);
    }

    #[test]
    fn a_network_that_is_gone_is_told_from_a_slow_function() {
        let unconfirmed = anyhow::Error::from(io::Error::from(io::ErrorKind::TimedOut)).context("a request failed");
        assert!(is_of_system(unconfirmed.as_ref()), "as tcp_user_timeout has it");
        assert!(!is_of_system(anyhow::Error::msg("operation timed out").context("a request failed").as_ref()));
    }

    #[test]
    fn what_a_function_says_of_itself_is_short() {
        let detail = |body: &str| Failure::of_function(body.as_bytes()).detail;
        assert_eq!(detail("{\"errorType\":\"KeyError\",\"errorMessage\":\"'id'\"}"), "KeyError: 'id'");
        assert_eq!(detail("{\"errorMessage\":\"Task timed out\"}"), "Task timed out");
        assert_eq!(detail("Task timed out"), "Task timed out");
        assert!(detail(&"é".repeat(9999)).chars().count() <= SAID_CHARS_MAX);
        let failure = Failure::function("a", "b");
        assert!(
            failure.may_pass() && !failure.is_unreachable(),
            "it is called again, and then its records are set aside"
        );
    }
}
