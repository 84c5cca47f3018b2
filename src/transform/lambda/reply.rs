//! What a function answered: strictly by record id, as Firehose's status model has it.
//!
//! ```text
//! {"records":[{"recordId":"<as sent>","result":"Ok","data":"<base64>","metadata":{"partitionKeys":{"country":"de"}}},
//!             {"recordId":"<as sent>","result":"Dropped"}, {"recordId":"<as sent>","result":"ProcessingFailed"}]}
//! ```
//! An answer that is no such list is of no use to any record. Where one entry is wrong, only its record is set aside
//! (Firehose gives up the whole call for a `result` it does not know). Messages are Firehose's, letter for letter, where
//! they are known; sources: captures in the spec, and the developer guide's "Data transformation errors".

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::{ERROR_BYTES_MAX, Failure};
use super::request::Ids;
use crate::record::Batch;
use crate::transform::{Answers, Invoked};

/// Partition keys of a record at the most (quota of Firehose, "Dynamic partitioning").
const PARTITION_KEYS_MAX: usize = 50;

const MISSING: Wrong = Wrong(
    "Lambda.MissingRecordId",
    Cow::Borrowed(
        "One or more record Ids were not returned. Ensure that the Lambda function returns all received record Ids.",
    ),
);
const DUPLICATED: Wrong = Wrong(
    "Lambda.DuplicatedRecordId",
    Cow::Borrowed(
        "Multiple records were returned with the same record Id. Ensure that the Lambda function returns a unique record \
         Id for each record.",
    ),
);
const PROCESSING_FAILED: Wrong =
    Wrong("Lambda.ProcessingFailedStatus", Cow::Borrowed("ProcessingFailed status set for record"));
const NULL_DATA: &str = "The data field cannot be null when the SourceType is DirectPut or KinesisStreamAsSource and \
                         processing result is Ok. The value field cannot be null when the SourceType is MSKAsSource and \
                         processing result is Ok.";

/// What AWS's own emulator answers in place of an error when a function takes too long.
const TIMED_OUT: &[u8] = b"Task timed out after";

/// Code and message of a record that is set aside.
#[derive(Clone)]
struct Wrong(&'static str, Cow<'static, str>);

fn invalid_format(message: impl Into<Cow<'static, str>>) -> Wrong {
    Wrong("Lambda.InvalidReturnFormat", message.into())
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow, default)]
    records: Option<Vec<Entry<'a>>>,
    /// What emulators answer in place of the header that says so when a function fails.
    #[serde(default, rename = "errorMessage")]
    error_message: Option<Value>,
    #[serde(default, rename = "errorType")]
    error_type: Option<Value>,
}

/// One record of an answer. What its values are is looked at one by one, so that a wrong one is one record's.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(borrow, default)]
    record_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    /// In place of `data`, if records come from topics.
    #[serde(borrow, default)]
    kafka_record_value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    partition_keys: Option<BTreeMap<String, Value>>,
}

/// What stands in an answer for one record.
#[derive(Clone, Copy)]
enum Returned<'a> {
    Nothing,
    Once(Entry<'a>),
    Again,
}

/// The function's error that emulators answer as if it were its answer, with status 200 and no header. CPU work.
pub fn error_of(reply: &[u8]) -> Option<Failure> {
    // A long one is a list of records: it is read once, by `settle`.
    if reply.len() > ERROR_BYTES_MAX {
        return None;
    }
    entries_of(reply).err().filter(Failure::may_pass)
}

fn entries_of(reply: &[u8]) -> Result<Vec<Entry<'_>>, Failure> {
    let reply: Reply = serde_json::from_slice(reply).map_err(|error| match reply.starts_with(TIMED_OUT) {
        true => Failure::function("", &String::from_utf8_lossy(reply)),
        false => Failure::malformed(&error.to_string()),
    })?;
    reply.records.ok_or_else(|| match (reply.error_type, reply.error_message) {
        (None, None) => Failure::malformed("it has no `records`"),
        (kind, message) => Failure::function(&shown(kind), &shown(message)),
    })
}

/// Adds what became of these rows to the answers. An error is one of the whole answer: nothing was added then.
pub fn settle(
    batch: &Batch,
    rows: Range<usize>,
    ids: &Ids,
    reply: &[u8],
    invoked: &Invoked,
    answers: &mut Answers,
) -> Result<(), Failure> {
    let entries = entries_of(reply)?;
    let mut returned = vec![Returned::Nothing; rows.len()];
    for entry in entries {
        let number = entry.record_id.and_then(text).and_then(|id| ids.number(&id));
        if let Some(slot) = number.and_then(|number| returned.get_mut(number)) {
            *slot = if matches!(slot, Returned::Nothing) { Returned::Once(entry) } else { Returned::Again };
        }
    }
    let mut scratch = Vec::new();
    for (row, returned) in rows.zip(returned) {
        let answered = match returned {
            Returned::Nothing => Err(MISSING),
            Returned::Again => Err(DUPLICATED),
            Returned::Once(entry) => entry.answer(batch, row, answers, &mut scratch),
        };
        if let Err(Wrong(code, message)) = answered {
            answers.fail_after(batch, row, invoked, code, message);
        }
    }
    Ok(())
}

impl Entry<'_> {
    fn answer(self, batch: &Batch, row: usize, answers: &mut Answers, scratch: &mut Vec<u8>) -> Result<(), Wrong> {
        match self.result.and_then(text).as_deref() {
            Some("Ok") => {}
            Some("Dropped") => {
                answers.drop_one();
                return Ok(());
            }
            Some("ProcessingFailed") => return Err(PROCESSING_FAILED),
            _ => {
                let found = self.result.map_or("nothing", RawValue::get).chars().take(60).collect::<String>();
                let message = format!("The result field must be Ok, Dropped or ProcessingFailed, found {found}.");
                return Err(invalid_format(message));
            }
        }
        let value = if batch.origin(row).is_some() { self.kafka_record_value.or(self.data) } else { self.data };
        let data = value.ok_or_else(|| invalid_format(NULL_DATA))?;
        let data = text(data).ok_or_else(|| invalid_format("The data field is no text."))?;
        decode(&data, scratch)?;
        let keys = self.partition_keys()?;
        let keys: Vec<(&str, &str)> = keys.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        answers.push(batch, row, scratch, &keys);
        Ok(())
    }

    /// `metadata.partitionKeys`; numbers and truth values as their text, as Firehose's reader has it.
    fn partition_keys(&self) -> Result<Vec<(String, String)>, Wrong> {
        let Some(metadata) = self.metadata else { return Ok(Vec::new()) };
        let Ok(metadata) = serde_json::from_str::<Metadata>(metadata.get()) else {
            return Err(invalid_format("The metadata field is not an object with partitionKeys by name."));
        };
        let keys = metadata.partition_keys.unwrap_or_default();
        if keys.len() > PARTITION_KEYS_MAX {
            let message = format!("A record has at most {PARTITION_KEYS_MAX} partition keys, found {}.", keys.len());
            return Err(invalid_format(message));
        }
        let text = |(name, value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
            _ => Err(invalid_format(format!("The partition key {name} is no text."))),
        };
        keys.into_iter().map(text).collect()
    }
}

/// The text that a value is; `None`: it is none.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        false => Some(inner.into()),
        true => serde_json::from_str::<String>(value.get()).ok().map(Cow::Owned),
    }
}

/// Base64 with padding; white space in it is passed over, as handlers break lines.
fn decode(data: &str, out: &mut Vec<u8>) -> Result<(), Wrong> {
    out.clear();
    if base64_simd::STANDARD.decode_append(data, &mut *out).is_ok() {
        return Ok(());
    }
    out.clear();
    let without: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = base64_simd::STANDARD.decode_append(&without, out);
    decoded.map_err(|_| invalid_format("The data field is not valid base64."))
}

fn shown(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::ground::Random;
    use crate::record::BatchBuilder;
    use crate::transform::Transformed;

    const FUNCTION: &str = "arn:aws:lambda:r:000000000000:function:f";

    /// What becomes of records 1.. of a batch of `a`, `b`, `c`, `d`.
    fn settled(reply: impl Fn(&dyn Fn(usize) -> String) -> String) -> Result<Transformed, Failure> {
        let mut batch = BatchBuilder::default();
        ["a", "b", "c", "d"].iter().enumerate().for_each(|(at, name)| batch.push(name.as_bytes(), at as i64));
        settled_of(&batch.finish(), reply)
    }

    fn settled_of(batch: &Batch, reply: impl Fn(&dyn Fn(usize) -> String) -> String) -> Result<Transformed, Failure> {
        let ids = Ids::new(&Random::real());
        let invoked = Invoked { attempts: 2, function: Arc::from(FUNCTION) };
        let mut answers = Answers::default();
        let reply = reply(&|number| ids.of(number));
        settle(batch, 1..batch.len(), &ids, reply.as_bytes(), &invoked, &mut answers)?;
        Ok(answers.finish())
    }

    fn ok(id: String, data: &str) -> Value {
        json!({ "recordId": id, "result": "Ok", "data": base64_simd::STANDARD.encode_to_string(data) })
    }

    fn records(records: impl IntoIterator<Item = Value>) -> String {
        json!({ "records": Value::from_iter(records) }).to_string()
    }

    /// Payloads that go on, and (payload, code, message) of those set aside.
    fn shown(transformed: &Transformed) -> (Vec<String>, Vec<(String, &str, &str)>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let rejected = transformed.rejected.iter();
        (
            transformed.batch.payloads().map(text).collect(),
            rejected.map(|one| (text(&one.payload), one.reason.code, one.reason.message.as_str())).collect(),
        )
    }

    #[test]
    fn answers_belong_to_records_by_id_and_keep_their_order() {
        let transformed =
            settled(|id| records([ok(id(2), "three"), ok(id(0), "one"), ok(id(1), "two"), ok("4711".into(), "x")]));
        let transformed = transformed.unwrap();
        let (payloads, rejected) = shown(&transformed);
        assert_eq!(payloads, ["one", "two", "three"]);
        assert!(rejected.is_empty() && transformed.dropped == 0, "an id that nobody sent is passed over");
        assert_eq!(transformed.batch.arrival_ms(2), 3, "a record keeps its arrival");
    }

    #[test]
    fn dropped_and_failed_records_are_what_they_say() {
        let transformed = settled(|id| {
            let failed = json!({ "recordId": id(1), "result": "ProcessingFailed", "data": "c2VjcmV0" });
            records([json!({ "recordId": id(0), "result": "Dropped" }), failed, ok(id(2), "")])
        });
        let transformed = transformed.unwrap();
        assert_eq!(transformed.dropped, 1);
        let message = "ProcessingFailed status set for record";
        let expected = vec![("c".to_owned(), "Lambda.ProcessingFailedStatus", message)];
        assert_eq!(shown(&transformed), (vec![String::new()], expected), "as it came, and empty data is data");
        let invoked = Invoked { attempts: 2, function: FUNCTION.into() };
        assert_eq!(transformed.rejected[0].invoked, Some(invoked));
    }

    #[test]
    fn missing_and_duplicated_ids_are_one_records_trouble() {
        let transformed = settled(|id| records([ok(id(1), "x"), ok(id(2), "good"), ok(id(1), "x")])).unwrap();
        let missing = "One or more record Ids were not returned. Ensure that the Lambda function returns all received \
                       record Ids.";
        let twice = "Multiple records were returned with the same record Id. Ensure that the Lambda function returns a \
                     unique record Id for each record.";
        let expected = vec![
            ("b".to_owned(), "Lambda.MissingRecordId", missing),
            ("c".to_owned(), "Lambda.DuplicatedRecordId", twice),
        ];
        assert_eq!(shown(&transformed), (vec!["good".to_owned()], expected));
    }

    #[test]
    fn a_wrong_entry_is_one_records_trouble() {
        for (entry, message) in [
            (json!({ "result": "Ok" }), "The data field cannot be null when the SourceType is DirectPut"),
            (json!({ "result": "Ok", "data": null }), "The data field cannot be null when the SourceType is DirectPut"),
            (json!({ "result": "Ok", "data": 5 }), "The data field is no text."),
            (json!({ "result": "Ok", "data": "####" }), "The data field is not valid base64."),
            (json!({ "result": "Ok", "data": "aGVsbG8" }), "The data field is not valid base64."),
            (
                json!({ "result": "ok", "data": "" }),
                "The result field must be Ok, Dropped or ProcessingFailed, found \"ok\".",
            ),
            (json!({ "data": "" }), "The result field must be Ok, Dropped or ProcessingFailed, found nothing."),
            (json!({ "result": "Ok", "data": "", "metadata": 1 }), "The metadata field is not an object"),
            (
                json!({ "result": "Ok", "data": "", "metadata": { "partitionKeys": { "k": null } } }),
                "The partition key k is no text.",
            ),
        ] {
            let transformed = settled(|id| {
                let mut wrong = entry.clone();
                wrong["recordId"] = id(1).into();
                records([ok(id(0), "one"), wrong, ok(id(2), "three")])
            });
            let transformed = transformed.unwrap();
            let (payloads, rejected) = shown(&transformed);
            assert_eq!(payloads, ["one", "three"], "{entry}");
            let [(payload, code, found)] = &rejected[..] else { panic!("{entry}: {rejected:?}") };
            assert_eq!((payload.as_str(), *code), ("c", "Lambda.InvalidReturnFormat"), "{entry}");
            assert!(found.starts_with(message), "{entry}: {found}");
        }
    }

    #[test]
    fn an_answer_that_is_no_list_is_of_no_use() {
        for reply in [
            "",
            "null",
            "[]",
            "{}",
            "\"{}\"",
            "{\"records\":{}}",
            "{\"records\":[null]}",
            "{\"records\":[",
            "{\"records\":[]} x",
            "\u{fffd}",
        ] {
            let failure = settled(|_| reply.to_owned()).unwrap_err();
            assert_eq!(failure.code, "Lambda.JsonProcessingException", "{reply}");
            assert!(!failure.may_pass() && !failure.is_unreachable(), "{reply}: it is not asked again");
        }
        let long = settled(|_| format!("\"{}\"", "secret ".repeat(9999))).unwrap_err();
        assert!(long.detail.len() < 400, "an answer is not for the log: {}", long.detail);
        let emulated = json!({ "errorMessage": "boom", "errorType": "KeyError", "stackTrace": [] }).to_string();
        let failure = settled(|_| emulated.clone()).unwrap_err();
        assert_eq!((failure.code, failure.detail.as_str()), ("Lambda.FunctionError", "KeyError: boom"));
        let failure = settled(|_| "Task timed out after 3.00 seconds".to_owned()).unwrap_err();
        assert_eq!(
            (failure.code, failure.detail.as_str()),
            ("Lambda.FunctionError", "Task timed out after 3.00 seconds")
        );
        let nothing = settled(|_| "{\"records\":[]}".to_owned()).unwrap();
        let (payloads, rejected) = shown(&nothing);
        assert_eq!((payloads.len(), rejected.len()), (0, 3), "an empty list lacks all");
    }

    #[test]
    fn partition_keys_go_to_the_prefix() {
        let transformed = settled(|id| {
            let mut keyed = ok(id(0), "x");
            keyed["metadata"] = json!({
                "partitionKeys": { "country": "de", "year": 2026, "eu": true },
                "otfMetadata": { "operation": "insert" },
            });
            let mut empty = ok(id(1), "y");
            empty["metadata"] = json!({ "partitionKeys": null });
            let keys: Value =
                (0..51).map(|n| (format!("k{n}"), Value::from("v"))).collect::<serde_json::Map<_, _>>().into();
            let mut many = ok(id(2), "z");
            many["metadata"] = json!({ "partitionKeys": keys });
            records([keyed, empty, many])
        });
        let transformed = transformed.unwrap();
        let keys: Vec<_> = transformed.batch.partition_keys(0).collect();
        assert_eq!(keys, [(&b"country"[..], &b"de"[..]), (b"eu", b"true"), (b"year", b"2026")]);
        assert_eq!(transformed.batch.partition_keys(1).count(), 0);
        let (_, rejected) = shown(&transformed);
        assert_eq!(rejected[0].2, "A record has at most 50 partition keys, found 51.");
    }

    #[test]
    fn escapes_line_ends_and_the_field_of_topics_are_read() {
        let escaped = |id: &dyn Fn(usize) -> String| {
            let entries = [
                format!("{{\"recordId\":\"{}\",\"result\":\"O\\u006b\",\"data\":\"\\/\\/4=\"}}", id(0)),
                format!("{{\"recordId\":\"{}\",\"result\":\"Ok\",\"data\":\"aGVs\\nbG8=\\n\"}}", id(1)),
                format!("{{\"recordId\":\"{}\",\"result\":\"Ok\",\"kafkaRecordValue\":\"aGVs\"}}", id(2)),
            ];
            format!("{{\"records\":[{}]}}", entries.join(","))
        };
        let mut plain = BatchBuilder::default();
        (0..4).for_each(|at| plain.push(b"-", at));
        let transformed = settled_of(&plain.finish(), escaped).unwrap();
        assert_eq!(transformed.batch.payloads().collect::<Vec<_>>(), [&b"\xff\xfe"[..], b"hello"]);
        assert!(transformed.rejected[0].reason.message.starts_with("The data field cannot be null"));

        let mut of_topic = BatchBuilder::default();
        of_topic.set_topic(&"orders".into(), 1);
        (0..4).for_each(|at| of_topic.push_known(b"-", 0, (None, at), []));
        let transformed = settled_of(&of_topic.finish(), escaped).unwrap();
        assert_eq!(transformed.batch.payloads().collect::<Vec<_>>(), [&b"\xff\xfe"[..], b"hello", b"hel"]);
        assert_eq!(transformed.batch.origin(2).unwrap().offset, 3, "a record keeps its origin");
    }
}
