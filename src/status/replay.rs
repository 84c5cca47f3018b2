//! What is to be replayed, and what is said meanwhile: `POST /api/replay` takes one, and answers with a line of JSON for each
//! of the others.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::House;
use crate::source::replay::Class;

/// What to replay, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    pub pipeline: String,
    pub what: What,
    /// Only say what would be replayed.
    #[serde(default)]
    pub dry_run: bool,
}

/// What to replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Errors(Errors),
    Records(Records),
}

/// Error objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Errors {
    /// Those whose names begin so, also where they are Firehose's; else those of the pipeline's error prefix.
    pub prefix: Option<String>,
    /// Those that the store got at this time or later, and before that, in Unix milliseconds.
    pub since_ms: Option<i64>,
    pub until_ms: Option<i64>,
    /// Records set aside for these reasons; none: for any.
    pub reasons: Vec<Class>,
    /// Not those that a replay has made.
    pub not_replayed: bool,
}

/// Records of the stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Records {
    /// The first number; else the first that arrived at `since_ms` or later; else the oldest that is held.
    pub from: Option<u64>,
    pub since_ms: Option<i64>,
    /// Behind the last number; else up to now.
    pub to: Option<u64>,
    /// Also those that were replayed before.
    pub again: bool,
}

/// What is said while a replay is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// One that was begun before is finished first.
    GoesOn,
    /// So much is to be read: bytes of error objects, or records.
    Planned { objects: u64, amount: u64 },
    /// So much of it is delivered.
    Progress { done: u64, amount: u64 },
    /// Something worth knowing.
    Note { text: String },
    /// The end, which came well.
    Ended(Summary),
    /// The end, which did not. `config`: nothing was begun, as what was asked for cannot be.
    Failed { message: String, config: bool },
}

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// There was nothing to replay, or nothing that was not replayed before.
    pub nothing_left: bool,
    /// It was told to stop; the next call goes on.
    pub stopped: bool,
    /// Error objects read whole.
    pub error_objects: u64,
    /// Records read.
    pub records: u64,
    /// By reason, as far as error objects were read.
    pub by_reason: BTreeMap<String, u64>,
    /// Rows delivered, without those of error objects.
    pub delivered: u64,
    /// Records that were rejected again, and lines that could not be read: they lie in new error objects.
    pub rejected: u64,
    pub dropped: u64,
    /// Objects made, with those of errors.
    pub objects: u64,
    /// Lines that could not be read as lines of error objects.
    pub unreadable: u64,
    /// Lines for other reasons than those asked for, and those that a replay had set aside as unreadable.
    pub left_alone: u64,
    /// Error objects that went meanwhile, or became others.
    pub gone: u64,
}

/// Where it is said; nobody listening any more ends the replay.
pub type Saying = mpsc::UnboundedSender<Said>;

/// What is heard.
pub type Hearing = mpsc::UnboundedReceiver<Said>;

/// Answers `POST /api/replay` with what is said, as it is said.
pub(super) async fn replay(State(admin): House, body: Bytes) -> Response {
    let ask: Ask = match serde_json::from_slice(&body) {
        Ok(ask) => ask,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("what to replay: {error}\n")).into_response(),
    };
    let lines = stream::unfold(admin.replay(ask), |mut hearing| async move {
        let said = hearing.recv().await?;
        let mut line = serde_json::to_vec(&said).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(line), hearing))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(lines)).into_response()
}
