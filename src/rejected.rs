//! Rejected records as Firehose writes them: one JSON object per line, with the record's bytes in base64.
//!
//! ```text
//! {"attemptsMade":1,"arrivalTimestamp":1795217400000,"errorCode":"..","errorMessage":"..",
//!  "attemptEndingTimestamp":1795217460000,"rawData":"aGVsbG8=","pipeline":"clickstream","shard":"7f3a9c"}
//! ```
//! The promise: `rawData` is the record, byte for byte. Records that the format refused carry `lastErrorCode` and
//! `lastErrorMessage` instead, as Firehose's format conversion writes them; those that a Lambda function was called with
//! have its `lambdaARN` behind `rawData`. `pipeline` and `shard` are ours, so that a line that lost its file's name can be
//! traced; readers of Firehose's lines ignore them.

use crate::error::RejectedBy;
use crate::position::Shard;
use crate::transform::Rejected;

/// The extension of error objects. (Firehose's have none; a listing should say what lies there.)
pub const EXTENSION: &str = ".ndjson";

/// Longest message written, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Writes the lines of one shard's rejected records. Holds only constants: a line is written at once.
#[derive(Debug, Clone)]
pub struct Lines {
    /// `,"pipeline":"..","shard":".."}` and the line end.
    tail: Vec<u8>,
}

impl Lines {
    /// Lines for records of this shard, read by this pipeline.
    pub fn new(pipeline: &str, shard: &Shard) -> Lines {
        let mut tail = b",\"pipeline\":".to_vec();
        push_text(&mut tail, pipeline);
        tail.extend_from_slice(b",\"shard\":");
        push_text(&mut tail, shard.as_str());
        tail.extend_from_slice(b"}\n");
        Lines { tail }
    }

    /// Appends one record's line to `out`; `now_ms` is when it was set aside, in Unix milliseconds.
    pub fn append(&self, rejected: &Rejected, now_ms: i64, out: &mut Vec<u8>) {
        let base64_bytes = base64_simd::STANDARD.encoded_length(rejected.payload.len());
        out.reserve(base64_bytes + self.tail.len() + rejected.reason.message.len().min(MESSAGE_BYTES_MAX) + 256);
        let (code, message): (&[u8], &[u8]) = match rejected.reason.by {
            RejectedBy::Format => (b",\"lastErrorCode\":", b",\"lastErrorMessage\":"),
            RejectedBy::Transform | RejectedBy::Prefix => (b",\"errorCode\":", b",\"errorMessage\":"),
        };
        let attempts = rejected.invoked.as_ref().map_or(1, |invoked| invoked.attempts);
        out.extend_from_slice(b"{\"attemptsMade\":");
        out.extend_from_slice(attempts.to_string().as_bytes());
        out.extend_from_slice(b",\"arrivalTimestamp\":");
        out.extend_from_slice(rejected.arrival_ms.to_string().as_bytes());
        out.extend_from_slice(code);
        push_text(out, rejected.reason.code);
        out.extend_from_slice(message);
        push_text(out, cut(&rejected.reason.message));
        out.extend_from_slice(b",\"attemptEndingTimestamp\":");
        out.extend_from_slice(now_ms.to_string().as_bytes());
        out.extend_from_slice(b",\"rawData\":\"");
        base64_simd::STANDARD.encode_append(&rejected.payload, out);
        out.push(b'"');
        if let Some(invoked) = &rejected.invoked {
            out.extend_from_slice(b",\"lambdaARN\":");
            push_text(out, &invoked.function);
        }
        out.extend_from_slice(&self.tail);
    }
}

fn cut(message: &str) -> &str {
    let end = (0..=MESSAGE_BYTES_MAX).rev().find(|&end| message.is_char_boundary(end));
    message.get(..end.unwrap_or(0)).filter(|_| message.len() > MESSAGE_BYTES_MAX).unwrap_or(message)
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok(), "a string into memory cannot fail");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::error::Reason;
    use crate::transform::Invoked;

    fn line(by: RejectedBy, payload: &[u8], message: &str) -> String {
        let reason = Reason { by, code: "A.Code", message: message.into() };
        line_of(&Rejected::new(payload.to_vec().into(), 1_795_217_400_000, reason))
    }

    fn line_of(rejected: &Rejected) -> String {
        let mut out = b"before\n".to_vec();
        Lines::new("click", &Shard::new("7f").unwrap()).append(rejected, 1_795_217_460_000, &mut out);
        String::from_utf8(out).unwrap().strip_prefix("before\n").unwrap().to_string()
    }

    #[test]
    fn a_line_has_the_form_that_firehose_writes() {
        assert_eq!(
            line(RejectedBy::Prefix, b"hello", "no \"field\""),
            "{\"attemptsMade\":1,\"arrivalTimestamp\":1795217400000,\"errorCode\":\"A.Code\",\"errorMessage\":\"no \\\"field\\\"\",\
             \"attemptEndingTimestamp\":1795217460000,\"rawData\":\"aGVsbG8=\",\"pipeline\":\"click\",\"shard\":\"7f\"}\n"
        );
        let format = line(RejectedBy::Format, b"", "m");
        assert!(format.contains(",\"lastErrorCode\":\"A.Code\",\"lastErrorMessage\":\"m\","), "{format}");
    }

    #[test]
    fn a_line_names_the_function_that_was_called_and_how_often() {
        let reason = Reason { by: RejectedBy::Transform, code: "Lambda.FunctionError", message: "m".into() };
        let invoked = Some(Invoked { attempts: 4, function: "arn:aws:lambda:r:0:function:f".into() });
        let rejected = Rejected { invoked, ..Rejected::new(b"hello"[..].into(), 1_795_217_400_000, reason) };
        assert_eq!(
            line_of(&rejected),
            "{\"attemptsMade\":4,\"arrivalTimestamp\":1795217400000,\"errorCode\":\"Lambda.FunctionError\",\"errorMessage\":\"m\",\
             \"attemptEndingTimestamp\":1795217460000,\"rawData\":\"aGVsbG8=\",\"lambdaARN\":\"arn:aws:lambda:r:0:function:f\",\
             \"pipeline\":\"click\",\"shard\":\"7f\"}\n"
        );
    }

    #[test]
    fn a_message_without_end_is_cut_between_characters() {
        let value: Value = serde_json::from_str(&line(RejectedBy::Transform, b"", &"é€".repeat(5000))).unwrap();
        let message = value["errorMessage"].as_str().unwrap();
        assert!(message.len() > MESSAGE_BYTES_MAX - 4 && message.len() <= MESSAGE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn every_record_comes_back_byte_for_byte(payload: Vec<u8>, message in ".{0,20}") {
            let line = line(RejectedBy::Transform, &payload, &message);
            prop_assert_eq!(line.matches('\n').count(), 1, "one line");
            let value: Value = serde_json::from_str(&line).unwrap();
            let raw = base64_simd::STANDARD.decode_to_vec(value["rawData"].as_str().unwrap()).unwrap();
            prop_assert_eq!(raw, payload);
            prop_assert_eq!(value["errorMessage"].as_str(), Some(message.as_str()));
        }
    }
}
