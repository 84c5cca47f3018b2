//! What a store's errors mean: what to do about them, and how to say so.

use std::error::Error as _;
use std::io;

use ::object_store::Error;
use ::object_store::client::{HttpError, HttpErrorKind};

/// Longest text of a store's answer that is passed on, in bytes.
const ANSWER_BYTES_MAX: usize = 300;

/// What an error of a put says about the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It was certainly not stored: asked again later.
    Refused,
    /// It may be there: look.
    Ambiguous,
    /// The store cannot create without overwriting.
    CannotCreate,
    /// The name is impossible.
    Name,
}

/// What an error of a put means.
pub fn meaning(error: &Error) -> Meaning {
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::NotFound { .. } => Meaning::Refused,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => Meaning::CannotCreate,
        Error::InvalidPath { .. } => Meaning::Name,
        // Exists, precondition failed, conflict, time-out, connection lost, 5xx, and what is not known yet.
        _ => Meaning::Ambiguous,
    }
}

/// The error in words without addresses or credentials, and what an operator can do.
pub fn in_words(error: &Error) -> (String, Option<&'static str>) {
    let answer = innermost(error);
    match error {
        Error::PermissionDenied { .. } => (
            format!("access denied: {answer}"),
            Some(
                "check the credentials and what they may do: s3:PutObject, s3:GetObject, or the store's own words for them",
            ),
        ),
        Error::Unauthenticated { .. } => (format!("not authenticated: {answer}"), Some("check the credentials")),
        Error::NotFound { .. } => (
            format!("not found: {answer}"),
            Some("does the bucket or container exist, and is the region or endpoint right?"),
        ),
        Error::AlreadyExists { .. } => (format!("conflict: {answer}"), None),
        _ => match (http_kind(error), io_kind(error)) {
            (Some(HttpErrorKind::Connect), _) => {
                (format!("no connection: {answer}"), Some("is the endpoint right, and reachable from here?"))
            }
            (Some(HttpErrorKind::Timeout), _) => (
                format!("time-out: {answer}"),
                Some("if the line is slow, raise `timeout` in the options or lower `multipart_above`"),
            ),
            (_, Some(io::ErrorKind::PermissionDenied)) => {
                (format!("permission denied: {answer}"), Some("may this user write to the folder?"))
            }
            (_, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) => {
                (format!("disk full: {answer}"), Some("free space below the sink's folder"))
            }
            (_, Some(io::ErrorKind::NotADirectory)) => (
                answer,
                Some("below the sink's folder there must be only folders and objects; symbolic links are not followed"),
            ),
            (_, Some(io::ErrorKind::ReadOnlyFilesystem)) => {
                (answer, Some("the sink's file system is mounted read-only"))
            }
            _ if answer.contains("URL scheme is not allowed") => {
                (answer, Some("an http endpoint needs `allow_http: true` in the options"))
            }
            _ => (answer, None),
        },
    }
}

fn chain<'a>(error: &'a Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |&error| error.source())
}

fn http_kind(error: &Error) -> Option<HttpErrorKind> {
    chain(error).find_map(|error| error.downcast_ref::<HttpError>()).map(HttpError::kind)
}

fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    chain(error).find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind)
}

/// The last cause, which holds the answer and no address; an answer in XML is brought to `Code: message`.
fn innermost(error: &Error) -> String {
    let text = chain(error).last().map_or_else(|| error.to_string(), ToString::to_string);
    let text = match (element(&text, "Code"), element(&text, "Message")) {
        (Some(code), Some(message)) => format!("{}{code}: {message}", status(&text)),
        (Some(code), None) => format!("{}{code}", status(&text)),
        _ => text,
    };
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = clean.char_indices().map(|(at, _)| at).take_while(|at| *at <= ANSWER_BYTES_MAX).last().unwrap_or(0);
    if clean.len() > ANSWER_BYTES_MAX { format!("{}...", &clean[..end]) } else { clean }
}

/// `403 Forbidden, ` of `Server returned non-2xx status code: 403 Forbidden: <xml>`.
fn status(text: &str) -> String {
    let status = text.split_once("status code: ").and_then(|(_, rest)| rest.split_once(": "));
    status.map(|(status, _)| format!("{status}, ")).unwrap_or_default()
}

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Error {
        Error::PermissionDenied { path: "p".into(), source: text.into() }
    }

    #[test]
    fn an_answer_in_xml_is_said_in_words() {
        let xml = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>No.</Message></Error>";
        let (message, hint) = in_words(&answer(xml));
        assert_eq!(message, "access denied: 403 Forbidden, AccessDenied: No.");
        assert!(hint.unwrap().starts_with("check the credentials"));
    }

    #[test]
    fn an_answer_is_cut_and_cannot_forge_log_lines() {
        let (message, _) = in_words(&answer(&format!("a\r\nERROR forged{}", "é".repeat(1000))));
        assert!(!message.contains(['\r', '\n']) && message.len() < 400, "{message}");
    }

    #[test]
    fn a_full_disk_is_called_one() {
        let error = Error::Generic { store: "Local", source: Box::new(io::Error::from_raw_os_error(28)) };
        assert!(in_words(&error).0.starts_with("disk full: "), "{:?}", in_words(&error));
        assert_eq!(meaning(&error), Meaning::Ambiguous);
    }
}
