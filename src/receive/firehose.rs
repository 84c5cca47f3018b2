//! The Firehose API: PutRecord, PutRecordBatch, DescribeDeliveryStream, ListDeliveryStreams.
//!
//! Order of checks: form, constraints, size of all, the caller's right to the stream, the stream. A call is appended
//! whole or not at all, so there are no partial failures: a full spool answers the whole call with HTTP 500 `Slow down.`,
//! also for PutRecordBatch. SDKs retry that by themselves, under the same invocation id; `FailedPutCount` they do not, and
//! a producer that does not look at it would lose its records without a sound (boto/boto3#2804).

use std::ops::Bound;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::aws::{AwsError, SERVICE, Violations};
use super::keys::Caller;
use super::put::{Put, RECORDS_BYTES_MAX, Shape, check_stream_name};
use super::{About, Doors};
use crate::position::Shard;
use crate::spool::{Append, AppendError, Appended, OnceKey, Stream};

/// What a call may name in its target header.
const TARGET_PREFIX: &str = "Firehose_20150804.";

/// Streams of one ListDeliveryStreams, unless `Limit` says otherwise.
const LIST_LIMIT: i64 = 10;

/// The largest `Limit`.
const LIST_LIMIT_MAX: i64 = 10_000;

/// The operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    PutRecord,
    PutRecordBatch,
    DescribeDeliveryStream,
    ListDeliveryStreams,
}

impl Operation {
    /// From the value of `X-Amz-Target`.
    pub fn parse(target: &str) -> Option<Operation> {
        match target.strip_prefix(TARGET_PREFIX)? {
            "PutRecord" => Some(Operation::PutRecord),
            "PutRecordBatch" => Some(Operation::PutRecordBatch),
            "DescribeDeliveryStream" => Some(Operation::DescribeDeliveryStream),
            "ListDeliveryStreams" => Some(Operation::ListDeliveryStreams),
            _ => None,
        }
    }
}

/// A call, parsed, every constraint of its own checked.
#[derive(Debug)]
pub enum Request {
    Put(Shape, Put),
    Describe(DescribeInput),
    List(ListInput),
}

/// As in `DescribeDeliveryStreamInput`; a stream here has one destination, so its other members mean nothing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInput {
    delivery_stream_name: Option<String>,
}

/// As in `ListDeliveryStreamsInput`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListInput {
    limit: Option<i64>,
    delivery_stream_type: Option<String>,
    exclusive_start_delivery_stream_name: Option<String>,
}

impl Request {
    /// Parses a body. CPU work; `arrival_ms` is for its records.
    pub fn parse(operation: Operation, body: &[u8], arrival_ms: i64) -> Result<Request, AwsError> {
        let mut violations = Violations::default();
        match operation {
            Operation::PutRecord => Ok(Request::Put(Shape::One, Put::parse(body, Shape::One, arrival_ms)?)),
            Operation::PutRecordBatch => Ok(Request::Put(Shape::Batch, Put::parse(body, Shape::Batch, arrival_ms)?)),
            Operation::DescribeDeliveryStream => {
                let input: DescribeInput = plain(body)?;
                check_stream_name(input.delivery_stream_name.as_deref(), &mut violations);
                violations.check()?;
                Ok(Request::Describe(input))
            }
            Operation::ListDeliveryStreams => {
                let input: ListInput = plain(body)?;
                if let Some(limit) = input.limit.filter(|limit| *limit < 1) {
                    let constraint = "Member must have value greater than or equal to 1";
                    violations.add(&format!("'{limit}'"), "limit", constraint);
                }
                if let Some(limit) = input.limit.filter(|limit| *limit > LIST_LIMIT_MAX) {
                    let constraint = "Member must have value less than or equal to 10000";
                    violations.add(&format!("'{limit}'"), "limit", constraint);
                }
                violations.check()?;
                Ok(Request::List(input))
            }
        }
    }
}

/// An upper bound of what the records of `body` are decoded to.
pub fn decoded_bytes(body: &[u8]) -> usize {
    (body.len() / 4 * 3).min(RECORDS_BYTES_MAX)
}

/// Does what the call asks, and gives the body of the answer.
///
/// Cancelled (the client is gone), the records are appended or not.
pub async fn perform(
    doors: &Doors,
    caller: Caller<'_>,
    request: Request,
    once: Option<OnceKey>,
) -> Result<String, AwsError> {
    match request {
        Request::Put(shape, put) => {
            let action = if shape == Shape::One { "PutRecord" } else { "PutRecordBatch" };
            check_right(doors, caller, action, &put.stream)?;
            let stream = doors.stream(&put.stream).ok_or_else(|| not_found(doors, &put.stream))?;
            let count = put.records.len();
            let appended = append(&stream, Append { records: put.records, once }).await?;
            Ok(match shape {
                Shape::One => put_answer(stream.shard(), appended),
                Shape::Batch => put_batch_answer(stream.shard(), appended, count),
            })
        }
        Request::Describe(input) => {
            let name = input.delivery_stream_name.unwrap_or_default();
            check_right(doors, caller, "DescribeDeliveryStream", &name)?;
            let streams = doors.streams();
            let door = streams.get(&name).ok_or_else(|| not_found(doors, &name))?;
            Ok(describe(doors, &name, &door.about).to_string())
        }
        Request::List(input) => Ok(list(doors, caller, &input).to_string()),
    }
}

async fn append(stream: &Stream, append: Append) -> Result<Appended, AwsError> {
    stream.append(append).await.map_err(|error| match error {
        AppendError::Full => AwsError::slow_down(),
        // Why it is stopped is the operator's to know, and in the log.
        AppendError::Stopped(_) => AwsError::unavailable("The stream takes no records at the moment. Try again."),
    })
}

fn check_right(doors: &Doors, caller: Caller<'_>, action: &str, stream: &str) -> Result<(), AwsError> {
    if caller.may_use(stream) {
        return Ok(());
    }
    let message = format!(
        "User: arn:aws:iam::{}:user/{} is not authorized to perform: {SERVICE}:{action} on resource: {} because no \
         identity-based policy allows the {SERVICE}:{action} action",
        doors.options.account_id,
        caller.id(),
        arn(doors, stream),
    );
    Err(AwsError::new("AccessDeniedException", message))
}

fn not_found(doors: &Doors, stream: &str) -> AwsError {
    let message = format!("Firehose {stream} under account {} not found.", doors.options.account_id);
    AwsError::new("ResourceNotFoundException", message)
}

fn arn(doors: &Doors, stream: &str) -> String {
    let super::Options { region, account_id, .. } = &doors.options;
    format!("arn:aws:{SERVICE}:{region}:{account_id}:deliverystream/{stream}")
}

fn put_answer(shard: &Shard, appended: Appended) -> String {
    let mut text = String::from("{\"RecordId\":\"");
    push_record_id(&mut text, shard, appended.first);
    text.push_str("\",\"Encrypted\":false}");
    text
}

fn put_batch_answer(shard: &Shard, appended: Appended, count: usize) -> String {
    let mut text = String::with_capacity(80 + count * (shard.as_str().len() + 40));
    text.push_str("{\"FailedPutCount\":0,\"Encrypted\":false,\"RequestResponses\":[");
    for number in (appended.first..).take(count) {
        let separator = if number == appended.first { "{\"RecordId\":\"" } else { ",{\"RecordId\":\"" };
        text.push_str(separator);
        push_record_id(&mut text, shard, number);
        text.push_str("\"}");
    }
    text.push_str("]}");
    text
}

/// The shard (one incarnation of the spool) and the record's number in 16 hexadecimal digits: unique for ever, and the
/// same for a retry that was recognised.
fn push_record_id(text: &mut String, shard: &Shard, number: u64) {
    text.push_str(shard.as_str());
    text.push('-');
    for shift in (0..64).step_by(4).rev() {
        text.push(char::from(b"0123456789abcdef"[(number >> shift & 0xf) as usize]));
    }
}

fn describe(doors: &Doors, name: &str, about: &About) -> Value {
    let super::Options { account_id, .. } = &doors.options;
    let common = json!({
        "RoleARN": format!("arn:aws:iam::{account_id}:role/hydrant"),
        "BucketARN": format!("arn:aws:s3:::{}", about.bucket),
        "Prefix": about.prefix,
        "ErrorOutputPrefix": about.error_prefix,
        "BufferingHints": { "SizeInMBs": about.buffer_mib, "IntervalInSeconds": about.buffer_interval_s },
        "CompressionFormat": about.compression,
        "EncryptionConfiguration": { "NoEncryptionConfig": "NoEncryption" },
        "CloudWatchLoggingOptions": { "Enabled": false },
    });
    let mut extended = common.clone();
    extended["S3BackupMode"] = "Disabled".into();
    json!({ "DeliveryStreamDescription": {
        "DeliveryStreamName": name,
        "DeliveryStreamARN": arn(doors, name),
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamType": "DirectPut",
        "DeliveryStreamEncryptionConfiguration": { "Status": "DISABLED" },
        "VersionId": "1",
        "CreateTimestamp": about.created_ms as f64 / 1000.0,
        "Destinations": [{
            "DestinationId": "destinationId-000000000001",
            "S3DestinationDescription": common,
            "ExtendedS3DestinationDescription": extended,
        }],
        "HasMoreDestinations": false,
    }})
}

/// Alphabetical; only what the caller may see.
fn list(doors: &Doors, caller: Caller<'_>, input: &ListInput) -> Value {
    let limit = usize::try_from(input.limit.unwrap_or(LIST_LIMIT)).unwrap_or_default();
    let of_type = input.delivery_stream_type.as_deref().is_none_or(|kind| kind == "DirectPut");
    let start = input.exclusive_start_delivery_stream_name.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let streams = doors.streams();
    let visible = streams.range::<str, _>((start, Bound::Unbounded));
    let mut visible = visible.map(|(name, _)| name).filter(|name| of_type && caller.may_use(name));
    let names: Vec<&String> = visible.by_ref().take(limit).collect();
    json!({ "DeliveryStreamNames": names, "HasMoreDeliveryStreams": visible.next().is_some() })
}

/// A small body by serde, which stops at 128 levels. Members it does not know are stepped over, as AWS does.
fn plain<T: DeserializeOwned>(body: &[u8]) -> Result<T, AwsError> {
    serde_json::from_slice(body).map_err(|error| AwsError::serialization(error.to_string()))
}
